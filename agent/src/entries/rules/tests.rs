//! Which changes are refused, and in which words.

use serde_json::json;

use super::*;
use crate::entries::chain::tests::Written;

/// The refusal of a new entry among others.
fn refused(others: &[Value], new: Value) -> String {
    written(others, new).unwrap_err()
}

fn written(others: &[Value], new: Value) -> Checked {
    let (kind, name) = (text(&new, "Kind").to_owned(), text(&new, "Name").to_owned());
    let mut all: Vec<Value> = others
        .iter()
        .filter(|other| (text(other, "Kind"), text(other, "Name")) != (&*kind, &*name))
        .cloned()
        .collect();
    let old = others.iter().find(|other| !all.contains(other)).cloned();
    all.push(new.clone());
    let new = crate::entries::body(&crate::entries::read(new).unwrap());
    let proposed = Proposed {
        kind: &kind,
        name: &name,
        old: old.as_ref(),
        new: Some(&new),
    };
    check(proposed, &Written::new(&all))
}

/// The refusal of a deletion from among entries.
fn kept(mut all: Vec<Value>, kind: &str, name: &str) -> Checked {
    let of = |entry: &Value| (text(entry, "Kind"), text(entry, "Name")) == (kind, name);
    let old = all.iter().find(|entry| of(entry)).cloned();
    all.retain(|entry| !of(entry));
    let proposed = Proposed {
        kind,
        name,
        old: old.as_ref(),
        new: None,
    };
    check(proposed, &Written::new(&all))
}

fn defaults(name: &str, protocol: &str) -> Value {
    json!({"Kind": "service-defaults", "Name": name, "Protocol": protocol})
}

fn global(protocol: &str) -> Value {
    json!({"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": protocol}})
}

fn splitter(name: &str) -> Value {
    json!({"Kind": "service-splitter", "Name": name, "Splits": [{"Weight": 100}]})
}

const TCP: &str = "discovery chain \"web\" uses a protocol \"tcp\" that does not permit advanced routing or splitting behavior";

#[test]
fn routers_and_splitters_need_a_protocol_of_requests() {
    assert_eq!(refused(&[], splitter("web")), TCP);
    assert_eq!(refused(&[global("tcp")], splitter("web")), TCP);
    // What a service says of itself counts more than what is said of all.
    assert_eq!(
        refused(&[global("http"), defaults("web", "tcp")], splitter("web")),
        TCP
    );
    for protocol in ["http", "http2", "grpc"] {
        written(&[defaults("web", protocol)], splitter("web")).unwrap();
        written(&[global(protocol)], splitter("web")).unwrap();
    }
    let router = json!({"Kind": "service-router", "Name": "web", "Routes": []});
    assert_eq!(refused(&[], router.clone()), TCP);
    written(&[defaults("WEB", "grpc")], router).unwrap();
}

#[test]
fn a_protocol_that_a_chain_needs_stays() {
    let mesh = vec![defaults("web", "http"), splitter("web")];
    assert_eq!(refused(&mesh, defaults("web", "tcp")), TCP);
    written(&mesh, defaults("web", "grpc")).unwrap();
    assert_eq!(kept(mesh, "service-defaults", "web").unwrap_err(), TCP);
    let mesh = vec![global("http"), splitter("web")];
    assert_eq!(refused(&mesh, global("tcp")), TCP);
    assert_eq!(kept(mesh, "proxy-defaults", "global").unwrap_err(), TCP);
    kept(
        vec![global("http"), splitter("web")],
        "service-splitter",
        "web",
    )
    .unwrap();
    // Chains that lead to a service are looked at as well as its own.
    let mesh = [
        global("http"),
        json!({"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 50}, {"Weight": 50, "Service": "b"}]}),
    ];
    assert_eq!(
        refused(&mesh, defaults("b", "tcp")),
        "discovery chain \"web\" uses inconsistent protocols; service \"b\" has \"tcp\" which is not \"http\""
    );
}

#[test]
fn subsets_that_others_lead_to_stay() {
    let resolver = json!({"Kind": "service-resolver", "Name": "b", "Subsets": {"v1": {}}});
    let mesh = vec![
        global("http"),
        resolver,
        json!({"Kind": "service-router", "Name": "web", "Routes": [{"Destination": {"Service": "b", "ServiceSubset": "v1"}}]}),
    ];
    let wrong = "service \"b\" does not have a subset named \"v1\"";
    assert_eq!(
        kept(mesh.clone(), "service-resolver", "b").unwrap_err(),
        wrong
    );
    let other = json!({"Kind": "service-resolver", "Name": "b", "Subsets": {"v2": {}}});
    assert_eq!(refused(&mesh, other), wrong);
}

#[test]
fn listeners_speak_what_their_services_speak() {
    let ingress = |protocol: &str, service: &str| {
        json!({"Kind": "ingress-gateway", "Name": "in", "Listeners": [
            {"Port": 80, "Protocol": protocol, "Services": [{"Name": service}]}]})
    };
    assert_eq!(
        refused(&[], ingress("http", "web")),
        "service \"web\" has protocol \"tcp\", which does not match defined listener protocol \"http\""
    );
    written(&[], ingress("http", "*")).unwrap();
    written(&[defaults("web", "http")], ingress("http", "web")).unwrap();
    // Who writes the gateway means its protocol; who writes a service may leave connections to be passed on.
    assert_eq!(
        refused(&[defaults("web", "http")], ingress("tcp", "web")),
        "service \"web\" has protocol \"http\", which does not match defined listener protocol \"tcp\""
    );
    written(&[ingress("tcp", "web")], defaults("web", "http")).unwrap();
    assert_eq!(
        refused(
            &[ingress("http", "web"), defaults("web", "http")],
            defaults("web", "tcp")
        ),
        "service \"web\" has protocol \"tcp\", which does not match defined listener protocol \"http\""
    );
    let all = vec![ingress("http", "web"), global("http")];
    assert_eq!(
        kept(all, "proxy-defaults", "global").unwrap_err(),
        "service \"web\" has protocol \"tcp\", which does not match defined listener protocol \"http\""
    );
}

#[test]
fn intentions_about_requests_need_requests() {
    let permits = json!({"Kind": "service-intentions", "Name": "web", "Sources": [
        {"Name": "a", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]}]});
    let wrong = "service \"web\" has protocol \"tcp\", which is incompatible with L7 intentions permissions";
    assert_eq!(refused(&[], permits.clone()), wrong);
    let mesh = vec![defaults("web", "http"), permits];
    assert_eq!(refused(&mesh, defaults("web", "tcp")), wrong);
    assert_eq!(kept(mesh, "service-defaults", "web").unwrap_err(), wrong);
}

#[test]
fn names_providers_and_modes_must_be_known() {
    let ingress = json!({"Kind": "ingress-gateway", "Name": "g", "Listeners": []});
    let terminating = json!({"Kind": "terminating-gateway", "Name": "g", "Services": []});
    assert_eq!(
        refused(std::slice::from_ref(&ingress), terminating),
        "cannot create a \"terminating-gateway\" config entry with name \"g\", a \"ingress-gateway\" config entry with that name already exists"
    );
    let intentions = json!({"Kind": "service-intentions", "Name": "web", "JWT": {"Providers": [{"Name": "okta"}]},
                            "Sources": [{"Name": "*", "Action": "allow"}]});
    assert_eq!(
        refused(&[], intentions.clone()),
        "1 error occurred:\n\t* Referenced JWT Provider does not exist. Provider Name: okta\n\n"
    );
    let provider = json!({"Kind": "jwt-provider", "Name": "okta", "JSONWebKeySet": {"Local": {"Filename": "/k"}}});
    written(&[provider], intentions).unwrap();
    let permissive =
        json!({"Kind": "service-defaults", "Name": "web", "MutualTLSMode": "permissive"});
    assert_eq!(
        refused(&[], permissive.clone()),
        "cannot set MutualTLSMode=permissive because AllowEnablingPermissiveMutualTLS=false in the mesh config entry"
    );
    let mesh = json!({"Kind": "mesh", "AllowEnablingPermissiveMutualTLS": true});
    written(&[mesh], permissive).unwrap();
}

#[test]
fn what_peers_may_reach_stays_here() {
    let exports = json!({"Kind": "exported-services", "Name": "default", "Services": [
        {"Name": "web", "Consumers": [{"Peer": "east"}]}]});
    let failover = json!({"Kind": "service-resolver", "Name": "web", "Failover": {"*": {"Datacenters": ["dc2"]}}});
    let wrong = "peer exported service \"web\" contains cross-datacenter failover";
    assert_eq!(
        refused(std::slice::from_ref(&failover), exports.clone()),
        wrong
    );
    assert_eq!(refused(&[exports], failover), wrong);
}
