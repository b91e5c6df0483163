//! Clients that nobody here wrote, against three servers and a client agent.
//!
//! Each is built from its registry at a pinned version. Where the tool that builds it is missing, the test says so and
//! fails: nothing is skipped in silence.

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

/// The Go client, built once per change of its source: Go keeps what it has compiled.
fn go_client(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
    let program = folder.join("go-client");
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-o"]);
    run(build.arg(&program).arg(".").current_dir(source));
    program
}

#[test]
fn consuls_own_go_client_finds_what_it_expects() {
    let mut cluster = Cluster::formed();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    let program = go_client(cluster.folder());
    let leader = cluster.leader_among(&SERVERS);
    let follower = SERVERS.into_iter().find(|name| *name != leader);
    for name in [leader.as_str(), follower.expect("three servers"), "D"] {
        let address = cluster[name].http().address.to_string();
        let said = run(Command::new(&program).arg(address));
        assert!(said.lines().all(|line| line.ends_with(": ok")), "{said}");
    }
}
