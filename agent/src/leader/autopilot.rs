//! How well the servers are, as autopilot sees it. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::gossip::{Member, Status};
use crate::raft::{self, RaftId};
use crate::state::Autopilot;

/// One server of the Raft configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Consul node id.
    pub id: Uuid,
    /// Node name.
    pub name: String,
    /// Server RPC address.
    pub address: SocketAddr,
    /// Its status in gossip: `alive`, `leaving`, `left`, `failed`, or `none` where gossip does not know it.
    pub member_status: String,
    /// Version that it says it is compatible with.
    pub version: String,
    /// Whether it leads.
    pub leader: bool,
    /// How long ago it last answered the leader; zero for the leader, `None` when it has not yet.
    pub last_contact: Option<Duration>,
    /// Term of its last log entry, as far as the leader knows.
    pub last_term: u64,
    /// Index of its last log entry, as far as the leader knows.
    pub last_index: u64,
    /// Whether it is well.
    pub healthy: bool,
    /// Whether it votes.
    pub voter: bool,
    /// Since when `healthy` is as it is, in milliseconds since the Unix epoch.
    pub stable_since_ms: u64,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterHealth {
    /// By name.
    pub servers: Vec<ServerHealth>,
    /// Whether all are well.
    pub healthy: bool,
    /// How many healthy voters may fail before the quorum is lost.
    pub failure_tolerance: usize,
}

/// Since when each server's health is as it is. A new leader starts afresh.
#[derive(Debug, Default)]
pub struct Stability {
    since: BTreeMap<RaftId, (bool, u64)>,
}

impl Stability {
    /// Judges every server of the configuration at a moment.
    pub fn judge(
        &mut self,
        status: &raft::Status,
        members: &[std::sync::Arc<Member>],
        config: &Autopilot,
        unix_ms: u64,
    ) -> ClusterHealth {
        self.since.retain(|id, _| status.peers.contains_key(id));
        let mut servers: Vec<ServerHealth> = status
            .peers
            .keys()
            .map(|id| {
                let mut server = observe(*id, status, members);
                server.healthy = is_healthy(&server, status, config);
                let (healthy, since) = self.since.entry(*id).or_insert((server.healthy, unix_ms));
                if *healthy != server.healthy {
                    (*healthy, *since) = (server.healthy, unix_ms);
                }
                server.stable_since_ms = *since;
                server
            })
            .collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        let well = servers.iter().filter(|s| s.voter && s.healthy).count();
        ClusterHealth {
            healthy: !servers.is_empty() && servers.iter().all(|server| server.healthy),
            failure_tolerance: well.saturating_sub(status.voters.len() / 2 + 1),
            servers,
        }
    }
}

fn observe(id: RaftId, status: &raft::Status, members: &[std::sync::Arc<Member>]) -> ServerHealth {
    let node = &status.peers[&id];
    let own = id == status.id;
    let member = members.iter().find(|member| member.id == node.node_id);
    let matched = status.matched.get(&id).copied().unwrap_or(0);
    ServerHealth {
        id: node.node_id,
        name: node.name.clone(),
        address: node.addr,
        member_status: member.map_or_else(|| "none".to_owned(), |m| m.status.to_string()),
        version: member
            .and_then(|m| m.tags.get("build"))
            .map_or_else(String::new, |build| {
                build.split(':').next().unwrap_or_default().to_owned()
            }),
        leader: status.leader == Some(id),
        last_contact: if own {
            Some(Duration::ZERO)
        } else {
            status.contacts.get(&id).copied()
        },
        last_term: if own {
            status.last_term
        } else {
            status.matched_terms.get(&id).copied().unwrap_or(0)
        },
        last_index: if own { status.last_index } else { matched },
        healthy: false,
        voter: status.voters.contains(&id),
        stable_since_ms: 0,
    }
}

/// Alive, in contact, and not far behind, in entries of the present term.
fn is_healthy(server: &ServerHealth, status: &raft::Status, config: &Autopilot) -> bool {
    let trailing = status.last_index.saturating_sub(server.last_index);
    server.member_status == Status::Alive.to_string()
        && server
            .last_contact
            .is_some_and(|age| age <= config.last_contact_threshold)
        && server.last_term == status.last_term
        && trailing <= config.max_trailing_logs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::gossip::Tags;
    use crate::raft::{PeerNode, Role};

    fn world() -> (raft::Status, Vec<Arc<Member>>) {
        let node = |n: u64| PeerNode {
            node_id: Uuid::from_u128(n.into()),
            name: format!("s{n}"),
            addr: ([127, 0, 0, n as u8], 8300).into(),
        };
        let mut status = raft::Status::of_leader(1, 3, 100);
        status.peers = (1..=3).map(|n| (n, node(n))).collect();
        status.voters = BTreeSet::from([1, 2, 3]);
        status.matched = BTreeMap::from([(2, 100), (3, 90)]);
        status.matched_terms = BTreeMap::from([(2, 3), (3, 3)]);
        let close = Duration::from_millis(50);
        status.contacts = BTreeMap::from([(2, close), (3, close)]);
        assert_eq!(status.role, Role::Leader);
        let members = (1..=3).map(|n| {
            Arc::new(Member {
                name: format!("s{n}"),
                id: Uuid::from_u128(n),
                addr: ([127, 0, 0, n as u8], 8301).into(),
                generation: 1,
                status: Status::Alive,
                tags: Tags::from([("build".to_owned(), "1.19.0:".to_owned())]),
            })
        });
        (status, members.collect())
    }

    #[test]
    fn everybody_well_tolerates_one_failure() {
        let (status, members) = world();
        let found = Stability::default().judge(&status, &members, &Autopilot::default(), 5);
        assert!(found.healthy);
        assert_eq!(found.failure_tolerance, 1);
        assert_eq!(found.servers[1].version, "1.19.0");
        assert_eq!(found.servers[0].last_contact, Some(Duration::ZERO));
    }

    #[test]
    fn each_reason_alone_makes_a_server_unhealthy() {
        let config = Autopilot::default();
        type Change = fn(&mut raft::Status, &mut Vec<Arc<Member>>);
        let changes: [Change; 5] = [
            |_, members| Arc::make_mut(&mut members[2]).status = Status::Failed,
            |status, _| {
                status.contacts.insert(3, Duration::from_millis(201));
            },
            |status, _| {
                status.contacts.remove(&3);
            },
            |status, _| {
                status.matched_terms.insert(3, 2);
            },
            |status, _| status.last_index = 90 + 251,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let (mut status, mut members) = world();
            change(&mut status, &mut members);
            status.matched.insert(2, status.last_index);
            let found = Stability::default().judge(&status, &members, &config, 5);
            assert!(!found.healthy, "change {at}");
            let well: Vec<bool> = found.servers.iter().map(|server| server.healthy).collect();
            assert_eq!(well, [true, true, false], "change {at}");
            assert_eq!(found.failure_tolerance, 0, "change {at}");
        }
    }

    #[test]
    fn stable_since_is_when_the_health_last_changed() {
        let (mut status, members) = world();
        let config = Autopilot::default();
        let mut stability = Stability::default();
        stability.judge(&status, &members, &config, 10);
        let since = |found: ClusterHealth| found.servers[2].stable_since_ms;
        assert_eq!(since(stability.judge(&status, &members, &config, 20)), 10);
        status.contacts.remove(&3);
        assert_eq!(since(stability.judge(&status, &members, &config, 30)), 30);
        assert_eq!(since(stability.judge(&status, &members, &config, 40)), 30);
    }
}
