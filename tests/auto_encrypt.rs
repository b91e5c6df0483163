//! Certificates that come by themselves: a client with nothing but the servers' authority gets its own, uses it, and has it
//! replaced; whoever has none gets nothing else.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent::tls::make::{self, Names, Pair};
use serde_json::{Value, json};
use tests::{Agent, Cluster, Output, SERVERS, eventually, run};

const DAY: Duration = Duration::from_secs(86_400);

/// The line of a client that has a certificate.
const HAS: &str = "this agent has its certificate";

/// What servers demand, and give.
const STRICT: &str = "verify_incoming = true verify_outgoing = true";
const ALLOWED: &str = "auto_encrypt { allow_tls = true }";
const ASKS: &str = "auto_encrypt { tls = true }";

/// An authority that is not the mesh's, with the files of those for whom it vouches in a cluster's folder.
struct Authority(Pair);

impl Authority {
    fn new(cluster: &Cluster, file: &str) -> Self {
        let asked = make::Authority {
            common_name: file.to_owned(),
            lifetime: DAY,
            ..make::Authority::default()
        };
        let pair = make::authority(&asked).expect("a plain name");
        fs::write(cluster.path(file), &pair.cert).expect("room");
        Self(pair)
    }

    fn equip(&self, cluster: &Cluster, server: &str) {
        let names = Names {
            common_name: "server.dc1.consul".to_owned(),
            dns: vec!["server.dc1.consul".to_owned()],
            ips: vec![cluster[server].ip.into()],
            server: true,
        };
        let made = make::certificate(&self.0, &names, DAY).expect("plain names");
        show(cluster, server, &made.cert, &made.key);
    }
}

/// Writes what an agent shows.
fn show(cluster: &Cluster, name: &str, cert: &str, key: &str) {
    fs::write(cluster.path(&format!("{name}.pem")), cert).expect("room");
    fs::write(cluster.path(&format!("{name}-key.pem")), key).expect("room");
}

/// `tls` and what comes beside it, in a file.
fn configure(cluster: &Cluster, name: &str, ca: &str, defaults: &str, more: &str) -> String {
    let path = cluster.path(&format!("{name}.hcl"));
    let folder = cluster.folder().display();
    let mut text = format!("tls {{ defaults {{ ca_file = \"{folder}/{ca}\" {defaults}");
    if cluster.path(&format!("{name}.pem")).exists() {
        text +=
            &format!(" cert_file = \"{folder}/{name}.pem\" key_file = \"{folder}/{name}-key.pem\"");
    }
    text += &format!(
        " }} internal_rpc {{ verify_server_hostname = {} }} }}\n{more}",
        defaults.contains("verify_outgoing")
    );
    fs::write(&path, text).expect("room");
    path.display().to_string()
}

/// A server alone that has a certificate.
fn one_server(defaults: &str, more: &str) -> Cluster {
    let mut cluster = Cluster::new();
    Authority::new(&cluster, "ca.pem").equip(&cluster, "A");
    let file = configure(&cluster, "A", "ca.pem", defaults, more);
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
    cluster["A"].wait_for_line("connect: initialized primary datacenter CA");
    cluster
}

fn start_client(cluster: &mut Cluster, name: &str, file: &str) {
    let a = cluster.address("A");
    cluster[name].start(&["-retry-join", &a, "-config-file", file]);
    cluster[name].wait_until_up();
}

/// Waits until a client says on being asked that it is no use, and why.
fn wait_for_reason(agent: &Agent, part: &str) {
    eventually(&format!("{} says {part:?}", agent.name), || {
        let reply = agent
            .http()
            .get("/v1/agent/ready")
            .map_err(|e| e.to_string())?;
        match reply.status == 503 && reply.text().contains(part) {
            true => Ok(()),
            false => Err(format!("{} {}", reply.status, reply.text())),
        }
    });
}

/// Nothing that an agent asks of servers is answered.
fn is_cut_off(agent: &Agent) {
    let reply = agent.http().put("/v1/kv/a", "1").expect("an answer");
    let wanted = (500, "No cluster leader".to_owned());
    assert_eq!((reply.status, reply.text()), wanted, "{}", agent.name);
}

/// `kv get` over the HTTPS of an agent, known by these roots.
fn over_https(agent: &Agent, roots: &Path) -> Output {
    let (ip, roots) = (agent.ip, roots.display());
    let arguments = [
        "kv".to_owned(),
        "get".to_owned(),
        format!("-http-addr=https://{ip}:8501"),
        format!("-ca-file={roots}"),
        "a".to_owned(),
    ];
    run("agent", &arguments)
}

fn active_root(agent: &Agent) -> String {
    let roots = agent.json("/v1/connect/ca/roots");
    let all = roots["Roots"].as_array().expect("a list");
    let active = all.iter().find(|root| root["Active"] == true);
    active.expect("a root")["RootCert"]
        .as_str()
        .expect("PEM")
        .to_owned()
}

fn set_config(agent: &Agent, config: &Value) {
    let body = json!({"Provider": "consul", "Config": config}).to_string();
    let reply = agent.http().put("/v1/connect/ca/configuration", body);
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn register_web(cluster: &Cluster) {
    let path = "/v1/agent/service/register";
    let web = r#"{"Name": "web", "Port": 80}"#;
    let reply = cluster["D"].http().put(path, web).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    eventually("the catalog has D's service", || {
        let found = cluster["A"].json("/v1/catalog/service/web");
        match found[0]["Node"] == "D" {
            true => Ok(()),
            false => Err(found.to_string()),
        }
    });
}

#[test]
fn a_client_gets_a_certificate_and_has_it_replaced_while_it_works() {
    let mut cluster = Cluster::new();
    let authority = Authority::new(&cluster, "ca.pem");
    for name in SERVERS {
        authority.equip(&cluster, name);
        let file = configure(&cluster, name, "ca.pem", STRICT, ALLOWED);
        let flags = ["-server", "-bootstrap-expect", "3", "-config-file", &file];
        let a = cluster.address("A");
        cluster[name].start(&[&flags[..], &["-retry-join", &a]].concat());
    }
    for name in SERVERS {
        cluster[name].wait_until_up();
    }
    cluster.wait_for_voters(&SERVERS);
    let ip = cluster.address("D");
    let file = cluster.path("D.hcl");
    let ca = cluster.path("ca.pem");
    // As servers have it; a certificate that comes by itself does for that.
    let text = format!(
        "ports {{ https = 8501 }} auto_encrypt {{ tls = true ip_san = [\"{ip}\"] }}
         tls {{ defaults {{ ca_file = \"{}\" verify_incoming = true }} https {{ verify_incoming = false }} }}",
        ca.display()
    );
    fs::write(&file, text).expect("room");
    let file = file.display().to_string();
    start_client(&mut cluster, "D", &file);
    let id = cluster["A"].info("consul", "cluster_id").expect("a server");
    let named = format!("{HAS}: uri=spiffe://{id}.consul/agent/client/dc/dc1/id/D ");
    cluster["D"].wait_for_line(&named);
    cluster["D"].put("/v1/kv/a", "1");
    register_web(&cluster);
    let roots = cluster.path("roots.pem");
    fs::write(&roots, active_root(&cluster["D"])).expect("room");
    assert_eq!(over_https(&cluster["D"], &roots).success(), "1\n");
    let refused = over_https(&cluster["D"], &ca).failure();
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    // Another root: another certificate, without a word to anybody.
    let (mark, old) = (cluster["D"].mark(), active_root(&cluster["A"]));
    set_config(&cluster["B"], &json!({"PrivateKeyBits": 384}));
    cluster["D"].wait_for_line_after(mark, &named);
    let new = active_root(&cluster["D"]);
    assert_ne!(new, old);
    fs::write(&roots, new).expect("room");
    assert_eq!(over_https(&cluster["D"], &roots).success(), "1\n");

    // A restart asks again; what it gets now ends soon, and the old root with it.
    let short = json!({"LeafCertTTL": "2s", "SkipValidate": true, "PrivateKeyBits": 384});
    set_config(&cluster["A"], &short);
    cluster["D"].kill();
    start_client(&mut cluster, "D", &file);
    for _ in 0..3 {
        let mark = cluster["D"].mark();
        cluster["D"].wait_for_line_after(mark, &named);
    }
    for name in SERVERS {
        cluster[name].wait_until_up();
        let value = cluster["D"].value("a", "consistent");
        assert_eq!(value.as_deref(), Some("1"));
    }
    register_web(&cluster);
    // Connections that are made now show a certificate of the root that is left.
    let leader = cluster.leader_among(&SERVERS);
    cluster[leader.as_str()].kill();
    let left: Vec<&str> = SERVERS.into_iter().filter(|name| *name != leader).collect();
    cluster.leader_among(&left);
    eventually("D finds the new leader", || {
        let reply = cluster["D"].http().put("/v1/kv/a", "2");
        match reply.map_err(|e| e.to_string())?.text().as_str() {
            "true" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}

#[test]
fn who_shows_no_certificate_of_an_agent_gets_nothing() {
    let mut cluster = one_server(STRICT, ALLOWED);
    // TLS and nothing to show.
    let file = configure(&cluster, "E", "ca.pem", "verify_outgoing = true", "");
    start_client(&mut cluster, "E", &file);
    // A service's certificate of the mesh.
    let leaf = cluster["A"].json("/v1/agent/connect/ca/leaf/web");
    let pem = |name: &str| leaf[name].as_str().expect("PEM");
    show(&cluster, "F", pem("CertPEM"), pem("PrivateKeyPEM"));
    let file = configure(&cluster, "F", "ca.pem", "verify_outgoing = true", "");
    start_client(&mut cluster, "F", &file);
    // No TLS.
    let a = cluster.address("A");
    cluster["G"].start(&["-retry-join", &a]);
    cluster["G"].wait_until_up();
    for name in ["E", "F", "G"] {
        cluster.wait_for_members(
            name,
            &[
                ("A", "alive"),
                ("E", "alive"),
                ("F", "alive"),
                ("G", "alive"),
            ],
        );
        is_cut_off(&cluster[name]);
    }
    // With a certificate of the same root that is its own, F is let in.
    let file = configure(&cluster, "D", "ca.pem", "", ASKS);
    start_client(&mut cluster, "D", &file);
    cluster["D"].put("/v1/kv/a", "1");
}

#[test]
fn a_client_asks_nobody_whom_its_authority_does_not_know() {
    let mut cluster = one_server(STRICT, ALLOWED);
    Authority::new(&cluster, "other.pem");
    let file = configure(&cluster, "D", "other.pem", "", ASKS);
    start_client(&mut cluster, "D", &file);
    wait_for_reason(&cluster["D"], "UnknownIssuer");
    cluster["D"].wait_for_line("no certificate for this agent yet, will retry: ");
    is_cut_off(&cluster["D"]);
    assert_eq!(cluster["D"].count(HAS), 0);
    // One that is not a server by its name is not asked, either.
    let names = Names {
        common_name: "client".to_owned(),
        dns: vec!["client.dc1.consul".to_owned()],
        server: true,
        ..Names::default()
    };
    let mut cluster = Cluster::new();
    let authority = Authority::new(&cluster, "ca.pem");
    let made = make::certificate(&authority.0, &names, DAY).expect("plain names");
    show(&cluster, "A", &made.cert, &made.key);
    let file = configure(&cluster, "A", "ca.pem", "", ALLOWED);
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &file]);
    cluster["A"].wait_for_line("connect: initialized primary datacenter CA");
    let file = configure(&cluster, "D", "ca.pem", "", ASKS);
    start_client(&mut cluster, "D", &file);
    wait_for_reason(&cluster["D"], "not valid for name");
    is_cut_off(&cluster["D"]);
}

#[test]
fn servers_that_give_none_say_so_and_clients_why_they_wait() {
    let mut cluster = one_server("", "");
    let file = configure(&cluster, "D", "ca.pem", "", ASKS);
    start_client(&mut cluster, "D", &file);
    let wanted = "auto_encrypt.allow_tls is off on this server: set it on all servers";
    wait_for_reason(&cluster["D"], wanted);
    cluster["D"].wait_for_line(wanted);
    is_cut_off(&cluster["D"]);
    // It goes on asking, and needs no restart.
    cluster["A"].kill();
    let file = configure(&cluster, "A", "ca.pem", "verify_outgoing = true", ALLOWED);
    cluster["A"].start(&["-server", "-config-file", &file]);
    cluster["A"].wait_until_up();
    cluster["D"].wait_for_line(HAS);
    cluster["D"].put("/v1/kv/a", "1");

    let mut cluster = one_server(STRICT, "");
    let file = configure(&cluster, "D", "ca.pem", "", ASKS);
    start_client(&mut cluster, "D", &file);
    wait_for_reason(&cluster["D"], "is auto_encrypt.allow_tls = true set there?");
}

#[test]
fn with_acls_it_takes_the_right_to_write_the_node() {
    let manager = "11111111-0000-0000-0000-000000000001";
    let acl = format!(
        "{ALLOWED} acl {{ enabled = true default_policy = \"deny\" tokens {{ initial_management = \"{manager}\" agent = \"{manager}\" }} }}"
    );
    let mut cluster = one_server(STRICT, &acl);
    let token = |rules: &str, name: &str| {
        let policy = json!({"Name": name, "Rules": rules}).to_string();
        let http = cluster["A"].http();
        let path = format!("/v1/acl/policy?token={manager}");
        let made = http.put(&path, policy).expect("an answer");
        assert_eq!(made.status, 200, "{}", made.text());
        let body = json!({"Policies": [{"Name": name}]}).to_string();
        let made = http.put(&format!("/v1/acl/token?token={manager}"), body);
        let made = made.expect("an answer").json();
        made["SecretID"].as_str().expect("a secret").to_owned()
    };
    let other = token("node \"E\" { policy = \"write\" }", "other");
    let own = token("node \"D\" { policy = \"write\" }", "own");
    let with = |secret: &str| {
        format!(
            "{ASKS} acl {{ enabled = true default_policy = \"deny\" tokens {{ agent = \"{secret}\" }} }}"
        )
    };
    let file = configure(&cluster, "D", "ca.pem", "", &with(&other));
    let a = cluster.address("A");
    let flags = ["-retry-join", &a, "-config-file", &file];
    cluster["D"].start(&flags);
    cluster["D"].wait_for_line("lacks permission 'node:write' on \"D\"");
    assert_eq!(cluster["D"].count(HAS), 0);
    cluster["D"].kill();
    configure(&cluster, "D", "ca.pem", "", &with(&own));
    cluster["D"].start(&flags);
    cluster["D"].wait_for_line(HAS);
}
