//! What `http_config` says.

use std::io::Read as _;

use super::*;

#[tokio::test]
async fn blocked_endpoints_are_blocked_for_everybody() {
    let bench = Bench::with(Settings {
        block_endpoints: vec!["/v1/kv".into(), "/v1/agent/force".into()],
        ..settings()
    });
    let text = "Endpoint is blocked by agent configuration";
    for path in [
        "/v1/kv",
        "/v1/kv/a",
        "/v1/agent/force-leave/b",
        "/v1/%6bv/a",
    ] {
        bench.get(path).await.is(403, text);
    }
    bench
        .get("/v1/status/peers")
        .await
        .is(200, r#"["127.0.0.1:8300","127.0.0.2:8300"]"#);
}

#[tokio::test]
async fn writes_are_taken_from_allowed_networks_alone() {
    let bench = Bench::with(Settings {
        allow_write_http_from: vec!["10.0.0.0/8".parse().unwrap()],
        ..settings()
    });
    bench
        .put("/v1/kv/a", "x")
        .await
        .is(403, "Access is restricted");
    bench.get("/v1/kv/a").await.is(404, "");
    for (from, status) in [("10.1.2.3:1", "200"), ("11.1.2.3:1", "403")] {
        let mut stream = bench.connect_from(from);
        let request =
            "PUT /v1/kv/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\ny";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{from}: {answer}");
    }
}

#[tokio::test]
async fn own_headers_are_on_every_answer() {
    let bench = Bench::with(Settings {
        response_headers: vec![("Access-Control-Allow-Origin".into(), "*".into())],
        ..settings()
    });
    for path in ["/v1/kv/a", "/nothing", "/v1/status/leader"] {
        let got = bench.get(path).await;
        assert_eq!(got.header("access-control-allow-origin"), "*", "{path}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let bench = Bench::with(Settings {
        header_bytes_max: 5000,
        ..settings()
    });
    let long = |bytes: usize| {
        let fill = "x".repeat(bytes);
        format!(
            "GET /v1/status/leader HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {fill}\r\n\r\n"
        )
    };
    assert_eq!(bench.raw(long(4000).as_bytes()).await.status, 200);
    // All of it at once would be read before the bound is looked at.
    let mut stream = bench.connect();
    let request = long(200_000);
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let bench = Bench::new();
    let value = "v".repeat(5000);
    bench.put("/v1/kv/a", &value).await.is(200, "true");
    let request = "GET /v1/kv/a?raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n";
    let mut stream = bench.connect();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(head.contains("vary: accept-encoding"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer[end + 4..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, value);
    // Small ones, and for others, are not.
    for request in [
        request.replace("?raw", "?keys"),
        request.replace("gzip", "br"),
    ] {
        let got = bench.raw(request.as_bytes()).await;
        assert_eq!(got.headers.get("content-encoding"), None);
    }
}

#[tokio::test]
async fn a_cached_answer_says_whether_it_is_one_and_how_old() {
    let bench = Bench::new();
    bench.register("a");
    let got = bench.get("/v1/health/service/web?cached").await;
    assert_eq!((got.header("x-cache"), got.header("age")), ("HIT", "0"));
    assert_eq!(got.header("x-consul-effective-consistency"), "stale");
    let got = bench.get("/v1/health/service/web").await;
    assert_eq!(got.headers.get("x-cache"), None);
    let client = Bench::with(Settings {
        server: false,
        ..settings()
    });
    let got = client.get("/v1/health/service/web?cached").await;
    assert_eq!(got.header("x-cache"), "MISS");
    assert_eq!(got.headers.get("age"), None);
    let off = Bench::with(Settings {
        use_cache: false,
        ..settings()
    });
    let got = off.get("/v1/health/service/web?cached").await;
    assert_eq!(got.headers.get("x-cache"), None);
}

#[tokio::test]
async fn the_catalog_may_be_read_old_where_the_configuration_says_so() {
    let bench = Bench::with(Settings {
        discovery_max_stale: Duration::from_secs(5),
        ..settings()
    });
    for (path, wanted) in [
        ("/v1/catalog/nodes", "stale"),
        ("/v1/health/state/any", "stale"),
        ("/v1/catalog/nodes?consistent", "consistent"),
    ] {
        let got = bench.get(path).await;
        assert_eq!(
            got.header("x-consul-effective-consistency"),
            wanted,
            "{path}"
        );
    }
}
