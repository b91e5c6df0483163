use super::*;

#[tokio::test]
async fn a_saved_state_is_put_back() {
    let bench = Bench::new();
    bench.put("/v1/kv/a", "1").await.is(200, "true");
    bench.register("n");
    let mut stream = bench.connect();
    let request = b"GET /v1/snapshot?stale HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    assert_eq!(bench.calls(), ["save true"]);
    let archive = body(&response);
    bench.put("/v1/kv/a", "2").await.is(200, "true");
    bench.put("/v1/kv/b", "3").await.is(200, "true");
    let restored = bench.put("/v1/snapshot", &archive).await;
    restored.is(200, "");
    bench.get("/v1/kv/a?raw").await.is(200, "1");
    bench.get("/v1/kv/b").await.is(404, "");
    let index = bench.fake.shared.load().last_index();
    assert_eq!(bench.get("/v1/kv/a").await.index(), index);
    assert_eq!(bench.get("/v1/catalog/nodes").await.index(), index);
    let mut damaged = archive.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let refused = bench.put("/v1/snapshot", &damaged).await;
    assert_eq!(refused.status, 400);
    let refused = bench.put("/v1/snapshot", b"\x1f\x8b\x08\x00").await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.starts_with("this is an archive of Consul"));
    // What was refused never came near the log.
    assert_eq!(bench.fake.shared.load().last_index(), index);
}

/// The body of a response, whatever says where it ends.
fn body(response: &[u8]) -> Vec<u8> {
    let at = response.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let (head, mut rest) = (&response[..at], &response[at + 4..]);
    let chunked = String::from_utf8_lossy(head)
        .to_lowercase()
        .contains("transfer-encoding: chunked");
    if !chunked {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let len = std::str::from_utf8(&rest[..end]).unwrap();
        let len = usize::from_str_radix(len, 16).unwrap();
        if len == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + 4 + len..];
    }
}

#[tokio::test]
async fn gauges_are_looked_at_when_metrics_are_asked_for() {
    let bench = Bench::new();
    bench.put("/v1/kv/a", "1").await.is(200, "true");
    let metrics = bench.get("/v1/agent/metrics").await.json();
    let gauges = metrics["Gauges"].as_array().unwrap();
    let entries = gauges.iter().find(|gauge| {
        gauge["Name"]
            .as_str()
            .unwrap()
            .ends_with("state.kv_entries")
    });
    assert_eq!(entries.unwrap()["Value"], 1.0);
}
