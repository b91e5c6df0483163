//! The clusters that are measured against each other: three of our servers, three of etcd's, on loopback, with every
//! fsync.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::{Block, Cluster, Process, SERVERS, eventually};

use super::load::{self, Op, Plan, Reached};

/// Where the sources of the etcd side are, from the root of the workspace.
const ETCD_SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/etcd");

/// A cluster under load.
pub(super) trait Peer {
    /// The processes, the leader's first.
    fn pids(&self) -> [u32; 3];
    /// Puts a load on the leader, or on a follower.
    fn load(&self, at_leader: bool, plan: &Plan) -> Reached;
    /// Puts a range of keys.
    fn fill(&self, from: usize, to: usize);
}

/// Three agents.
pub(super) struct Ours {
    cluster: Cluster,
    /// The leader first.
    names: Vec<&'static str>,
    script: PathBuf,
}

impl Ours {
    pub(super) fn start() -> Self {
        let cluster = crate::servers();
        let leader = cluster.leader_among(&SERVERS);
        let mut names = SERVERS.to_vec();
        names.sort_by_key(|name| *name != leader);
        let script = cluster.path("wrk.lua");
        std::fs::write(&script, include_str!("wrk.lua")).expect("a file in a temporary folder");
        Self {
            cluster,
            names,
            script,
        }
    }

    /// The API of the leader.
    pub(super) fn leader(&self) -> &tests::Agent {
        &self.cluster[self.names[0]]
    }
}

impl Peer for Ours {
    fn pids(&self) -> [u32; 3] {
        [0, 1, 2].map(|n| self.cluster[self.names[n]].pid())
    }

    fn load(&self, at_leader: bool, plan: &Plan) -> Reached {
        let agent = &self.cluster[self.names[usize::from(!at_leader)]];
        load::wrk(&self.script, &agent.http().address.to_string(), plan)
    }

    fn fill(&self, from: usize, to: usize) {
        let mut done = from;
        while done < to {
            let plan = Plan {
                op: Op::Put,
                connections: 64,
                seconds: 5,
                keys: to,
                first_key: done,
            };
            done += self.load(true, &plan).requests as usize;
        }
    }
}

/// Three etcd servers.
pub(super) struct Etcd {
    program: PathBuf,
    /// The leader first.
    endpoints: Vec<String>,
    processes: Vec<Process>,
    _folder: TempDir,
    _block: Block,
}

impl Etcd {
    pub(super) fn start() -> Self {
        let (program, block) = (build(), Block::take());
        let folder = tempfile::Builder::new().prefix("etcd-").tempdir();
        let folder = folder.expect("a temporary folder");
        let url = |host: u8, port: u16| format!("http://{}", block.socket(host, port));
        let all = [1, 2, 3].map(|host| format!("e{host}={}", url(host, 2380)));
        let mut processes: Vec<_> = [1, 2, 3]
            .map(|host| {
                let mut command = Command::new(&program);
                let data = folder.path().join(host.to_string());
                command
                    .args(["serve", "--name", &format!("e{host}"), "--log-level=warn"])
                    .arg("--data-dir")
                    .arg(data)
                    .args(["--initial-cluster", &all.join(",")]);
                for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
                    command.args([flag, &url(host, 2380)]);
                }
                for flag in ["--listen-client-urls", "--advertise-client-urls"] {
                    command.args([flag, &url(host, 2379)]);
                }
                Process::start(&format!("etcd {host}"), command)
            })
            .into();
        let mut endpoints: Vec<_> = [1, 2, 3].map(|host| url(host, 2379)).into();
        let leader = eventually("etcd has a leader", || leader(&program, &endpoints));
        processes.swap(0, leader);
        endpoints.swap(0, leader);
        Self {
            program,
            endpoints,
            processes,
            _folder: folder,
            _block: block,
        }
    }
}

impl Peer for Etcd {
    fn pids(&self) -> [u32; 3] {
        [0, 1, 2].map(|n: usize| self.processes[n].pid())
    }

    fn load(&self, at_leader: bool, plan: &Plan) -> Reached {
        load::etcd(
            &self.program,
            &self.endpoints[usize::from(!at_leader)],
            plan,
        )
    }

    fn fill(&self, from: usize, to: usize) {
        let range = [format!("-from={from}"), format!("-to={to}")];
        let size = format!("-size={}", load::VALUE_BYTES);
        let status = Command::new(&self.program)
            .args(["fill", "-endpoint", &self.endpoints[0]])
            .args(range)
            .arg(size)
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "etcd was not filled"
        );
    }
}

/// Builds etcd and its load tool, beside the other programs.
fn build() -> PathBuf {
    let here = std::env::current_exe().expect("the running program has a path");
    let program = here.with_file_name("etcd-bench");
    // Where Go's own package puts it, which not everybody has in PATH.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/go/bin";
    let mut command = Command::new("go");
    command
        .env("PATH", path)
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(ETCD_SOURCES);
    let status = command
        .status()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: is Go installed? {e}"));
    assert!(status.success(), "etcd was not built");
    program
}

/// Which of the servers leads.
fn leader(program: &Path, endpoints: &[String]) -> Result<usize, String> {
    let found = endpoints.iter().position(|endpoint| {
        let asked = Command::new(program)
            .args(["leads", "-endpoint", endpoint])
            .output();
        asked.is_ok_and(|output| output.status.success())
    });
    found.ok_or_else(|| "none of them leads".to_owned())
}
