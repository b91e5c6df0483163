//! `/v1/discovery-chain`, `/v1/exported-services`, `/v1/internal/service-virtual-ip`, and what gateways stand for.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::blocking::{check_scope, read};
use super::body::Response;
use super::catalog::{named, unexpected};
use super::error::Error;
use super::json;
use super::request::Request;
use super::{Api, Server};
use crate::duration;
use crate::entries::chain::ChainRequest;
use crate::entries::gateways::GatewayService;
use crate::state::{Answer, Command, Outcome, Query, VirtualStep};

/// Most addresses that somebody may give a service. Consul's.
const MANUAL_MAX: usize = 8;

/// What a service's chain is compiled to, for a caller that may say what it takes it for.
pub(super) async fn chain<A: Api>(
    server: &Server<A>,
    mut request: Request,
    name: String,
) -> Result<Response, Error> {
    let service = named(name, "Missing chain name")?;
    let datacenter = request.params.given("compile-dc").map(str::to_owned);
    let mut wanted = ChainRequest {
        service,
        datacenter: datacenter.unwrap_or_else(|| server.settings().datacenter.clone()),
        ..ChainRequest::default()
    };
    if request.method == "POST" {
        check_scope(server.settings(), &request.params)?;
        let body = request.body(server.settings().kv_max_value_size).await?;
        overrides(&body, &mut wanted)?;
    }
    let params = &request.params;
    let (answer, headers) = read(server, params, Query::Chain(Box::new(wanted))).await?;
    let Answer::Chain(compiled) = answer else {
        return Err(unexpected());
    };
    let text = compiled
        .map_err(|why| Error::internal(format!("failed to compile discovery chain: {why}")))?;
    let shown: Value = serde_json::from_str(&text).map_err(|_| unexpected())?;
    Ok(headers.on(server.json(params, &shown)))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Overrides {
    overridemeshgateway: Gateway,
    overrideprotocol: String,
    overrideconnecttimeout: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Gateway {
    mode: String,
}

fn overrides(body: &[u8], wanted: &mut ChainRequest) -> Result<(), Error> {
    let undecodable = |why| Error::bad_request(format!("Request decoding failed: {why}"));
    let body: Overrides = json::parse(body).map_err(undecodable)?;
    let mode = body.overridemeshgateway.mode;
    if !matches!(mode.as_str(), "" | "none" | "local" | "remote") {
        return Err(Error::bad_request(
            "Invalid OverrideMeshGateway.Mode parameter",
        ));
    }
    let time = match &body.overrideconnecttimeout {
        Value::Null => Some(Duration::ZERO),
        Value::String(text) if text.is_empty() => Some(Duration::ZERO),
        Value::String(text) => duration::parse(text).ok(),
        Value::Number(nanos) => nanos.as_u64().map(Duration::from_nanos),
        _ => None,
    };
    wanted.connect_timeout = time.ok_or_else(|| {
        undecodable("OverrideConnectTimeout must be a duration, such as \"5s\"".to_owned())
    })?;
    wanted.mesh_gateway = mode;
    wanted.protocol = body.overrideprotocol.to_lowercase();
    Ok(())
}

/// Services that a gateway stands for.
pub(super) async fn gateway_services<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    let gateway = named(name, "Missing gateway name")?;
    let (answer, headers) = read(server, params, Query::GatewayServices { gateway }).await?;
    let Answer::GatewayServices(found) = answer else {
        return Err(unexpected());
    };
    let shown: Vec<_> = found.iter().map(GatewayView::of).collect();
    Ok(headers.on(server.json(params, &shown)))
}

/// An entry of `/v1/catalog/gateway-services/`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GatewayView<'a> {
    gateway: Named<'a>,
    service: Named<'a>,
    gateway_kind: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    port: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    protocol: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    hosts: &'a [String],
    #[serde(rename = "CAFile", skip_serializing_if = "str::is_empty")]
    ca_file: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cert_file: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    key_file: &'a str,
    #[serde(rename = "SNI", skip_serializing_if = "str::is_empty")]
    sni: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    from_wildcard: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    service_kind: &'a str,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'a> {
    name: &'a str,
}

fn is_zero(port: &u16) -> bool {
    *port == 0
}

impl<'a> GatewayView<'a> {
    fn of(row: &'a GatewayService) -> Self {
        Self {
            gateway: Named { name: &row.gateway },
            service: Named { name: &row.service },
            gateway_kind: &row.kind,
            port: row.port,
            protocol: &row.protocol,
            hosts: &row.hosts,
            ca_file: &row.ca_file,
            cert_file: &row.cert_file,
            key_file: &row.key_file,
            sni: &row.sni,
            from_wildcard: row.from_wildcard,
            service_kind: &row.service_kind,
            create_index: row.create_index,
            modify_index: row.modify_index,
        }
    }
}

/// Services that others may reach, with who may.
pub(super) async fn exported<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let params = &request.params;
    let (answer, headers) = read(server, params, Query::ExportedServices).await?;
    let Answer::ExportedServices(found) = answer else {
        return Err(unexpected());
    };
    let shown: Vec<_> = found
        .iter()
        .map(|(service, peers)| json!({"Service": service, "Consumers": {"Peers": peers}}))
        .collect();
    Ok(headers.on(server.json(params, &shown)))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Assignment {
    service: String,
    manualvips: Vec<String>,
}

/// Gives a service further addresses that stand for it.
pub(super) async fn assign<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let Assignment {
        service,
        manualvips: addresses,
    } = json::decode(&body)?;
    let service = named(service, "Missing service name")?;
    if addresses.len() > MANUAL_MAX {
        return Err(Error::bad_request(format!(
            "cannot associate more than {MANUAL_MAX} manual virtual IPs with the same service"
        )));
    }
    let mut seen: Vec<String> = Vec::new();
    for address in &addresses {
        let parsed: Ipv4Addr = address
            .parse()
            .map_err(|_| Error::bad_request(format!("{address:?} is not a valid IPv4 address")))?;
        let parsed = parsed.to_string();
        if seen.contains(&parsed) {
            return Err(Error::bad_request(format!(
                "duplicate manual ip found: {parsed:?}"
            )));
        }
        seen.push(parsed);
    }
    let step = VirtualStep::Assign {
        service,
        addresses: seen,
    };
    let Outcome::Virtual { found, taken_from } = server.apply(Command::Virtual(step)).await? else {
        return Err(unexpected());
    };
    let from: Vec<_> = taken_from
        .iter()
        .map(|service| json!({"ServiceName": {"Name": service}, "Peer": ""}))
        .collect();
    let shown = json!({"Found": found, "UnassignedFrom": from});
    Ok(server.json(&request.params, &shown))
}
