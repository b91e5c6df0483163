use std::path::PathBuf;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::crd::{Security, Stage};
use crate::driver::kube::diff::holds;

const IMAGE: &str = "example.org/agent:1";

fn cluster(spec: &str) -> ConsulCluster {
    let head = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata: {name: demo, namespace: prod}\n";
    let mut cluster = crate::crd::read(&format!("{head}spec: {spec}")).unwrap();
    cluster.metadata.uid = Some("8e2c3f8a-1f6a-4d59-a8a0-3a3f7f7b2c11".into());
    cluster
}

fn full() -> ConsulCluster {
    cluster(
        "{servers: 5, clients: 2, clientDaemonSet: true, networkPolicy: true, image: 'example.org/agent:2', imagePullPolicy: Never, \
         imagePullSecrets: [{name: pull}], datacenter: east, domain: corp, nodePrefix: node, storage: {size: 20Gi, storageClassName: fast, \
         retain: {whenDeleted: Delete}}, config: {limits: {kv_max_value_size: 1048576}}, extraArgs: ['-log-level=debug', '-log-file=/consul/data/$(5)'], \
         resources: {limits: {cpu: 1000m, memory: 512Mi}}, tolerations: [{key: dedicated, operator: Exists}], nodeSelector: {disk: ssd}, \
         priorityClassName: high, topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}], \
         podMetadata: {labels: {team: a, 'consulcluster.dev/role': mine}, annotations: {note: b}}}",
    )
}

/// Every object of that cluster, as a person would read it.
fn all(cluster: &ConsulCluster) -> Vec<Object> {
    let image = cluster.spec.image.as_deref().unwrap_or(IMAGE);
    let mut all = base(cluster, 1);
    all.push(permit(cluster));
    all.push(first_claim(cluster, 0));
    all.push(first_server(cluster, image));
    all.push(servers(cluster, image, 3, None).0);
    if cluster.spec.clients > 0 {
        all.push(client_set(cluster, image).0);
    }
    if cluster.spec.client_daemon_set {
        all.push(client_daemon(cluster, image));
    }
    all
}

/// Compared with a file that a person has read; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, cluster: &ConsulCluster) {
    let documents: Vec<_> = all(cluster)
        .iter()
        .map(|object| serde_yaml::to_string(&object.value).unwrap())
        .collect();
    let text = documents.join("---\n");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{} differs: a change of a template restarts every server of every cluster. UPDATE_GOLDEN=1 writes it anew.",
        path.display()
    );
}

#[test]
fn the_objects_of_a_plain_cluster_are_as_read() {
    golden("plain.yaml", &cluster("{servers: 3}"));
}

#[test]
fn the_objects_of_a_cluster_that_asks_for_everything_are_as_read() {
    golden("full.yaml", &full());
}

fn at(mut cluster: ConsulCluster, gossip: Stage, tls: Stage, acl: Stage) -> ConsulCluster {
    let security = Security {
        gossip,
        tls,
        acl,
        ..Security::default()
    };
    cluster.status.get_or_insert_default().security = Some(security);
    cluster
}

#[test]
fn protected_objects_are_as_written_down() {
    let cluster = cluster("{servers: 3, clients: 1, networkPolicy: true}");
    golden(
        "secure.yaml",
        &at(cluster, Stage::Full, Stage::Full, Stage::Full),
    );
}

#[test]
fn each_stage_is_another_revision_and_only_the_last_has_no_plain_http() {
    let mut seen = std::collections::BTreeSet::new();
    for stage in [
        Stage::Disabled,
        Stage::Prepared,
        Stage::Outgoing,
        Stage::Full,
    ] {
        let cluster = at(
            cluster("{servers: 3}"),
            Stage::Disabled,
            stage,
            Stage::Disabled,
        );
        let (set, revision) = servers(&cluster, IMAGE, 3, None);
        assert!(seen.insert(revision), "{stage:?}");
        let text = set.value.to_string();
        assert_eq!(text.contains(":8500"), stage != Stage::Full, "{stage:?}");
        assert_eq!(
            text.contains(":8501"),
            stage != Stage::Disabled,
            "{stage:?}"
        );
    }
    let stays = cluster("{servers: 3, tls: {httpsOnly: false}}");
    let (set, revision) = servers(
        &at(stays, Stage::Disabled, Stage::Full, Stage::Disabled),
        IMAGE,
        3,
        None,
    );
    assert!(set.value.to_string().contains(":8500"));
    assert!(seen.insert(revision));
}

#[test]
fn a_vault_outlives_the_resource_where_volumes_do() {
    let mut secret = None;
    for (spec, owned) in [
        ("{servers: 3}", false),
        ("{storage: {retain: {whenDeleted: Delete}}}", true),
    ] {
        let cluster = cluster(spec);
        let stages = crate::secure::Stages::at_birth(&cluster.spec);
        let given = crate::secure::Given::default();
        let random = agent::env::SeededRandom::new(1);
        let now = 1_800_000_000;
        let made = crate::secure::make(&cluster, &given, stages, now, &random).unwrap();
        let object = vault(&cluster, &made);
        lossless::<Secret>(&object);
        lossless::<Secret>(&secure(&cluster, &made, true));
        assert_eq!(
            object.value["metadata"]["ownerReferences"].is_array(),
            owned
        );
        secret = Some(object.value);
    }
    assert_eq!(secret.unwrap()["metadata"]["name"], "demo-security");
}

fn lossless<T: DeserializeOwned + Serialize>(object: &Object) {
    let typed: T = serde_json::from_value(object.value.clone()).unwrap();
    let back = serde_json::to_value(typed).unwrap();
    assert!(
        holds(&back, &object.value),
        "{:?} has a field that its kind does not know",
        object.kind
    );
}

#[test]
fn no_field_is_unknown_to_its_kind() {
    for object in [all(&cluster("{servers: 3}")), all(&full())]
        .iter()
        .flatten()
    {
        match object.kind {
            Kind::ServiceAccount => lossless::<ServiceAccount>(object),
            Kind::ConfigMap => lossless::<ConfigMap>(object),
            Kind::Secret => lossless::<Secret>(object),
            Kind::Service => lossless::<Service>(object),
            Kind::PodDisruptionBudget => lossless::<PodDisruptionBudget>(object),
            Kind::NetworkPolicy => lossless::<NetworkPolicy>(object),
            Kind::PersistentVolumeClaim => lossless::<PersistentVolumeClaim>(object),
            Kind::StatefulSet => lossless::<StatefulSet>(object),
            Kind::DaemonSet => lossless::<DaemonSet>(object),
            Kind::ConsulRestore => lossless::<crate::crd::ConsulRestore>(object),
            Kind::Pod => panic!("the operator makes no pods"),
        }
    }
}

#[test]
fn only_the_first_set_has_the_flag_and_only_with_its_permit() {
    for cluster in [
        cluster("{servers: 3}"),
        full(),
        cluster("{servers: 1, ephemeral: true}"),
    ] {
        for object in all(&cluster) {
            let text = object.value.to_string();
            let first =
                object == first_server(&cluster, cluster.spec.image.as_deref().unwrap_or(IMAGE));
            assert_eq!(text.contains("\"-bootstrap\""), first, "{text}");
            assert_eq!(text.contains("-bootstrap-permit="), first);
            let serves = object.kind == Kind::StatefulSet
                && !object.value["spec"]["template"]["metadata"]["labels"][names::SERVES].is_null();
            assert!(
                !(first && serves),
                "clients must not reach a server before the cluster is on record"
            );
        }
    }
    let first = first_server(&cluster("{servers: 3}"), IMAGE).value;
    let container = &first["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(first["spec"]["replicas"], 1);
    assert!(
        container["livenessProbe"].is_null(),
        "a failed one would make it leave, and start again with its flag"
    );
    assert_eq!(container["envFrom"][0]["configMapRef"]["optional"], true);
}

#[test]
fn a_lone_first_server_does_not_leave_when_it_is_stopped() {
    let leaves = |spec: &str| {
        first_server(&cluster(spec), IMAGE)
            .value
            .to_string()
            .contains("leave_on_terminate")
    };
    assert!(leaves("{servers: 3}") && !leaves("{servers: 1}"));
}

#[test]
fn the_revision_follows_what_agents_are_started_with_and_nothing_else() {
    let revision = |spec: &str| servers(&cluster(spec), IMAGE, 3, None).1;
    let plain = revision("{servers: 3}");
    for same in [
        "{servers: 5}",
        "{servers: 3, clients: 2}",
        "{servers: 3, storage: {size: 20Gi}}",
        "{servers: 3, updatePolicy: {maxLag: 5}}",
        "{servers: 3, networkPolicy: true}",
    ] {
        assert_eq!(revision(same), plain, "{same}");
    }
    for other in [
        "{servers: 3, config: {log_level: debug}}",
        "{servers: 3, extraArgs: ['-log-level=debug']}",
        "{servers: 3, nodeSelector: {a: b}}",
        "{servers: 3, domain: x}",
    ] {
        assert_ne!(revision(other), plain, "{other}");
    }
    let first = first_server(&cluster("{servers: 3}"), IMAGE);
    assert_eq!(
        first.value["spec"]["template"]["metadata"]["labels"][names::REVISION],
        plain.as_str(),
        "it is not outdated, only flagged"
    );
    let other_image = servers(&cluster("{servers: 3}"), "example.org/agent:2", 3, None).1;
    assert_ne!(other_image, plain);
}

#[test]
fn claims_of_a_set_that_exists_stay_as_they_are() {
    let live: StatefulSet =
        serde_json::from_value(servers(&cluster("{servers: 3}"), IMAGE, 3, None).0.value).unwrap();
    let larger = servers(
        &cluster("{servers: 3, storage: {size: 50Gi}}"),
        IMAGE,
        3,
        Some(&live),
    )
    .0;
    assert_eq!(
        larger.value["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"],
        "10Gi"
    );
}

#[test]
fn volumes_are_never_deleted_before_the_cluster_is_on_record() {
    let mut cluster =
        cluster("{servers: 3, storage: {retain: {whenDeleted: Delete, whenScaled: Delete}}}");
    let policy = |cluster: &ConsulCluster| {
        servers(cluster, IMAGE, 3, None).0.value["spec"]["persistentVolumeClaimRetentionPolicy"]
            .clone()
    };
    assert_eq!(
        policy(&cluster),
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    cluster.status = Some(crate::crd::ConsulClusterStatus {
        cluster_id: Some("6f0b0b4e-6f77-4b8b-9a3b-0d8f0a1c2d3e".into()),
        ..crate::crd::ConsulClusterStatus::default()
    });
    assert_eq!(
        policy(&cluster),
        json!({"whenDeleted": "Delete", "whenScaled": "Delete"})
    );
}

#[test]
fn pods_pass_the_restricted_level() {
    for cluster in [cluster("{servers: 3}"), full()] {
        for object in all(&cluster)
            .iter()
            .filter(|object| matches!(object.kind, Kind::StatefulSet | Kind::DaemonSet))
        {
            let pod = &object.value["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            let own = &pod["containers"][0]["securityContext"];
            assert_eq!(
                (
                    &own["allowPrivilegeEscalation"],
                    &own["readOnlyRootFilesystem"]
                ),
                (&json!(false), &json!(true))
            );
            assert_eq!(own["capabilities"]["drop"], json!(["ALL"]));
        }
    }
}
