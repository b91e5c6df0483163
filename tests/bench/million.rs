//! A large state: what a snapshot, its restoring on a follower that was away, and a restart take, and how long the
//! slowest write waits meanwhile.
//!
//! `BENCH_KEYS` (default 1,000,000) keys of 128 bytes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::{Agent, Cluster, Connection, Http, SERVERS, eventually};

use crate::{REQUEST_LIMIT, VALUE, WRITERS, setting};

/// Longest that a write may wait because of all this.
const STALL_MAX: Duration = Duration::from_millis(50);

/// Writers that keep the log growing while something is measured.
const BESIDE: usize = 4;

/// What each of their writes holds: a snapshot is due when the log has grown by as much as the state is large.
static FILLER: [u8; 4096] = [b'f'; 4096];

/// What was seen of the writes in some stretch of time.
#[derive(Clone, Copy, Default)]
struct Seen {
    writes: u64,
    longest: Duration,
}

/// One writer beside everything, whose every write is timed.
struct Probe {
    seen: Mutex<Seen>,
    stop: AtomicBool,
}

impl Probe {
    fn run(&self, server: Http) {
        let mut connection = open(server);
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            put(&mut connection, "probe", &VALUE);
            let took = begun.elapsed();
            let mut seen = self.seen.lock().expect("nobody panics while it holds this");
            seen.writes += 1;
            seen.longest = seen.longest.max(took);
        }
    }

    fn reset(&self) {
        *self.seen.lock().expect("nobody panics while it holds this") = Seen::default();
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().expect("nobody panics while it holds this")
    }
}

fn open(server: Http) -> Connection {
    Connection::open(server.address, REQUEST_LIMIT).expect("the server answers")
}

fn put(connection: &mut Connection, key: &str, value: &[u8]) {
    let reply = connection
        .request("PUT", &format!("/v1/kv/{key}"), value)
        .expect("the server answers");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Prints the figures; whether no write waited too long.
pub(crate) fn run() -> bool {
    let keys = usize::try_from(setting("BENCH_KEYS", 1_000_000)).expect("a number of keys");
    let mut cluster = Cluster::formed();
    let leader = cluster.leader_among(&SERVERS);
    let away = *SERVERS
        .iter()
        .find(|name| **name != leader)
        .expect("three servers");
    cluster[away].kill();
    let http = cluster[&leader].http();
    let begun = Instant::now();
    fill(http, keys, WRITERS);
    println!(
        "{keys} keys of {} B written in {:.1} s",
        VALUE.len(),
        begun.elapsed().as_secs_f64()
    );

    let probe = Probe {
        seen: Mutex::default(),
        stop: AtomicBool::new(false),
    };
    let mut rows = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| probe.run(http));
        rows.push(during(&probe, "idle but for the writers", || {
            let from = probe.seen().writes;
            eventually("some writes are made", || {
                match probe.seen().writes - from {
                    done if done >= 1000 => Ok(()),
                    done => Err(done),
                }
            });
        }));
        rows.push(during(&probe, "snapshot taken", || {
            beside(&cluster[&leader], |leader| {
                let before = snapshot_index(leader);
                eventually("a snapshot is taken", || match snapshot_index(leader) {
                    index if index > before => Ok(()),
                    index => Err(index),
                });
            });
        }));
        rows.push(during(&probe, "restored on a follower", || {
            cluster[away].start(&["-server"]);
            wait_until_caught_up(&cluster[away], &cluster[&leader]);
        }));
        rows.push(during(&probe, "follower restarted", || {
            cluster[away].kill();
            cluster[away].start(&["-server"]);
            wait_until_caught_up(&cluster[away], &cluster[&leader]);
        }));
        probe.stop.store(true, Ordering::Relaxed);
    });
    println!(
        "{:<28}  {:>8}  {:>8}  {:>14}",
        "what", "took", "writes", "longest write"
    );
    for (what, took, seen) in &rows {
        println!(
            "{what:<28}  {:>6.2} s  {:>8}  {:>11.1} ms",
            took.as_secs_f64(),
            seen.writes,
            seen.longest.as_secs_f64() * 1000.0
        );
    }
    rows.iter().all(|(.., seen)| seen.longest <= STALL_MAX)
}

fn during(
    probe: &Probe,
    what: &'static str,
    work: impl FnOnce(),
) -> (&'static str, Duration, Seen) {
    probe.reset();
    let begun = Instant::now();
    work();
    (what, begun.elapsed(), probe.seen())
}

/// Writes every key once.
fn fill(server: Http, keys: usize, writers: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let mut connection = open(server);
                loop {
                    let key = next.fetch_add(1, Ordering::Relaxed);
                    if key >= keys {
                        break;
                    }
                    put(&mut connection, &format!("m/{key}"), &VALUE);
                }
            });
        }
    });
}

/// Lets a few writers make the log grow while `work` goes on.
fn beside(server: &Agent, work: impl FnOnce(&Agent)) {
    let stop = AtomicBool::new(false);
    let http = server.http();
    std::thread::scope(|scope| {
        for writer in 0..BESIDE {
            let stop = &stop;
            scope.spawn(move || {
                let mut connection = open(http);
                while !stop.load(Ordering::Relaxed) {
                    put(&mut connection, &format!("filler/{writer}"), &FILLER);
                }
            });
        }
        work(server);
        stop.store(true, Ordering::Relaxed);
    });
}

fn snapshot_index(server: &Agent) -> u64 {
    let index = server
        .info("raft", "last_snapshot_index")
        .expect("an answer");
    index.parse().expect("a number")
}

/// Waits until `server` has all that `leader` has now.
fn wait_until_caught_up(server: &Agent, leader: &Agent) {
    let index = |agent: &Agent| -> Result<u64, String> {
        let index = agent.info("raft", "applied_index")?;
        index.parse().map_err(|_| index)
    };
    let wanted = index(leader).expect("an answer");
    eventually(&format!("{} has caught up", server.name), || {
        match index(server)? {
            found if found >= wanted => Ok(()),
            found => Err(format!("{found} of {wanted}")),
        }
    });
}
