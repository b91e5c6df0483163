//! What only a person can decide: going on without a quorum, and moving data aside.

use operator::controller::Worker;
use operator::plan::{Stall, Step};
use serde_json::json;

use super::{ended, three};
use crate::platform::{CUTS, Looked, Platform};

/// A person who does what the condition says.
fn confirm(platform: &Platform) -> String {
    let text = platform.world().condition("Stalled");
    assert!(text.starts_with("True QuorumLost"), "{text}");
    let code = text
        .split("\"token\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    platform.world().change("recovery", json!({"token": code}));
    code
}

/// Looks until a person is called; false: nobody was.
async fn until_stalled(platform: &Platform, operator: &Worker) -> bool {
    for _ in 0..100 {
        if let Some(Step::Stalled(_)) = platform.round(operator).await {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_lost_quorum_is_recovered_on_the_code_that_the_condition_shows_and_never_twice() {
    for servers in [3, 5] {
        let platform = Platform::new(json!({"servers": servers}));
        let operator = platform.operator();
        assert!(platform.settle(&operator).await);
        let id = platform.world().cluster()["status"]["clusterID"].clone();
        let mut codes = Vec::new();
        for _ in 0..2 {
            let (kept, lost) = platform.world().agents.lose_quorum().unwrap();
            lost.iter()
                .for_each(|pod| platform.world().delete_with_volume(pod));
            assert!(until_stalled(&platform, &operator).await);
            // A code of an earlier time, or of another situation, does nothing.
            for old in codes.iter().cloned().chain(["0123456789".to_owned()]) {
                platform.world().change("recovery", json!({"token": old}));
                platform.world().writes.clear();
                for _ in 0..5 {
                    platform.round(&operator).await;
                }
                let writes = platform.world().writes.clone();
                assert!(
                    writes.iter().all(|write| write.ends_with("/status")),
                    "{writes:?}"
                );
            }
            codes.push(confirm(&platform));
            assert!(platform.settle(&operator).await, "{}", platform.why());
            ended(&platform, servers, "recovered");
            let world = platform.world();
            assert_eq!(world.cluster()["status"]["clusterID"], id, "the id stays");
            assert!(world.events.iter().any(|event| event == "RecoverQuorum"));
            assert!(!kept.is_empty());
            let config = world.get("configmaps", "demo-config").unwrap();
            assert!(
                config["data"]["recovery.json"].is_null(),
                "the order is taken back"
            );
        }
        assert_ne!(codes[0], codes[1]);
    }
}

#[tokio::test]
async fn a_survivor_that_a_person_did_not_mean_is_not_taken() {
    let platform = Platform::new(three());
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    let (kept, lost) = platform.world().agents.lose_quorum().unwrap();
    lost.iter()
        .for_each(|pod| platform.world().delete_with_volume(pod));
    assert!(until_stalled(&platform, &operator).await);
    let code = confirm(&platform);
    platform
        .world()
        .change("recovery", json!({"token": code, "survivor": lost[0]}));
    for _ in 0..5 {
        assert!(matches!(
            platform.round(&operator).await,
            Some(Step::Stalled(Stall::QuorumLost { .. }))
        ));
    }
    let text = platform.world().condition("Stalled");
    assert!(
        text.contains(&format!("spec.recovery.survivor is {}", lost[0])),
        "{text}"
    );
    platform
        .world()
        .change("recovery", json!({"token": code, "survivor": kept[0]}));
    assert!(platform.settle(&operator).await, "{}", platform.why());
    ended(&platform, 3, "recovered");
}

/// Each call of a recovery perturbed: it ends as one cluster with what the survivor had.
#[tokio::test]
async fn whatever_becomes_of_any_call_of_a_recovery_it_ends_well() {
    let mut runs = 0;
    for cut in CUTS {
        for call in 0.. {
            let platform = Platform::new(three());
            let mut operator = platform.operator();
            assert!(platform.settle(&operator).await);
            let (_, lost) = platform.world().agents.lose_quorum().unwrap();
            lost.iter()
                .for_each(|pod| platform.world().delete_with_volume(pod));
            assert!(until_stalled(&platform, &operator).await);
            confirm(&platform);
            platform.world().cut = Some((call, cut));
            let other = platform.operator();
            for _ in 0..150 {
                match platform.round_beside(&operator, &other).await {
                    Looked::Step(Step::Steady) => break,
                    Looked::Died => operator = platform.operator(),
                    _ => {}
                }
            }
            ended(&platform, 3, &format!("{cut:?} at call {call}"));
            if platform.world().cut.is_some() {
                assert!(call > 3, "only {call} calls were made");
                break;
            }
            runs += 1;
        }
    }
    println!("{runs} recoveries, each with one call perturbed");
}

#[tokio::test]
async fn corrupt_data_is_moved_aside_when_a_person_asks_and_once_for_each_token() {
    let platform = Platform::new(three());
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    for token in ["monday", "tuesday"] {
        platform.world().agents.corrupt("demo-server-1");
        assert!(until_stalled(&platform, &operator).await);
        let text = platform.world().condition("Stalled");
        assert!(text.starts_with("True Stuck: demo-server-1"), "{text}");
        let asked = json!({"moveAside": {"server": "demo-server-1", "token": token}});
        platform.world().change("recovery", asked);
        assert!(platform.settle(&operator).await, "{}", platform.why());
        ended(&platform, 3, token);
    }
    // What was moved on a token is not moved again, whatever has become of the server.
    platform.world().agents.corrupt("demo-server-1");
    assert!(until_stalled(&platform, &operator).await);
    for _ in 0..10 {
        platform.round(&operator).await;
    }
    assert!(
        platform
            .world()
            .condition("Stalled")
            .starts_with("True Stuck")
    );
}

#[tokio::test]
async fn a_volume_with_a_strangers_data_is_kept_until_a_person_says_so() {
    let platform =
        Platform::new(json!({"servers": 3, "recovery": {"moveAsideSecondBootstrap": false}}));
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    platform.world().agents.stranger("demo-server-2");
    assert!(until_stalled(&platform, &operator).await);
    let text = platform.world().condition("Stalled");
    assert!(
        text.starts_with("True OtherCluster: demo-server-2"),
        "{text}"
    );
    let asked = json!({"server": "demo-server-2", "token": "t"});
    platform.world().change(
        "recovery",
        json!({"moveAsideSecondBootstrap": false, "moveAside": asked}),
    );
    assert!(platform.settle(&operator).await, "{}", platform.why());
    ended(&platform, 3, "moved aside");
}

#[tokio::test]
async fn data_in_use_is_not_moved_aside_and_the_condition_says_so() {
    let platform = Platform::new(three());
    let operator = platform.operator();
    assert!(platform.settle(&operator).await);
    for server in ["demo-server-1", "nobody"] {
        let asked = json!({"moveAside": {"server": server, "token": "t"}});
        platform.world().change("recovery", asked);
        assert!(until_stalled(&platform, &operator).await);
        let text = platform.world().condition("Stalled");
        assert!(
            text.starts_with("True DataInUse") && text.contains(server),
            "{text}"
        );
    }
    platform.world().change("recovery", json!({}));
    assert!(platform.settle(&operator).await);
}
