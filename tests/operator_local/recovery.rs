//! What a cluster comes back from on one machine: every address changed, a quorum lost, data that cannot be read.

use std::fs;

use serde_json::Value;
use tests::{Http, eventually};

use crate::local::Local;

fn message(status: &Value) -> String {
    let conditions = status["conditions"].as_array().expect("conditions");
    let stalled = conditions
        .iter()
        .find(|condition| condition["type"] == "Stalled");
    let text = |key: &str| {
        stalled
            .and_then(|found| found[key].as_str())
            .unwrap_or_default()
    };
    format!("{}: {}", text("reason"), text("message"))
}

fn put(server: &Http, key: &str, value: &str) {
    eventually(key, || match server.put(&format!("/v1/kv/{key}"), value) {
        Ok(reply) if reply.text() == "true" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn check(server: &Http, key: &str, value: &str) {
    eventually(key, || {
        match server.get(&format!("/v1/kv/{key}?raw&consistent")) {
            Ok(reply) if reply.text() == value => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn every_address_changed_is_the_same_cluster() {
    let local = Local::new("{servers: 3}");
    let up = local.operator("up", &["--detach"]).success();
    assert!(up.contains("steady: 3 of 3"), "{up}");
    put(&local.server(0), "before", "1");
    let id = local.status()["status"]["clusterID"].clone();
    // While they run they keep what they have.
    let other = local.block.ip(41).to_string();
    let arguments = |verb: &str| {
        let mut arguments = local.arguments(verb);
        if let Some(at) = arguments.iter().position(|word| word == "--bind-base") {
            arguments[at + 1].clone_from(&other);
        }
        arguments.push("--detach".to_owned());
        arguments
    };
    let refused = tests::run("operator", &arguments("up")).failure();
    assert!(refused.contains("until `operator local down`"), "{refused}");

    local.operator("down", &[]).success();
    let up = tests::run("operator", &arguments("up")).success();
    assert!(up.contains("steady: 3 of 3"), "{up}");
    let status = local.status()["status"].clone();
    assert_eq!(status["clusterID"], id, "{status}");
    for number in 0..3 {
        let address = local.block.socket(41 + number, 8500);
        check(&Http { address }, "before", "1");
    }
    assert_eq!(local.clusters_formed(), 1);
}

#[test]
fn a_lost_quorum_is_recovered_on_the_code_that_the_condition_shows() {
    let local = Local::new("{servers: 3}");
    let mut up = local.up();
    let id = local.wait_until_steady(3)["clusterID"].clone();
    put(&local.server(0), "before", "1");
    assert_eq!(up.interrupt(), Some(0));
    for number in [1, 2] {
        fs::remove_dir_all(local.dir().join(format!("demo-server-{number}"))).expect("stopped");
    }

    let _up = local.up();
    let status = local.wait_for("a person is called", |status| {
        message(status).starts_with("QuorumLost: 1 of 3 voters")
    });
    let text = message(&status);
    let code = text
        .split("\"token\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let code = code.unwrap_or_else(|| panic!("a code: {text}"));
    assert!(text.contains("demo-server-0, which has most"), "{text}");
    local.write("{servers: 3, recovery: {token: not-the-code}}");
    local.wait_for("another code does nothing", |status| {
        message(status).starts_with("QuorumLost")
    });
    local.write(&format!("{{servers: 3, recovery: {{token: \"{code}\"}}}}"));
    let status = local.wait_until_steady(3);
    assert_eq!(status["clusterID"], id, "{status}");
    for number in 0..3 {
        check(&local.server(number), "before", "1");
    }
    let said = local.said();
    assert!(said.contains("demo-server-0 goes on alone"), "{said}");
    let names = fs::read_dir(local.dir().join("demo-server-0/raft"))
        .expect("a folder")
        .flatten();
    let followed = names.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("peers.json.applied-")
    });
    assert_eq!(followed.count(), 1, "once");
    assert_eq!(local.clusters_formed(), 1);
}

#[test]
fn data_that_cannot_be_read_is_moved_aside_when_a_person_asks() {
    let local = Local::new("{servers: 3}");
    let mut up = local.up();
    local.wait_until_steady(3);
    put(&local.server(0), "before", "1");
    assert_eq!(up.interrupt(), Some(0));
    let raft = local.dir().join("demo-server-2/raft");
    fs::write(raft.join("identity.json"), "{").expect("stopped");

    // It says which file, and gives up: nothing is moved on its own.
    let said = local.operator("up", &["--detach"]).failure();
    assert!(said.contains("demo-server-2 ended 3 times"), "{said}");
    assert!(said.contains("identity.json"), "{said}");
    assert!(raft.exists());
    local.write("{servers: 3, recovery: {moveAside: {server: demo-server-2, token: first}}}");
    let _up = local.up();
    local.wait_until_steady(3);
    check(&local.server(2), "before", "1");
    let names = fs::read_dir(local.dir().join("demo-server-2"))
        .expect("a folder")
        .flatten();
    let moved = names.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("raft.aside-first@")
    });
    assert_eq!(moved.count(), 1, "moved, not deleted");
}
