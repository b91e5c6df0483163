//! Saved states on a real Kubernetes: to a claim and back, regularly, and as the beginning of a new cluster; the same
//! to S3-compatible storage, which `tests/saved_states.rs` tries in detail.

use std::net::UdpSocket;

use serde_json::{Value, json};
use tests::{Kube, Path, Scene, wait_for};

use crate::s3::{self, KEY, SECRET};

fn put(scene: &Scene, pod: &str, key: &str) {
    let path = Kube::agent_path(&scene.namespace, pod, &format!("/v1/kv/{key}"));
    let reply = scene.kube.raw("PUT", &path, b"x").expect("an answer");
    assert_eq!((reply.status, reply.text().trim()), (200, "true"));
}

fn has(scene: &Scene, pod: &str, key: &str) -> bool {
    let path = Kube::agent_path(&scene.namespace, pod, &format!("/v1/kv/{key}"));
    scene.kube.raw("GET", &path, b"").expect("an answer").status == 200
}

fn keep() -> Value {
    json!({"pvc": {"claimName": "keep", "path": "consul"}})
}

#[test]
fn a_state_goes_to_a_claim_and_comes_back_and_a_new_cluster_starts_from_it() {
    let scene = Scene::new("saved");
    scene.apply("c", json!({"servers": 1}));
    scene.wait_ready("c");
    put(&scene, "c-server-0", "before");

    // Nothing to write to yet: said, and waited for.
    let spec = json!({"cluster": "c", "destination": keep()});
    scene.make(Path::SNAPSHOTS, "ConsulSnapshot", "now", &spec);
    wait_for("the missing claim is named", || {
        let object = scene
            .kube
            .get(&Path::SNAPSHOTS.one(&scene.namespace, "now"));
        let message = object.map_err(|e| e.to_string())?["status"]["message"].to_string();
        message.contains("keep").then_some(()).ok_or(message)
    });
    scene.claim("keep");
    let status = scene.wait_phase_of(Path::SNAPSHOTS, "now", "Completed");
    assert!(
        status["index"].as_i64().is_some_and(|index| index > 0),
        "{status}"
    );
    assert_eq!(
        status["sha256"].as_str().map(str::len),
        Some(64),
        "{status}"
    );
    wait_for("its job is gone", || {
        let left = scene.kube.list(Path::JOBS, &scene.namespace, "").len();
        (left == 0).then_some(()).ok_or(left)
    });
    let cluster = scene.get("c").expect("the cluster");
    assert_eq!(cluster["status"]["lastBackup"]["name"], "now");

    put(&scene, "c-server-0", "after");
    let spec = json!({"cluster": "c", "source": {"snapshot": "now"}});
    scene.make(Path::RESTORES, "ConsulRestore", "back", &spec);
    scene.wait_phase_of(Path::RESTORES, "back", "Completed");
    assert!(has(&scene, "c-server-0", "before") && !has(&scene, "c-server-0", "after"));

    let spec = json!({"servers": 3, "restoreFrom": {"snapshot": "now"}});
    scene.apply("d", spec);
    let cluster = scene.wait_ready("d");
    assert_eq!(cluster["status"]["restored"]["phase"], "Completed");
    for number in 0..3 {
        assert!(has(&scene, &format!("d-server-{number}"), "before"));
    }
}

/// Address of this machine at which pods reach it: the one that it speaks to a node from.
fn own_address(scene: &Scene) -> String {
    let nodes = scene.kube.get("/api/v1/nodes").expect("nodes");
    let addresses = nodes["items"][0]["status"]["addresses"].as_array().cloned();
    let node = addresses
        .into_iter()
        .flatten()
        .find(|address| address["type"] == "InternalIP")
        .expect("a node has an address");
    let node = node["address"].as_str().expect("text").to_owned();
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // Sends nothing: it only asks for the route.
    socket.connect((node.as_str(), 9)).expect("a route");
    socket.local_addr().expect("bound").ip().to_string()
}

fn secret(scene: &Scene, name: &str, key: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": key},
    });
    let path = Path::new("api/v1", "secrets").list(&scene.namespace);
    scene.kube.create(&path, &object).expect("a Secret");
}

#[test]
fn a_state_goes_to_s3_from_a_pod_and_a_new_cluster_starts_from_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("keep")).expect("a folder");
    let scene = Scene::new("bucket");
    let address = own_address(&scene);
    let endpoint = s3::serve(folder.path(), &format!("{address}:0"));
    secret(&scene, "keys", SECRET);
    secret(&scene, "wrong", "not the secret");
    scene.apply("c", json!({"servers": 1}));
    scene.wait_ready("c");
    put(&scene, "c-server-0", "before");
    let to = |bucket: &str, credentials: &str| {
        json!({"cluster": "c", "destination": {"s3": {
            "bucket": bucket, "prefix": "a", "endpoint": format!("http://{endpoint}"), "credentialsSecret": credentials,
        }}})
    };
    // What cannot be done is said in the storage's words, and leaves nothing behind.
    for (name, bucket, credentials, words) in [
        ("refused", "keep", "wrong", "SignatureDoesNotMatch"),
        ("nowhere", "other", "keys", "there is no bucket \"other\""),
    ] {
        scene.make(
            Path::SNAPSHOTS,
            "ConsulSnapshot",
            name,
            &to(bucket, credentials),
        );
        let status = scene.wait_phase_of(Path::SNAPSHOTS, name, "Failed");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{name}: {status}");
    }
    scene.make(
        Path::SNAPSHOTS,
        "ConsulSnapshot",
        "now",
        &to("keep", "keys"),
    );
    let status = scene.wait_phase_of(Path::SNAPSHOTS, "now", "Completed");
    let location = status["location"].as_str().unwrap_or_default();
    let file = location
        .strip_prefix("s3://keep/a/")
        .unwrap_or_else(|| panic!("{status}"));
    let length = std::fs::metadata(folder.path().join("keep/a").join(file));
    assert_eq!(
        length
            .map(|file| i64::try_from(file.len()).expect("small"))
            .ok(),
        status["sizeBytes"].as_i64(),
        "{status}"
    );
    scene.apply(
        "d",
        json!({"servers": 1, "restoreFrom": {"snapshot": "now"}}),
    );
    let cluster = scene.wait_ready("d");
    assert_eq!(cluster["status"]["restored"]["phase"], "Completed");
    assert!(has(&scene, "d-server-0", "before"));
}

#[test]
fn a_schedule_takes_snapshots_at_its_time() {
    let scene = Scene::new("nightly");
    scene.apply("c", json!({"servers": 1}));
    scene.claim("keep");
    let spec = json!({"cluster": "c", "schedule": "* * * * *", "destination": keep(), "retention": {"count": 1}});
    scene.make(Path::SCHEDULES, "ConsulSnapshotSchedule", "often", &spec);
    scene.wait_ready("c");
    let verified = |but: &Value| {
        wait_for("a snapshot is verified", || {
            let object = scene
                .kube
                .get(&Path::SCHEDULES.one(&scene.namespace, "often"));
            let status = object.map_err(|e| e.to_string())?["status"].clone();
            let last = &status["lastSuccess"];
            let new = last.is_string() && last != but;
            new.then(|| last.clone()).ok_or(status.to_string())
        })
    };
    let first = verified(&Value::Null);
    // The next one takes its place.
    verified(&first);
    wait_for("the first one is gone", || {
        let all = scene.kube.list(Path::SNAPSHOTS, &scene.namespace, "");
        let there = all.iter().any(|one| one["metadata"]["name"] == first);
        (!there).then_some(()).ok_or(first.to_string())
    });
}

#[test]
fn a_line_that_is_no_cron_line_and_a_change_of_what_is_done_once_are_refused() {
    let scene = Scene::new("refused");
    let spec = json!({"cluster": "c", "schedule": "61 * * * *", "destination": keep()});
    scene.make(Path::SCHEDULES, "ConsulSnapshotSchedule", "wrong", &spec);
    wait_for("it is said that the line is no cron line", || {
        let object = scene
            .kube
            .get(&Path::SCHEDULES.one(&scene.namespace, "wrong"));
        let message = object.map_err(|e| e.to_string())?["status"]["message"].to_string();
        message
            .contains("is no cron line")
            .then_some(())
            .ok_or(message)
    });
    let spec = json!({"cluster": "c", "destination": keep()});
    scene.make(Path::SNAPSHOTS, "ConsulSnapshot", "now", &spec);
    let change = json!({"spec": {"cluster": "d"}});
    let said = scene
        .kube
        .patch(&Path::SNAPSHOTS.one(&scene.namespace, "now"), &change)
        .expect_err("a change is taken");
    assert!(said.to_string().contains("make another one"), "{said}");
    let both = json!({"cluster": "c", "destination": {"pvc": {"claimName": "keep"}, "s3": {"bucket": "keep", "credentialsSecret": "keys"}}});
    let object = json!({
        "apiVersion": "consulcluster.dev/v1alpha1", "kind": "ConsulSnapshot", "metadata": {"name": "both"}, "spec": both,
    });
    let said = scene
        .kube
        .create(&Path::SNAPSHOTS.list(&scene.namespace), &object)
        .expect_err("two destinations are taken");
    assert!(said.to_string().contains("either pvc or s3"), "{said}");
}
