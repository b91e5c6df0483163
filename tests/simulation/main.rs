//! Real agents on simulated time, network, disk and random numbers: one seed drives everything that happens.
//!
//! Without `SEED`, it runs `SEEDS` (default 8) seeds of every scenario, each in a process of its own, because what
//! earlier seeds leave in statics and thread locals would change the course of later ones. With `SEED=N`, it runs that one,
//! here; `SIM_LOG=info` (an env-filter) prints what its agents say. Arguments are parts of scenario names.

mod sweep;

mod clients;
mod cluster;
mod env;
mod history;
mod net;
mod registers;
mod scenarios;

use std::process::ExitCode;

/// What a run must never show is a panic inside; what it gives back is a digest of all that happened.
type Scenario = fn(seed: u64) -> u64;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("manual", scenarios::manual),
    ("chaos", scenarios::chaos),
    ("power", scenarios::power),
    ("transfers", scenarios::transfers),
    ("lost_log", scenarios::lost_log),
    ("second_seed", scenarios::second_seed),
    ("two_seeds", scenarios::two_seeds),
    ("expect", scenarios::expect),
];

fn main() -> ExitCode {
    sweep::main(SCENARIOS)
}
