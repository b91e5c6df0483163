//! Real agents on simulated time, network, disk and random numbers: one seed drives everything that happens.
//!
//! Without `SEED`, it runs `SEEDS` (default 6) seeds of every scenario, each in a process of its own, because what
//! earlier seeds leave in statics and thread locals would change the course of later ones. With `SEED=N`, it runs that one,
//! here; `SIM_LOG=info` (an env-filter) prints what its agents say. Arguments are parts of scenario names. The first
//! seed of each scenario, and every tenth, runs twice and must come to the same digest, which covers every message that
//! arrived anywhere, with its time.
//!
//! What is checked in every step: Raft's rules and that there is one cluster (`harness/raft_rules.rs`). What is checked in
//! the end: what two servers have at one log index is the same (`harness/registers.rs`); every acknowledged write is on every server in the end, and all of them have the same; what clients
//! saw of shared keys through any node's HTTP API, by writes, locks, default and consistent reads, is linearizable.
//!
//! # Old bugs, put back to see that the net catches them
//! | bug | caught by | after |
//! | --- | --- | --- |
//! | openraft's `enable_leader_restore` | `power` | 1 seed: a write is missing on one server |
//! | a raft id that comes back with an empty log, and no snapshot before the first learner | `lost_log` | 1 seed |
//! | appends acknowledged before the sync | `power` | 7 seeds: acknowledged writes are missing everywhere |
//! | `-bootstrap` without asking who is there | `second_seed` | 1 seed: a second cluster |
//! | votes wait for TCP after an outage (found here) | `outage` | 1 seed: nothing is committed for 3 s |
//! | default reads from whoever takes itself for the leader | `transfers` | 2 seeds: not linearizable |
//! | votes are asked for without asking first whether they would be given | `returns` | 1 seed: another term |
//! | a lock that is given to whoever asks | `manual` | 1 seed: not linearizable |

mod sweep;

mod api;
mod clients;
mod clocks;
mod cluster;
mod env;
mod history;
mod keepers;
mod net;
mod scenarios;
mod view;

use std::process::ExitCode;

use sweep::Wrong;

/// What a run must never show is a panic inside; what it gives back is a digest of all that happened.
type Scenario = fn(seed: u64) -> u64;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("manual", scenarios::manual),
    ("chaos", scenarios::chaos),
    ("power", scenarios::power),
    ("transfers", scenarios::transfers),
    ("returns", scenarios::returns),
    ("outage", scenarios::outage),
    ("lost_log", scenarios::lost_log),
    ("second_seed", scenarios::second_seed),
    ("two_seeds", scenarios::two_seeds),
    ("expect", scenarios::expect),
    ("clocks", clocks::clocks),
];

/// Courses of events in which something is wrong on purpose, to see that the net catches it.
const WRONG: &[Wrong] = &[Wrong {
    name: "beyond_the_bound",
    scenario: clocks::beyond_the_bound,
    says: "no order explains what was seen",
    seeds: 8,
}];

fn main() -> ExitCode {
    sweep::main(SCENARIOS, WRONG)
}
