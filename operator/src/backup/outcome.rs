//! What became of a job, read from it and its pods. Pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

/// What the agent says that it did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Report {
    /// Raft index of the state.
    pub index: i64,
    /// Bytes of the file.
    pub size: i64,
    /// SHA-256 of the file.
    #[serde(rename = "SHA256")]
    pub sha256: String,
    /// Older ones that it deleted, as it was told to.
    pub deleted: Vec<String>,
    /// Older ones that it could not delete.
    pub not_deleted: Vec<Kept>,
}

/// An older one that could not be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Kept {
    /// Which one.
    pub location: String,
    /// Why not.
    pub error: String,
}

/// What there is of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Absent,
    /// A job of that name that somebody else made.
    Foreign,
    /// Made, and never allowed to run.
    Suspended {
        /// Its UID.
        uid: String,
    },
    /// Its pod runs, or is about to.
    Running {
        /// Its UID.
        uid: String,
        /// Why it does not get on, in the platform's or the agent's words.
        trouble: Option<String>,
    },
    /// Done.
    Succeeded {
        /// Its UID.
        uid: String,
        /// What the agent says; none: its pod is gone, or said nothing.
        report: Option<Report>,
    },
    /// Not done.
    Failed {
        /// Its UID.
        uid: String,
        /// Why not.
        why: String,
    },
}

/// Reads a job of the resource with that UID, and the pods that carry its name.
pub fn read(job: Option<&Job>, pods: &[Pod], asker: &str) -> Outcome {
    let Some(job) = job else {
        return Outcome::Absent;
    };
    let mut owners = job.metadata.owner_references.iter().flatten();
    if !owners.any(|owner| owner.uid == asker) {
        return Outcome::Foreign;
    }
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let mut pods: Vec<&Pod> = pods
        .iter()
        .filter(|pod| {
            let mut owners = pod.metadata.owner_references.iter().flatten();
            owners.any(|owner| owner.uid == uid)
        })
        .collect();
    // Latest last.
    pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let status = job.status.as_ref();
    let conditions = || {
        status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
    };
    let found = |name: &str| conditions().find(|c| c.type_ == name && c.status == "True");
    if found("Complete").is_some() {
        let report = pods.iter().rev().find_map(|pod| {
            let said = last_words(pod)?;
            serde_json::from_str(said).ok()
        });
        return Outcome::Succeeded { uid, report };
    }
    if let Some(failed) = found("Failed") {
        let platform = failed.message.clone().unwrap_or_default();
        let said = pods.iter().rev().find_map(|pod| last_words(pod));
        let stuck = || pods.iter().rev().find_map(|pod| trouble(pod));
        let why = match said.map(last_line).or_else(stuck) {
            Some(said) if failed.reason.as_deref() == Some("DeadlineExceeded") => {
                format!("it took longer than allowed; {said}")
            }
            Some(said) => said,
            None => platform,
        };
        return Outcome::Failed { uid, why };
    }
    let spec = job.spec.as_ref();
    if spec.and_then(|spec| spec.suspend) == Some(true) {
        return Outcome::Suspended { uid };
    }
    let trouble = pods.iter().rev().find_map(|pod| {
        trouble(pod).or_else(|| {
            let said = last_line(last_words(pod)?);
            Some(format!("an attempt failed, another one follows: {said}"))
        })
    });
    Outcome::Running { uid, trouble }
}

/// What the container left behind.
fn last_words(pod: &Pod) -> Option<&str> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = statuses.first()?.state.as_ref()?;
    let said = state.terminated.as_ref()?.message.as_deref()?;
    Some(said.trim()).filter(|said| !said.is_empty())
}

/// The sentence that a program ends with.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim().to_owned()
}

/// Why a pod does not start, in the platform's words.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
            let message = waiting.message.as_deref().unwrap_or_default();
            return Some(
                format!("{reason}: {message}")
                    .trim_end_matches(": ")
                    .to_owned(),
            );
        }
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    unscheduled.message.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(status: Value, suspend: bool) -> Job {
        let value = json!({
            "metadata": {"name": "j", "uid": "job", "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "asker"}]},
            "spec": {"suspend": suspend, "template": {}}, "status": status,
        });
        serde_json::from_value(value).unwrap()
    }

    fn pod(status: Value) -> Pod {
        let value = json!({
            "metadata": {"name": "p", "ownerReferences": [{"apiVersion": "v1", "kind": "Job", "name": "j", "uid": "job"}]},
            "status": status,
        });
        serde_json::from_value(value).unwrap()
    }

    fn container(state: Value) -> Value {
        json!({"containerStatuses": [{"name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
    }

    fn ended(kind: &str) -> Value {
        json!({"conditions": [{"type": kind, "status": "True", "message": "BackoffLimitExceeded"}]})
    }

    #[test]
    fn the_agents_last_words_are_read() {
        let said =
            r#"{"Location":"x","Index":7,"Size":9,"SHA256":"ab","Deleted":["y"],"NotDeleted":[]}"#;
        let done = pod(container(
            json!({"terminated": {"exitCode": 0, "message": said}}),
        ));
        let Outcome::Succeeded { report, .. } =
            read(Some(&job(ended("Complete"), false)), &[done], "asker")
        else {
            panic!("it succeeded");
        };
        let report = report.unwrap();
        assert_eq!((report.index, report.size), (7, 9));
        assert_eq!(report.deleted, ["y"]);
        let broke = "log\nError saving snapshot: there is no bucket \"b\"\n";
        let failed = pod(container(
            json!({"terminated": {"exitCode": 1, "message": broke}}),
        ));
        let seen = read(Some(&job(ended("Failed"), false)), &[failed], "asker");
        let why = "Error saving snapshot: there is no bucket \"b\"".to_owned();
        let uid = "job".to_owned();
        assert_eq!(seen, Outcome::Failed { uid, why });
    }

    #[test]
    fn what_keeps_a_pod_from_starting_is_said_in_the_platforms_words() {
        let running = job(json!({}), false);
        let missing = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"keys\" not found"}});
        let cases = [
            (
                container(missing),
                Some("CreateContainerConfigError: secret \"keys\" not found"),
            ),
            (
                container(json!({"waiting": {"reason": "ContainerCreating"}})),
                None,
            ),
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "persistentvolumeclaim \"b\" not found"}]}),
                Some("persistentvolumeclaim \"b\" not found"),
            ),
        ];
        for (status, wanted) in cases {
            let seen = read(Some(&running), &[pod(status)], "asker");
            let Outcome::Running { trouble, .. } = seen else {
                panic!("{seen:?}");
            };
            assert_eq!(trouble.as_deref(), wanted);
        }
    }

    #[test]
    fn a_job_of_somebody_else_is_not_ours() {
        assert_eq!(
            read(Some(&job(json!({}), false)), &[], "other"),
            Outcome::Foreign
        );
        assert_eq!(read(None, &[], "asker"), Outcome::Absent);
        let uid = "job".to_owned();
        assert_eq!(
            read(Some(&job(json!({}), true)), &[], "asker"),
            Outcome::Suspended { uid }
        );
    }
}
