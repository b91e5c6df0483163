//! Logging in, by whoever others vouch for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use tests::{Cluster, Http, Reply};

use crate::{Guarded, MANAGER, ask, follower, guarded};

pub(crate) mod issuer;
mod kubernetes;
mod remote;
mod web;

use issuer::{Issuer, now};

/// The body of a login.
fn body(method: &str, bearer: &str) -> String {
    json!({ "AuthMethod": method, "BearerToken": bearer, "Meta": { "pod": "a/b" } }).to_string()
}

pub(crate) fn log_in(http: &Http, method: &str, bearer: &str) -> Reply {
    let reply = http.request("POST", "/v1/acl/login", body(method, bearer).as_bytes());
    reply.expect("an answer")
}

pub(crate) fn log_out(http: &Http, token: &str) -> Reply {
    let path = format!("/v1/acl/logout?token={token}");
    http.request("POST", &path, b"").expect("an answer")
}

/// Writes an auth method, and what is wrong with it if anything is.
fn method(http: &Http, name: &str, kind: &str, config: &Value, more: &Value) -> Reply {
    let mut body = json!({ "Name": name, "Type": kind, "Config": config });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    let path = format!("/v1/acl/auth-method?token={MANAGER}");
    http.put(&path, body.to_string()).expect("an answer")
}

fn rule(http: &Http, method: &str, selector: &str, kind: &str, name: &str) -> Reply {
    let body = json!({
        "AuthMethod": method, "Selector": selector, "BindType": kind, "BindName": name,
    });
    let path = format!("/v1/acl/binding-rule?token={MANAGER}");
    http.put(&path, body.to_string()).expect("an answer")
}

fn done(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// A method that takes what this issuer signs, and gives services of the team's name.
pub(crate) fn of_issuer(http: &Http, issuer: &Issuer, more: &Value) {
    let config = json!({
        "JWTValidationPubKeys": [Issuer::new("old").pem(), issuer.pem()],
        "JWTSupportedAlgs": ["ES256"],
        "BoundIssuer": "corp",
        "BoundAudiences": ["consul"],
        "ClaimMappings": { "team": "team" },
        "ListClaimMappings": { "groups": "groups" },
    });
    done(&method(http, "ci", "jwt", &config, more));
    let selector = "\"dev\" in list.groups and value.team != nobody";
    done(&rule(http, "ci", selector, "service", "${value.team}"));
}

/// How many tokens there are.
fn tokens(http: &Http) -> usize {
    let reply = http.get(&format!("/v1/acl/tokens?token={MANAGER}"));
    let list = reply.expect("an answer").json();
    list.as_array().expect("a list").len()
}

fn registers(http: &Http, service: &str, token: &str) -> u16 {
    let path = format!("/v1/agent/service/register?token={token}");
    let body = json!({ "Name": service }).to_string();
    http.put(&path, body).expect("an answer").status
}

pub(crate) fn secret(reply: &Reply) -> String {
    done(reply);
    let secret = reply.json()["SecretID"].clone();
    secret.as_str().expect("a secret").to_owned()
}

#[test]
fn whoever_is_vouched_for_gets_a_token_wherever_they_ask() {
    let cluster = guarded();
    let issuer = Issuer::new("a");
    of_issuer(&cluster["A"].http(), &issuer, &json!({}));
    let places = [leader(&cluster), follower(&cluster), "D"];
    for (place, team) in places.into_iter().zip(["Web", "db", "shop"]) {
        let http = cluster[place].http();
        let reply = log_in(&http, "ci", &issuer.bearer(team, &json!({})));
        let token = secret(&reply);
        let service = team.to_lowercase();
        let shown = reply.json();
        assert_eq!(
            shown["ServiceIdentities"],
            json!([{ "ServiceName": service }])
        );
        assert_eq!(
            (&shown["Local"], &shown["AuthMethod"]),
            (&json!(true), &json!("ci"))
        );
        assert_eq!(
            shown["Description"],
            r#"token created via login: {"pod":"a/b"}"#
        );
        assert_eq!(shown.get("ExpirationTime"), None);
        // A follower may hear of it a moment later.
        tests::eventually(
            "the token counts where it was handed out",
            || match registers(&http, &service, &token) {
                200 => Ok(()),
                status => Err(status),
            },
        );
        assert_eq!(registers(&http, "other", &token), 403);
        let own = ask(
            &cluster,
            place,
            "GET",
            &format!("/v1/acl/token/self?token={token}"),
            "",
        );
        assert_eq!(own.json()["AccessorID"], shown["AccessorID"]);

        let ended = log_out(&http, &token);
        assert_eq!((ended.status, ended.text().as_str()), (200, "true"));
        tests::eventually("it is over", || match registers(&http, &service, &token) {
            403 => Ok(()),
            status => Err(status),
        });
        let again = log_out(&http, &token);
        assert_eq!(
            (again.status, again.text().as_str()),
            (403, "ACL not found")
        );
    }
}

fn leader(cluster: &Cluster) -> &'static str {
    let reply = ask(cluster, "A", "GET", "/v1/status/leader", "");
    let leads = |name: &&str| reply.text().contains(&cluster.address(name));
    let found = tests::SERVERS.into_iter().find(|name| leads(name));
    found.expect("a leader")
}

#[test]
fn whoever_is_not_vouched_for_gets_a_sentence_and_changes_nothing() {
    let guarded = Guarded::new();
    let (http, issuer) = (guarded.http(), Issuer::new("a"));
    of_issuer(&http, &issuer, &json!({}));
    let before = tokens(&http);
    let bearer = |more: Value| issuer.bearer("web", &more);
    let good = bearer(json!({}));
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let other = bearer(json!({ "team": "admin" }));
    let (tampered, _) = other.rsplit_once('.').expect("three parts");
    let head = message.split('.').next().expect("a head");
    let unsigned = format!("eyJhbGciOiJub25lIn0{}.", &message[head.len()..]);
    for (sent, why) in [
        (bearer(json!({ "exp": now() - 3600 })), "it expired 36"),
        (
            bearer(json!({ "nbf": now() + 3600 })),
            "does not count before",
        ),
        (bearer(json!({ "exp": "never" })), "\"exp\" is no time"),
        (bearer(json!({ "iss": "evil" })), "it is issued by \"evil\""),
        (bearer(json!({ "aud": "vault" })), "it is for [\"vault\"]"),
        (bearer(json!({ "team": {} })), "its claim \"team\""),
        (
            bearer(json!({ "team": "a b" })),
            "\"a b\" is no name of a service",
        ),
        (format!("{tampered}.{signature}"), "not signed by a key"),
        (
            Issuer::new("a").bearer("web", &json!({})),
            "not signed by a key",
        ),
        (
            unsigned,
            "it is signed by \"none\", and the auth method takes ES256 alone",
        ),
        ("garbage".to_owned(), "it is no JWT"),
        (String::new(), "it is no JWT"),
    ] {
        let reply = log_in(&http, "ci", &sent);
        let text = reply.text();
        assert_eq!(reply.status, 403, "{text}");
        let begin = "Permission denied: auth method \"ci\" does not take the bearer token: ";
        assert!(text.starts_with(begin) && text.contains(why), "{text}");
        assert!(sent.is_empty() || !text.contains(&sent), "{text}");
    }
    // No rule fits, as Consul says it.
    for more in [json!({ "team": "nobody" }), json!({ "groups": ["ops"] })] {
        let reply = log_in(&http, "ci", &bearer(more));
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (403, "Permission denied")
        );
    }
    let none = log_in(&http, "none", &good);
    let wanted = "ACL not found: auth method \"none\" not found";
    assert_eq!((none.status, none.text().as_str()), (403, wanted));
    let long = log_in(&http, "ci", &"x".repeat(70_000));
    assert_eq!(long.status, 400, "{}", long.text());
    assert_eq!(tokens(&http), before);
    // A token that is none is no obstacle to getting one.
    let path = "/v1/acl/login?token=wrong";
    let reply = http.request("POST", path, body("ci", &good).as_bytes());
    done(&reply.expect("an answer"));
    assert_eq!(tokens(&http), before + 1);
}

#[test]
fn only_what_a_login_has_made_is_logged_out() {
    let guarded = Guarded::new();
    let http = guarded.http();
    let made = guarded.token("made", "key \"a\" { policy = \"read\" }");
    let denied = log_out(&http, &made.secret);
    let wanted = "Permission denied: token wasn't created via login";
    assert_eq!((denied.status, denied.text().as_str()), (403, wanted));
    let manager = log_out(&http, MANAGER);
    assert_eq!((manager.status, manager.text().as_str()), (403, wanted));
    for none in ["", "wrong"] {
        let reply = log_out(&http, none);
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (403, "ACL not found")
        );
    }
    let path = format!("/v1/acl/token/self?token={}", made.secret);
    assert_eq!(http.get(&path).expect("an answer").status, 200);
}

#[test]
fn the_end_of_a_method_ends_its_tokens_and_what_waits_by_them() {
    let guarded = Guarded::new();
    let (http, issuer) = (guarded.http(), Issuer::new("a"));
    of_issuer(&http, &issuer, &json!({}));
    let other = Issuer::new("b");
    let config = json!({ "JWTValidationPubKeys": [other.pem()], "JWTSupportedAlgs": ["ES256"], "ClaimMappings": {} });
    done(&method(&http, "other", "jwt", &config, &json!({})));
    done(&rule(&http, "other", "", "service", "other"));
    let token = secret(&log_in(&http, "ci", &issuer.bearer("web", &json!({}))));
    let kept = secret(&log_in(&http, "other", &other.bearer("x", &json!({}))));
    let path = format!("/v1/health/service/web?token={token}");
    let index = http.get(&path).expect("an answer").index();
    let waiting = format!("{path}&index={index}&wait=5m");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| http.request_within(tests::DEADLINE, "GET", &waiting, b""));
        let path = format!("/v1/acl/auth-method/ci?token={MANAGER}");
        done(&http.delete(&path).expect("an answer"));
        let ended = waiter.join().expect("no panic").expect("an answer");
        assert_eq!(
            (ended.status, ended.text().as_str()),
            (403, "ACL not found")
        );
    });
    assert_eq!(registers(&http, "web", &token), 403);
    assert_eq!(registers(&http, "other", &kept), 200);
    let rules = http.get(&format!("/v1/acl/binding-rules?token={MANAGER}"));
    let rules = rules.expect("an answer").json();
    assert_eq!(rules.as_array().map(Vec::len), Some(1), "{rules}");
    // One of the same name is another one.
    of_issuer(&http, &issuer, &json!({}));
    assert_eq!(registers(&http, "web", &token), 403);
}

#[test]
fn a_login_gives_what_every_rule_that_fits_gives_and_for_as_long_as_the_method_says() {
    let guarded = Guarded::new();
    let (http, issuer) = (guarded.http(), Issuer::new("a"));
    of_issuer(
        &http,
        &issuer,
        &json!({ "MaxTokenTTL": "90s", "TokenLocality": "global" }),
    );
    guarded.token("team", "key_prefix \"team/\" { policy = \"write\" }");
    let role = ["acl", "role", "create", "-name=dev", "-policy-name=team"];
    guarded.cli(&role).success();
    done(&rule(&http, "ci", "value.team == web", "role", "dev"));
    done(&rule(&http, "ci", "", "policy", "team"));
    done(&rule(&http, "ci", "", "role", "gone"));
    done(&rule(&http, "ci", "", "node", "n-${value.team}"));
    let body = json!({
        "AuthMethod": "ci", "BindType": "templated-policy", "BindName": "builtin/service",
        "BindVars": { "Name": "t-${value.team}" },
    });
    let path = format!("/v1/acl/binding-rule?token={MANAGER}");
    done(&http.put(&path, body.to_string()).expect("an answer"));
    let reply = log_in(&http, "ci", &issuer.bearer("web", &json!({})));
    let (token, shown) = (secret(&reply), reply.json());
    assert_eq!(shown["Roles"][0]["Name"], "dev");
    assert_eq!(shown["Roles"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["Policies"][0]["Name"], "team");
    let node = json!([{ "NodeName": "n-web", "Datacenter": "dc1" }]);
    assert_eq!(shown["NodeIdentities"], node);
    let templated = &shown["TemplatedPolicies"][0];
    assert_eq!(templated["TemplateVariables"]["Name"], "t-web");
    assert_eq!(shown["Local"], false);
    let time = |key: &str| shown[key].as_str().expect("a time").to_owned();
    assert!(time("ExpirationTime") > time("CreateTime"), "{shown}");
    for service in ["web", "t-web"] {
        assert_eq!(registers(&http, service, &token), 200, "{service}");
    }
    let put = |key: &str| {
        let path = format!("/v1/kv/{key}?token={token}");
        http.put(&path, "1").expect("an answer").status
    };
    assert_eq!((put("team/a"), put("a")), (200, 403));
    let listed = http.get(&format!("/v1/acl/tokens?authmethod=ci&token={MANAGER}"));
    let listed = listed.expect("an answer").json();
    assert_eq!(listed[0]["AccessorID"], shown["AccessorID"]);
    // What was handed out cannot be made to last.
    let accessor = shown["AccessorID"].as_str().expect("an accessor");
    let path = format!("/v1/acl/token/{accessor}/clone?token={MANAGER}");
    let twin = http.put(&path, "{}").expect("an answer");
    assert_eq!(twin.status, 400, "{}", twin.text());
}

#[test]
fn a_method_or_rule_that_cannot_work_is_refused_when_it_is_written() {
    let guarded = Guarded::new();
    let (http, issuer) = (guarded.http(), Issuer::new("a"));
    for (kind, config, more, why) in [
        ("jwt", json!({}), json!({}), "exactly one of"),
        (
            "jwt",
            json!({ "JWTValidationPubKeys": ["x"] }),
            json!({}),
            "Config.JWTValidationPubKeys holds a key that cannot be used",
        ),
        (
            "jwt",
            json!({ "JWTValidationPubKeys": [issuer.pem()], "JWKSURL": "https://x" }),
            json!({}),
            "exactly one of",
        ),
        (
            "jwt",
            json!({ "JWKSURL": "https://x", "Audiences": ["x"] }),
            json!({}),
            "Config.Audiences is no setting of an auth method of type \"jwt\"",
        ),
        (
            "jwt",
            json!({ "JWKSURL": "https://x" }),
            json!({ "MaxTokenTTL": "5s" }),
            "MaxTokenTTL",
        ),
        ("oidc", json!({}), json!({}), "by a browser"),
    ] {
        let reply = method(&http, "bad", kind, &config, &more);
        let text = reply.text();
        assert_eq!(reply.status, 500, "{text}");
        assert!(
            text.starts_with("Invalid Auth Method: ") && text.contains(why),
            "{text}"
        );
    }
    of_issuer(&http, &issuer, &json!({}));
    for (kind, name) in [
        ("service", "${value.nope}"),
        ("role", "a${"),
        ("policy", "a b"),
    ] {
        let reply = rule(&http, "ci", "", kind, name);
        let text = reply.text();
        assert!(text.starts_with("Invalid Binding Rule: "), "{name}: {text}");
    }
    let methods = http.get(&format!("/v1/acl/auth-methods?token={MANAGER}"));
    let methods = methods.expect("an answer").json();
    assert_eq!(methods.as_array().map(Vec::len), Some(1), "{methods}");
}

#[test]
fn the_verbs_write_a_token_and_end_it() {
    let guarded = Guarded::new();
    let (http, issuer) = (guarded.http(), Issuer::new("a"));
    of_issuer(&http, &issuer, &json!({}));
    let address = format!("-http-addr={}", http.address);
    let (bearer, sink) = (guarded.cluster.path("bearer"), guarded.cluster.path("sink"));
    fs::write(&bearer, issuer.bearer("web", &json!({})) + "\n").expect("room");
    let from = format!("-bearer-token-file={}", bearer.display());
    let to = format!("-token-sink-file={}", sink.display());
    let login = |method: &str, more: &[&str]| {
        let words = ["login", &address, method, &from, &to];
        tests::run("agent", &[words.as_slice(), more].concat())
    };
    let said = login("-method=none", &[]).failure();
    assert!(
        said.contains("Error logging in: Unexpected response code: 403 (ACL not found: auth method \"none\" not found)"),
        "{said}"
    );
    assert!(!sink.exists());
    let said = login("-method=ci", &["-meta", "host=a", "-meta", "pod=b"]).success();
    assert_eq!(said, "");
    let mode = fs::metadata(&sink).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = fs::read_to_string(&sink).expect("a token");
    assert_eq!(registers(&http, "web", &token), 200);
    let own = http.get(&format!("/v1/acl/token/self?token={token}"));
    assert_eq!(
        own.expect("an answer").json()["Description"],
        r#"token created via login: {"host":"a","pod":"b"}"#
    );
    let file = format!("-token-file={}", sink.display());
    let logout = |token: &str| tests::run("agent", &["logout", &address, token]);
    assert_eq!(logout(&file).success(), "");
    assert_eq!(registers(&http, "web", &token), 403);
    let said = logout(&format!("-token={MANAGER}")).failure();
    assert!(
        said.contains("Error destroying token: Unexpected response code: 403 (Permission denied: token wasn't created via login)"),
        "{said}"
    );
}
