//! The kubectl plugin against a real API server, called as `kubectl consulcluster`, as a person does.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::{Path, Scene, binary, wait_for};

/// A person at a terminal, with the plugin on the PATH.
struct Person<'a> {
    scene: &'a Scene,
    folder: tempfile::TempDir,
}

impl<'a> Person<'a> {
    fn at(scene: &'a Scene) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        symlink(
            binary("operator"),
            folder.path().join("kubectl-consulcluster"),
        )
        .expect("a link in a folder of its own");
        Self { scene, folder }
    }

    /// `kubectl consulcluster ...`: what it printed, or what it said when it failed.
    fn says(&self, arguments: &[&str]) -> Result<String, String> {
        let own = self.folder.path().to_owned();
        let given = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::iter::once(own)
            .chain(std::env::split_paths(&given))
            .collect();
        let output = Command::new("kubectl")
            .arg("consulcluster")
            .args(arguments)
            .args(["--namespace", &self.scene.namespace])
            .env("PATH", std::env::join_paths(folders).expect("folders"))
            .output()
            .expect("kubectl starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    #[track_caller]
    fn gets(&self, arguments: &[&str]) -> String {
        self.says(arguments)
            .unwrap_or_else(|said| panic!("{arguments:?}: {said}"))
    }

    #[track_caller]
    fn is_told(&self, arguments: &[&str], words: &str) {
        let said = self.says(arguments).expect_err("it is done");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{arguments:?}: {said}");
    }
}

#[test]
fn what_the_plugin_shows() {
    let scene = Scene::new("plugin-shows");
    let person = Person::at(&scene);
    person.is_told(&["status"], "there is no ConsulCluster in namespace");
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    person.is_told(&["logs", "d"], "there is no ConsulCluster \"d\"");

    let leader = scene.leader("c", 3).expect("somebody leads");
    let picture = person.gets(&["status", "c"]);
    for words in ["c-server-0", "c-server-1", "c-server-2", &leader] {
        assert!(picture.contains(words), "no {words}: {picture}");
    }
    let log = person.gets(&["bootstrap-log"]);
    let last: Vec<&str> = log.lines().rev().take(2).collect();
    assert!(
        last[0].starts_with("cluster id ") && last[1].starts_with("Bootstrapped is True for "),
        "{log}"
    );
    let times: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("20"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(times.len() > 3 && times.is_sorted(), "{log}");

    let all = person.gets(&["logs", "c"]);
    for number in 0..3 {
        let prefix = format!("c-server-{number}: ");
        assert!(all.lines().any(|line| line.starts_with(&prefix)), "{all}");
    }
    for server in ["2", "c-server-2"] {
        let one = person.gets(&["logs", "c", "--server", server, "--tail", "2"]);
        assert_eq!(one.lines().count(), 2, "{one}");
        assert!(!one.contains("c-server-2: "), "{one}");
    }
    person.is_told(
        &["logs", "c", "--server", "9"],
        "there is no server \"9\": c-server-0, c-server-1, c-server-2",
    );
}

#[test]
fn what_the_plugin_changes() {
    let scene = Scene::new("plugin-changes");
    let person = Person::at(&scene);
    scene.apply("c", json!({"servers": 1}));
    scene.wait_ready("c");
    let spec =
        |field: &str| -> Value { scene.get("c").expect("it is there")["spec"][field].clone() };

    person.is_told(&["snapshot"], "where to?");
    person.is_told(
        &["snapshot", "--like", "nightly"],
        "there is no ConsulSnapshotSchedule \"nightly\"",
    );
    scene.claim("keep");
    let said = person.gets(&["snapshot", "c", "--pvc", "keep/by-hand"]);
    let made = scene.kube.list(Path::SNAPSHOTS, &scene.namespace, "");
    assert_eq!(made.len(), 1, "{said}");
    let status = &made[0]["status"];
    assert_eq!(status["phase"], "Completed", "{status}");
    let location = status["location"].as_str().expect("a location");
    assert!(
        location.contains("by-hand") && said.trim().ends_with(location),
        "{said}"
    );

    assert!(
        person
            .gets(&["pause"])
            .contains("paused: the operator observes only")
    );
    assert!(person.gets(&["pause", "c"]).contains("paused already"));
    assert_eq!(spec("paused"), true);
    person.is_told(&["restart"], "is paused: nothing would happen");
    assert!(person.gets(&["resume"]).contains("resumed"));
    assert!(person.gets(&["resume"]).contains("not paused"));
    assert_ne!(spec("paused"), true);

    let before = scene.server_uids("c");
    assert!(person.gets(&["restart"]).contains("one after another"));
    scene.wait_replaced("c", &before);
    let written = wait_for("the annotation", || {
        let told = spec("podMetadata")["annotations"]["consulcluster.dev/restarted-at"].clone();
        told.as_str().map(str::to_owned).ok_or(told.to_string())
    });
    assert!(
        written.starts_with("20") && written.ends_with('Z'),
        "{written}"
    );
}
