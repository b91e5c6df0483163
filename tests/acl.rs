//! Tokens: whoever has none gets nothing, wherever they ask.

use std::fs;

use tests::{Cluster, Reply, SERVERS};

/// A token that may do everything.
const MANAGER: &str = "3a1f6c1e-7f3b-4a55-9a86-0d6a8c1f2b10";
/// One that opens an agent when no server is there.
const RECOVERY: &str = "5d2c8a34-1f0e-49f1-8d0f-6a7b9c3e4d21";

/// Three servers and the client D, all of which ask for tokens.
fn guarded() -> Cluster {
    let mut cluster = Cluster::new();
    let file = cluster.path("acl.hcl");
    let text = format!(
        r#"acl {{
             enabled = true
             default_policy = "deny"
             tokens {{ initial_management = "{MANAGER}" agent = "{MANAGER}" agent_recovery = "{RECOVERY}" }}
           }}"#
    );
    fs::write(&file, text).expect("room");
    let file = file.display().to_string();
    let a = cluster.address("A");
    for name in ["A", "B", "C", "D"] {
        let more: &[&str] = match name {
            "A" => &["-server", "-bootstrap"],
            "D" => &["-retry-join", &a],
            _ => &["-server", "-retry-join", &a],
        };
        cluster[name].start(&[more, &["-config-file", &file]].concat());
        cluster[name].wait_until_up();
    }
    tests::eventually("three servers, by a token", || {
        let path = format!("/v1/operator/raft/configuration?token={MANAGER}");
        let reply = ask(&cluster, "D", "GET", &path, "");
        let voters = reply.text().matches("\"Voter\":true").count();
        match (reply.status, voters == SERVERS.len()) {
            (200, true) => Ok(()),
            (status, _) => Err(format!("{status} {}", reply.text())),
        }
    });
    cluster
}

fn ask(cluster: &Cluster, to: &str, method: &str, path: &str, body: &str) -> Reply {
    let reply = cluster[to].http().request(method, path, body.as_bytes());
    reply.expect("an answer")
}

/// The name of a follower.
fn follower(cluster: &Cluster) -> &'static str {
    let leads = |name: &&str| {
        let reply = ask(cluster, name, "GET", "/v1/status/leader", "");
        reply.text().contains(&cluster.address(name))
    };
    let follows = SERVERS.into_iter().find(|name| !leads(name));
    follows.expect("three servers")
}

#[test]
fn whoever_has_no_token_gets_nothing_wherever_they_ask() {
    let cluster = guarded();
    let places = ["A", "B", "C", "D"];
    for place in places {
        let key = format!("/v1/kv/{place}");
        let denied = ask(&cluster, place, "PUT", &key, "x");
        assert_eq!(denied.status, 403, "{}", denied.text());
        let wanted = format!(
            "Permission denied: anonymous token lacks permission 'key:write' on \"{place}\". The anonymous token is used implicitly when a request does not specify a token."
        );
        assert_eq!(denied.text(), wanted);
        let with = |path: &str, token: &str| {
            let sign = if path.contains('?') { '&' } else { '?' };
            format!("{path}{sign}token={token}")
        };
        let unknown = ask(&cluster, place, "PUT", &with(&key, "wrong"), "x");
        assert_eq!(
            (unknown.status, unknown.text().as_str()),
            (403, "ACL not found")
        );
        let done = ask(&cluster, place, "PUT", &with(&key, MANAGER), "x");
        assert_eq!((done.status, done.text().as_str()), (200, "true"));
        assert_eq!(ask(&cluster, place, "GET", &key, "").status, 403);
        assert_eq!(
            ask(&cluster, place, "GET", &with(&key, MANAGER), "").status,
            200
        );

        // Lists come, without what they may not show.
        let keys = ask(&cluster, place, "GET", "/v1/kv/?recurse", "");
        assert_eq!(keys.status, 404);
        let nodes = ask(&cluster, place, "GET", "/v1/catalog/nodes", "");
        assert_eq!((nodes.status, nodes.text().as_str()), (200, "[]"));
        for reply in [keys, nodes] {
            let header = reply.header("x-consul-results-filtered-by-acls");
            assert_eq!(header, Some("true"), "{reply:?}");
        }
        let nodes = ask(
            &cluster,
            place,
            "GET",
            &with("/v1/catalog/nodes", MANAGER),
            "",
        );
        assert_eq!(nodes.header("x-consul-results-filtered-by-acls"), None);
        assert_eq!(
            nodes.json().as_array().map(Vec::len),
            Some(4),
            "{}",
            nodes.text()
        );
        let policy = nodes.header("x-consul-default-acl-policy");
        assert_eq!(policy, Some("deny"));

        // What an agent says of itself.
        let own = ask(&cluster, place, "GET", "/v1/agent/self", "");
        assert_eq!(own.status, 403, "{}", own.text());
        for token in [MANAGER, RECOVERY] {
            let own = ask(&cluster, place, "GET", &with("/v1/agent/self", token), "");
            assert_eq!(own.status, 200, "{}", own.text());
        }
        let members = ask(&cluster, place, "GET", "/v1/agent/members", "");
        assert_eq!(members.text(), "[]");
        for (method, path) in [
            ("PUT", "/v1/agent/reload"),
            ("PUT", "/v1/agent/leave"),
            ("GET", "/v1/snapshot"),
            ("PUT", "/v1/operator/raft/transfer-leader"),
            ("GET", "/v1/operator/raft/configuration"),
            ("PUT", "/v1/event/fire/x"),
        ] {
            let denied = ask(&cluster, place, method, path, "");
            assert_eq!(denied.status, 403, "{place} {path}: {}", denied.text());
        }
        for path in ["/v1/status/leader", "/v1/agent/ready", "/v1/agent/version"] {
            assert_eq!(ask(&cluster, place, "GET", path, "").status, 200, "{path}");
        }
    }
}

#[test]
fn servers_leave_and_come_back_although_nobody_has_a_token_for_that() {
    let mut cluster = guarded();
    let follower = follower(&cluster);
    let path = format!("/v1/agent/leave?token={RECOVERY}");
    assert_eq!(ask(&cluster, follower, "PUT", &path, "").status, 200);
    let (code, log) = cluster[follower].ended();
    assert_eq!(code, Some(0));
    assert_eq!(
        log.count("failed to leave raft configuration gracefully"),
        0
    );
}
