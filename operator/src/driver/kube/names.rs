//! Names and labels of everything that belongs to one `ConsulCluster`. Names follow the resource, not `nodePrefix`: only
//! the resource's name is unique in its namespace.

use std::collections::BTreeMap;

/// Field manager of everything that the operator writes.
pub const MANAGER: &str = "consul-operator";
/// Cluster that an object belongs to: the name of its resource.
pub const CLUSTER: &str = "consulcluster.dev/cluster";
/// UID of that resource, as names come again.
pub const CLUSTER_UID: &str = "consulcluster.dev/cluster-uid";
/// `server`, `client` or `client-agent`.
pub const ROLE: &str = "consulcluster.dev/role";
/// On pods that clients may be sent to: never on one that was started with `-bootstrap`.
pub const SERVES: &str = "consulcluster.dev/serves";
/// Hash of what a pod was started with.
pub const REVISION: &str = "consulcluster.dev/revision";
/// On claims: id of the cluster whose data they hold.
pub const CLUSTER_ID: &str = "consulcluster.dev/cluster-id";
/// On the claim of the first server: UID of the resource that reserved it for its bootstrap.
pub const RESERVED_BY: &str = "consulcluster.dev/reserved-by";
/// What says that a label is ours.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Container of the agent in every pod.
pub const CONTAINER: &str = "agent";
/// Environment variable that holds the permit to bootstrap, and key of the ConfigMap that it comes from.
pub const PERMIT: &str = "AGENT_BOOTSTRAP_PERMIT";
/// Environment variable that names a cluster whose data is moved aside, and key of the ConfigMap that it comes from.
pub const SET_ASIDE: &str = "AGENT_SET_ASIDE_CLUSTER";
/// Key of the agents' ConfigMap, and so a file of their configuration, that holds what a person has asked one server for.
pub const RECOVERY: &str = "recovery.json";
/// On claims: the token on which the server was last told to move its data aside.
pub const MOVED_ASIDE: &str = "consulcluster.dev/moved-aside";
/// User and group of the agents: nobody's on any distribution.
pub const USER: i64 = 65532;
/// Port of every agent's HTTP API.
pub const HTTP_PORT: u16 = 8500;

/// Name of the port of its HTTPS API, in pods and Services.
pub const HTTPS: &str = "https";

/// StatefulSet of the servers, its headless Service, their PodDisruptionBudget and NetworkPolicy.
pub fn server(cluster: &str) -> String {
    format!("{cluster}-server")
}

/// StatefulSet of the clients.
pub fn client(cluster: &str) -> String {
    format!("{cluster}-client")
}

/// DaemonSet of client agents, one per host.
pub fn client_agent(cluster: &str) -> String {
    format!("{cluster}-client-agent")
}

/// ConfigMap with the agents' configuration.
pub fn config(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// ConfigMap that exists while one server may form the cluster.
pub fn permit(cluster: &str) -> String {
    format!("{cluster}-bootstrap-permit")
}

/// Secret that holds everything that protects the cluster.
pub fn vault(cluster: &str) -> String {
    format!("{cluster}-security")
}

/// Secret with what servers, or clients, see of it.
pub fn secure(cluster: &str, server: bool) -> String {
    let role = if server { "server" } else { "client" };
    format!("{cluster}-{role}-secure")
}

/// Claim of the server with that number, as the StatefulSet names it.
pub fn claim(cluster: &str, number: usize) -> String {
    format!("data-{cluster}-server-{number}")
}

/// Number of the pod or claim of that StatefulSet: what follows the last dash.
pub fn number(set: &str, name: &str) -> Option<usize> {
    let rest = name.strip_prefix(set)?.strip_prefix('-')?;
    // "01" is not a name that a StatefulSet gives.
    let number: usize = rest.parse().ok()?;
    (number.to_string() == rest).then_some(number)
}

/// Labels that select the objects of one cluster.
pub fn selector(cluster: &str) -> String {
    format!("{CLUSTER}={cluster}")
}

/// Labels that select every object of every cluster.
pub fn any() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// Labels of an object.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "consul"),
        ("app.kubernetes.io/instance", cluster),
        (MANAGED_BY, MANAGER),
        (CLUSTER, cluster),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Labels by which a StatefulSet, a DaemonSet or a Service finds the pods of that role.
pub fn pods(cluster: &str, role: &str) -> BTreeMap<String, String> {
    [(CLUSTER, cluster), (ROLE, role)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_stateful_set_gives_have_a_number() {
        assert_eq!(number("demo-server", "demo-server-12"), Some(12));
        for name in [
            "demo-server",
            "demo-server-",
            "demo-server-01",
            "demo-server-x",
            "other-server-1",
            "demo-server-1-2",
        ] {
            assert_eq!(number("demo-server", name), None, "{name}");
        }
        assert_eq!(number("data-demo-server", &claim("demo", 3)), Some(3));
    }
}
