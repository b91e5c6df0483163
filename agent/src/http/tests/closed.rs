//! What is not in use is answered as Consul answers it.

use super::*;
use crate::http::route::{ENDPOINTS, Route};

#[tokio::test]
async fn every_route_of_acls_says_so_while_they_are_off() {
    let bench = Bench::new();
    let mut asked = 0;
    for endpoint in ENDPOINTS {
        let route = endpoint.route;
        if !matches!(route, Route::Acl(_) | Route::Tokens(_)) {
            continue;
        }
        for method in endpoint.methods {
            let path = match endpoint.pattern.ends_with('/') {
                true => format!("{}x", endpoint.pattern),
                false => endpoint.pattern.to_owned(),
            };
            let got = bench.send(method, &path, "{}").await;
            got.is(401, "ACL support disabled");
            asked += 1;
        }
    }
    // As many as Consul's table has with their methods.
    assert_eq!(asked, 37);
}

#[tokio::test]
async fn a_keyring_without_encryption_is_told_node_by_node() {
    let bench = Bench::new();
    let list = "4 errors occurred:\n\t* WAN error: 1/1 nodes reported failure\n\t* a.dc1: Keyring is empty (encryption not enabled)\n\t* dc1 (LAN) error: 1/1 nodes reported failure\n\t* a: Keyring is empty (encryption not enabled)\n\n";
    bench.get("/v1/operator/keyring").await.is(500, list);
    let key = r#"{"Key":"pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="}"#;
    let changed = list.replace("Keyring is empty", "No keyring to modify");
    for method in ["POST", "PUT", "DELETE"] {
        let got = bench.send(method, "/v1/operator/keyring", key).await;
        got.is(500, &changed);
        let got = bench.send(method, "/v1/operator/keyring", "{").await;
        got.is(400, "Request decode failed: unexpected EOF");
    }
    bench
        .get("/v1/operator/keyring?relay-factor=6")
        .await
        .is(400, "Relay factor must be in range: [0, 5]");
}

#[tokio::test]
async fn there_are_no_peerings_and_none_can_be_made() {
    let bench = Bench::new();
    bench.get("/v1/peerings").await.is(200, "[]");
    let got = bench.get("/v1/peering/b").await;
    got.is(404, "Peering not found for \"b\"");
    bench.delete("/v1/peering/b").await.is(200, "");
    for path in ["/v1/peering/token", "/v1/peering/establish"] {
        let got = bench.send("POST", path, "{}").await;
        assert_eq!(got.status, 500);
        let why = "peering must be enabled to use this endpoint";
        assert!(got.body.contains(why), "{}", got.body);
    }
}

#[tokio::test]
async fn profiles_are_there_only_for_debugging_and_name_what_is_missing() {
    let bench = Bench::new();
    let text = "Invalid URL path: not a recognized HTTP API endpoint";
    bench.get("/debug/pprof/heap").await.is(404, text);
    let bench = Bench::with(Settings {
        enable_debug: true,
        ..settings()
    });
    let got = bench.get("/debug/pprof/heap").await;
    assert_eq!(got.status, 501);
    assert!(got.body.starts_with("this agent has no Go runtime"));
    assert_eq!(bench.get("/debug/pprof/zz").await.status, 404);
    assert_eq!(bench.get("/debug/pprof/cmdline").await.status, 200);
}

#[tokio::test]
async fn usage_counts_nodes_and_services_by_kind() {
    let bench = Bench::new();
    for (node, service) in [
        ("a", r#"{"ID":"web1","Service":"web"}"#),
        (
            "a",
            r#"{"ID":"web2","Service":"web","Connect":{"Native":true}}"#,
        ),
        ("b", r#"{"Service":"consul"}"#),
        (
            "b",
            r#"{"Service":"p","Kind":"connect-proxy","Port":1,"Proxy":{"DestinationServiceName":"web"}}"#,
        ),
    ] {
        let body = format!(r#"{{"Node":"{node}","Address":"10.0.0.1","Service":{service}}}"#);
        bench
            .put("/v1/catalog/register", body)
            .await
            .is(200, "true");
    }
    let usage = bench.get("/v1/operator/usage").await.json();
    assert_eq!(
        usage["Usage"]["dc1"],
        json!({
            "Nodes": 2, "Services": 3, "ServiceInstances": 4,
            "ConnectServiceInstances": {
                "api-gateway": 0, "connect-native": 1, "connect-proxy": 1, "ingress-gateway": 0,
                "mesh-gateway": 0, "terminating-gateway": 0,
            },
            "BillableServiceInstances": 2,
        })
    );
    bench.get("/v1/exported-services").await.is(200, "[]");
}

/// On a clock that only goes on while everybody waits for it.
#[tokio::test(start_paused = true)]
async fn metrics_come_again_and_again_until_the_shutdown() {
    let bench = Bench::new();
    let mut stream = bench.connect();
    stream
        .write_all(b"GET /v1/agent/metrics/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    while text.matches("\"Timestamp\"").count() < 2 {
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).await.unwrap();
        assert!(len > 0, "ended after {text}");
        text.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
    }
    assert!(text.contains("consul.state.kv_entries"), "{text}");
    bench.shutdown.cancel();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}
