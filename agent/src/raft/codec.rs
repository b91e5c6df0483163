//! Our own wire and disk forms of openraft's types. Pure.
//!
//! openraft declares its serde forms unstable, so nothing of ours is written with them. Each type has a `Wire`
//! twin with serde derives, whose postcard form is fixed by this file alone: fields are never reordered, new ones
//! need a new [`VERSION`]. Stand-alone values start with the version byte; a `Wire` struct inside a message of the
//! server RPC is versioned by that message.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use openraft::vote::leader_id_std::CommittedLeaderId;
use openraft::{EntryPayload, Membership};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::types::{Entry, LogId, Payload, PeerNode, RaftId, SnapshotMeta, StoredMembership, Vote};

/// First byte of every stand-alone value.
pub const VERSION: u8 = 1;

/// Bytes before an entry's payload: version, kind, term and index.
pub const ENTRY_HEADER_BYTES: usize = 18;

const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Why bytes could not be turned into a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Written by a newer program, or not one of our values at all.
    #[error("unknown format version {0}, this program reads {VERSION}")]
    Version(u8),
    /// The bytes end too early.
    #[error("value is cut short")]
    Truncated,
    /// An entry of a kind that this program does not know.
    #[error("unknown kind of log entry {0}")]
    Kind(u8),
    /// Bytes remain after the value.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// The bytes do not have the value's shape.
    #[error("malformed value: {0}")]
    Malformed(#[from] postcard::Error),
    /// A membership whose voters are empty or not among its nodes.
    #[error("invalid membership: {0}")]
    Membership(String),
}

/// [`LogId`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WireLogId {
    /// Term of the leader that proposed the entry.
    pub term: u64,
    /// Position in the log, from 0.
    pub index: u64,
}

/// [`Vote`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireVote {
    /// Term voted in.
    pub term: u64,
    /// Candidate voted for.
    pub voted_for: RaftId,
    /// Whether a quorum has granted it, which makes `voted_for` the leader.
    pub committed: bool,
}

/// One server of a membership on the wire: [`RaftId`] and [`PeerNode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePeer {
    /// Raft id.
    pub id: RaftId,
    /// Consul node id.
    pub node_id: [u8; 16],
    /// Node name.
    pub name: String,
    /// Server RPC address.
    pub addr: SocketAddr,
}

/// openraft's membership on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireMembership {
    /// Voters; two sets while a change is under way (joint consensus).
    pub configs: Vec<Vec<RaftId>>,
    /// Every server, by id. Those in no set of `configs` are learners.
    pub peers: Vec<WirePeer>,
}

/// [`StoredMembership`] on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireStoredMembership {
    /// The entry that set it; `None` for the empty membership of a pristine server.
    pub log_id: Option<WireLogId>,
    /// The membership.
    pub membership: WireMembership,
}

/// [`SnapshotMeta`] on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireSnapshotMeta {
    /// Last entry whose effect the snapshot holds.
    pub last_log_id: Option<WireLogId>,
    /// Last membership applied.
    pub last_membership: WireStoredMembership,
}

impl From<&LogId> for WireLogId {
    fn from(id: &LogId) -> Self {
        Self {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl From<LogId> for WireLogId {
    fn from(id: LogId) -> Self {
        Self::from(&id)
    }
}

impl From<WireLogId> for LogId {
    fn from(id: WireLogId) -> Self {
        Self::new(CommittedLeaderId::new(id.term), id.index)
    }
}

impl From<&Vote> for WireVote {
    fn from(vote: &Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            voted_for: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<Vote> for WireVote {
    fn from(vote: Vote) -> Self {
        Self::from(&vote)
    }
}

impl From<WireVote> for Vote {
    fn from(vote: WireVote) -> Self {
        if vote.committed {
            Self::new_committed(vote.term, vote.voted_for)
        } else {
            Self::new(vote.term, vote.voted_for)
        }
    }
}

impl From<&Membership<RaftId, PeerNode>> for WireMembership {
    fn from(membership: &Membership<RaftId, PeerNode>) -> Self {
        let peer = |(id, node): (&RaftId, &PeerNode)| {
            let PeerNode {
                node_id,
                name,
                addr,
            } = node;
            WirePeer {
                id: *id,
                node_id: node_id.into_bytes(),
                name: name.clone(),
                addr: *addr,
            }
        };
        Self {
            configs: membership
                .get_joint_config()
                .iter()
                .map(|voters| voters.iter().copied().collect())
                .collect(),
            peers: membership.nodes().map(peer).collect(),
        }
    }
}

impl TryFrom<WireMembership> for Membership<RaftId, PeerNode> {
    type Error = Error;

    fn try_from(wire: WireMembership) -> Result<Self, Error> {
        let configs: Vec<BTreeSet<RaftId>> = wire
            .configs
            .into_iter()
            .map(|voters| voters.into_iter().collect())
            .collect();
        let nodes: BTreeMap<RaftId, PeerNode> = wire
            .peers
            .into_iter()
            .map(|peer| {
                let node = PeerNode {
                    node_id: Uuid::from_bytes(peer.node_id),
                    name: peer.name,
                    addr: peer.addr,
                };
                (peer.id, node)
            })
            .collect();
        Self::new(configs, nodes).map_err(|e| Error::Membership(e.to_string()))
    }
}

impl From<&StoredMembership> for WireStoredMembership {
    fn from(stored: &StoredMembership) -> Self {
        Self {
            log_id: stored.log_id().as_ref().map(WireLogId::from),
            membership: WireMembership::from(stored.membership()),
        }
    }
}

impl TryFrom<WireStoredMembership> for StoredMembership {
    type Error = Error;

    fn try_from(wire: WireStoredMembership) -> Result<Self, Error> {
        Ok(Self::new(
            wire.log_id.map(LogId::from),
            wire.membership.try_into()?,
        ))
    }
}

impl From<&SnapshotMeta> for WireSnapshotMeta {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last_log_id: meta.last_log_id.as_ref().map(WireLogId::from),
            last_membership: WireStoredMembership::from(&meta.last_membership),
        }
    }
}

impl TryFrom<WireSnapshotMeta> for SnapshotMeta {
    type Error = Error;

    fn try_from(wire: WireSnapshotMeta) -> Result<Self, Error> {
        Ok(Self {
            last_log_id: wire.last_log_id.map(LogId::from),
            last_membership: wire.last_membership.try_into()?,
        })
    }
}

/// Encodes a `Wire` value to stand alone: the version byte, then postcard.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Our values are plain data without maps of unknown length, which is all that postcard refuses.
    postcard::to_extend(value, vec![VERSION]).expect("plain data always has a postcard form")
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// Anything but exactly one value of this version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let body = check_version(bytes)?;
    let (value, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(Error::Trailing(rest.len()))
    }
}

/// Appends the stand-alone form of `entry` to `out`: version, kind, term and index (little endian), then the
/// payload up to the end. Its length is the caller's to keep.
pub fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    let kind = match &entry.payload {
        EntryPayload::Blank => KIND_BLANK,
        EntryPayload::Normal(_) => KIND_NORMAL,
        EntryPayload::Membership(_) => KIND_MEMBERSHIP,
    };
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&entry.log_id.leader_id.term.to_le_bytes());
    out.extend_from_slice(&entry.log_id.index.to_le_bytes());
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(Payload(bytes)) => out.extend_from_slice(bytes),
        EntryPayload::Membership(membership) => {
            out.extend_from_slice(&encode(&WireMembership::from(membership)));
        }
    }
}

/// Decodes what [`encode_entry`] made, copying the payload.
///
/// # Errors
/// Anything but exactly one entry of this version.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, Error> {
    decode_entry_with(bytes, Bytes::copy_from_slice)
}

/// Decodes what [`encode_entry`] made; the payload shares the memory of `bytes`.
///
/// # Errors
/// Anything but exactly one entry of this version.
pub fn decode_entry_shared(bytes: &Bytes) -> Result<Entry, Error> {
    decode_entry_with(bytes, |payload| bytes.slice_ref(payload))
}

fn decode_entry_with(bytes: &[u8], own: impl FnOnce(&[u8]) -> Bytes) -> Result<Entry, Error> {
    check_version(bytes)?;
    let (header, payload) = bytes
        .split_at_checked(ENTRY_HEADER_BYTES)
        .ok_or(Error::Truncated)?;
    let number = |at: usize| {
        let mut le = [0; 8];
        le.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(le)
    };
    let log_id = LogId::from(WireLogId {
        term: number(2),
        index: number(10),
    });
    let payload = match header[1] {
        KIND_BLANK if payload.is_empty() => EntryPayload::Blank,
        KIND_BLANK => return Err(Error::Trailing(payload.len())),
        KIND_NORMAL => EntryPayload::Normal(Payload(own(payload))),
        KIND_MEMBERSHIP => EntryPayload::Membership(decode::<WireMembership>(payload)?.try_into()?),
        kind => return Err(Error::Kind(kind)),
    };
    Ok(Entry { log_id, payload })
}

/// Appends each entry of `entries`, preceded by its length (`u32`, little endian), to `out`.
pub fn encode_entries(entries: &[Entry], out: &mut Vec<u8>) {
    for entry in entries {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        encode_entry(entry, out);
        let len = u32::try_from(out.len() - start - 4).expect("an entry is far below 4 GiB");
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    }
}

/// Decodes what [`encode_entries`] made; payloads share the memory of `bytes`.
///
/// # Errors
/// Anything but whole entries of this version.
pub fn decode_entries(bytes: &Bytes) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let Some(le) = rest.first_chunk::<4>() else {
            return Err(Error::Truncated);
        };
        let end = usize::try_from(u32::from_le_bytes(*le))
            .ok()
            .and_then(|len| len.checked_add(4))
            .filter(|end| *end <= rest.len())
            .ok_or(Error::Truncated)?;
        entries.push(decode_entry_shared(&rest.slice(4..end))?);
        rest = rest.slice(end..);
    }
    Ok(entries)
}

/// [`encode`] of a log id.
pub fn encode_log_id(id: &LogId) -> Vec<u8> {
    encode(&WireLogId::from(id))
}

/// Decodes what [`encode_log_id`] made.
///
/// # Errors
/// As [`decode`].
pub fn decode_log_id(bytes: &[u8]) -> Result<LogId, Error> {
    decode::<WireLogId>(bytes).map(LogId::from)
}

/// [`encode`] of a vote.
pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    encode(&WireVote::from(vote))
}

/// Decodes what [`encode_vote`] made.
///
/// # Errors
/// As [`decode`].
pub fn decode_vote(bytes: &[u8]) -> Result<Vote, Error> {
    decode::<WireVote>(bytes).map(Vote::from)
}

/// [`encode`] of a membership.
pub fn encode_stored_membership(membership: &StoredMembership) -> Vec<u8> {
    encode(&WireStoredMembership::from(membership))
}

/// Decodes what [`encode_stored_membership`] made.
///
/// # Errors
/// As [`decode`], and a membership that openraft refuses.
pub fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, Error> {
    decode::<WireStoredMembership>(bytes)?.try_into()
}

fn check_version(bytes: &[u8]) -> Result<&[u8], Error> {
    match bytes.split_first() {
        None => Err(Error::Truncated),
        Some((&VERSION, body)) => Ok(body),
        Some((&found, _)) => Err(Error::Version(found)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log_id(term: u64, index: u64) -> LogId {
        WireLogId { term, index }.into()
    }

    fn membership() -> Membership<RaftId, PeerNode> {
        let peer = |n: u8| PeerNode {
            node_id: Uuid::from_bytes([n; 16]),
            name: format!("node-{n}"),
            addr: SocketAddr::from(([127, 0, 0, n], 8300)),
        };
        let nodes: BTreeMap<_, _> = (1..=4).map(|n| (u64::from(n) << 40, peer(n))).collect();
        let voters = |ids: &[u64]| ids.iter().map(|n| n << 40).collect();
        Membership::new(vec![voters(&[1, 2, 3]), voters(&[2, 3])], nodes).unwrap()
    }

    fn entries() -> Vec<Entry> {
        [
            EntryPayload::Blank,
            EntryPayload::Normal(Payload(Bytes::from_static(b"set x"))),
            EntryPayload::Normal(Payload(Bytes::new())),
            EntryPayload::Membership(membership()),
        ]
        .into_iter()
        .zip(7..)
        .map(|(payload, index)| Entry {
            log_id: log_id(3, index),
            payload,
        })
        .collect()
    }

    #[test]
    fn every_kind_of_entry_comes_back_unchanged() {
        let mut bytes = Vec::new();
        encode_entries(&entries(), &mut bytes);
        assert_eq!(decode_entries(&Bytes::from(bytes)).unwrap(), entries());
        for entry in entries() {
            let mut bytes = Vec::new();
            encode_entry(&entry, &mut bytes);
            assert_eq!(decode_entry(&bytes).unwrap(), entry);
        }
    }

    #[test]
    fn votes_and_memberships_come_back_unchanged() {
        for vote in [Vote::new(4, 9), Vote::new_committed(u64::MAX, 1)] {
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        for stored in [
            StoredMembership::default(),
            StoredMembership::new(Some(log_id(2, 5)), membership()),
        ] {
            let bytes = encode_stored_membership(&stored);
            assert_eq!(decode_stored_membership(&bytes).unwrap(), stored);
        }
    }

    /// The forms are on disks and between servers of different builds: a change of these bytes is a new version.
    #[test]
    fn forms_are_fixed() {
        assert_eq!(encode_log_id(&log_id(300, 5)), [1, 0xac, 0x02, 5]);
        assert_eq!(encode_vote(&Vote::new_committed(2, 7)), [1, 2, 7, 1]);
        let mut bytes = Vec::new();
        encode_entry(&entries()[1], &mut bytes);
        let mut expected = vec![1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(b"set x");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn other_versions_and_cut_or_trailing_bytes_are_refused() {
        assert_eq!(decode_vote(&[]), Err(Error::Truncated));
        assert_eq!(decode_vote(&[2, 2, 7, 1]), Err(Error::Version(2)));
        assert_eq!(decode_vote(&[1, 2, 7, 1, 0]), Err(Error::Trailing(1)));
        assert!(matches!(decode_vote(&[1, 2, 7]), Err(Error::Malformed(_))));
        assert_eq!(decode_entry(&[1, 0, 0]), Err(Error::Truncated));
    }

    #[test]
    fn a_voter_that_is_no_node_is_refused() {
        let wire = WireStoredMembership {
            log_id: None,
            membership: WireMembership {
                configs: vec![vec![1]],
                peers: Vec::new(),
            },
        };
        assert!(matches!(
            decode_stored_membership(&encode(&wire)),
            Err(Error::Membership(_))
        ));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), versioned: bool) {
            if versioned && !bytes.is_empty() {
                bytes[0] = VERSION;
            }
            let _ = decode_entry(&bytes);
            let _ = decode_log_id(&bytes);
            let _ = decode_vote(&bytes);
            let _ = decode_stored_membership(&bytes);
            let _ = decode::<WireSnapshotMeta>(&bytes);
            let _ = decode_entries(&Bytes::from(bytes));
        }
    }
}
