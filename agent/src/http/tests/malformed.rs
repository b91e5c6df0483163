//! Thousands of malformed requests to every route: each gets an answer that says what is wrong, and a refused one
//! changes nothing.

use serde_json::Map;

use super::super::route::{Agent, ENDPOINTS, Route};
use super::*;
use crate::env::{Random as _, SeededRandom};
use crate::state::Answer;

/// Requests to each method of each route.
const EACH: u64 = 100;

/// All but `OPTIONS`, which every route answers.
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"];

/// What stands behind a pattern that ends in a slash.
const PATHS: [&str; 12] = [
    "",
    "a",
    "a/b",
    "%00",
    "%ff",
    "%",
    "..",
    "%2e%2e%2fetc",
    "a%20b",
    "%F0%9F%92%A9",
    "serfHealth",
    "00000000-0000-0000-0000-000000000001",
];

const PARAMS: [&str; 42] = [
    "index=-1",
    "index=1&wait=1ms",
    "index=18446744073709551616",
    "index=x",
    "wait=5",
    "wait=-1s",
    "wait=999999999999h",
    "max_stale=x",
    "stale&consistent",
    "cached&consistent",
    "dc=dc9",
    "ns=x",
    "partition=x",
    "cas=abc",
    "cas=-1",
    "cas=0",
    "cas=1&acquire=x",
    "flags=-1",
    "flags=18446744073709551616",
    "acquire=zz",
    "acquire=",
    "release=zz",
    "recurse",
    "recurse&cas=1",
    "keys&separator=%00",
    "raw",
    "filter=%28%28",
    "filter=Nothing%20%3D%3D%20x",
    "filter=%00",
    "near=_agent",
    "node-meta=%3A",
    "tag=%ff",
    "passing=maybe",
    "enable=maybe",
    "enable=true&reason=%0a",
    "address=1&id=2",
    "id=zz",
    "limit=x",
    "prune",
    "pretty",
    "&&==&;",
    "%zz=%zz",
];

/// Bodies that some route takes.
const BODIES: [&str; 11] = [
    "hello",
    r#"{"Node":"n","Address":"10.0.0.1","Service":{"ID":"s","Service":"s","Port":80,"Tags":["t"],"Meta":{"a":"b"}},"Check":{"CheckID":"c","Name":"c","Status":"passing"}}"#,
    r#"{"Node":"n","ServiceID":"s","CheckID":"c"}"#,
    r#"{"ID":"s","Name":"s","Port":80,"Check":{"TTL":"10s","DeregisterCriticalServiceAfter":"1m"},"Weights":{"Passing":1,"Warning":1}}"#,
    r#"{"Name":"c","TTL":"10s","Status":"passing","Notes":"n"}"#,
    r#"{"Name":"lock","Node":"a","TTL":"10s","Behavior":"delete","LockDelay":"15s","Checks":[]}"#,
    r#"{"Name":"q","Service":{"Service":"s","Failover":{"NearestN":1,"Datacenters":["dc2"]},"OnlyPassing":true,"Tags":["t"]},"DNS":{"TTL":"10s"}}"#,
    r#"[{"KV":{"Verb":"set","Key":"k","Value":"dg==","Flags":1}},{"Node":{"Verb":"set","Node":{"Node":"n","Address":"10.0.0.1"}}}]"#,
    r#"{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,"ServerStabilizationTime":"10s"}"#,
    r#"{"Provider":"consul","Config":{"LeafCertTTL":"72h","PrivateKeyType":"ec","PrivateKeyBits":384,"CSRMaxPerSecond":50},"State":{}}"#,
    r#"{"Target":"web","ClientCertURI":"spiffe://x.consul/ns/default/dc/dc1/svc/db","ClientCertSerial":"1"}"#,
];

struct Maker(SeededRandom);

impl Maker {
    fn below(&self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    fn one<'a>(&self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn params(&self) -> String {
        let count = self.below(3);
        let params: Vec<_> = (0..count).map(|_| self.one(&PARAMS)).collect();
        match params.is_empty() {
            true => String::new(),
            false => format!("?{}", params.join("&")),
        }
    }

    /// A body with something wrong in it, or of another route.
    fn body(&self) -> Vec<u8> {
        let seed = self.one(&BODIES);
        let mut bytes = seed.as_bytes().to_vec();
        match self.below(8) {
            0 => {}
            1 => bytes.truncate(self.below(bytes.len())),
            2 => {
                let at = self.below(bytes.len());
                bytes[at] = self.below(256) as u8;
            }
            3 => {
                bytes = self
                    .one(&["", "null", "[]", "{}", "0", "\"\"", "[null]", "{\"\":{}}"])
                    .into()
            }
            4 => bytes = "[".repeat(100_000).into_bytes(),
            5 => bytes.extend_from_slice(b"}} trailing"),
            _ => {
                if let Ok(mut value) = serde_json::from_str(seed) {
                    self.spoil(&mut value);
                    bytes = value.to_string().into_bytes();
                }
            }
        }
        bytes
    }

    /// Puts something of another kind in one place.
    fn spoil(&self, value: &mut Value) {
        let inside = match value {
            Value::Object(fields) if !fields.is_empty() => {
                let at = self.below(fields.len());
                fields.values_mut().nth(at)
            }
            Value::Array(all) if !all.is_empty() => {
                let at = self.below(all.len());
                all.get_mut(at)
            }
            _ => None,
        };
        match inside {
            Some(inside) if self.below(4) > 0 => self.spoil(inside),
            _ => {
                *value = match self.below(8) {
                    0 => Value::Null,
                    1 => json!(-1),
                    2 => json!(1e300),
                    3 => json!(true),
                    4 => json!(["x", 1]),
                    5 => json!("\u{0}\n9999999999h"),
                    6 => Value::Object(Map::from_iter([("x".to_owned(), json!({}))])),
                    _ => json!("x".repeat(300)),
                }
            }
        }
    }
}

/// All that requests can change, but for indexes that pass.
fn state(bench: &Bench) -> Vec<Answer> {
    let store = bench.fake.shared.load();
    let meta = BTreeMap::new();
    let queries = [
        Query::KvList {
            prefix: String::new(),
        },
        Query::Nodes { meta: meta.clone() },
        Query::Instances { meta },
        Query::StateChecks {
            state: "any".to_owned(),
        },
        Query::Sessions,
        Query::PreparedQueries,
        Query::Autopilot,
        Query::CaRoots,
        Query::CaConfig,
    ];
    queries.iter().map(|query| store.query(query)).collect()
}

/// Sends one request; its status and its text. The connection must not end without an answer.
async fn ask(
    bench: &Bench,
    method: &str,
    target: &str,
    body: &[u8],
) -> (u16, BTreeMap<String, String>, String) {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = bench.connect();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let got = Got::parse(String::from_utf8_lossy(&answer).as_bytes());
    (got.status, got.headers, got.body)
}

/// What Consul, too, answers with 500 although the request is at fault: whatever its servers refuse, and not the agent.
const CONSULS: [&str; 28] = [
    "3 errors occurred:",
    "4 errors occurred:\n\t* WAN error: ",
    "rpc error: code = FailedPrecondition desc = peering must be enabled",
    "CA is uninitialized",
    "EC key length must be one of ",
    "Failed to create boolean expression evaluator: ",
    "ID must be empty when creating a new intention",
    "Invalid Behavior setting '",
    "Invalid check status: '",
    "Invalid prepared query: ",
    "Missing node registration",
    "Must provide address if SkipNodeUpdate is not set",
    "Must provide node",
    "Must provide service name with ID",
    "No path to datacenter",
    "Session TTL '",
    "error decoding config: ",
    "failed prepared query lookup: ",
    "incompatible coordinate",
    "invalid config entry kind: ",
    "leaf cert TTL must be ",
    "private key type must be either ",
    "raft apply failed: ",
    "strconv.ParseUint: ",
    "the CA configuration was changed by somebody else",
    "unknown CA provider ",
    "user event exceeds configured limit of ",
    // The bed's configuration, which cannot be read again.
    "agent.json:1:2: unexpected end",
];

#[tokio::test]
async fn no_malformed_request_gets_through_or_breaks_anything() {
    let mut refused = 0;
    for (number, endpoint) in ENDPOINTS.iter().enumerate() {
        // It never ends.
        if matches!(
            endpoint.route,
            Route::Agent(Agent::Monitor | Agent::MetricsStream)
        ) {
            continue;
        }
        for method in endpoint.methods {
            let bench = Bench::new();
            bench.register("a");
            bench.start_ca();
            let maker = Maker(SeededRandom::new(number as u64));
            for _ in 0..EACH {
                let rest = match endpoint.pattern.ends_with('/') {
                    true => maker.one(&PATHS),
                    false => "",
                };
                let target = format!("{}{rest}{}", endpoint.pattern, maker.params());
                let body = maker.body();
                let before = state(&bench);
                let (status, _, text) = ask(&bench, method, &target, &body).await;
                let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
                let what = format!("{method} {target}\n{shown}\n-> {status} {text}");
                assert!(status >= 200, "no answer: {what}");
                if status >= 500 {
                    let known = CONSULS.iter().any(|known| text.contains(known));
                    assert!(known, "not one of Consul's: {what}");
                }
                if status >= 400 {
                    refused += 1;
                    assert!(!text.is_empty() || status == 404, "no reason: {what}");
                    assert_eq!(state(&bench), before, "refused, and yet changed: {what}");
                } else if *method == "GET" {
                    assert_eq!(state(&bench), before, "read, and yet changed: {what}");
                }
            }
        }
    }
    assert!(refused > 1000, "{refused} are not enough to say anything");
}

#[tokio::test]
async fn every_route_refuses_other_methods_and_says_which_it_takes() {
    let bench = Bench::new();
    for endpoint in ENDPOINTS {
        let target = format!("{}x", endpoint.pattern.trim_end_matches(|c| c != '/'));
        let target = match endpoint.pattern.ends_with('/') {
            true => target,
            false => endpoint.pattern.to_owned(),
        };
        for method in METHODS {
            if endpoint.methods.contains(&method) {
                continue;
            }
            let (status, headers, _) = ask(&bench, method, &target, b"").await;
            assert_eq!(status, 405, "{method} {target}");
            assert_eq!(
                headers.get("allow"),
                Some(&format!("OPTIONS,{}", endpoint.methods.join(","))),
                "{method} {target}"
            );
        }
    }
}
