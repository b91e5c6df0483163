//! Saved states that are put back: once, wherever the operator is cut off, and as the beginning of a new cluster.

use serde_json::{Value, json};

use super::{End, Scene, claim, condition};
use crate::platform::{Cut, PLACE, Platform};

#[tokio::test]
async fn a_restore_runs_one_job_and_never_a_second_one() {
    let scene = Scene::new(json!({"servers": 3})).await;
    let source = json!({"cluster": "demo", "source": {"snapshot": "now"}});
    scene.make("ConsulRestore", "back", source);
    let status = scene.restore("back").await;
    assert_eq!(
        status["message"],
        "there is no ConsulSnapshot \"now\" in this namespace"
    );
    scene.make(
        "ConsulSnapshot",
        "now",
        json!({"cluster": "demo", "destination": claim()}),
    );
    scene.take("now", &End::Saved(&[])).await;
    // Made, latched, allowed to run: in this order.
    scene.restore("back").await;
    assert_eq!(scene.job()["spec"]["suspend"], true);
    assert_eq!(scene.job()["spec"]["backoffLimit"], 0);
    assert!(scene.arguments().contains(&"-sha256=ab".to_owned()));
    let status = scene.restore("back").await;
    assert_eq!(status["jobUID"], scene.job()["metadata"]["uid"]);
    assert_eq!(scene.job()["spec"]["suspend"], true);
    scene.restore("back").await;
    assert_eq!(scene.job()["spec"]["suspend"], false);
    scene.end(&End::Saved(&[]));
    let status = scene.restore("back").await;
    assert_eq!(
        (&status["phase"], &status["message"]),
        (&json!("Completed"), &json!("put back, as of index 42"))
    );
    // Whatever becomes of the job, that was it.
    let name = scene.names("jobs")[0].clone();
    scene.platform.world().remove("jobs", &name);
    scene.restore("back").await;
    assert_eq!(scene.names("jobs"), [""; 0]);
}

#[tokio::test]
async fn a_restore_whose_job_is_lost_has_failed() {
    let scene = Scene::new(json!({"servers": 1})).await;
    let source = json!({"destination": claim(), "file": "x.snap"});
    scene.make(
        "ConsulRestore",
        "back",
        json!({"cluster": "demo", "source": source}),
    );
    scene.restore("back").await;
    scene.restore("back").await;
    let name = scene.names("jobs")[0].clone();
    scene.platform.world().remove("jobs", &name);
    let status = scene.restore("back").await;
    assert_eq!(condition(&status, "Stalled"), "True JobGone");
    scene.restore("back").await;
    assert_eq!(scene.names("jobs"), [""; 0]);
}

/// The operator is cut off before and after each of its calls: one job runs, whatever happens.
#[tokio::test]
async fn a_restore_is_done_once_wherever_the_operator_is_cut_off() {
    for at in 0..6 {
        for cut in [Cut::Before, Cut::After] {
            let scene = Scene::new(json!({"servers": 1})).await;
            let source = json!({"destination": claim(), "file": "x.snap"});
            scene.make(
                "ConsulRestore",
                "back",
                json!({"cluster": "demo", "source": source}),
            );
            scene.platform.world().cut = Some((at, cut));
            let mut jobs = std::collections::BTreeSet::new();
            for _ in 0..20 {
                // One that fails is tried again, by an operator that knows nothing.
                let _ = scene.worker.restore(PLACE.0, "back").await;
                if let Some(name) = scene.names("jobs").first() {
                    let job = scene.get("jobs", name);
                    if job["spec"]["suspend"] == false {
                        jobs.insert(job["metadata"]["uid"].as_str().unwrap().to_owned());
                        if job["status"].is_null() {
                            scene.end(&End::Saved(&[]));
                        }
                    }
                }
            }
            let status = scene.get("consulrestores", "back")["status"].clone();
            assert_eq!(status["phase"], "Completed", "cut at {at} {cut:?}");
            assert_eq!(jobs.len(), 1, "cut at {at} {cut:?}");
        }
    }
}

#[tokio::test]
async fn a_new_cluster_is_ready_after_it_started_from_a_saved_state_once() {
    let from = json!({"destination": claim(), "file": "x.snap"});
    let platform = Platform::new(json!({"servers": 3, "restoreFrom": from}));
    let operator = platform.operator();
    assert!(platform.settle(&operator).await, "{}", platform.why());
    let scene = Scene::of(platform);
    let said = scene.platform.world().condition("Ready");
    assert!(
        said.starts_with("False Restoring: spec.restoreFrom: "),
        "{said}"
    );
    let names = scene.names("consulrestores");
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("demo-initial-"), "{names:?}");
    for _ in 0..3 {
        scene.restore(&names[0]).await;
    }
    scene.end(&End::Saved(&[]));
    scene.restore(&names[0]).await;
    scene.platform.round(&operator).await;
    let cluster = scene.get("consulclusters", "demo");
    assert_eq!(cluster["status"]["restored"]["phase"], "Completed");
    assert!(
        scene
            .platform
            .world()
            .condition("Ready")
            .starts_with("True")
    );
    // The record is latched: with its ConsulRestore gone, nothing is done again.
    scene.platform.world().remove("consulrestores", &names[0]);
    for _ in 0..3 {
        scene.platform.round(&operator).await;
    }
    assert_eq!(scene.names("consulrestores"), [""; 0]);
}

#[tokio::test]
async fn a_resource_that_adopts_volumes_does_not_put_a_saved_state_over_them() {
    let scene = Scene::new(json!({"servers": 3})).await;
    let from = json!({"destination": claim(), "file": "x.snap"});
    scene.platform.world().delete_cluster();
    scene
        .platform
        .world()
        .make_cluster(json!({"servers": 3, "restoreFrom": from}));
    let operator = scene.platform.operator();
    assert!(
        scene.platform.settle(&operator).await,
        "{}",
        scene.platform.why()
    );
    let cluster = scene.get("consulclusters", "demo");
    let restored = &cluster["status"]["restored"];
    assert_eq!(restored["phase"], "Completed");
    assert!(restored["message"].as_str().unwrap().starts_with("skipped"));
    assert_eq!(scene.names("consulrestores"), [""; 0]);
}

#[tokio::test]
async fn a_new_cluster_whose_saved_state_cannot_be_read_says_so_and_is_not_ready() {
    let from = json!({"destination": claim(), "file": "x.snap"});
    let platform = Platform::new(json!({"servers": 1, "restoreFrom": from}));
    let operator = platform.operator();
    assert!(platform.settle(&operator).await, "{}", platform.why());
    let scene = Scene::of(platform);
    let name = scene.names("consulrestores")[0].clone();
    for _ in 0..3 {
        scene.restore(&name).await;
    }
    scene.end(&End::Said("Error opening snapshot file: No such file"));
    scene.restore(&name).await;
    scene.platform.round(&operator).await;
    let said = scene.platform.world().condition("Stalled");
    assert!(
        said.starts_with("True RestoreFailed: ") && said.contains("No such file"),
        "{said}"
    );
    // Told once, not at every look.
    scene.platform.round(&operator).await;
    let writes = scene.platform.world().writes.len();
    scene.platform.round(&operator).await;
    assert_eq!(scene.platform.world().writes.len(), writes);
    // A person takes the field away: fine as it is.
    scene.platform.world().change("restoreFrom", Value::Null);
    scene.platform.round(&operator).await;
    assert!(
        scene
            .platform
            .world()
            .condition("Ready")
            .starts_with("True")
    );
}
