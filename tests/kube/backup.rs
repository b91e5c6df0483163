//! Saved states on a real Kubernetes: to a claim and back, regularly, and as the beginning of a new cluster. What speaks
//! to S3-compatible storage is the same program, which `tests/saved_states.rs` tries against a server.

use serde_json::{Value, json};
use tests::{Kube, Path, Scene, wait_for};

const SNAPSHOTS: Path = Path::new("apis/consulcluster.dev/v1alpha1", "consulsnapshots");
const SCHEDULES: Path = Path::new("apis/consulcluster.dev/v1alpha1", "consulsnapshotschedules");
const RESTORES: Path = Path::new("apis/consulcluster.dev/v1alpha1", "consulrestores");
const JOBS: Path = Path::new("apis/batch/v1", "jobs");

fn make(scene: &Scene, of: Path, kind: &str, name: &str, spec: &Value) {
    let object = json!({
        "apiVersion": "consulcluster.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    wait_for(&format!("{kind} {name} is taken"), || {
        scene.kube.create(&of.list(&scene.namespace), &object)
    });
}

fn claim(scene: &Scene, name: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let list = Path::CLAIMS.list(&scene.namespace);
    scene.kube.create(&list, &object).expect("a claim");
}

fn wait_phase(scene: &Scene, of: Path, name: &str, phase: &str) -> Value {
    wait_for(&format!("{name} is {phase}"), || {
        let object = scene.kube.get(&of.one(&scene.namespace, name));
        let status = object.map_err(|e| e.to_string())?["status"].clone();
        (status["phase"] == phase)
            .then(|| status.clone())
            .ok_or(status.to_string())
    })
}

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
    make(&scene, SNAPSHOTS, "ConsulSnapshot", "now", &spec);
    wait_for("the missing claim is named", || {
        let object = scene.kube.get(&SNAPSHOTS.one(&scene.namespace, "now"));
        let message = object.map_err(|e| e.to_string())?["status"]["message"].to_string();
        message.contains("keep").then_some(()).ok_or(message)
    });
    claim(&scene, "keep");
    let status = wait_phase(&scene, SNAPSHOTS, "now", "Completed");
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
        let left = scene.kube.list(JOBS, &scene.namespace, "").len();
        (left == 0).then_some(()).ok_or(left)
    });
    let cluster = scene.get("c").expect("the cluster");
    assert_eq!(cluster["status"]["lastBackup"]["name"], "now");

    put(&scene, "c-server-0", "after");
    let spec = json!({"cluster": "c", "source": {"snapshot": "now"}});
    make(&scene, RESTORES, "ConsulRestore", "back", &spec);
    wait_phase(&scene, RESTORES, "back", "Completed");
    assert!(has(&scene, "c-server-0", "before") && !has(&scene, "c-server-0", "after"));

    let spec = json!({"servers": 3, "restoreFrom": {"snapshot": "now"}});
    scene.apply("d", spec);
    let cluster = scene.wait_ready("d");
    assert_eq!(cluster["status"]["restored"]["phase"], "Completed");
    for number in 0..3 {
        assert!(has(&scene, &format!("d-server-{number}"), "before"));
    }
}

#[test]
fn a_schedule_takes_snapshots_at_its_time() {
    let scene = Scene::new("nightly");
    scene.apply("c", json!({"servers": 1}));
    claim(&scene, "keep");
    let spec = json!({"cluster": "c", "schedule": "* * * * *", "destination": keep(), "retention": {"count": 1}});
    make(&scene, SCHEDULES, "ConsulSnapshotSchedule", "often", &spec);
    scene.wait_ready("c");
    let verified = |but: &Value| {
        wait_for("a snapshot is verified", || {
            let object = scene.kube.get(&SCHEDULES.one(&scene.namespace, "often"));
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
        let all = scene.kube.list(SNAPSHOTS, &scene.namespace, "");
        let there = all.iter().any(|one| one["metadata"]["name"] == first);
        (!there).then_some(()).ok_or(first.to_string())
    });
}

#[test]
fn a_line_that_is_no_cron_line_and_a_change_of_what_is_done_once_are_refused() {
    let scene = Scene::new("refused");
    let spec = json!({"cluster": "c", "schedule": "61 * * * *", "destination": keep()});
    make(&scene, SCHEDULES, "ConsulSnapshotSchedule", "wrong", &spec);
    wait_for("it is said that the line is no cron line", || {
        let object = scene.kube.get(&SCHEDULES.one(&scene.namespace, "wrong"));
        let message = object.map_err(|e| e.to_string())?["status"]["message"].to_string();
        message
            .contains("is no cron line")
            .then_some(())
            .ok_or(message)
    });
    let spec = json!({"cluster": "c", "destination": keep()});
    make(&scene, SNAPSHOTS, "ConsulSnapshot", "now", &spec);
    let change = json!({"spec": {"cluster": "d"}});
    let said = scene
        .kube
        .patch(&SNAPSHOTS.one(&scene.namespace, "now"), &change)
        .expect_err("a change is taken");
    assert!(said.to_string().contains("make another one"), "{said}");
    let both = json!({"cluster": "c", "destination": {"pvc": {"claimName": "keep"}, "s3": {"bucket": "keep", "credentialsSecret": "keys"}}});
    let object = json!({
        "apiVersion": "consulcluster.dev/v1alpha1", "kind": "ConsulSnapshot", "metadata": {"name": "both"}, "spec": both,
    });
    let said = scene
        .kube
        .create(&SNAPSHOTS.list(&scene.namespace), &object)
        .expect_err("two destinations are taken");
    assert!(said.to_string().contains("either pvc or s3"), "{said}");
}
