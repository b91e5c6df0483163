//! The manual sequence: form with one server, start the others, give the first one back its plain form.

use super::change::outdated;
use super::heal::start_fails;
use super::safety::{How, may_stop};
use super::view::{View, startable};
use super::{Launch, Seat, Stall, Step, Waiting};
use crate::crd::PauseBefore;
use crate::observe::{Latch, Status};

/// Step 1: one server with the flag, and only while no server anywhere holds state of a cluster.
pub(super) fn form(view: &View<'_>) -> Option<Step> {
    if view
        .seats()
        .iter()
        .any(|seat| view.server(seat).has_state())
    {
        return None;
    }
    if let Latch::Done(cluster) = &view.observed.bootstrap {
        return Some(Step::Stalled(Stall::DataLost { cluster: *cluster }));
    }
    // One that runs and does not answer may be in a cluster already.
    for seat in view.seats() {
        let agent = view.server(seat);
        if view.stopping(agent, seat) {
            return Some(Step::Wait(Waiting::Exit(seat.name.clone())));
        }
        if let Some(trouble) = view.stuck(seat) {
            // It has no state that could be lost: what it would be started with now may do better.
            return Some(match outdated(view, seat) {
                true => Step::StopUnformed {
                    server: seat.name.clone(),
                },
                false => Step::Stalled(Stall::Stuck {
                    agent: seat.name.clone(),
                    error: trouble.to_owned(),
                }),
            });
        }
        if agent.running().is_some() && agent.answers.is_none() {
            return Some(Step::Wait(Waiting::Answer(seat.name.clone())));
        }
    }
    if view.flagged().is_some() {
        return Some(Step::Wait(Waiting::Leader));
    }
    let Latch::Reserved(reserved) = &view.observed.bootstrap else {
        let server = view.desired.wanted().first()?.name.clone();
        return Some(Step::Reserve { server });
    };
    let Some(first) = view.seats().iter().find(|seat| seat.name == *reserved) else {
        return Some(Step::Stalled(Stall::ReservedElsewhere {
            reserved: reserved.clone(),
        }));
    };
    let agent = view.server(first);
    if agent.running().is_some() {
        return Some(Step::StopUnformed {
            server: first.name.clone(),
        });
    }
    if !startable(agent) {
        return start_fails(agent, first);
    }
    Some(Step::StartFirst(Launch {
        bootstrap: true,
        ..view.launch(first, true)
    }))
}

/// Latches the id that the cluster got, before anything else is built upon it.
pub(super) fn record(view: &View<'_>) -> Option<Step> {
    let cluster = view.cluster?;
    match view.observed.bootstrap {
        Latch::Done(_) => None,
        Latch::Open | Latch::Reserved(_) => view.leader.map(|_| Step::Record { cluster }),
    }
}

/// Step 2: while the first server leads with the flag, all others start at once, without it.
pub(super) fn expand(view: &View<'_>) -> Option<Step> {
    let leader = view.leader?;
    if !view.server(leader.seat).flagged() {
        return None;
    }
    let missing = |seat: &&Seat| startable(view.server(seat)) && view.peer(seat).is_none();
    let launches: Vec<_> = view
        .desired
        .wanted()
        .iter()
        .filter(missing)
        .map(|seat| view.launch(seat, true))
        .collect();
    (!launches.is_empty()).then_some(Step::StartServers(launches))
}

/// Step 5: a server with the flag leaves, once all others are caught-up voters, and comes back without it.
pub(super) fn rotate(view: &View<'_>) -> Option<Step> {
    let flagged = view
        .desired
        .wanted()
        .iter()
        .find(|seat| view.server(seat).flagged())?;
    let wanted = view.desired.wanted();
    if let Some(missing) = wanted.iter().find(|seat| !view.caught_up(seat)) {
        let have = wanted.iter().filter(|seat| view.votes(seat)).count();
        let missing = missing.name.clone();
        return Some(Step::Wait(Waiting::Voters {
            have,
            want: wanted.len(),
            missing,
        }));
    }
    if view.desired.pause_before == Some(PauseBefore::Rotating) {
        return Some(Step::Wait(Waiting::PausedBefore(PauseBefore::Rotating)));
    }
    let leave = view.voters() > 1;
    let how = if leave { How::Leave } else { How::Stop };
    Some(match may_stop(view, flagged, how) {
        Ok(()) => Step::RestartFirstWithoutBootstrap {
            server: flagged.name.clone(),
            leave,
        },
        Err(why) => Step::Wait(Waiting::Unsafe(why)),
    })
}

/// Step 6: not even a member's tag tells of the flag any more.
pub(super) fn settle(view: &View<'_>) -> Option<Step> {
    for seat in view.desired.wanted() {
        let Some(answers) = &view.server(seat).answers else {
            continue;
        };
        let ours = |name: &str| {
            view.seats()
                .iter()
                .any(|seat| seat.name.eq_ignore_ascii_case(name))
        };
        let tagged = answers
            .members
            .iter()
            .find(|m| m.bootstrap && m.status == Status::Alive && ours(&m.name));
        if let Some(member) = tagged {
            let server = member.name.clone();
            return Some(Step::Wait(Waiting::FlagInGossip {
                server,
                seen_by: seat.name.clone(),
            }));
        }
    }
    None
}
