//! The resources about saved states: `ConsulSnapshot` takes one, `ConsulSnapshotSchedule` takes them regularly,
//! `ConsulRestore` puts one back, once.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

/// Takes one saved state of a cluster, and verifies it.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "consulcluster.dev",
    version = "v1alpha1",
    kind = "ConsulSnapshot",
    plural = "consulsnapshots",
    shortname = "ccsnap",
    namespaced,
    derive = "PartialEq",
    doc = "One saved state of a ConsulCluster: taken once, read back and verified. Deleting this resource leaves the file.",
    status = "ConsulSnapshotStatus",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Index", type_ = "integer", json_path = ".status.index"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.sizeBytes"),
    printcolumn(name = "Taken", type_ = "date", json_path = ".status.completionTime"),
    printcolumn(name = "Location", type_ = "string", json_path = ".status.location", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name is at most 63 characters: the file is called after it")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self == oldSelf").message("a ConsulSnapshot is taken once and cannot change: make another one"))]
pub struct ConsulSnapshotSpec {
    /// The ConsulCluster of this namespace whose state is saved.
    #[schemars(length(min = 1, max = 40))]
    pub cluster: String,
    /// Where it goes.
    pub destination: Destination,
    /// Seconds that it may take, with all attempts: 60 to 86400.
    #[serde(default = "default_time_limit")]
    #[schemars(range(min = 60, max = 86_400))]
    pub time_limit_seconds: i64,
    /// Memory and processor time of the pod that does it. It holds the state once, so it needs memory for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

fn default_time_limit() -> i64 {
    3600
}

/// Where saved states are kept: a volume claim or S3-compatible storage.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.pvc) != has(self.s3)").message("a destination is either pvc or s3"))]
pub struct Destination {
    /// A volume claim of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<ClaimPlace>,
    /// A bucket of S3-compatible storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<BucketPlace>,
}

/// A folder of a volume claim.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimPlace {
    /// Name of the PersistentVolumeClaim. Written as group 65532 (`fsGroup`).
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// Folder in it; made where it is missing. Absent: the volume's root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 256),
        regex(pattern = r"^([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$")
    )]
    #[x_kube(validation = Rule::new("!self.split('/').exists(part, part == '..')").message("pvc.path must not hold '..'"))]
    pub path: String,
}

/// A prefix in a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BucketPlace {
    /// Name of the bucket. It must exist.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    )]
    pub bucket: String,
    /// What keys begin with; a `/` follows. Absent: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$")
    )]
    pub prefix: String,
    /// URL of the server. Absent: Amazon's of the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^\s/]+(/[^\s]*)?$"))]
    pub endpoint: Option<String>,
    /// Region of the bucket. Absent: us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub region: Option<String>,
    /// Whether the bucket stands in the path of URLs. Absent: yes with an endpoint, no without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Secret of this namespace with the keys AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where there is one,
    /// AWS_SESSION_TOKEN. Only the pod that speaks to the storage reads it; the operator does not.
    #[schemars(length(min = 1, max = 253))]
    pub credentials_secret: String,
    /// Secret with the certificate authorities that the server's certificate is checked by, key `ca.crt` unless said.
    /// Absent: those in the agent's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JobPhase {
    /// Something is waited for; the message says what.
    #[default]
    Pending,
    /// Its pod runs, or is about to.
    Running,
    /// Done. Final.
    Completed,
    /// Not done. Final.
    Failed,
}

impl JobPhase {
    /// Whether it stays so.
    pub fn is_final(self) -> bool {
        matches!(self, JobPhase::Completed | JobPhase::Failed)
    }
}

/// How far a snapshot has come, and what it holds.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsulSnapshotStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it has come.
    #[serde(default)]
    pub phase: JobPhase,
    /// What is waited for, was done, or went wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// Name of the file, or last part of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub file: Option<String>,
    /// Where it is: `pvc://CLAIM/PATH/FILE` or `s3://BUCKET/PREFIX/FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub location: Option<String>,
    /// Raft index that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<i64>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// SHA-256 of the file, in hexadecimal.
    #[serde(default, rename = "sha256", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,
    /// Id of the cluster that it was taken of.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub cluster_id: Option<String>,
    /// When its job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it was done and verified, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Takes saved states of a cluster regularly, and deletes old ones of its own.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "consulcluster.dev",
    version = "v1alpha1",
    kind = "ConsulSnapshotSchedule",
    plural = "consulsnapshotschedules",
    shortname = "ccsched",
    namespaced,
    derive = "PartialEq",
    doc = "Makes ConsulSnapshots of a ConsulCluster regularly. Old ones that it made itself are deleted after a newer one was verified.",
    status = "ConsulSnapshotScheduleStatus",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccessTime"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextTime"),
    printcolumn(name = "Kept", type_ = "integer", json_path = ".status.kept"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name is at most 40 characters: names of snapshots are made from it")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsulSnapshotScheduleSpec {
    /// The ConsulCluster of this namespace whose state is saved.
    #[schemars(length(min = 1, max = 40))]
    pub cluster: String,
    /// When, in the five fields of cron: minute, hour, day of the month, month, day of the week.
    #[schemars(length(min = 9, max = 128), regex(pattern = r"^\S+( +\S+){4}$"))]
    pub schedule: String,
    /// Time zone that the schedule is read in, as `Europe/Berlin`. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: Option<String>,
    /// Where they go.
    pub destination: Destination,
    /// How long they are kept.
    #[serde(default)]
    pub retention: SnapshotRetention,
    /// Makes no new ones while true.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Seconds that one may take, with all attempts: 60 to 86400.
    #[serde(default = "default_time_limit")]
    #[schemars(range(min = 60, max = 86_400))]
    pub time_limit_seconds: i64,
    /// Memory and processor time of the pods that do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// How long the snapshots of a schedule are kept. Nothing is deleted before a newer one was verified, so that a schedule
/// which fails keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotRetention {
    /// Most that are kept: 1 to 1000.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1, max = 1000))]
    pub count: i32,
    /// Hours after which one is deleted, the newest apart: 1 to 87600. Absent: no age is too old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 87_600))]
    pub max_age_hours: Option<i32>,
}

impl Default for SnapshotRetention {
    fn default() -> Self {
        SnapshotRetention {
            count: default_count(),
            max_age_hours: None,
        }
    }
}

fn default_count() -> i32 {
    7
}

/// What a schedule has done, and does next.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsulSnapshotScheduleStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is done or waited for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// The snapshot that is being taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub active: Option<String>,
    /// Time of the schedule that the last snapshot was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When the last one was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// Which one that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_success: Option<String>,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// Verified snapshots that are kept.
    #[serde(default)]
    pub kept: i32,
    /// Snapshots in a row, up to the last one, that failed.
    #[serde(default)]
    pub failures: i32,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Puts a saved state in place of a running cluster's, once.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "consulcluster.dev",
    version = "v1alpha1",
    kind = "ConsulRestore",
    plural = "consulrestores",
    shortname = "ccrestore",
    namespaced,
    derive = "PartialEq",
    doc = "Puts a saved state in place of a running ConsulCluster's: every key, service and session of now is lost. Done once at most, whatever happens.",
    status = "ConsulRestoreStatus",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Index", type_ = "integer", json_path = ".status.index"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name is at most 63 characters")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self == oldSelf").message("a ConsulRestore is done once and cannot change: make another one"))]
pub struct ConsulRestoreSpec {
    /// The ConsulCluster of this namespace whose state is replaced.
    #[schemars(length(min = 1, max = 40))]
    pub cluster: String,
    /// The saved state.
    pub source: RestoreSource,
    /// Seconds that it may take: 60 to 86400.
    #[serde(default = "default_time_limit")]
    #[schemars(range(min = 60, max = 86_400))]
    pub time_limit_seconds: i64,
    /// Memory and processor time of the pod that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// A saved state.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.snapshot) ? !has(self.destination) && !has(self.file) : has(self.file)").message("a saved state is either a snapshot, or a file with the destination that it is in"))]
pub struct RestoreSource {
    /// A ConsulSnapshot of this namespace. It is waited for until it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub snapshot: Option<String>,
    /// The place that `file` is in. Absent: a path of this machine, for `operator local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// Name of the file, or last part of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: Option<String>,
}

/// How far a restore has come.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.jobUID) || (has(self.jobUID) && self.jobUID == oldSelf.jobUID)").message("jobUID is written once"),
    validation = Rule::new("!(oldSelf.phase in ['Completed', 'Failed']) || self.phase == oldSelf.phase").message("a restore that has ended stays so")
)]
pub struct ConsulRestoreStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it has come.
    #[serde(default)]
    pub phase: JobPhase,
    /// What is waited for, was done, or went wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// UID of the one job that may do it. Written once, before that job may run.
    #[serde(default, rename = "jobUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub job_uid: Option<String>,
    /// Where the saved state is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub location: Option<String>,
    /// Raft index that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<i64>,
    /// When its job was allowed to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it was done or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
