//! `/v1/discovery-chain`, gateways, addresses that stand for services, and the rules that need other entries.

use super::*;
use crate::state::VirtualStep;

const HTTP: &str =
    r#"{"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}"#;

impl Bench {
    async fn write(&self, entry: Value) {
        let reply = self.put("/v1/config", entry.to_string()).await;
        reply.is(200, "true");
    }

    async fn has(&self, service: Value) {
        let body = json!({"Node": "n", "Address": "10.0.0.1", "Service": service});
        let reply = self.put("/v1/catalog/register", body.to_string()).await;
        reply.is(200, "true");
    }
}

fn sidecar(of: &str, port: u16) -> Value {
    json!({"Kind": "connect-proxy", "Service": format!("{of}-proxy"), "Port": port, "Proxy": {"DestinationServiceName": of}})
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let splitter = r#"{"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 100}]}"#;
    let text = "discovery chain \"web\" uses a protocol \"tcp\" that does not permit advanced routing or splitting behavior";
    bench.put("/v1/config", splitter).await.is(500, text);
    assert_eq!(
        bench.get("/v1/config/service-splitter").await.json(),
        json!([])
    );
    bench.put("/v1/config", HTTP).await.is(200, "true");
    bench.put("/v1/config", splitter).await.is(200, "true");
    bench
        .delete("/v1/config/proxy-defaults/global")
        .await
        .is(500, text);
    // Whose condition does not hold is told so.
    bench
        .delete("/v1/config/proxy-defaults/global?cas=1")
        .await
        .is(200, "false");
    let kept = bench.get("/v1/config/proxy-defaults/global").await.json();
    assert_eq!(kept["Config"]["protocol"], "http");
}

#[tokio::test]
async fn chains_are_compiled_and_waited_for() {
    let bench = Bench::new();
    bench
        .get("/v1/discovery-chain/")
        .await
        .is(400, "Missing chain name");
    let first = bench.get("/v1/discovery-chain/web").await;
    assert_eq!(
        first.json()["Chain"]["StartNode"],
        "resolver:web.default.default.dc1"
    );
    let path = format!("/v1/discovery-chain/web?index={}&wait=10m", first.index());
    let (woken, _) = tokio::join!(bench.get(&path), bench.put("/v1/config", HTTP));
    assert_eq!(woken.json()["Chain"]["Protocol"], "http");
    let elsewhere = bench
        .get("/v1/discovery-chain/web?compile-dc=dc2")
        .await
        .json();
    assert_eq!(elsewhere["Chain"]["Datacenter"], "dc2");
    let post = async |body: &str| bench.send("POST", "/v1/discovery-chain/web", body).await;
    let body = r#"{"OverrideProtocol": "TCP", "OverrideConnectTimeout": "7s", "OverrideMeshGateway": {"Mode": "local"}}"#;
    let chain = post(body).await.json()["Chain"].clone();
    let target = &chain["Targets"]["web.default.default.dc1"];
    assert_eq!(
        (
            &chain["Protocol"],
            &target["ConnectTimeout"],
            &target["MeshGateway"]["Mode"]
        ),
        (&json!("tcp"), &json!("7s"), &json!("local"))
    );
    let nanos = post(r#"{"OverrideConnectTimeout": 2000000000}"#)
        .await
        .json();
    assert_eq!(
        nanos["Chain"]["Targets"]["web.default.default.dc1"]["ConnectTimeout"],
        "2s"
    );
    post(r#"{"OverrideMeshGateway": {"Mode": "x"}}"#)
        .await
        .is(400, "Invalid OverrideMeshGateway.Mode parameter");
    post("{")
        .await
        .is(400, "Request decoding failed: unexpected EOF");
    post(r#"{"OverrideConnectTimeout": "soon"}"#).await.is(
        400,
        "Request decoding failed: OverrideConnectTimeout must be a duration, such as \"5s\"",
    );
}

#[tokio::test]
async fn gateways_stand_for_services_that_are_named_or_meant() {
    let bench = Bench::new();
    bench.put("/v1/config", HTTP).await.is(200, "true");
    bench.has(json!({"Service": "web", "Port": 80})).await;
    bench.has(json!({"Service": "db", "Port": 5432})).await;
    bench.has(sidecar("web", 20000)).await;
    bench.write(json!({"Kind": "ingress-gateway", "Name": "in", "Listeners": [
        {"Port": 8080, "Protocol": "http", "Services": [{"Name": "*"}, {"Name": "api", "Hosts": ["api.example.com"]}]}]})).await;
    bench.write(json!({"Kind": "terminating-gateway", "Name": "out", "Services": [{"Name": "db", "CAFile": "/ca"}, {"Name": "*"}]})).await;
    let path = "/v1/catalog/gateway-services";
    let found = bench.get(&format!("{path}/in")).await;
    let rows = found.json();
    assert_eq!(
        rows[0],
        json!({"Gateway": {"Name": "in"}, "Service": {"Name": "api"}, "GatewayKind": "ingress-gateway", "Port": 8080,
               "Protocol": "http", "Hosts": ["api.example.com"], "CreateIndex": rows[0]["CreateIndex"], "ModifyIndex": rows[0]["ModifyIndex"]})
    );
    // `db` is no part of the mesh.
    assert_eq!(
        (
            &rows[1]["Service"]["Name"],
            &rows[1]["FromWildcard"],
            &rows[1]["ServiceKind"],
            &rows[2]
        ),
        (&json!("web"), &json!(true), &json!("service"), &Value::Null)
    );
    let rows = bench.get(&format!("{path}/out")).await.json();
    assert_eq!(
        (
            &rows[0]["Service"]["Name"],
            &rows[0]["CAFile"],
            &rows[0]["FromWildcard"]
        ),
        (&json!("db"), &json!("/ca"), &Value::Null)
    );
    assert_eq!(
        (&rows[1]["Service"]["Name"], &rows[1]["FromWildcard"]),
        (&json!("web"), &json!(true))
    );
    let path = format!("{path}/in?index={}&wait=10m", found.index());
    let (woken, ()) = tokio::join!(bench.get(&path), bench.has(sidecar("db", 20001)));
    assert_eq!(woken.json()[1]["Service"]["Name"], "db");
    bench
        .get("/v1/catalog/gateway-services/none")
        .await
        .is(200, "[]");
    bench
        .get("/v1/catalog/gateway-services/")
        .await
        .is(400, "Missing gateway name");
    // Instances of gateways are found by what they stand for.
    bench
        .has(json!({"Kind": "ingress-gateway", "ID": "in-1", "Service": "in", "Port": 8080}))
        .await;
    bench
        .has(json!({"Kind": "terminating-gateway", "ID": "out-1", "Service": "out", "Port": 8443}))
        .await;
    let found = bench.get("/v1/health/ingress/api?passing").await.json();
    assert_eq!(found[0]["Service"]["ID"], "in-1");
    bench.get("/v1/health/ingress/none").await.is(200, "[]");
    let found = bench.get("/v1/health/connect/db").await.json();
    assert_eq!(
        (&found[0]["Service"]["ID"], &found[1]["Service"]["ID"]),
        (&json!("db-proxy"), &json!("out-1"))
    );
}

#[tokio::test]
async fn an_api_gateway_stands_for_what_its_routes_lead_to() {
    let bench = Bench::new();
    bench.write(json!({"Kind": "api-gateway", "Name": "api", "Listeners": [
        {"Name": "web", "Port": 443, "Protocol": "http"}, {"Name": "raw", "Port": 9000, "Protocol": "tcp"}]})).await;
    bench.write(json!({"Kind": "http-route", "Name": "r", "Hostnames": ["a.b"], "Parents": [{"Name": "api", "SectionName": "web"}],
                       "Rules": [{"Services": [{"Name": "web"}, {"Name": "admin"}]}]})).await;
    bench.write(json!({"Kind": "tcp-route", "Name": "t", "Parents": [{"Name": "api"}], "Services": [{"Name": "db"}]})).await;
    let rows = bench.get("/v1/catalog/gateway-services/api").await.json();
    let of = |at: usize| {
        (
            rows[at]["Service"]["Name"].clone(),
            rows[at]["Port"].clone(),
            rows[at]["Hosts"].clone(),
        )
    };
    assert_eq!(of(0), (json!("admin"), json!(443), json!(["a.b"])));
    assert_eq!(of(1), (json!("db"), json!(9000), Value::Null));
    assert_eq!(of(2), (json!("web"), json!(443), json!(["a.b"])));
}

#[tokio::test]
async fn those_who_wait_for_a_service_hear_of_gateways_for_it() {
    let bench = Bench::new();
    bench
        .has(json!({"Kind": "terminating-gateway", "ID": "out-1", "Service": "out", "Port": 8443}))
        .await;
    let first = bench.get("/v1/health/connect/pay").await;
    first.is(200, "[]");
    let path = |index: u64| format!("/v1/health/connect/pay?index={index}&wait=10m");
    let gateway =
        json!({"Kind": "terminating-gateway", "Name": "out", "Services": [{"Name": "pay"}]});
    let (woken, ()) = tokio::join!(
        async { bench.get(&path(first.index())).await },
        bench.write(gateway)
    );
    assert_eq!(woken.json()[0]["Service"]["Port"], 8443);
    let moved =
        json!({"Kind": "terminating-gateway", "ID": "out-1", "Service": "out", "Port": 9443});
    let (woken, ()) = tokio::join!(
        async { bench.get(&path(woken.index())).await },
        bench.has(moved)
    );
    assert_eq!(woken.json()[0]["Service"]["Port"], 9443);
    // One that stands for everything stands for what comes.
    bench
        .write(json!({"Kind": "terminating-gateway", "Name": "out", "Services": [{"Name": "pay"}, {"Name": "*"}]}))
        .await;
    let first = bench.get("/v1/health/connect/new").await;
    first.is(200, "[]");
    let path_of_new = format!("/v1/health/connect/new?index={}&wait=10m", first.index());
    let new = json!({"Service": "new", "Port": 80});
    let (came, ()) = tokio::join!(bench.get(&path_of_new), bench.has(new));
    assert_eq!(came.json()[0]["Service"]["ID"], "out-1");
    let gone = async {
        bench
            .delete("/v1/config/terminating-gateway/out")
            .await
            .is(200, "{}")
    };
    let last = bench.get("/v1/health/connect/pay").await.index();
    let (woken, ()) = tokio::join!(async { bench.get(&path(last)).await }, gone);
    woken.is(200, "[]");
}

#[tokio::test]
async fn services_of_the_mesh_have_addresses_that_stand_for_them() {
    let bench = Bench::new();
    bench.has(sidecar("web", 20000)).await;
    let tagged = async |service: &str| {
        let found = bench
            .get(&format!("/v1/catalog/connect/{service}"))
            .await
            .json();
        found[0]["ServiceTaggedAddresses"]["consul-virtual"].clone()
    };
    // Not before a leader says so: older logs knew of none.
    assert_eq!(tagged("web").await, Value::Null);
    bench.fake.apply(Command::Virtual(VirtualStep::Begin));
    assert_eq!(
        tagged("web").await,
        json!({"Address": "240.0.0.1", "Port": 20000})
    );
    let index = bench.get("/v1/catalog/connect/web").await.index();
    bench.has(sidecar("web", 20000)).await;
    assert_eq!(
        bench.get("/v1/catalog/connect/web").await.index(),
        index,
        "the same again changes nothing"
    );
    bench.has(sidecar("web", 20009)).await;
    assert_eq!(
        tagged("web").await,
        json!({"Address": "240.0.0.1", "Port": 20009})
    );
}

#[tokio::test]
async fn services_are_given_further_addresses_and_lose_what_they_do_not_need() {
    let bench = Bench::new();
    bench.fake.apply(Command::Virtual(VirtualStep::Begin));
    bench.has(sidecar("web", 20000)).await;
    // Its chain shows it, and those who wait for the chain hear of it.
    let chain = bench.get("/v1/discovery-chain/db").await;
    let path = format!("/v1/discovery-chain/db?index={}&wait=10m", chain.index());
    let (woken, ()) = tokio::join!(bench.get(&path), bench.has(sidecar("db", 20001)));
    assert_eq!(
        woken.json()["Chain"]["AutoVirtualIPs"],
        json!(["240.0.0.2"])
    );
    // Further ones are taken from whoever has them.
    let give = async |service: &str, ips: Value| {
        let body = json!({"Service": service, "ManualVIPs": ips}).to_string();
        bench.put("/v1/internal/service-virtual-ip", body).await
    };
    give("web", json!(["10.1.1.1", "10.1.1.2"]))
        .await
        .is(200, r#"{"Found":true,"UnassignedFrom":[]}"#);
    give("db", json!(["10.1.1.2"])).await.is(
        200,
        r#"{"Found":true,"UnassignedFrom":[{"ServiceName":{"Name":"web"},"Peer":""}]}"#,
    );
    give("none", json!(["10.1.1.2"]))
        .await
        .is(200, r#"{"Found":false,"UnassignedFrom":[]}"#);
    let chain = bench.get("/v1/discovery-chain/web").await.json();
    assert_eq!(chain["Chain"]["ManualVirtualIPs"], json!(["10.1.1.1"]));
    give("web", json!(["::1"]))
        .await
        .is(400, "\"::1\" is not a valid IPv4 address");
    give("", json!([])).await.is(400, "Missing service name");
    // What nobody needs any more is free again, and the next one's.
    let body = json!({"Node": "n", "ServiceID": "web-proxy"}).to_string();
    bench
        .put("/v1/catalog/deregister", body)
        .await
        .is(200, "true");
    let chain = bench.get("/v1/discovery-chain/web").await.json();
    assert_eq!(chain["Chain"]["AutoVirtualIPs"], Value::Null);
    bench
        .write(json!({"Kind": "service-resolver", "Name": "cache", "ConnectTimeout": "1s"}))
        .await;
    let chain = bench.get("/v1/discovery-chain/cache").await.json();
    assert_eq!(chain["Chain"]["AutoVirtualIPs"], json!(["240.0.0.1"]));
    bench
        .delete("/v1/config/service-resolver/cache")
        .await
        .is(200, "{}");
    let chain = bench.get("/v1/discovery-chain/cache").await.json();
    assert_eq!(chain["Chain"]["AutoVirtualIPs"], Value::Null);
}

#[tokio::test]
async fn exports_are_listed_with_who_may_reach_them() {
    let bench = Bench::new();
    bench.get("/v1/exported-services").await.is(200, "[]");
    bench.has(json!({"Service": "web", "Port": 80})).await;
    bench.write(json!({"Kind": "exported-services", "Name": "default", "Services": [
        {"Name": "*", "Consumers": [{"Peer": "east"}]}, {"Name": "db", "Consumers": [{"Peer": "west"}, {"Peer": "east"}]}]})).await;
    bench.get("/v1/exported-services").await.is(
        200,
        r#"[{"Service":"db","Consumers":{"Peers":["east","west"]}},{"Service":"web","Consumers":{"Peers":["east"]}}]"#,
    );
}

#[tokio::test]
async fn proxies_are_shown_with_what_the_entries_say_on_demand() {
    let bench = Bench::new();
    bench.has(sidecar("web", 20000)).await;
    bench.put("/v1/config", HTTP).await.is(200, "true");
    let plain = bench.get("/v1/health/connect/web").await.json();
    assert_eq!(plain[0]["Service"]["Proxy"]["Config"], Value::Null);
    let first = bench
        .get("/v1/health/connect/web?merge-central-config")
        .await;
    assert_eq!(
        first.json()[0]["Service"]["Proxy"]["Config"],
        json!({"protocol": "http"})
    );
    for path in ["/v1/catalog/connect/web", "/v1/catalog/service/web-proxy"] {
        let found = bench
            .get(&format!("{path}?merge-central-config"))
            .await
            .json();
        assert_eq!(
            found[0]["ServiceProxy"]["Config"],
            json!({"protocol": "http"}),
            "{path}"
        );
    }
    let found = bench
        .get("/v1/catalog/node-services/n?merge-central-config")
        .await
        .json();
    assert_eq!(
        found["Services"][0]["Proxy"]["Config"],
        json!({"protocol": "http"})
    );
    // Who waits for them hears of entries too.
    let path = format!(
        "/v1/health/connect/web?merge-central-config&index={}&wait=10m",
        first.index()
    );
    let defaults = json!({"Kind": "service-defaults", "Name": "web", "Protocol": "grpc"});
    let (woken, ()) = tokio::join!(bench.get(&path), bench.write(defaults));
    assert_eq!(
        woken.json()[0]["Service"]["Proxy"]["Config"]["protocol"],
        "grpc"
    );
}

#[tokio::test]
async fn prepared_queries_find_services_through_the_mesh() {
    let bench = Bench::new();
    bench.has(json!({"Service": "web", "Port": 80})).await;
    bench.has(sidecar("web", 20000)).await;
    let query = |name: &str, connect: bool| {
        json!({"Name": name, "Service": {"Service": "web", "Connect": connect}}).to_string()
    };
    for (name, connect) in [("plain", false), ("mesh", true)] {
        bench.send("POST", "/v1/query", query(name, connect)).await;
    }
    let port = async |path: &str| {
        let found = bench.get(&format!("/v1/query/{path}")).await.json();
        found["Nodes"][0]["Service"]["Port"].clone()
    };
    assert_eq!(port("plain/execute").await, 80);
    assert_eq!(port("mesh/execute").await, 20000);
    assert_eq!(port("plain/execute?connect=true").await, 20000);
}
