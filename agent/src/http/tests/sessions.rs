use super::*;

async fn create(bench: &Bench, body: &str) -> String {
    let got = bench.put("/v1/session/create", body).await;
    assert_eq!(got.status, 200, "{got:?}");
    got.json()["ID"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_is_made_shown_and_ended() {
    let bench = Bench::new();
    bench.register("a");
    let id = create(&bench, "").await;
    let expected = json!([{
        "ID": id, "Name": "", "Node": "a", "LockDelay": 15_000_000_000_u64, "Behavior": "release", "TTL": "",
        "NodeChecks": ["serfHealth"], "ServiceChecks": null, "CreateIndex": 3, "ModifyIndex": 3,
    }]);
    for path in ["list".to_owned(), "node/A".into(), format!("info/{id}")] {
        let got = bench.get(&format!("/v1/session/{path}")).await;
        assert_eq!(got.json(), expected, "{path}");
        assert_eq!(got.index(), 3, "{path}");
    }
    let renewed = bench.put(&format!("/v1/session/renew/{id}"), "").await;
    assert_eq!(renewed.json(), expected);
    bench
        .put(&format!("/v1/session/destroy/{id}"), "")
        .await
        .is(200, "true");
    bench
        .put(&format!("/v1/session/destroy/{id}"), "")
        .await
        .is(200, "true");
    bench.get("/v1/session/list").await.is(200, "[]");
    bench
        .get(&format!("/v1/session/info/{id}"))
        .await
        .is(200, "[]");
    bench
        .put(&format!("/v1/session/renew/{id}"), "")
        .await
        .is(404, &format!("Session id '{id}' not found"));
}

#[tokio::test]
async fn a_lock_goes_to_one_session_and_comes_back() {
    let bench = Bench::new();
    bench.register("a");
    let (first, second) = (create(&bench, "{}").await, create(&bench, "{}").await);
    bench
        .put(&format!("/v1/kv/k?acquire={first}"), "1")
        .await
        .is(200, "true");
    bench
        .put(&format!("/v1/kv/k?acquire={second}"), "2")
        .await
        .is(200, "false");
    let entry = bench.get("/v1/kv/k").await.json();
    assert_eq!(
        (&entry[0]["Session"], &entry[0]["LockIndex"]),
        (&json!(first), &json!(1))
    );
    bench
        .put(&format!("/v1/kv/k?release={second}"), "3")
        .await
        .is(200, "false");
    bench
        .put(&format!("/v1/kv/k?release={first}"), "3")
        .await
        .is(200, "true");
    assert_eq!(bench.get("/v1/kv/k").await.json()[0].get("Session"), None);
}

#[tokio::test]
async fn bad_requests_are_refused_in_consuls_words() {
    let bench = Bench::new();
    bench
        .put("/v1/session/create", "")
        .await
        .is(500, "Missing node registration");
    bench.register("a");
    for (body, status, text) in [
        ("{", 400, "Request decode failed: unexpected EOF"),
        (
            r#"{"NodeChecks":["zz"]}"#,
            500,
            "Missing check 'zz' registration",
        ),
        (
            r#"{"TTL":"1s"}"#,
            500,
            "Invalid Session TTL '1000000000', must be between [10s=24h0m0s]",
        ),
        (r#"{"Behavior":"zz"}"#, 500, "Invalid Behavior setting 'zz'"),
        (r#"{"Node":"nobody"}"#, 500, "Missing node registration"),
    ] {
        bench.put("/v1/session/create", body).await.is(status, text);
    }
    for (method, path, text) in [
        ("PUT", "/v1/session/destroy/", "Missing session"),
        ("PUT", "/v1/session/renew/", "Missing session"),
        ("GET", "/v1/session/info/", "Missing session"),
        ("GET", "/v1/session/node/", "Missing node name"),
    ] {
        bench.send(method, path, "").await.is(400, text);
    }
    bench.get("/v1/session/info/bad").await.is(200, "[]");
    bench
        .put("/v1/session/destroy/bad", "")
        .await
        .is(200, "true");
    bench
        .put("/v1/session/renew/bad", "")
        .await
        .is(404, "Session id 'bad' not found");
}
