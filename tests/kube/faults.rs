//! Pods, volumes and containers that go at the worst moment.

use std::sync::Arc;

use serde_json::json;
use tests::{Invariants, KubeLoad, Path, Scene, try_bed, wait_for};

/// What is done to pod 0.
#[derive(Clone, Copy)]
enum Blow {
    /// The pod is deleted, as a drained node does.
    Pod,
    /// The pod and its volume are deleted.
    PodAndVolume,
    /// The container is killed: the kubelet starts it again with its old arguments.
    Container,
}

impl Blow {
    fn strike(self, scene: &Scene) {
        let pod = Path::PODS.one(&scene.namespace, "c-server-0");
        match self {
            Self::Pod => scene.kube.delete(&pod).expect("deleted"),
            Self::PodAndVolume => {
                // The claim goes as soon as no pod uses it any more.
                let claim = Path::CLAIMS.one(&scene.namespace, "data-c-server-0");
                scene.kube.delete(&claim).expect("deleted");
                scene.kill_pod("c-server-0");
            }
            // It may not run just then: then the next one that does is killed.
            Self::Container => wait_for("the container is killed", || {
                try_bed(&["kill", &scene.namespace, "c-server-0"]).map(drop)
            }),
        }
    }
}

/// Starts a cluster with its watchers, and waits for `phase`. A phase may be over before it was seen: then it goes on
/// in a later one.
fn forming(name: &str, phase: &str) -> (Scene, Invariants, KubeLoad) {
    let scene = Scene::new(&format!("{name}-{}", phase.to_lowercase()));
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    scene.wait_phase("c", phase);
    (scene, rules, load)
}

/// In `phase`, pod 0 is struck: one cluster comes out of it, and no write is lost. Should it have been one of two voters, with its
/// volume, a person has to say that the other one goes on.
fn struck(name: &str, phase: &str, blow: Blow) {
    let (scene, rules, load) = forming(name, phase);
    blow.strike(&scene);
    let code = wait_for("Ready, or a quorum that is lost", || {
        if scene.ready_now("c") {
            return Ok(None);
        }
        scene.recovery_code("c").map(Some)
    });
    if let Some(code) = code {
        assert!(matches!(blow, Blow::PodAndVolume), "{code}");
        scene.apply("c", json!({"servers": 3, "recovery": {"token": code}}));
    }
    scene.wait_ready("c");
    load.wait_for_progress(5);
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}

/// In `phase`, pod 0 loses its volume, and nobody else may have had a copy of it. Either somebody had: then no write is
/// lost. Or the operator says that a person has to act. It never forms a cluster again as if nothing had been.
fn struck_while_alone(phase: &str) {
    let (scene, rules, load) = forming("volume", phase);
    Blow::PodAndVolume.strike(&scene);
    let outcome = wait_for("Ready or Stalled", || {
        let ready = scene.ready_now("c").then_some(None);
        let stalled = scene.condition("c", "Stalled", "True").map(Some);
        ready.or(stalled).ok_or("neither")
    });
    match outcome {
        None => {
            load.wait_for_progress(5);
            load.check(&scene.kube, "c-server-0");
        }
        Some(stalled) => {
            let message = stalled["message"].as_str().unwrap_or_default();
            assert!(
                message.contains("no server holds any of its data"),
                "{stalled}"
            );
        }
    }
    rules.finish();
}

macro_rules! struck_in_every_phase {
    ($($test:ident: $name:literal, $phase:literal, $blow:expr;)*) => {$(
        #[test]
        fn $test() {
            struck($name, $phase, $blow);
        }
    )*};
}

struck_in_every_phase! {
    pod_0_is_deleted_while_it_forms: "pod", "Bootstrapping", Blow::Pod;
    pod_0_is_deleted_while_others_start: "pod", "Expanding", Blow::Pod;
    pod_0_is_deleted_while_others_join: "pod", "Joining", Blow::Pod;
    pod_0_is_deleted_while_replication_is_verified: "pod", "Verifying", Blow::Pod;
    pod_0_is_deleted_while_it_is_replaced: "pod", "Rotating", Blow::Pod;
    pod_0_loses_its_volume_while_replication_is_verified: "volume", "Verifying", Blow::PodAndVolume;
    pod_0_loses_its_volume_while_it_is_replaced: "volume", "Rotating", Blow::PodAndVolume;
    container_0_is_killed_while_it_forms: "container", "Bootstrapping", Blow::Container;
    container_0_is_killed_while_others_start: "container", "Expanding", Blow::Container;
    container_0_is_killed_while_others_join: "container", "Joining", Blow::Container;
    container_0_is_killed_while_replication_is_verified: "container", "Verifying", Blow::Container;
    container_0_is_killed_while_it_is_replaced: "container", "Rotating", Blow::Container;
}

#[test]
fn pod_0_loses_its_volume_while_it_forms() {
    struck_while_alone("Bootstrapping");
}

#[test]
fn pod_0_loses_its_volume_while_others_start() {
    struck_while_alone("Expanding");
}

#[test]
fn pod_0_loses_its_volume_while_others_join() {
    struck_while_alone("Joining");
}

#[test]
fn all_pods_are_deleted_at_once() {
    let scene = Scene::new("all-pods");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    let before = scene.wait_ready("c");
    load.wait_for_progress(20);
    let uids = scene.server_uids("c");
    let addresses = || -> Vec<String> {
        let address = |pod: &serde_json::Value| pod["status"]["podIP"].as_str().map(str::to_owned);
        scene.servers("c").iter().filter_map(address).collect()
    };
    let old = addresses();
    for ordinal in 0..3 {
        scene.kill_pod(&format!("c-server-{ordinal}"));
    }
    wait_for("three new pods are there", || {
        let now = scene.server_uids("c");
        let all_new = now.len() == 3 && now.is_disjoint(&uids);
        all_new
            .then_some(())
            .ok_or(format!("{now:?} after {uids:?}"))
    });
    load.wait_for_progress(20);
    let after = scene.wait_ready("c");
    assert_eq!(before["status"]["clusterID"], after["status"]["clusterID"]);
    let new = addresses();
    assert!(
        new.iter().all(|address| !old.contains(address)),
        "{new:?} after {old:?}"
    );
    load.check(&scene.kube, "c-server-2");
    rules.finish();
}

#[test]
fn a_hand_edited_statefulset_is_put_back() {
    let scene = Scene::new("hand-edit");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    let path = Path::STATEFUL_SETS.one(&scene.namespace, "c-server");
    let args = |object: &serde_json::Value| {
        object["spec"]["template"]["spec"]["containers"][0]["args"].clone()
    };
    let before = args(&scene.kube.get(&path).expect("there is one"));
    let mut edited = before.as_array().expect("arguments").clone();
    edited.push(json!("-bootstrap"));
    let edit = json!([{
        "op": "replace",
        "path": "/spec/template/spec/containers/0/args",
        "value": edited,
    }]);
    let kube = Arc::clone(&scene.kube);
    kube.json_patch(&path, &edit).expect("edited");
    wait_for("the edit is undone", || {
        let now = args(&kube.get(&path).map_err(|e| e.to_string())?);
        (now == before).then_some(()).ok_or(now.to_string())
    });
    load.wait_for_progress(5);
    load.check(&scene.kube, "c-server-0");
    assert_eq!(rules.flagged_ever(), 1, "the hand's flag reached a pod");
    rules.finish();
}

#[test]
fn an_image_that_is_not_there_stalls_one_server_and_no_other() {
    let scene = Scene::new("bad-image");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    scene.apply(
        "c",
        json!({"servers": 3, "image": "localhost/agent:no-such-tag"}),
    );
    let stalled = scene.wait_condition("c", "Stalled", "True");
    assert!(
        stalled.to_string().contains("no-such-tag"),
        "the image is not named: {stalled:#}"
    );
    let waiting = |pod: &serde_json::Value| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].is_string()
    };
    let pods = scene.servers("c");
    assert_eq!(
        pods.iter().filter(|pod| waiting(pod)).count(),
        1,
        "one server was touched: {pods:#?}"
    );
    load.wait_for_progress(20);
    scene.apply("c", json!({"servers": 3, "image": tests::image("agent")}));
    scene.wait_ready("c");
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}
