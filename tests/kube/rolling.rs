//! Planned changes under a constant write load: which writes they fail, for how long nobody takes one, and that none of
//! those that were acknowledged is lost.

use std::time::Instant;

use serde_json::{Value, json};
use tests::{
    Invariants, KubeLoad, Path, Scene, Watch, Writers, away as outages, longest_gap, unexcused,
};

/// A cluster of three, its pods watched.
fn three(name: &str) -> (Scene, Invariants, Watch) {
    let scene = Scene::new(name);
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    scene.wait_pods_ready("c", 3);
    let pods = Path::PODS.list(&scene.namespace);
    let watch = Watch::start(scene.kube.address(), pods, |_| {});
    (scene, rules, watch)
}

/// A new pod of every server. One at a time: the leader is the last, after it has handed over.
#[test]
fn a_rolling_change_fails_no_write_that_is_sent_to_another_server() {
    let (scene, rules, watch) = three("rolling");
    let writers = Writers::start(&scene.kube, &scene.namespace, "c", 3);
    writers.wait_for_progress(100);
    let before = scene.server_uids("c");
    let begun = Instant::now();
    let spec = json!({"servers": 3, "podMetadata": {"annotations": {"changed": "once"}}});
    scene.apply("c", spec);
    scene.wait_replaced("c", &before);
    let took = begun.elapsed();
    writers.wait_for_progress(100);
    let attempts = writers.check(&scene.kube, &scene.namespace, "c-server-0");
    let away = outages(&watch.stop(), "c");
    assert_eq!(away.len(), 3, "every server was replaced: {away:?}");
    let failed = unexcused(&attempts, &away);
    assert!(failed.is_empty(), "{failed:#?}");
    println!(
        "rolling change of 3 servers: {:.1} s, {} writes; longest without an acknowledged one: {} ms; a pod was away for {:.1?}",
        took.as_secs_f64(),
        attempts.len(),
        longest_gap(&attempts).as_millis(),
        away.values()
            .flatten()
            .map(|(from, to)| (*to - *from).as_secs_f64())
            .collect::<Vec<_>>(),
    );
    rules.finish();
}

/// A follower that goes takes no write with it but those that were sent to itself.
#[test]
fn a_follower_that_restarts_is_not_missed() {
    let (scene, rules, watch) = three("follower");
    let leader = scene.leader("c", 3).expect("somebody leads");
    let follower = (0..3)
        .map(|number| format!("c-server-{number}"))
        .find(|name| *name != leader)
        .expect("two follow");
    let writers = Writers::start(&scene.kube, &scene.namespace, "c", 3);
    writers.wait_for_progress(100);
    let uids = scene.server_uids("c");
    let path = Path::PODS.one(&scene.namespace, &follower);
    scene.kube.delete(&path).expect("deleted");
    scene.wait_other("c", &uids);
    writers.wait_for_progress(100);
    let attempts = writers.check(&scene.kube, &scene.namespace, &follower);
    let away = outages(&watch.stop(), "c");
    let failed = unexcused(&attempts, &away);
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(away.len(), 1, "only the follower went: {away:?}");
    println!(
        "a follower's restart: {} writes; longest without an acknowledged one: {} ms",
        attempts.len(),
        longest_gap(&attempts).as_millis()
    );
    rules.finish();
}

/// `kubectl scale` reaches the field that a person would edit, and its rules.
#[test]
fn kubectl_scale_takes_one_server_to_five_and_back() {
    let scene = Scene::new("kubectl-scale");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    scene.apply("c", json!({"servers": 1}));
    scene.wait_ready("c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 1);
    load.wait_for_progress(20);
    let scale = |servers: usize| {
        let replicas = format!("--replicas={servers}");
        tests::kubectl(&[
            "scale",
            "consulcluster/c",
            &replicas,
            "--namespace",
            &scene.namespace,
        ])
    };
    for servers in [3, 5, 3] {
        scale(servers).unwrap_or_else(|said| panic!("{servers}: {said}"));
        let object = scene.wait_ready("c");
        assert_eq!(object["status"]["voters"], servers, "{object:#}");
        // What `kubectl scale` and an autoscaler read.
        let path = format!("{}/scale", Path::CLUSTERS.one(&scene.namespace, "c"));
        let read = scene.kube.get(&path).expect("the subresource");
        assert_eq!(read["status"]["replicas"], servers, "{read:#}");
        let selector = read["status"]["selector"].as_str().expect("a selector");
        let selected: Vec<Value> =
            scene
                .kube
                .list(Path::PODS, &scene.namespace, &selector.replace('=', "%3D"));
        assert_eq!(selected.len(), servers, "{selector}");
        load.wait_for_progress(10);
    }
    for (wrong, words) in [(4, "must be 1, 3, 5 or 7"), (7, "at most two at a time")] {
        let said = scale(wrong).expect_err("it is taken");
        assert!(said.contains(words), "{wrong}: {said}");
    }
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}
