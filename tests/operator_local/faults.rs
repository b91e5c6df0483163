//! The operator and its agents killed at any moment, and clusters that should not be.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tests::{Random, binary, eventually};

use crate::local::{Local, condition, kill};

#[test]
fn the_operator_killed_after_every_step_and_started_again() {
    let local = Local::new("{servers: 3, clients: 1}");
    let steps = |said: &str| {
        said.lines()
            .filter(|line| line.get(9..12) == Some("s  "))
            .count()
    };
    // Each round lets one more step be taken than the round before.
    for round in 1.. {
        let mut up = local.up();
        let over = eventually("one more step", || {
            let said = local.said();
            match (steps(&said) >= round, said.contains("steady:")) {
                (_, true) => Ok(true),
                (true, false) => Ok(false),
                (false, false) => Err(said),
            }
        });
        up.kill();
        if over {
            break;
        }
        // The cache is lost, too: every other time.
        if round % 2 == 0 && local.dir().join("demo-server-0/raft").exists() {
            let _ = fs::remove_file(local.dir().join("state.json"));
        }
    }
    let said = local.operator("up", &["--detach"]).success();
    assert!(said.contains("steady: 3 of 3"), "{said}");
    let status = local.wait_until_steady(3);
    assert_eq!(condition(&status, "Bootstrapped"), "True");
    assert_eq!(local.clusters_formed(), 1, "one bootstrap only");
    local.operator("destroy", &["--yes"]).success();
}

#[test]
fn random_kills_lose_no_acknowledged_write() {
    const ROUNDS: usize = 60;
    let local = Local::new("{servers: 3, clients: 1}");
    let seed = tests::seed();

    let mut random = Random::new(seed);
    let mut up = local.up();
    local.wait_until_steady(3);
    let mut written = Vec::new();
    for round in 0..ROUNDS {
        // Now and then the operator, too, or everybody at once.
        let agents = local.agents();
        match random.below(10) {
            0 => agents.iter().for_each(|(pid, _)| kill(*pid)),
            1 => {
                up.kill();
                up = local.up();
            }
            _ if agents.is_empty() => {}
            _ => kill(random.pick(&agents).0),
        }
        for number in 0..3 {
            let (key, value) = (format!("r{round}n{number}"), round.to_string());
            let reply = local.server(number).put(&format!("/v1/kv/{key}"), &value);
            if reply.is_ok_and(|reply| reply.status == 200 && reply.text() == "true") {
                written.push((key, value));
            }
        }
        if random.below(3) == 0 {
            local.wait_until_steady(3);
        }
    }
    local.wait_until_steady(3);
    assert!(!written.is_empty(), "nothing was ever acknowledged");
    for (key, value) in &written {
        let reply = local
            .server(0)
            .get(&format!("/v1/kv/{key}?raw&consistent"))
            .expect("an answer");
        assert_eq!(
            &reply.text(),
            value,
            "{key} was acknowledged: {}",
            local.said()
        );
    }
    assert_eq!(local.clusters_formed(), 1, "one bootstrap only");
    assert_eq!(up.interrupt(), Some(0));
}

/// A third server that a person starts with the flag.
fn second_seed(local: &Local, data: &Path) -> Child {
    let ip = local.block.ip(3).to_string();
    let mut second = Command::new(binary("agent"));
    second
        .args(["-server", "-bootstrap", "-node", "demo-server-2"])
        .args(["-bind", &ip, "-client", &ip])
        .arg("-data-dir")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    second.spawn().expect("the agent starts")
}

#[test]
fn a_second_bootstrap_server_is_repaired() {
    let local = Local::new("{servers: 3}");
    local.operator("up", &["--detach"]).success();
    let id = local.status()["status"]["clusterID"].clone();
    // A person replaces the third server by one that forms a cluster of its own.
    local.kill("demo-server-2");
    let data = local.dir().join("demo-server-2");
    let raft = data.join("raft");
    eventually("it is gone", || {
        if local.agents().len() == 2 {
            Ok(())
        } else {
            Err("still there")
        }
    });
    fs::remove_dir_all(&data).expect("its data can be removed");
    let mut second = second_seed(&local, &data);
    eventually("it leads a cluster of its own", || {
        // The one that was killed keeps its addresses for a moment.
        if second.try_wait().expect("a child").is_some() {
            second = second_seed(&local, &data);
        }
        let identity = fs::read_to_string(raft.join("identity.json")).unwrap_or_default();
        let reply = local
            .server(2)
            .get("/v1/status/leader")
            .map(|reply| reply.text())
            .unwrap_or_default();
        if reply.contains(":8300") && identity.contains("cluster_id") {
            Ok(())
        } else {
            Err(format!("{reply} {identity}"))
        }
    });
    let status = local.status()["status"].clone();
    assert_eq!(
        (
            condition(&status, "SingleCluster"),
            condition(&status, "Ready")
        ),
        ("False", "False"),
        "{status}"
    );
    let mut up = local.up();
    let status = local.wait_until_steady(3);
    let said = local.said();
    assert!(
        said.contains("second bootstrap server: stop demo-server-2"),
        "{said}"
    );
    assert_eq!(status["clusterID"], id);
    let names = fs::read_dir(&data)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let aside: Vec<_> = names
        .filter(|name| name.starts_with("raft.aside-20"))
        .collect();
    assert_eq!(aside.len(), 1, "moved aside, not deleted: {aside:?}");
    assert!(
        local
            .agents()
            .iter()
            .all(|(_, line)| !line.contains("-bootstrap"))
    );
    let _ = second.wait();
    up.interrupt();
}

#[test]
fn a_strangers_cluster_in_gossip_is_reported_and_not_touched() {
    let local = Local::new("{servers: 3}");
    let _up = local.up();
    local.wait_until_steady(3);
    let mut stranger = tests::Agent::new(
        "stranger",
        local.block.ip(9),
        &local.folder.path().join("stranger"),
    );
    stranger.start(&["-server", "-bootstrap"]);
    stranger.wait_for_line("consul: cluster leadership acquired");
    stranger.wait_until_up();
    let path = format!("/v1/agent/join/{}", local.block.ip(1));
    assert_eq!(
        stranger.http().put(&path, "").expect("an answer").status,
        200
    );
    let status = local.wait_for("it is reported", |status| {
        status["foreign"][0]["name"] == "stranger"
    });
    assert_eq!(
        (
            condition(&status, "SingleCluster"),
            condition(&status, "Ready")
        ),
        ("False", "False"),
        "{status}"
    );
    assert_eq!(condition(&status, "Available"), "True", "{status}");
    assert_eq!(status["voters"], 3, "never added");
    stranger.kill();
    local.wait_for("it is gone again", |status| {
        condition(status, "Ready") == "True"
    });
}
