use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::crd;
use crate::observe::{Agent, Answers, Peer, Process, Raft, RaftData, Running, Seen};
use crate::plan::plan;

const OURS: Uuid = Uuid::from_u128(10);

fn resource() -> ConsulCluster {
    let text = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata: {name: d, generation: 4}\nspec: {}";
    crd::read(text).unwrap()
}

fn desired() -> Desired {
    Desired::new(&resource(), |_, number| format!("127.0.0.{}", number + 1))
}

fn server(role: Role) -> Agent {
    let names = ["d-server-0", "d-server-1", "d-server-2"].map(str::to_owned);
    let raft = Raft {
        role,
        term: 2,
        num_peers: 2,
        last_log_index: 9,
        commit_index: 9,
        ..Raft::default()
    };
    let seen = |name: &String| Seen {
        name: name.clone(),
        server: true,
        cluster: Some(OURS),
        ..Seen::default()
    };
    let peer = |name: &String| Peer {
        name: name.clone(),
        voter: true,
        ..Peer::default()
    };
    let answers = Answers {
        version: "1.19.0".into(),
        cluster: Some(OURS),
        raft: Some(raft),
        members: names.iter().map(seen).collect(),
        peers: names.iter().map(peer).collect(),
        ..Answers::default()
    };
    Agent {
        process: Process::Running(Running::default()),
        raft_data: RaftData::Present,
        answers: Some(answers),
        ..Agent::default()
    }
}

fn healthy() -> Observed {
    let roles = [Role::Leader, Role::Follower, Role::Follower];
    let servers = roles
        .into_iter()
        .enumerate()
        .map(|(n, role)| (format!("d-server-{n}"), server(role)));
    Observed {
        bootstrap: Latch::Done(OURS),
        servers: servers.collect(),
        clients: BTreeMap::new(),
    }
}

fn of(observed: &Observed, before: Option<ConsulClusterStatus>) -> ConsulClusterStatus {
    let cluster = ConsulCluster {
        status: before,
        ..resource()
    };
    let desired = desired();
    status(
        &cluster,
        &desired,
        observed,
        &plan(&desired, observed),
        Timestamp::UNIX_EPOCH,
    )
}

fn said<'a>(status: &'a ConsulClusterStatus, name: &str) -> (&'a str, &'a str) {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == name)
        .unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn a_healthy_cluster_is_ready_and_counted() {
    let status = of(&healthy(), None);
    assert_eq!(said(&status, "Ready"), ("True", "AsWanted"));
    assert_eq!(said(&status, "Reconciling"), ("False", "AsWanted"));
    assert_eq!(said(&status, "Bootstrapped"), ("True", "FlagGone"));
    assert_eq!(
        (status.voters, status.ready.as_deref(), status.servers),
        (3, Some("3/3"), 3)
    );
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(status.leader.as_deref(), Some("d-server-0"));
    assert_eq!(status.cluster_id, Some(OURS.to_string()));
    let roles: Vec<_> = status.members.iter().map(|m| m.role).collect();
    assert_eq!(
        roles,
        [
            Some(MemberRole::Leader),
            Some(MemberRole::Voter),
            Some(MemberRole::Voter)
        ]
    );
    assert_eq!(
        (status.observed_generation, status.version.as_deref()),
        (Some(4), Some("1.19.0"))
    );
}

#[test]
fn what_nobody_answers_for_is_unknown() {
    let mut observed = healthy();
    observed
        .servers
        .values_mut()
        .for_each(|agent| agent.answers = None);
    let status = of(&observed, None);
    for name in ["Ready", "Available", "SingleCluster", "Bootstrapped"] {
        assert_eq!(said(&status, name), ("Unknown", "NoAnswer"), "{name}");
    }
}

#[test]
fn a_second_cluster_is_never_ready() {
    let mut observed = healthy();
    let other = Uuid::from_u128(11);
    let strange = observed
        .servers
        .get_mut("d-server-2")
        .and_then(|agent| agent.answers.as_mut())
        .unwrap();
    strange.cluster = Some(other);
    let status = of(&observed, None);
    assert_eq!(said(&status, "SingleCluster"), ("False", "SecondCluster"));
    assert_eq!(said(&status, "Ready"), ("False", "SecondCluster"));
    assert_eq!(status.members[2].role, Some(MemberRole::Foreign));
}

#[test]
fn a_stranger_in_gossip_is_reported_and_not_touched() {
    let mut observed = healthy();
    let stranger = Seen {
        name: "x".into(),
        address: "127.0.0.9:8301".into(),
        server: true,
        cluster: Some(Uuid::from_u128(12)),
        ..Seen::default()
    };
    let leader = observed
        .servers
        .get_mut("d-server-0")
        .and_then(|agent| agent.answers.as_mut())
        .unwrap();
    leader.members.push(stranger);
    let status = of(&observed, None);
    assert_eq!(said(&status, "SingleCluster"), ("False", "ForeignServers"));
    assert_eq!(
        status
            .foreign
            .iter()
            .map(|f| f.name.as_str())
            .collect::<Vec<_>>(),
        ["x"]
    );
    assert_eq!(plan(&desired(), &observed), Step::Steady);
}

#[test]
fn a_stall_is_said_in_three_conditions() {
    let mut observed = healthy();
    observed.servers.clear();
    let status = of(&observed, None);
    assert_eq!(said(&status, "Stalled"), ("True", "BootstrapDataLost"));
    assert_eq!(said(&status, "Reconciling"), ("False", "Stalled"));
    assert_eq!(
        (said(&status, "Ready").0, status.phase),
        ("False", Some(Phase::Stalled))
    );
}

#[test]
fn the_time_of_a_condition_moves_only_with_its_status_and_an_id_stays() {
    let first = of(&healthy(), None);
    let later = Timestamp::from_second(100).unwrap();
    let cluster = ConsulCluster {
        status: Some(first.clone()),
        ..resource()
    };
    let (desired, mut observed) = (desired(), healthy());
    observed.servers.get_mut("d-server-2").unwrap().process = Process::Absent;
    observed.servers.get_mut("d-server-2").unwrap().answers = None;
    observed.bootstrap = Latch::Open;
    let second = status(
        &cluster,
        &desired,
        &observed,
        &plan(&desired, &observed),
        later,
    );
    let time = |status: &ConsulClusterStatus, name: &str| {
        status
            .conditions
            .iter()
            .find(|c| c.type_ == name)
            .unwrap()
            .last_transition_time
            .0
    };
    assert_eq!(
        time(&second, "Available"),
        Timestamp::UNIX_EPOCH,
        "still available"
    );
    assert_eq!(time(&second, "Ready"), later, "not ready any more");
    assert_eq!(second.cluster_id, first.cluster_id, "written once");
}
