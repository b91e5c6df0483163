use super::*;

const WEB: &str = r#"{"Node":"n","Address":"10.0.0.1","ID":"00000000-0000-0000-0000-000000000007","NodeMeta":{"Rack":"1"},
    "Service":{"Service":"web","ID":"web1","Tags":["v1","primary"],"Port":80,"Meta":{"Ver":"2"}},
    "Checks":[{"Name":"node check","Status":"passing"},{"CheckID":"c1","ServiceID":"web1","Status":"warning"}]}"#;

#[tokio::test]
async fn what_is_registered_is_shown_as_consul_shows_it() {
    let bench = Bench::new();
    bench.put("/v1/catalog/register", WEB).await.is(200, "true");
    let node = r#"{"ID":"00000000-0000-0000-0000-000000000007","Node":"n","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":{},"Meta":{"Rack":"1"},"CreateIndex":2,"ModifyIndex":2}"#;
    let service = r#"{"ID":"web1","Service":"web","Tags":["v1","primary"],"Address":"","Meta":{"Ver":"2"},"Port":80,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"Proxy":{"Mode":"","MeshGateway":{},"Expose":{}},"Connect":{},"CreateIndex":2,"ModifyIndex":2}"#;
    let check = r#"{"Node":"n","CheckID":"c1","Name":"","Status":"warning","Notes":"","Output":"","ServiceID":"web1","ServiceName":"web","ServiceTags":["v1","primary"],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"CreateIndex":2,"ModifyIndex":2}"#;
    let node_check = r#"{"Node":"n","CheckID":"node check","Name":"node check","Status":"passing","Notes":"","Output":"","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"CreateIndex":2,"ModifyIndex":2}"#;
    for (path, expected) in [
        ("catalog/nodes", format!("[{node}]")),
        ("catalog/nodes?node-meta=Rack:1", format!("[{node}]")),
        ("catalog/nodes?node-meta=Rack:2", "[]".into()),
        ("catalog/services", r#"{"web":["primary","v1"]}"#.into()),
        ("catalog/services?node-meta=Rack:2", "{}".into()),
        ("catalog/node/N", format!(r#"{{"Node":{node},"Services":{{"web1":{service}}}}}"#)),
        ("catalog/node-services/n", format!(r#"{{"Node":{node},"Services":[{service}]}}"#)),
        (
            "catalog/service/web?tag=V1&tag=primary",
            r#"[{"ID":"00000000-0000-0000-0000-000000000007","Node":"n","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":{},"NodeMeta":{"Rack":"1"},"ServiceKind":"","ServiceID":"web1","ServiceName":"web","ServiceTags":["v1","primary"],"ServiceAddress":"","ServiceWeights":{"Passing":1,"Warning":1},"ServiceMeta":{"Ver":"2"},"ServicePort":80,"ServiceSocketPath":"","ServiceEnableTagOverride":false,"ServiceProxy":{"Mode":"","MeshGateway":{},"Expose":{}},"ServiceConnect":{},"CreateIndex":2,"ModifyIndex":2}]"#.into(),
        ),
        ("catalog/service/web?tag=other", "[]".into()),
        ("catalog/service/web?node-meta=Rack:2", "[]".into()),
        ("health/node/n", format!("[{check},{node_check}]")),
        ("health/checks/web", format!("[{check}]")),
        ("health/state/any", format!("[{check},{node_check}]")),
        ("health/state/warning", format!("[{check}]")),
        ("health/state/zz", "[]".into()),
        (
            "health/service/web",
            format!(r#"[{{"Node":{node},"Service":{service},"Checks":[{check},{node_check}]}}]"#),
        ),
        ("health/service/web?passing", "[]".into()),
        ("health/service/web?node-meta=Rack:2", "[]".into()),
    ] {
        let got = bench.get(&format!("/v1/{path}")).await;
        assert_eq!(got.body, expected, "{path}");
        assert_eq!((got.status, got.index()), (200, 2), "{path}");
        assert_eq!(got.header("x-consul-effective-consistency"), "leader", "{path}");
    }
    bench
        .get("/v1/catalog/datacenters")
        .await
        .is(200, r#"["dc1"]"#);
    let stale = bench.get("/v1/catalog/services?stale&cached").await;
    assert_eq!(stale.header("x-consul-effective-consistency"), "stale");
    assert_eq!(stale.header("x-cache"), "HIT");
    let consistent = bench.get("/v1/catalog/nodes?consistent").await;
    assert_eq!(
        consistent.header("x-consul-effective-consistency"),
        "consistent"
    );
}

#[tokio::test]
async fn what_is_unknown_has_consuls_empty_answers() {
    let bench = Bench::new();
    for (path, body) in [
        ("catalog/nodes", "[]"),
        ("catalog/services", "{}"),
        ("catalog/node/x", "null"),
        (
            "catalog/node-services/x",
            r#"{"Node":null,"Services":null}"#,
        ),
        ("catalog/service/x", "[]"),
        ("health/node/x", "[]"),
        ("health/checks/x", "[]"),
        ("health/service/x", "[]"),
    ] {
        let got = bench.get(&format!("/v1/{path}")).await;
        got.is(200, body);
        assert_eq!(got.index(), 1, "{path}");
    }
}

#[tokio::test]
async fn deregistering_takes_the_service_the_check_or_the_node() {
    let bench = Bench::new();
    bench.put("/v1/catalog/register", WEB).await.is(200, "true");
    let deregister = "/v1/catalog/deregister";
    bench
        .put(deregister, r#"{"Node":"n","CheckID":"node check"}"#)
        .await
        .is(200, "true");
    assert_eq!(
        bench
            .get("/v1/health/node/n")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    bench
        .put(deregister, r#"{"node":"n","serviceid":"web1"}"#)
        .await
        .is(200, "true");
    bench.get("/v1/catalog/services").await.is(200, "{}");
    bench
        .put(deregister, r#"{"Node":"n"}"#)
        .await
        .is(200, "true");
    bench.get("/v1/catalog/nodes").await.is(200, "[]");
}

#[tokio::test]
async fn bad_requests_are_refused_in_consuls_words() {
    let bench = Bench::new();
    let register = "/v1/catalog/register";
    let deregister = "/v1/catalog/deregister";
    for (path, body, status, text) in [
        (register, "", 400, "Request decode failed: EOF"),
        (register, "{", 400, "Request decode failed: unexpected EOF"),
        (register, "{}", 500, "Must provide node"),
        (
            register,
            r#"{"Node":"n"}"#,
            500,
            "Must provide address if SkipNodeUpdate is not set",
        ),
        (
            register,
            r#"{"Node":"n","Address":"a","Service":{"ID":"x"}}"#,
            500,
            "Must provide service name with ID",
        ),
        (
            register,
            r#"{"Node":"n","Address":"a","ID":"zz"}"#,
            400,
            "Invalid node ID \"zz\"",
        ),
        (
            register,
            r#"{"Node":"n","Address":"a","Check":{"Name":"c","Status":"zz"}}"#,
            500,
            "Invalid check status: 'zz'",
        ),
        (
            register,
            r#"{"Node":"n","Address":"a","Check":{}}"#,
            500,
            "Must provide check name or ID",
        ),
        (
            register,
            r#"{"Node":"n","Address":"a","Check":{"Name":"c","Node":"m"}}"#,
            500,
            "check node \"m\" does not match node \"n\"",
        ),
        (
            register,
            r#"{"Node":"n","Address":"a","Check":{"Name":"c","ServiceID":"zz"}}"#,
            500,
            "Missing service registration",
        ),
        (
            register,
            r#"{"Node":"n","Address":"a","Datacenter":"dc2"}"#,
            500,
            "No path to datacenter",
        ),
        (deregister, "{}", 500, "Must provide node"),
        (
            deregister,
            r#"{"Node":"n","Datacenter":"dc2"}"#,
            500,
            "No path to datacenter",
        ),
    ] {
        bench.put(path, body).await.is(status, text);
    }
    for (path, status, text) in [
        ("catalog/service/", 400, "Missing service name"),
        ("catalog/node/", 400, "Missing node name"),
        ("catalog/node-services/", 400, "Missing node name"),
        ("health/service/", 400, "Missing service name"),
        ("health/checks/", 400, "Missing service name"),
        ("health/node/", 400, "Missing node name"),
        ("health/state/", 400, "Missing check state"),
        (
            "catalog/nodes?stale&consistent",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
    ] {
        bench.get(&format!("/v1/{path}")).await.is(status, text);
    }
    bench.get("/v1/catalog/nodes").await.is(200, "[]");
}

#[tokio::test]
async fn skip_node_update_needs_no_address() {
    let bench = Bench::new();
    bench.register("n");
    let body = r#"{"Node":"n","SkipNodeUpdate":true,"Service":{"Service":"web"}}"#;
    bench
        .put("/v1/catalog/register", body)
        .await
        .is(200, "true");
    let found = bench.get("/v1/catalog/service/web").await.json();
    assert_eq!(
        (&found[0]["Address"], &found[0]["ServiceID"]),
        (&json!("127.0.0.1"), &json!("web"))
    );
}

#[tokio::test]
async fn filters_choose_what_is_shown() {
    let bench = Bench::new();
    bench.put("/v1/catalog/register", WEB).await.is(200, "true");
    let other = r#"{"Node":"m","Address":"10.0.0.2","Service":{"Service":"web","ID":"web2","Tags":["v2"],"Port":81}}"#;
    bench
        .put("/v1/catalog/register", other)
        .await
        .is(200, "true");
    let proxy = r#"{"Node":"m","Address":"10.0.0.2","Service":{"Service":"web-proxy","Kind":"connect-proxy","Port":1,"Proxy":{"DestinationServiceName":"Web"}}}"#;
    bench
        .put("/v1/catalog/register", proxy)
        .await
        .is(200, "true");
    for (path, filter, found) in [
        ("catalog/nodes", "Meta.Rack == `1`", 1),
        ("catalog/nodes", "Node matches `^[mn]$`", 2),
        ("catalog/service/web", "v2 in ServiceTags", 1),
        ("catalog/service/web", "ServicePort != 80 and Node == n", 0),
        (
            "catalog/services",
            "ServiceKind is empty and ServicePort == 81",
            1,
        ),
        ("health/service/web", "Checks.Status == warning", 1),
        (
            "health/service/web",
            "Node.Node == m or Service.ID == web1",
            2,
        ),
        ("health/node/n", "Status != passing", 1),
        ("health/state/any", "ServiceName == web", 1),
        ("health/checks/web", "Status == critical", 0),
        ("health/connect/web", "Service.Kind == `connect-proxy`", 1),
        ("catalog/connect/WEB", "ServiceKind is not empty", 1),
        ("agent/members", "Name == a", 1),
    ] {
        let encoded: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let got = bench.get(&format!("/v1/{path}?filter={encoded}")).await;
        let shown = got.json();
        let count = shown
            .as_array()
            .map(Vec::len)
            .or_else(|| shown.as_object().map(|names| names.len()));
        assert_eq!(count, Some(found), "{path} {filter}: {shown}");
    }
    let node = bench
        .get("/v1/catalog/node/m?filter=Service==web")
        .await
        .json();
    assert!(node["Services"].get("web2").is_some() && node["Services"].get("web-proxy").is_none());
    let services = bench
        .get("/v1/catalog/node-services/m?filter=Port==1")
        .await
        .json();
    assert_eq!(services["Services"].as_array().map(Vec::len), Some(1));
    for path in [
        "catalog/nodes",
        "health/service/web",
        "agent/services",
        "agent/checks",
    ] {
        let got = bench.get(&format!("/v1/{path}?filter=Zz")).await;
        assert_eq!(got.status, 500);
        let prefix =
            "Failed to create boolean expression evaluator: 1:3 (2): no match found, expected: ";
        assert!(got.body.starts_with(prefix), "{}", got.body);
    }
    let got = bench.get("/v1/catalog/nodes?filter=Zz==a").await;
    got.is(
        500,
        "Failed to create boolean expression evaluator: Selector \"Zz\" is not valid",
    );
}

#[tokio::test]
async fn checks_are_chosen_by_the_meta_data_of_their_nodes() {
    let bench = Bench::new();
    bench.put("/v1/catalog/register", WEB).await.is(200, "true");
    for (path, found) in [
        ("health/state/any?node-meta=Rack:1", 2),
        ("health/state/warning?node-meta=Rack:1", 1),
        ("health/state/any?node-meta=Rack:2", 0),
        ("health/checks/WEB?node-meta=Rack:1", 1),
        ("health/checks/web?node-meta=Rack:2", 0),
        ("catalog/gateway-services/x", 0),
        ("health/ingress/web", 0),
    ] {
        let got = bench.get(&format!("/v1/{path}")).await;
        assert_eq!(got.json().as_array().map(Vec::len), Some(found), "{path}");
        assert!(got.index() > 0);
    }
}

#[tokio::test]
async fn who_waits_for_the_mesh_is_woken_by_it_alone() {
    let bench = Bench::new();
    let register = |name: &str, more: &str| {
        format!(r#"{{"Node":"n","Address":"10.0.0.1","Service":{{"Service":"{name}"{more}}}}}"#)
    };
    let proxy = |port: u16| {
        let more = format!(
            r#","Kind":"connect-proxy","Port":{port},"Proxy":{{"DestinationServiceName":"web"}}"#
        );
        register("web-proxy", &more)
    };
    bench
        .put("/v1/catalog/register", proxy(1))
        .await
        .is(200, "true");
    let index = bench.get("/v1/health/connect/web").await.index();
    let path = format!("/v1/health/connect/web?index={index}&wait=10m");
    let waiting = bench.get(&path);
    let change = async {
        // The service itself is another matter.
        for (body, connected) in [
            (register("web", ""), index),
            (register("db", ""), index),
            (proxy(2), index + 3),
        ] {
            bench
                .put("/v1/catalog/register", body)
                .await
                .is(200, "true");
            let now = bench.get("/v1/health/connect/web").await;
            assert_eq!(now.index(), connected);
        }
    };
    let (woken, ()) = tokio::join!(waiting, change);
    assert_eq!(woken.json()[0]["Service"]["Port"], 2);
    assert_eq!(woken.index(), index + 3);
}
