//! Load tools that exist, run against one server: wrk for ours, etcd's own client for etcd.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// Bytes of a value, as in the figures of the goals.
pub(super) const VALUE_BYTES: usize = 128;

/// What is asked for over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Put,
    /// From the leader under its lease; etcd has no such read, its linearizable one stands against it.
    Default,
    /// Linearizable, by asking a quorum.
    Consistent,
    /// From whoever is asked; etcd calls it serializable.
    Stale,
}

/// Who asks, for how long, for which keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) op: Op,
    pub(super) connections: usize,
    pub(super) seconds: u64,
    pub(super) keys: usize,
    pub(super) first_key: usize,
}

/// What came of it; times in microseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Reached {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) seconds: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

impl Reached {
    pub(super) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Runs wrk with `script` (this folder's `wrk.lua`) against an agent's API.
pub(super) fn wrk(script: &Path, address: &str, plan: &Plan) -> Reached {
    let (method, query, size) = match plan.op {
        Op::Put => ("PUT", "", VALUE_BYTES),
        Op::Default => ("GET", "", 0),
        Op::Consistent => ("GET", "?consistent", 0),
        Op::Stale => ("GET", "?stale", 0),
    };
    let mut command = Command::new("wrk");
    command
        .args(["--threads", "1", "--timeout", "20s"])
        .args(["--connections", &plan.connections.to_string()])
        .args(["--duration", &format!("{}s", plan.seconds)])
        .arg("--script")
        .arg(script)
        .arg(format!("http://{address}"))
        .args(["--", method, "/v1/kv/bench/", query])
        .args([plan.keys, plan.first_key, size].map(|n| n.to_string()));
    reached(&mut command)
}

/// Runs etcd's client against an etcd server.
pub(super) fn etcd(program: &Path, address: &str, plan: &Plan) -> Reached {
    let op = match plan.op {
        Op::Put => "put",
        Op::Default | Op::Consistent => "get",
        Op::Stale => "serializable",
    };
    let mut command = Command::new(program);
    command
        .args(["load", "-endpoint", address, "-op", op])
        .args(["-connections", &plan.connections.to_string()])
        .args(["-seconds", &plan.seconds.to_string()])
        .args(["-keys", &plan.keys.to_string()])
        .args(["-size", &VALUE_BYTES.to_string()]);
    reached(&mut command)
}

/// The figures are the last line of the output, as JSON.
fn reached(command: &mut Command) -> Reached {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    let reached: Reached = serde_json::from_str(last).unwrap_or_else(|e| {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{command:?} said no figures ({e}): {text}{errors}")
    });
    assert!(
        output.status.success() && reached.requests > 0 && reached.errors == 0,
        "{command:?}: {reached:?}"
    );
    reached
}
