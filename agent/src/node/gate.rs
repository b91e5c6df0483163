//! How much a node takes on at a time. What is over the limit is refused at once, so that no queue grows and whoever
//! asked can go elsewhere or come again: a node that takes more than it can do serves nobody in time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Proposals that a node works on at a time, for its own clients and for other nodes: what a leader writes in well under
/// a second on any disk.
const PROPOSALS: usize = 8192;

/// Bytes of their commands: as much as the log keeps for a disk that is slow.
const PROPOSAL_BYTES: usize = 64 << 20;

/// Other requests of other nodes at a time. Blocking queries are among them, each a few KiB for as long as it waits.
const REQUESTS: usize = 65_536;

/// A count with a limit.
#[derive(Debug)]
struct Limit {
    used: AtomicUsize,
    max: usize,
}

impl Limit {
    fn new(max: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            max,
        }
    }

    fn take(&self, amount: usize) -> bool {
        // Only a sum; nothing else is ordered by it.
        let before = self.used.fetch_add(amount, Ordering::Relaxed);
        // One alone may be larger than the limit, or it could never pass.
        let fits = before == 0 || before.saturating_add(amount) <= self.max;
        if !fits {
            self.give_back(amount);
        }
        fits
    }

    fn give_back(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// What one node has taken on.
#[derive(Debug)]
pub(super) struct Gate {
    proposals: Limit,
    bytes: Limit,
    requests: Limit,
}

/// A place that was taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place<'g> {
    count: &'g Limit,
    bytes: Option<(&'g Limit, usize)>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.count.give_back(1);
        if let Some((limit, amount)) = self.bytes {
            limit.give_back(amount);
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::with_limits(PROPOSALS, PROPOSAL_BYTES, REQUESTS)
    }
}

impl Gate {
    fn with_limits(proposals: usize, bytes: usize, requests: usize) -> Self {
        Self {
            proposals: Limit::new(proposals),
            bytes: Limit::new(bytes),
            requests: Limit::new(requests),
        }
    }

    /// A place for a proposal of so many bytes, if there is one.
    pub(super) fn proposal(&self, bytes: usize) -> Option<Place<'_>> {
        if !self.proposals.take(1) {
            return None;
        }
        let mut place = Place {
            count: &self.proposals,
            bytes: None,
        };
        if !self.bytes.take(bytes) {
            return None;
        }
        place.bytes = Some((&self.bytes, bytes));
        Some(place)
    }

    /// A place for another node's request that is not a proposal, if there is one.
    pub(super) fn request(&self) -> Option<Place<'_>> {
        self.requests.take(1).then_some(Place {
            count: &self.requests,
            bytes: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_a_limit_is_refused_and_places_come_back() {
        let gate = Gate::with_limits(2, 100, 1);
        let first = gate.proposal(60).unwrap();
        assert!(gate.proposal(41).is_none(), "too many bytes");
        let second = gate.proposal(40).unwrap();
        assert!(gate.proposal(0).is_none(), "too many");
        drop(first);
        let third = gate.proposal(60).unwrap();
        drop((second, third));
        assert!(gate.proposal(1000).is_some(), "one alone always passes");
        assert!(gate.proposal(100).is_some(), "nothing is left behind");
        let _request = gate.request().unwrap();
        assert!(gate.request().is_none());
    }
}
