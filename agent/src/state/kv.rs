//! The key/value table, with locks and tombstones.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::command::{KvCommand, KvOp, KvWrite, Outcome, Refusal};
use super::lock_delay::LockDelays;
use super::session::{Behavior, Session};
use super::{Change, Indexes};

/// One entry, as `/v1/kv` shows it.
///
/// As JSON the value is base64, `null` when empty, and `Session` is there only while the key is locked. In binary
/// forms the value is bytes.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KvEntry {
    /// How often the key was locked afresh.
    pub lock_index: u64,
    /// Its name.
    pub key: Arc<str>,
    /// The client's number.
    pub flags: u64,
    /// The client's bytes. Cloning shares them.
    #[serde(deserialize_with = "read_value")]
    pub value: Bytes,
    /// The session that holds it.
    #[serde(default)]
    pub session: Option<Uuid>,
    /// The log index that created it.
    pub create_index: u64,
    /// The log index of its last change.
    pub modify_index: u64,
}

impl KvEntry {
    /// What `get-or-empty` of a transaction shows of a key that is not there.
    pub(super) fn absent(key: &str) -> Self {
        Self {
            lock_index: 0,
            key: key.into(),
            flags: 0,
            value: Bytes::new(),
            session: None,
            create_index: 0,
            modify_index: 0,
        }
    }
}

impl Serialize for KvEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = serializer.is_human_readable();
        let fields = 7 - usize::from(json && self.session.is_none());
        let mut entry = serializer.serialize_struct("KvEntry", fields)?;
        entry.serialize_field("LockIndex", &self.lock_index)?;
        entry.serialize_field("Key", &self.key)?;
        entry.serialize_field("Flags", &self.flags)?;
        if json {
            entry.serialize_field("Value", &Base64(&self.value))?;
        } else {
            entry.serialize_field("Value", &self.value)?;
        }
        if !json || self.session.is_some() {
            entry.serialize_field("Session", &self.session)?;
        }
        entry.serialize_field("CreateIndex", &self.create_index)?;
        entry.serialize_field("ModifyIndex", &self.modify_index)?;
        entry.end()
    }
}

/// Serialises without a string in between.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            serializer.serialize_none()
        } else {
            serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
        }
    }
}

fn read_value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    use base64::Engine as _;
    if !deserializer.is_human_readable() {
        return Bytes::deserialize(deserializer);
    }
    let text: Option<String> = Option::deserialize(deserializer)?;
    STANDARD
        .decode(text.unwrap_or_default())
        .map(Bytes::from)
        .map_err(serde::de::Error::custom)
}

impl fmt::Debug for KvEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets and may be large.
        f.debug_struct("KvEntry")
            .field("key", &self.key)
            .field("value_bytes", &self.value.len())
            .field("flags", &self.flags)
            .field("session", &self.session)
            .field("lock_index", &self.lock_index)
            .field("create_index", &self.create_index)
            .field("modify_index", &self.modify_index)
            .finish()
    }
}

/// The keys that one log index deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grave {
    /// When, by the proposer's clock.
    pub(super) unix_ms: u64,
    /// Which.
    pub(super) keys: Arc<[Arc<str>]>,
}

/// All entries and what is remembered of deleted ones.
#[derive(Clone, Default, PartialEq)]
pub(super) struct KvTable {
    pub(super) entries: OrdMap<Arc<str>, Arc<KvEntry>>,
    /// The index of the deletion, for keys that are absent now.
    tombstones: OrdMap<Arc<str>, u64>,
    /// The same by index, for reaping. May name keys that are back, or were deleted again later.
    pub(super) graves: OrdMap<u64, Grave>,
    /// Keys by the session that holds them.
    held: OrdMap<Uuid, OrdSet<Arc<str>>>,
    /// Keys that refuse new locks.
    pub(super) delays: LockDelays,
    /// The last index that changed anything here.
    pub(super) index: u64,
    /// The highest index among reaped tombstones: what was deleted up to here may have left no trace.
    pub(super) reaped: u64,
}

impl KvTable {
    /// Rebuilds the table from its rows.
    pub(super) fn restore(
        entries: Vec<Arc<KvEntry>>,
        graves: Vec<(u64, Grave)>,
        delays: LockDelays,
        index: u64,
        reaped: u64,
    ) -> Self {
        let mut table = KvTable {
            delays,
            index,
            reaped,
            ..KvTable::default()
        };
        for entry in entries {
            if let Some(session) = entry.session {
                table
                    .held
                    .entry(session)
                    .or_default()
                    .insert(entry.key.clone());
            }
            table.entries.insert(entry.key.clone(), entry);
        }
        for (index, grave) in graves {
            for key in grave.keys.iter() {
                if !table.entries.contains_key(key) {
                    // Graves come in ascending order, so that the last deletion wins.
                    table.tombstones.insert(key.clone(), index);
                }
            }
            table.graves.insert(index, grave);
        }
        table
    }

    /// Carries out one command. `session_exists` answers for locks.
    pub(super) fn apply(
        &mut self,
        change: &mut Change<'_>,
        command: &KvCommand,
        session_exists: impl Fn(&Uuid) -> bool,
    ) -> Outcome {
        let key = command.key.as_str();
        let existing = self.entries.get(key).cloned();
        match &command.op {
            KvOp::Set(write) => {
                self.write(change, key, existing.as_deref(), write, Lock::Keep);
                Outcome::Bool(true)
            }
            KvOp::Cas { write, index } => {
                let made = existing.as_ref().map_or(0, |entry| entry.modify_index) == *index;
                if made {
                    self.write(change, key, existing.as_deref(), write, Lock::Keep);
                }
                Outcome::Bool(made)
            }
            KvOp::Lock { write, session } => {
                if !session_exists(session) {
                    return Outcome::refuse(
                        Refusal::InvalidSession,
                        format!("invalid session \"{session}\""),
                    );
                }
                let holder = existing.as_ref().and_then(|entry| entry.session);
                let free = match holder {
                    Some(holder) => holder == *session,
                    None => !self.delays.contains(key),
                };
                if free {
                    let lock = Lock::Take(*session);
                    self.write(change, key, existing.as_deref(), write, lock);
                }
                Outcome::Bool(free)
            }
            KvOp::Unlock { write, session } => {
                let held = existing
                    .as_ref()
                    .is_some_and(|e| e.session == Some(*session));
                if held {
                    self.write(change, key, existing.as_deref(), write, Lock::Drop);
                }
                Outcome::Bool(held)
            }
            KvOp::Delete => {
                self.bury(change, existing);
                Outcome::Bool(true)
            }
            KvOp::DeleteCas { index } => {
                let made = existing.as_ref().is_none_or(|e| e.modify_index == *index);
                if made {
                    self.bury(change, existing);
                }
                Outcome::Bool(made)
            }
            KvOp::DeleteTree => {
                let doomed: Vec<_> = self.with_prefix(key).cloned().collect();
                self.bury(change, doomed);
                Outcome::Bool(true)
            }
        }
    }

    /// Ends the locks of a session that is gone.
    pub(super) fn drop_session(&mut self, change: &mut Change<'_>, session: &Session) {
        let Some(keys) = self.held.get(&session.id).cloned() else {
            return;
        };
        let delayed = keys.iter().cloned();
        self.delays.begin(change.index, session.lock_delay, delayed);
        let entries: Vec<_> = keys
            .iter()
            .filter_map(|key| self.entries.get(key).cloned())
            .collect();
        if session.behavior == Behavior::Delete {
            self.bury(change, entries);
            return;
        }
        for entry in entries {
            let write = KvWrite {
                value: entry.value.clone(),
                flags: entry.flags,
            };
            self.write(change, &entry.key, Some(&entry), &write, Lock::Drop);
        }
    }

    /// Forgets tombstones up to an index.
    pub(super) fn reap(&mut self, up_to: u64) {
        while let Some((index, _)) = self.graves.get_min().filter(|(index, _)| *index <= up_to) {
            let index = *index;
            let grave = self.graves.remove(&index);
            self.reaped = self.reaped.max(index);
            for key in grave.iter().flat_map(|grave| grave.keys.iter()) {
                if self.tombstones.get(key) == Some(&index) {
                    self.tombstones.remove(key);
                }
            }
        }
    }

    /// The last of the deletions that happened at or before a time.
    pub(super) fn expired(&self, before_unix_ms: u64) -> Option<u64> {
        // Stops at the first one that is too young: clocks differ between leaders, and reaping late is harmless.
        self.graves
            .iter()
            .take_while(|(_, grave)| grave.unix_ms <= before_unix_ms)
            .last()
            .map(|(index, _)| *index)
    }

    /// Entries with this prefix, by key.
    pub(super) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = &Arc<KvEntry>> {
        with_prefix(&self.entries, prefix).map(|(_, entry)| entry)
    }

    /// Keys with this prefix; with a separator, only up to its first occurrence behind the prefix, each once.
    pub(super) fn keys(&self, prefix: &str, separator: &str) -> Vec<Arc<str>> {
        if separator.is_empty() {
            return self.with_prefix(prefix).map(|e| e.key.clone()).collect();
        }
        let mut keys: Vec<Arc<str>> = Vec::new();
        let mut rest = with_prefix_from(&self.entries, prefix, prefix);
        let mut in_folder = 0;
        while let Some((key, _)) = rest.next() {
            let Some(at) = key[prefix.len()..].find(separator) else {
                keys.push(key.clone());
                continue;
            };
            let folder = &key[..prefix.len() + at + separator.len()];
            if keys.last().is_some_and(|last| **last == *folder) {
                in_folder += 1;
                // Once per folder: the few keys that sort even behind the bound are walked.
                if in_folder == SEEK_AFTER {
                    let beyond = format!("{folder}\u{10ffff}");
                    rest = with_prefix_from(&self.entries, prefix, &beyond);
                }
            } else {
                keys.push(Arc::from(folder));
                in_folder = 0;
            }
        }
        keys
    }

    /// The indexes of one key.
    pub(super) fn key_indexes(&self, key: &str) -> Indexes {
        match self.entries.get(key) {
            Some(entry) => Indexes::same(entry.modify_index),
            None => Indexes {
                shown: self.index,
                changed: self
                    .tombstones
                    .get(key)
                    .copied()
                    .unwrap_or(0)
                    .max(self.reaped),
            },
        }
    }

    /// The indexes of all keys with a prefix.
    pub(super) fn prefix_indexes(&self, prefix: &str) -> Indexes {
        if prefix.is_empty() {
            return Indexes::same(self.index);
        }
        let live = self.with_prefix(prefix).map(|entry| entry.modify_index);
        let dead = with_prefix(&self.tombstones, prefix).map(|(_, index)| *index);
        match live.chain(dead).max() {
            // Without the reaped index this one could fall when a tombstone goes, and a watcher that was away for
            // the life of the tombstone would never hear of the deletion.
            Some(last) => Indexes::same(last.max(self.reaped)),
            None => Indexes {
                shown: self.index,
                changed: self.reaped,
            },
        }
    }

    fn write(
        &mut self,
        change: &mut Change<'_>,
        key: &str,
        existing: Option<&KvEntry>,
        write: &KvWrite,
        lock: Lock,
    ) {
        let before = existing.and_then(|entry| entry.session);
        let session = match lock {
            Lock::Keep => before,
            Lock::Take(session) => Some(session),
            Lock::Drop => None,
        };
        if let Some(entry) = existing
            && entry.value == write.value
            && entry.flags == write.flags
            && entry.session == session
        {
            return;
        }
        // The name is shared with the entry that is replaced, so that overwriting allocates it once.
        let name = existing.map_or_else(|| Arc::from(key), |entry| entry.key.clone());
        let fresh_lock = session.is_some() && before.is_none();
        self.hold(&name, before, session);
        self.tombstones.remove(key);
        self.entries.insert(
            name.clone(),
            Arc::new(KvEntry {
                lock_index: existing.map_or(0, |entry| entry.lock_index) + u64::from(fresh_lock),
                key: name.clone(),
                flags: write.flags,
                value: write.value.clone(),
                session,
                create_index: existing.map_or(change.index, |entry| entry.create_index),
                modify_index: change.index,
            }),
        );
        self.index = change.index;
        change.touched.key(name);
    }

    /// Deletes entries, leaving tombstones.
    fn bury(&mut self, change: &mut Change<'_>, doomed: impl IntoIterator<Item = Arc<KvEntry>>) {
        let mut keys = Vec::new();
        for entry in doomed {
            self.entries.remove(&entry.key);
            self.tombstones.insert(entry.key.clone(), change.index);
            self.hold(&entry.key, entry.session, None);
            change.touched.key(entry.key.clone());
            keys.push(entry.key.clone());
        }
        if keys.is_empty() {
            return;
        }
        self.index = change.index;
        // One command can bury twice: a node's deregistration ends several sessions.
        let earlier = self.graves.remove(&change.index);
        let keys = earlier
            .iter()
            .flat_map(|grave| grave.keys.iter().cloned())
            .chain(keys)
            .collect();
        let unix_ms = change.unix_ms;
        self.graves.insert(change.index, Grave { unix_ms, keys });
    }

    fn hold(&mut self, key: &Arc<str>, before: Option<Uuid>, after: Option<Uuid>) {
        if before == after {
            return;
        }
        if let Some(session) = before
            && let Some(keys) = self.held.get_mut(&session)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.held.remove(&session);
            }
        }
        if let Some(session) = after {
            self.held.entry(session).or_default().insert(key.clone());
        }
    }
}

/// What a write does to the lock.
enum Lock {
    Keep,
    Take(Uuid),
    Drop,
}

/// Keys of one folder in a row after which a listing seeks behind the folder. A seek costs about as much as this
/// many steps.
const SEEK_AFTER: usize = 16;

fn with_prefix<'a, V: Clone>(
    map: &'a OrdMap<Arc<str>, V>,
    prefix: &str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> + use<'a, V> {
    with_prefix_from(map, prefix, prefix)
}

fn with_prefix_from<'a, V: Clone>(
    map: &'a OrdMap<Arc<str>, V>,
    prefix: &str,
    from: &str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> + use<'a, V> {
    let prefix: Box<str> = prefix.into();
    map.range::<_, str>((Bound::Included(from), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(&*prefix))
}
