//! The command line's tools against a cluster: saving and restoring, export and import, watching and locking.

use std::fs;

use serde_json::Value;
use tests::{Cluster, SERVERS, binary, eventually, run};

/// The servers that do not lead, and the one that does.
fn roles(cluster: &Cluster) -> (Vec<&'static str>, String) {
    let leader = cluster.leader_among(&SERVERS);
    let followers = SERVERS.into_iter().filter(|name| *name != leader).collect();
    (followers, leader)
}

#[test]
fn a_saved_state_comes_back_on_every_server() {
    let mut cluster = Cluster::formed();
    let (followers, leader) = roles(&cluster);
    let file = cluster.folder().join("state.snap");
    let file = file.to_str().expect("a plain path");
    // Several parts in the log.
    for n in 0..8 {
        cluster["A"].put(&format!("/v1/kv/big/{n}"), &"x".repeat(400_000));
    }
    cluster["A"].put("/v1/kv/small", "before");
    let said = cluster[followers[0]]
        .cli(&["snapshot", "save", file])
        .success();
    assert!(
        said.starts_with("Saved and verified snapshot to index "),
        "{said}"
    );
    let said = run("agent", &["snapshot", "inspect", file]).success();
    assert!(said.contains(" KVS ") && said.contains(" Index"), "{said}");
    let said = run(
        "agent",
        &["snapshot", "inspect", "-kvdetails", "-format=json", file],
    )
    .success();
    let shown: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(shown["StatsKV"][0]["Name"], "big/0");

    cluster["A"].put("/v1/kv/small", "after");
    cluster["A"].put("/v1/kv/new", "after");
    let said = cluster[followers[1]]
        .cli(&["snapshot", "restore", file])
        .success();
    assert_eq!(said, "Restored snapshot\n");
    cluster.wait_until_equal(&SERVERS);
    for name in SERVERS {
        let agent = &cluster[name];
        assert_eq!(agent.value("small", "stale").as_deref(), Some("before"));
        assert_eq!(agent.value("new", "stale"), None);
        assert_eq!(
            agent.value("big/7", "stale").map(|v| v.len()),
            Some(400_000)
        );
    }
    // The cluster goes on, and a restart finds the restored state again.
    cluster["A"].put("/v1/kv/next", "x");
    cluster[leader.as_str()].kill();
    cluster[leader.as_str()].start(&["-server"]);
    cluster[leader.as_str()].wait_until_up();
    cluster.wait_for_voters(&SERVERS);
    cluster.wait_until_equal(&SERVERS);
    let value = cluster[leader.as_str()].value("small", "stale");
    assert_eq!(value.as_deref(), Some("before"));

    std::fs::write(file, b"\x1f\x8b\x08\x00").expect("a writable file");
    let said = cluster["A"].cli(&["snapshot", "restore", file]).failure();
    assert!(said.contains("this is an archive of Consul"), "{said}");
}

#[test]
fn keys_are_exported_and_imported() {
    let cluster = Cluster::bootstrapped();
    let a = &cluster["A"];
    a.put("/v1/kv/app/one?flags=5", "1");
    a.put("/v1/kv/app/two", "2");
    let exported = a.cli(&["kv", "export", "app/"]).success();
    let entries: Value = serde_json::from_str(&exported).expect("JSON");
    assert_eq!(entries[0]["key"], "app/one");
    assert_eq!(entries[0]["flags"], 5);
    assert!(exported.starts_with("[\n\t{\n\t\t\"key\""), "{exported}");
    let said = a
        .cli(&["kv", "import", "-prefix=copy/", &exported])
        .success();
    assert_eq!(said, "Imported: copy/app/one\nImported: copy/app/two\n");
    assert_eq!(a.value("copy/app/two", "").as_deref(), Some("2"));
    let nodes = a.cli(&["catalog", "nodes"]).success();
    assert!(nodes.starts_with("Node  ID"), "{nodes}");
    let services = a.cli(&["catalog", "services"]).success();
    assert_eq!(services, "consul\n");
    assert_eq!(a.cli(&["catalog", "datacenters"]).success(), "dc1\n");
    // Off by default.
    let said = a.cli(&["exec", "true"]).success();
    assert_eq!(said, "0 / 0 node(s) completed / acknowledged\n");
}

#[test]
fn a_watch_prints_and_a_lock_excludes() {
    let cluster = Cluster::bootstrapped();
    let a = &cluster["A"];
    a.put("/v1/kv/k", "v");
    let shown = a.cli(&["watch", "-type=key", "-key=k"]).success();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["Key"], "k");
    assert!(a.cli(&["watch", "-type=zz"]).failure().contains("zz"));

    assert_eq!(a.cli(&["lock", "job", "true"]).success(), "");
    // What runs under the lock cannot have it a second time.
    let agent = binary("agent");
    let address = a.http().address;
    let second = format!(
        "{} lock -http-addr={address} -try=1s job true",
        agent.display()
    );
    let refused = a.cli(&["lock", "-child-exit-code", "job", &second]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("Lock acquisition failed"));
    let failed = a.cli(&["lock", "-child-exit-code", "job", "exit 3"]);
    assert_eq!(failed.code, Some(2), "{failed:?}");
    let gone = a.get("/v1/kv/job/.lock");
    assert_eq!(gone.status, 404, "the lock is cleaned up");
    let sessions = a.json("/v1/session/list");
    assert_eq!(sessions.as_array().map(Vec::len), Some(0));
}

#[test]
fn events_coordinates_entries_and_intentions_by_the_command_line() {
    let cluster = Cluster::formed();
    let said = cluster["A"]
        .cli(&["event", "-name", "deploy", "v2"])
        .success();
    assert!(said.starts_with("Event ID: "), "{said}");
    let heard = eventually("C has heard of the event", || {
        let said = cluster["C"]
            .cli(&["watch", "-type=event", "-name=deploy"])
            .success();
        let heard: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        match heard[0]["Payload"].as_str() {
            Some(payload) => Ok(payload.to_owned()),
            None => Err(said),
        }
    });
    assert_eq!(heard, "djI=");
    let said = eventually("the nodes have said where they are", || {
        let said = cluster["B"].cli(&["rtt", "A", "C"]);
        if said.code == Some(0) {
            Ok(said.success())
        } else {
            Err(said.failure())
        }
    });
    assert!(said.starts_with("Estimated A <-> C rtt: "), "{said}");
    let file = cluster.folder().join("entry.hcl");
    fs::write(
        &file,
        "Kind = \"service-defaults\"\nName = \"web\"\nProtocol = \"http\"\n",
    )
    .expect("a file");
    let file = file.to_str().expect("a plain path");
    let said = cluster["B"].cli(&["config", "write", file]).success();
    assert_eq!(said, "Config entry written: service-defaults/web\n");
    let said = cluster["C"]
        .cli(&[
            "config",
            "read",
            "-kind",
            "service-defaults",
            "-name",
            "web",
        ])
        .success();
    assert!(said.contains("\"Protocol\": \"http\""), "{said}");
    let said = cluster["A"]
        .cli(&["intention", "create", "-deny", "web", "db"])
        .success();
    assert_eq!(said, "Created: web => db (deny)\n");
    let said = cluster["B"].cli(&["intention", "check", "web", "db"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), "Denied\n"));
    let said = cluster["B"]
        .cli(&["intention", "create", "-replace", "web", "db"])
        .success();
    assert_eq!(said, "Replaced: web => db (allow)\n");
    assert_eq!(
        cluster["C"]
            .cli(&["intention", "check", "web", "db"])
            .success(),
        "Allowed\n"
    );
}

#[test]
fn commands_are_run_where_the_configuration_allows_it() {
    let mut cluster = Cluster::formed();
    let b = cluster.address("B");
    cluster["A"].interrupt();
    cluster["A"].start(&[
        "-server",
        "-retry-join",
        &b,
        "-hcl",
        "disable_remote_exec = false",
    ]);
    cluster.wait_for_voters(&SERVERS);
    let said = cluster["C"].cli(&["exec", "-wait=10s", "-node=A", "echo one; exit 3"]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (
            Some(2),
            "    A: one\n    A:\n==> A: finished with exit code 3\n1 / 1 node(s) completed / acknowledged\n"
        ),
        "{said:?}"
    );
    // Nothing of it is left.
    assert_eq!(cluster["B"].get("/v1/kv/_rexec/?keys").status, 404);
    let sessions = cluster["B"].json("/v1/session/list");
    assert_eq!(sessions.as_array().map(Vec::len), Some(0));
}

#[test]
fn a_semaphore_lets_in_as_many_as_it_says() {
    let cluster = Cluster::bootstrapped();
    let a = &cluster["A"];
    let agent = binary("agent");
    let address = a.http().address;
    let inner = |command: &str| {
        format!(
            "{} lock -http-addr={address} -n=2 -try=1s -child-exit-code jobs {command}",
            agent.display()
        )
    };
    // The second place is free inside of the first, a third one is not.
    let second = inner("true");
    let said = a.cli(&["lock", "-n=2", "-child-exit-code", "jobs", &second]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let third = inner(&format!("'{}'", inner("true")));
    let said = a.cli(&["lock", "-n=2", "-child-exit-code", "jobs", &third]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("Lock acquisition failed"), "{said:?}");
    let other = a.cli(&[
        "lock",
        "-n=2",
        "jobs",
        &inner("true").replace("-n=2", "-n=3"),
    ]);
    assert!(
        other
            .stderr
            .contains("semaphore limit conflict (lock: 2, local: 3)"),
        "{other:?}"
    );
    assert_eq!(a.get("/v1/kv/jobs/?keys").status, 404, "nothing is left");
}

#[test]
fn a_debug_archive_has_consuls_layout() {
    let cluster = Cluster::bootstrapped();
    let output = cluster.folder().join("debug");
    let output = output.to_str().expect("a plain path");
    let said = cluster["A"].cli(&[
        "debug",
        "-duration=10s",
        "-interval=5s",
        "-archive=false",
        "-output",
        output,
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("Unable to capture pprof"), "{said:?}");
    assert!(said.stdout.contains(" Agent Version: '"), "{said:?}");
    let read = |name: &str| {
        let path = format!("{output}/{name}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let json = |name: &str| serde_json::from_str::<Value>(&read(name)).expect("JSON");
    assert_eq!(json("index.json")["Interval"], "5s");
    assert_eq!(json("members.json").as_array().map(Vec::len), Some(3));
    assert_eq!(json("agent.json")["Config"]["NodeName"], "A");
    assert!(json("host.json")["Memory"].is_object());
    assert!(read("metrics.json").contains("\"Timestamp\""));
    assert!(fs::metadata(format!("{output}/consul.log")).is_ok());
    let again = cluster["A"].cli(&["debug", "-output", output]).failure();
    assert!(again.contains("already exists"), "{again}");
}
