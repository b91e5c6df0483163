//! What is done for one `ConsulSnapshot`. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::job::{self, Asker, Work};
use super::outcome::Outcome;
use super::place::Place;
use super::{SCHEDULE, Said, conditions, not_serving};
use crate::crd::{ConsulCluster, ConsulSnapshot, ConsulSnapshotStatus, JobPhase};

/// Pods that are tried after the first one failed: the network may be in trouble for a moment.
const RETRIES: i32 = 2;
/// Time after which something that is waited for is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// What there is.
pub struct Seen<'a> {
    /// The resource.
    pub snapshot: &'a ConsulSnapshot,
    /// Its cluster.
    pub cluster: Option<&'a ConsulCluster>,
    /// Its job.
    pub job: Outcome,
    /// Image of the agent; none: the spec names none, and neither does the operator's command line.
    pub image: Option<&'a str>,
    /// Older ones of the same schedule that are to go once this one is verified.
    pub older: Vec<Older>,
    /// The time.
    pub now: Timestamp,
}

/// An older snapshot that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Older {
    /// Name of its resource.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// The one thing that is done to the job.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// It is made.
    Create(Value),
    /// It is not needed any more.
    Delete {
        /// The very one that was seen.
        uid: String,
    },
}

/// What is done, what is said, and when to look again.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// To the job.
    pub act: Act,
    /// Resources of older ones whose files are gone.
    pub forget: Vec<String>,
    /// The status.
    pub status: ConsulSnapshotStatus,
    /// When to look again; none: when something changes.
    pub again: Option<Duration>,
}

/// The place of a snapshot's file. Its name is nobody else's, so that nothing is ever overwritten.
pub fn place(snapshot: &ConsulSnapshot) -> Place {
    let name = snapshot.metadata.name.as_deref().unwrap_or_default();
    let uid = snapshot.metadata.uid.as_deref().unwrap_or_default();
    Place {
        destination: snapshot.spec.destination.clone(),
        file: format!("{name}-{}.snap", job::short(uid)),
    }
}

/// Who asks for its job.
pub fn asker(snapshot: &ConsulSnapshot) -> Asker<'_> {
    let labels = snapshot.metadata.labels.as_ref();
    Asker {
        kind: "ConsulSnapshot",
        name: snapshot.metadata.name.as_deref().unwrap_or_default(),
        uid: snapshot.metadata.uid.as_deref().unwrap_or_default(),
        schedule: labels
            .and_then(|labels| labels.get(SCHEDULE))
            .map(String::as_str),
    }
}

/// Chooses. Same input, same decision.
pub fn decide(seen: &Seen<'_>) -> Decision {
    let before = seen.snapshot.status.clone().unwrap_or_default();
    if before.phase.is_final() {
        // Its pod has nothing to tell any more. One that failed stays, with its log.
        let act = match (&seen.job, before.phase) {
            (Outcome::Succeeded { uid, .. }, JobPhase::Completed) => {
                Act::Delete { uid: uid.clone() }
            }
            _ => Act::Nothing,
        };
        return Decision {
            act,
            forget: Vec::new(),
            status: before,
            again: None,
        };
    }
    let mut status = before;
    let mut forget = Vec::new();
    let (said, act) = match &seen.job {
        Outcome::Absent => absent(seen, &mut status),
        Outcome::Foreign => {
            let name = job::name(&asker(seen.snapshot));
            let text = format!("there is a Job \"{name}\" that somebody else made: delete it");
            (said(JobPhase::Pending, "JobForeign", text), Act::Nothing)
        }
        Outcome::Suspended { .. } => {
            let text = "somebody suspended its Job".to_owned();
            (said(JobPhase::Pending, "JobSuspended", text), Act::Nothing)
        }
        Outcome::Running { trouble, .. } => {
            let said = match trouble {
                Some(trouble) => said(JobPhase::Running, "PodTrouble", trouble.clone()),
                None => said(
                    JobPhase::Running,
                    "Running",
                    "the state is being saved".into(),
                ),
            };
            (said, Act::Nothing)
        }
        Outcome::Succeeded { report, .. } => {
            succeeded(seen, report.as_ref(), &mut status, &mut forget)
        }
        Outcome::Failed { why, .. } => {
            status.completion_time = Some(Time(seen.now));
            (said(JobPhase::Failed, "Failed", why.clone()), Act::Nothing)
        }
    };
    let generation = seen.snapshot.metadata.generation;
    status.observed_generation = generation;
    status.phase = said.phase;
    status.message = Some(said.message.clone());
    status.conditions = conditions(&said, &status.conditions, generation, seen.now);
    // Once more after the end, for the job; a watch tells of the rest.
    let again = Some(match act {
        Act::Create(_) => Duration::from_secs(1),
        _ if said.phase.is_final() => Duration::from_millis(100),
        _ => AGAIN,
    });
    Decision {
        act,
        forget,
        status,
        again,
    }
}

fn said(phase: JobPhase, reason: &'static str, message: String) -> Said {
    Said {
        phase,
        reason,
        message,
    }
}

fn absent(seen: &Seen<'_>, status: &mut ConsulSnapshotStatus) -> (Said, Act) {
    let spec = &seen.snapshot.spec;
    if let Some((reason, why)) = not_serving(&spec.cluster, seen.cluster) {
        return (said(JobPhase::Pending, reason, why), Act::Nothing);
    }
    let (Some(cluster), Some(image)) = (seen.cluster, seen.image) else {
        let text = format!(
            "spec.image of the cluster \"{}\" is missing, and the operator was started without --agent-image",
            spec.cluster
        );
        return (said(JobPhase::Pending, "NoImage", text), Act::Nothing);
    };
    let place = place(seen.snapshot);
    let mut flags = Vec::new();
    if spec.destination.pvc.is_some() {
        flags.push("-make-folders".to_owned());
    }
    for older in &seen.older {
        flags.push(format!("-delete={}", older.place.argument()));
    }
    status.file = Some(place.file.clone());
    status.location = Some(place.location());
    status.start_time = status.start_time.clone().or(Some(Time(seen.now)));
    status.cluster_id = cluster.status.as_ref().and_then(|s| s.cluster_id.clone());
    let work = Work {
        asker: asker(seen.snapshot),
        cluster,
        image,
        place: &place,
        verb: "save",
        flags,
        time_limit_seconds: spec.time_limit_seconds,
        resources: spec.resources.as_ref(),
        retries: RETRIES,
        suspended: false,
    };
    let text = "its Job starts".to_owned();
    (
        said(JobPhase::Running, "JobCreated", text),
        Act::Create(job::job(&work)),
    )
}

fn succeeded(
    seen: &Seen<'_>,
    report: Option<&super::outcome::Report>,
    status: &mut ConsulSnapshotStatus,
    forget: &mut Vec<String>,
) -> (Said, Act) {
    status.completion_time = Some(Time(seen.now));
    let Some(report) = report else {
        // What nobody vouches for is not called verified.
        let text = "its Job ended well, but the pod that could say what it did is gone".to_owned();
        return (said(JobPhase::Failed, "NoReport", text), Act::Nothing);
    };
    status.index = Some(report.index);
    status.size_bytes = Some(report.size);
    status.sha256 = Some(report.sha256.clone());
    let gone = |older: &&Older| report.deleted.contains(&older.place.argument());
    forget.extend(
        seen.older
            .iter()
            .filter(gone)
            .map(|older| older.name.clone()),
    );
    let mut text = format!("saved and verified to index {}", report.index);
    if let Some(kept) = report.not_deleted.first() {
        text.push_str(&format!(
            "; {} could not be deleted: {}",
            kept.location, kept.error
        ));
    }
    (said(JobPhase::Completed, "Verified", text), Act::Nothing)
}
