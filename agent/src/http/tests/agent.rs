use super::*;

#[tokio::test]
async fn self_shows_configuration_member_and_stats() {
    let bench = Bench::new();
    let got = bench.get("/v1/agent/self").await.json();
    let member = json!({
        "Name": "a", "Addr": "127.0.0.1", "Port": 8301, "Tags": {"role": "consul", "build": "1.19.0:abc"}, "Status": 1,
        "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2, "DelegateMin": 2, "DelegateMax": 5, "DelegateCur": 4,
    });
    assert_eq!(
        got,
        json!({
            "Config": {
                "Datacenter": "dc1", "PrimaryDatacenter": "dc1", "NodeName": "a",
                "NodeID": "00000000-0000-0000-0000-00000000000a", "Revision": "abc", "Server": true,
                "Version": "1.19.0", "BuildDate": "2026-11-23T00:00:00Z",
            },
            "DebugConfig": {"BindAddr": "127.0.0.1"},
            "Coord": {"Vec": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "Error": 1.5, "Adjustment": 0.0, "Height": 1e-5},
            "Member": member,
            "Stats": {"raft": {"num_peers": "2"}},
            "Meta": {"rack": "1"},
        })
    );
    let members = bench.get("/v1/agent/members").await.json();
    assert_eq!(members[0], member);
    assert_eq!(
        (&members[1]["Name"], &members[1]["Status"]),
        (&json!("b"), &json!(3))
    );
    bench.get("/v1/agent/version").await.is(
        200,
        r#"{"SHA":"abc","BuildDate":"2026-11-23T00:00:00Z","HumanVersion":"1.19.0","FIPS":""}"#,
    );
    assert!(bench.get("/v1/agent/host").await.json()["Memory"]["total"].is_u64());
}

#[tokio::test]
async fn requests_reach_the_node_as_they_were_meant() {
    let bench = Bench::new();
    for (method, path, call) in [
        ("PUT", "/v1/agent/join/127.0.0.2", "join 127.0.0.2"),
        ("PUT", "/v1/agent/join/%5B::1%5D:8301", "join [::1]:8301"),
        ("PUT", "/v1/agent/leave", "leave"),
        ("PUT", "/v1/agent/force-leave/b", "force-leave b false"),
        ("PUT", "/v1/agent/force-leave/b?prune", "force-leave b true"),
        (
            "DELETE",
            "/v1/operator/raft/peer?address=127.0.0.2:8300",
            "remove Address(\"127.0.0.2:8300\")",
        ),
        ("DELETE", "/v1/operator/raft/peer?id=x", "remove Id(\"x\")"),
    ] {
        bench.send(method, path, "").await.is(200, "");
        assert_eq!(bench.calls(), [call], "{path}");
    }
    let transfer = "/v1/operator/raft/transfer-leader";
    for method in ["PUT", "POST"] {
        bench
            .send(method, transfer, "")
            .await
            .is(200, r#"{"Success":true}"#);
        assert_eq!(bench.calls(), ["transfer None"]);
    }
}

#[tokio::test]
async fn refusals_are_told_in_consuls_words() {
    let bench = Bench::new();
    for (method, path, status, text) in [
        (
            "PUT",
            "/v1/agent/join/127.0.0.9",
            500,
            "1 error occurred:\n\t* Failed to join 127.0.0.9:8301: dial tcp 127.0.0.9:8301: connection refused\n\n",
        ),
        ("PUT", "/v1/agent/join/", 400, "Missing address"),
        (
            "PUT",
            "/v1/agent/reload",
            500,
            "agent.json:1:2: unexpected end",
        ),
        (
            "PUT",
            "/v1/agent/join/client?wan=1",
            500,
            "Must be a server to join WAN cluster",
        ),
        ("PUT", "/v1/agent/force-leave/", 400, "Missing node name"),
        (
            "PUT",
            "/v1/agent/force-leave/zz",
            500,
            "agent: No node found with name 'zz'",
        ),
        (
            "GET",
            "/v1/agent/monitor?loglevel=zz",
            400,
            "Unknown log level: zz",
        ),
        (
            "DELETE",
            "/v1/operator/raft/peer",
            400,
            "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove",
        ),
        (
            "DELETE",
            "/v1/operator/raft/peer?id=a&address=b",
            400,
            "Must specify only one of ?id or ?address",
        ),
        (
            "DELETE",
            "/v1/operator/raft/peer?address=1.1.1.1:1",
            500,
            "address \"1.1.1.1:1\" was not found in the Raft configuration",
        ),
        (
            "PUT",
            "/v1/operator/raft/transfer-leader?id=00000000-0000-0000-0000-000000000000",
            500,
            "cannot find peer",
        ),
        (
            "PUT",
            "/v1/operator/raft/transfer-leader?id=zz",
            400,
            "Invalid server id \"zz\"",
        ),
        (
            "GET",
            "/v1/agent/members?filter=x==y",
            500,
            "Failed to create boolean expression evaluator: Selector \"x\" is not valid",
        ),
    ] {
        bench.send(method, path, "").await.is(status, text);
    }
}

#[tokio::test]
async fn the_raft_configuration_and_status_have_consuls_shape() {
    let bench = Bench::new();
    bench.get("/v1/operator/raft/configuration?stale").await.is(
        200,
        r#"{"Servers":[{"ID":"00000000-0000-0000-0000-000000000001","Node":"a","Address":"127.0.0.1:8300","Leader":true,"ProtocolVersion":"3","Voter":true,"LastIndex":9},{"ID":"00000000-0000-0000-0000-000000000001","Node":"(unknown)","Address":"127.0.0.1:8300","Leader":false,"ProtocolVersion":"3","Voter":false,"LastIndex":9}],"Index":5}"#,
    );
    assert_eq!(bench.calls(), ["configuration true"]);
    bench
        .get("/v1/status/leader")
        .await
        .is(200, r#""127.0.0.1:8300""#);
    bench
        .get("/v1/status/peers")
        .await
        .is(200, r#"["127.0.0.1:8300","127.0.0.2:8300"]"#);
}

#[tokio::test]
async fn metrics_count_questions_by_service_and_tags() {
    let bench = Bench::new();
    for path in [
        "/v1/catalog/service/web",
        "/v1/catalog/service/web?tag=b&tag=a",
        "/v1/catalog/connect/web",
        "/v1/health/service/web?tag=a",
        "/v1/health/service/api",
        "/v1/health/connect/web",
        "/v1/health/ingress/web",
    ] {
        bench.get(path).await.is(200, "[]");
    }
    bench
        .get("/v1/catalog/service/")
        .await
        .is(400, "Missing service name");
    let metrics = bench.get("/v1/agent/metrics").await.json();
    let counters = metrics["Counters"].as_array().unwrap();
    let counters: Vec<_> = counters
        .iter()
        .map(|one| {
            let labels = (&one["Labels"]["service"], &one["Labels"]["tag"]);
            let (service, tag) = (labels.0.as_str().unwrap(), labels.1.as_str());
            let name = one["Name"].as_str().unwrap();
            let count = one["Count"].as_u64().unwrap();
            (name, service, tag.unwrap_or_default(), count)
        })
        .collect();
    assert_eq!(
        counters,
        [
            ("consul.catalog.connect.query", "web", "", 1),
            ("consul.catalog.service.query", "web", "", 2),
            ("consul.catalog.service.query-tags", "web", "a,b", 1),
            ("consul.health.connect.query", "web", "", 1),
            ("consul.health.ingress.query", "web", "", 1),
            ("consul.health.service.query", "api", "", 1),
            ("consul.health.service.query", "web", "", 1),
            ("consul.health.service.query-tags", "web", "a", 1),
        ]
    );
}

#[tokio::test]
async fn metrics_count_requests_by_endpoint() {
    let bench = Bench::new();
    bench.put("/v1/kv/some/key", "x").await.is(200, "true");
    let metrics = bench.get("/v1/agent/metrics").await.json();
    let samples = metrics["Samples"].as_array().unwrap();
    let labels = json!({"method": "PUT", "path": "v1_kv_"});
    let found = samples.iter().find(|s| s["Labels"] == labels).unwrap();
    assert_eq!(
        (&found["Name"], &found["Count"]),
        (&json!("consul.api.http"), &json!(1))
    );
    let found = samples.iter().find(|s| s["Name"] == "consul.kvs.apply");
    assert_eq!(found.unwrap()["Count"], 1);
    let off = bench.get("/v1/agent/metrics?format=prometheus").await;
    off.is(200, "");
    assert_eq!(
        off.header("x-consul-reason"),
        "Prometheus is not enabled since its retention time is not positive"
    );
    assert_eq!(bench.metrics.prometheus(), None);
}

#[tokio::test]
async fn monitor_streams_until_the_shutdown() {
    let bench = Bench::new();
    let mut stream = bench.connect();
    stream
        .write_all(b"GET /v1/agent/monitor?loglevel=debug&logjson HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    while !text.contains("json=true") {
        let mut buffer = [0; 1024];
        let len = stream.read(&mut buffer).await.unwrap();
        assert!(len > 0, "ended after {text}");
        text.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
    }
    assert!(text.contains("level=DEBUG\n"), "{text}");
    bench.shutdown.cancel();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    // The last chunk: it ended in order.
    assert_eq!(rest, "0\r\n\r\n");
    bench.served.await.unwrap();
}

#[tokio::test]
async fn readiness_has_a_reason_when_it_is_missing() {
    let bench = Bench::new();
    bench.get("/v1/agent/ready").await.is(200, "ready");
    bench.fake.leaderless.store(true, Ordering::SeqCst);
    bench
        .get("/v1/agent/ready")
        .await
        .is(503, "No cluster leader");
}
