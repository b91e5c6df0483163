//! What chains are compiled to, and what cannot be compiled.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::entries::{body, read};

/// Entries as somebody wrote them.
pub(in crate::entries) struct Written(Vec<Value>);

impl Written {
    pub(in crate::entries) fn new(entries: &[Value]) -> Self {
        let entries = entries.iter().map(|raw| body(&read(raw.clone()).unwrap()));
        Self(entries.collect())
    }
}

impl Find for Written {
    fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let same = |entry: &&Value| {
            let other = match text(entry, "Name") {
                // One of its kind.
                "" => name.to_owned(),
                other => other.to_lowercase(),
            };
            text(entry, "Kind") == kind && other == name.to_lowercase()
        };
        self.0.iter().find(same).cloned()
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        let of = |entry: &&Value| text(entry, "Kind") == kind;
        self.0.iter().filter(of).cloned().collect()
    }
}

fn request(service: &str) -> ChainRequest {
    ChainRequest {
        service: service.to_owned(),
        datacenter: "dc1".to_owned(),
        ..ChainRequest::default()
    }
}

fn compiled(service: &str, entries: &[Value]) -> Value {
    let chain = compile(&request(service), "t.consul", &Written::new(entries)).unwrap();
    chain.show(Vec::new(), Vec::new())["Chain"].clone()
}

fn refused(service: &str, entries: &[Value]) -> String {
    compile(&request(service), "t.consul", &Written::new(entries)).unwrap_err()
}

fn http(service: &str) -> Value {
    json!({"Kind": "service-defaults", "Name": service, "Protocol": "http"})
}

fn all_http() -> Value {
    json!({"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}})
}

fn splitter(service: &str, splits: Value) -> Value {
    json!({"Kind": "service-splitter", "Name": service, "Splits": splits})
}

#[test]
fn a_service_of_which_nobody_speaks_has_a_chain_of_one_resolver() {
    assert_eq!(
        compiled("web", &[]),
        json!({
            "ServiceName": "web", "Namespace": "default", "Partition": "default", "Datacenter": "dc1",
            "Default": true, "Protocol": "tcp", "StartNode": "resolver:web.default.default.dc1",
            "Nodes": {"resolver:web.default.default.dc1": {
                "Type": "resolver", "Name": "web.default.default.dc1",
                "Resolver": {"ConnectTimeout": "5s", "Default": true, "Target": "web.default.default.dc1"}}},
            "Targets": {"web.default.default.dc1": {
                "ConnectTimeout": "5s", "ID": "web.default.default.dc1", "Service": "web", "Namespace": "default",
                "Partition": "default", "Datacenter": "dc1", "MeshGateway": {}, "Subset": {}, "TransparentProxy": {},
                "SNI": "web.default.dc1.internal.t.consul", "Name": "web.default.dc1.internal.t.consul"}}
        })
    );
}

#[test]
fn a_router_leads_to_splitters_and_resolvers_and_ends_in_the_service_itself() {
    let chain = compiled(
        "web",
        &[
            all_http(),
            json!({"Kind": "service-router", "Name": "web", "Routes": [
                {"Match": {"HTTP": {"PathPrefix": "/admin"}}, "Destination": {"Service": "admin"}},
                {"Match": {"HTTP": {"PathPrefix": "/v2"}}, "Destination": {"ServiceSubset": "v2"}}]}),
            json!({"Kind": "service-resolver", "Name": "web", "DefaultSubset": "v1", "ConnectTimeout": "15s", "RequestTimeout": "1s",
                   "Subsets": {"v1": {"Filter": "Service.Meta.v == 1"}, "v2": {"OnlyPassing": true}},
                   "LoadBalancer": {"Policy": "maglev"}}),
            splitter(
                "web",
                json!([{"Weight": 90}, {"Weight": 10, "ServiceSubset": "v2"}]),
            ),
        ],
    );
    assert_eq!(chain["StartNode"], "router:web.default.default");
    assert_eq!(chain["Default"], Value::Null);
    let routes = &chain["Nodes"]["router:web.default.default"]["Routes"];
    let next: Vec<_> = (0..3).map(|at| routes[at]["NextNode"].clone()).collect();
    assert_eq!(
        next,
        [
            "resolver:admin.default.default.dc1",
            "resolver:v2.web.default.default.dc1",
            "splitter:web.default.default"
        ]
    );
    assert_eq!(
        routes[2]["Definition"],
        json!({"Match": {"HTTP": {"PathPrefix": "/"}},
               "Destination": {"Service": "web", "Namespace": "default", "Partition": "default"}})
    );
    let splitter = &chain["Nodes"]["splitter:web.default.default"];
    assert_eq!(
        splitter["Splits"],
        json!([{"Definition": {"Weight": 90}, "Weight": 90, "NextNode": "resolver:v1.web.default.default.dc1"},
               {"Definition": {"Weight": 10, "ServiceSubset": "v2"}, "Weight": 10, "NextNode": "resolver:v2.web.default.default.dc1"}])
    );
    assert_eq!(splitter["LoadBalancer"], json!({"Policy": "maglev"}));
    let resolver = &chain["Nodes"]["resolver:v1.web.default.default.dc1"]["Resolver"];
    assert_eq!(
        *resolver,
        json!({"ConnectTimeout": "15s", "RequestTimeout": 1_000_000_000, "Target": "v1.web.default.default.dc1"})
    );
    let target = &chain["Targets"]["v1.web.default.default.dc1"];
    assert_eq!(target["Subset"], json!({"Filter": "Service.Meta.v == 1"}));
    assert_eq!(target["SNI"], "v1.web.default.dc1.internal.t.consul");
    // The target without a subset was on the way only.
    assert_eq!(chain["Targets"].as_object().unwrap().len(), 3);
}

#[test]
fn splitters_behind_splitters_become_one() {
    let chain = compiled(
        "a",
        &[
            all_http(),
            splitter(
                "a",
                json!([{"Weight": 50, "Service": "b", "RequestHeaders": {"Set": {"x": "a", "y": "a"}, "Remove": ["r"]}},
                       {"Weight": 50, "Service": "c"}]),
            ),
            splitter(
                "b",
                json!([{"Weight": 33.33, "RequestHeaders": {"Set": {"x": "b"}, "Remove": ["r", "s"]}},
                       {"Weight": 66.67, "Service": "d"}]),
            ),
        ],
    );
    let splits = &chain["Nodes"]["splitter:a.default.default"]["Splits"];
    let weights: Vec<_> = (0..3).map(|at| splits[at]["Weight"].clone()).collect();
    assert_eq!(weights, [json!(16.67), json!(33.34), json!(50)]);
    assert_eq!(
        splits[0]["Definition"]["RequestHeaders"],
        json!({"Set": {"x": "b", "y": "a"}, "Remove": ["r", "s"]})
    );
    assert_eq!(
        splits[1]["Definition"]["RequestHeaders"],
        json!({"Set": {"x": "a", "y": "a"}, "Remove": ["r"]})
    );
    assert!(chain["Nodes"].get("splitter:b.default.default").is_none());
}

#[test]
fn redirects_are_followed_and_failover_is_listed() {
    let chain = compiled(
        "web",
        &[
            json!({"Kind": "service-resolver", "Name": "web", "Redirect": {"Service": "other"}}),
            json!({"Kind": "service-resolver", "Name": "other", "Failover": {"*": {"Targets": [
                {"Service": "third"}, {"Datacenter": "dc2"}, {"Peer": "east"}, {"Service": "other"}]}}}),
            json!({"Kind": "proxy-defaults", "Name": "global", "MeshGateway": {"Mode": "local"},
                   "FailoverPolicy": {"Mode": "sequential"}}),
        ],
    );
    assert_eq!(chain["StartNode"], "resolver:other.default.default.dc1");
    let resolver = &chain["Nodes"]["resolver:other.default.default.dc1"]["Resolver"];
    assert_eq!(
        resolver["Failover"],
        json!({"Targets": ["third.default.default.dc1", "other.default.default.dc2", "other.default.default.external.east"],
               "Policy": {"Mode": "sequential"}})
    );
    let peer = &chain["Targets"]["other.default.default.external.east"];
    assert_eq!(
        (&peer["Peer"], &peer["SNI"]),
        (&json!("east"), &Value::Null)
    );
    assert_eq!(
        chain["Targets"]["third.default.default.dc1"]["MeshGateway"],
        json!({"Mode": "local"})
    );
    // Redirected to a default resolver is not the default.
    let entries =
        [json!({"Kind": "service-resolver", "Name": "web", "Redirect": {"Service": "other"}})];
    assert_eq!(compiled("web", &entries)["Default"], Value::Null);
    let entries = [
        json!({"Kind": "service-resolver", "Name": "db", "Failover": {"*": {"Datacenters": ["dc2", "dc1"]}}}),
    ];
    let failover =
        &compiled("db", &entries)["Nodes"]["resolver:db.default.default.dc1"]["Resolver"];
    assert_eq!(
        failover["Failover"],
        json!({"Targets": ["db.default.default.dc2"]})
    );
}

#[test]
fn services_outside_have_their_own_names() {
    let entries = [
        json!({"Kind": "service-defaults", "Name": "pay", "ExternalSNI": "pay.example.com", "Meta": {"a": "b"},
               "MeshGateway": {"Mode": "remote"}}),
    ];
    let chain = compiled("pay", &entries);
    let target = &chain["Targets"]["pay.default.default.dc1"];
    assert_eq!(target["SNI"], "pay.example.com");
    assert_eq!(target["Name"], "pay.default.dc1.internal.t.consul");
    assert_eq!(
        (&target["External"], &target["MeshGateway"]),
        (&json!(true), &json!({}))
    );
    assert_eq!(chain["ServiceMeta"], json!({"a": "b"}));
    let with = |resolver: Value| [entries[0].clone(), resolver];
    assert_eq!(
        refused(
            "pay",
            &with(json!({"Kind": "service-resolver", "Name": "pay", "Subsets": {"v1": {}}}))
        ),
        "service \"pay\" has an external SNI set; cannot define subsets for external services"
    );
}

#[test]
fn callers_may_override() {
    let entries = [http("web"), splitter("web", json!([{"Weight": 100}]))];
    let written = Written::new(&entries);
    let asked = ChainRequest {
        protocol: "tcp".into(),
        mesh_gateway: "remote".into(),
        connect_timeout: Duration::from_secs(9),
        ..request("web")
    };
    let chain = compile(&asked, "t", &written).unwrap();
    let shown = chain.show(vec!["240.0.0.1".into()], Vec::new())["Chain"].clone();
    assert_eq!(shown["Protocol"], "tcp");
    assert_eq!(shown["StartNode"], "resolver:web.default.default.dc1");
    assert_eq!(shown["CustomizationHash"].as_str().unwrap().len(), 8);
    assert_eq!(shown["AutoVirtualIPs"], json!(["240.0.0.1"]));
    let target = &shown["Targets"]["web.default.default.dc1"];
    assert_eq!(target["MeshGateway"]["Mode"], "remote");
    assert_eq!(target["ConnectTimeout"], "9s");
    // What changes nothing is no customization.
    let asked = ChainRequest {
        protocol: "http".into(),
        ..request("web")
    };
    let chain = compile(&asked, "t", &written).unwrap();
    assert_eq!(chain.customization, "");
    assert!(!chain.starts_with_resolver());
}

#[test]
fn what_does_not_fit_together_is_said_in_consuls_words() {
    let splits = splitter("web", json!([{"Weight": 100}]));
    assert_eq!(
        refused("web", std::slice::from_ref(&splits)),
        "discovery chain \"web\" uses a protocol \"tcp\" that does not permit advanced routing or splitting behavior"
    );
    assert_eq!(
        refused(
            "web",
            &[
                http("web"),
                splitter("web", json!([{"Weight": 100, "Service": "b"}]))
            ]
        ),
        "discovery chain \"web\" uses a protocol \"tcp\" that does not permit advanced routing or splitting behavior"
    );
    assert_eq!(
        refused(
            "web",
            &[
                http("web"),
                splitter(
                    "web",
                    json!([{"Weight": 50}, {"Weight": 50, "Service": "b"}])
                )
            ]
        ),
        "discovery chain \"web\" uses inconsistent protocols; service \"b\" has \"tcp\" which is not \"http\""
    );
    assert_eq!(
        refused(
            "web",
            &[
                http("web"),
                splitter("web", json!([{"Weight": 100, "ServiceSubset": "v9"}]))
            ]
        ),
        "service \"web\" does not have a subset named \"v9\""
    );
    let redirect = |from: &str, to: &str| json!({"Kind": "service-resolver", "Name": from, "Redirect": {"Service": to}});
    assert_eq!(
        refused("a", &[redirect("a", "b"), redirect("b", "a")]),
        "detected circular resolver redirect: [a.default.default.dc1 -> b.default.default.dc1 -> a.default.default.dc1]"
    );
    let to = |from: &str, to: &str| splitter(from, json!([{"Weight": 100, "Service": to}]));
    assert_eq!(
        refused("a", &[all_http(), to("a", "b"), to("b", "a")]),
        "detected circular reference: [splitter:a.default.default -> splitter:b.default.default -> splitter:a.default.default]"
    );
}

#[test]
fn chains_have_bounds() {
    let to = |at: usize| {
        splitter(
            &format!("s{at}"),
            json!([{"Weight": 100, "Service": format!("s{}", at + 1)}]),
        )
    };
    let mut entries: Vec<_> = (0..DEPTH_MAX).map(to).collect();
    entries.push(all_http());
    compiled("s0", &entries);
    entries.push(to(DEPTH_MAX));
    assert_eq!(
        refused("s0", &entries),
        "discovery chain \"s0\" has more than 64 splitters behind each other"
    );
    // Each doubles the ways: 2^60 of them.
    let twice = |at: usize, name: &str| {
        let next = at + 1;
        splitter(
            &format!("{name}{at}"),
            json!([{"Weight": 50, "Service": format!("a{next}")}, {"Weight": 50, "Service": format!("b{next}")}]),
        )
    };
    let mut entries: Vec<_> = (0..60)
        .flat_map(|at| [twice(at, "a"), twice(at, "b")])
        .collect();
    entries.push(all_http());
    assert_eq!(
        refused("a0", &entries),
        "discovery chain \"a0\" has a splitter with more than 1024 parts, with those behind it"
    );
}

/// Entries that lead to each other at random.
fn entries() -> impl Strategy<Value = Vec<Value>> {
    let name = || prop::sample::select(vec!["a", "b", "c", "d", "A"]);
    let subset = || prop::sample::select(vec!["", "v1", "v2"]);
    let to = (name(), subset())
        .prop_map(|(service, subset)| json!({"Service": service, "ServiceSubset": subset}));
    let weighted = |to: Vec<Value>| {
        let share = 100.0 / to.len() as f64;
        let split = |mut one: Value| {
            one["Weight"] = share.into();
            one
        };
        Value::Array(to.into_iter().map(split).collect())
    };
    let split = (name(), prop::collection::vec(to.clone(), 1..3)).prop_map(
        move |(name, to)| json!({"Kind": "service-splitter", "Name": name, "Splits": weighted(to)}),
    );
    let router = (name(), prop::collection::vec(to.clone(), 0..3)).prop_map(|(name, to)| {
        let routes: Vec<_> = to
            .into_iter()
            .map(|to| json!({"Destination": to}))
            .collect();
        json!({"Kind": "service-router", "Name": name, "Routes": routes})
    });
    let redirect = (name(), to.clone())
        .prop_map(|(name, to)| json!({"Kind": "service-resolver", "Name": name, "Redirect": to}));
    let resolver = (name(), subset(), prop::collection::vec(to, 0..3)).prop_map(|(name, subset, to)| {
        json!({"Kind": "service-resolver", "Name": name, "DefaultSubset": subset, "Subsets": {"v1": {}, "v2": {"OnlyPassing": true}},
               "Failover": {"*": {"Service": "b", "Targets": to}}})
    });
    let defaults = (name(), prop::sample::select(vec!["", "tcp", "http"])).prop_map(
        |(name, protocol)| json!({"Kind": "service-defaults", "Name": name, "Protocol": protocol}),
    );
    let one = prop_oneof![
        split,
        router,
        redirect,
        resolver,
        defaults,
        Just(all_http())
    ];
    prop::collection::vec(one, 0..12)
}

proptest! {
    /// A chain comes to an end, says the same each time, and names nothing that is not in it.
    #[test]
    fn random_chains_compile_alike_or_are_refused_alike(raw in entries(), protocol in prop::sample::select(vec!["", "tcp", "http"])) {
        let readable: Vec<_> = raw.into_iter().filter(|raw| read(raw.clone()).is_ok()).collect();
        let written = Written::new(&readable);
        for service in ["a", "b", "c", "d", "e"] {
            let asked = ChainRequest { protocol: protocol.to_owned(), ..request(service) };
            let chain = compile(&asked, "t", &written);
            prop_assert_eq!(&chain, &compile(&asked, "t", &written));
            let Ok(chain) = chain else { continue };
            prop_assert!(chain.nodes.contains_key(&chain.start));
            for node in chain.nodes.values() {
                match node {
                    Node::Router { routes, .. } => {
                        for (_, next) in routes {
                            prop_assert!(chain.nodes.contains_key(next));
                        }
                    }
                    Node::Splitter { splits, .. } => {
                        for split in splits {
                            prop_assert!(matches!(chain.nodes.get(&split.next), Some(Node::Resolver(_))));
                        }
                        let sum: f32 = splits.iter().map(|split| split.weight).sum();
                        prop_assert!((sum - 100.0).abs() < 1.0, "{}", sum);
                    }
                    Node::Resolver(node) => {
                        prop_assert!(chain.targets.contains_key(&node.target));
                        for target in node.failover.iter().flat_map(|failover| &failover.targets) {
                            prop_assert!(chain.targets.contains_key(target));
                        }
                    }
                }
            }
        }
    }
}
