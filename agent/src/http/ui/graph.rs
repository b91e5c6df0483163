//! What Consul's pages draw of the mesh: what is around a service, and what is behind a gateway.

use std::collections::BTreeMap;

use futures::future::ready;
use serde::Serialize;

use super::summary::{Summary, summaries};
use crate::entries::gateways::{GatewayService, INGRESS};
use crate::entries::intentions::{self, Intention};
use crate::entries::topology::{Asked, Decision, Source};
use crate::http::blocking::{Headers, Shown, read_and_show};
use crate::http::catalog::{named, unexpected};
use crate::http::error::Error;
use crate::http::request::{Params, Request};
use crate::http::{Api, Server};
use crate::state::{Answer, Behind, GraphAnswer, GraphQuery, Query, Side, Surroundings};

/// Services that a service connects to, and those that connect to it.
pub(in crate::http) fn topology<A: Api>(
    server: &Server<A>,
    request: Request,
    name: String,
) -> Shown<'_> {
    let params = request.params;
    let default_allow = server.settings().default_policy == "allow";
    let asked = named(name, "Missing service name").and_then(|service| {
        let asked = Asked {
            ingress: is_ingress(params.get("kind"))?,
            default_allow,
            service,
        };
        Ok((Query::Graph(GraphQuery::Topology(asked)), ()))
    });
    read_and_show(server, params, asked, show_topology)
}

/// Whether a kind is that of ingress gateways; the only other one that can be drawn is the empty one.
fn is_ingress(kind: Option<&str>) -> Result<bool, Error> {
    match kind {
        Some("") => Ok(false),
        Some(INGRESS) => Ok(true),
        Some(other) => Err(Error::bad_request(format!(
            "Unsupported service kind {other:?}"
        ))),
        None => Err(Error::bad_request("Missing service kind")),
    }
}

fn show_topology<A: Api>(
    server: &Server<A>,
    params: Params,
    (): (),
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    let shown = match answer {
        Answer::Graph(GraphAnswer::Topology(found)) => {
            let view = TopologyView::of(&found, server.datacenter(), headers.is_filtered());
            Ok(headers.on(server.json(&params, &view)))
        }
        _ => Err(unexpected()),
    };
    Box::pin(ready(shown))
}

/// The answer of `/v1/internal/ui/service-topology/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TopologyView<'a> {
    protocol: &'a str,
    transparent_proxy: bool,
    upstreams: Vec<LinkView<'a>>,
    downstreams: Vec<LinkView<'a>>,
    #[serde(rename = "FilteredByACLs")]
    filtered_by_acls: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LinkView<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    source: &'static str,
    intention: IntentionView<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IntentionView<'a> {
    default_allow: bool,
    allowed: bool,
    has_permissions: bool,
    external_source: &'a str,
    has_exact: bool,
}

impl<'a> TopologyView<'a> {
    fn of(found: &'a Surroundings, datacenter: &'a str, filtered_by_acls: bool) -> Self {
        Self {
            protocol: &found.protocol,
            transparent_proxy: found.transparent,
            upstreams: links(&found.upstreams, datacenter),
            downstreams: links(&found.downstreams, datacenter),
            filtered_by_acls,
        }
    }
}

/// Those with instances by name, then those that only lead to others.
fn links<'a>(side: &'a Side, datacenter: &'a str) -> Vec<LinkView<'a>> {
    let summed = summaries(side.instances.iter()).into_values();
    let mut summed: BTreeMap<String, Summary<'a>> = summed
        .map(|summary| (summary.name.to_lowercase(), summary))
        .collect();
    let (mut shown, mut routes) = (Vec::new(), Vec::new());
    for link in &side.links {
        let view = |summary| LinkView {
            summary,
            source: link.source.as_str(),
            intention: IntentionView::of(&link.decision),
        };
        match summed.remove(&link.name.to_lowercase()) {
            // Other proxies and gateways are no places of their own.
            Some(summary) if !["", INGRESS].contains(&summary.kind) => {}
            Some(summary) => shown.push(view(summary)),
            None if link.source == Source::Routing => {
                let mut summary = Summary::of(&link.name);
                summary.datacenter = datacenter;
                routes.push(view(summary));
            }
            // All its instances are hidden from whoever asks.
            None => {}
        }
    }
    shown.extend(routes);
    shown
}

impl<'a> IntentionView<'a> {
    fn of(decision: &'a Decision) -> Self {
        Self {
            default_allow: decision.default_allow,
            allowed: decision.allowed,
            has_permissions: decision.has_permissions,
            external_source: &decision.external_source,
            has_exact: decision.has_exact,
        }
    }
}

/// Services that a gateway stands for, with how they are reached through it.
pub(in crate::http) fn gateway_services<A: Api>(
    server: &Server<A>,
    request: Request,
    name: String,
) -> Shown<'_> {
    let asked = named(name, "Missing gateway name")
        .map(|gateway| (Query::Graph(GraphQuery::Gateway { gateway }), ()));
    read_and_show(server, request.params, asked, show_gateway_services)
}

fn show_gateway_services<A: Api>(
    server: &Server<A>,
    params: Params,
    (): (),
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    let shown = match answer {
        Answer::Graph(GraphAnswer::Gateway(found)) => {
            let datacenter = server.datacenter();
            let domains = &server.settings().dns_domains;
            let shown = found.iter().map(|one| behind(one, datacenter, domains));
            Ok(headers.on(server.json(&params, &shown.collect::<Vec<_>>())))
        }
        _ => Err(unexpected()),
    };
    Box::pin(ready(shown))
}

fn behind<'a>(one: &'a Behind, datacenter: &str, domains: &[String]) -> Summary<'a> {
    let mut summary = Summary::of(&one.service);
    for instance in &one.instances {
        summary.add(instance);
    }
    let known = &mut summary.gateway_config.addresses;
    for said in &one.said {
        for address in addresses(said, datacenter, domains) {
            if !known.contains(&address) {
                known.push(address);
            }
        }
    }
    summary
}

/// Names with ports at which a gateway takes connections to a service; none where only its proxies know the port.
fn addresses(said: &GatewayService, datacenter: &str, domains: &[String]) -> Vec<String> {
    let GatewayService {
        service,
        port,
        hosts,
        ..
    } = said;
    if *port == 0 {
        return Vec::new();
    }
    let name = |domain: &String| format!("{service}.ingress.{datacenter}.{domain}");
    let hosts: Vec<String> = match hosts.is_empty() {
        true => domains.iter().map(name).collect(),
        false => hosts.clone(),
    };
    let address = |host: &String| format!("{}:{port}", host.trim_end_matches('.'));
    hosts.iter().map(address).collect()
}

/// Intentions that decide who may connect to the services that a gateway stands for.
pub(in crate::http) fn gateway_intentions<A: Api>(
    server: &Server<A>,
    request: Request,
    name: String,
) -> Shown<'_> {
    let asked = named(name, "Missing gateway name")
        .map(|gateway| (Query::Graph(GraphQuery::Intentions { gateway }), ()));
    read_and_show(server, request.params, asked, show_gateway_intentions)
}

fn show_gateway_intentions<A: Api>(
    server: &Server<A>,
    params: Params,
    (): (),
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    let shown = match answer {
        Answer::Entries(entries) => {
            let found = intentions::all(&entries);
            let shown: Vec<_> = found.iter().map(Intention::show).collect();
            Ok(headers.on(server.json(&params, &shown)))
        }
        _ => Err(unexpected()),
    };
    Box::pin(ready(shown))
}
