//! A running node: starts and joins the tasks, owns shutdown, and is the handle that `http` works with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::gossip::{JoinError, Member};
use crate::state::{Answer, Command, Outcome, Query};

/// Which servers may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Consistency {
    /// The leader, while its lease lasts.
    #[default]
    Default,
    /// The leader, after a quorum has confirmed it.
    Consistent,
    /// Any server, from what it has.
    Stale,
}

/// How one read is to be answered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReadOptions {
    /// Which servers may answer.
    pub consistency: Consistency,
    /// Answer only once the result's index is above this one; 0 answers at once.
    pub min_index: u64,
    /// Longest time to wait for `min_index`, jitter included. The caller applies Consul's defaults and bounds.
    pub wait: Duration,
    /// With [`Consistency::Stale`]: ask the leader instead when the last contact is longer ago.
    pub max_stale: Option<Duration>,
}

/// An answer with what its headers say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// The result.
    pub answer: Answer,
    /// `X-Consul-Index`: never 0.
    pub index: u64,
    /// `X-Consul-KnownLeader`.
    pub known_leader: bool,
    /// `X-Consul-LastContact`.
    pub last_contact: Duration,
}

/// One server of the Raft configuration, as `/v1/operator/raft/configuration` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftServer {
    /// Consul node id.
    pub id: Uuid,
    /// Node name; empty when unknown.
    pub node: String,
    /// Server RPC address.
    pub address: SocketAddr,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it votes.
    pub voter: bool,
    /// Last log index that the leader knows to be on it.
    pub last_index: u64,
}

/// Why a node could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// Nobody led for as long as the request could wait. A write was not proposed.
    #[error("No cluster leader")]
    NoLeader,
    /// No server is known by gossip.
    #[error("No known Consul servers")]
    NoServers,
    /// The request was handed over, but no answer came in time: its outcome is unknown.
    #[error("rpc error making call: timed out; the outcome of the request is unknown")]
    Unknown,
    /// No member of that name.
    #[error("agent: No node found with name '{0}'")]
    NoSuchMember(String),
    /// The Raft configuration has no such server.
    #[error("address \"{0}\" was not found in the Raft configuration")]
    NoSuchPeer(String),
    /// There is no other voter to hand leadership to.
    #[error("cannot find peer")]
    NoTransferTarget,
    /// Refused, and why.
    #[error("{0}")]
    Refused(String),
    /// The server is shutting down or stopped by an error of its storage.
    #[error("agent is shutting down")]
    ShuttingDown,
}

/// A running node. Cloning is cheap.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {}

impl Node {
    /// Proposes a command through the leader and waits until it is applied.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        let _ = (&self.inner, command);
        unimplemented!()
    }

    /// Answers a query, here or through a server.
    pub async fn read(&self, query: Query, options: ReadOptions) -> Result<Reply, Error> {
        let _ = (query, options);
        unimplemented!()
    }

    /// What gossip knows, sorted by name, this node included.
    pub fn members(&self) -> Vec<Arc<Member>> {
        unimplemented!()
    }

    /// This node's own member record.
    pub fn local_member(&self) -> Arc<Member> {
        unimplemented!()
    }

    /// Joins the pool that `address` belongs to; the number of nodes contacted.
    pub async fn join(&self, address: &str) -> Result<usize, JoinError> {
        let _ = address;
        unimplemented!()
    }

    /// Leaves gracefully; returns when the leave is over. The process then ends by itself, with exit code 0.
    pub async fn leave(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Turns a failed member into one that left; with `prune` forgets it at once.
    pub async fn force_leave(&self, name: &str, prune: bool) -> Result<(), Error> {
        let _ = (name, prune);
        unimplemented!()
    }

    /// Reads the configuration files again and applies what can be applied.
    pub async fn reload(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Server address of the leader, as far as this node or a server that it asks knows.
    pub async fn leader_address(&self) -> Option<SocketAddr> {
        unimplemented!()
    }

    /// Server addresses of the voters.
    pub async fn peer_addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        unimplemented!()
    }

    /// The Raft configuration and the index that set it.
    pub async fn raft_configuration(&self, stale: bool) -> Result<(Vec<RaftServer>, u64), Error> {
        let _ = stale;
        unimplemented!()
    }

    /// Removes a server, given by address or by id, from the Raft configuration.
    pub async fn remove_peer(&self, peer: PeerRef) -> Result<(), Error> {
        let _ = peer;
        unimplemented!()
    }

    /// Hands leadership to `id`, or to the voter that is furthest ahead.
    pub async fn transfer_leader(&self, id: Option<Uuid>) -> Result<(), Error> {
        let _ = id;
        unimplemented!()
    }

    /// The blocks of `info`, also `Stats` of `/v1/agent/self`.
    pub fn info(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        unimplemented!()
    }
}

/// Names one server of the Raft configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRef {
    /// By server RPC address.
    Address(String),
    /// By Consul node id.
    Id(String),
}
