//! `/v1/txn` end to end: all or nothing on every server, whoever is asked.

use serde_json::{Value, json};
use tests::{Cluster, Http, Reply, SERVERS};

fn txn(http: Http, mode: &str, ops: &Value) -> Reply {
    let reply = http.put(&format!("/v1/txn{mode}"), ops.to_string());
    reply.expect("an answer to a transaction")
}

#[test]
fn transactions_are_whole_on_every_server() {
    let cluster = Cluster::formed();
    let leader = cluster.leader_among(&SERVERS);
    for name in SERVERS {
        let http = cluster[name].http();
        let key = |part: &str| format!("{name}/{part}");
        let reply = txn(
            http,
            "",
            &json!([
                {"KV": {"Verb": "cas", "Key": key("a"), "Value": "MQ==", "Index": 0}},
                {"KV": {"Verb": "set", "Key": key("b"), "Value": "Mg=="}},
                {"Node": {"Verb": "set", "Node": {"Node": format!("web-{name}"), "Address": "10.0.0.1"}}},
                {"Service": {"Verb": "set", "Node": format!("web-{name}"), "Service": {"Service": "web", "Port": 80}}},
            ]),
        );
        assert_eq!(reply.status, 200, "{}", reply.text());
        let results = reply.json()["Results"].clone();
        let index = results[0]["KV"]["ModifyIndex"].clone();
        for (at, kind) in ["KV", "KV", "Node", "Service"].iter().enumerate() {
            assert_eq!(results[at][kind]["CreateIndex"], index, "{results}");
        }

        let refused = txn(
            http,
            "",
            &json!([
                {"KV": {"Verb": "set", "Key": key("b"), "Value": "Mw=="}},
                {"KV": {"Verb": "cas", "Key": key("a"), "Value": "Mw==", "Index": 0}},
            ]),
        );
        assert_eq!(refused.status, 409);
        let errors = refused.json()["Errors"].clone();
        let what = format!("failed to set key \"{name}/a\", index is stale");
        assert_eq!(errors, json!([{"OpIndex": 1, "What": what}]));

        let tree = json!([{"KV": {"Verb": "get-tree", "Key": key("")}}]);
        for mode in ["", "?consistent"] {
            let read = txn(http, mode, &tree);
            assert_eq!(read.status, 200);
            let values: Vec<_> = (0..2)
                .map(|at| read.json()["Results"][at]["KV"]["Value"].clone())
                .collect();
            assert_eq!(values, ["MQ==", "Mg=="]);
            assert_eq!(read.json()["KnownLeader"], true);
        }
    }
    // What the leader acknowledged is on the others, in whatever they are asked.
    cluster.wait_until_equal(&SERVERS);
    for name in SERVERS {
        let nodes = cluster[name].json("/v1/catalog/service/web?stale");
        assert_eq!(
            nodes.as_array().map(Vec::len),
            Some(3),
            "{name} of {leader}"
        );
    }
}
