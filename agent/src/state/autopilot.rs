//! How the leader is to look after the set of servers: one row, which an operator can change.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::{Outcome, Refusal};
use super::{Change, Indexes};

/// The settings. Their names are Consul's, and so are their defaults but for `server_stabilization_time`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autopilot {
    /// Whether failed servers are removed once that makes the cluster safer.
    pub cleanup_dead_servers: bool,
    /// A server that has not answered the leader for longer is unhealthy.
    pub last_contact_threshold: Duration,
    /// A server with more entries missing is unhealthy, and is not given a vote.
    pub max_trailing_logs: u64,
    /// Failed servers are not removed while there are no more voters than this.
    pub min_quorum: u32,
    /// How long a new server must be healthy before it is given its vote.
    pub server_stabilization_time: Duration,
    /// Kept and shown, as Consul does without an Enterprise licence; means nothing.
    pub redundancy_zone_tag: String,
    /// Kept and shown, likewise.
    pub disable_upgrade_migration: bool,
    /// Kept and shown, likewise.
    pub upgrade_version_tag: String,
    /// Log index that first set them. Set by the state.
    pub create_index: u64,
    /// Log index that last set them. Set by the state.
    pub modify_index: u64,
}

impl Default for Autopilot {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Duration::ZERO,
            redundancy_zone_tag: String::new(),
            disable_upgrade_migration: false,
            upgrade_version_tag: String::new(),
            create_index: 0,
            modify_index: 0,
        }
    }
}

/// Sets the row, with `cas` only if it was last set at that index; 0 stands for never.
pub(super) fn set(
    row: &mut Option<Autopilot>,
    change: &mut Change<'_>,
    new: &Autopilot,
    cas: Option<u64>,
) -> Outcome {
    let (created, modified) = row.as_ref().map_or((change.index, 0), |row| {
        (row.create_index, row.modify_index)
    });
    if cas.is_some_and(|cas| cas != modified) {
        return Outcome::Bool(false);
    }
    if new.last_contact_threshold.is_zero() {
        return Outcome::refuse(
            Refusal::InvalidAutopilot,
            "LastContactThreshold must be above 0",
        );
    }
    *row = Some(Autopilot {
        create_index: created,
        modify_index: change.index,
        ..new.clone()
    });
    change.touched.autopilot();
    Outcome::Bool(true)
}

pub(super) fn indexes(row: Option<&Autopilot>) -> Indexes {
    Indexes::same(row.map_or(0, |row| row.modify_index))
}
