//! May this server form a cluster? Pure decisions; `node::formation` carries them out.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::config::Bootstrap;
use crate::gossip::{Member, Status};

/// What a server knows when it asks itself whether to form a cluster.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// Own node id.
    pub own: Uuid,
    /// Own datacenter.
    pub datacenter: &'a str,
    /// Whether there is raft state in the data dir, or a cluster that this folder belongs to.
    pub has_state: bool,
    /// How it was told to bootstrap.
    pub mode: Bootstrap,
    /// What gossip knows, this server included.
    pub members: &'a [std::sync::Arc<Member>],
    /// Whether every address that it was given to join has been tried once.
    pub everybody_was_asked: bool,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// There is state already: start from it, flag or not.
    HasState,
    /// A cluster exists: do not form another, be a plain server and wait to be added.
    ClusterExists {
        /// Its id.
        cluster: Uuid,
        /// A member that says so.
        seen_on: String,
    },
    /// Wait, and decide again when gossip changes.
    Wait(Reason),
    /// Form a cluster of this server alone.
    FormAlone,
    /// Ask these servers (by node id, this one excluded) for their promise, then form a cluster of all.
    FormWith(Vec<Uuid>),
}

/// What a server waits for before it can take part in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Somebody must add it: it has no flag.
    ToBeAdded,
    /// The addresses to join have not all been asked yet.
    Answers,
    /// Fewer servers than expected are known.
    Servers {
        /// How many are alive and expect the same.
        known: u32,
        /// How many are expected.
        expected: u32,
    },
    /// Another server, by name, has the lower id and forms the cluster.
    Initiator(String),
    /// A server expects another number, or carries `-bootstrap`.
    Conflict {
        /// Its name.
        member: String,
        /// What it carries, as it would be typed.
        carries: String,
    },
}

/// Decides what a server that may have to form a cluster does next. Same input, same answer.
pub fn decide(situation: &Situation<'_>) -> Decision {
    if situation.has_state {
        return Decision::HasState;
    }
    let servers: Vec<&Member> = situation
        .members
        .iter()
        .map(|member| &**member)
        .filter(|m| m.tags.get("role").is_some_and(|role| role == "consul"))
        .filter(|m| m.tags.get("dc").is_none_or(|dc| dc == situation.datacenter))
        .collect();
    // Also one that failed or left: its cluster may be alive behind a partition.
    if let Some((cluster, seen_on)) = servers
        .iter()
        .filter(|m| m.id != situation.own)
        .find_map(|m| cluster_of(m).map(|id| (id, m.name.clone())))
    {
        return Decision::ClusterExists { cluster, seen_on };
    }
    match situation.mode {
        Bootstrap::Never => Decision::Wait(Reason::ToBeAdded),
        Bootstrap::Alone if !situation.everybody_was_asked => Decision::Wait(Reason::Answers),
        Bootstrap::Alone => Decision::FormAlone,
        Bootstrap::Expect(expected) => expect(situation.own, expected.get(), &servers),
    }
}

fn expect(own: Uuid, expected: u32, servers: &[&Member]) -> Decision {
    let alive = servers.iter().filter(|m| m.status == Status::Alive);
    let mut same = BTreeMap::new();
    for server in alive {
        let carries = match (
            server.tags.get("expect"),
            server.tags.contains_key("bootstrap"),
        ) {
            (_, true) => "-bootstrap".to_owned(),
            (Some(other), _) if *other != expected.to_string() => {
                format!("-bootstrap-expect={other}")
            }
            (Some(_), _) => {
                same.insert(server.id, &server.name);
                continue;
            }
            // Neither flag: it waits to be added, and is no obstacle.
            (None, false) => continue,
        };
        return Decision::Wait(Reason::Conflict {
            member: server.name.clone(),
            carries,
        });
    }
    let known = same.len() as u32;
    if known < expected {
        return Decision::Wait(Reason::Servers { known, expected });
    }
    // The lowest ids, so that every server that sees the same members names the same initiator.
    let chosen: Vec<Uuid> = same.keys().copied().take(expected as usize).collect();
    match chosen.first() {
        Some(&first) if first == own => {
            Decision::FormWith(chosen.into_iter().filter(|id| *id != own).collect())
        }
        Some(first) => Decision::Wait(Reason::Initiator(same[first].clone())),
        None => Decision::Wait(Reason::Servers { known, expected }),
    }
}

/// The cluster that a member says it belongs to.
pub fn cluster_of(member: &Member) -> Option<Uuid> {
    member.tags.get("cluster").and_then(|id| id.parse().ok())
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::ToBeAdded => f.write_str("a leader to add this server"),
            Reason::Answers => f.write_str("an answer of every address to join"),
            Reason::Servers { known, expected } => {
                write!(f, "{known} of {expected} expected servers are known")
            }
            Reason::Initiator(name) => write!(f, "{name} forms the cluster"),
            Reason::Conflict { member, carries } => write!(f, "{member} carries {carries}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn member(n: u128, tags: &[(&str, &str)]) -> Arc<Member> {
        let all = [("role", "consul"), ("dc", "dc1")];
        let all = all.into_iter().chain(tags.iter().copied()).collect();
        Arc::new(Member {
            name: format!("s{n}"),
            id: Uuid::from_u128(n),
            addr: ([127, 0, 0, n as u8], 8301).into(),
            generation: 1,
            status: Status::Alive,
            tags: all,
        })
    }

    fn expects(servers: u32) -> Bootstrap {
        Bootstrap::Expect(servers.try_into().unwrap())
    }

    fn situation(mode: Bootstrap, members: &[Arc<Member>]) -> Situation<'_> {
        Situation {
            own: Uuid::from_u128(1),
            datacenter: "dc1",
            has_state: false,
            mode,
            members,
            everybody_was_asked: true,
        }
    }

    #[test]
    fn a_flagged_server_forms_alone_only_after_everybody_was_asked() {
        let members = [member(1, &[("bootstrap", "1")])];
        let mut s = situation(Bootstrap::Alone, &members);
        assert_eq!(decide(&s), Decision::FormAlone);
        s.everybody_was_asked = false;
        assert_eq!(decide(&s), Decision::Wait(Reason::Answers));
    }

    #[test]
    fn raft_state_wins_over_every_flag() {
        let members = [member(1, &[])];
        for mode in [Bootstrap::Never, Bootstrap::Alone, expects(3)] {
            let s = Situation {
                has_state: true,
                ..situation(mode, &members)
            };
            assert_eq!(decide(&s), Decision::HasState);
        }
    }

    #[test]
    fn no_second_cluster_where_one_exists_even_behind_a_failed_member() {
        let cluster = Uuid::from_u128(77).to_string();
        let mut other = (*member(2, &[("cluster", &cluster)])).clone();
        for status in [Status::Alive, Status::Failed, Status::Left, Status::Leaving] {
            other.status = status;
            let members = [
                member(1, &[]),
                Arc::new(other.clone()),
                member(3, &[("expect", "3")]),
            ];
            for mode in [Bootstrap::Alone, expects(2)] {
                let decision = decide(&situation(mode, &members));
                assert!(
                    matches!(decision, Decision::ClusterExists { .. }),
                    "{mode:?} {status}: {decision:?}"
                );
            }
        }
    }

    #[test]
    fn the_lowest_id_forms_the_expected_cluster_and_the_others_wait() {
        let members = [
            member(1, &[("expect", "3")]),
            member(2, &[("expect", "3")]),
            member(3, &[("expect", "3")]),
        ];
        assert_eq!(
            decide(&situation(expects(3), &members)),
            Decision::FormWith(vec![Uuid::from_u128(2), Uuid::from_u128(3)])
        );
        let s = Situation {
            own: Uuid::from_u128(2),
            ..situation(expects(3), &members)
        };
        assert_eq!(decide(&s), Decision::Wait(Reason::Initiator("s1".into())));
    }

    #[test]
    fn nobody_forms_before_enough_servers_expect_the_same() {
        let two = [
            member(1, &[("expect", "3")]),
            member(2, &[("expect", "3")]),
            member(3, &[]),
        ];
        assert_eq!(
            decide(&situation(expects(3), &two)),
            Decision::Wait(Reason::Servers {
                known: 2,
                expected: 3
            })
        );
        for odd in [("expect", "5"), ("bootstrap", "1")] {
            let members = [
                member(1, &[("expect", "3")]),
                member(2, &[("expect", "3")]),
                member(3, &[odd]),
            ];
            let decision = decide(&situation(expects(3), &members));
            assert!(
                matches!(&decision, Decision::Wait(Reason::Conflict { member, .. }) if member == "s3"),
                "{decision:?}"
            );
        }
    }
}
