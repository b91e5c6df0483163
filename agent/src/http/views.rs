//! The catalog's rows in the shapes in which Consul's JSON shows them.
//!
//! What this agent has no notion of (locality) is shown as Consul shows a service without it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::state::{
    Check, CheckStatus, Mesh, Node, NodeInfo, Service, ServiceAddress, ServiceHealth, ServiceNode,
    ServicesOfNode, Weights,
};

/// The key of a node's meta data that holds its version.
const VERSION: &str = "consul-version";

/// An empty object.
#[derive(Serialize)]
struct Nothing {}

/// A service's `Proxy`: what was given over what Consul shows of every service.
struct Proxy<'a>(Option<&'a Mesh>);

impl Serialize for Proxy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = json!({"Mode": "", "MeshGateway": {}, "Expose": {}});
        let given = self.0.map_or("", |mesh| mesh.proxy.as_str());
        if let (Some(shown), Ok(Value::Object(given))) =
            (shown.as_object_mut(), serde_json::from_str(given))
        {
            shown.extend(given);
        }
        shown.serialize(serializer)
    }
}

/// Text that was made from JSON, as JSON again; nothing is an empty object.
struct Given<'a>(&'a str);

impl Serialize for Given<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<Value>(self.0) {
            Ok(value) => value.serialize(serializer),
            Err(_) => Nothing {}.serialize(serializer),
        }
    }
}

impl<'a> Given<'a> {
    fn connect(service: &'a Service) -> Self {
        Self(service.mesh.as_ref().map_or("", |mesh| &mesh.connect))
    }
}

/// An entry of `/v1/catalog/service/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CatalogService<'a> {
    #[serde(rename = "ID")]
    id: String,
    node: &'a str,
    address: &'a str,
    datacenter: &'a str,
    tagged_addresses: &'a BTreeMap<String, String>,
    node_meta: &'a BTreeMap<String, String>,
    service_kind: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: &'a [String],
    service_address: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    service_tagged_addresses: &'a BTreeMap<String, ServiceAddress>,
    service_weights: Weights,
    service_meta: &'a BTreeMap<String, String>,
    service_port: u16,
    service_socket_path: &'a str,
    service_enable_tag_override: bool,
    service_proxy: Proxy<'a>,
    service_connect: Given<'a>,
    create_index: u64,
    modify_index: u64,
}

impl<'a> CatalogService<'a> {
    pub(super) fn of(entry: &'a ServiceNode) -> Self {
        let ServiceNode { node, service } = entry;
        Self {
            id: node.id.map(|id| id.to_string()).unwrap_or_default(),
            node: &node.node,
            address: &node.address,
            datacenter: &node.datacenter,
            tagged_addresses: &node.tagged_addresses,
            node_meta: &node.meta,
            service_kind: &service.kind,
            service_id: &service.id,
            service_name: &service.service,
            service_tags: &service.tags,
            service_address: &service.address,
            service_tagged_addresses: &service.tagged_addresses,
            service_weights: service.weights,
            service_meta: &service.meta,
            service_port: service.port,
            service_socket_path: &service.socket_path,
            service_enable_tag_override: service.enable_tag_override,
            service_proxy: Proxy(service.mesh.as_deref()),
            service_connect: Given::connect(service),
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }
}

/// A service where its node is known from around it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeService<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [String],
    address: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tagged_addresses: &'a BTreeMap<String, ServiceAddress>,
    meta: &'a BTreeMap<String, String>,
    port: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    socket_path: &'a str,
    weights: Weights,
    enable_tag_override: bool,
    proxy: Proxy<'a>,
    connect: Given<'a>,
    create_index: u64,
    modify_index: u64,
}

impl<'a> NodeService<'a> {
    pub(super) fn of(service: &'a Service) -> Self {
        Self {
            kind: &service.kind,
            id: &service.id,
            service: &service.service,
            tags: &service.tags,
            address: &service.address,
            tagged_addresses: &service.tagged_addresses,
            meta: &service.meta,
            port: service.port,
            socket_path: &service.socket_path,
            weights: service.weights,
            enable_tag_override: service.enable_tag_override,
            proxy: Proxy(service.mesh.as_deref()),
            connect: Given::connect(service),
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }
}

/// The answer of `/v1/catalog/node/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeWithServiceMap<'a> {
    node: &'a Node,
    services: BTreeMap<&'a str, NodeService<'a>>,
}

impl<'a> NodeWithServiceMap<'a> {
    /// Only the services that `shows` lets pass.
    pub(super) fn of(found: &'a ServicesOfNode, shows: impl Fn(&NodeService<'_>) -> bool) -> Self {
        let services = found.services.iter();
        Self {
            node: &found.node,
            services: services
                .map(|s| (s.id.as_str(), NodeService::of(s)))
                .filter(|(_, service)| shows(service))
                .collect(),
        }
    }
}

/// The answer of `/v1/catalog/node-services/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeWithServices<'a> {
    node: Option<&'a Node>,
    services: Option<Vec<NodeService<'a>>>,
}

impl<'a> NodeWithServices<'a> {
    /// Only the services that `shows` lets pass.
    pub(super) fn of(
        found: Option<&'a ServicesOfNode>,
        shows: impl Fn(&NodeService<'_>) -> bool,
    ) -> Self {
        let services = |found: &'a ServicesOfNode| {
            let services = found.services.iter().map(|s| NodeService::of(s));
            services.filter(|service| shows(service)).collect()
        };
        Self {
            node: found.map(|found| &*found.node),
            services: found.map(services),
        }
    }
}

/// A check.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CheckView<'a> {
    node: &'a str,
    #[serde(rename = "CheckID")]
    check_id: &'a str,
    name: &'a str,
    status: CheckStatus,
    notes: &'a str,
    output: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: &'a [String],
    #[serde(rename = "Type")]
    kind: &'a str,
    interval: &'a str,
    timeout: &'a str,
    exposed_port: u16,
    definition: Given<'a>,
    create_index: u64,
    modify_index: u64,
}

impl<'a> CheckView<'a> {
    pub(super) fn of(check: &'a Check) -> Self {
        Self {
            node: &check.node,
            check_id: &check.check_id,
            name: &check.name,
            status: check.status,
            notes: &check.notes,
            output: &check.output,
            service_id: &check.service_id,
            service_name: &check.service_name,
            service_tags: &check.service_tags,
            kind: &check.kind,
            interval: &check.interval,
            timeout: &check.timeout,
            exposed_port: check.exposed_port,
            definition: Given(&check.definition),
            create_index: check.create_index,
            modify_index: check.modify_index,
        }
    }
}

/// An entry of `/v1/health/service/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthView<'a> {
    node: &'a Node,
    service: NodeService<'a>,
    checks: Vec<CheckView<'a>>,
}

impl<'a> HealthView<'a> {
    pub(super) fn of(entry: &'a ServiceHealth) -> Self {
        Self {
            node: &entry.node,
            service: NodeService::of(&entry.service),
            checks: checks(&entry.checks),
        }
    }
}

/// An entry of `/v1/internal/ui/nodes`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeInfoView<'a> {
    #[serde(rename = "ID")]
    id: String,
    node: &'a str,
    address: &'a str,
    tagged_addresses: &'a BTreeMap<String, String>,
    meta: Cow<'a, BTreeMap<String, String>>,
    services: Vec<NodeService<'a>>,
    checks: Vec<CheckView<'a>>,
}

impl<'a> NodeInfoView<'a> {
    /// With the version that gossip tells of the node, unless its own meta data does.
    pub(super) fn of(info: &'a NodeInfo, version: Option<&str>) -> Self {
        let node = &info.node;
        let mut meta = Cow::Borrowed(&node.meta);
        if let Some(version) = version
            && !meta.contains_key(VERSION)
        {
            meta.to_mut().insert(VERSION.to_owned(), version.to_owned());
        }
        Self {
            id: node.id.map(|id| id.to_string()).unwrap_or_default(),
            node: &node.node,
            address: &node.address,
            tagged_addresses: &node.tagged_addresses,
            meta,
            services: info.services.iter().map(|s| NodeService::of(s)).collect(),
            checks: checks(&info.checks),
        }
    }
}

/// Several checks.
pub(super) fn checks(checks: &[Arc<Check>]) -> Vec<CheckView<'_>> {
    checks.iter().map(|check| CheckView::of(check)).collect()
}
