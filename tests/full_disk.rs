//! Servers whose disk is full: they lead nobody, say so, answer stale reads, disturb nobody, and go on by themselves when
//! there is room. Nothing that was acknowledged is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::{Agent, Cluster, Load, SERVERS, SmallDisk, eventually};

/// A small file system under the data dir of `name`.
fn small_disk(cluster: &Cluster, name: &str, mebibytes: u32) -> SmallDisk {
    SmallDisk::mount(&cluster[name].data, mebibytes)
}

fn is_full(agent: &Agent) -> Result<(), String> {
    match agent.info("raft", "disk_full")?.as_str() {
        "true" => Ok(()),
        other => Err(format!("disk_full is {other}")),
    }
}

/// Takes all the room and writes large values through `through`, until `name` finds its disk full.
fn fill(cluster: &Cluster, disk: &SmallDisk, name: &str, through: &str) {
    disk.fill();
    let value = "x".repeat(300_000);
    eventually(&format!("{name} finds its disk full"), || {
        // Refused or taken: what counts is what it does to the log.
        let _ = cluster[through].http().put("/v1/kv/large", &value);
        is_full(&cluster[name])
    });
}

/// Waits until `name` is ready, which says so when its disk has room and it has caught up.
fn wait_until_ready(agent: &Agent) {
    eventually(&format!("{} is ready", agent.name), || {
        let reply = agent.http().get("/v1/agent/ready")?;
        if reply.status == 200 {
            Ok(())
        } else {
            Err(std::io::Error::other(reply.text()))
        }
    });
}

/// Hands leadership to `name`.
fn lead(cluster: &Cluster, name: &str) {
    let id = cluster[name].json("/v1/agent/self")["Config"]["NodeID"]
        .as_str()
        .expect("a node id")
        .to_owned();
    let path = format!("/v1/operator/raft/transfer-leader?id={id}");
    let address = cluster[name].server_address();
    eventually(&format!("{name} leads"), || {
        if cluster["B"].leader()? != address {
            cluster["B"]
                .http()
                .put(&path, "")
                .map_err(|e| e.to_string())?;
        }
        let leader = cluster["B"].leader()?;
        if leader == address {
            Ok(())
        } else {
            Err(leader)
        }
    });
}

#[test]
fn a_leader_with_a_full_disk_hands_over_and_takes_its_part_again_when_there_is_room() {
    let mut cluster = Cluster::new();
    let disk = small_disk(&cluster, "A", 64);
    cluster.form();
    lead(&cluster, "A");
    let load = Load::start(&cluster.https(&SERVERS), 6, "w");
    load.wait_for_progress(100);

    fill(&cluster, &disk, "A", "A");
    let leader = cluster.leader_among(&["B", "C"]);
    cluster["A"].wait_for_line("no room on the disk");
    let ready = cluster["A"].get("/v1/agent/ready");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(
        ready.text().contains("no room on the disk"),
        "{}",
        ready.text()
    );

    // It disturbs nobody: the term stays, while others write and it answers stale reads.
    let term = cluster[&leader].info("raft", "term").expect("an answer");
    load.wait_for_progress(500);
    assert!(cluster["A"].value("large", "stale").is_some());
    load.wait_for_progress(500);
    is_full(&cluster["A"]).expect("still full");
    assert_eq!(cluster[&leader].info("raft", "term").as_deref(), Ok(&*term));
    // What comes to it is passed on.
    cluster["A"].put("/v1/kv/through-a", "is written");

    disk.make_room();
    cluster["A"].wait_for_line("there is room on the disk again");
    load.wait_for_progress(100);
    let written = load.stop();
    wait_until_ready(&cluster["A"]);
    cluster.wait_until_equal(&SERVERS);
    for name in SERVERS {
        written.check(cluster[name].http(), "w", "stale");
    }
    lead(&cluster, "A");
    cluster["A"].put("/v1/kv/again", "led by A");
    cluster["A"].kill();
}

#[test]
fn a_server_killed_on_its_full_disk_comes_back_with_everything() {
    let mut cluster = Cluster::new();
    let disk = small_disk(&cluster, "B", 64);
    cluster.form();
    let load = Load::start(&cluster.https(&["A", "C"]), 4, "w");
    load.wait_for_progress(100);
    fill(&cluster, &disk, "B", "A");
    cluster["B"].kill();
    cluster["B"].start(&["-server"]);
    load.wait_for_progress(200);
    disk.make_room();
    let written = load.stop();
    if !cluster["B"].is_running() {
        // There was not even room to start.
        cluster["B"].ended();
        cluster["B"].start(&["-server"]);
    }
    wait_until_ready(&cluster["B"]);
    cluster.wait_until_equal(&SERVERS);
    written.check(cluster["B"].http(), "w", "stale");
    cluster["B"].kill();
}

#[test]
fn the_only_server_refuses_writes_and_answers_reads_until_there_is_room() {
    let mut cluster = Cluster::new();
    let disk = small_disk(&cluster, "A", 24);
    cluster["A"].start(&["-server", "-bootstrap"]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let value = "x".repeat(400_000);
    let mut written = 0;
    let refused = loop {
        let reply = cluster["A"]
            .http()
            .put(&format!("/v1/kv/{written}"), &value)
            .expect("an answer");
        if reply.status != 200 {
            break reply;
        }
        written += 1;
        assert!(written < 100, "a small disk takes that much");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert!(
        refused.text().contains("No space left on device"),
        "{}",
        refused.text()
    );
    let data = cluster["A"].data.display().to_string();
    assert!(
        refused.text().contains(&data),
        "names the file: {}",
        refused.text()
    );
    for mode in ["", "consistent", "stale"] {
        assert_eq!(cluster["A"].value("0", mode).as_deref(), Some(&*value));
    }
    disk.resize(80);
    cluster["A"].wait_for_line("there is room on the disk again");
    cluster["A"].put("/v1/kv/more", "is taken");
    // Before the disk is taken away.
    cluster["A"].kill();
}

/// More at a time than the last segment has room for: some are accepted by Raft and wait for the disk.
#[test]
fn what_waits_for_the_disk_itself_is_written_when_there_is_room() {
    let mut cluster = Cluster::new();
    let disk = small_disk(&cluster, "A", 24);
    cluster["A"].start(&["-server", "-bootstrap"]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let value = "y".repeat(500_000);
    let stop = AtomicBool::new(false);
    let acknowledged: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..40)
            .map(|writer| {
                let (http, value, stop) = (cluster["A"].http(), &value, &stop);
                scope.spawn(move || {
                    let mut done = Vec::new();
                    for serial in 0..50 {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let key = format!("{writer}/{serial}");
                        let put = http.request_within(
                            Duration::from_secs(60),
                            "PUT",
                            &format!("/v1/kv/{key}"),
                            value.as_bytes(),
                        );
                        match put {
                            Ok(reply) if reply.status == 200 => done.push(key),
                            _ => break,
                        }
                    }
                    done
                })
            })
            .collect();
        eventually("A finds its disk full", || is_full(&cluster["A"]));
        stop.store(true, Ordering::Relaxed);
        assert!(cluster["A"].get("/v1/kv/?keys&stale").status < 500);
        disk.resize(160);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("writers do not panic"))
            .collect()
    });
    wait_until_ready(&cluster["A"]);
    for key in &acknowledged {
        assert_eq!(
            cluster["A"].value(key, "consistent").as_deref(),
            Some(&*value),
            "{key}"
        );
    }
    // And from the disk.
    cluster["A"].kill();
    cluster["A"].start(&["-server"]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    for key in &acknowledged {
        assert_eq!(
            cluster["A"].value(key, "").as_deref(),
            Some(&*value),
            "{key}"
        );
    }
    cluster["A"].kill();
}
