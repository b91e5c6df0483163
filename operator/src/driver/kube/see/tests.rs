use serde_json::{Value, json};

use super::*;

const UID: &str = "8e2c3f8a-1f6a-4d59-a8a0-3a3f7f7b2c11";
const ID: &str = "6f0b0b4e-6f77-4b8b-9a3b-0d8f0a1c2d3e";

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn cluster(status: Value) -> ConsulCluster {
    let text = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata: {name: demo, namespace: prod}\nspec: {servers: 3}";
    let mut cluster = crate::crd::read(text).unwrap();
    cluster.metadata.uid = Some(UID.into());
    cluster.status = serde_json::from_value(status).unwrap();
    cluster
}

fn reserved() -> ConsulCluster {
    cluster(json!({"bootstrapServer": {"name": "demo-server-0", "pvcUID": "p"}}))
}

fn done() -> ConsulCluster {
    cluster(json!({"bootstrapServer": {"name": "demo-server-0"}, "clusterID": ID}))
}

fn set(replicas: i32, args: Value) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "demo-server", "uid": "s"},
        "spec": {"replicas": replicas, "serviceName": "demo-server", "selector": {}, "template": {
            "metadata": {"labels": {names::REVISION: "r1"}},
            "spec": {"containers": [{"name": "agent", "args": args}]},
        }},
    }))
    .unwrap()
}

fn pod(number: usize, state: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("demo-server-{number}"), "uid": "u", "labels": {names::REVISION: "r0"}},
        "spec": {"containers": [{"name": "agent", "args": ["agent", "-server"]}]},
        "status": {"podIP": "10.0.0.1", "containerStatuses": [
            {"name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 4, "state": state,
             "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "[INFO] agent: starts\ndisk full\n"}}},
        ]},
    }))
    .unwrap()
}

fn claim(number: usize, annotations: Value) -> PersistentVolumeClaim {
    serde_json::from_value(
        json!({"metadata": {"name": names::claim("demo", number), "annotations": annotations}}),
    )
    .unwrap()
}

fn see(cluster: &ConsulCluster, snapshot: &Snapshot) -> Observed {
    let desired = Desired::new(cluster, |_, _| String::new());
    snapshot.observed(cluster, &desired, BTreeMap::new(), now())
}

fn process(snapshot: &Snapshot) -> Process {
    see(&done(), snapshot)
        .servers
        .get("demo-server-0")
        .map(|agent| agent.process.clone())
        .unwrap_or_default()
}

#[test]
fn the_latch_is_what_the_status_records() {
    assert_eq!(latch(&cluster(Value::Null)), Latch::Open);
    assert_eq!(latch(&reserved()), Latch::Reserved("demo-server-0".into()));
    assert_eq!(latch(&done()), Latch::Done(ID.parse().unwrap()));
}

#[test]
fn a_running_pod_is_a_running_agent() {
    let running = json!({"running": {"startedAt": "2026-11-23T11:59:30Z"}});
    let snapshot = Snapshot {
        pods: vec![pod(0, running)],
        ..Snapshot::default()
    };
    let expected = Running {
        revision: "r0".into(),
        uptime_seconds: 30.0,
        ..Running::default()
    };
    assert_eq!(process(&snapshot), Process::Running(expected));
    assert_eq!(address(&snapshot.pods[0]), Some("10.0.0.1"));
    let mut stopping = snapshot.clone();
    stopping.pods[0].metadata.deletion_timestamp = Some(Time(now()));
    assert!(matches!(
        process(&stopping),
        Process::Running(Running { stopping: true, .. })
    ));
}

#[test]
fn a_pod_that_the_set_will_make_counts_as_running_with_what_it_will_be_started_with() {
    let flagged = Snapshot {
        servers: Some(set(1, json!(["agent", "-server", "-bootstrap"]))),
        ..Snapshot::default()
    };
    let expected = Running {
        bootstrap: true,
        revision: "r1".into(),
        ..Running::default()
    };
    assert_eq!(process(&flagged), Process::Running(expected.clone()));
    let plain = Snapshot {
        servers: Some(set(1, json!(["agent", "-server"]))),
        refusal: Some("exceeded quota".into()),
        ..Snapshot::default()
    };
    let refused = Running {
        bootstrap: false,
        trouble: "exceeded quota".into(),
        ..expected
    };
    assert_eq!(process(&plain), Process::Running(refused));
    let none = Snapshot {
        servers: Some(set(0, json!(["agent", "-server"]))),
        ..Snapshot::default()
    };
    assert_eq!(process(&none), Process::Absent);
}

#[test]
fn only_a_refusal_that_lasts_counts() {
    let event = |first: &str, last: &str, message: &str| -> Event {
        let object = json!({
            "metadata": {}, "involvedObject": {}, "message": message,
            "firstTimestamp": format!("2026-11-23T{first}Z"), "lastTimestamp": format!("2026-11-23T{last}Z"),
        });
        serde_json::from_value(object).unwrap()
    };
    let passing = event("11:59:59", "11:59:59", "the claim is being deleted");
    let old = event("09:00:00", "11:30:00", "the quota of this morning");
    let lasting = event("11:59:40", "11:59:55", "exceeded quota");
    assert_eq!(refusal(vec![passing.clone(), old.clone()], now()), None);
    let said = refusal(vec![old, lasting, passing], now());
    assert_eq!(said.as_deref(), Some("exceeded quota"));
}

#[test]
fn a_pod_without_a_volume_is_explained_by_its_claim() {
    let waiting = json!({
        "metadata": {"name": "demo-server-0"}, "spec": {"containers": []},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "unbound claims", "lastTransitionTime": "2026-11-23T11:59:00Z"}]},
    });
    let event = |uid: &str, last: &str, message: &str| -> Event {
        let object = json!({
            "metadata": {}, "involvedObject": {"uid": uid}, "message": message,
            "lastTimestamp": format!("2026-11-23T{last}Z"),
        });
        serde_json::from_value(object).unwrap()
    };
    let claim = json!({"metadata": {"name": "data-demo-server-0", "uid": "c"}, "status": {"phase": "Pending"}});
    let mut snapshot = Snapshot {
        pods: vec![serde_json::from_value(waiting).unwrap()],
        claims: vec![serde_json::from_value(claim).unwrap()],
        ..Snapshot::default()
    };
    let events = vec![
        event("c", "11:59:50", "class x not found"),
        event("c", "11:59:10", "something of before"),
        event("another", "11:59:55", "somebody else's"),
    ];
    snapshot.claim_refusals = claim_refusals(&snapshot.claims_pending(), events);
    let Process::Running(running) = process(&snapshot) else {
        panic!("it runs");
    };
    assert_eq!(
        running.trouble,
        "class x not found (Unschedulable: unbound claims)"
    );
}

#[test]
fn what_keeps_a_container_from_starting_is_said_in_the_kubelets_words() {
    let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "because"}});
    for (state, expected) in [
        (waiting("ContainerCreating"), ""),
        (waiting("PodInitializing"), ""),
        (waiting("ErrImagePull"), "ErrImagePull: because"),
        (
            waiting("CreateContainerConfigError"),
            "CreateContainerConfigError: because",
        ),
        (
            waiting("CrashLoopBackOff"),
            "CrashLoopBackOff: ended 4 times, last with code 1: disk full",
        ),
        (json!({"running": {}}), ""),
        (json!({"terminated": {"exitCode": 1}}), ""),
    ] {
        let snapshot = Snapshot {
            pods: vec![pod(0, state.clone())],
            ..Snapshot::default()
        };
        let Process::Running(running) = process(&snapshot) else {
            panic!("{state}")
        };
        assert_eq!(running.trouble, expected, "{state}");
    }
    let mut young = pod(0, waiting("CrashLoopBackOff"));
    if let Some(statuses) = young
        .status
        .as_mut()
        .and_then(|status| status.container_statuses.as_mut())
    {
        statuses[0].restart_count = 2;
    }
    let Process::Running(running) = process(&Snapshot {
        pods: vec![young],
        ..Snapshot::default()
    }) else {
        panic!()
    };
    assert_eq!(running.trouble, "", "it may yet come up");
}

#[test]
fn a_pod_without_a_host_is_trouble_only_after_a_while() {
    let unscheduled = |since: &str| {
        let status = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available", "lastTransitionTime": since}]});
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "demo-server-0"}, "status": status}),
        )
        .unwrap();
        trouble(&pod, now()).unwrap_or_default()
    };
    assert_eq!(unscheduled("2026-11-23T11:59:55Z"), "");
    assert_eq!(
        unscheduled("2026-11-23T11:59:50Z"),
        "Unschedulable: 0/1 nodes are available"
    );
}

#[test]
fn what_a_claim_may_hold_follows_the_latch() {
    let made_for_us = json!({names::RESERVED_BY: UID});
    let noted = json!({names::CLUSTER_ID: ID});
    let of = |cluster: &ConsulCluster,
              claim: PersistentVolumeClaim,
              set: Option<StatefulSet>,
              seat: &str| {
        let snapshot = Snapshot {
            claims: vec![claim],
            servers: set,
            ..Snapshot::default()
        };
        see(cluster, &snapshot).servers[seat].raft_data
    };
    let open = cluster(Value::Null);
    let (first, second) = ("demo-server-0", "demo-server-1");
    for (cluster, claim, set, seat, expected, why) in [
        (
            &open,
            claim(0, json!({})),
            None,
            first,
            RaftData::Present,
            "left by an earlier resource",
        ),
        (
            &open,
            claim(0, json!({names::RESERVED_BY: "another"})),
            None,
            first,
            RaftData::Present,
            "reserved by an earlier resource",
        ),
        (
            &open,
            claim(0, made_for_us.clone()),
            None,
            first,
            RaftData::Blank,
            "made, and not yet on record",
        ),
        (
            &open,
            claim(0, made_for_us.clone()),
            Some(set(1, json!([]))),
            first,
            RaftData::Present,
            "something has run on it",
        ),
        (
            &open,
            claim(0, noted.clone()),
            None,
            first,
            RaftData::Present,
            "noted as holding a cluster",
        ),
        (
            &reserved(),
            claim(0, made_for_us.clone()),
            None,
            first,
            RaftData::Blank,
            "nobody was served yet",
        ),
        (
            &reserved(),
            claim(0, noted),
            None,
            first,
            RaftData::Present,
            "noted as holding a cluster",
        ),
        (
            &reserved(),
            claim(1, json!({})),
            None,
            second,
            RaftData::Present,
            "not the reserved one",
        ),
        (
            &done(),
            claim(0, made_for_us),
            None,
            first,
            RaftData::Present,
            "the cluster is on record",
        ),
    ] {
        assert_eq!(of(cluster, claim, set, seat), expected, "{why}");
    }
}

#[test]
fn pods_beyond_the_seats_and_of_other_sets_are_not_servers() {
    let mut other = pod(0, json!({"running": {}}));
    other.metadata.name = Some("demo-server-x".into());
    let mut client = pod(0, json!({"running": {}}));
    client.metadata.name = Some("demo-client-3".into());
    let snapshot = Snapshot {
        pods: vec![other, client, pod(6, json!({"running": {}}))],
        ..Snapshot::default()
    };
    let observed = see(&done(), &snapshot);
    assert_eq!(
        observed.servers.keys().collect::<Vec<_>>(),
        ["demo-server-6"]
    );
    assert_eq!(
        observed.clients.keys().collect::<Vec<_>>(),
        ["demo-client-3"]
    );
}
