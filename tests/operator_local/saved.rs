//! Saved states without Kubernetes: a cluster's state goes to a file, and a new cluster starts from it, once.

use crate::local::{Local, path};

#[test]
fn a_new_cluster_starts_from_a_file_once() {
    let old = Local::new("{servers: 1}");
    old.operator("up", &["--detach"]).success();
    let put = |local: &Local, key: &str| {
        let reply = local.server(0).put(&format!("/v1/kv/{key}"), "x");
        assert_eq!(reply.expect("an answer").status, 200);
    };
    let has = |local: &Local, key: &str| {
        let reply = local.server(0).get(&format!("/v1/kv/{key}?raw"));
        reply.expect("an answer").status == 200
    };
    put(&old, "before");
    let file = old.folder.path().join("state.snap");
    let said = old.operator("snapshot", &[path(&file)]).success();
    assert!(
        said.starts_with("Saved and verified snapshot to index "),
        "{said}"
    );
    old.operator("down", &[]).success();
    let said = old.operator("snapshot", &[path(&file)]).failure();
    assert!(said.contains("the cluster has no leader"), "{said}");

    let new = Local::new(&format!(
        "{{servers: 1, restoreFrom: {{file: {}}}}}",
        file.display()
    ));
    let said = new.operator("up", &["--detach"]).success();
    assert!(said.contains("is put back, as of index "), "{said}");
    assert!(has(&new, "before"));
    assert_eq!(new.status()["status"]["restored"]["phase"], "Completed");
    put(&new, "after");
    // The same file is no order to do it again.
    new.operator("down", &[]).success();
    let said = new.operator("up", &["--detach"]).success();
    assert!(!said.contains("put back"), "{said}");
    assert!(has(&new, "before") && has(&new, "after"));
    new.operator("down", &[]).success();
}

#[test]
fn a_file_that_cannot_be_put_back_starts_nothing() {
    let local = Local::new("{servers: 1}");
    let file = local.folder.path().join("state.snap");
    let spec = format!("{{servers: 1, restoreFrom: {{file: {}}}}}", file.display());
    local.write(&spec);
    let said = local.operator("up", &[]).failure();
    assert!(
        said.contains("spec.restoreFrom") && said.contains("No such file"),
        "{said}"
    );
    std::fs::write(&file, "something else").expect("written");
    let said = local.operator("up", &[]).failure();
    assert!(said.contains("this is no saved state"), "{said}");
    assert!(local.agents().is_empty());
}
