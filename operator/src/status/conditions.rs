//! The six conditions. A condition that cannot be known is Unknown: a frozen `True` over a dead cluster is a lie.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{foreign, stall_reason};
use crate::crd::condition;
use crate::observe::{Latch, Status};
use crate::plan::{Seat, Step, View};

/// What a condition says.
struct Said {
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn yes(reason: &'static str, message: impl Into<String>) -> Said {
    Said {
        status: "True",
        reason,
        message: message.into(),
    }
}

fn no(reason: &'static str, message: impl Into<String>) -> Said {
    Said {
        status: "False",
        reason,
        message: message.into(),
    }
}

fn unknown(reason: &'static str, message: impl Into<String>) -> Said {
    Said {
        status: "Unknown",
        reason,
        message: message.into(),
    }
}

/// All six, in a fixed order. The time of one that did not change is kept.
pub(super) fn conditions(
    view: &View<'_>,
    step: &Step,
    before: &[Condition],
    now: Time,
    generation: Option<i64>,
) -> Vec<Condition> {
    let (available, single, bootstrapped) =
        (available(view), single_cluster(view), bootstrapped(view));
    let said = [
        (
            condition::READY,
            ready(step, &available, &single, &bootstrapped),
        ),
        (condition::RECONCILING, reconciling(step)),
        (condition::STALLED, stalled(step)),
        (condition::BOOTSTRAPPED, bootstrapped),
        (condition::SINGLE_CLUSTER, single),
        (condition::AVAILABLE, available),
    ];
    let kept = |name: &str, status: &str| {
        let old = before
            .iter()
            .find(|old| old.type_ == name && old.status == status);
        old.map_or_else(|| now.clone(), |old| old.last_transition_time.clone())
    };
    said.into_iter()
        .map(|(name, said)| Condition {
            last_transition_time: kept(name, said.status),
            message: said.message,
            observed_generation: generation,
            reason: said.reason.to_owned(),
            status: said.status.to_owned(),
            type_: name.to_owned(),
        })
        .collect()
}

/// The first of the others that is not True decides; `Unknown` beats nothing but True.
fn ready(step: &Step, available: &Said, single: &Said, bootstrapped: &Said) -> Said {
    for said in [available, single, bootstrapped] {
        match said.status {
            "False" => return no(said.reason, said.message.clone()),
            "Unknown" => return unknown(said.reason, said.message.clone()),
            _ => {}
        }
    }
    match step {
        Step::Steady => yes(
            "AsWanted",
            "all servers are caught-up voters of one cluster",
        ),
        Step::Stalled(stall) => no(stall_reason(stall), stall.to_string()),
        other => no("StepsRemain", other.to_string()),
    }
}

fn reconciling(step: &Step) -> Said {
    match step {
        Step::Steady => no("AsWanted", "nothing to do"),
        Step::Stalled(stall) => no("Stalled", stall.to_string()),
        Step::Wait(waiting) => yes("Waiting", waiting.to_string()),
        other => yes("Step", other.to_string()),
    }
}

fn stalled(step: &Step) -> Said {
    match step {
        Step::Stalled(stall) => yes(stall_reason(stall), stall.to_string()),
        _ => no("Able", "the operator can go on by itself"),
    }
}

/// Nobody of the servers that run answers.
fn silent(view: &View<'_>) -> bool {
    let running = || {
        view.seats()
            .iter()
            .map(|seat| view.server(seat))
            .filter(|agent| agent.running().is_some())
    };
    running().next().is_some() && running().all(|agent| agent.answers.is_none())
}

const SILENT: &str = "no server answers";

fn available(view: &View<'_>) -> Said {
    if silent(view) {
        return unknown("NoAnswer", SILENT);
    }
    let Some(leader) = view.leader else {
        return no("NoLeader", "there is no leader");
    };
    // Whether writes are accepted: also one that is about to stop, or trails a little, still votes. One that was asked a
    // moment before the leader gave it a vote does not know its cluster yet; a leader without a quorum soon does not lead.
    let votes_now = |seat: &&Seat| {
        view.votes(seat) && view.server(seat).answers.is_some() && view.foreign(seat).is_none()
    };
    let voters = view.voters();
    let counted = view.seats().iter().filter(votes_now).count();
    let message = format!(
        "{} leads, {counted} of {voters} voters answer",
        leader.seat.name
    );
    if counted > voters / 2 {
        yes("Quorum", message)
    } else {
        no("NoQuorum", message)
    }
}

fn bootstrapped(view: &View<'_>) -> Said {
    if let Some(flagged) = view.flagged() {
        return no(
            "FlagInUse",
            format!("{} runs with -bootstrap", flagged.name),
        );
    }
    if !matches!(view.observed.bootstrap, Latch::Done(_)) {
        return no("NotFormed", "no cluster is on record");
    }
    if silent(view) {
        return unknown("NoAnswer", SILENT);
    }
    let answers = view
        .seats()
        .iter()
        .filter_map(|seat| view.server(seat).answers.as_ref());
    let ours = |name: &str| {
        view.seats()
            .iter()
            .any(|seat| seat.name.eq_ignore_ascii_case(name))
    };
    let mut tagged = answers
        .flat_map(|a| &a.members)
        .filter(|m| m.bootstrap && m.status == Status::Alive && ours(&m.name));
    match tagged.next() {
        Some(member) => no(
            "FlagInGossip",
            format!(
                "{} still carries the tag of -bootstrap in gossip",
                member.name
            ),
        ),
        None => yes(
            "FlagGone",
            "no server runs with -bootstrap, and none will again",
        ),
    }
}

fn single_cluster(view: &View<'_>) -> Said {
    let Some(cluster) = view.cluster else {
        return unknown("NotFormed", "no cluster is known");
    };
    if silent(view) {
        return unknown("NoAnswer", SILENT);
    }
    let second = view
        .seats()
        .iter()
        .find_map(|seat| Some((seat, view.foreign(seat)?)));
    if let Some((seat, other)) = second {
        return no(
            "SecondCluster",
            format!("{} belongs to cluster {other}, not to {cluster}", seat.name),
        );
    }
    match foreign(view).as_slice() {
        [] if view
            .seats()
            .iter()
            .any(|seat| view.server(seat).answers.is_some()) =>
        {
            yes("OneCluster", format!("cluster {cluster}"))
        }
        [] => unknown("NoAnswer", "no server runs"),
        [stranger, ..] => no(
            "ForeignServers",
            format!(
                "{} at {} belongs to another cluster and gossips with this one",
                stranger.name, stranger.address
            ),
        ),
    }
}
