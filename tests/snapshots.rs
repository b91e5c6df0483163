//! Followers that were away while the log was purged get a snapshot, and writes go on meanwhile.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::{Agent, Cluster, Http, Load, SERVERS, eventually};

/// Snapshots after a few writes, and hardly any log behind them.
const OFTEN: &str = r#"{"raft_snapshot_threshold": 200, "raft_trailing_logs": 10}"#;

#[test]
fn a_follower_that_was_away_while_the_log_was_purged_gets_everything() {
    let mut cluster = Cluster::formed();
    let config = cluster.path("often.json");
    fs::write(&config, OFTEN).expect("a writable folder");
    let config = config.display().to_string();
    let flags = ["-server", "-config-file", &config];
    for name in SERVERS {
        cluster[name].kill();
        cluster[name].start(&flags);
    }
    cluster.wait_for_voters(&SERVERS);
    cluster["B"].kill();
    let load = Load::start(&cluster.https(&["A", "C"]), 8, "w");
    let away_at = cluster["A"]
        .info("raft", "last_log_index")
        .expect("an answer");
    let away_at: u64 = away_at.parse().expect("a number");
    // The log of both others begins after what B has.
    for name in ["A", "C"] {
        eventually(&format!("{name} takes snapshots"), || {
            let index = cluster[name].info("raft", "last_snapshot_index")?;
            let index: u64 = index.parse().map_err(|_| index.clone())?;
            if index > away_at + 400 {
                Ok(())
            } else {
                Err(index.to_string())
            }
        });
    }
    cluster["B"].start(&flags);
    eventually("B has a snapshot", || {
        let index = cluster["B"].info("raft", "last_snapshot_index")?;
        let index: u64 = index.parse().map_err(|_| index.clone())?;
        if index > away_at + 100 {
            Ok(())
        } else {
            Err(index.to_string())
        }
    });
    load.wait_for_progress(200);
    let written = load.stop();
    cluster.wait_until_equal(&SERVERS);
    written.check(cluster["B"].http(), "w", "stale");
    // And from its own disk.
    cluster["B"].kill();
    cluster["B"].start(&flags);
    cluster.wait_for_voters(&SERVERS);
    cluster.wait_until_equal(&SERVERS);
    written.check(cluster["B"].http(), "w", "stale");
}

/// A load balancer, or a Kubernetes that replaces servers one by one, must not count on a copy that is old.
#[test]
fn a_follower_that_was_away_is_ready_only_once_it_has_nearly_everything() {
    let mut cluster = Cluster::formed();
    cluster["B"].kill();
    let load = Load::start(&cluster.https(&["A", "C"]), 32, "w");
    load.wait_for_progress(12_000);
    load.stop();
    let index = |cluster: &Cluster, name: &str, of: &str| -> Result<u64, String> {
        let index = cluster[name].info("raft", of)?;
        index.parse().map_err(|_| index)
    };
    let written = index(&cluster, "A", "commit_index").expect("an answer");
    cluster["B"].start(&["-server"]);
    let ready = eventually("B is ready", || {
        match cluster["B"].http().get("/v1/agent/ready") {
            Ok(reply) if reply.status == 200 => Ok(index(&cluster, "B", "applied_index")),
            Ok(reply) => Err(reply.text()),
            Err(error) => Err(error.to_string()),
        }
    });
    let applied = ready.expect("an answer");
    assert!(
        applied + 1024 >= written,
        "ready with {applied} of {written} entries"
    );
}

/// Keys of a state that is large beside a log's cache.
const KEYS: usize = 50_000;

/// Operations of one transaction: as many as are allowed.
const AT_ONCE: usize = 64;

/// Writes every key, with values that tell this round from others.
fn fill(server: Http, round: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(AT_ONCE, Ordering::Relaxed);
                    if first >= KEYS {
                        break;
                    }
                    let keys = first..KEYS.min(first + AT_ONCE);
                    // Digits are base64 too.
                    let set = |key| {
                        format!(
                            r#"{{"KV": {{"Verb": "set", "Key": "m/{key}", "Value": "{round:04}{key:060}"}}}}"#
                        )
                    };
                    let operations: Vec<String> = keys.map(set).collect();
                    let body = format!("[{}]", operations.join(","));
                    let reply = server.put("/v1/txn", body).expect("an answer");
                    assert_eq!(reply.status, 200, "{}", reply.text());
                }
            });
        }
    });
}

/// Everything under the keys of [`fill`], as a server itself has it, indexes and flags included.
fn content(server: &Agent) -> String {
    let reply = server.get("/v1/kv/m/?recurse&stale");
    reply.text()
}

fn index(server: &Agent, of: &str) -> u64 {
    let index = server.info("raft", of).expect("an answer");
    index.parse().expect("a number")
}

/// How long the files of a folder are together.
fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("readable");
    files
        .map(|file| {
            file.and_then(|file| file.metadata())
                .expect("readable")
                .len()
        })
        .sum()
}

/// Bytes that a process has read from files since it began; what comes from sockets is not among them.
fn bytes_read(server: &Agent) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", server.pid())).expect("it runs");
    let read = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.expect("a line of that name")
        .parse()
        .expect("a number")
}

/// What a snapshot brings is compared key by key, and a restart must not depend on how much was ever written.
#[test]
fn a_large_state_is_the_same_after_a_snapshot_and_a_restart_reads_no_more_than_that_and_the_log_after_it()
 {
    let mut cluster = Cluster::formed();
    let config = cluster.path("often.json");
    fs::write(&config, OFTEN).expect("a writable folder");
    let config = config.display().to_string();
    let flags = ["-server", "-config-file", &config];
    for name in SERVERS {
        cluster[name].kill();
        cluster[name].start(&flags);
    }
    cluster.wait_for_voters(&SERVERS);
    cluster["B"].kill();
    let leader = cluster.leader_among(&["A", "C"]);
    let away_at = index(&cluster[&leader], "last_log_index");
    for round in 0..4 {
        fill(cluster[&leader].http(), round);
    }
    let written = index(&cluster[&leader], "last_log_index");
    for name in ["A", "C"] {
        eventually(&format!("{name} has taken snapshots"), || {
            match index(&cluster[name], "last_snapshot_index") {
                index if index > (away_at + written) / 2 => Ok(()),
                index => Err(index),
            }
        });
    }
    cluster["B"].start(&flags);
    cluster.wait_until_equal(&SERVERS);
    assert!(
        index(&cluster["B"], "last_snapshot_index") > away_at,
        "it got all of it entry by entry"
    );
    let expected = content(&cluster[&leader]);
    assert_eq!(expected.matches("\"Key\"").count(), KEYS);
    // Not `assert_eq`: a difference would print all of it.
    for name in SERVERS {
        assert!(
            content(&cluster[name]) == expected,
            "{name} has other contents"
        );
    }

    cluster["B"].kill();
    let raft = cluster["B"].data.join("raft");
    let (snapshots, log) = (
        bytes_in(&raft.join("snapshots")),
        bytes_in(&raft.join("wal")),
    );
    cluster["B"].start(&flags);
    cluster.wait_until_equal(&SERVERS);
    let read = bytes_read(&cluster["B"]);
    // Of the log, what the cache does not hold is read once more to be applied. Node id, gossip's memory and the program's
    // libraries are short beside that.
    let most = snapshots + 2 * log + (1 << 20);
    assert!(
        read <= most,
        "{read} bytes read, with {snapshots} in snapshots and {log} in the log"
    );
    assert!(
        content(&cluster["B"]) == expected,
        "a restart has changed it"
    );
    println!("{read} bytes read, with {snapshots} in snapshots and {log} in the log");
}
