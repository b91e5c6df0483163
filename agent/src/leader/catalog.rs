//! The catalog follows gossip: which row to write next. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::config::Config;
use crate::gossip::{Member, Status};
use crate::state::{
    Answer, Check, CheckStatus, Command, Deregister, Node, Query, Register, SERF_HEALTH, Service,
    Store,
};

/// Id and name of the service that stands for the servers.
const CONSUL: &str = "consul";

/// The next command that brings the catalog closer to what gossip knows; `None` when they agree.
///
/// Nodes without a [`SERF_HEALTH`] check were registered from outside and are left alone.
pub fn next_command(members: &[Arc<Member>], datacenter: &str, store: &Store) -> Option<Command> {
    let ours = || {
        members
            .iter()
            .filter(|m| m.tags.get("dc").is_some_and(|dc| dc == datacenter))
    };
    ours()
        .find_map(|member| match member.status {
            Status::Alive | Status::Leaving => {
                register(member, datacenter, store, CheckStatus::Passing)
            }
            Status::Failed => register(member, datacenter, store, CheckStatus::Critical),
            Status::Left => gossiped(store, &member.name).then(|| deregister(&member.name, "left")),
        })
        .or_else(|| {
            let known: BTreeSet<String> = members.iter().map(|m| m.name.to_lowercase()).collect();
            let Answer::Nodes(nodes) = store.query(&Query::Nodes {
                meta: BTreeMap::new(),
            }) else {
                return None;
            };
            let reaped = nodes.iter().find(|node| {
                !known.contains(&node.node.to_lowercase()) && gossiped(store, &node.node)
            })?;
            Some(deregister(&reaped.node, "reaped"))
        })
}

fn deregister(node: &str, reason: &str) -> Command {
    tracing::info!(target: "consul", "deregistering member: member={node} partition=default reason={reason}");
    Command::Deregister(Deregister::Node {
        node: node.to_owned(),
    })
}

/// Whether the catalog has this node from gossip.
fn gossiped(store: &Store, node: &str) -> bool {
    serf_health(store, node).is_some()
}

fn serf_health(store: &Store, node: &str) -> Option<Arc<Check>> {
    let Answer::Checks(checks) = store.query(&Query::NodeChecks {
        node: node.to_owned(),
    }) else {
        return None;
    };
    checks
        .into_iter()
        .find(|check| check.check_id == SERF_HEALTH)
}

fn register(
    member: &Member,
    datacenter: &str,
    store: &Store,
    health: CheckStatus,
) -> Option<Command> {
    let service = service_row(member);
    let check = check_row(member, health);
    let Answer::Node(known) = store.query(&Query::Node {
        node: member.name.clone(),
    }) else {
        return None;
    };
    let node = node_row(member, datacenter, known.as_deref());
    let known_health = serf_health(store, &member.name).map(|check| check.status);
    let known_service = match store.query(&Query::NodeServices {
        node: member.name.clone(),
    }) {
        Answer::NodeServices(Some(services)) => {
            services.services.iter().find(|s| s.id == CONSUL).cloned()
        }
        _ => None,
    };
    let same_node = known.is_some_and(|known| {
        Node {
            create_index: 0,
            modify_index: 0,
            ..(*known).clone()
        } == node
    });
    let same_service = known_service.map(|known| Service {
        create_index: 0,
        modify_index: 0,
        ..(*known).clone()
    }) == service;
    if same_node && same_service && known_health == Some(health) {
        return None;
    }
    if known_health != Some(health) {
        match health {
            CheckStatus::Passing => {
                tracing::info!(target: "consul", "member joined, marking health alive: member={}", member.name);
            }
            _ => {
                tracing::info!(target: "consul", "member failed, marking health critical: member={}", member.name)
            }
        }
    }
    if service.is_none() && !same_service {
        let (node, id) = (member.name.clone(), CONSUL.to_owned());
        return Some(Command::Deregister(Deregister::Service { node, id }));
    }
    Some(Command::Register(Box::new(Register {
        node,
        skip_node_update: false,
        services: service.into_iter().collect(),
        checks: vec![check],
    })))
}

/// What an agent's own row in the catalog has to say; it and the leader write the same, unless somebody configured more.
pub fn own_row(config: &Config, id: Uuid) -> Node {
    let mut row = base_row(
        &config.node_name,
        id,
        config.advertise_addr,
        crate::VERSION,
        &config.datacenter,
    );
    let wan = config.wan.advertise;
    let family = if wan.is_ipv4() { "ipv4" } else { "ipv6" };
    for name in ["wan".to_owned(), format!("wan_{family}")] {
        row.tagged_addresses.insert(name, wan.to_string());
    }
    row.tagged_addresses.extend(config.tagged_addresses.clone());
    row.meta.extend(config.node_meta.clone());
    row
}

fn base_row(name: &str, id: Uuid, ip: IpAddr, version: &str, datacenter: &str) -> Node {
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let addresses = [
        "lan".to_owned(),
        format!("lan_{family}"),
        "wan".to_owned(),
        format!("wan_{family}"),
    ]
    .map(|name| (name, ip.to_string()));
    let meta = [("consul-network-segment", ""), ("consul-version", version)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    Node {
        id: Some(id),
        node: name.to_owned(),
        address: ip.to_string(),
        datacenter: datacenter.to_owned(),
        tagged_addresses: addresses.into(),
        meta: meta.into(),
        create_index: 0,
        modify_index: 0,
    }
}

/// A member's row. What only its agent can know, further addresses and meta data, is left as the catalog has it.
fn node_row(member: &Member, datacenter: &str, known: Option<&Node>) -> Node {
    let build = member.tags.get("build").unwrap_or_default();
    let version = build.split(':').next().unwrap_or_default();
    let base = base_row(
        &member.name,
        member.id,
        member.addr.ip(),
        version,
        datacenter,
    );
    match known.filter(|known| known.id == base.id && known.address == base.address) {
        None => base,
        Some(known) => Node {
            tagged_addresses: known.tagged_addresses.clone(),
            meta: known.meta.clone(),
            ..base
        },
    }
}

fn service_row(member: &Member) -> Option<Service> {
    let server = member.tags.get("role").is_some_and(|role| role == CONSUL);
    let port = member
        .tags
        .get("port")
        .and_then(|port| port.parse().ok())
        .filter(|_| server)?;
    let meta = ["raft_version", "serf_protocol_current", "version"]
        .into_iter()
        .zip(["3".to_owned(), "2".to_owned(), crate::VERSION.to_owned()])
        .map(|(name, value)| (name.to_owned(), value));
    Some(Service {
        id: CONSUL.to_owned(),
        service: CONSUL.to_owned(),
        port,
        meta: meta.collect(),
        ..Service::default()
    })
}

fn check_row(member: &Member, status: CheckStatus) -> Check {
    let output = match status {
        CheckStatus::Passing => "Agent alive and reachable",
        _ => "Agent not live or unreachable",
    };
    Check {
        node: member.name.clone(),
        check_id: SERF_HEALTH.to_owned(),
        name: "Serf Health Status".to_owned(),
        status,
        output: output.to_owned(),
        ..Check::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Stamped;

    fn member(n: u8, role: &str, status: Status) -> Arc<Member> {
        let tags = [
            ("role", role),
            ("dc", "dc1"),
            ("port", "8300"),
            ("build", "1.19.0:"),
        ];
        Arc::new(Member {
            name: format!("N{n}"),
            id: Uuid::from_u128(n.into()),
            addr: ([127, 0, 0, n], 8301).into(),
            generation: 1,
            status,
            tags: tags.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        })
    }

    /// Applies commands until catalog and gossip agree; how many it took.
    fn settle(store: &mut Store, members: &[Arc<Member>]) -> usize {
        for n in 0..100 {
            let Some(command) = next_command(members, "dc1", store) else {
                return n;
            };
            let index = store.last_index() + 1;
            store.apply(
                index,
                &Stamped {
                    unix_ms: 0,
                    command,
                },
            );
        }
        panic!("the catalog never agrees with gossip");
    }

    fn names(store: &Store) -> Vec<String> {
        let Answer::Nodes(nodes) = store.query(&Query::Nodes {
            meta: BTreeMap::new(),
        }) else {
            panic!()
        };
        nodes.iter().map(|node| node.node.clone()).collect()
    }

    #[test]
    fn members_are_registered_once_and_then_nothing_is_written() {
        let members = [
            member(1, "consul", Status::Alive),
            member(2, "node", Status::Alive),
        ];
        let mut store = Store::default();
        assert_eq!(settle(&mut store, &members), 2);
        assert_eq!(names(&store), ["N1", "N2"]);
        let Answer::ServiceNodes(servers) = store.query(&Query::ServiceNodes {
            service: "consul".into(),
            tags: vec![],
        }) else {
            panic!()
        };
        assert_eq!(
            servers.len(),
            1,
            "a client is no instance of the consul service"
        );
        assert_eq!(settle(&mut store, &members), 0);
    }

    #[test]
    fn a_failed_member_turns_critical_and_back() {
        let mut store = Store::default();
        settle(&mut store, &[member(1, "consul", Status::Alive)]);
        for (status, health) in [
            (Status::Failed, CheckStatus::Critical),
            (Status::Alive, CheckStatus::Passing),
        ] {
            assert_eq!(settle(&mut store, &[member(1, "consul", status)]), 1);
            assert_eq!(serf_health(&store, "N1").unwrap().status, health);
        }
    }

    #[test]
    fn one_that_left_or_was_reaped_goes_and_one_from_outside_stays() {
        let mut store = Store::default();
        settle(
            &mut store,
            &[
                member(1, "consul", Status::Alive),
                member(2, "node", Status::Alive),
                member(3, "node", Status::Alive),
            ],
        );
        let outside = Register {
            node: Node {
                node: "outside".into(),
                address: "10.0.0.1".into(),
                ..Node::default()
            },
            skip_node_update: false,
            services: vec![],
            checks: vec![],
        };
        store.apply(
            50,
            &Stamped {
                unix_ms: 0,
                command: Command::Register(Box::new(outside)),
            },
        );
        settle(
            &mut store,
            &[
                member(1, "consul", Status::Alive),
                member(2, "node", Status::Left),
            ],
        );
        assert_eq!(names(&store), ["N1", "outside"]);
    }

    #[test]
    fn members_of_another_datacenter_are_not_registered() {
        let mut foreign = (*member(1, "consul", Status::Alive)).clone();
        foreign.tags.insert("dc", "dc2");
        assert_eq!(
            next_command(&[Arc::new(foreign)], "dc1", &Store::default()),
            None
        );
    }
}
