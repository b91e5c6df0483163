//! Which services gateways stand for, from their entries and what the catalog knows. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chain::{ChainRequest, Find, compile};
use super::check::{list, text};
use super::intentions::ANY;

/// What connections from outside come in at.
pub const INGRESS: &str = "ingress-gateway";
/// What connections to services outside the mesh go out at.
pub const TERMINATING: &str = "terminating-gateway";
/// As [`INGRESS`], with routes of their own.
pub const API: &str = "api-gateway";
/// The service that servers are registered as, which no wildcard means.
pub(super) const SERVERS: &str = "consul";

/// A service that a gateway stands for. Append only: it travels between servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayService {
    /// The gateway's name.
    pub gateway: String,
    /// Its kind.
    pub kind: String,
    /// The service's name.
    pub service: String,
    /// The port that the gateway listens on for it; 0 where it is known to the gateway's proxies only.
    pub port: u16,
    /// What is spoken there.
    pub protocol: String,
    /// Host names by which the service is told apart.
    pub hosts: Vec<String>,
    /// Files on the gateway's machine, for TLS to the service.
    pub ca_file: String,
    /// See `ca_file`.
    pub cert_file: String,
    /// See `ca_file`.
    pub key_file: String,
    /// The server name of that TLS.
    pub sni: String,
    /// Whether it was meant by `*` only.
    pub from_wildcard: bool,
    /// `service` of one in the catalog, `destination` of one that entries know only, empty for an unknown one.
    pub service_kind: String,
    /// The log index that created the gateway's entry.
    pub create_index: u64,
    /// The log index of the last change of the gateway's entry.
    pub modify_index: u64,
}

/// A service of the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Whether it can be reached through the mesh.
    pub in_mesh: bool,
    /// Whether there are instances that are no part of the mesh.
    pub outside: bool,
}

/// Services of a gateway, by name and port.
pub fn services_of(gateway: &str, found: &dyn Find, known: &[Known]) -> Vec<GatewayService> {
    let mut rows = Vec::new();
    if let Some(entry) = found.find(INGRESS, gateway) {
        ingress(&entry, found, known, &mut rows);
    }
    if let Some(entry) = found.find(TERMINATING, gateway) {
        terminating(&entry, found, known, &mut rows);
    }
    if let Some(entry) = found.find(API, gateway) {
        api(&entry, found, &mut rows);
    }
    let services: BTreeMap<String, &Known> = known
        .iter()
        .map(|known| (known.name.to_lowercase(), known))
        .collect();
    for row in &mut rows {
        row.service_kind = match services.contains_key(&row.service.to_lowercase()) {
            true => "service",
            false if is_destination(&row.service, found) => "destination",
            false => "",
        }
        .to_owned();
    }
    rows.sort_by(|a, b| (&a.service, a.port).cmp(&(&b.service, b.port)));
    rows
}

/// Names of gateways of a kind that stand for a service.
pub fn gateways_for(
    kind: &str,
    service: &str,
    found: &dyn Find,
    known: Option<&Known>,
) -> Vec<String> {
    let entries = found.of_kind(kind);
    let known: Vec<Known> = known.into_iter().cloned().collect();
    let stands = |entry: &&Value| {
        let mut rows = Vec::new();
        match kind {
            INGRESS => ingress(entry, found, &known, &mut rows),
            _ => terminating(entry, found, &known, &mut rows),
        }
        rows.iter().any(|row| is(&row.service, service))
    };
    let stand = entries.iter().filter(stands);
    stand.map(|entry| text(entry, "Name").to_owned()).collect()
}

/// Names of services that terminating gateways name.
pub fn named_by_terminating(entry: &Value) -> impl Iterator<Item = &str> {
    let names = list(entry, "Services").iter();
    names
        .map(|service| text(service, "Name"))
        .filter(|name| *name != ANY)
}

fn is(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn is_destination(service: &str, found: &dyn Find) -> bool {
    let entry = found.find("service-defaults", service);
    entry.is_some_and(|entry| entry.get("Destination").is_some())
}

/// A row with what its gateway's entry says of all its services.
fn row(kind: &str, entry: &Value, service: &str) -> GatewayService {
    let index = |name: &str| entry.get(name).and_then(Value::as_u64).unwrap_or_default();
    GatewayService {
        gateway: text(entry, "Name").to_owned(),
        kind: kind.to_owned(),
        service: service.to_owned(),
        create_index: index("CreateIndex"),
        modify_index: index("ModifyIndex"),
        ..GatewayService::default()
    }
}

fn texts(fields: &Value, name: &str) -> Vec<String> {
    let texts = list(fields, name).iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn port(listener: &Value) -> u16 {
    let port = listener.get("Port").and_then(Value::as_u64);
    port.and_then(|port| u16::try_from(port).ok())
        .unwrap_or_default()
}

fn ingress(entry: &Value, found: &dyn Find, known: &[Known], rows: &mut Vec<GatewayService>) {
    let before = rows.len();
    let mut wild = Vec::new();
    for listener in list(entry, "Listeners") {
        for service in list(listener, "Services") {
            let one = GatewayService {
                port: port(listener),
                protocol: text(listener, "Protocol").to_owned(),
                hosts: texts(service, "Hosts"),
                ..row(INGRESS, entry, text(service, "Name"))
            };
            match one.service.as_str() {
                ANY => wild.push(one),
                _ => rows.push(one),
            }
        }
    }
    for one in wild {
        let named = |known: &Known| {
            let same = |row: &GatewayService| row.port == one.port && is(&row.service, &known.name);
            rows[before..].iter().any(same)
        };
        let meant = known
            .iter()
            .filter(|known| known.in_mesh && known.name != SERVERS);
        let meant = meant.filter(|known| !named(known));
        // A listener stands for those that speak its protocol.
        let meant: Vec<_> = meant
            .filter(|known| protocol(&known.name, found).as_deref() == Some(&one.protocol))
            .map(|known| GatewayService {
                service: known.name.clone(),
                from_wildcard: true,
                ..one.clone()
            })
            .collect();
        rows.extend(meant);
    }
}

/// Names of services that an ingress gateway's entry stands for.
pub(super) fn behind_ingress(entry: &Value, found: &dyn Find, known: &[Known]) -> Vec<String> {
    let mut rows = Vec::new();
    ingress(entry, found, known, &mut rows);
    rows.into_iter().map(|row| row.service).collect()
}

/// What is spoken to a service; `None` where the entries do not fit together.
pub(super) fn protocol(service: &str, found: &dyn Find) -> Option<String> {
    let request = ChainRequest {
        service: service.to_owned(),
        datacenter: "dc1".to_owned(),
        ..ChainRequest::default()
    };
    let chain = compile(&request, "consul", found).ok()?;
    Some(chain.protocol)
}

fn terminating(entry: &Value, found: &dyn Find, known: &[Known], rows: &mut Vec<GatewayService>) {
    let before = rows.len();
    let mut wild = None;
    for service in list(entry, "Services") {
        let said = |name: &str| text(service, name).to_owned();
        let one = GatewayService {
            ca_file: said("CAFile"),
            cert_file: said("CertFile"),
            key_file: said("KeyFile"),
            sni: said("SNI"),
            ..row(TERMINATING, entry, text(service, "Name"))
        };
        match one.service.as_str() {
            ANY => wild = Some(one),
            _ => rows.push(one),
        }
    }
    let Some(one) = wild else { return };
    let outside = known
        .iter()
        .filter(|known| known.outside && known.name != SERVERS);
    let mut meant: Vec<String> = outside.map(|known| known.name.clone()).collect();
    let defaults = found.of_kind("service-defaults");
    let destinations = defaults
        .iter()
        .filter(|entry| entry.get("Destination").is_some());
    meant.extend(destinations.map(|entry| text(entry, "Name").to_owned()));
    meant.sort();
    meant.dedup_by(|a, b| is(a, b));
    meant.retain(|name| !rows[before..].iter().any(|row| is(&row.service, name)));
    rows.extend(meant.into_iter().map(|service| GatewayService {
        service,
        from_wildcard: true,
        ..one.clone()
    }));
}

/// Services of the routes that want to be at a gateway's listeners, and speak what these speak.
fn api(entry: &Value, found: &dyn Find, rows: &mut Vec<GatewayService>) {
    let name = text(entry, "Name");
    let (http, tcp) = (found.of_kind("http-route"), found.of_kind("tcp-route"));
    for listener in list(entry, "Listeners") {
        let protocol = text(listener, "Protocol");
        let routes = if protocol == "tcp" { &tcp } else { &http };
        for route in routes {
            let here = |parent: &Value| {
                let section = text(parent, "SectionName");
                text(parent, "Kind") == API
                    && is(text(parent, "Name"), name)
                    && (section.is_empty() || section == text(listener, "Name"))
            };
            if !list(route, "Parents").iter().any(here) {
                continue;
            }
            let rules = list(route, "Rules").iter();
            let services = rules.flat_map(|rule| list(rule, "Services"));
            let mut names: Vec<&str> = services
                .chain(list(route, "Services"))
                .map(|service| text(service, "Name"))
                .collect();
            names.sort_unstable();
            names.dedup();
            rows.extend(names.into_iter().map(|service| GatewayService {
                port: port(listener),
                protocol: protocol.to_owned(),
                hosts: texts(route, "Hostnames"),
                ..row(API, entry, service)
            }));
        }
    }
    // Two routes may lead to the same service.
    rows.dedup_by(|a, b| (&a.service, a.port, &a.hosts) == (&b.service, b.port, &b.hosts));
}
