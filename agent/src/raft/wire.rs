//! What Raft's messages look like on the wire. Pure.

use bytes::{Buf as _, Bytes};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::{
    Error, WireLogId, WireSnapshotMeta, WireVote, decode, decode_entry_shared, encode, encode_entry,
};
use super::{RaftId, TypeConfig};

/// Between whom a message travels. Checked by the receiver before anything else: a reused address may belong to
/// another server, and a server may belong to another cluster (DESIGN.md section 1, rule 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) cluster: Uuid,
    pub(super) from: RaftId,
    pub(super) to: RaftId,
}

impl Route {
    const BYTES: usize = 32;

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.cluster.as_bytes());
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.to.to_le_bytes());
    }

    /// Takes a route off the front of `bytes`.
    pub(super) fn take(bytes: &mut Bytes) -> Result<Self, Error> {
        if bytes.len() < Self::BYTES {
            return Err(Error::Truncated);
        }
        let cluster = Uuid::from_u128(bytes.get_u128());
        Ok(Self {
            cluster,
            from: bytes.get_u64_le(),
            to: bytes.get_u64_le(),
        })
    }
}

/// The answer to any Raft message: done, or why the receiver will not hear of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Admission<T> {
    Admitted(T),
    Refused(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WireVoteRequest {
    pub(super) vote: WireVote,
    pub(super) last_log_id: Option<WireLogId>,
    pub(super) leadership_transfer: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WireVoteResponse {
    pub(super) vote: WireVote,
    pub(super) granted: bool,
    pub(super) last_log_id: Option<WireLogId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WireTransfer {
    pub(super) from_leader: WireVote,
    pub(super) to: RaftId,
    pub(super) last_log_id: Option<WireLogId>,
}

/// The answer to one append.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum WireAppended {
    Matching(Option<WireLogId>),
    Conflict(WireLogId),
    HigherVote(WireVote),
}

/// What goes before the chunks of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WireSnapshotHead {
    pub(super) vote: WireVote,
    pub(super) meta: WireSnapshotMeta,
    /// About how long all of it is.
    pub(super) bytes: u64,
}

/// A part of a snapshot, in order; the last one is [`SnapshotPart::End`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SnapshotPart {
    /// Some of the encoded state.
    Section(Bytes),
    /// There have been so many sections.
    End(u64),
}

impl SnapshotPart {
    /// The head of the frame that carries a section, which follows it as it is.
    pub(super) fn section_head(section: &[u8]) -> [u8; 5] {
        let [a, b, c, d] = crc32c::crc32c(section).to_le_bytes();
        [1, a, b, c, d]
    }

    /// The frame that ends a snapshot.
    pub(super) fn end(sections: u64) -> [u8; 9] {
        let mut frame = [2; 9];
        frame[1..].copy_from_slice(&sections.to_le_bytes());
        frame
    }

    /// Reads a frame.
    pub(super) fn decode(frame: &Bytes) -> Result<Self, &'static str> {
        match frame.split_first() {
            Some((1, rest)) => {
                let (crc, section) = rest.split_first_chunk().ok_or("a section is cut")?;
                if crc32c::crc32c(section) != u32::from_le_bytes(*crc) {
                    return Err("wrong checksum of a section");
                }
                Ok(Self::Section(frame.slice(5..)))
            }
            Some((2, rest)) => {
                let sections = rest.try_into().map_err(|_| "the end is cut")?;
                Ok(Self::End(u64::from_le_bytes(sections)))
            }
            _ => Err("an unknown part"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: WireVote,
    prev_log_id: Option<WireLogId>,
    leader_commit: Option<WireLogId>,
    entries: u32,
}

impl From<VoteRequest<TypeConfig>> for WireVoteRequest {
    fn from(request: VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: request.vote.into(),
            last_log_id: request.last_log_id.map(Into::into),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

impl From<WireVoteRequest> for VoteRequest<TypeConfig> {
    fn from(wire: WireVoteRequest) -> Self {
        let mut request = Self::new(wire.vote.into(), wire.last_log_id.map(Into::into));
        request.leadership_transfer = wire.leadership_transfer;
        request
    }
}

impl From<VoteResponse<TypeConfig>> for WireVoteResponse {
    fn from(response: VoteResponse<TypeConfig>) -> Self {
        Self {
            vote: response.vote.into(),
            granted: response.vote_granted,
            last_log_id: response.last_log_id.map(Into::into),
        }
    }
}

impl From<WireVoteResponse> for VoteResponse<TypeConfig> {
    fn from(wire: WireVoteResponse) -> Self {
        let vote: super::types::Vote = wire.vote.into();
        Self::new(vote, wire.last_log_id.map(Into::into), wire.granted)
    }
}

impl From<TransferLeaderRequest<TypeConfig>> for WireTransfer {
    fn from(request: TransferLeaderRequest<TypeConfig>) -> Self {
        Self {
            from_leader: request.from_leader().into(),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().map(Into::into),
        }
    }
}

impl From<WireTransfer> for TransferLeaderRequest<TypeConfig> {
    fn from(wire: WireTransfer) -> Self {
        Self::new(
            wire.from_leader.into(),
            wire.to,
            wire.last_log_id.map(Into::into),
        )
    }
}

impl From<StreamAppendResult<TypeConfig>> for WireAppended {
    fn from(result: StreamAppendResult<TypeConfig>) -> Self {
        match result {
            Ok(matching) => Self::Matching(matching.map(Into::into)),
            Err(StreamAppendError::Conflict(at)) => Self::Conflict(at.into()),
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<WireAppended> for StreamAppendResult<TypeConfig> {
    fn from(wire: WireAppended) -> Self {
        match wire {
            WireAppended::Matching(matching) => Ok(matching.map(Into::into)),
            WireAppended::Conflict(at) => Err(StreamAppendError::Conflict(at.into())),
            WireAppended::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        }
    }
}

/// Appends the wire form of an append: a `u32` length and a head, then each entry behind a `u32` length.
pub(super) fn encode_append(request: &AppendEntriesRequest<TypeConfig>, out: &mut Vec<u8>) {
    let head = encode(&AppendHead {
        vote: (&request.vote).into(),
        prev_log_id: request.prev_log_id.as_ref().map(Into::into),
        leader_commit: request.leader_commit.as_ref().map(Into::into),
        entries: request.entries.len() as u32,
    });
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    out.extend_from_slice(&head);
    for entry in &request.entries {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        encode_entry(entry, out);
        let len = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
}

/// Reads what [`encode_append`] made; the entries share the memory of `bytes`.
pub(super) fn decode_append(mut bytes: Bytes) -> Result<AppendEntriesRequest<TypeConfig>, Error> {
    let head: AppendHead = decode(&take(&mut bytes)?)?;
    let mut entries = Vec::new();
    for _ in 0..head.entries {
        entries.push(decode_entry_shared(&take(&mut bytes)?)?);
    }
    if !bytes.is_empty() {
        return Err(Error::Trailing(bytes.len()));
    }
    Ok(AppendEntriesRequest {
        vote: head.vote.into(),
        prev_log_id: head.prev_log_id.map(Into::into),
        entries,
        leader_commit: head.leader_commit.map(Into::into),
    })
}

/// Takes a `u32` length and that many bytes off the front.
fn take(bytes: &mut Bytes) -> Result<Bytes, Error> {
    if bytes.len() < 4 {
        return Err(Error::Truncated);
    }
    let len = bytes.get_u32_le() as usize;
    if bytes.len() < len {
        return Err(Error::Truncated);
    }
    Ok(bytes.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Payload;
    use openraft::entry::RaftEntry as _;
    use proptest::prelude::*;

    fn append() -> AppendEntriesRequest<TypeConfig> {
        let id = |index| WireLogId { term: 3, index }.into();
        AppendEntriesRequest {
            vote: WireVote {
                term: 3,
                voted_for: 7,
                committed: true,
            }
            .into(),
            prev_log_id: Some(id(4)),
            entries: vec![
                crate::raft::types::Entry::new_blank(id(5)),
                crate::raft::types::Entry::new(
                    id(6),
                    openraft::EntryPayload::Normal(Payload(Bytes::from("put"))),
                ),
            ],
            leader_commit: Some(id(5)),
        }
    }

    #[test]
    fn an_append_comes_back_as_it_was_sent() {
        let mut wire = Vec::new();
        encode_append(&append(), &mut wire);
        let back = decode_append(wire.into()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{:?}", append()));
    }

    #[test]
    fn a_route_comes_back_and_leaves_the_rest() {
        let route = Route {
            cluster: Uuid::from_u128(5),
            from: 1,
            to: u64::MAX,
        };
        let mut wire = Vec::new();
        route.put(&mut wire);
        wire.push(9);
        let mut bytes = Bytes::from(wire);
        assert_eq!(Route::take(&mut bytes).unwrap(), route);
        assert_eq!(bytes, vec![9]);
    }

    #[test]
    fn every_cut_of_an_append_is_refused() {
        let mut wire = Vec::new();
        encode_append(&append(), &mut wire);
        for len in 0..wire.len() {
            assert!(
                decode_append(Bytes::copy_from_slice(&wire[..len])).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn no_raft_message_makes_the_decoders_panic() {
        let mut sent = Vec::new();
        encode_append(&append(), &mut sent);
        let mut route = Vec::new();
        Route {
            cluster: uuid::Uuid::from_u128(1),
            from: 2,
            to: 3,
        }
        .put(&mut route);
        let section = [&SnapshotPart::section_head(b"abc")[..], b"abc"].concat();
        let seeds = [sent, route, section, SnapshotPart::end(7).to_vec()];
        crate::fuzz::run("raft-message", &seeds, |bytes| {
            let shared = Bytes::copy_from_slice(bytes);
            let append = match decode_append(shared.clone()) {
                Ok(request) => format!("{} entries", request.entries.len().min(3)),
                Err(error) => error.to_string(),
            };
            let route = Route::take(&mut shared.clone()).is_ok();
            let part = SnapshotPart::decode(&shared).err().unwrap_or("part");
            let vote = decode::<WireVoteRequest>(bytes).is_ok();
            let head = decode::<WireSnapshotHead>(bytes).is_ok();
            let transfer = decode::<WireTransfer>(bytes).is_ok();
            format!("{append}, {route}, {part}, {vote}, {head}, {transfer}")
        });
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_append(bytes.clone().into());
            let _ = Route::take(&mut bytes.into());
        }
    }
}
