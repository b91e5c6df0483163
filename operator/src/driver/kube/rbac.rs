//! The rights that the operator needs, and no others: printed by `operator rbac`, and where charts and manifests have
//! theirs from.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Name of the roles.
pub const NAME: &str = "consul-operator";

const READ: [&str; 3] = ["get", "list", "watch"];

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

/// What the operator does, in every namespace that it serves.
pub fn rules() -> Vec<PolicyRule> {
    let with = |more: &[&'static str]| [&READ[..], more].concat();
    vec![
        rule("consulcluster.dev", &["consulclusters"], &READ),
        rule("consulcluster.dev", &["consulclusters/status"], &["update"]),
        // Owner references that block a deletion need this where that is checked (OpenShift).
        rule(
            "consulcluster.dev",
            &["consulclusters/finalizers"],
            &["update"],
        ),
        // Saved states. A schedule makes snapshots, and deletes those whose file it has deleted; `restoreFrom` makes a
        // restore. Credentials of storages are read by the pods of the jobs only.
        rule(
            "consulcluster.dev",
            &["consulsnapshots"],
            &with(&["create", "delete"]),
        ),
        rule("consulcluster.dev", &["consulsnapshotschedules"], &READ),
        rule("consulcluster.dev", &["consulrestores"], &with(&["create"])),
        rule(
            "consulcluster.dev",
            &[
                "consulsnapshots/status",
                "consulsnapshotschedules/status",
                "consulrestores/status",
                "consulsnapshots/finalizers",
                "consulrestores/finalizers",
            ],
            &["update"],
        ),
        rule("batch", &["jobs"], &with(&["create", "patch", "delete"])),
        rule(
            "apps",
            &["statefulsets", "daemonsets"],
            &with(&["create", "patch", "delete"]),
        ),
        rule("", &["pods"], &with(&["delete"])),
        rule("", &["pods/eviction"], &["create"]),
        // Volumes are asked for, made larger and noted on. Never deleted.
        rule("", &["persistentvolumeclaims"], &with(&["create", "patch"])),
        rule("", &["configmaps"], &with(&["create", "patch", "delete"])),
        // Keys, certificates and tokens of the clusters; and those that a spec names. Never listed, watched or deleted.
        rule("", &["secrets"], &["get", "create", "patch"]),
        rule("", &["services"], &with(&["create", "patch", "delete"])),
        rule("", &["serviceaccounts"], &with(&["create", "patch"])),
        rule(
            "policy",
            &["poddisruptionbudgets"],
            &with(&["create", "patch"]),
        ),
        rule(
            "networking.k8s.io",
            &["networkpolicies"],
            &with(&["create", "patch", "delete"]),
        ),
        // What the StatefulSet controller was refused is only said there.
        rule("", &["events"], &["list"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// The agents' HTTP through the API server: only for an operator outside of the cluster.
pub fn proxy_rules() -> Vec<PolicyRule> {
    vec![rule(
        "",
        &["pods/proxy"],
        &["get", "create", "update", "delete"],
    )]
}

/// In the operator's own namespace: the Lease by which one replica leads.
pub fn lease_rules() -> Vec<PolicyRule> {
    vec![rule(
        "coordination.k8s.io",
        &["leases"],
        &["get", "create", "update"],
    )]
}

fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ObjectMeta::default()
    }
}

/// The rights for all namespaces.
pub fn cluster_role(proxy: bool) -> ClusterRole {
    let mut rules = rules();
    if proxy {
        rules.extend(proxy_rules());
    }
    ClusterRole {
        metadata: metadata(NAME, None),
        rules: Some(rules),
        aggregation_rule: None,
    }
}

/// The rights for one namespace.
pub fn role(namespace: &str, proxy: bool) -> Role {
    Role {
        metadata: metadata(NAME, Some(namespace)),
        rules: cluster_role(proxy).rules,
    }
}

/// The right to lead, in the operator's own namespace.
pub fn lease_role(namespace: &str) -> Role {
    Role {
        metadata: metadata(&format!("{NAME}-lease"), Some(namespace)),
        rules: Some(lease_rules()),
    }
}
