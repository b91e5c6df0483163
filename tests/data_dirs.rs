//! Data dirs of every release are opened by this program, with everything in them. `agent/DESIGN.md` says how one is added.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tests::{Agent, Cluster, eventually};

/// What a data dir must hold.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Contents {
    /// Keys and values.
    keys: BTreeMap<String, String>,
    /// Names of sessions, with the key that each holds.
    locks: BTreeMap<String, String>,
    /// Names of services in the catalog.
    services: Vec<String>,
    /// Autopilot's `MinQuorum`.
    min_quorum: u64,
    /// The cluster's id.
    cluster: String,
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data-dirs")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable folder");
    for entry in fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a writable folder");
        }
    }
}

/// What an agent says that it holds.
fn contents(agent: &Agent) -> Contents {
    let entries = agent.json("/v1/kv/?recurse&consistent");
    let sessions = agent.json("/v1/session/list");
    let session = |id: &str| {
        let all = sessions.as_array().expect("a list");
        let found = all.iter().find(|session| session["ID"] == id);
        found.map(|session| session["Name"].as_str().unwrap_or_default().to_owned())
    };
    let mut keys = BTreeMap::new();
    let mut locks = BTreeMap::new();
    for entry in entries.as_array().expect("a list") {
        let key = entry["Key"].as_str().expect("a key").to_owned();
        if let Some(holder) = entry["Session"].as_str().and_then(session) {
            locks.insert(holder, key.clone());
        }
        let value = agent.value(&key, "").expect("a value");
        keys.insert(key, value);
    }
    let services = agent.json("/v1/catalog/services");
    let mut services: Vec<String> = services
        .as_object()
        .expect("names")
        .keys()
        .cloned()
        .collect();
    services.sort();
    let autopilot = agent.json("/v1/operator/autopilot/configuration");
    Contents {
        keys,
        locks,
        services,
        min_quorum: autopilot["MinQuorum"].as_u64().expect("a number"),
        cluster: agent.info("consul", "cluster_id").expect("an answer"),
    }
}

#[test]
fn every_release_s_data_dir_is_opened_with_everything_in_it() {
    let mut releases: Vec<_> = fs::read_dir(kept())
        .expect("data dirs are kept")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    releases.sort();
    assert!(!releases.is_empty());
    for release in releases {
        println!("{}", release.display());
        let text = fs::read(release.join("contents.json")).expect("its contents are kept");
        let expected: Contents = serde_json::from_slice(&text).expect("its contents are kept");
        let mut cluster = Cluster::new();
        copy(&release.join("data"), &cluster["A"].data);
        cluster["A"].start(&["-server"]);
        cluster["A"].wait_for_line("consul: cluster leadership acquired");
        assert_eq!(contents(&cluster["A"]), expected);
        // And it goes on from there, also after another start.
        cluster["A"].put("/v1/kv/new", "x");
        cluster["A"].kill();
        cluster["A"].start(&["-server"]);
        cluster["A"].wait_for_line("consul: cluster leadership acquired");
        assert_eq!(cluster["A"].value("new", "").as_deref(), Some("x"));
    }
}

/// Makes the data dir of the release that `DATA_DIR_OF` names.
#[test]
#[ignore = "changes the source tree: for releases"]
fn make_the_data_dir_of_a_release() {
    let release = std::env::var("DATA_DIR_OF").expect("DATA_DIR_OF names the release");
    let folder = kept().join(release);
    assert!(!folder.exists(), "a release's data dir is never changed");
    let mut cluster = Cluster::new();
    let config = cluster.path("config.json");
    fs::write(
        &config,
        r#"{"raft_snapshot_threshold": 100, "raft_trailing_logs": 20}"#,
    )
    .expect("writable");
    let config = config.display().to_string();
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &config]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let agent = &cluster["A"];
    for number in 0..150 {
        agent.put(&format!("/v1/kv/k/{number}"), &format!("value {number}"));
    }
    eventually("a snapshot is taken", || {
        match agent.info("raft", "last_snapshot_index")?.as_str() {
            "0" => Err("none".to_owned()),
            _ => Ok(()),
        }
    });
    agent.http().delete("/v1/kv/k/3").expect("an answer");
    agent.put("/v1/kv/k/4?flags=7", "with flags");
    let service = r#"{"Node":"n1","Address":"10.0.0.1","Service":{"Service":"web","Port":80,"Tags":["t"]},"Check":{"Name":"c","Status":"passing"}}"#;
    agent.put("/v1/catalog/register", service);
    let session = r#"{"Name":"holder","Node":"n1","Checks":[]}"#;
    let made = agent
        .http()
        .put("/v1/session/create", session)
        .expect("an answer");
    let id = made.json()["ID"].as_str().expect("an id").to_owned();
    agent.put(&format!("/v1/kv/lock?acquire={id}"), "held");
    agent.put("/v1/operator/autopilot/configuration", r#"{"MinQuorum":3}"#);
    let contents = contents(agent);
    assert_eq!(contents.locks.len(), 1);
    cluster["A"].kill();
    copy(&cluster["A"].data, &folder.join("data"));
    for entry in fs::read_dir(folder.join("data/raft/wal")).expect("a log") {
        let path = entry.expect("a readable folder").path();
        // What is filled with zeros ahead of need says nothing.
        let mut bytes = fs::read(&path).expect("a readable file");
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        bytes.truncate(end.next_multiple_of(512));
        fs::write(&path, bytes).expect("a writable file");
        if path
            .file_name()
            .is_some_and(|name| name != "0000000001.wal")
            && end == 0
        {
            fs::remove_file(&path).expect("a writable folder");
        }
    }
    let text = serde_json::to_string_pretty(&contents).expect("plain data");
    fs::write(folder.join("contents.json"), text + "\n").expect("a writable folder");
}
