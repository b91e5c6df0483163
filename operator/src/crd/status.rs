//! The status of a `ConsulCluster`: what the operator saw last. A cache for people and tools, but for `clusterID`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of the conditions. `Ready`, `Reconciling` and `Stalled` are those that kstatus reads.
pub mod condition {
    /// The cluster is as asked for, is one cluster, and serves.
    pub const READY: &str = "Ready";
    /// Steps remain.
    pub const RECONCILING: &str = "Reconciling";
    /// A person has to act.
    pub const STALLED: &str = "Stalled";
    /// The bootstrap is over: no server runs with `-bootstrap`, and none will again.
    pub const BOOTSTRAPPED: &str = "Bootstrapped";
    /// No server of another cluster is seen.
    pub const SINGLE_CLUSTER: &str = "SingleCluster";
    /// There is a leader with a quorum: writes are accepted.
    pub const AVAILABLE: &str = "Available";
}

/// What the operator saw last.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.restored) || !(oldSelf.restored.phase in ['Completed', 'Failed']) || (has(self.restored) && self.restored.phase == oldSelf.restored.phase)").message("restored stays as it ended"),
    validation = Rule::new("!has(oldSelf.clusterID) || (has(self.clusterID) && self.clusterID == oldSelf.clusterID)").message("clusterID is written once")
)]
pub struct ConsulClusterStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the cluster is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is being done or waited for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// Id that the cluster was given at its bootstrap. Written once.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub cluster_id: Option<String>,
    /// The one server that may form the cluster; recorded before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_server: Option<BootstrapRecord>,
    /// Number of servers that exist, running or not.
    #[serde(default)]
    pub servers: i32,
    /// Number of servers that are caught-up voters.
    #[serde(default)]
    pub ready_servers: i32,
    /// `readyServers` of `spec.servers`, as `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub ready: Option<String>,
    /// Number of voters in the Raft configuration.
    #[serde(default)]
    pub voters: i32,
    /// Number of client agents that run and are members.
    #[serde(default)]
    pub clients: i32,
    /// Node name of the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub leader: Option<String>,
    /// Version that the servers run; the oldest while they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Last log index of the leader when this status was written. Growth alone does not make a new status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_log_index: Option<i64>,
    /// Node name of a server that still runs with `-bootstrap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub flagged: Option<String>,
    /// Servers of this cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<MemberStatus>,
    /// Servers of other clusters that gossip with this one. Never added, never touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub foreign: Vec<Foreign>,
    /// The last snapshot that was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// What became of `spec.restoreFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// How far encryption and tokens are on. Absent: nothing of it ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Label selector of the servers' pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// `Ready`, `Reconciling`, `Stalled`, `Bootstrapped`, `SingleCluster`, `Available`. Unknown while agents do not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The one server that may form the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapRecord {
    /// Node name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of its pod.
    #[serde(default, rename = "podUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pod_uid: Option<String>,
    /// UID of its volume claim.
    #[serde(default, rename = "pvcUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pvc_uid: Option<String>,
}

/// Where a cluster is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Data of an earlier life was found; its servers are started, never with the flag.
    Adopting,
    /// Nothing runs yet.
    Preparing,
    /// The first server forms the cluster.
    Bootstrapping,
    /// The other servers start.
    Expanding,
    /// The other servers join.
    Joining,
    /// Replication is verified.
    Verifying,
    /// The first server leaves, and comes back without the flag.
    Rotating,
    /// The last traces of the bootstrap go; clients start.
    Settling,
    /// As asked for.
    Running,
    /// A server or client that should run is brought back.
    Healing,
    /// An accidental second bootstrap server is brought into the cluster.
    Repairing,
    /// Servers are added or removed.
    Scaling,
    /// Servers are replaced, one at a time.
    Updating,
    /// Nothing is done because the spec says so.
    Paused,
    /// A person has to act.
    Stalled,
}

/// One server of this cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Node name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Consul node id.
    #[serde(default, rename = "nodeID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub node_id: Option<String>,
    /// Address that the others reach it at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub address: Option<String>,
    /// Name of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// UID of its pod.
    #[serde(default, rename = "podUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pod_uid: Option<String>,
    /// Its part in the cluster. Absent while it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// Last log index that it had when this status was written. Growth alone does not make a new status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_log_index: Option<i64>,
    /// Whether it runs with `-bootstrap`.
    #[serde(default)]
    pub bootstrap_flag: bool,
    /// Revision of the configuration that it runs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision: Option<String>,
    /// Cluster that it says it belongs to.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub cluster_id: Option<String>,
}

/// A server's part in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Leads.
    Leader,
    /// Votes.
    Voter,
    /// Receives the log and does not vote.
    Learner,
    /// Not in the Raft configuration.
    Left,
    /// Belongs to another cluster.
    Foreign,
}

/// A server of another cluster that gossips with this one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Foreign {
    /// Node name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Address in gossip.
    #[schemars(length(max = 253))]
    pub address: String,
    /// Cluster that it says it belongs to.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub cluster_id: Option<String>,
}

/// The last snapshot that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// Name of the ConsulSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// When it was verified.
    pub time: Time,
    /// Raft index that it holds.
    pub index: i64,
    /// Size in bytes.
    pub size_bytes: i64,
}

/// What became of `spec.restoreFrom`. `Completed` and `Failed` are final: it is never done again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// How far it has come.
    #[serde(default)]
    pub phase: super::JobPhase,
    /// The ConsulRestore that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub by: Option<String>,
    /// What is waited for, was done, or went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
}

/// How far encryption and tokens are on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Encryption of gossip.
    #[serde(default)]
    pub gossip: Stage,
    /// Encryption of everything else.
    #[serde(default)]
    pub tls: Stage,
    /// Access control lists.
    #[serde(default)]
    pub acl: Stage,
    /// When the first of the certificates that are in use ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates_end: Option<Time>,
    /// What is being changed or waited for, or what is wrong with a Secret, in a sentence. Absent: all is as asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// How far something that protects is on. A running cluster goes through them in order, one rolling change each, so that
/// at no time two agents cannot speak to each other.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Stage {
    /// Off. Not called so: YAML of before 1.2, which Helm and kubectl read, takes that word for a boolean.
    #[default]
    Disabled,
    /// Agents have what they need for it, and ask nobody for it. Of access control lists: tokens are known, everything
    /// is still allowed.
    Prepared,
    /// What agents send is encrypted; they still take what is not.
    Outgoing,
    /// Nothing else is taken.
    Full,
}
