//! What a person is told as Events: the evidence of the manual sequence, in its order. Pure.

use crate::crd::{ConsulClusterStatus, condition};
use crate::observe::{Observed, RaftData};
use crate::plan::{Desired, Seat, Step, View};

/// Something worth telling once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milestone {
    /// Short, in camel case.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
    /// Whether a person has to look.
    pub warning: bool,
}

fn said(reason: &'static str, note: String) -> Milestone {
    Milestone {
        reason,
        note,
        warning: false,
    }
}

/// Evidence of the manual sequence that is to be seen now, in the order of the sequence. Nothing once no server has the
/// flag: it is over then, and [`turns`] tells the rest.
pub fn evidence(desired: &Desired, observed: &Observed) -> Vec<Milestone> {
    let view = View::new(desired, observed);
    let mut told = Vec::new();
    let Some(first) = view.flagged() else {
        return told;
    };
    let agent = view.server(first);
    let started = agent.running().is_some_and(|pod| !pod.uptime().is_zero());
    if started || agent.answers.is_some() {
        told.push(said(
            "FirstServerStarted",
            format!("{} runs with -server -bootstrap", first.name),
        ));
    }
    let Some(leader) = view.leader.filter(|leader| leader.seat == first) else {
        return told;
    };
    let cluster = view
        .cluster
        .map_or_else(String::new, |id| format!(" of cluster {id}"));
    told.push(said(
        "LeadershipAcquired",
        format!("{} acquired the leadership{cluster}, alone", first.name),
    ));
    if view.stopping(view.server(first), first) {
        // On its way out: what it says of the others from now on is no evidence any more.
        return told;
    }
    let others = || desired.wanted().iter().filter(|seat| *seat != first);
    // What the leader says of a server comes after what the server says of itself, as in the manual, although it may be
    // a member before it is first asked.
    let started = || {
        let answers = |seat: &&Seat| {
            let agent = view.server(seat);
            agent.running().is_some() && agent.answers.is_some()
        };
        others().filter(answers)
    };
    for seat in started() {
        told.push(said(
            "ServerStarted",
            format!(
                "{} runs with -server, without -bootstrap, and does not lead",
                seat.name
            ),
        ));
    }
    for seat in started().filter(|seat| leader.answers.sees_alive(&seat.name)) {
        told.push(said(
            "ServerJoined",
            format!("{} is a member, seen by {}", seat.name, first.name),
        ));
    }
    for seat in started().filter(|seat| view.votes(seat)) {
        told.push(said(
            "PeerAdded",
            format!("{} added {} as a peer, and it votes", first.name, seat.name),
        ));
    }
    let verified = others().count() > 0
        && others().all(|seat| view.caught_up(seat) && view.behind(seat) == Some(0));
    if verified {
        let note = format!(
            "{}: raft.num_peers = {}, and every server has its last log entry",
            first.name, leader.raft.num_peers
        );
        told.push(said("ReplicationVerified", note));
    }
    told
}

/// What has changed since the status was last written.
pub fn turns(before: Option<&ConsulClusterStatus>, after: &ConsulClusterStatus) -> Vec<Milestone> {
    let mut told = Vec::new();
    let empty = ConsulClusterStatus::default();
    let before = before.unwrap_or(&empty);
    if let Some(leader) = after
        .leader
        .as_ref()
        .filter(|leader| before.leader.as_ref() != Some(*leader))
        && after.cluster_id.is_some()
        && before.leader.is_some()
    {
        told.push(said("LeaderChanged", format!("{leader} leads")));
    }
    let holds = |status: &ConsulClusterStatus, name: &str| {
        status
            .conditions
            .iter()
            .any(|c| c.type_ == name && c.status == "True")
    };
    let text = |name: &str| {
        let found = after.conditions.iter().find(|c| c.type_ == name);
        found.map(|c| c.message.clone()).unwrap_or_default()
    };
    for (name, reason) in [
        (condition::BOOTSTRAPPED, "Bootstrapped"),
        (condition::READY, "Ready"),
    ] {
        if holds(after, name) && !holds(before, name) {
            told.push(said(reason, text(name)));
        }
    }
    // Before that nobody was promised anything, and the only server of one is down while it is restarted.
    let promised = holds(before, condition::BOOTSTRAPPED);
    if promised && holds(before, condition::AVAILABLE) && !holds(after, condition::AVAILABLE) {
        let note = text(condition::AVAILABLE);
        told.push(Milestone {
            warning: true,
            ..said("Unavailable", note)
        });
    }
    for stranger in &after.foreign {
        if !before
            .foreign
            .iter()
            .any(|known| known.name == stranger.name)
        {
            let note = format!(
                "{} at {} belongs to another cluster and is not added",
                stranger.name, stranger.address
            );
            told.push(Milestone {
                warning: true,
                ..said("ForeignServer", note)
            });
        }
    }
    told
}

/// The step itself, if it changes something or asks for a person.
pub fn step(step: &Step, observed: &Observed) -> Option<Milestone> {
    let reason = match step {
        Step::Reserve { .. } => "BootstrapReserved",
        Step::StartFirst(_) => "StartFirstServer",
        Step::Record { .. } => "ClusterRecorded",
        Step::StartServers(_) => "StartServers",
        Step::StartAgain(_) => "StartAgain",
        Step::RestartDead(launch) => {
            let agent = observed.servers.get(&launch.name);
            match agent.map(|agent| agent.raft_data) {
                Some(RaftData::Present) => "StartWithData",
                _ => "RestartServer",
            }
        }
        Step::Join { .. } => "Join",
        Step::RestartFirstWithoutBootstrap { .. } => "RestartWithoutBootstrap",
        Step::StopUnformed { .. } => "StopUnformed",
        Step::RepairSecondBootstrap { .. } => "RepairSecondBootstrap",
        Step::MoveAside { .. } => "MoveAside",
        Step::RecoverQuorum(_) => "RecoverQuorum",
        Step::TransferLeader { .. } => "TransferLeader",
        Step::RemoveServer { .. } => "RemoveServer",
        Step::ForgetServer { .. } => "ForgetServer",
        Step::RemoveGhost { .. } => "RemoveGhost",
        Step::ReplaceServer { .. } => "ReplaceServer",
        Step::SetMinQuorum { .. } => "SetMinQuorum",
        Step::StartClients(_) => "StartClients",
        Step::StopClient { .. } => "StopClient",
        Step::Stalled(_) => {
            let note = step.to_string();
            return Some(Milestone {
                warning: true,
                ..said("Stalled", note)
            });
        }
        Step::Wait(_) | Step::Steady => return None,
    };
    Some(said(reason, step.to_string()))
}
