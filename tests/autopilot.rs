//! Autopilot: its settings are the cluster's, its word on health is the leader's, and it never breaks the quorum.

use serde_json::Value;
use tests::{Agent, Cluster, Load, SERVERS, Signal, eventually};

fn health(agent: &Agent) -> Result<(u16, Value), String> {
    let reply = agent
        .http()
        .get("/v1/operator/autopilot/health")
        .map_err(|e| e.to_string())?;
    match reply.status {
        200 | 429 => Ok((reply.status, reply.json())),
        other => Err(format!("{other} {}", reply.text())),
    }
}

fn wait_until_healthy(agent: &Agent) {
    eventually("all servers are healthy", || {
        let (status, shown) = health(agent)?;
        if status == 200 && shown["Healthy"] == true {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    });
}

#[test]
fn settings_are_replicated_and_obeyed_and_health_is_told() {
    let mut cluster = Cluster::formed();
    for name in ["D", "E"] {
        let a = cluster.address("A");
        cluster[name].start(&["-server", "-retry-join", &a]);
    }
    let all = ["A", "B", "C", "D", "E"];
    cluster.wait_for_voters(&all);
    wait_until_healthy(&cluster["B"]);
    let (_, shown) = health(&cluster["C"]).expect("an answer");
    assert_eq!(shown["FailureTolerance"], 2);
    assert_eq!(shown["Servers"].as_array().map(Vec::len), Some(5));

    // Nobody is removed while the settings say so, whoever leads.
    let said = cluster["B"].cli(&[
        "operator",
        "autopilot",
        "set-config",
        "-cleanup-dead-servers=false",
    ]);
    assert_eq!(said.success(), "Configuration updated!\n");
    let leader = cluster.leader_among(&all);
    let dead: Vec<&str> = all
        .into_iter()
        .filter(|name| *name != leader)
        .take(2)
        .collect();
    let alive: Vec<&str> = all
        .into_iter()
        .filter(|name| !dead.contains(name))
        .collect();
    for name in &dead {
        cluster[*name].kill();
    }
    for name in &dead {
        cluster[alive[0]].wait_for_line(&format!("serf: EventMemberFailed: {name}"));
    }
    eventually("the dead are unhealthy", || {
        let (status, shown) = health(&cluster[alive[0]])?;
        if status == 429 && shown["FailureTolerance"] == 0 {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    });
    let state = cluster[alive[0]]
        .cli(&["operator", "autopilot", "state"])
        .success();
    assert!(state.starts_with("Healthy:           false\n"), "{state}");
    assert_eq!(cluster[alive[0]].voters().map(|v| v.len()), Ok(5));

    // Allowed again, both go: three of three tolerate one failure more than three of five.
    let said = cluster[alive[1]].cli(&[
        "operator",
        "autopilot",
        "set-config",
        "-cleanup-dead-servers=true",
    ]);
    said.success();
    cluster.wait_for_voters(&alive);
    wait_until_healthy(&cluster[alive[0]]);
    let shown = cluster[alive[2]]
        .cli(&["operator", "autopilot", "get-config"])
        .success();
    assert!(shown.starts_with("CleanupDeadServers = true\n"), "{shown}");
}

#[test]
fn a_server_that_was_cut_off_comes_back_without_disturbing_the_leader() {
    let cluster = Cluster::formed();
    let leader = cluster.leader_among(&SERVERS);
    let cut = *SERVERS
        .iter()
        .find(|name| **name != leader)
        .expect("a follower");
    let load = Load::start(&cluster.https(&[&leader]), 4, "w");
    load.wait_for_progress(50);
    let term = cluster[&leader].info("raft", "term").expect("an answer");
    for _ in 0..3 {
        // It hears nothing for longer than any election timeout.
        cluster[cut].signal(Signal::STOP);
        eventually("the leader misses it", || {
            let (_, shown) = health(&cluster[&leader])?;
            if shown["Healthy"] == false {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        });
        load.wait_for_progress(500);
        cluster[cut].signal(Signal::CONT);
        wait_until_healthy(&cluster[&leader]);
    }
    assert_eq!(cluster[&leader].info("raft", "term").as_deref(), Ok(&*term));
    let written = load.stop();
    assert_eq!(cluster.leader_among(&SERVERS), leader);
    written.check(cluster[cut].http(), "w", "consistent");
}
