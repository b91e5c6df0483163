//! What Consul's pages draw of the mesh.

use super::*;

const TOPOLOGY: &str = "/v1/internal/ui/service-topology/";

impl Bench {
    async fn enlist(&self, node: &str, service: Value, status: &str) {
        let id = service["Service"].as_str().unwrap().to_owned();
        let check = json!({"CheckID": id, "Name": "Works", "ServiceID": id, "Status": status});
        let body = json!({"Node": node, "Address": "10.0.0.1", "Service": service, "Check": check});
        let reply = self.put("/v1/catalog/register", body.to_string()).await;
        reply.is(200, "true");
    }

    async fn entry(&self, entry: Value) {
        let reply = self.put("/v1/config", entry.to_string()).await;
        reply.is(200, "true");
    }

    async fn fill_mesh(&self) {
        let proxy = |of: &str, upstreams: Value| {
            json!({
                "Kind": "connect-proxy",
                "Service": format!("{of}-proxy"),
                "Port": 1,
                "Proxy": {"DestinationServiceName": of, "Upstreams": upstreams},
            })
        };
        let db = json!([{"DestinationName": "db", "LocalBindPort": 2}]);
        self.enlist("one", json!({"Service": "web"}), "passing")
            .await;
        self.enlist("one", proxy("web", db), "passing").await;
        self.enlist("two", json!({"Service": "db", "Tags": ["t"]}), "critical")
            .await;
        self.enlist("two", proxy("db", json!([])), "warning").await;
    }
}

#[tokio::test]
async fn what_cannot_be_drawn_is_refused() {
    let bench = Bench::new();
    for (path, text) in [
        ("service-topology/?kind=", "Missing service name"),
        ("service-topology/web", "Missing service kind"),
        (
            "service-topology/web?kind=mesh-gateway",
            "Unsupported service kind \"mesh-gateway\"",
        ),
        ("gateway-services-nodes/", "Missing gateway name"),
        ("gateway-intentions/", "Missing gateway name"),
    ] {
        let reply = bench.get(&format!("/v1/internal/ui/{path}")).await;
        reply.is(400, text);
    }
    for path in ["gateway-services-nodes/x", "gateway-intentions/x"] {
        let reply = bench.get(&format!("/v1/internal/ui/{path}")).await;
        reply.is(200, "[]");
    }
    let nothing = json!({
        "Protocol": "tcp",
        "TransparentProxy": false,
        "Upstreams": [],
        "Downstreams": [],
        "FilteredByACLs": false,
    });
    let reply = bench.get(&format!("{TOPOLOGY}web?kind=")).await;
    assert_eq!(reply.json(), nothing);
    let reply = bench.get(&format!("{TOPOLOGY}web?kind")).await;
    assert_eq!(reply.json(), nothing);
}

#[tokio::test]
async fn a_service_is_drawn_with_those_around_it() {
    let bench = Bench::new();
    bench.fill_mesh().await;
    let intention = json!({"SourceName": "web", "DestinationName": "db", "Action": "deny"});
    let reply = bench
        .send("POST", "/v1/connect/intentions", intention.to_string())
        .await;
    assert_eq!(reply.status, 200);
    let web = bench.get(&format!("{TOPOLOGY}web?kind=")).await.json();
    assert_eq!(
        web["Upstreams"],
        json!([{
            "Name": "db",
            "Datacenter": "dc1",
            "Tags": ["t"],
            "Nodes": ["two"],
            "ExternalSources": null,
            "InstanceCount": 1,
            // Those of its proxy count too.
            "ChecksPassing": 0,
            "ChecksWarning": 1,
            "ChecksCritical": 1,
            "GatewayConfig": {},
            "TransparentProxy": false,
            "ConnectNative": false,
            "Source": "proxy-registration",
            "Intention": {
                "DefaultAllow": true,
                "Allowed": false,
                "HasPermissions": false,
                "ExternalSource": "",
                "HasExact": true,
            },
        }])
    );
    assert_eq!(web["Downstreams"], json!([]));
    let db = bench.get(&format!("{TOPOLOGY}DB?kind=")).await.json();
    assert_eq!(db["Downstreams"][0]["Name"], "web");
    assert_eq!(db["Downstreams"][0]["Intention"]["Allowed"], false);
    assert_eq!(db["Upstreams"], json!([]));
}

#[tokio::test]
async fn what_only_leads_to_others_has_no_instances() {
    let bench = Bench::new();
    bench.fill_mesh().await;
    let upstreams = json!([{"DestinationName": "store", "LocalBindPort": 2}]);
    let proxy = json!({
        "Kind": "connect-proxy",
        "Service": "web-proxy",
        "Port": 1,
        "Proxy": {"DestinationServiceName": "web", "Upstreams": upstreams},
    });
    bench.enlist("one", proxy, "passing").await;
    let resolver =
        json!({"Kind": "service-resolver", "Name": "store", "Redirect": {"Service": "db"}});
    bench.entry(resolver).await;
    let web = bench.get(&format!("{TOPOLOGY}web?kind=")).await.json();
    let store = &web["Upstreams"][0];
    assert_eq!(store["Source"], "routing-config");
    assert_eq!(
        (&store["Name"], &store["Datacenter"], &store["Nodes"]),
        (&json!("store"), &json!("dc1"), &Value::Null)
    );
    let db = bench.get(&format!("{TOPOLOGY}db?kind=")).await.json();
    assert_eq!(db["Downstreams"][0]["Name"], "web");
}

#[tokio::test]
async fn services_behind_a_gateway_are_shown_with_how_they_are_reached() {
    let bench = Bench::new();
    bench.fill_mesh().await;
    let entry = json!({
        "Kind": "ingress-gateway",
        "Name": "door",
        "Listeners": [
            {"Port": 80, "Protocol": "tcp", "Services": [{"Name": "web"}]},
            {"Port": 81, "Protocol": "tcp", "Services": [{"Name": "web"}]},
            {"Port": 82, "Protocol": "tcp", "Services": [{"Name": "absent"}]},
        ],
    });
    bench.entry(entry).await;
    let path = "/v1/internal/ui/gateway-services-nodes/door";
    let behind = bench.get(path).await.json();
    assert_eq!(behind.as_array().unwrap().len(), 2);
    let (absent, web) = (&behind[0], &behind[1]);
    assert_eq!(
        (&absent["Name"], &absent["Nodes"]),
        (&json!("absent"), &Value::Null)
    );
    assert_eq!(
        web["GatewayConfig"],
        json!({"Addresses": ["web.ingress.dc1.consul:80", "web.ingress.dc1.consul:81"]})
    );
    // Once, although it is at two ports.
    assert_eq!(
        (&web["InstanceCount"], &web["ChecksPassing"]),
        (&json!(1), &json!(1))
    );
    // It is drawn although it has no instance itself.
    let door = format!("{TOPOLOGY}door?kind=ingress-gateway");
    let door = bench.get(&door).await.json();
    assert_eq!(
        (&door["Protocol"], &door["Upstreams"][0]["Name"]),
        (&json!("tcp"), &json!("web"))
    );
    let terminating =
        json!({"Kind": "terminating-gateway", "Name": "out", "Services": [{"Name": "db"}]});
    bench.entry(terminating).await;
    let behind = bench
        .get("/v1/internal/ui/gateway-services-nodes/out")
        .await;
    assert_eq!(behind.json()[0]["GatewayConfig"], json!({}));
}

#[tokio::test]
async fn intentions_for_what_is_behind_a_gateway_are_shown_once() {
    let bench = Bench::new();
    bench.fill_mesh().await;
    let gateway = json!({"Kind": "terminating-gateway", "Name": "out", "Services": [{"Name": "db"}, {"Name": "web"}]});
    bench.entry(gateway).await;
    for (source, destination) in [("web", "db"), ("*", "web"), ("x", "*"), ("x", "other")] {
        let path =
            format!("/v1/connect/intentions/exact?source={source}&destination={destination}");
        let body = json!({"Action": "allow"}).to_string();
        bench.put(&path, body).await.is(200, "true");
    }
    let found = bench
        .get("/v1/internal/ui/gateway-intentions/out")
        .await
        .json();
    let found = found.as_array().unwrap().iter();
    let ends: Vec<_> = found
        .map(|one| {
            (
                one["SourceName"].as_str().unwrap(),
                one["DestinationName"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(ends, [("web", "db"), ("*", "web"), ("x", "*")]);
}

#[tokio::test]
async fn a_change_of_what_is_drawn_is_waited_for() {
    let bench = Bench::new();
    bench.fill_mesh().await;
    let path = format!("{TOPOLOGY}web?kind=");
    let index = bench.get(&path).await.index();
    let waiting = format!("{path}&index={index}&wait=10m");
    let (reply, ()) = tokio::join!(bench.get(&waiting), async {
        while bench.fake.shared.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let sources = json!([{"Name": "web", "Action": "deny"}]);
        let entry = json!({"Kind": "service-intentions", "Name": "db", "Sources": sources});
        bench.entry(entry).await;
    });
    assert!(reply.index() > index, "{reply:?}");
    assert_eq!(reply.json()["Upstreams"][0]["Intention"]["Allowed"], false);
}
