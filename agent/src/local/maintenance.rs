//! The check that stands for maintenance.

use std::time::Duration;

use super::definition::{CheckDefinition, Kind};
use crate::config::Secret;
use crate::state::CheckStatus;

/// The check that takes the node or a service out of service.
pub(super) fn maintenance(id: &str, service: &str, reason: &str) -> CheckDefinition {
    let (what, name) = match service {
        "" => ("node", "Node Maintenance Mode"),
        _ => ("service", "Service Maintenance Mode"),
    };
    let notes = match reason {
        "" => format!(
            "Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
        ),
        reason => reason.to_owned(),
    };
    CheckDefinition {
        id: id.to_owned(),
        name: name.to_owned(),
        notes,
        service_id: service.to_owned(),
        status: CheckStatus::Critical,
        kind: Kind::Maintenance,
        interval: Duration::ZERO,
        timeout_given: Duration::ZERO,
        output_max: None,
        deregister_after: None,
        success_before_passing: 0,
        failures_before_warning: 0,
        failures_before_critical: 0,
        token: Secret::default(),
    }
}
