//! How long a leader's work takes, under Consul's names.

use std::sync::OnceLock;

use tokio::time::Instant;

use crate::metrics::{Metrics, Timer};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// A look at members, peers and catalog, with every change that it led to.
    Reconcile,
    /// One change of a member's row in the catalog.
    ReconcileMember,
    /// The end of old tombstones.
    ReapTombstones,
    /// From the beginning of a leadership until everything that was acknowledged before it is applied here.
    Barrier,
}

/// Where durations go, once somebody looks: a node is started before its metrics are.
#[derive(Default)]
pub struct Timings(OnceLock<Timers>);

struct Timers {
    reconcile: Timer,
    reconcile_member: Timer,
    reap_tombstones: Timer,
    barrier: Timer,
}

impl Timings {
    /// Records into these metrics from now on. Counts once.
    pub fn attach(&self, metrics: &Metrics) {
        let timer = |name: &str| metrics.timer(name, &[]);
        // There is one node a process; a second call changes nothing.
        let _ = self.0.set(Timers {
            reconcile: timer("leader.reconcile"),
            reconcile_member: timer("leader.reconcileMember"),
            reap_tombstones: timer("leader.reapTombstones"),
            barrier: timer("leader.barrier"),
        });
    }

    pub(super) fn record(&self, work: Work, since: Instant) {
        let Some(timers) = self.0.get() else {
            return;
        };
        let timer = match work {
            Work::Reconcile => &timers.reconcile,
            Work::ReconcileMember => &timers.reconcile_member,
            Work::ReapTombstones => &timers.reap_tombstones,
            Work::Barrier => &timers.barrier,
        };
        timer.record(since.elapsed());
    }
}
