//! A `ConsulCluster` that is deleted, made again, made larger and smaller.

use serde_json::json;
use tests::{Invariants, KubeLoad, Path, Scene, wait_for};

fn gone(scene: &Scene, name: &str) {
    wait_for("all that belongs to the cluster is gone", || {
        let mut left = Vec::new();
        for kind in [
            Path::CLUSTERS,
            Path::STATEFUL_SETS,
            Path::PODS,
            Path::SERVICES,
            Path::BUDGETS,
        ] {
            for object in scene.kube.list(kind, &scene.namespace, "") {
                let object = object["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if object == name || object.starts_with(&format!("{name}-")) {
                    left.push(object);
                }
            }
        }
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
}

#[test]
fn a_deleted_cluster_is_adopted_when_it_is_made_again() {
    let scene = Scene::new("adopted");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    let before = scene.wait_ready("c");
    load.wait_for_progress(20);
    scene
        .kube
        .delete(&Path::CLUSTERS.one(&scene.namespace, "c"))
        .expect("deleted");
    gone(&scene, "c");
    assert_eq!(
        scene.kube.list(Path::CLAIMS, &scene.namespace, "").len(),
        3,
        "the volumes are kept"
    );
    scene.apply("c", json!({"servers": 3}));
    let after = scene.wait_ready("c");
    assert_eq!(before["status"]["clusterID"], after["status"]["clusterID"]);
    assert_eq!(rules.flagged_ever(), 1, "nothing was bootstrapped again");
    load.wait_for_progress(5);
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}

#[test]
fn a_cluster_deleted_in_the_middle_leaves_only_its_volumes() {
    let scene = Scene::new("deleted");
    scene.apply("c", json!({"servers": 3}));
    wait_for("the first server is there", || {
        scene
            .kube
            .get(&Path::PODS.one(&scene.namespace, "c-server-0"))
    });
    scene
        .kube
        .delete(&Path::CLUSTERS.one(&scene.namespace, "c"))
        .expect("deleted");
    gone(&scene, "c");
    assert!(
        !scene
            .kube
            .list(Path::CLAIMS, &scene.namespace, "")
            .is_empty(),
        "the volumes are kept"
    );
}

#[test]
fn volumes_go_with_the_cluster_when_the_spec_says_so() {
    let scene = Scene::new("volumes-go");
    scene.apply(
        "c",
        json!({"servers": 1, "storage": {"retain": {"whenDeleted": "Delete"}}}),
    );
    scene.wait_ready("c");
    scene
        .kube
        .delete(&Path::CLUSTERS.one(&scene.namespace, "c"))
        .expect("deleted");
    gone(&scene, "c");
    wait_for("no claim is left", || {
        let left = scene.kube.list(Path::CLAIMS, &scene.namespace, "").len();
        (left == 0).then_some(()).ok_or(left)
    });
}

#[test]
fn three_servers_become_five_and_three_again() {
    let scene = Scene::new("scaled");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    for servers in [5, 3] {
        scene.apply("c", json!({"servers": servers}));
        let object = scene.wait_ready("c");
        assert_eq!(object["status"]["voters"], servers, "{object:#}");
        load.wait_for_progress(10);
    }
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}

/// Clients of both kinds join, and leave when they are not wanted any more.
#[test]
fn clients_come_and_go() {
    let scene = Scene::new("clients");
    let alive = |wanted: usize| {
        wait_for(&format!("{wanted} clients are members"), || {
            let members = scene
                .kube
                .agent(&scene.namespace, "c-server-0", "/v1/agent/members")
                .map_err(|e| e.to_string())?;
            let all = members.as_array().cloned().unwrap_or_default();
            let clients = all
                .iter()
                .filter(|member| member["Tags"]["role"] == "node" && member["Status"] == 1);
            let found = clients.count();
            (found == wanted).then_some(()).ok_or(members.to_string())
        });
    };
    scene.apply(
        "c",
        json!({"servers": 1, "clients": 2, "clientDaemonSet": true}),
    );
    scene.wait_ready("c");
    let nodes = scene.kube.get("/api/v1/nodes").expect("nodes")["items"]
        .as_array()
        .map_or(0, Vec::len);
    alive(2 + nodes);
    scene.apply(
        "c",
        json!({"servers": 1, "clients": 1, "clientDaemonSet": false}),
    );
    scene.wait_ready("c");
    alive(1);
}
