use super::*;

/// Base64 of "hello".
const HELLO: &str = "aGVsbG8=";

fn ops(ops: Value) -> String {
    ops.to_string()
}

#[tokio::test]
async fn writes_are_made_together_and_shown_without_values() {
    let bench = Bench::new();
    let body = ops(json!([
        {"KV": {"Verb": "set", "Key": "a", "Value": HELLO, "Flags": 42}},
        {"KV": {"Verb": "check-not-exists", "Key": "b"}},
        {"KV": {"Verb": "get", "Key": "a"}},
        {"KV": {"Verb": "delete", "Key": "none"}},
    ]));
    let got = bench.put("/v1/txn", body).await;
    got.is(
        200,
        r#"{"Results":[{"KV":{"LockIndex":0,"Key":"a","Flags":42,"Value":null,"CreateIndex":2,"ModifyIndex":2}},{"KV":{"LockIndex":0,"Key":"a","Flags":42,"Value":"aGVsbG8=","CreateIndex":2,"ModifyIndex":2}}],"Errors":null}"#,
    );
    assert_eq!(bench.get("/v1/kv/a").await.index(), 2);
}

#[tokio::test]
async fn a_failed_operation_is_named_and_nothing_is_done() {
    let bench = Bench::new();
    let body = ops(json!([
        {"KV": {"Verb": "set", "Key": "a", "Value": HELLO}},
        {"KV": {"Verb": "get", "Key": "none"}},
        {"KV": {"Verb": "cas", "Key": "b", "Index": 9}},
    ]));
    bench.put("/v1/txn", body).await.is(
        409,
        r#"{"Results":null,"Errors":[{"OpIndex":1,"What":"key \"none\" doesn't exist"},{"OpIndex":2,"What":"failed to set key \"b\", index is stale"}]}"#,
    );
    bench.get("/v1/kv/a").await.is(404, "");
}

#[tokio::test]
async fn what_is_wrong_in_itself_never_reaches_the_log() {
    let bench = Bench::new();
    let body = ops(json!([
        {"KV": {"Verb": "set", "Key": "a"}},
        {"KV": {"Verb": "bogus", "Key": "a"}},
        {"KV": {"Verb": "set"}},
        {"KV": {"Verb": "lock", "Key": "a"}},
        {"KV": {"Verb": "lock", "Key": "a", "Session": "zz"}},
        {"Node": {"Verb": "zap", "Node": {"Node": "n"}}},
        {"Node": {"Verb": "get"}},
        {"Session": {"Verb": "create"}},
        {},
    ]));
    let got = bench.put("/v1/txn", body).await;
    assert_eq!(got.status, 409);
    let errors = got.json()["Errors"].clone();
    let errors: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (
                e["OpIndex"].as_u64().unwrap(),
                e["What"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let wanted = [
        (1, "unknown KV verb \"bogus\""),
        (2, "Must provide key"),
        (3, "missing session"),
        (4, "invalid session \"zz\""),
        (5, "unknown Node verb \"zap\""),
        (6, "Must provide node"),
        (7, "unknown Session verb \"create\""),
        (
            8,
            "the operation names none of KV, Node, Service, Check, Session",
        ),
    ];
    assert_eq!(errors, wanted.map(|(at, text)| (at, text.to_owned())));
    assert_eq!(bench.fake.shared.load().last_index(), 1);
}

#[tokio::test]
async fn reads_alone_take_no_place_in_the_log() {
    let bench = Bench::new();
    bench.put("/v1/kv/a", "hello").await.is(200, "true");
    let body = ops(
        json!([{"KV": {"Verb": "get-tree", "Key": "a"}}, {"KV": {"Verb": "get-or-empty", "Key": "b"}}]),
    );
    let got = bench.put("/v1/txn?stale", body).await;
    got.is(
        200,
        r#"{"Results":[{"KV":{"LockIndex":0,"Key":"a","Flags":0,"Value":"aGVsbG8=","CreateIndex":2,"ModifyIndex":2}},{"KV":{"LockIndex":0,"Key":"b","Flags":0,"Value":null,"CreateIndex":0,"ModifyIndex":0}}],"Errors":null,"Index":2,"LastContact":7000000,"KnownLeader":true,"ConsistencyLevel":"stale"}"#,
    );
    assert_eq!(got.header("x-consul-lastcontact"), "7");
    assert_eq!(got.header("x-consul-index"), "");
    assert_eq!(bench.fake.shared.load().last_index(), 2);
    let body = ops(json!([{"KV": {"Verb": "get", "Key": "none"}}]));
    let got = bench.put("/v1/txn", body).await;
    assert_eq!(got.status, 409);
    assert_eq!(
        got.json()["Errors"][0]["What"],
        "key \"none\" doesn't exist"
    );
}

#[tokio::test]
async fn the_catalog_is_written_and_read() {
    let bench = Bench::new();
    let body = ops(json!([
        {"Node": {"Verb": "set", "Node": {"Node": "n", "Address": "10.0.0.1", "Meta": {"Rack": "A"}}}},
        {"Service": {"Verb": "set", "Node": "n", "Service": {"ID": "w1", "Service": "web", "Port": 80}}},
        {"Check": {"Verb": "set", "Check": {"Node": "n", "CheckID": "c", "Name": "C", "Status": "passing", "ServiceID": "w1"}}},
    ]));
    let got = bench.put("/v1/txn", body).await;
    assert_eq!(got.status, 200, "{got:?}");
    let results = got.json()["Results"].clone();
    assert_eq!(results[0]["Node"]["Meta"]["Rack"], "A");
    assert_eq!(results[1]["Service"]["Service"], "web");
    assert_eq!(results[2]["Check"]["ServiceName"], "web");
    let cas = |index: u64| {
        ops(
            json!([{"Service": {"Verb": "cas", "Node": "n", "Service": {"ID": "w1", "Service": "web", "Port": 81, "ModifyIndex": index}}}]),
        )
    };
    let got = bench.put("/v1/txn", cas(9)).await;
    assert_eq!(
        got.json()["Errors"][0]["What"],
        "failed to set service \"w1\" on node \"n\", index is stale"
    );
    assert_eq!(bench.put("/v1/txn", cas(2)).await.status, 200);
    let body = ops(json!([{"Service": {"Verb": "delete", "Node": "n", "Service": {"ID": "w1"}}}]));
    bench
        .put("/v1/txn", body)
        .await
        .is(200, r#"{"Results":[],"Errors":null}"#);
}

#[tokio::test]
async fn too_much_is_refused_before_anything_is_done() {
    let bench = Bench::new();
    let many: Vec<_> = (0..129)
        .map(|n| json!({"KV": {"Verb": "set", "Key": format!("k{n}")}}))
        .collect();
    bench
        .put("/v1/txn", ops(json!(many)))
        .await
        .is(413, "Transaction contains too many operations (129 > 128)");
    assert_eq!(
        bench.put("/v1/txn", ops(json!(many[..128]))).await.status,
        200
    );
    let got = bench.put("/v1/txn", vec![b'['; 600_000]).await;
    assert_eq!(got.status, 413);
    assert!(got.body.ends_with("#txn_max_req_len."), "{}", got.body);
    let bench = Bench::with(Settings {
        kv_max_value_size: 8,
        ..settings()
    });
    let body =
        ops(json!([{"KV": {"Verb": "set", "Key": "a", "Value": "YWFhYWFhYWFhYWFhYWFhYWFhYWE="}}]));
    assert_eq!(bench.put("/v1/txn", body).await.status, 413);
}

#[tokio::test]
async fn a_body_that_is_no_list_of_operations_is_refused() {
    let bench = Bench::new();
    bench
        .put("/v1/txn", "")
        .await
        .is(400, "Failed to parse body: EOF");
    for body in [
        "{}",
        "[1]",
        "[{\"KV\":5}]",
        "[{\"KV\":{\"Verb\":\"set\",\"Flags\":-1}}]",
    ] {
        let got = bench.put("/v1/txn", body).await;
        assert_eq!(got.status, 400, "{body}");
        assert!(got.body.starts_with("Failed to parse body: "), "{got:?}");
    }
    assert_eq!(bench.get("/v1/txn").await.status, 405);
}
