//! The clocks of a simulated host: how fast its monotonic one runs, and how wrong its wall clock is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use agent::env::Clock;
use tokio::time::{Instant, advance, sleep};

use crate::net::Network;

/// 2026-01-01, when every simulation starts.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// How often a fast clock is moved on, by itself.
const STEP: Duration = Duration::from_millis(1);

/// Both clocks of a host. Clones are the same ones; they go on while the host is down.
#[derive(Clone)]
pub(crate) struct HostClock {
    network: Network,
    /// How far the wall clock is ahead.
    ahead_ms: Arc<AtomicI64>,
    /// How much of its own time passes in a second of the world's, in thousandths.
    rate: Arc<AtomicU64>,
}

impl HostClock {
    /// As fast as the world, and so much ahead of it.
    pub(crate) fn new(network: Network, ahead: Duration) -> Self {
        Self {
            network,
            ahead_ms: Arc::new(AtomicI64::new(ahead.as_millis() as i64)),
            rate: Arc::new(AtomicU64::new(1000)),
        }
    }

    /// Sets the wall clock so far ahead of what it shows, or back.
    pub(crate) fn step_wall(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Lets the monotonic clock run so many times as fast as the world's, in thousandths, from the host's next start on. At
    /// least as fast: the slowest host goes with the world.
    pub(crate) fn set_rate(&self, rate: u64) {
        assert!(rate >= 1000);
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// What passes in the world while `own` passes on this clock.
    pub(crate) fn in_the_world(&self, own: Duration) -> Duration {
        own * 1000 / self.rate.load(Ordering::Relaxed) as u32
    }

    /// The world's time.
    pub(crate) fn world(&self) -> Duration {
        self.network.now()
    }

    /// Moves the paused clock of the runtime that this is awaited in on, for as long as that lives.
    ///
    /// turmoil lets the clocks of all hosts advance by the same time in each step; what is lacking is added here.
    pub(crate) async fn run(self) {
        let rate = self.rate.load(Ordering::Relaxed) as u32;
        if rate == 1000 {
            return;
        }
        let (begun, own) = (self.world(), Instant::now());
        loop {
            sleep(STEP).await;
            let due = (self.world() - begun) * rate / 1000;
            let lacking = due.saturating_sub(own.elapsed());
            if lacking >= STEP {
                advance(Duration::from_millis(lacking.as_millis() as u64)).await;
            }
        }
    }
}

impl Clock for HostClock {
    fn unix_ms(&self) -> u64 {
        let now = self.world().as_millis() as i64 + self.ahead_ms.load(Ordering::Relaxed);
        u64::try_from(EPOCH_MS + now).unwrap_or(0)
    }
}
