//! `/v1/connect/intentions`.

use super::*;

const PATH: &str = "/v1/connect/intentions";

fn intention(source: &str, destination: &str, action: &str) -> String {
    json!({"SourceName": source, "DestinationName": destination, "SourceType": "consul", "Action": action,
           "Meta": {"owner": "me"}})
    .to_string()
}

#[tokio::test]
async fn an_intention_lives_by_its_id() {
    let bench = Bench::new();
    let made = bench
        .send("POST", PATH, intention("web", "db", "allow"))
        .await
        .json();
    let path = format!("{PATH}/{}", made["ID"].as_str().unwrap());
    let one = bench.get(&path).await.json();
    for (field, value) in [
        ("ID", made["ID"].clone()),
        ("SourceNS", json!("default")),
        ("SourceName", json!("web")),
        ("DestinationName", json!("db")),
        ("SourceType", json!("consul")),
        ("Action", json!("allow")),
        ("Meta", json!({"owner": "me"})),
        ("Precedence", json!(9)),
    ] {
        assert_eq!(one[field], value, "{field}");
    }
    assert!(one["CreatedAt"].is_string(), "{one}");
    let again = bench
        .send("POST", PATH, intention("web", "db", "deny"))
        .await;
    again.is(500, "Duplicate intention found: web => db");
    let put = bench.put(&path, intention("web", "db", "deny")).await;
    assert_eq!(put.json(), made);
    assert_eq!(bench.get(&path).await.json()["Action"], "deny");
    let moved = bench.put(&path, intention("web", "cache", "deny")).await;
    moved.is(500, "Cannot modify Source or Destination of an intention");
    // It is a source of a config entry.
    let entry = bench.get("/v1/config/service-intentions/db").await.json();
    assert_eq!(entry["Sources"][0]["LegacyID"], made["ID"]);
    bench.delete(&path).await.is(200, "true");
    bench.get(&path).await.is(404, "Intention not found");
    assert_eq!(
        bench.get("/v1/config/service-intentions/db").await.status,
        404
    );
}

#[tokio::test]
async fn an_intention_lives_by_its_ends() {
    let bench = Bench::new();
    let path = format!("{PATH}/exact?source=web&destination=db");
    bench.get(&path).await.is(404, "Intention not found");
    bench
        .put(&path, r#"{"Action": "allow"}"#)
        .await
        .is(200, "true");
    bench
        .put(&path, r#"{"Action": "deny"}"#)
        .await
        .is(200, "true");
    let one = bench.get(&path).await.json();
    assert_eq!((&one["Action"], &one["ID"]), (&json!("deny"), &Value::Null));
    let list = bench.get(PATH).await;
    assert_eq!(list.json(), json!([one]));
    let held = bench
        .get(&format!("{PATH}?filter=Action%20==%20allow"))
        .await;
    held.is(200, "[]");
    bench.delete(&path).await.is(200, "true");
    bench.delete(&path).await.is(200, "true");
    bench.get(PATH).await.is(200, "[]");
}

#[tokio::test]
async fn the_most_exact_one_decides() {
    let bench = Bench::new();
    for (source, destination, action) in [
        ("*", "*", "deny"),
        ("web", "*", "allow"),
        ("*", "db", "deny"),
        ("web", "db", "allow"),
    ] {
        let path = format!("{PATH}/exact?source={source}&destination={destination}");
        bench
            .put(&path, json!({"Action": action}).to_string())
            .await
            .is(200, "true");
    }
    let allowed = |source: &'static str, destination: &'static str| {
        let bench = &bench;
        async move {
            let path = format!("{PATH}/check?source={source}&destination={destination}");
            bench.get(&path).await.json()["Allowed"].as_bool().unwrap()
        }
    };
    assert!(allowed("web", "db").await && allowed("web", "cache").await);
    assert!(!allowed("api", "db").await && !allowed("api", "cache").await);
    let found = bench
        .get(&format!("{PATH}/match?by=destination&name=db&name=x"))
        .await
        .json();
    let ranks = |name: &str| {
        let all = found[name].as_array().unwrap().iter();
        all.map(|one| one["Precedence"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((ranks("db"), ranks("x")), (vec![9, 8, 6, 5], vec![6, 5]));
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let bench = Bench::new();
    bench
        .get(&format!("{PATH}/match"))
        .await
        .is(400, "required query parameter 'by' not set");
    bench.get(&format!("{PATH}/match?by=x&name=y")).await.is(
        400,
        "'by' parameter must be one of 'source' or 'destination'",
    );
    bench
        .get(&format!("{PATH}/check?source=a"))
        .await
        .is(400, "required query parameter 'destination' not set");
    bench
        .get(&format!("{PATH}/zz"))
        .await
        .is(400, "Invalid intention id \"zz\": not a UUID");
    let refused = bench
        .send("POST", PATH, intention("web", "db", "maybe"))
        .await;
    refused.is(
        500,
        "1 error occurred:\n\t* Action must be set to 'allow' or 'deny'\n\n",
    );
    assert_eq!(bench.send("POST", PATH, "{").await.status, 400);
    assert_eq!(
        bench.put(PATH, "").await.header("allow"),
        "OPTIONS,GET,POST"
    );
    assert_eq!(
        bench
            .put(&format!("{PATH}/check"), "")
            .await
            .header("allow"),
        "OPTIONS,GET"
    );
    bench.get(PATH).await.is(200, "[]");
}
