//! What the leader ends when its time is over: sessions, lock delays, tombstones. Says which command is due next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::places::{self, PendingPlaces};
use super::session_timers::SessionTimers;
use crate::state::{Command, DelayedKey, Store};

/// How long a deleted key is remembered, for those who wait for a prefix that it was under.
const TOMBSTONE_AGE: Duration = Duration::from_secs(15 * 60);

/// Time between two looks for old tombstones, so that many go with one command.
const TOMBSTONE_ROUND: Duration = Duration::from_secs(30);

/// What one leadership remembers.
pub(super) struct Upkeep {
    timers: Arc<SessionTimers>,
    /// When each lock delay is over: the leader's clock counts, from when it first saw it.
    delays: BTreeMap<DelayedKey, Instant>,
    tombstones_at: Instant,
    places: Arc<PendingPlaces>,
    places_at: Instant,
}

impl Upkeep {
    /// Begins a leadership.
    pub(super) fn start(
        timers: Arc<SessionTimers>,
        places: Arc<PendingPlaces>,
        now: Instant,
    ) -> Self {
        timers.start();
        places.clear();
        Self {
            timers,
            delays: BTreeMap::new(),
            tombstones_at: now,
            places,
            places_at: now,
        }
    }

    /// The command that is due, if there is one. Asked again after it failed, it says the same.
    pub(super) fn next_command(
        &mut self,
        store: &Store,
        now: Instant,
        unix_ms: u64,
    ) -> Option<Command> {
        if let Some(id) = self.timers.expired(store, now) {
            tracing::debug!(target: "consul", "Session TTL expired: session={id}");
            return Some(Command::SessionDestroy { id });
        }
        if let Some(ended) = self.ended_delays(store, now) {
            return Some(Command::EndLockDelays(ended));
        }
        if self.places_at <= now {
            // What cannot be written is told again.
            let places = self.places.take();
            if !places.is_empty() {
                return Some(Command::SetPlaces(places));
            }
            self.places_at = now + places::ROUND;
        }
        if self.tombstones_at > now {
            return None;
        }
        let before = unix_ms.saturating_sub(TOMBSTONE_AGE.as_millis() as u64);
        let due = store.expired_tombstones(before);
        if due.is_none() {
            self.tombstones_at = now + TOMBSTONE_ROUND;
        }
        due.map(|up_to| Command::ReapTombstones { up_to })
    }

    /// When there may be something to do, if nothing changes until then.
    pub(super) fn next_time(&self) -> Instant {
        let times = self.delays.values().copied().chain(self.timers.next());
        times
            .min()
            .map_or(self.tombstones_at, |time| time.min(self.tombstones_at))
    }

    fn ended_delays(&mut self, store: &Store, now: Instant) -> Option<Vec<DelayedKey>> {
        // There are as many as keys whose holders died within the last seconds: few.
        let mut known = std::mem::take(&mut self.delays);
        for (key, lasts) in store.lock_delays() {
            let over = known.remove(&key).unwrap_or(now + lasts);
            self.delays.insert(key, over);
        }
        let over = self.delays.iter().filter(|(_, over)| **over <= now);
        let ended: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        (!ended.is_empty()).then_some(ended)
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.timers.stop();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::state::{KvCommand, KvOp, KvWrite, Node, Register, Session, Stamped};

    const DELAY: Duration = Duration::from_secs(15);

    fn apply(store: &mut Store, command: Command) {
        let index = store.last_index() + 1;
        store.apply(
            index,
            &Stamped {
                unix_ms: 1,
                command,
            },
        );
    }

    fn kv(key: &str, op: KvOp) -> Command {
        let key = key.to_owned();
        Command::Kv(KvCommand { key, op })
    }

    /// A store in which a session has just lost `keys`.
    fn lost(keys: &[&str]) -> Store {
        let (mut store, id) = (Store::default(), Uuid::from_u128(1));
        let node = Node {
            node: "n".into(),
            address: "127.0.0.1".into(),
            ..Node::default()
        };
        let register = Register {
            node,
            skip_node_update: false,
            services: Vec::new(),
            checks: Vec::new(),
        };
        apply(&mut store, Command::Register(Box::new(register)));
        let session = Session {
            lock_delay: DELAY.as_nanos() as u64,
            ..Session::plain(id, "n")
        };
        apply(&mut store, Command::SessionCreate(Box::new(session)));
        for key in keys {
            let (write, session) = (KvWrite::default(), id);
            apply(&mut store, kv(key, KvOp::Lock { write, session }));
        }
        apply(&mut store, Command::SessionDestroy { id });
        store
    }

    fn upkeep(now: Instant) -> Upkeep {
        Upkeep::start(Arc::default(), Arc::default(), now)
    }

    #[test]
    fn lock_delays_end_together_when_their_time_is_over() {
        let (mut store, now) = (lost(&["a", "b"]), Instant::now());
        let mut upkeep = upkeep(now);
        assert_eq!(upkeep.next_command(&store, now, 0), None);
        assert_eq!(upkeep.next_time(), now + DELAY);
        assert_eq!(upkeep.next_command(&store, now + DELAY / 2, 0), None);
        let due = upkeep.next_command(&store, now + DELAY, 0);
        let Some(Command::EndLockDelays(ended)) = &due else {
            panic!("{due:?}")
        };
        assert_eq!(ended.len(), 2);
        // Until it is applied.
        assert_eq!(upkeep.next_command(&store, now + DELAY, 0), due);
        apply(&mut store, due.unwrap());
        assert_eq!(upkeep.next_command(&store, now + 2 * DELAY, 0), None);
        assert_eq!(store.lock_delays().count(), 0);
    }

    #[test]
    fn tombstones_are_reaped_when_they_are_old() {
        let (mut store, now) = (Store::default(), Instant::now());
        let mut upkeep = upkeep(now);
        apply(&mut store, kv("a", KvOp::Set(KvWrite::default())));
        apply(&mut store, kv("a", KvOp::Delete));
        let age = 1 + TOMBSTONE_AGE.as_millis() as u64;
        assert_eq!(upkeep.next_command(&store, now, age - 1), None);
        let soon = now + TOMBSTONE_ROUND;
        assert_eq!(upkeep.next_time(), soon);
        assert_eq!(
            upkeep.next_command(&store, soon - Duration::from_millis(1), age),
            None
        );
        let due = upkeep.next_command(&store, soon, age);
        assert_eq!(due, Some(Command::ReapTombstones { up_to: 2 }));
        apply(&mut store, due.unwrap());
        assert_eq!(upkeep.next_command(&store, soon, age), None);
    }
}
