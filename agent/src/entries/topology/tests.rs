//! Who is drawn around a service, and why.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::entries::chain::tests::Written;
use crate::entries::read;
use crate::state::Mesh;

/// A catalog and entries, as somebody wrote them.
#[derive(Default)]
struct Bench {
    services: Vec<Service>,
    addressed: Vec<String>,
    entries: Vec<Value>,
}

impl Bench {
    /// Services with a sidecar each, of which this is `Proxy`.
    fn sidecars(mut self, of: &str, proxy: Value) -> Self {
        for service in of.split(' ') {
            let mesh = Mesh {
                destination: service.to_owned(),
                proxy: proxy.to_string(),
                ..Mesh::default()
            };
            self.services.push(Service {
                kind: CONNECT_PROXY.to_owned(),
                service: format!("{service}-proxy"),
                mesh: Some(Box::new(mesh)),
                ..Service::default()
            });
        }
        self.services("", of)
    }

    fn services(mut self, kind: &str, names: &str) -> Self {
        self.services.extend(names.split(' ').map(|name| Service {
            kind: kind.to_owned(),
            service: name.to_owned(),
            ..Service::default()
        }));
        self
    }

    fn native(mut self, name: &str) -> Self {
        let mesh = Mesh {
            native: true,
            ..Mesh::default()
        };
        self.services.push(Service {
            service: name.to_owned(),
            mesh: Some(Box::new(mesh)),
            ..Service::default()
        });
        self
    }

    fn entry(mut self, entry: Value) -> Self {
        self.entries.push(entry);
        self
    }

    fn http(self) -> Self {
        self.entry(
            json!({"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}),
        )
    }

    /// An intention as SOURCE ACTION.
    fn intention(self, to: &str, from: &str, action: &str) -> Self {
        let sources = json!([{"Name": from, "Action": action}]);
        self.entry(json!({"Kind": "service-intentions", "Name": to, "Sources": sources}))
    }

    fn ask(&self, asked: &Asked) -> Topology {
        let mut known: Vec<Known> = Vec::new();
        for service in self.services.iter().filter(|one| one.kind.is_empty()) {
            let in_mesh = |one: &Service| one.mesh_target().as_deref() == Some(&service.service);
            known.push(Known {
                name: service.service.clone(),
                in_mesh: self.services.iter().any(in_mesh),
                outside: true,
            });
        }
        let mut seen = Seen::new(known, self.addressed.clone());
        self.services.iter().for_each(|service| seen.add(service));
        let entries = self.entries.iter().cloned();
        let rows: Vec<_> = entries
            .map(|entry| Arc::new(read(entry).unwrap()))
            .collect();
        let intentions = crate::entries::intentions::all(&rows);
        topology(asked, &seen, &intentions, &Written::new(&self.entries))
    }

    fn of(&self, service: &str) -> Topology {
        self.ask(&Asked {
            service: service.to_owned(),
            ..Asked::default()
        })
    }

    fn allowing(&self, service: &str) -> Topology {
        self.ask(&Asked {
            service: service.to_owned(),
            default_allow: true,
            ..Asked::default()
        })
    }
}

fn to(names: &[&str]) -> Value {
    let upstreams = names.iter().map(|name| json!({"DestinationName": name}));
    json!({"Upstreams": upstreams.collect::<Vec<_>>()})
}

fn transparent() -> Value {
    json!({"Mode": "transparent"})
}

fn drawn(links: &[Link]) -> Vec<(&str, &str, bool)> {
    let links = links.iter();
    links
        .map(|link| (&*link.name, link.source.as_str(), link.decision.allowed))
        .collect()
}

#[test]
fn a_sidecar_that_names_an_upstream_is_its_downstream() {
    let bench = Bench::default()
        .sidecars("web", to(&["db", "Cache", "absent"]))
        .sidecars("db cache other", json!({}));
    let web = bench.of("WEB");
    assert_eq!(
        drawn(&web.upstreams),
        [
            ("cache", "proxy-registration", false),
            ("db", "proxy-registration", false)
        ]
    );
    assert_eq!((&*web.protocol, web.transparent), ("tcp", false));
    assert!(web.downstreams.is_empty());
    let db = bench.allowing("db");
    assert_eq!(
        drawn(&db.downstreams),
        [("web", "proxy-registration", true)]
    );
    assert!(db.upstreams.is_empty() && bench.of("other").downstreams.is_empty());
}

#[test]
fn a_prepared_query_is_no_service() {
    let upstream = json!({"DestinationType": "prepared_query", "DestinationName": "db"});
    let bench = Bench::default()
        .sidecars("web", json!({"Upstreams": [upstream]}))
        .sidecars("db", json!({}));
    assert!(bench.of("web").upstreams.is_empty());
    assert!(bench.of("db").downstreams.is_empty());
}

#[test]
fn intentions_decide_about_connections_and_say_who_wrote_them() {
    let entry = json!({
        "Kind": "service-intentions",
        "Name": "db",
        "Meta": {"external-source": "kubernetes"},
        "Sources": [
            {"Name": "web", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]},
            {"Name": "*", "Action": "deny"},
        ],
    });
    let bench = Bench::default()
        .sidecars("web api", to(&["db"]))
        .sidecars("db", json!({}))
        .entry(entry);
    let decision = |name: &str| bench.allowing(name).upstreams[0].decision.clone();
    let by_path = Decision {
        default_allow: true,
        allowed: false,
        has_permissions: true,
        external_source: "kubernetes".to_owned(),
        has_exact: true,
    };
    assert_eq!(decision("web"), by_path);
    let denied = Decision {
        has_permissions: false,
        has_exact: false,
        ..by_path.clone()
    };
    assert_eq!(decision("api"), denied);
    let db = bench.allowing("db");
    let decisions: Vec<_> = db.downstreams.iter().map(|link| &link.decision).collect();
    assert_eq!(decisions, [&denied, &by_path], "api, web");
}

#[test]
fn transparent_proxies_connect_to_whomever_intentions_allow() {
    let bench = Bench::default()
        .sidecars("web", transparent())
        .sidecars("db cache", json!({}))
        .services("", "consul plain")
        .services(INGRESS, "door")
        .intention("db", "web", "allow")
        .intention("cache", "*", "allow")
        .intention("plain", "web", "deny");
    let web = bench.of("web");
    assert!(web.transparent);
    assert_eq!(
        drawn(&web.upstreams),
        [
            ("cache", "wildcard-intention", true),
            ("db", "specific-intention", true)
        ]
    );
    // Others have to be told.
    assert!(bench.of("db").upstreams.is_empty());
    assert_eq!(
        drawn(&bench.of("db").downstreams),
        [("web", "specific-intention", true)]
    );
    assert_eq!(
        drawn(&bench.of("cache").downstreams),
        [("web", "wildcard-intention", true)]
    );
    // With a default of allow it is what is not denied, and a wildcard says nothing new.
    let web = bench.allowing("web");
    assert_eq!(
        drawn(&web.upstreams),
        [
            ("cache", "default-allow", true),
            ("db", "specific-intention", true)
        ]
    );
    assert!(web.downstreams.is_empty(), "no other is transparent");
}

#[test]
fn a_connection_of_which_some_requests_are_allowed_is_drawn() {
    let permissions = json!([{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]);
    let entry = json!({
        "Kind": "service-intentions",
        "Name": "db",
        "Sources": [{"Name": "web", "Permissions": permissions}],
    });
    let bench = Bench::default()
        .sidecars("web", transparent())
        .sidecars("db", json!({}))
        .http()
        .entry(entry);
    let web = bench.of("web");
    assert_eq!(drawn(&web.upstreams), [("db", "specific-intention", false)]);
    assert!(web.upstreams[0].decision.has_permissions);
}

#[test]
fn one_proxy_that_is_not_transparent_is_enough() {
    let bench = Bench::default()
        .sidecars("web", transparent())
        .sidecars("web", to(&["db"]))
        .sidecars("db cache", json!({}));
    let web = bench.allowing("web");
    assert!(!web.transparent);
    // The other one still takes all, and what is named counts as named.
    assert_eq!(
        drawn(&web.upstreams),
        [
            ("cache", "default-allow", true),
            ("db", "proxy-registration", true)
        ]
    );
}

#[test]
fn services_that_speak_the_mesh_themselves_need_no_proxy() {
    let bench = Bench::default().native("web").sidecars("db", json!({}));
    let web = bench.allowing("web");
    assert_eq!(drawn(&web.upstreams), [("db", "default-allow", true)]);
    assert!(!web.transparent);
    assert_eq!(
        drawn(&bench.allowing("db").downstreams),
        [("web", "default-allow", true)]
    );
}

#[test]
fn a_router_stands_between_two_services() {
    let route = json!({
        "Match": {"HTTP": {"PathPrefix": "/admin"}},
        "Destination": {"Service": "admin"},
    });
    let bench = Bench::default()
        .sidecars("web", to(&["front"]))
        .sidecars("admin", json!({}))
        .http()
        .entry(json!({"Kind": "service-router", "Name": "front", "Routes": [route]}));
    let web = bench.of("web");
    assert_eq!(web.protocol, "http");
    assert_eq!(drawn(&web.upstreams), [("front", "routing-config", false)]);
    // Those behind it see through it.
    assert_eq!(
        drawn(&bench.of("admin").downstreams),
        [("web", "proxy-registration", false)]
    );
    // With an instance it is a service like others.
    let bench = bench.services("", "front");
    assert_eq!(
        drawn(&bench.of("web").upstreams),
        [("front", "proxy-registration", false)]
    );
}

#[test]
fn a_service_with_an_address_and_no_instance_is_drawn_if_it_routes() {
    let mut bench = Bench::default()
        .sidecars("web", transparent())
        .sidecars("db", json!({}))
        .entry(json!({"Kind": "service-resolver", "Name": "store", "Redirect": {"Service": "db"}}));
    bench.addressed = vec!["store".to_owned(), "gone".to_owned()];
    assert_eq!(
        drawn(&bench.allowing("web").upstreams),
        [
            ("db", "default-allow", true),
            ("store", "routing-config", true)
        ]
    );
}

#[test]
fn a_service_that_is_redirected_gets_none_of_its_connections() {
    let bench = Bench::default()
        .sidecars("web", to(&["old"]))
        .sidecars("old new", json!({}))
        .entry(json!({"Kind": "service-resolver", "Name": "old", "Redirect": {"Service": "new"}}));
    assert!(bench.of("old").downstreams.is_empty());
    let new = bench.of("new");
    assert_eq!(
        drawn(&new.downstreams),
        [("web", "proxy-registration", false)]
    );
}

#[test]
fn ingress_gateways_connect_to_what_they_stand_for() {
    let listener = |port: u16, protocol: &str, service: &str| json!({"Port": port, "Protocol": protocol, "Services": [{"Name": service}]});
    let door = |listeners: Value| json!({"Kind": "ingress-gateway", "Name": "door", "Listeners": listeners});
    let bench = || {
        Bench::default()
            .services(INGRESS, "door")
            .sidecars("web db", json!({}))
    };
    let asked = Asked {
        service: "door".to_owned(),
        ingress: true,
        default_allow: true,
    };
    let one = bench().entry(door(json!([listener(80, "tcp", "web")])));
    let drawn_of = one.ask(&asked);
    assert_eq!(
        drawn(&drawn_of.upstreams),
        [("web", "proxy-registration", true)]
    );
    assert_eq!((&*drawn_of.protocol, drawn_of.transparent), ("tcp", false));
    assert_eq!(
        drawn(&one.of("web").downstreams),
        [("door", "proxy-registration", false)]
    );
    assert!(one.of("db").downstreams.is_empty());
    let all = bench()
        .http()
        .entry(door(json!([listener(80, "http", "*")])));
    let drawn_of = all.ask(&asked);
    assert_eq!(drawn_of.protocol, "http");
    assert_eq!(drawn_of.upstreams.len(), 2);
    assert_eq!(bench().ask(&asked), Topology::default(), "nobody knows it");
}
