//! The certificate authority of the service mesh on real servers: its root outlives leaders and restarts, and while
//! roots change everybody can verify everybody. What verifies is the library that rustls uses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use tests::{Agent, Cluster, SERVERS, eventually};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

mod datacenters;

const ROOTS: &str = "/v1/agent/connect/ca/roots";
const CONFIGURATION: &str = "/v1/connect/ca/configuration";

/// A service's certificate with the index of its answer, and whether the agent had it already.
struct Leaf {
    chain: String,
    uri: String,
    index: u64,
    known: bool,
}

fn leaf(agent: &Agent, service: &str, params: &str) -> Leaf {
    let path = format!("/v1/agent/connect/ca/leaf/{service}{params}");
    // One that waits may wait for long.
    let limit = Duration::from_secs(300);
    let reply = agent.http().request_within(limit, "GET", &path, b"");
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let shown = reply.json();
    let text = |name: &str| shown[name].as_str().expect("a text").to_owned();
    assert!(text("PrivateKeyPEM").starts_with("-----BEGIN PRIVATE KEY-----"));
    Leaf {
        chain: text("CertPEM"),
        uri: text("ServiceURI"),
        index: reply.index(),
        known: reply.header("x-cache") == Some("HIT"),
    }
}

/// What an agent says of the roots, once one is active.
fn roots(agent: &Agent) -> Value {
    eventually("there is an active root", || {
        let reply = agent.http().get(ROOTS).map_err(|e| e.to_string())?;
        if reply.status != 200 {
            return Err(reply.text());
        }
        let roots = reply.json();
        match roots["ActiveRootID"].as_str() {
            Some("") | None => Err(roots.to_string()),
            Some(_) => Ok(roots),
        }
    })
}

fn certs(roots: &Value) -> Vec<String> {
    let all = roots["Roots"].as_array().expect("a list");
    let cert = |root: &Value| root["RootCert"].as_str().expect("PEM").to_owned();
    all.iter().map(cert).collect()
}

/// Whether somebody who trusts these roots verifies a certificate, as a server's and as a client's.
fn verify(chain: &str, roots: &[String]) -> Result<(), String> {
    let read = |pem: &String| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let roots: Vec<_> = roots.iter().map(read).collect();
    let anchors: Vec<_> = roots
        .iter()
        .map(|root| anchor_from_trusted_cert(root).expect("a root"))
        .collect();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .map(|cert| cert.expect("PEM"))
        .collect();
    let leaf = EndEntityCert::try_from(&chain[0]).expect("a certificate");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock");
    let now = UnixTime::since_unix_epoch(now);
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let all = webpki::ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(all, &anchors, &chain[1..], now, usage, None, None)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn set_config(agent: &Agent, config: &Value) {
    let body = json!({"Provider": "consul", "Config": config}).to_string();
    let reply = agent.http().put(CONFIGURATION, body).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn the_root_outlives_leaders_and_restarts_and_comes_back_with_a_saved_state() {
    let mut cluster = Cluster::formed();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    let first = roots(&cluster["D"]);
    for name in SERVERS {
        assert_eq!(roots(&cluster[name]), first, "{name}");
    }
    let cluster_id = cluster["A"]
        .info("consul", "cluster_id")
        .expect("an answer");
    assert_eq!(first["TrustDomain"], format!("{cluster_id}.consul"));
    let web = leaf(&cluster["D"], "web", "");
    let wanted = format!("spiffe://{cluster_id}.consul/ns/default/dc/dc1/svc/web");
    assert_eq!((web.uri.as_str(), web.known), (wanted.as_str(), false));
    assert_eq!(verify(&web.chain, &certs(&first)), Ok(()));
    let again = leaf(&cluster["D"], "web", "");
    assert_eq!((again.chain, again.known), (web.chain.clone(), true));

    let leader = cluster.leader_among(&SERVERS);
    cluster[leader.as_str()].kill();
    let left: Vec<&str> = SERVERS.into_iter().filter(|name| *name != leader).collect();
    cluster.leader_among(&left);
    for name in &left {
        assert_eq!(roots(&cluster[name]), first, "{name}");
    }
    let db = leaf(&cluster["D"], "db", "");
    assert_eq!(verify(&db.chain, &certs(&first)), Ok(()));
    cluster[leader.as_str()].start(&["-server"]);
    cluster.wait_for_voters(&SERVERS);
    cluster.wait_until_equal(&SERVERS);
    assert_eq!(roots(&cluster[leader.as_str()]), first);

    let file = cluster.path("state.snap").display().to_string();
    cluster["A"].cli(&["snapshot", "save", &file]).success();
    for path in [
        &cluster["A"].data.join("raft/wal/0000000001.wal"),
        Path::new(&file),
    ] {
        let found = fs::metadata(path).expect("a file").permissions();
        assert_eq!(found.mode() & 0o077, 0, "{path:?} holds a private key");
    }
    set_config(&cluster["D"], &json!({"PrivateKeyBits": 384}));
    assert_ne!(roots(&cluster["A"])["ActiveRootID"], first["ActiveRootID"]);
    cluster["A"].cli(&["snapshot", "restore", &file]).success();
    cluster.wait_until_equal(&SERVERS);
    for name in ["A", "B", "C", "D"] {
        let found = roots(&cluster[name]);
        assert_eq!(found["ActiveRootID"], first["ActiveRootID"], "{name}");
        assert_eq!(certs(&found), certs(&first), "{name}");
    }
    let api = leaf(&cluster["D"], "api", "");
    assert_eq!(verify(&api.chain, &certs(&first)), Ok(()));
    // All of them at once, from their disks.
    for name in SERVERS {
        cluster[name].kill();
    }
    for name in SERVERS {
        cluster[name].start(&["-server"]);
    }
    cluster.wait_for_voters(&SERVERS);
    let found = roots(&cluster["C"]);
    assert_eq!(found["ActiveRootID"], first["ActiveRootID"]);
    assert_eq!(
        verify(&leaf(&cluster["C"], "web", "").chain, &certs(&first)),
        Ok(())
    );
}

#[test]
fn while_roots_change_everybody_verifies_everybody() {
    let mut cluster = Cluster::formed();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    let old = roots(&cluster["D"]);
    let before = leaf(&cluster["D"], "web", "");
    let config = cluster["A"].cli(&["connect", "ca", "get-config"]).success();
    assert!(
        config.starts_with("{\n\t\"Provider\": \"consul\",\n"),
        "{config}"
    );
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["Config"]["PrivateKeyBits"] = 384.into();
    let file = cluster.path("ca.json");
    fs::write(&file, config.to_string()).expect("a writable folder");
    let file = file.display().to_string();
    let params = format!("?index={}&wait=240s", before.index);
    let after = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| leaf(&cluster["D"], "web", &params));
        let arguments = ["connect", "ca", "set-config", "-config-file", &file];
        let said = cluster["B"].cli(&arguments).success();
        assert_eq!(said, "Configuration updated!\n");
        waiting.join().expect("an answer")
    });
    assert!(after.index > before.index && after.chain != before.chain);
    let new = roots(&cluster["D"]);
    let both = certs(&new);
    assert_eq!(both.len(), 2);
    assert_eq!(both[1..], certs(&old));
    for chain in [&before.chain, &after.chain] {
        assert_eq!(verify(chain, &both), Ok(()));
    }
    assert_eq!(verify(&after.chain, &both[..1]), Ok(()));
    assert_eq!(
        verify(&after.chain, &both[1..]),
        Ok(()),
        "the old root signed the new one"
    );
    // A new leader goes on with both.
    let leader = cluster.leader_among(&SERVERS);
    cluster[leader.as_str()].kill();
    let left: Vec<&str> = SERVERS.into_iter().filter(|name| *name != leader).collect();
    cluster.leader_among(&left);
    assert_eq!(certs(&roots(&cluster[left[0]])), both);

    // Without regard to the shortest time that Consul allows, the rest does not take three days.
    let short = json!({"LeafCertTTL": "2s", "SkipValidate": true, "PrivateKeyBits": 384});
    set_config(&cluster["D"], &short);
    eventually("the old root is forgotten", || {
        let found = certs(&roots(&cluster["D"]));
        if found == both[..1] {
            return Ok(());
        }
        Err(format!("{} roots", found.len()))
    });
    let brief = leaf(&cluster["D"], "brief", "");
    // It is replaced before it ends, for whoever waits for that.
    let params = format!("?index={}&wait=240s", brief.index);
    let next = leaf(&cluster["D"], "brief", &params);
    assert!(next.index > brief.index && next.chain != brief.chain);
}

#[test]
fn watches_see_roots_certificates_and_services() {
    let mut cluster = Cluster::new();
    cluster["A"].start(&["-server", "-bootstrap"]);
    let made = "connect: initialized primary datacenter CA with provider: provider=consul";
    cluster["A"].wait_for_line(made);
    let a = &cluster["A"];
    let known = roots(a);
    let watch = |arguments: &[&str]| -> Value {
        let said = a.cli(&[&["watch"], arguments].concat()).success();
        serde_json::from_str(&said).expect("JSON")
    };
    assert_eq!(watch(&["-type=connect_roots"]), known);
    let leaf = watch(&["-type=connect_leaf", "-service=web"]);
    assert_eq!(leaf["Service"], "web");
    let service = r#"{"ID": "web-1", "Name": "web", "Port": 80}"#;
    let path = "/v1/agent/service/register";
    let reply = a.http().put(path, service).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let service = watch(&["-type=agent_service", "-service=web-1"]);
    assert_eq!(
        (&service["ID"], &service["Port"]),
        (&json!("web-1"), &json!(80))
    );
    let refused = a.cli(&["watch", "-type=connect_leaf"]).failure();
    assert!(
        refused.contains("Must specify a single service name to watch"),
        "{refused}"
    );
}

#[test]
fn without_a_mesh_there_is_no_authority() {
    let mut cluster = Cluster::new();
    let config = cluster.path("off.hcl");
    fs::write(&config, "connect { enabled = false }").expect("a writable folder");
    let config = config.display().to_string();
    cluster["A"].start(&["-server", "-bootstrap", "-config-file", &config]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let reply = cluster["A"].http().get(ROOTS).expect("an answer");
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (500, "Connect must be enabled in order to use this endpoint")
    );
    // An agent that knows of none is told by the leader.
    let a = cluster.address("A");
    cluster["D"].start(&["-retry-join", &a]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    let path = "/v1/connect/ca/configuration";
    let body = r#"{"Provider": "consul", "Config": {}}"#;
    let reply = cluster["D"].http().put(path, body).expect("an answer");
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (500, "Connect must be enabled in order to use this endpoint")
    );
}
