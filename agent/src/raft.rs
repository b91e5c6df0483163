//! Consensus: openraft behind our own types, log store, state machine and network.

pub mod bootstrap;
pub mod codec;
mod compaction;
mod consensus;
mod contacts;
pub mod identity;
mod inspect;
mod lease;
pub mod log;
mod network;
mod off_loop;
pub mod recovery;
mod rounds;
mod service;
pub mod snapshot;
mod standing;
mod state_machine;
mod status;
pub mod types;
mod wire;

pub use consensus::{Consensus, Error, Options, StartError};
pub use inspect::{Belief, Inspector, LogNews, Look, Mark, Position};
pub use network::AddressBook;
pub(crate) use off_loop::off_loop;
pub use recovery::QuorumRecovery;
pub(crate) use rounds::{Gathered, Rounds};
pub use service::Service;
pub use status::{Role, Status, StatusWatch};
pub use types::{Payload, PeerNode, RaftId, TypeConfig};
