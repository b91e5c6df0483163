use super::*;

#[tokio::test]
async fn a_value_comes_back_with_consuls_headers() {
    let bench = Bench::new();
    let put = bench.put("/v1/kv/a?flags=42", "hello").await;
    put.is(200, "true");
    assert_eq!(put.header("content-type"), "application/json");
    assert_eq!(put.header("x-consul-default-acl-policy"), "allow");
    let got = bench.get("/v1/kv/a").await;
    got.is(
        200,
        r#"[{"LockIndex":0,"Key":"a","Flags":42,"Value":"aGVsbG8=","CreateIndex":2,"ModifyIndex":2}]"#,
    );
    assert_eq!(got.index(), 2);
    assert_eq!(got.header("x-consul-knownleader"), "true");
    assert_eq!(got.header("x-consul-lastcontact"), "7");
    assert_eq!(got.header("x-consul-query-backend"), "blocking-query");
    assert_eq!(got.header("x-consul-effective-consistency"), "");
    assert_eq!(got.header("x-consul-default-acl-policy"), "allow");
}

#[tokio::test]
async fn an_absent_key_is_an_empty_404_with_an_index() {
    let bench = Bench::new();
    for path in [
        "/v1/kv/a",
        "/v1/kv/a?recurse",
        "/v1/kv/a?keys",
        "/v1/kv/a?raw",
        "/v1/kv/?recurse",
    ] {
        let got = bench.get(path).await;
        got.is(404, "");
        assert_eq!(got.index(), 1, "{path}");
    }
    // The root always has a list of keys.
    bench.get("/v1/kv/?keys").await.is(200, "[]");
}

#[tokio::test]
async fn raw_is_the_value_alone() {
    let bench = Bench::new();
    bench.put("/v1/kv/a", "<b>x</b>").await.is(200, "true");
    let got = bench.get("/v1/kv/a?raw").await;
    got.is(200, "<b>x</b>");
    assert_eq!(got.header("content-type"), "text/plain");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    assert_eq!(got.header("content-security-policy"), "sandbox");
    assert_eq!(got.header("content-length"), "8");
    assert_eq!(got.index(), 2);
}

#[tokio::test]
async fn prefixes_are_listed_and_deleted() {
    let bench = Bench::new();
    for key in ["a/1", "a/2/x", "a/2/y", "b"] {
        bench
            .put(&format!("/v1/kv/{key}"), key)
            .await
            .is(200, "true");
    }
    let keys = |got: Got| {
        let entries = got.json();
        let keys = entries.as_array().unwrap().iter();
        keys.map(|e| e["Key"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(bench.get("/v1/kv/a/?recurse").await),
        ["a/1", "a/2/x", "a/2/y"]
    );
    bench
        .get("/v1/kv/a/?keys")
        .await
        .is(200, r#"["a/1","a/2/x","a/2/y"]"#);
    bench
        .get("/v1/kv/a/?keys&separator=/")
        .await
        .is(200, r#"["a/1","a/2/"]"#);
    bench
        .get("/v1/kv/?keys&seperator=%2F")
        .await
        .is(200, r#"["a/","b"]"#);
    bench.delete("/v1/kv/a/2?recurse").await.is(200, "true");
    assert_eq!(keys(bench.get("/v1/kv/?recurse").await), ["a/1", "b"]);
    bench.delete("/v1/kv/?recurse").await.is(200, "true");
    bench.get("/v1/kv/?recurse").await.is(404, "");
}

#[tokio::test]
async fn keys_are_decoded_once() {
    let bench = Bench::new();
    bench
        .put("/v1/kv/a%2Fb%20c+d%25/%C3%A4", "x")
        .await
        .is(200, "true");
    bench.get("/v1/kv/?keys").await.is(200, r#"["a/b c+d%/ä"]"#);
    bench.get("/v1/kv/a/b%20c%2Bd%25/ä?raw").await.is(200, "x");
    bench
        .put("/v1/kv//double//slash", "x")
        .await
        .is(200, "true");
    bench.get("/v1/kv//double//slash?raw").await.is(200, "x");
    bench.put("/v1/kv/../x", "x").await.is(200, "true");
    bench.get("/v1/kv/../x?raw").await.is(200, "x");
    let text = "Invalid URL path: not percent-encoded UTF-8";
    bench.get("/v1/kv/%zz").await.is(400, text);
    bench.get("/v1/kv/%ff").await.is(400, text);
    let text = "Invalid URL path: a character is not printable";
    bench.get("/v1/kv/a%0Ab").await.is(400, text);
    bench.get("/v1/kv/a%00").await.is(400, text);
}

#[tokio::test]
async fn conditions_are_answered_with_true_or_false() {
    let bench = Bench::new();
    bench.put("/v1/kv/a?cas=0", "1").await.is(200, "true");
    bench.put("/v1/kv/a?cas=0", "2").await.is(200, "false");
    bench.put("/v1/kv/a?cas=2", "3").await.is(200, "true");
    bench.delete("/v1/kv/a?cas=0").await.is(200, "false");
    bench.delete("/v1/kv/a?cas=2").await.is(200, "false");
    bench.delete("/v1/kv/a?cas=4").await.is(200, "true");
    bench.delete("/v1/kv/a").await.is(200, "true");
}

#[tokio::test]
async fn bad_parameters_are_refused_in_consuls_words() {
    let bench = Bench::new();
    for (method, path, status, text) in [
        ("GET", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/", 400, "Missing key name"),
        ("DELETE", "/v1/kv/", 400, "Missing key name"),
        (
            "PUT",
            "/v1/kv/a?cas=x",
            500,
            "strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "PUT",
            "/v1/kv/a?flags=-1",
            500,
            "strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (
            "DELETE",
            "/v1/kv/a?cas=",
            500,
            "strconv.ParseUint: parsing \"\": invalid syntax",
        ),
        (
            "PUT",
            "/v1/kv/a?cas=1&acquire=x",
            400,
            "Conflicting flags: acquire=x&cas=1\n",
        ),
        (
            "DELETE",
            "/v1/kv/a?cas=0&recurse",
            400,
            "Conflicting flags: cas=0&recurse=\n",
        ),
        (
            "PUT",
            "/v1/kv/a?acquire=bad",
            500,
            "raft apply failed: invalid session \"bad\"",
        ),
        (
            "PUT",
            "/v1/kv/a?acquire=",
            500,
            "raft apply failed: missing session",
        ),
        (
            "PUT",
            "/v1/kv/a?release",
            500,
            "raft apply failed: missing session",
        ),
        ("PUT", "/v1/kv/a?release=bad", 200, "false"),
        (
            "PUT",
            "/v1/kv/a?acquire=00000000-0000-0000-0000-000000000001",
            500,
            "raft apply failed: invalid session \"00000000-0000-0000-0000-000000000001\"",
        ),
        ("GET", "/v1/kv/a?index=x", 400, "Invalid index"),
        ("GET", "/v1/kv/a?index=1&wait=5", 400, "Invalid wait time"),
        ("GET", "/v1/kv/a?dc=dc2", 500, "No path to datacenter"),
        ("PUT", "/v1/kv/a?dc=dc2", 500, "No path to datacenter"),
        ("DELETE", "/v1/kv/a?dc=dc2", 500, "No path to datacenter"),
    ] {
        let got = bench.send(method, path, "").await;
        assert_eq!(
            (got.status, got.body.as_str()),
            (status, text),
            "{method} {path}"
        );
        if status != 200 {
            assert_eq!(got.header("content-type"), "text/plain; charset=utf-8");
        }
    }
    bench.get("/v1/kv/?keys").await.is(200, "[]");
}

#[tokio::test]
async fn a_value_may_be_512_kib_and_not_a_byte_more() {
    let bench = Bench::new();
    let largest = vec![b'x'; 524_288];
    bench.put("/v1/kv/a", &largest).await.is(200, "true");
    let got = bench.get("/v1/kv/a?raw").await;
    assert_eq!(got.body.len(), largest.len());
    let text = |len: u32| {
        format!(
            "Request body({len} bytes) too large, max size: 524288 bytes. See https://developer.hashicorp.com/docs/agent/config/config-files#kv_max_value_size."
        )
    };
    // Announced: refused before it is sent.
    let head = "PUT /v1/kv/b HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n";
    let got = bench.first_answer(head.as_bytes()).await;
    got.is(413, &text(600_000));
    // Not announced: refused as soon as it is too much.
    let mut chunked =
        b"PUT /v1/kv/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..5 {
        chunked.extend(b"20000\r\n");
        chunked.extend(vec![b'x'; 0x20000]);
        chunked.extend(b"\r\n");
    }
    let got = bench.first_answer(&chunked).await;
    assert_eq!(got.status, 413);
    assert!(got.body.starts_with("Request body("), "{}", got.body);
    bench.get("/v1/kv/b").await.is(404, "");
}

#[tokio::test]
async fn a_chunked_value_is_put_together() {
    let bench = Bench::new();
    let request = "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    bench.raw(request.as_bytes()).await.is(200, "true");
    bench.get("/v1/kv/a?raw").await.is(200, "abcde");
}

#[tokio::test]
async fn pretty_is_indented_by_four_spaces() {
    let bench = Bench::new();
    bench.put("/v1/kv/a", "x").await.is(200, "true");
    bench
        .get("/v1/kv/?keys&pretty")
        .await
        .is(200, "[\n    \"a\"\n]\n");
    let always = Bench::with(Settings {
        pretty: true,
        ..settings()
    });
    always.get("/v1/kv/?keys").await.is(200, "[]\n");
}

#[tokio::test]
async fn a_blocking_query_answers_at_the_change_that_it_waits_for() {
    let bench = Bench::new();
    bench.put("/v1/kv/a", "1").await.is(200, "true");
    let index = bench.get("/v1/kv/a").await.index();
    let path = format!("/v1/kv/a?index={index}");
    let mut waiting = Box::pin(bench.get(&path));
    // Another key's write does not end it: the only thing that can be ready first is the writer.
    tokio::select! {
        biased;
        got = &mut waiting => panic!("answered too early: {got:?}"),
        () = async {
            while bench.fake.shared.waiting() == 0 {
                tokio::task::yield_now().await;
            }
            bench.put("/v1/kv/other", "1").await.is(200, "true");
        } => {}
    }
    bench.put("/v1/kv/a", "2").await.is(200, "true");
    let got = waiting.await;
    assert_eq!(got.json()[0]["Value"], "Mg==");
    assert_eq!(got.index(), index + 2);
}

#[tokio::test]
async fn a_blocking_query_that_sees_no_change_answers_the_same() {
    let bench = Bench::new();
    bench.put("/v1/kv/a", "1").await.is(200, "true");
    let before = bench.get("/v1/kv/a").await;
    let path = format!("/v1/kv/a?index={}&wait=1ms", before.index());
    let after = bench.get(&path).await;
    assert_eq!(
        (after.status, &after.body, after.index()),
        (200, &before.body, before.index())
    );
    // The index of another time: answered at once.
    bench
        .get("/v1/kv/a?index=1&wait=10m")
        .await
        .is(200, &before.body);
    let absent = bench.get("/v1/kv/none?index=99&wait=1ms").await;
    absent.is(404, "");
    assert_eq!(absent.index(), 2);
}

#[tokio::test]
async fn without_a_leader_everything_says_so() {
    let bench = Bench::new();
    bench.fake.leaderless.store(true, Ordering::SeqCst);
    for (method, path) in [
        ("GET", "/v1/kv/a"),
        ("PUT", "/v1/kv/a"),
        ("DELETE", "/v1/kv/a"),
        ("GET", "/v1/catalog/nodes"),
        ("PUT", "/v1/session/create"),
        ("GET", "/v1/operator/raft/configuration"),
    ] {
        bench
            .send(method, path, "")
            .await
            .is(500, "No cluster leader");
    }
    bench.get("/v1/status/leader").await.is(200, "\"\"");
    bench.get("/v1/status/peers").await.is(200, "[]");
}
