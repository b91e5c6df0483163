//! Observed state and the chosen step -> status and conditions. Pure.

mod conditions;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::crd::{
    BootstrapRecord, ConsulCluster, ConsulClusterStatus, Foreign, MemberRole, MemberStatus, Phase,
};
use crate::observe::{Latch, Observed, Role, Status};
use crate::plan::{Desired, Seat, Stall, Step, View, Waiting};

/// The status that belongs to this observation and step.
///
/// The status of before is where conditions keep the time of their last change, and a cluster id once written stays.
pub fn status(
    cluster: &ConsulCluster,
    desired: &Desired,
    observed: &Observed,
    step: &Step,
    now: Timestamp,
) -> ConsulClusterStatus {
    let view = View::new(desired, observed);
    let before = cluster.status.clone().unwrap_or_default();
    let generation = cluster.metadata.generation;
    let conditions = conditions::conditions(&view, step, &before.conditions, Time(now), generation);
    let wanted = desired.wanted();
    let ready = wanted.iter().filter(|seat| view.caught_up(seat)).count();
    let exists = |seat: &&Seat| observed.servers.get(&seat.name).is_some_and(exists);
    let recorded = match &observed.bootstrap {
        Latch::Done(id) => Some(id.to_string()),
        Latch::Open | Latch::Reserved(_) => None,
    };
    let reserved = match &observed.bootstrap {
        Latch::Reserved(name) => Some(BootstrapRecord {
            name: name.clone(),
            ..BootstrapRecord::default()
        }),
        Latch::Open | Latch::Done(_) => None,
    };
    ConsulClusterStatus {
        observed_generation: generation,
        phase: Some(phase(&view, step)),
        message: Some(step.to_string()),
        cluster_id: before.cluster_id.or(recorded),
        bootstrap_server: before.bootstrap_server.or(reserved),
        servers: count(desired.server_seats.iter().filter(exists).count()),
        ready_servers: count(ready),
        ready: Some(format!("{ready}/{}", desired.servers)),
        voters: count(view.voters()),
        clients: count(members(&view)),
        leader: view.leader.map(|leader| leader.seat.name.clone()),
        version: version(&view),
        last_log_index: view.leader.map(|leader| index(leader.raft.last_log_index)),
        flagged: view.flagged().map(|seat| seat.name.clone()),
        members: desired
            .server_seats
            .iter()
            .filter_map(|seat| member(&view, seat))
            .collect(),
        foreign: foreign(&view),
        last_backup: before.last_backup,
        restored: before.restored,
        security: before.security,
        selector: before.selector,
        conditions,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn index(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whether there is anything of that server: a process or data.
fn exists(agent: &crate::observe::Agent) -> bool {
    agent.running().is_some() || agent.raft_data != crate::observe::RaftData::Absent
}

/// Clients that run and that the leader sees alive.
fn members(view: &View<'_>) -> usize {
    let Some(leader) = view.leader else { return 0 };
    let alive = |seat: &&Seat| {
        view.client(seat).running().is_some() && leader.answers.sees_alive(&seat.name)
    };
    view.desired.client_seats.iter().filter(alive).count()
}

/// The oldest version that a server runs.
fn version(view: &View<'_>) -> Option<String> {
    let versions = view
        .seats()
        .iter()
        .filter_map(|seat| view.server(seat).answers.as_ref().map(|a| &a.version));
    let key = |version: &&String| {
        version
            .split(['.', '-', '+'])
            .map(|part| part.parse::<u64>().unwrap_or(0))
            .collect::<Vec<_>>()
    };
    versions
        .filter(|version| !version.is_empty())
        .min_by_key(key)
        .cloned()
}

fn member(view: &View<'_>, seat: &Seat) -> Option<MemberStatus> {
    let agent = view.observed.servers.get(&seat.name)?;
    if !exists(agent) {
        return None;
    }
    let answers = agent.answers.as_ref();
    let revision = agent.running().map(|running| running.revision.clone());
    Some(MemberStatus {
        name: seat.name.clone(),
        node_id: answers
            .map(|answers| answers.node_id.clone())
            .filter(|id| !id.is_empty()),
        address: Some(seat.address.clone()),
        pod: None,
        pod_uid: None,
        role: role(view, seat),
        last_log_index: agent.raft().map(|raft| index(raft.last_log_index)),
        bootstrap_flag: agent.flagged(),
        revision: revision.filter(|revision| !revision.is_empty()),
        cluster_id: agent.cluster().map(|id| id.to_string()),
    })
}

fn role(view: &View<'_>, seat: &Seat) -> Option<MemberRole> {
    let agent = view.server(seat);
    let raft = agent.raft()?;
    Some(if view.foreign(seat).is_some() {
        MemberRole::Foreign
    } else if raft.role == Role::Leader && view.leader.is_some_and(|leader| leader.seat == seat) {
        MemberRole::Leader
    } else {
        match view.peer(seat) {
            Some(peer) if peer.voter => MemberRole::Voter,
            Some(_) => MemberRole::Learner,
            None => MemberRole::Left,
        }
    })
}

/// Servers of other clusters that any of ours sees in gossip, except our own, which `members` shows.
fn foreign(view: &View<'_>) -> Vec<Foreign> {
    let Some(cluster) = view.cluster else {
        return Vec::new();
    };
    let mut foreign: Vec<Foreign> = Vec::new();
    for seat in view.seats() {
        let Some(answers) = &view.server(seat).answers else {
            continue;
        };
        if answers.cluster != Some(cluster) {
            continue;
        }
        let ours = |name: &str| {
            view.seats()
                .iter()
                .any(|seat| seat.name.eq_ignore_ascii_case(name))
        };
        let strangers = answers.members.iter().filter(|m| {
            m.server
                && m.status == Status::Alive
                && m.cluster.is_some_and(|id| id != cluster)
                && !ours(&m.name)
        });
        for member in strangers {
            if !foreign.iter().any(|known| known.name == member.name) {
                let cluster_id = member.cluster.map(|id| id.to_string());
                foreign.push(Foreign {
                    name: member.name.clone(),
                    address: member.address.clone(),
                    cluster_id,
                });
            }
        }
    }
    foreign.sort_by(|a, b| a.name.cmp(&b.name));
    foreign
}

/// Whether any server may hold data of a cluster.
fn has_data(view: &View<'_>) -> bool {
    let present = |seat: &Seat| view.server(seat).raft_data == crate::observe::RaftData::Present;
    view.seats().iter().any(present)
}

/// Where the cluster is in its life, from what is done next.
fn phase(view: &View<'_>, step: &Step) -> Phase {
    let forming = view.leader.is_none() && !matches!(view.observed.bootstrap, Latch::Done(_));
    let flagged = view.flagged().is_some();
    match step {
        Step::Reserve { .. } => Phase::Preparing,
        Step::StartFirst(_) | Step::Record { .. } | Step::StopUnformed { .. } => {
            Phase::Bootstrapping
        }
        Step::StartServers(_) if flagged => Phase::Expanding,
        Step::Join { .. } if flagged => Phase::Joining,
        Step::RestartFirstWithoutBootstrap { .. } | Step::StartAgain(_) => Phase::Rotating,
        Step::StartClients(_) | Step::SetMinQuorum { .. } => Phase::Settling,
        Step::RepairSecondBootstrap { .. } | Step::RemoveGhost { .. } | Step::MoveAside { .. } => {
            Phase::Repairing
        }
        Step::RecoverQuorum(_) => Phase::Healing,
        Step::StartServers(_) | Step::RemoveServer { .. } | Step::ForgetServer { .. } => {
            Phase::Scaling
        }
        Step::ReplaceServer { .. } | Step::TransferLeader { .. } | Step::StopClient { .. } => {
            Phase::Updating
        }
        Step::RestartDead(_) if forming => Phase::Adopting,
        Step::RestartDead(_) | Step::Join { .. } => Phase::Healing,
        Step::Steady => Phase::Running,
        Step::Stalled(_) => Phase::Stalled,
        Step::Wait(waiting) => match waiting {
            Waiting::Paused | Waiting::PausedBefore(_) => Phase::Paused,
            Waiting::FlagInGossip { .. } | Waiting::Member(_) => Phase::Settling,
            Waiting::Death(_) => Phase::Scaling,
            Waiting::Unsafe(_) if !flagged => Phase::Updating,
            Waiting::Leader | Waiting::Answer(_) if forming && !flagged && has_data(view) => {
                Phase::Adopting
            }
            Waiting::Leader | Waiting::Answer(_) if forming => Phase::Bootstrapping,
            Waiting::Answer(_) | Waiting::Peer(_) if flagged => Phase::Joining,
            Waiting::Voters { .. } | Waiting::Replication { .. } if flagged => Phase::Verifying,
            Waiting::Exit(_) if flagged => Phase::Rotating,
            _ => Phase::Healing,
        },
    }
}

/// The short reason of a stall, for conditions and metrics.
fn stall_reason(stall: &Stall) -> &'static str {
    match stall {
        Stall::DataLost { .. } => "BootstrapDataLost",
        Stall::ReservedElsewhere { .. } => "ReservedElsewhere",
        Stall::QuorumLost { .. } => "QuorumLost",
        Stall::DataInUse { .. } => "DataInUse",
        Stall::OtherCluster { .. } => "OtherCluster",
        Stall::UnknownVoter { .. } => "UnknownVoter",
        Stall::StartFails { .. } => "StartFails",
        Stall::Stuck { .. } => "Stuck",
        Stall::Refused { .. } => "Refused",
    }
}

#[cfg(test)]
mod tests;
