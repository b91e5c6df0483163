//! `/v1/health/`

use super::blocking::read;
use super::body::Response;
use super::catalog::{has_meta, named, no_filter, node_meta, tags, unexpected};
use super::error::Error;
use super::request::{Params, Request};
use super::views::{HealthView, checks};
use super::{Api, Server};
use crate::state::{Answer, Query};

/// Checks on a node.
pub(super) async fn node<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let node = named(name, "Missing node name")?;
    list(server, &request.params, Query::NodeChecks { node }).await
}

/// Checks of a service.
pub(super) async fn service_checks<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let service = named(name, "Missing service name")?;
    list(server, &request.params, Query::ServiceChecks { service }).await
}

/// Checks in a state.
pub(super) async fn state<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let state = named(name, "Missing check state")?;
    list(server, &request.params, Query::StateChecks { state }).await
}

async fn list<A: Api>(
    server: &Server<A>,
    params: &Params,
    query: Query,
) -> Result<Response, Error> {
    no_filter(params)?;
    if params.has("node-meta") {
        // Checks do not carry their node's meta data.
        return Err(Error::bad_request("?node-meta is not supported for checks"));
    }
    let (answer, headers) = read(server, params, query).await?;
    let Answer::Checks(found) = answer else {
        return Err(unexpected());
    };
    Ok(headers.on(server.json(params, &checks(&found))))
}

/// Instances of a service with their health.
pub(super) async fn service<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    no_filter(params)?;
    let query = Query::ServiceHealth {
        service: named(name, "Missing service name")?,
        tags: tags(params),
        passing: params.is_set("passing"),
    };
    let (answer, headers) = read(server, params, query).await?;
    let Answer::ServiceHealth(found) = answer else {
        return Err(unexpected());
    };
    let meta = node_meta(params);
    let found: Vec<_> = found
        .iter()
        .filter(|entry| has_meta(&entry.node, &meta))
        .map(HealthView::of)
        .collect();
    Ok(headers.on(server.json(params, &found)))
}
