//! How many certificates a leader signs: so many in a second, or so many at the same time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Error, Settings};

/// Longest time that a request waits for its turn. Consul's.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// The turns of requests for certificates.
#[derive(Default)]
pub struct CsrLimit {
    turns: Mutex<Turns>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Turns {
    /// When the next one may be signed.
    next: Option<Instant>,
    /// How many are being signed.
    running: u32,
}

/// A turn. Dropped, it makes room for the next.
pub struct Turn<'a>(&'a CsrLimit);

impl Turns {
    /// How long a request waits that comes now; `None` for too long.
    fn take(&mut self, now: Instant, per_second: f64) -> Option<Duration> {
        let at = self.next.map_or(now, |next| next.max(now));
        let wait = at.duration_since(now);
        if wait > WAIT_MAX {
            return None;
        }
        self.next = Some(at + Duration::from_secs_f64((1.0 / per_second).min(3600.0)));
        Some(wait)
    }
}

impl CsrLimit {
    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when there is none for half a second.
    pub async fn turn(&self, settings: &Settings) -> Result<Turn<'_>, Error> {
        if settings.csr_max_per_second > 0.0 {
            let taken = self
                .lock()
                .take(Instant::now(), settings.csr_max_per_second);
            let wait = taken.ok_or(Error::RateLimited)?;
            if !wait.is_zero() {
                sleep(wait).await;
            }
            self.lock().running += 1;
            return Ok(Turn(self));
        }
        let most = settings.csr_max_concurrent;
        let until = Instant::now() + WAIT_MAX;
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // In line before looking, or one that leaves in between would be missed.
            left.as_mut().enable();
            {
                let mut turns = self.lock();
                if most == 0 || turns.running < most {
                    turns.running += 1;
                    return Ok(Turn(self));
                }
            }
            if timeout_at(until, left).await.is_err() {
                return Err(Error::RateLimited);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        // A number is never half changed.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ca::settings;

    fn limits(value: serde_json::Value) -> Settings {
        let map = value.as_object().expect("an object");
        settings::read(map, "").unwrap().settings
    }

    #[test]
    fn a_request_waits_for_half_a_second_and_no_longer() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let waits: Vec<_> = (0..7).map(|_| turns.take(now, 10.0)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(
            waits,
            [ms(0), ms(100), ms(200), ms(300), ms(400), ms(500), None]
        );
        assert_eq!(turns.take(now + Duration::from_millis(150), 10.0), ms(450));
        assert_eq!(turns.take(now + Duration::from_secs(9), 10.0), ms(0));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_signed_at_the_same_time() {
        let limit = CsrLimit::default();
        let settings = limits(json!({"CSRMaxPerSecond": 0, "CSRMaxConcurrent": 2}));
        let first = limit.turn(&settings).await.unwrap();
        let _second = limit.turn(&settings).await.unwrap();
        let third = limit.turn(&settings).await;
        assert_eq!(third.err(), Some(Error::RateLimited));
        let (third, ()) = tokio::join!(limit.turn(&settings), async { drop(first) });
        assert!(third.is_ok());
        let free = limits(json!({"CSRMaxPerSecond": 0}));
        assert!(limit.turn(&free).await.is_ok(), "no bound at all");
    }
}
