//! Many clusters in steady state: a real API server, a real operator, agents that are played at the HTTP boundary. The
//! pods are never scheduled; their status is written here, as a kubelet would.

mod agents;

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Kube, Options, Path, Process, Scene, binary, wait_for};

use self::agents::Fleet;
use crate::core::{Usage, memory};

/// Largest that the operator may be, in MB.
const MEGABYTES_MAX: f64 = 60.0;
/// Most of one core that it may use, in percent.
const CORE_PERCENT_MAX: f64 = 2.0;
/// It must write less often than this in a minute.
const WRITES_MAX: f64 = 1.0;

/// Calls that change something.
const VERBS: [&str; 5] = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];
/// What nobody but the operator writes here, with the subresource.
const RESOURCES: [(&str, &str); 9] = [
    ("configmaps", ""),
    ("consulclusters", ""),
    ("consulclusters", "status"),
    ("networkpolicies", ""),
    ("persistentvolumeclaims", ""),
    ("poddisruptionbudgets", ""),
    ("serviceaccounts", ""),
    ("services", ""),
    ("statefulsets", ""),
];

/// Lines of the operator's log that are printed when it wrote something.
const LINES_MAX: usize = 20;

/// Selects no node.
const NOWHERE: &str = "consulcluster.dev/bench-nowhere";

/// Time for what the last bootstraps left to do.
const SETTLE: Duration = Duration::from_secs(30);

pub(super) fn run(count: u64) -> bool {
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
    let (before, used) = (writes(scene), Usage::of(operator.pid()));
    let mark = operator.mark();
    std::thread::sleep(time);
    let used = Usage::of(operator.pid()) - &used;
    let mut more = writes(scene);
    for (what, count) in &mut more {
        *count -= before.get(what).copied().unwrap_or_default();
    }
    more.retain(|_, count| *count > 0.0);
    // Of nothing it is -0.0, which reads oddly.
    let writes = more.values().sum::<f64>().abs() * 60.0 / time.as_secs_f64();
    let core = 100.0 * used.cpu().as_secs_f64() / time.as_secs_f64();
    let megabytes = memory(operator.pid()) as f64 / 1e6;
    println!(
        "operator with {count} Ready clusters, {} s: memory {megabytes:.1} MB (goal {MEGABYTES_MAX}), {core:.2}% of a core \
         (goal below {CORE_PERCENT_MAX}), {writes:.1} API writes a minute (goal below {WRITES_MAX}; its own Lease apart)",
        time.as_secs()
    );
    if !more.is_empty() {
        println!("what it wrote: {more:?}; what it said:");
        for line in operator.lines().iter().skip(mark).take(LINES_MAX) {
            println!("    {}", line.text);
        }
    }
    assert_eq!(ready(scene), count, "every cluster is still Ready");
    megabytes <= MEGABYTES_MAX && core < CORE_PERCENT_MAX && writes < WRITES_MAX
}

/// Writes to everything that only the operator writes, by what they were, as the API server counted them, and its Events.
fn writes(scene: &Scene) -> BTreeMap<String, f64> {
    let reply = scene
        .kube
        .raw("GET", "/metrics", b"")
        .expect("the API server answers");
    let text = reply.text();
    let mut counted = BTreeMap::new();
    for line in text.lines() {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let parts = ["verb", "resource", "subresource"].map(|name| label(name).unwrap_or_default());
        let [verb, resource, subresource] = parts;
        let own = line.starts_with("apiserver_request_total{")
            && VERBS.contains(&verb)
            && RESOURCES.contains(&(resource, subresource));
        let count = line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok());
        if let (true, Some(count)) = (own, count) {
            *counted
                .entry(parts.join(" ").trim().to_owned())
                .or_default() += count;
        }
    }
    assert!(
        !counted.is_empty(),
        "these are no metrics of an API server that an operator has written to"
    );
    let events = scene.kube.list(Path::EVENTS, &scene.namespace, "");
    let ours = |event: &&Value| event["involvedObject"]["kind"] == "ConsulCluster";
    let told = |event: &Value| {
        let series = event["series"]["count"].as_f64();
        series.or(event["count"].as_f64()).unwrap_or(1.0)
    };
    let told = events.iter().filter(ours).map(told).sum();
    counted.insert("Events".to_owned(), told);
    counted
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
