//! Chooses the one next step. The heart of the operator, and pure: no clock, no I/O, no memory.
//!
//! From any state that can be observed the rules of the manual sequence hold: at most one server is ever started
//! with `-bootstrap`, none once there is state of a cluster anywhere, servers of another cluster are never joined,
//! one server is taken down at a time, and only while the others keep a quorum of caught-up voters.

mod bootstrap;
mod change;
mod clients;
mod desired;
mod heal;
mod recover;
pub mod safety;
mod step;
mod view;
mod why;

use crate::observe::Observed;

pub(crate) use desired::hash;
pub use desired::{Desired, MAX_SERVERS, Mode, Seat};
pub use step::{Alone, Kept, Launch, Offer, Stall, Step, Waiting};
pub use view::{Leader, View};
pub use why::why;

/// Times in a row that an agent may end before it ever answers, until a person is asked to look.
pub const MAX_FAILED_STARTS: u32 = 3;

/// Servers that the operator takes down at the same time: rule 4.
pub const MAX_SERVERS_DOWN: usize = 1;

/// The stages, in order; the first that has something to do chooses. What brings a cluster back comes before what
/// could weaken it, so that nothing is ever stopped while something else is broken.
const STAGES: [fn(&View<'_>) -> Option<Step>; 21] = [
    bootstrap::form,
    bootstrap::record,
    recover::move_aside,
    heal::dead,
    bootstrap::expand,
    heal::second_bootstrap,
    heal::ghost,
    heal::join,
    clients::tend,
    heal::stalled,
    change::unstick,
    heal::verify,
    bootstrap::rotate,
    change::scale_up,
    change::scale_down,
    bootstrap::settle,
    change::roll,
    clients::roll,
    change::min_quorum,
    change::unknown_voter,
    recover::not_moved,
];

/// Chooses the one next change. Same input, same step.
pub fn plan(desired: &Desired, observed: &Observed) -> Step {
    let view = View::new(desired, observed);
    if desired.paused {
        return Step::Wait(Waiting::Paused);
    }
    let last = if view.leader.is_some() {
        Step::Steady
    } else {
        Step::Wait(Waiting::Leader)
    };
    STAGES.iter().find_map(|stage| stage(&view)).unwrap_or(last)
}
