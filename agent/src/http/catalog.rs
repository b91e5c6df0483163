//! `/v1/catalog/`

pub(super) mod bodies;

use std::collections::{BTreeMap, BTreeSet};

use super::blocking::{Headers, check_scope, read};
use super::body::Response;
use super::error::Error;
use super::filtered::Chosen;
use super::json;
use super::near::Near;
use super::request::{Params, Request};
use super::views::{CatalogService, NodeService, NodeWithServiceMap, NodeWithServices};
use super::{Api, Server};
use crate::filter::schema;
use crate::state::{
    Answer, Command, Deregister, Node, Query, ServiceHealth, ServiceNode, ServicesOfNode,
};
use bodies::{Deregistration, Registration};

/// The datacenters that are known, the nearest first.
pub(super) async fn datacenters<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let found = server.api().datacenters().await?;
    let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    Ok(server.json(&request.params, &names))
}

/// All nodes.
pub(super) async fn nodes<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let params = &request.params;
    let chosen = Chosen::by(params, &schema::NODE)?;
    let meta = node_meta(params);
    let (answer, headers) = read(server, params, Query::Nodes { meta }).await?;
    let Answer::Nodes(mut nodes) = answer else {
        return Err(unexpected());
    };
    let near = Near::by(server, params).await?;
    near.sort(&mut nodes, |node| &node.node);
    Ok(headers.on(server.json(params, &chosen.of(&nodes))))
}

/// Names of services with their tags. A filter is asked about each instance.
pub(super) async fn services<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let params = &request.params;
    let chosen = Chosen::by(params, &schema::SERVICE_NODE)?;
    let meta = node_meta(params);
    let query = match chosen.is_everything() {
        true => Query::Services { meta },
        false => Query::Instances { meta },
    };
    let (answer, headers) = read(server, params, query).await?;
    let response = match &answer {
        Answer::Services(services) => server.json(params, services),
        Answer::ServiceNodes(instances) => {
            let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for entry in instances {
                if chosen.shows(&CatalogService::of(entry)) {
                    let tags = names.entry(&entry.service.service).or_default();
                    tags.extend(entry.service.tags.iter().map(String::as_str));
                }
            }
            server.json(params, &names)
        }
        _ => return Err(unexpected()),
    };
    Ok(headers.on(response))
}

/// Instances of a service.
pub(super) async fn service<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    let chosen = Chosen::by(params, &schema::SERVICE_NODE)?;
    let query = Query::ServiceNodes {
        service: named(name, "Missing service name")?,
        tags: tags(params),
    };
    let query = with_central_config(params, query);
    let (answer, headers) = read(server, params, query).await?;
    let Answer::ServiceNodes(mut found) = answer else {
        return Err(unexpected());
    };
    let near = Near::by(server, params).await?;
    near.sort(&mut found, |entry| &entry.node.node);
    let meta = node_meta(params);
    let found = found.iter().filter(|entry| has_meta(&entry.node, &meta));
    let found = chosen.of(found.map(CatalogService::of));
    Ok(headers.on(server.json(params, &found)))
}

/// Those at which connections to a service through the mesh end.
pub(super) async fn connect<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    let chosen = Chosen::by(params, &schema::SERVICE_NODE)?;
    let query = Query::MeshHealth {
        service: named(name, "Missing service name")?,
        tags: tags(params),
        passing: false,
    };
    let query = with_central_config(params, query);
    let (answer, headers) = read(server, params, query).await?;
    let Answer::ServiceHealth(mut found) = answer else {
        return Err(unexpected());
    };
    let near = Near::by(server, params).await?;
    near.sort(&mut found, |entry| &entry.node.node);
    let meta = node_meta(params);
    let found: Vec<_> = found
        .into_iter()
        .filter(|entry| has_meta(&entry.node, &meta))
        .map(|ServiceHealth { node, service, .. }| ServiceNode { node, service })
        .collect();
    let found = chosen.of(found.iter().map(CatalogService::of));
    Ok(headers.on(server.json(params, &found)))
}

/// A node with its services by id.
pub(super) async fn node<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    let chosen = Chosen::by(params, &schema::NODE_SERVICE)?;
    let (found, headers) = services_of(server, params, name).await?;
    let shows = |service: &NodeService<'_>| chosen.shows(service);
    let found = found
        .as_ref()
        .map(|found| NodeWithServiceMap::of(found, shows));
    Ok(headers.on(server.json(params, &found)))
}

/// A node with its services in a list.
pub(super) async fn node_services<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    let chosen = Chosen::by(params, &schema::NODE_SERVICE)?;
    let (found, headers) = services_of(server, params, name).await?;
    let shows = |service: &NodeService<'_>| chosen.shows(service);
    let shown = NodeWithServices::of(found.as_ref(), shows);
    Ok(headers.on(server.json(params, &shown)))
}

async fn services_of<A: Api>(
    server: &Server<A>,
    params: &Params,
    node: String,
) -> Result<(Option<ServicesOfNode>, Headers), Error> {
    let node = named(node, "Missing node name")?;
    let query = with_central_config(params, Query::NodeServices { node });
    match read(server, params, query).await? {
        (Answer::NodeServices(found), headers) => Ok((found, headers)),
        _ => Err(unexpected()),
    }
}

/// Writes a node, a service, checks.
pub(super) async fn register<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let body: Registration = json::decode(&body)?;
    let server = &named_in_body(server, &request.params, &body.datacenter);
    let command = body.into_command(server.datacenter())?;
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
    let server = &named_in_body(server, &request.params, &datacenter);
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

/// Where a body belongs that names a datacenter. What the request itself says counts more.
fn named_in_body<A: Api>(server: &Server<A>, params: &Params, datacenter: &str) -> Server<A> {
    match (params.given("dc"), datacenter) {
        (Some(_), _) | (None, "") => server.at(server.datacenter()),
        (None, datacenter) => server.at(datacenter),
    }
}

/// `?node-meta=key:value`, repeatable.
pub(super) fn node_meta(params: &Params) -> BTreeMap<String, String> {
    let pairs = params.all("node-meta");
    let pairs = pairs.map(|pair| pair.split_once(':').unwrap_or((pair, "")));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// `?merge-central-config`: proxies and gateways are shown with what the config entries say of them.
pub(super) fn with_central_config(params: &Params, query: Query) -> Query {
    match params.has("merge-central-config") {
        true => query.merged(),
        false => query,
    }
}

/// `?tag=`, repeatable.
pub(super) fn tags(params: &Params) -> Vec<String> {
    let tags = params.all("tag").filter(|tag| !tag.is_empty());
    tags.map(str::to_owned).collect()
}

pub(super) fn has_meta(node: &Node, meta: &BTreeMap<String, String>) -> bool {
    meta.iter().all(|(k, v)| node.meta.get(k) == Some(v))
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
