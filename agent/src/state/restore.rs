//! Putting back a saved state, through the log so that every server does it.
//!
//! A state may be larger than an entry of the log, so it comes in parts, which are kept until one more command says
//! that these were all. Only then are they read; what cannot be read changes nothing. The rows get the index of that
//! command, as if all of them had been written by it: no index goes backwards, and whoever waits for a change sees one.

use std::sync::Arc;

use bytes::Bytes;
use imbl::Vector;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::{DecodeError, Outcome, Refusal};
use super::coordinates::Places;
use super::kv::{KvEntry, KvTable};
use super::lock_delay::LockDelays;
use super::session::{Session, Sessions};
use super::watch::Touched;
use super::{Autopilot, Change, Tables, snapshot};

/// Bytes of a saved state in one command.
pub const RESTORE_PART_BYTES: usize = 1 << 20;

/// Milliseconds after which parts are forgotten that nobody came back to.
const ABANDONED_AFTER_MS: u64 = 10 * 60 * 1000;

/// One step of a restore. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreStep {
    /// Keeps a part. The first one takes the place of whatever was kept.
    Part {
        /// Random, by whoever restores.
        id: Uuid,
        /// From 0, without gaps.
        number: u32,
        /// A piece of what `Store::encode` wrote.
        bytes: Bytes,
    },
    /// Reads the parts and puts them in place of the state.
    Commit {
        /// Of the parts.
        id: Uuid,
        /// How many there must be.
        parts: u32,
        /// CRC32C of all of them.
        crc32c: u32,
    },
}

/// Parts that are kept for a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Staging {
    pub(super) id: Uuid,
    /// When the last one came, by its proposer's clock.
    pub(super) unix_ms: u64,
    pub(super) parts: Vector<Bytes>,
}

/// One part as a snapshot holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StagedPart {
    pub(super) id: Uuid,
    pub(super) unix_ms: u64,
    pub(super) bytes: Bytes,
}

impl Staging {
    pub(super) fn dump(&self) -> impl Iterator<Item = StagedPart> {
        self.parts.iter().map(|bytes| StagedPart {
            id: self.id,
            unix_ms: self.unix_ms,
            bytes: bytes.clone(),
        })
    }

    pub(super) fn restore(parts: Vec<StagedPart>) -> Option<Self> {
        let first = parts.first()?;
        let (id, unix_ms) = (first.id, first.unix_ms);
        let parts = parts.into_iter().map(|part| part.bytes).collect();
        Some(Self { id, unix_ms, parts })
    }
}

impl Tables {
    /// Forgets parts that nobody came back to. Time is that of the command being applied.
    pub(super) fn forget_abandoned(&mut self, unix_ms: u64) {
        let old = |staging: &Staging| unix_ms > staging.unix_ms.saturating_add(ABANDONED_AFTER_MS);
        if self.staging.as_ref().is_some_and(old) {
            self.staging = None;
        }
    }

    pub(super) fn restore(&mut self, change: &mut Change<'_>, step: &RestoreStep) -> Outcome {
        match step {
            RestoreStep::Part { id, number, bytes } => self.stage(change, *id, *number, bytes),
            RestoreStep::Commit { id, parts, crc32c } => {
                let Some(staging) = self.staging.take_if(|staging| staging.id == *id) else {
                    return overtaken();
                };
                match read(&staging, *parts, *crc32c) {
                    Ok(saved) => {
                        self.become_saved(change, saved);
                        Outcome::Done
                    }
                    Err(why) => Outcome::refuse(Refusal::InvalidSnapshot, why),
                }
            }
        }
    }

    fn stage(&mut self, change: &Change<'_>, id: Uuid, number: u32, bytes: &Bytes) -> Outcome {
        if number == 0 {
            self.staging = Some(Staging {
                id,
                unix_ms: change.unix_ms,
                parts: Vector::new(),
            });
        }
        let next = |staging: &&mut Staging| {
            staging.id == id && u32::try_from(staging.parts.len()) == Ok(number)
        };
        let Some(staging) = self.staging.as_mut().filter(next) else {
            return overtaken();
        };
        staging.parts.push_back(bytes.clone());
        staging.unix_ms = change.unix_ms;
        Outcome::Done
    }

    /// Takes over everything but what belongs to this cluster and its log.
    fn become_saved(&mut self, change: &mut Change<'_>, saved: Tables) {
        let index = change.index;
        let Tables {
            kv,
            catalog,
            sessions,
            cluster_id: _,
            autopilot,
            prepared,
            places,
            entries: config_entries,
            virtual_ips,
            ca,
            acl,
            staging: _,
            last_index: _,
        } = saved;
        let entries = kv.entries.values().map(|entry| {
            Arc::new(KvEntry {
                create_index: entry.create_index.min(index),
                modify_index: index,
                ..KvEntry::clone(entry)
            })
        });
        self.kv = KvTable::restore(
            entries.collect(),
            Vec::new(),
            // The sessions behind them are of a time that is over.
            LockDelays::default(),
            index,
            index,
        );
        self.catalog = catalog.moved_to(index);
        let rows = sessions.rows.values().map(|session| {
            Arc::new(Session {
                create_index: session.create_index.min(index),
                modify_index: index,
                ..Session::clone(session)
            })
        });
        self.sessions = Sessions::restore(rows.collect(), index, index);
        if let Some(autopilot) = autopilot {
            self.autopilot = Some(Autopilot {
                create_index: autopilot.create_index.min(index),
                modify_index: index,
                ..autopilot
            });
        }
        self.prepared = prepared.moved_to(index);
        self.entries = config_entries.moved_to(index);
        self.virtual_ips = virtual_ips.moved_to(index);
        self.places = Places { index, ..places };
        // One of a state that had none stays: certificates of it are in use.
        if ca.config.is_some() {
            self.ca = ca.moved_to(index);
        }
        // Nor do tokens go because the state was saved before there were any: everybody would be locked out, or in.
        if !acl.is_empty() {
            self.acl = acl.moved_to(index);
        }
        *change.touched = Touched::everything();
    }
}

fn read(staging: &Staging, parts: u32, crc32c: u32) -> Result<Tables, String> {
    if u32::try_from(staging.parts.len()) != Ok(parts) {
        let found = staging.parts.len();
        return Err(format!("the saved state has {found} parts of {parts}"));
    }
    let crc = |crc, part: &Bytes| ::crc32c::crc32c_append(crc, part);
    if staging.parts.iter().fold(0, crc) != crc32c {
        return Err("the saved state does not have its checksum".to_owned());
    }
    decode(&staging.parts).map_err(|error| format!("the saved state cannot be read: {error}"))
}

fn decode(parts: &Vector<Bytes>) -> Result<Tables, DecodeError> {
    let mut decoder = snapshot::Decoder::default();
    for part in parts {
        decoder.push(part)?;
    }
    decoder.finish()
}

fn overtaken() -> Outcome {
    Outcome::refuse(
        Refusal::InvalidSnapshot,
        "another restore has begun, or this one took too long",
    )
}
