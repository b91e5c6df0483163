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

/// What names one log, from what its server says of itself.
fn order(agent: &tests::Agent, ahead: u64) -> String {
    let own = agent.json("/v1/agent/self");
    let (raft, tags) = (&own["Stats"]["raft"], &own["Member"]["Tags"]);
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let index: u64 = text(&raft["last_log_index"]).parse().expect("a number");
    format!(
        "-hcl=quorum_recovery {{\n cluster_id = \"{}\"\n raft_id = \"{}\"\n last_log_term = {}\n last_log_index = {}\n}}",
        text(&tags["cluster"]),
        text(&raft["raft_id"]),
        text(&raft["last_log_term"]),
        index + ahead
    )
}

#[test]
fn an_order_in_the_configuration_is_followed_once_and_only_by_the_log_that_it_names() {
    let mut cluster = Cluster::formed();
    for number in 0..50 {
        cluster["A"].put(&format!("/v1/kv/before/{number}"), &number.to_string());
    }
    cluster.wait_until_equal(&tests::SERVERS);
    for name in ["B", "C"] {
        cluster[name].kill();
    }
    // Without a quorum nobody leads, and the log stays as it is.
    tests::eventually("nobody leads", || {
        match cluster["A"].info("raft", "state") {
            Ok(state) if state != "Leader" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let (right, wrong) = (order(&cluster["A"], 0), order(&cluster["A"], 1));
    cluster["A"].kill();
    cluster["A"].start(&["-server", &wrong]);
    cluster["A"].wait_for_line("not followed");
    cluster["A"].kill();

    cluster["A"].start(&["-server", &right]);
    cluster["A"].wait_for_line("followed quorum_recovery");
    cluster.wait_for_voters(&["A"]);
    for number in 0..50 {
        assert_eq!(
            cluster["A"].value(&format!("before/{number}"), "consistent"),
            Some(number.to_string())
        );
    }
    // One that had its log all the time comes back as it is, and catches up.
    cluster["A"].put("/v1/kv/after", "yes");
    let a = cluster.address("A");
    cluster["B"].start(&["-server", "-retry-join", &a]);
    cluster.wait_for_voters(&["A", "B"]);
    assert_eq!(cluster["B"].value("after", "").as_deref(), Some("yes"));
    // The order is still there, and does nothing any more: nobody is thrown out.
    cluster["A"].kill();
    cluster["A"].start(&["-server", &right]);
    cluster["A"].wait_for_line("not followed");
    cluster.wait_for_voters(&["A", "B"]);
    assert_eq!(cluster["A"].value("after", "").as_deref(), Some("yes"));
}

#[test]
fn a_corrupt_folder_is_moved_aside_on_a_token_and_the_server_joins_anew() {
    let mut cluster = Cluster::formed();
    cluster["A"].put("/v1/kv/kept", "yes");
    cluster["C"].kill();
    let raft = cluster["C"].data.join("raft");
    fs::write(raft.join("identity.json"), "{").expect("C has a raft folder");
    cluster["C"].start(&["-server"]);
    let (code, log) = cluster["C"].ended();
    assert_eq!(code, Some(1), "{}", log.stderr());
    assert!(log.stderr().contains("identity.json"), "{}", log.stderr());

    let a = cluster.address("A");
    let aside = "-hcl=raft_set_aside {\n node_name = \"C\"\n token = \"t1\"\n}";
    let flags = ["-server", "-retry-join", &a, aside];
    cluster["C"].start(&flags);
    cluster.wait_for_voters(&tests::SERVERS);
    assert_eq!(cluster["C"].value("kept", "").as_deref(), Some("yes"));
    let identity = fs::read_to_string(raft.join("identity.json")).expect("a new one");
    // Once for each token, however often it starts.
    cluster["C"].kill();
    cluster["C"].start(&flags);
    cluster.wait_for_voters(&tests::SERVERS);
    assert_eq!(
        fs::read_to_string(raft.join("identity.json")).expect("the same"),
        identity
    );
    let names = fs::read_dir(&cluster["C"].data)
        .expect("a folder")
        .flatten();
    let moved = names.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("raft.aside-t1-")
    });
    assert_eq!(moved.count(), 1, "moved, not deleted");
}
