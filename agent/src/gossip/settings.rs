//! How a pool is run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use super::Tags;
use super::sealed::Encryption;

/// Events that a slow reader may be behind by before it loses some and has to read the members anew.
const EVENTS: usize = 1024;
/// The pool of the servers of all datacenters, in the place of a datacenter's name, which no datacenter can have.
pub(super) const ALL_DATACENTERS: &str = ".wan";

/// How a pool is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Own name.
    pub name: String,
    /// Own Consul node id.
    pub id: Uuid,
    /// Name of the pool, members of another one are refused: the datacenter, or what [`Settings::wan`] says.
    pub pool: String,
    /// Where to listen, UDP and TCP on the same port.
    pub bind: SocketAddr,
    /// What others are told to send to.
    pub advertise: SocketAddr,
    /// What this node says of itself at first.
    pub tags: Tags,
    /// The file that remembers members and the generation over restarts (`DATA/serf/local.snapshot`).
    pub snapshot: PathBuf,
    /// Whether remembered members are contacted at start also after a graceful leave.
    pub rejoin_after_leave: bool,
    /// Time between two probes of a random member. LAN: 1 s.
    pub probe_interval: Duration,
    /// How long a direct probe may take before indirect ones are sent. LAN: 500 ms. Shorter than `probe_interval`.
    pub probe_timeout: Duration,
    /// Times `log(members)` times `probe_interval` until a suspect counts as failed. LAN: 4.
    pub suspicion_mult: u32,
    /// Time between two rounds of gossip. LAN: 200 ms.
    pub gossip_interval: Duration,
    /// Time between two looks at whether a random member knows the same, and more in large pools. LAN: 30 s.
    pub push_pull_interval: Duration,
    /// How long a failed or left member is remembered. 72 h.
    pub reconnect_timeout: Duration,
    /// Whether the times of probes are turned into a network coordinate, which answers to probes carry.
    pub coordinates: bool,
    /// Whether the coordinates of the others are kept too.
    pub keep_places: bool,
    /// Events that a slow reader may be behind by before it loses some. Memory is set aside for as many.
    pub events: usize,
    /// How it is encrypted; `None`: not at all.
    pub encryption: Option<Encryption>,
}

impl Settings {
    /// Consul's LAN parameters for a node without tags in datacenter `dc1`; `snapshot` is the file to remember in.
    pub fn lan(name: String, id: Uuid, bind: SocketAddr, snapshot: PathBuf) -> Self {
        Self {
            name,
            id,
            pool: "dc1".to_owned(),
            bind,
            advertise: bind,
            tags: Tags::new(),
            snapshot,
            rejoin_after_leave: false,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            suspicion_mult: 4,
            gossip_interval: Duration::from_millis(200),
            push_pull_interval: Duration::from_secs(30),
            reconnect_timeout: Duration::from_secs(72 * 60 * 60),
            coordinates: true,
            keep_places: false,
            events: EVENTS,
            encryption: None,
        }
    }

    /// Consul's parameters for the pool that the servers of all datacenters form; `name` is `NODE.DATACENTER`.
    pub fn wan(name: String, id: Uuid, bind: SocketAddr, snapshot: PathBuf) -> Self {
        Self {
            pool: ALL_DATACENTERS.to_owned(),
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            suspicion_mult: 6,
            gossip_interval: Duration::from_millis(500),
            keep_places: true,
            // Nobody reads them one by one.
            events: 1,
            ..Self::lan(name, id, bind, snapshot)
        }
    }
}
