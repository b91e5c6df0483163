//! Who a service connects to and who connects to it, as far as the catalog and the entries tell. Pure.
//!
//! Four things tell of a connection: a sidecar that names an upstream, an ingress gateway's entry, a chain that leads from one
//! service to another, and, for proxies that take connections to anybody, what intentions allow. Source: what Consul's pages
//! draw of the mesh.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chain::{ChainRequest, Find, compile, is_http};
use super::check::{list, text};
use super::gateways::{self, INGRESS, Known, SERVERS};
use super::intentions::{ANY, Intention};
use super::rules::{self, CHAIN};
use crate::state::Service;

/// The kind of a sidecar.
pub const CONNECT_PROXY: &str = "connect-proxy";

/// What tells of a connection. Append only: it travels between servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A proxy names it, or an ingress gateway's entry.
    Registration,
    /// The same, and it is no service but a router, splitter or resolver.
    Routing,
    /// An intention between these two.
    SpecificIntention,
    /// An intention with a `*`.
    WildcardIntention,
    /// No intention is needed.
    DefaultAllow,
}

impl Source {
    /// Consul's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Registration => "proxy-registration",
            Source::Routing => "routing-config",
            Source::SpecificIntention => "specific-intention",
            Source::WildcardIntention => "wildcard-intention",
            Source::DefaultAllow => "default-allow",
        }
    }
}

/// What intentions say of a connection. Append only: it travels between servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it would be allowed if there were no intention.
    pub default_allow: bool,
    /// Whether it is allowed as such. One whose requests are looked at is not.
    pub allowed: bool,
    /// Whether its requests are looked at.
    pub has_permissions: bool,
    /// Which program wrote the intention; empty for none.
    pub external_source: String,
    /// Whether the intention names both services.
    pub has_exact: bool,
}

/// A service at the other end. Append only: it travels between servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What tells of it.
    pub source: Source,
    /// What intentions say.
    pub decision: Decision,
}

/// What is around a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// What is spoken to it.
    pub protocol: String,
    /// Whether all its proxies are transparent, and there is one.
    pub transparent: bool,
    /// Those it connects to, by name.
    pub upstreams: Vec<Link>,
    /// Those that connect to it, by name.
    pub downstreams: Vec<Link>,
}

/// Whose surroundings are asked for. Append only: it travels between servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The service's name, in any case.
    pub service: String,
    /// Whether it is an ingress gateway.
    pub ingress: bool,
    /// Whether a connection is allowed that no intention speaks of.
    pub default_allow: bool,
}

/// An instance at which connections through the mesh end, and from which they begin.
#[derive(Debug, Clone)]
struct End {
    /// The service that it stands for.
    service: String,
    /// Whether it takes connections to whomever its service connects to.
    transparent: bool,
    /// Whether the service speaks the mesh's protocol itself.
    native: bool,
    /// Services that it was told to connect to.
    upstreams: Vec<String>,
}

impl End {
    fn of(service: &Service) -> Option<Self> {
        let mesh = service.mesh.as_deref()?;
        if service.kind == CONNECT_PROXY {
            let given = proxy(service);
            let upstreams = list(&given, "Upstreams").iter();
            // What a prepared query finds is known to those who execute it.
            let named = upstreams.filter(|one| text(one, "DestinationType") != "prepared_query");
            return Some(Self {
                service: mesh.destination.clone(),
                transparent: is_transparent(&given),
                native: mesh.native,
                upstreams: named
                    .map(|one| text(one, "DestinationName").to_owned())
                    .filter(|name| !name.is_empty())
                    .collect(),
            });
        }
        mesh.native.then(|| Self {
            service: service.service.clone(),
            transparent: false,
            native: true,
            upstreams: Vec::new(),
        })
    }

    /// Whether intentions alone make connections of it.
    fn takes_all(&self) -> bool {
        self.transparent || self.native
    }
}

/// `Proxy` of a registration; null for none.
pub fn proxy(service: &Service) -> Value {
    let given = service.mesh.as_deref().map_or("", |mesh| &mesh.proxy);
    serde_json::from_str(given).unwrap_or_default()
}

/// Whether a proxy takes connections to whomever its service connects to.
pub fn is_transparent(proxy: &Value) -> bool {
    text(proxy, "Mode") == "transparent"
}

/// What the catalog has of the mesh.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    known: Vec<Known>,
    /// Names of services that have an address of their own, whether or not there is an instance.
    addressed: Vec<String>,
    /// Names of everything of which there is an instance, by name in lower case.
    names: BTreeMap<String, String>,
    ends: Vec<End>,
}

impl Seen {
    /// Services that are neither proxies nor gateways, and the names of those that have an address of their own.
    pub fn new(known: Vec<Known>, addressed: Vec<String>) -> Self {
        Self {
            known,
            addressed,
            ..Self::default()
        }
    }

    /// Takes note of an instance.
    pub fn add(&mut self, service: &Service) {
        let slot = self.names.entry(service.service.to_lowercase());
        slot.or_insert_with(|| service.service.clone());
        self.ends.extend(End::of(service));
    }

    fn ends_of(&self, service: &str) -> impl Iterator<Item = &End> {
        self.ends
            .iter()
            .filter(move |end| is(&end.service, service))
    }

    fn has(&self, service: &str) -> bool {
        self.names.contains_key(&service.to_lowercase())
    }

    /// A name as the catalog writes it, which is how intentions are compared with it.
    fn written<'a>(&'a self, service: &'a str) -> &'a str {
        let known = self.names.get(&service.to_lowercase());
        known.map_or(service, String::as_str)
    }
}

/// What is around a service.
pub fn topology(
    asked: &Asked,
    seen: &Seen,
    intentions: &[Intention],
    found: &dyn Find,
) -> Topology {
    let service = seen.written(&asked.service);
    let mut drawn = Topology {
        upstreams: upstreams(asked, seen, intentions, found),
        downstreams: downstreams(asked, seen, intentions, found),
        ..Topology::default()
    };
    if asked.ingress {
        drawn.protocol = protocol_of_ingress(service, found);
    } else {
        drawn.protocol = gateways::protocol(service, found).unwrap_or_else(|| "tcp".to_owned());
        let mut ends = seen.ends_of(service).peekable();
        drawn.transparent = ends.peek().is_some() && ends.all(|end| end.transparent);
    }
    drawn
}

/// What measurements of a gateway are to be asked for: HTTP only where nothing else would be left out.
fn protocol_of_ingress(gateway: &str, found: &dyn Find) -> String {
    let Some(entry) = found.find(INGRESS, gateway) else {
        return String::new();
    };
    let listeners = list(&entry, "Listeners");
    let http = |listener: &Value| is_http(text(listener, "Protocol"));
    match !listeners.is_empty() && listeners.iter().all(http) {
        true => "http",
        false => "tcp",
    }
    .to_owned()
}

/// Names with what tells of them, each once: what told first counts. By name in lower case.
#[derive(Default)]
struct Told(BTreeMap<String, (String, Source)>);

impl Told {
    fn add(&mut self, name: &str, source: Source) {
        let slot = self.0.entry(name.to_lowercase());
        slot.or_insert_with(|| (name.to_owned(), source));
    }

    /// Adds the other end of a connection that intentions allow, be it for some requests only.
    fn by_intention(&mut self, service: &str, other: &str, decision: &Decision) {
        let may = decision.allowed || decision.has_permissions;
        if !may || is(other, SERVERS) || is(other, service) {
            return;
        }
        let source = match decision {
            Decision {
                has_exact: true, ..
            } => Source::SpecificIntention,
            Decision {
                default_allow: true,
                ..
            } => Source::DefaultAllow,
            _ => Source::WildcardIntention,
        };
        self.add(other, source);
    }

    fn links(self, seen: &Seen, decide: impl Fn(&str) -> Decision) -> Vec<Link> {
        let links = self.0.into_values().map(|(name, source)| {
            let name = seen.written(&name);
            Link {
                name: name.to_owned(),
                source,
                decision: decide(name),
            }
        });
        links.collect()
    }
}

fn upstreams(asked: &Asked, seen: &Seen, intentions: &[Intention], found: &dyn Find) -> Vec<Link> {
    let service = seen.written(&asked.service);
    let from = intentions.iter().filter(|one| one.is_from(service));
    let from: Vec<&Intention> = from.collect();
    let decide = |name: &str| {
        let deciding = from.iter().find(|one| one.is_to(name));
        decision(deciding.copied(), asked.default_allow)
    };
    let mut told = Told::default();
    for end in seen.ends_of(service) {
        for name in &end.upstreams {
            told.add(name, Source::Registration);
        }
    }
    if let Some(entry) = found.find(INGRESS, service) {
        for name in gateways::behind_ingress(&entry, found, &seen.known) {
            told.add(&name, Source::Registration);
        }
    }
    if !asked.ingress && seen.ends_of(service).any(End::takes_all) {
        let known = seen.known.iter().map(|known| &known.name);
        for name in known.chain(&seen.addressed) {
            told.by_intention(service, name, &decide(name));
        }
    }
    let mut links = told.links(seen, decide);
    for link in &mut links {
        let is_routed = || {
            CHAIN
                .iter()
                .any(|kind| found.find(kind, &link.name).is_some())
        };
        if !seen.has(&link.name) && is_routed() {
            link.source = Source::Routing;
        }
    }
    links.retain(|link| {
        let is_there = seen.has(&link.name) || seen.ends_of(&link.name).next().is_some();
        is_there || link.source == Source::Routing
    });
    links
}

fn downstreams(
    asked: &Asked,
    seen: &Seen,
    intentions: &[Intention],
    found: &dyn Find,
) -> Vec<Link> {
    let service = seen.written(&asked.service);
    let to = intentions.iter().filter(|one| one.is_to(service));
    let to: Vec<&Intention> = to.collect();
    let decide = |name: &str| {
        let deciding = to.iter().find(|one| one.is_from(name));
        decision(deciding.copied(), asked.default_allow)
    };
    let doors = leading_to(service, found);
    let leads = |name: &String| doors.contains(&name.to_lowercase());
    let mut told = Told::default();
    for end in &seen.ends {
        if end.upstreams.iter().any(leads) {
            told.add(&end.service, Source::Registration);
        }
    }
    for entry in found.of_kind(INGRESS) {
        let behind = gateways::behind_ingress(&entry, found, &seen.known);
        if behind.iter().any(leads) {
            told.add(text(&entry, "Name"), Source::Registration);
        }
    }
    let takers = seen.ends.iter().filter(|end| end.takes_all());
    let takers: BTreeSet<String> = takers.map(|end| end.service.to_lowercase()).collect();
    for name in seen.known.iter().map(|known| &known.name) {
        if takers.contains(&name.to_lowercase()) {
            told.by_intention(service, name, &decide(name));
        }
    }
    let mut links = told.links(seen, decide);
    links.retain(|link| seen.has(&link.name) || seen.ends_of(&link.name).next().is_some());
    links
}

fn decision(deciding: Option<&Intention>, default_allow: bool) -> Decision {
    let Some(one) = deciding else {
        return Decision {
            default_allow,
            allowed: default_allow,
            ..Decision::default()
        };
    };
    Decision {
        default_allow,
        allowed: one.action() == "allow",
        has_permissions: one.permissions() > 0,
        external_source: one.external_source().to_owned(),
        has_exact: one.source != ANY && one.destination != ANY,
    }
}

/// Names, in lower case, whose connections may end at a service.
fn leading_to(service: &str, found: &dyn Find) -> BTreeSet<String> {
    let kinds = CHAIN.iter().map(|kind| (*kind, found.of_kind(kind)));
    let kinds: Vec<(&str, Vec<Value>)> = kinds.collect();
    let mut doors = BTreeSet::new();
    let mut next = vec![service.to_lowercase()];
    // Backwards, from one to those that name it: few of all entries have to do with a service.
    while let Some(name) = next.pop() {
        for (kind, entries) in &kinds {
            let linked = entries
                .iter()
                .filter(|entry| rules::leads_to(kind, entry, &name));
            next.extend(linked.map(|entry| text(entry, "Name").to_lowercase()));
        }
        doors.insert(name);
        next.retain(|name| !doors.contains(name));
    }
    doors.retain(|name| {
        let request = ChainRequest {
            service: name.clone(),
            datacenter: "dc1".to_owned(),
            ..ChainRequest::default()
        };
        match compile(&request, "consul", found) {
            Ok(chain) => chain.leads_to(service),
            // Entries of before they had to fit together: nobody knows where it leads.
            Err(_) => is(name, service),
        }
    });
    doors
}

fn is(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

#[cfg(test)]
mod tests;
