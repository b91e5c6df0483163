//! Drivers: what observes a cluster and carries steps out. They choose nothing.

mod ask;
pub mod kube;
pub mod local;

use crate::observe::Observed;
use crate::plan::Step;

/// Observes a cluster and carries steps out.
pub trait Driver {
    /// Why it could not.
    type Error: std::error::Error;

    /// Looks at everything anew. What does not answer is part of the observation, not an error.
    ///
    /// # Errors
    /// What makes an observation impossible at all: the driver's own folder cannot be read, say.
    fn observe(&mut self) -> impl Future<Output = Result<Observed, Self::Error>>;

    /// Carries one step out. Safe to repeat; the next observation tells what became of it. Waiting is not a step to
    /// carry out: `Wait`, `Steady` and `Stalled` do nothing.
    ///
    /// # Errors
    /// The step, or part of it, was not carried out.
    fn apply(&mut self, step: &Step) -> impl Future<Output = Result<(), Self::Error>>;
}
