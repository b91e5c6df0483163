//! What stands around the pods.

use serde_json::json;

use super::sets::claim_spec;
use super::{Kind, Object, names, own_name};
use crate::crd::ConsulCluster;
use crate::secure;
use crate::secure::render::HTTPS_PORT;

/// Everything that is there for the whole life of a cluster, except the sets of pods. `evictable` is how many servers a
/// drain may take away: none while the first one holds the only copy.
pub fn base(cluster: &ConsulCluster, evictable: u32) -> Vec<Object> {
    let mut all = vec![
        account(cluster),
        config(cluster),
        headless(cluster),
        service(cluster),
        budget(cluster, evictable),
    ];
    if cluster.spec.network_policy {
        all.push(policy(cluster));
    }
    if cluster.spec.client_daemon_set {
        all.push(node_service(cluster));
    }
    all
}

/// Objects that the spec does not ask for any more, or not yet.
pub fn unwanted(cluster: &ConsulCluster) -> Vec<(Kind, String)> {
    let name = own_name(cluster);
    let mut all = Vec::new();
    if !cluster.spec.network_policy {
        all.push((Kind::NetworkPolicy, names::server(name)));
    }
    if !cluster.spec.client_daemon_set {
        all.push((Kind::DaemonSet, names::client_agent(name)));
        all.push((Kind::Service, names::client_agent(name)));
    }
    all
}

fn account(cluster: &ConsulCluster) -> Object {
    let kind = Kind::ServiceAccount;
    let mut value = kind.object(cluster, own_name(cluster));
    value["automountServiceAccountToken"] = json!(false);
    Object { kind, value }
}

/// Configuration of every agent.
pub fn config(cluster: &ConsulCluster) -> Object {
    let kind = Kind::ConfigMap;
    let mut value = kind.object(cluster, &names::config(own_name(cluster)));
    value["data"] = json!({"agent.json": config_text(cluster)});
    Object { kind, value }
}

/// The file that every agent reads.
pub(super) fn config_text(cluster: &ConsulCluster) -> String {
    let mut config = cluster.spec.config.clone();
    if cluster.spec.domain != crate::crd::DEFAULT_DOMAIN {
        config.insert("domain".to_owned(), json!(cluster.spec.domain));
    }
    // Plain data always encodes; an agent takes an empty object for what it is.
    serde_json::to_string_pretty(&config).unwrap_or_else(|_| "{}".to_owned())
}

fn port(name: &str, number: u16, protocol: &str) -> serde_json::Value {
    json!({"name": name, "port": number, "targetPort": number, "protocol": protocol})
}

/// The ports of the agents' API.
fn api(cluster: &ConsulCluster) -> Vec<serde_json::Value> {
    let mut ports = Vec::new();
    if secure::has_http(cluster) {
        ports.push(port("http", names::HTTP_PORT, "TCP"));
    }
    if secure::has_https(cluster) {
        ports.push(port(names::HTTPS, HTTPS_PORT, "TCP"));
    }
    ports
}

/// How servers find each other: also those that are not ready, as nobody is before they have found each other.
fn headless(cluster: &ConsulCluster) -> Object {
    let kind = Kind::Service;
    let name = own_name(cluster);
    let mut value = kind.object(cluster, &names::server(name));
    let mut ports = api(cluster);
    ports.extend([
        port("server", 8300, "TCP"),
        port("gossip", 8301, "TCP"),
        port("gossip-udp", 8301, "UDP"),
    ]);
    value["spec"] = json!({
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": names::pods(name, "server"),
        "ports": ports,
    });
    Object { kind, value }
}

/// How applications find servers: those that are ready, and none that carries `-bootstrap`, so that nobody writes to a
/// cluster that is not on record yet.
fn service(cluster: &ConsulCluster) -> Object {
    let kind = Kind::Service;
    let name = own_name(cluster);
    let mut value = kind.object(cluster, name);
    let mut selector = names::pods(name, "server");
    selector.insert(names::SERVES.to_owned(), "true".to_owned());
    value["spec"] = json!({
        "type": "ClusterIP",
        "selector": selector,
        "ports": api(cluster),
    });
    Object { kind, value }
}

/// How applications find the agent of their own host: one name everywhere, which leads to no other host. No port of the host
/// is taken for it, which Pod Security would not let pass.
fn node_service(cluster: &ConsulCluster) -> Object {
    let kind = Kind::Service;
    let name = own_name(cluster);
    let mut value = kind.object(cluster, &names::client_agent(name));
    let mut ports = api(cluster);
    ports.extend([port("dns", 8600, "UDP"), port("dns-tcp", 8600, "TCP")]);
    value["spec"] = json!({
        "type": "ClusterIP",
        "internalTrafficPolicy": "Local",
        "selector": names::pods(name, "client-agent"),
        "ports": ports,
    });
    Object { kind, value }
}

fn budget(cluster: &ConsulCluster, evictable: u32) -> Object {
    let kind = Kind::PodDisruptionBudget;
    let name = own_name(cluster);
    let mut value = kind.object(cluster, &names::server(name));
    value["spec"] = json!({
        "maxUnavailable": evictable,
        // A drain during a loss of quorum must not take the last copies.
        "unhealthyPodEvictionPolicy": "IfHealthyBudget",
        "selector": {"matchLabels": names::pods(name, "server")},
    });
    Object { kind, value }
}

/// Consensus and gossip between the agents of this cluster only, the gossip of datacenters between its servers; HTTP for
/// everybody who reaches the pods. Servers of another datacenter need a policy of their own: nobody here knows them.
fn policy(cluster: &ConsulCluster) -> Object {
    let kind = Kind::NetworkPolicy;
    let name = own_name(cluster);
    let mut value = kind.object(cluster, &names::server(name));
    value["spec"] = json!({
        "podSelector": {"matchLabels": names::pods(name, "server")},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [
                {"port": names::HTTP_PORT, "protocol": "TCP"},
                {"port": HTTPS_PORT, "protocol": "TCP"},
            ]},
            {
                "from": [{"podSelector": {"matchLabels": {names::CLUSTER: name}}}],
                "ports": [
                    {"port": 8300, "protocol": "TCP"},
                    {"port": 8301, "protocol": "TCP"},
                    {"port": 8301, "protocol": "UDP"},
                ],
            },
            {
                "from": [{"podSelector": {"matchLabels": names::pods(name, "server")}}],
                "ports": [
                    {"port": 8302, "protocol": "TCP"},
                    {"port": 8302, "protocol": "UDP"},
                ],
            },
        ],
    });
    Object { kind, value }
}

/// What the permit says that lets the server of this number form the cluster.
pub(super) fn permit_of(cluster: &ConsulCluster, number: &str) -> String {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    format!("{uid}-{number}")
}

/// What allows the first server, number 0, to form the cluster: no other pod of its set. Made once, deleted as soon as
/// the cluster is on record.
pub fn permit(cluster: &ConsulCluster) -> Object {
    let kind = Kind::ConfigMap;
    let mut value = kind.object(cluster, &names::permit(own_name(cluster)));
    value["data"] = json!({names::PERMIT: permit_of(cluster, "0")});
    Object { kind, value }
}

/// The claim of the first server, made before it starts, so that its UID can be put on record. It belongs to nobody:
/// volumes outlive the resource.
pub fn first_claim(cluster: &ConsulCluster, number: usize) -> Object {
    let kind = Kind::PersistentVolumeClaim;
    let name = own_name(cluster);
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let mut value = kind.object(cluster, &names::claim(name, number));
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("ownerReferences");
        metadata.insert("annotations".to_owned(), json!({names::RESERVED_BY: uid}));
    }
    value["metadata"]["labels"][names::CLUSTER_UID] = json!(uid);
    value["spec"] = claim_spec(cluster);
    Object { kind, value }
}
