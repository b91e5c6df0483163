//! Tokens: whoever has none gets nothing, wherever they ask.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tests::{Cluster, Http, Reply, SERVERS};

mod login;
mod matrix;
mod replication;
mod verbs;

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

/// One server that asks for tokens.
struct Guarded {
    cluster: Cluster,
}

/// A token as it was made.
struct Token {
    accessor: String,
    secret: String,
}

impl Guarded {
    fn new() -> Self {
        Self::with(&format!(
            "tokens {{ initial_management = \"{MANAGER}\" agent = \"{MANAGER}\" }}"
        ))
    }

    /// With more in its block `acl`.
    fn with(more: &str) -> Self {
        let mut cluster = Cluster::new();
        let file = cluster.path("acl.hcl");
        let text = format!(
            "enable_debug = true\nacl {{ enabled = true default_policy = \"deny\" {more} }}"
        );
        fs::write(&file, text).expect("room");
        let file = file.display().to_string();
        cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
        cluster["A"].wait_for_line("consul: cluster leadership acquired");
        let guarded = Self { cluster };
        if more.contains(MANAGER) {
            tests::eventually("the manager's token", || {
                let path = format!("/v1/acl/token/self?token={MANAGER}");
                let reply = guarded.http().get(&path).map_err(|e| e.to_string())?;
                match reply.status {
                    200 => Ok(()),
                    _ => Err(reply.text()),
                }
            });
        }
        guarded
    }

    fn http(&self) -> Http {
        self.cluster["A"].http()
    }

    /// A verb in the manager's name.
    fn cli(&self, words: &[&str]) -> tests::Output {
        let address = format!("-http-addr={}", self.http().address);
        let token = format!("-token={MANAGER}");
        let (verb, rest) = words.split_at(words.iter().take_while(|w| !w.starts_with('-')).count());
        tests::run(
            "agent",
            &[verb, &[address.as_str(), token.as_str()], rest].concat(),
        )
    }

    fn json(&self, words: &[&str]) -> Value {
        let said = self.cli(&[words, &["-format=json"]].concat()).success();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// A token with these rules.
    fn token(&self, name: &str, rules: &str) -> Token {
        let (name, rules) = (format!("-name={name}"), format!("-rules={rules}"));
        let policy = self.json(&["acl", "policy", "create", &name, &rules]);
        let id = format!("-policy-id={}", policy["ID"].as_str().expect("an id"));
        self.made(&["acl", "token", "create", &id])
    }

    /// A token that may look at everything.
    fn reader(&self) -> Token {
        self.made(&[
            "acl",
            "token",
            "create",
            "-policy-name=builtin/global-read-only",
        ])
    }

    fn made(&self, words: &[&str]) -> Token {
        let token = self.json(words);
        let text = |key: &str| token[key].as_str().expect("a text").to_owned();
        Token {
            accessor: text("AccessorID"),
            secret: text("SecretID"),
        }
    }

    fn revoke(&self, token: &Token) {
        let accessor = format!("-accessor-id={}", token.accessor);
        self.cli(&["acl", "token", "delete", &accessor]).success();
    }

    /// Something to look at: a key, and a service with a check on this agent.
    fn seed(&self) {
        let http = self.http();
        for (path, body) in [
            ("/v1/kv/a", "1"),
            (
                "/v1/agent/service/register",
                r#"{"Name":"web","ID":"web1"}"#,
            ),
            (
                "/v1/agent/check/register",
                r#"{"Name":"ttl","ServiceID":"web1","TTL":"10m","Status":"passing"}"#,
            ),
            (
                "/v1/config",
                r#"{"Kind":"service-defaults","Name":"web","Protocol":"http"}"#,
            ),
        ] {
            let reply = http.put(&format!("{path}?token={MANAGER}"), body);
            let reply = reply.expect("an answer");
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        }
    }

    /// The head of an answer, and the whole of one that refuses.
    fn head_of(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.http().address).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a socket");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it listens");
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&answer);
            if text.contains("\r\n\r\n") && !text.starts_with("HTTP/1.1 403") {
                return text.into_owned();
            }
            match stream.read(&mut piece).expect("an answer") {
                0 => return text.into_owned(),
                read => answer.extend_from_slice(&piece[..read]),
            }
        }
    }
}
