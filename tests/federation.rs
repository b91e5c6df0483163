//! Two datacenters of three servers and a client each: who is in which pool, and requests from one to the other.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde_json::{Value, json};
use tests::{Agent, Cluster, SERVERS, eventually};

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Faster than the defaults, so that a failure is seen soon.
const WAN: &str = r#"gossip_wan { probe_interval = "400ms" probe_timeout = "200ms" gossip_interval = "100ms" suspicion_mult = 2 }"#;

const CLIENT: &str = "D";

struct Federation {
    dc1: Cluster,
    dc2: Cluster,
}

fn flags<'a>(datacenter: &'a str, first: &'a str) -> Vec<&'a str> {
    let primary = "primary_datacenter = \"dc1\"";
    vec![
        "-datacenter",
        datacenter,
        "-retry-join",
        first,
        "-retry-interval",
        "100ms",
        "-hcl",
        WAN,
        "-hcl",
        primary,
    ]
}

fn start_servers(cluster: &mut Cluster, datacenter: &str) {
    let first = cluster.address("A");
    for name in SERVERS {
        let flags = flags(datacenter, &first);
        cluster[name].start(&[&["-server", "-bootstrap-expect", "3"][..], &flags].concat());
    }
}

fn datacenter(name: &str) -> Cluster {
    let mut cluster = Cluster::new();
    start_servers(&mut cluster, name);
    for server in SERVERS {
        cluster[server].wait_until_up();
    }
    cluster.wait_for_voters(&SERVERS);
    let first = cluster.address("A");
    cluster[CLIENT].start(&flags(name, &first));
    cluster[CLIENT].wait_until_up();
    cluster[CLIENT].wait_for_leader();
    cluster
}

impl Federation {
    /// Both, each of which knows nothing of the other.
    fn apart() -> Self {
        Self {
            dc1: datacenter("dc1"),
            dc2: datacenter("dc2"),
        }
    }

    /// Both, joined through one server of each.
    fn joined() -> Self {
        let both = Self::apart();
        both.join();
        both
    }

    fn join(&self) {
        let said = self.dc1["A"].cli(&["join", "-wan", &self.dc2.address("B")]);
        assert_eq!(
            said.success(),
            "Successfully joined cluster by contacting 1 nodes.\n"
        );
        self.wait_for_wan("alive");
    }

    /// Waits until every server sees all servers of both, those of dc2 with this status.
    fn wait_for_wan(&self, of_dc2: &str) {
        let wanted = |status: &str| {
            SERVERS
                .map(|name| format!("{name}.dc1 alive"))
                .into_iter()
                .chain(SERVERS.map(|name| format!("{name}.dc2 {status}")))
                .collect::<Vec<_>>()
        };
        let wanted = wanted(of_dc2);
        for observer in self.servers().filter(|agent| agent.is_running()) {
            eventually(&format!("{} sees {wanted:?}", observer.name), || {
                let seen = wan(observer);
                if seen == wanted {
                    Ok(())
                } else {
                    Err(format!("{seen:?}"))
                }
            });
        }
    }

    fn servers(&self) -> impl Iterator<Item = &Agent> {
        SERVERS
            .iter()
            .map(|name| &self.dc1[*name])
            .chain(SERVERS.iter().map(|name| &self.dc2[*name]))
    }
}

/// Members of the pool of all datacenters with their status, by name and datacenter.
fn wan(agent: &Agent) -> Vec<String> {
    const STATUS: [&str; 5] = ["none", "alive", "leaving", "left", "failed"];
    let members = agent.json("/v1/agent/members?wan=1");
    let mut seen: Vec<(String, String)> = members
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| {
            let name = member["Name"].as_str().expect("a name");
            let status = STATUS[member["Status"].as_u64().expect("a number") as usize];
            let datacenter = name.rsplit('.').next().unwrap_or_default().to_owned();
            (datacenter, format!("{name} {status}"))
        })
        .collect();
    seen.sort();
    seen.into_iter().map(|(_, text)| text).collect()
}

/// An error answer: its code and text.
fn refusal(agent: &Agent, path: &str) -> (u16, String) {
    let reply = agent.get(path);
    (reply.status, reply.text())
}

fn lookup(agent: &Agent, name: &str) -> Message {
    let mut message = Message::query();
    let name = Name::from_ascii(name).expect("a name");
    message.add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    let to = SocketAddr::from((agent.ip, 8600));
    socket
        .send_to(&message.to_vec().expect("short"), to)
        .expect("sent");
    let mut buffer = [0; 65_535];
    let (len, _) = socket.recv_from(&mut buffer).expect("an answer");
    Message::from_vec(&buffer[..len]).expect("a message")
}

fn cluster_id(agent: &Agent) -> String {
    agent.info("consul", "cluster_id").expect("a server")
}

#[test]
fn datacenters_are_joined_by_one_word_and_stay_clusters_of_their_own() {
    let both = Federation::apart();
    for agent in [&both.dc1["A"], &both.dc1[CLIENT]] {
        let wanted = (500, "No path to datacenter".to_owned());
        assert_eq!(refusal(agent, "/v1/kv/a?dc=dc2"), wanted, "{}", agent.name);
        assert_eq!(agent.json("/v1/catalog/datacenters"), json!(["dc1"]));
    }
    // Peers alone are joined to the pool of all without a word.
    eventually("dc1's servers know each other there", || {
        let seen = wan(&both.dc1["C"]);
        if seen.len() == 3 {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    both.join();
    for (cluster, own, other) in [(&both.dc1, "dc1", "dc2"), (&both.dc2, "dc2", "dc1")] {
        for name in ["A", "C", CLIENT] {
            let agent = &cluster[name];
            let known = agent.json("/v1/catalog/datacenters");
            assert_eq!(known, json!([own, other]), "{own} {name}");
        }
        assert_eq!(
            cluster["B"].info("consul", "known_datacenters"),
            Ok("2".into())
        );
        assert_eq!(cluster["B"].info("serf_wan", "members"), Ok("6".into()));
        // Nobody of the other one became a peer, or a member of the local pool.
        cluster.wait_for_voters(&SERVERS);
        let members = cluster[CLIENT].json("/v1/agent/members");
        assert_eq!(members.as_array().map(Vec::len), Some(4));
        assert!(members[0]["Tags"]["dc"] == own, "{members}");
    }
    assert_ne!(cluster_id(&both.dc1["A"]), cluster_id(&both.dc2["A"]));
    // The local pools stay apart, whichever port is tried.
    for port in [8301, 8302] {
        let address = format!("{}:{port}", both.dc2.address("A"));
        let refused = both.dc1["A"].cli(&["join", &address]).failure();
        assert!(refused.contains("datacenter"), "{refused}");
    }
    let table = both.dc1["A"].cli(&["members", "-wan"]).success();
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(
        table.contains(&format!("{}:8302", both.dc2.address("C"))),
        "{table}"
    );
    let refused = both.dc1[CLIENT]
        .cli(&["join", "-wan", "127.0.0.1"])
        .failure();
    assert!(
        refused.contains("Must be a server to join WAN cluster"),
        "{refused}"
    );
    eventually("a distance is known", || {
        let said = both.dc1["A"].cli(&["rtt", "-wan", "A.dc1", "B.dc2"]);
        match said.code {
            Some(0) => Ok(()),
            _ => Err(said.stderr),
        }
    });
}

#[test]
fn requests_are_answered_by_the_datacenter_they_are_for() {
    let both = Federation::joined();
    let (here, there) = (&both.dc1[CLIENT], &both.dc2[CLIENT]);
    for (n, agent) in [&both.dc1["A"], &both.dc1["B"], &both.dc1["C"], here]
        .into_iter()
        .enumerate()
    {
        let key = format!("k{n}");
        agent.put(&format!("/v1/kv/{key}?dc=dc2"), "across");
        assert_eq!(there.value(&key, "consistent").as_deref(), Some("across"));
        assert_eq!(agent.value(&key, "dc=dc2&stale").as_deref(), Some("across"));
        assert_eq!(agent.value(&key, ""), None);
    }
    blocks_until_a_change(here, there);
    names_are_resolved(here, there);
    let txn = r#"[{"KV":{"Verb":"set","Key":"txn","Value":"dg=="}}]"#;
    let reply = here.http().put("/v1/txn?dc=dc2", txn).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(there.value("txn", "").as_deref(), Some("v"));
    sessions_live_there(here, there);
    let fired = here
        .http()
        .put("/v1/event/fire/deploy?dc=dc2", "now")
        .expect("an answer");
    assert_eq!(fired.status, 200, "{}", fired.text());
    eventually("the event is heard there", || {
        match there
            .json("/v1/event/list?name=deploy")
            .as_array()
            .map(Vec::len)
        {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(here.json("/v1/event/list?name=deploy"), json!([]));
    let leader = |agent: &Agent, dc: &str| agent.json(&format!("/v1/status/leader?dc={dc}"));
    assert_eq!(leader(here, "dc2"), leader(there, "dc2"));
    assert_ne!(leader(here, "dc1"), leader(here, "dc2"));
    let peers = here
        .cli(&["operator", "raft", "list-peers", "-datacenter", "dc2"])
        .success();
    assert!(peers.contains(&both.dc2.address("A")), "{peers}");
    assert_eq!(
        here.json("/v1/operator/autopilot/health?dc=dc2")["Healthy"],
        true
    );
    let saved = here.get("/v1/snapshot?dc=dc2");
    assert_eq!(saved.status, 200);
    there.put("/v1/kv/k0", "changed");
    let put = here
        .http()
        .put("/v1/snapshot?dc=dc2", &saved.body)
        .expect("an answer");
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(there.value("k0", "").as_deref(), Some("across"));
    for agent in [here, &both.dc1["B"]] {
        let wanted = (500, "No path to datacenter".to_owned());
        for path in [
            "/v1/kv/a?dc=dc9",
            "/v1/catalog/nodes?dc=dc9",
            "/v1/agent/self?dc=dc9",
        ] {
            assert_eq!(refusal(agent, path), wanted, "{path}");
        }
    }
}

fn blocks_until_a_change(here: &Agent, there: &Agent) {
    let reply = here.get("/v1/kv/k0?dc=dc2");
    let path = format!("/v1/kv/k0?dc=dc2&raw&index={}&wait=100s", reply.index());
    let http = here.http();
    let waiting = std::thread::spawn(move || http.request_within(PATIENCE, "GET", &path, b""));
    there.put("/v1/kv/k0", "newer");
    let woken = waiting.join().expect("no panic").expect("an answer");
    assert_eq!(woken.text(), "newer");
    assert!(woken.index() > reply.index());
    there.put("/v1/kv/k0", "across");
    // Unchanged at the end of its time is an answer too.
    let index = here.get("/v1/kv/k0?dc=dc2").index();
    let same = here.get(&format!("/v1/kv/k0?dc=dc2&index={index}&wait=50ms"));
    assert_eq!((same.status, same.index()), (200, index));
}

fn names_are_resolved(here: &Agent, there: &Agent) {
    let node =
        json!({"Node": "web1", "Address": "10.2.0.1", "Service": {"Service": "web", "Port": 80}});
    there.put("/v1/catalog/register", &node.to_string());
    // Any server there may answer, also one that has not heard of the last write yet.
    let answers = |name: &str| {
        eventually(&format!("{name} is 10.2.0.1"), || {
            let message = lookup(here, name);
            let found = message.answers.iter().map(|record| record.data.to_string());
            let found: Vec<_> = found.collect();
            match found == ["10.2.0.1"] {
                true => Ok(()),
                false => Err(format!("{found:?}")),
            }
        });
    };
    for name in ["web.service.dc2.consul.", "web1.node.dc2.consul."] {
        answers(name);
    }
    for name in ["web.service.consul.", "web.service.dc9.consul."] {
        let code = lookup(here, name).metadata.response_code;
        assert_eq!(code, ResponseCode::NXDomain, "{name}");
    }
    let query = json!({"Name": "far", "Service": {"Service": "web", "Failover": {"NearestN": 3}}});
    let made = here
        .http()
        .request("POST", "/v1/query", query.to_string().as_bytes());
    assert_eq!(made.expect("an answer").status, 200);
    let found = here.json("/v1/query/far/execute");
    assert_eq!(
        (&found["Datacenter"], &found["Failovers"]),
        (&json!("dc2"), &json!(1))
    );
    assert_eq!(found["Nodes"][0]["Node"]["Address"], "10.2.0.1");
    answers("far.query.consul.");
}

fn sessions_live_there(here: &Agent, there: &Agent) {
    let body = r#"{"Node":"A","TTL":"60s"}"#;
    let made = here
        .http()
        .put("/v1/session/create?dc=dc2", body)
        .expect("an answer");
    let id = made.json()["ID"].as_str().expect("an id").to_owned();
    assert_eq!(
        there.json(&format!("/v1/session/info/{id}"))[0]["ID"],
        id.as_str()
    );
    let renewed = here
        .http()
        .put(&format!("/v1/session/renew/{id}?dc=dc2"), "")
        .expect("an answer");
    assert_eq!(renewed.json()[0]["ID"], id.as_str());
    here.put(&format!("/v1/kv/lock?dc=dc2&acquire={id}"), "mine");
    assert_eq!(there.json("/v1/kv/lock")[0]["Session"], id.as_str());
    here.put(&format!("/v1/session/destroy/{id}?dc=dc2"), "");
}

#[test]
fn config_entries_are_the_primary_datacenters_and_copied_by_the_others() {
    let both = Federation::joined();
    let entry = |protocol: &str| {
        json!({"Kind": "service-defaults", "Name": "web", "Protocol": protocol}).to_string()
    };
    let path = "/v1/config/service-defaults/web";
    let protocol = |agent: &Agent| -> Result<Value, String> {
        let reply = agent.get(path);
        match reply.status {
            200 => Ok(reply.json()["Protocol"].clone()),
            other => Err(format!("{other} {}", reply.text())),
        }
    };
    // Written through the second one, it is in the first at once.
    both.dc2[CLIENT].put("/v1/config", &entry("http"));
    assert_eq!(protocol(&both.dc1[CLIENT]), Ok(json!("http")));
    eventually("it is copied", || protocol(&both.dc2[CLIENT]));
    both.dc1["A"].put("/v1/config", &entry("grpc"));
    eventually("a change is copied", || match protocol(&both.dc2["C"]) {
        Ok(found) if found == "grpc" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let made = both.dc2["A"].cli(&["intention", "create", "-deny", "web", "db"]);
    assert_eq!(made.success(), "Created: web => db (deny)\n");
    eventually("the intention is copied", || {
        let said = both.dc2["B"].cli(&["intention", "check", "web", "db"]);
        if said.code == Some(2) {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
    both.dc1["B"].http().delete(path).expect("an answer");
    eventually("the end of it is copied", || {
        match protocol(&both.dc2["A"]) {
            Err(gone) if gone.starts_with("404") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_datacenter_that_is_down_is_told_apart_from_an_unknown_one_and_comes_back() {
    let mut both = Federation::joined();
    both.dc2["A"].put("/v1/kv/kept", "before");
    for name in SERVERS {
        both.dc2[name].kill();
    }
    let down = (
        500,
        "Remote DC has no server currently reachable".to_owned(),
    );
    for name in ["A", CLIENT] {
        // Before gossip knows it, too: nobody listens there.
        assert_eq!(
            refusal(&both.dc1[name], "/v1/kv/kept?dc=dc2"),
            down,
            "{name}"
        );
        both.dc1[name].put("/v1/kv/own", "goes on");
    }
    both.wait_for_wan("failed");
    for name in ["B", CLIENT] {
        assert_eq!(
            refusal(&both.dc1[name], "/v1/kv/kept?dc=dc2"),
            down,
            "{name}"
        );
        let unknown = refusal(&both.dc1[name], "/v1/kv/kept?dc=dc9");
        assert_eq!(unknown.1, "No path to datacenter");
    }
    assert_eq!(
        lookup(&both.dc1[CLIENT], "a.node.dc2.consul.")
            .metadata
            .response_code,
        ResponseCode::ServFail
    );
    start_servers(&mut both.dc2, "dc2");
    both.dc2.wait_for_voters(&SERVERS);
    // They remember each other and the first datacenter.
    both.wait_for_wan("alive");
    for name in ["C", CLIENT] {
        let value = both.dc1[name].value("kept", "dc=dc2");
        assert_eq!(value.as_deref(), Some("before"));
    }
}

#[test]
fn a_server_that_leaves_leaves_both_pools_and_requests_go_to_the_others() {
    let mut both = Federation::joined();
    both.dc2["A"].put("/v1/kv/k", "v");
    let (code, log) = both.dc2["C"].interrupt();
    assert_eq!(code, Some(0), "{}", log.stdout());
    both.dc2.wait_for_voters(&["A", "B"]);
    for observer in SERVERS {
        eventually("dc1 sees that it left", || {
            let seen = wan(&both.dc1[observer]);
            if seen[5] == "C.dc2 left" {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        });
        for _ in 0..5 {
            let value = both.dc1[observer].value("k", "dc=dc2");
            assert_eq!(value.as_deref(), Some("v"));
        }
    }
    // One that fails is skipped before anybody knows it.
    both.dc2["B"].kill();
    let name = "stale&dc=dc2";
    for _ in 0..5 {
        assert_eq!(both.dc1[CLIENT].value("k", name).as_deref(), Some("v"));
    }
    eventually("it failed", || {
        let seen = wan(&both.dc1["A"]);
        if seen[4] == "B.dc2 failed" {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    let forced = both.dc1["A"].cli(&["force-leave", "-wan", "B.dc2"]);
    assert_eq!(forced.success(), "");
    eventually("it counts as left", || {
        let seen = wan(&both.dc1["C"]);
        if seen[4] == "B.dc2 left" {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
}
