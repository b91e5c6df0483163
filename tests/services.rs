//! Services and checks of agents, from files and the API, and the catalog that follows them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tests::{Agent, Cluster, Signal, eventually};

/// Three servers through the manual, and the client D.
fn with_client(flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::formed();
    let a = cluster.address("A");
    cluster["D"].start(&[&["-retry-join", &a], flags].concat());
    cluster["D"].wait_for_leader();
    cluster
}

#[track_caller]
fn done(agent: &Agent, path: &str, body: &str) {
    let reply = agent.http().put(path, body).expect("an answer");
    assert_eq!((reply.status, reply.text().as_str()), (200, ""), "{path}");
}

/// Waits until every instance of a service has these statuses, in the eyes of `agent`; none for no instance.
#[track_caller]
fn wait_for_health(agent: &Agent, service: &str, wanted: Option<&str>) {
    eventually(&format!("{service} is {wanted:?}"), || {
        let reply = agent
            .http()
            .get(&format!("/v1/health/checks/{service}"))
            .map_err(|e| e.to_string())?;
        let found: Value = serde_json::from_slice(&reply.body).map_err(|_| reply.text())?;
        let found: Vec<_> = found.as_array().into_iter().flatten().collect();
        let good = match wanted {
            None => found.is_empty(),
            Some(status) => {
                !found.is_empty() && found.iter().all(|check| check["Status"] == status)
            }
        };
        if good { Ok(()) } else { Err(reply.text()) }
    });
}

/// The index up to which the leader's log is applied, once it stays the same.
fn log_index(cluster: &Cluster) -> u64 {
    let index = cluster["A"]
        .info("raft", "applied_index")
        .expect("an answer");
    index.parse().expect("a number")
}

/// An HTTP server that answers with the status in the cell.
fn web_server(cluster: &Cluster) -> (String, Arc<AtomicU16>) {
    let listener = TcpListener::bind(cluster.block.socket(9, 0)).expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let status = Arc::new(AtomicU16::new(200));
    let cell = status.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let status = cell.load(Ordering::SeqCst);
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
            );
        }
    });
    (address, status)
}

#[test]
fn the_catalog_follows_an_agent_through_its_life() {
    let mut cluster = with_client(&["-node-meta", "rack:7"]);
    let (address, status) = web_server(&cluster);
    let web = format!(
        r#"{{"Name": "web", "Port": 80, "Tags": ["v1"], "Check": {{"HTTP": "http://{address}/", "Interval": "1s"}}}}"#
    );
    done(&cluster["D"], "/v1/agent/service/register", &web);
    wait_for_health(&cluster["B"], "web", Some("passing"));
    let shown = cluster["C"].json("/v1/health/service/web?passing");
    assert_eq!(shown[0]["Node"]["Node"], "D");
    assert_eq!(shown[0]["Node"]["Meta"]["rack"], "7", "{shown}");
    assert_eq!(shown[0]["Checks"].as_array().map(Vec::len), Some(2));
    status.store(500, Ordering::SeqCst);
    wait_for_health(&cluster["B"], "web", Some("critical"));
    assert_eq!(
        cluster["B"].json("/v1/health/service/web?passing"),
        serde_json::json!([])
    );
    status.store(429, Ordering::SeqCst);
    wait_for_health(&cluster["B"], "web", Some("warning"));
    status.store(200, Ordering::SeqCst);
    wait_for_health(&cluster["B"], "web", Some("passing"));

    // A server has services too.
    done(
        &cluster["B"],
        "/v1/agent/service/register",
        r#"{"Name": "db", "Check": {"TTL": "1h"}}"#,
    );
    wait_for_health(&cluster["C"], "db", Some("critical"));
    done(
        &cluster["B"],
        "/v1/agent/check/pass/service:db?note=well",
        "",
    );
    wait_for_health(&cluster["C"], "db", Some("passing"));

    // Killed and started again, it has what it had.
    cluster["D"].kill();
    cluster["B"].kill();
    let a = cluster.address("A");
    cluster["D"].start(&["-retry-join", &a]);
    cluster["B"].start(&["-server"]);
    cluster["D"].wait_for_leader();
    cluster["B"].wait_for_leader();
    assert_eq!(
        cluster["B"].json("/v1/agent/checks")["service:db"]["Status"],
        "passing"
    );
    wait_for_health(&cluster["C"], "web", Some("passing"));
    eventually("the meta data is gone with its flag", || {
        let nodes = cluster["C"].json("/v1/catalog/node/D");
        match &nodes["Node"]["Meta"]["rack"] {
            Value::Null => Ok(()),
            rack => Err(rack.to_string()),
        }
    });

    // What others change is not seen until the next look at everything, what goes here goes at once.
    done(&cluster["D"], "/v1/agent/service/deregister/web", "");
    wait_for_health(&cluster["B"], "web", None);
    assert_eq!(
        cluster["B"].json("/v1/catalog/service/web"),
        serde_json::json!([])
    );

    // At rest nothing is written. The news of a second are enough to see what is written without need.
    eventually("the log is at rest", || {
        let before = log_index(&cluster);
        std::thread::sleep(std::time::Duration::from_secs(2));
        match log_index(&cluster) {
            after if after == before => Ok(()),
            after => Err(format!("{before} became {after}")),
        }
    });

    // Who leaves takes everything with it.
    done(
        &cluster["D"],
        "/v1/agent/service/register",
        r#"{"Name": "gone"}"#,
    );
    let (code, _) = cluster["D"].interrupt();
    assert_eq!(code, Some(0));
    eventually("D is gone", || {
        match cluster["A"].json("/v1/catalog/node/D") {
            Value::Null => Ok(()),
            other => Err(other.to_string()),
        }
    });
}

#[test]
fn files_define_services_and_a_reload_takes_them_over() {
    let mut cluster = Cluster::formed();
    let folder = cluster.path("config");
    fs::create_dir(&folder).expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
    let flag = cluster.path("ill");
    let script = format!(
        r#"enable_local_script_checks = true
        service {{ name = "web" port = 80
          check {{ args = ["sh", "-c", "if test -e {}; then exit 2; fi; echo well"] interval = "1s" }} }}
        service {{ name = "side" check {{ alias_service = "web" }} }}"#,
        flag.display()
    );
    write("a.hcl", &script);
    write(
        "b.json",
        r#"{"node_meta": {"rack": "1"}, "check": {"name": "disk", "ttl": "1h", "status": "passing"}}"#,
    );
    let a = cluster.address("A");
    let path = folder.display().to_string();
    cluster["D"].start(&["-retry-join", &a, "-config-dir", &path]);
    for service in ["web", "side"] {
        wait_for_health(&cluster["A"], service, Some("passing"));
    }
    fs::write(&flag, "").expect("a file");
    for service in ["web", "side"] {
        wait_for_health(&cluster["A"], service, Some("critical"));
    }
    fs::remove_file(&flag).expect("there");
    // One goes, one comes, one stays; so does the node's meta data.
    write(
        "b.json",
        r#"{"node_meta": {"rack": "2"}, "service": {"name": "new", "check": {"ttl": "1h", "status": "passing"}}}"#,
    );
    let reply = cluster["D"]
        .http()
        .put("/v1/agent/reload", "")
        .expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let services = cluster["D"].json("/v1/agent/services");
    assert!(
        services.get("new").is_some() && services.get("web").is_some(),
        "{services}"
    );
    assert_eq!(cluster["D"].json("/v1/agent/self")["Meta"]["rack"], "2");
    wait_for_health(&cluster["B"], "new", Some("passing"));
    wait_for_health(&cluster["B"], "web", Some("passing"));
    eventually("the node's check is gone and its meta data is new", || {
        let checks = cluster["B"].json("/v1/health/node/D");
        let ids: Vec<_> = checks
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| &c["CheckID"])
            .collect();
        let rack = cluster["B"].json("/v1/catalog/node/D")["Node"]["Meta"]["rack"].clone();
        if rack == "2" && !ids.iter().any(|id| *id == "disk") {
            Ok(())
        } else {
            Err(format!("{rack} {checks}"))
        }
    });
    // A file with a mistake changes nothing, and says what is wrong.
    write("b.json", r#"{"service": {"name": "new", "chek": {}}}"#);
    let reply = cluster["D"]
        .http()
        .put("/v1/agent/reload", "")
        .expect("an answer");
    assert_eq!(reply.status, 500);
    assert!(
        reply.text().contains("invalid config key chek"),
        "{}",
        reply.text()
    );
    assert!(cluster["D"].json("/v1/agent/services").get("new").is_some());
    cluster["D"].signal(Signal::HUP);
    cluster["D"].wait_for_line("Failed to reload configs");
}

#[test]
fn what_is_registered_without_servers_waits_for_them() {
    let mut cluster = Cluster::new();
    cluster["D"].start(&[]);
    cluster["D"].wait_until_up();
    done(
        &cluster["D"],
        "/v1/agent/service/register",
        r#"{"Name": "early", "Check": {"TTL": "1h", "Status": "passing"}}"#,
    );
    assert!(
        cluster["D"]
            .json("/v1/agent/services")
            .get("early")
            .is_some()
    );
    cluster["A"].start(&["-server", "-bootstrap"]);
    cluster["A"].wait_for_line("consul: cluster leadership acquired");
    let a = cluster.address("A");
    cluster["D"].cli(&["join", &a]).success();
    wait_for_health(&cluster["A"], "early", Some("passing"));
}

#[test]
fn a_sidecar_is_in_the_catalog_as_long_as_its_service() {
    let mut cluster = with_client(&[]);
    let d = &cluster["D"];
    let web = r#"{"Name":"web","Port":80,"Check":{"TTL":"1h","Status":"passing"},
        "Connect":{"SidecarService":{"Check":{"TTL":"1h","Status":"passing"}}}}"#;
    done(d, "/v1/agent/service/register", web);
    wait_for_health(d, "web-sidecar-proxy", Some("passing"));
    let found = cluster["A"].json("/v1/health/connect/web");
    let service = &found[0]["Service"];
    assert_eq!(service["ID"], "web-sidecar-proxy");
    assert_eq!(service["Port"], 21000);
    assert_eq!(service["Proxy"]["LocalServicePort"], 80);
    // It keeps its port over a restart.
    let a = cluster.address("A");
    cluster["D"].kill();
    cluster["D"].start(&["-retry-join", &a]);
    cluster["D"].wait_for_leader();
    let d = &cluster["D"];
    let kept = d.json("/v1/agent/service/web-sidecar-proxy");
    assert_eq!(kept["Port"], 21000);
    done(d, "/v1/agent/service/deregister/web", "");
    wait_for_health(&cluster["A"], "web", None);
    eventually("the sidecar has gone, too", || {
        let found = cluster["A"].json("/v1/catalog/service/web-sidecar-proxy");
        match found.as_array().is_some_and(Vec::is_empty) {
            true => Ok(()),
            false => Err(found.to_string()),
        }
    });
}
