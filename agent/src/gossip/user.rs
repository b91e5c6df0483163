//! User events: messages that somebody sends to everybody, which no member's state holds. Pure.
//!
//! Each carries the Lamport time at which it was fired: a member that hears of one sets its clock behind it. Times tell new
//! from old, ids tell one event from another; the newest are remembered, so that none is passed on twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Events of so many Lamport times are remembered, and older ones not believed to be new. Serf's buffer.
const REMEMBERED: u64 = 512;
/// Most events that are remembered, whatever their times.
const EVENTS_MAX: usize = 2048;
/// No clock that counts events gets there.
const TIME_MAX: u64 = u64::MAX / 2;

/// One user event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEvent {
    /// Random, by whoever fired it.
    pub id: Uuid,
    /// Lamport time; 0 until it is fired.
    pub ltime: u64,
    /// What kind of event it is.
    pub name: String,
    /// What it carries.
    pub payload: Bytes,
    /// Regular expression: only for nodes with such a name. Empty for all.
    pub node: String,
    /// Regular expression: only for nodes with such a service. Empty for all.
    pub service: String,
    /// Regular expression: only for nodes on which that service has such a tag. Empty for all.
    pub tag: String,
}

/// The events that a member has heard of.
#[derive(Debug)]
pub(crate) struct UserEvents {
    /// The Lamport time of the next event that is fired here.
    clock: u64,
    /// Events from before this time were others' business: this member was not there yet.
    since: u64,
    known: BTreeMap<(u64, Uuid), Arc<UserEvent>>,
    /// Heard of since [`UserEvents::take_new`].
    new: Vec<Arc<UserEvent>>,
}

impl Default for UserEvents {
    /// Nothing was heard of. Time begins at 1, as Serf's.
    fn default() -> Self {
        Self {
            clock: 1,
            since: 0,
            known: BTreeMap::new(),
            new: Vec::new(),
        }
    }
}

impl UserEvents {
    /// Whether anything was heard of since [`UserEvents::take_new`].
    pub(crate) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// The Lamport time of the next event that is fired here.
    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// Gives an event its time.
    pub(crate) fn fire(&mut self, event: UserEvent) -> UserEvent {
        let event = UserEvent {
            ltime: self.clock,
            ..event
        };
        self.learn(event.clone());
        event
    }

    /// Takes an event from somebody. Whether it is new, so that others must hear of it.
    pub(crate) fn learn(&mut self, event: UserEvent) -> bool {
        if event.ltime >= TIME_MAX {
            // A clock at its end would make every event too old for ever.
            return false;
        }
        self.witness(event.ltime + 1);
        let key = (event.ltime, event.id);
        let too_old = event.ltime < self.since || event.ltime + REMEMBERED < self.clock;
        if too_old || self.known.contains_key(&key) {
            return false;
        }
        let event = Arc::new(event);
        self.known.insert(key, event.clone());
        self.new.push(event);
        self.forget();
        true
    }

    /// Sets the clock to a time that somebody's clock shows.
    pub(crate) fn witness(&mut self, time: u64) {
        if time <= TIME_MAX {
            self.clock = self.clock.max(time);
        }
    }

    /// Leaves out what was fired before `time`: a new member does not take part in what happened before it came.
    pub(crate) fn ignore_before(&mut self, time: u64) {
        self.witness(time);
        self.since = self.since.max(time.min(self.clock));
    }

    /// Those that are remembered, by time.
    pub(crate) fn known(&self) -> impl Iterator<Item = &UserEvent> {
        self.known.values().map(|event| &**event)
    }

    /// Those heard of since the last call, in the order in which they were.
    pub(crate) fn take_new(&mut self) -> Vec<Arc<UserEvent>> {
        std::mem::take(&mut self.new)
    }

    fn forget(&mut self) {
        while let Some(entry) = self.known.first_entry() {
            let old = entry.key().0 + REMEMBERED < self.clock;
            if !old && self.known.len() <= EVENTS_MAX {
                return;
            }
            self.known.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u128, ltime: u64) -> UserEvent {
        UserEvent {
            id: Uuid::from_u128(id),
            ltime,
            name: "deploy".into(),
            ..UserEvent::default()
        }
    }

    #[test]
    fn an_event_is_new_once_and_moves_the_clock_behind_it() {
        let (mut here, mut there) = (UserEvents::default(), UserEvents::default());
        there.witness(41);
        let fired = there.fire(event(1, 0));
        assert_eq!((fired.ltime, there.clock()), (41, 42));
        assert!(here.learn(fired.clone()));
        assert!(!here.learn(fired.clone()), "an echo");
        assert_eq!(here.fire(event(2, 0)).ltime, 42);
        let new: Vec<_> = here.take_new().iter().map(|e| e.ltime).collect();
        assert_eq!(new, [41, 42]);
        assert!(here.take_new().is_empty());
        assert!(!there.learn(fired), "its own");
    }

    #[test]
    fn two_events_of_one_time_are_two() {
        let mut events = UserEvents::default();
        assert!(events.learn(event(1, 7)) && events.learn(event(2, 7)));
        assert_eq!(events.known().count(), 2);
    }

    #[test]
    fn what_is_far_behind_is_not_believed_to_be_new() {
        let mut events = UserEvents::default();
        events.learn(event(1, 1));
        events.witness(REMEMBERED + 2);
        assert!(!events.learn(event(2, 1)));
        assert!(events.learn(event(3, 2)));
        assert!(!events.learn(event(1, 1)), "forgotten, and too old");
    }

    #[test]
    fn a_newcomer_leaves_out_what_was_before_it() {
        let mut events = UserEvents::default();
        events.ignore_before(10);
        assert!(!events.learn(event(1, 9)));
        assert!(events.learn(event(2, 10)));
        assert_eq!(events.clock(), 11);
    }

    #[test]
    fn a_hostile_clock_stops_nobody_and_memory_has_a_bound() {
        let mut events = UserEvents::default();
        events.witness(u64::MAX);
        events.learn(event(1, u64::MAX));
        assert_eq!(events.clock(), 1);
        for id in 0..EVENTS_MAX as u128 + 10 {
            events.learn(event(id + 2, 5));
        }
        assert!(events.known().count() <= EVENTS_MAX);
    }
}
