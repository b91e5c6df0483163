//! The manual sequence, watched from outside.

use serde_json::{Value, json};
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

    shows(&scene, status, servers);

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

/// What a person sees of a cluster at rest: the columns of `kubectl get`, and each server in its status.
fn shows(scene: &Scene, status: &Value, servers: usize) {
    let members = status["members"].as_array().expect("members are listed");
    assert_eq!(members.len(), servers, "{status:#}");
    for (number, member) in members.iter().enumerate() {
        let name = format!("c-server-{number}");
        for (field, expected) in [("name", json!(name)), ("pod", json!(name))] {
            assert_eq!(member[field], expected, "{field} of {member:#}");
        }
        assert_ne!(member["bootstrapFlag"], json!(true), "{member:#}");
        assert!(member["nodeID"].is_string(), "{member:#}");
        let role = member["role"].as_str();
        assert!(matches!(role, Some("leader" | "voter")), "{member:#}");
        assert!(member["lastLogIndex"].as_i64() > Some(0), "{member:#}");
    }
    let table = tests::kubectl(&["get", "consulclusters", "--namespace", &scene.namespace])
        .expect("kubectl answers");
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let columns = [
        "NAME", "READY", "PHASE", "LEADER", "VOTERS", "VERSION", "AGE",
    ];
    assert_eq!(lines[0], columns, "{table}");
    let ready = format!("{servers}/{servers}");
    assert_eq!(lines[1][..3], ["c", &ready, "Running"], "{table}");
    assert!(lines[1][3].starts_with("c-server-"), "{table}");
    assert_eq!(lines[1][4], servers.to_string(), "{table}");
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

/// The sequence goes on from wherever the operator was killed. It is killed as soon as it has told of anything new: every
/// step is told of, and so is what led to it.
#[test]
fn the_operator_is_killed_at_every_step() {
    let scene = Scene::new("operator-killed");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    let mut killed_at = std::collections::BTreeSet::new();
    wait_for("the cluster is Ready though the operator is killed", || {
        let told = scene.events("c");
        let news: Vec<_> = told
            .into_iter()
            .filter(|(reason, _)| reason != "Ready")
            .filter(|told| !killed_at.contains(told))
            .collect();
        if !news.is_empty() {
            killed_at.extend(news);
            scene.kill_operators();
        }
        let object = scene.get("c").map_err(|e| e.to_string())?;
        let status = &object["status"];
        scene
            .ready_now("c")
            .then_some(())
            .ok_or(format!("{}: {}", status["phase"], status["message"]))
    });
    for step in [
        "BootstrapReserved",
        "StartServers",
        "RestartWithoutBootstrap",
    ] {
        assert!(
            killed_at.iter().any(|(reason, _)| reason == step),
            "not killed after {step}: {killed_at:?}"
        );
    }
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
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
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
    load.wait_for_progress(5);
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}
