//! Keys, certificates and tokens on a real Kubernetes: kubelets that ask for HTTPS, files that reach running pods late,
//! agents that refuse.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use tests::{Kube, Path, Scene, Writers, binary, kubectl, longest_gap, wait_for};

fn on(mut spec: Value) -> Value {
    spec["gossip"] = json!({"enabled": true});
    spec["tls"] = json!({"mode": "Generated"});
    spec["acl"] = json!({"enabled": true});
    spec
}

/// A value of the Secret that holds everything.
fn secret(scene: &Scene, key: &str) -> String {
    find_secret(scene, key).expect("a value")
}

/// The same, where it is; else why not.
fn find_secret(scene: &Scene, key: &str) -> Result<String, String> {
    let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
    let namespace = &scene.namespace;
    kubectl(&[
        "-n",
        namespace,
        "get",
        "secret",
        "c-security",
        "-o",
        &template,
    ])
}

/// Waits until everything is on, and nothing is being changed.
fn wait_protected(scene: &Scene) -> Value {
    wait_for("gossip, connections and tokens are protected", || {
        let cluster = scene.get("c").map_err(|e| e.to_string())?;
        let security = &cluster["status"]["security"];
        let full = ["gossip", "tls", "acl"].map(|part| &security[part] == "Full");
        (full == [true; 3] && security["message"].is_null())
            .then(|| security.clone())
            .ok_or_else(|| cluster["status"].to_string())
    })
}

fn ask(scene: &Scene, pod: &str, path: &str, token: &str) -> Result<Value, String> {
    let path = Kube::secure_path(&scene.namespace, pod, path, token);
    scene.kube.get(&path).map_err(|e| e.to_string())
}

fn names(list: &Value, key: &str) -> BTreeSet<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| one[key].as_str().map(str::to_owned))
        .collect()
}

/// Writes to three servers, with and without the token: whoever asks for none yet needs none.
fn write(scene: &Scene, token: &str) -> Writers {
    let (namespace, token) = (scene.namespace.clone(), token.to_owned());
    Writers::by(&scene.kube, 3, move |server, path| {
        let pod = format!("c-server-{server}");
        vec![
            Kube::secure_path(&namespace, &pod, path, &token),
            Kube::agent_path(&namespace, &pod, path),
        ]
    })
}

/// Ends it; every acknowledged write is there.
fn check(writers: Writers, scene: &Scene, token: &str) {
    let attempts = writers.check_by(&scene.kube, |path| {
        Kube::secure_path(&scene.namespace, "c-server-0", path, token)
    });
    let longest = longest_gap(&attempts).as_secs_f64();
    let done = attempts.iter().filter(|one| one.failure.is_none()).count();
    println!("{done} writes, at most {longest:.2} s between two");
}

/// Nobody who reads logs or Events learns a secret.
fn nothing_is_told(scene: &Scene) {
    let namespace = &scene.namespace;
    let mut told = kubectl(&["-n", namespace, "get", "events", "-o", "json"]).expect("events");
    for pod in scene.operators() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        told.push_str(&kubectl(&["-n", namespace, "logs", name]).expect("a log"));
    }
    for server in scene.servers("c") {
        let name = server["metadata"]["name"].as_str().unwrap_or_default();
        told.push_str(&kubectl(&["-n", namespace, "logs", name]).expect("a log"));
    }
    for key in ["token", "agent.token", "recovery.token", "gossip.key"] {
        assert!(!told.contains(&secret(scene, key)), "{key} is told");
    }
}

/// What a new cluster is like, what its clients and backups make of it, and that nobody notices other keys.
#[test]
fn a_new_cluster_is_protected_and_its_keys_are_replaced_while_it_serves() {
    let scene = Scene::new("secure");
    scene.apply("c", on(json!({"servers": 3, "clients": 1})));
    scene.wait_ready("c");
    wait_protected(&scene);
    let token = secret(&scene, "token");

    // Nothing listens for HTTP, and without a token nothing is told.
    let plain = scene
        .kube
        .agent(&scene.namespace, "c-server-0", "/v1/agent/version");
    assert!(plain.is_err(), "{plain:?}");
    let anonymous = ask(&scene, "c-server-0", "/v1/kv/x", "");
    assert!(
        anonymous.as_ref().is_err_and(|why| why.contains("403")),
        "{anonymous:?}"
    );

    // Agents register themselves, the client among them.
    let nodes = ["c-client-0", "c-server-0", "c-server-1", "c-server-2"];
    wait_for("every agent is in the catalog", || {
        let found = names(
            &ask(&scene, "c-server-1", "/v1/catalog/nodes", &token)?,
            "Node",
        );
        (found == nodes.map(str::to_owned).into())
            .then_some(())
            .ok_or(format!("{found:?}"))
    });

    // As a person in the pod has it.
    let file = "-token-file=/consul/secure/token";
    let members = [
        "-n",
        &scene.namespace,
        "exec",
        "c-server-2",
        "--",
        "/bin/agent",
        "members",
        file,
    ];
    let said = kubectl(&members).expect("the members");
    assert_eq!(said.matches("alive").count(), 4, "{said}");
    let picture = Command::new(binary("operator"))
        .args(["kubectl", "status", "c", "--namespace", &scene.namespace])
        .output()
        .expect("the plugin starts");
    let picture = String::from_utf8_lossy(&picture.stdout).into_owned();
    println!("{picture}");
    assert!(picture.contains("c-server-2"), "{picture}");

    // A backup goes through HTTPS with the token, by reference.
    scene.claim("keep");
    let to = json!({"cluster": "c", "destination": {"pvc": {"claimName": "keep"}}});
    scene.make(Path::SNAPSHOTS, "ConsulSnapshot", "now", &to);
    scene.wait_phase_of(Path::SNAPSHOTS, "now", "Completed");

    let writer = write(&scene, &token);
    let before = scene.server_uids("c");
    lose_what_all_is_kept_in(&scene);
    let path = Path::CLUSTERS.one(&scene.namespace, "c");
    for (annotation, key) in [
        ("rotate-gossip-key", "gossip.key"),
        ("rotate-authority", "signer.crt"),
    ] {
        let old = secret(&scene, key);
        let name = format!("consulcluster.dev/{annotation}");
        let patch = json!({"metadata": {"annotations": {name: "once"}}});
        scene.kube.patch(&path, &patch).expect("an annotation");
        wait_for(&format!("another {key}"), || {
            let now = secret(&scene, key);
            (now != old).then_some(()).ok_or_else(|| {
                scene
                    .get("c")
                    .map_or_else(|e| e.to_string(), |c| c["status"].to_string())
            })
        });
        wait_protected(&scene);
    }
    assert_eq!(
        scene.server_uids("c"),
        before,
        "nobody was restarted for it"
    );
    check(writer, &scene, &token);
    nothing_is_told(&scene);
}

/// Somebody deletes the Secret that everything is made from: agents have enough to make it again, but for the key of
/// the authority, which another one takes the place of.
fn lose_what_all_is_kept_in(scene: &Scene) {
    let all = |keys: [&str; 2]| keys.map(|key| secret(scene, key));
    let (kept, authority) = (all(["token", "gossip.key"]), secret(scene, "signer.crt"));
    let path = Path::SECRETS.one(&scene.namespace, "c-security");
    scene.kube.delete(&path).expect("deleted");
    wait_for(
        "it is made again, with another authority",
        || match find_secret(scene, "signer.crt")? {
            same if same == authority => Err("it was not made again yet".to_owned()),
            other if other.contains("BEGIN CERTIFICATE") => Ok(()),
            other => Err(other),
        },
    );
    wait_protected(scene);
    assert_eq!(all(["token", "gossip.key"]), kept);
    let told = scene.events("c");
    let told = told.iter().filter(|(reason, _)| reason == "VaultMadeAgain");
    assert_eq!(told.count(), 1, "{:?}", scene.events("c"));
}

/// An agent like the cluster's clients, of which the cluster knows nothing.
fn from_outside(scene: &Scene, node: &str) {
    let client = Path::PODS.one(&scene.namespace, "c-client-0");
    let mut spec = scene.kube.get(&client).expect("a client")["spec"].take();
    let fields = spec.as_object_mut().expect("a spec");
    for field in ["nodeName", "hostname", "subdomain"] {
        fields.remove(field);
    }
    let args = spec["containers"][0]["args"].as_array_mut();
    for arg in args.expect("arguments") {
        if arg.as_str().is_some_and(|arg| arg.starts_with("-node=")) {
            *arg = json!(format!("-node={node}"));
        }
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": node}, "spec": spec,
    });
    let pods = Path::PODS.list(&scene.namespace);
    scene.kube.create(&pods, &pod).expect("a pod");
    wait_for(&format!("{node} is a member"), || {
        let members = (scene.kube).agent(&scene.namespace, "c-server-0", "/v1/agent/members");
        let members = members.map_err(|e| e.to_string())?;
        names(&members, "Name")
            .contains(node)
            .then_some(())
            .ok_or(members.to_string())
    });
}

/// A cluster of before is turned on in the order in which no two agents stop understanding each other.
#[test]
fn a_cluster_that_was_formed_without_is_protected_while_it_serves() {
    let scene = Scene::new("secured");
    scene.apply("c", json!({"servers": 3, "clients": 1}));
    scene.wait_ready("c");
    let token = "5a1f6c1e-7f3b-4a55-9a86-0d6a8c1f2b10";
    let own = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"token": token},
    });
    let list = Path::SECRETS.list(&scene.namespace);
    scene.kube.create(&list, &own).expect("a Secret");
    from_outside(&scene, "vm-1");
    let writer = write(&scene, token);
    let mut spec = on(json!({"servers": 3, "clients": 1}));
    spec["acl"] = json!({"enabled": true, "tokenSecretRef": {"name": "mine"}});
    scene.apply("c", spec);
    // Nothing is asked of anybody who may not have it.
    wait_for("it waits for the agent from outside", || {
        let status = scene.get("c").map_err(|e| e.to_string())?["status"].take();
        let said = status["security"]["message"].as_str().unwrap_or_default();
        said.contains("vm-1 are not pods of this cluster")
            .then_some(())
            .ok_or(status.to_string())
    });
    let stranger = Path::PODS.one(&scene.namespace, "vm-1");
    scene.kube.delete(&stranger).expect("deleted");
    wait_protected(&scene);
    assert_eq!(secret(&scene, "token"), token);
    check(writer, &scene, token);
    wait_for("everybody is a member again", || {
        let members = ask(&scene, "c-server-0", "/v1/agent/members", token)?;
        let all = members.as_array().into_iter().flatten();
        let alive = all.filter(|member| member["Status"] == 1).count();
        (alive == 4).then_some(()).ok_or(members.to_string())
    });
}
