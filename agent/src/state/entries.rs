//! Config entries: rows by kind and name, whose meaning `crate::entries` knows.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use serde_json::Value;

use super::command::{Outcome, Refusal};
use super::{Change, Indexes, virtual_ips};
use crate::entries::chain::Find;
use crate::entries::rules::{self, Proposed};
use crate::entries::{self, gateways};

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
    /// The last index that changed a terminating gateway.
    pub(super) gateways: u64,
}

/// The entries as they are, or as they would be after a change.
pub(super) struct View<'a> {
    rows: &'a Entries,
    change: Option<(Key, Option<&'a ConfigEntry>)>,
}

impl<'a> View<'a> {
    pub(super) fn of(rows: &'a Entries) -> Self {
        Self { rows, change: None }
    }
}

impl Find for View<'_> {
    fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let key = key(kind, name);
        match &self.change {
            Some((changed, new)) if *changed == key => new.map(entries::show),
            _ => self.rows.rows.get(&key).map(|row| entries::show(row)),
        }
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        let changed = self.change.as_ref().map(|(changed, _)| changed);
        let rows = self.rows.of_kind(kind);
        let rows = rows
            .iter()
            .filter(|row| changed != Some(&key(&row.kind, &row.name)));
        let mut all: Vec<Value> = rows.map(|row| entries::show(row)).collect();
        if let Some((changed, Some(new))) = &self.change
            && *changed.0 == *kind
        {
            all.push(entries::show(new));
        }
        all
    }
}

fn key(kind: &str, name: &str) -> Key {
    (kind.into(), name.to_lowercase().into())
}

impl Entries {
    pub(super) fn restore(rows: Vec<Arc<ConfigEntry>>, index: u64, gateways: u64) -> Self {
        let rows = rows.into_iter().map(|row| (key(&row.kind, &row.name), row));
        Self {
            rows: rows.collect(),
            index,
            gateways,
        }
    }

    /// As [`Entries::apply`], unless the entries would not fit together then.
    pub(super) fn apply_checked(&mut self, change: &mut Change<'_>, step: &EntryStep) -> Outcome {
        match self.refusal(step) {
            Some(why) => Outcome::refuse(Refusal::InvalidEntry, why),
            None => self.apply(change, step),
        }
    }

    /// Why a change cannot be made. Those whose condition does not hold, and those that change nothing, are not looked at.
    fn refusal(&self, step: &EntryStep) -> Option<String> {
        let (key, cas, new) = match step {
            EntryStep::Set { entry, cas } => (key(&entry.kind, &entry.name), cas, Some(&**entry)),
            EntryStep::Delete { kind, name, cas } => (key(kind, name), cas, None),
        };
        let old = self.rows.get(&key);
        let modified = old.map_or(0, |old| old.modify_index);
        let same = match (old, new) {
            (None, None) => true,
            (Some(old), Some(new)) => (&old.name, &old.json) == (&new.name, &new.json),
            _ => false,
        };
        if same || cas.is_some_and(|cas| cas != modified) {
            return None;
        }
        let (kind, name) = key.clone();
        let name = new.map_or(&*name, |new| &new.name);
        let (old, body) = (old.map(|old| entries::body(old)), new.map(entries::body));
        let proposed = Proposed {
            kind: &kind,
            name,
            old: old.as_ref(),
            new: body.as_ref(),
        };
        let after = View {
            rows: self,
            change: Some((key, new)),
        };
        rules::check(proposed, &after).err()
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
                change.mesh.extend(virtual_ips::concerned(&row));
                if let Some(old) = old {
                    change.mesh.extend(virtual_ips::concerned(old));
                }
                let kind = row.kind.clone();
                self.rows.insert(key, Arc::new(row));
                self.changed(change, &kind);
            }
            EntryStep::Delete { .. } if old.is_none() => {}
            EntryStep::Delete { kind, .. } => {
                if let Some(old) = self.rows.remove(&key) {
                    change.mesh.extend(virtual_ips::concerned(&old));
                }
                self.changed(change, kind);
            }
        }
        Outcome::Bool(true)
    }

    fn changed(&mut self, change: &mut Change<'_>, kind: &str) {
        self.index = change.index;
        change.touched.entries();
        if kind == gateways::TERMINATING {
            self.gateways = change.index;
            change.touched.all_mesh();
        }
    }

    pub(super) fn find(&self, kind: &str, name: &str) -> Option<&Arc<ConfigEntry>> {
        self.rows.get(&key(kind, name))
    }

    /// Those of a kind, by name; of every kind for an empty one.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<Arc<ConfigEntry>> {
        if kind.is_empty() {
            return self.rows.values().cloned().collect();
        }
        let rows = self.rows.range(key(kind, "")..).map(|(_, row)| row);
        rows.take_while(|row| row.kind == kind).cloned().collect()
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
        Self::restore(rows.collect(), index, index)
    }

    pub(super) fn indexes(&self) -> Indexes {
        Indexes::same(self.index)
    }
}
