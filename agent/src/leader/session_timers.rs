//! Session TTLs, measured by the leader on its own monotonic clock.
//!
//! A new leader starts all of them anew: a session may live longer than its TTL says, never shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::duration;
use crate::state::{Session, Store};

/// A session ends when this many TTLs have passed without a renewal: the promise is "not before one", and a renewal
/// that is under way shall not lose to a leader that is quick.
const TTLS: u32 = 2;

/// Shared by the leader's duties, which end sessions, and by renewals.
#[derive(Default)]
pub struct SessionTimers(Mutex<Option<Timers>>);

/// The timers of one leadership.
#[derive(Default)]
struct Timers {
    deadlines: BTreeMap<Uuid, Instant>,
    /// The same by time.
    queue: BTreeSet<(Instant, Uuid)>,
    /// Sessions whose time is over and whose end is on its way into the log. No renewal saves them: two answers must
    /// not contradict each other.
    over: BTreeSet<Uuid>,
    /// The sessions that `deadlines` was last compared with, by the index of their table.
    seen: Option<u64>,
}

impl SessionTimers {
    /// Begins a leadership: nothing has been measured.
    pub fn start(&self) {
        *self.lock() = Some(Timers::default());
    }

    /// Ends it.
    pub fn stop(&self) {
        *self.lock() = None;
    }

    /// Starts one session's time anew; false when it is unknown, over, or this server does not lead.
    pub fn renew(&self, session: &Session, now: Instant) -> bool {
        let mut timers = self.lock();
        let Some(timers) = &mut *timers else {
            return false;
        };
        if timers.over.contains(&session.id) {
            return false;
        }
        if let Some(time) = time_of(session) {
            timers.set(session.id, now + time);
        }
        true
    }

    /// A session whose time is over; the same one again until it is gone from the state.
    pub fn expired(&self, store: &Store, now: Instant) -> Option<Uuid> {
        let mut timers = self.lock();
        let timers = timers.as_mut()?;
        timers.follow(store, now);
        if let Some(id) = timers.over.first() {
            return Some(*id);
        }
        let (deadline, id) = *timers.queue.first()?;
        if deadline > now {
            return None;
        }
        timers.remove(&id);
        timers.over.insert(id);
        Some(id)
    }

    /// When the next one is over.
    pub fn next(&self) -> Option<Instant> {
        let timers = self.lock();
        timers
            .as_ref()?
            .queue
            .first()
            .map(|(deadline, _)| *deadline)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Timers>> {
        // Every change below leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timers {
    /// Takes in sessions that are new and forgets those that are gone.
    fn follow(&mut self, store: &Store, now: Instant) {
        let index = store.sessions_index();
        if self.seen.replace(index) == Some(index) {
            return;
        }
        let mut living = BTreeSet::new();
        for session in store.sessions() {
            living.insert(session.id);
            if !self.deadlines.contains_key(&session.id)
                && !self.over.contains(&session.id)
                && let Some(time) = time_of(session)
            {
                self.set(session.id, now + time);
            }
        }
        self.over.retain(|id| living.contains(id));
        self.deadlines.retain(|id, _| living.contains(id));
        self.queue.retain(|(_, id)| living.contains(id));
    }

    fn set(&mut self, id: Uuid, deadline: Instant) {
        self.remove(&id);
        self.deadlines.insert(id, deadline);
        self.queue.insert((deadline, id));
    }

    fn remove(&mut self, id: &Uuid) {
        if let Some(deadline) = self.deadlines.remove(id) {
            self.queue.remove(&(deadline, *id));
        }
    }
}

/// How long a session lives without a renewal; `None` for ever.
fn time_of(session: &Session) -> Option<Duration> {
    // The API took the text in as a duration.
    let ttl = duration::parse(&session.ttl).ok()?;
    (!ttl.is_zero()).then_some(ttl * TTLS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Command, Node, Register, Stamped};

    const TTL: Duration = Duration::from_secs(10);

    struct Bed {
        store: Store,
        timers: SessionTimers,
        begun: Instant,
    }

    impl Bed {
        fn new() -> Self {
            let mut bed = Self {
                store: Store::default(),
                timers: SessionTimers::default(),
                begun: Instant::now(),
            };
            bed.apply(Command::Register(Box::new(Register {
                node: Node {
                    node: "n".into(),
                    address: "127.0.0.1".into(),
                    ..Node::default()
                },
                skip_node_update: false,
                services: Vec::new(),
                checks: Vec::new(),
            })));
            bed.timers.start();
            bed
        }

        fn apply(&mut self, command: Command) {
            let unix_ms = 0;
            let index = self.store.last_index() + 1;
            self.store.apply(index, &Stamped { unix_ms, command });
        }

        fn session(&mut self, id: u128, ttl: &str) -> Session {
            let session = Session {
                ttl: ttl.into(),
                ..Session::plain(Uuid::from_u128(id), "n")
            };
            self.apply(Command::SessionCreate(Box::new(session.clone())));
            session
        }

        fn expired(&self, after: Duration) -> Option<Uuid> {
            self.timers.expired(&self.store, self.begun + after)
        }
    }

    #[test]
    fn a_session_is_over_after_two_ttls_and_stays_so_until_it_is_gone() {
        let mut bed = Bed::new();
        let id = bed.session(1, "10s").id;
        assert_eq!(bed.expired(Duration::ZERO), None);
        assert_eq!(bed.timers.next(), Some(bed.begun + 2 * TTL));
        assert_eq!(bed.expired(2 * TTL - Duration::from_millis(1)), None);
        assert_eq!(bed.expired(2 * TTL), Some(id));
        // Its end may have to be proposed again.
        assert_eq!(bed.expired(2 * TTL), Some(id));
        bed.apply(Command::SessionDestroy { id });
        assert_eq!(bed.expired(3 * TTL), None);
        assert_eq!(bed.timers.next(), None);
    }

    #[test]
    fn a_renewal_starts_the_time_anew_but_saves_nothing_that_is_over() {
        let mut bed = Bed::new();
        let session = bed.session(1, "10s");
        bed.expired(Duration::ZERO);
        assert!(bed.timers.renew(&session, bed.begun + TTL));
        assert_eq!(bed.expired(2 * TTL), None);
        assert_eq!(bed.expired(3 * TTL), Some(session.id));
        assert!(!bed.timers.renew(&session, bed.begun + 3 * TTL));
        // Before the duties have seen it for the first time, too.
        let fresh = bed.session(2, "10s");
        assert!(bed.timers.renew(&fresh, bed.begun + 3 * TTL));
    }

    #[test]
    fn sessions_without_a_ttl_have_no_timer() {
        let mut bed = Bed::new();
        for (id, ttl) in [(1, ""), (2, "0"), (3, "0s")] {
            let session = bed.session(id, ttl);
            assert!(bed.timers.renew(&session, bed.begun));
        }
        assert_eq!(bed.expired(Duration::from_secs(1 << 30)), None);
        assert_eq!(bed.timers.next(), None);
    }

    #[test]
    fn each_leadership_measures_anew_and_nobody_else_renews() {
        let mut bed = Bed::new();
        let session = bed.session(1, "10s");
        bed.expired(Duration::ZERO);
        bed.timers.stop();
        assert!(!bed.timers.renew(&session, bed.begun));
        assert_eq!(bed.expired(2 * TTL), None);
        bed.timers.start();
        assert_eq!(bed.expired(2 * TTL), None);
        assert_eq!(bed.expired(4 * TTL), Some(session.id));
    }
}
