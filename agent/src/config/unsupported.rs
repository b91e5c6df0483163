//! Settings that Consul has and this version does not: refused where starting without them would be less safe than
//! was asked for, named in a warning otherwise. Never silently ignored.

use super::tree::{Entry, Node, Position, Value};

/// What happens when such a setting is found switched on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Treatment {
    /// The agent does not start. The text says what would be missing.
    Refuse(&'static str),
    /// One warning that names it.
    Warn,
    /// What this version does anyway: a warning only when `false` is asked for.
    AlwaysOn,
}
use Treatment::{AlwaysOn, Refuse, Warn};

const NO_AUTO_CONFIG: &str = "this version hands out no configuration for a JWT: write it to the client's file, and have its certificate come by itself with auto_encrypt { tls = true }, which servers allow with auto_encrypt { allow_tls = true }";
const NO_FILTER: &str = "this version cannot restrict access this way";
const NO_RAFT_2: &str = "this version speaks raft protocol 3 only";
const ENTERPRISE: &str = "this is a feature of Consul Enterprise";

/// Keys by their path in a file, sorted. A path covers everything below it.
const KEYS: &[(&str, Treatment)] = &[
    ("acl.managed_service_provider", Refuse(ENTERPRISE)),
    ("acl.tokens.managed_service_provider", Refuse(ENTERPRISE)),
    ("addresses.grpc", Warn),
    ("addresses.grpc_tls", Warn),
    ("advertise_addr_ipv4", Warn),
    ("advertise_addr_ipv6", Warn),
    ("advertise_addr_wan_ipv4", Warn),
    ("advertise_addr_wan_ipv6", Warn),
    ("advertise_reconnect_timeout", Warn),
    ("audit", Refuse(ENTERPRISE)),
    ("auto_config", Refuse(NO_AUTO_CONFIG)),
    ("auto_reload_config", Warn),
    ("autopilot.disable_upgrade_migration", Warn),
    ("autopilot.redundancy_zone_tag", Refuse(ENTERPRISE)),
    ("autopilot.upgrade_version_tag", Refuse(ENTERPRISE)),
    ("cache", Warn),
    ("cloud", Warn),
    ("connect.enable_mesh_gateway_wan_federation", Warn),
    ("connect.enable_serverless_plugin", Warn),
    ("connect.proxy", Warn),
    ("connect.proxy_defaults", Warn),
    ("connect.sidecar_port_max", Warn),
    ("connect.sidecar_port_min", Warn),
    ("default_intention_policy", Refuse(NO_FILTER)),
    ("disable_anonymous_signature", AlwaysOn),
    ("disable_host_node_id", AlwaysOn),
    ("disable_http_unprintable_char_filter", Warn),
    ("disable_update_check", AlwaysOn),
    ("dns_config.cache_max_age", Warn),
    ("dns_config.prefer_namespace", Refuse(ENTERPRISE)),
    ("dns_config.use_cache", Warn),
    ("enable_agent_tls_for_checks", Warn),
    ("enable_central_service_config", Warn),
    ("enable_syslog", Warn),
    ("experiments", Warn),
    ("gossip_lan.gossip_nodes", Warn),
    ("gossip_lan.retransmit_mult", Warn),
    ("gossip_wan.gossip_nodes", Warn),
    ("gossip_wan.retransmit_mult", Warn),
    ("license_path", Refuse(ENTERPRISE)),
    ("limits.rpc_client_timeout", Warn),
    ("locality", Warn),
    ("log_rotate_bytes", Warn),
    ("log_rotate_duration", Warn),
    ("log_rotate_max_files", Warn),
    ("log_sublevels", Warn),
    ("non_voting_server", Refuse(ENTERPRISE)),
    ("partition", Refuse(ENTERPRISE)),
    ("peering", Warn),
    ("performance.grpc_keepalive_interval", Warn),
    ("performance.grpc_keepalive_timeout", Warn),
    ("ports.expose_max_port", Warn),
    ("ports.expose_min_port", Warn),
    ("ports.grpc", Warn),
    ("ports.grpc_tls", Warn),
    ("ports.proxy_max_port", Warn),
    ("ports.proxy_min_port", Warn),
    ("primary_gateways", Warn),
    ("primary_gateways_interval", Warn),
    ("protocol", Warn),
    ("raft_logstore", Warn),
    ("raft_protocol", Refuse(NO_RAFT_2)),
    ("read_replica", Refuse(ENTERPRISE)),
    ("reporting", Warn),
    ("rpc", Warn),
    ("segment", Refuse(ENTERPRISE)),
    ("segments", Refuse(ENTERPRISE)),
    ("serf_lan_allowed_cidrs", Refuse(NO_FILTER)),
    ("serf_wan_allowed_cidrs", Warn),
    ("server_name", Warn),
    ("server_rejoin_age_max", Warn),
    ("snapshot_agent", Warn),
    ("syslog_facility", Warn),
    ("telemetry.circonus_api_app", Warn),
    ("telemetry.circonus_api_token", Warn),
    ("telemetry.circonus_api_url", Warn),
    ("telemetry.circonus_broker_id", Warn),
    ("telemetry.circonus_broker_select_tag", Warn),
    ("telemetry.circonus_check_display_name", Warn),
    ("telemetry.circonus_check_force_metric_activation", Warn),
    ("telemetry.circonus_check_id", Warn),
    ("telemetry.circonus_check_instance_id", Warn),
    ("telemetry.circonus_check_search_tag", Warn),
    ("telemetry.circonus_check_tags", Warn),
    ("telemetry.circonus_submission_interval", Warn),
    ("telemetry.circonus_submission_url", Warn),
    ("telemetry.disable_per_tenancy_usage_metrics", Warn),
    ("telemetry.dogstatsd_addr", Warn),
    ("telemetry.dogstatsd_tags", Warn),
    ("telemetry.enable_host_metrics", Warn),
    ("telemetry.filter_default", Warn),
    ("telemetry.metrics_prefix", Warn),
    ("telemetry.prefix_filter", Warn),
    ("telemetry.retry_failed_connection", Warn),
    ("telemetry.statsd_address", Warn),
    ("telemetry.statsite_address", Warn),
    ("tls_prefer_server_cipher_suites", Warn),
    ("ui", Warn),
    ("ui_config", Warn),
    ("ui_content_path", Warn),
    ("ui_dir", Warn),
    ("unix_sockets", Refuse(NO_FILTER)),
    ("use_streaming_backend", Warn),
    ("watches", Warn),
    ("xds", Warn),
];

/// Flags by name, with the key whose treatment they share, and whether they take a value. Sorted.
const FLAGS: &[(&str, &str, Takes)] = &[
    ("auto-reload-config", "auto_reload_config", Takes::Nothing),
    (
        "default-intention-policy",
        "default_intention_policy",
        Takes::Value,
    ),
    (
        "disable-host-node-id",
        "disable_host_node_id",
        Takes::Nothing,
    ),
    ("grpc-port", "ports.grpc", Takes::Value),
    ("grpc-tls-port", "ports.grpc_tls", Takes::Value),
    ("log-rotate-bytes", "log_rotate_bytes", Takes::Value),
    ("log-rotate-duration", "log_rotate_duration", Takes::Value),
    ("log-rotate-max-files", "log_rotate_max_files", Takes::Value),
    ("non-voting-server", "non_voting_server", Takes::Nothing),
    ("primary-gateway", "primary_gateways", Takes::Value),
    ("protocol", "protocol", Takes::Value),
    ("raft-protocol", "raft_protocol", Takes::Value),
    ("read-replica", "read_replica", Takes::Nothing),
    ("segment", "segment", Takes::Value),
    (
        "serf-lan-allowed-cidrs",
        "serf_lan_allowed_cidrs",
        Takes::Value,
    ),
    (
        "serf-wan-allowed-cidrs",
        "serf_wan_allowed_cidrs",
        Takes::Value,
    ),
    ("syslog", "enable_syslog", Takes::Nothing),
    ("ui", "ui_config", Takes::Nothing),
    ("ui-content-path", "ui_content_path", Takes::Value),
    ("ui-dir", "ui_dir", Takes::Value),
];

/// Whether a flag is followed by a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Value,
    /// A switch: `-ui` or `-ui=false`.
    Nothing,
}

/// One setting that was found and cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The key path or the flag, as a person wrote it.
    pub(crate) name: String,
    /// Where in the file.
    pub(crate) at: Option<Position>,
    /// Why the agent must not start; without it, a warning is enough.
    pub(crate) refusal: Option<&'static str>,
}

/// Takes every unsupported setting out of a file's tree and returns those that were switched on.
pub(crate) fn strip(root: &mut Node) -> Vec<Found> {
    let mut found = Vec::new();
    strip_below(root, "", &mut found);
    found
}

fn strip_below(node: &mut Node, prefix: &str, found: &mut Vec<Found>) {
    let entries = match &mut node.value {
        Value::Object(entries) => entries,
        Value::List(nodes) => {
            for node in nodes {
                strip_below(node, prefix, found);
            }
            return;
        }
        _ => return,
    };
    entries.retain_mut(|entry| keep(entry, prefix, found));
}

fn keep(entry: &mut Entry, prefix: &str, found: &mut Vec<Found>) -> bool {
    let path = format!("{prefix}{}", entry.key.to_ascii_lowercase());
    let Some(treatment) = treatment(&path) else {
        let below = format!("{path}.");
        if KEYS.iter().any(|(key, _)| key.starts_with(&below)) {
            strip_below(&mut entry.node, &below, found);
        }
        return true;
    };
    let on = is_on(&path, treatment, &entry.node.value);
    if on {
        found.push(Found {
            name: path,
            at: Some(entry.at),
            refusal: refusal(treatment),
        });
    }
    false
}

fn is_on(path: &str, treatment: Treatment, value: &Value) -> bool {
    match (path, value) {
        // The only values that this version has.
        ("raft_protocol", Value::Integer(3)) | ("protocol", Value::Integer(2 | 3)) => false,
        _ => match treatment {
            AlwaysOn => *value == Value::Bool(false),
            Refuse(_) | Warn => !value.is_off(),
        },
    }
}

fn refusal(treatment: Treatment) -> Option<&'static str> {
    match treatment {
        Refuse(why) => Some(why),
        Warn | AlwaysOn => None,
    }
}

fn treatment(path: &str) -> Option<Treatment> {
    KEYS.binary_search_by(|(key, _)| (*key).cmp(path))
        .ok()
        .map(|index| KEYS[index].1)
}

/// All keys that are treated here.
#[cfg(test)]
pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, _)| *key)
}

/// What the unsupported flag `name` (without dashes) takes; `None` when there is no such flag.
pub(crate) fn flag(name: &str) -> Option<Takes> {
    entry_of_flag(name).map(|(_, takes)| takes)
}

/// Judges an unsupported flag with its value; `None` when the value switches it off.
pub(crate) fn judge_flag(name: &str, value: &str) -> Option<Found> {
    let (key, takes) = entry_of_flag(name)?;
    let treatment = treatment(key)?;
    let value = match (takes, value.parse::<i64>(), value) {
        (Takes::Nothing, _, "false" | "f" | "F" | "FALSE" | "False" | "0") => Value::Bool(false),
        (Takes::Nothing, ..) => Value::Bool(true),
        (Takes::Value, Ok(number), _) => Value::Integer(number),
        (Takes::Value, Err(_), text) => Value::String(text.to_owned()),
    };
    is_on(key, treatment, &value).then(|| Found {
        name: format!("-{name}"),
        at: None,
        refusal: refusal(treatment),
    })
}

fn entry_of_flag(name: &str) -> Option<(&'static str, Takes)> {
    FLAGS
        .binary_search_by(|(flag, ..)| (*flag).cmp(name))
        .ok()
        .map(|index| (FLAGS[index].1, FLAGS[index].2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_every_flag_has_a_treatment() {
        assert!(KEYS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(FLAGS.is_sorted_by(|a, b| a.0 < b.0));
        for (flag, key, _) in FLAGS {
            assert!(treatment(key).is_some(), "-{flag} names no key: {key}");
        }
    }

    #[test]
    fn protective_settings_are_refused_and_others_named() {
        let text = r#"{"read_replica": true, "ui_config": {"enabled": true}, "server": true,
                       "ports": {"grpc": 8502, "http": 1}, "Serf_LAN_allowed_cidrs": ["10.0.0.0/8"],
                       "limits": {"rpc_client_timeout": "9s", "kv_max_value_size": 1}}"#;
        let mut root = super::super::json::parse(text).expect("valid");
        let found: Vec<_> = strip(&mut root)
            .into_iter()
            .map(|f| (f.name, f.refusal.is_some()))
            .collect();
        let wanted = [
            ("read_replica", true),
            ("ui_config", false),
            ("ports.grpc", false),
            ("serf_lan_allowed_cidrs", true),
            // Settings of the file that nothing obeys are said, so that nobody relies on them.
            ("limits.rpc_client_timeout", false),
        ];
        assert_eq!(
            found,
            wanted.map(|(name, refused)| (name.to_owned(), refused))
        );
        let Value::Object(left) = root.value else {
            panic!("an object");
        };
        let left: Vec<_> = left.iter().map(|e| e.key.as_str()).collect();
        assert_eq!(left, ["server", "ports", "limits"]);
    }

    #[test]
    fn what_is_switched_off_says_nothing() {
        let text = r#"{"read_replica": false, "ui": false, "ports": {"grpc": -1},
                       "raft_protocol": 3, "disable_update_check": true, "watches": []}"#;
        let mut root = super::super::json::parse(text).expect("valid");
        assert_eq!(strip(&mut root), []);
        assert_eq!(judge_flag("ui", "false"), None);
        assert_eq!(judge_flag("grpc-port", "-1"), None);
        assert_eq!(judge_flag("raft-protocol", "3"), None);
        assert_eq!(judge_flag("disable-host-node-id", "true"), None);
    }

    #[test]
    fn flags_share_the_treatment_of_their_key() {
        let found = judge_flag("segment", "abc").expect("on");
        assert_eq!(
            (found.name.as_str(), found.refusal),
            ("-segment", Some(ENTERPRISE))
        );
        let found = judge_flag("raft-protocol", "2").expect("on");
        assert_eq!(found.refusal, Some(NO_RAFT_2));
        let found =
            judge_flag("disable-host-node-id", "false").expect("not what this version does");
        assert_eq!(found.refusal, None);
    }
}
