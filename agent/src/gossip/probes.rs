//! How long the answers to probes take, and what those who answer say of their place. Pure.

use tokio::time::Instant;
use uuid::Uuid;

use std::time::Duration;

use crate::coordinate::Coordinate;

/// The probe that is under way, and what its answer says.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// Whom the last direct probe went to, its number, and when.
    sent: Option<(Uuid, u8, Instant)>,
    answered: Option<(Uuid, Duration)>,
    place: Option<(Uuid, Coordinate)>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) peer: Uuid,
    pub(crate) rtt: Duration,
    /// Where the peer says that it is.
    pub(crate) place: Coordinate,
}

impl Probes {
    /// A direct probe goes out. There is one at a time.
    pub(crate) fn sent(&mut self, to: Uuid, number: u8, now: Instant) {
        self.sent = Some((to, number, now));
    }

    /// An answer has come, directly from the one that was asked.
    pub(crate) fn answered(&mut self, by: Uuid, number: u8, now: Instant) {
        if let Some((to, asked, at)) = self.sent
            && (to, asked) == (by, number)
        {
            self.sent = None;
            self.answered = Some((by, now.saturating_duration_since(at)));
        }
    }

    /// What came with a datagram of `by`.
    pub(crate) fn is_at(&mut self, by: Uuid, place: Coordinate) {
        self.place = Some((by, place));
    }

    /// The measurement that the last datagram made, if it made one.
    pub(crate) fn take(&mut self) -> Option<Sample> {
        let (answered, place) = (self.answered.take(), self.place.take());
        let ((peer, rtt), (by, place)) = (answered?, place?);
        (peer == by).then_some(Sample { peer, rtt, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_probe_that_is_under_way_counts() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let start = Instant::now();
        let later = start + Duration::from_millis(5);
        let place = Coordinate::default();
        let mut probes = Probes::default();
        let answer = |probes: &mut Probes, by, number| {
            probes.answered(by, number, later);
            probes.is_at(by, place);
            probes.take()
        };
        probes.sent(a, 7, start);
        assert_eq!(answer(&mut probes, b, 7), None, "somebody else");
        assert_eq!(answer(&mut probes, a, 6), None, "an earlier probe");
        let rtt = Duration::from_millis(5);
        let peer = a;
        assert_eq!(answer(&mut probes, a, 7), Some(Sample { peer, rtt, place }));
        assert_eq!(answer(&mut probes, a, 7), None, "once");
        probes.sent(a, 8, start);
        probes.answered(a, 8, later);
        assert_eq!(probes.take(), None, "a peer that has no place");
        probes.is_at(a, place);
        assert_eq!(probes.take(), None, "an answer says both at once");
    }
}
