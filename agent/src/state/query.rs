//! What can be read, and the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::acl::{AclAnswer, AclQuery};
use super::autopilot::Autopilot;
use super::ca::{CaConfig, CaRoots};
use super::catalog::{Check, Node, NodeInfo, Service, ServiceHealth, ServiceNode, ServicesOfNode};
use super::coordinates::NodePlace;
use super::entries::ConfigEntry;
use super::graph::{GraphAnswer, GraphQuery};
use super::kv::KvEntry;
use super::prepared::PreparedQuery;
use super::session::Session;
use super::txn::{TxnError, TxnOp, TxnResult};
use super::virtual_ips::VirtualIp;
use crate::entries::chain::ChainRequest;
use crate::entries::gateways::GatewayService;

/// A read of the state. Append only: it travels between servers, and the variant's number is its wire form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Reads nothing. Its index is that of the last command applied.
    Noop,
    /// One key.
    KvGet {
        /// The key.
        key: String,
    },
    /// Entries by prefix.
    KvList {
        /// The prefix; empty for all.
        prefix: String,
    },
    /// Keys by prefix.
    KvKeys {
        /// The prefix; empty for all.
        prefix: String,
        /// Keys are cut behind its first occurrence after the prefix; empty for whole keys.
        separator: String,
    },
    /// All nodes.
    Nodes {
        /// Only those whose meta data has all of these.
        meta: BTreeMap<String, String>,
    },
    /// One node.
    Node {
        /// Its name, in any case.
        node: String,
    },
    /// Names of services with their tags.
    Services {
        /// Only those on nodes whose meta data has all of these.
        meta: BTreeMap<String, String>,
    },
    /// Instances of a service.
    ServiceNodes {
        /// Its name, in any case.
        service: String,
        /// Only those with all of these.
        tags: Vec<String>,
    },
    /// Services on a node.
    NodeServices {
        /// Its name, in any case.
        node: String,
    },
    /// Checks on a node.
    NodeChecks {
        /// Its name, in any case.
        node: String,
    },
    /// Checks of a service, without those of its nodes.
    ServiceChecks {
        /// Its name, in any case.
        service: String,
    },
    /// Checks in a state.
    StateChecks {
        /// passing, warning, critical or any.
        state: String,
    },
    /// Instances of a service with the checks that decide on their health.
    ServiceHealth {
        /// Its name, in any case.
        service: String,
        /// Only those with all of these.
        tags: Vec<String>,
        /// Only those whose checks all pass.
        passing: bool,
    },
    /// One session.
    Session {
        /// Its id.
        id: Uuid,
    },
    /// All sessions.
    Sessions,
    /// Sessions of a node.
    NodeSessions {
        /// Its name, in any case.
        node: String,
    },
    /// The name that the cluster was given when it was formed.
    ClusterId,
    /// How the leader looks after the servers.
    Autopilot,
    /// A transaction that changes nothing. Its index is that of the last command applied.
    Txn(Vec<TxnOp>),
    /// Nodes and services with this address.
    AddressOwners {
        /// An IP address in its usual form.
        address: String,
    },
    /// Those at which connections to a service through the mesh end, with the checks that decide on their health.
    MeshHealth {
        /// The service's name, in any case.
        service: String,
        /// Only those with all of these.
        tags: Vec<String>,
        /// Only those whose checks all pass.
        passing: bool,
    },
    /// All instances of all services.
    Instances {
        /// Only those on nodes whose meta data has all of these.
        meta: BTreeMap<String, String>,
    },
    /// Checks on nodes with these meta data.
    ChecksWithMeta {
        /// Only those of this service itself.
        service: Option<String>,
        /// passing, warning, critical or any.
        state: String,
        /// Only those on nodes whose meta data has all of these.
        meta: BTreeMap<String, String>,
    },
    /// Every prepared query.
    PreparedQueries,
    /// The prepared query that answers to an id or a name, templates included.
    PreparedQuery {
        /// Id or name, in any case.
        id_or_name: String,
    },
    /// Where the nodes are.
    Places,
    /// Where one node is.
    NodePlace {
        /// Its name, in any case.
        node: String,
    },
    /// Config entries.
    Entries {
        /// Their kind; empty for all.
        kind: String,
    },
    /// One config entry.
    Entry {
        /// Its kind.
        kind: String,
        /// Its name, in any case.
        name: String,
    },
    /// What a service's discovery chain is compiled to.
    Chain(Box<ChainRequest>),
    /// Services that a gateway stands for.
    GatewayServices {
        /// The gateway's name, in any case.
        gateway: String,
    },
    /// Ingress gateways that stand for a service, with the checks that decide on their health.
    IngressHealth {
        /// The service's name, in any case.
        service: String,
        /// Only those with all of these.
        tags: Vec<String>,
        /// Only those whose checks all pass.
        passing: bool,
    },
    /// Instances, proxies and gateways with what the config entries say of them.
    Merged(Mergeable),
    /// Services that others may reach.
    ExportedServices,
    /// The addresses that stand for a service.
    VirtualIp {
        /// Its name, in any case.
        service: String,
    },
    /// The roots of the certificate authority.
    CaRoots,
    /// Its configuration.
    CaConfig,
    /// Who may do what.
    Acl(AclQuery),
    /// Nodes with all that is known of them.
    NodeInfos {
        /// One's name, in any case; all without.
        node: Option<String>,
    },
    /// The mesh as it is drawn.
    Graph(GraphQuery),
}

/// A query whose services can be shown with what the config entries say of them. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mergeable {
    /// [`Query::ServiceNodes`].
    Instances {
        /// Its name, in any case.
        service: String,
        /// Only those with all of these.
        tags: Vec<String>,
    },
    /// [`Query::NodeServices`].
    Node {
        /// Its name, in any case.
        node: String,
    },
    /// [`Query::ServiceHealth`].
    Health {
        /// Its name, in any case.
        service: String,
        /// Only those with all of these.
        tags: Vec<String>,
        /// Only those whose checks all pass.
        passing: bool,
    },
    /// [`Query::MeshHealth`].
    Mesh {
        /// The service's name, in any case.
        service: String,
        /// Only those with all of these.
        tags: Vec<String>,
        /// Only those whose checks all pass.
        passing: bool,
    },
    /// [`Query::IngressHealth`].
    Ingress {
        /// The service's name, in any case.
        service: String,
        /// Only those with all of these.
        tags: Vec<String>,
        /// Only those whose checks all pass.
        passing: bool,
    },
}

impl Mergeable {
    /// The query as it is without the config entries.
    pub(super) fn plain(&self) -> Query {
        match self.clone() {
            Mergeable::Instances { service, tags } => Query::ServiceNodes { service, tags },
            Mergeable::Node { node } => Query::NodeServices { node },
            Mergeable::Health {
                service,
                tags,
                passing,
            } => Query::ServiceHealth {
                service,
                tags,
                passing,
            },
            Mergeable::Mesh {
                service,
                tags,
                passing,
            } => Query::MeshHealth {
                service,
                tags,
                passing,
            },
            Mergeable::Ingress {
                service,
                tags,
                passing,
            } => Query::IngressHealth {
                service,
                tags,
                passing,
            },
        }
    }
}

impl Query {
    /// The same with what the config entries say of proxies and gateways; those that show no services as they are.
    #[must_use]
    pub fn merged(self) -> Self {
        Query::Merged(match self {
            Query::ServiceNodes { service, tags } => Mergeable::Instances { service, tags },
            Query::NodeServices { node } => Mergeable::Node { node },
            Query::ServiceHealth {
                service,
                tags,
                passing,
            } => Mergeable::Health {
                service,
                tags,
                passing,
            },
            Query::MeshHealth {
                service,
                tags,
                passing,
            } => Mergeable::Mesh {
                service,
                tags,
                passing,
            },
            Query::IngressHealth {
                service,
                tags,
                passing,
            } => Mergeable::Ingress {
                service,
                tags,
                passing,
            },
            other => return other,
        })
    }

    /// Whether the answer grows with the state.
    pub fn is_of_many(&self) -> bool {
        !matches!(
            self,
            Query::Noop
                | Query::KvGet { .. }
                | Query::Node { .. }
                | Query::Session { .. }
                | Query::ClusterId
                | Query::Autopilot
                | Query::Txn(_)
                | Query::AddressOwners { .. }
                | Query::PreparedQuery { .. }
                | Query::NodePlace { .. }
                | Query::Entry { .. }
                | Query::Chain(_)
                | Query::VirtualIp { .. }
                | Query::CaRoots
                | Query::CaConfig
        )
    }
}

/// The result of a [`Query`]. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Query::Noop`].
    Nothing,
    /// To [`Query::KvGet`].
    Kv(Option<Arc<KvEntry>>),
    /// To [`Query::KvList`], by key.
    KvList(Vec<Arc<KvEntry>>),
    /// To [`Query::KvKeys`], ascending.
    Keys(Vec<Arc<str>>),
    /// To [`Query::Nodes`], by name.
    Nodes(Vec<Arc<Node>>),
    /// To [`Query::Node`].
    Node(Option<Arc<Node>>),
    /// To [`Query::Services`].
    Services(BTreeMap<String, BTreeSet<String>>),
    /// To [`Query::ServiceNodes`] and [`Query::Instances`], by node and service id.
    ServiceNodes(Vec<ServiceNode>),
    /// To [`Query::NodeServices`].
    NodeServices(Option<ServicesOfNode>),
    /// To the queries for checks, by node and check id.
    Checks(Vec<Arc<Check>>),
    /// To [`Query::ServiceHealth`], [`Query::MeshHealth`] and [`Query::IngressHealth`], by node and service id.
    ServiceHealth(Vec<ServiceHealth>),
    /// To [`Query::Session`].
    Session(Option<Arc<Session>>),
    /// To [`Query::Sessions`] and [`Query::NodeSessions`], by id.
    Sessions(Vec<Arc<Session>>),
    /// To [`Query::ClusterId`].
    ClusterId(Option<Uuid>),
    /// To [`Query::Autopilot`].
    Autopilot(Option<Autopilot>),
    /// To [`Query::Txn`].
    Txn(Result<Vec<TxnResult>, Vec<TxnError>>),
    /// To [`Query::AddressOwners`].
    AddressOwners {
        /// By name.
        nodes: Vec<Arc<Node>>,
        /// Only those whose own address it is, by node and id.
        services: Vec<Arc<Service>>,
    },
    /// To [`Query::PreparedQueries`], by id.
    PreparedQueries(Vec<Arc<PreparedQuery>>),
    /// To [`Query::PreparedQuery`], its variables not filled in.
    PreparedQuery(Option<Arc<PreparedQuery>>),
    /// To [`Query::Places`] and [`Query::NodePlace`], by name.
    Places(Vec<Arc<NodePlace>>),
    /// To [`Query::Entries`] and [`Query::Entry`], by kind and name.
    Entries(Vec<Arc<ConfigEntry>>),
    /// To [`Query::Chain`]: Consul's JSON of it, or why the entries do not fit together.
    Chain(Result<String, String>),
    /// To [`Query::GatewayServices`], by service and port.
    GatewayServices(Vec<GatewayService>),
    /// To [`Query::ExportedServices`]: names, each with the peers that may reach it.
    ExportedServices(Vec<(String, Vec<String>)>),
    /// To [`Query::VirtualIp`].
    VirtualIp(Option<Arc<VirtualIp>>),
    /// To [`Query::CaRoots`].
    CaRoots(CaRoots),
    /// To [`Query::CaConfig`].
    CaConfig(Option<CaConfig>),
    /// To [`Query::Acl`].
    Acl(AclAnswer),
    /// To [`Query::NodeInfos`], by name.
    NodeInfos(Vec<NodeInfo>),
    /// To [`Query::Graph`].
    Graph(GraphAnswer),
}
