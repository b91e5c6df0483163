//! The documented way out when a quorum is lost for ever: `raft/peers.json`.

use std::fs;

use tests::Cluster;

#[test]
fn one_survivor_is_made_a_cluster_with_every_write() {
    let mut cluster = Cluster::formed();
    for number in 0..50 {
        cluster["A"].put(&format!("/v1/kv/before/{number}"), &number.to_string());
    }
    let id = cluster["A"].info("agent", "node_id").or_else(|_| {
        let this = cluster["A"].json("/v1/agent/self");
        this["Config"]["NodeID"]
            .as_str()
            .map(str::to_owned)
            .ok_or("no node id")
    });
    let id = id.expect("a node id");
    for name in ["B", "C", "A"] {
        cluster[name].kill();
    }

    let peers = cluster["A"].data.join("raft/peers.json");
    let address = cluster["A"].server_address();
    fs::write(
        &peers,
        format!(r#"[{{"id": "{id}", "address": "{address}", "non_voter": false}}]"#),
    )
    .expect("A has a raft folder");
    cluster["A"].start(&["-server"]);
    cluster["A"].wait_for_line("found peers.json file, recovering Raft configuration...");
    cluster.wait_for_voters(&["A"]);
    assert!(!peers.exists(), "it is taken once");
    for number in 0..50 {
        assert_eq!(
            cluster["A"].value(&format!("before/{number}"), "consistent"),
            Some(number.to_string())
        );
    }

    // It stays so after another restart, and grows again.
    cluster["A"].kill();
    cluster["A"].start(&["-server"]);
    cluster.wait_for_voters(&["A"]);
    let a = cluster.address("A");
    cluster["D"].start(&["-server", "-retry-join", &a]);
    cluster.wait_for_voters(&["A", "D"]);
    assert_eq!(cluster["D"].value("before/49", "").as_deref(), Some("49"));
}

#[test]
fn a_broken_peers_json_stops_the_start_and_changes_nothing() {
    let mut cluster = Cluster::formed();
    cluster["A"].put("/v1/kv/kept", "yes");
    cluster["A"].kill();
    let peers = cluster["A"].data.join("raft/peers.json");
    fs::write(&peers, "[{").expect("A has a raft folder");
    cluster["A"].start(&["-server"]);
    let (code, log) = cluster["A"].ended();
    assert_eq!(code, Some(1), "{}", log.stderr());
    assert!(log.stderr().contains("peers.json"), "{}", log.stderr());
    assert!(peers.exists(), "left for the person who wrote it");

    fs::remove_file(&peers).expect("it is there");
    cluster["A"].start(&["-server"]);
    cluster.wait_for_voters(&tests::SERVERS);
    assert_eq!(cluster["A"].value("kept", "").as_deref(), Some("yes"));
}
