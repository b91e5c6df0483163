use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::chain::tests::Written;
use super::gateways::{INGRESS, Known, TERMINATING, gateways_for, services_of};
use super::intentions::{Wanted, all, allows, of_destination, of_source, put, remove};
use super::rules::Proposed;
use super::*;

fn shown(raw: Value) -> Value {
    super::body(&read(raw).unwrap())
}

fn malformed(raw: Value) -> String {
    match read(raw) {
        Err(Error::Malformed(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn invalid(raw: Value) -> String {
    match read(raw) {
        Err(Error::Invalid(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_spellings_of_keys_become_one() {
    let snake = json!({"kind": "service-defaults", "name": "web", "protocol": "HTTP",
        "mesh_gateway": {"mode": "local"}, "local_connect_timeout_ms": 5, "expose": {"paths": [{"local_path_port": 8080}]},
        "upstream_config": {"defaults": {"passive_health_check": {"interval": "30s", "enforcing_consecutive_5xx": 1}}}});
    let camel = json!({"Kind": "service-defaults", "Name": "web", "Protocol": "http",
        "MeshGateway": {"Mode": "local"}, "LocalConnectTimeoutMs": 5, "Expose": {"Paths": [{"LocalPathPort": 8080}]},
        "UpstreamConfig": {"Defaults": {"PassiveHealthCheck": {"Interval": 30_000_000_000_u64, "EnforcingConsecutive5xx": 1}}}});
    assert_eq!(shown(snake), shown(camel.clone()));
    assert_eq!(
        shown(camel),
        json!({"Kind": "service-defaults", "Name": "web", "Protocol": "http", "TransparentProxy": {},
            "MeshGateway": {"Mode": "local"},
            "Expose": {"Paths": [{"LocalPathPort": 8080, "ParsedFromCheck": false}]},
            "UpstreamConfig": {"Defaults": {"PassiveHealthCheck": {"Interval": 30_000_000_000_u64, "EnforcingConsecutive5xx": 1},
                                            "MeshGateway": {}}},
            "LocalConnectTimeoutMs": 5})
    );
}

#[test]
fn blocks_of_hcl_are_objects_or_lists_as_the_kind_wants() {
    let entry = shown(
        json!({"Kind": "service-resolver", "Name": "web", "Redirect": [{"Service": "other"}]}),
    );
    assert_eq!(entry["Redirect"]["Service"], "other");
    let entry =
        shown(json!({"Kind": "service-splitter", "Name": "web", "Splits": {"Weight": "100"}}));
    assert_eq!(entry["Splits"], json!([{"Weight": 100.0}]));
}

#[test]
fn what_is_shown_can_be_written_again() {
    for entry in samples() {
        let once = shown(entry);
        assert_eq!(shown(once.clone()), once);
    }
}

/// One of every kind that can be written.
fn samples() -> Vec<Value> {
    let pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----";
    vec![
        json!({"Kind": "service-defaults", "Name": "web", "Protocol": "http", "Meta": {"a_B": "c"}}),
        json!({"Kind": "proxy-defaults", "Name": "global", "Config": {"local_Key": [1, {"x_y": true}]}}),
        json!({"Kind": "mesh", "TransparentProxy": {"MeshDestinationsOnly": true}}),
        json!({"Kind": "service-resolver", "Name": "web", "DefaultSubset": "v1", "ConnectTimeout": "15s",
               "Subsets": {"v1": {"Filter": "Service.Meta.version == v1"}}, "Failover": {"*": {"Datacenters": ["dc2"]}}}),
        json!({"Kind": "service-router", "Name": "web", "Routes": [{"Match": {"HTTP": {"PathPrefix": "/admin", "Methods": ["get"]}},
               "Destination": {"Service": "admin", "PrefixRewrite": "/", "RequestTimeout": "5s"}}]}),
        json!({"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 33.33}, {"Weight": 66.67, "Service": "v2"}]}),
        json!({"Kind": "service-intentions", "Name": "db", "Sources": [{"Name": "*", "Action": "deny"}, {"Name": "web", "Action": "allow"}]}),
        json!({"Kind": "ingress-gateway", "Name": "in", "Listeners": [{"Port": 80, "Protocol": "http", "Services": [{"Name": "*"}]}]}),
        json!({"Kind": "terminating-gateway", "Name": "out", "Services": [{"Name": "web", "CAFile": "/ca"}]}),
        json!({"Kind": "api-gateway", "Name": "api", "Listeners": [{"Name": "a", "Port": 80, "Protocol": "http"}]}),
        json!({"Kind": "http-route", "Name": "r", "Parents": [{"Name": "api"}], "Rules": [{"Services": [{"Name": "web"}]}]}),
        json!({"Kind": "tcp-route", "Name": "r", "Parents": [{"Name": "api"}], "Services": [{"Name": "web"}]}),
        json!({"Kind": "inline-certificate", "Name": "c", "Certificate": pem, "PrivateKey": pem}),
        json!({"Kind": "file-system-certificate", "Name": "c", "Certificate": "/c", "PrivateKey": "/k"}),
        json!({"Kind": "exported-services", "Name": "default", "Services": [{"Name": "web", "Consumers": [{"peer_name": "east"}]}]}),
        json!({"Kind": "jwt-provider", "Name": "j", "JSONWebKeySet": {"Remote": {"URI": "https://x", "CacheDuration": "1m"}}}),
        json!({"Kind": "control-plane-request-limit", "Name": "l", "Mode": "permissive", "ReadRate": 10, "KV": {"ReadRate": 1.5}}),
    ]
}

#[test]
fn every_kind_can_be_written() {
    let written: Vec<_> = samples()
        .into_iter()
        .map(|raw| read(raw).unwrap().kind)
        .collect();
    for kind in KINDS.iter().filter(|kind| kind.name != BOUND) {
        assert!(
            written.iter().any(|name| name == kind.name),
            "{}",
            kind.name
        );
    }
}

#[test]
fn data_keeps_its_own_keys() {
    let entry = shown(samples().remove(1));
    assert_eq!(entry["Config"], json!({"local_Key": [1, {"x_y": true}]}));
    assert_eq!(shown(samples().remove(0))["Meta"], json!({"a_B": "c"}));
}

#[test]
fn what_cannot_be_read_is_named() {
    assert_eq!(
        malformed(json!({"Name": "web"})),
        "Payload does not contain a kind/Kind key at the top level"
    );
    assert_eq!(
        malformed(json!({"Kind": 5})),
        "Kind value in payload is not a string"
    );
    assert_eq!(
        malformed(json!({"Kind": "zz"})),
        "invalid config entry kind: zz"
    );
    let kind = "service-defaults";
    assert_eq!(
        malformed(json!({"Kind": kind, "Name": "web", "Protocl": "http", "Expose": {"x": 1}})),
        "2 errors occurred:\n\t* invalid config key \"Expose.x\"\n\t* invalid config key \"Protocl\"\n\n"
    );
    assert_eq!(
        malformed(json!({"Kind": kind, "Name": "web", "Namespace": "x"})),
        "1 error occurred:\n\t* invalid config key \"Namespace\", namespaces are a consul enterprise feature\n\n"
    );
    assert_eq!(
        malformed(json!({"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": true}]})),
        "1 error(s) decoding:\n\n* 'Splits[0].Weight' expected a number"
    );
    assert!(
        read(json!({"Kind": kind, "Name": "web", "Namespace": "default", "Partition": ""})).is_ok()
    );
}

#[test]
fn what_cannot_be_is_refused() {
    for (raw, text) in [
        (
            json!({"Kind": "sameness-group", "Name": "x"}),
            "sameness-groups are an enterprise-only feature",
        ),
        (
            json!({"Kind": "bound-api-gateway", "Name": "x"}),
            "bound-api-gateway config entries cannot be written",
        ),
        (
            json!({"Kind": "proxy-defaults", "Name": "x"}),
            "invalid name (\"x\"), only \"global\" is supported",
        ),
        (json!({"Kind": "service-defaults"}), "Name is required"),
        (
            json!({"Kind": "service-splitter", "Name": "x"}),
            "no splits configured",
        ),
        (
            json!({"Kind": "service-splitter", "Name": "x", "Splits": [{"Weight": 50}]}),
            "the sum of all split weights must be 100, not 50.000000",
        ),
        (
            json!({"Kind": "service-router", "Name": "x", "Routes": [{"Match": {"HTTP": {"PathExact": "x"}}}]}),
            "Route[0] PathExact doesn't start with '/': \"x\"",
        ),
        (
            json!({"Kind": "ingress-gateway", "Name": "x", "Listeners": [{"Port": 80}]}),
            "No service declared for listener with port 80",
        ),
        (
            json!({"Kind": "service-intentions", "Name": "x", "Sources": [{"Name": "a"}]}),
            "Sources[0].Action must be set to 'allow' or 'deny'",
        ),
        (
            json!({"Kind": "service-intentions", "Name": "x"}),
            "At least one source is required.",
        ),
        (
            json!({"Kind": "inline-certificate", "Name": "x", "Certificate": "no"}),
            "failed to parse certificate PEM",
        ),
        (
            json!({"Kind": "jwt-provider", "Name": "x"}),
            "JSONWebKeySet is required",
        ),
    ] {
        assert_eq!(invalid(raw), text);
    }
    let text = invalid(
        json!({"Kind": "service-resolver", "Name": "x", "Subsets": {"a": {"Filter": "zz ="}}}),
    );
    assert!(
        text.starts_with("Filter for subset \"a\" is not a valid expression: "),
        "{text}"
    );
}

fn wanted(source: &str, destination: &str, action: &str) -> Wanted {
    Wanted {
        source: source.into(),
        destination: destination.into(),
        action: action.into(),
        now: "2026-01-02T03:04:05Z".into(),
        ..Wanted::default()
    }
}

fn entries(all: &[Wanted]) -> Vec<Arc<ConfigEntry>> {
    let mut found: Vec<Arc<ConfigEntry>> = Vec::new();
    for one in all {
        let old = found.iter().position(|entry| entry.name == one.destination);
        let entry = old.map(|at| found.remove(at));
        found.push(Arc::new(put(entry.as_deref(), one).unwrap()));
    }
    found
}

#[test]
fn the_most_exact_intention_decides() {
    let found = entries(&[
        wanted("*", "*", "deny"),
        wanted("web", "*", "allow"),
        wanted("*", "db", "deny"),
        wanted("web", "db", "allow"),
    ]);
    let found = all(&found);
    let ranks: Vec<_> = found.iter().map(|one| one.precedence()).collect();
    assert_eq!(ranks, [9, 8, 6, 5]);
    let allowed = |source, destination| allows(&found, source, destination, true);
    assert!(allowed("web", "db") && allowed("web", "cache"));
    assert!(!allowed("api", "db") && !allowed("api", "cache"));
    assert!(allows(&[], "a", "b", true) && !allows(&[], "a", "b", false));
    assert_eq!(of_destination(&found, "cache").len(), 2);
    assert_eq!(of_source(&found, "api").len(), 2);
}

#[test]
fn an_intention_about_a_peers_service_does_not_decide_about_one_here() {
    let entry = read(json!({
        "Kind": "service-intentions",
        "Name": "db",
        "Meta": {"external-source": "kubernetes"},
        "Sources": [
            {"Name": "web", "Peer": "other", "Action": "allow"},
            {"Name": "*", "Action": "deny"},
        ],
    }));
    let found = all(&[Arc::new(entry.unwrap())]);
    assert_eq!(found.len(), 2);
    assert!(!allows(&found, "web", "db", true));
    // Who wrote the entry wrote its sources.
    assert_eq!(found[0].external_source(), "kubernetes");
    assert_eq!(
        found[0].show()["Meta"],
        json!({"external-source": "kubernetes"})
    );
}

#[test]
fn an_intention_replaces_its_like_and_the_last_one_takes_the_entry_along() {
    let first = Wanted {
        id: "f0000000-0000-0000-0000-000000000000".into(),
        ..wanted("web", "db", "allow")
    };
    let entry = put(None, &first).unwrap();
    let entry = put(Some(&entry), &wanted("*", "db", "deny")).unwrap();
    let later = Wanted {
        now: "2027-01-01T00:00:00Z".into(),
        ..wanted("web", "db", "deny")
    };
    let entry = Arc::new(put(Some(&entry), &later).unwrap());
    let found = all(std::slice::from_ref(&entry));
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].id(), found[0].action()),
        (first.id.as_str(), "deny")
    );
    let shown = found[0].show();
    assert_eq!(shown["CreatedAt"], "2026-01-02T03:04:05Z");
    assert_eq!(shown["UpdatedAt"], "2027-01-01T00:00:00Z");
    let left = remove(&entry, |source| source["Name"] == "web")
        .unwrap()
        .unwrap();
    assert_eq!(remove(&left, |source| source["Name"] == "*"), Ok(None));
}

#[test]
fn an_intention_that_cannot_be_is_refused() {
    let text = put(None, &wanted("", "d*", "maybe"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "3 errors occurred:\n\t* SourceName must be set\n\
         \t* DestinationName: wildcard character '*' cannot be used with partial values\n\
         \t* Action must be set to 'allow' or 'deny'\n\n"
    );
}

proptest! {
    /// Any tree of JSON under any kind is an entry or an error, and what is an entry stays one.
    #[test]
    fn nothing_panics(kind in 0..KINDS.len(), fields in trees()) {
        let mut raw = fields;
        if let Value::Object(raw) = &mut raw {
            raw.insert("Kind".to_owned(), KINDS[kind].name.into());
        }
        if let Ok(entry) = read(raw) {
            let again = read(super::body(&entry));
            prop_assert_eq!(again.map(|again| again.json), Ok(entry.json));
        }
    }
}

/// Puts something else in the place of a part of a value; the number says of which.
fn with_other_part(value: &mut Value, mut at: usize, other: Value) {
    let count = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if count == 0 || at.is_multiple_of(4) {
        *value = other;
        return;
    }
    at /= 4;
    let (place, rest) = (at % count, at / count);
    match value {
        Value::Array(items) => with_other_part(&mut items[place], rest, other),
        Value::Object(fields) => {
            if let Some(part) = fields.values_mut().nth(place) {
                with_other_part(part, rest, other);
            }
        }
        _ => {}
    }
}

proptest! {
    /// Entries of any content that can be written can be asked of everything that is made of them.
    #[test]
    fn what_is_made_of_entries_stands_any_content(
        changes in proptest::collection::vec((0..20_usize, any::<u32>(), trees()), 0..12),
    ) {
        let mut raw = samples();
        for (which, at, other) in changes {
            let mut one = samples().swap_remove(which % samples().len());
            with_other_part(&mut one, at as usize, other);
            raw.push(one);
        }
        raw.retain(|raw| read(raw.clone()).is_ok());
        let found = Written::new(&raw);
        for raw in &raw {
            let entry = read(raw.clone()).unwrap();
            let new = super::body(&entry);
            let (kind, name) = (entry.kind.as_str(), entry.name.as_str());
            for new in [Some(&new), None] {
                let proposed = Proposed { kind, name, old: None, new };
                let first = rules::check(proposed, &found);
                prop_assert_eq!(&first, &rules::check(proposed, &found));
            }
            let known = [Known { name: name.to_owned(), in_mesh: true, outside: true }];
            services_of(name, &found, &known);
            gateways_for(INGRESS, name, &found, Some(&known[0]));
            gateways_for(TERMINATING, name, &found, None);
            central::merged(name, &new, &found);
            rules::exported_to(&found, &[name.to_owned()]);
        }
    }
}

fn trees() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("Name"),
        Just("Sources"),
        Just("Action"),
        Just("splits"),
        Just("weight"),
        Just("Listeners"),
        Just("port"),
        Just("Services"),
        Just("Redirect"),
        Just("connect_timeout"),
        Just("MeshGateway"),
        Just("Mode"),
        Just("zz"),
    ];
    let leaves = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop_oneof![
            Just("web"),
            Just("*"),
            Just("5s"),
            Just("allow"),
            Just("http"),
            Just("")
        ]
        .prop_map(Value::from),
    ];
    let tree = leaves.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(names.clone(), inner, 0..5).prop_map(|fields| {
                let fields = fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value));
                Value::Object(fields.collect())
            }),
        ]
    });
    tree.prop_map(|tree| match tree {
        Value::Object(fields) => Value::Object(fields),
        other => json!({"Name": "web", "Sources": other}),
    })
}
