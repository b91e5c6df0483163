//! Rules that need other entries: whether a change leaves every chain, gateway and intention as it can be. Pure.
//!
//! Asked while the change is applied, so that all servers decide alike and no two changes pass each other. Source: Consul's
//! checks of the graph of services.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::chain::{ChainRequest, Find, compile, is_http};
use super::check::{list, text};
use super::intentions::ANY;
use super::together;

type Checked = Result<(), String>;

/// Kinds that a chain is made of.
pub(super) const CHAIN: [&str; 3] = ["service-router", "service-splitter", "service-resolver"];

/// A change of one entry.
#[derive(Debug, Clone, Copy)]
pub struct Proposed<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What it was; `None` for a new one.
    pub old: Option<&'a Value>,
    /// What it is to be; `None` when it is to go.
    pub new: Option<&'a Value>,
}

/// Finds out whether a change may be made. `found` has the entries as they would be after it.
///
/// # Errors
/// What would be wrong then, in Consul's words.
pub fn check(change: Proposed<'_>, found: &dyn Find) -> Checked {
    let Proposed {
        kind,
        name,
        old,
        new,
    } = change;
    match (kind, new) {
        ("proxy-defaults" | "service-defaults", Some(new)) => permissive(old, new, found)?,
        ("ingress-gateway", Some(_)) => clash(kind, name, "terminating-gateway", found)?,
        ("terminating-gateway", Some(_)) => clash(kind, name, "ingress-gateway", found)?,
        ("service-intentions", Some(new)) => providers(new, found)?,
        ("exported-services", Some(new)) => {
            return exported(new, found)
                .iter()
                .try_for_each(|service| may_be_exported(service, found));
        }
        _ => {}
    }
    concerned(change, found).check(found)
}

/// Entries that a change concerns.
#[derive(Default)]
struct Concerned {
    /// Services whose chains must compile.
    chains: BTreeSet<String>,
    ingress: Vec<Value>,
    intentions: Vec<Value>,
    /// Whether a listener's protocol must be its services' in any case.
    strictly: bool,
}

fn concerned(change: Proposed<'_>, found: &dyn Find) -> Concerned {
    let mut concerned = Concerned::default();
    let names = |entry: &Value| text(entry, "Name").to_owned();
    match (change.kind, change.new) {
        ("proxy-defaults", _) => {
            for kind in CHAIN {
                concerned
                    .chains
                    .extend(found.of_kind(kind).iter().map(names));
            }
            concerned.ingress = found.of_kind("ingress-gateway");
            concerned.intentions = found.of_kind("service-intentions");
        }
        ("service-intentions", Some(new)) => concerned.intentions.push(new.clone()),
        ("ingress-gateway", Some(new)) => {
            concerned.ingress.push(new.clone());
            concerned.strictly = true;
        }
        ("service-defaults" | "service-router" | "service-splitter" | "service-resolver", _) => {
            concerned.chains.insert(change.name.to_owned());
            for kind in CHAIN {
                let of_kind = found.of_kind(kind);
                let linked = of_kind
                    .iter()
                    .filter(|entry| leads_to(kind, entry, change.name));
                concerned.chains.extend(linked.map(names));
            }
            concerned.ingress = found.of_kind("ingress-gateway");
            concerned.ingress.retain(|gateway| {
                services_of(gateway).any(|service| is(text(service, "Name"), change.name))
            });
            concerned
                .intentions
                .extend(found.find("service-intentions", change.name));
        }
        _ => {}
    }
    // Others say nothing about protocols.
    concerned.intentions.retain(looks_at_requests);
    for gateway in &concerned.ingress {
        let services = services_of(gateway).map(|service| text(service, "Name"));
        let services = services.filter(|name| *name != ANY).map(str::to_owned);
        concerned.chains.extend(services);
    }
    concerned
        .chains
        .extend(concerned.intentions.iter().map(names));
    concerned
}

impl Concerned {
    fn check(&self, found: &dyn Find) -> Checked {
        let mut chains = BTreeMap::new();
        let exports = found.find("exported-services", "default");
        let exports = exports.map(|entry| exported(&entry, found));
        let exports = exports.unwrap_or_default();
        for service in &self.chains {
            let request = ChainRequest {
                service: service.clone(),
                // Neither it nor the trust domain has a say in whether it compiles.
                datacenter: "dc1".to_owned(),
                ..ChainRequest::default()
            };
            let chain = compile(&request, "consul", found)?;
            if exports.contains(service) {
                may_be_exported(service, found)?;
            }
            chains.insert(service.as_str(), chain);
        }
        for gateway in &self.ingress {
            self.listeners(gateway, |service| {
                let chain = chains.get(service)?;
                Some((chain.protocol.as_str(), chain.starts_with_resolver()))
            })?;
        }
        for entry in &self.intentions {
            let name = text(entry, "Name");
            if let Some(chain) = chains.get(name)
                && !is_http(&chain.protocol)
            {
                return Err(format!(
                    "service {name:?} has protocol {:?}, which is incompatible with L7 intentions permissions",
                    chain.protocol
                ));
            }
        }
        Ok(())
    }

    /// Compares protocols of listeners with those of their services.
    fn listeners<'a>(
        &self,
        gateway: &Value,
        chain: impl Fn(&str) -> Option<(&'a str, bool)>,
    ) -> Checked {
        for listener in list(gateway, "Listeners") {
            let wanted = text(listener, "Protocol");
            for service in list(listener, "Services") {
                let name = text(service, "Name");
                let Some((protocol, starts_with_resolver)) = chain(name) else {
                    continue;
                };
                // Connections may be passed on without a look at what they carry.
                let passed_on = !self.strictly && wanted == "tcp" && starts_with_resolver;
                if protocol != wanted && !passed_on {
                    return Err(format!(
                        "service {name:?} has protocol {protocol:?}, which does not match defined listener protocol {wanted:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether two names are one.
fn is(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Services of an ingress gateway's listeners.
fn services_of(gateway: &Value) -> impl Iterator<Item = &Value> {
    let listeners = list(gateway, "Listeners").iter();
    listeners.flat_map(|listener| list(listener, "Services"))
}

/// Whether a part of a chain names a service.
pub(super) fn leads_to(kind: &str, entry: &Value, service: &str) -> bool {
    let names = |fields: &Value, name: &str| is(text(fields, name), service);
    match kind {
        "service-router" => list(entry, "Routes").iter().any(|route| {
            let to = route.get("Destination");
            to.is_some_and(|to| names(to, "Service"))
        }),
        "service-splitter" => list(entry, "Splits")
            .iter()
            .any(|split| names(split, "Service")),
        _ => {
            let redirects = |redirect: &Value| names(redirect, "Service");
            let fails_over = |failover: &Value| {
                names(failover, "Service")
                    || list(failover, "Targets")
                        .iter()
                        .any(|target| names(target, "Service"))
            };
            let failover = entry.get("Failover").and_then(Value::as_object);
            entry.get("Redirect").is_some_and(redirects)
                || failover.is_some_and(|all| all.values().any(fails_over))
        }
    }
}

fn looks_at_requests(entry: &Value) -> bool {
    let permits = |source: &Value| !list(source, "Permissions").is_empty();
    text(entry, "Name") != ANY && list(entry, "Sources").iter().any(permits)
}

fn clash(kind: &str, name: &str, other: &str, found: &dyn Find) -> Checked {
    match found.find(other, name) {
        None => Ok(()),
        Some(_) => Err(format!(
            "cannot create a {kind:?} config entry with name {name:?}, a {other:?} config entry with that name already exists"
        )),
    }
}

/// Proxies may be made to take connections without TLS only where the mesh allows it.
fn permissive(old: Option<&Value>, new: &Value, found: &dyn Find) -> Checked {
    let is_so = |entry: &Value| text(entry, "MutualTLSMode") == "permissive";
    if !is_so(new) || old.is_some_and(is_so) {
        return Ok(());
    }
    let mesh = found.find("mesh", "mesh").unwrap_or_default();
    match mesh.get("AllowEnablingPermissiveMutualTLS") {
        Some(Value::Bool(true)) => Ok(()),
        _ => Err(
            "cannot set MutualTLSMode=permissive because AllowEnablingPermissiveMutualTLS=false in the mesh config entry"
                .to_owned(),
        ),
    }
}

/// Whoever is to vouch for requests must be known.
fn providers(entry: &Value, found: &dyn Find) -> Checked {
    let mut named = BTreeSet::new();
    let mut name = |fields: &Value| {
        let providers = fields.pointer("/JWT/Providers").and_then(Value::as_array);
        for provider in providers.into_iter().flatten() {
            named.insert(text(provider, "Name").to_owned());
        }
    };
    name(entry);
    for source in list(entry, "Sources") {
        list(source, "Permissions").iter().for_each(&mut name);
    }
    let unknown = named
        .iter()
        .filter(|name| found.find("jwt-provider", name).is_none());
    let wrong: Vec<String> = unknown
        .map(|name| format!("Referenced JWT Provider does not exist. Provider Name: {name}"))
        .collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(together(&wrong)),
    }
}

/// Names of services that peers may reach; those that are known by their chains for a wildcard.
fn exported(entry: &Value, found: &dyn Find) -> BTreeSet<String> {
    let chains = CHAIN.iter().flat_map(|kind| found.of_kind(kind));
    let chains: Vec<String> = chains
        .map(|entry| text(&entry, "Name").to_owned())
        .collect();
    exports(entry, &chains).into_keys().collect()
}

/// Services that peers may reach, each with these peers. `known` are those that a wildcard means.
pub fn exported_to(found: &dyn Find, known: &[String]) -> BTreeMap<String, Vec<String>> {
    let entry = found.find("exported-services", "default");
    let exports = exports(&entry.unwrap_or_default(), known).into_iter();
    exports
        .map(|(service, peers)| (service, peers.into_iter().collect()))
        .collect()
}

fn exports(entry: &Value, known: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut exports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for service in list(entry, "Services") {
        let peers = list(service, "Consumers").iter();
        let peers = peers.map(|consumer| text(consumer, "Peer"));
        let peers: Vec<&str> = peers.filter(|peer| !peer.is_empty()).collect();
        let names: Vec<&str> = match text(service, "Name") {
            ANY => known.iter().map(String::as_str).collect(),
            name => vec![name],
        };
        // The servers themselves are nobody's to reach.
        for name in names.into_iter().filter(|name| *name != "consul") {
            if !peers.is_empty() {
                let all = exports.entry(name.to_owned()).or_default();
                all.extend(peers.iter().map(|peer| (*peer).to_owned()));
            }
        }
    }
    exports
}

/// A service that peers may reach must not lead to another datacenter or peer.
fn may_be_exported(service: &str, found: &dyn Find) -> Checked {
    let Some(entry) = found.find("service-resolver", service) else {
        return Ok(());
    };
    let wrong = |what: &str| Err(format!("peer exported service {service:?} contains {what}"));
    if let Some(redirect) = entry.get("Redirect") {
        if !text(redirect, "Datacenter").is_empty() {
            return wrong("cross-datacenter resolver redirect");
        }
        if !text(redirect, "Peer").is_empty() {
            return wrong("cross-peer resolver redirect");
        }
    }
    let failover = entry.get("Failover").and_then(Value::as_object);
    for failover in failover.into_iter().flat_map(|all| all.values()) {
        let targets = list(failover, "Targets");
        let elsewhere = |target: &Value| !text(target, "Datacenter").is_empty();
        if !list(failover, "Datacenters").is_empty() || targets.iter().any(elsewhere) {
            return wrong("cross-datacenter failover");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
