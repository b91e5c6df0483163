use super::*;

#[tokio::test]
async fn a_wrong_method_is_told_which_ones_are_right() {
    let bench = Bench::new();
    let got = bench.send("POST", "/v1/kv/a", "").await;
    got.is(405, "method POST not allowed");
    assert_eq!(got.header("allow"), "OPTIONS,GET,PUT,DELETE");
    assert_eq!(got.header("x-consul-default-acl-policy"), "allow");
    let got = bench.send("GET", "/v1/agent/leave", "").await;
    got.is(405, "method GET not allowed");
    assert_eq!(got.header("allow"), "OPTIONS,PUT");
    assert!(bench.calls().is_empty());
    let got = bench.send("OPTIONS", "/v1/kv/a", "").await;
    got.is(200, "");
    assert_eq!(got.header("allow"), "OPTIONS,GET,PUT,DELETE");
}

#[tokio::test]
async fn unknown_paths_say_so() {
    let bench = Bench::new();
    let text = "Invalid URL path: not a recognized HTTP API endpoint";
    for path in ["/v1/zz", "/v2/kv/a", "/v1", "/ui", "/v1/agent/self/"] {
        bench.get(path).await.is(404, text);
    }
    let got = bench.get("/").await;
    got.is(
        200,
        "Consul Agent: UI disabled. To enable, set ui_config.enabled=true in the agent configuration and restart.",
    );
    assert_eq!(got.header("x-consul-default-acl-policy"), "");
    let got = bench.get("/v1/kv?keys").await;
    got.is(301, "");
    assert_eq!(got.header("location"), "/v1/kv/");
}

#[tokio::test]
async fn enterprise_headers_are_refused() {
    let bench = Bench::new();
    for (header, text) in [
        (
            "X-Consul-Namespace",
            "Invalid header: \"X-Consul-Namespace\" - Namespaces are a Consul Enterprise feature",
        ),
        (
            "X-Consul-Partition",
            "Invalid header: \"X-Consul-Partition\" - Partitions are a Consul Enterprise feature",
        ),
    ] {
        let request =
            format!("GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}: x\r\n\r\n");
        bench.raw(request.as_bytes()).await.is(400, text);
    }
}

#[tokio::test]
async fn garbage_is_answered_with_4xx_and_hurts_nobody() {
    let bench = Bench::new();
    for (request, status) in [
        (b"\x16\x03\x01\x02\x00garbage\r\n\r\n".to_vec(), 400),
        (b"GET\r\n\r\n".to_vec(), 400),
        (
            b"PUT /v1/kv/a HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_vec(),
            400,
        ),
        (
            [
                b"GET /v1/kv/a?".as_slice(),
                &vec![b'x'; 70_000],
                b" HTTP/1.1\r\n\r\n",
            ]
            .concat(),
            431,
        ),
        (
            [
                b"GET / HTTP/1.1\r\nX: ".as_slice(),
                &vec![b'x'; 70_000],
                b"\r\n\r\n",
            ]
            .concat(),
            431,
        ),
    ] {
        let got = bench.raw(&request).await;
        assert_eq!(got.status, status, "{got:?}");
    }
    // A body that breaks off is not written.
    let mut stream = bench.connect();
    stream
        .write_all(b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    bench.get("/v1/kv/a").await.is(404, "");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let bench = Bench::new();
    let mut stream = bench.connect();
    for i in 0..3 {
        let body = i.to_string();
        let request = format!(
            "PUT /v1/kv/k{i} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.ends_with("true") {
            let mut buffer = [0; 1024];
            let len = stream.read(&mut buffer).await.unwrap();
            assert!(len > 0);
            text.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
        }
    }
    bench
        .get("/v1/kv/?keys")
        .await
        .is(200, r#"["k0","k1","k2"]"#);
}

#[tokio::test]
async fn one_client_has_so_many_connections_and_others_theirs() {
    let bench = Bench::with(Settings {
        http_max_conns_per_client: 2,
        ..settings()
    });
    let held: Vec<_> = (0..2).map(|_| bench.connect()).collect();
    let mut refused = bench.connect();
    let mut response = Vec::new();
    // Ends without a request.
    refused.read_to_end(&mut response).await.unwrap();
    Got::parse(&response).is(
        429,
        "Your IP is issuing too many concurrent connections, please rate limit your calls",
    );
    drop(refused);
    let answered = async |mut stream: DuplexStream| {
        stream
            .write_all(b"GET /v1/status/leader HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        Got::parse(&response).status
    };
    assert_eq!(answered(bench.connect_from("127.0.0.2:1")).await, 200);
    assert_eq!(answered(bench.connect_from("[::]:0")).await, 200);
    drop(held);
    // Their seats are free as soon as the server has seen them go.
    while answered(bench.connect()).await != 200 {}
}

#[tokio::test]
async fn a_shutdown_ends_blocked_queries_and_then_the_server() {
    let bench = Bench::new();
    let blocked = async { bench.get("/v1/kv/a?index=99").await };
    let shutdown = async {
        while bench.fake.shared.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        bench.shutdown.cancel();
    };
    let (got, ()) = tokio::join!(blocked, shutdown);
    got.is(500, "agent is shutting down");
    bench.served.await.unwrap();
    assert_eq!(bench.fake.shared.waiting(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_stops_waiting() {
    let bench = Bench::new();
    let mut stream = bench.connect();
    stream
        .write_all(b"GET /v1/kv/a?index=99 HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    while bench.fake.shared.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    while bench.fake.shared.waiting() > 0 {
        tokio::task::yield_now().await;
    }
}
