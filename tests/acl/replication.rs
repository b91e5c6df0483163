//! Two datacenters, the second of which copies policies, roles and tokens from the first.

use std::fs;

use serde_json::{Value, json};
use tests::{Cluster, Http, Reply, eventually};

use crate::MANAGER;
use crate::login::issuer::Issuer;
use crate::login::{log_in, log_out, of_issuer, secret};

/// Of the second datacenter, before it copies.
const STRAY: &str = "77777777-1f0e-49f1-8d0f-6a7b9c3e4d21";

struct Both {
    dc1: Cluster,
    dc2: Cluster,
}

/// Starts a server as A, or a client as D.
fn start(cluster: &mut Cluster, name: &str, datacenter: &str, acl: &str) {
    let file = cluster.path(&format!("{name}.hcl"));
    let text = format!(
        "datacenter = \"{datacenter}\"\nprimary_datacenter = \"dc1\"\n\
         acl {{ enabled = true default_policy = \"deny\" {acl} }}"
    );
    fs::write(&file, text).expect("room");
    let (file, first) = (file.display().to_string(), cluster.address("A"));
    let flags: &[&str] = match name {
        "A" => &["-server", "-bootstrap"],
        _ => &["-retry-join", &first, "-retry-interval", "100ms"],
    };
    cluster[name].start(&[flags, &["-config-file", &file]].concat());
    cluster[name].wait_until_up();
}

fn replicating(token: &str) -> String {
    format!(
        "enable_token_replication = true tokens {{ initial_management = \"{STRAY}\" agent = \"{MANAGER}\" replication = \"{token}\" }}"
    )
}

fn managed(secret: &str) -> String {
    format!("tokens {{ initial_management = \"{secret}\" agent = \"{secret}\" }}")
}

impl Both {
    /// The second one has been there for a while, with tokens of its own.
    fn new(replication: &str) -> Self {
        let (mut dc1, mut dc2) = (Cluster::new(), Cluster::new());
        start(&mut dc1, "A", "dc1", &managed(MANAGER));
        start(&mut dc2, "A", "dc2", &managed(STRAY));
        for (cluster, secret) in [(&dc1, MANAGER), (&dc2, STRAY)] {
            let http = cluster["A"].http();
            eventually("the first token", || is_200(&own(&http, secret)));
        }
        let stray = put(
            &dc2["A"].http(),
            "/v1/acl/policy",
            STRAY,
            &json!({ "Name": "stray" }),
        );
        assert_eq!(stray.status, 200, "{}", stray.text());
        dc2["A"].interrupt();
        start(&mut dc2, "A", "dc2", &replicating(replication));
        start(&mut dc2, "D", "dc2", &replicating(replication));
        let said = tests::run(
            "agent",
            &[
                "join",
                "-wan",
                &format!("-http-addr={}", dc1["A"].http().address),
                &format!("-token={MANAGER}"),
                &dc2.address("A"),
            ],
        );
        said.success();
        Self { dc1, dc2 }
    }

    fn one(&self) -> Http {
        self.dc1["A"].http()
    }

    fn two(&self) -> Http {
        self.dc2["A"].http()
    }

    fn client(&self) -> Http {
        self.dc2["D"].http()
    }

    fn copied(&self) {
        eventually("the manager's token is copied", || {
            is_200(&own(&self.two(), MANAGER))
        });
    }
}

fn with(path: &str, token: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}token={token}")
}

fn get(http: &Http, path: &str, token: &str) -> Reply {
    http.get(&with(path, token)).expect("an answer")
}

fn put(http: &Http, path: &str, token: &str, body: &Value) -> Reply {
    let reply = http.put(&with(path, token), body.to_string());
    reply.expect("an answer")
}

fn own(http: &Http, token: &str) -> Reply {
    get(http, "/v1/acl/token/self", token)
}

fn is_200(reply: &Reply) -> Result<(), String> {
    match reply.status {
        200 => Ok(()),
        status => Err(format!("{status} {}", reply.text())),
    }
}

/// What was made.
fn made(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().expect("a text").to_owned()
}

#[test]
fn what_the_primary_datacenter_allows_is_allowed_in_the_other_and_what_is_local_stays() {
    let both = Both::new(MANAGER);
    both.copied();
    let (one, two, client) = (both.one(), both.two(), both.client());
    // What was there before is gone, and the first token is not made again.
    eventually("nothing is of its own any more", || {
        let reply = get(&two, "/v1/acl/policy/name/stray", MANAGER);
        match (reply.status, own(&two, STRAY).status) {
            (404, 403) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    // Written through the second one, it is in the first at once.
    let rules = "key_prefix \"team/\" { policy = \"write\" }";
    let policy = json!({ "Name": "team", "Rules": rules });
    let policy = made(&put(&client, "/v1/acl/policy", MANAGER, &policy));
    made(&get(&one, "/v1/acl/policy/name/team", MANAGER));
    let role = json!({ "Name": "dev", "Policies": [{ "Name": "team" }] });
    made(&put(&two, "/v1/acl/role", MANAGER, &role));
    let token = json!({ "Roles": [{ "Name": "dev" }] });
    let token = made(&put(&client, "/v1/acl/token", MANAGER, &token));
    let secret = text(&token, "SecretID");
    for http in [&one, &two, &client] {
        eventually("the token counts everywhere", || {
            is_200(&put(http, "/v1/kv/team/a", &secret, &json!(1)))
        });
        assert_eq!(put(http, "/v1/kv/a", &secret, &json!(1)).status, 403);
    }
    let status = made(&get(&client, "/v1/acl/replication", ""));
    assert_eq!(
        (&status["Enabled"], &status["Running"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(status["SourceDatacenter"], "dc1");
    assert_eq!(status["ReplicationType"], "tokens");
    assert!(
        status["ReplicatedTokenIndex"].as_u64() > Some(0),
        "{status}"
    );
    assert_eq!(
        made(&get(&one, "/v1/acl/replication", ""))["Enabled"],
        false
    );

    // A local one is of its datacenter alone.
    let local = json!({ "Local": true, "Policies": [{ "Name": "team" }] });
    let local = made(&put(&client, "/v1/acl/token", MANAGER, &local));
    let (here, accessor) = (text(&local, "SecretID"), text(&local, "AccessorID"));
    assert_eq!(own(&one, &here).text(), "ACL not found");
    assert_eq!(put(&two, "/v1/kv/team/a", &here, &json!(1)).status, 200);
    let path = format!("/v1/acl/token/{accessor}");
    let changed =
        json!({ "Local": true, "Description": "changed", "Policies": [{ "Name": "team" }] });
    made(&put(&client, &path, MANAGER, &changed));

    // What changes there, changes here.
    let id = text(&policy, "ID");
    let less = json!({ "Name": "team", "Rules": "key_prefix \"team/\" { policy = \"read\" }" });
    made(&put(&one, &format!("/v1/acl/policy/{id}"), MANAGER, &less));
    eventually("both may do less", || {
        let tried = [&secret, &here].map(|token| put(&two, "/v1/kv/team/a", token, &json!(1)));
        match tried.each_ref().map(|reply| reply.status) {
            [403, 403] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let path = format!("/v1/acl/token/{}", text(&token, "AccessorID"));
    let removed = client.delete(&with(&path, MANAGER)).expect("an answer");
    assert_eq!(removed.text(), "true");
    assert_eq!(own(&one, &secret).status, 403);
    eventually("its end is copied", || match own(&two, &secret).status {
        403 => Ok(()),
        other => Err(other),
    });
    assert_eq!(text(&made(&own(&two, &here)), "Description"), "changed");
    let removed = two.delete(&with(&format!("/v1/acl/token/{accessor}"), MANAGER));
    assert_eq!(removed.expect("an answer").text(), "true");
    assert_eq!(own(&two, &here).status, 403);
}

#[test]
fn methods_are_of_their_datacenter_and_so_are_their_tokens() {
    let both = Both::new(MANAGER);
    both.copied();
    let method = |locality: &str| {
        json!({
            "Name": "m", "Type": "jwt", "TokenLocality": locality, "Config": { "JWKSURL": "https://127.0.0.1:1" },
        })
    };
    let path = "/v1/acl/auth-method";
    let global = put(&both.two(), path, MANAGER, &method("global"));
    assert_eq!(global.status, 500);
    assert!(
        global.text().contains("primary datacenter \"dc1\""),
        "{}",
        global.text()
    );
    made(&put(&both.two(), path, MANAGER, &method("local")));
    let there = get(&both.one(), "/v1/acl/auth-method/m", MANAGER);
    assert_eq!(there.status, 404, "{}", there.text());
}

#[test]
fn a_login_of_the_primary_datacenter_counts_everywhere_and_ends_wherever_it_is_ended() {
    let both = Both::new(MANAGER);
    both.copied();
    let (one, two, issuer) = (both.one(), both.two(), Issuer::new("a"));
    of_issuer(&one, &issuer, &json!({ "TokenLocality": "global" }));
    let tokens = ["web", "db"].map(|team| {
        let token = secret(&log_in(&one, "ci", &issuer.bearer(team, &json!({}))));
        eventually("it is copied", || is_200(&own(&two, &token)));
        token
    });
    // Its method is not, so that nothing of that name here can end it.
    assert_eq!(own(&two, &tokens[0]).json().get("AuthMethod"), None);
    let done = log_out(&both.client(), &tokens[0]);
    assert_eq!((done.status, done.text().as_str()), (200, "true"));
    assert_eq!(own(&one, &tokens[0]).status, 403);
    let path = with("/v1/acl/auth-method/ci", MANAGER);
    assert_eq!(one.delete(&path).expect("an answer").status, 200);
    for token in &tokens {
        eventually("its end is copied", || match own(&two, token).status {
            403 => Ok(()),
            other => Err(other),
        });
    }
    let made = log_out(&two, MANAGER);
    assert_eq!(made.status, 403, "{}", made.text());
    assert!(made.text().contains("wasn't created via login"));
}

#[test]
fn a_token_that_may_not_see_secrets_copies_nothing_and_says_so() {
    let both = Both::new("11111111-2222-3333-4444-555555555555");
    let error = |wanted: &str| {
        eventually("it says why", || {
            let status = made(&get(&both.client(), "/v1/acl/replication", ""));
            let said = text(&status, "LastErrorMessage");
            match said.contains(wanted) && status["Enabled"] == true {
                true => Ok(()),
                false => Err(status.to_string()),
            }
        });
    };
    error("ACL not found");
    let reader = json!({
        "SecretID": "11111111-2222-3333-4444-555555555555", "Policies": [{ "Name": "builtin/global-read-only" }],
    });
    made(&put(&both.one(), "/v1/acl/token", MANAGER, &reader));
    error("hides secrets");
    // Nothing was removed for that.
    assert_eq!(own(&both.two(), STRAY).status, 200);
    let path = format!("/v1/agent/token/replication?token={STRAY}");
    let body = json!({ "Token": MANAGER }).to_string();
    let given = both.two().put(&path, body).expect("an answer");
    assert_eq!(given.status, 200, "{}", given.text());
    both.copied();
    assert_eq!(own(&both.two(), STRAY).status, 403);
}
