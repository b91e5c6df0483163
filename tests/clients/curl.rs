//! `curl`: the examples of Consul's HTTP documentation, and HTTP as such.

use std::fs;

use serde_json::{Value, json};
use tests::{Agent, Cluster};

use crate::record::Record;
use crate::{cluster, compatibility, run, tool};

/// What curl prints of one answer with `-i`.
struct Shown {
    status: u16,
    version: String,
    head: String,
    body: String,
}

impl Shown {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// Runs curl as people write it; `$` in the address stands for the agent.
#[track_caller]
fn curl(agent: &Agent, words: &[&str]) -> Shown {
    let mut command = tool("curl", "curl");
    // No proxy, nobody's settings.
    command.args([
        "-q",
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--include",
    ]);
    let address = format!("http://{}", agent.http().address);
    let said = run(command.args(words.iter().map(|word| word.replace('$', &address))));
    // A `100 Continue` comes before the answer.
    let mut rest = said.as_str();
    loop {
        let (head, body) = rest
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no head in {said}"));
        let mut line = head.lines().next().unwrap_or_default().split(' ');
        let version = line.next().unwrap_or_default().to_owned();
        let status = line
            .next()
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status in {said}"));
        if status != 100 {
            let (head, body) = (head.to_owned(), body.to_owned());
            return Shown {
                status,
                version,
                head,
                body,
            };
        }
        rest = body;
    }
}

#[test]
fn curl_is_answered_as_consuls_documentation_says() {
    let cluster = cluster();
    let record = Record::of(&cluster, &["D"]);
    documented(&cluster);
    kv(&cluster["D"]);
    compatibility::is_claimed("curl", &record.asked(&cluster));
    // On a follower or a leader as well, without a look at what was asked.
    kv(&cluster["A"]);
    bodies(&cluster);
    connections(&cluster["D"]);
    refusals(&cluster["D"]);
}

/// The documented examples, with the payloads of the documentation in files.
fn documented(cluster: &Cluster) {
    let d = &cluster["D"];
    let payload = |name: &str, body: Value| {
        fs::write(cluster.path(name), body.to_string()).expect("written");
        format!("@{}", cluster.path(name).display())
    };
    let service = payload(
        "payload.json",
        json!({
            "ID": "redis1", "Name": "redis", "Tags": ["primary", "v1"], "Address": "127.0.0.1", "Port": 8000,
            "Meta": {"redis_version": "4.0"}, "EnableTagOverride": false, "Weights": {"Passing": 10, "Warning": 1},
            "Check": {"DeregisterCriticalServiceAfter": "90m", "TTL": "1h", "CheckID": "redis-check", "Status": "passing"},
        }),
    );
    let put = |path: &str, data: Option<&str>| {
        let mut words = vec!["--request", "PUT"];
        words.extend(data.iter().flat_map(|data| ["--data", *data]));
        words.push(path);
        let shown = curl(d, &words);
        assert_eq!(shown.status, 200, "{path}: {}", shown.body);
        shown
    };
    let get = |path: &str| {
        let shown = curl(d, &[path]);
        assert_eq!(shown.status, 200, "{path}: {}", shown.body);
        shown.json()
    };
    put(
        "$/v1/agent/service/register?replace-existing-checks=true",
        Some(&service),
    );
    assert_eq!(
        get("$/v1/agent/services")["redis1"]["Meta"]["redis_version"],
        "4.0"
    );
    assert_eq!(get("$/v1/agent/service/redis1")["Weights"]["Passing"], 10);
    put("$/v1/agent/check/warn/redis-check?note=slow", None);
    let shown = curl(d, &["$/v1/agent/health/service/id/redis1?format=text"]);
    assert_eq!((shown.status, shown.body.as_str()), (429, "warning"));
    put(
        "$/v1/agent/service/maintenance/redis1?enable=true&reason=For+the+docs",
        None,
    );
    let shown = curl(d, &["$/v1/agent/health/service/name/redis"]);
    assert_eq!(shown.status, 503, "{}", shown.body);
    put("$/v1/agent/service/deregister/redis1", None);

    let external = payload(
        "external.json",
        json!({
            "Datacenter": "dc1", "Node": "t2.320", "Address": "192.168.10.10",
            "TaggedAddresses": {"lan": "192.168.10.10", "wan": "10.0.10.10"}, "NodeMeta": {"somekey": "somevalue"},
            "Service": {"ID": "redis2", "Service": "redis", "Tags": ["primary"], "Port": 8000},
            "Check": {"Node": "t2.320", "CheckID": "service:redis2", "Name": "Redis health check", "Status": "passing", "ServiceID": "redis2"},
        }),
    );
    put("$/v1/catalog/register", Some(&external));
    let found = get("$/v1/health/service/redis?passing&tag=primary&node-meta=somekey:somevalue");
    assert_eq!(found[0]["Node"]["Address"], "192.168.10.10");
    let filter = [
        "--get",
        "$/v1/catalog/nodes",
        "--data-urlencode",
        "filter=Meta.somekey == somevalue",
    ];
    let nodes = curl(d, &filter).json();
    assert_eq!(nodes[0]["Node"], "t2.320");
    assert_eq!(nodes.as_array().map(Vec::len), Some(1));
    assert_eq!(get("$/v1/catalog/service/redis")[0]["ServiceID"], "redis2");
    // What Consul's own pages ask for.
    let node = get("$/v1/internal/ui/node/t2.320");
    assert_eq!(node["Checks"][0]["CheckID"], "service:redis2");
    let nodes = get("$/v1/internal/ui/nodes");
    let nodes = nodes.as_array().expect("a list");
    assert!(nodes.contains(&node), "{nodes:?}");
    let services = get("$/v1/internal/ui/services");
    let services = services.as_array().expect("a list");
    let redis = services.iter().find(|one| one["Name"] == "redis");
    assert_eq!(redis.expect("redis")["ChecksPassing"], 1);
    let overview = get("$/v1/internal/ui/catalog-overview");
    assert_eq!(overview["Nodes"][0]["Total"], nodes.len());
    let drawn = get("$/v1/internal/ui/service-topology/redis?kind=");
    assert_eq!(drawn["Protocol"], "tcp");
    for about in ["gateway-services-nodes", "gateway-intentions"] {
        let found = get(&format!("$/v1/internal/ui/{about}/none"));
        assert_eq!(found, json!([]), "{about}");
    }
    put(
        "$/v1/catalog/deregister",
        Some(r#"{"Datacenter": "dc1", "Node": "t2.320"}"#),
    );
    assert_eq!(get("$/v1/catalog/service/redis"), json!([]));

    let session = put(
        "$/v1/session/create",
        Some(r#"{"LockDelay": "15s", "Name": "my-lock", "TTL": "30s"}"#),
    )
    .json();
    let id = session["ID"].as_str().expect("an id");
    assert_eq!(
        put(&format!("$/v1/kv/lead?acquire={id}"), Some("me")).body,
        "true"
    );
    assert_eq!(
        put(&format!("$/v1/session/destroy/{id}"), None).body,
        "true"
    );
    let txn = r#"[{"KV": {"Verb": "set", "Key": "txn", "Value": "aGVsbG8="}}]"#;
    assert_eq!(
        put("$/v1/txn", Some(txn)).json()["Results"][0]["KV"]["Key"],
        "txn"
    );
    assert_eq!(get("$/v1/status/peers").as_array().map(Vec::len), Some(3));
    assert!(get("$/v1/agent/metrics")["Gauges"].is_array());
    let archive = cluster.path("snapshot.tgz");
    let archive = archive.to_str().expect("plain");
    let shown = curl(
        d,
        &[
            "$/v1/snapshot",
            "--no-include",
            "--output",
            archive,
            "--dump-header",
            "-",
        ],
    );
    assert_eq!(shown.status, 200);
    let shown = curl(
        d,
        &[
            "--request",
            "PUT",
            "--data-binary",
            &format!("@{archive}"),
            "$/v1/snapshot",
        ],
    );
    assert_eq!((shown.status, shown.body.as_str()), (200, ""));
}

fn kv(agent: &Agent) {
    let shown = curl(
        agent,
        &["-X", "PUT", "-d", "hello", "$/v1/kv/my-key?flags=42"],
    );
    assert_eq!((shown.status, shown.body.as_str()), (200, "true"));
    let shown = curl(agent, &["$/v1/kv/my-key"]);
    let index = shown.header("X-Consul-Index").expect("an index").to_owned();
    assert_eq!(shown.header("Content-Type"), Some("application/json"));
    assert_eq!(shown.header("X-Consul-KnownLeader"), Some("true"));
    assert_eq!(shown.header("X-Consul-Default-ACL-Policy"), Some("allow"));
    let last_contact = shown.header("X-Consul-LastContact").map(str::parse::<u64>);
    assert!(matches!(last_contact, Some(Ok(_))), "{}", shown.head);
    assert_eq!(shown.json()[0]["Value"], "aGVsbG8=");
    assert_eq!(shown.json()[0]["ModifyIndex"].to_string(), index);
    let pretty = curl(agent, &["$/v1/kv/my-key?pretty"]);
    assert!(
        pretty
            .body
            .starts_with("[\n    {\n        \"LockIndex\": 0,\n"),
        "{}",
        pretty.body
    );
    let raw = curl(agent, &["$/v1/kv/my-key?raw"]);
    assert_eq!(raw.body, "hello");
    assert_eq!(raw.header("X-Content-Type-Options"), Some("nosniff"));
    // Nothing changes: the wait ends, with the same index.
    let again = curl(agent, &[&format!("$/v1/kv/my-key?index={index}&wait=10ms")]);
    assert_eq!(again.header("X-Consul-Index"), Some(index.as_str()));
    assert_eq!(again.body, shown.body);
    let shown = curl(agent, &["-X", "DELETE", "$/v1/kv/my-key"]);
    assert_eq!(shown.body, "true");
    let shown = curl(agent, &["$/v1/kv/my-key"]);
    assert_eq!((shown.status, shown.body.as_str()), (404, ""));
    assert!(shown.header("X-Consul-Index").is_some());
}

/// Large bodies, and how they are sent.
fn bodies(cluster: &Cluster) {
    let d = &cluster["D"];
    let file = |name: &str, len: usize| {
        fs::write(cluster.path(name), "x".repeat(len)).expect("written");
        cluster.path(name).display().to_string()
    };
    let (fits, large) = (file("fits", 512 * 1024), file("large", 512 * 1024 + 1));
    let sent = [
        // curl waits for the `100 Continue` before it sends so much.
        vec!["-H", "Expect: 100-continue", "-T", &fits],
        vec!["-H", "Transfer-Encoding: chunked", "-T", &fits],
        vec!["-0", "-T", &fits],
    ];
    for (n, words) in sent.iter().enumerate() {
        let key = format!("$/v1/kv/sent{n}");
        let shown = curl(d, &[words.as_slice(), &[key.as_str()]].concat());
        assert_eq!(
            (shown.status, shown.body.as_str()),
            (200, "true"),
            "{words:?}"
        );
        let shown = curl(d, &["--compressed", &format!("{key}?raw")]);
        assert_eq!(shown.body.len(), 512 * 1024, "{words:?}");
    }
    let shown = curl(d, &["-T", &large, "$/v1/kv/large"]);
    assert_eq!(shown.status, 413);
    let text = "Request body(524289 bytes) too large, max size: 524288 bytes. See ";
    assert!(shown.body.starts_with(text), "{}", shown.body);
    assert_eq!(curl(d, &["$/v1/kv/large"]).status, 404);
}

fn connections(d: &Agent) {
    let shown = curl(d, &["-0", "$/v1/status/leader"]);
    assert_eq!(shown.status, 200);
    assert_eq!(shown.body, d.get("/v1/status/leader").text());
    assert_eq!(
        curl(d, &["--http1.1", "$/v1/status/leader"]).version,
        "HTTP/1.1"
    );
    // Prior knowledge of HTTP/2 is not ours; an upgrade that is offered is passed over.
    let shown = curl(d, &["--http2", "$/v1/status/leader"]);
    assert_eq!((shown.status, shown.version.as_str()), (200, "HTTP/1.1"));
    let mut command = tool("curl", "curl");
    command.args([
        "-q",
        "--silent",
        "--noproxy",
        "*",
        "--write-out",
        "%{num_connects} %{http_code}\n",
    ]);
    for path in ["status/leader", "kv/none", "none", "agent/self"] {
        command.args(["--output", "/dev/null"]);
        command.arg(format!("http://{}/v1/{path}", d.http().address));
    }
    assert_eq!(run(&mut command), "1 200\n0 404\n0 404\n0 200\n");
}

fn refusals(d: &Agent) {
    for (words, status, body) in [
        (
            vec!["-X", "POST", "$/v1/kv/a"],
            405,
            "method POST not allowed",
        ),
        (
            vec!["-X", "PUT", "$/v1/status/leader"],
            405,
            "method PUT not allowed",
        ),
        (
            vec!["$/v1/none"],
            404,
            "Invalid URL path: not a recognized HTTP API endpoint",
        ),
        (
            vec!["$/v1/kv/a?stale&consistent"],
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        (vec!["$/v1/kv/a?index=x"], 400, "Invalid index"),
        (vec!["$/v1/kv/a?wait=5"], 400, "Invalid wait time"),
        (
            vec!["-X", "PUT", "-d", "{\"Name\":", "$/v1/session/create"],
            400,
            "Request decode failed: unexpected EOF",
        ),
    ] {
        let shown = curl(d, &words);
        assert_eq!(
            (shown.status, shown.body.as_str()),
            (status, body),
            "{words:?}"
        );
        let kind = shown.header("Content-Type").unwrap_or_default();
        assert!(kind.starts_with("text/plain"), "{words:?}: {kind}");
    }
    let allow = |words: &[&str]| curl(d, words).header("Allow").map(str::to_owned);
    assert_eq!(
        allow(&["-X", "POST", "$/v1/kv/a"]).as_deref(),
        Some("OPTIONS,GET,PUT,DELETE")
    );
    let shown = curl(d, &["-X", "OPTIONS", "$/v1/kv/a"]);
    assert_eq!(
        (shown.status, shown.header("Allow")),
        (200, Some("OPTIONS,GET,PUT,DELETE"))
    );
}
