//! The replicated state: pure, without clock, I/O or randomness.
//!
//! Every server applies the same commands in the same order and must arrive at the same tables, so time, ids and
//! random values come inside the command, and a refusal is an [`Outcome`]. Tables are persistent maps: a clone
//! costs nothing, so that a read, a snapshot and a blocked query each keep the version they started with.
//!
//! Every change notes the log index at which it happened. A query has two indexes: the one that it *shows*
//! (`X-Consul-Index`), which for an absent row is that of the whole table as in Consul, and the one at which its
//! result last *changed*, on which a blocked query waits, so that watching an absent key costs nothing while other
//! keys are written.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

mod acl;
mod autopilot;
mod ca;
mod catalog;
mod command;
mod coordinates;
mod entries;
mod graph;
mod kv;
mod lock_delay;
mod mesh;
mod prepared;
mod query;
mod restore;
mod session;
mod snapshot;
mod txn;
mod virtual_ips;
mod watch;

#[cfg(test)]
mod tests;

pub use acl::{
    ANONYMOUS_ACCESSOR, ANONYMOUS_SECRET, Acl, AclAnswer, AclBindingRule, AclGrants, AclMethod,
    AclPolicy, AclQuery, AclRole, AclStep, AclToken, GLOBAL_MANAGEMENT, GLOBAL_READ_ONLY,
    NodeIdentity, ServiceIdentity, TemplatedPolicy, TokenFilter,
};
pub use autopilot::Autopilot;
pub use ca::{CaConfig, CaRoot, CaRoots, CaStep, HIDDEN};
pub use catalog::{
    Check, CheckStatus, Mesh, Node, NodeInfo, SERF_HEALTH, Service, ServiceAddress, ServiceHealth,
    ServiceNode, ServicesOfNode, Weights,
};
pub use command::{
    Command, DecodeError, Deregister, KvCommand, KvOp, KvWrite, Outcome, Refusal, Register, Stamped,
};
pub use coordinates::NodePlace;
pub use entries::{ConfigEntry, EntryStep};
pub use graph::{Behind, GraphAnswer, GraphQuery, Side, Surroundings};
pub use kv::KvEntry;
pub use lock_delay::DelayedKey;
pub use prepared::{
    PreparedQuery, PreparedStep, QueryDns, QueryFailover, QueryService, QueryTemplate,
};
pub use query::{Answer, Mergeable, Query};
pub use restore::{RESTORE_PART_BYTES, RestoreStep};
pub use session::{Behavior, ServiceCheck, Session};
pub use txn::{KvRead, RowVerb, TXN_RESULT_BYTES_MAX, TxnError, TxnOp, TxnResult};
pub use virtual_ips::{CONSUL_VIRTUAL, VirtualIp, VirtualStep};
pub use watch::Shared;

use watch::Touched;

/// All tables.
///
/// Cloning is cheap and shares everything. Changes since the last [`Shared::publish`] are remembered, for waking
/// those who wait for them.
#[derive(Clone, Default)]
pub struct Store {
    tables: Tables,
    touched: Touched,
}

#[derive(Clone, Default, PartialEq)]
struct Tables {
    kv: kv::KvTable,
    catalog: catalog::Catalog,
    sessions: session::Sessions,
    cluster_id: Option<(Uuid, u64)>,
    autopilot: Option<Autopilot>,
    prepared: prepared::Prepared,
    places: coordinates::Places,
    entries: entries::Entries,
    virtual_ips: virtual_ips::VirtualIps,
    ca: ca::Ca,
    acl: acl::Acl,
    staging: Option<restore::Staging>,
    last_index: u64,
}

/// Numbers of rows, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes of the catalog.
    pub nodes: usize,
    /// Distinct service names.
    pub services: usize,
    /// Instances of services.
    pub service_instances: usize,
    /// Keys.
    pub kv_entries: usize,
    /// Sessions.
    pub sessions: usize,
}

/// One command being applied.
struct Change<'a> {
    index: u64,
    unix_ms: u64,
    touched: &'a mut Touched,
    /// Services, in lower case, about which something of the mesh may have changed.
    mesh: BTreeSet<Arc<str>>,
}

/// Where a query's result stands. `changed` is never above `shown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Indexes {
    /// What the client is told.
    shown: u64,
    /// The last index at which the result may have changed.
    changed: u64,
}

impl Indexes {
    fn same(index: u64) -> Self {
        Self {
            shown: index,
            changed: index,
        }
    }
}

impl Store {
    /// Applies one committed command at its log index. Indexes only grow.
    pub fn apply(&mut self, index: u64, stamped: &Stamped) -> Outcome {
        let mut change = Change {
            index,
            unix_ms: stamped.unix_ms,
            touched: &mut self.touched,
            mesh: BTreeSet::new(),
        };
        self.tables.forget_abandoned(stamped.unix_ms);
        let outcome = self.tables.apply(&mut change, &stamped.command);
        self.tables.follow_mesh(&mut change);
        self.advance(index);
        outcome
    }

    /// Notes a log entry that is no command: a membership change or a new leader's blank entry.
    pub fn advance(&mut self, index: u64) {
        self.tables.last_index = self.tables.last_index.max(index);
    }

    /// The log index of the last entry that was applied.
    pub fn last_index(&self) -> u64 {
        self.tables.last_index
    }

    /// Answers from this version of the tables.
    pub fn query(&self, query: &Query) -> Answer {
        self.tables.query(query)
    }

    /// `X-Consul-Index` of a query: at least 1, since 0 would make a client's next query not wait.
    pub fn index_of(&self, query: &Query) -> u64 {
        self.tables.indexes(query).shown.max(1)
    }

    /// The last index at which the query's answer may have changed; a blocked query waits until it is above the
    /// index that it was given. Never above [`Store::index_of`].
    pub fn changed_index(&self, query: &Query) -> u64 {
        self.tables.indexes(query).changed
    }

    /// The cluster's name, once it has one.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.tables.cluster_id.map(|(id, _)| id)
    }

    /// Up to which index tombstones are older than this time, for [`Command::ReapTombstones`]; none if none is.
    pub fn expired_tombstones(&self, before_unix_ms: u64) -> Option<u64> {
        self.tables.kv.expired(before_unix_ms)
    }

    /// How the leader is to look after the servers; `None` while nobody has said it.
    pub fn autopilot(&self) -> Option<&Autopilot> {
        self.tables.autopilot.as_ref()
    }

    /// Whether services have addresses that stand for them: the leader sees to it that they get them.
    pub fn has_virtual_ips(&self) -> bool {
        self.tables.virtual_ips.counters.begun
    }

    /// One config entry.
    pub fn entry(&self, kind: &str, name: &str) -> Option<&ConfigEntry> {
        self.tables.entries.find(kind, name).map(|entry| &**entry)
    }

    /// The configuration of the certificate authority, its private key included; `None` while there is none.
    pub fn ca_config(&self) -> Option<&Arc<CaConfig>> {
        self.tables.ca.config.as_ref()
    }

    /// All roots, the newest first, with their private keys.
    pub fn ca_roots(&self) -> &[Arc<CaRoot>] {
        &self.tables.ca.roots
    }

    /// The last index that changed the certificate authority, for [`CaStep::Set`].
    pub fn ca_index(&self) -> u64 {
        self.tables.ca.index()
    }

    /// Who may do what.
    pub fn acl(&self) -> &Acl {
        &self.tables.acl
    }

    /// Every session, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.tables.sessions.rows.values().map(|session| &**session)
    }

    /// One session.
    pub fn session(&self, id: &Uuid) -> Option<Arc<Session>> {
        self.tables.sessions.rows.get(id).cloned()
    }

    /// The last index that created or ended a session.
    pub fn sessions_index(&self) -> u64 {
        self.tables.sessions.index
    }

    /// Keys that refuse new locks, each with how long it is to do so, for [`Command::EndLockDelays`].
    pub fn lock_delays(&self) -> impl Iterator<Item = (DelayedKey, Duration)> {
        self.tables.kv.delays.lasting()
    }

    /// How many rows there are. Walks the catalog.
    pub fn counts(&self) -> Counts {
        let Tables {
            kv,
            catalog,
            sessions,
            ..
        } = &self.tables;
        Counts {
            nodes: catalog.nodes.len(),
            services: catalog.services.len(),
            service_instances: catalog.nodes.values().map(|row| row.services.len()).sum(),
            kv_entries: kv.entries.len(),
            sessions: sessions.rows.len(),
        }
    }

    /// All of it as bytes, for a snapshot file, which adds a checksum. Takes time: call it off the apply loop.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Ok(()) = self.encode_pieces(|piece| {
            bytes.extend_from_slice(&piece);
            Ok::<_, std::convert::Infallible>(())
        });
        bytes
    }

    /// As [`Store::encode`], in pieces of bounded size, up to the first error of `emit`.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn encode_pieces<E>(&self, emit: impl FnMut(Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        snapshot::encode(&self.tables, emit)
    }

    /// Reads what [`Store::encode`] wrote.
    ///
    /// # Errors
    /// When a newer program wrote it, or when it is cut or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = StoreDecoder::default();
        decoder.push(bytes)?;
        decoder.finish()
    }

    /// Rows of each kind with their encoded bytes, largest first, for people who look at a saved state.
    pub fn sizes(&self) -> Vec<(&'static str, usize, usize)> {
        snapshot::sizes(&self.tables)
    }

    /// Every entry of the key/value table, by key.
    pub fn kv_entries(&self) -> impl Iterator<Item = &KvEntry> {
        self.tables.kv.entries.values().map(|entry| &**entry)
    }
}

/// Reads a [`Store`] that comes in pieces of any length.
#[derive(Default)]
pub struct StoreDecoder(snapshot::Decoder);

impl StoreDecoder {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When a newer program wrote them, or when they are cut or damaged.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.0.push(bytes)
    }

    /// The store, when all bytes have been given.
    ///
    /// # Errors
    /// When there should be more of them.
    pub fn finish(self) -> Result<Store, DecodeError> {
        Ok(Store {
            tables: self.0.finish()?,
            touched: Touched::everything(),
        })
    }
}

impl PartialEq for Store {
    /// Whether the tables are equal; what is still to be published is no part of the state.
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("last_index", &self.last_index())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Tables {
    fn apply(&mut self, change: &mut Change<'_>, command: &Command) -> Outcome {
        match command {
            Command::Noop => Outcome::Done,
            Command::Kv(command) => {
                let sessions = &self.sessions.rows;
                let exists = |id: &Uuid| sessions.contains_key(id);
                self.kv.apply(change, command, exists)
            }
            Command::FirstRegister(command) | Command::Register(command) => {
                // All or nothing: the version before is at hand for free.
                let before = self.catalog.clone();
                match self.catalog.register(change, command) {
                    Ok(unhealthy) => {
                        self.end_unhealthy(change, &unhealthy);
                        Outcome::Done
                    }
                    Err(refusal) => {
                        self.catalog = before;
                        refusal
                    }
                }
            }
            Command::Deregister(command) => {
                let unhealthy = self.catalog.deregister(change, command);
                self.end_unhealthy(change, &unhealthy);
                Outcome::Done
            }
            Command::SessionCreate(session) => self.create_session(change, session),
            Command::SessionDestroy { id } => {
                self.end_session(change, id);
                Outcome::Done
            }
            Command::ReapTombstones { up_to } => {
                self.kv.reap(*up_to);
                Outcome::Done
            }
            Command::SetClusterId(id) => self.set_cluster_id(change, *id),
            Command::EndLockDelays(ended) => {
                self.kv.delays.end(ended);
                Outcome::Done
            }
            Command::SetAutopilot { config, cas } => {
                autopilot::set(&mut self.autopilot, change, config, *cas)
            }
            Command::Txn(ops) => self.transact(change, ops),
            Command::Restore(step) => self.restore(change, step),
            Command::Prepared(step) => self.prepared.apply(change, &self.sessions, step),
            Command::Entry(step) => self.entries.apply(change, step),
            Command::CheckedEntry(step) => self.entries.apply_checked(change, step),
            Command::Virtual(step) => self.virtual_step(change, step),
            Command::SetPlaces(places) => {
                let exists = |node: &str| self.catalog.node_row(node).is_some();
                self.places.set(change, places, exists);
                Outcome::Done
            }
            Command::Ca(step) => self.ca.apply(change, step),
            Command::Acl(step) => self.acl.apply(change, step),
        }
    }

    fn create_session(&mut self, change: &mut Change<'_>, session: &Session) -> Outcome {
        if self.sessions.rows.contains_key(&session.id) {
            return Outcome::refuse(
                Refusal::DuplicateSession,
                format!("Session id '{}' exists", session.id),
            );
        }
        let Some(row) = self.catalog.node_row(&session.node) else {
            return Outcome::refuse(Refusal::MissingNode, "Missing node registration");
        };
        let node = row.node.node.clone();
        for check in session.check_ids() {
            if let Some(refusal) = self.catalog.refuse_session(&node, check) {
                return refusal;
            }
        }
        let session = Session {
            node,
            ..session.clone()
        };
        self.sessions.create(change, &session);
        Outcome::SessionId(session.id)
    }

    fn end_session(&mut self, change: &mut Change<'_>, id: &Uuid) {
        if let Some(session) = self.sessions.remove(change, id) {
            self.kv.drop_session(change, &session);
            self.prepared.end_session(change, id);
        }
    }

    /// Ends the sessions that depended on what is gone or critical.
    fn end_unhealthy(&mut self, change: &mut Change<'_>, unhealthy: &catalog::Unhealthy) {
        let mut doomed: Vec<Uuid> = Vec::new();
        for node in &unhealthy.nodes {
            self.places.drop_node(change, node);
            doomed.extend(self.sessions.on_node(node).map(|session| session.id));
        }
        for (node, check) in &unhealthy.checks {
            let dependent = self
                .sessions
                .on_node(node)
                .filter(|session| session.check_ids().any(|id| *id == **check));
            doomed.extend(dependent.map(|session| session.id));
        }
        for id in doomed {
            self.end_session(change, &id);
        }
    }

    fn set_cluster_id(&mut self, change: &mut Change<'_>, id: Uuid) -> Outcome {
        match self.cluster_id {
            None => {
                self.cluster_id = Some((id, change.index));
                change.touched.cluster_id();
                Outcome::Done
            }
            Some((known, _)) if known == id => Outcome::Done,
            Some((known, _)) => Outcome::refuse(
                Refusal::ClusterIdTaken,
                format!("the cluster id is {known} and cannot become {id}"),
            ),
        }
    }

    fn query(&self, query: &Query) -> Answer {
        let (kv, catalog, sessions) = (&self.kv, &self.catalog, &self.sessions);
        match query {
            Query::Noop => Answer::Nothing,
            Query::KvGet { key } => Answer::Kv(kv.entries.get(key.as_str()).cloned()),
            Query::KvList { prefix } => Answer::KvList(kv.with_prefix(prefix).cloned().collect()),
            Query::KvKeys { prefix, separator } => Answer::Keys(kv.keys(prefix, separator)),
            Query::Nodes { meta } => Answer::Nodes(catalog.nodes_with(meta)),
            Query::Node { node } => {
                Answer::Node(catalog.node_row(node).map(|row| row.node.clone()))
            }
            Query::Services { meta } => Answer::Services(catalog.services_with(meta)),
            Query::ServiceNodes { service, tags } => {
                Answer::ServiceNodes(catalog.instances(service, tags))
            }
            Query::NodeServices { node } => Answer::NodeServices(catalog.services_on(node)),
            Query::NodeInfos { node } => Answer::NodeInfos(catalog.infos(node.as_deref())),
            Query::NodeChecks { node } => Answer::Checks(catalog.checks_on(node)),
            Query::ServiceChecks { service } => Answer::Checks(catalog.checks_of(service)),
            Query::StateChecks { state } => Answer::Checks(catalog.checks_in(state)),
            Query::ServiceHealth {
                service,
                tags,
                passing,
            } => Answer::ServiceHealth(catalog.health(service, tags, *passing)),
            Query::Instances { meta } => Answer::ServiceNodes(catalog.all_instances(meta)),
            Query::ChecksWithMeta {
                service,
                state,
                meta,
            } => Answer::Checks(catalog.checks_with(service.as_deref(), state, meta)),
            Query::MeshHealth {
                service,
                tags,
                passing,
            } => Answer::ServiceHealth(self.mesh_health(service, tags, *passing)),
            Query::Session { id } => Answer::Session(sessions.rows.get(id).cloned()),
            Query::Sessions => Answer::Sessions(sessions.rows.values().cloned().collect()),
            Query::NodeSessions { node } => {
                let node = node.to_lowercase();
                Answer::Sessions(sessions.on_node(&node).cloned().collect())
            }
            Query::ClusterId => Answer::ClusterId(self.cluster_id.map(|(id, _)| id)),
            Query::Autopilot => Answer::Autopilot(self.autopilot.clone()),
            Query::Txn(ops) => Answer::Txn(self.look(ops)),
            Query::PreparedQueries => {
                Answer::PreparedQueries(self.prepared.rows.values().cloned().collect())
            }
            Query::PreparedQuery { id_or_name } => {
                Answer::PreparedQuery(self.prepared.find(id_or_name))
            }
            Query::Entries { kind } => Answer::Entries(self.entries.of_kind(kind)),
            Query::Entry { kind, name } => {
                Answer::Entries(self.entries.find(kind, name).into_iter().cloned().collect())
            }
            Query::Chain(_)
            | Query::GatewayServices { .. }
            | Query::IngressHealth { .. }
            | Query::ExportedServices
            | Query::Merged(_)
            | Query::VirtualIp { .. } => self.mesh_answer(query),
            Query::Graph(query) => self.graph_answer(query),
            Query::Places => Answer::Places(self.places.rows.values().cloned().collect()),
            Query::NodePlace { node } => {
                Answer::Places(self.places.of(node).into_iter().cloned().collect())
            }
            Query::CaRoots => Answer::CaRoots(self.ca.shown()),
            Query::CaConfig => Answer::CaConfig(self.ca.shown_config()),
            Query::Acl(query) => Answer::Acl(self.acl.query(query)),
            Query::AddressOwners { address } => {
                let (nodes, services) = catalog.owners_of(address);
                Answer::AddressOwners { nodes, services }
            }
        }
    }

    fn indexes(&self, query: &Query) -> Indexes {
        let Tables {
            kv,
            catalog,
            sessions,
            ..
        } = self;
        match query {
            Query::Noop | Query::Txn(_) => Indexes::same(self.last_index),
            Query::KvGet { key } => kv.key_indexes(key),
            Query::KvList { prefix } | Query::KvKeys { prefix, .. } => kv.prefix_indexes(prefix),
            Query::Nodes { .. } => Indexes::same(catalog.index.nodes),
            Query::Services { .. } | Query::Instances { .. } => {
                Indexes::same(catalog.index.services)
            }
            Query::PreparedQueries | Query::PreparedQuery { .. } => self.prepared.indexes(),
            Query::Places | Query::NodePlace { .. } => self.places.indexes(),
            Query::Entries { .. } | Query::Entry { .. } => self.entries.indexes(),
            Query::Chain(_)
            | Query::GatewayServices { .. }
            | Query::IngressHealth { .. }
            | Query::ExportedServices
            | Query::Merged(_)
            | Query::VirtualIp { .. } => self.mesh_indexes(query),
            Query::Graph(query) => self.graph_indexes(query),
            Query::CaRoots => self.ca.roots_indexes(),
            Query::CaConfig => self.ca.config_indexes(),
            Query::Acl(query) => self.acl.indexes(query),
            Query::AddressOwners { .. } => {
                Indexes::same(catalog.index.nodes.max(catalog.index.services))
            }
            Query::ChecksWithMeta { .. } => {
                Indexes::same(catalog.index.checks.max(catalog.index.nodes))
            }
            Query::StateChecks { .. } => Indexes::same(catalog.index.checks),
            Query::NodeInfos { .. } => Indexes::same(catalog.index.any()),
            Query::Node { node } | Query::NodeServices { node } | Query::NodeChecks { node } => {
                catalog.node_indexes(node)
            }
            Query::ServiceNodes { service, .. }
            | Query::ServiceChecks { service }
            | Query::ServiceHealth { service, .. } => catalog.service_indexes(service),
            Query::MeshHealth { service, .. } => self.mesh_health_indexes(service),
            Query::Session { id } => sessions.indexes(id),
            Query::Sessions | Query::NodeSessions { .. } => Indexes::same(sessions.index),
            Query::ClusterId => Indexes::same(self.cluster_id.map_or(0, |(_, index)| index)),
            Query::Autopilot => autopilot::indexes(self.autopilot.as_ref()),
        }
    }
}
