//! Load tools that exist, run against one server: wrk for ours, etcd's own client for etcd.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// Bytes of a value, as in the figures of the goals.
pub(crate) const VALUE_BYTES: usize = 128;

/// What is asked for over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
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
pub(crate) struct Plan {
    pub(crate) op: Op,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
    pub(crate) keys: usize,
    pub(crate) first_key: usize,
}

/// What came of it; times in microseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Reached {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Reached {
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Runs wrk with `script` (this folder's `wrk.lua`) against an agent's API.
pub(crate) fn wrk(script: &Path, address: &str, plan: &Plan) -> Reached {
    let query = match plan.op {
        Op::Put | Op::Default => "",
        Op::Consistent => "?consistent",
        Op::Stale => "?stale",
    };
    wrk_as(script, &format!("http://{address}"), plan, query, 0)
}

/// The same with another query. With `tokens`, `%012d` in it is one of so many numbers, from 1.
pub(crate) fn wrk_as(script: &Path, url: &str, plan: &Plan, query: &str, tokens: usize) -> Reached {
    let (method, size) = match plan.op {
        Op::Put => ("PUT", VALUE_BYTES),
        Op::Default | Op::Consistent | Op::Stale => ("GET", 0),
    };
    let mut command = Command::new("wrk");
    command
        .args(["--threads", "1", "--timeout", "20s"])
        .args(["--connections", &plan.connections.to_string()])
        .args(["--duration", &format!("{}s", plan.seconds)])
        .arg("--script")
        .arg(script)
        .arg(url)
        .args(["--", method, "/v1/kv/bench/", query])
        .args([plan.keys, plan.first_key, size, tokens].map(|n| n.to_string()));
    reached(&mut command)
}

/// Runs etcd's client against an etcd server.
pub(crate) fn etcd(program: &Path, address: &str, plan: &Plan) -> Reached {
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
