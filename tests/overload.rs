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
