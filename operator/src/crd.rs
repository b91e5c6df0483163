//! The `ConsulCluster` resource: what a person asks for, and what the operator reports.
//!
//! The manifest under `crds/` is printed from these types by `operator crd`, so a doc comment here is what
//! `kubectl explain` shows. Rules that hold between fields are CEL, evaluated by the API server; `validate` holds
//! the same rules for a file that never meets an API server.

// The schema derive copies each struct, with its visibility, into a function body.
#![allow(unreachable_pub)]

mod backup;
mod manifest;
mod parts;
mod status;
mod validate;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use backup::{
    BucketPlace, ClaimPlace, ConsulRestore, ConsulRestoreSpec, ConsulRestoreStatus, ConsulSnapshot,
    ConsulSnapshotSchedule, ConsulSnapshotScheduleSpec, ConsulSnapshotScheduleStatus,
    ConsulSnapshotSpec, ConsulSnapshotStatus, Destination, JobPhase, RestoreSource,
    SnapshotRetention,
};
pub use manifest::{ReadError, manifests, read};
pub use parts::{
    Acl, Gossip, MoveAside, PauseBefore, PodMetadata, PullPolicy, Recovery, Retain, Retention,
    SecretRef, Storage, Tls, TlsMode, UpdatePolicy,
};
pub use status::{
    BootstrapRecord, ConsulClusterStatus, Foreign, LastBackup, MemberRole, MemberStatus, Phase,
    Restored, Security, Stage, condition,
};
pub use validate::{Invalid, Warning, validate, warnings, warnings_local};

/// Numbers of servers that a cluster may have. Odd, because an even number tolerates no more failures than one
/// fewer; at most 7, because every write waits for a majority.
pub const SERVER_COUNTS: [i32; 4] = [1, 3, 5, 7];

/// Domain of the DNS interface unless the spec says otherwise: Consul's.
pub const DEFAULT_DOMAIN: &str = "consul";

/// Flags that the operator sets itself; an element of `extraArgs` must not begin with one of them, whichever
/// number of dashes it has.
pub const OWN_FLAGS: [&str; 17] = [
    "bootstrap",
    "server",
    "data-dir",
    "join",
    "retry-join",
    "rejoin",
    "node",
    "bind",
    "client",
    "advertise",
    "datacenter",
    "config",
    "http-port",
    "https-port",
    "serf-",
    "pid-file",
    "dev",
];

/// Keys that the operator sets itself, refused in `config`.
pub const OWN_KEYS: [&str; 20] = [
    "bootstrap",
    "bootstrap_expect",
    "server",
    "data_dir",
    "start_join",
    "retry_join",
    "rejoin_after_leave",
    "node_name",
    "node_id",
    "datacenter",
    "domain",
    "bind_addr",
    "client_addr",
    "advertise_addr",
    "addresses",
    "ports",
    "pid_file",
    "leave_on_terminate",
    "skip_leave_on_interrupt",
    "dev_mode",
];

/// A cluster of servers that agree by Raft, and the clients beside them.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "consulcluster.dev",
    version = "v1alpha1",
    kind = "ConsulCluster",
    plural = "consulclusters",
    shortname = "cc",
    category = "all",
    namespaced,
    derive = "PartialEq",
    doc = "A cluster of Consul servers, formed once by the documented manual bootstrap and kept healthy after it.",
    status = "ConsulClusterStatus",
    scale(
        spec_replicas_path = ".spec.servers",
        status_replicas_path = ".status.servers",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready", description = "servers that are caught-up voters, of those wanted"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Voters", type_ = "integer", json_path = ".status.voters"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Cluster-ID", type_ = "string", json_path = ".status.clusterID", priority = 1),
    printcolumn(name = "Flagged", type_ = "string", json_path = ".status.flagged", priority = 1, description = "server that still runs with -bootstrap"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name is at most 40 characters: pod and Service names are made from it")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.ephemeral) || !self.ephemeral || self.servers == 1").message("ephemeral storage is only for servers: 1"),
    validation = Rule::new("(has(self.ephemeral) && self.ephemeral) == (has(oldSelf.ephemeral) && oldSelf.ephemeral)").message("ephemeral cannot change"),
    // Here and not at the fields, for a field that is taken away and set anew is not seen to change there.
    validation = Rule::new("quantity(has(self.storage) ? string(self.storage.size) : '10Gi').compareTo(quantity(has(oldSelf.storage) ? string(oldSelf.storage.size) : '10Gi')) >= 0").message("storage.size can only grow"),
    validation = Rule::new("(has(self.storage) && has(self.storage.storageClassName) ? self.storage.storageClassName : '') == (has(oldSelf.storage) && has(oldSelf.storage.storageClassName) ? oldSelf.storage.storageClassName : '')").message("storage.storageClassName cannot change"),
    validation = Rule::new("has(self.nodePrefix) == has(oldSelf.nodePrefix) && (!has(self.nodePrefix) || self.nodePrefix == oldSelf.nodePrefix)").message("nodePrefix cannot change"),
    validation = Rule::new("!has(self.restoreFrom) || (has(oldSelf.restoreFrom) && self.restoreFrom == oldSelf.restoreFrom)").message("restoreFrom is only read when the cluster is created: it can be taken away, not set or changed"),
    validation = Rule::new("!has(oldSelf.gossip) || !oldSelf.gossip.enabled || (has(self.gossip) && self.gossip.enabled)").message("gossip encryption cannot be taken away again"),
    validation = Rule::new("!has(self.tls) || (self.tls.mode == 'Secret') == has(self.tls.secretRef)").message("tls.secretRef is for mode: Secret, and needed there"),
    validation = Rule::new("!has(self.tls) || self.tls.mode != 'Secret' || has(self.tls.clientSecretRef) || (self.clients == 0 && !(has(self.clientDaemonSet) && self.clientDaemonSet))").message("tls.clientSecretRef is needed where there are client agents"),
    validation = Rule::new("!has(self.restoreFrom) || has(self.restoreFrom.snapshot) || has(self.restoreFrom.destination)").message("restoreFrom needs a snapshot, or a destination with a file")
)]
pub struct ConsulClusterSpec {
    /// Number of servers: 1, 3, 5 or 7. One server has no fault tolerance. Changed by at most two at a time.
    #[serde(default = "default_servers", deserialize_with = "validate::servers")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(
        validation = Rule::new("self in [1, 3, 5, 7]").message("servers must be 1, 3, 5 or 7: an even number tolerates no more failures than one fewer"),
        validation = Rule::new("self - oldSelf <= 2 && oldSelf - self <= 2").message("servers changes by at most two at a time")
    )]
    pub servers: i32,

    /// Number of client agents that the operator runs: 0 to 200. They gossip and forward, and hold no state. On
    /// Kubernetes clients normally run beside the applications instead.
    #[serde(default, deserialize_with = "validate::clients")]
    #[schemars(range(min = 0, max = 200))]
    pub clients: i32,

    /// Whether a client agent runs on every host of the Kubernetes cluster, as a DaemonSet, once the bootstrap is over. Pods
    /// find the one of their host by the Service `NAME-client-agent`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub client_daemon_set: bool,

    /// Whether a NetworkPolicy lets only agents of this cluster reach the servers' consensus and gossip. HTTP stays open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub network_policy: bool,

    /// Image of the agent, with a tag or a digest. Absent: the one that this operator was released with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When the kubelet pulls the image. Absent: Kubernetes' own rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,

    /// Secrets of this namespace that the kubelet pulls the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Name of the datacenter, part of every DNS name. Cannot change.
    #[serde(default = "default_datacenter")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z0-9_-]+$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("datacenter cannot change"))]
    pub datacenter: String,

    /// Domain that the DNS interface answers for. Cannot change.
    #[serde(default = "default_domain")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("domain cannot change"))]
    pub domain: String,

    /// What node names begin with; `-server-0`, `-client-0` follow. Absent: the name of this resource. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub node_prefix: Option<String>,

    /// Volumes of the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,

    /// Keeps the data of a single server in memory of its pod only: gone when the pod goes. Only for `servers: 1`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,

    /// More agent configuration, with Consul's key names, given to every server and client as a file. Keys that the
    /// operator sets itself are refused.
    #[serde(
        default,
        skip_serializing_if = "serde_json::Map::is_empty",
        deserialize_with = "validate::config"
    )]
    #[schemars(schema_with = "config_schema")]
    pub config: serde_json::Map<String, serde_json::Value>,

    /// More arguments of every server and client. Flags that the operator sets itself are refused.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "validate::extra_args"
    )]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    #[x_kube(validation = Rule::new(extra_args_rule()).message(Message::Message(extra_args_message())))]
    pub extra_args: Vec<String>,

    /// Memory and processor time of each server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Where pods may run. Absent: servers prefer different hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How pods spread over zones and hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// Taints that pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Labels that a host must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,

    /// Labels and annotations added to every pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,

    /// Encryption of gossip. Absent: on for a cluster that is formed by this version or a later one, else as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gossip: Option<Gossip>,

    /// Encryption of everything that is not gossip. Absent: as of `gossip`, with certificates of the operator's own authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// Access control lists. Absent: as of `gossip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Acl>,

    /// Saved state that a new cluster starts from: put back once, after its bootstrap, before it is ready. It can be
    /// taken away, not set or changed later, and is not looked at where servers have data already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreSource>,

    /// How running servers are replaced.
    #[serde(default)]
    pub update_policy: UpdatePolicy,

    /// What may be done when a cluster cannot heal by itself.
    #[serde(default)]
    pub recovery: Recovery,

    /// Observe and report only: nothing is started, stopped or changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

impl ConsulClusterSpec {
    /// What node names begin with, for a resource of that name.
    pub fn prefix<'a>(&'a self, name: &'a str) -> &'a str {
        self.node_prefix.as_deref().unwrap_or(name)
    }
}

fn default_servers() -> i32 {
    3
}

fn default_datacenter() -> String {
    "dc1".to_owned()
}

fn default_domain() -> String {
    DEFAULT_DOMAIN.to_owned()
}

/// CEL for "no element begins with a flag of the operator's own".
fn extra_args_rule() -> String {
    format!("self.all(a, !a.matches('^--?({})'))", OWN_FLAGS.join("|"))
}

fn extra_args_message() -> String {
    format!(
        "extraArgs must not hold flags that the operator sets itself: none that begin with -{}",
        OWN_FLAGS.join(", -")
    )
}

/// An object of any shape without the operator's own keys. CEL sees only the fields that a schema names, so these are
/// named, with their types, to be refused with a sentence.
fn config_schema(_: &mut SchemaGenerator) -> Schema {
    let list =
        serde_json::json!({ "type": "array", "items": { "type": "string" }, "maxItems": 64 });
    let object =
        serde_json::json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let named: serde_json::Map<_, _> = OWN_KEYS
        .iter()
        .map(|key| {
            let mut schema = match *key {
                "bootstrap"
                | "server"
                | "rejoin_after_leave"
                | "leave_on_terminate"
                | "skip_leave_on_interrupt"
                | "dev_mode" => serde_json::json!({ "type": "boolean" }),
                "bootstrap_expect" => serde_json::json!({ "type": "integer" }),
                "start_join" | "retry_join" => list.clone(),
                "addresses" | "ports" => object.clone(),
                _ => serde_json::json!({ "type": "string" }),
            };
            schema["description"] = "Set by the operator, and refused here.".into();
            ((*key).to_owned(), schema)
        })
        .collect();
    let absent: Vec<_> = OWN_KEYS
        .iter()
        .map(|key| format!("!has(self.{key})"))
        .collect();
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": named,
        "x-kubernetes-validations": [{
            "rule": absent.join(" && "),
            "message": format!("config must not hold keys that the operator sets itself: {}", OWN_KEYS.join(", ")),
        }],
    })
}

#[cfg(test)]
mod tests;
