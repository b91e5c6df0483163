//! Service discovery with many services and many watchers.
//!
//! `BENCH_CATALOG_SERVICES` (default 10,000) services on a hundred nodes, and at the APIs of a hundred agents;
//! `BENCH_WATCHERS` (default 5,000) blocking queries on one service. On loopback beside the load, like the rest.

pub(crate) mod registering;
mod services;
mod watchers;

use crate::fleet::run_inside;

/// Prints the tables; whether every goal was reached.
pub(crate) fn run() -> bool {
    let services = services::run();
    let watchers = watchers::run();
    services & watchers & run_inside("registering")
}
