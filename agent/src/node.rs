//! A running node: starts and joins the tasks, owns shutdown, and is the handle that `http` works with.

mod access;
mod certify;
mod connect;
mod formation;
mod gate;
mod gauges;
mod info;
mod join;
mod keyring;
mod leave;
mod listen;
mod local;
mod login;
mod member_metrics;
mod own_certificate;
mod places;
mod rates;
mod ready;
pub(crate) mod remote_exec;
mod replicate;
mod route;
mod save;
mod space;
mod start;
#[cfg(test)]
mod tests;
mod tokens;
mod user_events;
mod wan;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use gauges::Gauge;
pub use keyring::PoolKeys;
pub use local::ReloadError;
pub use save::Saved;
pub use start::{StartError, start};
pub use tokens::TokenUse;
pub use wan::Datacenter;

use crate::config::Config;
use crate::env::Env;
use crate::events::Events;
use crate::gossip::{Gossip, JoinError, Member};
use crate::leader::autopilot::Stability;
use crate::leader::{PendingPlaces, SessionTimers};
use crate::local::Local;
use crate::raft::{Consensus, Inspector, Service};
use crate::rpc::Pool;
use crate::state::{Answer, Shared};
use crate::tls::Tls;

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
    /// Whether something was left out that the asker may not see. It travels as [`crate::rpc::Answer::Filtered`].
    #[serde(skip)]
    pub filtered: bool,
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

/// Names one server of the Raft configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRef {
    /// By server RPC address.
    Address(String),
    /// By Consul node id.
    Id(String),
}

/// Why a node could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
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
    /// The leader's disk is full. Nothing was proposed.
    #[error("no room on the leader's disk: {0}")]
    NoRoom(String),
    /// This node, or the leader, has as much to do as it takes on at a time. Nothing was done.
    #[error("too many requests are under way, try again later")]
    Busy,
    /// Nobody is known of that datacenter.
    #[error("No path to datacenter")]
    NoPath,
    /// The datacenter is known, but none of its servers was reached. Nothing was done.
    #[error("Remote DC has no server currently reachable")]
    Unreachable,
    /// The token does not allow it, or there is no such token. Nothing was done.
    #[error("{0}")]
    Denied(String),
    /// This server answers no more requests of this kind for now (`limits.request_limits`). Nothing was done; another server
    /// may do it.
    #[error("rate limit exceeded, try again later or against a different server")]
    RateExceeded,
    /// The same, said by the leader of what nobody else can do.
    #[error(
        "rate limit exceeded for operation that can only be performed by the leader, try again later"
    )]
    LeaderRateExceeded,
    /// This agent makes no more requests for now (`limits.rpc_rate`). Nothing was done.
    #[error("RPC rate limit exceeded")]
    CallRateExceeded,
}

/// How a node's life goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// At work.
    Running,
    /// On its way out, gracefully.
    Leaving,
    /// Gone from the cluster: the process can end with code 0.
    Left,
    /// Cannot go on, and why: the process must end with code 1.
    Failed(String),
}

/// A running node. Cloning is cheap.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
    /// The datacenter that requests are for, where it is another one.
    elsewhere: Option<Arc<str>>,
    /// In whose name it asks.
    caller: access::Caller,
    /// Whether its requests are not counted against this agent's limits: they were already, or are for the cluster itself.
    uncounted: bool,
}

struct Inner {
    env: Env,
    config: Arc<Config>,
    node_id: Uuid,
    gossip: Gossip,
    /// On a server, unless it is switched off.
    wan: Option<wan::Wan>,
    calls: Arc<Pool>,
    /// What protects connections to and from servers, and clients of the HTTPS API.
    tls: Arc<Tls>,
    /// Those that it uses itself.
    tokens: arc_swap::ArcSwap<crate::config::Tokens>,
    /// What servers said of tokens, on a client.
    remembered: access::Remembered,
    /// Its own services and checks.
    local: Local,
    /// What was said to everybody.
    events: Events,
    gate: gate::Gate,
    /// How many requests a second are answered, and made.
    rates: rates::Rates,
    /// Certificates of services that were asked for here.
    leaves: crate::ca::Leaves,
    /// Why a client has no certificate of its own, where that comes by itself.
    lacks_certificate: arc_swap::ArcSwapOption<String>,
    server: Option<Server>,
    /// Where a client last found the leader.
    leader_hint: std::sync::Mutex<Option<SocketAddr>>,
    phase: watch::Sender<Phase>,
    dropped: Arc<listen::Dropped>,
    /// Where Raft and the server port run.
    raft: tokio::runtime::Handle,
    /// Ended when the node is shut down.
    tasks: std::sync::Mutex<Vec<AbortOnDropHandle<()>>>,
}

/// What only a server has.
struct Server {
    consensus: Consensus,
    shared: Arc<Shared>,
    service: Arc<Service>,
    /// Times of sessions, while it leads.
    timers: Arc<SessionTimers>,
    /// Where nodes are, until it is written, while it leads.
    places: Arc<PendingPlaces>,
    /// How well the servers are, while it leads.
    stability: Arc<std::sync::Mutex<Stability>>,
    /// Turns of those who want a certificate, while it leads.
    csr_limit: crate::ca::CsrLimit,
    phase: watch::Receiver<Phase>,
    /// Requests of other nodes that are being worked on.
    in_flight: Arc<std::sync::atomic::AtomicUsize>,
    /// Encoded states that others fetch.
    kept: save::Kept,
    /// Who may do what, while that is asked for.
    guard: Option<access::Guard>,
    /// What the leader does for tokens.
    acl_duty: Arc<crate::leader::AclDuty>,
    /// How long a leader's work takes.
    timings: Arc<crate::leader::Timings>,
    /// How copying of policies, roles and tokens goes, while it leads.
    copying: std::sync::Mutex<crate::acl::copies::Copying>,
    /// Those who want a token from an auth method, while it leads.
    logins: login::Logins,
    /// Reads that it answers although it does not lead.
    read_indexes: Arc<route::ReadIndexes>,
}

impl Node {
    /// The Consul node id.
    pub fn id(&self) -> Uuid {
        self.inner.node_id
    }

    /// What it was started with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Its own services and checks.
    pub fn local(&self) -> &Local {
        &self.inner.local
    }

    /// What protects its connections.
    pub fn tls(&self) -> &Arc<Tls> {
        &self.inner.tls
    }

    /// The outside world that it was started in.
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Whether it takes part in Raft.
    pub fn is_server(&self) -> bool {
        self.inner.server.is_some()
    }

    /// What gossip knows, sorted by name, this node included.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.inner.gossip.members()
    }

    /// This node's own member record.
    pub fn local_member(&self) -> Arc<Member> {
        self.inner.gossip.local()
    }

    /// Joins the pool that `address` belongs to; the number of nodes contacted.
    pub async fn join(&self, address: &str) -> Result<usize, JoinError> {
        self.inner
            .gossip
            .join(address, self.inner.config.ports.serf_lan)
            .await
    }

    /// Turns a failed member into one that left; with `prune` forgets it at once.
    pub async fn force_leave(&self, name: &str, prune: bool) -> Result<(), Error> {
        tracing::info!(target: "consul", "Force leaving node: node={name}");
        let found = self.inner.gossip.force_leave(name, prune).await;
        found.map_err(|_| Error::NoSuchMember(name.to_owned()))
    }

    /// The blocks of `info`, also `Stats` of `/v1/agent/self`.
    pub fn info(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        info::info(self)
    }

    /// One who looks at this server's Raft from outside; `None` on a client.
    pub fn inspector(&self) -> Option<Inspector> {
        Some(self.inner.server.as_ref()?.consensus.inspector())
    }

    /// Why this agent does not take its full part: a server that is no caught-up voter under a leader, a client that
    /// knows no server. `None`: it does.
    pub fn not_ready(&self) -> Option<String> {
        ready::not_ready(self)
    }

    /// Where the node's life is now.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.inner.phase.subscribe()
    }

    /// Says that something the node cannot live without has failed.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!(target: "agent", "stopping: {why}");
        self.inner.phase.send_replace(Phase::Failed(why));
    }

    /// Stops without a word to anybody: for others this node fails.
    pub async fn shutdown(&self) {
        self.inner.local.stop().await;
        // The tasks first: the one that watches for Raft's failure would take this end for one.
        self.inner
            .tasks
            .lock()
            .expect("no code panics while it holds this lock")
            .clear();
        if let Some(wan) = &self.inner.wan {
            wan.gossip.shutdown().await;
        }
        self.inner.gossip.shutdown().await;
        if let Some(server) = &self.inner.server {
            server.consensus.shutdown().await;
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.keep(tokio::spawn(task));
    }

    /// Ends a task with the node.
    fn keep(&self, task: tokio::task::JoinHandle<()>) {
        let task = AbortOnDropHandle::new(task);
        self.inner
            .tasks
            .lock()
            .expect("no code panics while it holds this lock")
            .push(task);
    }
}
