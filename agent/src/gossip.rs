//! Membership by gossip: SWIM (foca) over UDP, and a TCP path for joining and full-state exchange.
//!
//! This module knows members and their tags, nothing of Raft or of the catalog.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use crate::env::Env;

/// Tags of a member, by name: role, dc, id, port, bootstrap, expect, cluster and so on.
pub type Tags = BTreeMap<String, String>;

/// What gossip knows of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Node name, unique in the pool without regard to case.
    pub name: String,
    /// The Consul node id, which survives restarts.
    pub id: Uuid,
    /// Where its gossip listens (UDP and TCP).
    pub addr: SocketAddr,
    /// Grows with every start of the same node; a higher one replaces a lower one.
    pub generation: u64,
    /// Whether it takes part.
    pub status: Status,
    /// What it says of itself.
    pub tags: Tags,
}

/// Whether a member takes part. The numbers are those of Consul's member JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Answers, or was heard of lately.
    Alive = 1,
    /// Said that it is about to leave.
    Leaving = 2,
    /// Left gracefully.
    Left = 3,
    /// Stopped answering without a word.
    Failed = 4,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Alive => "alive",
            Status::Leaving => "leaving",
            Status::Left => "left",
            Status::Failed => "failed",
        })
    }
}

/// A change of one member, in the order in which this node learnt it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// New, or returned after it had left or failed.
    Joined(Arc<Member>),
    /// Announced that it is leaving.
    Leaving(Arc<Member>),
    /// Left gracefully.
    Left(Arc<Member>),
    /// Declared dead by the pool.
    Failed(Arc<Member>),
    /// Tags or address changed.
    Updated(Arc<Member>),
    /// Forgotten, after `reconnect_timeout` or by `force-leave -prune`.
    Reaped(Arc<Member>),
}

/// How a pool is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Own name.
    pub name: String,
    /// Own Consul node id.
    pub id: Uuid,
    /// Datacenter; members of another one are refused.
    pub datacenter: String,
    /// Where to listen, UDP and TCP on the same port.
    pub bind: SocketAddr,
    /// What others are told to send to.
    pub advertise: SocketAddr,
    /// What this node says of itself at first.
    pub tags: Tags,
    /// The file that remembers members and the generation over restarts (`DATA/serf/local.snapshot`).
    pub snapshot: PathBuf,
    /// Whether remembered members are contacted at start also after a graceful leave.
    pub rejoin_after_leave: bool,
    /// Time between two probes of a random member. LAN: 1 s.
    pub probe_interval: Duration,
    /// How long a direct probe may take before indirect ones are sent. LAN: 500 ms. Shorter than `probe_interval`.
    pub probe_timeout: Duration,
    /// Times `log(members)` times `probe_interval` until a suspect counts as failed. LAN: 4.
    pub suspicion_mult: u32,
    /// Time between two rounds of gossip. LAN: 200 ms.
    pub gossip_interval: Duration,
    /// How long a failed or left member is remembered. 72 h.
    pub reconnect_timeout: Duration,
}

/// Why one address could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The name has no address.
    #[error("cannot resolve {address}: {source}")]
    Resolve {
        /// As given.
        address: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// Nobody listens there, or not in time.
    #[error("dial tcp {address}: {source}")]
    Connect {
        /// The resolved address.
        address: SocketAddr,
        /// What the connection said.
        source: std::io::Error,
    },
    /// Somebody listens there who does not speak this protocol.
    #[error("{address} does not speak the gossip protocol: {reason}")]
    Protocol {
        /// The resolved address.
        address: SocketAddr,
        /// What was wrong.
        reason: String,
    },
    /// The other side, or this one, refused: another datacenter, a name in use.
    #[error("{address} refused the join: {reason}")]
    Refused {
        /// The resolved address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}
