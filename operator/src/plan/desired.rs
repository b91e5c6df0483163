//! What is wanted, boiled down from the spec to what the planner needs.

use std::time::Duration;

use crate::crd::{ConsulCluster, PauseBefore, Recovery, SERVER_COUNTS};

/// Highest number of servers, and so the number of seats that are looked at.
pub const MAX_SERVERS: usize = SERVER_COUNTS[SERVER_COUNTS.len() - 1] as usize;

/// A name and an address that an agent has for life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Node name.
    pub name: String,
    /// Host or IP address that the others reach it at.
    pub address: String,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Name of the resource.
    pub name: String,
    /// Number of servers.
    pub servers: usize,
    /// All seats of servers, [`MAX_SERVERS`] of them; the first `servers` are wanted.
    pub server_seats: Vec<Seat>,
    /// Seats of the clients that are wanted.
    pub client_seats: Vec<Seat>,
    /// Revision of the configuration that every agent should run with.
    pub revision: String,
    /// The same for clients, which may be started with something else.
    pub client_revision: String,
    /// Log entries that a follower may trail and still count as caught up.
    pub max_lag: u64,
    /// How long every other server must have been running before the next one is replaced.
    pub min_ready: Duration,
    /// Servers that autopilot must leave: `autopilot.min_quorum` of the spec's configuration, which the agents themselves
    /// heed only when a cluster is formed, or else a majority of the servers.
    pub min_quorum: u32,
    /// Kind of step that waits for a person.
    pub pause_before: Option<PauseBefore>,
    /// Whether nothing may be done.
    pub paused: bool,
    /// Whether the data of an accidental second bootstrap server may be moved aside.
    pub move_aside: bool,
    /// What a person has said about a recovery.
    pub recovery: Recovery,
}

/// Which agents a seat is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Raft and state.
    Server,
    /// Gossip and forwarding.
    Client,
}

impl Desired {
    /// Boils a resource down. `address` gives the seat of that mode and number its address.
    pub fn new(cluster: &ConsulCluster, address: impl Fn(Mode, usize) -> String) -> Self {
        let spec = &cluster.spec;
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let prefix = spec.prefix(&name);
        let seat = |mode: Mode, number: usize| {
            let kind = if mode == Mode::Server {
                "server"
            } else {
                "client"
            };
            Seat {
                name: format!("{prefix}-{kind}-{number}"),
                address: address(mode, number),
            }
        };
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        Desired {
            servers: count(spec.servers).min(MAX_SERVERS),
            server_seats: (0..MAX_SERVERS)
                .map(|number| seat(Mode::Server, number))
                .collect(),
            client_seats: (0..count(spec.clients))
                .map(|number| seat(Mode::Client, number))
                .collect(),
            revision: revision(cluster),
            client_revision: revision(cluster),
            max_lag: u64::try_from(spec.update_policy.max_lag).unwrap_or(0),
            min_ready: Duration::from_secs(
                u64::try_from(spec.update_policy.min_ready_seconds).unwrap_or(0),
            ),
            min_quorum: min_quorum(cluster),
            pause_before: spec.update_policy.pause_before,
            paused: spec.paused,
            move_aside: spec.recovery.move_aside_second_bootstrap,
            recovery: spec.recovery.clone(),
            name,
        }
    }

    /// Seats of the servers that are wanted.
    pub fn wanted(&self) -> &[Seat] {
        self.server_seats
            .split_at(self.servers.min(self.server_seats.len()))
            .0
    }

    /// Seats of servers that are not wanted, or not any more.
    pub fn unwanted(&self) -> &[Seat] {
        self.server_seats
            .split_at(self.servers.min(self.server_seats.len()))
            .1
    }
}

fn min_quorum(cluster: &ConsulCluster) -> u32 {
    let spec = &cluster.spec;
    let said = spec
        .config
        .get("autopilot")
        .and_then(|block| block.get("min_quorum")?.as_u64())
        .and_then(|servers| u32::try_from(servers).ok());
    said.unwrap_or_else(|| u32::try_from(spec.servers).unwrap_or(0) / 2 + 1)
}

/// Names what an agent is started with, as far as the spec decides it: a change means a restart. Depends on the spec
/// alone, so that a new version of the operator restarts nothing.
fn revision(cluster: &ConsulCluster) -> String {
    let spec = &cluster.spec;
    let mut keys: Vec<_> = spec.config.iter().collect();
    keys.sort_by_key(|(key, _)| key.as_str());
    let text = format!(
        "{}\n{}\n{:?}\n{keys:?}",
        spec.datacenter, spec.domain, spec.extra_args
    );
    hash(&text)
}

/// FNV-1a in ten hexadecimal digits: short, and the same in every version of Rust. Names a revision, protects nothing.
pub(crate) fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{:010x}", hash >> 24)
}
