//! Peers follow gossip: which server to add, promote or remove next. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use uuid::Uuid;

use crate::gossip::{Member, Status};
use crate::raft::bootstrap::cluster_of;
use crate::raft::{PeerNode, RaftId};
use crate::state::Autopilot;

/// Autopilot's settings, as far as they decide here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether failed servers are removed when that leaves the cluster more tolerant of further failures.
    pub cleanup_dead_servers: bool,
    /// Never fewer voters than this by removing failed servers. 0: no floor.
    pub min_quorum: u32,
    /// How many entries a learner may trail and still be promoted. Consul's default: 250.
    pub max_trailing_logs: u64,
}

impl Policy {
    /// What of the settings decides here.
    pub fn of(settings: &Autopilot) -> Self {
        Self {
            cleanup_dead_servers: settings.cleanup_dead_servers,
            min_quorum: settings.min_quorum,
            max_trailing_logs: settings.max_trailing_logs,
        }
    }
}

/// What the leader knows.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The cluster that this server leads.
    pub cluster: Uuid,
    /// Own datacenter.
    pub datacenter: &'a str,
    /// The leader's own id.
    pub own: RaftId,
    /// What gossip knows.
    pub members: &'a [std::sync::Arc<Member>],
    /// The servers of the Raft configuration.
    pub peers: &'a BTreeMap<RaftId, PeerNode>,
    /// Those of them that vote.
    pub voters: &'a BTreeSet<RaftId>,
    /// Whether a change of the configuration is half done (a joint configuration that a former leader left behind).
    pub joint: bool,
    /// The leader's last log index.
    pub last_index: u64,
    /// For each other server, the last index known to be on it; absent until it has answered.
    pub matched: &'a BTreeMap<RaftId, u64>,
    /// Learners that have not been well for long enough to get their vote.
    pub unstable: &'a BTreeSet<RaftId>,
}

impl View<'_> {
    /// Whether a server trails by no more than the policy allows.
    pub fn caught_up(&self, id: RaftId, policy: &Policy) -> bool {
        let trails_to = |matched: &u64| matched.saturating_add(policy.max_trailing_logs);
        self.matched
            .get(&id)
            .is_some_and(|matched| trails_to(matched) >= self.last_index)
    }
}

/// The next change of the Raft configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Finish the change that a former leader began.
    FinishJoint,
    /// Remove a server.
    Remove {
        /// Which.
        id: RaftId,
        /// What the configuration says of it.
        node: PeerNode,
        /// Why.
        why: Why,
    },
    /// Reach a server under its new address.
    SetAddress {
        /// Which.
        id: RaftId,
        /// What the configuration shall say of it.
        node: PeerNode,
    },
    /// Add a server without a vote.
    AddLearner {
        /// Which.
        id: RaftId,
        /// What the configuration shall say of it.
        node: PeerNode,
    },
    /// Give a learner its vote.
    Promote {
        /// Which.
        id: RaftId,
        /// What the configuration says of it.
        node: PeerNode,
    },
}

/// Why a server is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It left, or is about to.
    Left,
    /// The same node, or one with its name, is back with an empty raft folder, and so with another id.
    Replaced,
    /// It failed, and the cluster is safer without it.
    Failed,
}

/// A server that gossip knows and that must never become a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stranger {
    /// Its name.
    pub name: String,
    /// Its server address.
    pub addr: SocketAddr,
    /// The cluster it belongs to.
    pub cluster: Uuid,
    /// Whether it carries `-bootstrap`.
    pub bootstrap: bool,
}

/// A server as gossip describes it.
struct Server<'a> {
    member: &'a Member,
    raft_id: RaftId,
    node: PeerNode,
    cluster: Option<Uuid>,
}

fn server<'a>(member: &'a Member, datacenter: &str) -> Option<Server<'a>> {
    let tag = |name| member.tags.get(name);
    if tag("role") != Some("consul") || tag("dc") != Some(datacenter) {
        return None;
    }
    Some(Server {
        raft_id: tag("raft_id")?.parse().ok()?,
        node: PeerNode {
            node_id: member.id,
            name: member.name.clone(),
            addr: server_addr(member)?,
        },
        cluster: cluster_of(member),
        member,
    })
}

/// Where a server member's RPC listens.
pub fn server_addr(member: &Member) -> Option<SocketAddr> {
    Some(SocketAddr::new(
        member.addr.ip(),
        member.tags.get("port")?.parse().ok()?,
    ))
}

/// Chooses the one next change. Same input, same change; `None` when the configuration follows gossip already.
pub fn next_change(view: &View<'_>, policy: &Policy) -> Option<Change> {
    if view.joint {
        return Some(Change::FinishJoint);
    }
    let servers: Vec<Server<'_>> = view
        .members
        .iter()
        .filter_map(|m| server(m, view.datacenter))
        .collect();
    removal_of_left(view, &servers)
        .or_else(|| removal_of_failed(view, &servers, policy))
        .or_else(|| new_address(view, &servers))
        .or_else(|| promotion(view, &servers, policy))
        .or_else(|| addition(view, &servers))
}

/// Servers of other clusters in the same gossip pool: reported, never added.
pub fn strangers(view: &View<'_>) -> Vec<Stranger> {
    view.members
        .iter()
        .filter(|m| m.status == Status::Alive)
        .filter_map(|m| server(m, view.datacenter))
        .filter_map(|s| {
            let cluster = s.cluster.filter(|id| *id != view.cluster)?;
            Some(Stranger {
                name: s.member.name.clone(),
                addr: s.node.addr,
                cluster,
                bootstrap: s.member.tags.contains_key("bootstrap"),
            })
        })
        .collect()
}

fn removal_of_left(view: &View<'_>, servers: &[Server<'_>]) -> Option<Change> {
    view.peers
        .iter()
        .filter(|(id, _)| **id != view.own)
        .find_map(|(&id, node)| {
            let same_node = servers.iter().find(|s| s.member.id == node.node_id);
            let why = if servers.iter().any(|s| replaces(s, id, node, view, servers)) {
                Why::Replaced
            } else if same_node.is_some_and(|s| {
                s.raft_id == id && matches!(s.member.status, Status::Left | Status::Leaving)
            }) {
                Why::Left
            } else {
                return None;
            };
            keeps_quorum(view, servers, id).then(|| Change::Remove {
                id,
                node: node.clone(),
                why,
            })
        })
}

/// Whether a living server has taken the place of peer `id`: it is the same node under another raft id, or it has the
/// name of a peer that is gone. A name belongs to one member of the pool, so a server whose whole data dir was lost, and
/// its node id with it, still takes the seat that it had.
fn replaces(
    server: &Server<'_>,
    id: RaftId,
    peer: &PeerNode,
    view: &View<'_>,
    servers: &[Server<'_>],
) -> bool {
    let namesake = server.node.name.eq_ignore_ascii_case(&peer.name)
        && server.cluster.is_none_or(|cluster| cluster == view.cluster)
        && !is_alive(view, servers, id);
    server.raft_id != id
        && server.member.status == Status::Alive
        && (server.member.id == peer.node_id || namesake)
}

/// Whether the change that removes `id` can be committed and leaves a working cluster: a majority of the voters that
/// remain must be alive. A removal that cannot be committed would block every later change.
fn keeps_quorum(view: &View<'_>, servers: &[Server<'_>], id: RaftId) -> bool {
    if !view.voters.contains(&id) {
        return true;
    }
    let left: Vec<RaftId> = view
        .voters
        .iter()
        .copied()
        .filter(|voter| *voter != id)
        .collect();
    let alive = left
        .iter()
        .filter(|voter| is_alive(view, servers, **voter))
        .count();
    !left.is_empty() && alive > left.len() / 2
}

fn is_alive(view: &View<'_>, servers: &[Server<'_>], id: RaftId) -> bool {
    id == view.own
        || servers
            .iter()
            .any(|s| s.raft_id == id && matches!(s.member.status, Status::Alive | Status::Leaving))
}

/// How many voters may fail before the quorum is lost, when `alive` of `voters` are alive.
fn tolerance(alive: usize, voters: usize) -> Option<usize> {
    alive.checked_sub(voters / 2 + 1)
}

/// Removes a failed voter only when the cluster can lose more servers after all failed ones are gone than it can now.
///
/// Of three, one failed stays: two of two tolerate as little as two of three, and the third may come back. Consul
/// removes it at once, and users have lost quorums by that (OPERATOR-PAINS 32). A failed learner may always go.
fn removal_of_failed(view: &View<'_>, servers: &[Server<'_>], policy: &Policy) -> Option<Change> {
    if !policy.cleanup_dead_servers {
        return None;
    }
    let failed: Vec<RaftId> = view
        .peers
        .keys()
        .copied()
        .filter(|id| *id != view.own)
        .filter(|id| {
            servers
                .iter()
                .any(|s| s.raft_id == *id && s.member.status == Status::Failed)
        })
        .collect();
    let remove = |id: RaftId| Change::Remove {
        id,
        node: view.peers[&id].clone(),
        why: Why::Failed,
    };
    if let Some(&learner) = failed.iter().find(|id| !view.voters.contains(id)) {
        return Some(remove(learner));
    }
    let voters = view.voters.len();
    let alive = voters - failed.len();
    let floor = policy.min_quorum as usize;
    let safer = match (tolerance(alive, voters), tolerance(alive, alive)) {
        (Some(now), Some(then)) => then > now,
        // Without a quorum now, no change could be committed.
        _ => false,
    };
    (safer && voters > floor)
        .then(|| failed.first().map(|id| remove(*id)))
        .flatten()
}

fn new_address(view: &View<'_>, servers: &[Server<'_>]) -> Option<Change> {
    servers
        .iter()
        .filter(|s| s.member.status == Status::Alive && s.cluster == Some(view.cluster))
        .find_map(|s| {
            let known = view.peers.get(&s.raft_id)?;
            (known.addr != s.node.addr || known.name != s.node.name).then(|| Change::SetAddress {
                id: s.raft_id,
                node: s.node.clone(),
            })
        })
}

fn promotion(view: &View<'_>, servers: &[Server<'_>], policy: &Policy) -> Option<Change> {
    servers
        .iter()
        .filter(|s| s.member.status == Status::Alive)
        .find_map(|s| {
            let node = view
                .peers
                .get(&s.raft_id)
                .filter(|_| !view.voters.contains(&s.raft_id))?;
            let ready = view.caught_up(s.raft_id, policy) && !view.unstable.contains(&s.raft_id);
            // It has answered an append, so it has adopted the cluster; gossip may say so a moment later.
            (ready && s.cluster.is_none_or(|id| id == view.cluster)).then(|| Change::Promote {
                id: s.raft_id,
                node: node.clone(),
            })
        })
}

fn addition(view: &View<'_>, servers: &[Server<'_>]) -> Option<Change> {
    servers
        .iter()
        .filter(|s| s.member.status == Status::Alive)
        .filter(|s| s.cluster.is_none_or(|id| id == view.cluster))
        .filter(|s| !view.peers.contains_key(&s.raft_id))
        // The same node under its old id must be gone first: one vote a node.
        .find(|s| {
            let seat = |(id, peer): (&RaftId, &PeerNode)| {
                peer.node_id == s.member.id || replaces(s, *id, peer, view, servers)
            };
            !view.peers.iter().any(seat)
        })
        .map(|s| Change::AddLearner {
            id: s.raft_id,
            node: s.node.clone(),
        })
}

#[cfg(test)]
mod tests;
