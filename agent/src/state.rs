//! The replicated state: pure, without clock, I/O or randomness.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A command with the time at which its proposer stamped it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Milliseconds since the Unix epoch, by the proposer's clock.
    pub unix_ms: u64,
    /// What to do.
    pub command: Command,
}

/// A change of the state. Append only: the variant's number is its wire form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Changes nothing.
    Noop,
}

/// What applying one command said. A refusal is an outcome too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// All tables.
#[derive(Debug, Clone, Default)]
pub struct Store {}

/// Placeholder so that the shape of sharing is fixed.
pub type SharedStore = Arc<arc_swap::ArcSwap<Store>>;

/// A read of the state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Query {
    /// Reads nothing.
    Noop,
}

/// The result of a [`Query`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing.
    Nothing,
}
