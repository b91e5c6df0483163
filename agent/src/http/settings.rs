//! What the API knows of the agent's configuration.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::acl::DefaultPolicy;
use crate::config::{Bootstrap, Cidr, Config};
use crate::duration;

/// What the API knows of the agent's configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Node name.
    pub node_name: String,
    /// Consul node id.
    pub node_id: Uuid,
    /// Datacenter.
    pub datacenter: String,
    /// The one whose config entries count everywhere.
    pub primary_datacenter: String,
    /// Whether answers about nodes of other datacenters show their `wan` address.
    pub translate_wan_addrs: bool,
    /// Whether this agent is a server.
    pub server: bool,
    /// What runs.
    pub build: Build,
    /// Largest request body and KV value in bytes. Default 524288.
    pub kv_max_value_size: usize,
    /// Largest body of a transaction in bytes, if that is more than `kv_max_value_size`. Default 524288.
    pub txn_max_req_len: usize,
    /// How long a blocking query without `wait` is held. Default 300 s.
    pub default_query_time: Duration,
    /// Longest `wait` of a blocking query; more is cut to this. Default 600 s.
    pub max_query_time: Duration,
    /// How old answers of the catalog may be, if the request says nothing else; 0 is not at all. Default 0.
    pub discovery_max_stale: Duration,
    /// Shortest TTL of a session. Default 10 s.
    pub session_ttl_min: Duration,
    /// Open connections from one IP address; more are answered with 429. 0 is no bound. Default 200.
    pub http_max_conns_per_client: u32,
    /// Whether the service mesh has a certificate authority. Default true.
    pub connect: bool,
    /// Whether tokens are asked for. Default false.
    pub acl: bool,
    /// What is allowed where no rule says anything: `allow` or `deny`. Default allow.
    pub default_policy: &'static str,
    /// Domains of DNS names, each with a final dot.
    pub dns_domains: Vec<String>,
    /// Networks from which writes are taken; empty for all.
    pub allow_write_http_from: Vec<Cidr>,
    /// Prefixes of paths that are answered with 403.
    pub block_endpoints: Vec<String>,
    /// Longest head of a request, in bytes. Default 65536.
    pub header_bytes_max: usize,
    /// Headers of every answer that does not set them itself.
    pub response_headers: Vec<(String, String)>,
    /// Whether `?cached` has an effect. Default true.
    pub use_cache: bool,
    /// Whether `/debug/pprof/` is there. Default false.
    pub enable_debug: bool,
    /// Whether every JSON answer is indented, as in development mode.
    pub pretty: bool,
    /// `DebugConfig` of `/v1/agent/self`: the configuration as it is in force, without secrets.
    pub debug_config: Value,
}

/// What was built, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// The version of Consul that the agent says it is compatible with.
    pub version: &'static str,
    /// The commit; may be empty.
    pub revision: &'static str,
    /// RFC 3339; may be empty.
    pub date: &'static str,
}

impl Settings {
    /// What of an agent's configuration concerns the API.
    pub fn new(config: &Config, node_id: Uuid, build: Build) -> Self {
        Self {
            node_name: config.node_name.clone(),
            node_id,
            datacenter: config.datacenter.clone(),
            primary_datacenter: config.primary_datacenter.clone(),
            translate_wan_addrs: config.translate_wan_addrs,
            server: config.server,
            build,
            kv_max_value_size: config.limits.kv_max_value_size,
            txn_max_req_len: config.limits.txn_max_req_len,
            default_query_time: config.default_query_time,
            max_query_time: config.max_query_time,
            discovery_max_stale: config.discovery_max_stale,
            session_ttl_min: config.session_ttl_min,
            http_max_conns_per_client: config.limits.http_max_conns_per_client,
            connect: config.connect.enabled,
            acl: config.acl.enabled,
            default_policy: match config.acl.default_policy {
                DefaultPolicy::Allow => "allow",
                DefaultPolicy::Deny => "deny",
            },
            dns_domains: [config.domain.clone()]
                .into_iter()
                .chain(config.dns.alt_domain.clone())
                .collect(),
            allow_write_http_from: config.http_config.allow_write_http_from.clone(),
            block_endpoints: config.http_config.block_endpoints.clone(),
            header_bytes_max: config.http_config.header_bytes_max,
            response_headers: config
                .http_config
                .response_headers
                .clone()
                .into_iter()
                .collect(),
            use_cache: config.http_config.use_cache,
            enable_debug: config.enable_debug,
            pretty: config.dev,
            debug_config: debug_config(config, node_id, build),
        }
    }
}

/// The configuration under the names that Consul's `DebugConfig` has.
fn debug_config(config: &Config, node_id: Uuid, build: Build) -> Value {
    let print = duration::print;
    let expect = match config.bootstrap {
        Bootstrap::Expect(servers) => servers.get(),
        Bootstrap::Never | Bootstrap::Alone => 0,
    };
    #[rustfmt::skip]
    let fields = [
        ("AdvertiseAddrLAN", json!(config.advertise_addr)),
        ("AdvertiseAddrWAN", json!(config.wan.advertise)),
        ("AutopilotCleanupDeadServers", json!(config.autopilot.cleanup_dead_servers)),
        ("AutopilotLastContactThreshold", json!(print(config.autopilot.last_contact_threshold))),
        ("AutopilotMaxTrailingLogs", json!(config.autopilot.max_trailing_logs)),
        ("AutopilotMinQuorum", json!(config.autopilot.min_quorum)),
        ("AutopilotServerStabilizationTime", json!(print(config.autopilot.server_stabilization_time))),
        ("BindAddr", json!(config.bind_addr)),
        ("Bootstrap", json!(config.bootstrap == Bootstrap::Alone)),
        ("BootstrapExpect", json!(expect)),
        ("BuildDate", json!(build.date)),
        ("ConnectCAProvider", json!(crate::ca::settings::PROVIDER)),
        ("ConnectEnabled", json!(config.connect.enabled)),
        ("DataDir", json!(config.data_dir.display().to_string())),
        ("Datacenter", json!(config.datacenter)),
        ("DefaultQueryTime", json!(print(config.default_query_time))),
        ("DevMode", json!(config.dev)),
        ("AllowWriteHTTPFrom", json!(config.http_config.allow_write_http_from.iter().map(ToString::to_string).collect::<Vec<_>>())),
        ("DisableRemoteExec", json!(config.disable_remote_exec)),
        ("EnableDebug", json!(config.enable_debug)),
        ("HTTPBlockEndpoints", json!(config.http_config.block_endpoints)),
        ("HTTPResponseHeaders", json!(config.http_config.response_headers)),
        ("GossipLANGossipInterval", json!(print(config.gossip_lan.gossip_interval))),
        ("GossipLANProbeInterval", json!(print(config.gossip_lan.probe_interval))),
        ("GossipLANProbeTimeout", json!(print(config.gossip_lan.probe_timeout))),
        ("GossipLANSuspicionMult", json!(config.gossip_lan.suspicion_mult)),
        ("GossipWANGossipInterval", json!(print(config.wan.gossip.gossip_interval))),
        ("GossipWANProbeInterval", json!(print(config.wan.gossip.probe_interval))),
        ("GossipWANProbeTimeout", json!(print(config.wan.gossip.probe_timeout))),
        ("GossipWANSuspicionMult", json!(config.wan.gossip.suspicion_mult)),
        ("HTTPAddrs", json!(config.http.iter().map(ToString::to_string).collect::<Vec<_>>())),
        ("HTTPSAddrs", json!(config.https.iter().map(ToString::to_string).collect::<Vec<_>>())),
        ("HTTPSHandshakeTimeout", json!(print(config.tls.https_handshake_timeout))),
        ("HTTPSPort", json!(config.ports.https.map_or(-1, i32::from))),
        ("HTTPMaxConnsPerClient", json!(config.limits.http_max_conns_per_client)),
        ("HTTPPort", json!(config.ports.http.map_or(-1, i32::from))),
        ("KVMaxValueSize", json!(config.limits.kv_max_value_size)),
        ("LeaveDrainTime", json!(print(config.leave_drain_time))),
        ("LeaveOnTerm", json!(config.leave_on_terminate)),
        ("Logging", json!({"LogJSON": config.log.json, "LogLevel": config.log.level.as_str()})),
        ("MaxQueryTime", json!(print(config.max_query_time))),
        ("NodeID", json!(node_id)),
        ("NodeMeta", json!(config.node_meta)),
        ("NodeName", json!(config.node_name)),
        ("PidFile", json!(config.pid_file.as_ref().map(|path| path.display().to_string()))),
        ("PrimaryDatacenter", json!(config.primary_datacenter)),
        ("RPCAdvertiseAddr", json!(config.rpc_advertise())),
        ("RPCBindAddr", json!(config.rpc_bind())),
        ("RPCHoldTimeout", json!(print(config.rpc_hold_timeout))),
        ("RPCMaxBurst", json!(config.rates.calls.max_burst)),
        ("RPCRateLimit", json!(config.rates.calls.rate.unwrap_or(f64::MAX))),
        ("RaftSnapshotInterval", json!(print(config.raft.snapshot_interval))),
        ("RaftSnapshotThreshold", json!(config.raft.snapshot_threshold)),
        ("RaftTrailingLogs", json!(config.raft.trailing_logs)),
        ("RejoinAfterLeave", json!(config.rejoin_after_leave)),
        ("RequestLimitsMode", json!(config.rates.requests.mode as u8)),
        ("RequestLimitsReadRate", json!(config.rates.requests.read_rate.unwrap_or(f64::MAX))),
        ("RequestLimitsWriteRate", json!(config.rates.requests.write_rate.unwrap_or(f64::MAX))),
        ("RetryJoinIntervalLAN", json!(print(config.retry_interval))),
        ("RetryJoinIntervalWAN", json!(print(config.wan.retry_interval))),
        ("RetryJoinLAN", json!(config.retry_join)),
        ("RetryJoinMaxAttemptsLAN", json!(config.retry_max)),
        ("RetryJoinMaxAttemptsWAN", json!(config.wan.retry_max)),
        ("RetryJoinWAN", json!(config.wan.retry_join)),
        ("Revision", json!(build.revision)),
        ("SerfAdvertiseAddrLAN", json!(config.gossip_advertise())),
        ("SerfAdvertiseAddrWAN", json!(config.wan_advertise())),
        ("SerfBindAddrLAN", json!(config.gossip_bind())),
        ("SerfBindAddrWAN", json!(config.wan_bind())),
        ("SerfPortLAN", json!(config.ports.serf_lan)),
        ("SerfPortWAN", json!(config.ports.serf_wan.map_or(-1, i32::from))),
        ("ServerMode", json!(config.server)),
        ("ServerPort", json!(config.ports.server)),
        ("SkipLeaveOnInt", json!(config.skip_leave_on_interrupt)),
        ("StartJoinAddrsLAN", json!(config.start_join)),
        ("StartJoinAddrsWAN", json!(config.wan.start_join)),
        ("TranslateWANAddrs", json!(config.translate_wan_addrs)),
        ("Version", json!(build.version)),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagSettings, Format, Machine, SourceFile, load};

    #[test]
    fn settings_follow_the_configuration() {
        let file = SourceFile {
            name: "agent.json".into(),
            format: Format::Json,
            text: r#"{"server": true, "bootstrap_expect": 3, "node_name": "x", "data_dir": "/data", "bind_addr": "127.0.0.1",
                "max_query_time": "90s", "limits": {"kv_max_value_size": 1000, "http_max_conns_per_client": 7},
                "node_meta": {"rack": "1"}, "ports": {"http": -1}}"#
                .into(),
        };
        let machine = Machine {
            hostname: String::new(),
            private_ipv4: vec![],
            public_ipv6: vec![],
            temporary_dir: "/tmp/x".into(),
        };
        let config = load(&[file], &FlagSettings::default(), &machine)
            .unwrap()
            .config;
        let build = Build {
            version: "1.19.0",
            revision: "r",
            date: "d",
        };
        let settings = Settings::new(&config, Uuid::nil(), build);
        assert_eq!(settings.node_name, "x");
        assert_eq!(settings.kv_max_value_size, 1000);
        assert_eq!(settings.http_max_conns_per_client, 7);
        assert_eq!(settings.max_query_time, Duration::from_secs(90));
        assert!(settings.server && !settings.pretty);
        let debug = &settings.debug_config;
        for (name, value) in [
            ("BindAddr", json!("127.0.0.1")),
            ("Bootstrap", json!(false)),
            ("BootstrapExpect", json!(3)),
            ("DataDir", json!("/data")),
            ("HTTPPort", json!(-1)),
            ("MaxQueryTime", json!("1m30s")),
            ("NodeMeta", json!({"rack": "1"})),
            ("PidFile", json!(null)),
            ("RPCAdvertiseAddr", json!("127.0.0.1:8300")),
            ("Version", json!("1.19.0")),
        ] {
            assert_eq!(debug[name], value, "{name}");
        }
    }
}
