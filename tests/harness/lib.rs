//! Starts real agents and operators on loopback addresses of their own, watches what they print, and talks to them.
//!
//! Everything here blocks and uses threads: a test reads from top to bottom, like the manual it checks. The HTTP
//! client is the harness's own, so that a mistake in the agent's client cannot hide a mistake in its server.

mod address;
mod agent;
mod binary;
mod cluster;
mod http;
mod kube;
mod load;
mod process;
mod raft_rules;
mod registers;
mod small_disk;
mod wait;

pub use address::Block;
pub use agent::{Agent, Output, run};
pub use binary::binary;
pub use cluster::{Cluster, SERVERS};
pub use http::{Connection, Http, Reply};
pub use kube::{
    Attempt, Event, Invariants, KUBE_DEADLINE, Kube, KubeLoad, Options, Path, Refused, Scene,
    Watch, Writers, away, cluster, image, kubectl, longest_gap, program, try_bed, unexcused,
    wait_for,
};
pub use load::{Load, Written, write_until_accepted};
pub use process::{Line, Process, Signal};
pub use raft_rules::{Broken, RaftRules};
pub use registers::{Op, Registers, Ticket, self_test};
pub use small_disk::SmallDisk;
pub use wait::{DEADLINE, Random, eventually, holds, seed};
