//! Wires a node together.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;
use uuid::Uuid;

use super::formation::{Formation, peer_of};
use super::replicate::Followed;
use super::wan::{WAN_JOIN_PORT, Wan};
use super::{Inner, Node, Phase, Server, join, listen};
use crate::config::{Bootstrap, Config};
use crate::env::{Env, write_atomic};
use crate::gossip::{self, Gossip, JoinError, Tags};
use crate::leader::peers::server_addr;
use crate::leader::{AclDuty, Duties, KNOWS_ACL, KNOWS_INTERMEDIATE, KNOWS_MESH};
use crate::local::Local;
use crate::raft::{self, AddressBook, Consensus};
use crate::rpc::{Pool, Purpose};
use crate::state::{Autopilot, Shared, Store};
use crate::tls::Tls;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or folder of the data dir.
    #[error("cannot {action} {path}: {source}")]
    DataDir {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The node id in the data dir is not a UUID.
    #[error(
        "{path} does not hold a node id (a UUID): put it back, or remove the file to get a new one"
    )]
    NodeId {
        /// The file.
        path: PathBuf,
    },
    /// The data dir is another node's.
    #[error(
        "data dir {path} belongs to node {found}, but -node-id says {asked}: use that node's own data dir, or leave -node-id away"
    )]
    OtherNode {
        /// The data dir.
        path: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// What was asked for.
        asked: Uuid,
    },
    /// A port is taken, or an address is not this machine's.
    #[error("cannot listen on {address} for {purpose}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Gossip.
    #[error(transparent)]
    Gossip(#[from] gossip::StartError),
    /// Raft.
    #[error(transparent)]
    Raft(#[from] raft::StartError),
    /// Services and checks of the configuration.
    #[error(transparent)]
    Local(#[from] crate::local::Error),
    /// Certificates and keys.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
    /// None of the addresses of `-join` could be joined.
    #[error("failed to join any of {addresses:?}: {last}")]
    Join {
        /// The addresses.
        addresses: Vec<String>,
        /// What the last one said.
        last: JoinError,
    },
}

/// Starts a node in `env`. On an error, nothing of it is left running.
///
/// Raft and the server port run on the runtime behind `raft`, everything else on the caller's. The two may be one;
/// in production Raft has a thread of its own, so that no load of requests can hold up a heartbeat.
pub async fn start(env: Env, config: Config, raft: Handle) -> Result<Node, StartError> {
    let config = Arc::new(config);
    let tls = Arc::new(Tls::load(&config)?);
    create_folder(&env, &config.data_dir)?;
    let serf = config.data_dir.join("serf");
    create_folder(&env, &serf)?;
    let node_id = node_id(&env, &config)?;
    let local = Local::new(env.clone(), super::local::settings(&config, node_id));
    local.open(&config.services, &config.checks).await?;
    let addresses: AddressBook = Arc::new(ArcSwap::from_pointee(BTreeMap::new()));
    // Servers are reached over a network of their own: what goes there may have to be protected.
    let servers = Env {
        net: tls.outgoing(env.net.clone()),
        ..env.clone()
    };
    let calls = Arc::new(Pool::new(servers.net.clone(), Purpose::Call));

    let phase = watch::Sender::new(Phase::Running);
    let mut tags = tags(&config, node_id);
    let mut server = None;
    let mut listener = None;
    if config.server {
        let start = open_server(&servers, &config, &addresses, phase.subscribe());
        let (bound, opened) = on(&raft, start).await?;
        let identity = opened.consensus.identity();
        tags.insert("raft_id".to_owned(), identity.raft_id().to_string());
        if let Some(cluster) = identity.cluster() {
            tags.insert("cluster".to_owned(), cluster.to_string());
        }
        (server, listener) = (Some(opened), Some(bound));
    }
    let (gossip, wan) = match start_gossip(&env, &config, node_id, tags).await {
        Ok(started) => started,
        Err(error) => {
            if let Some(server) = server {
                server.consensus.shutdown().await;
            }
            return Err(error.into());
        }
    };
    let tokens = config.acl.tokens.clone();
    let rates = super::rates::Rates::new(&config);
    let node = Node {
        inner: Arc::new(Inner {
            env,
            config,
            node_id,
            gossip,
            wan,
            calls,
            tls,
            tokens: ArcSwap::from_pointee(tokens),
            remembered: super::access::Remembered::default(),
            local,
            events: crate::events::Events::default(),
            gate: super::gate::Gate::default(),
            rates,
            leaves: crate::ca::Leaves::default(),
            lacks_certificate: arc_swap::ArcSwapOption::default(),
            server,
            leader_hint: std::sync::Mutex::default(),
            phase,
            dropped: Arc::default(),
            raft,
            tasks: std::sync::Mutex::default(),
        }),
        elsewhere: None,
        caller: super::access::Caller::Own,
        uncounted: false,
    };
    node.reload_tokens(&node.config().acl.tokens);
    if let Some(wan) = &node.inner.wan {
        let (gossip, own) = (wan.gossip.clone(), node.config().datacenter.clone());
        node.tls().find_datacenters(move |address| {
            let members = gossip.members();
            let found = members.iter().find(|m| server_addr(m) == Some(address))?;
            let datacenter = found.tags.get("dc")?;
            (datacenter != own).then(|| datacenter.to_owned())
        });
    }
    if node.inner.server.is_some() {
        node.spawn(follow_addresses(node.inner.gossip.clone(), addresses));
    }
    let heard = node.inner.gossip.user_events();
    node.spawn(node.clone().follow_user_events(heard));
    let (asked, was_asked) = watch::channel(false);
    if let (Some(server), Some(listener)) = (&node.inner.server, listener) {
        node.start_server(server, listener, was_asked);
    }
    let joined = async {
        node.start_join(join::Pool::Lan, &node.config().start_join)
            .await?;
        node.start_join_wan().await
    };
    if let Err(error) = joined.await {
        node.shutdown().await;
        return Err(error);
    }
    node.spawn(node.clone().join_at_start(asked));
    if node.inner.wan.is_some() {
        node.spawn(node.clone().join_wan_at_start());
        node.spawn(node.clone().flood_join());
    }
    if node.is_server() && node.config().is_secondary() {
        node.spawn(node.clone().uncounted().follow_primary(Followed::Entries));
        if node.config().connect.enabled {
            node.spawn(node.clone().uncounted().follow_primary(Followed::Authority));
        }
    }
    if node.is_server() && node.config().copies_tokens() {
        node.spawn(node.clone().uncounted().follow_primary(Followed::Acl));
    }
    if node.config().auto_encrypt.tls {
        node.spawn(node.clone().uncounted().keep_own_certificate());
    }
    if node.config().auto_encrypt.allow_tls {
        node.spawn(node.clone().follow_mesh_roots());
    }
    if !node.config().disable_coordinates {
        node.spawn(node.clone().follow_place());
    }
    node.local().start(Arc::new(node.clone()));
    Ok(node)
}

impl Node {
    fn start_server(
        &self,
        server: &Server,
        listener: Box<dyn crate::env::Listener>,
        asked: watch::Receiver<bool>,
    ) {
        let Inner {
            env,
            config,
            gossip,
            node_id,
            calls,
            ..
        } = &*self.inner;
        let serve = listen::serve(
            self.clone(),
            server.service.clone(),
            listener,
            Handle::current(),
        );
        self.keep(self.inner.raft.spawn(serve));
        self.spawn(follow_cluster(gossip.clone(), server.consensus.clone()));
        let formation = Formation {
            env: env.clone(),
            config: config.clone(),
            node_id: *node_id,
            gossip: gossip.clone(),
            consensus: server.consensus.clone(),
            calls: calls.clone(),
            asked,
        };
        self.spawn(formation.run());
        let duties = Duties {
            env: env.clone(),
            gossip: gossip.clone(),
            consensus: server.consensus.clone(),
            shared: server.shared.clone(),
            datacenter: config.datacenter.clone(),
            name: config.node_name.clone(),
            bootstrap: config.bootstrap == Bootstrap::Alone,
            autopilot: autopilot(config),
            entries: config.config_entries.clone(),
            stability: server.stability.clone(),
            timers: server.timers.clone(),
            places: server.places.clone(),
            connect: config.connect.clone(),
            is_secondary: config.is_secondary(),
            acl: server.acl_duty.clone(),
            timings: server.timings.clone(),
        };
        self.spawn(duties.run());
        self.spawn(self.clone().watch_space());
        let (node, consensus) = (self.clone(), server.consensus.clone());
        self.spawn(async move {
            let why = consensus.failure().await;
            node.fail(why);
        });
    }
}

/// Opens the pool of all datacenters before the local one: who hears of this server there joins it to that one.
async fn start_gossip(
    env: &Env,
    config: &Config,
    id: Uuid,
    tags: Tags,
) -> Result<(Gossip, Option<Wan>), gossip::StartError> {
    let wan = Wan::start(env, config, id, &tags).await?;
    match gossip::start(env.clone(), gossip_settings(config, id, tags)).await {
        Ok(gossip) => Ok((gossip, wan)),
        Err(error) => {
            if let Some(wan) = wan {
                wan.gossip.shutdown().await;
            }
            Err(error)
        }
    }
}

/// Runs `work` on another runtime.
async fn on<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match runtime.spawn(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What only a server has, with its port open and Raft started.
fn open_server(
    env: &Env,
    config: &Arc<Config>,
    addresses: &AddressBook,
    phase: watch::Receiver<Phase>,
) -> impl Future<Output = Result<(Box<dyn crate::env::Listener>, Server), StartError>> + Send + 'static
{
    let (env, config, addresses) = (env.clone(), config.clone(), addresses.clone());
    async move {
        let shared = Arc::new(Shared::new(Store::default()));
        let guard = super::access::Guard::new(&config, &env);
        let mut acl = config.acl.clone();
        if config.copies_tokens() {
            // The first token is the primary datacenter's.
            acl.tokens.initial_management = crate::config::Secret::default();
        }
        let (bound, consensus) = start_raft(env, config, addresses, shared.clone()).await?;
        let service = consensus.service().clone();
        let server = Server {
            consensus,
            shared,
            service,
            phase,
            timers: Arc::default(),
            places: Arc::default(),
            stability: Arc::default(),
            csr_limit: crate::ca::CsrLimit::default(),
            in_flight: Arc::default(),
            kept: Default::default(),
            guard,
            acl_duty: AclDuty::new(&acl),
            timings: Arc::default(),
            copying: Default::default(),
            logins: Default::default(),
            read_indexes: Arc::default(),
        };
        Ok((bound, server))
    }
}

/// Opens the server port, then starts Raft: a port that is taken must be known before anything is written.
async fn start_raft(
    env: Env,
    config: Arc<Config>,
    addresses: AddressBook,
    shared: Arc<Shared>,
) -> Result<(Box<dyn crate::env::Listener>, Consensus), StartError> {
    let address = config.rpc_bind();
    let bound = env.net.listen(address).await;
    let listener = bound.map_err(|source| StartError::Listen {
        address,
        purpose: "server RPC",
        source,
    })?;
    let folder = config.data_dir.join("raft");
    let consensus =
        Consensus::start(&env, &folder, raft_options(&config), addresses, shared).await?;
    Ok((listener, consensus))
}

fn create_folder(env: &Env, path: &Path) -> Result<(), StartError> {
    let failed = |source| StartError::DataDir {
        action: "create",
        path: path.to_owned(),
        source,
    };
    env.disk.create_dir_all(path).map_err(failed)
}

/// The node id: what the data dir says, else what the flag says, else a new one, which the data dir then says.
fn node_id(env: &Env, config: &Config) -> Result<Uuid, StartError> {
    let path = config.data_dir.join("node-id");
    let failed = |action| {
        let path = path.clone();
        move |source| StartError::DataDir {
            action,
            path,
            source,
        }
    };
    if env.disk.exists(&path) {
        let bytes = env.disk.read(&path).map_err(failed("read"))?;
        let text = String::from_utf8_lossy(&bytes);
        let found: Uuid = text
            .trim()
            .parse()
            .map_err(|_| StartError::NodeId { path: path.clone() })?;
        return match config.node_id {
            Some(asked) if asked != found => Err(StartError::OtherNode {
                path: config.data_dir.clone(),
                found,
                asked,
            }),
            _ => Ok(found),
        };
    }
    let id = config.node_id.unwrap_or_else(|| env.random.uuid());
    write_atomic(&*env.disk, &path, id.to_string().as_bytes()).map_err(failed("write"))?;
    Ok(id)
}

fn gossip_settings(config: &Config, id: Uuid, tags: Tags) -> gossip::Settings {
    let times = config.gossip_lan;
    let (name, snapshot) = (
        config.node_name.clone(),
        config.data_dir.join("serf/local.snapshot"),
    );
    gossip::Settings {
        pool: config.datacenter.clone(),
        advertise: config.gossip_advertise(),
        tags,
        rejoin_after_leave: config.rejoin_after_leave,
        probe_interval: times.probe_interval,
        probe_timeout: times.probe_timeout,
        suspicion_mult: times.suspicion_mult,
        gossip_interval: times.gossip_interval,
        reconnect_timeout: config.reconnect_timeout,
        coordinates: !config.disable_coordinates,
        encryption: Some(encryption(config, "local.keyring")),
        ..gossip::Settings::lan(name, id, config.gossip_bind(), snapshot)
    }
}

/// How a pool is encrypted, with its keys in this file.
pub(super) fn encryption(config: &Config, file: &str) -> gossip::Encryption {
    let settings = &config.encryption;
    gossip::Encryption {
        key: settings.key.clone(),
        file: settings
            .keyring_file
            .then(|| config.data_dir.join("serf").join(file)),
        verify_incoming: settings.verify_incoming,
        verify_outgoing: settings.verify_outgoing,
    }
}

fn raft_options(config: &Config) -> raft::Options {
    raft::Options {
        snapshot_threshold: config.raft.snapshot_threshold,
        trailing_logs: config.raft.trailing_logs,
        recovery: config.quorum_recovery.map(|order| raft::QuorumRecovery {
            cluster: order.cluster_id,
            raft_id: order.raft_id,
            last_log_term: order.last_log_term,
            last_log_index: order.last_log_index,
            address: config.rpc_advertise(),
        }),
        ..raft::Options::with_multiplier(config.raft_multiplier)
    }
}

/// What the first leader writes into the state.
fn autopilot(config: &Config) -> Autopilot {
    let settings = config.autopilot;
    Autopilot {
        cleanup_dead_servers: settings.cleanup_dead_servers,
        last_contact_threshold: settings.last_contact_threshold,
        max_trailing_logs: settings.max_trailing_logs,
        min_quorum: settings.min_quorum,
        server_stabilization_time: settings.server_stabilization_time,
        ..Autopilot::default()
    }
}

/// What gossip says of this node, beside what only a started Raft knows.
fn tags(config: &Config, node_id: Uuid) -> Tags {
    let mut tags = Tags::from([
        ("dc", config.datacenter.as_str()),
        ("build", crate::BUILD),
        ("vsn", "2"),
        ("vsn_min", "2"),
        ("vsn_max", "3"),
        // Whether tokens are asked for. Its absence would be read as "unknown".
        ("acls", if config.acl.enabled { "1" } else { "0" }),
    ]);
    let mut put = |name: &str, value: String| tags.insert(name, value);
    put("id", node_id.to_string());
    if !config.server {
        put("role", "node".to_owned());
        return tags;
    }
    put("role", "consul".to_owned());
    put("port", config.ports.server.to_string());
    put("raft_vsn", "3".to_owned());
    put(KNOWS_MESH, "1".to_owned());
    put(KNOWS_INTERMEDIATE, "1".to_owned());
    put(KNOWS_ACL, "1".to_owned());
    put("segment", String::new());
    if let Some(wan) = config.wan_bind() {
        put(WAN_JOIN_PORT, wan.port().to_string());
    }
    match config.bootstrap {
        Bootstrap::Alone => put("bootstrap", "1".to_owned()),
        Bootstrap::Expect(n) => put("expect", n.to_string()),
        Bootstrap::Never => {}
    }
    tags
}

/// Keeps the address book as gossip has it.
async fn follow_addresses(gossip: Gossip, addresses: AddressBook) {
    let mut changes = gossip.watch();
    loop {
        changes.mark_unchanged();
        let book = gossip
            .members()
            .iter()
            .filter_map(|m| peer_of(m))
            .map(|(id, node)| (id, node.addr))
            .collect();
        addresses.store(Arc::new(book));
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Tells everybody which cluster this server belongs to, as soon as it does.
async fn follow_cluster(gossip: Gossip, consensus: Consensus) {
    let mut cluster = consensus.identity().watch_cluster();
    loop {
        let now = *cluster.borrow_and_update();
        let mut tags = gossip.local().tags.clone();
        if let Some(id) = now.map(|id| id.to_string())
            && tags.get("cluster") != Some(&id)
        {
            tags.insert("cluster", id);
            gossip.set_tags(tags).await;
        }
        if cluster.changed().await.is_err() {
            return;
        }
    }
}
