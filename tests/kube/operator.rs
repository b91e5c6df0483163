//! The operator itself: how it leads, and from where.

use std::process::Command;

use serde_json::json;
use tests::{Options, Path, Process, Scene, Watch, binary, wait_for};

/// Told to end, as in an upgrade, it gives its Lease back: the next one need not wait for it to run out.
#[test]
fn an_operator_that_ends_gives_its_lease_back() {
    let scene = Scene::new("lease");
    let watch = Watch::start(
        scene.kube.address(),
        Path::LEASES.list(&scene.namespace),
        |_| {},
    );
    let held = |name: &str| {
        let events = watch.events();
        let holders = events
            .iter()
            .map(|event| &event.object["spec"]["holderIdentity"]);
        holders.filter(|holder| **holder == name).count()
    };
    let operators = || -> Vec<String> {
        let pods = scene.operators();
        pods.iter()
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect()
    };
    let first = wait_for("the operator leads", || {
        let operators = operators();
        let leads = operators.iter().find(|name| held(name) > 0);
        leads.cloned().ok_or(format!("{operators:?}"))
    });
    scene
        .kube
        .delete(&Path::PODS.one(&scene.namespace, &first))
        .expect("deleted");
    wait_for("another operator leads", || {
        let operators = operators();
        let next = operators
            .iter()
            .find(|name| **name != first && held(name) > 0);
        next.map(drop).ok_or(format!("{operators:?}"))
    });
    assert!(held("") > 0, "the Lease was not given back: it ran out");
    watch.stop();
}

/// Outside of the cluster, with a KUBECONFIG, agents are reached through the API server.
#[test]
fn it_runs_outside_of_the_cluster() {
    let scene = Scene::with(
        "outside",
        &Options {
            no_operator: true,
            ..Default::default()
        },
    );
    let mut command = Command::new(binary("operator"));
    command
        .args(["run", "--namespace", &scene.namespace])
        .args(["--agent-image", &tests::image("agent")])
        .args(["--listen", "127.0.0.1:0"]);
    let operator = Process::start("operator run", command);
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    operator.kill();
}
