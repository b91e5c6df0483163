//! How many requests a second: a token bucket, and which requests are counted as what. Pure: the time is given.

use tokio::time::Instant;

mod operations;

pub use operations::{Kind, Operation};

/// So many a second in the long run, and so many at once after a pause.
///
/// It is full at first. Each request takes a token, and tokens come back with time, up to the burst.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    /// When the tokens were counted; not before the first request.
    at: Option<Instant>,
}

impl Bucket {
    /// A full one. With a rate of 0 nothing comes back; with a burst of 0 nobody is ever let through.
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self {
            per_second,
            burst,
            tokens: burst,
            at: None,
        }
    }

    /// A full one with Consul's burst for requests of others: what the rate lets through in ten seconds.
    ///
    /// Consul rounds the rate down first, so that one below 1 refuses everything. Here it lets through what it says; 0
    /// refuses everything in both.
    pub fn of_ten_seconds(per_second: f64) -> Self {
        let burst = (per_second * 10.0).floor();
        let least = if per_second > 0.0 { 1.0 } else { 0.0 };
        Self::new(per_second, burst.max(least))
    }

    /// Takes a token, if there is one. A clock that goes back brings none.
    pub fn take(&mut self, now: Instant) -> bool {
        if let Some(at) = self.at {
            let since = now.saturating_duration_since(at).as_secs_f64();
            self.tokens = (self.tokens + since * self.per_second).min(self.burst);
        }
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many of 100 are let through at once.
    fn taken(bucket: &mut Bucket, now: Instant) -> usize {
        (0..100).filter(|_| bucket.take(now)).count()
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn it_is_full_at_first_and_fills_with_time_up_to_the_burst() {
        let (mut bucket, start) = (Bucket::new(2.0, 10.0), Instant::now());
        assert_eq!(taken(&mut bucket, start), 10);
        assert_eq!(taken(&mut bucket, start + seconds(0.4)), 0);
        assert_eq!(taken(&mut bucket, start + seconds(0.6)), 1);
        assert_eq!(taken(&mut bucket, start + seconds(2.6)), 4);
        assert_eq!(taken(&mut bucket, start + seconds(1000.0)), 10);
    }

    #[test]
    fn a_clock_that_goes_back_brings_nothing_twice() {
        let (mut bucket, start) = (Bucket::new(1.0, 5.0), Instant::now() + seconds(100.0));
        assert_eq!(taken(&mut bucket, start), 5);
        assert_eq!(taken(&mut bucket, start - seconds(50.0)), 0);
        assert_eq!(taken(&mut bucket, start), 0);
        assert_eq!(taken(&mut bucket, start + seconds(2.0)), 2);
    }

    #[test]
    fn a_rate_of_nothing_brings_nothing_back() {
        let (mut bucket, start) = (Bucket::new(0.0, 3.0), Instant::now());
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(taken(&mut bucket, start + seconds(1e9)), 0);
    }

    #[test]
    fn the_burst_of_requests_is_that_of_ten_seconds() {
        for (rate, burst) in [(7.0, 70), (0.25, 2), (0.01, 1), (0.0, 0)] {
            let mut bucket = Bucket::of_ten_seconds(rate);
            assert_eq!(taken(&mut bucket, Instant::now()), burst, "{rate}");
        }
    }

    #[test]
    fn a_rate_without_end_lets_everything_through() {
        let mut bucket = Bucket::of_ten_seconds(f64::MAX);
        let now = Instant::now();
        assert_eq!(taken(&mut bucket, now), 100);
        assert_eq!(taken(&mut bucket, now + seconds(1.0)), 100);
    }
}
