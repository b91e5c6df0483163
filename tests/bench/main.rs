//! Prints the benchmark table: what was measured, Consul 1.19 on such a machine, ours, and the ratio.
//!
//! `BENCH_ROUNDS` (default 5) is how often each of the short ones is run; their median counts. `BENCH_LOAD_SECONDS`
//! (default 60) is how long the cluster is kept under full load while elections are counted; 600 for the whole claim.
//! `BENCH=core` prints the core against etcd only, `BENCH=dns` DNS under load, `BENCH=million` what a large state costs,
//! `BENCH=secure` what TLS and tokens cost,
//! `BENCH=catalog` service discovery with many services and watchers, `BENCH=agents` many agents at rest,
//! `BENCH=kube` the operator on the Kubernetes that KUBECONFIG names, and `BENCH=cluster` the rest; without it there is
//! everything that needs no Kubernetes.

mod agents;
mod catalog;
mod core;
mod dns;
mod fleet;
mod kube;
mod million;
mod secure;
mod table;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Cluster, Connection, SERVERS, binary, eventually, run, write_until_accepted};

/// Connections that write at once under full load, spread over the three servers.
const WRITERS: usize = 64;

/// Bytes of a value, as in the figures of Consul.
const VALUE: [u8; 128] = [b'x'; 128];

/// How long a server is left alone before its memory counts.
const SETTLE: Duration = Duration::from_secs(3);

/// Bounds a hang of one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

struct Row {
    what: &'static str,
    unit: &'static str,
    consul: f64,
    /// What ours must not exceed.
    goal: f64,
    ours: f64,
}

fn main() {
    end_children_on_panic();
    // Said at once, not after minutes.
    binary("agent");
    if in_memory(&std::env::temp_dir()) {
        panic!(
            "{} is in memory, where a sync costs nothing: set TMPDIR to a folder on a disk",
            std::env::temp_dir().display()
        );
    }
    let part = std::env::var("BENCH").unwrap_or_default();
    check_tool(&part);
    let reached = match part.as_str() {
        _ if fleet::inside().as_deref() == Some("agents") => agents::inside(),
        _ if fleet::inside().is_some() => catalog::registering::inside(),
        "agents" => agents::run(),
        "catalog" => catalog::run(),
        "core" => core::run(),
        "cluster" => cluster(),
        "dns" => dns::run(),
        "million" => million::run(),
        "secure" => secure::run_all(),
        "kube" => kube::run(),
        "" => {
            cluster()
                & core::run()
                & dns::run()
                & million::run()
                & catalog::run()
                & secure::run_all()
                & agents::run()
        }
        _ => panic!(
            "BENCH={part} is none of core, dns, million, catalog, secure, agents, kube and cluster"
        ),
    };
    if !reached {
        println!("some goals are missed");
        std::process::exit(1);
    }
}

/// A panic ends what this program has started: release programs abort, which drops nothing, and what were left running
/// would be in the way of the next run.
fn end_children_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        for child in children() {
            let killed = rustix::process::kill_process(child, rustix::process::Signal::KILL);
            if let Err(error) = killed {
                eprintln!("cannot end process {}: {error}", child.as_raw_nonzero());
            }
        }
    }));
}

/// The children of every thread.
fn children() -> Vec<rustix::process::Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists = threads.filter_map(|thread| {
        let list = thread.ok()?.path().join("children");
        fs::read_to_string(list).ok()
    });
    let all: Vec<String> = lists.collect();
    let pids = all.iter().flat_map(|list| list.split_whitespace());
    pids.filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// Ends if the part needs the load generator and it is not installed.
fn check_tool(part: &str) {
    if matches!(part, "" | "core" | "secure")
        && let Err(error) = std::process::Command::new("wrk").arg("-h").output()
    {
        panic!("cannot run wrk, which is a Debian package of that name: {error}");
    }
}

/// Whether nothing that is written there goes to a disk.
fn in_memory(folder: &Path) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of Linux' `magic.h`.
    const KINDS: [u32; 2] = [0x0102_1994, 0x8584_58f6];
    let found = rustix::fs::statfs(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    // The field's width and sign are the architecture's.
    KINDS.contains(&(found.f_type as u32))
}

/// The cluster's life: forming, failing over, standing still, staying led under load.
fn cluster() -> bool {
    binary("operator");
    let rounds = setting("BENCH_ROUNDS", 5);
    let load = Duration::from_secs(setting("BENCH_LOAD_SECONDS", 60));
    let row = |what, unit, consul, goal, ours| Row {
        what,
        unit,
        consul,
        goal,
        ours,
    };
    let mut rows = vec![
        row(
            "manual sequence by hand, 3 servers, A a voter again",
            "s",
            47.0,
            2.0,
            median(rounds, by_hand),
        ),
        row(
            "the same by `operator local`, to Steady",
            "s",
            47.0,
            2.0,
            median(rounds, by_operator),
        ),
        row(
            "-bootstrap-expect=3, start to first write",
            "s",
            1.2,
            1.0,
            median(rounds, expect),
        ),
        row(
            "leader killed (-9), next write accepted",
            "s",
            13.6,
            1.0,
            median(rounds, failover),
        ),
        row(
            "leadership handed over, longest write meanwhile",
            "s",
            f64::NAN,
            0.05,
            median(rounds, hand_over),
        ),
        row(
            "memory of an idle server (RSS, the largest of 3)",
            "MB",
            103.0,
            12.0,
            median(1, idle_memory),
        ),
    ];
    let (elections, writes) = under_load(load);
    println!(
        "{WRITERS} writers for {} s: {} PUTs/s",
        load.as_secs(),
        writes / load.as_secs().max(1)
    );
    rows.push(row(
        "elections without a fault under that load",
        "",
        f64::NAN,
        0.0,
        elections,
    ));
    print(&rows);
    rows.iter().all(|row| row.ours <= row.goal)
}

/// Three servers that take any number of connections.
fn servers() -> Cluster {
    servers_with(&json!({}))
}

/// The same, with more in their file.
fn servers_with(config: &Value) -> Cluster {
    let mut cluster = Cluster::new();
    let addresses = SERVERS.map(|name| cluster.address(name));
    let file = cluster.path("servers.json");
    fs::write(&file, config.to_string()).expect("a file in a temporary folder");
    let file = file.display().to_string();
    let mut flags = vec![
        "-server",
        "-bootstrap-expect=3",
        "-retry-interval=100ms",
        "-hcl",
        "limits { http_max_conns_per_client = 20000 rpc_max_conns_per_client = 20000 }",
        "-config-file",
        &file,
    ];
    for address in &addresses {
        flags.extend(["-retry-join", address]);
    }
    for name in SERVERS {
        cluster[name].start(&flags);
    }
    write_until_accepted(&cluster.https(&SERVERS), "first");
    cluster.wait_for_voters(&SERVERS);
    cluster
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text:?} is not a number"))
    })
}

fn median(rounds: u64, measure: impl Fn() -> f64) -> f64 {
    median_of((0..rounds.max(1)).map(|_| measure()).collect())
}

fn median_of(mut found: Vec<f64>) -> f64 {
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}

fn print(rows: &[Row]) {
    println!(
        "{:<52}  {:>10}  {:>9}  {:>10}  {:>12}",
        "what", "Consul", "goal", "ours", "ours/Consul"
    );
    for Row {
        what,
        unit,
        consul,
        goal,
        ours,
    } in rows
    {
        let with_unit = |n: &f64| {
            if n.is_nan() {
                "-".to_owned()
            } else {
                format!("{n:.2} {unit}")
            }
        };
        let ratio = ours / consul;
        let ratio = if ratio.is_nan() {
            "-".to_owned()
        } else {
            format!("{ratio:.3}")
        };
        println!(
            "{what:<52}  {:>10}  {:>9}  {:>10}  {ratio:>12}",
            with_unit(consul),
            with_unit(goal),
            with_unit(ours)
        );
    }
}

fn by_hand() -> f64 {
    let start = Instant::now();
    let cluster = Cluster::formed();
    let took = start.elapsed().as_secs_f64();
    drop(cluster);
    took
}

fn by_operator() -> f64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let block = tests::Block::take();
    let dir = folder.path().join("data").display().to_string();
    let file = folder.path().join("cluster.yaml");
    let text = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata:\n  name: bench\nspec:\n  servers: 3\n";
    fs::write(&file, text).expect("a file in a temporary folder");
    let (file, first) = (file.display().to_string(), block.ip(1).to_string());
    let start = Instant::now();
    run(
        "operator",
        &[
            "local",
            "up",
            &file,
            "--dir",
            &dir,
            "--detach",
            "--bind-base",
            &first,
        ],
    )
    .success();
    let took = start.elapsed().as_secs_f64();
    run("operator", &["local", "destroy", "--dir", &dir, "--yes"]).success();
    took
}

fn expect() -> f64 {
    let mut cluster = Cluster::new();
    let addresses = SERVERS.map(|name| cluster.address(name));
    let mut flags = vec!["-server", "-bootstrap-expect=3", "-retry-interval=100ms"];
    for address in &addresses {
        flags.extend(["-retry-join", address]);
    }
    let start = Instant::now();
    for name in SERVERS {
        cluster[name].start(&flags);
    }
    write_until_accepted(&cluster.https(&SERVERS), "first");
    start.elapsed().as_secs_f64()
}

fn failover() -> f64 {
    let mut cluster = Cluster::formed();
    write_until_accepted(&cluster.https(&SERVERS), "before");
    let leader = cluster.leader_among(&SERVERS);
    let others: Vec<&str> = SERVERS.into_iter().filter(|name| *name != leader).collect();
    let others = cluster.https(&others);
    let start = Instant::now();
    cluster[&leader].kill();
    write_until_accepted(&others, "after");
    start.elapsed().as_secs_f64()
}

/// The longest that a write takes, through whichever server, while another one takes over.
fn hand_over() -> f64 {
    let cluster = Cluster::formed();
    write_until_accepted(&cluster.https(&SERVERS), "before");
    let leader = cluster.leader_among(&SERVERS);
    let writer = cluster["C"].http().address;
    let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let until = |done: u64| {
        eventually("writes go on", || match writes.load(Ordering::Relaxed) {
            written if written >= done => Ok(written),
            written => Err(written),
        })
    };
    std::thread::scope(|scope| {
        let longest = scope.spawn(|| {
            let mut connection = Connection::open(writer, REQUEST_LIMIT).expect("it runs");
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let reply = connection.request("PUT", "/v1/kv/handed", &VALUE);
                assert_eq!(reply.expect("an answer").status, 200);
                longest = longest.max(begun.elapsed());
                writes.fetch_add(1, Ordering::Relaxed);
            }
            longest
        });
        let before = until(100);
        let path = "/v1/operator/raft/transfer-leader";
        let reply = cluster[&leader].http().request("POST", path, b"");
        assert_eq!(reply.expect("an answer").status, 200);
        until(before + 100);
        stop.store(true, Ordering::Relaxed);
        longest
            .join()
            .expect("the writer does not panic")
            .as_secs_f64()
    })
}

fn idle_memory() -> f64 {
    let cluster = Cluster::formed();
    std::thread::sleep(SETTLE);
    SERVERS
        .into_iter()
        .map(|name| core::memory(cluster[name].pid()) as f64 / (1 << 20) as f64)
        .fold(0.0, f64::max)
}

/// Elections while [`WRITERS`] write as fast as they can, and how many writes there were.
fn under_load(time: Duration) -> (f64, u64) {
    let cluster = Cluster::formed();
    write_until_accepted(&cluster.https(&SERVERS), "before");
    let term = |name| eventually("a term", || cluster[name].info("raft", "term"));
    let before: u64 = term("B").parse().expect("a term is a number");
    let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let address = cluster
                .block
                .socket((writer % SERVERS.len() + 1) as u8, 8500);
            let (stop, writes) = (&stop, &writes);
            scope.spawn(move || {
                let mut connection =
                    Connection::open(address, REQUEST_LIMIT).expect("a server that runs");
                let path = format!("/v1/kv/load/{writer}");
                while !stop.load(Ordering::Relaxed) {
                    let reply = connection.request("PUT", &path, &VALUE).expect("an answer");
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    let after: u64 = term("B").parse().expect("a term is a number");
    ((after - before) as f64, writes.into_inner())
}
