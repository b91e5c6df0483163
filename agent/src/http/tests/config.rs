//! `/v1/config`.

use super::*;

const SPLITTER: &str =
    r#"{"kind": "service-splitter", "name": "web", "splits": [{"weight": 100}]}"#;

/// A node on which every service speaks HTTP, as splitters need it.
async fn speaking_http() -> Bench {
    let bench = Bench::new();
    let entry = r#"{"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}"#;
    bench.put("/v1/config", entry).await.is(200, "true");
    bench
}

#[tokio::test]
async fn an_entry_is_written_read_listed_and_removed() {
    let bench = speaking_http().await;
    bench.put("/v1/config", SPLITTER).await.is(200, "true");
    let one = bench.get("/v1/config/service-splitter/web").await;
    let index = one.index();
    assert_eq!(
        one.json(),
        json!({"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 100}],
               "CreateIndex": index, "ModifyIndex": index})
    );
    // The same again changes nothing.
    bench.put("/v1/config", SPLITTER).await.is(200, "true");
    assert_eq!(
        bench.get("/v1/config/service-splitter/web").await.index(),
        index
    );
    bench
        .put(
            "/v1/config",
            r#"{"Kind": "service-defaults", "Name": "web", "Protocol": "http"}"#,
        )
        .await
        .is(200, "true");
    let list = bench.get("/v1/config/service-splitter").await;
    assert_eq!(list.json(), json!([one.json()]));
    assert_eq!(
        bench
            .get("/v1/config/")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let filtered = bench
        .get("/v1/config/service-defaults?filter=Protocol%20==%20tcp")
        .await;
    filtered.is(200, "[]");
    bench
        .delete("/v1/config/service-splitter/web")
        .await
        .is(200, "{}");
    bench
        .delete("/v1/config/service-splitter/web")
        .await
        .is(200, "{}");
    let gone = bench.get("/v1/config/service-splitter/web").await;
    gone.is(
        404,
        "Config entry not found for \"service-splitter\" / \"web\"",
    );
    assert!(gone.index() > index);
    bench.get("/v1/config/service-splitter").await.is(200, "[]");
}

#[tokio::test]
async fn changes_may_depend_on_an_index() {
    let bench = speaking_http().await;
    bench
        .put("/v1/config?cas=7", SPLITTER)
        .await
        .is(200, "false");
    bench
        .put("/v1/config?cas=0", SPLITTER)
        .await
        .is(200, "true");
    bench
        .put("/v1/config?cas=0", SPLITTER)
        .await
        .is(200, "false");
    let index = bench.get("/v1/config/service-splitter/web").await.index();
    let other = SPLITTER.replace("100}", "100, \"service\": \"b\"}");
    bench
        .put(&format!("/v1/config?cas={index}"), other)
        .await
        .is(200, "true");
    let path = "/v1/config/service-splitter/web";
    bench
        .delete(&format!("{path}?cas={index}"))
        .await
        .is(200, "false");
    let index = bench.get(path).await.index();
    bench
        .delete(&format!("{path}?cas={index}"))
        .await
        .is(200, "true");
}

#[tokio::test]
async fn a_change_wakes_who_waits_for_it() {
    let bench = speaking_http().await;
    let index = bench.get("/v1/config/service-splitter").await.index();
    let path = format!("/v1/config/service-splitter?index={index}&wait=10m");
    let (woken, _) = tokio::join!(bench.get(&path), bench.put("/v1/config", SPLITTER));
    assert_eq!(woken.json()[0]["Name"], "web");
}

#[tokio::test]
async fn bad_requests_are_refused_in_consuls_words() {
    let bench = Bench::new();
    bench
        .put("/v1/config", "{")
        .await
        .is(400, "Request decoding failed: unexpected EOF");
    bench
        .put("/v1/config", "[]")
        .await
        .is(400, "Request decoding failed: the entry is not an object");
    bench.put("/v1/config", r#"{"Kind": "zz"}"#).await.is(
        400,
        "Request decoding failed: invalid config entry kind: zz",
    );
    bench
        .put(
            "/v1/config",
            r#"{"Kind": "service-splitter", "Name": "web"}"#,
        )
        .await
        .is(500, "no splits configured");
    bench
        .put("/v1/config?cas=x", SPLITTER)
        .await
        .is(500, "strconv.ParseUint: parsing \"x\": invalid syntax");
    bench
        .get("/v1/config/zz")
        .await
        .is(500, "invalid config entry kind: zz");
    bench
        .delete("/v1/config/zz/x")
        .await
        .is(400, "invalid config entry kind: zz");
    bench
        .delete("/v1/config/service-splitter")
        .await
        .is(404, "Must provide both a kind and name to delete");
    assert_eq!(bench.get("/v1/config").await.header("allow"), "OPTIONS,PUT");
    assert_eq!(
        bench
            .put("/v1/config/service-splitter", "")
            .await
            .header("allow"),
        "OPTIONS,GET,DELETE"
    );
    bench.get("/v1/config/service-splitter").await.is(200, "[]");
}

#[tokio::test]
async fn entries_are_part_of_a_saved_state() {
    let bench = speaking_http().await;
    bench.put("/v1/config", SPLITTER).await.is(200, "true");
    let saved = bench.fake.shared.load().encode();
    let store = Store::decode(&saved).unwrap();
    assert!(store == *bench.fake.shared.load());
    let query = Query::Entries {
        kind: String::new(),
    };
    assert_eq!(store.query(&query), bench.fake.shared.load().query(&query));
    assert_eq!(
        store.index_of(&query),
        bench.fake.shared.load().index_of(&query)
    );
}
