//! Many services, written by a hundred nodes at once and read by name: what one costs as they become more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Cluster, Connection, SERVERS};

use crate::core::Usage;
use crate::table::{Row, print, row};
use crate::{REQUEST_LIMIT, median_of, servers, setting};

/// Nodes that register services, each over a connection of its own.
const NODES: usize = 100;

/// Instances of each service, but for the one that every node has.
const INSTANCES: usize = 10;

/// The service that every node has.
const WIDE: &str = "wide";

/// Clients that read at once.
const READERS: usize = 4;

/// How often what is compared is measured.
const ROUNDS: usize = 5;

/// Most that a cost may grow by where the answer stays the same: tables are trees, and a hundred times the rows are some steps
/// more.
const GROWTH_MAX: f64 = 1.5;

/// What a number of requests took.
struct Took {
    requests: usize,
    time: Duration,
    /// Of all servers, on a processor.
    cpu: Duration,
}

impl Took {
    fn rate(&self) -> f64 {
        self.requests as f64 / self.time.as_secs_f64()
    }

    /// Microseconds on a processor.
    fn each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }
}

/// Paths of the reads that are measured.
const PATHS: [&str; 2] = [
    "/v1/health/service/NAME?passing",
    "/v1/catalog/service/NAME",
];

pub(super) fn run() -> bool {
    let each = (setting("BENCH_CATALOG_SERVICES", 10_000) as usize / NODES).max(2);
    let reads = setting("BENCH_CATALOG_READS", 20_000) as usize / ROUNDS;
    // Measured in turns, so that what the machine does meanwhile counts for both.
    let (small, large) = (servers(), servers());
    register(&small, 0, 1, 0);
    let written = register(&large, 0, each, 0);
    let mut rows = vec![
        row("registered a second", "", f64::NAN, written.rate()),
        row(
            "CPU of a registration, all servers",
            "us",
            f64::NAN,
            written.each(),
        ),
    ];
    let again = |cluster, round| register(cluster, 0, 1, 1 + round).each();
    rows.push(row(
        format!(
            "CPU of a change with {} services, times that with {NODES}",
            each * NODES
        ),
        "x",
        GROWTH_MAX,
        ratio(|round| again(&large, round), |round| again(&small, round)),
    ));
    for path in PATHS {
        rows.extend(grown(&small, &large, path, reads, each));
    }
    register_wide(&large);
    for path in PATHS {
        let wide = || read(&large, path, reads / 4, &[WIDE.to_owned()]).each();
        let narrow = || read(&large, path, reads, &names(each)).each();
        rows.push(row(
            format!("{path}: CPU for {NODES} instances, times {INSTANCES}'s"),
            "x",
            NODES as f64 / INSTANCES as f64,
            ratio(|_| wide(), |_| narrow()),
        ));
    }
    let title = format!("{} services on {NODES} nodes, all over HTTP", each * NODES);
    print(&title, &rows)
}

/// What a read costs in the large catalog, and that against the small one. Of the same names, so that the processor's caches
/// help both alike; reading all names in turn costs what it does because they do not.
fn grown(small: &Cluster, large: &Cluster, path: &str, reads: usize, each: usize) -> [Row; 4] {
    let (few, all) = (names(1), names(each));
    let cost = |cluster, names: &[String]| read(cluster, path, reads, names).each();
    let took = read(large, path, reads, &all);
    [
        row(
            format!("{path} ({INSTANCES} instances), a second"),
            "",
            f64::NAN,
            took.rate(),
        ),
        row(format!("{path}: CPU"), "us", f64::NAN, took.each()),
        row(
            format!("{path}: CPU, times that with {NODES} services"),
            "x",
            GROWTH_MAX,
            ratio(|_| cost(large, &few), |_| cost(small, &few)),
        ),
        row(
            format!("{path}: all names in turn, times {} of them", few.len()),
            "x",
            f64::NAN,
            ratio(|_| cost(large, &all), |_| cost(large, &few)),
        ),
    ]
}

/// How many times what the second one costs the first one does: the median of some rounds.
fn ratio(one: impl Fn(usize) -> f64, other: impl Fn(usize) -> f64) -> f64 {
    median_of((0..ROUNDS).map(|round| one(round) / other(round)).collect())
}

/// The name of a node's service: each node has `slot` of them before this one.
fn name(slot: usize, node: usize) -> String {
    format!("s{}", (slot * NODES + node) / INSTANCES)
}

/// All names while every node has so many services.
fn names(each: usize) -> Vec<String> {
    (0..each * NODES / INSTANCES)
        .map(|n| format!("s{n}"))
        .collect()
}

/// Every node registers some of its services, with a check each: those from `from` on, to `to`. Another port is a change.
fn register(cluster: &Cluster, from: usize, to: usize, port: usize) -> Took {
    on_all_nodes(cluster, to - from, |node, number| {
        body(node, &name(from + number, node), port)
    })
}

/// Every node registers the same service.
fn register_wide(cluster: &Cluster) {
    on_all_nodes(cluster, 1, |node, _| body(node, WIDE, 0));
}

fn body(node: usize, service: &str, port: usize) -> String {
    json!({
        "Node": format!("n{node}"),
        "Address": format!("10.0.0.{node}"),
        "Service": {
            "ID": format!("{service}-{node}"),
            "Service": service,
            "Tags": ["v1"],
            "Port": 8000 + port,
        },
        "Check": {
            "CheckID": format!("service:{service}-{node}"),
            "Name": format!("Service '{service}' check"),
            "ServiceID": format!("{service}-{node}"),
            "Status": "passing",
        },
    })
    .to_string()
}

/// Each node sends `count` registrations, one after the other, to one of the servers.
fn on_all_nodes(
    cluster: &Cluster,
    count: usize,
    body: impl Fn(usize, usize) -> String + Sync,
) -> Took {
    let servers = cluster.https(&SERVERS);
    took(cluster, count * NODES, || {
        std::thread::scope(|scope| {
            for node in 0..NODES {
                let (body, server) = (&body, servers[node % servers.len()]);
                scope.spawn(move || {
                    let mut connection =
                        Connection::open(server.address, REQUEST_LIMIT).expect("a server");
                    for number in 0..count {
                        let body = body(node, number);
                        let reply = connection
                            .request("PUT", "/v1/catalog/register", body.as_bytes())
                            .expect("an answer");
                        assert_eq!(reply.status, 200, "{}", reply.text());
                    }
                });
            }
        });
    })
}

/// Reads by name at the leader.
fn read(cluster: &Cluster, path: &str, reads: usize, names: &[String]) -> Took {
    let leader = cluster[&cluster.leader_among(&SERVERS)].http();
    let next = AtomicUsize::new(0);
    took(cluster, reads, || {
        std::thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    let mut connection =
                        Connection::open(leader.address, REQUEST_LIMIT).expect("a server");
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= reads {
                            break;
                        }
                        let path = path.replace("NAME", &names[number % names.len()]);
                        let reply = connection.request("GET", &path, b"").expect("an answer");
                        assert!(reply.status == 200 && reply.body.len() > 1000, "{path}");
                    }
                });
            }
        });
    })
}

fn took(cluster: &Cluster, requests: usize, work: impl FnOnce()) -> Took {
    let used = || SERVERS.map(|name| Usage::of(cluster[name].pid()).cpu());
    let (before, begun) = (used(), Instant::now());
    work();
    let time = begun.elapsed();
    let cpu = used().iter().sum::<Duration>() - before.iter().sum::<Duration>();
    Took {
        requests,
        time,
        cpu,
    }
}
