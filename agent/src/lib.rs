//! The node of this project: consensus, gossip, state, HTTP API and command line.
//!
//! One process is either a *server*, which takes part in Raft and holds the state, or a *client*, which only
//! gossips and forwards. Layers, each knowing only those below it, are drawn in `agent/DESIGN.md`.

pub mod acl;
pub mod archive;
pub mod ca;
pub mod cli;
pub mod client;
pub mod config;
pub mod coordinate;
pub mod dns;
pub mod duration;
pub mod entries;
pub mod env;
pub mod events;
pub mod filter;
#[cfg(test)]
mod fuzz;
mod go_bool;
pub mod gossip;
pub mod http;
pub mod leader;
pub mod local;
pub mod log;
pub mod metrics;
pub mod node;
pub mod prepared;
pub mod raft;
pub mod rate;
pub mod rpc;
mod seats;
pub mod state;
pub mod tls;
mod translate;

/// The version of Consul whose API, flags and output this program matches, as programs that parse it expect it.
pub const VERSION: &str = "1.19.0";

/// The `build` tag of members.
pub const BUILD: &str = "1.19.0:";

/// Source revision, where the build says it.
pub const REVISION: &str = match option_env!("AGENT_REVISION") {
    Some(revision) => revision,
    None => "",
};
