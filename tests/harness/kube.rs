//! A Kubernetes as the end-to-end tests see it: its API, through `kubectl proxy`, so that neither the operator's own
//! client nor its types can hide a mistake in it.

mod api;
mod bed;
mod invariants;
mod load;
mod saved;
mod scene;
mod watch;
mod writers;

pub use api::{Kube, Path, Refused};
pub use bed::{image, kubectl, program, try_bed};
pub use invariants::Invariants;
pub use load::KubeLoad;
pub use scene::{Options, Scene, cluster};
pub use watch::{Event, Watch};
pub use writers::{Attempt, Writers, away, longest_gap, unexcused};

use std::fmt::Display;
use std::time::Duration;

/// Bounds a hang, as [`crate::DEADLINE`] does. Longer: pods start, volumes are made and images unpacked on a machine that may
/// be busy with other tests.
pub const KUBE_DEADLINE: Duration = Duration::from_secs(600);

/// How often the API is asked about what is not watched.
const POLL: Duration = Duration::from_millis(200);

/// Waits until `condition` gives a value; an `Err` says what is still missing.
///
/// # Panics
/// After [`KUBE_DEADLINE`], with what was missing last.
#[track_caller]
pub fn wait_for<T, E: Display>(what: &str, condition: impl FnMut() -> Result<T, E>) -> T {
    crate::wait::within(KUBE_DEADLINE, POLL, what, condition)
}
