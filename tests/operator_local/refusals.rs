//! What is refused, and how.

use std::fs;

use tests::{Output, eventually, run};

use crate::local::Local;

#[test]
fn bad_input_is_one_sentence_and_starts_nothing() {
    let local = Local::new("{servers: 3}");
    let sentence = |output: Output| {
        let stderr = output.failure();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    };
    local.write("{servers: 3, client: 1}");
    let said = sentence(local.operator("up", &[]));
    assert!(
        said.contains("cluster.yaml: spec: unknown field `client`")
            && said.contains("line 5 column"),
        "{said}"
    );
    local.write("{servers: 4}");
    assert!(
        sentence(local.operator("up", &[]))
            .contains("spec.servers: servers must be 1, 3, 5 or 7, got 4")
    );
    local.write("{servers: 3}\n---\na: 1");
    assert!(sentence(local.operator("up", &[])).contains("holds 2 YAML documents"));
    local.write("{servers: 3}");
    let said = sentence(local.operator("up", &["--agent", "/no/such/agent"]));
    assert!(said.contains("/no/such/agent is not a program"), "{said}");
    let busy = std::net::TcpListener::bind(local.block.socket(2, 8300)).expect("a free port");
    let said = sentence(local.operator("up", &[]));
    assert!(
        said.contains(":8300, which demo-server-1 needs, cannot be used"),
        "{said}"
    );
    drop(busy);
    let said = sentence(run("operator", &["local", "up", "/no/such/file.yaml"]));
    assert!(said.contains("/no/such/file.yaml"), "{said}");
    let said = sentence(run("operator", &["local", "status", "--dir", "/proc"]));
    assert!(said.contains("is not the folder of a cluster"), "{said}");
    let said = sentence(run(
        "operator",
        &["local", "destroy", "--yes", "--dir", "/no/such/dir"],
    ));
    assert!(said.contains("there is no cluster in"), "{said}");
    assert!(local.agents().is_empty());
}

#[test]
fn two_operators_do_not_share_a_folder_and_what_cannot_change_is_refused() {
    let local = Local::new("{servers: 1}");
    let mut up = local.up();
    local.wait_until_steady(1);
    let said = local.operator("down", &[]).failure();
    assert!(said.contains("another operator is at work"), "{said}");
    assert_eq!(up.interrupt(), Some(0));
    local.write("{servers: 1, datacenter: dc2}");
    let said = local.operator("up", &["--detach"]).failure();
    assert!(said.contains("spec.datacenter cannot change"), "{said}");
    local.write("{servers: 5}");
    let said = local.operator("up", &["--detach"]).failure();
    assert!(
        said.contains("at most two at a time, not from 1 to 5"),
        "{said}"
    );
    assert!(local.agents().is_empty());
}

/// An older agent on the data of a newer one: the change stops at that server, which says so, and nothing is touched.
#[test]
fn a_downgrade_across_a_data_format_is_refused_and_said() {
    let local = Local::new("{servers: 3}");
    local.operator("up", &["--detach"]).success();
    let before = local.status()["status"]["clusterID"].clone();
    local.kill("demo-server-2");
    eventually("it is gone", || match local.agents().len() {
        2 => Ok(()),
        left => Err(left),
    });
    let file = local.dir().join("demo-server-2/raft/identity.json");
    let ours = fs::read_to_string(&file).expect("the folder's identity");
    let newer = ours.replace("\"version\": 1", "\"version\": 9");
    assert_ne!(ours, newer);
    fs::write(&file, &newer).expect("nobody runs there");
    let said = local.operator("up", &["--detach"]).failure();
    assert!(
        said.contains("demo-server-2 ended 3 times before it answered")
            && said.contains("identity.json")
            && said.contains("version 9 is newer than this program"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&file).expect("it is there"), newer);

    // With the agent that wrote it, it is one of three again.
    fs::write(&file, ours).expect("nobody runs there");
    local.operator("up", &["--detach"]).success();
    let status = local.wait_until_steady(3);
    assert_eq!(status["clusterID"], before, "{status}");
}
