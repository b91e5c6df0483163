//! The vault lost or damaged, by the whole operator against an API server in memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::platform::{CUTS, Cut, Looked, PLACE, Platform};
use crate::protection::{full, pods, rest, security, unprotected, vault};
use operator::plan::Step;

const VAULT: &str = "demo-security";
const RENDERED: [&str; 2] = ["demo-server-secure", "demo-client-secure"];

fn lose(platform: &Platform, names: &[&str]) -> Vec<((String, String), Value)> {
    let mut world = platform.world();
    let take = |name: &&str| {
        let object = world.remove("secrets", name).unwrap();
        (("secrets".to_owned(), (*name).to_owned()), object)
    };
    names.iter().map(take).collect()
}

/// Nothing but the status is written in some rounds, and the condition says these things.
async fn stalls(platform: &Platform, expected: &[&str]) {
    let writes = platform.world().writes.len();
    let operator = platform.operator();
    for _ in 0..5 {
        platform.round(&operator).await;
    }
    let world = platform.world();
    let own = |write: &&String| *write == "PUT consulclusters/demo/status";
    let made = &world.writes[writes..];
    assert!(made.iter().all(|write| own(&write)), "{made:?}");
    let said = world.condition("Stalled");
    for expected in expected {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!world.condition("Ready").starts_with("True"));
}

#[tokio::test]
async fn a_vault_that_is_lost_is_made_again_and_nobody_is_cut_off() {
    let platform = Platform::new(json!({"servers": 3, "clients": 1}));
    rest(&platform).await;
    let (before, running) = (vault(&platform), pods(&platform));
    lose(&platform, &[VAULT]);
    let writes = platform.world().writes.len();
    let operator = platform.operator();
    platform.round(&operator).await;
    {
        let world = platform.world();
        // Before anything that is computed from it.
        assert_eq!(world.writes[writes], "POST secrets");
        assert!(world.events.iter().any(|reason| reason == "VaultMadeAgain"));
        let said = world.cluster()["status"]["security"]["message"].to_string();
        let lost = "Secret demo-security was lost and made again from demo-server-secure and demo-client-secure; ";
        assert!(said.contains(lost), "{said}");
        assert!(world.condition("Reconciling").contains(lost));
    }
    let again = vault(&platform);
    let same = [
        "gossip.key",
        "ca.crt",
        "server.crt",
        "server.key",
        "client.crt",
        "token",
        "agent.token",
        "dns.token",
        "recovery.token",
        "client-recovery.token",
    ];
    for key in same {
        assert_eq!(again[key], before[key], "{key}");
    }
    assert!(again["signer.key"].is_null());
    rest(&platform).await;
    let after = vault(&platform);
    assert_eq!(after["gossip.key"], before["gossip.key"]);
    assert_eq!(after["token"], before["token"]);
    assert!(after["signer.key"].is_string() && after["ca.crt"] != before["ca.crt"]);
    assert!(after["next-ca.crt"].is_null() && after["gossip-old.key"].is_null());
    assert_eq!(pods(&platform), running, "nobody is restarted");
    assert_eq!(security(&platform), full());
    // Once: then it is as any other.
    rest(&platform).await;
    assert_eq!(vault(&platform), after);
}

/// No watch tells of Secrets, and a cluster at rest is not looked at as a whole.
#[tokio::test]
async fn a_secret_that_is_lost_or_changed_is_noticed_at_the_next_short_look() {
    let platform = Platform::new(json!({"servers": 3}));
    rest(&platform).await;
    let operator = platform.operator();
    let looks = async |count: usize| {
        for _ in 0..count {
            let (step, _) = operator
                .visit(PLACE.0, PLACE.1, Some("1".to_owned()))
                .await
                .unwrap();
            assert_eq!(step, Step::Steady);
        }
    };
    looks(5).await;
    let before = vault(&platform);
    for rendered in RENDERED {
        for changed in [false, true] {
            let (_, mut object) = lose(&platform, &[rendered]).remove(0);
            let kept = object["data"].clone();
            if changed {
                object["data"]["ca.pem"] = json!("");
                platform.world().store("secrets", rendered, object);
            }
            looks(1).await;
            let data = platform.world().get("secrets", rendered).unwrap()["data"].clone();
            assert_eq!(data, kept, "{rendered} is as it was, changed: {changed}");
            looks(3).await;
        }
    }
    lose(&platform, &[VAULT]);
    looks(1).await;
    assert_eq!(vault(&platform)["token"], before["token"]);
}

#[tokio::test]
async fn a_vault_that_is_lost_with_what_it_is_made_from_stops_every_change_and_says_so() {
    let platform = Platform::new(json!({"servers": 3}));
    rest(&platform).await;
    for rendered in RENDERED {
        let before = (vault(&platform), pods(&platform));
        let kept = lose(&platform, &[VAULT, rendered]);
        let missing = format!("Secret {rendered} is missing as well");
        let remedy = "put Secret demo-security back from a copy, or demo-server-secure and demo-client-secure";
        stalls(
            &platform,
            &["Secret demo-security is missing", &missing, remedy],
        )
        .await;
        platform.world().objects.extend(kept);
        rest(&platform).await;
        assert_eq!((vault(&platform), pods(&platform)), before);
    }
    // Those alone are enough, too.
    let kept = lose(&platform, &[VAULT, RENDERED[0]]);
    stalls(&platform, &["Secret demo-security is missing"]).await;
    platform.world().objects.extend(kept.into_iter().skip(1));
    rest(&platform).await;
    assert_eq!(security(&platform), full());
}

#[tokio::test]
async fn a_vault_that_is_damaged_stops_every_change_and_says_what_is_wrong_with_it() {
    let platform = Platform::new(json!({"servers": 3}));
    rest(&platform).await;
    let before = (vault(&platform), pods(&platform));
    let wrong = STANDARD.encode("a typing error");
    let cases = [
        ("ca.crt", None, "ca.crt is missing in it"),
        ("gossip.key", Some(&wrong), "gossip.key: a gossip key is"),
        (
            "server.key",
            Some(&wrong),
            "server.key: there is no private key",
        ),
        ("token", Some(&wrong), "token in it is no UUID"),
    ];
    for (key, wrong, expected) in cases {
        let kept = platform.world().get("secrets", VAULT).unwrap().clone();
        {
            let mut world = platform.world();
            let data = world.edit("secrets", VAULT)["data"]
                .as_object_mut()
                .unwrap();
            match wrong {
                None => drop(data.remove(key)),
                Some(wrong) => drop(data.insert(key.into(), json!(wrong))),
            }
        }
        stalls(
            &platform,
            &[
                "Secret demo-security: ",
                expected,
                "put it back from a copy, or delete it",
            ],
        )
        .await;
        // What was in force is in force.
        assert_eq!(
            (security(&platform), pods(&platform)),
            (full(), before.1.clone())
        );
        platform
            .world()
            .objects
            .insert(("secrets".into(), VAULT.into()), kept);
        rest(&platform).await;
        assert_eq!(vault(&platform), before.0);
    }
}

#[tokio::test]
async fn nothing_is_guessed_when_the_servers_template_and_the_status_do_not_agree() {
    let platform = Platform::new(json!({"servers": 3}));
    rest(&platform).await;
    let kept = lose(&platform, &[VAULT]);
    let set = platform
        .world()
        .get("statefulsets", "demo-server")
        .unwrap()
        .clone();
    {
        let mut world = platform.world();
        let pod = &mut world.edit("statefulsets", "demo-server")["spec"]["template"]["spec"];
        let args = pod["containers"][0]["args"].as_array_mut().unwrap();
        args.retain(|arg| !arg.as_str().unwrap().contains("/gossip-"));
    }
    stalls(
        &platform,
        &["StatefulSet demo-server says gossip=Disabled,tls=Full,acl=Full"],
    )
    .await;
    platform.world().objects.extend(kept);
    platform
        .world()
        .objects
        .insert(("statefulsets".into(), "demo-server".into()), set);
    rest(&platform).await;
}

#[tokio::test]
async fn a_resource_made_again_does_not_start_what_was_protected_without_its_vault() {
    let platform = Platform::new(json!({"servers": 3}));
    rest(&platform).await;
    platform.world().delete_cluster();
    let kept = lose(&platform, &[VAULT]);
    platform.world().make_cluster(json!({"servers": 3}));
    stalls(
        &platform,
        &[
            "Secret demo-security is missing",
            "Secret demo-server-secure is missing as well",
        ],
    )
    .await;
    platform.world().objects.extend(kept);
    rest(&platform).await;
    assert_eq!(security(&platform), full());
}

#[tokio::test]
async fn a_paused_cluster_has_its_vault_made_again_when_it_goes_on() {
    let platform = Platform::new(json!({"servers": 3}));
    rest(&platform).await;
    platform.world().change("paused", json!(true));
    lose(&platform, &[VAULT]);
    let operator = platform.operator();
    for _ in 0..3 {
        platform.round(&operator).await;
    }
    assert!(platform.world().get("secrets", VAULT).is_none());
    platform.world().change("paused", json!(false));
    rest(&platform).await;
    assert!(platform.world().get("secrets", VAULT).is_some());
}

#[tokio::test]
async fn a_cluster_without_protection_has_nothing_to_be_made_again() {
    let platform = Platform::new(unprotected(3));
    rest(&platform).await;
    assert!(platform.world().list("secrets").next().is_none());
    assert!(
        !platform
            .world()
            .events
            .contains(&"VaultMadeAgain".to_owned())
    );
}

/// Whatever becomes of any call, and whatever the operator sees too late.
#[tokio::test]
async fn whatever_becomes_of_any_call_while_a_vault_is_made_again_it_is_whole_in_the_end() {
    let mut runs = 0;
    for (index, cut) in CUTS.into_iter().enumerate() {
        for call in (index % 3..).step_by(3) {
            let platform = Platform::new(json!({"servers": 3}));
            rest(&platform).await;
            let before = vault(&platform);
            lose(&platform, &[VAULT]);
            platform.world().cut = Some((call, cut));
            settle_beside(&platform, cut, call).await;
            if platform.world().cut.is_some() {
                assert!(call > 4, "only {call} calls were made");
                break;
            }
            runs += 1;
            let after = vault(&platform);
            assert_eq!(
                after["gossip.key"], before["gossip.key"],
                "{cut:?} at call {call}"
            );
            assert_eq!(after["token"], before["token"], "{cut:?} at call {call}");
            assert_ne!(after["ca.crt"], before["ca.crt"], "{cut:?} at call {call}");
        }
    }
    assert!(runs > 10, "{runs}");
}

fn is_whole(platform: &Platform) -> bool {
    let world = platform.world();
    let secret = world.get("secrets", VAULT);
    let whole = |secret: &Value| {
        secret["metadata"]["annotations"]["consulcluster.dev/made-again"] == "whole"
    };
    secret.is_some_and(whole) && world.rests()
}

async fn settle_beside(platform: &Platform, cut: Cut, call: usize) {
    let (mut operator, other) = (platform.operator(), platform.operator());
    for _ in 0..400 {
        match platform.round_beside(&operator, &other).await {
            Looked::Step(Step::Steady) if is_whole(platform) => return,
            Looked::Died => operator = platform.operator(),
            _ => {}
        }
    }
    panic!("{cut:?} at call {call}: {}", platform.why());
}
