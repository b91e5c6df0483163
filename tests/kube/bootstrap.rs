//! The manual sequence, watched from outside.

use serde_json::json;
use tests::{Invariants, KubeLoad, Path, Scene, wait_for};

fn forms(servers: usize) {
    let scene = Scene::new(&format!("forms-{servers}"));
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", servers);
    scene.apply("c", json!({ "servers": servers }));
    let ready = scene.wait_ready("c");

    let status = &ready["status"];
    assert_eq!(
        status["ready"],
        format!("{servers}/{servers}"),
        "{status:#}"
    );
    assert_eq!(status["voters"], servers, "{status:#}");
    assert_eq!(status["phase"], "Running", "{status:#}");
    assert_eq!(status["flagged"], json!(null), "{status:#}");
    assert_eq!(
        rules.flagged_now(),
        Vec::<String>::new(),
        "a pod still carries the flag"
    );
    assert_eq!(rules.flagged_ever(), 1, "one pod carried the flag, once");
    assert_eq!(rules.cluster().as_deref(), status["clusterID"].as_str());

    // Nothing was wrong at any moment, so nothing was said to be.
    let events = scene.events("c");
    let warned = |reason: &str| events.iter().any(|(told, _)| told == reason);
    assert!(!warned("Unavailable") && !warned("Stalled"), "{events:#?}");

    // The permit is gone with the bootstrap, and no revision of the template with the flag is left to roll back to.
    let permit = Path::CONFIG_MAPS.one(&scene.namespace, "c-bootstrap-permit");
    assert_eq!(
        scene
            .kube
            .get(&permit)
            .expect_err("the permit is gone")
            .status,
        404
    );
    for chain in evidence(servers) {
        scene.assert_events_in_order("c", &chain);
    }

    load.wait_for_progress(10);
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}

/// What Events say, in the order of the manual: what the first server did, what the others waited for, what was
/// verified, and that the flag went.
fn evidence(servers: usize) -> Vec<Vec<String>> {
    let text =
        |list: &[&str]| -> Vec<String> { list.iter().map(|text| text.to_string()).collect() };
    let first = text(&[
        "BootstrapReserved: reserve the bootstrap for c-server-0",
        "FirstServerStarted: c-server-0 runs with -server -bootstrap",
        "LeadershipAcquired: c-server-0 acquired the leadership",
    ]);
    let verified = format!(
        "ReplicationVerified: c-server-0: raft.num_peers = {}",
        servers - 1
    );
    let end = text(&[
        "RestartWithoutBootstrap: c-server-0",
        "Bootstrapped: no server runs with -bootstrap, and none will again",
        "Ready: ",
    ]);
    let mut chains = vec![[first.clone(), end.clone()].concat()];
    for other in 1..servers {
        let steps = vec![
            "StartServers: ".to_owned(),
            format!(
                "ServerStarted: c-server-{other} runs with -server, without -bootstrap, and does not lead"
            ),
            format!("ServerJoined: c-server-{other} is a member, seen by c-server-0"),
            format!("PeerAdded: c-server-0 added c-server-{other} as a peer, and it votes"),
            verified.clone(),
        ];
        chains.push([first.clone(), steps, end.clone()].concat());
    }
    chains
}

#[test]
fn one_server_forms_a_cluster() {
    forms(1);
}

#[test]
fn three_servers_form_a_cluster() {
    forms(3);
}

#[test]
fn five_servers_form_a_cluster() {
    forms(5);
}

#[test]
fn two_clusters_in_one_namespace_do_not_meet() {
    let scene = Scene::new("two-clusters");
    let (left, right) = (
        Invariants::watch(&scene.kube, &scene.namespace, "left"),
        Invariants::watch(&scene.kube, &scene.namespace, "right"),
    );
    scene.apply("left", json!({"servers": 1}));
    scene.apply("right", json!({"servers": 1}));
    scene.wait_ready("left");
    scene.wait_ready("right");
    assert_ne!(left.cluster(), right.cluster());
    left.finish();
    right.finish();
}

/// The sequence goes on from wherever the operator was killed. Each run kills it as soon as another step is under way.
#[test]
fn the_operator_is_killed_at_every_step() {
    let scene = Scene::new("operator-killed");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    let mut killed = std::collections::BTreeSet::new();
    wait_for("the cluster is Ready though the operator is killed", || {
        let object = scene.get("c").map_err(|e| e.to_string())?;
        let status = &object["status"];
        let phase = status["phase"].as_str().unwrap_or_default().to_owned();
        if !phase.is_empty() && phase != "Running" && killed.insert(phase.clone()) {
            scene.kill_operators();
        }
        scene
            .ready_now("c")
            .then_some(())
            .ok_or(format!("{phase}: {}", status["message"]))
    });
    assert!(
        killed.len() >= 3,
        "the operator was killed in too few phases: {killed:?}"
    );
    load.check(&scene.kube, "c-server-1");
    rules.finish();
}

/// Two operators; the one that works is killed, and the other goes on.
#[test]
fn the_leading_operator_of_two_is_killed() {
    let scene = Scene::with(
        "two-operators",
        &tests::Options {
            helm: vec![
                "--set".into(),
                "replicas=2,podDisruptionBudget.enabled=true".into(),
            ],
            ..Default::default()
        },
    );
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let holder = |not: &str| {
        wait_for("an operator holds the Lease", || {
            let leases = scene.kube.list(Path::LEASES, &scene.namespace, "");
            let holders = leases
                .iter()
                .filter_map(|lease| lease["spec"]["holderIdentity"].as_str());
            holders
                .map(str::to_owned)
                .find(|holder| !holder.is_empty() && holder != not)
                .ok_or("no Lease is held by another operator")
        })
    };
    let first = holder("");
    scene.apply("c", json!({"servers": 3}));
    wait_for("the first server is there", || {
        scene
            .kube
            .get(&Path::PODS.one(&scene.namespace, "c-server-0"))
    });
    scene.kill_pod(&first);
    let second = holder(&first);
    assert_ne!(first, second);
    scene.wait_ready("c");
    rules.finish();
}
