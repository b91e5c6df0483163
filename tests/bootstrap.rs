//! The manual bootstrap, typed by hand: every step's evidence, line by line as the manual shows it.

use std::fs;

use rustix::process::Signal;
use tests::{Cluster, Load, Process, SERVERS, eventually};

/// A log line without its time, and with addresses as in the manual.
fn said(cluster: &Cluster, process: &Process, part: &str) -> String {
    let line = cluster
        .block
        .as_in_manual(&process.wait_for_line(part).text);
    let (time, rest) = line.split_once(' ').expect("a time and a text");
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "the time of {line:?}");
    rest.to_owned()
}

/// The rows of a table, each as its columns.
fn table(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()))
        .map(|columns| columns.map(str::to_owned).collect())
        .collect()
}

/// The value of `key` in a block of `info`'s output.
fn info(text: &str, block: &str, key: &str) -> String {
    text.lines()
        .skip_while(|line| *line != format!("{block}:"))
        .skip(1)
        .take_while(|line| line.starts_with('\t'))
        .find_map(|line| line.trim().strip_prefix(&format!("{key} = ")))
        .unwrap_or_else(|| panic!("no {block}.{key} in\n{text}"))
        .to_owned()
}

#[test]
fn the_manual_by_hand() {
    let mut cluster = Cluster::new();
    first_server_leads(&mut cluster);
    others_wait(&mut cluster);
    join_both(&cluster);
    replication_is_verified(&cluster);
    first_server_is_replaced(&mut cluster);
    nobody_carries_the_flag(&cluster);
    clients_join(&mut cluster);
}

fn first_server_leads(cluster: &mut Cluster) {
    cluster["A"].start(&["-server", "-bootstrap"]);
    assert_eq!(
        said(cluster, &cluster["A"], "leadership acquired"),
        "[INFO] consul: cluster leadership acquired"
    );
}

fn others_wait(cluster: &mut Cluster) {
    for name in ["B", "C"] {
        cluster[name].start(&["-server"]);
        assert_eq!(
            said(cluster, &cluster[name], "EnableSingleNode"),
            "[WARN] raft: EnableSingleNode disabled, and no known peers. Aborting election."
        );
    }
    for name in ["B", "C"] {
        cluster[name].wait_until_up();
        assert_eq!(cluster[name].leader(), Ok(String::new()));
        assert_ne!(cluster[name].info("raft", "state"), Ok("Leader".into()));
        assert_eq!(cluster[name].count("leadership acquired"), 0);
    }
}

fn join_both(cluster: &Cluster) {
    let said_by_join = "Successfully joined cluster by contacting 1 nodes.\n";
    // In either direction.
    let joined = cluster["A"].cli(&["join", &cluster.address("B")]);
    assert_eq!(joined.success(), said_by_join);
    let joined = cluster["C"].cli(&["join", &cluster.address("A")]);
    assert_eq!(joined.success(), said_by_join);
    for (name, host) in [("B", 2), ("C", 3)] {
        assert_eq!(
            said(
                cluster,
                &cluster["A"],
                &format!("Added peer {}:8300", cluster.address(name))
            ),
            format!("[INFO] raft: Added peer 127.0.0.{host}:8300, starting replication")
        );
    }
    cluster.wait_for_members("A", &[("A", "alive"), ("B", "alive"), ("C", "alive")]);
    let members = cluster["B"].cli(&["members"]).success();
    let rows = table(&cluster.block.as_in_manual(&members));
    assert_eq!(
        rows[0],
        [
            "Node",
            "Address",
            "Status",
            "Type",
            "Build",
            "Protocol",
            "DC",
            "Partition",
            "Segment"
        ]
    );
    for (row, (name, host)) in rows[1..].iter().zip([("A", 1), ("B", 2), ("C", 3)]) {
        assert_eq!(
            row[..4],
            [name, &format!("127.0.0.{host}:8301"), "alive", "server"]
        );
        assert_eq!(row[6], "dc1", "{row:?}");
    }
    assert_eq!(rows.len(), 4);
}

fn replication_is_verified(cluster: &Cluster) {
    cluster.wait_for_voters(&SERVERS);
    let put = cluster["A"].cli(&["kv", "put", "before", "the restart"]);
    assert_eq!(put.success(), "Success! Data written to: before\n");
    assert_eq!(
        info(&cluster["A"].cli(&["info"]).success(), "raft", "num_peers"),
        "2"
    );
    let wanted: u64 = info(
        &cluster["A"].cli(&["info"]).success(),
        "raft",
        "last_log_index",
    )
    .parse()
    .expect("a number");
    for name in ["B", "C"] {
        eventually(&format!("{name} has what A has"), || {
            let text = cluster[name].cli(&["info"]).success();
            let index: u64 = info(&text, "raft", "last_log_index")
                .parse()
                .expect("a number");
            if index >= wanted { Ok(()) } else { Err(index) }
        });
        let got = cluster[name].cli(&["kv", "get", "before"]);
        assert_eq!(got.success(), "the restart\n");
    }
}

fn first_server_is_replaced(cluster: &mut Cluster) {
    let (code, log) = cluster["A"].interrupt();
    assert_eq!(code, Some(0), "a graceful leave:\n{}", log.stdout());
    let leader = cluster.leader_among(&["B", "C"]);
    assert_eq!(
        said(cluster, &cluster[leader.as_str()], "leadership acquired"),
        "[INFO] consul: cluster leadership acquired"
    );
    assert_eq!(
        said(cluster, &cluster[leader.as_str()], "Removed peer"),
        "[INFO] raft: Removed peer 127.0.0.1:8300"
    );
    cluster.wait_for_voters(&["B", "C"]);
    cluster.wait_for_members("B", &[("A", "left"), ("B", "alive"), ("C", "alive")]);
    cluster["C"].put("/v1/kv/meanwhile", "A was away");

    cluster["A"].start(&["-server"]);
    cluster["A"].wait_until_up();
    let joined = cluster["A"].cli(&["join", &cluster.address("B")]);
    assert_eq!(
        joined.success(),
        "Successfully joined cluster by contacting 1 nodes.\n"
    );
    cluster.wait_for_voters(&SERVERS);
    eventually("A has what was written while it was away", || {
        // Stale: from A's own state, not from the leader's.
        match cluster["A"].value("meanwhile", "stale") {
            Some(value) => {
                assert_eq!(value, "A was away");
                Ok(())
            }
            None => Err("not yet"),
        }
    });
    assert_eq!(
        cluster["A"].value("before", "stale").as_deref(),
        Some("the restart")
    );
    let peers = cluster["A"]
        .cli(&["operator", "raft", "list-peers"])
        .success();
    let rows = table(&cluster.block.as_in_manual(&peers));
    let mut states: Vec<&str> = rows[1..].iter().map(|row| row[3].as_str()).collect();
    states.sort_unstable();
    assert_eq!(states, ["follower", "follower", "leader"], "{peers}");
    assert!(rows[1..].iter().all(|row| row[4] == "true"), "{peers}");
}

fn nobody_carries_the_flag(cluster: &Cluster) {
    for name in SERVERS {
        let line = fs::read_to_string(format!("/proc/{}/cmdline", cluster[name].pid()))
            .expect("the process runs");
        assert!(!line.contains("bootstrap"), "{line}");
    }
    let members = cluster["B"].cli(&["members", "-detailed"]).success();
    assert!(!members.contains("bootstrap=1"), "{members}");
}

fn clients_join(cluster: &mut Cluster) {
    cluster["D"].start(&[]);
    cluster["D"].wait_until_up();
    cluster["D"].cli(&["join", &cluster.address("C")]).success();
    let put = cluster["D"].cli(&["kv", "put", "from", "a client"]);
    assert_eq!(put.success(), "Success! Data written to: from\n");
    assert_eq!(
        cluster["A"].cli(&["kv", "get", "from"]).success(),
        "a client\n"
    );
    eventually("the client is in the catalog", || {
        let nodes = cluster["D"].json("/v1/catalog/nodes");
        let names: Vec<&str> = nodes
            .as_array()
            .expect("an array")
            .iter()
            .filter_map(|node| node["Node"].as_str())
            .collect();
        if names == ["A", "B", "C", "D"] {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    });
    let rows = table(&cluster["A"].cli(&["members"]).success());
    assert_eq!(rows[4][0], "D");
    assert_eq!(rows[4][3], "client");
}

#[test]
fn a_client_and_a_follower_live_through_the_restart_with_every_write() {
    let mut cluster = Cluster::bootstrapped();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();

    let load = Load::start(&cluster.https(&["D", "B", "D", "C"]), 4, "through");
    load.wait_for_progress(50);
    cluster["A"].interrupt();
    load.wait_for_progress(50);
    cluster["A"].start(&["-server", "-retry-join", &b]);
    cluster.wait_for_voters(&SERVERS);
    load.wait_for_progress(50);
    let written = load.stop();

    assert!(
        written.unknown.is_empty(),
        "a graceful leave refuses nothing: {:?}",
        written.unknown
    );
    for name in ["A", "B", "C", "D"] {
        written.check(cluster[name].http(), "through", "consistent");
    }
    cluster.wait_until_equal(&SERVERS);
    written.check(cluster["A"].http(), "through", "stale");
}

/// A stop is no leave: nobody goes from the peers. But whoever leads hands over before it stops, so that nobody has to find out.
#[test]
fn a_leader_that_is_told_to_stop_hands_over_and_stays_a_voter() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader_among(&SERVERS);
    cluster[&*leader].signal(Signal::TERM);
    let (code, process) = cluster[&*leader].ended();
    assert_eq!(code, Some(1));
    assert_eq!(process.count("transferring leadership: to="), 1);
    assert_eq!(process.count("nobody took over in time"), 0);
    let others: Vec<&str> = SERVERS
        .into_iter()
        .filter(|name| **name != *leader)
        .collect();
    let next = cluster.leader_among(&others);
    let text = cluster[&*next].cli(&["info"]).success();
    assert_eq!(
        info(&text, "raft", "num_peers"),
        "2",
        "all three still vote"
    );
    assert_eq!(cluster[&*next].count("cluster leadership acquired"), 1);
}
