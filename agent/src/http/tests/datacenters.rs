//! Requests for other datacenters.

use super::*;

impl Bench {
    /// A bench that knows further datacenters: `dc2` answers, nobody of `dc3` lives.
    fn with_others(settings: Settings) -> (Self, Arc<Fake>) {
        let bench = Self::with(settings);
        let dc2 = Arc::new(Fake {
            datacenter: "dc2",
            ..Fake::new()
        });
        let dc3 = Arc::new(Fake::broken(NodeError::Unreachable));
        let others = vec![("dc3".to_owned(), dc3), ("dc2".to_owned(), dc2.clone())];
        *bench.fake.others.lock().unwrap() = others;
        (bench, dc2)
    }
}

fn web(address: &str, datacenter: &str) -> String {
    json!({"Node": "n", "Address": address, "Datacenter": datacenter,
           "TaggedAddresses": {"wan": "9.9.9.9"}, "Service": {"Service": "web", "Port": 80}})
    .to_string()
}

#[tokio::test]
async fn a_key_is_written_and_read_in_the_datacenter_that_is_asked() {
    let (bench, _) = Bench::with_others(settings());
    bench.put("/v1/kv/k?dc=dc2", "there").await.is(200, "true");
    bench.get("/v1/kv/k?raw&dc=dc2").await.is(200, "there");
    assert_eq!(bench.get("/v1/kv/k").await.status, 404);
    assert_eq!(bench.get("/v1/kv/k?dc=dc1").await.status, 404);
    bench.delete("/v1/kv/k?dc=dc2").await.is(200, "true");
    assert_eq!(bench.get("/v1/kv/k?dc=dc2").await.status, 404);
}

#[tokio::test]
async fn every_family_goes_where_it_is_asked_to() {
    let (bench, dc2) = Bench::with_others(settings());
    let body = web("10.0.0.1", "");
    bench
        .put("/v1/catalog/register?dc=dc2", &body)
        .await
        .is(200, "true");
    let nodes = |path: &'static str| async { bench.get(path).await.json() };
    assert_eq!(nodes("/v1/catalog/nodes").await, json!([]));
    assert_eq!(nodes("/v1/catalog/nodes?dc=dc2").await[0]["Node"], "n");
    assert_eq!(
        nodes("/v1/catalog/nodes?dc=dc2").await[0]["Datacenter"],
        "dc2"
    );
    assert_eq!(
        nodes("/v1/health/service/web?dc=dc2&near=_agent").await[0]["Service"]["Port"],
        80
    );
    let txn = r#"[{"KV":{"Verb":"set","Key":"t","Value":"dg=="}}]"#;
    assert_eq!(bench.put("/v1/txn?dc=dc2", txn).await.status, 200);
    assert_eq!(bench.get("/v1/kv/t?dc=dc2").await.status, 200);
    let session = bench
        .put("/v1/session/create?dc=dc2", r#"{"Node":"n","Checks":[]}"#)
        .await;
    let id = session.json()["ID"].as_str().unwrap().to_owned();
    assert_eq!(nodes("/v1/session/list").await, json!([]));
    let renewed = bench
        .put(&format!("/v1/session/renew/{id}?dc=dc2"), "")
        .await;
    assert_eq!(renewed.json()[0]["ID"], id.as_str());
    bench.put("/v1/event/fire/deploy?dc=dc2", "x").await.json();
    assert_eq!(
        (bench.fake.events.list().len(), dc2.events.list().len()),
        (0, 1)
    );
    bench
        .get("/v1/operator/raft/configuration?dc=dc2")
        .await
        .json();
    bench.get("/v1/operator/autopilot/health?dc=dc2").await;
    let asked = dc2.calls.lock().unwrap().join(", ");
    assert_eq!(asked, format!("renew {id}, configuration false, health"));
    bench
        .get("/v1/status/leader?dc=dc2")
        .await
        .is(200, "\"127.0.0.1:8300\"");
    assert!(bench.calls().is_empty(), "nothing of it was asked here");
}

#[tokio::test]
async fn a_body_may_name_the_datacenter_too_and_the_request_counts_more() {
    let (bench, _) = Bench::with_others(settings());
    let count =
        |path: &'static str| async { bench.get(path).await.json().as_array().unwrap().len() };
    let body = web("10.0.0.1", "dc2");
    bench
        .put("/v1/catalog/register", &body)
        .await
        .is(200, "true");
    assert_eq!(
        (
            count("/v1/catalog/nodes").await,
            count("/v1/catalog/nodes?dc=dc2").await
        ),
        (0, 1)
    );
    bench
        .put("/v1/catalog/register?dc=dc1", &body)
        .await
        .is(200, "true");
    assert_eq!(count("/v1/catalog/nodes").await, 1);
    let gone = r#"{"Node":"n","Datacenter":"dc2"}"#;
    bench
        .put("/v1/catalog/deregister", gone)
        .await
        .is(200, "true");
    assert_eq!(
        (
            count("/v1/catalog/nodes").await,
            count("/v1/catalog/nodes?dc=dc2").await
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn unknown_datacenters_and_those_that_are_down_are_told_apart() {
    let (bench, _) = Bench::with_others(settings());
    for (method, path) in [
        ("GET", "/v1/kv/a"),
        ("PUT", "/v1/kv/a"),
        ("GET", "/v1/status/leader"),
        ("GET", "/v1/status/peers"),
        ("GET", "/v1/catalog/nodes"),
        ("PUT", "/v1/event/fire/x"),
        ("GET", "/v1/operator/raft/configuration"),
        ("GET", "/v1/snapshot"),
    ] {
        let ask = |dc: &str| bench.send(method, format!("{path}?dc={dc}").leak(), "");
        ask("dc9").await.is(500, "No path to datacenter");
        ask("dc3")
            .await
            .is(500, "Remote DC has no server currently reachable");
    }
}

#[tokio::test]
async fn an_agent_answers_for_itself_whichever_datacenter_is_asked_if_there_is_one() {
    let (bench, _) = Bench::with_others(settings());
    for path in [
        "/v1/agent/self",
        "/v1/agent/services",
        "/v1/event/list",
        "/v1/catalog/datacenters",
    ] {
        let of = |dc: &str| bench.get(format!("{path}?dc={dc}").leak());
        let here = bench.get(path).await;
        assert_eq!(here.status, 200);
        assert_eq!(of("dc1").await.body, here.body);
        assert_eq!(of("dc2").await.body, here.body, "{path}");
        of("dc9").await.is(500, "No path to datacenter");
    }
    let put = r#"{"Name":"own"}"#;
    assert_eq!(
        bench
            .put("/v1/agent/service/register?dc=dc2", put)
            .await
            .status,
        200
    );
    assert_eq!(
        bench.get("/v1/agent/services").await.json()["own"]["Service"],
        "own"
    );
}

#[tokio::test]
async fn datacenters_are_listed_the_nearest_first_with_the_places_of_their_servers() {
    let (bench, _) = Bench::with_others(settings());
    let names = bench.get("/v1/catalog/datacenters").await.json();
    assert_eq!(names, json!(["dc1", "dc3", "dc2"]));
    let places = bench.get("/v1/coordinate/datacenters").await.json();
    assert_eq!(places[1]["Datacenter"], "dc3");
    assert_eq!(places[1]["Coordinates"][0]["Node"], "a");
}

#[tokio::test]
async fn config_entries_and_intentions_are_written_in_the_primary_datacenter() {
    let secondary = Settings {
        primary_datacenter: "dc2".into(),
        ..settings()
    };
    let (bench, _) = Bench::with_others(secondary);
    let entry = r#"{"Kind":"service-defaults","Name":"web","Protocol":"http"}"#;
    for dc in ["", "?dc=dc1", "?dc=dc3"] {
        bench
            .put(&format!("/v1/config{dc}"), entry)
            .await
            .is(200, "true");
    }
    let path = "/v1/config/service-defaults/web";
    assert_eq!(
        bench.get(path).await.status,
        404,
        "it is not copied here yet"
    );
    assert_eq!(bench.get(&format!("{path}?dc=dc2")).await.status, 200);
    let put = "/v1/connect/intentions/exact?source=a&destination=web";
    bench
        .put(put, r#"{"Action":"allow"}"#)
        .await
        .is(200, "true");
    assert_eq!(bench.get("/v1/connect/intentions").await.json(), json!([]));
    let there = bench.get("/v1/connect/intentions?dc=dc2").await.json();
    assert_eq!(there[0]["SourceName"], "a");
    assert_eq!(bench.delete(path).await.status, 200);
    assert_eq!(bench.get(&format!("{path}?dc=dc2")).await.status, 404);
    let own = bench.get("/v1/agent/self").await.json();
    assert_eq!(own["Config"]["PrimaryDatacenter"], "dc2");
    assert_eq!(own["Config"]["Datacenter"], "dc1");
}

#[tokio::test]
async fn a_prepared_query_looks_elsewhere_when_there_is_nothing_here() {
    let (bench, _) = Bench::with_others(settings());
    bench
        .put("/v1/catalog/register?dc=dc2", web("10.0.0.1", ""))
        .await;
    let make = |name: &str, failover: Value| {
        json!({"Name": name, "Service": {"Service": "web", "Failover": failover}}).to_string()
    };
    for (name, failover, failovers, datacenter, found) in [
        ("none", json!({}), 0, "dc1", 0),
        ("near", json!({"NearestN": 2}), 2, "dc2", 1),
        ("one", json!({"NearestN": 1}), 1, "dc1", 0),
        ("named", json!({"Datacenters": ["dc9", "dc2"]}), 1, "dc2", 1),
    ] {
        bench
            .send("POST", "/v1/query", make(name, failover))
            .await
            .json();
        let answer = bench.get(&format!("/v1/query/{name}/execute")).await.json();
        assert_eq!(answer["Failovers"], failovers, "{name}");
        assert_eq!(answer["Datacenter"], datacenter, "{name}");
        assert_eq!(answer["Nodes"].as_array().unwrap().len(), found, "{name}");
    }
    bench.put("/v1/catalog/register", web("10.0.0.2", "")).await;
    let answer = bench.get("/v1/query/near/execute").await.json();
    assert_eq!(
        (&answer["Failovers"], &answer["Datacenter"]),
        (&json!(0), &json!("dc1"))
    );
}

#[tokio::test]
async fn answers_of_other_datacenters_show_addresses_for_other_datacenters() {
    let translating = Settings {
        translate_wan_addrs: true,
        ..settings()
    };
    for (settings, wanted, header) in [
        (settings(), "10.0.0.1", ""),
        (translating, "9.9.9.9", "true"),
    ] {
        let (bench, _) = Bench::with_others(settings);
        for dc in ["dc1", "dc2"] {
            let path = format!("/v1/catalog/register?dc={dc}");
            bench.put(&path, web("10.0.0.1", "")).await.is(200, "true");
        }
        let there = bench.get("/v1/catalog/nodes?dc=dc2").await;
        assert_eq!(there.json()[0]["Address"], wanted);
        assert_eq!(there.header("x-consul-translate-addresses"), header);
        let there = bench.get("/v1/health/service/web?dc=dc2").await.json();
        assert_eq!(there[0]["Node"]["Address"], wanted);
        let here = bench.get("/v1/catalog/nodes").await.json();
        assert_eq!(here[0]["Address"], "10.0.0.1");
    }
}

#[tokio::test]
async fn the_pool_of_all_datacenters_is_asked_for_by_wan() {
    let bench = Bench::new();
    let members = bench.get("/v1/agent/members?wan=1").await.json();
    assert_eq!(members[0]["Name"], "a.dc1");
    assert_eq!(members.as_array().unwrap().len(), 1);
    bench.put("/v1/agent/join/b?wan=1", "").await.is(200, "");
    bench
        .put("/v1/agent/force-leave/b.dc2?wan=1&prune", "")
        .await
        .is(200, "");
    assert_eq!(
        bench.calls(),
        ["join -wan b", "force-leave -wan b.dc2 true"]
    );
}
