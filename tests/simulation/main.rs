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
//! `bugs/run`, a part of `make test`, builds a copy of the sources with the patches in `bugs/` and runs it with `--old-bugs`:
//! each must be found by one of its first seeds, for the right reason ([`OLD_BUGS`]). Patches, because nothing of a bug may be
//! in the agent, a feature or a `cfg` for it neither: whoever builds the whole workspace would build it in. They are
//! behind a variable of the environment, so that one build (a minute) is enough for all of them.
//!
//! Others were put back by hand:
//!
//! | bug | caught by | after |
//! | --- | --- | --- |
//! | a raft id that comes back with an empty log, and no snapshot before the first learner | `lost_log` | 1 seed |
//! | votes wait for TCP after an outage (found here) | `outage` | 1 seed: nothing is committed for 3 s |
//! | default reads from whoever takes itself for the leader | `transfers` | 2 seeds: not linearizable |
//! | a lock that is given to whoever asks | `manual` | 1 seed: not linearizable |

mod sweep;

mod api;
mod clients;
mod clocks;
mod cluster;
mod datacenters;
mod env;
mod history;
mod keepers;
mod net;
mod scenarios;
mod view;

use std::process::ExitCode;

use sweep::{Programme, Wrong};

/// What a run must never show is a panic inside; what it gives back is a digest of all that happened.
type Scenario = fn(seed: u64) -> u64;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("manual", scenarios::manual),
    ("chaos", scenarios::chaos),
    ("power", scenarios::power),
    ("transfers", scenarios::transfers),
    ("hand_over", scenarios::hand_over),
    ("returns", scenarios::returns),
    ("outage", scenarios::outage),
    ("lost_log", scenarios::lost_log),
    ("second_seed", scenarios::second_seed),
    ("two_seeds", scenarios::two_seeds),
    ("expect", scenarios::expect),
    ("clocks", clocks::clocks),
    ("datacenters", datacenters::datacenters),
];

/// What must not pass, so that it is run only where it must fail.
const ASIDE: &[(&str, Scenario)] = &[("beyond_the_bound", clocks::beyond_the_bound)];

/// What is wrong on purpose, to see that the net catches it.
const WRONG: &[Wrong] = &[Wrong {
    scenario: "beyond_the_bound",
    bug: None,
    says: "no order explains what was seen",
    seeds: 8,
}];

/// Bugs that were there once, or nearly: `bugs/run` puts them back.
const OLD_BUGS: &[Wrong] = &[
    Wrong {
        scenario: "power",
        bug: Some("early_ack"),
        says: "which is not on the disks of a quorum",
        seeds: 3,
    },
    Wrong {
        scenario: "hand_over",
        bug: Some("kept_lease"),
        says: "no order explains what was seen",
        seeds: 12,
    },
    Wrong {
        scenario: "second_seed",
        bug: Some("double_bootstrap"),
        says: "a cluster too many",
        seeds: 3,
    },
    Wrong {
        scenario: "power",
        bug: Some("leader_restore"),
        says: "there are two entries",
        seeds: 6,
    },
    Wrong {
        scenario: "returns",
        bug: Some("no_pre_vote"),
        says: "disturbed the others",
        seeds: 3,
    },
];

fn main() -> ExitCode {
    sweep::main(&Programme {
        scenarios: SCENARIOS,
        aside: ASIDE,
        wrong: WRONG,
        old_bugs: OLD_BUGS,
    })
}
