//! The clock of a simulated host.

use std::time::Duration;

use agent::env::Clock;

/// 2026-01-01, when every simulation starts.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// Simulated time, as wrong as this host's clock is.
pub(crate) struct SimClock {
    /// How far this clock is ahead.
    pub(crate) ahead: Duration,
}

impl Clock for SimClock {
    fn unix_ms(&self) -> u64 {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default() + self.ahead;
        EPOCH_MS + elapsed.as_millis() as u64
    }
}
