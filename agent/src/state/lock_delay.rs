//! Keys that refuse new locks for a while, because the session that held them was ended.
//!
//! The holder may not know yet that it lost its lock; the delay is its time to find out. The rows are replicated and
//! the leader measures their time, as it does with sessions: a delay outlives a change of the leader, where it starts
//! anew, and no clock of a client can cut it short.

use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

/// One key's delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LockDelay {
    /// The log index that began it.
    pub(super) index: u64,
    /// Nanoseconds, as the session had it.
    pub(super) nanoseconds: u64,
}

/// Names one delay, for [`super::Command::EndLockDelays`]: a later one of the same key has another index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DelayedKey {
    /// The key.
    pub key: Arc<str>,
    /// The log index that began the delay.
    pub index: u64,
}

/// All of them, by key.
#[derive(Clone, Default, PartialEq)]
pub(super) struct LockDelays {
    rows: OrdMap<Arc<str>, LockDelay>,
}

impl LockDelays {
    pub(super) fn restore(rows: Vec<(Arc<str>, LockDelay)>) -> Self {
        Self {
            rows: rows.into_iter().collect(),
        }
    }

    /// Begins a delay for each of these keys; one of no time is none.
    pub(super) fn begin(
        &mut self,
        index: u64,
        nanoseconds: u64,
        keys: impl Iterator<Item = Arc<str>>,
    ) {
        if nanoseconds == 0 {
            return;
        }
        let delay = LockDelay { index, nanoseconds };
        for key in keys {
            self.rows.insert(key, delay);
        }
    }

    pub(super) fn end(&mut self, ended: &[DelayedKey]) {
        for DelayedKey { key, index } in ended {
            if self
                .rows
                .get(key)
                .is_some_and(|delay| delay.index == *index)
            {
                self.rows.remove(key);
            }
        }
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.rows.contains_key(key)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&Arc<str>, &LockDelay)> {
        self.rows.iter()
    }

    /// With how long each is to last from its beginning.
    pub(super) fn lasting(&self) -> impl Iterator<Item = (DelayedKey, Duration)> {
        self.rows.iter().map(|(key, delay)| {
            let key = DelayedKey {
                key: key.clone(),
                index: delay.index,
            };
            (key, Duration::from_nanos(delay.nanoseconds))
        })
    }
}
