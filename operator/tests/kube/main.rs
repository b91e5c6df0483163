//! The operator against a Kubernetes in memory: cut off at every call, pods and volumes deleted in every round, hands in
//! the StatefulSet. Whatever happens, one cluster is formed, and in the end it is as wanted.

#![allow(clippy::unwrap_used)]

#[path = "../fake/mod.rs"]
mod fake;
#[path = "../platform/mod.rs"]
mod platform;

mod perturbation;
mod protection;
mod recovery;
mod saved;
mod simulation;
mod vault;

use operator::plan::{Stall, Step};
use platform::{PLACE, Platform};
use serde_json::{Value, json};

fn ended(platform: &Platform, servers: usize, what: &str) {
    let world = platform.world();
    assert_eq!(world.agents.formed, 1, "{what}");
    assert_eq!(world.agents.flagged(), 0, "{what}");
    assert_eq!(world.agents.voters_anywhere(), servers, "{what}");
    assert!(
        world.get("configmaps", "demo-bootstrap-permit").is_none(),
        "{what}: the permit is still there"
    );
    assert!(
        world.condition("Ready").starts_with("True"),
        "{what}: {}",
        world.condition("Ready")
    );
    assert!(
        world.condition("Bootstrapped").starts_with("True"),
        "{what}"
    );
}

fn three() -> Value {
    json!({"servers": 3})
}

#[tokio::test]
async fn clusters_of_every_size_form_by_the_manual_sequence() {
    for servers in [1, 3, 5, 7] {
        let platform = Platform::new(json!({"servers": servers}));
        assert!(
            platform.settle(&platform.operator()).await,
            "{:?}",
            platform.world().writes
        );
        ended(&platform, servers, "calm");
        let world = platform.world();
        let made: Vec<_> = world
            .writes
            .iter()
            .filter(|write| *write == "POST statefulsets")
            .collect();
        assert_eq!(made.len(), 1, "the flag is handed out once");
    }
}

#[tokio::test]
async fn events_tell_the_sequence_in_order() {
    let platform = Platform::new(three());
    assert!(platform.settle(&platform.operator()).await);
    let events = platform.world().events.clone();
    let mut order = events.iter();
    for expected in [
        "BootstrapReserved",
        "StartFirstServer",
        "FirstServerStarted",
        "LeadershipAcquired",
        "ClusterRecorded",
        "StartServers",
        "ServerStarted",
        "Join",
        "ServerJoined",
        "PeerAdded",
        "ReplicationVerified",
        "RestartWithoutBootstrap",
        "Bootstrapped",
        "SetMinQuorum",
        "Ready",
    ] {
        assert!(
            order.any(|event| event == expected),
            "{expected} is missing, or out of order: {events:?}"
        );
    }
}

/// A fault in every round of the bootstrap, and in some after it.
async fn in_every_round(servers: usize, what: &str, fault: impl Fn(&Platform)) {
    for round in 0..30 {
        let platform = Platform::new(json!({"servers": servers}));
        let operator = platform.operator();
        for _ in 0..round {
            platform.round(&operator).await;
        }
        fault(&platform);
        // One round, so that what was done to the objects reaches the agents.
        platform.round(&operator).await;
        let text = format!("{what} in round {round}");
        assert!(
            platform.settle(&operator).await,
            "{text}: {}",
            platform.why()
        );
        ended(&platform, servers, &text);
    }
}

#[tokio::test]
async fn pod_0_deleted_in_any_round_forms_no_second_cluster() {
    for servers in [1, 3] {
        in_every_round(servers, "pod 0 deleted", |platform| {
            let mut world = platform.world();
            if world.get("pods", "demo-server-0").is_some() {
                world.terminate("demo-server-0", false);
            }
        })
        .await;
    }
}

/// Race C: the kubelet starts the container again, with its old arguments.
#[tokio::test]
async fn the_container_of_pod_0_restarted_in_any_round_forms_no_second_cluster() {
    in_every_round(3, "container 0 killed", |platform| {
        platform.world().agents.kill("demo-server-0")
    })
    .await;
}

#[tokio::test]
async fn all_pods_deleted_at_once_come_back_as_one_cluster() {
    in_every_round(3, "all pods deleted", |platform| {
        let mut world = platform.world();
        let names: Vec<String> = world
            .list("pods")
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        names.iter().for_each(|name| world.terminate(name, false));
    })
    .await;
}

/// Race J: somebody edits, scales or rolls back the set.
#[tokio::test]
async fn a_hand_in_the_set_is_put_right() {
    in_every_round(3, "set edited", |platform| {
        let mut world = platform.world();
        if world.get("statefulsets", "demo-server").is_some() {
            let set = world.edit("statefulsets", "demo-server");
            set["spec"]["template"]["metadata"]["labels"]["edited"] = json!("yes");
            set["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
        }
    })
    .await;
    in_every_round(3, "set scaled to nothing", |platform| {
        let mut world = platform.world();
        if world.get("statefulsets", "demo-server").is_some() {
            world.edit("statefulsets", "demo-server")["spec"]["replicas"] = json!(0);
        }
    })
    .await;
}

/// Race B: the volume of the first server is lost. While nobody else votes, nothing that was ever served is lost; and a
/// cluster that is on record is never formed anew.
#[tokio::test]
async fn pod_0_deleted_with_its_volume_never_leads_to_a_second_cluster_beside_the_first() {
    let mut stalled = 0;
    for round in 0..30 {
        let platform = Platform::new(three());
        let operator = platform.operator();
        for _ in 0..round {
            platform.round(&operator).await;
        }
        let recorded = !platform.world().cluster()["status"]["clusterID"].is_null();
        platform.world().forget_formed_unless(recorded);
        platform.world().delete_with_volume("demo-server-0");
        let settled = platform.settle(&operator).await;
        let world = platform.world();
        if settled {
            assert_eq!(world.agents.formed, 1, "round {round}");
            assert_eq!(world.agents.voters_anywhere(), 3, "round {round}");
        } else {
            assert!(
                recorded,
                "round {round}: nothing was on record, and yet it stalls: {}",
                world.condition("Stalled")
            );
            let text = world.condition("Stalled");
            assert!(
                text.starts_with("True BootstrapDataLost") || text.starts_with("True QuorumLost"),
                "round {round}: {text}"
            );
            stalled += 1;
        }
    }
    assert!(
        stalled < 15,
        "{stalled} of 30 rounds: the window in which there is one copy only is short"
    );
}

/// Race H: the same name, another UID, the old volumes.
#[tokio::test]
async fn a_resource_made_again_adopts_its_volumes_without_a_bootstrap() {
    let platform = Platform::new(three());
    assert!(platform.settle(&platform.operator()).await);
    platform.world().delete_cluster();
    platform.world().writes.clear();
    platform.world().make_cluster(three());
    assert!(
        platform.settle(&platform.operator()).await,
        "{}",
        platform.world().condition("Stalled")
    );
    ended(&platform, 3, "made again");
    assert!(
        !platform
            .world()
            .writes
            .iter()
            .any(|write| write == "POST statefulsets"),
        "the flag was handed out again"
    );
}

#[tokio::test]
async fn a_bad_image_stops_at_one_server_and_recovers_when_it_is_fixed() {
    let platform = Platform::new(three());
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    platform.world().change("image", json!("bad"));
    let mut last = None;
    for _ in 0..100 {
        last = platform.round(&operator).await;
    }
    assert!(
        matches!(last, Some(Step::Stalled(Stall::Stuck { .. }))),
        "{last:?}"
    );
    let text = platform.world().condition("Stalled");
    assert!(
        text.starts_with("True Stuck") && text.contains("ErrImagePull: not found"),
        "{text}"
    );
    let untouched = platform
        .world()
        .list("pods")
        .filter(|pod| pod["spec"]["containers"][0]["image"] == "agent:1")
        .count();
    assert_eq!(untouched, 2);
    platform.world().change("image", json!("agent:2"));
    assert!(
        platform.settle(&operator).await,
        "{}",
        platform.world().condition("Stalled")
    );
    ended(&platform, 3, "fixed");
    assert!(
        platform
            .world()
            .list("pods")
            .all(|pod| pod["spec"]["containers"][0]["image"] == "agent:2")
    );
}

#[tokio::test]
async fn a_first_server_that_cannot_start_recovers_when_its_image_is_fixed() {
    let platform = Platform::new(json!({"servers": 3, "image": "bad"}));
    let operator = platform.operator();
    for _ in 0..30 {
        platform.round(&operator).await;
    }
    let text = platform.world().condition("Stalled");
    assert!(text.starts_with("True Stuck"), "{text}");
    platform.world().change("image", json!("agent:2"));
    assert!(
        platform.settle(&operator).await,
        "{}",
        platform.world().condition("Stalled")
    );
    ended(&platform, 3, "fixed");
}

#[tokio::test]
async fn servers_come_and_go_by_two() {
    let platform = Platform::new(three());
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    for servers in [5, 3, 1, 3] {
        platform.world().change("servers", json!(servers));
        assert!(
            platform.settle(&operator).await,
            "{servers}: {}",
            platform.why()
        );
        ended(&platform, servers, &format!("scaled to {servers}"));
        assert_eq!(platform.world().list("pods").count(), servers);
    }
}

/// While there are two servers, the budget allows nobody to go: the loss of one of two voters is that of the quorum.
/// Scaled up and down, with a drain of every pod tried in every round; rule 4 is checked at each.
#[tokio::test]
async fn a_drain_while_servers_are_two_does_not_take_the_quorum() {
    let platform = Platform::new(json!({"servers": 1}));
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    for servers in [3, 1] {
        let mut refused = 0;
        platform.world().change("servers", json!(servers));
        for _ in 0..400 {
            let step = platform.round(&operator).await;
            if step == Some(Step::Steady) {
                break;
            }
            let mut world = platform.world();
            let pods: Vec<_> = world
                .list("pods")
                .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
                .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
                .collect();
            if pods.len() == 2 {
                assert!(pods.iter().all(|pod| !world.drain(pod)), "{pods:?}");
                refused += 1;
            }
        }
        ended(&platform, servers, &format!("scaled to {servers}"));
        let budget = |world: &platform::World| {
            world.get("poddisruptionbudgets", "demo-server").unwrap()["spec"]["maxUnavailable"]
                .clone()
        };
        assert_eq!(budget(&platform.world()), 1, "{servers}");
        assert!(refused > 0, "{servers}: no drain was tried");
    }
}

/// The second of three servers runs and never answers: with a budget of none it could not be evicted.
#[tokio::test]
async fn a_deaf_server_is_replaced_while_servers_are_two() {
    let platform = Platform::new(json!({"servers": 1}));
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    platform.world().change("servers", json!(3));
    while !platform.world().agents.runs("demo-server-1") {
        platform.round(&operator).await;
    }
    platform.world().agents.deafen("demo-server-1");
    for _ in 0..30 {
        platform.round(&operator).await;
    }
    assert!(
        platform.why().contains("demo-server-1"),
        "{}",
        platform.why()
    );
    platform
        .world()
        .change("config", json!({"log_level": "DEBUG"}));
    assert!(platform.settle(&operator).await, "{}", platform.why());
    ended(&platform, 3, "replaced");
}

/// A majority of what is wanted, or what the spec says; whoever sets another value by hand has it set back.
#[tokio::test]
async fn autopilot_keeps_a_majority_of_the_servers_that_are_wanted() {
    let platform = Platform::new(three());
    let operator = platform.operator();
    let bound = async |servers: u32| {
        assert!(platform.settle(&operator).await, "{}", platform.why());
        assert_eq!(platform.world().agents.min_quorum(), servers);
    };
    bound(2).await;
    platform.world().change("servers", json!(5));
    bound(3).await;
    let leader = platform.world().cluster()["status"]["leader"].clone();
    let leader = leader.as_str().unwrap();
    platform.world().agents.tell_min_quorum(leader, 0);
    bound(3).await;
    let config = json!({"autopilot": {"min_quorum": 5}});
    platform.world().change("config", config);
    bound(5).await;
}

#[tokio::test]
async fn clients_are_started_after_the_bootstrap_and_follow_the_spec() {
    let platform = Platform::new(json!({"servers": 1, "clients": 2}));
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    assert_eq!(platform.world().list("pods").count(), 3);
    platform.world().change("clients", json!(1));
    assert!(
        platform.settle(&operator).await,
        "{:?}",
        platform.world().writes
    );
    assert_eq!(platform.world().list("pods").count(), 2);
}

#[tokio::test]
async fn a_steady_cluster_is_only_looked_at() {
    let platform = Platform::new(
        json!({"servers": 3, "clients": 1, "networkPolicy": true, "clientDaemonSet": true}),
    );
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    platform.round(&operator).await;
    platform.world().writes.clear();
    for _ in 0..50 {
        assert_eq!(platform.round(&operator).await, Some(Step::Steady));
    }
    // Some are touched by Kubernetes itself: a budget's status, for one. They are read again, and are as they should be.
    operator.touched(PLACE.0, PLACE.1);
    assert_eq!(platform.round(&operator).await, Some(Step::Steady));
    assert!(
        platform.world().writes.is_empty(),
        "{:?}",
        platform.world().writes
    );
}

#[tokio::test]
async fn at_rest_only_the_agents_are_asked_until_something_changes() {
    // Nobody tells of the Secrets that protect it, so their versions are asked for.
    for (spec, secrets) in [(three(), 3), (protection::unprotected(3), 0)] {
        agents_are_asked(spec, secrets).await;
    }
}

async fn agents_are_asked(spec: Value, secrets: usize) {
    let platform = Platform::new(spec);
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    platform.round(&operator).await;
    let reads = async |version: &str| {
        platform.world().reads = 0;
        let version = Some(version.to_owned());
        let (step, _) = operator.visit(PLACE.0, PLACE.1, version).await.unwrap();
        assert_eq!(step, Step::Steady);
        platform.world().reads
    };
    assert!(
        reads("1").await > secrets,
        "nothing is known of this version"
    );
    for _ in 0..10 {
        assert_eq!(reads("1").await, secrets);
    }
    assert!(reads("2").await > secrets, "the resource has changed");
    assert_eq!(reads("2").await, secrets);
    operator.touched(PLACE.0, PLACE.1);
    assert!(reads("2").await > secrets, "an object has changed");
    assert_eq!(reads("2").await, secrets);
    let leader = platform.world().cluster()["status"]["leader"].clone();
    {
        let mut world = platform.world();
        let next = if leader == "demo-server-1" {
            "demo-server-2"
        } else {
            "demo-server-1"
        };
        world.agents.tell_transfer(leader.as_str().unwrap(), next);
        world.turn();
    }
    assert!(reads("2").await > secrets, "another server leads");
    assert_ne!(platform.world().cluster()["status"]["leader"], leader);
}

#[tokio::test]
async fn a_paused_cluster_is_only_reported_on() {
    let platform = Platform::new(json!({"servers": 3, "paused": true}));
    let operator = platform.operator();
    for _ in 0..5 {
        platform.round(&operator).await;
    }
    let world = platform.world();
    assert!(
        world
            .writes
            .iter()
            .all(|write| write == "PUT consulclusters/demo/status"),
        "{:?}",
        world.writes
    );
    assert_eq!(world.cluster()["status"]["phase"], "Paused");
}

#[tokio::test]
async fn objects_around_the_servers_are_put_back() {
    let platform = Platform::new(three());
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    platform.world().remove("services", PLACE.1);
    platform.world().edit("poddisruptionbudgets", "demo-server")["spec"]["maxUnavailable"] =
        json!(3);
    platform.round(&operator).await;
    let world = platform.world();
    assert!(world.get("services", PLACE.1).is_some());
    assert_eq!(
        world.get("poddisruptionbudgets", "demo-server").unwrap()["spec"]["maxUnavailable"],
        1
    );
}

#[tokio::test]
async fn volumes_grow_by_their_claims_and_nobody_is_restarted() {
    let platform = Platform::new(three());
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    platform.world().writes.clear();
    platform.world().change("storage", json!({"size": "20Gi"}));
    assert!(platform.settle(&operator).await, "{}", platform.why());
    let world = platform.world();
    let sizes = world
        .list("persistentvolumeclaims")
        .map(|claim| claim["spec"]["resources"]["requests"]["storage"].clone());
    assert_eq!(sizes.collect::<Vec<_>>(), ["20Gi", "20Gi", "20Gi"]);
    let restarts = world.writes.iter().filter(|write| write.contains("pods/"));
    assert_eq!(restarts.count(), 0, "{:?}", world.writes);
}
