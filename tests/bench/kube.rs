//! The operator on a real Kubernetes: how long it takes from `kubectl apply` to Ready, what planned changes and a restore
//! take, and what two hundred clusters cost while nothing happens. Needs a KUBECONFIG: `BENCH=kube make bench` makes a cluster for it.
//!
//! `BENCH_KUBE_ROUNDS` (default 20) is how many clusters are formed one after the other, `BENCH_FLEET` (default 200) how
//! many are looked after, `BENCH_FLEET_SECONDS` (default 120) for how long they are watched, `BENCH_CHANGES` (default 3) how
//! often each planned change is made, `BENCH_RESTORE_KEYS` (default 1,000,000) how large the restored state is. With 0 that
//! part is left out.

mod changes;
mod fleet;

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Kube, Path, Scene, kubectl, wait_for};

/// Longest that any of the rounds may take, in seconds.
const READY_SECONDS_MAX: f64 = 12.0;
/// Longest that the operator's own waits may be in a round, in seconds.
const WAIT_SECONDS_MAX: f64 = 1.0;

/// Prints all of it; whether every goal is reached.
pub(crate) fn run() -> bool {
    let setting = super::setting;
    let (rounds, clusters) = (
        setting("BENCH_KUBE_ROUNDS", 20),
        setting("BENCH_FLEET", 200),
    );
    let (changes, keys) = (
        setting("BENCH_CHANGES", 3),
        setting("BENCH_RESTORE_KEYS", 1_000_000),
    );
    let keys = usize::try_from(keys).expect("a number of keys");
    (rounds == 0 || apply_to_ready(rounds))
        & (changes == 0 || changes::run(changes))
        & (keys == 0 || changes::restore(keys))
        & (clusters == 0 || fleet::run(clusters))
}

/// One cluster of three servers after the other, the restart of the first server included.
fn apply_to_ready(rounds: u64) -> bool {
    let scene = Scene::new("bench");
    let operator = wait_for("the operator answers", || {
        let operators = scene.operators();
        let name = operators
            .first()
            .and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
        let name = name.ok_or("there is no pod")?;
        waited(&scene, &name).map(|_| name)
    });
    let (mut took, mut waits) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let name = format!("r{round}");
        let before = waited(&scene, &operator).expect("the operator answers");
        let start = Instant::now();
        scene.apply(&name, json!({"servers": 3}));
        while !scene.ready_now(&name) {
            assert!(
                start.elapsed() < tests::KUBE_DEADLINE,
                "round {round} never becomes Ready"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        took.push(start.elapsed().as_secs_f64());
        waits.push(waited(&scene, &operator).expect("the operator answers") - before);
        if took.last().is_some_and(|took| *took > READY_SECONDS_MAX) {
            tell_events(&scene, &name);
        }
        away(&scene, &name);
    }
    took.sort_by(f64::total_cmp);
    waits.sort_by(f64::total_cmp);
    let (worst, worst_wait) = (took[took.len() - 1], waits[waits.len() - 1]);
    let within = took.iter().filter(|s| **s <= READY_SECONDS_MAX).count();
    println!(
        "kubectl apply to Ready, 3 servers, {rounds} rounds: median {:.2} s, longest {worst:.2} s (goal {READY_SECONDS_MAX} s), \
         {within} of {rounds} within it; Consul 1.19 by -bootstrap-expect in a StatefulSet: 8 s in one run, more than 180 s in another",
        took[took.len() / 2]
    );
    println!(
        "of that, the operator's own waits: median {:.2} s, longest {worst_wait:.2} s (goal {WAIT_SECONDS_MAX} s)",
        waits[waits.len() / 2]
    );
    worst <= READY_SECONDS_MAX && worst_wait <= WAIT_SECONDS_MAX
}

/// Where the time of a round went: the Events of everything that was made for it, in order.
fn tell_events(scene: &Scene, name: &str) {
    let columns = "custom-columns=AT:.metadata.creationTimestamp,OBJECT:.involvedObject.name,REASON:.reason,NOTE:.message";
    let order = "--sort-by=.metadata.creationTimestamp";
    let events = kubectl(&[
        "-n",
        &scene.namespace,
        "get",
        "events",
        order,
        "-o",
        columns,
    ]);
    let events = events.expect("the Events");
    let pod = format!("{name}-");
    for line in events.lines() {
        let object = line.split_whitespace().nth(1).unwrap_or_default();
        if object == name || object.trim_start_matches("data-").starts_with(&pod) {
            println!("{line}");
        }
    }
}

/// Seconds that this operator let pass, as its metrics tell.
fn waited(scene: &Scene, operator: &str) -> Result<f64, String> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{operator}:8080/proxy/metrics",
        scene.namespace
    );
    let reply = scene
        .kube
        .raw("GET", &path, b"")
        .map_err(|e| e.to_string())?;
    let text = reply.text();
    metric(&text, "operator_wait_seconds_total ").ok_or(text)
}

/// The number behind a name that begins a line of Prometheus' text.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line?.trim().parse().ok()
}

/// Takes the cluster away with its volumes, so that the next one has the machine for itself.
fn away(scene: &Scene, name: &str) {
    let delete = |kube: &Kube, path: &str| kube.delete(path).expect("deleted");
    delete(&scene.kube, &Path::CLUSTERS.one(&scene.namespace, name));
    wait_for("the servers are gone", || {
        let left = scene.servers(name).len();
        (left == 0).then_some(()).ok_or(left)
    });
    for ordinal in 0..3 {
        let claim = format!("data-{name}-server-{ordinal}");
        delete(&scene.kube, &Path::CLAIMS.one(&scene.namespace, &claim));
    }
}
