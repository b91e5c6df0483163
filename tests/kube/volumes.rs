//! Volumes that grow while they are used.

use serde_json::json;
use tests::{KubeLoad, Path, Scene, wait_for};

fn sized(servers: usize, size: &str) -> serde_json::Value {
    json!({"servers": servers, "storage": {"size": size}})
}

/// Every claim grows, nobody is restarted, and a server that is added has as much. Where the storage class does not let volumes grow, the
/// condition says so, in the API server's words, and the cluster serves on.
#[test]
fn volumes_grow_while_they_are_used() {
    let scene = Scene::new("volumes");
    scene.apply("c", sized(1, "1Gi"));
    scene.wait_ready("c");
    let before = scene.server_uids("c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 1);
    load.wait_for_progress(10);
    scene.apply("c", sized(1, "2Gi"));
    let classes = scene
        .kube
        .get("/apis/storage.k8s.io/v1/storageclasses")
        .expect("classes");
    let classes = classes["items"].as_array().cloned().unwrap_or_default();
    let default = classes.iter().find(|class| {
        class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    });
    let grows = default.is_some_and(|class| class["allowVolumeExpansion"] == true);
    if grows {
        let size = |number: usize| {
            let claim = Path::CLAIMS.one(&scene.namespace, &format!("data-c-server-{number}"));
            let claim = scene.kube.get(&claim).map_err(|e| e.to_string())?;
            let size = claim["status"]["capacity"]["storage"].clone();
            (size == "2Gi")
                .then_some(())
                .ok_or_else(|| size.to_string())
        };
        wait_for("the claim has grown", || size(0));
        assert_eq!(scene.server_uids("c"), before);
        scene.apply("c", sized(3, "2Gi"));
        scene.wait_ready("c");
        for number in 1..3 {
            wait_for("a new server has as much", || size(number));
        }
    } else {
        let said = scene.wait_condition("c", "Stalled", "True");
        let text = said["message"].to_string();
        assert!(text.contains("resize"), "{text}");
        assert_eq!(scene.server_uids("c"), before);
    }
    load.wait_for_progress(10);
    load.check(&scene.kube, "c-server-0");
}
