//! What a person or a stranger can do wrong: one clear sentence, a non-zero exit or a 4xx, nothing lost. And
//! what is said of that in documents, and of images.

mod images;
mod threats;

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tests::{Cluster, Random, SERVERS, run, seed};

/// Starts the agent with its identity and `flags`, and expects it to refuse: exit code 1, and a short reason on stderr.
#[track_caller]
fn refused(cluster: &mut Cluster, name: &str, flags: &[&str]) -> String {
    cluster[name].start(flags);
    let (code, log) = cluster[name].ended();
    let reason = log.stderr();
    assert_eq!(code, Some(1), "{reason}{}", log.stdout());
    assert!(
        !reason.trim().is_empty(),
        "no reason on stderr:\n{}",
        log.stdout()
    );
    assert!(!reason.contains("panicked"), "{reason}");
    assert!(
        reason.trim().lines().count() <= 2,
        "one sentence:\n{reason}"
    );
    reason
}

#[test]
fn a_flag_that_does_not_exist() {
    let output = run("agent", &["-server", "-bootstrapp"]);
    assert!(output.failure().contains("bootstrapp"));
    let output = run("agent", &["no-such-verb"]);
    assert!(output.failure().contains("no-such-verb"));
    let output = run("operator", &["no-such-verb"]);
    assert!(output.failure().contains("no-such-verb"));
}

#[test]
fn flags_that_contradict_each_other() {
    let mut cluster = Cluster::new();
    for (flags, reason) in [
        (
            &["-bootstrap"][..],
            "'bootstrap = true' requires 'server = true'",
        ),
        (
            &["-bootstrap-expect=3"],
            "'bootstrap_expect > 0' requires 'server = true'",
        ),
        (
            &["-server", "-bootstrap", "-bootstrap-expect=3"],
            "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive",
        ),
        (
            &["-server", "-bootstrap-expect=-1"],
            "bootstrap_expect cannot be -1. Must be greater than or equal to zero",
        ),
        (&["-server", "-node="], "node_name cannot be empty"),
    ] {
        let said = refused(&mut cluster, "A", flags);
        assert!(said.contains(reason), "{said}");
    }
    assert!(
        !cluster["A"].data.join("raft").exists(),
        "nothing half done"
    );
}

#[test]
fn an_address_in_use() {
    let mut cluster = Cluster::new();
    for port in [8300, 8301, 8302, 8500] {
        let address = cluster.block.socket(1, port);
        let _taken = TcpListener::bind(address).expect("free");
        let said = refused(&mut cluster, "A", &["-server", "-bootstrap"]);
        assert!(said.contains(&address.to_string()), "{said}");
        assert!(said.to_lowercase().contains("in use"), "{said}");
    }
    // None of the refusals left anything that keeps it from starting now.
    cluster["A"].start(&["-server", "-bootstrap"]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
}

#[test]
fn a_data_dir_in_use_by_a_running_agent() {
    let mut cluster = Cluster::new();
    cluster["A"].start(&["-server", "-bootstrap"]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let data = cluster["A"].data.display().to_string();
    let said = refused(&mut cluster, "B", &["-server", "-data-dir", &data]);
    assert!(said.contains(&data), "{said}");
    cluster["A"].put("/v1/kv/still", "there");
}

#[test]
fn a_data_dir_that_cannot_be_written() {
    let mut cluster = Cluster::new();
    // A file where the folder should be: refused to root too.
    let data = cluster["A"].data.clone();
    fs::write(&data, "a file").expect("writable");
    let said = refused(&mut cluster, "A", &["-server", "-bootstrap"]);
    assert!(said.contains(&data.display().to_string()), "{said}");

    let data = cluster["B"].data.clone();
    fs::create_dir(&data).expect("writable");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).expect("own");
    if fs::write(data.join("probe"), "").is_err() {
        let said = refused(&mut cluster, "B", &["-server", "-bootstrap"]);
        assert!(said.contains(&data.display().to_string()), "{said}");
    }
    let said = refused(&mut cluster, "C", &["-server", "-data-dir="]);
    assert!(said.contains("data_dir cannot be empty"), "{said}");
}

#[test]
fn a_data_dir_of_another_cluster() {
    let mut cluster = Cluster::formed();
    cluster["D"].start(&["-server", "-bootstrap"]);
    cluster["D"].wait_for_line("consul: cluster leadership acquired");
    cluster["D"].kill();
    // E starts on what was D's: its raft state is another cluster's, so nobody adds it.
    let stolen = cluster["D"].data.display().to_string();
    let a = cluster.address("A");
    cluster["E"].start(&["-server", "-data-dir", &stolen, "-retry-join", &a]);
    cluster["E"].wait_until_up();
    cluster.wait_for_voters(&SERVERS);
    tests::holds(
        "A's cluster does not take it in",
        Duration::from_secs(3),
        || {
            let voters = cluster["A"].voters()?;
            if voters.len() == 3 {
                Ok(())
            } else {
                Err(format!("{voters:?}"))
            }
        },
    );
}

#[test]
fn a_corrupt_log() {
    let mut cluster = Cluster::bootstrapped();
    for number in 0..50 {
        cluster["A"].put(
            &format!("/v1/kv/{number}"),
            "some value that is easy to find",
        );
    }
    cluster["A"].kill();
    let (file, offset) = find(
        &cluster["A"].data.join("raft"),
        b"some value that is easy to find",
    );
    let mut bytes = fs::read(&file).expect("readable");
    bytes[offset] ^= 0x40;
    fs::write(&file, &bytes).expect("writable");
    let said = refused(&mut cluster, "A", &["-server"]);
    assert!(
        said.contains(&file.display().to_string()),
        "names the file: {said}"
    );
    assert!(said.contains("offset"), "names the offset: {said}");
    assert_eq!(fs::read(&file).expect("readable"), bytes, "left as it was");
    // The others go on without it.
    cluster.leader_among(&["B", "C"]);
    assert_eq!(
        cluster["B"].value("49", "").as_deref(),
        Some("some value that is easy to find")
    );
}

/// The first file below `folder` that contains `wanted`, and where.
fn find(folder: &std::path::Path, wanted: &[u8]) -> (std::path::PathBuf, usize) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("readable");
            if let Some(offset) = bytes.windows(wanted.len()).position(|w| w == wanted) {
                return (path, offset);
            }
        }
    }
    panic!("the value is in no file");
}

#[test]
fn a_broken_config_file() {
    let mut cluster = Cluster::new();
    for (name, content, reasons) in [
        (
            "syntax.json",
            "{\n  \"server\": tru\n}",
            &["syntax.json", "2"][..],
        ),
        (
            "syntax.hcl",
            "server = true\nports {\n  http =\n}\n",
            &["syntax.hcl:4:1: "],
        ),
        (
            "unknown.json",
            "{\"serverr\": true}",
            &["unknown.json", "invalid config key serverr"],
        ),
        (
            "type.json",
            "{\"ports\": {\"http\": \"many\"}}",
            &["type.json", "http"],
        ),
    ] {
        let path = cluster.path(name);
        fs::write(&path, content).expect("writable");
        let file = path.display().to_string();
        let said = refused(&mut cluster, "A", &["-config-file", &file]);
        for reason in reasons {
            assert!(said.contains(reason), "{name}: {said}");
        }
        let said = run("agent", &["validate", &file]).failure();
        assert!(said.contains(reasons[0]), "{name}: {said}");
    }
}

#[test]
fn a_join_to_nobody_and_to_something_else() {
    let mut cluster = Cluster::new();
    cluster["A"].start(&["-server", "-bootstrap"]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let closed = cluster.block.socket(7, 8301).to_string();
    let http = cluster["A"].http().address.to_string();
    let silent = TcpListener::bind(cluster.block.socket(6, 8301)).expect("free");
    let silent = silent.local_addr().expect("bound").to_string();
    for address in [closed.as_str(), &http, &silent, "no-such-host.invalid"] {
        let said = cluster["A"].cli(&["join", address]).failure();
        assert!(
            said.contains(&format!("Error joining address '{address}': ")),
            "{said}"
        );
        assert!(said.contains("Failed to join any nodes."), "{said}");
    }
    cluster["A"].put("/v1/kv/still", "there");
}

#[test]
fn garbage_on_every_port_is_dropped() {
    let mut random = Random::new(seed());
    let cluster = Cluster::formed();
    for round in 0..300 {
        let host = 1 + random.below(3) as u8;
        let length = [0, 1, 4, 100, 1400, 9000][random.below(6) as usize];
        let mut bytes = random.bytes(length);
        if round % 3 == 0 && length > 8 {
            // A small version byte and a huge length: what a frame's first fields might be.
            bytes[..5].copy_from_slice(&[1, 0xFF, 0xFF, 0xFF, 0xFF]);
        }
        for port in [8301, 8302, 8600] {
            let from = UdpSocket::bind((cluster.block.ip(200), 0)).expect("free");
            let _ = from.send_to(&bytes, cluster.block.socket(host, port));
        }
        for port in [8300, 8301, 8302, 8500] {
            throw(cluster.block.socket(host, port), &bytes);
        }
    }
    cluster.wait_for_voters(&SERVERS);
    for name in SERVERS {
        cluster[name].put(&format!("/v1/kv/{name}"), "alive");
        for stream in [cluster[name].stdout(), cluster[name].stderr()] {
            assert!(!stream.contains("panicked"), "{name}:\n{stream}");
        }
    }
    cluster.wait_for_members("A", &SERVERS.map(|name| (name, "alive")));
}

/// Sends bytes to a TCP port, without caring what becomes of them.
fn throw(address: SocketAddr, bytes: &[u8]) {
    if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        let _ = stream.write_all(bytes);
    }
}
