//! Rule 7 of DESIGN.md with real processes: a server that lost its log must not elect itself out of history.

use std::fs;
use std::time::{Duration, Instant};

use tests::{Cluster, Load, Random, SERVERS, Signal, seed};

/// How often A loses its log.
const ROUNDS: usize = 5;

/// How long A stays cut off: several election timeouts.
const CUT_OFF: Duration = Duration::from_secs(4);

#[test]
fn a_server_without_its_log_never_leads_alone() {
    let mut random = Random::new(seed());
    let mut cluster = Cluster::bootstrapped();
    let load = Load::start(&cluster.https(&["B", "C"]), 2, "history");
    load.wait_for_progress(100);
    let written = load.stop();

    for round in 0..ROUNDS {
        cluster["A"].kill();
        let data = cluster["A"].data.clone();
        fs::rename(data.join("raft"), data.join(format!("raft.{round}"))).expect("A is down");
        let leader = cluster.leader_among(&["B", "C"]);
        let mark = cluster[leader.as_str()].mark();
        let b = cluster.address("B");
        cluster["A"].start(&["-server", "-retry-join", &b, "-retry-interval=1s"]);
        // Cut off while it catches up, at a moment of its own in every round.
        let added = format!("Added peer {}", cluster["A"].server_address());
        cluster[leader.as_str()].wait_for_line_after(mark, &added);
        std::thread::sleep(random.time_up_to(Duration::from_millis(20)));
        for name in ["B", "C"] {
            cluster[name].signal(Signal::STOP);
        }
        leads_nobody(&cluster);
        for name in ["B", "C"] {
            cluster[name].signal(Signal::CONT);
        }
        cluster.wait_for_voters(&SERVERS);
        for name in SERVERS {
            written.check(cluster[name].http(), "history", "consistent");
        }
    }
}

fn leads_nobody(cluster: &Cluster) {
    let start = Instant::now();
    let mut attempts = 0;
    while start.elapsed() < CUT_OFF {
        let write = cluster["A"].http().request_within(
            Duration::from_secs(1),
            "PUT",
            &format!("/v1/kv/alone/{attempts}"),
            b"must not be accepted",
        );
        assert!(
            !matches!(&write, Ok(reply) if reply.status == 200),
            "A accepted a write by itself: {write:?}"
        );
        attempts += 1;
    }
    assert_eq!(cluster["A"].count("cluster leadership acquired"), 0);
}
