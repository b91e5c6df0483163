//! `/v1/internal/ui/`: what Consul's web pages ask for, and tools that want a whole datacenter at once.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::ready;
use hyper::StatusCode;
use serde::Serialize;

use super::blocking::{Headers, Shown, read_and_show, read_more};
use super::body::empty;
use super::catalog::{named, unexpected};
use super::error::Error;
use super::filtered::Chosen;
use super::request::{Params, Request};
use super::views::{HealthView, NodeInfoView};
use super::{Api, Server};
use crate::entries::gateways::{API, INGRESS, TERMINATING};
use crate::filter::schema;
use crate::state::{Answer, CheckStatus, NodeInfo, Query, ServiceHealth};

pub(super) mod graph;
mod summary;

use summary::{Summary, summaries};

/// All nodes with their services and checks.
pub(super) fn nodes<A: Api>(server: &Server<A>, request: Request) -> Shown<'_> {
    let params = request.params;
    let asked = Chosen::by(&params, &schema::NODE_INFO)
        .map(|chosen| (Query::NodeInfos { node: None }, chosen));
    read_and_show(server, params, asked, show_nodes)
}

fn show_nodes<A: Api>(
    server: &Server<A>,
    params: Params,
    chosen: Chosen,
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    let shown = infos(answer).map(|infos| {
        let versions = versions(server);
        let shown = infos.iter().map(|info| view(info, &versions));
        headers.on(server.json(&params, &chosen.of(shown)))
    });
    Box::pin(ready(shown))
}

/// One node with its services and checks.
pub(super) fn node<A: Api>(server: &Server<A>, request: Request, name: String) -> Shown<'_> {
    let asked =
        named(name, "Missing node name").map(|node| (Query::NodeInfos { node: Some(node) }, ()));
    read_and_show(server, request.params, asked, show_node)
}

fn show_node<A: Api>(
    server: &Server<A>,
    params: Params,
    (): (),
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    let shown = infos(answer).map(|infos| {
        headers.on(match infos.first() {
            Some(info) => server.json(&params, &view(info, &versions(server))),
            None => empty(StatusCode::NOT_FOUND),
        })
    });
    Box::pin(ready(shown))
}

fn infos(answer: Answer) -> Result<Vec<NodeInfo>, Error> {
    match answer {
        Answer::NodeInfos(infos) => Ok(infos),
        _ => Err(unexpected()),
    }
}

/// What gossip says of who runs which version, by address.
fn versions<A: Api>(server: &Server<A>) -> BTreeMap<String, String> {
    let (lan, wan) = (server.api().members(), server.api().wan_members());
    let members = wan.iter().chain(&lan);
    members
        .filter_map(|member| {
            // The tag is `VERSION:REVISION`.
            let version = member.tags.get("build")?.split(':').next()?;
            Some((member.addr.ip().to_string(), version.to_owned()))
        })
        .collect()
}

fn view<'a>(info: &'a NodeInfo, versions: &BTreeMap<String, String>) -> NodeInfoView<'a> {
    let version = versions.get(&info.node.address);
    NodeInfoView::of(info, version.map(String::as_str))
}

/// All services with what is to be said of each in a list. A filter is asked about each instance.
pub(super) fn services<A: Api>(server: &Server<A>, request: Request) -> Shown<'_> {
    let params = request.params;
    let asked = Chosen::by(&params, &schema::SERVICE_HEALTH)
        .map(|chosen| (Query::NodeInfos { node: None }, chosen));
    read_and_show(server, params, asked, show_services)
}

fn show_services<A: Api>(
    server: &Server<A>,
    params: Params,
    chosen: Chosen,
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    Box::pin(async move {
        let infos = infos(answer)?;
        let instances: Vec<_> = infos.iter().flat_map(instances).collect();
        let instances = instances
            .iter()
            .filter(|one| chosen.is_everything() || chosen.shows(&HealthView::of(one)));
        let mut services = summaries(instances);
        let mut behind_gateway = BTreeSet::new();
        let is_gateway =
            |summary: &&Summary<'_>| [API, INGRESS, TERMINATING].contains(&summary.kind);
        let gateways = services.values().filter(is_gateway);
        let gateways: Vec<_> = gateways.map(|summary| summary.name.to_owned()).collect();
        for gateway in gateways {
            let query = Query::GatewayServices {
                gateway: gateway.clone(),
            };
            let Answer::GatewayServices(linked) = read_more(server, &params, query).await? else {
                return Err(unexpected());
            };
            if let Some(summary) = services.get_mut(gateway.as_str()) {
                summary.gateway_config.associated_service_count = linked.len();
            }
            behind_gateway.extend(linked.into_iter().map(|one| one.service));
        }
        let shown = services.values().map(|summary| Listed {
            summary,
            connected_with_proxy: summary.has_proxy,
            connected_with_gateway: summary.instance_count > 0
                && behind_gateway.contains(summary.name),
        });
        let shown: Vec<_> = shown.collect();
        Ok(headers.on(server.json(&params, &shown)))
    })
}

/// An entry of `/v1/internal/ui/services`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'a> {
    #[serde(flatten)]
    summary: &'a Summary<'a>,
    connected_with_proxy: bool,
    connected_with_gateway: bool,
}

/// A node's instances, each with the checks that decide on its health.
fn instances(info: &NodeInfo) -> impl Iterator<Item = ServiceHealth> {
    info.services.iter().map(|service| {
        let checks = info.checks.iter();
        let checks = checks.filter(|c| c.service_id.is_empty() || c.service_id == service.id);
        ServiceHealth {
            node: info.node.clone(),
            service: service.clone(),
            checks: checks.cloned().collect(),
        }
    })
}

/// How many nodes, instances and checks are well.
pub(super) fn overview<A: Api>(server: &Server<A>, request: Request) -> Shown<'_> {
    let asked = Ok((Query::NodeInfos { node: None }, ()));
    read_and_show(server, request.params, asked, show_overview)
}

fn show_overview<A: Api>(
    server: &Server<A>,
    params: Params,
    (): (),
    answer: Answer,
    headers: Headers,
) -> Shown<'_> {
    let shown = infos(answer).map(|infos| headers.on(server.json(&params, &Overview::of(&infos))));
    Box::pin(ready(shown))
}

/// The answer of `/v1/internal/ui/catalog-overview`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Overview<'a> {
    /// One for all nodes; null without any.
    nodes: Option<[Health<'a>; 1]>,
    services: Option<Vec<Health<'a>>>,
    checks: Option<Vec<Health<'a>>>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    total: usize,
    passing: usize,
    warning: usize,
    critical: usize,
}

impl<'a> Overview<'a> {
    fn of(infos: &'a [NodeInfo]) -> Self {
        let mut nodes = Health::default();
        let (mut services, mut checks) = (BTreeMap::new(), BTreeMap::new());
        for info in infos {
            let worst = |id: &str| {
                let own = info.checks.iter().filter(|check| check.service_id == id);
                own.map(|check| check.status)
                    .max_by_key(|status| badness(*status))
            };
            nodes.add(worst("").unwrap_or(CheckStatus::Passing));
            for service in &info.services {
                let status = worst(&service.id).unwrap_or(CheckStatus::Passing);
                Health::named(&mut services, &service.service).add(status);
            }
            for check in &info.checks {
                Health::named(&mut checks, &check.name).add(check.status);
            }
        }
        let list = |all: BTreeMap<&'a str, Health<'a>>| {
            (!all.is_empty()).then(|| all.into_values().collect())
        };
        Self {
            nodes: (nodes.total > 0).then_some([nodes]),
            services: list(services),
            checks: list(checks),
        }
    }
}

impl<'a> Health<'a> {
    fn named<'s>(all: &'s mut BTreeMap<&'a str, Self>, name: &'a str) -> &'s mut Self {
        let new = || Self {
            name,
            ..Self::default()
        };
        all.entry(name).or_insert_with(new)
    }

    fn add(&mut self, status: CheckStatus) {
        self.total += 1;
        match status {
            CheckStatus::Passing => self.passing += 1,
            CheckStatus::Warning => self.warning += 1,
            CheckStatus::Critical => self.critical += 1,
        }
    }
}

fn badness(status: CheckStatus) -> u8 {
    match status {
        CheckStatus::Passing => 0,
        CheckStatus::Warning => 1,
        CheckStatus::Critical => 2,
    }
}
