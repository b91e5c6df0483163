//! `/v1/catalog/`

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use super::blocking::{check_scope, read};
use super::body::Response;
use super::error::Error;
use super::json;
use super::request::{Params, Request};
use super::views::{CatalogService, NodeWithServiceMap, NodeWithServices};
use super::{Api, Server};
use crate::state::{
    Answer, Check, CheckStatus, Command, Deregister, Node, Query, Register, Service,
    ServiceAddress, Weights,
};

/// The one datacenter that this agent knows of.
pub(super) fn datacenters<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    Ok(server.json(&request.params, &[&server.settings().datacenter]))
}

/// All nodes.
pub(super) async fn nodes<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let params = &request.params;
    no_filter(params)?;
    let meta = node_meta(params);
    let (answer, headers) = read(server, params, Query::Nodes { meta }).await?;
    let Answer::Nodes(nodes) = answer else {
        return Err(unexpected());
    };
    Ok(headers.on(server.json(params, &nodes)))
}

/// Names of services with their tags.
pub(super) async fn services<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let params = &request.params;
    no_filter(params)?;
    let meta = node_meta(params);
    let (answer, headers) = read(server, params, Query::Services { meta }).await?;
    let Answer::Services(services) = answer else {
        return Err(unexpected());
    };
    Ok(headers.on(server.json(params, &services)))
}

/// Instances of a service.
pub(super) async fn service<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    no_filter(params)?;
    let query = Query::ServiceNodes {
        service: named(name, "Missing service name")?,
        tags: tags(params),
    };
    let (answer, headers) = read(server, params, query).await?;
    let Answer::ServiceNodes(found) = answer else {
        return Err(unexpected());
    };
    let meta = node_meta(params);
    let found: Vec<_> = found
        .iter()
        .filter(|entry| has_meta(&entry.node, &meta))
        .map(CatalogService::of)
        .collect();
    Ok(headers.on(server.json(params, &found)))
}

/// A node with its services by id.
pub(super) async fn node<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    no_filter(params)?;
    let node = named(name, "Missing node name")?;
    let (answer, headers) = read(server, params, Query::NodeServices { node }).await?;
    let Answer::NodeServices(found) = answer else {
        return Err(unexpected());
    };
    let found = found.as_ref().map(NodeWithServiceMap::of);
    Ok(headers.on(server.json(params, &found)))
}

/// A node with its services in a list.
pub(super) async fn node_services<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    no_filter(params)?;
    let node = named(name, "Missing node name")?;
    let (answer, headers) = read(server, params, Query::NodeServices { node }).await?;
    let Answer::NodeServices(found) = answer else {
        return Err(unexpected());
    };
    Ok(headers.on(server.json(params, &NodeWithServices::of(found.as_ref()))))
}

/// Writes a node, a service, checks.
pub(super) async fn register<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let body: Registration = json::decode(&body)?;
    let datacenter = &server.settings().datacenter;
    if !body.datacenter.is_empty() && body.datacenter != *datacenter {
        return Err(Error::internal("No path to datacenter"));
    }
    let command = body.into_command(datacenter)?;
    server.apply(Command::Register(Box::new(command))).await?;
    Ok(server.json(&request.params, &true))
}

/// Removes a node, a service or a check.
pub(super) async fn deregister<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let Deregistration {
        datacenter,
        node,
        serviceid,
        checkid,
    } = json::decode(&body)?;
    if !datacenter.is_empty() && datacenter != server.settings().datacenter {
        return Err(Error::internal("No path to datacenter"));
    }
    if node.is_empty() {
        return Err(Error::internal("Must provide node"));
    }
    // With both ids Consul removes the service, whose checks go with it.
    let what = if !serviceid.is_empty() {
        let id = serviceid;
        Deregister::Service { node, id }
    } else if !checkid.is_empty() {
        let id = checkid;
        Deregister::Check { node, id }
    } else {
        Deregister::Node { node }
    };
    server.apply(Command::Deregister(what)).await?;
    Ok(server.json(&request.params, &true))
}

/// `?node-meta=key:value`, repeatable.
pub(super) fn node_meta(params: &Params) -> BTreeMap<String, String> {
    let pairs = params.all("node-meta");
    let pairs = pairs.map(|pair| pair.split_once(':').unwrap_or((pair, "")));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// `?tag=`, repeatable.
pub(super) fn tags(params: &Params) -> Vec<String> {
    let tags = params.all("tag").filter(|tag| !tag.is_empty());
    tags.map(str::to_owned).collect()
}

pub(super) fn has_meta(node: &Node, meta: &BTreeMap<String, String>) -> bool {
    meta.iter().all(|(k, v)| node.meta.get(k) == Some(v))
}

/// The filter language is not spoken here: better an error than an answer that was not filtered.
pub(super) fn no_filter(params: &Params) -> Result<(), Error> {
    if params.given("filter").is_some() {
        return Err(Error::internal(
            "Failed to create boolean expression evaluator: this agent does not support ?filter",
        ));
    }
    Ok(())
}

pub(super) fn named(name: String, missing: &'static str) -> Result<String, Error> {
    if name.is_empty() {
        return Err(Error::bad_request(missing));
    }
    Ok(name)
}

/// A server of another version answered another question.
pub(super) fn unexpected() -> Error {
    Error::internal("rpc error making call: unexpected answer")
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Deregistration {
    datacenter: String,
    node: String,
    serviceid: String,
    checkid: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Registration {
    datacenter: String,
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
pub(super) struct ServiceBody {
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
pub(super) struct CheckBody {
    pub(super) node: String,
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
}

impl Registration {
    fn into_command(self, datacenter: &str) -> Result<Register, Error> {
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
    pub(super) fn into_id(self) -> Result<Service, Error> {
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

    pub(super) fn into_row(self) -> Result<Service, Error> {
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
            create_index: 0,
            modify_index: 0,
        })
    }
}

impl CheckBody {
    pub(super) fn into_row(self, node: &str) -> Result<Check, Error> {
        if !self.node.is_empty() && !self.node.eq_ignore_ascii_case(node) {
            return Err(Error::internal(format!(
                "check node {:?} does not match node {node:?}",
                self.node
            )));
        }
        let status = match self.status.as_str() {
            "passing" => CheckStatus::Passing,
            "warning" => CheckStatus::Warning,
            "" | "critical" => CheckStatus::Critical,
            other => {
                return Err(Error::internal(format!("Invalid check status: '{other}'")));
            }
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
            ..Check::default()
        })
    }
}
