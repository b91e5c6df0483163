use std::time::{SystemTime, UNIX_EPOCH};

/// Wall-clock time. Only stamps come from here; durations are measured with `tokio::time`.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. May jump, also backwards: never compare two readings to measure time.
    fn unix_ms(&self) -> u64;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}
