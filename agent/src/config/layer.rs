//! What one source (a file, or the flags) says: every setting optional, spelt as in Consul's files.
//!
//! The meaning, unit, range and default of each setting are documented at [`super::Config`].

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::Value;

use crate::duration::GoDuration;
use crate::local::definition::Raw;

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
        addresses: AddressesLayer,
        advertise_addr: Option<String>,
        alt_domain: Option<String>,
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
        data_dir: Option<String>,
        datacenter: Option<String>,
        default_query_time: Option<GoDuration>,
        disable_coordinates: Option<bool>,
        // Only a flag: in a file it is an unknown key.
        #[serde(skip)]
        dev: Option<bool>,
        dns_config: DnsLayer,
        discard_check_output: Option<bool>,
        domain: Option<String>,
        enable_local_script_checks: Option<bool>,
        enable_script_checks: Option<bool>,
        gossip_lan: GossipLayer,
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
        raft_snapshot_interval: Option<GoDuration>,
        raft_snapshot_threshold: Option<Number>,
        raft_trailing_logs: Option<Number>,
        reconnect_timeout: Option<GoDuration>,
        // The old key, of which there is one.
        recursor: Option<String>,
        recursors: Vec<String>,
        rejoin_after_leave: Option<bool>,
        retry_interval: Option<GoDuration>,
        retry_join: Vec<String>,
        retry_max: Option<Number>,
        serf_lan: Option<String>,
        server: Option<bool>,
        service: Vec<ServiceText>,
        services: Vec<ServiceText>,
        session_ttl_min: Option<GoDuration>,
        skip_leave_on_interrupt: Option<bool>,
        start_join: Vec<String>,
        telemetry: TelemetryLayer,
        tagged_addresses: BTreeMap<String, String>,
        tls: TlsLayer,
        tls_cipher_suites: Option<String>,
        tls_min_version: Option<String>,
        verify_incoming: Option<bool>,
        verify_incoming_https: Option<bool>,
        verify_incoming_rpc: Option<bool>,
        verify_outgoing: Option<bool>,
        verify_server_hostname: Option<bool>,
    }
    AddressesLayer {
        dns: Option<String>,
        http: Option<String>,
        https: Option<String>,
    }
    AutopilotLayer {
        cleanup_dead_servers: Option<bool>,
        last_contact_threshold: Option<GoDuration>,
        max_trailing_logs: Option<Number>,
        min_quorum: Option<Number>,
        server_stabilization_time: Option<GoDuration>,
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
    LimitsLayer {
        http_max_conns_per_client: Option<Number>,
        https_handshake_timeout: Option<GoDuration>,
        kv_max_value_size: Option<Number>,
        txn_max_req_len: Option<Number>,
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
        server: Option<Number>,
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
