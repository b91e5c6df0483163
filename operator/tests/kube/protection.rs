//! Keys, certificates and tokens, by the whole operator against an API server in memory, whose agents refuse what real
//! ones refuse, and which lets nothing of a secret into any other object.

use operator::plan::Step;
use serde_json::{Value, json};

use crate::platform::{CUTS, Cut, Looked, PLACE, Platform};

/// Everything turned off.
fn off() -> [(&'static str, Value); 3] {
    [
        ("gossip", json!({"enabled": false})),
        ("tls", json!({"mode": "Disabled"})),
        ("acl", json!({"enabled": false})),
    ]
}

pub(crate) fn unprotected(servers: usize) -> Value {
    let mut spec = json!({"servers": servers});
    for (field, off) in off() {
        spec[field] = off;
    }
    spec
}

pub(crate) fn security(platform: &Platform) -> [String; 3] {
    let security = platform.world().cluster()["status"]["security"].clone();
    ["gossip", "tls", "acl"].map(|part| security[part].as_str().unwrap_or_default().to_owned())
}

pub(crate) fn full() -> [String; 3] {
    ["Full"; 3].map(str::to_owned)
}

/// Rounds until nothing is to be done any more.
pub(crate) async fn rest(platform: &Platform) {
    let operator = platform.operator();
    for _ in 0..400 {
        let step = platform.round(&operator).await;
        if step == Some(Step::Steady) && platform.world().rests() {
            assert!(platform.world().condition("Stalled").starts_with("False"));
            return;
        }
    }
    let message = platform.world().cluster()["status"]["security"].clone();
    panic!("never at rest: {message}; {}", platform.why());
}

fn annotate(platform: &Platform, annotation: &str, value: &str) {
    let mut world = platform.world();
    let cluster = world.edit("consulclusters", PLACE.1);
    cluster["metadata"]["annotations"][annotation] = json!(value);
}

fn turn_on(platform: &Platform) {
    let mut world = platform.world();
    world.change("gossip", json!({"enabled": true}));
    world.change("tls", json!({"mode": "Generated"}));
    world.change("acl", json!({"enabled": true}));
}

/// UIDs of all pods: another one tells of a restart.
pub(crate) fn pods(platform: &Platform) -> Vec<String> {
    let world = platform.world();
    let uids = world
        .list("pods")
        .map(|pod| pod["metadata"]["uid"].to_string());
    uids.collect()
}

/// The data of the vault.
pub(crate) fn vault(platform: &Platform) -> Value {
    platform.world().get("secrets", "demo-security").unwrap()["data"].clone()
}

#[tokio::test]
async fn a_new_cluster_is_protected_before_its_first_pod_is_there() {
    let platform = Platform::new(json!({"servers": 3, "clients": 1}));
    rest(&platform).await;
    assert_eq!(security(&platform), full());
    let world = platform.world();
    let write = |what: &str| world.writes.iter().position(|write| write.contains(what));
    let first = write("POST statefulsets").unwrap();
    assert!(write("POST secrets").unwrap() < first, "{:?}", world.writes);
    let seen = write("PATCH secrets/demo-server-secure").unwrap();
    assert!(seen < first, "{:?}", world.writes);
}

#[tokio::test]
async fn an_old_cluster_stays_as_it_is_until_a_person_turns_it_on() {
    let platform = Platform::new(unprotected(3));
    rest(&platform).await;
    assert!(platform.world().list("secrets").next().is_none());
    // As it was before any of this could be said.
    for (field, _) in off() {
        platform.world().change(field, Value::Null);
    }
    let before = pods(&platform);
    rest(&platform).await;
    assert_eq!(pods(&platform), before, "a new operator restarts nobody");
    assert!(platform.world().list("secrets").next().is_none());
    turn_on(&platform);
    rest(&platform).await;
    assert_eq!(security(&platform), full());
    // And off again, but for what is in the data folders.
    platform.world().change("tls", json!({"mode": "Disabled"}));
    platform.world().change("acl", json!({"enabled": false}));
    rest(&platform).await;
    assert_eq!(
        security(&platform),
        ["Full", "Disabled", "Disabled"].map(str::to_owned)
    );
}

/// Whatever becomes of any call on the way, it ends protected.
#[tokio::test]
async fn whatever_becomes_of_any_call_while_things_are_turned_on_they_are_in_the_end() {
    let mut runs = 0;
    // A quarter of the calls, another one for each way.
    for (index, cut) in CUTS.into_iter().enumerate() {
        for call in (index % 4..).step_by(4) {
            let platform = Platform::new(unprotected(3));
            rest(&platform).await;
            turn_on(&platform);
            platform.world().cut = Some((call, cut));
            settle_beside(&platform, cut, call).await;
            if platform.world().cut.is_some() {
                assert!(call > 8, "only {call} calls were made");
                break;
            }
            runs += 1;
            assert_eq!(security(&platform), full(), "{cut:?} at call {call}");
        }
    }
    assert!(runs > 50, "{runs}");
}

async fn settle_beside(platform: &Platform, cut: Cut, call: usize) {
    let (mut operator, other) = (platform.operator(), platform.operator());
    for _ in 0..400 {
        match platform.round_beside(&operator, &other).await {
            Looked::Step(Step::Steady)
                if platform.world().rests() && security(platform) == full() =>
            {
                return;
            }
            Looked::Died => operator = platform.operator(),
            _ => {}
        }
    }
    panic!("{cut:?} at call {call}: {}", platform.why());
}

#[tokio::test]
async fn keys_and_certificates_are_replaced_on_request_and_nobody_is_restarted() {
    let platform = Platform::new(json!({"servers": 3, "clients": 1}));
    rest(&platform).await;
    let before = pods(&platform);
    for (annotation, keys) in [
        ("rotate-gossip-key", &["gossip.key"][..]),
        ("rotate-certificates", &["server.crt", "client.crt"]),
        ("rotate-authority", &["ca.crt", "signer.key", "server.key"]),
    ] {
        let old = vault(&platform);
        annotate(&platform, &format!("consulcluster.dev/{annotation}"), "1");
        rest(&platform).await;
        let new = vault(&platform);
        for key in keys {
            assert_ne!(old[key], new[key], "{annotation}: {key}");
        }
        assert!(new["gossip-old.key"].is_null() && new["next-ca.crt"].is_null());
        // Once: the same value again is no new request.
        rest(&platform).await;
        assert_eq!(vault(&platform), new, "{annotation}");
    }
    assert_eq!(pods(&platform), before);
}

#[tokio::test]
async fn a_resource_made_again_finds_its_keys_beside_its_volumes() {
    let platform = Platform::new(json!({"servers": 3}));
    rest(&platform).await;
    let before = vault(&platform);
    platform.world().delete_cluster();
    platform.world().make_cluster(json!({"servers": 3}));
    rest(&platform).await;
    assert_eq!(vault(&platform), before);
    assert_eq!(security(&platform), full());
}

#[tokio::test]
async fn nothing_is_started_before_a_secret_that_the_spec_names_is_whole() {
    let spec = json!({"servers": 3, "gossip": {"secretRef": {"name": "mine"}}});
    let platform = Platform::new(spec);
    let operator = platform.operator();
    let put = |key: &str| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(key);
        let mut world = platform.world();
        world.store(
            "secrets",
            "mine",
            json!({"metadata": {"name": "mine"}, "data": {"key": text}}),
        );
    };
    let key = "cg8StVXbQJ0gPvMd9o7yrg==";
    for (given, expected) in [
        (None, "Secret mine is missing"),
        (Some("short"), "Secret mine: key:"),
    ] {
        if let Some(text) = given {
            put(text);
        }
        for _ in 0..3 {
            platform.round(&operator).await;
        }
        let world = platform.world();
        assert!(
            world.condition("Stalled").contains(expected),
            "{}",
            world.condition("Stalled")
        );
        assert!(world.list("statefulsets").next().is_none());
    }
    put(key);
    rest(&platform).await;
    assert_eq!(
        platform
            .world()
            .secret("demo-security", "gossip.key")
            .as_deref(),
        Some(key)
    );
}

/// As an agent on a virtual machine does.
fn join_from_outside(platform: &Platform, name: &str) {
    let mut world = platform.world();
    world.agents.launch(name, false, false);
    for _ in 0..3 {
        world.agents.pass();
    }
    world.agents.tell_join(name, "demo-server-0");
}

async fn rounds(platform: &Platform, count: usize) {
    let operator = platform.operator();
    for _ in 0..count {
        platform.round(&operator).await;
    }
}

#[tokio::test]
async fn agents_from_outside_are_not_cut_off_before_a_person_has_confirmed_them() {
    const READY: &str = "consulcluster.dev/outside-agents-ready";
    let mut spec = unprotected(3);
    spec["clients"] = json!(1);
    let platform = Platform::new(spec);
    rest(&platform).await;
    join_from_outside(&platform, "vm-1");
    join_from_outside(&platform, "vm-2");
    turn_on(&platform);
    let operator = platform.operator();
    let said = "waiting for a person: vm-1, vm-2 are not pods of this cluster and may not have the key of gossip";
    let message = || platform.world().cluster()["status"]["security"]["message"].to_string();
    for _ in 0..400 {
        platform.round(&operator).await;
        if message().contains(said) {
            break;
        }
    }
    assert!(message().contains(said), "{}", message());
    rounds(&platform, 10).await;
    let prepared = ["Prepared"; 3].map(str::to_owned);
    assert_eq!(security(&platform), prepared);
    assert!(platform.world().condition("Reconciling").contains(said));
    // One is confirmed, and the other one goes.
    annotate(&platform, READY, "vm-1");
    rounds(&platform, 10).await;
    assert_eq!(security(&platform), prepared);
    platform.world().agents.tell_leave("vm-2");
    rest(&platform).await;
    assert_eq!(security(&platform), full());
}
