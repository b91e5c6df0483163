//! `/v1/operator/usage` and `/v1/exported-services`: what is counted and resolved from what the state has.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value as Json;

use super::blocking::{options, read};
use super::body::Response;
use super::catalog::unexpected;
use super::error::Error;
use super::request::Request;
use super::{Api, Server};
use crate::entries;
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

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    service: String,
    consumers: Consumers,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Consumers {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    peers: BTreeSet<String>,
}

/// Which services are exported to whom, wildcards written out.
pub(super) async fn exported<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let params = &request.params;
    let query = Query::Entry {
        kind: "exported-services".to_owned(),
        name: "default".to_owned(),
    };
    let (answer, headers) = read(server, params, query).await?;
    let Answer::Entries(found) = answer else {
        return Err(unexpected());
    };
    let Some(entry) = found.first() else {
        return Ok(headers.on(server.json::<[Exported; 0]>(params, &[])));
    };
    let options = ReadOptions {
        min_index: 0,
        ..options(server.settings(), server.random(), params)?
    };
    let meta = BTreeMap::new();
    let reply = server.api().read(Query::Services { meta }, options).await?;
    let Answer::Services(services) = reply.answer else {
        return Err(unexpected());
    };
    let names: Vec<_> = services.into_keys().collect();
    Ok(headers.on(server.json(params, &resolve(&entries::show(entry), &names))))
}

fn resolve(entry: &Json, names: &[String]) -> Vec<Exported> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for exported in list(&entry["Services"]) {
        let peers: BTreeSet<String> = list(&exported["Consumers"])
            .filter_map(|consumer| consumer["Peer"].as_str())
            .filter(|peer| !peer.is_empty())
            .map(str::to_owned)
            .collect();
        let name = exported["Name"].as_str().unwrap_or_default();
        let named: Vec<&str> = match name {
            "*" => names
                .iter()
                .map(String::as_str)
                .filter(|n| *n != CONSUL)
                .collect(),
            name => vec![name],
        };
        for name in named {
            let all = found.entry(name.to_owned()).or_default();
            all.extend(peers.iter().cloned());
        }
    }
    let found = found.into_iter().filter(|(_, peers)| !peers.is_empty());
    found
        .map(|(service, peers)| Exported {
            service,
            consumers: Consumers { peers },
        })
        .collect()
}

fn list(value: &Json) -> impl Iterator<Item = &Json> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exports_are_resolved_by_service_with_wildcards_written_out() {
        let entry = json!({"Services": [
            {"Name": "*", "Consumers": [{"Peer": "b"}]},
            {"Name": "web", "Consumers": [{"Peer": "a"}, {"SamenessGroup": "g"}]},
            {"Name": "later", "Consumers": [{"Peer": "c"}]},
            {"Name": "nobody", "Consumers": []},
        ]});
        let names = ["consul", "db", "web"].map(str::to_owned);
        let shown = serde_json::to_value(resolve(&entry, &names)).unwrap();
        let wanted = json!([
            {"Service": "db", "Consumers": {"Peers": ["b"]}},
            {"Service": "later", "Consumers": {"Peers": ["c"]}},
            {"Service": "web", "Consumers": {"Peers": ["a", "b"]}},
        ]);
        assert_eq!(shown, wanted);
    }
}
