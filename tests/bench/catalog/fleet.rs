//! Many real agents with services of their own: how soon the catalog has these, and what agents at rest cost.
//!
//! The agents have a network of their own, so that what passes over its loopback is theirs alone: gossip, what they tell
//! the servers and ask of them, and what the servers tell each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Agent, Block, Cluster, Connection, Http, SERVERS, eventually};

use super::{INSIDE, Row, print, row};
use crate::core::{Usage, memory};
use crate::{REQUEST_LIMIT, servers, setting};

/// Agents that register all the services.
const REGISTERING: usize = 100;

/// Services of each agent at rest.
const SERVICES: usize = 10;

/// Agents of one block of addresses.
const HOSTS: usize = 250;

/// Most that an agent may cost more among twice as many.
const GROWTH_MAX: f64 = 1.25;

/// Time after the last agent has come, before it counts as rest: gossip passes on what it heard for a while.
const SETTLE: Duration = Duration::from_secs(30);

/// Runs [`inside`] where there is a network of its own.
pub(super) fn run() -> bool {
    let program = std::env::current_exe().expect("this program has a path");
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    let status = command
        .args(["--net", "--"])
        .arg(program)
        .env(INSIDE, "1")
        .status();
    status
        .unwrap_or_else(|e| panic!("cannot run unshare: {e}"))
        .success()
}

/// Prints the tables; whether every goal was reached.
pub(super) fn inside() -> bool {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    let up = up.unwrap_or_else(|e| panic!("cannot run ip (Debian: iproute2): {e}"));
    assert!(up.success(), "a loopback");
    let registered = registering();
    let count = setting("BENCH_AGENTS", 200) as usize;
    registered & at_rest(count)
}

/// Agents and the servers that they belong to.
struct Fleet {
    // Before the folder of the cluster, where they have their data.
    agents: Vec<Agent>,
    blocks: Vec<Block>,
    cluster: Cluster,
}

impl Fleet {
    fn new() -> Self {
        Self {
            agents: Vec::new(),
            blocks: Vec::new(),
            cluster: servers(),
        }
    }

    /// Starts agents until there are so many, each with its own services.
    fn grow(&mut self, count: usize, services: usize) {
        let servers = SERVERS.map(|name| self.cluster.address(name));
        let services: Vec<_> = (0..services)
            .map(|n| json!({"name": format!("s{n}"), "port": 8000 + n, "tags": ["v1"]}))
            .collect();
        let config = json!({"services": services, "log_level": "warn"}).to_string();
        let file = self.cluster.path("fleet.json");
        fs::write(&file, config).expect("a file in a temporary folder");
        for number in self.agents.len()..count {
            if number / HOSTS == self.blocks.len() {
                self.blocks.push(Block::take());
            }
            let ip = self.blocks[number / HOSTS].ip((number % HOSTS + 1) as u8);
            let name = format!("f{number}");
            let mut agent = Agent::new(&name, ip, &self.cluster.path(&name));
            let server = &servers[number % servers.len()];
            let file = file.display().to_string();
            agent.start(&["-config-file", &file, "-retry-join", server]);
            self.agents.push(agent);
        }
    }

    /// Waits until the catalog has so many instances of each of so many services.
    fn wait_for(&self, services: usize, instances: usize) {
        let server = self.cluster["A"].http();
        for service in 0..services {
            let path = format!("/v1/catalog/service/s{service}");
            eventually(
                &format!("{instances} instances of s{service}"),
                || match instances_at(server, &path) {
                    found if found == instances => Ok(()),
                    found => Err(found),
                },
            );
        }
    }

    /// What everybody has used so far.
    fn used(&self) -> Used {
        let cpu = |pid| Usage::of(pid).cpu();
        let clients: BTreeSet<u32> = self.agents.iter().map(|agent| agent.pid()).collect();
        Used {
            clients: clients.iter().map(|pid| cpu(*pid)).sum(),
            servers: SERVERS.iter().map(|n| cpu(self.cluster[n].pid())).sum(),
            calls: calls(&clients),
            all: loopback(),
        }
    }
}

/// How many rows an answer has.
fn instances_at(server: Http, path: &str) -> usize {
    let reply = server.get(path).expect("an answer");
    reply.json().as_array().map_or(0, Vec::len)
}

#[derive(Default)]
struct Used {
    /// On a processor.
    clients: Duration,
    servers: Duration,
    /// Bytes of each connection from a client to a server's own port.
    calls: BTreeMap<[SocketAddr; 2], u64>,
    /// Bytes through the loopback, headers included.
    all: u64,
}

/// What one agent cost in a minute.
struct Each {
    /// Bytes to and from servers: looks at the catalog, coordinates, whatever it asks.
    calls: f64,
    /// All bytes of the whole network, divided by the agents.
    all: f64,
    /// Milliseconds on a processor.
    client: f64,
    servers: f64,
}

impl Fleet {
    /// Looks at how it is at rest for a while.
    fn rest(&self, time: Duration) -> Each {
        std::thread::sleep(SETTLE);
        let (before, begun) = (self.used(), Instant::now());
        std::thread::sleep(time);
        let (after, time) = (self.used(), begun.elapsed());
        assert!(
            !after.calls.is_empty(),
            "clients have connections to servers"
        );
        let share = 60.0 / time.as_secs_f64() / self.agents.len() as f64;
        // What a connection that is gone carried after the first look is lost; there are hardly any.
        let calls: u64 = after
            .calls
            .iter()
            .map(|(ends, bytes)| bytes - before.calls.get(ends).copied().unwrap_or(0).min(*bytes))
            .sum();
        Each {
            calls: calls as f64 * share,
            all: (after.all - before.all) as f64 * share,
            client: (after.clients - before.clients).as_secs_f64() * 1e3 * share,
            servers: (after.servers - before.servers).as_secs_f64() * 1e3 * share,
        }
    }
}

/// A hundred agents get a hundred services each, at their own API.
fn registering() -> bool {
    let services = (setting("BENCH_CATALOG_SERVICES", 10_000) as usize / REGISTERING).max(1);
    let mut fleet = Fleet::new();
    fleet.grow(REGISTERING, 1);
    fleet.wait_for(1, REGISTERING);
    let (before, begun) = (fleet.used(), Instant::now());
    std::thread::scope(|scope| {
        for agent in &fleet.agents {
            scope.spawn(|| {
                let address = agent.http().address;
                let mut connection = Connection::open(address, REQUEST_LIMIT).expect("an agent");
                for n in 1..services {
                    let body = json!({"Name": format!("s{n}"), "Port": 8000 + n, "Tags": ["v1"]});
                    let path = "/v1/agent/service/register";
                    let reply = connection.request("PUT", path, body.to_string().as_bytes());
                    assert_eq!(reply.expect("an answer").status, 200);
                }
            });
        }
    });
    fleet.wait_for(services, REGISTERING);
    let (after, time) = (fleet.used(), begun.elapsed());
    let count = ((services - 1) * REGISTERING) as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
    let title = format!(
        "{} services at {REGISTERING} agents' own APIs",
        services * REGISTERING
    );
    print(
        &title,
        &[
            row(
                "in the catalog, a second",
                "",
                f64::NAN,
                count / time.as_secs_f64(),
            ),
            row(
                "CPU for each, its agent",
                "us",
                f64::NAN,
                each(after.clients - before.clients),
            ),
            row(
                "CPU for each, all servers",
                "us",
                f64::NAN,
                each(after.servers - before.servers),
            ),
        ],
    )
}

/// Agents that nothing happens to: half of them first, then all.
fn at_rest(count: usize) -> bool {
    let time = Duration::from_secs(setting("BENCH_CATALOG_SECONDS", 60));
    let mut fleet = Fleet::new();
    let mut measure = |count| {
        fleet.grow(count, SERVICES);
        fleet.wait_for(SERVICES, count);
        let each = fleet.rest(time);
        let largest = fleet.agents.iter().map(|agent| memory(agent.pid())).max();
        (each, largest.unwrap_or(0) as f64 / f64::from(1 << 20))
    };
    let (half, _) = measure(count / 2);
    let (all, largest) = measure(count);
    let title = format!("{count} agents at rest, {SERVICES} services each: an agent a minute");
    let times = |what: &str, half: f64, all: f64| -> Row {
        row(
            format!("{what}, times that with {}", count / 2),
            "x",
            GROWTH_MAX,
            all / half,
        )
    };
    let kilobytes = |bytes: f64| bytes / 1024.0;
    print(
        &title,
        &[
            row(
                "bytes to and from servers",
                "KB",
                f64::NAN,
                kilobytes(all.calls),
            ),
            times("the same", half.calls, all.calls),
            row(
                "bytes with gossip, and the servers' own",
                "KB",
                f64::NAN,
                kilobytes(all.all),
            ),
            times("the same", half.all, all.all),
            row("CPU of the agent", "ms", f64::NAN, all.client),
            times("the same", half.client, all.client),
            row(
                "CPU of all servers, divided by the agents",
                "ms",
                f64::NAN,
                all.servers,
            ),
            times("the same", half.servers, all.servers),
            row(
                "memory of an agent (RSS, the largest)",
                "MB",
                f64::NAN,
                largest,
            ),
        ],
    )
}

/// Bytes received by this network's loopback: each that was sent, once.
fn loopback() -> u64 {
    let path = Path::new("/proc/net/dev");
    let text = fs::read_to_string(path).expect("a readable file of the kernel");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let first = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    first.expect("received bytes come first")
}

/// Bytes both ways of each connection from one of these processes to a server's port.
fn calls(clients: &BTreeSet<u32>) -> BTreeMap<[SocketAddr; 2], u64> {
    let output = Command::new("ss")
        .args(["--tcp", "--info", "--numeric", "--processes"])
        .args(["--no-header", "--oneline"])
        .args(["state", "established", "dport = :8300"])
        .output();
    let output = output.unwrap_or_else(|e| panic!("cannot run ss (Debian: iproute2): {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let count = |name| -> u64 {
            let found = words.iter().find_map(|word| word.strip_prefix(name));
            found.and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        // users:(("agent",pid=4711,fd=12))
        let pid = line.split("pid=").nth(1)?.split(',').next()?.parse().ok()?;
        let ends: Vec<SocketAddr> = words.iter().filter_map(|word| word.parse().ok()).collect();
        let &[from, to] = ends.as_slice() else {
            return None;
        };
        let bytes = count("bytes_sent:") + count("bytes_received:");
        clients.contains(&pid).then_some(([from, to], bytes))
    });
    rows.collect()
}
