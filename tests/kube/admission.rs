//! What the API server refuses, and in which words.

use std::process::Command;

use serde_json::{Value, json};
use tests::{Options, Path, Scene, program};

fn quiet() -> Scene {
    Scene::with(
        "admission",
        &Options {
            no_operator: true,
            ..Default::default()
        },
    )
}

#[test]
fn every_invalid_cluster_is_refused_with_a_sentence_that_names_the_field() {
    let scene = quiet();
    for (name, spec, words) in [
        ("c", json!({"servers": 2}), &["servers", "1, 3, 5 or 7"][..]),
        ("c", json!({"servers": 9}), &["servers"]),
        ("c", json!({"servers": 0}), &["servers"]),
        ("c", json!({"servers": "three"}), &["servers"]),
        (
            "c",
            json!({"servers": 3, "ephemeral": true}),
            &["ephemeral", "servers: 1"],
        ),
        (
            "c",
            json!({"extraArgs": ["-bootstrap"]}),
            &["extraArgs", "sets itself", "-bootstrap"],
        ),
        (
            "c",
            json!({"extraArgs": ["--bootstrap-expect=3"]}),
            &["extraArgs", "sets itself"],
        ),
        (
            "c",
            json!({"config": {"bootstrap": true}}),
            &["config", "sets itself: bootstrap"],
        ),
        (
            "c",
            json!({"config": {"retry_join": ["10.0.0.1"]}}),
            &["config", "retry_join"],
        ),
        ("c", json!({"image": ""}), &["image", "at least 1"]),
        ("c", json!({"domain": ""}), &["domain"]),
        (
            "c",
            json!({"storage": {"size": "lots"}}),
            &["storage.size", "such as 10Gi"],
        ),
        (
            "c",
            json!({"storage": {"size": "0"}}),
            &["storage.size", "above 0"],
        ),
        (
            "c",
            json!({"storage": {"retain": {"whenDeleted": "Perhaps"}}}),
            &["whenDeleted", "Retain", "Delete"],
        ),
        (
            "c",
            json!({"imagePullPolicy": "Sometimes"}),
            &["imagePullPolicy", "IfNotPresent"],
        ),
        (
            "c",
            json!({"updatePolicy": {"maxLag": -1}}),
            &["updatePolicy.maxLag"],
        ),
        (
            "c",
            json!({"tls": {"mode": "Secret"}}),
            &["tls.secretRef is for mode: Secret"],
        ),
        (
            "c",
            json!({"tls": {"mode": "Secret", "secretRef": {"name": "mine"}}, "clients": 1}),
            &["tls.clientSecretRef is needed"],
        ),
        (
            "c",
            json!({"gossip": {"rotateDays": 0}}),
            &["gossip.rotateDays"],
        ),
        (
            "c",
            json!({"restoreFrom": {"file": "/a/path"}}),
            &["restoreFrom needs a snapshot, or a destination"],
        ),
        (
            "c",
            json!({"restoreFrom": {"snapshot": "x", "file": "y"}}),
            &["either a snapshot, or a file"],
        ),
        ("c", json!({"datacenter": "no spaces"}), &["datacenter"]),
        ("c", json!({"clients": -1}), &["clients"]),
        ("c", json!({"nodePrefix": "-x"}), &["nodePrefix"]),
        (
            "a-name-of-more-than-forty-characters-is-too-long",
            json!({}),
            &["metadata.name", "40"],
        ),
    ] {
        let list = Path::CLUSTERS.list(&scene.namespace);
        let refused = scene
            .kube
            .create(&list, &tests::cluster(name, spec.clone()))
            .expect_err(&format!("{spec} was taken"));
        assert_eq!(refused.status, 422, "{spec}: {refused}");
        for word in words {
            assert!(
                refused.message.contains(word),
                "{spec}: no {word:?} in {refused}"
            );
        }
    }
}

#[test]
fn what_cannot_change_is_refused_when_it_changes() {
    let scene = quiet();
    let storage = |size: &str| json!({"size": size, "storageClassName": "standard"});
    let first = json!({"servers": 3, "datacenter": "dc1", "storage": storage("2Gi")});
    scene.apply("c", first.clone());
    let changed = |field: &str, value: Value| {
        let mut spec = first.clone();
        spec[field] = value;
        spec
    };
    for (spec, words) in [
        (
            changed("datacenter", json!("dc2")),
            &["datacenter cannot change"][..],
        ),
        (
            changed("servers", json!(7)),
            &["servers changes by at most two"],
        ),
        (
            changed("nodePrefix", json!("x")),
            &["nodePrefix cannot change"],
        ),
        (
            changed("domain", json!("example.")),
            &["domain cannot change"],
        ),
        (changed("ephemeral", json!(true)), &["ephemeral"]),
        (
            changed("storage", storage("1Gi")),
            &["storage.size can only grow"],
        ),
        // Neither by taking the whole away, which means the default.
        (
            changed("storage", Value::Null),
            &["storage.storageClassName cannot change"],
        ),
        (
            changed(
                "storage",
                json!({"size": "2Gi", "storageClassName": "other"}),
            ),
            &["storageClassName"],
        ),
    ] {
        let refused = scene
            .try_apply("c", spec.clone())
            .expect_err(&format!("{spec} was taken"));
        for word in words {
            assert!(
                refused.message.contains(word),
                "{spec}: no {word:?} in {refused}"
            );
        }
    }
    // What grows is taken.
    scene.apply("c", changed("storage", storage("3Gi")));
    scene.apply(
        "c",
        json!({"servers": 5, "datacenter": "dc1", "storage": storage("3Gi")}),
    );
}

/// `kubectl scale` meets the same rules.
#[test]
fn an_even_number_is_refused_through_the_scale_subresource_too() {
    let scene = quiet();
    scene.apply("c", json!({"servers": 3}));
    let path = format!("{}/scale", Path::CLUSTERS.one(&scene.namespace, "c"));
    let refused = scene
        .kube
        .patch(&path, &json!({"spec": {"replicas": 4}}))
        .expect_err("four servers were taken");
    assert!(
        refused.message.contains("servers must be 1, 3, 5 or 7"),
        "{refused}"
    );
    scene
        .kube
        .patch(&path, &json!({"spec": {"replicas": 5}}))
        .expect("five servers are taken");
}

/// The id is written once, whoever writes it.
#[test]
fn the_cluster_id_cannot_be_changed_or_taken_away() {
    let scene = quiet();
    scene.apply("c", json!({"servers": 3}));
    let path = format!("{}/status", Path::CLUSTERS.one(&scene.namespace, "c"));
    let id = |id: Value| json!({"status": {"clusterID": id}});
    let first = "7b1ad4c0-5b0c-4d6c-8c8e-000000000001";
    scene
        .kube
        .patch(&path, &id(json!(first)))
        .expect("written once");
    for other in [json!("7b1ad4c0-5b0c-4d6c-8c8e-000000000002"), json!(null)] {
        let refused = scene
            .kube
            .patch(&path, &id(other.clone()))
            .expect_err(&format!("{other} was taken"));
        assert!(refused.message.contains("written once"), "{refused}");
    }
}

#[test]
fn every_sample_is_taken() {
    let scene = quiet();
    let samples = program("deploy/samples");
    let mut count = 0;
    for sample in std::fs::read_dir(&samples).expect("deploy/samples is a folder") {
        let path = sample.expect("readable").path();
        let output = Command::new("kubectl")
            .args([
                "apply",
                "--dry-run=server",
                "--namespace",
                &scene.namespace,
                "-f",
            ])
            .arg(&path)
            .output()
            .expect("kubectl starts");
        assert!(
            output.status.success(),
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        count += 1;
    }
    assert!(count >= 3, "{count} samples");
}
