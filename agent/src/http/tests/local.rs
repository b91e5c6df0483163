use super::*;

const WEB: &str = r#"{"ID":"web1","Name":"web","Tags":["a"],"Port":80,"Meta":{"V":"1"},"Check":{"TTL":"1h","Status":"passing"}}"#;

const SHOWN: &str = r#"{"ID":"web1","Service":"web","Tags":["a"],"Meta":{"V":"1"},"Port":80,"Address":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Datacenter":"dc1"}"#;

const CHECK: &str = r#"{"Node":"a","CheckID":"service:web1","Name":"Service 'web' check","Status":"passing","Notes":"","Output":"","ServiceID":"web1","ServiceName":"web","ServiceTags":["a"],"Type":"ttl","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"CreateIndex":0,"ModifyIndex":0}"#;

async fn with_web() -> Bench {
    let bench = Bench::new();
    let done = bench.put("/v1/agent/service/register", WEB).await;
    done.is(200, "");
    bench
}

#[tokio::test]
async fn own_services_and_checks_are_shown_as_consul_shows_them() {
    let bench = with_web().await;
    let services = bench.get("/v1/agent/services").await;
    services.is(200, &format!(r#"{{"web1":{SHOWN}}}"#));
    let checks = bench.get("/v1/agent/checks").await;
    checks.is(200, &format!(r#"{{"service:web1":{CHECK}}}"#));
    let health =
        format!(r#"{{"AggregatedStatus":"passing","Service":{SHOWN},"Checks":[{CHECK}]}}"#);
    bench
        .get("/v1/agent/health/service/id/web1")
        .await
        .is(200, &health);
    bench
        .get("/v1/agent/health/service/name/web")
        .await
        .is(200, &format!("[{health}]"));
    bench
        .put("/v1/agent/service/deregister/web1", "")
        .await
        .is(200, "");
    bench.get("/v1/agent/services").await.is(200, "{}");
    bench.get("/v1/agent/checks").await.is(200, "{}");
}

#[tokio::test]
async fn the_status_of_health_is_the_worst() {
    let bench = with_web().await;
    for (told, status, word) in [
        ("warn/service:web1?note=so", 429, "warning"),
        ("fail/service:web1", 503, "critical"),
        ("pass/service:web1", 200, "passing"),
    ] {
        bench
            .put(&format!("/v1/agent/check/{told}"), "")
            .await
            .is(200, "");
        for path in ["id/web1", "name/web"] {
            let got = bench
                .get(&format!("/v1/agent/health/service/{path}?format=text"))
                .await;
            got.is(status, word);
            assert_eq!(got.header("x-consul-reason"), word);
        }
    }
    let body = r#"{"Status":"warning","Output":"from the body"}"#;
    bench
        .put("/v1/agent/check/update/service:web1", body)
        .await
        .is(200, "");
    let checks = bench.get("/v1/agent/checks").await.json();
    assert_eq!(checks["service:web1"]["Output"], "from the body");
    for (path, answer) in [
        (
            "id/zz",
            r#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"#,
        ),
        ("name/zz", "[]"),
        ("id/zz?format=text", "ServiceId zz not found"),
    ] {
        bench
            .get(&format!("/v1/agent/health/service/{path}"))
            .await
            .is(404, answer);
    }
}

#[tokio::test]
async fn maintenance_takes_out_of_service_and_back() {
    let bench = with_web().await;
    bench
        .put(
            "/v1/agent/service/maintenance/web1?enable=true&reason=fix",
            "",
        )
        .await
        .is(200, "");
    bench
        .get("/v1/agent/health/service/id/web1?format=text")
        .await
        .is(503, "maintenance");
    let checks = bench.get("/v1/agent/checks").await.json();
    assert_eq!(checks["_service_maintenance:web1"]["Notes"], "fix");
    bench
        .put("/v1/agent/service/maintenance/web1?enable=false", "")
        .await
        .is(200, "");
    bench
        .get("/v1/agent/health/service/id/web1?format=text")
        .await
        .is(200, "passing");
    bench
        .put("/v1/agent/maintenance?enable=true", "")
        .await
        .is(200, "");
    bench
        .get("/v1/agent/health/service/name/web?format=text")
        .await
        .is(503, "maintenance");
    bench
        .put("/v1/agent/maintenance?enable=false", "")
        .await
        .is(200, "");
    bench
        .put("/v1/agent/maintenance", "")
        .await
        .is(400, "Missing value for enable");
    bench
        .put("/v1/agent/maintenance?enable=zz", "")
        .await
        .is(400, r#"Invalid value for enable: "zz""#);
    let unknown = bench
        .put("/v1/agent/service/maintenance/zz?enable=true", "")
        .await;
    unknown.is(
        404,
        r#"Unknown service ID "zz". Ensure that the service ID is passed, not the service name."#,
    );
}

#[tokio::test]
async fn a_service_is_waited_for_by_its_hash() {
    let bench = with_web().await;
    let first = bench.get("/v1/agent/service/web1").await;
    let hash = first.header("x-consul-contenthash").to_owned();
    assert_eq!(first.json()["ContentHash"], hash.as_str());
    let other = bench
        .get("/v1/agent/service/web1?hash=other&wait=10m")
        .await;
    assert_eq!(other.body, first.body);
    let path = format!("/v1/agent/service/web1?hash={hash}&wait=10m");
    let waiting = bench.get(&path);
    let change = async {
        // Changes of others do not end the wait.
        let put = |body: &'static str| bench.put("/v1/agent/service/register", body);
        put(r#"{"Name":"db"}"#).await.is(200, "");
        put(r#"{"ID":"web1","Name":"web","Port":81}"#)
            .await
            .is(200, "");
    };
    let (changed, ()) = tokio::join!(waiting, change);
    assert_eq!(changed.json()["Port"], 81);
    bench
        .get("/v1/agent/service/zz")
        .await
        .is(404, "unknown service ID: zz");
}

#[tokio::test]
async fn what_is_wrong_with_a_registration_is_said_and_nothing_changes() {
    let bench = Bench::new();
    let missing =
        r#"Unknown check ID "zz". Ensure that the check ID is passed, not the check name."#;
    for (path, body, status, text) in [
        ("service/register", "", 400, "Request decode failed: EOF"),
        (
            "service/register",
            "{\"Name\":",
            400,
            "Request decode failed: unexpected EOF",
        ),
        ("service/register", "{}", 400, "Missing service name"),
        (
            "service/register",
            r#"{"Name":"a","Check":{"Interval":"1s"}}"#,
            400,
            "Invalid check: TTL must be > 0 for TTL checks",
        ),
        (
            "check/register",
            "{}",
            400,
            "Invalid check: TTL must be > 0 for TTL checks",
        ),
        (
            "check/register",
            r#"{"TTL":"1s"}"#,
            400,
            "Missing check name",
        ),
        (
            "check/register",
            r#"{"Name":"c","TTL":"1s","ServiceID":"nope"}"#,
            404,
            r#"ServiceID "nope" does not exist"#,
        ),
        (
            "check/register",
            r#"{"Name":"c","Args":["true"],"Interval":"1s"}"#,
            500,
            "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
        ),
        ("check/deregister/zz", "", 404, missing),
        ("check/pass/zz", "", 404, missing),
        (
            "check/update/zz",
            r#"{"Status":"zz"}"#,
            400,
            "Invalid check status: 'zz'",
        ),
        (
            "service/deregister/zz",
            "",
            404,
            r#"Unknown service ID "zz". Ensure that the service ID is passed, not the service name."#,
        ),
    ] {
        bench
            .put(&format!("/v1/agent/{path}"), body)
            .await
            .is(status, text);
    }
    bench.get("/v1/agent/services").await.is(200, "{}");
    bench.get("/v1/agent/checks").await.is(200, "{}");
}

#[tokio::test]
async fn proxies_are_kept_and_found_by_their_destination() {
    let bench = Bench::new();
    let proxy = r#"{"Node":"n","Address":"10.0.0.1","Service":{"Service":"web-proxy","Kind":"connect-proxy","Port":1,
        "Proxy":{"DestinationServiceName":"web","Config":{"A_b":{"C_d":1}}}}}"#;
    bench
        .put("/v1/catalog/register", proxy)
        .await
        .is(200, "true");
    let shown = bench.get("/v1/catalog/service/web-proxy").await.json();
    let expected = json!({"Mode": "", "MeshGateway": {}, "Expose": {}, "DestinationServiceName": "web", "Config": {"A_b": {"C_d": 1}}});
    assert_eq!(shown[0]["ServiceProxy"], expected);
}

#[tokio::test]
async fn a_sidecar_is_registered_shown_and_removed_with_its_service() {
    let bench = Bench::new();
    let body =
        r#"{"ID":"web1","Name":"web","Port":80,"Tags":["a"],"Connect":{"SidecarService":{}}}"#;
    bench
        .put("/v1/agent/service/register", body)
        .await
        .is(200, "");
    let services = bench.get("/v1/agent/services").await.json();
    assert_eq!(services["web1"].get("Connect"), None);
    let sidecar = &services["web1-sidecar-proxy"];
    assert_eq!(sidecar["Kind"], "connect-proxy");
    assert_eq!(sidecar["Port"], 21000);
    assert_eq!(sidecar["Tags"], json!(["a"]));
    assert_eq!(sidecar["Proxy"]["DestinationServiceID"], "web1");
    let checks = bench.get("/v1/agent/checks").await.json();
    assert_eq!(
        checks["service:web1-sidecar-proxy:2"]["Name"],
        "Connect Sidecar Aliasing web1"
    );
    let refused = r#"{"Name":"x","Connect":{"SidecarService":{"ID":"y"}}}"#;
    let refused = bench.put("/v1/agent/service/register", refused).await;
    refused.is(
        400,
        "Validation failed: 1 error occurred:\n\t* A SidecarService cannot specify an ID as this is managed by the agent\n\n",
    );
    bench
        .put("/v1/agent/service/deregister/web1", "")
        .await
        .is(200, "");
    bench.get("/v1/agent/services").await.is(200, "{}");
    bench.get("/v1/agent/checks").await.is(200, "{}");
}
