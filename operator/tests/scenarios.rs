//! Planner scenarios as files: a spec, what was observed, and the step that must follow.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use operator::crd;
use operator::driver::local::address::{BASE, address};
use operator::observe::Observed;
use operator::plan::{Desired, Step, plan};
use serde::Deserialize;
use serde_yaml::with::singleton_map_recursive;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// The fact that the scenario shows.
    fact: String,
    spec: serde_yaml::Value,
    #[serde(default)]
    observed: serde_yaml::Value,
    expect: serde_yaml::Value,
    /// What a person is told.
    says: String,
}

fn files() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_scenario_gets_the_step_it_expects() {
    let files = files();
    assert!(files.len() >= 20, "only {} scenarios found", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let scenario: Scenario = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        let head = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata: {name: demo}\nspec:\n";
        let spec = serde_yaml::to_string(&scenario.spec)
            .unwrap()
            .replace('\n', "\n  ");
        let cluster =
            crd::read(&format!("{head}  {spec}")).unwrap_or_else(|e| panic!("{file}: {e}"));
        let desired = Desired::new(&cluster, |mode, number| {
            address(BASE, mode, number).to_string()
        });
        let observed: Observed = match scenario.observed {
            serde_yaml::Value::Null => Observed::default(),
            value => singleton_map_recursive::deserialize(value)
                .unwrap_or_else(|e| panic!("{file}: observed: {e}")),
        };
        let expect: Step = singleton_map_recursive::deserialize(scenario.expect)
            .unwrap_or_else(|e| panic!("{file}: expect: {e}"));
        let step = plan(&desired, &observed);
        if step != expect || !step.to_string().contains(&scenario.says) {
            wrong.push(format!(
                "{file}: {}\n  expected {expect:?}\n       got {step:?}\n      says {step}",
                scenario.fact
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
