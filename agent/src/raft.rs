//! Consensus: openraft behind our own types, log store, state machine and network.

pub mod codec;
pub mod log;
pub mod snapshot;
pub mod types;

pub use types::{Payload, PeerNode, RaftId, TypeConfig};
