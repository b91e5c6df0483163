//! All tables as bytes.
//!
//! A version (`u32`), then sections: a tag (`u8`), a length (`u64`), and so many bytes of postcard, row after row.
//! Numbers are little endian. A table may have several sections; one without is empty; a section that is unknown is an
//! error, because dropping it would lose data. New kinds of rows get a new tag; a changed row needs a new version.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Tables;
use super::acl::{self, Acl};
use super::autopilot::Autopilot;
use super::ca::{Ca, CaConfig, CaRoot};
use super::catalog::first::FirstNodeDump;
use super::catalog::{Catalog, NodeDump};
use super::command::DecodeError;
use super::coordinates::{NodePlace, Places};
use super::entries::{ConfigEntry, Entries};
use super::kv::{Grave, KvEntry, KvTable};
use super::lock_delay::{LockDelay, LockDelays};
use super::prepared::{Prepared, PreparedQuery};
use super::restore::{StagedPart, Staging};
use super::session::{Session, Sessions};
use super::virtual_ips::{Counters, VirtualIp, VirtualIps};

const VERSION: u32 = 1;

const INDEXES: u8 = 1;
const KV: u8 = 2;
const GRAVES: u8 = 3;
/// As the first release wrote them.
const FIRST_NODES: u8 = 4;
const SERVICE_INDEXES: u8 = 5;
const SESSIONS: u8 = 6;
const LOCK_DELAYS: u8 = 7;
const AUTOPILOT: u8 = 8;
const STAGING: u8 = 9;
const NODES: u8 = 10;
const MESH_INDEXES: u8 = 11;
const PREPARED: u8 = 12;
const PREPARED_INDEX: u8 = 13;
const PLACES: u8 = 14;
const PLACES_INDEX: u8 = 15;
const ENTRIES: u8 = 16;
const ENTRIES_INDEX: u8 = 17;
const GATEWAYS_INDEX: u8 = 30;
const VIRTUAL_IPS: u8 = 31;
const VIRTUAL_COUNTERS: u8 = 32;
const VIRTUAL_FREE: u8 = 33;
const CA_CONFIG: u8 = 18;
const CA_ROOTS: u8 = 19;
const CA_ROOTS_INDEX: u8 = 20;
const ACL_TOKENS: u8 = 21;
const ACL_POLICIES: u8 = 22;
const ACL_ROLES: u8 = 23;
const ACL_METHODS: u8 = 24;
const ACL_RULES: u8 = 25;
const ACL_STATE: u8 = 26;

/// What is no row. One row in its section.
#[derive(Default, Serialize, Deserialize)]
struct TableState {
    last_index: u64,
    cluster_id: Option<(Uuid, u64)>,
    kv: u64,
    kv_reaped: u64,
    sessions: u64,
    sessions_ended: u64,
    catalog: super::catalog::TableIndexes,
}

/// Bytes of rows after which a piece is ended.
const PIECE: usize = 256 * 1024;

/// Longest row that is believed, beyond which bytes are not gathered for it.
const ROW_BYTES_MAX: usize = 64 << 20;

/// Writes every table, piece by piece, so that nobody needs to hold all of it; all pieces in order are the encoded form.
/// Stops at the first error of `emit`.
pub(super) fn encode<E>(
    tables: &Tables,
    emit: impl FnMut(Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let Tables {
        kv,
        catalog,
        sessions,
        cluster_id,
        autopilot,
        prepared,
        places,
        entries,
        virtual_ips,
        ca,
        acl,
        staging,
        last_index,
    } = tables;
    let state = TableState {
        last_index: *last_index,
        cluster_id: *cluster_id,
        kv: kv.index,
        kv_reaped: kv.reaped,
        sessions: sessions.index,
        sessions_ended: sessions.ended,
        catalog: catalog.index,
    };
    let mut pieces = Pieces {
        piece: VERSION.to_le_bytes().to_vec(),
        emit,
    };
    pieces.rows(INDEXES, [state])?;
    pieces.rows(KV, kv.entries.values())?;
    pieces.rows(GRAVES, kv.graves.iter())?;
    pieces.rows(NODES, catalog.dump())?;
    let services = catalog.services.iter().map(|(name, row)| (name, row.index));
    pieces.rows(SERVICE_INDEXES, services)?;
    let mesh = catalog.mesh.iter().map(|(name, row)| (name, row.index));
    pieces.rows(MESH_INDEXES, mesh)?;
    pieces.rows(SESSIONS, sessions.rows.values())?;
    pieces.rows(LOCK_DELAYS, kv.delays.rows())?;
    pieces.rows(AUTOPILOT, autopilot)?;
    let parts = staging.iter().flat_map(Staging::dump);
    pieces.rows(STAGING, parts)?;
    pieces.rows(PREPARED, prepared.rows.values())?;
    let index = Some(prepared.index).filter(|index| *index > 0);
    pieces.rows(PREPARED_INDEX, index)?;
    pieces.rows(PLACES, places.rows.values())?;
    let index = Some(places.index).filter(|index| *index > 0);
    pieces.rows(PLACES_INDEX, index)?;
    pieces.rows(ENTRIES, entries.rows.values())?;
    let index = Some(entries.index).filter(|index| *index > 0);
    pieces.rows(ENTRIES_INDEX, index)?;
    let index = Some(entries.gateways).filter(|index| *index > 0);
    pieces.rows(GATEWAYS_INDEX, index)?;
    pieces.rows(VIRTUAL_IPS, virtual_ips.rows.values())?;
    let counters = Some(virtual_ips.counters).filter(|counters| counters.begun);
    pieces.rows(VIRTUAL_COUNTERS, counters)?;
    pieces.rows(VIRTUAL_FREE, virtual_ips.free.iter())?;
    pieces.rows(CA_CONFIG, &ca.config)?;
    pieces.rows(CA_ROOTS, ca.roots.iter())?;
    let index = Some(ca.roots_index).filter(|index| *index > 0);
    pieces.rows(CA_ROOTS_INDEX, index)?;
    let parts = acl.parts();
    pieces.rows(ACL_TOKENS, parts.tokens)?;
    pieces.rows(ACL_POLICIES, parts.policies)?;
    pieces.rows(ACL_ROLES, parts.roles)?;
    pieces.rows(ACL_METHODS, parts.methods)?;
    pieces.rows(ACL_RULES, parts.rules)?;
    pieces.rows(ACL_STATE, (!acl.is_empty()).then_some(parts.state))?;
    pieces.end()
}

/// Rows of each kind with their encoded bytes, largest first.
pub(super) fn sizes(tables: &Tables) -> Vec<(&'static str, usize, usize)> {
    fn of<T: Serialize>(rows: impl IntoIterator<Item = T>) -> (usize, usize) {
        let len = |row: T| postcard::to_stdvec(&row).map_or(0, |bytes| bytes.len());
        rows.into_iter()
            .fold((0, 0), |(count, bytes), row| (count + 1, bytes + len(row)))
    }
    let Tables {
        kv,
        catalog,
        sessions,
        cluster_id: _,
        autopilot,
        prepared,
        places,
        entries,
        virtual_ips,
        ca,
        acl,
        staging: _,
        last_index: _,
    } = tables;
    let acl = acl.parts();
    let kinds = [
        ("KVS", of(kv.entries.values())),
        ("Tombstone", of(kv.graves.iter())),
        ("Register", of(catalog.dump())),
        ("Session", of(sessions.rows.values())),
        ("Autopilot", of(autopilot)),
        ("PreparedQuery", of(prepared.rows.values())),
        ("ConfigEntry", of(entries.rows.values())),
        ("FreeVirtualIP", of(virtual_ips.free.iter())),
        ("ServiceVirtualIP", of(virtual_ips.rows.values())),
        ("ConnectCA", of(ca.roots.iter())),
        ("ConnectCAConfig", of(&ca.config)),
        ("CoordinateBatchUpdate", of(places.rows.values())),
        ("ACLToken", of(acl.tokens)),
        ("ACLPolicy", of(acl.policies)),
        ("ACLRole", of(acl.roles)),
        ("ACLAuthMethod", of(acl.methods)),
        ("ACLBindingRule", of(acl.rules)),
    ];
    let mut kinds: Vec<_> = kinds
        .into_iter()
        .filter(|(_, (count, _))| *count > 0)
        .map(|(kind, (count, bytes))| (kind, count, bytes))
        .collect();
    kinds.sort_by_key(|(kind, _, bytes)| (std::cmp::Reverse(*bytes), *kind));
    kinds
}

struct Pieces<F> {
    piece: Vec<u8>,
    emit: F,
}

impl<E, F: FnMut(Vec<u8>) -> Result<(), E>> Pieces<F> {
    /// A section, or as many with the same tag as pieces are begun within it.
    fn rows<T: Serialize>(&mut self, tag: u8, rows: impl IntoIterator<Item = T>) -> Result<(), E> {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            self.piece.push(tag);
            let start = self.piece.len() + 8;
            self.piece.extend([0; 8]);
            while self.piece.len() < PIECE
                && let Some(row) = rows.next()
            {
                self.piece = postcard::to_extend(&row, std::mem::take(&mut self.piece)).expect(
                    "a vector takes every byte, and no field is a sequence of unknown length",
                );
            }
            let len = (self.piece.len() - start) as u64;
            self.piece[start - 8..start].copy_from_slice(&len.to_le_bytes());
            if self.piece.len() >= PIECE {
                self.end()?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), E> {
        if self.piece.is_empty() {
            return Ok(());
        }
        (self.emit)(std::mem::take(&mut self.piece))
    }
}

/// Reads what [`encode`] wrote, in pieces of any length.
#[derive(Default)]
pub(super) struct Decoder {
    /// Bytes that were given and not understood yet: less than a row and what came with its last piece.
    rest: Vec<u8>,
    version: bool,
    /// Tag of the present section, and how many of its bytes are still to come.
    section: Option<(u8, u64)>,
    rows: Rows,
}

#[derive(Default)]
struct Rows {
    state: Vec<TableState>,
    entries: Vec<Arc<KvEntry>>,
    graves: Vec<(u64, Grave)>,
    first_nodes: Vec<FirstNodeDump>,
    nodes: Vec<NodeDump>,
    services: Vec<(String, u64)>,
    mesh: Vec<(String, u64)>,
    sessions: Vec<Arc<Session>>,
    delays: Vec<(Arc<str>, LockDelay)>,
    autopilot: Vec<Autopilot>,
    staging: Vec<StagedPart>,
    prepared: Vec<Arc<PreparedQuery>>,
    prepared_index: Vec<u64>,
    places: Vec<Arc<NodePlace>>,
    places_index: Vec<u64>,
    config_entries: Vec<Arc<ConfigEntry>>,
    config_entries_index: Vec<u64>,
    gateways_index: Vec<u64>,
    virtual_ips: Vec<Arc<VirtualIp>>,
    virtual_counters: Vec<Counters>,
    virtual_free: Vec<u32>,
    ca_config: Vec<Arc<CaConfig>>,
    ca_roots: Vec<Arc<CaRoot>>,
    ca_roots_index: Vec<u64>,
    acl: acl::Parts,
    acl_state: Vec<acl::State>,
}

impl Decoder {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.rest.extend_from_slice(bytes);
        let given = std::mem::take(&mut self.rest);
        let mut rest = given.as_slice();
        while self.step(&mut rest)? {}
        if rest.len() > ROW_BYTES_MAX {
            return Err(CUT);
        }
        self.rest = rest.to_vec();
        Ok(())
    }

    /// Understands a part of `bytes`; false when more are needed first.
    fn step(&mut self, bytes: &mut &[u8]) -> Result<bool, DecodeError> {
        if !self.version {
            let Some((version, rest)) = bytes.split_first_chunk() else {
                return Ok(false);
            };
            let found = u32::from_le_bytes(*version);
            if found != VERSION {
                return Err(DecodeError::Version {
                    found,
                    understood: VERSION,
                });
            }
            (self.version, *bytes) = (true, rest);
            return Ok(true);
        }
        match self.section {
            Some((_, 0)) => {
                self.section = None;
                Ok(true)
            }
            Some((tag, left)) => {
                let there = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let used = self.rows.take(tag, &bytes[..there], there as u64 == left)?;
                *bytes = &bytes[used..];
                self.section = Some((tag, left - used as u64));
                Ok(used > 0)
            }
            None => {
                let Some(([tag, len @ ..], rest)) = bytes.split_first_chunk::<9>() else {
                    return Ok(false);
                };
                self.section = Some((*tag, u64::from_le_bytes(*len)));
                *bytes = rest;
                Ok(true)
            }
        }
    }

    /// The tables, when everything has been given.
    pub(super) fn finish(self) -> Result<Tables, DecodeError> {
        if !self.version {
            return Err(if self.rest.is_empty() {
                DecodeError::Empty
            } else {
                CUT
            });
        }
        if !self.rest.is_empty() || self.section.is_some_and(|(_, left)| left > 0) {
            return Err(CUT);
        }
        self.rows.tables()
    }
}

impl Rows {
    /// Takes the rows of a section; the number of bytes that they had. `complete`: there are no more.
    fn take(&mut self, tag: u8, bytes: &[u8], complete: bool) -> Result<usize, DecodeError> {
        match tag {
            INDEXES => rows(bytes, complete, &mut self.state),
            KV => rows(bytes, complete, &mut self.entries),
            GRAVES => rows(bytes, complete, &mut self.graves),
            FIRST_NODES => rows(bytes, complete, &mut self.first_nodes),
            NODES => rows(bytes, complete, &mut self.nodes),
            MESH_INDEXES => rows(bytes, complete, &mut self.mesh),
            SERVICE_INDEXES => rows(bytes, complete, &mut self.services),
            SESSIONS => rows(bytes, complete, &mut self.sessions),
            LOCK_DELAYS => rows(bytes, complete, &mut self.delays),
            AUTOPILOT => rows(bytes, complete, &mut self.autopilot),
            STAGING => rows(bytes, complete, &mut self.staging),
            PREPARED => rows(bytes, complete, &mut self.prepared),
            PREPARED_INDEX => rows(bytes, complete, &mut self.prepared_index),
            PLACES => rows(bytes, complete, &mut self.places),
            PLACES_INDEX => rows(bytes, complete, &mut self.places_index),
            ENTRIES => rows(bytes, complete, &mut self.config_entries),
            ENTRIES_INDEX => rows(bytes, complete, &mut self.config_entries_index),
            GATEWAYS_INDEX => rows(bytes, complete, &mut self.gateways_index),
            VIRTUAL_IPS => rows(bytes, complete, &mut self.virtual_ips),
            VIRTUAL_COUNTERS => rows(bytes, complete, &mut self.virtual_counters),
            VIRTUAL_FREE => rows(bytes, complete, &mut self.virtual_free),
            CA_CONFIG => rows(bytes, complete, &mut self.ca_config),
            CA_ROOTS => rows(bytes, complete, &mut self.ca_roots),
            CA_ROOTS_INDEX => rows(bytes, complete, &mut self.ca_roots_index),
            ACL_TOKENS => rows(bytes, complete, &mut self.acl.tokens),
            ACL_POLICIES => rows(bytes, complete, &mut self.acl.policies),
            ACL_ROLES => rows(bytes, complete, &mut self.acl.roles),
            ACL_METHODS => rows(bytes, complete, &mut self.acl.methods),
            ACL_RULES => rows(bytes, complete, &mut self.acl.rules),
            ACL_STATE => rows(bytes, complete, &mut self.acl_state),
            tag => Err(DecodeError::Section { tag }),
        }
    }

    fn tables(mut self) -> Result<Tables, DecodeError> {
        if self.autopilot.len() > 1 {
            return Err(DecodeError::Inconsistent {
                what: "more than one row of autopilot",
            });
        }
        let state: TableState = match <[TableState; 1]>::try_from(self.state) {
            Ok([state]) => state,
            Err(_) => {
                return Err(DecodeError::Inconsistent {
                    what: "not exactly one section of indexes",
                });
            }
        };
        let first = self.first_nodes.into_iter().map(NodeDump::from);
        self.nodes.extend(first);
        Ok(Tables {
            kv: KvTable::restore(
                self.entries,
                self.graves,
                LockDelays::restore(self.delays),
                state.kv,
                state.kv_reaped,
            ),
            catalog: Catalog::restore(self.nodes, self.services, self.mesh, state.catalog),
            sessions: Sessions::restore(self.sessions, state.sessions, state.sessions_ended),
            cluster_id: state.cluster_id,
            autopilot: self.autopilot.pop(),
            staging: Staging::restore(self.staging),
            prepared: Prepared::restore(self.prepared, self.prepared_index.pop().unwrap_or(0)),
            places: Places::restore(self.places, self.places_index.pop().unwrap_or(0)),
            entries: Entries::restore(
                self.config_entries,
                self.config_entries_index.pop().unwrap_or(0),
                self.gateways_index.pop().unwrap_or(0),
            ),
            virtual_ips: VirtualIps::restore(
                self.virtual_ips,
                self.virtual_counters.pop().unwrap_or_default(),
                self.virtual_free,
            ),
            ca: Ca::restore(
                self.ca_config.pop(),
                self.ca_roots,
                self.ca_roots_index.pop().unwrap_or(0),
            ),
            acl: Acl::restore(acl::Parts {
                state: self.acl_state.pop().unwrap_or_default(),
                ..self.acl
            }),
            last_index: state.last_index,
        })
    }
}

const CUT: DecodeError = DecodeError::Inconsistent {
    what: "a section is cut",
};

fn rows<T: DeserializeOwned>(
    bytes: &[u8],
    complete: bool,
    into: &mut Vec<T>,
) -> Result<usize, DecodeError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match postcard::take_from_bytes(rest) {
            Ok((row, after)) => {
                into.push(row);
                rest = after;
            }
            Err(postcard::Error::DeserializeUnexpectedEnd) if !complete => break,
            Err(source) => return Err(DecodeError::Malformed { source }),
        }
    }
    Ok(bytes.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(tables: &Tables) -> Vec<u8> {
        let mut bytes = Vec::new();
        let done: Result<(), ()> = encode(tables, |piece| {
            bytes.extend_from_slice(&piece);
            Ok(())
        });
        done.unwrap();
        bytes
    }

    fn decode(bytes: &[u8], step: usize) -> Result<Tables, DecodeError> {
        let mut decoder = Decoder::default();
        for piece in bytes.chunks(step) {
            decoder.push(piece)?;
        }
        decoder.finish()
    }

    fn with_keys(keys: usize, len: usize) -> Tables {
        let entries = (0..keys).map(|number| {
            Arc::new(KvEntry {
                key: format!("{number:06}").into(),
                value: vec![number as u8; len].into(),
                flags: 0,
                create_index: 1,
                modify_index: 1,
                lock_index: 0,
                session: None,
            })
        });
        Tables {
            kv: KvTable::restore(entries.collect(), Vec::new(), LockDelays::default(), 1, 0),
            last_index: 1,
            ..Tables::default()
        }
    }

    #[test]
    fn an_empty_store_survives() {
        let tables = decode(&encoded(&Tables::default()), 1).unwrap();
        assert!(tables == Tables::default());
    }

    #[test]
    fn pieces_are_bounded_and_may_be_cut_anywhere() {
        let tables = with_keys(3000, 300);
        let mut pieces = Vec::new();
        let done: Result<(), ()> = encode(&tables, |piece| {
            pieces.push(piece.len());
            Ok(())
        });
        done.unwrap();
        assert!(pieces.len() > 2, "{pieces:?}");
        assert!(pieces.iter().all(|len| *len < PIECE + 1000), "{pieces:?}");
        let bytes = encoded(&tables);
        for step in [7, 1000, 65_537, bytes.len()] {
            assert!(
                decode(&bytes, step).unwrap() == tables,
                "in steps of {step}"
            );
        }
        let stopped = encode(&tables, |_| Err("full"));
        assert_eq!(stopped, Err("full"));
    }

    #[test]
    fn damage_is_an_error_and_never_a_smaller_store() {
        let bytes = encoded(&with_keys(20, 10));
        for len in 0..bytes.len() {
            // A cut between two sections is the checksum's to find; every other one is seen here.
            let at_boundary = decode(&bytes[..len], 64).is_ok();
            let sections_seen = bytes[..len].len() >= 4 + 9;
            assert!(!at_boundary || sections_seen, "cut at {len}");
        }
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert!(matches!(
            decode(&newer, 64),
            Err(DecodeError::Version { found: 2, .. })
        ));
        let mut unknown = bytes.clone();
        unknown.extend([99, 1, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert!(matches!(
            decode(&unknown, 64),
            Err(DecodeError::Section { tag: 99 })
        ));
        let mut twice = bytes.clone();
        twice.extend_from_slice(&bytes[4..]);
        assert!(matches!(
            decode(&twice, 64),
            Err(DecodeError::Inconsistent { .. })
        ));
        let mut endless = bytes[..4].to_vec();
        endless.push(KV);
        endless.extend(u64::MAX.to_le_bytes());
        // A key that would be longer than all memory.
        endless.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(decode(&endless, 4).is_err());
    }

    #[test]
    fn no_snapshot_makes_the_decoder_panic() {
        let seeds = [encoded(&Tables::default()), encoded(&with_keys(3, 10))];
        crate::fuzz::run("snapshot", &seeds, |bytes| {
            let decoded = decode(bytes, 16);
            decoded.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
        });
    }
}
