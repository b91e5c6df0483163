//! Planned changes of a cluster of three on real pods, under a constant write load: how long they take, and for how long
//! nobody takes a write meanwhile. And what it takes to bring a large state back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{
    Attempt, Connection, Kube, Path, Scene, Watch, Writers, away as outages, longest_gap,
    unexcused, wait_for,
};

use crate::{REQUEST_LIMIT, Row, VALUE, median_of, print};

/// Operations of one transaction: Consul's limit.
const BATCH: usize = 128;

/// Connections that fill a state.
const FILLERS: usize = 4;

/// Longest that nobody may take a write in a planned change.
const GAP_MAX: Duration = Duration::from_secs(1);

/// Writes that are waited for before and after a change.
const PROGRESS: usize = 100;

/// Prints the figures of planned changes; whether every goal is reached.
pub(super) fn run(rounds: u64) -> bool {
    let scene = Scene::new("changes");
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    scene.wait_pods_ready("c", 3);
    let (mut rolled, mut gaps) = (Vec::new(), Vec::new());
    let (mut missed, mut follower_gaps) = (0, Vec::new());
    let mut scaled = Vec::new();
    for round in 0..rounds {
        let (took, gap) = roll(&scene, round);
        rolled.push(took.as_secs_f64());
        gaps.push(gap.as_secs_f64());
        let (failed, gap) = follower(&scene);
        missed += failed;
        follower_gaps.push(gap.as_secs_f64());
        scaled.push(scale(&scene, round).as_secs_f64());
    }
    let worst = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let row = |what, unit, consul, goal, ours| Row {
        what,
        unit,
        consul,
        goal,
        ours,
    };
    let gap = worst(&gaps);
    let follower = worst(&follower_gaps);
    let rows = [
        row(
            "rolling restart of 3 servers on pods",
            "s",
            87.0,
            15.0,
            median_of(rolled),
        ),
        row(
            "longest without a write, leader change included",
            "s",
            f64::NAN,
            GAP_MAX.as_secs_f64(),
            gap,
        ),
        row(
            "follower restarted: writes others failed",
            "",
            f64::NAN,
            0.0,
            missed as f64,
        ),
        row(
            "follower restarted: longest without a write",
            "s",
            f64::NAN,
            GAP_MAX.as_secs_f64(),
            follower,
        ),
        row(
            "3 servers become 5 on pods",
            "s",
            f64::NAN,
            10.0,
            median_of(scaled),
        ),
    ];
    println!("planned changes under a write load, {rounds} rounds; times: median, gaps: longest");
    print(&rows);
    rows.iter().all(|row| row.ours <= row.goal)
}

/// What was written while `change` took place, whichever servers it concerned.
fn under_load(scene: &Scene, change: impl FnOnce()) -> (Vec<Attempt>, Duration, usize) {
    let watch = Watch::start(
        scene.kube.address(),
        Path::PODS.list(&scene.namespace),
        |_| {},
    );
    let writers = Writers::start(&scene.kube, &scene.namespace, "c", 3);
    writers.wait_for_progress(PROGRESS);
    let begun = Instant::now();
    change();
    let took = begun.elapsed();
    writers.wait_for_progress(PROGRESS);
    let attempts = writers.check(&scene.kube, &scene.namespace, "c-server-0");
    let away = outages(&watch.stop(), "c");
    let failed = unexcused(&attempts, &away).len();
    // The next round's writes are told from these.
    let path = Kube::agent_path(
        &scene.namespace,
        "c-server-0",
        "/v1/kv/writers/?recurse=true",
    );
    let reply = scene.kube.raw("DELETE", &path, b"").expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    (attempts, took, failed)
}

/// Every server is replaced, the leader last.
fn roll(scene: &Scene, round: u64) -> (Duration, Duration) {
    let before = scene.server_uids("c");
    let (attempts, took, failed) = under_load(scene, || {
        let annotations = json!({"round": round.to_string()});
        let spec = json!({"servers": 3, "podMetadata": {"annotations": annotations}});
        scene.apply("c", spec);
        scene.wait_replaced("c", &before);
    });
    assert_eq!(failed, 0, "writes failed that others were sent to");
    let gap = longest_gap(&attempts);
    if gap > GAP_MAX {
        tell_slow(&attempts);
    }
    (took, gap)
}

/// Which writes took long, and what came of them, by the time since the first: what a gap that is too long was made of.
fn tell_slow(attempts: &[Attempt]) {
    let Some(first) = attempts.iter().map(|one| one.begun).min() else {
        return;
    };
    for one in attempts {
        let took = one.ended - one.begun;
        if took > GAP_MAX / 2 || one.failure.is_some() {
            println!(
                "  at {:.2} s, server {}: {:.2} s, {}",
                (one.begun - first).as_secs_f64(),
                one.server,
                took.as_secs_f64(),
                one.failure.as_deref().unwrap_or("acknowledged").trim()
            );
        }
    }
}

/// A follower goes, and comes back.
fn follower(scene: &Scene) -> (usize, Duration) {
    let leader = scene.leader("c", 3).expect("somebody leads");
    let follower = (0..3)
        .map(|number| format!("c-server-{number}"))
        .find(|name| *name != leader)
        .expect("two follow");
    let before = scene.server_uids("c");
    let (attempts, _, failed) = under_load(scene, || {
        let path = Path::PODS.one(&scene.namespace, &follower);
        scene.kube.delete(&path).expect("deleted");
        scene.wait_other("c", &before);
    });
    (failed, longest_gap(&attempts))
}

/// Three become five, until all are voters; and three again, which is not measured.
fn scale(scene: &Scene, round: u64) -> Duration {
    let become_ = |servers: usize| {
        let annotations = json!({"round": round.to_string()});
        let spec = json!({"servers": servers, "podMetadata": {"annotations": annotations}});
        let begun = Instant::now();
        scene.apply("c", spec);
        let object = scene.wait_ready("c");
        assert_eq!(object["status"]["voters"], servers, "{object:#}");
        begun.elapsed()
    };
    let took = become_(5);
    become_(3);
    wait_for("three pods are left", || {
        let left = scene.servers("c").len();
        (left == 3).then_some(()).ok_or(left)
    });
    scene.wait_pods_ready("c", 3);
    took
}

/// Prints what a saved state of that many keys takes to be written and to be restored into a running cluster.
pub(super) fn restore(keys: usize) -> bool {
    let scene = Scene::new("large");
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    fill(&scene, keys);
    scene.claim("keep");
    let spec =
        json!({"cluster": "c", "destination": {"pvc": {"claimName": "keep", "path": "consul"}}});
    let begun = Instant::now();
    scene.make(Path::SNAPSHOTS, "ConsulSnapshot", "large", &spec);
    let status = scene.wait_phase_of(Path::SNAPSHOTS, "large", "Completed");
    let saved = begun.elapsed().as_secs_f64();
    let spec = json!({"cluster": "c", "source": {"snapshot": "large"}});
    let begun = Instant::now();
    scene.make(Path::RESTORES, "ConsulRestore", "back", &spec);
    scene.wait_phase_of(Path::RESTORES, "back", "Completed");
    let restored = begun.elapsed().as_secs_f64();
    scene.wait_ready("c");
    println!(
        "{keys} keys of {} B on pods, 3 servers: saved and verified by a ConsulSnapshot in {saved:.1} s ({} bytes), \
         restored by a ConsulRestore in {restored:.1} s",
        VALUE.len(),
        status["sizeBytes"],
    );
    true
}

fn fill(scene: &Scene, keys: usize) {
    // `VALUE` as the API of transactions takes it.
    let value = format!("{}eHg=", "eHh4".repeat(VALUE.len() / 3));
    let leader = scene.leader("c", 3).expect("somebody leads");
    let path = Kube::agent_path(&scene.namespace, &leader, "/v1/txn");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..FILLERS {
            scope.spawn(|| {
                let address = scene.kube.address();
                let mut connection = Connection::open(address, REQUEST_LIMIT).expect("the API");
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    if from >= keys {
                        break;
                    }
                    let set = |key: usize| json!({"KV": {"Verb": "set", "Key": format!("large/{key:07}"), "Value": value}});
                    let operations: Vec<_> = (from..keys.min(from + BATCH)).map(set).collect();
                    let body = json!(operations).to_string();
                    let reply = connection
                        .request("PUT", &path, body.as_bytes())
                        .expect("an answer");
                    assert_eq!(reply.status, 200, "{}", reply.text());
                }
            });
        }
    });
}
