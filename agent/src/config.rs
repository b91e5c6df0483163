//! Settings: flags and files merged into one [`Config`]. Pure, except for [`files`] and [`machine`], which read.
//!
//! Order: defaults, then files in the order of the command line (a folder's files in lexical order), then flags, then
//! `-hcl` fragments. A later scalar replaces an earlier one, lists are joined, blocks are merged key by key.
//! Spellings, defaults and error texts are Consul's. What Consul has and this version does not is refused where
//! starting without it would be less safe than asked for, and named in a warning otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use crate::local::definition::Raw;
use crate::state::ConfigEntry;

mod acl;
mod auto_encrypt;
mod build;
mod cidr;
mod connect;
mod cursor;
mod dns;
pub(crate) mod document;
mod encrypt;
mod entries;
pub mod files;
mod gossip;
mod hcl;
mod http;
mod json;
pub(crate) mod layer;
pub mod machine;
mod names;
mod raft;
mod rates;
mod reload;
mod services;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
pub(crate) mod unsupported;
mod wan;

pub use acl::{Acl, DownPolicy, Secret, Tokens};
pub use auto_encrypt::AutoEncrypt;
pub use build::{FlagSettings, Loaded, load};
pub use cidr::Cidr;
pub use connect::Connect;
pub use dns::{Dns, Soa};
pub use encrypt::GossipEncryption;
pub use files::{Format, SourceFile};
pub use gossip::GossipTimes;
pub use machine::Machine;
pub use rates::{CallLimit, Rates, RequestLimits, RequestMode};
pub use reload::Diff;
pub use tls::{Tls, TlsInterface, TlsVersion};
pub use wan::Wan;

pub(crate) use hcl::parse as parse_document;
pub(crate) use tree::{Entry, Node, Position, Value};

/// Everything that an agent is started with, checked.
///
/// Each field names its key in a configuration file and its flag, where they are not the field's own name.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whether this agent is a server, which takes part in Raft and holds the state, or a client. Key and flag `server`.
    /// Default false.
    pub server: bool,
    /// Whether, and how, this server may form a new cluster. Keys `bootstrap` and `bootstrap_expect`. Default never.
    pub bootstrap: Bootstrap,
    /// Development mode (`-dev`, only a flag): a lone server on loopback with a temporary data folder. Default false.
    pub dev: bool,
    /// Name of this node, unique in the cluster without regard to case. Key `node_name`, flag `-node`. Default: the
    /// host's name.
    pub node_name: String,
    /// Node id to be used. Default none: read from `DATA/node-id`, made there at the first start.
    pub node_id: Option<Uuid>,
    /// Free key and value pairs of this node, at most 64; keys up to 128 of `A-Z a-z 0-9 _ -`, values up to 512
    /// characters. Key `node_meta`, flag `-node-meta key:value`. Default none.
    pub node_meta: BTreeMap<String, String>,
    /// Datacenter, lower case letters, digits, `-` and `_`. Members of another one are refused. Default `dc1`.
    pub datacenter: String,
    /// Domain of DNS names, with a final dot. Default `consul.`. This version answers no DNS, and warns when it is set.
    pub domain: String,
    /// Folder of everything that outlives the process. Key `data_dir`. Must be given, except with `-dev`.
    pub data_dir: PathBuf,
    /// Whether `data_dir` belongs to this process alone and is removed when it ends (`-dev` without `-data-dir`).
    pub data_dir_is_temporary: bool,
    /// Address on which servers' RPC and, unless `serf_lan_bind` differs, gossip listen. Key `bind_addr`, flag `-bind`.
    /// Default 0.0.0.0.
    pub bind_addr: IpAddr,
    /// Address on which gossip listens. Key `serf_lan`, flag `-serf-lan-bind`. Default `bind_addr`.
    pub serf_lan_bind: IpAddr,
    /// Address that other agents are told to use. Key `advertise_addr`, flag `-advertise`. Default: `bind_addr`, or
    /// the machine's only private IPv4 address when that is 0.0.0.0.
    pub advertise_addr: IpAddr,
    /// Where the HTTP API listens. Keys `client_addr` (several separated by spaces), `addresses.http`, `ports.http`.
    /// Default 127.0.0.1:8500; empty when the port is -1.
    pub http: Vec<HttpAddress>,
    /// How the HTTP API answers. Block `http_config`.
    pub http_config: HttpConfig,
    /// Whether `/debug/pprof/` is there. Default false.
    pub enable_debug: bool,
    /// Where the same API listens for HTTPS. Keys `client_addr`, `addresses.https`, `ports.https`. Default: nowhere, as
    /// the port is -1. Needs a certificate in `tls`.
    pub https: Vec<HttpAddress>,
    /// How connections are protected. Applies live.
    pub tls: Tls,
    /// Certificates of client agents that come by themselves.
    pub auto_encrypt: AutoEncrypt,
    /// How DNS questions are answered.
    pub dns: Dns,
    /// Port numbers.
    pub ports: Ports,
    /// Addresses to join once at start, which fails when none of them answers. Old; key `start_join`, flag `-join`. Default none.
    pub start_join: Vec<String>,
    /// Addresses to join at start, tried again until one succeeds. `HOST`, `HOST:PORT`, IPv6 in brackets. Default none.
    pub retry_join: Vec<String>,
    /// Pause between two rounds of `retry_join`. At least 1 ms. Default 30s.
    pub retry_interval: Duration,
    /// Rounds of `retry_join` after which the agent gives up and exits with code 1; 0 is never. Default 0.
    pub retry_max: u32,
    /// Whether remembered members are contacted at start also after a graceful leave. Flag `-rejoin`. Default false.
    pub rejoin_after_leave: bool,
    /// Whether this node neither measures nor tells where it is. Default false.
    pub disable_coordinates: bool,
    /// Whether commands of others (`exec`) are not run here. Everybody who may write keys and fire events may run what
    /// they like otherwise. Default true.
    pub disable_remote_exec: bool,
    /// Whether SIGTERM is a graceful leave. Default true on clients, false on servers. Applies live.
    pub leave_on_terminate: bool,
    /// Whether SIGINT stops the agent without a leave. Applies live. Default false.
    ///
    /// Consul's default is true on servers. Here SIGINT is a graceful leave on servers too, as the manual's sequence
    /// says (DESIGN.md, section 3).
    pub skip_leave_on_interrupt: bool,
    /// Longest time a leaving server goes on answering what other nodes have asked of it. Key `performance.leave_drain_time`.
    /// Default 5s.
    pub leave_drain_time: Duration,
    /// How long a request waits for a leader before it fails. Key `performance.rpc_hold_timeout`. Default 7s.
    pub rpc_hold_timeout: Duration,
    /// Scales Raft's timing, 1 (fastest) to 10. Key `performance.raft_multiplier`. Default 5, with `-dev` 1.
    pub raft_multiplier: u32,
    /// When Raft takes snapshots and what it keeps.
    pub raft: RaftSettings,
    /// Goes on alone after the loss of a quorum. Block `quorum_recovery`, not Consul's; the operator writes it.
    pub quorum_recovery: Option<QuorumRecovery>,
    /// Moves the `raft/` folder of one server aside before it starts. Block `raft_set_aside`, not Consul's; the operator
    /// writes it.
    pub raft_set_aside: Option<RaftSetAside>,
    /// How the leader looks after the set of servers. Block `autopilot`.
    pub autopilot: Autopilot,
    /// Who may do what. Block `acl`.
    pub acl: Acl,
    /// How gossip is encrypted.
    pub encryption: GossipEncryption,
    /// The certificate authority of the service mesh. Block `connect`.
    pub connect: Connect,
    /// Timing of gossip. Block `gossip_lan`.
    pub gossip_lan: GossipTimes,
    /// How long a failed member is remembered before it is forgotten. At least 8h. Default 72h.
    pub reconnect_timeout: Duration,
    /// How long a blocking query without `wait` is held. At most `max_query_time`. Default 300s.
    pub default_query_time: Duration,
    /// Longest `wait` of a blocking query; more is cut to this. Default 600s.
    pub max_query_time: Duration,
    /// How old answers of `/v1/catalog` and `/v1/health` may be, if the request says nothing else; 0 is not at all. Key
    /// `discovery_max_stale`. Default 0s.
    pub discovery_max_stale: Duration,
    /// Shortest TTL of a session. Default 10s.
    pub session_ttl_min: Duration,
    /// Bounds on what clients of the HTTP API may do, and on connections of other agents. Block `limits`.
    pub limits: Limits,
    /// How many requests a second are answered, and made. Applies live.
    pub rates: Rates,
    /// Whether `/v1/agent/metrics` speaks Prometheus' format. Key `telemetry.prometheus_retention_time`: any time above 0.
    /// Default false.
    pub prometheus: bool,
    /// Whether gauges are named without the host. Key `telemetry.disable_hostname`. Default false.
    pub disable_hostname: bool,
    /// Where and how the log is written.
    pub log: LogSettings,
    /// File that holds the process id while the agent runs. Default none.
    pub pid_file: Option<PathBuf>,
    /// Addresses by purpose, beside `lan`, `lan_ipv4` and so on, which follow from `advertise_addr`. Default none.
    pub tagged_addresses: BTreeMap<String, String>,
    /// Services that run here. Keys `service` and `services`. Apply live. Default none.
    pub services: Vec<Raw>,
    /// Checks beside those of services' definitions. Keys `check` and `checks`. Apply live. Default none.
    pub checks: Vec<Raw>,
    /// Config entries that a leader writes when there are none of their kind and name. Servers only. Key
    /// `config_entries.bootstrap`, in either spelling of keys. Default none.
    pub config_entries: Vec<ConfigEntry>,
    /// How checks are run.
    pub check_settings: CheckSettings,
    /// The pool that the servers of all datacenters form.
    pub wan: Wan,
    /// The datacenter whose config entries count everywhere: writes go there, and the others copy them. The roots of the
    /// mesh are its roots, too. Default: the own one.
    pub primary_datacenter: String,
    /// Whether answers about nodes of other datacenters show their `wan` address where they have one. Default false.
    pub translate_wan_addrs: bool,
}

/// How checks are run. Top-level keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckSettings {
    /// Longest output that is kept, in bytes. Key and flag `check_output_max_size`. At least 1. Default 4096.
    pub output_max_size: usize,
    /// How long a new output may wait to be written to the catalog if the status is the same. Key
    /// `check_update_interval`. 0 writes at once. Default 5m.
    pub update_interval: Duration,
    /// Whether outputs are thrown away. Key `discard_check_output`. Default false.
    pub discard_output: bool,
    /// Whether checks may run programs, whoever defines them: everybody who reaches the API may then run what they like.
    /// Default false.
    pub enable_script_checks: bool,
    /// Whether checks from configuration files may. Default false.
    pub enable_local_script_checks: bool,
}

/// Whether, and how, a server may form a new cluster. It never does when its data folder holds Raft state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrap {
    /// It waits until it is joined to a cluster.
    Never,
    /// At once, alone (`-bootstrap`). At most one server of a cluster may ever do so.
    Alone,
    /// Once that many servers with the same number know each other (`-bootstrap-expect`). At least 2.
    Expect(NonZeroU32),
}

/// Port numbers. Key block `ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Servers' RPC (Raft and forwarded requests). Flag `-server-port`. 1 to 65535. Default 8300.
    pub server: u16,
    /// Gossip, UDP and TCP. Flag `-serf-lan-port`. 1 to 65535. Default 8301.
    pub serf_lan: u16,
    /// Gossip among the servers of all datacenters, UDP and TCP. Flag `-serf-wan-port`. -1 (`None`) switches it off. Default
    /// 8302.
    pub serf_wan: Option<u16>,
    /// HTTP API. Flag `-http-port`. -1 (`None`) switches it off. Default 8500.
    pub http: Option<u16>,
    /// HTTPS API. Flag `-https-port`. Default -1 (`None`): switched off.
    pub https: Option<u16>,
    /// DNS, UDP and TCP. Flag `-dns-port`. -1 (`None`) switches it off. Default 8600.
    pub dns: Option<u16>,
    /// First and last port that sidecars are given which have none of their own. Keys `sidecar_min_port` and
    /// `sidecar_max_port`. 1 to 65535 each; 0 or less (`None`) gives none. Default 21000 to 21255.
    pub sidecar: Option<(u16, u16)>,
}

/// One place where the HTTP API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket, written `unix://PATH`.
    Unix(PathBuf),
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpAddress::Tcp(address) => address.fmt(f),
            HttpAddress::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// How the HTTP API answers. Key block `http_config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Networks from which writes are taken; empty for all. Flag `-allow-write-http-from`. Default all.
    pub allow_write_http_from: Vec<Cidr>,
    /// Prefixes of paths that are answered with 403. Default none.
    pub block_endpoints: Vec<String>,
    /// Longest head of a request, in bytes. Key `max_header_bytes`, to which 4096 are added as by Go's server. At most
    /// 1 MiB. Default 64 KiB.
    pub header_bytes_max: usize,
    /// Headers of every answer that does not set them itself. Default none.
    pub response_headers: BTreeMap<String, String>,
    /// Whether `?cached` has an effect. Default true.
    pub use_cache: bool,
}

/// When Raft takes snapshots and what it keeps. Top-level keys `raft_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftSettings {
    /// Committed entries since the last snapshot that make a new one due. Key `raft_snapshot_threshold`. At least 1.
    /// Default 16384.
    pub snapshot_threshold: u64,
    /// How often it is looked whether one is due. Key `raft_snapshot_interval`. At least 5ms. Default 30s.
    /// This version looks at every entry, and warns when it is set.
    pub snapshot_interval: Duration,
    /// Entries kept behind a snapshot, so that a slow follower need not receive all of it. Key `raft_trailing_logs`.
    /// At least 1. Default 10240.
    pub trailing_logs: u64,
}

/// The one log that may be gone on with alone, all of it or none: `cluster_id`, `raft_id`, `last_log_term` and
/// `last_log_index`, as `info` shows them. A server with any other log ignores it, and so does this one once it has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumRecovery {
    /// Cluster that the raft folder belongs to.
    pub cluster_id: Uuid,
    /// Raft id of the folder; text in a file, as JSON's numbers are too short for it.
    pub raft_id: u64,
    /// Term of the log's last entry.
    pub last_log_term: u64,
    /// Index of the log's last entry. At least 1.
    pub last_log_index: u64,
}

/// Whose `raft/` folder is moved aside, once for each token: what the token moved stays beside it, and tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftSetAside {
    /// Node name of the server. Every other one ignores it.
    pub node_name: String,
    /// Part of the name that the folder gets: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub token: String,
}

/// How the leader looks after the set of servers, until an operator says otherwise (`operator autopilot set-config`): the
/// first leader of a cluster writes its own into the replicated state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autopilot {
    /// Whether failed servers are removed once others replace them and a quorum stays. Default true.
    pub cleanup_dead_servers: bool,
    /// Contact with the leader longer ago than this makes a server unhealthy. Default 200ms.
    pub last_contact_threshold: Duration,
    /// More entries behind the leader than this makes a server unhealthy. Default 250.
    pub max_trailing_logs: u64,
    /// Dead servers are not removed below this many. Default 0.
    pub min_quorum: u32,
    /// How long a new server must be healthy before it votes. Default 0s.
    ///
    /// Consul's default is 10s. Here a server votes as soon as it has caught up and is alive (DESIGN.md, section 3).
    pub server_stabilization_time: Duration,
}

/// Bounds on what clients of the HTTP API may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections from one IP address; more are answered with 429. 0 is no bound. Default 200.
    pub http_max_conns_per_client: u32,
    /// Open connections to the server port from one IP address; more are closed. 0 is no bound. Default 100.
    pub rpc_max_conns_per_client: u32,
    /// How long whoever connects to the server port may take for TLS and for saying what the connection is for.
    /// Default 5s.
    pub rpc_handshake_timeout: Duration,
    /// Largest request body and KV value in bytes. 1 to 16777216. Default 524288.
    pub kv_max_value_size: usize,
    /// Largest body of a transaction in bytes; `kv_max_value_size` if that is more. 1 to 16777216. Default 524288.
    pub txn_max_req_len: usize,
}

/// Where and how the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Least important lines that are written: `TRACE DEBUG INFO WARN ERROR`. Key `log_level`. Applies live. Default
    /// INFO, with `-dev` DEBUG.
    pub level: tracing::Level,
    /// Whether lines are JSON objects. Key `log_json`. Default false.
    pub json: bool,
    /// File that gets every line too, appended, opened anew on SIGHUP. A path that ends in `/` gets the file
    /// `agent.log`. Key `log_file`. Default none.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Where gossip listens.
    pub fn gossip_bind(&self) -> SocketAddr {
        SocketAddr::new(self.serf_lan_bind, self.ports.serf_lan)
    }

    /// Where others reach this node's gossip.
    pub fn gossip_advertise(&self) -> SocketAddr {
        SocketAddr::new(self.advertise_addr, self.ports.serf_lan)
    }

    /// Where a server's RPC listens.
    pub fn rpc_bind(&self) -> SocketAddr {
        SocketAddr::new(self.bind_addr, self.ports.server)
    }

    /// Where others reach this server's RPC.
    pub fn rpc_advertise(&self) -> SocketAddr {
        SocketAddr::new(self.advertise_addr, self.ports.server)
    }
}

/// Why there is no configuration. The texts are printed as they are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("failed to read {}: {source}", path.display())]
    Read {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose name says neither JSON nor HCL.
    #[error("{}: configuration files end in .json or .hcl; other names need -config-format", path.display())]
    UnknownFormat {
        /// The path as given.
        path: PathBuf,
    },
    /// A file that cannot be understood: its syntax, a key, or the kind of a value.
    #[error("{file}:{place}: {message}")]
    File {
        /// Name of the file.
        file: String,
        /// `LINE:COLUMN`, both from 1.
        place: String,
        /// What is wrong there.
        message: String,
    },
    /// A setting that this version lacks and without which it would be less safe than asked for.
    #[error("{setting} is not supported: {why}")]
    Refused {
        /// The key with its file and place, or the flag.
        setting: String,
        /// What would be missing.
        why: &'static str,
    },
    /// A value out of its range, or settings that contradict each other.
    #[error("{0}")]
    Invalid(String),
}
