//! Many clusters in steady state: a real API server, a real operator, agents that are played at the HTTP boundary. The
//! pods are never scheduled; their status is written here, as a kubelet would.

mod agents;

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Kube, Options, Path, Process, Scene, binary, wait_for};

use self::agents::Fleet;
use super::metric;
use crate::core::{Usage, memory};

/// Largest that the operator may be, in MB.
const MEGABYTES_MAX: f64 = 60.0;
/// Most of one core that it may use, in percent.
const CORE_PERCENT_MAX: f64 = 2.0;
/// It must write less often than this in a minute.
const WRITES_MAX: f64 = 1.0;

/// Selects no node.
const NOWHERE: &str = "consulcluster.dev/bench-nowhere";

/// Time for what the last bootstraps left to do.
const SETTLE: Duration = Duration::from_secs(30);

pub(super) fn run() -> bool {
    let count = crate::setting("BENCH_FLEET", 200);
    let seconds = crate::setting("BENCH_FLEET_SECONDS", 120);
    let options = Options {
        no_operator: true,
        ..Default::default()
    };
    let scene = Scene::with("fleet", &options);
    let fleet = Arc::new(Mutex::new(Fleet::default()));
    let _agents = agents::serve(Arc::clone(&fleet));
    let stop = Arc::new(AtomicBool::new(false));
    let kubelet = std::thread::spawn({
        let (kube, namespace) = (Arc::clone(&scene.kube), scene.namespace.clone());
        let (fleet, stop) = (Arc::clone(&fleet), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                start_pods(&kube, &namespace, &fleet);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    });
    let operator = operator(&scene);
    for number in 0..count {
        let spec = json!({"servers": 3, "nodeSelector": {NOWHERE: "true"}});
        scene.apply(&format!("f{number}"), spec);
    }
    wait_for("every cluster is Ready", || {
        let ready = ready(&scene);
        (ready == count)
            .then_some(())
            .ok_or(format!("{ready} of {count}"))
    });
    std::thread::sleep(SETTLE);
    let reached = watch(&scene, &operator, count, Duration::from_secs(seconds));
    operator.kill();
    stop.store(true, Ordering::Relaxed);
    kubelet.join().expect("the pods were started");
    reached
}

fn operator(scene: &Scene) -> Process {
    let mut command = Command::new(binary("operator"));
    command
        .args(["run", "--namespace", &scene.namespace])
        .args(["--agent-image", &tests::image("agent")])
        .args(["--agents", "direct", "--leader-elect"])
        .args(["--lease-namespace", &scene.namespace])
        .args(["--listen", "127.0.0.1:0"]);
    Process::start("operator run", command)
}

fn ready(scene: &Scene) -> u64 {
    let clusters = scene.kube.list(Path::CLUSTERS, &scene.namespace, "");
    let is_ready = |cluster: &&Value| {
        let conditions = cluster["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    clusters.iter().filter(is_ready).count() as u64
}

/// What the operator uses and writes while nothing happens.
fn watch(scene: &Scene, operator: &Process, count: u64, time: Duration) -> bool {
    let (writes, used) = (writes(scene), Usage::of(operator.pid()));
    std::thread::sleep(time);
    let used = Usage::of(operator.pid()) - &used;
    let a_minute = 60.0 / time.as_secs_f64();
    let writes = (self::writes(scene) - writes) * a_minute;
    let core = 100.0 * used.cpu().as_secs_f64() / time.as_secs_f64();
    let megabytes = memory(operator.pid()) as f64 / 1e6;
    println!(
        "operator with {count} Ready clusters, {} s: memory {megabytes:.1} MB (goal {MEGABYTES_MAX}), {core:.2}% of a core \
         (goal below {CORE_PERCENT_MAX}), {writes:.1} API writes a minute (goal below {WRITES_MAX}; its own Lease apart)",
        time.as_secs()
    );
    assert_eq!(ready(scene), count, "every cluster is still Ready");
    megabytes <= MEGABYTES_MAX && core < CORE_PERCENT_MAX && writes < WRITES_MAX
}

/// Writes to everything that only the operator writes, as the API server counted them, and its Events.
fn writes(scene: &Scene) -> f64 {
    let reply = scene
        .kube
        .raw("GET", "/metrics", b"")
        .expect("the API server answers");
    let text = reply.text();
    let own = |line: &&str| {
        let has = |label: &str, values: &[&str]| {
            values
                .iter()
                .any(|value| line.contains(&format!("{label}=\"{value}\"")))
        };
        let verbs = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];
        let kinds = [
            "consulclusters",
            "configmaps",
            "poddisruptionbudgets",
            "networkpolicies",
            "persistentvolumeclaims",
            "serviceaccounts",
            "services",
            "statefulsets",
        ];
        line.starts_with("apiserver_request_total{")
            && has("verb", &verbs)
            && has("resource", &kinds)
            && !has("subresource", &["token"])
    };
    let count = |line: &str| -> Option<f64> { line.rsplit(' ').next()?.parse().ok() };
    let counted: f64 = text.lines().filter(own).filter_map(count).sum();
    assert!(
        metric(&text, "process_start_time_seconds ").is_some() && counted > 0.0,
        "these are no metrics of an API server"
    );
    let events = scene.kube.list(Path::EVENTS, &scene.namespace, "");
    let ours = |event: &&Value| event["involvedObject"]["kind"] == "ConsulCluster";
    let told = |event: &Value| {
        let series = event["series"]["count"].as_f64();
        series.or(event["count"].as_f64()).unwrap_or(1.0)
    };
    counted + events.iter().filter(ours).map(told).sum::<f64>()
}

/// What a kubelet does: pods without an address get one, and run.
fn start_pods(kube: &Kube, namespace: &str, fleet: &Mutex<Fleet>) {
    let pods = kube.list(Path::PODS, namespace, "");
    let mut running = HashMap::new();
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        if let Some(member) = agents::Member::of(pod) {
            running.insert(uid.to_owned(), (name.to_owned(), member));
        }
    }
    let new = agents::locked(fleet).follow(running);
    for (name, address) in new {
        let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let container = json!({
            "name": "agent", "image": "agent", "imageID": "", "ready": true, "started": true, "restartCount": 0,
            "state": state,
        });
        let condition = |name: &str| json!({"type": name, "status": "True"});
        let status = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": [container],
            "conditions": [condition("Ready"), condition("ContainersReady")],
        }});
        let path = format!("{}/status", Path::PODS.one(namespace, &name));
        match kube.patch(&path, &status) {
            Ok(_) => {}
            // It was deleted meanwhile; its successor is seen the next time.
            Err(refused) if refused.status == 404 => {}
            Err(refused) => panic!("{path}: {refused}"),
        }
    }
}
