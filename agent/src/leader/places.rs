//! Coordinates that agents have told the leader, until they are written: many with one command.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::coordinate::Coordinate;
use crate::state::NodePlace;

/// Time between two rounds of writing. Consul's.
pub(super) const ROUND: Duration = Duration::from_secs(5);
/// Most places of one command.
const BATCH: usize = 128;
/// Most that are kept between two rounds: more than Consul writes in one. What is over it is told again some time.
const KEPT: usize = 5 * BATCH;

/// What is to be written.
#[derive(Default)]
pub struct PendingPlaces(Mutex<BTreeMap<String, Coordinate>>);

impl PendingPlaces {
    /// Takes what a node says. Whether there was room.
    pub fn tell(&self, node: &str, place: Coordinate) -> bool {
        let mut pending = self.lock();
        if pending.len() >= KEPT && !pending.contains_key(node) {
            return false;
        }
        pending.insert(node.to_owned(), place);
        true
    }

    /// Forgets all of it, at the beginning of a leadership.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Takes as many as one command holds.
    pub(super) fn take(&self) -> Vec<NodePlace> {
        let mut pending = self.lock();
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some((node, place)) = pending.pop_first()
        {
            taken.push(NodePlace { node, place });
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Coordinate>> {
        // A map is never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_the_last_word_of_a_node_counts() {
        let pending = PendingPlaces::default();
        let moved = Coordinate {
            height: 0.5,
            ..Coordinate::default()
        };
        assert!(pending.tell("a", Coordinate::default()) && pending.tell("a", moved));
        assert_eq!(pending.take()[0].place, moved);
        assert!(pending.take().is_empty());
        for node in 0..KEPT {
            assert!(pending.tell(&node.to_string(), moved));
        }
        assert!(!pending.tell("one more", moved), "full");
        assert!(pending.tell("0", moved), "known");
        assert_eq!(pending.take().len(), BATCH);
        pending.clear();
        assert!(pending.take().is_empty());
    }
}
