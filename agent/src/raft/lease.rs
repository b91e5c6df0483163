//! The leader's lease: the time in which nobody else can lead, so that it may answer reads without asking.
//!
//! A follower that has confirmed the leader votes for nobody for the length of the lease, by its own clock; the leader
//! uses four fifths of that from the moment at which it sent what was confirmed, by its own clock. Clocks may so differ
//! in speed by a fifth. Three things would break it, and do not happen:
//! - a follower that restarts forgets what it confirmed: it neither votes nor stands for election for one lease
//!   (`Service`, and `enable_elect` in `Consensus::start`);
//! - a leader that hands leadership over lets the others vote at once: it waives its lease for the term first;
//! - a leader that has just been elected has not applied all that others acknowledged before: it has no lease until
//!   an entry of its own term is applied.
//!
//! The clock is the monotonic one. A machine that is suspended as a whole may not count that time; servers must not run
//! on such machines, or ask for `consistent` reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::type_config::alias::InstantOf;
use openraft::{RaftMetrics, ServerState};

use super::TypeConfig;
use super::contacts::{Contacts, Quorum};

/// Length of the lease, and whether it may be used.
#[derive(Debug)]
pub(super) struct Lease {
    length: Duration,
    /// The last term in which leadership was handed over; 0 for none.
    waived: AtomicU64,
}

/// A lease that was there at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    term: u64,
    /// When that was sent which a quorum has confirmed.
    confirmed: InstantOf<TypeConfig>,
}

impl Lease {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            waived: AtomicU64::new(0),
        }
    }

    /// How long it is used.
    pub(super) fn usable(&self) -> Duration {
        self.length * 4 / 5
    }

    /// Gives up the lease of this term for good.
    pub(super) fn waive(&self, term: u64) {
        self.waived.fetch_max(term, Ordering::SeqCst);
    }

    pub(super) fn is_waived(&self, term: u64) -> bool {
        self.waived.load(Ordering::SeqCst) >= term
    }

    /// The lease of a leader whose state is complete. A leader that is alone has none: nobody confirms it.
    pub(super) fn hold(
        &self,
        metrics: &RaftMetrics<TypeConfig>,
        contacts: &Contacts,
    ) -> Option<Hold> {
        let leads = metrics.state == ServerState::Leader;
        let applied = metrics.last_applied?.leader_id.term;
        if !leads || applied != metrics.current_term {
            return None;
        }
        match quorum(metrics, contacts) {
            Quorum::At(confirmed) => Some(Hold {
                term: metrics.current_term,
                confirmed,
            }),
            Quorum::Alone | Quorum::Missing => None,
        }
    }

    /// Whether it lasts at this moment.
    pub(super) fn lasts(&self, hold: &Hold, now: InstantOf<TypeConfig>) -> bool {
        !self.is_waived(hold.term) && now < hold.confirmed + self.usable()
    }
}

/// What a quorum of the voters has confirmed in the present term.
pub(super) fn quorum(metrics: &RaftMetrics<TypeConfig>, contacts: &Contacts) -> Quorum {
    let configs = metrics.membership_config.membership().get_joint_config();
    contacts.quorum(metrics.id, metrics.current_term, configs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use openraft::Instant as _;
    use openraft::type_config::alias::StoredMembershipOf;

    use super::*;
    use crate::raft::types::LogId;

    const LENGTH: Duration = Duration::from_millis(400);

    fn now() -> InstantOf<TypeConfig> {
        InstantOf::<TypeConfig>::now()
    }

    /// A leader of three in term 3.
    fn leader() -> RaftMetrics<TypeConfig> {
        let mut metrics = RaftMetrics::new_initial(1);
        metrics.state = ServerState::Leader;
        metrics.current_term = 3;
        metrics.last_applied = Some(log_id(3));
        let voters = BTreeSet::from([1, 2, 3]);
        let membership = openraft::Membership::new_with_defaults(vec![voters], []);
        metrics.membership_config = Arc::new(StoredMembershipOf::<TypeConfig>::new(
            Some(log_id(3)),
            membership,
        ));
        metrics
    }

    /// One of the others confirmed it in that term at this moment.
    fn confirmed(term: u64, at: InstantOf<TypeConfig>) -> Contacts {
        let contacts = Contacts::default();
        contacts.confirmed(2, term, at);
        contacts
    }

    fn log_id(term: u64) -> LogId {
        LogId::new_term_index(term, 10)
    }

    #[test]
    fn a_lease_lasts_four_fifths_of_what_followers_grant() {
        let (lease, now) = (Lease::new(LENGTH), now());
        let hold = lease.hold(&leader(), &confirmed(3, now)).unwrap();
        assert!(lease.lasts(&hold, now + Duration::from_millis(319)));
        assert!(!lease.lasts(&hold, now + Duration::from_millis(320)));
    }

    #[test]
    fn handing_over_waives_it_for_the_term() {
        let (lease, now) = (Lease::new(LENGTH), now());
        let hold = lease.hold(&leader(), &confirmed(3, now)).unwrap();
        lease.waive(3);
        assert!(!lease.lasts(&hold, now));
        let mut later = leader();
        (later.current_term, later.last_applied) = (4, Some(log_id(4)));
        assert_eq!(lease.hold(&later, &confirmed(3, now)), None);
        let hold = lease.hold(&later, &confirmed(4, now)).unwrap();
        assert!(lease.lasts(&hold, now));
    }

    #[test]
    fn who_does_not_lead_or_has_applied_nothing_of_the_term_has_none() {
        let (lease, now) = (Lease::new(LENGTH), now());
        let mut metrics = leader();
        metrics.last_applied = Some(log_id(2));
        let contacts = confirmed(3, now);
        assert_eq!(
            lease.hold(&metrics, &contacts),
            None,
            "what others acknowledged may be missing"
        );
        let mut metrics = leader();
        metrics.state = ServerState::Follower;
        assert_eq!(lease.hold(&metrics, &contacts), None);
        assert_eq!(lease.hold(&leader(), &Contacts::default()), None);
    }
}
