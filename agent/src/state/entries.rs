//! Config entries: rows by kind and name, whose meaning `crate::entries` knows.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::command::Outcome;
use super::{Change, Indexes};

/// A config entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// What it is about.
    pub kind: String,
    /// Unique within its kind without regard to case.
    pub name: String,
    /// All of it in Consul's JSON, kind and name included, without indexes.
    pub json: String,
    /// The log index that created it.
    pub create_index: u64,
    /// The log index of its last change.
    pub modify_index: u64,
}

/// A change of the config entries. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryStep {
    /// Writes one. Its indexes do not count.
    Set {
        /// What to write.
        entry: Box<ConfigEntry>,
        /// Only if it was last changed at this index; 0 stands for never.
        cas: Option<u64>,
    },
    /// Removes one; done as well when there is none.
    Delete {
        /// Its kind.
        kind: String,
        /// Its name, in any case.
        name: String,
        /// Only if it was last changed at this index.
        cas: Option<u64>,
    },
}

type Key = (Arc<str>, Arc<str>);

/// All config entries.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Entries {
    /// By kind, then by name in lower case.
    pub(super) rows: OrdMap<Key, Arc<ConfigEntry>>,
    /// The last index that changed anything here.
    pub(super) index: u64,
}

fn key(kind: &str, name: &str) -> Key {
    (kind.into(), name.to_lowercase().into())
}

impl Entries {
    pub(super) fn restore(rows: Vec<Arc<ConfigEntry>>, index: u64) -> Self {
        let rows = rows.into_iter().map(|row| (key(&row.kind, &row.name), row));
        Self {
            rows: rows.collect(),
            index,
        }
    }

    pub(super) fn apply(&mut self, change: &mut Change<'_>, step: &EntryStep) -> Outcome {
        let (key, cas) = match step {
            EntryStep::Set { entry, cas } => (key(&entry.kind, &entry.name), *cas),
            EntryStep::Delete { kind, name, cas } => (key(kind, name), *cas),
        };
        let old = self.rows.get(&key);
        let modified = old.map_or(0, |old| old.modify_index);
        if cas.is_some_and(|cas| cas != modified) {
            return Outcome::Bool(false);
        }
        match step {
            // An equal one changes nothing, and wakes nobody.
            EntryStep::Set { entry, .. }
                if old.is_some_and(|old| (&old.name, &old.json) == (&entry.name, &entry.json)) => {}
            EntryStep::Set { entry, .. } => {
                let row = ConfigEntry {
                    create_index: old.map_or(change.index, |old| old.create_index),
                    modify_index: change.index,
                    ..ConfigEntry::clone(entry)
                };
                self.rows.insert(key, Arc::new(row));
                self.changed(change);
            }
            EntryStep::Delete { .. } if old.is_none() => {}
            EntryStep::Delete { .. } => {
                self.rows.remove(&key);
                self.changed(change);
            }
        }
        Outcome::Bool(true)
    }

    fn changed(&mut self, change: &mut Change<'_>) {
        self.index = change.index;
        change.touched.entries();
    }

    pub(super) fn find(&self, kind: &str, name: &str) -> Option<&Arc<ConfigEntry>> {
        self.rows.get(&key(kind, name))
    }

    /// Those of a kind, by name; of every kind for an empty one.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<Arc<ConfigEntry>> {
        let rows = self.rows.values();
        let rows = rows.filter(|row| kind.is_empty() || row.kind == kind);
        rows.cloned().collect()
    }

    /// The same rows, all written at one index.
    pub(super) fn moved_to(&self, index: u64) -> Self {
        let rows = self.rows.values().map(|row| {
            Arc::new(ConfigEntry {
                create_index: row.create_index.min(index),
                modify_index: index,
                ..ConfigEntry::clone(row)
            })
        });
        Self::restore(rows.collect(), index)
    }

    pub(super) fn indexes(&self) -> Indexes {
        Indexes::same(self.index)
    }
}
