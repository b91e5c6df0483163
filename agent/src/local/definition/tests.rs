use std::time::Duration;

use serde_json::{Value, json};

use super::{CheckDefinition, Error, Kind, Raw, ServiceDefinition, Tls};
use crate::state::{CheckStatus, Weights};

fn service(value: Value) -> Result<ServiceDefinition, Error> {
    Raw::service(value)?.to_service()
}

fn check(value: Value) -> Result<CheckDefinition, Error> {
    Raw::check(value)?.to_check()
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("should be refused").to_string()
}

#[test]
fn the_api_s_spelling_and_the_files_are_the_same_service() {
    let api = json!({"ID": "w1", "Name": "web", "Tags": ["a"], "Port": 80, "EnableTagOverride": true,
        "Meta": {"Key_A": "v"}, "TaggedAddresses": {"lan_ipv4": {"Address": "10.0.0.1", "Port": 8}},
        "Weights": {"Passing": 5}, "Unknown": 1,
        "Check": {"HTTP": "http://x/", "Interval": "10s", "DeregisterCriticalServiceAfter": "10s"}});
    let file = json!({"id": "w1", "name": "web", "tags": ["a"], "port": 80, "enable_tag_override": true,
        "meta": {"Key_A": "v"}, "tagged_addresses": [{"lan_ipv4": {"address": "10.0.0.1", "port": 8}}],
        "weights": [{"passing": 5}],
        "check": [{"http": "http://x/", "interval": "10s", "deregister_critical_service_after": "10s"}]});
    let api = service(api).expect("valid");
    let file = Raw::service_in_file(file).expect("known keys");
    assert_eq!(api, file.to_service().expect("valid"));
    assert_eq!(api.service.meta["Key_A"], "v");
    assert_eq!(api.service.tagged_addresses["lan_ipv4"].port, 8);
    let weights = Weights {
        passing: 5,
        warning: 1,
    };
    assert_eq!(api.service.weights, weights);
    let [check] = &api.checks[..] else {
        panic!("one check")
    };
    assert_eq!(
        (&*check.id, &*check.name),
        ("service:w1", "Service 'web' check")
    );
    assert_eq!(
        check.deregister_after,
        Some(Duration::from_secs(60)),
        "the least"
    );
    assert_eq!(check.status, CheckStatus::Critical);
    assert_eq!(check.timeout(), Duration::from_secs(10));
}

#[test]
fn unknown_keys_are_errors_in_files_only() {
    let wrong = Raw::service_in_file(json!({"name": "web", "check": {"intervall": "1s"}}));
    assert_eq!(
        wrong.expect_err("unknown"),
        "check: invalid config key intervall"
    );
    let wrong = Raw::service_in_file(json!("web"));
    assert_eq!(
        wrong.expect_err("no object"),
        "expected an object, found a string"
    );
}

#[test]
fn several_checks_are_numbered() {
    let found = service(
        json!({"Name": "web", "Checks": [{"TTL": "1s"}, {"CheckID": "mine", "TTL": "1s"}, {"TTL": 5_000_000_000_u64}]}),
    );
    let found = found.expect("valid");
    let ids: Vec<_> = found.checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["service:web:1", "mine", "service:web:3"]);
    assert_eq!(found.checks[2].kind, Kind::Ttl(Duration::from_secs(5)));
}

#[test]
fn what_cannot_be_is_refused_in_consul_s_words() {
    for (value, wanted) in [
        (json!({}), "Missing service name"),
        (
            json!({"Name": "a", "Address": "0.0.0.0"}),
            "Invalid service address",
        ),
        (
            json!({"Name": "a", "Weights": {"Passing": 0}}),
            "Invalid Weights: Passing must be greater than 0",
        ),
        (
            json!({"Name": "a", "Kind": "zz"}),
            "Invalid service: unknown kind of service",
        ),
        (
            json!({"Name": "a", "Kind": "connect-proxy", "Port": 1}),
            "Invalid service: Proxy.DestinationServiceName must be non-empty for Connect proxy services",
        ),
        (
            json!({"Name": "a", "Check": {}}),
            "Invalid check: TTL must be > 0 for TTL checks",
        ),
        (
            json!({"Name": "a", "Port": 70000}),
            "Request decode failed: invalid value: integer `70000`, expected u16",
        ),
        (
            json!({"Name": "a", "Meta": {"": "x"}}),
            "Invalid Service Meta: Couldn't load metadata pair ('', 'x'): Key cannot be blank",
        ),
    ] {
        assert_eq!(refusal(service(value)), wanted);
    }
    for (value, wanted) in [
        (json!({"TTL": "1s"}), "Missing check name"),
        (
            json!({"Name": "a", "TTL": "1s", "Status": "zz"}),
            "Bad check status",
        ),
        (
            json!({"Name": "a", "HTTP": "http://x"}),
            "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks",
        ),
        (
            json!({"Name": "a", "TTL": "1s", "Interval": "1s"}),
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (
            json!({"Name": "a", "AliasService": "b", "TTL": "1s"}),
            "Invalid check: TTL must be not be set for Alias checks",
        ),
        (
            json!({"Name": "a", "TTL": "1s", "FailuresBeforeWarning": 3, "FailuresBeforeCritical": 2}),
            "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
        ),
        (
            json!({"Name": "a", "TTL": "5"}),
            "Request decode failed: time: missing unit in duration \"5\"",
        ),
    ] {
        assert_eq!(refusal(check(value)), wanted);
    }
}

#[test]
fn every_kind_of_check_is_read() {
    let tls = Some(Tls {
        skip_verify: true,
        server_name: String::new(),
    });
    let address = || "h:1".to_owned();
    for (value, kind) in [
        (
            json!({"TCP": "h:1"}),
            Kind::Tcp {
                address: address(),
                tls: None,
            },
        ),
        (
            json!({"TCP": "h:1", "TCPUseTLS": true, "TLSSkipVerify": true}),
            Kind::Tcp {
                address: address(),
                tls: tls.clone(),
            },
        ),
        (json!({"UDP": "h:1"}), Kind::Udp { address: address() }),
        (
            json!({"GRPC": "h:1"}),
            Kind::Grpc {
                address: address(),
                tls: None,
            },
        ),
        (
            json!({"H2PING": "h:1", "H2PingUseTLS": false}),
            Kind::H2ping {
                address: address(),
                tls: None,
            },
        ),
        (
            json!({"H2PING": "h:1", "TLSSkipVerify": true}),
            Kind::H2ping {
                address: address(),
                tls,
            },
        ),
        (
            json!({"Args": ["a", "b"]}),
            Kind::Script {
                args: vec!["a".into(), "b".into()],
            },
        ),
        (
            json!({"ScriptArgs": ["a"]}),
            Kind::Script {
                args: vec!["a".into()],
            },
        ),
        (
            json!({"DockerContainerID": "web", "Shell": "/bin/bash", "Args": ["/c", "-a"]}),
            Kind::Docker {
                container: "web".into(),
                args: vec!["/c".into(), "-a".into()],
            },
        ),
        (
            json!({"OSService": "ssh"}),
            Kind::OsService { name: "ssh".into() },
        ),
    ] {
        let mut value = value;
        value["Name"] = json!("c");
        value["Interval"] = json!("5ms");
        let found = check(value.clone()).expect("valid");
        assert_eq!(found.kind, kind, "{value}");
        assert_eq!(found.interval, Duration::from_secs(1), "the least");
    }
    // It may run where scripts may, and only there.
    let docker = json!({"Name": "c", "DockerContainerID": "web", "Args": ["/c"], "Interval": "5s"});
    let docker = check(docker).expect("valid");
    assert!(docker.runs_a_program());
    assert_eq!(docker.row("n").kind, "docker");
    let without = json!({"Name": "c", "DockerContainerID": "web", "Interval": "5s"});
    assert_eq!(
        check(without),
        Err(Error::Check(
            "Args must be set for Docker checks: the program to run in the container".into()
        ))
    );
    let alias = check(json!({"Name": "c", "AliasNode": "n", "AliasService": "s"})).expect("valid");
    assert_eq!(alias.kind.word(), "alias");
    let http = json!({"Name": "c", "http": "http://x", "interval": "1m", "header": {"X-A": ["1"], "X-B": "2"}, "method": "POST"});
    let Kind::Http(http) = check(http).expect("valid").kind else {
        panic!("http")
    };
    assert_eq!(http.header["X-B"], ["2"]);
}

#[test]
fn fields_of_the_mesh_are_kept_under_their_names() {
    let file = json!({"name": "web-proxy", "kind": "connect-proxy", "port": 20000, "proxy": {
        "destination_service_name": "web", "config": {"local_timeout": 1}, "upstreams": [{"destination_name": "db"}]}});
    let found = Raw::service_in_file(file).expect("known").to_service();
    let mesh = found.expect("valid").service.mesh.expect("a proxy");
    assert_eq!(mesh.destination, "web");
    let proxy: Value = serde_json::from_str(&mesh.proxy).expect("JSON");
    assert_eq!(
        proxy,
        json!({"DestinationServiceName": "web", "Config": {"local_timeout": 1}, "Upstreams": [{"DestinationName": "db"}]})
    );
    let native = service(json!({"Name": "web", "Connect": {"Native": true}})).expect("valid");
    assert_eq!(native.service.mesh_target().as_deref(), Some("web"));
}
