//! A bootstrap with each of its calls perturbed in turn.

use operator::plan::Step;
use serde_json::{Value, json};

use crate::ended;
use crate::platform::{CUTS, Cut, Looked, PLACE, Platform};

/// What is left in the end, without what is another in every run: ids, versions, addresses and times.
fn end_state(platform: &Platform) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| !OTHER_EVERY_TIME.contains(&key.as_str()));
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    const OTHER_EVERY_TIME: [&str; 12] = [
        "certificatesEnd",
        "uid",
        "podUID",
        "pvcUID",
        "resourceVersion",
        "generation",
        "observedGeneration",
        "podIP",
        "address",
        "lastTransitionTime",
        "lastLogIndex",
        "leader",
    ];
    let world = platform.world();
    let objects = world
        .objects
        .iter()
        .map(|((plural, name), object)| (format!("{plural}/{name}"), object.clone()));
    let mut state = Value::Object(objects.collect());
    // Who leads in the end is chance, and is said in several places.
    let status = &mut state[format!("consulclusters/{}", PLACE.1)]["status"];
    status["conditions"] = json!(
        ["Ready", "Bootstrapped", "Available"].map(|name| world.condition(name)[..4].to_owned())
    );
    for member in status["members"].as_array_mut().into_iter().flatten() {
        member["role"] = Value::Null;
    }
    strip(&mut state);
    // Keys are other ones every time; which there are is not.
    for (_, secret) in state.as_object_mut().into_iter().flatten() {
        if secret["kind"] == "Secret" {
            let data = secret["data"].as_object_mut().into_iter().flatten();
            data.for_each(|(_, value)| *value = Value::Null);
        }
    }
    state
}

/// One bootstrap, with one call perturbed; none: there are fewer calls than that.
async fn perturbed(servers: usize, cut: Cut, call: usize) -> Option<Value> {
    let platform = Platform::new(json!({"servers": servers}));
    platform.world().cut = Some((call, cut));
    let (mut operator, other) = (platform.operator(), platform.operator());
    let text = format!("{servers} servers, {cut:?} at call {call}");
    let mut left = 150;
    loop {
        let looked = platform.round_beside(&operator, &other).await;
        left -= 1;
        assert!(left > 0, "{text}: {}", platform.why());
        match looked {
            Looked::Step(Step::Steady) if platform.world().rests() => break,
            Looked::Died => operator = platform.operator(),
            _ => {}
        }
    }
    if platform.world().cut.is_some() {
        return None;
    }
    ended(&platform, servers, &text);
    Some(end_state(&platform))
}

/// At each call that changes something: the operator dies before or after it, it is lost, doubled, refused, answered too
/// late, under way while another operator takes over, or followed by a look at the past. The end is the same in all runs.
#[tokio::test]
async fn whatever_becomes_of_any_call_of_a_bootstrap_the_end_is_the_same() {
    let mut runs = 0;
    for servers in [1, 3] {
        let calm = perturbed(servers, Cut::Twice, 0).await.unwrap();
        for cut in CUTS {
            for call in 0.. {
                let Some(end) = perturbed(servers, cut, call).await else {
                    assert!(call > 8, "only {call} calls were made");
                    break;
                };
                runs += 1;
                assert_eq!(end, calm, "{servers} servers, {cut:?} at call {call}");
            }
        }
    }
    println!(
        "{runs} bootstraps, each with one call perturbed, {} ways: one end",
        CUTS.len()
    );
    assert!(runs > 200, "{runs}");
}
