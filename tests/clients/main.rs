//! Clients that nobody here wrote, against three servers and a client agent.
//!
//! Each is built from its registry at a pinned version, or comes from Debian. Where the tool that builds it is missing,
//! the test says so and fails: nothing is skipped in silence. What they asked for is read from the agents' logs, and
//! compared with what the compatibility page claims.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Cluster, SERVERS};

mod compatibility;
mod consul_api;
mod curl;
mod dig;
mod prometheus;
mod protected;
mod record;
mod scripts;

/// Runs a command to its end; what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{text}{errors}");
    text
}

fn source(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(language)
}

/// Three servers and the client agent D, which say in their logs what they were asked for.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    for name in ["A", "B", "C", "D", "E", "F"] {
        cluster[name].always(&["-log-level", "debug"]);
    }
    cluster.form();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    cluster
}

/// A leader, a follower and the client: an answer may come another way from each.
fn addresses(cluster: &Cluster) -> [SocketAddr; 3] {
    let leader = cluster.leader_among(&SERVERS);
    let follower = SERVERS.into_iter().find(|name| *name != leader);
    let names = [leader.as_str(), follower.expect("three servers"), "D"];
    names.map(|name| cluster[name].http().address)
}

/// Every line that a client prints ends like this.
#[track_caller]
fn all_well(said: &str) {
    let well = said.lines().all(|line| line.ends_with(": ok"));
    assert!(well && !said.is_empty(), "{said}");
}

/// A program of Debian's.
#[track_caller]
fn tool(name: &str, package: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    assert!(
        found,
        "{name} is missing: `apt-get install {package}` brings it"
    );
    Command::new(name)
}
