//! Bringing servers back into the cluster: restart, repair, join, and waiting until they count again.

use super::change::outdated;
use super::step::Kept;
use super::view::{View, startable};
use super::{Seat, Stall, Step, Waiting};
use crate::observe::{Agent, Process, RaftData};

/// A server of the cluster whose process is gone starts again, without the flag.
///
/// With a leader, its configuration says who belongs. Without one, whoever holds state may be needed for a quorum, also
/// one that is not wanted any more but still has a vote.
pub(super) fn dead(view: &View<'_>) -> Option<Step> {
    let gone = |seat: &&Seat| {
        let agent = view.server(seat);
        let wanted = view.desired.wanted().contains(seat);
        let belongs = match view.leader {
            Some(_) => wanted && view.peer(seat).is_some(),
            None => agent.raft_data == RaftData::Present && (wanted || view.votes(seat)),
        };
        belongs && startable(agent)
    };
    view.seats()
        .iter()
        .find(gone)
        .map(|seat| Step::RestartDead(view.launch(seat, true)))
}

/// An accidental second bootstrap server of our own: its one-node cluster is moved aside, so that it can join ours.
pub(super) fn second_bootstrap(view: &View<'_>) -> Option<Step> {
    view.seats().iter().find_map(|seat| {
        let cluster = view.foreign(seat)?;
        kept(view, seat)
            .is_none()
            .then(|| Step::RepairSecondBootstrap {
                server: seat.name.clone(),
                cluster,
            })
    })
}

/// Why the data of a server of another cluster is left where it is.
fn kept(view: &View<'_>, seat: &Seat) -> Option<Kept> {
    let answers = view.server(seat).answers.as_ref();
    let voters = answers.map_or(0, |a| a.peers.iter().filter(|peer| peer.voter).count());
    let others = view.server(seat).raft().map_or(0, |raft| raft.num_peers);
    if others > 0 || voters > 1 {
        return Some(Kept::SeveralVoters);
    }
    if !view.desired.move_aside {
        return Some(Kept::NotAllowed);
    }
    view.leader.is_none().then_some(Kept::NoLeader)
}

/// A server that lost its data dir is another node. Its former self can never vote again and only counts against the
/// quorum: it is taken out by its id.
pub(super) fn ghost(view: &View<'_>) -> Option<Step> {
    let leader = view.leader?;
    view.seats().iter().find_map(|seat| {
        let ghost = view.ghost(seat)?;
        let back = view.foreign(seat).is_none() && view.server(seat).running().is_some();
        back.then(|| Step::RemoveGhost {
            server: seat.name.clone(),
            id: ghost.node_id.clone(),
            leader: leader.seat.name.clone(),
        })
    })
}

/// Step 3: whoever the leader does not see in gossip joins it. Without a leader the servers that hold state find each
/// other, so that one can be elected. Servers of another cluster are never joined.
pub(super) fn join(view: &View<'_>) -> Option<Step> {
    let stateful =
        |seat: &&Seat| view.server(seat).answers.is_some() && view.server(seat).has_state();
    let ours =
        |seat: &Seat| view.foreign(seat).is_none() && !view.stopping(view.server(seat), seat);
    let anchor = match view.leader {
        Some(leader) => leader.seat,
        None => view
            .seats()
            .iter()
            .find(|seat| stateful(seat) && ours(seat))?,
    };
    let seen = view.server(anchor).answers.as_ref()?;
    let apart = |seat: &&Seat| {
        let agent = view.server(seat);
        let needed = view.desired.wanted().contains(seat) || view.votes(seat);
        let ready = agent.running().is_some()
            && agent.answers.is_some()
            && (view.leader.is_some() || stateful(seat));
        // Both ways: gossip takes seconds to notice that one was killed, and one that lost its data knows nobody.
        let mutual = seen.sees_alive(&seat.name)
            && agent
                .answers
                .as_ref()
                .is_some_and(|answers| answers.sees_alive(&anchor.name));
        *seat != anchor && needed && ready && ours(seat) && !mutual
    };
    let seat = view.seats().iter().find(apart)?;
    Some(Step::Join {
        agent: seat.name.clone(),
        to: anchor.name.clone(),
        address: anchor.address.clone(),
    })
}

/// What only a person can resolve. Checked after everything that may heal, before anything that could weaken.
pub(super) fn stalled(view: &View<'_>) -> Option<Step> {
    for seat in view.seats() {
        let agent = view.server(seat);
        if let (Some(found), Some(expected), Some(kept)) =
            (view.foreign(seat), view.cluster, kept(view, seat))
            && (kept != Kept::NoLeader || !may_be_led(view))
        {
            let server = seat.name.clone();
            return Some(Step::Stalled(Stall::OtherCluster {
                server,
                found,
                expected,
                kept,
            }));
        }
        let wanted = view.desired.wanted().contains(seat);
        if let (true, Some(step)) = (wanted, start_fails(agent, seat)) {
            return Some(step);
        }
    }
    let stuck = |seat: &Seat| {
        let error = view
            .stuck(seat)
            .filter(|_| !outdated(view, seat))?
            .to_owned();
        let agent = seat.name.clone();
        Some(Step::Stalled(Stall::Stuck { agent, error }))
    };
    if !view
        .seats()
        .iter()
        .any(|seat| view.stuck(seat).is_some() && outdated(view, seat))
        && let Some(step) = view.desired.wanted().iter().find_map(stuck)
    {
        return Some(step);
    }
    quorum_lost(view)
}

/// Whether a leader of our cluster may yet turn up: a server says that it belongs to it, or may say so when it answers.
fn may_be_led(view: &View<'_>) -> bool {
    view.seats()
        .iter()
        .map(|seat| view.server(seat))
        .any(|agent| {
            agent.cluster() == view.cluster
                || (agent.running().is_some() && agent.answers.is_none())
        })
}

/// The stall of an agent that ended too often before it answered.
pub(super) fn start_fails(agent: &Agent, seat: &Seat) -> Option<Step> {
    match &agent.process {
        Process::Exited(exited) if !startable(agent) => Some(Step::Stalled(Stall::StartFails {
            agent: seat.name.clone(),
            times: exited.failed_starts,
            error: exited.error.clone(),
        })),
        Process::Exited(_) | Process::Absent | Process::Running(_) => None,
    }
}

/// No leader, and there can be none: too few voters hold their data. Judged only once nobody's answer is missing.
fn quorum_lost(view: &View<'_>) -> Option<Step> {
    if view.leader.is_some() {
        return None;
    }
    let unknown =
        |seat: &Seat| view.server(seat).running().is_some() && view.server(seat).answers.is_none();
    if view.seats().iter().any(unknown) {
        return None;
    }
    let voters = view.voters();
    let alive = view
        .seats()
        .iter()
        .filter(|seat| view.votes(seat) && view.server(seat).has_state())
        .count();
    let needed = voters / 2 + 1;
    if voters == 0 || alive >= needed {
        return None;
    }
    Some(super::recover::alone(view).unwrap_or_else(|offer| {
        Step::Stalled(Stall::QuorumLost {
            voters,
            alive,
            needed,
            offer,
        })
    }))
}

/// Step 4: every server that runs answers, votes, and has the leader's log.
pub(super) fn verify(view: &View<'_>) -> Option<Step> {
    let wait = |waiting| Some(Step::Wait(waiting));
    for seat in view.seats() {
        if view.stopping(view.server(seat), seat) {
            return wait(Waiting::Exit(seat.name.clone()));
        }
    }
    let wanted = view.desired.wanted();
    let running = || {
        wanted
            .iter()
            .filter(|seat| view.server(seat).running().is_some())
    };
    if let Some(silent) = running().find(|seat| view.server(seat).answers.is_none()) {
        return wait(Waiting::Answer(silent.name.clone()));
    }
    let Some(leader) = view.leader else {
        return wait(Waiting::Leader);
    };
    if let Some(seat) = running().find(|seat| view.peer(seat).is_none()) {
        return wait(Waiting::Peer(seat.name.clone()));
    }
    let missing = |seat: &Seat| {
        let have = running().filter(|seat| view.votes(seat)).count();
        Step::Wait(Waiting::Voters {
            have,
            want: running().count(),
            missing: seat.name.clone(),
        })
    };
    if let Some(seat) = running().find(|seat| !view.votes(seat)) {
        return Some(missing(seat));
    }
    // The leader was asked twice, for its configuration and for `num_peers`: the two must be of the same moment.
    let have = usize::try_from(leader.raft.num_peers)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    if have != view.voters() {
        let (want, missing) = (view.voters(), leader.seat.name.clone());
        return wait(Waiting::Voters {
            have,
            want,
            missing,
        });
    }
    // While the flag is still about, the last entry must be there: that is the manual's own check.
    let limit = if view.flagged().is_some() {
        0
    } else {
        view.desired.max_lag
    };
    let late = running()
        .find_map(|seat| Some((seat, view.behind(seat).filter(|behind| *behind > limit)?)));
    if let Some((seat, behind)) = late {
        return wait(Waiting::Replication {
            server: seat.name.clone(),
            behind,
        });
    }
    // One that lost its data is listed as a voter until the leader has put its new self in the place of the old.
    running().find(|seat| !view.caught_up(seat)).map(missing)
}
