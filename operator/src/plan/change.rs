//! Changes of a healthy cluster: more or fewer servers, another configuration. One server at a time.

use std::time::Duration;

use super::safety::{How, may_stop, settled};
use super::view::{Leader, View, startable};
use super::{Seat, Stall, Step, Waiting};
use crate::crd::PauseBefore;
use crate::observe::{Peer, RaftData};

/// How long an agent with an old configuration may be silent before the wanted one is tried: far above any start.
const SILENCE_MAX: Duration = Duration::from_secs(30);

fn paused(view: &View<'_>, kind: PauseBefore) -> Option<Step> {
    (view.desired.pause_before == Some(kind)).then_some(Step::Wait(Waiting::PausedBefore(kind)))
}

pub(super) fn outdated(view: &View<'_>, seat: &Seat) -> bool {
    let running = view.server(seat).running();
    running.is_some_and(|running| {
        !running.revision.is_empty() && running.revision != view.desired.revision
    })
}

/// A server that never answers with an old configuration gets the wanted one: a bad change can be taken back. One that
/// does not come up at all is missed by nobody, so that this needs neither a leader nor a quorum.
pub(super) fn unstick(view: &View<'_>) -> Option<Step> {
    let stuck = |seat: &&Seat| view.stuck(seat).is_some() && outdated(view, seat);
    if let Some(seat) = view.seats().iter().find(stuck) {
        return Some(Step::ReplaceServer {
            server: seat.name.clone(),
        });
    }
    let silent = |seat: &&Seat| {
        let agent = view.server(seat);
        let long = agent
            .running()
            .is_some_and(|running| running.uptime() > SILENCE_MAX && !running.stopping);
        long && agent.answers.is_none() && outdated(view, seat)
    };
    let seat = view.desired.wanted().iter().find(silent)?;
    may_stop(view, seat, How::Stop)
        .ok()
        .map(|()| Step::ReplaceServer {
            server: seat.name.clone(),
        })
}

/// The highest seat that is not wanted any more goes: hands over, leaves, is removed from the peers; then the next. One
/// that is dead already only counts against the quorum, so it is forgotten before anybody is stopped.
pub(super) fn scale_down(view: &View<'_>) -> Option<Step> {
    let leader = view.leader?;
    let unwanted = view.desired.unwanted();
    let runs = |seat: &&Seat| view.server(seat).running().is_some();
    let dead = unwanted
        .iter()
        .find(|seat| !runs(seat) && view.peer(seat).is_some());
    let seat = dead.or_else(|| unwanted.iter().rev().find(runs))?;
    if let Some(wait) = paused(view, PauseBefore::Scaling) {
        return Some(wait);
    }
    let server = seat.name.clone();
    if dead.is_some() {
        // Gossip forgets nobody whom it takes to be alive, and takes a few seconds to find out.
        if leader.answers.sees_alive(&server) {
            return Some(Step::Wait(Waiting::Death(server)));
        }
        return Some(Step::ForgetServer {
            server,
            leader: leader.seat.name.clone(),
        });
    }
    if let Err(why) = may_stop(view, seat, How::Leave) {
        return Some(Step::Wait(Waiting::Unsafe(why)));
    }
    if leader.seat == seat {
        return hand_over(view, leader);
    }
    Some(Step::RemoveServer { server })
}

/// The lowest seat that is wanted and does not run starts, joins and becomes a voter; then the next.
pub(super) fn scale_up(view: &View<'_>) -> Option<Step> {
    view.leader?;
    let seat = view
        .desired
        .wanted()
        .iter()
        .find(|seat| startable(view.server(seat)))?;
    let launch = view.launch(seat, true);
    if view.server(seat).raft_data == RaftData::Present {
        return Some(Step::StartAgain(launch));
    }
    Some(paused(view, PauseBefore::Scaling).unwrap_or(Step::StartServers(vec![launch])))
}

/// Another configuration: followers from the highest seat down, the leader last, after it has handed over.
pub(super) fn roll(view: &View<'_>) -> Option<Step> {
    let leader = view.leader?;
    let wanted = view.desired.wanted();
    let follower = wanted
        .iter()
        .rev()
        .find(|seat| outdated(view, seat) && *seat != leader.seat);
    let seat = follower.or_else(|| wanted.iter().find(|seat| outdated(view, seat)))?;
    if let Some(wait) = paused(view, PauseBefore::Updating) {
        return Some(wait);
    }
    if let Err(why) = may_stop(view, seat, How::Stop).and_then(|()| settled(view, seat)) {
        return Some(Step::Wait(Waiting::Unsafe(why)));
    }
    if leader.seat == seat && view.voters() > 1 {
        return hand_over(view, leader);
    }
    Some(Step::ReplaceServer {
        server: seat.name.clone(),
    })
}

/// Autopilot never prunes below a majority of what is wanted. Not before everything else is as it should be: it matters
/// only once servers are lost.
pub(super) fn min_quorum(view: &View<'_>) -> Option<Step> {
    let leader = view.leader?;
    let set = leader.answers.min_quorum?;
    (set != view.desired.min_quorum).then(|| Step::SetMinQuorum {
        leader: leader.seat.name.clone(),
        servers: view.desired.min_quorum,
    })
}

/// A voter that is no server of this resource: somebody let it join. Only a person knows what it is for.
pub(super) fn unknown_voter(view: &View<'_>) -> Option<Step> {
    let known = |peer: &Peer| {
        view.seats()
            .iter()
            .any(|seat| view.peer(seat) == Some(peer))
    };
    let voter = view
        .configuration()
        .iter()
        .find(|peer| peer.voter && !known(peer))?;
    let (name, address) = (voter.name.clone(), voter.address.clone());
    Some(Step::Stalled(Stall::UnknownVoter { name, address }))
}

/// Leadership goes to the lowest wanted seat that is caught up: one that will not be stopped next.
fn hand_over(view: &View<'_>, leader: Leader<'_>) -> Option<Step> {
    let next = view
        .desired
        .wanted()
        .iter()
        .find(|seat| *seat != leader.seat && view.caught_up(seat))?;
    Some(Step::TransferLeader {
        from: leader.seat.name.clone(),
        to: next.name.clone(),
        to_id: view.server(next).answers.as_ref()?.node_id.clone(),
    })
}
