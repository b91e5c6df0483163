//! Many real agents with services of their own, and what they use.
//!
//! They have a network of their own, so that what passes over its loopback is theirs alone: gossip, what they tell the
//! servers and ask of them, and what the servers tell each other. That needs root, or a kernel that gives everybody
//! namespaces, and `ip` and `ss`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Agent, Block, Cluster, Http, SERVERS, eventually};

use crate::core::Usage;
use crate::servers_with;

/// Agents of one block of addresses.
const HOSTS: usize = 250;

/// Agents that are started before the servers must know them all: as many as a platform adds at once, and what it
/// takes to start them does not drown their first probes.
const BATCH: usize = 25;

/// The environment of the process that has a network of its own, which says what it does there.
const INSIDE: &str = "BENCH_FLEET_INSIDE";

/// What this process is to do in a network of its own, if it has one.
pub(crate) fn inside() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Runs this program again, in a network of its own, to do `what`; whether it was content. However it ends, its agents
/// end with it.
pub(crate) fn run_inside(what: &str) -> bool {
    let program = std::env::current_exe().expect("this program has a path");
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    let status = command
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg("--")
        .arg(program)
        .env(INSIDE, what)
        .status();
    status
        .unwrap_or_else(|e| panic!("cannot run unshare: {e}"))
        .success()
}

/// Makes the network usable.
pub(crate) fn bring_up_loopback() {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    let up = up.unwrap_or_else(|e| panic!("cannot run ip (Debian: iproute2): {e}"));
    assert!(up.success(), "a loopback");
}

/// Agents and the servers that they belong to.
pub(crate) struct Fleet {
    // Before the folder of the cluster, where they have their data.
    pub(crate) agents: Vec<Agent>,
    blocks: Vec<Block>,
    cluster: Cluster,
    /// What servers and agents have in their files beside what is needed.
    config: Value,
}

impl Fleet {
    /// Servers alone. `config` is for them and for the agents.
    pub(crate) fn new(config: Value) -> Self {
        Self {
            agents: Vec::new(),
            blocks: Vec::new(),
            cluster: servers_with(&config),
            config,
        }
    }

    /// Starts agents until there are so many, each with `s0`, `s1` and so on of its own.
    pub(crate) fn grow(&mut self, count: usize, services: usize) {
        let servers = SERVERS.map(|name| self.cluster.address(name));
        let own: Vec<_> = (0..services)
            .map(|n| json!({"name": format!("s{n}"), "port": 8000 + n, "tags": ["v1"]}))
            .collect();
        let mut config = self.config.clone();
        config["services"] = json!(own);
        config["log_level"] = json!("warn");
        let file = self.cluster.path("fleet.json");
        fs::write(&file, config.to_string()).expect("a file in a temporary folder");
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
            if self.agents.len().is_multiple_of(BATCH) {
                self.wait_for(1, self.agents.len());
            }
        }
        self.wait_for(services, count);
    }

    /// Waits until the catalog has so many instances of each of so many services.
    pub(crate) fn wait_for(&self, services: usize, instances: usize) {
        let server = self.cluster["A"].http();
        for service in 0..services {
            let path = format!("/v1/catalog/service/s{service}");
            let what = format!("{instances} instances of s{service}");
            eventually(&what, || match rows_at(server, &path)? {
                found if found == instances => Ok(()),
                found => Err(found.to_string()),
            });
        }
    }

    /// What everybody has used so far.
    pub(crate) fn used(&self) -> Used {
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

/// How many rows an answer has. Two cores that start many agents at once may not have the time for it.
fn rows_at(server: Http, path: &str) -> Result<usize, String> {
    let reply = server.get(path).map_err(|error| error.to_string())?;
    match reply.status {
        200 => Ok(reply.json().as_array().map_or(0, Vec::len)),
        status => Err(format!("{status} {}", reply.text())),
    }
}

#[derive(Default)]
pub(crate) struct Used {
    /// On a processor.
    pub(crate) clients: Duration,
    pub(crate) servers: Duration,
    /// Bytes of each connection from a client to a server's own port.
    pub(crate) calls: BTreeMap<[SocketAddr; 2], u64>,
    /// Bytes through the loopback, headers included.
    pub(crate) all: u64,
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
