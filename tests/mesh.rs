//! What config entries are made to, end to end: entries of configuration files, rules, chains, addresses of services, and
//! what is drawn of it all.

use std::fs;
use std::net::UdpSocket;
use std::thread;
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

/// Names on one side of a service with what tells of them, as the pages draw it.
fn drawn(topology: &Value, side: &str) -> Vec<String> {
    let links = topology[side].as_array().expect("a list").iter();
    let text = |link: &Value, name: &str| link[name].as_str().expect("a text").to_owned();
    links
        .map(|link| format!("{} {}", text(link, "Name"), text(link, "Source")))
        .collect()
}

fn topology_of(service: &str) -> String {
    format!("/v1/internal/ui/service-topology/{service}")
}

/// `web` is told to connect to `orders`, which is `db`; `api` connects to whomever it may; `door` leads to `web`.
fn fill(d: &Agent) {
    let register = |service: Value| {
        let body = json!({"Node": "n", "Address": "10.0.0.1", "Service": service});
        d.put("/v1/catalog/register", &body.to_string());
    };
    let proxy = |of: &str, fields: Value| {
        let mut proxy = json!({"DestinationServiceName": of});
        for (name, value) in fields.as_object().expect("fields") {
            proxy[name] = value.clone();
        }
        json!({"Kind": "connect-proxy", "Service": format!("{of}-proxy"), "Port": 20000, "Proxy": proxy})
    };
    let to = json!({"Upstreams": [{"DestinationName": "orders", "LocalBindPort": 1}]});
    for name in ["web", "api", "db", "old"] {
        register(json!({"Service": name}));
    }
    register(proxy("web", to));
    register(proxy("api", json!({"Mode": "transparent"})));
    register(proxy("db", json!({})));
    let entry = |entry: Value| d.put("/v1/config", &entry.to_string());
    entry(json!({"Kind": "service-resolver", "Name": "orders", "Redirect": {"Service": "db"}}));
    entry(json!({"Kind": "ingress-gateway", "Name": "door",
                 "Listeners": [{"Port": 8080, "Protocol": "tcp", "Services": [{"Name": "web"}]}]}));
    register(json!({"Kind": "ingress-gateway", "Service": "door", "Port": 8080}));
}

#[track_caller]
fn is_drawn(agent: &Agent) {
    let get = |of: &str| agent.json(&topology_of(of));
    let web = get("web?kind=");
    assert_eq!(drawn(&web, "Upstreams"), ["orders routing-config"]);
    let expected = ["api default-allow", "door proxy-registration"];
    assert_eq!(drawn(&web, "Downstreams"), expected);
    let db = get("db?kind=");
    let expected = ["api default-allow", "web proxy-registration"];
    assert_eq!(drawn(&db, "Downstreams"), expected);
    let api = get("api?kind=");
    assert_eq!(api["TransparentProxy"], true);
    let expected = [
        "db default-allow",
        "old default-allow",
        "web default-allow",
        "orders routing-config",
    ];
    assert_eq!(drawn(&api, "Upstreams"), expected);
    let door = get("door?kind=ingress-gateway");
    assert_eq!(drawn(&door, "Upstreams"), ["web proxy-registration"]);
    let behind = agent.json("/v1/internal/ui/gateway-services-nodes/door");
    assert_eq!(
        behind[0]["GatewayConfig"]["Addresses"],
        json!(["web.ingress.dc1.consul:8080"])
    );
    let services = agent.json("/v1/internal/ui/services");
    let of = |name: &str| {
        let services = services.as_array().expect("a list").iter();
        let mut found = services.filter(|one| one["Name"] == name);
        found.next().expect("it is there").clone()
    };
    let web = of("web");
    assert_eq!(web["ConnectedWithProxy"], true);
    assert_eq!(web["ConnectedWithGateway"], true);
    assert_eq!(of("old")["ConnectedWithProxy"], false);
    assert_eq!(of("db")["ConnectedWithGateway"], false);
    assert_eq!(of("door")["GatewayConfig"]["AssociatedServiceCount"], 1);
}

#[test]
fn the_mesh_is_drawn_alike_by_servers_and_clients() {
    let mut cluster = Cluster::new();
    cluster["A"].start(&["-server", "-bootstrap"]);
    cluster["A"].wait_until_up();
    let a = cluster.address("A");
    cluster["D"].start(&["-retry-join", &a]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    let d = &cluster["D"];
    fill(d);
    for name in ["A", "D"] {
        is_drawn(&cluster[name]);
    }

    // An intention that denies takes a connection off the picture, of which whoever waits is told.
    let index = d.get(&topology_of("db?kind=")).index();
    thread::scope(|scope| {
        let waits =
            scope.spawn(|| d.json(&topology_of(&format!("db?kind=&index={index}&wait=60s"))));
        let sources = json!([{"Name": "api", "Action": "deny"}]);
        let entry = json!({"Kind": "service-intentions", "Name": "db", "Sources": sources});
        d.put("/v1/config", &entry.to_string());
        let db = waits.join().expect("an answer");
        assert_eq!(drawn(&db, "Downstreams"), ["web proxy-registration"]);
    });
    let intentions = d.json("/v1/internal/ui/gateway-intentions/door");
    assert_eq!(intentions, json!([]), "none for web");
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
