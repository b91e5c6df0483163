//! Saved states in files and in S3-compatible storage: written, read back, put back, and what goes wrong, against an S3
//! server that checks signatures.

mod s3;

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tests::{Cluster, Output, binary};

use s3::{KEY, SECRET};

struct Scene {
    cluster: Cluster,
    s3: SocketAddr,
    secret: String,
}

impl Scene {
    fn new() -> Self {
        let mut cluster = Cluster::new();
        cluster["A"].start(&["-server", "-bootstrap"]);
        cluster["A"].wait_for_leader();
        let root = cluster.folder().join("buckets");
        std::fs::create_dir_all(root.join("keep")).expect("a folder");
        let s3 = s3::serve(&root, "127.0.0.1:0");
        Scene {
            cluster,
            s3,
            secret: SECRET.to_owned(),
        }
    }

    /// `agent snapshot`, as the pod of a job runs it.
    fn snapshot(&self, arguments: &[&str]) -> Output {
        let output = Command::new(binary("agent"))
            .arg("snapshot")
            .args(arguments)
            .env("CONSUL_HTTP_ADDR", format!("{}:8500", self.cluster["A"].ip))
            .env("AWS_ENDPOINT_URL_S3", format!("http://{}", self.s3))
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .output()
            .expect("the agent starts");
        Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn in_bucket(&self) -> Vec<String> {
        let folder = self.cluster.folder().join("buckets/keep/nightly");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_state_goes_to_s3_and_comes_back_whole() {
    let scene = Scene::new();
    let agent = &scene.cluster["A"];
    agent.put("/v1/kv/before", "kept");
    let report = scene.cluster.folder().join("report.json");
    let to_report = format!("-report={}", report.display());
    let said = scene
        .snapshot(&["save", &to_report, "s3://keep/nightly/one.snap"])
        .success();
    assert!(
        said.starts_with("Saved and verified snapshot to index "),
        "{said}"
    );
    let text = std::fs::read_to_string(&report).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let stored = std::fs::read(scene.cluster.folder().join("buckets/keep/nightly/one.snap"));
    let stored = stored.expect("the object");
    assert_eq!(report["Size"], stored.len());
    assert_eq!(report["Location"], "s3://keep/nightly/one.snap");
    let shown = scene
        .snapshot(&["inspect", "s3://keep/nightly/one.snap"])
        .success();
    assert!(shown.contains("KVS"), "{shown}");

    agent.put("/v1/kv/after", "lost");
    let sum = report["SHA256"].as_str().expect("text");
    // Another file than the one that was asked for is not put back.
    let other = format!("-sha256={}", "0".repeat(64));
    let said = scene
        .snapshot(&["restore", &other, "s3://keep/nightly/one.snap"])
        .failure();
    assert!(said.contains(sum), "{said}");
    assert_eq!(agent.value("after", "").as_deref(), Some("lost"));
    let right = format!("-sha256={sum}");
    scene
        .snapshot(&["restore", &right, "s3://keep/nightly/one.snap"])
        .success();
    assert_eq!(agent.value("before", "").as_deref(), Some("kept"));
    assert_eq!(agent.value("after", ""), None);

    // The next one takes the first one's place, once it is verified; one that is gone already is as good.
    scene
        .snapshot(&[
            "save",
            "-delete=s3://keep/nightly/one.snap",
            "-delete=s3://keep/nightly/never.snap",
            "s3://keep/nightly/two.snap",
        ])
        .success();
    assert_eq!(scene.in_bucket(), ["two.snap"]);
}

#[test]
fn what_is_wrong_with_the_storage_is_said_and_nothing_is_deleted() {
    let mut scene = Scene::new();
    scene
        .snapshot(&["save", "s3://keep/nightly/one.snap"])
        .success();
    let delete = "-delete=s3://keep/nightly/one.snap";
    let said = scene
        .snapshot(&["save", delete, "s3://nobody/two.snap"])
        .failure();
    assert!(
        said.contains("there is no bucket \"nobody\" at http://"),
        "{said}"
    );
    let said = scene
        .snapshot(&["restore", "s3://keep/nightly/none.snap"])
        .failure();
    assert!(
        said.contains("there is no object \"nightly/none.snap\" in the bucket \"keep\""),
        "{said}"
    );
    let said = scene.snapshot(&["save", "s3://keep"]).failure();
    assert!(said.contains("expected s3://BUCKET/KEY"), "{said}");
    let damaged = scene.cluster.folder().join("buckets/keep/nightly/bad.snap");
    std::fs::write(damaged, "CCSTATE\nand nothing else").expect("written");
    let said = scene
        .snapshot(&["restore", "s3://keep/nightly/bad.snap"])
        .failure();
    assert!(said.contains("cut or damaged"), "{said}");

    scene.secret = "wrong".into();
    let said = scene
        .snapshot(&["save", delete, "s3://keep/nightly/two.snap"])
        .failure();
    assert!(
        said.contains("does not let these credentials write s3://keep/nightly/two.snap"),
        "{said}"
    );
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    scene.secret = String::new();
    let said = scene
        .snapshot(&["save", "s3://keep/nightly/two.snap"])
        .failure();
    assert!(said.contains("AWS_SECRET_ACCESS_KEY is not set"), "{said}");

    scene.secret = SECRET.to_owned();
    // Nobody listens there any more once the port is given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!(
        "-aws-s3-endpoint=http://{}",
        free.local_addr().expect("bound")
    );
    drop(free);
    let said = scene
        .snapshot(&["save", &endpoint, delete, "s3://keep/nightly/two.snap"])
        .failure();
    assert!(
        said.contains("cannot connect to http://127.0.0.1:"),
        "{said}"
    );
    assert_eq!(scene.in_bucket(), ["bad.snap", "one.snap"]);
}

#[test]
fn a_state_goes_to_a_folder_that_is_made_and_old_ones_go_after_it() {
    let scene = Scene::new();
    let folder = scene.cluster.folder().join("volume/consul");
    let file = |name: &str| folder.join(name).display().to_string();
    let said = scene.snapshot(&["save", &file("one.snap")]).failure();
    assert!(said.contains("No such file or directory"), "{said}");
    scene
        .snapshot(&["save", "-make-folders", &file("one.snap")])
        .success();
    let delete = format!("-delete={}", file("one.snap"));
    let same = scene
        .snapshot(&["save", &delete, &file("one.snap")])
        .failure();
    assert!(same.contains("which is where the new one goes"), "{same}");
    scene
        .snapshot(&["save", &delete, &file("two.snap")])
        .success();
    let left: Vec<_> = std::fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    assert_eq!(left, ["two.snap"]);
}
