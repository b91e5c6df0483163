use super::layer::{Layer, Number};
use super::unsupported;
use super::*;
use proptest::prelude::*;

mod keys;
mod services;

fn machine() -> Machine {
    Machine {
        hostname: "host".into(),
        private_ipv4: vec!["10.0.0.1".parse().expect("valid")],
        public_ipv6: Vec::new(),
        temporary_dir: "/tmp/dev".into(),
    }
}

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile {
        name: name.into(),
        format: match name.ends_with(".json") {
            true => Format::Json,
            false => Format::Hcl,
        },
        text: text.into(),
    }
}

pub(super) fn load_text(name: &str, text: &str) -> Result<Loaded, Error> {
    load(&[file(name, text)], &FlagSettings::default(), &machine())
}

/// A configuration that is right as it is, with `more` keys of JSON.
pub(super) fn load_with(more: &str) -> Result<Loaded, Error> {
    load_text("a.json", &format!(r#"{{"data_dir": "/d"{more}}}"#))
}

fn error(result: Result<Loaded, Error>) -> String {
    result.expect_err("should be refused").to_string()
}

#[test]
fn defaults_are_consuls_except_where_documented() {
    let Loaded { config, warnings } = load_with("").expect("valid");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.node_name, "host");
    assert!(!config.server && config.leave_on_terminate && !config.skip_leave_on_interrupt);
    assert_eq!(config.bootstrap, Bootstrap::Never);
    assert_eq!(config.gossip_bind().to_string(), "0.0.0.0:8301");
    assert_eq!(config.rpc_advertise().to_string(), "10.0.0.1:8300");
    assert_eq!(
        config.http,
        [HttpAddress::Tcp("127.0.0.1:8500".parse().expect("valid"))]
    );
    assert_eq!(config.reconnect_timeout, Duration::from_secs(72 * 3600));
    assert_eq!(config.raft.trailing_logs, 10240);
    assert_eq!(config.raft_multiplier, 5);
    assert_eq!(config.domain, "consul.");
    let server = load_with(r#", "server": true"#).expect("valid").config;
    assert!(!server.leave_on_terminate && !server.skip_leave_on_interrupt);
}

#[test]
fn the_same_content_in_json_and_hcl_is_the_same_configuration() {
    let json = r#"{
        "server": true, "bootstrap_expect": 3, "data_dir": "/var/lib/consul",
        "retry_join": ["10.0.0.2", "10.0.0.3:8301"], "node_meta": {"rack": "r 1", "Zone": "z"},
        "ports": {"http": -1, "server": 9300}, "performance": {"raft_multiplier": 1},
        "autopilot": {"min_quorum": 3, "last_contact_threshold": "1m30s"},
        "raft_snapshot_interval": "5s", "log_level": "err"
    }"#;
    let hcl = r#"
        # comments of
        // all /* three */
        /* kinds */
        server = true
        bootstrap_expect = 3
        "data_dir" = "/var/lib/consul"
        retry_join = [
          "10.0.0.2",
          "10.0.0.3:8301", # trailing comma
        ]
        node_meta { "rack" = "r 1", Zone = "z" }
        ports = { http = -1 server = 9300 }
        performance { raft_multiplier = 1 }
        autopilot {
          min_quorum = 3
          last_contact_threshold = "1m30s"
        }
        Raft_Snapshot_Interval = "5s"
        log_level = "err"
    "#;
    let json = load_text("a.json", json).expect("valid JSON");
    let hcl = load_text("a.hcl", hcl).expect("valid HCL");
    assert_eq!(json, hcl);
    assert_eq!(json.config.http, []);
    assert_eq!(json.config.node_meta["Zone"], "z");
}

#[test]
fn hcl_reads_its_text_forms() {
    let text = "node_name = <<-X\n    a\n      b\n    X\n";
    let root = hcl::parse(text).expect("valid");
    let tree::Value::Object(entries) = root.value else {
        panic!("an object");
    };
    assert_eq!(
        entries[0].node.value,
        tree::Value::String("a\n  b\n".into())
    );
    let root = hcl::parse("a \"b\" \"c\" { d = \"\\u00e9\\n${x \\\"y\\\"}\" }").expect("valid");
    assert_eq!(
        format!("{:?}", root.value)
            .matches("String(\"é\\n${x \\\"y\\\"}\")")
            .count(),
        1
    );
    assert_eq!(
        hcl::parse("").expect("empty").value,
        tree::Value::Object(Vec::new())
    );
    let loaded = load_text("a.hcl", r#" { "data_dir": "/d" } "#).expect("JSON in an HCL file");
    assert_eq!(loaded.config.data_dir, PathBuf::from("/d"));
}

#[test]
fn later_sources_replace_scalars_and_append_lists() {
    let files = [
        file(
            "a.json",
            r#"{"data_dir": "/a", "node_name": "a", "retry_join": ["1.1.1.1"], "ports": {"http": 1}}"#,
        ),
        file(
            "b.hcl",
            "node_name = \"b\"\nretry_join = \"2.2.2.2\"\nports { serf_lan = 2 }\nnode_meta { a = \"1\" }",
        ),
        file("empty.hcl", ""),
    ];
    let mut flags = FlagSettings::default();
    flags.layer.node_name = Some("flag".into());
    flags.layer.retry_join = vec!["3.3.3.3".into()];
    flags.layer.ports.http = Some(Number(7));
    flags.hcl = vec!["node_name = \"fragment\"".into()];
    let config = load(&files, &flags, &machine()).expect("valid").config;
    assert_eq!(config.node_name, "fragment");
    assert_eq!(config.retry_join, ["1.1.1.1", "2.2.2.2", "3.3.3.3"]);
    assert_eq!((config.ports.http, config.ports.serf_lan), (Some(7), 2));
    assert_eq!(config.node_meta.len(), 1);
}

#[test]
fn broken_files_are_named_with_line_and_column() {
    for (name, text, wanted) in [
        (
            "a.json",
            "{\n  \"server\": tru\n}",
            "a.json:2:13: expected a value, found 't'",
        ),
        (
            "a.json",
            "{\"server\": true,}",
            "a.json:1:17: expected a string in double quotes, found '}'",
        ),
        (
            "a.json",
            "{\"server\": true",
            "a.json:1:16: expected ',' or '}', but the file ends here",
        ),
        (
            "a.json",
            "[]",
            "a.json:1:1: expected an object in braces, found '['",
        ),
        (
            "a.json",
            "{}x",
            "a.json:1:3: expected the end of the file, found 'x'",
        ),
        (
            "a.hcl",
            "server true",
            "a.hcl:1:12: expected '=' or '{', but the file ends here",
        ),
        (
            "a.hcl",
            "server = yes",
            "a.hcl:1:10: expected a value, found the word yes: text needs quotes",
        ),
        (
            "a.hcl",
            "\n\nports {\n  http = 1\n",
            "a.hcl:5:1: expected a key or '}', but the file ends here",
        ),
        (
            "a.hcl",
            "a = \"b\n\"",
            "a.hcl:1:5: this string has no closing quote",
        ),
        (
            "a.hcl",
            "a = \"\\q\"",
            "a.hcl:1:6: no such escape in a string",
        ),
        ("a.hcl", "a = 01", "a.hcl:1:5: \"01\" is not a number"),
        ("a.hcl", "/* a", "a.hcl:1:1: this comment has no end"),
        (
            "a.json",
            "{\"servr\": true}",
            "a.json:1:2: invalid config key servr",
        ),
        (
            "a.hcl",
            "ports {\n  htp = 1\n}",
            "a.hcl:2:3: invalid config key ports.htp",
        ),
        (
            "a.json",
            "{\"dev\": true}",
            "a.json:1:2: invalid config key dev",
        ),
        (
            "a.json",
            "{\"server\": \"yes\"}",
            "a.json:1:12: server: expected a boolean, found string \"yes\"",
        ),
        (
            "a.json",
            "{\"ports\": {\"http\": \"80\"}}",
            "a.json:1:20: ports.http: expected a whole number, found string \"80\"",
        ),
        (
            "a.hcl",
            "retry_interval = 30",
            "a.hcl:1:18: retry_interval: expected a duration in quotes, like \"30s\", found integer `30`",
        ),
        (
            "a.hcl",
            "retry_interval = \"30\"",
            "a.hcl:1:18: retry_interval: time: missing unit in duration \"30\"",
        ),
        (
            "a.hcl",
            "ports = 3",
            "a.hcl:1:9: ports: expected an object, found integer `3`",
        ),
        (
            "a.hcl",
            "retry_join = [1]",
            "a.hcl:1:15: retry_join: expected a string, found integer `1`",
        ),
        (
            "a.hcl",
            "server = true\nServer = false",
            "a.hcl:2:1: Server is set twice, first in line 1",
        ),
    ] {
        assert_eq!(error(load_text(name, text)), wanted, "{text}");
    }
}

#[test]
fn wrong_settings_are_refused_with_consuls_texts() {
    for (more, wanted) in [
        (
            r#", "bootstrap": true"#,
            "'bootstrap = true' requires 'server = true'",
        ),
        (
            r#", "bootstrap_expect": 3"#,
            "'bootstrap_expect > 0' requires 'server = true'",
        ),
        (
            r#", "server": true, "bootstrap": true, "bootstrap_expect": 3"#,
            "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive",
        ),
        (
            r#", "bootstrap_expect": -1"#,
            "bootstrap_expect cannot be -1. Must be greater than or equal to zero",
        ),
        (
            r#", "performance": {"raft_multiplier": 11}"#,
            "performance.raft_multiplier cannot be 11. Must be between 1 and 10",
        ),
        (
            r#", "bind_addr": "nowhere""#,
            "bind_addr must be an ip address, not \"nowhere\"",
        ),
        (
            r#", "bind_addr": "{{ GetPrivateIP }}""#,
            "bind_addr must be an ip address, not \"{{ GetPrivateIP }}\": this version does not evaluate templates",
        ),
        (
            r#", "advertise_addr": "0.0.0.0""#,
            "Advertise address cannot be 0.0.0.0, :: or [::]",
        ),
        (r#", "node_name": """#, "node_name cannot be empty"),
        (r#", "datacenter": """#, "datacenter cannot be empty"),
        (r#", "node_id": "x""#, "node_id must be a UUID, not \"x\""),
        (
            r#", "quorum_recovery": {"raft_id": "7"}"#,
            "quorum_recovery.cluster_id must be a UUID, not \"\"",
        ),
        (
            r#", "quorum_recovery": {"cluster_id": "00000000-0000-0000-0000-000000000001", "raft_id": "x"}"#,
            "quorum_recovery.raft_id must be a number in quotes, not \"x\"",
        ),
        (
            r#", "quorum_recovery": {"cluster_id": "00000000-0000-0000-0000-000000000001", "raft_id": "7", "last_log_term": 1}"#,
            "quorum_recovery.last_log_index cannot be 0. Must be at least 1",
        ),
        (
            r#", "raft_set_aside": {"token": "t"}"#,
            "raft_set_aside.node_name cannot be empty",
        ),
        (
            r#", "raft_set_aside": {"node_name": "a", "token": "a/b"}"#,
            "raft_set_aside.token must be 1 to 64 of A-Z a-z 0-9 . _ -, not \"a/b\"",
        ),
        (
            r#", "reconnect_timeout": "1h""#,
            "reconnect_timeout must be >= 8h0m0s",
        ),
        (
            r#", "log_level": "loud""#,
            "Invalid log level: loud. Valid log levels are: [TRACE DEBUG INFO WARN ERROR]",
        ),
        (
            r#", "ports": {"server": 0}"#,
            "ports.server cannot be 0. Must be between 1 and 65535",
        ),
        (
            r#", "ports": {"http": 70000}"#,
            "ports.http cannot be 70000. Must be between 0 and 65535",
        ),
        (
            r#", "node_meta": {"a b": "c"}"#,
            "Couldn't load metadata pair (\"a b\", \"c\"): Key contains invalid characters",
        ),
        (
            r#", "gossip_lan": {"probe_interval": "1s", "probe_timeout": "1s"}"#,
            "gossip_lan.probe_timeout must be above zero and below gossip_lan.probe_interval",
        ),
        (
            r#", "default_query_time": "11m""#,
            "default_query_time must not be longer than max_query_time",
        ),
        (
            r#", "encrypt": "abc""#,
            "encrypt: a gossip key is 16, 24 or 32 bytes in base64, and this is not base64: 'agent keygen' prints a key",
        ),
        (
            r#", "encrypt": "YWJj""#,
            "encrypt: a gossip key is 16, 24 or 32 bytes in base64, and this is 3 bytes long: 'agent keygen' prints a key",
        ),
    ] {
        assert_eq!(error(load_with(more)), wanted, "{more}");
    }
    assert_eq!(error(load_text("a.json", "")), "data_dir cannot be empty");
    let mut many = machine();
    many.private_ipv4.push("10.0.0.2".parse().expect("valid"));
    let files = [file("a.json", r#"{"data_dir": "/d"}"#)];
    assert_eq!(
        error(load(&files, &FlagSettings::default(), &many)),
        "Multiple private IPv4 addresses found. Please configure one with 'bind' and/or 'advertise'."
    );
}

#[test]
fn risky_and_useless_settings_are_warned_about() {
    let warnings = |more| load_with(more).expect("valid").warnings;
    assert_eq!(
        warnings(r#", "server": true, "bootstrap": true"#),
        ["bootstrap = true: do not enable unless necessary"]
    );
    assert_eq!(
        warnings(r#", "server": true, "bootstrap_expect": 3"#),
        ["bootstrap_expect > 0: expecting 3 servers"]
    );
    assert_eq!(
        warnings(r#", "server": true, "bootstrap_expect": 1"#).len(),
        2
    );
    assert_eq!(
        warnings(r#", "server": true, "bootstrap_expect": 2"#).len(),
        2
    );
    assert_eq!(
        warnings(r#", "ui_config": {"enabled": true}"#),
        ["a.json:1:20: ui_config has no effect here: this version does not support it"]
    );
    assert_eq!(warnings(r#", "domain": "example""#).len(), 0);
    assert_eq!(warnings(r#", "raft_snapshot_interval": "5s""#).len(), 1);
    assert_eq!(warnings(r#", "node_name": "a_b""#).len(), 1);
    let one = load_with(r#", "server": true, "bootstrap_expect": 1"#).expect("valid");
    assert_eq!(one.config.bootstrap, Bootstrap::Alone);
}

#[test]
fn dev_mode_is_a_lone_server_on_loopback() {
    let mut flags = FlagSettings::default();
    flags.layer.dev = Some(true);
    let Loaded { config, warnings } = load(&[], &flags, &machine()).expect("valid");
    assert!(config.server && config.data_dir_is_temporary && warnings.is_empty());
    assert_eq!(config.bootstrap, Bootstrap::Alone);
    assert_eq!(config.rpc_bind().to_string(), "127.0.0.1:8300");
    assert_eq!(
        (config.log.level, config.raft_multiplier),
        (tracing::Level::DEBUG, 1)
    );
    flags.layer.bootstrap_expect = Some(Number(3));
    assert_eq!(
        error(load(&[], &flags, &machine())),
        "'bootstrap_expect > 0' not allowed in dev mode"
    );
}

#[test]
fn http_listens_where_the_addresses_say() {
    let http = |more| {
        let loaded = load_with(more).expect("valid");
        loaded
            .config
            .http
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        http(r#", "client_addr": "127.0.0.1 ::1""#),
        ["127.0.0.1:8500", "[::1]:8500"]
    );
    assert_eq!(
        http(r#", "client_addr": "0.0.0.0", "addresses": {"http": "unix:///run/a.sock"}"#),
        ["unix:///run/a.sock"]
    );
    assert_eq!(http(r#", "ports": {"http": -1}"#), Vec::<String>::new());
}

#[test]
fn a_reload_says_what_waits_for_a_restart() {
    let old = load_with("").expect("valid").config;
    let new = r#", "log_level": "debug", "node_meta": {"a": "b"}, "ports": {"http": 9}, "raft_trailing_logs": 5"#;
    let new = load_with(new).expect("valid").config;
    let diff = Config::reloadable_diff(&old, &new);
    assert_eq!(diff.live, ["node_meta", "log_level"]);
    assert_eq!(
        diff.restart,
        ["addresses.http", "ports", "raft_trailing_logs"]
    );
    let running = old.reloaded(&new);
    assert_eq!(
        Config::reloadable_diff(&running, &new).live,
        Vec::<&str>::new()
    );
    assert_eq!(running.ports, old.ports);
    assert_eq!(Config::reloadable_diff(&old, &old), Diff::default());
}

#[test]
fn folders_are_read_in_lexical_order() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("b.hcl", "node_name = \"b\""),
        ("a.json", r#"{"node_name": "a", "data_dir": "/d"}"#),
        ("notes.txt", "not ours"),
    ] {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    std::fs::create_dir(dir.path().join("c.json")).expect("a folder inside");
    let sources = files::read(&[dir.path().into()], None).expect("readable");
    assert_eq!(sources.len(), 2);
    let config = load(&sources, &FlagSettings::default(), &machine())
        .expect("valid")
        .config;
    assert_eq!(config.node_name, "b");
    let text = files::read(&[dir.path().join("notes.txt")], None).expect_err("unknown");
    assert!(
        text.to_string()
            .contains("notes.txt: configuration files end in .json or .hcl")
    );
    let sources = files::read(&[dir.path().join("notes.txt")], Some(Format::Hcl)).expect("forced");
    assert!(error(load(&sources, &FlagSettings::default(), &machine())).contains("notes.txt:1:9"));
    let missing = files::read(&[dir.path().join("none.json")], None).expect_err("missing");
    assert!(missing.to_string().starts_with("failed to read "));
}

#[test]
fn every_supported_key_is_unknown_to_the_table_of_unsupported_ones() {
    // A key in both would be stripped before it could be read.
    let names = format!("{:?}", Layer::default());
    for name in names.split(|c: char| !c.is_alphanumeric() && c != '_') {
        let text = format!("{{\"{name}\": true}}");
        let mut root = json::parse(&text).expect("valid");
        assert_eq!(unsupported::strip(&mut root), [], "{name}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let deep = "[".repeat(100_000);
    assert!(error(load_text("a.hcl", &format!("a = {deep}"))).contains("nested too deeply"));
    assert!(error(load_text("a.json", &format!("{{\"a\": {deep}"))).contains("nested too deeply"));
    assert!(error(load_text("a.hcl", &"a ".repeat(100_000))).contains("nested too deeply"));
    assert!(error(load_text("a.hcl", &"a {".repeat(100_000))).contains("nested too deeply"));
}

/// Values that both languages write alike.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        "[ -!#-\\[\\]-~é]{0,6}".prop_map(|s| format!("\"{s}\"")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(|v| format!("[{}]", v.join(", ")))
    })
}

fn without_places(node: &tree::Node) -> String {
    let text = format!("{node:?}");
    text.split("Position {")
        .map(|part| part.split_once('}').map_or(part, |(_, rest)| rest))
        .collect()
}

#[test]
fn numbers_that_only_other_readers_take_are_refused() {
    for wrong in [
        "0.", "-", "-.5", ".5", "1.e3", "1e", "+1", "01", "0x10", "1e999",
    ] {
        let text = format!("{{\"a\": {wrong}}}");
        assert!(json::parse(&text).is_err(), "{wrong}");
    }
}

proptest! {
    // A failure prints its input, which then becomes a case of its own above.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(text in "\\PC{0,60}|[\\[\\]{}\"=:,#/*<\\-a-z0-9\\\\\n ]{0,80}") {
        let _ = load_text("a.json", &text);
        let _ = load_text("a.hcl", &text);
    }

    #[test]
    fn json_is_read_as_serde_reads_it(text in "[\\[\\]{}\",:tfn0-9.eE+\\- ]{0,20}", wrapped in value()) {
        for text in [text, wrapped] {
            let text = format!("{{\"a\":{text}}}");
            let ours = json::parse(&text);
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}: {:?} {:?}", text, ours, theirs);
        }
    }

    #[test]
    fn hcl_values_are_read_as_json_values(text in value()) {
        let json = json::parse(&format!("{{\"a\": {text}}}")).expect("valid JSON");
        let hcl = hcl::parse(&format!("a = {text}")).expect("valid HCL");
        prop_assert_eq!(without_places(&json), without_places(&hcl));
    }
}
