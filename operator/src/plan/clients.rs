//! Step 7: clients, once the manual sequence is over.

use super::view::{View, startable};
use super::{Seat, Step, Waiting};

/// Starts clients that do not run, lets them join, and stops those that are not wanted any more.
pub(super) fn tend(view: &View<'_>) -> Option<Step> {
    if !view.bootstrapped() {
        return None;
    }
    let leader = view.leader?;
    let seats = &view.desired.client_seats;
    let gone = seats.iter().filter(|seat| startable(view.client(seat)));
    let launches: Vec<_> = gone.map(|seat| view.launch(seat, false)).collect();
    if !launches.is_empty() {
        return Some(Step::StartClients(launches));
    }
    let apart = |seat: &&Seat| {
        let agent = view.client(seat);
        let apart = |answers: &crate::observe::Answers| !answers.sees_alive(&leader.seat.name);
        agent.running().is_some()
            && !view.stopping(agent, seat)
            && agent.answers.as_ref().is_some_and(apart)
    };
    if let Some(seat) = seats.iter().find(apart) {
        let (to, address) = (leader.seat.name.clone(), leader.seat.address.clone());
        return Some(Step::Join {
            agent: seat.name.clone(),
            to,
            address,
        });
    }
    let unwanted = view.observed.clients.iter().find(|(name, agent)| {
        let stops = agent.running().is_some_and(|running| running.stopping);
        agent.running().is_some() && !stops && !seats.iter().any(|seat| seat.name == **name)
    });
    unwanted.map(|(name, _)| Step::StopClient {
        client: name.clone(),
    })
}

/// Waits until every client is a member, then restarts those that run with another configuration, one at a time.
pub(super) fn roll(view: &View<'_>) -> Option<Step> {
    let leader = view.leader?;
    for seat in &view.desired.client_seats {
        let agent = view.client(seat);
        if let Some(step) = super::heal::start_fails(agent, seat) {
            return Some(step);
        }
        if view.stopping(agent, seat) {
            return Some(Step::Wait(Waiting::Exit(seat.name.clone())));
        }
        if agent.answers.is_none() {
            return Some(Step::Wait(Waiting::Answer(seat.name.clone())));
        }
        if !leader.answers.sees_alive(&seat.name) {
            return Some(Step::Wait(Waiting::Member(seat.name.clone())));
        }
    }
    let outdated = view.desired.client_seats.iter().find(|seat| {
        let running = view.client(seat).running();
        running
            .is_some_and(|r| !r.revision.is_empty() && r.revision != view.desired.client_revision)
    })?;
    if view.desired.pause_before == Some(crate::crd::PauseBefore::Updating) {
        return Some(Step::Wait(Waiting::PausedBefore(
            crate::crd::PauseBefore::Updating,
        )));
    }
    Some(Step::StopClient {
        client: outdated.name.clone(),
    })
}
