//! From a file to a steady cluster, and what a changed file leads to.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;
use tests::{Http, eventually, run};

use crate::local::{Local, condition, path};

#[test]
fn the_manual_sequence_from_a_file() {
    let local = Local::new("{servers: 3, clients: 2}");
    let said = local
        .block
        .as_in_manual(&local.operator("up", &["--detach"]).success());
    the_steps_are_told_in_order(&said);
    let agents = local.agents();
    assert_eq!(agents.len(), 5, "{agents:?}");
    assert!(
        agents.iter().all(|(_, line)| !line.contains("-bootstrap")),
        "{agents:?}"
    );
    let status = local.wait_until_steady(3);
    for name in ["Ready", "Bootstrapped", "SingleCluster", "Available"] {
        assert_eq!(condition(&status, name), "True", "{name}: {status}");
    }
    assert_eq!(
        (status["voters"].clone(), status["clients"].clone()),
        (json!(3), json!(2))
    );
    planning_says_steady(&local);
    let names: Vec<_> = status["members"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| member["name"].clone())
        .collect();
    assert_eq!(names, ["demo-server-0", "demo-server-1", "demo-server-2"]);
    a_clients_write_is_read_everywhere(&local);
    // Down and up again: the same cluster with the same data.
    local.operator("down", &[]).success();
    assert!(local.agents().is_empty());
    let again = local.operator("up", &["--detach"]).success();
    assert!(!again.contains("-server -bootstrap\n"), "{again}");
    assert_eq!(local.status()["status"]["clusterID"], status["clusterID"]);
    assert_eq!(
        local
            .server(1)
            .get("/v1/kv/who?raw")
            .expect("an answer")
            .text(),
        "a client"
    );
    let refused = local.operator("destroy", &[]).failure();
    assert!(refused.contains("--yes"), "{refused}");
    local.operator("destroy", &["--yes"]).success();
    assert!(local.agents().is_empty() && !local.dir().exists());
}

/// A line a step, with its evidence.
fn the_steps_are_told_in_order(said: &str) {
    let mut rest = said;
    for part in [
        "reserve the bootstrap for demo-server-0",
        "start demo-server-0 on 127.0.0.1 with -server -bootstrap",
        "demo-server-0: [INFO] consul: cluster leadership acquired",
        "record the cluster id",
        "start demo-server-1 on 127.0.0.2 and demo-server-2 on 127.0.0.3 with -server, without -bootstrap",
        "join demo-server-1 to demo-server-0 at 127.0.0.1",
        "Successfully joined cluster by contacting 1 nodes.",
        "verified: raft.num_peers = 2 on demo-server-0; raft.last_log_index = ",
        "start demo-server-0 on 127.0.0.1 again, without -bootstrap",
        "start client demo-client-0 on 127.0.0.11 and demo-client-1 on 127.0.0.12",
        "steady: 3 of 3 servers vote",
        "agent members -http-addr=127.0.0.1:8500, or: ",
    ] {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("{part:?} is missing, or not in its place:\n{said}"));
        rest = &rest[at..];
    }
    for line in [
        "demo-server-1: [WARN] raft: EnableSingleNode disabled, and no known peers. Aborting election.",
        "demo-server-2: [WARN] raft: EnableSingleNode disabled, and no known peers. Aborting election.",
        "demo-server-0: [INFO] raft: Added peer 127.0.0.2:8300, starting replication",
        "demo-server-0: [INFO] raft: Added peer 127.0.0.3:8300, starting replication",
        "demo-server-0 leaves gracefully, to come back without -bootstrap",
    ] {
        assert!(said.contains(line), "{line:?} is missing:\n{said}");
    }
}

/// What was observed can be planned from, touching nothing.
fn planning_says_steady(local: &Local) {
    let observed = local.folder.path().join("observed.yaml");
    fs::write(
        &observed,
        local.operator("status", &["-o", "observed"]).success(),
    )
    .expect("a writable folder");
    let file = local.file();
    let plan = [
        "plan",
        "-f",
        path(&file),
        "--observed",
        path(&observed),
        "--bind-base",
        &local.block.ip(1).to_string(),
    ];
    assert!(run("operator", &plan).success().starts_with("next: steady"));
}

/// Step 7 of the manual.
fn a_clients_write_is_read_everywhere(local: &Local) {
    let client = Http {
        address: local.block.socket(11, 8500),
    };
    assert_eq!(
        client
            .put("/v1/kv/who", "a client")
            .expect("an answer")
            .status,
        200
    );
    for number in 0..3 {
        assert_eq!(
            local
                .server(number)
                .get("/v1/kv/who?raw")
                .expect("an answer")
                .text(),
            "a client"
        );
    }
}

#[test]
fn it_keeps_reconciling_killed_agents_and_a_changed_file() {
    let local = Local::new("{servers: 3, clients: 1, updatePolicy: {minReadySeconds: 0}}");
    let mut up = local.up();
    local.wait_until_steady(3);
    let before = local.pid("demo-server-2");
    for name in ["demo-server-2", "demo-client-0"] {
        local.kill(name);
    }
    local.wait_for("the killed agents are back", |status| {
        status["readyServers"] == 3 && status["clients"] == 1 && status["phase"] == "Running"
    });
    assert_ne!(local.pid("demo-server-2"), before);
    local.write("{servers: 5, clients: 1, updatePolicy: {minReadySeconds: 0}}");
    local.wait_until_steady(5);
    local.write("{servers: 3, clients: 0, updatePolicy: {minReadySeconds: 0}}");
    local.wait_until_steady(3);
    eventually("three agents are left", || match local.agents().len() {
        3 => Ok(()),
        other => Err(format!("{other} run")),
    });
    // Another configuration reaches everybody, one at a time.
    local.write("{servers: 3, config: {log_level: debug}, updatePolicy: {minReadySeconds: 0}}");
    local.wait_for("every server runs the new configuration", |status| {
        let members = status["members"].as_array().expect("a list");
        let revisions: BTreeSet<_> = members
            .iter()
            .filter_map(|m| m["revision"].as_str())
            .collect();
        let all = local
            .agents()
            .iter()
            .all(|(_, line)| line.contains("-config-file"));
        status["phase"] == "Running" && revisions.len() == 1 && all
    });
    // A file that is wrong changes nothing.
    local.write("{servers: 4}");
    eventually("the mistake is said", || {
        let said = local.said();
        if said.contains("servers must be 1, 3, 5 or 7, got 4") {
            Ok(())
        } else {
            Err(said)
        }
    });
    assert_eq!(local.agents().len(), 3);
    assert_eq!(up.interrupt(), Some(0), "{}", local.said());
    assert!(
        local.agents().is_empty(),
        "without --detach no agent outlives the operator"
    );
    assert!(
        local.said().contains("operator local up "),
        "{}",
        local.said()
    );
}

#[test]
fn one_server_ends_without_the_flag_and_warns() {
    let local = Local::new("{servers: 1}");
    let output = local.operator("up", &["--detach"]);
    assert!(
        output
            .stderr
            .contains("warning: spec.servers: one server has no fault tolerance"),
        "{output:?}"
    );
    output.success();
    assert!(
        local
            .agents()
            .iter()
            .all(|(_, line)| !line.contains("-bootstrap"))
    );
    assert_eq!(
        local
            .server(0)
            .put("/v1/kv/a", "b")
            .expect("an answer")
            .status,
        200
    );
    local.operator("destroy", &["--yes"]).success();
}
