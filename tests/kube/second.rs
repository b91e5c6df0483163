//! A second server with `-bootstrap`: somebody starts a pod by hand on the volume of the next server, and it forms a cluster of
//! its own.

use serde_json::{Value, json};
use tests::{Kube, KubeLoad, Path, Scene, wait_for};

/// A pod like the first server's, on a volume of its own, whose agent asks nobody and forms a cluster.
fn rogue(scene: &Scene, like: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        // What its arguments say that it is. Without the labels of the set, which would take it for one pod too many.
        "metadata": {"name": "rogue", "labels": {"apps.kubernetes.io/pod-index": "1"}},
        "spec": like["spec"],
    });
    let spec = &mut pod["spec"];
    let fields = spec.as_object_mut().expect("a spec");
    for field in ["nodeName", "hostname", "subdomain"] {
        fields.remove(field);
    }
    for volume in spec["volumes"].as_array_mut().expect("volumes") {
        if volume["name"] == "data" {
            volume["persistentVolumeClaim"]["claimName"] = json!("data-c-server-1");
        }
    }
    let args = spec["containers"][0]["args"]
        .as_array_mut()
        .expect("arguments");
    args.retain(|arg| {
        arg.as_str()
            .is_some_and(|arg| !arg.starts_with("-retry-join"))
    });
    args.push(json!("-bootstrap"));
    let claim = Path::CLAIMS.one(&scene.namespace, "data-c-server-0");
    let spec = scene.kube.get(&claim).expect("the first server's claim")["spec"].clone();
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-c-server-1"},
        "spec": {"accessModes": spec["accessModes"], "resources": spec["resources"]},
    });
    let claims = Path::CLAIMS.list(&scene.namespace);
    scene.kube.create(&claims, &claim).expect("a claim");
    let pods = Path::PODS.list(&scene.namespace);
    scene.kube.create(&pods, &pod).expect("a pod")
}

fn value(scene: &Scene, pod: &str, key: &str) -> Option<String> {
    let path = Kube::agent_path(&scene.namespace, pod, &format!("/v1/kv/{key}?raw"));
    let reply = scene.kube.raw("GET", &path, b"").expect("an answer");
    (reply.status == 200).then(|| reply.text())
}

#[test]
fn a_second_bootstrap_server_is_moved_aside_and_joins() {
    let scene = Scene::new("second");
    scene.apply("c", json!({"servers": 1}));
    let before = scene.wait_ready("c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 1);
    load.wait_for_progress(20);
    // The operator looks away while the accident happens.
    scene.apply("c", json!({"servers": 1, "paused": true}));
    let first = Path::PODS.one(&scene.namespace, "c-server-0");
    rogue(&scene, &scene.kube.get(&first).expect("the first server"));
    wait_for("it leads a cluster of its own", || {
        let path = Kube::agent_path(&scene.namespace, "rogue", "/v1/kv/mine");
        let reply = scene.kube.raw("PUT", &path, b"rogue");
        let reply = reply.map_err(|e| e.to_string())?;
        (reply.status == 200).then_some(()).ok_or(reply.text())
    });
    let own = |pod: &str| {
        let told = scene
            .kube
            .agent(&scene.namespace, pod, "/v1/agent/self")
            .expect("it answers");
        told["Member"]["Tags"]["cluster"].clone()
    };
    assert_ne!(own("c-server-0"), own("rogue"), "it is another cluster");
    let rogue = Path::PODS.one(&scene.namespace, "rogue");
    scene.kube.delete(&rogue).expect("deleted");
    wait_for("it is gone", || match scene.kube.get(&rogue) {
        Ok(_) => Err("it is there".to_owned()),
        Err(refused) if refused.status == 404 => Ok(()),
        Err(refused) => Err(refused.to_string()),
    });

    scene.apply("c", json!({"servers": 3, "paused": false}));
    let after = scene.wait_ready("c");
    assert_eq!(before["status"]["clusterID"], after["status"]["clusterID"]);
    assert_eq!(after["status"]["voters"], 3, "{after:#}");
    let repaired = scene.events("c").iter().any(|(reason, message)| {
        reason == "RepairSecondBootstrap" && message.contains("c-server-1")
    });
    assert!(repaired, "{:#?}", scene.events("c"));
    for number in 0..3 {
        let pod = format!("c-server-{number}");
        assert_eq!(own(&pod), after["status"]["clusterID"], "{pod}");
        assert_eq!(value(&scene, &pod, "mine"), None, "{pod}: never merged");
    }
    let flagged = scene.servers("c").into_iter().any(|pod| {
        let args = pod["spec"]["containers"][0]["args"].as_array().cloned();
        args.is_some_and(|args| args.contains(&json!("-bootstrap")))
    });
    assert!(!flagged, "a pod carries the flag");
    load.wait_for_progress(5);
    load.check(&scene.kube, "c-server-1");
}
