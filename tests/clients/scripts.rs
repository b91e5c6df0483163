//! Clients of languages that need no compiler: Python and Node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::record::Record;
use crate::{addresses, all_well, cluster, compatibility, run, source};

/// Python with the client in an environment of its own.
pub(crate) fn python(folder: &Path) -> PathBuf {
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
pub(crate) fn node(folder: &Path) -> PathBuf {
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

#[test]
fn a_python_client_finds_what_it_expects() {
    let cluster = cluster();
    let python = python(cluster.folder());
    let addresses = addresses(&cluster);
    let record = Record::of(&cluster, &["A", "B", "C", "D"]);
    for address in addresses {
        let mut command = Command::new(&python);
        command.arg(source("python").join("main.py"));
        command.args([address.ip().to_string(), address.port().to_string()]);
        all_well(&run(&mut command));
    }
    compatibility::is_claimed("python", &record.asked(&cluster));
}

#[test]
fn a_node_client_finds_what_it_expects() {
    let cluster = cluster();
    let program = node(cluster.folder());
    let addresses = addresses(&cluster);
    let record = Record::of(&cluster, &["A", "B", "C", "D"]);
    for address in addresses {
        let mut command = Command::new("node");
        command.arg(&program);
        command.args([address.ip().to_string(), address.port().to_string()]);
        all_well(&run(&mut command));
    }
    compatibility::is_claimed("node", &record.asked(&cluster));
}
