//! `/v1/catalog/`

pub(super) mod bodies;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::ready;

use super::blocking::{Headers, Shown, check_scope, read_and_show};
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
pub(super) fn nodes<A: Api>(server: &Server<A>, request: Request) -> Shown<'_> {
    let params = request.params;
    let asked = Chosen::by(&params, &schema::NODE).map(|chosen| {
        let meta = node_meta(&params);
        (Query::Nodes { meta }, chosen)
    });
    read_and_show(server, params, asked, show_nodes)
}

fn show_nodes<A: Api>(
    server: &Server<A>,
    params: Params,
    chosen: Chosen,
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    Box::pin(async move {
        let Answer::Nodes(mut nodes) = answer else {
            return Err(unexpected());
        };
        let near = Near::by(server, &params).await?;
        near.sort(&mut nodes, |node| &node.node);
        Ok(headers.on(server.json(&params, &chosen.of(&nodes))))
    })
}

/// Names of services with their tags. A filter is asked about each instance.
pub(super) fn services<A: Api>(server: &Server<A>, request: Request) -> Shown<'_> {
    let params = request.params;
    let asked = Chosen::by(&params, &schema::SERVICE_NODE).map(|chosen| {
        let meta = node_meta(&params);
        let query = match chosen.is_everything() {
            true => Query::Services { meta },
            false => Query::Instances { meta },
        };
        (query, chosen)
    });
    read_and_show(server, params, asked, show_services)
}

fn show_services<A: Api>(
    server: &Server<A>,
    params: Params,
    chosen: Chosen,
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    let response = match &answer {
        Answer::Services(services) => server.json(&params, services),
        Answer::ServiceNodes(instances) => {
            let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for entry in instances {
                if chosen.shows(&CatalogService::of(entry)) {
                    let tags = names.entry(&entry.service.service).or_default();
                    tags.extend(entry.service.tags.iter().map(String::as_str));
                }
            }
            server.json(&params, &names)
        }
        _ => return Box::pin(ready(Err(unexpected()))),
    };
    Box::pin(ready(Ok(headers.on(response))))
}

/// Instances of a service.
pub(super) fn service<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    count_query(server, "catalog.service", &request.params, &name);
    instances(server, request, name, |service, tags| Query::ServiceNodes {
        service,
        tags,
    })
}

/// Those at which connections to a service through the mesh end.
pub(super) fn connect<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    count_query(server, "catalog.connect", &request.params, &name);
    instances(server, request, name, |service, tags| Query::MeshHealth {
        service,
        tags,
        passing: false,
    })
}

/// Counts a question for a service, as Consul's servers do; here it is the agent that was asked.
pub(super) fn count_query<A: Api>(
    server: &Server<A>,
    family: &str,
    params: &Params,
    service: &str,
) {
    if service.is_empty() {
        return;
    }
    let metrics = server.metrics();
    metrics.count_named(&format!("{family}.query"), &[("service", service)]);
    let mut tags: Vec<_> = params.all("tag").collect();
    if !tags.is_empty() {
        // In one order, whatever the request's; and in one label, for Prometheus takes no two of a name.
        tags.sort_unstable();
        let labels = [("service", service), ("tag", &*tags.join(","))];
        metrics.count_named(&format!("{family}.query-tags"), &labels);
    }
}

fn instances<A: Api>(
    server: &Server<A>,
    request: Request,
    name: String,
    query: impl FnOnce(String, Vec<String>) -> Query,
) -> Shown<'_> {
    let params = request.params;
    let asked = Chosen::by(&params, &schema::SERVICE_NODE).and_then(|chosen| {
        let query = query(named(name, "Missing service name")?, tags(&params));
        Ok((with_central_config(&params, query), chosen))
    });
    read_and_show(server, params, asked, show_instances)
}

fn show_instances<A: Api>(
    server: &Server<A>,
    params: Params,
    chosen: Chosen,
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    Box::pin(async move {
        let mut found = match answer {
            Answer::ServiceNodes(found) => found,
            Answer::ServiceHealth(found) => found
                .into_iter()
                .map(|ServiceHealth { node, service, .. }| ServiceNode { node, service })
                .collect(),
            _ => return Err(unexpected()),
        };
        let near = Near::by(server, &params).await?;
        near.sort(&mut found, |entry| &entry.node.node);
        let meta = node_meta(&params);
        let found = found.iter().filter(|entry| has_meta(&entry.node, &meta));
        let found = chosen.of(found.map(CatalogService::of));
        Ok(headers.on(server.json(&params, &found)))
    })
}

/// A node with its services by id.
pub(super) fn node<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    services_of(
        server,
        request.params,
        name,
        |server, params, chosen, found| {
            let shows = |service: &NodeService<'_>| chosen.shows(service);
            let found = found.map(|found| NodeWithServiceMap::of(found, shows));
            server.json(params, &found)
        },
    )
}

/// A node with its services in a list.
pub(super) fn node_services<A: Api>(
    server: &Server<A>,
    request: Request,
    name: String,
) -> Shown<'_> {
    services_of(
        server,
        request.params,
        name,
        |server, params, chosen, found| {
            let shows = |service: &NodeService<'_>| chosen.shows(service);
            server.json(params, &NodeWithServices::of(found, shows))
        },
    )
}

/// What makes a response of a node's services.
type ShowServices<A> = fn(&Server<A>, &Params, &Chosen, Option<&ServicesOfNode>) -> Response;

fn services_of<A: Api>(
    server: &Server<A>,
    params: Params,
    node: String,
    show: ShowServices<A>,
) -> Shown<'_> {
    let asked = Chosen::by(&params, &schema::NODE_SERVICE).and_then(|chosen| {
        let node = named(node, "Missing node name")?;
        let query = with_central_config(&params, Query::NodeServices { node });
        Ok((query, (chosen, show)))
    });
    read_and_show(server, params, asked, show_services_of)
}

fn show_services_of<A: Api>(
    server: &Server<A>,
    params: Params,
    (chosen, show): (Chosen, ShowServices<A>),
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    let shown = match answer {
        Answer::NodeServices(found) => {
            Ok(headers.on(show(server, &params, &chosen, found.as_ref())))
        }
        _ => Err(unexpected()),
    };
    Box::pin(ready(shown))
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
