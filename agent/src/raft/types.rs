//! The types that openraft is instantiated with.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use openraft_rt_tokio::TokioRuntime;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::Outcome;

/// Raft's own id of a server: random, made with and kept inside each `raft/` folder.
///
/// Never the Consul node id, a pod name or an ordinal, which outlive that folder: an id that comes back with an
/// empty log can elect itself from history (DESIGN.md section 1, rule 7).
pub type RaftId = u64;

openraft::declare_raft_types!(
    /// Ties openraft's generics together.
    pub TypeConfig:
        D = Payload,
        R = Outcome,
        NodeId = RaftId,
        Node = PeerNode,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, RaftId>,
        AsyncRuntime = TokioRuntime,
);

/// One command of the state machine, encoded by its proposer (see `state::Command::encode`).
///
/// It travels and is stored as these bytes, so that neither the log nor the network encodes it again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the Raft configuration says of a server beside its [`RaftId`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerNode {
    /// The Consul node id, which `operator raft list-peers` shows as ID.
    pub node_id: Uuid,
    /// The node name at the time it was added.
    pub name: String,
    /// Where its server RPC listens.
    pub addr: SocketAddr,
}

impl Default for PeerNode {
    /// Needed by openraft's bounds only; never part of a configuration.
    fn default() -> Self {
        Self {
            node_id: Uuid::nil(),
            name: String::new(),
            addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        }
    }
}

/// openraft's log id, with our types filled in.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// openraft's log entry, with our types filled in.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// openraft's vote, with our types filled in.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// A membership configuration with the log id that set it.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot says of itself.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
