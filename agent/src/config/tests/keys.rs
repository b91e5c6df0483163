//! Every key of Consul 1.19's configuration is known, and none that does nothing is passed over in silence.

use serde_json::{Value, json};

use super::*;

/// What becomes of a key here.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It counts.
    Read,
    /// One warning names it.
    Named,
    /// The agent does not start: without it, it would be less safe than was asked for.
    Refused,
    /// It counts, but not alone: the agent does not start without what belongs to it.
    Incomplete,
}
use Fate::{Incomplete, Named, Read, Refused};

/// All keys, each with a value that switches it on. Source: Consul's documentation, "Agent configuration file reference".
fn keys() -> Vec<(&'static str, Value, Fate)> {
    let mut keys = general();
    keys.extend(blocks());
    keys.extend(security());
    keys.extend(telemetry());
    keys
}

#[rustfmt::skip]
fn general() -> Vec<(&'static str, Value, Fate)> {
    vec![
        ("advertise_addr", json!("10.0.0.9"), Read),
        ("advertise_addr_ipv4", json!("10.0.0.9"), Named),
        ("advertise_addr_ipv6", json!("::1"), Named),
        ("advertise_addr_wan", json!("10.0.0.9"), Read),
        ("advertise_addr_wan_ipv4", json!("10.0.0.9"), Named),
        ("advertise_addr_wan_ipv6", json!("::1"), Named),
        ("advertise_reconnect_timeout", json!("10h"), Named),
        ("alt_domain", json!("alt"), Read),
        ("auto_reload_config", json!(true), Named),
        ("bind_addr", json!("127.0.0.1"), Read),
        ("bootstrap", json!(false), Read),
        ("bootstrap_expect", json!(0), Read),
        ("check_output_max_size", json!(100), Read),
        ("check_update_interval", json!("1m"), Read),
        ("client_addr", json!("127.0.0.1"), Read),
        ("datacenter", json!("dc2"), Read),
        ("default_intention_policy", json!("deny"), Refused),
        ("default_query_time", json!("1m"), Read),
        ("disable_anonymous_signature", json!(false), Named),
        ("disable_coordinates", json!(true), Read),
        ("disable_host_node_id", json!(false), Named),
        ("disable_http_unprintable_char_filter", json!(true), Named),
        ("disable_keyring_file", json!(true), Read),
        ("disable_remote_exec", json!(false), Read),
        ("disable_update_check", json!(false), Named),
        ("discard_check_output", json!(true), Read),
        ("discovery_max_stale", json!("5s"), Read),
        ("domain", json!("x."), Read),
        ("enable_agent_tls_for_checks", json!(true), Named),
        ("enable_central_service_config", json!(true), Named),
        ("enable_debug", json!(true), Read),
        ("enable_local_script_checks", json!(true), Read),
        ("enable_script_checks", json!(true), Read),
        ("enable_syslog", json!(true), Named),
        ("experiments", json!(["x"]), Named),
        ("leave_on_terminate", json!(true), Read),
        ("license_path", json!("/l"), Refused),
        ("log_file", json!("/l"), Read),
        ("log_json", json!(true), Read),
        ("log_level", json!("WARN"), Read),
        ("log_rotate_bytes", json!(1000), Named),
        ("log_rotate_duration", json!("1h"), Named),
        ("log_rotate_max_files", json!(3), Named),
        ("log_sublevels", json!({"agent": "TRACE"}), Named),
        ("max_query_time", json!("20m"), Read),
        ("node_id", json!("3e1ab0e5-2ed7-4d10-b2b6-d9cbb0a2ab31"), Read),
        ("node_meta", json!({"a": "b"}), Read),
        ("node_name", json!("x"), Read),
        ("non_voting_server", json!(true), Refused),
        ("partition", json!("x"), Refused),
        ("pid_file", json!("/p"), Read),
        ("primary_datacenter", json!("dc1"), Read),
        ("primary_gateways", json!(["x"]), Named),
        ("primary_gateways_interval", json!("1m"), Named),
        ("protocol", json!(1), Named),
        ("raft_protocol", json!(2), Refused),
        ("raft_snapshot_interval", json!("10s"), Named),
        ("raft_snapshot_threshold", json!(1000), Read),
        ("raft_trailing_logs", json!(1000), Read),
        ("read_replica", json!(true), Refused),
        ("reconnect_timeout", json!("10h"), Read),
        ("reconnect_timeout_wan", json!("10h"), Read),
        ("recursor", json!("9.9.9.9"), Read),
        ("recursors", json!(["9.9.9.9"]), Read),
        ("rejoin_after_leave", json!(true), Read),
        ("retry_interval", json!("1s"), Read),
        ("retry_interval_wan", json!("1s"), Read),
        ("retry_join", json!(["x"]), Read),
        ("retry_join_wan", json!(["x"]), Named),
        ("retry_max", json!(3), Read),
        ("retry_max_wan", json!(3), Read),
        ("segment", json!("x"), Refused),
        ("segments", json!([{"name": "x"}]), Refused),
        ("serf_lan", json!("127.0.0.1"), Read),
        ("serf_lan_allowed_cidrs", json!(["10.0.0.0/8"]), Refused),
        ("serf_wan", json!("127.0.0.1"), Read),
        ("serf_wan_allowed_cidrs", json!(["10.0.0.0/8"]), Named),
        ("server", json!(true), Read),
        ("server_name", json!("x"), Named),
        ("server_rejoin_age_max", json!("100h"), Named),
        ("session_ttl_min", json!("5s"), Read),
        ("skip_leave_on_interrupt", json!(true), Read),
        ("snapshot_agent", json!({"x": 1}), Named),
        ("start_join", json!(["x"]), Read),
        ("start_join_wan", json!(["x"]), Named),
        ("syslog_facility", json!("LOCAL1"), Named),
        ("tagged_addresses", json!({"lan": "10.0.0.9"}), Read),
        ("translate_wan_addrs", json!(true), Read),
        ("ui", json!(true), Named),
        ("ui_content_path", json!("/x/"), Named),
        ("ui_dir", json!("/x"), Named),
        ("use_streaming_backend", json!(true), Named),
        ("watches", json!([{"type": "nodes"}]), Named),
    ]
}

#[rustfmt::skip]
fn blocks() -> Vec<(&'static str, Value, Fate)> {
    vec![
        ("addresses.dns", json!("127.0.0.1"), Read),
        ("addresses.grpc", json!("127.0.0.1"), Named),
        ("addresses.grpc_tls", json!("127.0.0.1"), Named),
        ("addresses.http", json!("127.0.0.1"), Read),
        ("addresses.https", json!("127.0.0.1"), Read),
        ("autopilot.cleanup_dead_servers", json!(false), Read),
        ("autopilot.disable_upgrade_migration", json!(true), Named),
        ("autopilot.last_contact_threshold", json!("1s"), Read),
        ("autopilot.max_trailing_logs", json!(100), Read),
        ("autopilot.min_quorum", json!(3), Read),
        ("autopilot.redundancy_zone_tag", json!("x"), Refused),
        ("autopilot.server_stabilization_time", json!("1s"), Read),
        ("autopilot.upgrade_version_tag", json!("x"), Refused),
        ("cache", json!({"entry_fetch_rate": 1}), Named),
        ("check", json!({"name": "c", "ttl": "1m"}), Read),
        ("checks", json!([{"name": "c", "ttl": "1m"}]), Read),
        ("cloud", json!({"resource_id": "x"}), Named),
        ("config_entries", json!({"bootstrap": [{"kind": "mesh"}]}), Read),
        ("connect", json!({"enabled": true}), Read),
        ("connect.enable_mesh_gateway_wan_federation", json!(true), Named),
        ("connect.enable_serverless_plugin", json!(true), Named),
        ("connect.proxy", json!({"x": 1}), Named),
        ("connect.proxy_defaults", json!({"x": 1}), Named),
        ("connect.sidecar_port_max", json!(1), Named),
        ("connect.sidecar_port_min", json!(1), Named),
        ("dns_config.a_record_limit", json!(1), Read),
        ("dns_config.allow_stale", json!(false), Read),
        ("dns_config.cache_max_age", json!("1s"), Named),
        ("dns_config.disable_compression", json!(true), Read),
        ("dns_config.enable_additional_node_meta_txt", json!(false), Read),
        ("dns_config.enable_truncate", json!(true), Read),
        ("dns_config.max_stale", json!("1s"), Read),
        ("dns_config.node_ttl", json!("1s"), Read),
        ("dns_config.only_passing", json!(true), Read),
        ("dns_config.prefer_namespace", json!(true), Refused),
        ("dns_config.recursor_strategy", json!("random"), Read),
        ("dns_config.recursor_timeout", json!("1s"), Read),
        ("dns_config.service_ttl", json!({"*": "1s"}), Read),
        ("dns_config.soa", json!({"refresh": 1, "retry": 2, "expire": 3, "min_ttl": 4}), Read),
        ("dns_config.udp_answer_limit", json!(2), Read),
        ("dns_config.use_cache", json!(true), Named),
        ("gossip_lan.gossip_interval", json!("100ms"), Read),
        ("gossip_lan.gossip_nodes", json!(2), Named),
        ("gossip_lan.probe_interval", json!("2s"), Read),
        ("gossip_lan.probe_timeout", json!("100ms"), Read),
        ("gossip_lan.retransmit_mult", json!(2), Named),
        ("gossip_lan.suspicion_mult", json!(2), Read),
        ("gossip_wan", json!({"probe_interval": "1s"}), Read),
        ("gossip_wan.gossip_nodes", json!(4), Named),
        ("gossip_wan.retransmit_mult", json!(5), Named),
        ("http_config.allow_write_http_from", json!(["10.0.0.0/8"]), Read),
        ("http_config.block_endpoints", json!(["/v1/kv"]), Read),
        ("http_config.max_header_bytes", json!(10000), Read),
        ("http_config.response_headers", json!({"A": "b"}), Read),
        ("http_config.use_cache", json!(false), Read),
        ("limits.http_max_conns_per_client", json!(5), Read),
        ("limits.https_handshake_timeout", json!("1s"), Read),
        ("limits.kv_max_value_size", json!(1000), Read),
        ("limits.request_limits.mode", json!("enforcing"), Read),
        ("limits.request_limits.read_rate", json!(500.5), Read),
        ("limits.request_limits.write_rate", json!(200), Read),
        ("limits.rpc_client_timeout", json!("1s"), Named),
        ("limits.rpc_handshake_timeout", json!("1s"), Read),
        ("limits.rpc_max_burst", json!(1), Read),
        ("limits.rpc_max_conns_per_client", json!(1), Read),
        ("limits.rpc_rate", json!(1), Read),
        ("limits.txn_max_req_len", json!(1000), Read),
        ("locality", json!({"region": "x"}), Named),
        ("peering", json!({"enabled": true}), Named),
        ("performance.grpc_keepalive_interval", json!("1s"), Named),
        ("performance.grpc_keepalive_timeout", json!("1s"), Named),
        ("performance.leave_drain_time", json!("1s"), Read),
        ("performance.raft_multiplier", json!(1), Read),
        ("performance.rpc_hold_timeout", json!("1s"), Read),
        ("ports.dns", json!(1), Read),
        ("ports.expose_max_port", json!(1), Named),
        ("ports.expose_min_port", json!(1), Named),
        ("ports.grpc", json!(1), Named),
        ("ports.grpc_tls", json!(1), Named),
        ("ports.http", json!(1), Read),
        ("ports.https", json!(1), Incomplete),
        ("ports.proxy_max_port", json!(1), Named),
        ("ports.proxy_min_port", json!(1), Named),
        ("ports.serf_lan", json!(1), Read),
        ("ports.serf_wan", json!(1), Read),
        ("ports.server", json!(1), Read),
        ("ports.sidecar_max_port", json!(21001), Read),
        ("ports.sidecar_min_port", json!(21001), Read),
        ("raft_logstore", json!({"backend": "wal"}), Named),
        ("reporting", json!({"license": {"enabled": true}}), Named),
        ("rpc", json!({"enable_streaming": true}), Named),
        ("service", json!({"name": "s"}), Read),
        ("services", json!([{"name": "s"}]), Read),
        ("ui_config", json!({"enabled": true}), Named),
        ("xds", json!({"update_max_per_second": 1}), Named),
    ]
}

#[rustfmt::skip]
fn security() -> Vec<(&'static str, Value, Fate)> {
    vec![
        ("acl", json!({"enabled": true}), Read),
        ("acl.default_policy", json!("deny"), Incomplete),
        ("acl.down_policy", json!("async-cache"), Read),
        ("acl.enable_key_list_policy", json!(true), Read),
        ("acl.enable_token_persistence", json!(true), Read),
        ("acl.enable_token_replication", json!(true), Read),
        ("acl.managed_service_provider", json!([{"x": "y"}]), Refused),
        ("acl.policy_ttl", json!("1s"), Named),
        ("acl.role_ttl", json!("1s"), Named),
        ("acl.token_ttl", json!("1s"), Read),
        ("acl.tokens.agent", json!("x"), Read),
        ("acl.tokens.agent_master", json!("x"), Read),
        ("acl.tokens.agent_recovery", json!("x"), Read),
        ("acl.tokens.config_file_service_registration", json!("x"), Read),
        ("acl.tokens.default", json!("x"), Read),
        ("acl.tokens.dns", json!("x"), Read),
        ("acl.tokens.initial_management", json!("x"), Read),
        ("acl.tokens.managed_service_provider", json!([{"x": "y"}]), Refused),
        ("acl.tokens.master", json!("x"), Read),
        ("acl.tokens.replication", json!("x"), Read),
        ("acl_agent_master_token", json!("x"), Read),
        ("acl_agent_token", json!("x"), Read),
        ("acl_datacenter", json!("x"), Read),
        ("acl_default_policy", json!("deny"), Incomplete),
        ("acl_down_policy", json!("deny"), Read),
        ("acl_enable_key_list_policy", json!(true), Read),
        ("acl_master_token", json!("x"), Read),
        ("acl_replication_token", json!("x"), Read),
        ("acl_token", json!("x"), Read),
        ("acl_ttl", json!("1s"), Read),
        ("audit", json!({"enabled": true}), Refused),
        ("auto_config", json!({"enabled": true}), Refused),
        ("auto_encrypt.allow_tls", json!(true), Incomplete),
        ("auto_encrypt.dns_san", json!(["web.example"]), Read),
        ("auto_encrypt.ip_san", json!(["10.0.0.9"]), Read),
        ("auto_encrypt.tls", json!(true), Incomplete),
        ("ca_file", json!("x"), Read),
        ("ca_path", json!("x"), Read),
        ("cert_file", json!("x"), Incomplete),
        ("enable_acl_replication", json!(true), Read),
        ("encrypt", json!("pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="), Read),
        ("encrypt_verify_incoming", json!(true), Read),
        ("encrypt_verify_outgoing", json!(true), Read),
        ("key_file", json!("x"), Incomplete),
        ("tls", json!({"defaults": {"tls_min_version": "TLSv1_3"}}), Read),
        ("tls_cipher_suites", json!("x"), Read),
        ("tls_min_version", json!("tls12"), Read),
        ("tls_prefer_server_cipher_suites", json!(true), Named),
        ("unix_sockets", json!({"mode": "0600"}), Refused),
        ("verify_incoming", json!(true), Incomplete),
        ("verify_incoming_https", json!(true), Incomplete),
        ("verify_incoming_rpc", json!(true), Incomplete),
        ("verify_outgoing", json!(true), Incomplete),
        ("verify_server_hostname", json!(true), Incomplete),
    ]
}

#[rustfmt::skip]
fn telemetry() -> Vec<(&'static str, Value, Fate)> {
    vec![
        ("telemetry.circonus_api_app", json!("x"), Named),
        ("telemetry.circonus_api_token", json!("x"), Named),
        ("telemetry.circonus_api_url", json!("x"), Named),
        ("telemetry.circonus_broker_id", json!("x"), Named),
        ("telemetry.circonus_broker_select_tag", json!("x"), Named),
        ("telemetry.circonus_check_display_name", json!("x"), Named),
        ("telemetry.circonus_check_force_metric_activation", json!("x"), Named),
        ("telemetry.circonus_check_id", json!("x"), Named),
        ("telemetry.circonus_check_instance_id", json!("x"), Named),
        ("telemetry.circonus_check_search_tag", json!("x"), Named),
        ("telemetry.circonus_check_tags", json!("x"), Named),
        ("telemetry.circonus_submission_interval", json!("x"), Named),
        ("telemetry.circonus_submission_url", json!("x"), Named),
        ("telemetry.disable_hostname", json!(true), Read),
        ("telemetry.disable_per_tenancy_usage_metrics", json!(true), Named),
        ("telemetry.dogstatsd_addr", json!("x"), Named),
        ("telemetry.dogstatsd_tags", json!(["x"]), Named),
        ("telemetry.enable_host_metrics", json!(true), Named),
        ("telemetry.filter_default", json!(true), Named),
        ("telemetry.metrics_prefix", json!("x"), Named),
        ("telemetry.prefix_filter", json!(["+x"]), Named),
        ("telemetry.prometheus_retention_time", json!("1m"), Read),
        ("telemetry.retry_failed_connection", json!(true), Named),
        ("telemetry.statsd_address", json!("x"), Named),
        ("telemetry.statsite_address", json!("x"), Named),
    ]
}

/// A configuration with one key more than it needs.
fn with(path: &str, value: Value) -> Result<Loaded, Error> {
    let value = path
        .rsplit('.')
        .fold(value, |value, key| json!({key: value}));
    let mut root = json!({"data_dir": "/d"});
    for (key, value) in value.as_object().expect("an object") {
        root[key] = value.clone();
    }
    load_text("a.json", &root.to_string())
}

#[test]
fn every_key_of_consul_is_known_and_has_its_fate() {
    let plain = load_with("").expect("valid").config;
    for (path, value, fate) in keys() {
        let result = with(path, value.clone());
        match (fate, &result) {
            (Read, Ok(loaded)) => {
                assert_eq!(
                    loaded
                        .warnings
                        .iter()
                        .filter(|w| w.contains("no effect"))
                        .count(),
                    0,
                    "{path}"
                );
            }
            (Named, Ok(loaded)) => {
                let named = loaded
                    .warnings
                    .iter()
                    .filter(|warning| warning.contains(path) && warning.contains("no effect"));
                assert_eq!(named.count(), 1, "{path}: {:?}", loaded.warnings);
                // Kept, whoever reads them: servers alone join the pool of all datacenters.
                let is_kept = ["raft_snapshot_interval", "retry_join_wan", "start_join_wan"];
                if !is_kept.contains(&path) {
                    assert_eq!(loaded.config, plain, "{path}: named, and yet read");
                }
            }
            (Refused, Err(error @ Error::Refused { .. })) => {
                assert!(error.to_string().contains(path), "{path}: {error}");
            }
            (Incomplete, Err(Error::Invalid(text))) => {
                let key = path.trim_end_matches("_https").trim_end_matches("_rpc");
                let key = key.trim_start_matches("acl_");
                assert!(text.contains(key), "{path}: {text}");
            }
            _ => panic!("{path}: not {fate:?}: {result:?}"),
        }
    }
}

#[test]
fn the_table_has_every_key_that_is_treated_apart() {
    let known = keys();
    for key in unsupported::keys() {
        assert!(known.iter().any(|(path, ..)| *path == key), "{key}");
    }
}

#[test]
fn unknown_keys_are_fatal_in_every_block() {
    for block in [
        "",
        "addresses.",
        "auto_encrypt.",
        "autopilot.",
        "dns_config.",
        "dns_config.soa.",
        "gossip_lan.",
        "http_config.",
        "limits.",
        "limits.request_limits.",
        "performance.",
        "ports.",
        "telemetry.",
        "service.",
        "check.",
    ] {
        let text = error(with(&format!("{block}zz"), json!(1)));
        assert!(text.contains("invalid config key"), "{block}: {text}");
        assert!(text.contains("zz"), "{block}: {text}");
    }
}

/// The flags of `consul agent`.
const FLAGS: &str = "advertise advertise-wan allow-write-http-from alt-domain auto-reload-config bind bootstrap \
    bootstrap-expect check_output_max_size client config-dir config-file config-format data-dir datacenter \
    default-query-time dev disable-host-node-id disable-keyring-file dns-port domain enable-local-script-checks \
    enable-script-checks encrypt grpc-port grpc-tls-port hcl http-port https-port join join-wan log-file log-json \
    log-level log-rotate-bytes log-rotate-duration log-rotate-max-files max-query-time node node-id node-meta \
    non-voting-server pid-file primary-gateway protocol raft-protocol read-replica recursor rejoin retry-interval \
    retry-interval-wan retry-join retry-join-wan retry-max retry-max-wan segment serf-lan-allowed-cidrs serf-lan-bind \
    serf-lan-port serf-wan-allowed-cidrs serf-wan-bind serf-wan-port server server-port syslog ui ui-content-path \
    ui-dir default-intention-policy";

#[test]
fn every_flag_of_consul_is_known() {
    let help = crate::cli::help_of("agent");
    for flag in FLAGS.split_whitespace() {
        let shown = help.contains(&format!("  -{flag}"));
        // The two names of one flag share a line.
        let known = shown || unsupported::flag(flag).is_some() || flag == "config-dir";
        assert!(known, "-{flag}");
    }
}
