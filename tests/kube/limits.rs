//! What admission cannot see: it becomes a condition and an Event in the platform's words, and passes when it is mended.

use serde_json::{Value, json};
use tests::{Path, Scene, wait_for};

const QUOTAS: Path = Path::new("api/v1", "resourcequotas");

/// Waits until the cluster is Stalled with a message that holds `words`, and checks that an Event said it, too.
fn stalled_with(scene: &Scene, words: &str) {
    wait_for(&format!("Stalled, with {words:?}"), || {
        let message = match scene.condition("c", "Stalled", "True") {
            Some(stalled) => stalled["message"].to_string(),
            None => "it is not Stalled".to_owned(),
        };
        message.contains(words).then_some(()).ok_or(message)
    });
    let events = scene.events("c");
    let told = events
        .iter()
        .any(|(reason, message)| reason == "Stalled" && message.contains(words));
    assert!(told, "no Event with {words:?}: {events:#?}");
}

#[test]
fn a_storage_class_that_is_not_there_is_named() {
    let scene = Scene::new("no-class");
    scene.apply(
        "c",
        json!({"servers": 1, "storage": {"storageClassName": "no-such-class"}}),
    );
    stalled_with(&scene, "no-such-class");
}

#[test]
fn a_quota_is_told_in_the_api_servers_words_and_is_over_when_it_is_lifted() {
    let scene = Scene::new("quota");
    // Room for the operator and one server.
    let quota = |pods: u32| -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "pods"},
            "spec": {"hard": {"pods": pods.to_string()}},
        })
    };
    let path = QUOTAS.one(&scene.namespace, "pods");
    scene.kube.apply(&path, &quota(2)).expect("applied");
    wait_for("the quota counts", || {
        let object = scene.kube.get(&path).map_err(|e| e.to_string())?;
        let counts = object["status"]["hard"]["pods"] == "2";
        counts.then_some(()).ok_or(object["status"].to_string())
    });
    scene.apply("c", json!({"servers": 3}));
    stalled_with(&scene, "exceeded quota");
    scene.kube.apply(&path, &quota(20)).expect("applied");
    scene.wait_ready("c");
}

/// A node that is drained evicts: the budget lets one server go, and no other before that one is a caught-up voter again.
#[test]
fn evictions_take_one_server_at_a_time() {
    let scene = Scene::new("evicted");
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    let evict = |pod: &str| {
        let path = format!("{}/eviction", Path::PODS.one(&scene.namespace, pod));
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": scene.namespace},
        });
        scene.kube.create(&path, &eviction)
    };
    // The budget's controller may not have counted the pods yet.
    wait_for("the first server may go", || evict("c-server-0").map(drop));
    let refused = evict("c-server-1").expect_err("a second server may not go at the same time");
    assert_eq!(refused.status, 429, "{refused}");
    wait_for("the second server may go", || evict("c-server-1").map(drop));
    let voters = scene
        .kube
        .agent(
            &scene.namespace,
            "c-server-0",
            "/v1/operator/raft/configuration?stale",
        )
        .expect("the first one is back, or the second could not have gone");
    assert_eq!(
        voters["Servers"].as_array().map(Vec::len),
        Some(3),
        "{voters}"
    );
    scene.wait_ready("c");
}
