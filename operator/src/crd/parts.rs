//! The parts of a `ConsulCluster`'s spec.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the kubelet pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never.
    Never,
}

/// Volumes of the servers.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storage {
    /// Size of each server's volume, as `10Gi`: above 0. Can only grow.
    #[serde(default = "default_size")]
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))").message("storage.size must be a quantity above 0, such as 10Gi"))]
    pub size: Quantity,

    /// Storage class. Absent: the default of the Kubernetes cluster. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,

    /// What becomes of volumes that are not needed any more.
    #[serde(default)]
    pub retain: Retain,
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            size: default_size(),
            storage_class_name: None,
            retain: Retain::default(),
        }
    }
}

fn default_size() -> Quantity {
    Quantity("10Gi".to_owned())
}

/// What becomes of volumes that are not needed any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retain {
    /// When the resource is deleted.
    #[serde(default)]
    pub when_deleted: Retention,
    /// When the number of servers goes down.
    #[serde(default)]
    pub when_scaled: Retention,
}

/// Whether a volume outlives its server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// It is kept; deleting it is a person's decision.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

/// Labels and annotations added to every pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodMetadata {
    /// Added labels. Those of the operator win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Added annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Names a secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the secret. Absent: the customary one for its use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub key: Option<String>,
}

/// Encryption of gossip. Once on, it stays on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gossip {
    /// Whether agents encrypt what they gossip.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Secret with the key, base64 of 16, 24 or 32 bytes, under `key`. Another key in it is put into force without a
    /// restart. Absent: the operator makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Days after which the operator replaces a key that it made. Absent: only when a person asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub rotate_days: Option<i32>,
}

impl Default for Gossip {
    fn default() -> Self {
        Gossip {
            enabled: true,
            secret_ref: None,
            rotate_days: None,
        }
    }
}

/// Encryption of everything that is not gossip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// Where certificates come from.
    #[serde(default)]
    pub mode: TlsMode,
    /// Secret with `ca.crt`, `tls.crt` and `tls.key` of the servers, for mode `Secret`. The certificate names
    /// `server.DATACENTER.DOMAIN` and `localhost`, and may be shown by clients and servers alike. cert-manager keeps such
    /// Secrets; what it renews is put into force without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The same for client agents; names `client.DATACENTER.DOMAIN` and `localhost`. Needed for mode `Secret` where there
    /// are client agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretRef>,
    /// Whether agents listen for HTTPS on 8501 alone, and not for HTTP on 8500, once everything is encrypted.
    #[serde(default = "yes")]
    pub https_only: bool,
    /// Days that a certificate of the operator's is good for: it is replaced when a third of them is left.
    #[serde(default = "default_certificate_days")]
    #[schemars(range(min = 1, max = 3650))]
    pub certificate_days: i32,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            mode: TlsMode::default(),
            secret_ref: None,
            client_secret_ref: None,
            https_only: true,
            certificate_days: default_certificate_days(),
        }
    }
}

fn default_certificate_days() -> i32 {
    365
}

/// Where certificates come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// No encryption.
    Disabled,
    /// The operator's own authority.
    #[default]
    Generated,
    /// Secrets that a person, or cert-manager, keeps.
    Secret,
}

/// Access control lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Acl {
    /// Whether requests need a token.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Secret with the management token that the operator uses, under `token`. Absent: the operator makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretRef>,
}

impl Default for Acl {
    fn default() -> Self {
        Acl {
            enabled: true,
            token_secret_ref: None,
        }
    }
}

/// How running servers are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdatePolicy {
    /// Seconds that every other server must have been running before the next one is replaced.
    #[serde(default = "default_min_ready")]
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: i32,
    /// Log entries that a follower may trail the leader and still count as caught up.
    #[serde(default = "default_max_lag")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_lag: i64,
    /// Wait before this kind of step until the field is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_before: Option<PauseBefore>,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        UpdatePolicy {
            min_ready_seconds: default_min_ready(),
            max_lag: default_max_lag(),
            pause_before: None,
        }
    }
}

fn default_min_ready() -> i32 {
    2
}

fn default_max_lag() -> i64 {
    1000
}

/// A kind of step that a person may want to look at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PauseBefore {
    /// The first server leaves to come back without `-bootstrap`.
    Rotating,
    /// A server is replaced because the configuration changed.
    Updating,
    /// A server is added or removed because their number changed.
    Scaling,
}

/// What may be done when a cluster cannot heal by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recovery {
    /// Confirms one recovery after the loss of a majority: the code that the condition `Stalled` shows for it. It is made
    /// from the cluster id, the survivor and the configuration that lost its quorum: it fits this one situation and no later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub token: Option<String>,
    /// Server that is expected to be the survivor: with another name than the condition's, nothing is done. Absent: the
    /// code alone tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub survivor: Option<String>,
    /// A server whose data is moved aside, so that it joins anew with none. Only one that does not come up, or that holds
    /// data of another cluster. Nothing is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_aside: Option<MoveAside>,
    /// Whether the data of an accidental second bootstrap server of our own is moved aside, so that it can join.
    /// Nothing is deleted.
    #[serde(default = "yes")]
    pub move_aside_second_bootstrap: bool,
}

impl Default for Recovery {
    fn default() -> Self {
        Recovery {
            token: None,
            survivor: None,
            move_aside: None,
            move_aside_second_bootstrap: true,
        }
    }
}

/// Whose data is moved aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveAside {
    /// Node name of the server.
    #[schemars(length(min = 1, max = 253))]
    pub server: String,
    /// Any new value, such as the date: each one moves one folder once, and becomes part of its name.
    #[serde(deserialize_with = "super::validate::token")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub token: String,
}

fn yes() -> bool {
    true
}
