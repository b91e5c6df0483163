//! `/v1/operator/usage`: what is counted of what the state has.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::blocking::{options, read};
use super::body::Response;
use super::catalog::unexpected;
use super::error::Error;
use super::request::Request;
use super::{Api, Server};
use crate::node::ReadOptions;
use crate::state::{Answer, Query, Service, ServiceNode};

/// The kinds of services that are counted apart, with Consul's names.
const KINDS: [&str; 5] = [
    "api-gateway",
    "connect-proxy",
    "ingress-gateway",
    "mesh-gateway",
    "terminating-gateway",
];

/// Services that are part of their servers, and not billed.
const CONSUL: &str = "consul";

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Counts<'a> {
    nodes: usize,
    services: usize,
    service_instances: usize,
    connect_service_instances: BTreeMap<&'a str, usize>,
    billable_service_instances: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage<'a> {
    usage: BTreeMap<&'a str, Counts<'a>>,
    index: u64,
    last_contact: u64,
    known_leader: bool,
    consistency_level: &'a str,
    not_modified: bool,
    backend: u8,
    results_filtered_by_a_c_ls: bool,
}

/// How many nodes and services there are.
pub(super) async fn usage<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let params = &request.params;
    let meta = BTreeMap::new();
    let (answer, headers) = read(server, params, Query::Instances { meta }).await?;
    let Answer::ServiceNodes(instances) = answer else {
        return Err(unexpected());
    };
    // What was waited for is there; the second read does not wait once more.
    let options = ReadOptions {
        min_index: 0,
        ..options(server.settings(), server.random(), params)?
    };
    let meta = BTreeMap::new();
    let reply = server.api().read(Query::Nodes { meta }, options).await?;
    let Answer::Nodes(nodes) = reply.answer else {
        return Err(unexpected());
    };
    let counts = count(nodes.len(), &instances);
    let shown = Usage {
        usage: BTreeMap::from([(server.settings().datacenter.as_str(), counts)]),
        index: headers.index().max(reply.index),
        last_contact: 0,
        known_leader: reply.known_leader,
        consistency_level: "leader",
        not_modified: false,
        backend: 0,
        results_filtered_by_a_c_ls: false,
    };
    Ok(headers.on(server.json(params, &shown)))
}

fn count<'a>(nodes: usize, instances: &'a [ServiceNode]) -> Counts<'a> {
    let is_native = |service: &Service| service.mesh.as_ref().is_some_and(|mesh| mesh.native);
    let mut counts = Counts {
        nodes,
        service_instances: instances.len(),
        connect_service_instances: KINDS.into_iter().map(|kind| (kind, 0)).collect(),
        ..Counts::default()
    };
    counts.connect_service_instances.insert("connect-native", 0);
    let mut names = BTreeSet::new();
    for ServiceNode { service, .. } in instances {
        names.insert(&service.service);
        let kind = service.kind.as_str();
        if let Some(count) = counts.connect_service_instances.get_mut(kind) {
            *count += 1;
        }
        if is_native(service)
            && let Some(count) = counts.connect_service_instances.get_mut("connect-native")
        {
            *count += 1;
        }
        if kind.is_empty() && service.service != CONSUL {
            counts.billable_service_instances += 1;
        }
    }
    counts.services = names.len();
    counts
}
