//! Consul's own Go client: every method that a community edition answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::record::Record;
use crate::{addresses, all_well, cluster, compatibility, run, source};

const MODULE: &str = "github.com/hashicorp/consul/api";

/// The Go client, built once per change of its source: Go keeps what it has compiled. It counts which functions of
/// Consul's module are run.
pub(crate) fn program(folder: &Path) -> PathBuf {
    let program = folder.join("go-client");
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-cover"]);
    build.arg(format!("-coverpkg={MODULE},clients")).arg("-o");
    run(build.arg(&program).arg(".").current_dir(source("go")));
    program
}

#[test]
fn consuls_own_go_client_finds_what_it_expects_and_is_run_as_a_whole() {
    let mut cluster = cluster();
    let program = program(cluster.folder());
    let counts = cluster.path("counts");
    fs::create_dir(&counts).expect("a new folder");
    let client = |part: &str| {
        let mut command = Command::new(&program);
        command.env("GOCOVERDIR", &counts).arg(part);
        command
    };
    let addresses = addresses(&cluster);
    let record = Record::of(&cluster, &["A", "B", "C", "D"]);
    for address in addresses {
        all_well(&run(client("calls").arg(address.to_string())));
    }
    let mut asked = record.asked(&cluster);

    // Then one client agent fails, and a server.
    let b = cluster.address("B");
    cluster["E"].start(&[]);
    cluster["F"].start(&["-retry-join", &b]);
    cluster["E"].wait_until_up();
    cluster["F"].wait_until_up();
    let leader = cluster["D"].wait_for_leader();
    let follower = ["A", "B", "C"]
        .into_iter()
        .find(|name| cluster[name].server_address() != leader)
        .expect("three servers");
    cluster.wait_for_members(
        follower,
        &["A", "B", "C", "D", "F"].map(|name| (name, "alive")),
    );
    for name in ["F", follower] {
        cluster[name].kill();
    }
    let record = Record::of(&cluster, &["D", "E"]);
    let mut membership = client("membership");
    for name in ["D", "E"] {
        membership.arg(cluster[name].http().address.to_string());
    }
    all_well(&run(membership.args(["F", follower])));
    asked.extend(record.asked(&cluster));

    // One of its own, which asks for tokens.
    let file = cluster.path("acl.hcl");
    let settings = r#"acl { enabled = true default_policy = "deny" }"#;
    fs::write(&file, settings).expect("room");
    let file = file.display().to_string();
    let flags = ["-server", "-bootstrap", "-log-level=debug", "-config-file"];
    cluster["G"].start(&[flags.as_slice(), &[file.as_str()]].concat());
    cluster["G"].wait_for_line("consul: cluster leadership acquired");
    let record = Record::of(&cluster, &["G"]);
    let address = cluster["G"].http().address.to_string();
    all_well(&run(client("acl").arg(address)));
    asked.extend(record.asked(&cluster));
    compatibility::is_claimed("go", &asked);

    let mut table = Command::new("go");
    table.args(["tool", "covdata", "func", "-i"]).arg(&counts);
    let table = run(table.arg(format!("-pkg={MODULE}")));
    let functions = cluster.path("functions");
    fs::write(&functions, table).expect("written");
    all_well(&run(client("methods").arg(functions)));
}
