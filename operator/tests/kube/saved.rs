//! Saved states against the Kubernetes in memory: taken, taken regularly, put back once. A job here is what its pod's
//! last words say.

mod restores;

use std::sync::{Arc, Mutex};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use operator::backup::controller::Worker;
use serde_json::{Value, json};

use crate::platform::{PLACE, Platform};

const NOON: &str = "2026-11-23T12:00:00Z";

/// A cluster that serves, its saved states, and a clock.
struct Scene {
    platform: Platform,
    worker: Worker,
    now: Arc<Mutex<Timestamp>>,
}

/// What a pod ends with.
enum End<'a> {
    /// It did what it was asked, and deleted these.
    Saved(&'a [String]),
    /// It did not, and said why.
    Said(&'a str),
}

impl Scene {
    async fn new(spec: Value) -> Self {
        let platform = Platform::new(spec);
        let operator = platform.operator();
        assert!(platform.settle(&operator).await, "{}", platform.why());
        Self::of(platform)
    }

    fn of(platform: Platform) -> Self {
        let now = Arc::new(Mutex::new(NOON.parse::<Timestamp>().unwrap()));
        let clock = Arc::clone(&now);
        let mut worker = platform.operator().backups();
        worker.now = Box::new(move || *clock.lock().unwrap());
        Scene {
            platform,
            worker,
            now,
        }
    }

    fn pass(&self, minutes: i64) {
        let mut now = self.now.lock().unwrap();
        *now += SignedDuration::from_mins(minutes);
    }

    fn make(&self, kind: &str, name: &str, spec: Value) {
        let mut world = self.platform.world();
        let created = self.now.lock().unwrap().to_string();
        let object = json!({
            "apiVersion": "consulcluster.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "creationTimestamp": created}, "spec": spec,
        });
        world.store(plural(kind), name, object);
    }

    fn get(&self, plural: &str, name: &str) -> Value {
        let world = self.platform.world();
        world.get(plural, name).cloned().unwrap_or(Value::Null)
    }

    fn names(&self, plural: &str) -> Vec<String> {
        let world = self.platform.world();
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        world.list(plural).map(name).collect()
    }

    /// The only job.
    fn job(&self) -> Value {
        let names = self.names("jobs");
        assert_eq!(names.len(), 1, "{names:?}");
        self.get("jobs", &names[0])
    }

    fn arguments(&self) -> Vec<String> {
        let job = self.job();
        let args = job["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        serde_json::from_value(args).unwrap()
    }

    /// The pod of the only job, in that state.
    fn pod(&self, status: Value) {
        let job = self.job();
        let name = job["metadata"]["name"].as_str().unwrap().to_owned();
        let pod = json!({
            "metadata": {
                "name": format!("{name}-x"), "labels": {"job-name": name},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}],
            },
            "spec": {"containers": []}, "status": status,
        });
        self.platform
            .world()
            .store("pods", &format!("{name}-x"), pod);
    }

    /// The only job ends.
    fn end(&self, end: &End<'_>) {
        let name = self.names("jobs")[0].clone();
        assert_ne!(
            self.job()["spec"]["suspend"],
            true,
            "a job that may not run has ended"
        );
        let (kind, code, said) = match end {
            End::Saved(deleted) => {
                let report = json!({"Index": 42, "Size": 1000, "SHA256": "ab", "Deleted": deleted, "NotDeleted": []});
                ("Complete", 0, report.to_string())
            }
            End::Said(why) => ("Failed", 1, (*why).to_owned()),
        };
        let ended = json!({"terminated": {"exitCode": code, "message": said}});
        self.pod(json!({"containerStatuses": [{"name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": ended}]}));
        let status = json!({"conditions": [{"type": kind, "status": "True"}]});
        self.platform.world().edit("jobs", &name)["status"] = status;
    }

    async fn snapshot(&self, name: &str) -> Value {
        let looked = self.worker.snapshot(PLACE.0, name).await;
        looked.unwrap_or_else(|error| panic!("{name}: {error}"));
        self.get("consulsnapshots", name)["status"].clone()
    }

    async fn restore(&self, name: &str) -> Value {
        let looked = self.worker.restore(PLACE.0, name).await;
        looked.unwrap_or_else(|error| panic!("{name}: {error}"));
        self.get("consulrestores", name)["status"].clone()
    }

    async fn schedule(&self) -> Value {
        self.worker.schedule(PLACE.0, "nightly").await.unwrap();
        self.get("consulsnapshotschedules", "nightly")["status"].clone()
    }

    /// The schedule's snapshot is taken to its end.
    async fn take(&self, name: &str, end: &End<'_>) -> Value {
        self.snapshot(name).await;
        self.end(end);
        let status = self.snapshot(name).await;
        self.snapshot(name).await;
        let mut world = self.platform.world();
        for job in world
            .list("jobs")
            .map(|job| job["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
        {
            // Of one that failed; its pod goes with either.
            world.remove("jobs", &job);
        }
        status
    }
}

fn plural(kind: &str) -> &'static str {
    match kind {
        "ConsulSnapshot" => "consulsnapshots",
        "ConsulRestore" => "consulrestores",
        _ => "consulsnapshotschedules",
    }
}

fn claim() -> Value {
    json!({"pvc": {"claimName": "keep", "path": "consul"}})
}

fn bucket() -> Value {
    json!({"s3": {"bucket": "keep", "prefix": "consul", "endpoint": "https://minio:9000", "credentialsSecret": "keys", "caSecretRef": {"name": "ca"}}})
}

fn condition(status: &Value, name: &str) -> String {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|c| c["type"] == name);
    found.map_or_else(String::new, |c| {
        let text = |key: &str| c[key].as_str().unwrap().to_owned();
        format!("{} {}", text("status"), text("reason"))
    })
}

#[tokio::test]
async fn a_snapshot_is_taken_by_one_job_and_says_what_it_holds() {
    let scene = Scene::new(json!({"servers": 3})).await;
    scene.make(
        "ConsulSnapshot",
        "now",
        json!({"cluster": "demo", "destination": claim()}),
    );
    let status = scene.snapshot("now").await;
    assert_eq!(status["phase"], "Running");
    let uid = scene.get("consulsnapshots", "now")["metadata"]["uid"].clone();
    let file = format!("now-{}.snap", &uid.as_str().unwrap()[..8]);
    assert_eq!(
        scene.arguments(),
        [
            "snapshot",
            "save",
            "-http-addr=https://demo.prod.svc:8501",
            "-report=/dev/termination-log",
            "-make-folders",
            &format!("/backup/consul/{file}"),
        ]
    );
    let job = scene.job();
    let pod = &job["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    assert_eq!(volumes[0]["secret"]["secretName"], "demo-server-secure");
    assert_eq!(volumes[1]["persistentVolumeClaim"]["claimName"], "keep");
    // By reference: it is in no object but the Secret.
    let token = &pod["containers"][0]["env"][1];
    assert_eq!(token["name"], "CONSUL_HTTP_TOKEN");
    assert_eq!(token["valueFrom"]["secretKeyRef"]["key"], "token");
    assert_eq!(pod["containers"][0]["image"], "agent:1");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], uid);
    // Looked at again, no second one is made.
    scene.snapshot("now").await;
    scene.job();
    scene.end(&End::Saved(&[]));
    let status = scene.snapshot("now").await;
    assert_eq!(
        (&status["phase"], &status["index"], &status["sha256"]),
        (&json!("Completed"), &json!(42), &json!("ab"))
    );
    assert_eq!(status["location"], format!("pvc://keep/consul/{file}"));
    assert_eq!(status["completionTime"], NOON);
    assert_eq!(condition(&status, "Ready"), "True Verified");
    let cluster = scene.get("consulclusters", "demo");
    assert_eq!(status["clusterID"], cluster["status"]["clusterID"]);
    assert_eq!(cluster["status"]["lastBackup"]["name"], "now");
    assert_eq!(cluster["status"]["lastBackup"]["time"], NOON);
    // Its job goes, and nothing else happens any more.
    scene.snapshot("now").await;
    assert_eq!(scene.names("jobs"), [""; 0]);
    let writes = scene.platform.world().writes.len();
    assert_eq!(scene.snapshot("now").await, status);
    assert_eq!(scene.platform.world().writes.len(), writes);
    assert!(
        scene
            .platform
            .world()
            .events
            .contains(&"SnapshotVerified".to_owned())
    );
}

#[tokio::test]
async fn storage_is_reached_by_the_pod_and_the_operator_reads_no_secret() {
    let scene = Scene::new(json!({"servers": 1})).await;
    scene.make(
        "ConsulSnapshot",
        "now",
        json!({"cluster": "demo", "destination": bucket()}),
    );
    let status = scene.snapshot("now").await;
    let arguments = scene.arguments();
    assert!(arguments.contains(&"-aws-s3-endpoint=https://minio:9000".to_owned()));
    let last = arguments.last().unwrap();
    assert!(last.starts_with("s3://keep/consul/now-"), "{last}");
    assert_eq!(status["location"], *last);
    let job = scene.job();
    let env = job["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
    for wanted in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "\"name\":\"keys\"",
        "SSL_CERT_FILE",
    ] {
        assert!(env.contains(wanted), "{wanted}: {env}");
    }
    // The Secret is missing: said in the platform's words, and waited for.
    let waiting = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"keys\" not found"}});
    scene.pod(json!({"containerStatuses": [{"name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting}]}));
    let status = scene.snapshot("now").await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(
        status["message"],
        "CreateContainerConfigError: secret \"keys\" not found"
    );
    assert_eq!(condition(&status, "Reconciling"), "True PodTrouble");
    let why = "Error writing snapshot file: there is no bucket \"keep\" at https://minio:9000: create it, or name another one";
    scene.end(&End::Said(why));
    let status = scene.snapshot("now").await;
    assert_eq!(
        (&status["phase"], &status["message"]),
        (&json!("Failed"), &json!(why))
    );
    assert_eq!(condition(&status, "Stalled"), "True Failed");
    assert!(scene.get("consulclusters", "demo")["status"]["lastBackup"].is_null());
    // With its log, for whoever looks.
    scene.snapshot("now").await;
    scene.job();
}

#[tokio::test]
async fn a_cluster_that_is_not_there_or_does_not_serve_is_waited_for() {
    let scene = Scene::new(json!({"servers": 1})).await;
    scene.make(
        "ConsulSnapshot",
        "other",
        json!({"cluster": "nobody", "destination": claim()}),
    );
    let status = scene.snapshot("other").await;
    assert_eq!(status["phase"], "Pending");
    assert_eq!(
        status["message"],
        "there is no ConsulCluster \"nobody\" in this namespace"
    );
    let stored = scene.get("consulclusters", "demo")["status"].clone();
    let mut gone = stored.clone();
    for condition in gone["conditions"].as_array_mut().unwrap() {
        if condition["type"] == "Available" {
            condition["status"] = json!("False");
        }
    }
    scene.platform.world().edit("consulclusters", "demo")["status"] = gone;
    scene.make(
        "ConsulSnapshot",
        "now",
        json!({"cluster": "demo", "destination": claim()}),
    );
    let status = scene.snapshot("now").await;
    assert_eq!(condition(&status, "Reconciling"), "True ClusterUnavailable");
    assert_eq!(scene.names("jobs"), [""; 0]);
    scene.platform.world().edit("consulclusters", "demo")["status"] = stored;
    assert_eq!(scene.snapshot("now").await["phase"], "Running");
}

fn nightly(count: i64) -> Value {
    json!({"cluster": "demo", "schedule": "0 * * * *", "destination": claim(), "retention": {"count": count}})
}

#[tokio::test]
async fn a_schedule_takes_one_at_a_time_and_makes_up_for_missed_ones_once() {
    let scene = Scene::new(json!({"servers": 1})).await;
    scene.make("ConsulSnapshotSchedule", "nightly", nightly(2));
    let status = scene.schedule().await;
    assert_eq!(status["nextTime"], "2026-11-23T13:00:00Z");
    assert_eq!(scene.names("consulsnapshots"), [""; 0]);
    // Away for five hours: one, for the last of them.
    scene.pass(5 * 60 + 10);
    let status = scene.schedule().await;
    let first = "nightly-20261123-170000";
    assert_eq!(scene.names("consulsnapshots"), [first]);
    assert_eq!(status["lastScheduleTime"], "2026-11-23T17:00:00Z");
    assert_eq!(scene.schedule().await["active"], first);
    scene.snapshot(first).await;
    // It takes long: the next one waits for it, and comes then.
    scene.pass(60);
    scene.schedule().await;
    assert_eq!(scene.names("consulsnapshots"), [first]);
    scene.end(&End::Saved(&[]));
    scene.snapshot(first).await;
    scene.snapshot(first).await;
    scene.schedule().await;
    let second = "nightly-20261123-180000";
    assert_eq!(scene.names("consulsnapshots"), [first, second]);
    // An operator that dies before the status is written makes no second one.
    scene
        .platform
        .world()
        .edit("consulsnapshotschedules", "nightly")["status"] = Value::Null;
    scene.schedule().await;
    assert_eq!(scene.names("consulsnapshots"), [first, second]);
}

#[tokio::test]
async fn old_ones_go_after_a_newer_one_was_verified_and_only_those_of_the_schedule() {
    let scene = Scene::new(json!({"servers": 1})).await;
    scene.make("ConsulSnapshotSchedule", "nightly", nightly(2));
    scene.make(
        "ConsulSnapshot",
        "by-hand",
        json!({"cluster": "demo", "destination": claim()}),
    );
    scene.take("by-hand", &End::Saved(&[])).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        scene.pass(60);
        scene.schedule().await;
        let names = scene.names("consulsnapshots");
        let latest = names.iter().filter(|n| n.starts_with("nightly")).max();
        let latest = latest.unwrap().clone();
        scene.snapshot(&latest).await;
        let told: Vec<String> = scene
            .arguments()
            .iter()
            .filter_map(|arg| arg.strip_prefix("-delete=").map(str::to_owned))
            .collect();
        scene.take(&latest, &End::Saved(&told)).await;
        made.push((latest, told));
    }
    assert!(made[0].1.is_empty() && made[1].1.is_empty(), "{made:?}");
    // The third is verified: the first goes, with its file.
    assert_eq!(made[2].1.len(), 1);
    assert!(made[2].1[0].contains(&made[0].0), "{made:?}");
    let left = scene.names("consulsnapshots");
    assert_eq!(left, ["by-hand", &made[1].0, &made[2].0]);
    // Failed ones delete nothing, however many there are.
    for _ in 0..2 {
        scene.pass(60);
        scene.schedule().await;
        let latest = scene.names("consulsnapshots").pop().unwrap();
        scene.take(&latest, &End::Said("no")).await;
    }
    let status = scene.schedule().await;
    assert_eq!(
        (&status["kept"], &status["failures"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(condition(&status, "Stalled"), "True LastFailed");
    assert_eq!(status["lastSuccess"], made[2].0);
    assert!(scene.names("consulsnapshots").contains(&made[1].0));
}

#[tokio::test]
async fn a_line_that_is_no_cron_line_is_refused_with_the_reason() {
    let scene = Scene::new(json!({"servers": 1})).await;
    let mut spec = nightly(2);
    spec["schedule"] = json!("61 * * * *");
    scene.make("ConsulSnapshotSchedule", "nightly", spec);
    let status = scene.schedule().await;
    assert_eq!(condition(&status, "Stalled"), "True InvalidSchedule");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("\"61 * * * *\"")
            && message.contains("is no cron line: ")
            && !message.contains('\n'),
        "{message}"
    );
}
