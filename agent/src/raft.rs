//! Consensus: openraft behind our own types, log store, state machine and network.

pub mod bootstrap;
pub mod codec;
mod consensus;
pub mod identity;
pub mod log;
mod network;
pub mod recovery;
mod service;
pub mod snapshot;
mod state_machine;
pub mod types;
mod wire;

pub use consensus::{Consensus, Error, Options, Role, StartError, Status, StatusWatch};
pub use network::AddressBook;
pub use service::Service;
pub use types::{Payload, PeerNode, RaftId, TypeConfig};
