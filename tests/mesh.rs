//! What config entries are made to, end to end: entries of configuration files, rules, chains, addresses of services.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use serde_json::{Value, json};
use tests::{Agent, Cluster, SERVERS, eventually};

/// Long enough for any machine; a lost datagram is sent again.
const PATIENCE: Duration = Duration::from_secs(60);

const ENTRIES: &str = r#"
config_entries {
  bootstrap {
    kind   = "proxy-defaults"
    name   = "global"
    config { protocol = "http" }
  }
  bootstrap {
    kind   = "service-splitter"
    name   = "web"
    splits = [{ weight = 90 }, { weight = 10, service = "web-next" }]
  }
  bootstrap {
    kind   = "service-splitter"
    name   = "db"
    splits = [{ weight = 100, service_subset = "v9" }]
  }
}
"#;

const REFUSED: &str = "discovery chain \"web\" uses a protocol \"tcp\" that does not permit advanced routing or splitting behavior";

fn addresses(agent: &Agent, name: &str) -> Vec<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    let mut message = Message::query();
    message.add_query(Query::query(
        Name::from_ascii(name).expect("a name"),
        RecordType::A,
    ));
    let question = message.to_vec().expect("short enough");
    let to = format!(
        "{}:8600",
        agent.server_address().rsplit_once(':').expect("a port").0
    );
    socket.send_to(&question, to).expect("sent");
    let mut buffer = [0; 65_535];
    let (len, _) = socket.recv_from(&mut buffer).expect("an answer");
    let answer = Message::from_vec(&buffer[..len]).expect("a message");
    answer.answers.iter().map(|r| r.data.to_string()).collect()
}

fn sidecar(of: &str) -> String {
    let service = json!({"Kind": "connect-proxy", "Service": format!("{of}-proxy"), "Port": 20000,
                         "Proxy": {"DestinationServiceName": of}});
    json!({"Node": "n", "Address": "10.0.0.1", "Service": service}).to_string()
}

/// The address that stands for a service, once it has one, in the eyes of all of these.
#[track_caller]
fn virtual_ip(cluster: &Cluster, names: &[&str], service: &str) -> String {
    let name = format!("{service}.virtual.consul.");
    let found = names.iter().map(|agent| {
        eventually(
            &format!("{agent} knows an address for {service}"),
            || match addresses(&cluster[*agent], &name).as_slice() {
                [one] => Ok(one.clone()),
                other => Err(format!("{other:?}")),
            },
        )
    });
    let found: Vec<String> = found.collect();
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    found[0].clone()
}

#[test]
fn entries_of_files_are_written_once_and_kept_as_they_fit() {
    let mut cluster = Cluster::new();
    let file = cluster.path("entries.hcl");
    fs::write(&file, ENTRIES).expect("a file");
    let file = file.to_str().expect("UTF-8").to_owned();
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
    cluster["A"]
        .wait_for_line("consul: applied configuration entry: kind=service-splitter name=web");
    cluster["A"].wait_for_line("failed to apply configuration entry \"service-splitter\" / \"db\"");
    for name in ["B", "C"] {
        cluster[name].start(&["-server", "-config-file", &file]);
        cluster[name].wait_until_up();
    }
    let (a, b, c) = (
        cluster.address("A"),
        cluster.address("B"),
        cluster.address("C"),
    );
    cluster["A"].cli(&["join", &b, &c]).success();
    cluster.wait_for_voters(&SERVERS);
    cluster["D"].start(&["-retry-join", &a]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();

    for name in ["A", "B", "C", "D"] {
        let chain = eventually("the chain is the same everywhere", || {
            let chain: Value = cluster[name].json("/v1/discovery-chain/web")["Chain"].clone();
            match chain["StartNode"].as_str() {
                Some("splitter:web.default.default") => Ok(chain),
                other => Err(format!("{other:?}")),
            }
        });
        let splits = &chain["Nodes"]["splitter:web.default.default"]["Splits"];
        assert_eq!(
            (&splits[0]["Weight"], &splits[1]["Weight"]),
            (&json!(90), &json!(10)),
            "{name}"
        );
    }
    let none = cluster["B"].get("/v1/config/service-splitter/db");
    assert_eq!(none.status, 404, "{}", none.text());

    // What the chain needs stays, whoever is asked to remove it.
    for name in ["A", "C", "D"] {
        let reply = cluster[name]
            .http()
            .delete("/v1/config/proxy-defaults/global")
            .expect("an answer");
        assert_eq!(reply.status, 500);
        assert!(reply.text().contains(REFUSED), "{}", reply.text());
    }

    // Addresses stay when another server leads, and the next service has another one.
    cluster["D"].put("/v1/catalog/register", &sidecar("pay"));
    let everywhere = ["A", "B", "C", "D"];
    let pay = virtual_ip(&cluster, &everywhere, "pay");
    let web = virtual_ip(&cluster, &everywhere, "web");
    assert!(pay.starts_with("240.0.0.") && pay != web, "{pay} {web}");
    let leader = cluster.leader_among(&SERVERS);
    cluster[leader.as_str()].kill();
    let others: Vec<&str> = SERVERS.into_iter().filter(|name| *name != leader).collect();
    cluster.leader_among(&others);
    cluster["D"].put("/v1/catalog/register", &sidecar("cart"));
    let mut agents = others.clone();
    agents.push("D");
    let cart = virtual_ip(&cluster, &agents, "cart");
    assert_eq!(virtual_ip(&cluster, &agents, "pay"), pay);
    assert!(cart != pay && cart != web, "{cart} {pay} {web}");
    assert_eq!(
        addresses(&cluster["D"], "pay.connect.consul."),
        ["10.0.0.1"]
    );
}

#[test]
fn a_wrong_entry_is_refused_at_the_start_with_its_place() {
    let mut cluster = Cluster::new();
    let file = cluster.path("wrong.hcl");
    fs::write(
        &file,
        "config_entries {\n  bootstrap {\n    kind = \"service-splitter\"\n  }\n}\n",
    )
    .expect("a file");
    let file = file.to_str().expect("UTF-8").to_owned();
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
    let (code, process) = cluster["A"].ended();
    assert_eq!(code, Some(1));
    let place = format!("{file}:2:13: config_entries.bootstrap: Name is required");
    assert!(process.stderr().contains(&place), "{}", process.stderr());
}
