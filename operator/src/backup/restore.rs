//! What is done for one `ConsulRestore`. Pure.
//!
//! It happens once at most: its job is made suspended, its UID is written to the status, which the API server lets nobody
//! change again, and only then is that very job allowed to run. Whatever is lost or killed between two of these, no second
//! job is ever allowed to: a restore whose job is gone has failed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::job::{self, Asker, Work};
use super::outcome::Outcome;
use super::place::Place;
use super::{Said, conditions, not_serving, snapshot};
use crate::crd::{
    ConsulCluster, ConsulRestore, ConsulRestoreStatus, ConsulSnapshot, JobPhase, RestoreSource,
};

/// Time after which something that is waited for is looked at again.
const AGAIN: Duration = Duration::from_secs(5);
/// The same between the steps that lead to it.
const SOON: Duration = Duration::from_millis(100);

/// What there is.
pub struct Seen<'a> {
    /// The resource.
    pub restore: &'a ConsulRestore,
    /// Its cluster.
    pub cluster: Option<&'a ConsulCluster>,
    /// The snapshot that it names, where it names one and there is one.
    pub snapshot: Option<&'a ConsulSnapshot>,
    /// Its job.
    pub job: Outcome,
    /// Image of the agent.
    pub image: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// The one thing that is done to the job.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// It is made, and not allowed to run yet.
    CreateSuspended(Value),
    /// It is allowed to run: the status says so already.
    Resume {
        /// The very one of the status.
        uid: String,
    },
}

/// What is done, what is said, and when to look again.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// To the job.
    pub act: Act,
    /// The status. It is written before the next look acts upon it.
    pub status: ConsulRestoreStatus,
    /// When to look again; none: when something changes.
    pub again: Option<Duration>,
}

/// Where the saved state is, with its SHA-256 where that is known.
enum Source {
    At(Box<Place>, Option<String>),
    Wait(&'static str, String),
    Wrong(String),
}

fn source(wanted: &RestoreSource, found: Option<&ConsulSnapshot>) -> Source {
    let RestoreSource {
        snapshot: name,
        destination,
        file,
    } = wanted;
    if let Some(name) = name {
        let Some(found) = found else {
            let text = format!("there is no ConsulSnapshot \"{name}\" in this namespace");
            return Source::Wait("SnapshotNotFound", text);
        };
        let status = found.status.clone().unwrap_or_default();
        return match status.phase {
            JobPhase::Completed => Source::At(Box::new(snapshot::place(found)), status.sha256),
            JobPhase::Failed => Source::Wrong(format!("the ConsulSnapshot \"{name}\" failed")),
            _ => {
                let text = format!("the ConsulSnapshot \"{name}\" is not complete yet");
                Source::Wait("SnapshotNotComplete", text)
            }
        };
    }
    match (destination, file) {
        (Some(destination), Some(file)) if !file.split('/').any(|part| part == "..") => {
            let place = Place {
                destination: destination.clone(),
                file: file.trim_start_matches('/').to_owned(),
            };
            Source::At(Box::new(place), None)
        }
        (Some(_), Some(file)) => Source::Wrong(format!("\"{file}\" must not hold '..'")),
        _ => Source::Wrong(
            "the source needs a snapshot, or a destination with a file: a path of a machine is for `operator local`"
                .to_owned(),
        ),
    }
}

/// Who asks for its job.
pub fn asker(restore: &ConsulRestore) -> Asker<'_> {
    Asker {
        kind: "ConsulRestore",
        name: restore.metadata.name.as_deref().unwrap_or_default(),
        uid: restore.metadata.uid.as_deref().unwrap_or_default(),
        schedule: None,
    }
}

fn said(phase: JobPhase, reason: &'static str, message: impl Into<String>) -> Said {
    Said {
        phase,
        reason,
        message: message.into(),
    }
}

/// Chooses. Same input, same decision.
pub fn decide(seen: &Seen<'_>) -> Decision {
    let mut status = seen.restore.status.clone().unwrap_or_default();
    if status.phase.is_final() {
        return Decision {
            act: Act::Nothing,
            status,
            again: None,
        };
    }
    let (said, act, again) = match status.job_uid.clone() {
        None => before_latch(seen, &mut status),
        Some(latched) => after_latch(seen, &mut status, &latched),
    };
    let generation = seen.restore.metadata.generation;
    if said.phase.is_final() {
        status.completion_time = Some(Time(seen.now));
    }
    status.observed_generation = generation;
    status.phase = said.phase;
    status.message = Some(said.message.clone());
    status.conditions = conditions(&said, &status.conditions, generation, seen.now);
    Decision {
        act,
        status,
        again: (!said.phase.is_final()).then_some(again),
    }
}

/// No job may run yet.
fn before_latch(seen: &Seen<'_>, status: &mut ConsulRestoreStatus) -> (Said, Act, Duration) {
    let waits = |reason, why: String| (said(JobPhase::Pending, reason, why), Act::Nothing, AGAIN);
    let uid = match &seen.job {
        Outcome::Suspended { uid }
        // Somebody let it run: then that was it.
        | Outcome::Running { uid, .. }
        | Outcome::Succeeded { uid, .. }
        | Outcome::Failed { uid, .. } => uid,
        Outcome::Foreign => {
            let name = job::name(&asker(seen.restore));
            let text = format!("there is a Job \"{name}\" that somebody else made: delete it");
            return waits("JobForeign", text);
        }
        Outcome::Absent => return create(seen, status),
    };
    status.job_uid = Some(uid.clone());
    status.start_time = Some(Time(seen.now));
    let said = said(JobPhase::Running, "Reserved", "its Job may run from now on");
    (said, Act::Nothing, SOON)
}

fn create(seen: &Seen<'_>, status: &mut ConsulRestoreStatus) -> (Said, Act, Duration) {
    let waits = |reason, why: String| (said(JobPhase::Pending, reason, why), Act::Nothing, AGAIN);
    let spec = &seen.restore.spec;
    let (place, sha256) = match source(&spec.source, seen.snapshot) {
        Source::At(place, sha256) => (place, sha256),
        Source::Wait(reason, why) => return waits(reason, why),
        Source::Wrong(why) => {
            return (
                said(JobPhase::Failed, "InvalidSource", why),
                Act::Nothing,
                AGAIN,
            );
        }
    };
    if let Some((reason, why)) = not_serving(&spec.cluster, seen.cluster) {
        return waits(reason, why);
    }
    let (Some(cluster), Some(image)) = (seen.cluster, seen.image) else {
        let text = format!(
            "spec.image of the cluster \"{}\" is missing, and the operator was started without --agent-image",
            spec.cluster
        );
        return waits("NoImage", text);
    };
    status.location = Some(place.location());
    let work = Work {
        asker: asker(seen.restore),
        cluster,
        image,
        place: &place,
        verb: "restore",
        flags: sha256
            .map(|sha256| format!("-sha256={sha256}"))
            .into_iter()
            .collect(),
        time_limit_seconds: spec.time_limit_seconds,
        resources: spec.resources.as_ref(),
        // A second pod would be a second restore.
        retries: 0,
        suspended: true,
    };
    let said = said(
        JobPhase::Pending,
        "JobCreated",
        "its Job is made, and may not run yet",
    );
    (said, Act::CreateSuspended(job::job(&work)), SOON)
}

/// One job may run, and no other ever.
fn after_latch(
    seen: &Seen<'_>,
    status: &mut ConsulRestoreStatus,
    latched: &str,
) -> (Said, Act, Duration) {
    let gone = "its Job is gone before it could tell what it did: whether the state was put back is unknown. Look at the cluster, and make another ConsulRestore if it was not";
    let (uid, found) = match &seen.job {
        Outcome::Absent | Outcome::Foreign => {
            return (said(JobPhase::Failed, "JobGone", gone), Act::Nothing, AGAIN);
        }
        Outcome::Suspended { uid } => {
            let told = said(JobPhase::Running, "Starting", "its Job starts");
            (uid, (told, Act::Resume { uid: uid.clone() }, SOON))
        }
        Outcome::Running { uid, trouble } => {
            let told = match trouble {
                Some(trouble) => said(JobPhase::Running, "PodTrouble", trouble),
                None => said(JobPhase::Running, "Running", "the state is being put back"),
            };
            (uid, (told, Act::Nothing, AGAIN))
        }
        Outcome::Succeeded { uid, report } => {
            status.index = report.as_ref().map(|report| report.index);
            let text = match report {
                Some(report) => format!("put back, as of index {}", report.index),
                None => "put back".to_owned(),
            };
            let told = said(JobPhase::Completed, "Restored", text);
            (uid, (told, Act::Nothing, AGAIN))
        }
        Outcome::Failed { uid, why } => {
            let told = said(JobPhase::Failed, "Failed", why);
            (uid, (told, Act::Nothing, AGAIN))
        }
    };
    match uid == latched {
        true => found,
        false => (said(JobPhase::Failed, "JobGone", gone), Act::Nothing, AGAIN),
    }
}
