use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{CheckDefinition, Error, check, mesh};
use crate::config::Secret;
use crate::state::{Service, ServiceAddress, Weights};

/// A service that runs here, with its checks.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceDefinition {
    /// The catalog's row of it.
    pub service: Service,
    /// Its checks, each with an id and this service's.
    pub checks: Vec<CheckDefinition>,
    /// Whether it was made from the short form in another service's definition, and goes with that service.
    pub sidecar: bool,
    /// In whose name the catalog is told; empty for the agent's choice.
    pub token: Secret,
}

/// Largest weight, as a DNS answer can hold it.
const WEIGHT_MAX: u32 = 65535;

/// A service's fields in the one form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    address: String,
    check: Option<Value>,
    checks: Vec<Value>,
    connect: Option<Value>,
    enabletagoverride: bool,
    id: String,
    kind: String,
    locallyregisteredassidecar: bool,
    meta: BTreeMap<String, String>,
    name: String,
    port: u16,
    proxy: Option<Value>,
    socketpath: String,
    taggedaddresses: BTreeMap<String, Address>,
    tags: Vec<String>,
    token: Secret,
    weights: Option<WeightFields>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    address: String,
    port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct WeightFields {
    passing: u32,
    warning: u32,
}

impl Default for WeightFields {
    fn default() -> Self {
        let Weights { passing, warning } = Weights::default();
        Self { passing, warning }
    }
}

/// Reads a service in the one form.
pub(super) fn read(value: &Value) -> Result<ServiceDefinition, Error> {
    let fields = Fields::deserialize(value).map_err(|e| Error::Decode(e.to_string()))?;
    if fields.name.is_empty() {
        return Err(Error::NoServiceName);
    }
    let refuse = |why: &str| Err(Error::Service(why.to_owned()));
    if matches!(fields.address.as_str(), "0.0.0.0" | "::" | "[::]") {
        return refuse("Invalid service address");
    }
    if !fields.socketpath.is_empty() && (!fields.address.is_empty() || fields.port != 0) {
        return refuse("Invalid service: a socket path excludes an address and a port");
    }
    check_meta(&fields.meta)?;
    let weights = fields.weights.unwrap_or_default();
    if weights.passing < 1 {
        return refuse("Invalid Weights: Passing must be greater than 0");
    }
    if weights.passing.max(weights.warning) > WEIGHT_MAX {
        return refuse("Invalid Weights: DNS Weight must be between 0 and 65535");
    }
    let addresses = fields.taggedaddresses.into_iter().map(|(name, address)| {
        let Address { address, port } = address;
        (name, ServiceAddress { address, port })
    });
    let service = Service {
        kind: fields.kind,
        id: match fields.id.is_empty() {
            true => fields.name.clone(),
            false => fields.id,
        },
        service: fields.name,
        tags: fields.tags,
        address: fields.address,
        tagged_addresses: addresses.collect(),
        meta: fields.meta,
        port: fields.port,
        socket_path: fields.socketpath,
        weights: Weights {
            passing: weights.passing,
            warning: weights.warning,
        },
        enable_tag_override: fields.enabletagoverride,
        mesh: mesh::of(fields.proxy.as_ref(), fields.connect.as_ref()),
        create_index: 0,
        modify_index: 0,
    };
    check_proxy(&service)?;
    let given: Vec<&Value> = fields.check.iter().chain(&fields.checks).collect();
    let checks = given.iter().enumerate().map(|(n, value)| {
        let number = (given.len() > 1).then_some(n + 1);
        own_check(value, &service, number)
    });
    let checks = checks.collect::<Result<_, _>>()?;
    Ok(ServiceDefinition {
        service,
        checks,
        sidecar: fields.locallyregisteredassidecar,
        token: fields.token,
    })
}

/// A check of a service, with an id and a name if its definition gives none.
fn own_check(
    value: &Value,
    service: &Service,
    number: Option<usize>,
) -> Result<CheckDefinition, Error> {
    let mut check = check::read(value)?;
    if check.id.is_empty() {
        check.id = match number {
            None => format!("service:{}", service.id),
            Some(number) => format!("service:{}:{number}", service.id),
        };
    }
    if check.name.is_empty() {
        check.name = format!("Service '{}' check", service.service);
    }
    check.service_id = service.id.clone();
    Ok(check)
}

fn check_meta(meta: &BTreeMap<String, String>) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Service(format!("Invalid Service Meta: {why}")));
    if meta.len() > 64 {
        return refuse("Node metadata cannot contain more than 64 key/value pairs".to_owned());
    }
    for (key, value) in meta {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let why = if key.is_empty() {
            "Key cannot be blank"
        } else if !key.chars().all(valid) {
            "Key contains invalid characters"
        } else if key.len() > 128 {
            "Key is too long (limit: 128 characters)"
        } else if value.chars().count() > 512 {
            "Value is too long (limit: 512 characters)"
        } else {
            continue;
        };
        return refuse(format!(
            "Couldn't load metadata pair ('{key}', '{value}'): {why}"
        ));
    }
    Ok(())
}

/// What a proxy must have.
fn check_proxy(service: &Service) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Service(format!("Invalid service: {why}")));
    match service.kind.as_str() {
        "" | "mesh-gateway" | "terminating-gateway" | "ingress-gateway" | "api-gateway" => Ok(()),
        "connect-proxy" => {
            let destination = service.mesh.as_ref().map(|mesh| mesh.destination.as_str());
            if destination.unwrap_or_default().trim().is_empty() {
                return refuse(
                    "Proxy.DestinationServiceName must be non-empty for Connect proxy services",
                );
            }
            if service.port == 0 && service.socket_path.is_empty() {
                return refuse("Port or SocketPath must be set for a Connect proxy");
            }
            Ok(())
        }
        _ => refuse("unknown kind of service"),
    }
}
