//! What protection costs: the same cluster plain, and with TLS on every connection and tokens asked for; and what a
//! lookup costs when there are many tokens.

use std::fs;
use std::process::Command;
use std::time::Instant;

use tests::{Cluster, Connection, SERVERS, binary, eventually, run};

use crate::core::load::{self, Op, Plan, Reached};
use crate::{REQUEST_LIMIT, Row};

/// A token that may do everything.
const MANAGER: &str = "3a1f6c1e-7f3b-4a55-9a86-0d6a8c1f2b10";

/// Keys that are read and written.
const KEYS: usize = 10_000;

/// Connections at a time.
const CONNECTIONS: usize = 64;

/// Handshakes that are timed.
const HANDSHAKES: u32 = 40;

/// Few tokens and policies, and many.
const FEW: (usize, usize) = (10, 10);
const MANY: (usize, usize) = (10_000, 1_000);

/// Three servers; the leader, and how it is spoken to.
struct Side {
    cluster: Cluster,
    leader: &'static str,
    scheme: &'static str,
    port: u16,
    query: String,
}

impl Side {
    fn plain() -> Self {
        let cluster = crate::servers();
        let leader = leader(&cluster, "");
        Self {
            cluster,
            leader,
            scheme: "http",
            port: 8500,
            query: String::new(),
        }
    }

    /// Certificates of one authority for all; what is not needed for a request is as plain as on the other side.
    fn protected() -> Self {
        let mut cluster = Cluster::new();
        let folder = cluster.path("tls");
        fs::create_dir(&folder).expect("a new folder");
        let tls = |words: &[&str]| {
            let mut command = Command::new(binary("agent"));
            let output = command.arg("tls").args(words).current_dir(&folder).output();
            let output = output.expect("the program runs");
            assert!(output.status.success(), "{words:?}: {output:?}");
        };
        tls(&["ca", "create"]);
        let addresses = SERVERS.map(|name| cluster.address(name));
        for (number, (name, ip)) in SERVERS.into_iter().zip(&addresses).enumerate() {
            tls(&["cert", "create", "-server", "-additional-ipaddress", ip]);
            let at = folder.display();
            let text = format!(
                r#"ports {{ https = 8501 }}
                   limits {{ http_max_conns_per_client = 20000 }}
                   tls {{
                     defaults {{
                       ca_file = "{at}/consul-agent-ca.pem"
                       cert_file = "{at}/dc1-server-consul-{number}.pem" key_file = "{at}/dc1-server-consul-{number}-key.pem"
                       verify_outgoing = true
                     }}
                     internal_rpc {{ verify_incoming = true verify_server_hostname = true }}
                   }}
                   acl {{ enabled = true default_policy = "deny" tokens {{ initial_management = "{MANAGER}" agent = "{MANAGER}" }} }}"#
            );
            let file = cluster.path(&format!("{name}.hcl"));
            fs::write(&file, text).expect("room");
            let file = file.display().to_string();
            let mut flags = vec!["-server", "-bootstrap-expect=3", "-retry-interval=100ms"];
            flags.extend(["-config-file", &file]);
            for address in &addresses {
                flags.extend(["-retry-join", address]);
            }
            cluster[name].start(&flags);
        }
        let query = format!("?token={MANAGER}");
        let leader = leader(&cluster, &query);
        Self {
            cluster,
            leader,
            scheme: "https",
            port: 8501,
            query,
        }
    }

    fn load(&self, op: Op, query: &str, tokens: usize, seconds: u64) -> Reached {
        let script = self.cluster.path("wrk.lua");
        fs::write(&script, include_str!("core/wrk.lua")).expect("room");
        let address = self.cluster.address(self.leader);
        let url = format!("{}://{address}:{}", self.scheme, self.port);
        let plan = Plan {
            op,
            connections: CONNECTIONS,
            seconds,
            keys: KEYS,
            first_key: 0,
        };
        load::wrk_as(&script, &url, &plan, query, tokens)
    }

    fn rate(&self, op: Op, seconds: u64) -> f64 {
        self.load(op, &self.query, 0, seconds).rate()
    }
}

/// The leader, once it writes.
fn leader(cluster: &Cluster, query: &str) -> &'static str {
    eventually("somebody leads and writes", || {
        SERVERS
            .into_iter()
            .find(|name| {
                let http = cluster[name].http();
                let leads = http.get("/v1/status/leader").is_ok_and(|reply| {
                    reply
                        .text()
                        .contains(&format!("\"{}:", cluster.address(name)))
                });
                let path = format!("/v1/kv/first{query}");
                leads && http.put(&path, "x").is_ok_and(|reply| reply.status == 200)
            })
            .ok_or("nobody")
    })
}

/// Time of a connection with one request on it, in milliseconds.
fn connect(side: &Side, folder: &str) -> f64 {
    let address = format!(
        "-http-addr={}://{}:{}",
        side.scheme,
        side.cluster.address(side.leader),
        side.port
    );
    let started = Instant::now();
    let mut flags = vec!["kv", "get", &address];
    let ca = format!("-ca-file={folder}/consul-agent-ca.pem");
    let token = format!("-token={MANAGER}");
    if side.scheme == "https" {
        flags.extend([ca.as_str(), token.as_str()]);
    }
    flags.push("first");
    run("agent", &flags).success();
    started.elapsed().as_secs_f64() * 1000.0
}

/// Makes tokens up to these numbers, each with one of the policies. Their secrets end with their number, from 1.
fn make_tokens(side: &Side, have: (usize, usize), want: (usize, usize)) {
    let http = side.cluster[side.leader].http();
    let mut connection = Connection::open(http.address, REQUEST_LIMIT).expect("it listens");
    let mut put = |path: &str, body: String| {
        let reply = connection.request("PUT", &format!("{path}{}", side.query), body.as_bytes());
        let reply = reply.expect("an answer");
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
    };
    for number in have.1 + 1..=want.1 {
        let rules = r#"key_prefix \"bench/\" { policy = \"write\" }"#;
        put(
            "/v1/acl/policy",
            format!(r#"{{"Name":"p{number}","Rules":"{rules}"}}"#),
        );
    }
    for number in have.0 + 1..=want.0 {
        let policy = (number - 1) % want.1 + 1;
        put(
            "/v1/acl/token",
            format!(
                r#"{{"SecretID":"00000000-0000-4000-8000-{number:012}","Policies":[{{"Name":"p{policy}"}}]}}"#
            ),
        );
    }
}

/// Runs it; whether the goals were reached.
pub(crate) fn run_all() -> bool {
    let rounds = crate::setting("BENCH_ROUNDS", 5).max(1);
    let seconds = crate::setting("BENCH_SECURE_SECONDS", 4).max(1);
    let (plain, protected) = (Side::plain(), Side::protected());
    let folder = protected.cluster.path("tls").display().to_string();
    for side in [&plain, &protected] {
        side.rate(Op::Put, seconds);
    }
    let mut costs = [Vec::new(), Vec::new()];
    let mut rates = Vec::new();
    for _ in 0..rounds {
        for (op, costs) in [Op::Default, Op::Put].into_iter().zip(&mut costs) {
            let (one, other) = (plain.rate(op, seconds), protected.rate(op, seconds));
            rates.push((op, one, other));
            costs.push(one / other);
        }
    }
    for (op, one, other) in rates {
        println!("{op:?}: {one:.0}/s plain, {other:.0}/s protected");
    }
    let times = |side: &Side| {
        let mut found: Vec<f64> = (0..HANDSHAKES).map(|_| connect(side, &folder)).collect();
        middle(&mut found)
    };
    let (without, with) = (times(&plain), times(&protected));
    let by_tokens = |tokens: usize| {
        let query = "?token=00000000-0000-4000-8000-%012d";
        protected.load(Op::Default, query, tokens, seconds).rate()
    };
    make_tokens(&protected, (0, 0), FEW);
    by_tokens(FEW.0);
    let mut few: Vec<f64> = (0..rounds).map(|_| by_tokens(FEW.0)).collect();
    make_tokens(&protected, FEW, MANY);
    by_tokens(MANY.0);
    let mut many: Vec<f64> = (0..rounds).map(|_| by_tokens(MANY.0)).collect();
    let [mut gets, mut puts] = costs;
    let row = |what, unit, goal, ours| Row {
        what,
        unit,
        consul: f64::NAN,
        goal,
        ours,
    };
    let rows = [
        row(
            "GET, plain against TLS and tokens",
            "x",
            1.25,
            middle(&mut gets),
        ),
        row(
            "PUT, plain against TLS and tokens",
            "x",
            1.0 / 0.9,
            middle(&mut puts),
        ),
        row("a connection's handshake", "ms", f64::NAN, with - without),
        row(
            "GET, 10 tokens against 10,000 (1,000 policies)",
            "x",
            1.05,
            middle(&mut few) / middle(&mut many),
        ),
    ];
    crate::print(&rows);
    rows.iter()
        .all(|row| row.goal.is_nan() || row.ours <= row.goal)
}

fn middle(found: &mut [f64]) -> f64 {
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}
