//! All tables as bytes.
//!
//! A version (`u32`), then sections: a tag (`u8`), a length (`u64`), and so many bytes of postcard, row after row.
//! Numbers are little endian. A section that is missing is empty; one that is unknown is an error, because dropping
//! it would lose data. New kinds of rows get a new tag; a changed row needs a new version.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Tables;
use super::catalog::Catalog;
use super::command::DecodeError;
use super::kv::KvTable;
use super::lock_delay::LockDelays;
use super::session::Sessions;

const VERSION: u32 = 1;

const INDEXES: u8 = 1;
const KV: u8 = 2;
const GRAVES: u8 = 3;
const NODES: u8 = 4;
const SERVICE_INDEXES: u8 = 5;
const SESSIONS: u8 = 6;
const LOCK_DELAYS: u8 = 7;

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

/// Writes every table.
pub(super) fn encode(tables: &Tables) -> Vec<u8> {
    let Tables {
        kv,
        catalog,
        sessions,
        cluster_id,
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
    let mut out = VERSION.to_le_bytes().to_vec();
    section(&mut out, INDEXES, [state]);
    section(&mut out, KV, kv.entries.values());
    section(&mut out, GRAVES, kv.graves.iter());
    section(&mut out, NODES, catalog.dump());
    let services = catalog.services.iter().map(|(name, row)| (name, row.index));
    section(&mut out, SERVICE_INDEXES, services);
    section(&mut out, SESSIONS, sessions.rows.values());
    section(&mut out, LOCK_DELAYS, kv.delays.rows());
    out
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<Tables, DecodeError> {
    let (version, mut rest) = bytes.split_first_chunk().ok_or(DecodeError::Empty)?;
    let found = u32::from_le_bytes(*version);
    if found != VERSION {
        return Err(DecodeError::Version {
            found,
            understood: VERSION,
        });
    }
    let (mut state, mut entries, mut graves) = (Vec::new(), Vec::new(), Vec::new());
    let (mut nodes, mut services, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
    let mut delays = Vec::new();
    while let Some((tag, after)) = rest.split_first() {
        let (len, after) = after.split_first_chunk().ok_or(CUT)?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| CUT)?;
        let (body, after) = after.split_at_checked(len).ok_or(CUT)?;
        match *tag {
            INDEXES => rows(body, &mut state)?,
            KV => rows(body, &mut entries)?,
            GRAVES => rows(body, &mut graves)?,
            NODES => rows(body, &mut nodes)?,
            SERVICE_INDEXES => rows(body, &mut services)?,
            SESSIONS => rows(body, &mut sessions)?,
            LOCK_DELAYS => rows(body, &mut delays)?,
            tag => return Err(DecodeError::Section { tag }),
        }
        rest = after;
    }
    let state: TableState = match <[TableState; 1]>::try_from(state) {
        Ok([state]) => state,
        Err(_) => {
            return Err(DecodeError::Inconsistent {
                what: "not exactly one section of indexes",
            });
        }
    };
    let services: BTreeMap<String, u64> = services.into_iter().collect();
    Ok(Tables {
        kv: KvTable::restore(
            entries,
            graves,
            LockDelays::restore(delays),
            state.kv,
            state.kv_reaped,
        ),
        catalog: Catalog::restore(nodes, services, state.catalog),
        sessions: Sessions::restore(sessions, state.sessions, state.sessions_ended),
        cluster_id: state.cluster_id,
        last_index: state.last_index,
    })
}

const CUT: DecodeError = DecodeError::Inconsistent {
    what: "a section is cut",
};

fn section<T: Serialize>(out: &mut Vec<u8>, tag: u8, rows: impl IntoIterator<Item = T>) {
    out.push(tag);
    let len_at = out.len();
    out.extend([0; 8]);
    for row in rows {
        // Into the same buffer: a store of gigabytes must not be held three times.
        *out = postcard::to_extend(&row, std::mem::take(out))
            .expect("a vector takes every byte, and no field is a sequence of unknown length");
    }
    let len = (out.len() - len_at - 8) as u64;
    out[len_at..len_at + 8].copy_from_slice(&len.to_le_bytes());
}

fn rows<T: DeserializeOwned>(mut body: &[u8], into: &mut Vec<T>) -> Result<(), DecodeError> {
    while !body.is_empty() {
        let (row, rest) =
            postcard::take_from_bytes(body).map_err(|source| DecodeError::Malformed { source })?;
        into.push(row);
        body = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_empty_store_survives() {
        let tables = decode(&encode(&Tables::default())).unwrap();
        assert!(tables == Tables::default());
    }

    #[test]
    fn damage_is_an_error_and_never_a_smaller_store() {
        let bytes = encode(&Tables::default());
        for len in 0..bytes.len() {
            // A cut between two sections is the checksum's to find; every other one is seen here.
            let at_boundary = decode(&bytes[..len]).is_ok();
            let sections_seen = bytes[..len].len() >= 4 + 9;
            assert!(!at_boundary || sections_seen, "cut at {len}");
        }
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert!(matches!(
            decode(&newer),
            Err(DecodeError::Version { found: 2, .. })
        ));
        let mut unknown = bytes.clone();
        unknown.extend([99, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(
            decode(&unknown),
            Err(DecodeError::Section { tag: 99 })
        ));
        let mut twice = bytes.clone();
        twice.extend_from_slice(&bytes[4..]);
        assert!(matches!(
            decode(&twice),
            Err(DecodeError::Inconsistent { .. })
        ));
    }

    #[test]
    fn rows_are_shared_types_in_binary_form_too() {
        let row: (Arc<str>, u64) = ("a".into(), 7);
        let mut out = Vec::new();
        section(&mut out, KV, [&row]);
        let mut read: Vec<(Arc<str>, u64)> = Vec::new();
        rows(&out[9..], &mut read).unwrap();
        assert_eq!(read, [row]);
    }
}
