//! `/v1/health/`

use super::blocking::read;
use super::body::Response;
use super::catalog::{has_meta, named, node_meta, tags, unexpected, with_central_config};
use super::error::Error;
use super::filtered::Chosen;
use super::near::Near;
use super::request::{Params, Request};
use super::views::{HealthView, checks};
use super::{Api, Server};
use crate::filter::schema;
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
    let meta = node_meta(&request.params);
    let query = match meta.is_empty() {
        true => Query::ServiceChecks { service },
        false => Query::ChecksWithMeta {
            service: Some(service),
            state: "any".to_owned(),
            meta,
        },
    };
    list(server, &request.params, query).await
}

/// Checks in a state.
pub(super) async fn state<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let state = named(name, "Missing check state")?;
    let meta = node_meta(&request.params);
    let query = match meta.is_empty() {
        true => Query::StateChecks { state },
        false => Query::ChecksWithMeta {
            service: None,
            state,
            meta,
        },
    };
    list(server, &request.params, query).await
}

async fn list<A: Api>(
    server: &Server<A>,
    params: &Params,
    query: Query,
) -> Result<Response, Error> {
    let chosen = Chosen::by(params, &schema::CHECK)?;
    let (answer, headers) = read(server, params, query).await?;
    let Answer::Checks(mut found) = answer else {
        return Err(unexpected());
    };
    let near = Near::by(server, params).await?;
    near.sort(&mut found, |check| &check.node);
    Ok(headers.on(server.json(params, &chosen.of(checks(&found)))))
}

/// Instances of a service with their health.
pub(super) async fn service<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    let query = Query::ServiceHealth {
        service: named(name, "Missing service name")?,
        tags: tags(params),
        passing: params.is_set("passing"),
    };
    instances(server, params, query).await
}

/// Those at which connections to a service through the mesh end, with their health.
pub(super) async fn connect<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    let query = Query::MeshHealth {
        service: named(name, "Missing service name")?,
        tags: tags(params),
        passing: params.is_set("passing"),
    };
    instances(server, params, query).await
}

/// Ingress gateways that stand for a service, with their health.
pub(super) async fn ingress<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    let query = Query::IngressHealth {
        service: named(name, "Missing service name")?,
        tags: tags(params),
        passing: params.is_set("passing"),
    };
    instances(server, params, query).await
}

async fn instances<A: Api>(
    server: &Server<A>,
    params: &Params,
    query: Query,
) -> Result<Response, Error> {
    let chosen = Chosen::by(params, &schema::SERVICE_HEALTH)?;
    let query = with_central_config(params, query);
    let (answer, headers) = read(server, params, query).await?;
    let Answer::ServiceHealth(mut found) = answer else {
        return Err(unexpected());
    };
    let near = Near::by(server, params).await?;
    near.sort(&mut found, |entry| &entry.node.node);
    let meta = node_meta(params);
    let found = found.iter().filter(|entry| has_meta(&entry.node, &meta));
    let found = chosen.of(found.map(HealthView::of));
    Ok(headers.on(server.json(params, &found)))
}
