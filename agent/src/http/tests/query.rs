use super::*;
use crate::state::Service;

impl Bench {
    /// An instance of `web` with a check in a state.
    fn web(&self, node: &str, tags: &[&str], status: CheckStatus) {
        let service = Service {
            id: "web".into(),
            service: "web".into(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Service::default()
        };
        let check = Check {
            check_id: "c".into(),
            service_id: "web".into(),
            status,
            ..Check::default()
        };
        self.fake.apply(Command::Register(Box::new(Register {
            node: NodeRow {
                node: node.into(),
                address: "10.0.0.1".into(),
                ..NodeRow::default()
            },
            skip_node_update: false,
            services: vec![service],
            checks: vec![check],
        })));
    }

    async fn prepare(&self, query: Value) -> String {
        let got = self.send("POST", "/v1/query", query.to_string()).await;
        assert_eq!(got.status, 200, "{got:?}");
        got.json()["ID"].as_str().unwrap().to_owned()
    }

    async fn nodes(&self, path: &str) -> Vec<String> {
        let got = self.get(path).await;
        assert_eq!(got.status, 200, "{got:?}");
        let mut nodes: Vec<_> = got.json()["Nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["Node"]["Node"].as_str().unwrap().to_owned())
            .collect();
        nodes.sort();
        nodes
    }
}

#[tokio::test]
async fn a_query_is_kept_run_changed_and_removed() {
    let bench = Bench::new();
    bench.web("n1", &["v1"], CheckStatus::Passing);
    bench.web("n2", &["v2"], CheckStatus::Warning);
    bench.web("n3", &["v1"], CheckStatus::Critical);
    let body = |service: Value| json!({"Name": "q", "Service": service, "DNS": {"TTL": "5s"}});
    let id = bench.prepare(body(json!({"Service": "web"}))).await;
    let shown = bench.get(&format!("/v1/query/{id}")).await;
    assert_eq!(shown.json()[0]["Service"]["Service"], "web");
    assert!(shown.index() > 1);
    assert_eq!(
        bench
            .get("/v1/query")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for path in [
        format!("/v1/query/{id}/execute"),
        "/v1/query/Q/execute".into(),
    ] {
        assert_eq!(bench.nodes(&path).await, ["n1", "n2"]);
    }
    assert_eq!(bench.nodes("/v1/query/q/execute?limit=1").await.len(), 1);
    let got = bench.get("/v1/query/q/execute").await.json();
    assert_eq!(
        (&got["Service"], &got["DNS"]["TTL"]),
        (&json!("web"), &json!("5s"))
    );
    assert_eq!(got["Datacenter"], "dc1");
    for (service, wanted) in [
        (json!({"Service": "web", "OnlyPassing": true}), &["n1"][..]),
        (
            json!({"Service": "web", "Tags": ["V1"], "IgnoreCheckIDs": ["c"]}),
            &["n1", "n3"],
        ),
        (json!({"Service": "web", "Tags": ["!v1"]}), &["n2"]),
        (json!({"Service": "web", "NodeMeta": {"a": "b"}}), &[]),
    ] {
        let path = format!("/v1/query/{id}");
        bench
            .put(&path, body(service).to_string())
            .await
            .is(200, "");
        assert_eq!(bench.nodes("/v1/query/q/execute").await, wanted);
    }
    bench.delete(&format!("/v1/query/{id}")).await.is(200, "");
    bench
        .get("/v1/query/q/execute")
        .await
        .is(404, "Query not found");
    bench
        .get(&format!("/v1/query/{id}"))
        .await
        .is(404, "Query not found");
}

#[tokio::test]
async fn templates_answer_the_longest_prefix_and_can_be_explained() {
    let bench = Bench::new();
    let template = |name: &str, service: &str| json!({"Name": name, "Template": {"Type": "name_prefix_match"}, "Service": {"Service": service}});
    bench.prepare(template("", "all")).await;
    bench.prepare(template("geo-", "${name.suffix}")).await;
    let explained = bench.get("/v1/query/geo-db/explain").await.json();
    assert_eq!(explained["Query"]["Service"]["Service"], "db");
    let explained = bench.get("/v1/query/other/explain").await.json();
    assert_eq!(explained["Query"]["Service"]["Service"], "all");
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let bench = Bench::new();
    let refused = |body: Value| {
        let bench = &bench;
        async move {
            let got = bench.send("POST", "/v1/query", body.to_string()).await;
            assert_eq!(got.status, 500, "{got:?}");
            got.body
        }
    };
    assert_eq!(
        refused(json!({"Service": {"Service": "web"}})).await,
        "Invalid prepared query: Must be bound to a session"
    );
    assert_eq!(
        refused(json!({"Name": "q", "Session": "zz", "Service": {"Service": "web"}})).await,
        "Invalid prepared query: invalid session \"zz\""
    );
    bench
        .prepare(json!({"Name": "q", "Service": {"Service": "web"}}))
        .await;
    assert_eq!(
        refused(json!({"Name": "Q", "Service": {"Service": "web"}})).await,
        "Invalid prepared query: name 'Q' aliases an existing query name"
    );
    let path = format!("/v1/query/{}", Uuid::nil());
    let body = json!({"Name": "x", "Service": {"Service": "web"}}).to_string();
    bench.put(&path, body).await.is(404, "Query not found");
    assert_eq!(bench.get("/v1/query/zz").await.status, 500);
    assert_eq!(bench.put("/v1/query/q/execute", "").await.status, 405);
}

#[tokio::test]
async fn a_query_ends_with_its_session() {
    let bench = Bench::new();
    bench.register("a");
    let session = bench.put("/v1/session/create", "").await.json()["ID"].clone();
    bench
        .prepare(json!({"Session": session, "Service": {"Service": "web"}}))
        .await;
    let path = format!("/v1/session/destroy/{}", session.as_str().unwrap());
    bench.put(&path, "").await.is(200, "true");
    bench.get("/v1/query").await.is(200, "[]");
}
