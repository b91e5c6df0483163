//! Nodes are emptied one after another under a write load, without a pause: the disruption budget alone keeps the quorum.

use serde_json::{Value, json};
use tests::{
    Invariants, Options, Path, Scene, Watch, Writers, away, kubectl, longest_gap, unexcused,
    wait_for,
};

/// As `kubectl drain` asks, until it is allowed: one refusal after the other while a server is missing.
fn evict(scene: &Scene, pod: &Value) -> usize {
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let body = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": scene.namespace},
        "deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}},
    });
    let path = format!("{}/eviction", Path::PODS.one(&scene.namespace, name));
    let mut refused = 0;
    wait_for(&format!("{name} may go"), || {
        scene
            .kube
            .create(&path, &body)
            .map(drop)
            .inspect_err(|said| {
                assert_eq!(said.status, 429, "{said}");
                refused += 1;
            })
    });
    refused
}

#[test]
fn nodes_drained_one_after_another_leave_a_quorum() {
    let options = Options {
        alone: true,
        ..Default::default()
    };
    let scene = Scene::with("drained", &options);
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    scene.wait_pods_ready("c", 3);
    let before = scene.server_uids("c");
    let watch = Watch::start(
        scene.kube.address(),
        Path::PODS.list(&scene.namespace),
        |_| {},
    );
    let writers = Writers::start(&scene.kube, &scene.namespace, "c", 3);
    writers.wait_for_progress(100);
    let nodes = scene.kube.get("/api/v1/nodes").expect("nodes")["items"].clone();
    let nodes: Vec<&str> = nodes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["metadata"]["name"].as_str())
        .collect();
    let mut refused = 0;
    if nodes.len() == 1 {
        // There is nowhere else to go, so the node goes on taking pods.
        for pod in scene.servers("c") {
            refused += evict(&scene, &pod);
        }
        assert!(refused > 0, "the second could go at once");
    } else {
        for node in &nodes {
            let flags = [
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--timeout=300s",
            ];
            let drained = kubectl(&[&["drain", node][..], &flags].concat());
            // Whatever came of it: others need this node.
            kubectl(&["uncordon", node]).unwrap_or_else(|said| panic!("{node}: {said}"));
            drained.unwrap_or_else(|said| panic!("{node}: {said}"));
        }
    }
    scene.wait_replaced("c", &before);
    writers.wait_for_progress(100);
    let attempts = writers.check(&scene.kube, &scene.namespace, "c-server-0");
    let away = away(&watch.stop(), "c");
    assert_eq!(away.len(), 3, "every server went: {away:?}");
    let times: Vec<_> = away.values().flatten().collect();
    for (number, one) in times.iter().enumerate() {
        for other in &times[number + 1..] {
            let together = one.0 < other.1 && other.0 < one.1;
            assert!(!together, "two servers were away at a time: {away:?}");
        }
    }
    let failed = unexcused(&attempts, &away);
    assert!(failed.is_empty(), "{failed:#?}");
    println!(
        "{} nodes drained: {} writes, {refused} evictions refused first; longest without an acknowledged one: {} ms",
        nodes.len(),
        attempts.len(),
        longest_gap(&attempts).as_millis()
    );
    rules.finish();
}
