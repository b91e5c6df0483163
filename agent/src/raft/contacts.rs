//! When each other server last confirmed this leader: reads rest on it.
//!
//! Kept here and not taken from openraft (0.10.0-alpha.37, `drain_acked`): there an answer also counts for later requests
//! without entries that wait behind the one it belongs to, and so for a moment at which the other server may have heard
//! nothing. With an answer that comes 80 ms late, and a cut right after it, a lease would outlast what its voters granted.
//! Here every answer counts from the moment at which its own request was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use openraft::type_config::alias::InstantOf;
use tokio::sync::Notify;

use super::{RaftId, TypeConfig};

type Instant = InstantOf<TypeConfig>;

/// What a quorum has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quorum {
    /// This server is one by itself.
    Alone,
    /// It confirmed what was sent at this moment.
    At(Instant),
    /// It has not confirmed anything in this term.
    Missing,
}

/// What was confirmed by whom.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    /// The term, and when that was sent which was confirmed.
    last: Mutex<BTreeMap<RaftId, (u64, Instant)>>,
    news: Notify,
}

impl Contacts {
    /// `from` has confirmed, as the leader's of this term, what was sent to it at this moment.
    pub(super) fn confirmed(&self, from: RaftId, term: u64, sent: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.entry(from).or_insert((term, sent));
        *known = (*known).max((term, sent));
        drop(last);
        self.news.notify_waiters();
    }

    /// The latest moment of which a majority of each of these sets of voters knows, for a leader of this term.
    pub(super) fn quorum<'a>(
        &self,
        own: RaftId,
        term: u64,
        configs: impl IntoIterator<Item = &'a BTreeSet<RaftId>>,
    ) -> Quorum {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut quorum = Quorum::Alone;
        for voters in configs {
            let needed = (voters.len() / 2 + 1).saturating_sub(usize::from(voters.contains(&own)));
            let Some(needed) = needed.checked_sub(1) else {
                continue;
            };
            let others = voters.iter().filter(|voter| **voter != own);
            let mut heard: Vec<Instant> = others
                .filter_map(|voter| last.get(voter))
                .filter(|(of, _)| *of == term)
                .map(|(_, sent)| *sent)
                .collect();
            heard.sort_unstable_by(|a, b| b.cmp(a));
            quorum = match (quorum, heard.get(needed)) {
                (_, None) => return Quorum::Missing,
                (Quorum::At(before), Some(sent)) => Quorum::At(before.min(*sent)),
                (_, Some(sent)) => Quorum::At(*sent),
            };
        }
        quorum
    }

    /// Waits until `enough`, which looks at [`Contacts::quorum`].
    pub(super) async fn wait_until(&self, enough: impl Fn() -> bool) {
        loop {
            let news = self.news.notified();
            if enough() {
                return;
            }
            news.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use openraft::Instant as _;

    use super::*;

    fn set(ids: &[RaftId]) -> BTreeSet<RaftId> {
        ids.iter().copied().collect()
    }

    #[test]
    fn a_majority_decides_and_this_server_is_part_of_it() {
        let (contacts, start) = (Contacts::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let quorum = |voters: &[RaftId]| contacts.quorum(1, 7, [&set(voters)]);
        assert_eq!(quorum(&[1]), Quorum::Alone);
        assert_eq!(quorum(&[1, 2, 3]), Quorum::Missing);
        contacts.confirmed(2, 7, at(10));
        assert_eq!(quorum(&[1, 2, 3]), Quorum::At(at(10)));
        contacts.confirmed(3, 7, at(30));
        assert_eq!(quorum(&[1, 2, 3]), Quorum::At(at(30)));
        assert_eq!(quorum(&[1, 2, 3, 4, 5]), Quorum::At(at(10)));
        assert_eq!(quorum(&[2, 3, 4]), Quorum::At(at(10)), "it does not vote");
    }

    #[test]
    fn both_halves_of_a_joint_configuration_must_agree() {
        let (contacts, start) = (Contacts::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let (old, new) = (set(&[1, 2, 3]), set(&[1, 4, 5]));
        contacts.confirmed(2, 7, at(30));
        assert_eq!(contacts.quorum(1, 7, [&old, &new]), Quorum::Missing);
        contacts.confirmed(4, 7, at(20));
        assert_eq!(contacts.quorum(1, 7, [&old, &new]), Quorum::At(at(20)));
        assert_eq!(
            contacts.quorum(1, 7, [&set(&[1]), &new]),
            Quorum::At(at(20))
        );
    }

    #[test]
    fn another_term_counts_for_nothing_and_an_older_answer_takes_nothing_back() {
        let (contacts, start) = (Contacts::default(), Instant::now());
        let later = start + Duration::from_millis(5);
        let voters = set(&[1, 2, 3]);
        contacts.confirmed(2, 7, later);
        contacts.confirmed(2, 7, start);
        assert_eq!(contacts.quorum(1, 7, [&voters]), Quorum::At(later));
        assert_eq!(contacts.quorum(1, 8, [&voters]), Quorum::Missing);
        contacts.confirmed(2, 8, start);
        assert_eq!(contacts.quorum(1, 8, [&voters]), Quorum::At(start));
    }
}
