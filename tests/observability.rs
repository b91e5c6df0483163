//! Alert rules and dashboard: every query is one that Prometheus reads, and every metric in them is one that the operator
//! or an agent really exports. And the figures of a leader's work.

use std::collections::BTreeSet;

use promql_parser::parser;
use serde_json::Value;
use tests::{Agent, Cluster, SERVERS, eventually};

const CHART: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../charts/consulcluster-operator/files"
);

fn rules() -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(format!("{CHART}/rules.yaml")).expect("rules");
    let file: Value = serde_yaml::from_str(&text).expect("YAML");
    let groups = file["groups"].as_array().expect("groups");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules"));
    rules
        .map(|rule| {
            (
                rule["alert"].as_str().expect("a name").to_owned(),
                rule.clone(),
            )
        })
        .collect()
}

/// Queries with where they stand. Variables of the dashboard are what they may be replaced with.
fn queries() -> Vec<(String, String)> {
    let mut all: Vec<_> = rules()
        .into_iter()
        .map(|(name, rule)| {
            (
                name,
                rule["expr"].as_str().expect("an expression").to_owned(),
            )
        })
        .collect();
    let text = std::fs::read_to_string(format!("{CHART}/dashboard.json")).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("an expression");
            let query = query.replace("$namespace", ".*").replace("$cluster", ".*");
            all.push((panel["title"].to_string(), query));
        }
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        let query = variable["query"].as_str().expect("a query");
        if let Some(inner) = query.strip_prefix("label_values(") {
            let (selector, _) = inner.rsplit_once(',').expect("a label");
            let selector = selector.replace("$namespace", ".*");
            all.push((variable["name"].to_string(), selector));
        }
    }
    all
}

/// Words that look like a metric of ours.
fn metrics(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("consul_") || word.starts_with("operator_"))
        .map(str::to_owned)
        .collect()
}

/// Names in an answer of `/metrics`.
fn exported(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_query_is_one_that_prometheus_reads() {
    let queries = queries();
    assert!(queries.len() > 30, "{}", queries.len());
    for (place, query) in &queries {
        if let Err(why) = parser::parse(query) {
            panic!("{place}: {query}: {why}");
        }
        assert!(
            !metrics(query).is_empty(),
            "{place} asks for nothing of ours: {query}"
        );
    }
    // The net catches.
    assert!(parser::parse("sum by (x) (rate(operator_steps_total[5m])").is_err());
}

#[test]
fn every_alert_says_what_happened_and_what_to_do() {
    let rules = rules();
    let mut names = BTreeSet::new();
    for (name, rule) in &rules {
        assert!(names.insert(name), "{name} twice");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(
            ["warning", "critical"].contains(&severity),
            "{name}: {severity}"
        );
        for text in ["summary", "description"] {
            let text = rule["annotations"][text].as_str().unwrap_or_default();
            assert!(text.len() > 10, "{name}: {text}");
        }
    }
}

#[test]
fn every_metric_in_rules_and_dashboard_is_exported() {
    let mut cluster = Cluster::new();
    let config = cluster.folder().join("telemetry.json");
    std::fs::write(
        &config,
        r#"{"telemetry": {"prometheus_retention_time": "60s"}}"#,
    )
    .expect("written");
    let config = config.display().to_string();
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &config]);
    cluster["A"].wait_for_leader();
    cluster["B"].start(&["-server", "-config-file", &config]);
    cluster["B"].wait_until_up();
    let b = cluster.address("B");
    cluster["A"].cli(&["join", &b]).success();
    cluster.wait_for_voters(&SERVERS[..2]);
    let known: BTreeSet<String> = operator::controller::Counters::names()
        .into_iter()
        .collect();
    let used: BTreeSet<String> = queries()
        .iter()
        .flat_map(|(_, query)| metrics(query))
        .collect();
    // A follower tells of its contact with the leader, and the leader of autopilot.
    eventually("all of them are exported", || {
        let mut exports = known.clone();
        for name in ["A", "B"] {
            let reply = cluster[name].get("/v1/agent/metrics?format=prometheus");
            exports.extend(exported(&reply.text()));
        }
        let missing: Vec<_> = used.difference(&exports).cloned().collect();
        missing
            .is_empty()
            .then_some(())
            .ok_or_else(|| missing.join(", "))
    });
}

/// The samples of the window that an agent shows now.
fn samples(agent: &Agent) -> BTreeSet<String> {
    let shown = agent.json("/v1/agent/metrics");
    let samples = shown["Samples"].as_array().expect("a list");
    let name = |sample: &Value| sample["Name"].as_str().unwrap_or_default().to_owned();
    samples.iter().map(name).collect()
}

#[test]
fn a_leaders_work_is_measured_and_a_follower_has_none() {
    let mut cluster = Cluster::new();
    cluster["A"].start(&["-server", "-bootstrap"]);
    cluster["A"].wait_for_leader();
    cluster["B"].start(&["-server"]);
    cluster["B"].wait_until_up();
    let b = cluster.address("B");
    cluster["A"].cli(&["join", &b]).success();
    // Each window is shown for ten seconds, and the beginning of a leadership is in one of them.
    let mut seen = BTreeSet::new();
    let wanted =
        ["reconcile", "reconcileMember", "barrier"].map(|name| format!("consul.leader.{name}"));
    eventually("the leader's work is measured", || {
        seen.extend(samples(&cluster["A"]));
        match wanted.iter().all(|name| seen.contains(name)) {
            true => Ok(()),
            false => Err(format!("{seen:?}")),
        }
    });
    cluster.wait_for_voters(&SERVERS[..2]);
    let of_follower = samples(&cluster["B"]);
    let leads = |name: &&String| name.starts_with("consul.leader.");
    assert_eq!(of_follower.iter().find(leads), None);
}
