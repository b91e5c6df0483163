//! `/v1/coordinate/` and `?near=`.

use super::*;

/// A place so many seconds from the origin.
fn at(x: f64) -> Value {
    json!({"Vec": [x, 0, 0, 0, 0, 0, 0, 0], "Error": 0.5, "Adjustment": 0, "Height": 0})
}

impl Bench {
    async fn place(&self, node: &str, x: f64) {
        self.register(node);
        let body = json!({"Node": node, "Segment": "", "Coord": at(x)});
        let path = "/v1/coordinate/update";
        self.put(path, body.to_string()).await.is(200, "");
    }
}

#[tokio::test]
async fn places_are_told_and_shown() {
    let bench = Bench::new();
    bench.get("/v1/coordinate/nodes").await.is(200, "[]");
    bench.place("b", 0.1).await;
    bench.place("a", 0.2).await;
    let all = bench.get("/v1/coordinate/nodes").await;
    let expected = |node: &str, x: f64| json!({"Node": node, "Segment": "", "Coord": {"Vec": [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "Error": 0.5, "Adjustment": 0.0, "Height": 0.0}});
    assert_eq!(all.json(), json!([expected("a", 0.2), expected("b", 0.1)]));
    let one = bench.get("/v1/coordinate/node/B").await;
    assert_eq!(one.json(), json!([expected("b", 0.1)]));
    assert_eq!(one.index(), all.index());
    let unknown = bench.get("/v1/coordinate/node/zz").await;
    unknown.is(404, "");
    assert_eq!(unknown.index(), all.index());
    let none = bench.get("/v1/coordinate/nodes?segment=zz").await;
    none.is(200, "[]");
    // A node that is not in the catalog has no place, and one that leaves it loses its own.
    let body = json!({"Node": "zz", "Coord": at(0.1)}).to_string();
    bench.put("/v1/coordinate/update", body).await.is(200, "");
    let gone = json!({"Node": "b"}).to_string();
    bench.put("/v1/catalog/deregister", gone).await;
    let left = bench.get("/v1/coordinate/nodes").await;
    assert_eq!(left.json(), json!([expected("a", 0.2)]));
    assert!(left.index() > all.index());
}

#[tokio::test]
async fn the_servers_of_the_datacenter_have_places() {
    let bench = Bench::new();
    let found = bench.get("/v1/coordinate/datacenters").await.json();
    assert_eq!(found[0]["Datacenter"], "dc1");
    assert_eq!(found[0]["AreaID"], "wan");
}

#[tokio::test]
async fn the_nearest_come_first() {
    let bench = Bench::new();
    for (node, x) in [("a", 0.0), ("b", 0.3), ("c", 0.1)] {
        bench.place(node, x).await;
        let body = json!({"Node": node, "Address": "10.0.0.1", "Service": {"Service": "web"},
                          "Check": {"CheckID": "x", "Name": "x", "Status": "passing"}});
        bench.put("/v1/catalog/register", body.to_string()).await;
    }
    let names = |answer: Value, pointer: &str| {
        let entries = answer.as_array().unwrap().clone();
        let names = entries
            .iter()
            .map(|e| e.pointer(pointer).unwrap().as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join("")
    };
    for (path, pointer) in [
        ("/v1/catalog/nodes", "/Node"),
        ("/v1/catalog/service/web", "/Node"),
        ("/v1/health/service/web", "/Node/Node"),
    ] {
        for (near, order) in [("_agent", "acb"), ("B", "bca"), ("zz", "abc")] {
            let answer = bench.get(&format!("{path}?near={near}")).await.json();
            assert_eq!(names(answer, pointer), order, "{path} {near}");
        }
    }
    let answer = bench.get("/v1/health/state/passing?near=b").await.json();
    assert_eq!(names(answer, "/Node"), "bbccaa");
    let body = json!({"Name": "q", "Service": {"Service": "web", "Near": "b"}}).to_string();
    bench.send("POST", "/v1/query", body).await.json();
    let found = bench.get("/v1/query/q/execute").await.json();
    assert_eq!(names(found["Nodes"].clone(), "/Node/Node"), "bca");
    let found = bench.get("/v1/query/q/execute?near=_agent").await.json();
    assert_eq!(names(found["Nodes"].clone(), "/Node/Node"), "acb");
}

#[tokio::test]
async fn what_is_no_place_is_refused() {
    let bench = Bench::new();
    let path = "/v1/coordinate/update";
    bench
        .put(path, "{")
        .await
        .is(400, "Request decode failed: unexpected EOF");
    let body = json!({"Node": "a", "Coord": {"Vec": [1, 2]}}).to_string();
    bench
        .put(path, body)
        .await
        .is(500, "incompatible coordinate");
    bench
        .put(path, r#"{"Node":"a"}"#)
        .await
        .is(500, "incompatible coordinate");
    assert_eq!(bench.get(path).await.header("allow"), "OPTIONS,PUT");
    bench
        .get("/v1/coordinate/node/")
        .await
        .is(400, "Missing node name");
    assert_eq!(bench.put("/v1/coordinate/nodes", "").await.status, 405);
}
