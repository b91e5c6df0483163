//! `/v1/health/`

use std::sync::Arc;

use super::blocking::{Headers, Shown, read_and_show};
use super::catalog::{
    count_query, has_meta, named, node_meta, tags, unexpected, with_central_config,
};
use super::error::Error;
use super::filtered::Chosen;
use super::near::Near;
use super::request::{Params, Request};
use super::shared::Bodies;
use super::views::{HealthView, checks};
use super::{Api, Server};
use crate::filter::schema;
use crate::state::{Answer, Query};

/// Checks on a node.
pub(super) fn node<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    let query = named(name, "Missing node name").map(|node| Query::NodeChecks { node });
    list(server, request.params, query)
}

/// Checks of a service.
pub(super) fn service_checks<A: Api>(
    server: &Server<A>,
    request: Request,
    name: String,
) -> Shown<'_> {
    let meta = node_meta(&request.params);
    let query = named(name, "Missing service name").map(|service| match meta.is_empty() {
        true => Query::ServiceChecks { service },
        false => Query::ChecksWithMeta {
            service: Some(service),
            state: "any".to_owned(),
            meta,
        },
    });
    list(server, request.params, query)
}

/// Checks in a state.
pub(super) fn state<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    let meta = node_meta(&request.params);
    let query = named(name, "Missing check state").map(|state| match meta.is_empty() {
        true => Query::StateChecks { state },
        false => Query::ChecksWithMeta {
            service: None,
            state,
            meta,
        },
    });
    list(server, request.params, query)
}

fn list<A: Api>(server: &Server<A>, params: Params, query: Result<Query, Error>) -> Shown<'_> {
    let asked = query.and_then(|query| Ok((query, Chosen::by(&params, &schema::CHECK)?)));
    read_and_show(server, params, asked, show_checks)
}

fn show_checks<A: Api>(
    server: &Server<A>,
    params: Params,
    chosen: Chosen,
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    Box::pin(async move {
        let Answer::Checks(mut found) = answer else {
            return Err(unexpected());
        };
        let near = Near::by(server, &params).await?;
        near.sort(&mut found, |check| &check.node);
        Ok(headers.on(server.json(&params, &chosen.of(checks(&found)))))
    })
}

/// Instances of a service with their health.
pub(super) fn service<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    count_query(server, "health.service", &request.params, &name);
    instances(server, request, name, |service, tags, passing| {
        Query::ServiceHealth {
            service,
            tags,
            passing,
        }
    })
}

/// Those at which connections to a service through the mesh end, with their health.
pub(super) fn connect<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    count_query(server, "health.connect", &request.params, &name);
    instances(server, request, name, |service, tags, passing| {
        Query::MeshHealth {
            service,
            tags,
            passing,
        }
    })
}

/// Ingress gateways that stand for a service, with their health.
pub(super) fn ingress<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    count_query(server, "health.ingress", &request.params, &name);
    instances(server, request, name, |service, tags, passing| {
        Query::IngressHealth {
            service,
            tags,
            passing,
        }
    })
}

fn instances<A: Api>(
    server: &Server<A>,
    request: Request,
    name: String,
    query: impl FnOnce(String, Vec<String>, bool) -> Query,
) -> Shown<'_> {
    let params = request.params;
    let asked = named(name, "Missing service name").and_then(|service| {
        let chosen = Chosen::by(&params, &schema::SERVICE_HEALTH)?;
        let query = query(service, tags(&params), params.is_set("passing"));
        let shares = params.given("index").is_some() && chosen.is_everything();
        let bodies = shares.then(|| server.shared_bodies());
        Ok((with_central_config(&params, query), (chosen, bodies)))
    });
    read_and_show(server, params, asked, show_instances)
}

fn show_instances<A: Api>(
    server: &Server<A>,
    params: Params,
    (chosen, bodies): (Chosen, Option<Arc<Bodies>>),
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    Box::pin(async move {
        let Answer::ServiceHealth(mut found) = answer else {
            return Err(unexpected());
        };
        let near = Near::by(server, &params).await?;
        near.sort(&mut found, |entry| &entry.node.node);
        let meta = node_meta(&params);
        if !meta.is_empty() {
            found.retain(|entry| has_meta(&entry.node, &meta));
        }
        let make = |found: &[_]| {
            let shown = chosen.of(found.iter().map(HealthView::of));
            server.json(&params, &shown)
        };
        let response = match bodies {
            Some(bodies) => bodies.of(found, server.is_pretty(&params), make),
            None => make(&found),
        };
        Ok(headers.on(response))
    })
}
