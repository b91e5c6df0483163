//! Clients that nobody here wrote, against three servers and a client agent.
//!
//! Each is built from its registry at a pinned version. Where the tool that builds it is missing, the test says so and
//! fails: nothing is skipped in silence.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Cluster, SERVERS};

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

/// The Go client, built once per change of its source: Go keeps what it has compiled.
fn go_client(folder: &Path) -> PathBuf {
    let program = folder.join("go-client");
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-o"]);
    run(build.arg(&program).arg(".").current_dir(source("go")));
    program
}

/// Python with the client in an environment of its own.
fn python(folder: &Path) -> PathBuf {
    let environment = folder.join("python");
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment));
    let requirements = source("python").join("requirements.txt");
    let mut install = Command::new(environment.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "-r"]);
    run(install.arg(requirements));
    environment.join("bin/python")
}

/// The Node client with what it needs beside it.
fn node(folder: &Path) -> PathBuf {
    let copy = folder.join("node");
    fs::create_dir(&copy).expect("a new folder");
    for name in ["main.js", "package.json", "package-lock.json"] {
        fs::copy(source("node").join(name), copy.join(name)).expect("a copy");
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--silent", "--no-audit", "--no-fund"]);
    run(install.current_dir(&copy));
    copy.join("main.js")
}

/// Three servers and the client agent D; the addresses of a leader, a follower and the client.
fn agents() -> (Cluster, Vec<SocketAddr>) {
    let mut cluster = Cluster::formed();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    let leader = cluster.leader_among(&SERVERS);
    let follower = SERVERS.into_iter().find(|name| *name != leader);
    let names = [leader.as_str(), follower.expect("three servers"), "D"];
    let addresses = names.map(|name| cluster[name].http().address).to_vec();
    (cluster, addresses)
}

/// Every line that a client prints ends like this.
#[track_caller]
fn all_well(said: &str) {
    let well = said.lines().all(|line| line.ends_with(": ok"));
    assert!(well && !said.is_empty(), "{said}");
}

#[test]
fn consuls_own_go_client_finds_what_it_expects() {
    let (cluster, addresses) = agents();
    let program = go_client(cluster.folder());
    for address in addresses {
        all_well(&run(Command::new(&program).arg(address.to_string())));
    }
}

#[test]
fn a_python_client_finds_what_it_expects() {
    let (cluster, addresses) = agents();
    let python = python(cluster.folder());
    for address in addresses {
        let mut command = Command::new(&python);
        command.arg(source("python").join("main.py"));
        command.args([address.ip().to_string(), address.port().to_string()]);
        all_well(&run(&mut command));
    }
}

#[test]
fn a_node_client_finds_what_it_expects() {
    let (cluster, addresses) = agents();
    let program = node(cluster.folder());
    for address in addresses {
        let mut command = Command::new("node");
        command.arg(&program);
        command.args([address.ip().to_string(), address.port().to_string()]);
        all_well(&run(&mut command));
    }
}
