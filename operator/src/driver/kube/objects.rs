//! The objects of a cluster, as JSON that is applied as it is. Pure: they depend on the resource and on what is given
//! here, never on a clock or on the operator's version, so that a new operator restarts nothing.

mod pods;
mod secrets;
mod sets;
mod support;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::ApiResource;
use serde_json::{Value, json};

pub use secrets::{secure, vault};
pub use sets::{client_daemon, client_set, first_server, replica_count, servers};
pub use support::{base, config, first_claim, permit, unwanted};

use super::names;
use crate::crd::ConsulCluster;

/// One object, ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// All that we set. What we leave out is the API server's to fill in, or somebody else's.
    pub value: Value,
}

impl Object {
    /// Its name.
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Says that it is to replace the very state that was seen: applied over any other, it is refused. What it says was
    /// computed from that state, the number of replicas above all.
    pub fn over(&mut self, live: Option<&StatefulSet>) {
        if let Some(live) = live {
            let StatefulSet { metadata, .. } = live;
            self.value["metadata"]["uid"] = json!(metadata.uid);
            self.value["metadata"]["resourceVersion"] = json!(metadata.resource_version);
        }
    }
}

/// The kinds that the operator writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Identity of the pods; without any right.
    ServiceAccount,
    /// Configuration, and the permit.
    ConfigMap,
    /// Keys, certificates and tokens.
    Secret,
    /// How servers and applications find servers.
    Service,
    /// Bounds what drains may take away.
    PodDisruptionBudget,
    /// Who may speak to the servers.
    NetworkPolicy,
    /// Volumes of servers.
    PersistentVolumeClaim,
    /// One agent. Never made, only deleted.
    Pod,
    /// Servers, clients.
    StatefulSet,
    /// Client agents, one per host.
    DaemonSet,
    /// What `spec.restoreFrom` becomes.
    ConsulRestore,
}

impl Kind {
    /// Group, version and plural.
    fn parts(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Kind::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Kind::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Kind::Secret => ("", "v1", "Secret", "secrets"),
            Kind::Service => ("", "v1", "Service", "services"),
            Kind::PodDisruptionBudget => (
                "policy",
                "v1",
                "PodDisruptionBudget",
                "poddisruptionbudgets",
            ),
            Kind::NetworkPolicy => (
                "networking.k8s.io",
                "v1",
                "NetworkPolicy",
                "networkpolicies",
            ),
            Kind::PersistentVolumeClaim => {
                ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
            }
            Kind::Pod => ("", "v1", "Pod", "pods"),
            Kind::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            Kind::DaemonSet => ("apps", "v1", "DaemonSet", "daemonsets"),
            Kind::ConsulRestore => (
                "consulcluster.dev",
                "v1alpha1",
                "ConsulRestore",
                "consulrestores",
            ),
        }
    }

    /// How the API names it.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.parts();
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// An object of this kind that belongs to the cluster, without its spec.
    fn object(self, cluster: &ConsulCluster, name: &str) -> Value {
        let resource = self.resource();
        let own = cluster.metadata.name.as_deref().unwrap_or_default();
        json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "namespace": cluster.metadata.namespace,
                "labels": names::labels(own),
                "ownerReferences": [owner(cluster)],
            },
        })
    }
}

/// The reference by which Kubernetes deletes an object with its cluster.
pub fn owner(cluster: &ConsulCluster) -> Value {
    json!({
        "apiVersion": "consulcluster.dev/v1alpha1",
        "kind": "ConsulCluster",
        "name": cluster.metadata.name,
        "uid": cluster.metadata.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The resource's own name.
fn own_name(cluster: &ConsulCluster) -> &str {
    cluster.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
