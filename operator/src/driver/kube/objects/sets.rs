//! The sets of pods.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::pods::{For, template};
use super::{Kind, Object, names, own_name};
use crate::crd::{ConsulCluster, Retention, Storage};

/// The StatefulSet that forms the cluster: one server, with the flag. Only ever created, never applied.
pub fn first_server(cluster: &ConsulCluster, image: &str) -> Object {
    let (template, _) = template(cluster, image, For::FirstServer);
    let keep = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    set(cluster, template, 1, keep, None)
}

/// The StatefulSet for life, and the hash of what its pods are started with. `live` is what there is: claims of a
/// StatefulSet cannot change, so a larger volume is asked for at the claims themselves.
pub fn servers(
    cluster: &ConsulCluster,
    image: &str,
    replicas: usize,
    live: Option<&StatefulSet>,
) -> (Object, String) {
    let (template, revision) = template(cluster, image, For::Servers);
    let retain = cluster.spec.storage.clone().unwrap_or_default().retain;
    let recorded = cluster
        .status
        .as_ref()
        .is_some_and(|status| status.cluster_id.is_some());
    // Until the cluster is on record nothing may delete a volume, whatever the spec says.
    let word = |retention| match retention {
        Retention::Delete if recorded => "Delete",
        Retention::Delete | Retention::Retain => "Retain",
    };
    let policy =
        json!({"whenDeleted": word(retain.when_deleted), "whenScaled": word(retain.when_scaled)});
    let claims = live.and_then(|live| live.spec.as_ref()?.volume_claim_templates.as_ref());
    let size = claims.and_then(|claims| {
        let requests = claims.first()?.spec.as_ref()?.resources.as_ref()?;
        requests.requests.as_ref()?.get("storage").cloned()
    });
    (
        set(cluster, template, replicas, policy, size.map(|size| size.0)),
        revision,
    )
}

fn set(
    cluster: &ConsulCluster,
    template: Value,
    replicas: usize,
    policy: Value,
    size: Option<String>,
) -> Object {
    let kind = Kind::StatefulSet;
    let name = own_name(cluster);
    let mut value = kind.object(cluster, &names::server(name));
    value["metadata"]["labels"][names::ROLE] = json!("server");
    value["spec"] = json!({
        "serviceName": names::server(name),
        "replicas": replicas,
        "selector": {"matchLabels": names::pods(name, "server")},
        "template": template,
        // The operator says when a pod goes; and a pod that is made anew is always of the newest template, so that the
        // flag cannot come back.
        "updateStrategy": {"type": "OnDelete"},
        // In order, pod 1 would wait for pod 0 to be ready, which needs pod 1 once there are two.
        "podManagementPolicy": "Parallel",
        // No flagged template to roll back to.
        "revisionHistoryLimit": 0,
        "persistentVolumeClaimRetentionPolicy": policy,
    });
    if !cluster.spec.ephemeral {
        let mut spec = claim_spec(cluster);
        if let Some(size) = size {
            spec["resources"]["requests"]["storage"] = json!(size);
        }
        let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
        let mut labels = names::labels(name);
        labels.insert(names::CLUSTER_UID.to_owned(), uid.to_owned());
        value["spec"]["volumeClaimTemplates"] = json!([{
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "labels": labels},
            "spec": spec,
        }]);
    }
    Object { kind, value }
}

/// What each server's volume is asked for with.
pub(super) fn claim_spec(cluster: &ConsulCluster) -> Value {
    let Storage {
        size,
        storage_class_name,
        retain: _,
    } = cluster.spec.storage.clone().unwrap_or_default();
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": size}},
    });
    if let Some(class) = storage_class_name {
        spec["storageClassName"] = json!(class);
    }
    spec
}

/// The StatefulSet of the clients that `spec.clients` asks for, and the hash of what they are started with.
pub fn client_set(cluster: &ConsulCluster, image: &str) -> (Object, String) {
    let kind = Kind::StatefulSet;
    let name = own_name(cluster);
    let (template, revision) = template(cluster, image, For::Clients);
    let mut value = kind.object(cluster, &names::client(name));
    value["metadata"]["labels"][names::ROLE] = json!("client");
    value["spec"] = json!({
        "serviceName": names::server(name),
        "replicas": cluster.spec.clients,
        "selector": {"matchLabels": names::pods(name, "client")},
        "template": template,
        "updateStrategy": {"type": "OnDelete"},
        "podManagementPolicy": "Parallel",
        "revisionHistoryLimit": 0,
    });
    (Object { kind, value }, revision)
}

/// The DaemonSet of `spec.clientDaemonSet`. Kubernetes rolls it: a client agent holds nothing.
pub fn client_daemon(cluster: &ConsulCluster, image: &str) -> Object {
    let kind = Kind::DaemonSet;
    let name = own_name(cluster);
    let (template, _) = template(cluster, image, For::ClientAgents);
    let mut value = kind.object(cluster, &names::client_agent(name));
    value["spec"] = json!({
        "selector": {"matchLabels": names::pods(name, "client-agent")},
        "template": template,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "revisionHistoryLimit": 1,
    });
    Object { kind, value }
}

/// Replicas that a StatefulSet was asked for.
pub fn replica_count(set: &StatefulSet) -> usize {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
    usize::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}
