//! A `ConsulCluster` that is deleted, made again, made larger and smaller.

use serde_json::json;
use tests::{Invariants, KubeLoad, Path, Scene, wait_for};

fn gone(scene: &Scene, name: &str) {
    wait_for("all that belongs to the cluster is gone", || {
        let mut left = Vec::new();
        for kind in [
            Path::CLUSTERS,
            Path::STATEFUL_SETS,
            Path::PODS,
            Path::SERVICES,
            Path::BUDGETS,
            Path::CONFIG_MAPS,
            Path::SERVICE_ACCOUNTS,
            Path::NETWORK_POLICIES,
            Path::DAEMON_SETS,
        ] {
            for object in scene.kube.list(kind, &scene.namespace, "") {
                let object = object["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if object == name || object.starts_with(&format!("{name}-")) {
                    left.push(object);
                }
            }
        }
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
}

#[test]
fn a_deleted_cluster_is_adopted_when_it_is_made_again() {
    let scene = Scene::new("adopted");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    let before = scene.wait_ready("c");
    load.wait_for_progress(20);
    scene
        .kube
        .delete(&Path::CLUSTERS.one(&scene.namespace, "c"))
        .expect("deleted");
    gone(&scene, "c");
    assert_eq!(
        scene.kube.list(Path::CLAIMS, &scene.namespace, "").len(),
        3,
        "the volumes are kept"
    );
    scene.apply("c", json!({"servers": 3}));
    let after = scene.wait_ready("c");
    assert_eq!(before["status"]["clusterID"], after["status"]["clusterID"]);
    assert_eq!(rules.flagged_ever(), 1, "nothing was bootstrapped again");
    load.wait_for_progress(5);
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}

/// A cluster that is deleted in `phase`, or as soon after it as that is seen, is gone, and its volumes are there.
fn deleted_in(phase: &str) {
    let scene = Scene::new(&format!("deleted-{}", phase.to_lowercase()));
    scene.apply("c", json!({"servers": 3, "networkPolicy": true}));
    scene.wait_phase("c", phase);
    scene
        .kube
        .delete(&Path::CLUSTERS.one(&scene.namespace, "c"))
        .expect("deleted");
    gone(&scene, "c");
    assert!(
        !scene
            .kube
            .list(Path::CLAIMS, &scene.namespace, "")
            .is_empty(),
        "the volumes are kept"
    );
}

#[test]
fn a_cluster_deleted_while_it_forms_leaves_only_its_volumes() {
    deleted_in("Bootstrapping");
}

#[test]
fn a_cluster_deleted_while_others_join_leaves_only_its_volumes() {
    deleted_in("Joining");
}

#[test]
fn a_cluster_deleted_while_its_first_server_is_replaced_leaves_only_its_volumes() {
    deleted_in("Rotating");
}

#[test]
fn a_network_policy_comes_and_goes_with_the_spec() {
    let scene = Scene::new("policy");
    let path = Path::NETWORK_POLICIES.one(&scene.namespace, "c-server");
    scene.apply("c", json!({"servers": 1, "networkPolicy": true}));
    scene.wait_ready("c");
    let policy = scene.kube.get(&path).expect("there is one");
    let ports: Vec<i64> = policy["spec"]["ingress"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|rule| rule["ports"].as_array().cloned().unwrap_or_default())
        .filter_map(|port| port["port"].as_i64())
        .collect();
    for port in [8300, 8301, 8302, 8500] {
        assert!(ports.contains(&port), "no rule for {port}: {policy:#}");
    }
    scene.apply("c", json!({"servers": 1, "networkPolicy": false}));
    wait_for("the policy is gone", || match scene.kube.get(&path) {
        Ok(_) => Err("it is there".to_owned()),
        Err(refused) if refused.status == 404 => Ok(()),
        Err(refused) => Err(refused.to_string()),
    });
}

#[test]
fn volumes_go_with_the_cluster_when_the_spec_says_so() {
    let scene = Scene::new("volumes-go");
    scene.apply(
        "c",
        json!({"servers": 1, "storage": {"retain": {"whenDeleted": "Delete"}}}),
    );
    scene.wait_ready("c");
    scene
        .kube
        .delete(&Path::CLUSTERS.one(&scene.namespace, "c"))
        .expect("deleted");
    gone(&scene, "c");
    wait_for("no claim is left", || {
        let left = scene.kube.list(Path::CLAIMS, &scene.namespace, "").len();
        (left == 0).then_some(()).ok_or(left)
    });
}

#[test]
fn three_servers_become_five_and_three_again() {
    let scene = Scene::new("scaled");
    let rules = Invariants::watch(&scene.kube, &scene.namespace, "c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    scene.apply("c", json!({"servers": 3}));
    scene.wait_ready("c");
    for servers in [5, 3] {
        scene.apply("c", json!({"servers": servers}));
        let object = scene.wait_ready("c");
        assert_eq!(object["status"]["voters"], servers, "{object:#}");
        load.wait_for_progress(10);
    }
    load.check(&scene.kube, "c-server-0");
    rules.finish();
}

/// Clients of both kinds join, and leave when they are not wanted any more.
#[test]
fn clients_come_and_go() {
    let scene = Scene::new("clients");
    let alive = |wanted: usize| {
        wait_for(&format!("{wanted} clients are members"), || {
            let members = scene
                .kube
                .agent(&scene.namespace, "c-server-0", "/v1/agent/members")
                .map_err(|e| e.to_string())?;
            let all = members.as_array().cloned().unwrap_or_default();
            let clients = all
                .iter()
                .filter(|member| member["Tags"]["role"] == "node" && member["Status"] == 1);
            let found = clients.count();
            (found == wanted).then_some(()).ok_or(members.to_string())
        });
    };
    scene.apply(
        "c",
        json!({"servers": 1, "clients": 2, "clientDaemonSet": true}),
    );
    scene.wait_ready("c");
    let nodes = scene.kube.get("/api/v1/nodes").expect("nodes")["items"]
        .as_array()
        .map_or(0, Vec::len);
    alive(2 + nodes);
    // Applications find the agent of their host by one name.
    let service = Path::SERVICES.one(&scene.namespace, "c-client-agent");
    let spec = scene.kube.get(&service).expect("the Service")["spec"].clone();
    assert_eq!(spec["internalTrafficPolicy"], "Local");
    let path = format!("{}:http/proxy/v1/agent/self", service);
    wait_for("an agent answers by that name", || {
        let own = scene.kube.get(&path).map_err(|e| e.to_string())?;
        let name = own["Config"]["NodeName"].as_str().unwrap_or_default();
        let host = name.strip_prefix("c-client-").unwrap_or_default();
        // Not one of the other kind, which is numbered.
        let found = !host.is_empty() && host.parse::<u32>().is_err();
        found.then_some(()).ok_or_else(|| name.to_owned())
    });
    scene.apply(
        "c",
        json!({"servers": 1, "clients": 1, "clientDaemonSet": false}),
    );
    scene.wait_ready("c");
    alive(1);
    wait_for("the Service of the hosts' agents goes", || {
        let left = scene.kube.get(&service).err().map(|refused| refused.status);
        (left == Some(404)).then_some(()).ok_or("it is there")
    });
}

/// Two of three volumes are lost for good: nothing happens until a person confirms the survivor, and then once.
#[test]
fn a_lost_quorum_is_recovered_on_the_code_of_the_condition() {
    let scene = Scene::new("quorum");
    scene.apply("c", json!({"servers": 3}));
    let before = scene.wait_ready("c");
    let load = KubeLoad::start(&scene.kube, &scene.namespace, "c", 3);
    load.wait_for_progress(20);
    for number in [1, 2] {
        let claim = Path::CLAIMS.one(&scene.namespace, &format!("data-c-server-{number}"));
        scene.kube.delete(&claim).expect("deleted");
    }
    // The claims go as soon as no pod uses them any more.
    for number in [1, 2] {
        scene.kill_pod(&format!("c-server-{number}"));
    }
    let code = wait_for("a code", || scene.recovery_code("c"));
    let stalled = scene.condition("c", "Stalled", "True").unwrap_or_default();
    let text = stalled["message"].as_str().unwrap_or_default();
    assert!(text.contains("c-server-0, which has most"), "{text}");
    scene.apply("c", json!({"servers": 3, "recovery": {"token": code}}));
    let after = scene.wait_ready("c");
    assert_eq!(before["status"]["clusterID"], after["status"]["clusterID"]);
    load.wait_for_progress(5);
}
