//! What one source (a file, or the flags) says: every setting optional, spelt as in Consul's files.
//!
//! The meaning, unit, range and default of each setting are documented at [`super::Config`].

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::Value;

use crate::ca::settings::name_of;
use crate::duration::GoDuration;
use crate::local::definition::Raw;
use crate::state::ConfigEntry;

/// A later source over an earlier one: scalars replace, lists append, maps and blocks are joined key by key.
pub(crate) trait Merge {
    fn overlay(&mut self, later: Self);
}

impl<T> Merge for Option<T> {
    fn overlay(&mut self, later: Self) {
        if later.is_some() {
            *self = later;
        }
    }
}

impl<T> Merge for Vec<T> {
    fn overlay(&mut self, later: Self) {
        self.extend(later);
    }
}

impl<T> Merge for BTreeMap<String, T> {
    fn overlay(&mut self, later: Self) {
        self.extend(later);
    }
}

/// Declares a layer struct with its file form and its merge, so that no field can be forgotten in either.
macro_rules! layers {
    ($($name:ident { $($(#[$note:meta])* $field:ident: $kind:ty,)* })*) => {$(
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$note])* pub(crate) $field: $kind,)*
        }

        impl Merge for $name {
            fn overlay(&mut self, later: Self) {
                $(self.$field.overlay(later.$field);)*
            }
        }
    )*};
}

layers! {
    Layer {
        acl: AclLayer,
        acl_agent_master_token: Option<String>,
        acl_agent_token: Option<String>,
        acl_datacenter: Option<String>,
        acl_default_policy: Option<String>,
        acl_down_policy: Option<String>,
        acl_enable_key_list_policy: Option<bool>,
        acl_master_token: Option<String>,
        acl_replication_token: Option<String>,
        acl_token: Option<String>,
        acl_ttl: Option<GoDuration>,
        addresses: AddressesLayer,
        advertise_addr: Option<String>,
        advertise_addr_wan: Option<String>,
        alt_domain: Option<String>,
        auto_encrypt: AutoEncryptLayer,
        autopilot: AutopilotLayer,
        bind_addr: Option<String>,
        bootstrap: Option<bool>,
        bootstrap_expect: Option<Number>,
        ca_file: Option<String>,
        ca_path: Option<String>,
        cert_file: Option<String>,
        check: Vec<CheckText>,
        check_output_max_size: Option<Number>,
        check_update_interval: Option<GoDuration>,
        checks: Vec<CheckText>,
        client_addr: Option<String>,
        // Read apart: each kind has fields of its own.
        #[serde(skip)]
        config_entries: Vec<ConfigEntry>,
        connect: ConnectLayer,
        data_dir: Option<String>,
        datacenter: Option<String>,
        default_query_time: Option<GoDuration>,
        disable_coordinates: Option<bool>,
        disable_keyring_file: Option<bool>,
        disable_remote_exec: Option<bool>,
        // Only a flag: in a file it is an unknown key.
        #[serde(skip)]
        dev: Option<bool>,
        dns_config: DnsLayer,
        discard_check_output: Option<bool>,
        discovery_max_stale: Option<GoDuration>,
        domain: Option<String>,
        enable_acl_replication: Option<bool>,
        enable_debug: Option<bool>,
        encrypt: Option<String>,
        encrypt_verify_incoming: Option<bool>,
        encrypt_verify_outgoing: Option<bool>,
        enable_local_script_checks: Option<bool>,
        enable_script_checks: Option<bool>,
        gossip_lan: GossipLayer,
        gossip_wan: GossipLayer,
        http_config: HttpLayer,
        key_file: Option<String>,
        leave_on_terminate: Option<bool>,
        limits: LimitsLayer,
        log_file: Option<String>,
        log_json: Option<bool>,
        log_level: Option<String>,
        max_query_time: Option<GoDuration>,
        node_id: Option<String>,
        node_meta: BTreeMap<String, String>,
        node_name: Option<String>,
        performance: PerformanceLayer,
        pid_file: Option<String>,
        ports: PortsLayer,
        primary_datacenter: Option<String>,
        quorum_recovery: QuorumRecoveryLayer,
        raft_set_aside: RaftSetAsideLayer,
        raft_snapshot_interval: Option<GoDuration>,
        raft_snapshot_threshold: Option<Number>,
        raft_trailing_logs: Option<Number>,
        reconnect_timeout: Option<GoDuration>,
        reconnect_timeout_wan: Option<GoDuration>,
        // The old key, of which there is one.
        recursor: Option<String>,
        recursors: Vec<String>,
        rejoin_after_leave: Option<bool>,
        retry_interval: Option<GoDuration>,
        retry_interval_wan: Option<GoDuration>,
        retry_join: Vec<String>,
        retry_join_wan: Vec<String>,
        retry_max: Option<Number>,
        retry_max_wan: Option<Number>,
        serf_lan: Option<String>,
        serf_wan: Option<String>,
        server: Option<bool>,
        service: Vec<ServiceText>,
        services: Vec<ServiceText>,
        session_ttl_min: Option<GoDuration>,
        skip_leave_on_interrupt: Option<bool>,
        start_join: Vec<String>,
        start_join_wan: Vec<String>,
        telemetry: TelemetryLayer,
        tagged_addresses: BTreeMap<String, String>,
        translate_wan_addrs: Option<bool>,
        tls: TlsLayer,
        tls_cipher_suites: Option<String>,
        tls_min_version: Option<String>,
        verify_incoming: Option<bool>,
        verify_incoming_https: Option<bool>,
        verify_incoming_rpc: Option<bool>,
        verify_outgoing: Option<bool>,
        verify_server_hostname: Option<bool>,
    }
    AclLayer {
        default_policy: Option<String>,
        down_policy: Option<String>,
        enable_key_list_policy: Option<bool>,
        enable_token_persistence: Option<bool>,
        enable_token_replication: Option<bool>,
        enabled: Option<bool>,
        policy_ttl: Option<GoDuration>,
        role_ttl: Option<GoDuration>,
        token_ttl: Option<GoDuration>,
        tokens: AclTokensLayer,
    }
    AclTokensLayer {
        agent: Option<String>,
        agent_master: Option<String>,
        agent_recovery: Option<String>,
        config_file_service_registration: Option<String>,
        default: Option<String>,
        dns: Option<String>,
        initial_management: Option<String>,
        master: Option<String>,
        replication: Option<String>,
    }
    AddressesLayer {
        dns: Option<String>,
        http: Option<String>,
        https: Option<String>,
    }
    AutoEncryptLayer {
        allow_tls: Option<bool>,
        dns_san: Vec<String>,
        ip_san: Vec<String>,
        tls: Option<bool>,
    }
    AutopilotLayer {
        cleanup_dead_servers: Option<bool>,
        last_contact_threshold: Option<GoDuration>,
        max_trailing_logs: Option<Number>,
        min_quorum: Option<Number>,
        server_stabilization_time: Option<GoDuration>,
    }
    ConnectLayer {
        ca_config: CaSettings,
        ca_provider: Option<String>,
        enabled: Option<bool>,
    }
    DnsLayer {
        a_record_limit: Option<Number>,
        allow_stale: Option<bool>,
        disable_compression: Option<bool>,
        enable_additional_node_meta_txt: Option<bool>,
        enable_truncate: Option<bool>,
        max_stale: Option<GoDuration>,
        node_ttl: Option<GoDuration>,
        only_passing: Option<bool>,
        recursor_strategy: Option<String>,
        recursor_timeout: Option<GoDuration>,
        service_ttl: BTreeMap<String, GoDuration>,
        soa: SoaLayer,
        udp_answer_limit: Option<Number>,
    }
    TelemetryLayer {
        disable_hostname: Option<bool>,
        prometheus_retention_time: Option<GoDuration>,
    }
    QuorumRecoveryLayer {
        cluster_id: Option<String>,
        last_log_index: Option<Number>,
        last_log_term: Option<Number>,
        raft_id: Option<String>,
    }
    RaftSetAsideLayer {
        node_name: Option<String>,
        token: Option<String>,
    }
    SoaLayer {
        expire: Option<Number>,
        min_ttl: Option<Number>,
        refresh: Option<Number>,
        retry: Option<Number>,
    }
    GossipLayer {
        gossip_interval: Option<GoDuration>,
        probe_interval: Option<GoDuration>,
        probe_timeout: Option<GoDuration>,
        suspicion_mult: Option<Number>,
    }
    HttpLayer {
        allow_write_http_from: Vec<String>,
        block_endpoints: Vec<String>,
        max_header_bytes: Option<Number>,
        response_headers: BTreeMap<String, String>,
        use_cache: Option<bool>,
    }
    LimitsLayer {
        http_max_conns_per_client: Option<Number>,
        https_handshake_timeout: Option<GoDuration>,
        kv_max_value_size: Option<Number>,
        request_limits: RequestLimitsLayer,
        rpc_handshake_timeout: Option<GoDuration>,
        rpc_max_burst: Option<Number>,
        rpc_max_conns_per_client: Option<Number>,
        rpc_rate: Option<Rate>,
        txn_max_req_len: Option<Number>,
    }
    RequestLimitsLayer {
        mode: Option<String>,
        read_rate: Option<Rate>,
        write_rate: Option<Rate>,
    }
    PerformanceLayer {
        leave_drain_time: Option<GoDuration>,
        raft_multiplier: Option<Number>,
        rpc_hold_timeout: Option<GoDuration>,
    }
    PortsLayer {
        dns: Option<Number>,
        http: Option<Number>,
        https: Option<Number>,
        serf_lan: Option<Number>,
        serf_wan: Option<Number>,
        server: Option<Number>,
        sidecar_max_port: Option<Number>,
        sidecar_min_port: Option<Number>,
    }
    TlsLayer {
        defaults: TlsInterfaceLayer,
        // Nothing here speaks gRPC: read, checked by nobody, and named in a warning.
        grpc: TlsInterfaceLayer,
        https: TlsInterfaceLayer,
        internal_rpc: TlsInterfaceLayer,
    }
    TlsInterfaceLayer {
        ca_file: Option<String>,
        ca_path: Option<String>,
        cert_file: Option<String>,
        key_file: Option<String>,
        tls_cipher_suites: Option<String>,
        tls_min_version: Option<String>,
        use_auto_cert: Option<bool>,
        verify_incoming: Option<bool>,
        verify_outgoing: Option<bool>,
        verify_server_hostname: Option<bool>,
    }
}

/// Settings of the certificate authority by their names of Consul's, however they were spelt.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CaSettings(pub(crate) serde_json::Map<String, Value>);

impl<'de> Deserialize<'de> for CaSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let named = given
            .into_iter()
            .map(|(key, value)| (name_of(&key).to_owned(), value));
        Ok(Self(named.collect()))
    }
}

impl Merge for CaSettings {
    fn overlay(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

/// The definition of a service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServiceText(pub(crate) Raw);

impl<'de> Deserialize<'de> for ServiceText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Raw::service_in_file(value)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// The definition of a check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckText(pub(crate) Raw);

impl<'de> Deserialize<'de> for CheckText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Raw::check_in_file(value)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// A whole number as it was written; whether it is in range is said by [`super::build`], which knows the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number))
            }
        }
        deserializer.deserialize_i64(Whole)
    }
}

/// A number, whole or not, as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Rate, E> {
                Ok(Rate(number as f64))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Rate, E> {
                Ok(Rate(number))
            }
        }
        deserializer.deserialize_f64(Any)
    }
}
