//! More writes at a time than a server takes on: the rest is refused at once, and says when to come again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tests::{Cluster, SERVERS, Signal, eventually};

/// Writers of half a MiB each: together more than the 64 MiB that a server works on at a time.
const WRITERS: usize = 180;

/// Longer than any request is held.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn more_than_a_server_takes_on_is_refused_at_once_and_nothing_is_lost() {
    let cluster = Cluster::formed();
    let leader = cluster.leader_among(&SERVERS);
    let others: Vec<&str> = SERVERS
        .into_iter()
        .filter(|name| **name != *leader)
        .collect();
    // Without a quorum nothing is done, so that everything stays under way.
    for name in &others {
        cluster[*name].signal(Signal::STOP);
    }
    let value = "x".repeat(500_000);
    let http = cluster[&leader].http();
    let refused = AtomicUsize::new(0);
    let replies: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (value, refused) = (&value, &refused);
                scope.spawn(move || {
                    let path = format!("/v1/kv/{number}");
                    let reply = http.request_within(PATIENCE, "PUT", &path, value.as_bytes());
                    let reply = reply.expect("an answer");
                    if reply.status == 503 {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    reply
                })
            })
            .collect();
        eventually("some are refused", || {
            match refused.load(Ordering::Relaxed) {
                0 => Err("none"),
                _ => Ok(()),
            }
        });
        for name in &others {
            cluster[*name].signal(Signal::CONT);
        }
        writers
            .into_iter()
            .map(|writer| writer.join().expect("writers do not panic"))
            .collect()
    });
    let busy: Vec<_> = replies.iter().filter(|reply| reply.status == 503).collect();
    for reply in &busy {
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert!(reply.text().contains("try again later"), "{}", reply.text());
    }
    eventually("writes are accepted again", || {
        let reply = http.put("/v1/kv/after", "x").map_err(|e| e.to_string())?;
        if reply.status == 200 {
            Ok(())
        } else {
            Err(reply.text())
        }
    });
    for (number, reply) in replies.iter().enumerate() {
        if reply.status == 503 {
            assert_eq!(
                http.get(&format!("/v1/kv/{number}"))
                    .expect("an answer")
                    .status,
                404
            );
        }
    }
}

/// Without a quorum, yet with a follower that knows its leader: two of four servers are stopped.
#[test]
fn what_the_leader_refuses_is_refused_at_a_follower_too_and_queues_nowhere() {
    let mut cluster = Cluster::new();
    // What a leader cannot do now stays with it for as long as a request may take.
    let patient = cluster.path("patient.json");
    let settings = r#"{"performance": {"rpc_hold_timeout": "60s"}}"#;
    std::fs::write(&patient, settings).expect("writable");
    let patient = patient.display().to_string();
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &patient]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let to_join = cluster.address("A");
    for name in ["B", "C", "D"] {
        cluster[name].start(&["-server", "-retry-join", &to_join]);
    }
    cluster.wait_for_voters(&["A", "B", "C", "D"]);
    let stopped = ["C", "D"];
    for name in stopped {
        cluster[name].signal(Signal::STOP);
    }
    let value = "x".repeat(500_000);
    let refused = AtomicUsize::new(0);
    let (at_leader, at_follower) = (cluster["A"].http(), cluster["B"].http());
    let put = |http: &tests::Http, path: String| {
        let reply = http.request_within(PATIENCE, "PUT", &path, value.as_bytes());
        reply.expect("an answer")
    };
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (put, refused, at_leader) = (&put, &refused, &at_leader);
            scope.spawn(move || {
                if put(at_leader, format!("/v1/kv/leader/{number}")).status == 503 {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("the leader is full", || {
            match refused.load(Ordering::Relaxed) {
                0 => Err("not yet"),
                _ => Ok(()),
            }
        });
        // More than the follower itself takes on at a time, were they to wait there: were nothing refused, the last ones
        // would find it full. Each is answered while the leader still is: nothing of it can be done.
        for number in 0..WRITERS {
            let reply = put(&at_follower, format!("/v1/kv/follower/{number}"));
            assert_eq!(reply.status, 503, "{}", reply.text());
            assert_eq!(reply.header("retry-after"), Some("1"));
            assert!(reply.text().contains("try again later"), "{}", reply.text());
        }
        for name in stopped {
            cluster[name].signal(Signal::CONT);
        }
    });
    eventually("writes through the follower are accepted again", || {
        let reply = at_follower.put("/v1/kv/after", "x");
        let reply = reply.map_err(|e| e.to_string())?;
        match reply.status {
            200 => Ok(()),
            _ => Err(reply.text()),
        }
    });
    let reply = at_follower.get("/v1/kv/follower/?keys");
    assert_eq!(reply.expect("an answer").status, 404, "something was done");
}
