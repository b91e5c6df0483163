//! `/v1/connect/ca` and `/v1/agent/connect`: roots, certificates of services, and who may connect.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::blocking::{check_scope, read, wait};
use super::body::{Body, Response, Value, empty};
use super::catalog::{named, unexpected};
use super::error::Error;
use super::intentions::{bare, list};
use super::request::{Params, Request};
use super::{Api, Server, json};
use crate::acl::{Access, Resource};
use crate::ca::{self, Leaf, Update, settings, spiffe};
use crate::entries::intentions;
use crate::go_bool;
use crate::state::{Answer, CaConfig, CaRoot, CaRoots, Query};

/// Refuses where there is no service mesh.
fn check_enabled<A: Api>(server: &Server<A>) -> Result<(), Error> {
    match server.settings().connect {
        true => Ok(()),
        false => Err(Error::internal(ca::Error::Disabled.to_string())),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Roots<'a> {
    #[serde(rename = "ActiveRootID")]
    active_root_id: &'a str,
    trust_domain: String,
    roots: Vec<Root<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Root<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    serial_number: u64,
    #[serde(rename = "SigningKeyID")]
    signing_key_id: &'a str,
    external_trust_domain: &'a str,
    not_before: String,
    not_after: String,
    root_cert: &'a str,
    /// `null` when there are none, as Go shows it.
    intermediate_certs: Option<&'a [String]>,
    active: bool,
    private_key_type: &'a str,
    private_key_bits: u32,
    create_index: u64,
    modify_index: u64,
}

impl<'a> From<&'a CaRoot> for Root<'a> {
    fn from(row: &'a CaRoot) -> Self {
        let intermediates = Some(row.intermediate_certs.as_slice());
        Self {
            id: &row.id,
            name: &row.name,
            serial_number: row.serial_number,
            signing_key_id: &row.signing_key_id,
            external_trust_domain: &row.external_trust_domain,
            not_before: time(row.not_before_ms),
            not_after: time(row.not_after_ms),
            root_cert: &row.root_cert,
            intermediate_certs: intermediates.filter(|certs| !certs.is_empty()),
            active: row.active,
            private_key_type: &row.private_key_type,
            private_key_bits: row.private_key_bits,
            create_index: row.create_index,
            modify_index: row.modify_index,
        }
    }
}

/// RFC 3339, in whole seconds.
pub(super) fn time(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds);
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The roots to be trusted; with `?pem=true` their certificates alone.
pub(super) async fn roots<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let params = &request.params;
    let pem = match params.given("pem").map(go_bool::parse) {
        None => false,
        Some(Some(pem)) => pem,
        Some(None) => {
            let text = "The 'pem' query parameter must be a boolean value";
            return Err(Error::bad_request(text));
        }
    };
    check_scope(server.settings(), params)?;
    check_enabled(server)?;
    let (answer, headers) = read(server, params, Query::CaRoots).await?;
    let Answer::CaRoots(found) = answer else {
        return Err(unexpected());
    };
    Ok(headers.on(match pem {
        true => chain(&found),
        false => shown(server, params, &found),
    }))
}

fn shown<A: Api>(server: &Server<A>, params: &Params, found: &CaRoots) -> Response {
    let shown = Roots {
        active_root_id: found.active().map_or("", |root| &root.id),
        trust_domain: found
            .cluster_id
            .map_or_else(String::new, spiffe::trust_domain),
        roots: found.roots.iter().map(|row| Root::from(&**row)).collect(),
    };
    server.json(params, &shown)
}

/// RFC 8555, section 9.1.
fn chain(found: &CaRoots) -> Response {
    let certs = found
        .roots
        .iter()
        .flat_map(|root| std::iter::once(&root.root_cert).chain(&root.intermediate_certs));
    let certs: String = certs.map(String::as_str).collect();
    let mut response = Response::new(StatusCode::OK, Body::Whole(certs.into()));
    let kind = Value::Static("application/pem-certificate-chain");
    response.set("Content-Type", kind);
    response
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration<'a> {
    provider: &'a str,
    config: Map<String, Json>,
    /// What a provider keeps beside: nothing.
    state: Option<()>,
    force_without_cross_signing: bool,
    create_index: u64,
    modify_index: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Sent {
    provider: String,
    config: Map<String, Json>,
    state: Map<String, Json>,
    forcewithoutcrosssigning: bool,
    force_without_cross_signing: bool,
}

/// Shows the configuration of the certificate authority, or changes it.
pub(super) async fn configuration<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let params = &request.params;
    check_scope(server.settings(), params)?;
    if request.method == "GET" {
        check_enabled(server)?;
        let (answer, headers) = read(server, params, Query::CaConfig).await?;
        let Answer::CaConfig(row) = answer else {
            return Err(unexpected());
        };
        let row = row.ok_or_else(|| Error::internal("CA has not finished initializing"))?;
        return Ok(headers.on(server.json(params, &configured(&row))));
    }
    let cas = match params.given("cas") {
        None => None,
        Some(_) => params.number("cas").map_err(|error| {
            Error::bad_request(format!("Request decode failed: {}", error.text))
        })?,
    };
    let body = request.body(server.settings().kv_max_value_size).await?;
    let sent: Sent = json::decode(&body)?;
    check_enabled(server)?;
    if !sent.state.is_empty() {
        return Err(Error::bad_request(
            "Provider State is read-only. It must be omitted or identical to the current value",
        ));
    }
    let update = Update {
        provider: sent.provider,
        config: Json::Object(sent.config).to_string(),
        without_cross_signing: sent.forcewithoutcrosssigning || sent.force_without_cross_signing,
        cas,
    };
    match server.api().set_ca_config(update).await? {
        true => Ok(empty(StatusCode::OK)),
        false => Err(Error::internal(
            "the CA configuration was changed by somebody else: its index is not that of cas",
        )),
    }
}

fn configured(row: &CaConfig) -> Configuration<'_> {
    Configuration {
        provider: &row.provider,
        config: settings::show(&row.config, !row.private_key.is_empty()),
        state: None,
        force_without_cross_signing: false,
        create_index: row.create_index,
        modify_index: row.modify_index,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Issued<'a> {
    serial_number: &'a str,
    #[serde(rename = "CertPEM")]
    cert: &'a str,
    #[serde(rename = "PrivateKeyPEM")]
    private_key: &'a str,
    service: &'a str,
    #[serde(rename = "ServiceURI")]
    service_uri: &'a str,
    valid_after: String,
    valid_before: String,
    create_index: u64,
    modify_index: u64,
}

impl<'a> From<&'a Leaf> for Issued<'a> {
    fn from(leaf: &'a Leaf) -> Self {
        Self {
            serial_number: &leaf.signed.serial_number,
            cert: &leaf.signed.cert,
            private_key: &leaf.private_key,
            service: &leaf.service,
            service_uri: &leaf.signed.uri,
            valid_after: time(leaf.signed.valid_after_ms),
            valid_before: time(leaf.signed.valid_before_ms),
            create_index: leaf.index,
            modify_index: leaf.index,
        }
    }
}

/// The certificate of a service, with its key. `?index=` waits for another one.
pub(super) async fn leaf<A: Api>(
    server: &Server<A>,
    request: &Request,
    service: String,
) -> Result<Response, Error> {
    let params = &request.params;
    check_scope(server.settings(), params)?;
    check_enabled(server)?;
    let service = named(service, "Missing service name")?;
    server.need(Resource::Service, &service, Access::Write)?;
    let (min_index, time) = wait(server.settings(), server.random(), params, false)?;
    let (leaf, known) = tokio::select! {
        biased;
        found = server.api().leaf(&service, min_index, time) => found?,
        () = server.shutdown().cancelled() => return Err(crate::node::Error::ShuttingDown.into()),
    };
    let mut response = server.json(params, &Issued::from(&*leaf));
    response.set("X-Consul-Index", Value::Number(leaf.index));
    response.set("X-Cache", Value::Static(if known { "HIT" } else { "MISS" }));
    if known {
        let age = server.unix_ms().saturating_sub(leaf.made_ms) / 1000;
        response.set("Age", Value::Number(age));
    }
    Ok(response)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked {
    target: String,
    clientcerturi: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Authorized {
    authorized: bool,
    reason: String,
}

/// Whether whoever has this certificate may connect to a service of this agent.
pub(super) async fn authorize<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let asked: Asked = json::decode(&body)?;
    let refuse = |text: &'static str| Err(Error::bad_request(text));
    if asked.target.is_empty() {
        return refuse("Target service must be specified");
    }
    let target = bare(&asked.target)?;
    server.need(Resource::Service, target, Access::Write)?;
    let source = match spiffe::parse(&asked.clientcerturi) {
        None => return refuse("ClientCertURI not a valid Connect identifier"),
        Some(spiffe::Id::Agent(_) | spiffe::Id::Other) => {
            return refuse("ClientCertURI not a valid Service identifier");
        }
        // Its trust domain is not looked at, as in Consul: that it may come from there, the handshake has found.
        Some(spiffe::Id::Service(id)) => id.service,
    };
    let (found, headers) = list(server, &request.params).await?;
    let (authorized, reason) = match intentions::deciding(&found, &source, target) {
        None => (
            server.settings().default_policy == "allow",
            "Default behavior configured by ACLs".to_owned(),
        ),
        Some(one) if one.permissions() > 0 => {
            (false, format!("Matched L7 intention: {}", one.describe()))
        }
        Some(one) => (
            one.action() == "allow",
            format!("Matched L4 intention: {}", one.describe()),
        ),
    };
    let answer = Authorized { authorized, reason };
    Ok(headers.on(server.json(&request.params, &answer)))
}
