//! How many requests a second are answered (`limits.request_limits`) and made (`limits.rpc_rate`): what is over is refused
//! with Consul's codes and texts, what holds the cluster together never is, and a reload changes it. And how many
//! connections one address may have to a server.
//!
//! Rates here are nothing at all, or so little that no token comes back within any test: the machine's speed does not matter.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use tests::{Agent, Cluster, Reply, SERVERS, eventually, run};

const ELSEWHERE: &str = "rate limit exceeded, try again later or against a different server";
const LEADER: &str =
    "rate limit exceeded for operation that can only be performed by the leader, try again later";
const OWN: &str = "RPC rate limit exceeded";

/// Writes the limits of one agent into its file.
fn limit(cluster: &Cluster, name: &str, limits: &Value) -> String {
    let path = cluster.path(&format!("{name}.json"));
    let settings = json!({
        "limits": limits, "log_level": "DEBUG", "telemetry": {"prometheus_retention_time": "1h"},
        "bind_addr": cluster.address(name), "data_dir": cluster.path(name),
    });
    fs::write(&path, settings.to_string()).expect("writable");
    path.display().to_string()
}

/// Has an agent, which may run already, go by these limits.
fn reload(cluster: &Cluster, name: &str, limits: &Value) {
    limit(cluster, name, limits);
    let http = cluster[name].http();
    let reply = http.put("/v1/agent/reload", "").expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn nothing(mode: &str) -> Value {
    json!({"request_limits": {"mode": mode, "read_rate": 0, "write_rate": 0}})
}

fn get(agent: &Agent, path: &str) -> Reply {
    agent.http().get(path).expect("an answer")
}

fn put(agent: &Agent, path: &str) -> Reply {
    agent.http().put(path, "x").expect("an answer")
}

#[track_caller]
fn refused(reply: &Reply, status: u16, text: &str) {
    assert_eq!((reply.status, reply.text().as_str()), (status, text));
    assert_eq!(reply.header("retry-after"), Some("1"));
}

#[track_caller]
fn done(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// A counter's total, over all of its labels that hold this text.
fn total(agent: &Agent, counter: &str, labels: &str) -> f64 {
    let text = agent.get("/v1/agent/metrics?format=prometheus").text();
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let of_it = lines.filter(|(name, _)| {
        let rest = name.strip_prefix(counter);
        rest.is_some_and(|rest| (rest.is_empty() || rest.starts_with('{')) && rest.contains(labels))
    });
    of_it
        .map(|(_, value)| value.parse::<f64>().expect("a number"))
        .sum()
}

#[test]
fn over_the_limit_servers_refuse_and_stay_a_cluster() {
    let mut cluster = Cluster::new();
    for name in SERVERS {
        let file = limit(&cluster, name, &json!({}));
        cluster[name].always(&["-server", "-config-file", &file]);
    }
    cluster["A"].start(&["-bootstrap"]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let to_join = cluster.address("A");
    for name in ["B", "C"] {
        cluster[name].start(&["-retry-join", &to_join]);
    }
    cluster.wait_for_voters(&SERVERS);
    cluster["A"].put("/v1/kv/before", "1");

    // The leader alone: it refuses its own clients, and what a follower passes on.
    reload(&cluster, "A", &nothing("enforcing"));
    refused(&get(&cluster["A"], "/v1/kv/before"), 429, ELSEWHERE);
    refused(
        &get(&cluster["A"], "/v1/catalog/nodes?stale"),
        429,
        ELSEWHERE,
    );
    refused(&put(&cluster["A"], "/v1/kv/a"), 503, LEADER);
    refused(&get(&cluster["B"], "/v1/kv/before"), 429, ELSEWHERE);
    refused(&put(&cluster["B"], "/v1/kv/b"), 503, LEADER);
    let counted = |op| total(&cluster["A"], "consul_rpc_rate_limit_exceeded", op);
    assert_eq!(
        counted("limit_type=\"global/read\",op=\"KVS.Get\",mode=\"enforcing\""),
        2.0
    );
    assert_eq!(
        counted("limit_type=\"global/write\",op=\"KVS.Apply\",mode=\"enforcing\""),
        2.0
    );
    // A follower's own state is not the leader's to refuse.
    done(&get(&cluster["B"], "/v1/catalog/nodes"));

    for name in ["B", "C"] {
        reload(&cluster, name, &nothing("enforcing"));
        refused(&put(&cluster[name], "/v1/kv/c"), 429, ELSEWHERE);
        refused(&get(&cluster[name], "/v1/kv/before?stale"), 429, ELSEWHERE);
    }
    // Whoever looks after the cluster is let through everywhere.
    for name in SERVERS {
        for path in [
            "/v1/status/leader",
            "/v1/status/peers",
            "/v1/operator/raft/configuration",
            "/v1/operator/autopilot/configuration",
            "/v1/operator/autopilot/health",
            "/v1/agent/members",
            "/v1/agent/ready",
            "/v1/snapshot",
        ] {
            let reply = get(&cluster[name], path);
            assert_eq!(reply.status, 200, "{name} {path}: {}", reply.text());
        }
    }
    // Nor is anything refused that makes it one: another leader is found, and whoever was away catches up.
    cluster["A"].kill();
    let leader = cluster.leader_among(&["B", "C"]);
    refused(&put(&cluster[&leader], "/v1/kv/d"), 503, LEADER);
    let b = cluster.address("B");
    cluster["A"].start(&["-retry-join", &b]);
    cluster.wait_for_voters(&SERVERS);
    cluster.wait_until_equal(&SERVERS);
    assert_eq!(cluster.leader_among(&SERVERS), leader);

    for name in SERVERS {
        reload(&cluster, name, &nothing("disabled"));
    }
    for name in SERVERS {
        done(&get(&cluster[name], "/v1/kv/before"));
        done(&put(&cluster[name], "/v1/kv/after"));
    }
    for key in ["a", "b", "c", "d"] {
        let reply = get(&cluster["A"], &format!("/v1/kv/{key}"));
        assert_eq!(reply.status, 404, "{key} was refused, and written");
    }
}

#[test]
fn permissive_servers_count_and_refuse_nothing_and_a_reload_changes_the_mode() {
    let mut cluster = Cluster::new();
    let file = limit(&cluster, "A", &nothing("permissive"));
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
    let leader = cluster["A"].wait_for_leader();
    assert!(!leader.is_empty());
    let counted = |labels: &str| total(&cluster["A"], "consul_rpc_rate_limit_exceeded", labels);
    let of_mode = |mode| counted(&format!("op=\"KVS.Get\",mode=\"{mode}\""));
    done(&put(&cluster["A"], "/v1/kv/k"));
    for _ in 0..3 {
        done(&get(&cluster["A"], "/v1/kv/k"));
    }
    assert_eq!((of_mode("permissive"), of_mode("enforcing")), (3.0, 0.0));
    cluster["A"].wait_for_line("RPC exceeded allowed rate limit: rpc=KVS.Get source_addr=own limit_type=global/read limit_enforced=false");

    reload(&cluster, "A", &nothing("enforcing"));
    refused(&get(&cluster["A"], "/v1/kv/k"), 429, ELSEWHERE);
    assert_eq!((of_mode("permissive"), of_mode("enforcing")), (3.0, 1.0));

    // What cannot be changes nothing, and stops no agent that runs.
    let file = limit(&cluster, "A", &nothing("strict"));
    let reply = put(&cluster["A"], "/v1/agent/reload");
    assert_eq!(reply.status, 500, "{}", reply.text());
    let why = "limits.request_limits.mode: invalid mode: \"strict\"";
    assert!(reply.text().contains(why), "{}", reply.text());
    refused(&get(&cluster["A"], "/v1/kv/k"), 429, ELSEWHERE);
    let judged = run("agent", &["validate", file.as_str()]).failure();
    assert!(judged.contains(why), "{judged}");

    reload(&cluster, "A", &nothing("disabled"));
    done(&get(&cluster["A"], "/v1/kv/k"));
    assert_eq!((of_mode("permissive"), of_mode("enforcing")), (3.0, 2.0));
}

#[test]
fn an_agent_that_asks_too_much_of_servers_is_refused_by_itself_alone() {
    const BURST: usize = 40;
    let few = json!({"rpc_rate": 1e-9, "rpc_max_burst": BURST});
    let mut cluster = Cluster::new();
    let file = limit(&cluster, "A", &json!({}));
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let (to_join, file) = (cluster.address("A"), limit(&cluster, "D", &json!({})));
    cluster["D"].start(&["-retry-join", &to_join, "-config-file", &file]);
    cluster["D"].wait_until_up();
    eventually("the client reaches the leader", || {
        let reply = put(&cluster["D"], "/v1/kv/k");
        if reply.status == 200 {
            Ok(())
        } else {
            Err(reply.text())
        }
    });

    let made = |name: &str| total(&cluster[name], "consul_client_rpc", "");
    for name in ["D", "A"] {
        let before = made(name);
        done(&get(&cluster[name], "/v1/kv/k"));
        assert!(made(name) > before, "{name} does not count what it asks");
        reload(&cluster, name, &few);
        // The agent has some of them for what it does itself.
        let replies = (0..=BURST).map(|_| get(&cluster[name], "/v1/kv/k"));
        let over: Vec<_> = replies.filter(|reply| reply.status != 200).collect();
        assert!(!over.is_empty(), "{name} is not limited");
        for reply in &over {
            refused(reply, 429, OWN);
        }
        refused(&put(&cluster[name], "/v1/kv/k"), 429, OWN);
        let exceeded = total(&cluster[name], "consul_client_rpc_exceeded", "");
        assert!(exceeded > over.len() as f64, "{exceeded}");
        if name == "D" {
            done(&get(&cluster["A"], "/v1/kv/k"));
        }
    }
    // What others ask of a server is not what it asks itself.
    reload(&cluster, "D", &json!({"rpc_rate": -1}));
    done(&get(&cluster["D"], "/v1/kv/k"));
    refused(&get(&cluster["A"], "/v1/kv/k"), 429, OWN);
    reload(&cluster, "A", &json!({}));
    done(&get(&cluster["A"], "/v1/kv/k"));
}

#[test]
fn one_address_has_so_many_connections_to_a_server_and_who_goes_makes_room() {
    let limits = json!({"rpc_max_conns_per_client": 2, "rpc_handshake_timeout": "1h"});
    let mut cluster = Cluster::new();
    let file = limit(&cluster, "A", &limits);
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let server = cluster.block.socket(1, 8300);
    let open = || TcpStream::connect(server).expect("it listens");
    let (first, _second, mut third) = (open(), open(), open());
    assert_eq!(third.read(&mut [0]).expect("an end"), 0);
    cluster["A"].wait_for_line(
        "as many are open as may be: 2 from one address (limits.rpc_max_conns_per_client)",
    );
    drop(first);
    eventually("another one is listened to", || {
        // What it says makes no sense, which nobody finds out who does not listen. Whether it was written is seen there.
        let _ = open().write_all(b"nonsense");
        let heard = cluster["A"].info("consul", "rpc_garbage").expect("a count");
        (heard != "0").then_some(()).ok_or(heard)
    });
}
