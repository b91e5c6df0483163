//! What is sent to be registered or deregistered.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::http::error::Error;
use crate::local::definition::mesh_of;
use crate::state::{Check, CheckStatus, Node, Register, Service, ServiceAddress, Weights};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct Deregistration {
    pub(super) datacenter: String,
    pub(super) node: String,
    pub(super) serviceid: String,
    pub(super) checkid: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct Registration {
    pub(super) datacenter: String,
    id: String,
    node: String,
    address: String,
    taggedaddresses: BTreeMap<String, String>,
    nodemeta: BTreeMap<String, String>,
    service: Option<ServiceBody>,
    check: Option<CheckBody>,
    checks: Vec<CheckBody>,
    skipnodeupdate: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct ServiceBody {
    kind: String,
    id: String,
    service: String,
    tags: Vec<String>,
    address: String,
    taggedaddresses: BTreeMap<String, AddressBody>,
    meta: BTreeMap<String, String>,
    port: u16,
    socketpath: String,
    weights: Option<WeightsBody>,
    enabletagoverride: bool,
    proxy: Option<Value>,
    connect: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AddressBody {
    address: String,
    port: u16,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WeightsBody {
    passing: u32,
    warning: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(in crate::http) struct CheckBody {
    pub(in crate::http) node: String,
    checkid: String,
    name: String,
    status: String,
    notes: String,
    output: String,
    serviceid: String,
    #[serde(rename = "type")]
    kind: String,
    interval: String,
    timeout: String,
    exposedport: u16,
    definition: Option<Value>,
}

impl Registration {
    pub(super) fn into_command(self, datacenter: &str) -> Result<Register, Error> {
        if self.node.is_empty() {
            return Err(Error::internal("Must provide node"));
        }
        if self.address.is_empty() && !self.skipnodeupdate {
            return Err(Error::internal(
                "Must provide address if SkipNodeUpdate is not set",
            ));
        }
        let id = match self.id.as_str() {
            "" => None,
            text => Some(
                Uuid::try_parse(text)
                    .map_err(|_| Error::bad_request(format!("Invalid node ID {text:?}")))?,
            ),
        };
        let services = self.service.map(ServiceBody::into_row).transpose()?;
        let checks = self.check.into_iter().chain(self.checks);
        let checks = checks.map(|check| check.into_row(&self.node));
        let checks = checks.collect::<Result<_, _>>()?;
        Ok(Register {
            node: Node {
                id,
                node: self.node,
                address: self.address,
                datacenter: datacenter.to_owned(),
                tagged_addresses: self.taggedaddresses,
                meta: self.nodemeta,
                create_index: 0,
                modify_index: 0,
            },
            skip_node_update: self.skipnodeupdate,
            services: services.into_iter().collect(),
            checks,
        })
    }
}

impl ServiceBody {
    /// A row of which only the id counts.
    pub(in crate::http) fn into_id(self) -> Result<Service, Error> {
        let id = if self.id.is_empty() {
            self.service
        } else {
            self.id
        };
        if id.is_empty() {
            return Err(Error::internal("Must provide service ID"));
        }
        Ok(Service {
            id,
            ..Service::default()
        })
    }

    pub(in crate::http) fn into_row(self) -> Result<Service, Error> {
        if self.service.is_empty() {
            return Err(Error::internal("Must provide service name with ID"));
        }
        let tagged_addresses = self.taggedaddresses.into_iter().map(|(name, address)| {
            let AddressBody { address, port } = address;
            (name, ServiceAddress { address, port })
        });
        Ok(Service {
            kind: self.kind,
            id: if self.id.is_empty() {
                self.service.clone()
            } else {
                self.id
            },
            service: self.service,
            tags: self.tags,
            address: self.address,
            tagged_addresses: tagged_addresses.collect(),
            meta: self.meta,
            port: self.port,
            socket_path: self.socketpath,
            weights: self.weights.map_or_else(Weights::default, |w| Weights {
                passing: w.passing,
                warning: w.warning,
            }),
            enable_tag_override: self.enabletagoverride,
            mesh: mesh_of(self.proxy, self.connect),
            create_index: 0,
            modify_index: 0,
        })
    }
}

impl CheckBody {
    pub(in crate::http) fn into_row(self, node: &str) -> Result<Check, Error> {
        if !self.node.is_empty() && !self.node.eq_ignore_ascii_case(node) {
            return Err(Error::internal(format!(
                "check node {:?} does not match node {node:?}",
                self.node
            )));
        }
        let status = match self.status.as_str() {
            "" => CheckStatus::default(),
            text => CheckStatus::parse(text)
                .ok_or_else(|| Error::internal(format!("Invalid check status: '{text}'")))?,
        };
        let check_id = if self.checkid.is_empty() {
            self.name.clone()
        } else {
            self.checkid
        };
        if check_id.is_empty() {
            return Err(Error::internal("Must provide check name or ID"));
        }
        Ok(Check {
            node: node.to_owned(),
            check_id,
            name: self.name,
            status,
            notes: self.notes,
            output: self.output,
            service_id: self.serviceid,
            kind: self.kind,
            interval: self.interval,
            timeout: self.timeout,
            exposed_port: self.exposedport,
            definition: match self.definition {
                Some(Value::Object(fields)) if !fields.is_empty() => {
                    Value::Object(fields).to_string()
                }
                _ => String::new(),
            },
            ..Check::default()
        })
    }
}
