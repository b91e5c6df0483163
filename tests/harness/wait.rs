use std::fmt::Display;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Bounds a hang. No result depends on it: whatever is waited for takes far less on any machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How often a condition that nothing announces is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value; an `Err` says what is still missing.
///
/// # Panics
/// After [`DEADLINE`], with what was missing last.
#[track_caller]
pub fn eventually<T, E: Display>(what: &str, condition: impl FnMut() -> Result<T, E>) -> T {
    within(DEADLINE, POLL, what, condition)
}

/// [`eventually`] with another deadline, and looking at another pace.
#[track_caller]
pub(crate) fn within<T, E: Display>(
    deadline: Duration,
    poll: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(missing) if start.elapsed() > deadline => {
                panic!("{what}: not within {deadline:?}; last seen: {missing}")
            }
            Err(_) => std::thread::sleep(poll),
        }
    }
}

/// Checks again and again for `time` that `condition` holds: for what must *not* happen.
///
/// # Panics
/// As soon as it does not.
#[track_caller]
pub fn holds<E: Display>(what: &str, time: Duration, mut condition: impl FnMut() -> Result<(), E>) {
    let start = Instant::now();
    while start.elapsed() < time {
        if let Err(broken) = condition() {
            panic!("{what}: broken after {:?}: {broken}", start.elapsed());
        }
        std::thread::sleep(POLL);
    }
}

/// The seed of a randomised test: `SEED` of the environment, or a fresh one. It is printed, so that a failure can
/// be run again.
///
/// # Panics
/// When `SEED` is not a number.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a number"),
        Err(_) => rand::random::<u32>().into(),
    };
    println!("seed {seed}: run again with SEED={seed}");
    seed
}

/// Random decisions of a test, all from one seed.
pub struct Random(StdRng);

impl Random {
    /// The decisions that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number in `0..bound`. `bound` is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// One of `items`, which is not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// A time up to `max`.
    pub fn time_up_to(&mut self, max: Duration) -> Duration {
        Duration::from_micros(self.below(max.as_micros() as u64 + 1))
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
