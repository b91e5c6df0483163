//! Rows as the first release wrote them, which logs and snapshots still hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::table::NodeDump;
use super::{Check, CheckStatus, Node, Service, ServiceAddress, Weights};
use crate::state::command::Register;

#[derive(Deserialize)]
struct FirstService {
    kind: String,
    id: String,
    service: String,
    tags: Vec<String>,
    address: String,
    tagged_addresses: BTreeMap<String, ServiceAddress>,
    meta: BTreeMap<String, String>,
    port: u16,
    socket_path: String,
    weights: Weights,
    enable_tag_override: bool,
    create_index: u64,
    modify_index: u64,
}

#[derive(Deserialize)]
struct FirstCheck {
    node: String,
    check_id: String,
    name: String,
    status: CheckStatus,
    notes: String,
    output: String,
    service_id: String,
    service_name: String,
    service_tags: Vec<String>,
    kind: String,
    interval: String,
    timeout: String,
    create_index: u64,
    modify_index: u64,
}

#[derive(Deserialize)]
struct FirstRegister {
    node: Node,
    skip_node_update: bool,
    services: Vec<FirstService>,
    checks: Vec<FirstCheck>,
}

/// A node as a snapshot of the first release holds it.
#[derive(Deserialize)]
pub(in crate::state) struct FirstNodeDump {
    node: Arc<Node>,
    services: Vec<FirstService>,
    checks: Vec<FirstCheck>,
    index: u64,
}

/// Reads the body of a registration.
pub(in crate::state) fn register<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Box<Register>, D::Error> {
    let first = FirstRegister::deserialize(deserializer)?;
    Ok(Box::new(Register {
        node: first.node,
        skip_node_update: first.skip_node_update,
        services: first.services.into_iter().map(Service::from).collect(),
        checks: first.checks.into_iter().map(Check::from).collect(),
    }))
}

impl From<FirstNodeDump> for NodeDump {
    fn from(first: FirstNodeDump) -> Self {
        let services = first.services.into_iter().map(Service::from);
        let checks = first.checks.into_iter().map(Check::from);
        Self {
            node: first.node,
            services: services.map(Arc::new).collect(),
            checks: checks.map(Arc::new).collect(),
            index: first.index,
        }
    }
}

impl From<FirstService> for Service {
    fn from(first: FirstService) -> Self {
        Self {
            kind: first.kind,
            id: first.id,
            service: first.service,
            tags: first.tags,
            address: first.address,
            tagged_addresses: first.tagged_addresses,
            meta: first.meta,
            port: first.port,
            socket_path: first.socket_path,
            weights: first.weights,
            enable_tag_override: first.enable_tag_override,
            mesh: None,
            create_index: first.create_index,
            modify_index: first.modify_index,
        }
    }
}

impl From<FirstCheck> for Check {
    fn from(first: FirstCheck) -> Self {
        Self {
            node: first.node,
            check_id: first.check_id,
            name: first.name,
            status: first.status,
            notes: first.notes,
            output: first.output,
            service_id: first.service_id,
            service_name: first.service_name,
            service_tags: first.service_tags,
            kind: first.kind,
            interval: first.interval,
            timeout: first.timeout,
            exposed_port: 0,
            definition: String::new(),
            create_index: first.create_index,
            modify_index: first.modify_index,
        }
    }
}
