//! Followers that were away while the log was purged get a snapshot, and writes go on meanwhile.

use std::fs;

use tests::{Cluster, Load, SERVERS, eventually};

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
