//! What Consul's web pages ask for.

use super::*;

impl Bench {
    async fn add(&self, node: &str, service: Value, status: &str) {
        let id = service["Service"].as_str().unwrap().to_owned();
        let body = json!({
            "Node": node,
            "Address": format!("10.0.0.{}", node.len()),
            "Service": service,
            "Checks": [
                {"CheckID": "alive", "Name": "Alive", "Status": "passing"},
                {"CheckID": id, "Name": "Works", "ServiceID": id, "Status": status},
            ],
        });
        let reply = self.put("/v1/catalog/register", body.to_string()).await;
        reply.is(200, "true");
    }

    async fn fill(&self) {
        let web =
            json!({"Service": "web", "Tags": ["b", "a"], "Meta": {"external-source": "nomad"}});
        self.add("one", web.clone(), "passing").await;
        self.add("three", web, "critical").await;
        let proxy = |mode: &str| {
            json!({
                "Kind": "connect-proxy",
                "Service": "web-proxy",
                "Port": 1,
                "Proxy": {"DestinationServiceName": "web", "Mode": mode},
            })
        };
        self.add("one", proxy("transparent"), "warning").await;
        self.add("three", proxy("transparent"), "passing").await;
    }
}

#[tokio::test]
async fn nodes_are_shown_with_all_that_is_known_of_them() {
    let bench = Bench::new();
    bench.get("/v1/internal/ui/nodes").await.is(200, "[]");
    bench.fill().await;
    let reply = bench.get("/v1/internal/ui/nodes").await;
    let nodes = reply.json();
    let named: Vec<_> = nodes
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n["Node"])
        .collect();
    assert_eq!(named, ["one", "three"]);
    let one = &nodes[0];
    assert_eq!(
        (&one["ID"], &one["Address"]),
        (&json!(""), &json!("10.0.0.3"))
    );
    assert_eq!(one["Services"][0]["ID"], "web");
    assert_eq!(one["Services"][1]["Kind"], "connect-proxy");
    let checks = one["Checks"].as_array().unwrap();
    let checks: Vec<_> = checks.iter().map(|check| &check["CheckID"]).collect();
    assert_eq!(checks, ["alive", "web", "web-proxy"]);
    // The same for one of them, in any case.
    let alone = bench.get("/v1/internal/ui/node/ONE").await;
    assert_eq!(alone.json(), *one);
    bench.get("/v1/internal/ui/node/two").await.is(404, "");
    bench
        .get("/v1/internal/ui/node/")
        .await
        .is(400, "Missing node name");
    let chosen = bench.get("/v1/internal/ui/nodes?filter=Node==three").await;
    assert_eq!(chosen.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn versions_are_those_of_gossip_unless_the_node_says_its_own() {
    let bench = Bench::new();
    for (node, address, meta) in [
        ("known", "127.0.0.1", json!({"rack": "1"})),
        ("says", "127.0.0.1", json!({"consul-version": "9"})),
        ("unknown", "10.0.0.1", json!({})),
    ] {
        let body = json!({"Node": node, "Address": address, "NodeMeta": meta});
        let reply = bench.put("/v1/catalog/register", body.to_string()).await;
        reply.is(200, "true");
    }
    let nodes = bench.get("/v1/internal/ui/nodes").await.json();
    let metas: Vec<_> = nodes
        .as_array()
        .unwrap()
        .iter()
        .map(|n| &n["Meta"])
        .collect();
    assert_eq!(metas[0], &json!({"rack": "1", "consul-version": "1.19.0"}));
    assert_eq!(metas[1], &json!({"consul-version": "9"}));
    assert_eq!(metas[2], &json!({}));
}

#[tokio::test]
async fn services_are_summed_up() {
    let bench = Bench::new();
    bench.get("/v1/internal/ui/services").await.is(200, "[]");
    bench.fill().await;
    let services = bench.get("/v1/internal/ui/services").await.json();
    assert_eq!(
        services[0],
        json!({
            "Name": "web",
            "Datacenter": "dc1",
            "Tags": ["a", "b"],
            "Nodes": ["one", "three"],
            "ExternalSources": ["nomad"],
            "InstanceCount": 2,
            // Each node's own counts once, and those of its proxies count too.
            "ChecksPassing": 4,
            "ChecksWarning": 1,
            "ChecksCritical": 1,
            "GatewayConfig": {},
            "TransparentProxy": true,
            "ConnectNative": false,
            "ConnectedWithProxy": true,
            "ConnectedWithGateway": false,
        })
    );
    let proxy = &services[1];
    assert_eq!(
        (&proxy["Name"], &proxy["Kind"]),
        (&json!("web-proxy"), &json!("connect-proxy"))
    );
    assert_eq!(
        (&proxy["Tags"], &proxy["ExternalSources"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(services.as_array().unwrap().len(), 2);
    // One proxy that is not transparent is enough.
    let plain = json!({
        "Kind": "connect-proxy",
        "Service": "web-proxy",
        "Port": 1,
        "Proxy": {"DestinationServiceName": "web"},
    });
    bench.add("three", plain, "passing").await;
    let services = bench.get("/v1/internal/ui/services").await.json();
    assert_eq!(services[0]["TransparentProxy"], false);
    // A filter is asked about instances.
    let path = "/v1/internal/ui/services?filter=Node.Node==one";
    let services = bench.get(path).await.json();
    assert_eq!(services[0]["InstanceCount"], 1);
    assert_eq!(services[0]["ChecksCritical"], 0);
}

#[tokio::test]
async fn services_are_told_from_those_behind_a_gateway() {
    let bench = Bench::new();
    bench.fill().await;
    let entry = json!({
        "Kind": "terminating-gateway",
        "Name": "door",
        "Services": [{"Name": "web"}, {"Name": "absent"}],
    });
    bench
        .put("/v1/config", entry.to_string())
        .await
        .is(200, "true");
    let of = |services: &Value, name: &str| {
        let services = services.as_array().unwrap();
        services
            .iter()
            .find(|one| one["Name"] == name)
            .cloned()
            .unwrap()
    };
    let before = bench.get("/v1/internal/ui/services").await.json();
    assert_eq!(of(&before, "web")["ConnectedWithGateway"], false);
    let door = json!({"Kind": "terminating-gateway", "Service": "door", "Port": 2});
    bench.add("one", door, "passing").await;
    let after = bench.get("/v1/internal/ui/services").await.json();
    assert_eq!(of(&after, "web")["ConnectedWithGateway"], true);
    assert_eq!(
        of(&after, "door")["GatewayConfig"],
        json!({"AssociatedServiceCount": 2})
    );
}

#[tokio::test]
async fn an_overview_counts_the_worst_of_each() {
    let bench = Bench::new();
    let path = "/v1/internal/ui/catalog-overview";
    let nothing = json!({"Nodes": null, "Services": null, "Checks": null});
    assert_eq!(bench.get(path).await.json(), nothing);
    bench.fill().await;
    let counts = |total: usize, passing: usize, warning: usize, critical: usize| json!({"Total": total, "Passing": passing, "Warning": warning, "Critical": critical});
    let named = |name: &str, mut counts: Value| {
        counts["Name"] = json!(name);
        counts
    };
    assert_eq!(
        bench.get(path).await.json(),
        json!({
            "Nodes": [counts(2, 2, 0, 0)],
            "Services": [
                named("web", counts(2, 1, 0, 1)),
                named("web-proxy", counts(2, 1, 1, 0)),
            ],
            "Checks": [
                named("Alive", counts(2, 2, 0, 0)),
                named("Works", counts(4, 2, 1, 1)),
            ],
        })
    );
}

#[tokio::test]
async fn a_change_of_any_of_it_is_waited_for() {
    let bench = Bench::new();
    bench.fill().await;
    let index = bench.get("/v1/internal/ui/nodes").await.index();
    let web = json!({"Service": "web"});
    for (at, status) in [(index, "warning"), (index + 1, "passing")] {
        let path = format!("/v1/internal/ui/node/one?index={at}&wait=10m");
        let (reply, ()) = tokio::join!(bench.get(&path), async {
            while bench.fake.shared.waiting() == 0 {
                tokio::task::yield_now().await;
            }
            bench.add("one", web.clone(), status).await;
        });
        assert!(reply.index() > at, "{reply:?}");
        assert_eq!(reply.json()["Checks"][1]["Status"], status);
    }
}

#[tokio::test]
async fn nothing_comes_from_peers_or_goes_to_them() {
    let bench = Bench::new();
    for path in [
        "/v1/imported-services",
        "/v1/internal/ui/exported-services?peer=p",
    ] {
        bench.get(path).await.is(200, "[]");
    }
}
