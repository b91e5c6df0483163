//! Saved states on Kubernetes: taken once, taken regularly, put back.
//!
//! A job of the agent's image does the work: it reads the Secret, speaks to the storage and holds the state in its
//! memory. The operator only chooses, by pure functions of what is there and what time it is, and reads what became of the
//! job from the pod's last words.

pub mod controller;
pub mod job;
pub mod outcome;
pub mod place;
pub mod restore;
pub mod restored;
pub mod schedule;
pub mod snapshot;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::crd::{ConsulCluster, JobPhase, condition};

/// Label of what a schedule made: its name.
pub const SCHEDULE: &str = "consulcluster.dev/schedule";
/// Label of what a schedule made: its UID. A schedule that is made again under the same name deletes nothing of the other.
pub const SCHEDULE_UID: &str = "consulcluster.dev/schedule-uid";
/// Annotation of what a schedule made: the time of the schedule.
pub const SCHEDULED_FOR: &str = "consulcluster.dev/scheduled-for";
/// Label of jobs and their pods: `snapshot` or `restore`.
pub const JOB: &str = "consulcluster.dev/job";

/// Whether a condition of that cluster is True.
fn is(cluster: &ConsulCluster, name: &str) -> bool {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == name && condition.status == "True")
}

/// Why nothing can be asked of a cluster now; none: it can.
fn not_serving(name: &str, cluster: Option<&ConsulCluster>) -> Option<(&'static str, String)> {
    let Some(cluster) = cluster else {
        let text = format!("there is no ConsulCluster \"{name}\" in this namespace");
        return Some(("ClusterNotFound", text));
    };
    if !is(cluster, condition::BOOTSTRAPPED) {
        let text = format!("the cluster \"{name}\" is not formed yet");
        return Some(("ClusterNotFormed", text));
    }
    if !is(cluster, condition::AVAILABLE) {
        let text = format!("the cluster \"{name}\" has no leader with a quorum");
        return Some(("ClusterUnavailable", text));
    }
    None
}

/// What is said of a resource: how far it is, why in one word, and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    phase: JobPhase,
    reason: &'static str,
    message: String,
}

/// The conditions that kstatus reads. The time of one that did not change is kept.
fn conditions(
    said: &Said,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let (ready, reconciling, stalled) = match said.phase {
        JobPhase::Completed => ("True", "False", "False"),
        JobPhase::Failed => ("False", "False", "True"),
        JobPhase::Pending | JobPhase::Running => ("False", "True", "False"),
    };
    let one = |name: &str, status: &str| {
        let kept = before
            .iter()
            .find(|old| old.type_ == name && old.status == status);
        Condition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: said.reason.to_owned(),
            message: said.message.clone(),
            observed_generation: generation,
            last_transition_time: kept.map_or(Time(now), |old| old.last_transition_time.clone()),
        }
    };
    vec![
        one(condition::READY, ready),
        one(condition::RECONCILING, reconciling),
        one(condition::STALLED, stalled),
    ]
}
