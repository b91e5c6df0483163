//! Every endpoint and method against every kind of token, by one table. An endpoint that is not in it fails the test.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{Guarded, MANAGER};

/// What it takes to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Nothing, whatever token is sent.
    Nothing,
    /// Any token that is one: what its holder may not see, is left out.
    Any,
    /// One that allows to look at it.
    Read,
    /// One that allows to change it.
    Write,
}
use Takes::{Any, Nothing, Read, Write};

/// Endpoint, method, what stands behind the endpoint's pattern, the body, and what it takes.
type Line = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Takes,
);

/// Of nothing.
const ID: &str = "6e2ee0a5-0f4d-4b3b-8f0e-9f6d5b4c3a21";

#[rustfmt::skip]
const LINES: &[Line] = &[
    ("/v1/kv/", "GET", "a", "", Read),
    ("/v1/kv/", "GET", "?recurse", "", Any),
    ("/v1/kv/", "GET", "?keys", "", Any),
    ("/v1/kv/", "PUT", "a", "x", Write),
    ("/v1/kv/", "DELETE", "a", "", Write),
    ("/v1/kv/", "DELETE", "a?recurse", "", Write),
    ("/v1/health/service/", "GET", "web", "", Any),
    ("/v1/health/connect/", "GET", "web", "", Any),
    ("/v1/health/ingress/", "GET", "web", "", Any),
    ("/v1/health/node/", "GET", "A", "", Any),
    ("/v1/health/checks/", "GET", "web", "", Any),
    ("/v1/health/state/", "GET", "any", "", Any),
    ("/v1/catalog/service/", "GET", "web", "", Any),
    ("/v1/catalog/services", "GET", "", "", Any),
    ("/v1/catalog/nodes", "GET", "", "", Any),
    ("/v1/catalog/node/", "GET", "A", "", Any),
    ("/v1/catalog/node-services/", "GET", "A", "", Any),
    ("/v1/catalog/connect/", "GET", "web", "", Any),
    ("/v1/catalog/gateway-services/", "GET", "gate", "", Read),
    ("/v1/catalog/datacenters", "GET", "", "", Nothing),
    ("/v1/catalog/register", "PUT", "", r#"{"Node":"new","Address":"127.0.0.1","Service":{"Service":"web"}}"#, Write),
    ("/v1/catalog/deregister", "PUT", "", r#"{"Node":"other"}"#, Write),
    ("/v1/session/create", "PUT", "", r#"{"Node":"A"}"#, Write),
    ("/v1/session/destroy/", "PUT", ID, "", Any),
    ("/v1/session/renew/", "PUT", ID, "", Any),
    ("/v1/session/info/", "GET", ID, "", Any),
    ("/v1/session/node/", "GET", "A", "", Any),
    ("/v1/session/list", "GET", "", "", Any),
    ("/v1/agent/self", "GET", "", "", Read),
    ("/v1/agent/members", "GET", "", "", Any),
    ("/v1/agent/join/", "PUT", "127.0.0.1:1", "", Write),
    ("/v1/agent/leave", "PUT", "", "", Write),
    ("/v1/agent/force-leave/", "PUT", "nobody", "", Write),
    ("/v1/agent/reload", "PUT", "", "", Write),
    ("/v1/agent/metrics", "GET", "", "", Read),
    ("/v1/agent/metrics/stream", "GET", "", "", Read),
    ("/v1/agent/host", "GET", "", "", Read),
    ("/v1/agent/version", "GET", "", "", Nothing),
    ("/v1/agent/ready", "GET", "", "", Nothing),
    ("/v1/agent/monitor", "GET", "", "", Read),
    ("/v1/query", "GET", "", "", Any),
    ("/v1/query", "POST", "", r#"{"Name":"q","Service":{"Service":"web"}}"#, Write),
    ("/v1/query/", "GET", "none/execute", "", Any),
    ("/v1/query/", "PUT", ID, r#"{"Name":"q","Service":{"Service":"web"}}"#, Write),
    ("/v1/query/", "DELETE", ID, "", Any),
    ("/v1/coordinate/datacenters", "GET", "", "", Nothing),
    ("/v1/coordinate/nodes", "GET", "", "", Any),
    ("/v1/coordinate/node/", "GET", "A", "", Any),
    ("/v1/coordinate/update", "PUT", "", r#"{"Node":"A","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.00001}}"#, Write),
    ("/v1/config", "PUT", "", r#"{"Kind":"service-defaults","Name":"web","Protocol":"http"}"#, Write),
    ("/v1/config/", "GET", "service-defaults", "", Any),
    ("/v1/config/", "GET", "service-defaults/web", "", Read),
    ("/v1/config/", "DELETE", "service-defaults/web", "", Write),
    ("/v1/connect/intentions", "GET", "", "", Any),
    ("/v1/connect/intentions", "POST", "", r#"{"SourceName":"a","DestinationName":"b","Action":"allow"}"#, Write),
    ("/v1/connect/intentions/", "GET", "match?by=source&name=a", "", Any),
    ("/v1/connect/intentions/", "PUT", "exact?source=a&destination=b", r#"{"Action":"allow"}"#, Write),
    ("/v1/connect/intentions/", "DELETE", "exact?source=a&destination=b", "", Write),
    ("/v1/discovery-chain/", "GET", "web", "", Read),
    ("/v1/discovery-chain/", "POST", "web", "{}", Read),
    ("/v1/exported-services", "GET", "", "", Read),
    ("/v1/imported-services", "GET", "", "", Read),
    ("/v1/internal/ui/nodes", "GET", "", "", Any),
    ("/v1/internal/ui/node/", "GET", "A", "", Any),
    ("/v1/internal/ui/services", "GET", "", "", Any),
    ("/v1/internal/ui/catalog-overview", "GET", "", "", Read),
    ("/v1/internal/ui/service-topology/", "GET", "web?kind=", "", Read),
    ("/v1/internal/ui/gateway-services-nodes/", "GET", "gate", "", Read),
    ("/v1/internal/ui/gateway-intentions/", "GET", "gate", "", Read),
    ("/v1/internal/ui/exported-services", "GET", "", "", Read),
    ("/v1/internal/service-virtual-ip", "PUT", "", r#"{"Service":"web","ManualVIPs":["10.0.0.9"]}"#, Write),
    ("/v1/connect/ca/roots", "GET", "", "", Any),
    ("/v1/connect/ca/configuration", "GET", "", "", Read),
    ("/v1/connect/ca/configuration", "PUT", "", r#"{"Provider":"consul","Config":{"LeafCertTTL":"48h"}}"#, Write),
    ("/v1/agent/connect/ca/roots", "GET", "", "", Any),
    ("/v1/agent/connect/ca/leaf/", "GET", "web", "", Write),
    ("/v1/agent/connect/authorize", "POST", "", r#"{"Target":"web","ClientCertURI":"spiffe://6e2ee0a5-0f4d-4b3b-8f0e-9f6d5b4c3a21.consul/ns/default/dc/dc1/svc/a"}"#, Write),
    ("/v1/event/fire/", "PUT", "deploy", "", Write),
    ("/v1/event/list", "GET", "", "", Any),
    ("/v1/snapshot", "GET", "", "", Write),
    ("/v1/snapshot", "PUT", "", "no snapshot", Write),
    ("/v1/txn", "PUT", "", r#"[{"KV":{"Verb":"get-or-empty","Key":"a"}}]"#, Any),
    ("/v1/agent/services", "GET", "", "", Any),
    ("/v1/agent/service/register", "PUT", "", r#"{"Name":"web","ID":"web2"}"#, Write),
    ("/v1/agent/service/deregister/", "PUT", "web1", "", Write),
    ("/v1/agent/service/maintenance/", "PUT", "web1?enable=true", "", Write),
    ("/v1/agent/service/", "GET", "web1", "", Read),
    ("/v1/agent/maintenance", "PUT", "?enable=false", "", Write),
    ("/v1/agent/checks", "GET", "", "", Any),
    ("/v1/agent/check/register", "PUT", "", r#"{"Name":"alive","TTL":"10m"}"#, Write),
    ("/v1/agent/check/deregister/", "PUT", "ttl", "", Write),
    ("/v1/agent/check/pass/", "PUT", "ttl", "", Write),
    ("/v1/agent/check/warn/", "PUT", "ttl", "", Write),
    ("/v1/agent/check/fail/", "PUT", "ttl", "", Write),
    ("/v1/agent/check/update/", "PUT", "ttl", r#"{"Status":"passing"}"#, Write),
    ("/v1/agent/health/service/id/", "GET", "web1", "", Read),
    ("/v1/agent/health/service/name/", "GET", "web", "", Read),
    ("/v1/status/leader", "GET", "", "", Nothing),
    ("/v1/status/peers", "GET", "", "", Nothing),
    ("/v1/operator/autopilot/configuration", "GET", "", "", Read),
    ("/v1/operator/autopilot/configuration", "PUT", "", r#"{"CleanupDeadServers":true}"#, Write),
    ("/v1/operator/autopilot/health", "GET", "", "", Read),
    ("/v1/operator/autopilot/state", "GET", "", "", Read),
    ("/v1/operator/raft/configuration", "GET", "", "", Read),
    ("/v1/operator/raft/peer", "DELETE", "?address=127.0.0.1:1", "", Write),
    ("/v1/operator/raft/transfer-leader", "POST", "", "", Write),
    ("/v1/operator/raft/transfer-leader", "PUT", "", "", Write),
    ("/v1/operator/usage", "GET", "", "", Read),
    ("/v1/operator/keyring", "GET", "", "", Read),
    ("/v1/operator/keyring", "POST", "", r#"{"Key":"pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="}"#, Write),
    ("/v1/operator/keyring", "PUT", "", r#"{"Key":"pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="}"#, Write),
    ("/v1/operator/keyring", "DELETE", "", r#"{"Key":"pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="}"#, Write),
    ("/v1/peerings", "GET", "", "", Read),
    ("/v1/peering/token", "POST", "", r#"{"PeerName":"p"}"#, Write),
    ("/v1/peering/establish", "POST", "", r#"{"PeerName":"p"}"#, Write),
    ("/v1/peering/", "GET", "p", "", Read),
    ("/v1/peering/", "DELETE", "p", "", Write),
    ("/debug/pprof/", "GET", "heap", "", Read),
    ("/v1/acl/bootstrap", "PUT", "", "{}", Write),
    ("/v1/acl/login", "POST", "", r#"{"AuthMethod":"none","BearerToken":"x"}"#, Write),
    ("/v1/acl/logout", "POST", "", "", Write),
    ("/v1/acl/replication", "GET", "", "", Nothing),
    ("/v1/acl/tokens", "GET", "", "", Read),
    ("/v1/acl/token", "PUT", "", r#"{"Description":"x"}"#, Write),
    ("/v1/acl/token/self", "GET", "", "", Any),
    ("/v1/acl/token/", "GET", "00000000-0000-0000-0000-000000000002", "", Read),
    ("/v1/acl/token/", "PUT", "00000000-0000-0000-0000-000000000002", "{}", Write),
    ("/v1/acl/token/", "DELETE", ID, "", Write),
    ("/v1/acl/policies", "GET", "", "", Read),
    ("/v1/acl/policy", "PUT", "", r#"{"Name":"p"}"#, Write),
    ("/v1/acl/policy/name/", "GET", "global-management", "", Read),
    ("/v1/acl/policy/", "GET", "00000000-0000-0000-0000-000000000001", "", Read),
    ("/v1/acl/policy/", "PUT", ID, "{}", Write),
    ("/v1/acl/policy/", "DELETE", ID, "", Write),
    ("/v1/acl/roles", "GET", "", "", Read),
    ("/v1/acl/role", "PUT", "", r#"{"Name":"r"}"#, Write),
    ("/v1/acl/role/name/", "GET", "r", "", Read),
    ("/v1/acl/role/", "GET", ID, "", Read),
    ("/v1/acl/role/", "PUT", ID, "{}", Write),
    ("/v1/acl/role/", "DELETE", ID, "", Write),
    ("/v1/acl/auth-methods", "GET", "", "", Read),
    ("/v1/acl/auth-method", "PUT", "", r#"{"Name":"m","Type":"jwt","Config":{"JWKSURL":"https://127.0.0.1:1"}}"#, Write),
    ("/v1/acl/auth-method/", "GET", "none", "", Read),
    ("/v1/acl/auth-method/", "PUT", "none", "{}", Write),
    ("/v1/acl/auth-method/", "DELETE", "none", "", Write),
    ("/v1/acl/binding-rules", "GET", "", "", Read),
    ("/v1/acl/binding-rule", "PUT", "", r#"{"AuthMethod":"m","BindType":"policy","BindName":"p"}"#, Write),
    ("/v1/acl/binding-rule/", "GET", ID, "", Read),
    ("/v1/acl/binding-rule/", "PUT", ID, "{}", Write),
    ("/v1/acl/binding-rule/", "DELETE", ID, "", Write),
    ("/v1/acl/templated-policies", "GET", "", "", Read),
    ("/v1/acl/templated-policy/name/", "GET", "builtin/dns", "", Read),
    ("/v1/acl/templated-policy/preview/", "POST", "builtin/service", r#"{"Name":"web"}"#, Read),
    ("/v1/internal/acl/authorize", "POST", "", r#"[{"Resource":"key","Segment":"a","Access":"read"}]"#, Any),
    ("/v1/agent/token/", "PUT", "default", r#"{"Token":""}"#, Write),
];

/// What nobody needs a right for, because they need to know something instead.
const BY_KNOWLEDGE: [&str; 3] = ["/v1/acl/bootstrap", "/v1/acl/login", "/v1/acl/logout"];

/// Status and text of an answer. One that goes on for ever is not read to its end.
fn ask(guarded: &Guarded, line: &Line, token: &str) -> (u16, String) {
    let (pattern, method, rest, body, _) = line;
    let sign = if rest.contains('?') { '&' } else { '?' };
    let path = format!("{pattern}{rest}{sign}token={token}");
    let answer = guarded.head_of(method, &path, body);
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    (
        status.unwrap_or_else(|| panic!("{line:?}: {answer}")),
        answer,
    )
}

#[test]
fn every_endpoint_is_in_the_table() {
    let known: BTreeSet<_> = LINES.iter().map(|line| (line.0, line.1)).collect();
    for (pattern, methods) in agent::http::endpoints() {
        for method in methods {
            assert!(known.contains(&(pattern, *method)), "{method} {pattern}");
        }
    }
}

#[test]
fn every_endpoint_answers_by_what_a_token_allows() {
    let guarded = Guarded::new();
    guarded.seed();
    let denying = guarded.token("denying", "key_prefix \"\" { policy = \"deny\" }");
    let reading = guarded.reader();
    let revoked = guarded.token("revoked", "acl = \"write\"");
    guarded.revoke(&revoked);
    let mut wrong = Vec::new();
    for line in LINES {
        let (pattern, .., takes) = line;
        let by_knowledge = BY_KNOWLEDGE.contains(pattern);
        for (name, secret, exists, reads) in [
            ("none", "", true, false),
            ("denying", denying.secret.as_str(), true, false),
            ("wrong", "wrong", false, false),
            ("revoked", &revoked.secret, false, false),
            ("reading", &reading.secret, true, true),
        ] {
            let allowed = match takes {
                Nothing => true,
                Any => exists,
                Read => exists && reads,
                Write => false,
            };
            let (status, text) = ask(&guarded, line, secret);
            let is_denied = status == 403;
            let has_reason = text.contains("Permission denied");
            if is_denied == allowed || is_denied && exists && !by_knowledge && !has_reason {
                wrong.push(format!("{name}: {line:?}: {text}"));
            }
        }
    }
    // Whoever may do everything is never refused. That which ends the agent comes last.
    let (last, others): (Vec<_>, Vec<_>) =
        LINES.iter().partition(|line| line.0 == "/v1/agent/leave");
    for line in others.into_iter().chain(last) {
        let (_, text) = ask(&guarded, line, MANAGER);
        let denied = text.contains("Permission denied") && !BY_KNOWLEDGE.contains(&line.0);
        if denied {
            wrong.push(format!("manager: {line:?}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A proxy of `web` that is told to connect to `db`, which is behind a gateway too.
fn connect_web_to_db(guarded: &Guarded) {
    let http = guarded.http();
    let put = |path: &str, body: &Value| {
        let reply = http.put(&format!("{path}?token={MANAGER}"), body.to_string());
        let reply = reply.expect("an answer");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    };
    let upstreams = json!([{"DestinationName": "db", "LocalBindPort": 1}]);
    let proxy = json!({"DestinationServiceName": "web", "Upstreams": upstreams});
    for service in [
        json!({"Service": "db"}),
        json!({"Service": "web-proxy", "Kind": "connect-proxy", "Port": 2, "Proxy": proxy}),
    ] {
        let body = json!({"Node": "n", "Address": "10.0.0.1", "Service": service});
        put("/v1/catalog/register", &body);
    }
    let gateway =
        json!({"Kind": "terminating-gateway", "Name": "out", "Services": [{"Name": "db"}]});
    put("/v1/config", &gateway);
    let sources = json!([{"Name": "web", "Action": "allow"}]);
    put(
        "/v1/config",
        &json!({"Kind": "service-intentions", "Name": "db", "Sources": sources}),
    );
}

#[test]
fn of_the_mesh_a_token_sees_what_it_may_see() {
    let guarded = Guarded::new();
    let http = guarded.http();
    connect_web_to_db(&guarded);
    let read = |kind: &str, name: &str| format!("{kind} \"{name}\" {{ policy = \"read\" }}");
    let starts = format!(
        "{} {} {}",
        read("node", "n"),
        read("service", "web"),
        read("service", "out")
    );
    // Whoever may read a service may read the intentions for it.
    let both = format!("{starts} {}", read("service", "db"));
    for (name, rules, shown) in [("starts", starts, 0), ("both", both, 1)] {
        let token = guarded.token(name, &rules).secret;
        let get = |path: &str| {
            let reply = http.get(&format!("/v1/internal/ui/{path}token={token}"));
            let reply = reply.expect("an answer");
            assert_eq!(reply.status, 200, "{name}: {path}: {}", reply.text());
            reply
        };
        let topology = get("service-topology/web?kind=&");
        let filtered = topology
            .header("x-consul-results-filtered-by-acls")
            .is_some();
        let topology = topology.json();
        assert_eq!(topology["FilteredByACLs"], shown == 0, "{name}: {topology}");
        assert_eq!(filtered, shown == 0, "{name}");
        let counts = [
            &topology["Upstreams"],
            &get("gateway-services-nodes/out?").json(),
            &get("gateway-intentions/out?").json(),
        ]
        .map(|list| list.as_array().map(Vec::len));
        assert_eq!(counts, [Some(shown); 3], "{name}");
    }
    // The default of this agent is to deny, and says so.
    let path = format!("/v1/internal/ui/service-topology/web?kind=&token={MANAGER}");
    let topology = http.get(&path).expect("an answer").json();
    let intention = &topology["Upstreams"][0]["Intention"];
    assert_eq!(
        (&intention["DefaultAllow"], &intention["Allowed"]),
        (&json!(false), &json!(true))
    );
}

#[test]
fn what_consuls_pages_ask_for_shows_what_a_token_may_see() {
    let guarded = Guarded::new();
    guarded.seed();
    let nodes = "node_prefix \"\" { policy = \"read\" }";
    let web = "service \"web\" { policy = \"read\" }";
    for (name, rules, wanted) in [
        (
            "neither",
            "key \"a\" { policy = \"read\" }".to_owned(),
            None,
        ),
        ("services", web.to_owned(), None),
        ("nodes", nodes.to_owned(), Some((vec![], false))),
        ("both", format!("{nodes} {web}"), Some((vec!["web"], true))),
    ] {
        let token = guarded.token(name, &rules).secret;
        let get = |path: &str| {
            let reply = guarded.http().get(&format!("{path}?token={token}"));
            reply.expect("an answer")
        };
        tests::eventually("the service is in the catalog", || {
            let path = format!("/v1/catalog/service/web?token={MANAGER}");
            let found = guarded.http().get(&path).expect("an answer");
            (found.text() != "[]").then_some(()).ok_or(found.text())
        });
        let all = get("/v1/internal/ui/nodes").json();
        let alone = get("/v1/internal/ui/node/A");
        let summed = get("/v1/internal/ui/services").json();
        let Some((services, sees_check)) = wanted else {
            assert_eq!((&all, &summed), (&json!([]), &json!([])), "{name}");
            assert_eq!(alone.status, 404, "{name}: {}", alone.text());
            continue;
        };
        assert_eq!(all[0], alone.json(), "{name}");
        let names = |rows: &Value, key: &str| -> Vec<String> {
            let rows = rows.as_array().expect("a list").iter();
            rows.map(|row| row[key].as_str().expect("a name").to_owned())
                .collect()
        };
        assert_eq!(names(&all[0]["Services"], "Service"), services, "{name}");
        assert_eq!(names(&summed, "Name"), services, "{name}");
        let checked = names(&all[0]["Checks"], "ServiceName");
        assert_eq!(checked.contains(&"web".to_owned()), sees_check, "{name}");
        assert!(checked.contains(&String::new()), "{name}: the node's own");
    }
}
