//! `/v1/agent/`

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::StreamExt as _;
use hyper::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::body::{Body, Response, Value, empty};
use super::catalog::named;
use super::error::Error;
use super::filtered::Chosen;
use super::request::{Params, Request};
use super::{Api, Server, host};
use crate::acl::Resource;
use crate::coordinate::Coordinate;
use crate::filter::schema;
use crate::gossip::{JoinError, Member};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SelfView<'a> {
    config: ConfigView<'a>,
    debug_config: &'a serde_json::Value,
    coord: Coordinate,
    member: MemberView,
    stats: BTreeMap<String, BTreeMap<String, String>>,
    meta: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigView<'a> {
    datacenter: &'a str,
    primary_datacenter: &'a str,
    node_name: &'a str,
    #[serde(rename = "NodeID")]
    node_id: Uuid,
    revision: &'a str,
    server: bool,
    version: &'a str,
    build_date: &'a str,
}

/// A member with the protocol numbers of the version of Consul that we speak like.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemberView {
    name: String,
    addr: String,
    port: u16,
    tags: BTreeMap<String, String>,
    status: u8,
    protocol_min: u8,
    protocol_max: u8,
    protocol_cur: u8,
    delegate_min: u8,
    delegate_max: u8,
    delegate_cur: u8,
}

impl MemberView {
    fn of(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            addr: member.addr.ip().to_string(),
            port: member.addr.port(),
            tags: member.tags.to_map(),
            status: member.status as u8,
            protocol_min: 1,
            protocol_max: 5,
            protocol_cur: 2,
            delegate_min: 2,
            delegate_max: 5,
            delegate_cur: 4,
        }
    }
}

/// What this agent is.
pub(super) fn self_<A: Api>(server: &Server<A>, request: &Request) -> Response {
    let settings = server.settings();
    let view = SelfView {
        config: ConfigView {
            datacenter: &settings.datacenter,
            primary_datacenter: &settings.primary_datacenter,
            node_name: &settings.node_name,
            node_id: settings.node_id,
            revision: settings.build.revision,
            server: settings.server,
            version: settings.build.version,
            build_date: settings.build.date,
        },
        debug_config: &settings.debug_config,
        coord: server.api().coordinate(),
        member: MemberView::of(&server.api().local_member()),
        stats: server.api().info(),
        meta: server.api().meta(),
    };
    server.json(&request.params, &view)
}

/// What gossip knows.
pub(super) fn members<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let chosen = Chosen::by(&request.params, &schema::MEMBER)?;
    let members = match is_wan(&request.params) {
        true => server.api().wan_members(),
        false => server.api().members(),
    };
    let seen =
        |member: &&std::sync::Arc<Member>| server.sees(Resource::Node, node_of(&member.name));
    let shown = members.iter().filter(seen);
    let members = chosen.of(shown.map(|member| MemberView::of(member)));
    Ok(server.json(&request.params, &members))
}

/// The node's name of a member; those of the pool of all datacenters have theirs behind it.
fn node_of(member: &str) -> &str {
    member.split('.').next().unwrap_or(member)
}

/// Joins the pool of an address.
pub(super) async fn join<A: Api>(
    server: &Server<A>,
    request: &Request,
    address: String,
) -> Result<Response, Error> {
    let address = named(address, "Missing address")?;
    let joined = match is_wan(&request.params) {
        true => server.api().join_wan(&address).await,
        false => server.api().join(&address).await,
    };
    joined.map_err(|error| {
        let at = match &error {
            JoinError::NoPool(why) => return Error::internal(*why),
            JoinError::Resolve { address, .. } => address.clone(),
            JoinError::Connect { address, .. }
            | JoinError::Protocol { address, .. }
            | JoinError::Refused { address, .. } => address.to_string(),
        };
        // The form in which Consul lists failures, though there is only one.
        Error::internal(format!(
            "1 error occurred:\n\t* Failed to join {at}: {error}\n\n"
        ))
    })?;
    Ok(empty(StatusCode::OK))
}

/// Leaves gracefully; the answer comes when the leave is over.
pub(super) async fn leave<A: Api>(server: &Server<A>) -> Result<Response, Error> {
    server.api().leave().await?;
    Ok(empty(StatusCode::OK))
}

/// Turns a failed member into one that left.
pub(super) async fn force_leave<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let name = named(name, "Missing node name")?;
    let prune = request.params.has("prune");
    match is_wan(&request.params) {
        true => server.api().force_leave_wan(&name, prune).await?,
        false => server.api().force_leave(&name, prune).await?,
    }
    Ok(empty(StatusCode::OK))
}

/// Reads the configuration again.
pub(super) fn reload<A: Api>(server: &Server<A>) -> Result<Response, Error> {
    server.process().reload().map_err(Error::internal)?;
    Ok(empty(StatusCode::OK))
}

/// What was counted and measured lately.
pub(super) fn metrics<A: Api>(server: &Server<A>, request: &Request) -> Response {
    for (name, value) in server.api().gauges() {
        server.metrics().gauge(name, &[], value);
    }
    if request.params.get("format") != Some("prometheus") {
        return server.json(&request.params, &server.metrics().summary());
    }
    match server.metrics().prometheus() {
        Some(text) => {
            let mut response = super::body::text(StatusCode::OK, text);
            let kind = Value::Static("text/plain; version=0.0.4; charset=utf-8");
            response.set("Content-Type", kind);
            response
        }
        None => {
            let mut response = empty(StatusCode::OK);
            let why = "Prometheus is not enabled since its retention time is not positive";
            response.set("X-Consul-Reason", Value::Static(why));
            response
        }
    }
}

/// [`metrics`], again and again: at once, then at the end of each window.
pub(super) fn metrics_stream<A: Api>(server: &Server<A>) -> Response {
    let (metrics, gauges) = (server.shared_metrics(), server.api().later_gauges());
    let state = (metrics, gauges, true);
    let lines = futures::stream::unfold(state, |(metrics, gauges, first)| async move {
        if !first {
            tokio::time::sleep(metrics.until_next_window()).await;
        }
        for (name, value) in gauges() {
            metrics.gauge(name, &[], value);
        }
        let mut line = serde_json::to_vec(&metrics.summary()).ok()?;
        line.push(b'\n');
        Some((Bytes::from(line), (metrics, gauges, false)))
    });
    let lines = lines.take_until(server.shutdown().clone().cancelled_owned());
    let mut response = Response::new(StatusCode::OK, Body::Stream(lines.boxed()));
    response.set("Content-Type", Value::Static("application/json"));
    response
}

/// The machine.
pub(super) fn host<A: Api>(server: &Server<A>, request: &Request) -> Response {
    server.json(&request.params, &host::collect(server.unix_ms()))
}

/// Whether this agent takes its full part: 200 `ready`, or 503 and the reason. Consul has no such path.
pub(super) fn ready<A: Api>(server: &Server<A>) -> Response {
    match server.api().not_ready() {
        None => super::body::text(StatusCode::OK, "ready".to_owned()),
        Some(why) => super::body::text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// What was built, and when.
pub(super) fn version<A: Api>(server: &Server<A>, request: &Request) -> Response {
    #[derive(Serialize)]
    struct Version<'a> {
        #[serde(rename = "SHA")]
        revision: &'a str,
        #[serde(rename = "BuildDate")]
        build_date: &'a str,
        #[serde(rename = "HumanVersion")]
        version: &'a str,
        #[serde(rename = "FIPS")]
        fips: &'a str,
    }
    let settings = server.settings();
    let version = Version {
        revision: settings.build.revision,
        build_date: settings.build.date,
        version: settings.build.version,
        fips: "",
    };
    server.json(&request.params, &version)
}

/// The log as it is written.
pub(super) fn monitor<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let asked = request.params.given("loglevel").unwrap_or("INFO");
    let level =
        level(asked).ok_or_else(|| Error::bad_request(format!("Unknown log level: {asked}")))?;
    let lines = server
        .process()
        .follow_log(level, request.params.is_set("logjson"));
    let lines = lines.take_until(server.shutdown().clone().cancelled_owned());
    let mut response = Response::new(StatusCode::OK, Body::Stream(lines.boxed()));
    let kind = Value::Static("text/plain; charset=utf-8");
    response.set("Content-Type", kind);
    Ok(response)
}

fn level(text: &str) -> Option<tracing::Level> {
    Some(match text.to_ascii_uppercase().as_str() {
        "TRACE" => tracing::Level::TRACE,
        "DEBUG" => tracing::Level::DEBUG,
        "INFO" => tracing::Level::INFO,
        "WARN" => tracing::Level::WARN,
        "ERR" | "ERROR" => tracing::Level::ERROR,
        _ => return None,
    })
}

/// Whether the pool that the servers of all datacenters form is meant.
fn is_wan(params: &Params) -> bool {
    params.is_set("wan")
}
