//! The life of tokens, by the command line and by what they allow.

use std::fs;

use tests::run;

use crate::{Guarded, MANAGER};

#[test]
fn the_first_token_is_made_once_and_anew_by_whoever_may_write_the_data_dir() {
    let guarded = Guarded::with("");
    let address = format!("-http-addr={}", guarded.http().address);
    let bootstrap = || run("agent", &["acl", "bootstrap", &address, "-format=json"]);
    let before = run("agent", &["kv", "get", &address, "-token=x", "a"]).failure();
    assert!(
        before.contains("ACL system must be bootstrapped"),
        "{before}"
    );
    let first = bootstrap().success();
    let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    let secret = first["SecretID"].as_str().expect("a secret").to_owned();
    assert_eq!(first["ID"], first["SecretID"]);
    let token = format!("-token={secret}");
    run("agent", &["kv", "put", &address, &token, "a", "1"]).success();

    let again = bootstrap().failure();
    let index = again
        .split("(reset index: ")
        .nth(1)
        .and_then(|rest| rest.split(')').next())
        .unwrap_or_else(|| panic!("{again}"));
    assert!(again.contains("Permission denied: ACL bootstrap no longer allowed"));
    let file = guarded.cluster["A"].data.join("acl-bootstrap-reset");
    fs::write(&file, "1").expect("room");
    bootstrap().failure();
    fs::write(&file, index).expect("room");
    bootstrap().success();
    assert!(!file.exists(), "it would allow another");
    bootstrap().failure();
    run("agent", &["kv", "get", &address, &token, "a"]).success();
}

#[test]
fn policies_roles_and_tokens_are_made_shown_changed_and_removed() {
    let guarded = Guarded::new();
    let rules = "-rules=key_prefix \"team/\" { policy = \"write\" }";
    let shown = guarded
        .cli(&[
            "acl",
            "policy",
            "create",
            "-name=team",
            "-description=of the team",
            rules,
        ])
        .success();
    assert!(shown.contains("Name:         team\n"), "{shown}");
    assert!(
        shown.ends_with("Rules:\nkey_prefix \"team/\" { policy = \"write\" }\n"),
        "{shown}"
    );
    let wrong = guarded
        .cli(&[
            "acl",
            "policy",
            "create",
            "-name=bad",
            "-rules=key \"a\" { policy = \"wrte\" }",
        ])
        .failure();
    assert!(wrong.contains("(at 1:20)"), "{wrong}");
    let taken = guarded
        .cli(&["acl", "policy", "create", "-name=TEAM"])
        .failure();
    assert!(
        taken.contains("A Policy with Name \"TEAM\" already exists"),
        "{taken}"
    );

    guarded
        .cli(&[
            "acl",
            "role",
            "create",
            "-name=dev",
            "-policy-name=team",
            "-service-identity=web:dc1",
        ])
        .success();
    let token = guarded.made(&["acl", "token", "create", "-role-name=dev", "-description=x"]);
    let http = guarded.http();
    let put = |key: &str| {
        let path = format!("/v1/kv/{key}?token={}", token.secret);
        http.put(&path, "1").expect("an answer").status
    };
    assert_eq!((put("team/a"), put("other")), (200, 403));
    let register = |name: &str| {
        let path = format!("/v1/agent/service/register?token={}", token.secret);
        let body = format!("{{\"Name\":\"{name}\"}}");
        http.put(&path, body).expect("an answer").status
    };
    assert_eq!((register("web"), register("db")), (200, 403));

    let address = format!("-http-addr={}", http.address);
    let own = format!("-token={}", token.secret);
    let own = run("agent", &["acl", "token", "read", &address, &own, "-self"]).success();
    assert!(
        own.contains(&format!("AccessorID:       {}\n", token.accessor)),
        "{own}"
    );
    assert!(own.contains("Roles:\n"), "{own}");

    // What is taken from a policy is taken from all that name it, at once.
    guarded
        .cli(&[
            "acl",
            "policy",
            "update",
            "-name=team",
            "-rules=key_prefix \"team/\" { policy = \"read\" }",
        ])
        .success();
    assert_eq!(put("team/a"), 403);
    guarded
        .cli(&["acl", "policy", "delete", "-name=team"])
        .success();
    guarded
        .cli(&["acl", "role", "delete", "-name=dev"])
        .success();
    let left = guarded.json(&["acl", "token", "list"]);
    let left = left.as_array().expect("a list");
    let row = left
        .iter()
        .find(|row| row["AccessorID"] == token.accessor.as_str());
    assert!(row.expect("it is there").get("Roles").is_none(), "{left:?}");
    guarded.revoke(&token);
    assert_eq!(put("team/a"), 403);
}

#[test]
fn a_revoked_token_ends_a_wait() {
    let guarded = Guarded::new();
    let token = guarded.token("reads", "key \"a\" { policy = \"read\" }");
    let http = guarded.http();
    http.put(&format!("/v1/kv/a?token={MANAGER}"), "1")
        .expect("an answer");
    let path = format!("/v1/kv/a?token={}", token.secret);
    let index = http.get(&path).expect("an answer").index();
    let waiting = format!("{path}&index={index}&wait=5m");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| http.request_within(tests::DEADLINE, "GET", &waiting, b""));
        // A change of others' rights ends nobody's wait.
        let other = guarded.token("others", "key \"b\" { policy = \"read\" }");
        guarded.revoke(&other);
        assert!(!waiter.is_finished());
        guarded.revoke(&token);
        let ended = waiter.join().expect("no panic").expect("an answer");
        assert_eq!(
            (ended.status, ended.text().as_str()),
            (403, "ACL not found")
        );
    });
}

#[test]
fn services_reach_the_catalog_by_the_token_that_they_came_with() {
    let guarded = Guarded::with(&format!(
        "tokens {{ initial_management = \"{MANAGER}\" agent = \"11111111-2222-3333-4444-555555555555\" }}"
    ));
    guarded
        .cli(&[
            "acl",
            "token",
            "create",
            "-accessor=99999999-2222-3333-4444-555555555555",
            "-secret=11111111-2222-3333-4444-555555555555",
            "-node-identity=A:dc1",
        ])
        .success();
    let token = guarded.token("web", "service \"web\" { policy = \"write\" }");
    let http = guarded.http();
    let path = format!("/v1/agent/service/register?token={}", token.secret);
    let reply = http.put(&path, r#"{"Name":"web"}"#).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    tests::eventually("the catalog has it", || {
        let path = format!("/v1/catalog/service/web?token={MANAGER}");
        let reply = http.get(&path).map_err(|error| error.to_string())?;
        match reply.text().contains("\"ServiceName\":\"web\"") {
            true => Ok(()),
            false => Err(reply.text()),
        }
    });
    // Nobody sees the token where it is shown.
    let shown = http.get(&format!("/v1/agent/services?token={MANAGER}"));
    assert!(!shown.expect("an answer").text().contains(&token.secret));
}

#[test]
fn an_agent_uses_the_token_that_it_was_given_and_keeps_it() {
    let mut guarded = Guarded::with(&format!(
        "enable_token_persistence = true tokens {{ initial_management = \"{MANAGER}\" }}"
    ));
    let token = guarded.token("reads", "key \"a\" { policy = \"read\" }");
    let http = guarded.http();
    http.put(&format!("/v1/kv/a?token={MANAGER}"), "1")
        .expect("an answer");
    assert_eq!(http.get("/v1/kv/a").expect("an answer").status, 403);
    guarded.cli(&["acl", "set-agent-token"]).failure();
    let address = format!("-http-addr={}", http.address);
    let manager = format!("-token={MANAGER}");
    run(
        "agent",
        &[
            "acl",
            "set-agent-token",
            &address,
            &manager,
            "default",
            &token.secret,
        ],
    )
    .success();
    assert_eq!(http.get("/v1/kv/a").expect("an answer").status, 200);
    let file = guarded.cluster.path("acl.hcl").display().to_string();
    guarded.cluster["A"].interrupt();
    guarded.cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
    tests::eventually("the same without a word", || {
        let reply = http.get("/v1/kv/a").map_err(|error| error.to_string())?;
        match reply.status {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    });
}

#[test]
fn a_prepared_query_runs_with_the_token_that_it_names() {
    let guarded = Guarded::new();
    guarded.seed();
    let http = guarded.http();
    let web = guarded.token(
        "web",
        "service \"web\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }",
    );
    tests::eventually("the catalog has it, passing", || {
        let path = format!("/v1/health/service/web?passing&token={MANAGER}");
        let reply = http.get(&path).map_err(|error| error.to_string())?;
        match reply.text() {
            none if none == "[]" => Err(none),
            _ => Ok(()),
        }
    });
    for (name, token) in [("plain", ""), ("own", web.secret.as_str())] {
        let body =
            format!(r#"{{"Name":"{name}","Token":"{token}","Service":{{"Service":"web"}}}}"#);
        let path = format!("/v1/query?token={MANAGER}");
        let reply = http.request("POST", &path, body.as_bytes());
        assert_eq!(reply.expect("an answer").status, 200);
    }
    let denying = guarded.token("denying", "key \"x\" { policy = \"read\" }");
    let found = |name: &str| {
        let path = format!("/v1/query/{name}/execute?token={}", denying.secret);
        let reply = http.get(&path).expect("an answer");
        assert!(!reply.text().contains(&web.secret));
        reply.json()["Nodes"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((found("plain"), found("own")), (0, 1));
}

#[test]
fn whoever_knows_the_id_of_a_query_without_a_name_sees_it() {
    let guarded = Guarded::new();
    let http = guarded.http();
    let create = |body: &str| {
        let path = format!("/v1/query?token={MANAGER}");
        let reply = http.request("POST", &path, body.as_bytes());
        let reply = reply.expect("an answer").json();
        reply["ID"].as_str().expect("an id").to_owned()
    };
    let session = tests::eventually("a session of the node", || {
        let path = format!("/v1/session/create?token={MANAGER}");
        let reply = http.put(&path, r#"{"Node":"A"}"#).expect("an answer");
        match reply.status {
            200 => Ok(reply.json()["ID"].as_str().expect("an id").to_owned()),
            _ => Err(reply.text()),
        }
    });
    let nameless = |service: &str| {
        format!(
            r#"{{"Session":"{session}","Token":"a-secret","Service":{{"Service":"{service}"}}}}"#
        )
    };
    let body = nameless("db");
    let nameless = create(&nameless("web"));
    let named = create(r#"{"Name":"q","Service":{"Service":"web"}}"#);
    let all = create(
        r#"{"Name":"","Template":{"Type":"name_prefix_match"},"Service":{"Service":"web"}}"#,
    );
    let other = guarded.token("other", "query \"other\" { policy = \"write\" }");
    for token in ["", other.secret.as_str()] {
        let get = |id: &str| {
            let reply = http.get(&format!("/v1/query/{id}?token={token}"));
            reply.expect("an answer")
        };
        let shown = get(&nameless);
        assert_eq!(shown.status, 200, "{}", shown.text());
        assert_eq!(shown.json()[0]["ID"], nameless.as_str());
        assert_eq!(shown.json()[0]["Token"], "<hidden>");
        assert_eq!(shown.header("x-consul-results-filtered-by-acls"), None);
        for id in [&named, &all] {
            let denied = get(id);
            assert_eq!(
                (denied.status, denied.text().as_str()),
                (403, "Permission denied")
            );
        }
        let unknown = get("6e2ee0a5-0f4d-4b3b-8f0e-9f6d5b4c3a21");
        assert_eq!(unknown.status, 404, "{}", unknown.text());
        let list = http.get(&format!("/v1/query?token={token}"));
        assert_eq!(list.expect("an answer").text(), "[]");
        // It may be replaced and removed by whoever knows it, too.
        let path = format!("/v1/query/{nameless}?token={token}");
        assert_eq!(http.put(&path, &body).expect("an answer").status, 200);
        assert_eq!(get(&nameless).json()[0]["Service"]["Service"], "db");
    }
    let manager = http.get(&format!("/v1/query?token={MANAGER}"));
    let manager = manager.expect("an answer").json();
    assert_eq!(manager.as_array().map(Vec::len), Some(3), "{manager}");
}
