//! What is done only because a person asked for it: going on without a quorum, and moving data aside.
//!
//! Both are asked for in the spec, which stays as it is, and are done once. A recovery is confirmed by a code that is made
//! from what it is for, so that it fits no other situation; data is moved aside once for each token.

use std::cmp::Reverse;

use super::view::{View, startable};
use super::{Alone, Offer, Seat, Stall, Step, hash};
use crate::crd::MoveAside;
use crate::observe::Process;

/// The server whose log has most goes on alone, if a person has confirmed this very one.
///
/// # Errors
/// What a person may confirm, if there is anything to go on with.
pub(super) fn alone(view: &View<'_>) -> Result<Step, Option<Offer>> {
    let Some(alone) = survivor(view) else {
        return Err(None);
    };
    let code = code(view, &alone);
    let wanted = &view.desired.recovery;
    let expected = wanted.survivor.clone().filter(|name| *name != alone.server);
    if wanted.token.as_ref() == Some(&code) && expected.is_none() {
        return Ok(Step::RecoverQuorum(alone));
    }
    Err(Some(Offer {
        survivor: alone.server,
        last_log_index: alone.last_log_index,
        code,
        expected,
    }))
}

/// Of the voters that are left: the one with the highest last term, then index. By Raft's rules it has every entry that
/// any of the others knows to be committed.
fn survivor(view: &View<'_>) -> Option<Alone> {
    let cluster = view.cluster?;
    let left = view
        .seats()
        .iter()
        .enumerate()
        .filter_map(|(number, seat)| {
            let answers = view.server(seat).answers.as_ref()?;
            let raft = answers.raft.as_ref()?;
            let told = !raft.raft_id.is_empty() && raft.last_log_index > 0;
            let ours = answers.cluster == Some(cluster) && view.votes(seat);
            (told && ours).then_some((number, seat, answers, raft))
        });
    let (_, seat, answers, raft) = left.max_by_key(|(number, _, _, raft)| {
        (raft.last_log_term, raft.last_log_index, Reverse(*number))
    })?;
    if view
        .configuration()
        .iter()
        .any(|peer| view.lives_elsewhere(answers, peer))
    {
        return None;
    }
    Some(Alone {
        server: seat.name.clone(),
        address: seat.address.clone(),
        node_id: answers.node_id.clone(),
        cluster,
        raft_id: raft.raft_id.clone(),
        last_log_term: raft.last_log_term,
        last_log_index: raft.last_log_index,
    })
}

/// Names the situation: whose folder, and which configuration has lost its quorum. The recovery sets another one, with a
/// higher index, so that it never comes again. Where the log ends is no part of it: a leader that nobody follows goes on
/// adding what clients ask for.
fn code(view: &View<'_>, alone: &Alone) -> String {
    let seat = view.seats().iter().find(|seat| seat.name == alone.server);
    let set_at = seat.and_then(|seat| Some(view.server(seat).raft()?.configuration_index));
    let voters = view.configuration().iter().filter(|peer| peer.voter);
    let mut voters: Vec<_> = voters.map(|peer| (&peer.name, &peer.node_id)).collect();
    voters.sort();
    hash(&format!(
        "{} {} {set_at:?} {voters:?}",
        alone.cluster, alone.raft_id
    ))
}

/// What a person asked to move aside and is not moved yet.
fn asked<'a>(view: &View<'a>) -> Option<&'a MoveAside> {
    let asked = view.desired.recovery.move_aside.as_ref()?;
    let moved = |seat: &Seat| {
        let agent = view.server(seat);
        seat.name == asked.server && agent.moved_aside.contains(&asked.token)
    };
    (!view.seats().iter().any(moved)).then_some(asked)
}

/// Data that keeps a server from coming up, or that is of another cluster, is moved aside because a person asked for it.
pub(super) fn move_aside(view: &View<'_>) -> Option<Step> {
    let MoveAside { server, token } = asked(view)?;
    let seat = view.seats().iter().find(|seat| seat.name == *server)?;
    let agent = view.server(seat);
    let fails = match &agent.process {
        Process::Exited(exited) => exited.failed_starts > 0 || !startable(agent),
        Process::Running(_) => view.stuck(seat).is_some(),
        Process::Absent => false,
    };
    // A stranger's data only once there is somebody to join instead.
    let stranger = view.foreign(seat).is_some() && view.leader.is_some_and(|l| l.seat != seat);
    (fails || stranger).then(|| Step::MoveAside {
        server: server.clone(),
        token: token.clone(),
    })
}

/// Said when all else is as wanted: what was asked for was not done, and why.
pub(super) fn not_moved(view: &View<'_>) -> Option<Step> {
    let MoveAside { server, .. } = asked(view)?;
    view.leader?;
    Some(Step::Stalled(Stall::DataInUse {
        server: server.clone(),
    }))
}
