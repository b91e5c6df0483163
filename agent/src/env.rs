//! What the outside world gives a node: clock, network, disk and randomness.
//!
//! Everything below `cli` reaches these only through the traits here, so that the same code runs in production
//! and in simulation. Monotonic time and timers are `tokio::time`, which a simulation pauses and steps; wall-clock
//! time, sockets, files and random numbers are here.

use std::sync::Arc;

mod clock;
mod disk;
mod memory;
mod net;
mod random;

pub use clock::{Clock, SystemClock};
pub use disk::{Disk, File, RealDisk, write_atomic};
pub use memory::{Keep, MemoryDisk};
pub use net::{BoxStream, Datagrams, Listener, Net, RealNet, Stream};
pub use random::{OsRandom, Random, SeededRandom, part};

/// The bundle of traits that a node is started with. Cloning is cheap.
#[derive(Clone)]
pub struct Env {
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// TCP and UDP.
    pub net: Arc<dyn Net>,
    /// Files and folders.
    pub disk: Arc<dyn Disk>,
    /// Random numbers: ids, jitter, gossip targets.
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The real machine: system clock, kernel sockets, real files, operating-system randomness.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            net: Arc::new(RealNet),
            disk: Arc::new(RealDisk),
            random: Arc::new(OsRandom),
        }
    }
}
