//! Discovery chains: which instances a connection to a service may end at, and how they are chosen. Pure.
//!
//! A chain is a graph: a router at most, then splitters, then resolvers, each of which names a target. It is compiled
//! from the entries about the service and about those that it leads to. The same entries make the same chain, on every
//! server: writes are refused by it (`entries/rules.rs`). Source: Consul's discovery chain compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check::{list, text};

mod resolve;
mod show;
mod splits;

#[cfg(test)]
pub(super) mod tests;

/// Splitters that may stand behind each other. Consul has no bound; a stack has.
const DEPTH_MAX: usize = 64;
/// Parts that one splitter may have in the end, with those of the splitters behind it.
const SPLITS_MAX: usize = 1024;
/// The protocol of a service of which nobody says another.
const TCP: &str = "tcp";

/// Where the entries are.
pub trait Find {
    /// The entry of a kind with a name in any case, as Consul shows it.
    fn find(&self, kind: &str, name: &str) -> Option<Value>;
    /// All of a kind, by name.
    fn of_kind(&self, kind: &str) -> Vec<Value>;
}

/// What is to be compiled. It travels between servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRequest {
    /// Connections to which service.
    pub service: String,
    /// The datacenter that targets are in which say none.
    pub datacenter: String,
    /// The protocol that the caller takes it for; empty for the service's own. With one that is not HTTP-like there are
    /// neither routers nor splitters.
    pub protocol: String,
    /// The caller's mode of mesh gateways; empty for each target's own.
    pub mesh_gateway: String,
    /// How long the caller lets a connection take; zero for each resolver's own.
    pub connect_timeout: Duration,
}

/// A chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    service: String,
    datacenter: String,
    /// What all services in it speak.
    pub protocol: String,
    is_default: bool,
    customization: String,
    meta: Option<Value>,
    extensions: Vec<Value>,
    start: String,
    nodes: BTreeMap<String, Node>,
    targets: BTreeMap<String, Target>,
}

impl Chain {
    /// Whether nothing comes before a resolver.
    pub fn starts_with_resolver(&self) -> bool {
        matches!(self.nodes.get(&self.start), Some(Node::Resolver(_)))
    }

    /// Whether connections may end at a service of this name, in any datacenter; the peers' are others.
    pub fn leads_to(&self, service: &str) -> bool {
        let mut targets = self.targets.values().map(|target| &target.to);
        targets.any(|to| to.peer.is_empty() && to.service.to_lowercase() == service.to_lowercase())
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Router {
        name: String,
        routes: Vec<(Value, String)>,
    },
    Splitter {
        name: String,
        splits: Vec<Split>,
        balancer: Option<Value>,
    },
    Resolver(Box<Resolver>),
}

#[derive(Debug, Clone, PartialEq)]
struct Split {
    definition: Value,
    weight: f32,
    next: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Resolver {
    is_default: bool,
    connect_timeout: Duration,
    request_timeout: Duration,
    target: String,
    failover: Option<Failover>,
    balancer: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Target {
    to: To,
    subset: Option<Value>,
    mesh_gateway: String,
    dialed_directly: bool,
    connect_timeout: Duration,
    external: bool,
    sni: String,
    name: String,
}

/// Where connections go when a target has no healthy instance.
#[derive(Debug, Clone, PartialEq)]
struct Failover {
    targets: Vec<String>,
    policy: Option<Value>,
}

/// Where a target is.
#[derive(Debug, Clone, Default, PartialEq)]
struct To {
    service: String,
    subset: String,
    datacenter: String,
    peer: String,
}

impl To {
    fn of(fields: &Value) -> Self {
        Self {
            service: text(fields, "Service").to_owned(),
            subset: text(fields, "ServiceSubset").to_owned(),
            datacenter: text(fields, "Datacenter").to_owned(),
            peer: text(fields, "Peer").to_owned(),
        }
    }

    fn id(&self) -> String {
        let Self {
            service,
            subset,
            datacenter,
            peer,
        } = self;
        match (peer.as_str(), subset.as_str()) {
            ("", "") => format!("{service}.default.default.{datacenter}"),
            ("", subset) => format!("{subset}.{service}.default.default.{datacenter}"),
            (peer, _) => format!("{service}.default.default.external.{peer}"),
        }
    }

    fn sni(&self, trust_domain: &str) -> String {
        let Self {
            service,
            subset,
            datacenter,
            peer: _,
        } = self;
        match subset.as_str() {
            "" => format!("{service}.default.{datacenter}.internal.{trust_domain}"),
            subset => format!("{subset}.{service}.default.{datacenter}.internal.{trust_domain}"),
        }
    }
}

/// Compiles a chain.
///
/// # Errors
/// When the entries do not fit together, in Consul's words.
pub fn compile(
    request: &ChainRequest,
    trust_domain: &str,
    found: &dyn Find,
) -> Result<Chain, String> {
    let mut compiler = Compiler {
        request,
        trust_domain,
        found,
        global: found.find("proxy-defaults", "global").unwrap_or_default(),
        services: BTreeMap::new(),
        plain: !request.protocol.is_empty() && !is_http(&request.protocol),
        advanced: false,
        customized: Customized::default(),
        protocol: String::new(),
        nodes: BTreeMap::new(),
        targets: BTreeMap::new(),
        retained: BTreeSet::new(),
    };
    let start = compiler.assemble()?;
    compiler.finish(start)
}

/// Whether requests of this protocol can be told apart.
pub(super) fn is_http(protocol: &str) -> bool {
    matches!(protocol, "http" | "http2" | "grpc")
}

/// What overrides have changed.
#[derive(Default)]
struct Customized {
    mesh_gateway: bool,
    protocol: bool,
    connect_timeout: bool,
}

struct Compiler<'a> {
    request: &'a ChainRequest,
    trust_domain: &'a str,
    found: &'a dyn Find,
    /// `proxy-defaults`, or nothing.
    global: Value,
    /// `service-defaults` that were looked at.
    services: BTreeMap<String, Option<Value>>,
    /// Without routers and splitters, for the caller's protocol.
    plain: bool,
    /// Whether there are routers or splitters.
    advanced: bool,
    customized: Customized,
    protocol: String,
    nodes: BTreeMap<String, Node>,
    targets: BTreeMap<String, Target>,
    retained: BTreeSet<String>,
}

fn resolver_key(target: &str) -> String {
    format!("resolver:{target}")
}

fn splitter_key(service: &str) -> String {
    format!("splitter:{service}.default.default")
}

fn or<'a>(given: &'a str, otherwise: &'a str) -> &'a str {
    match given {
        "" => otherwise,
        given => given,
    }
}

impl Compiler<'_> {
    fn defaults(&mut self, service: &str) -> Option<&Value> {
        let found = self.found;
        let slot = self
            .services
            .entry(service.to_owned())
            .or_insert_with(|| found.find("service-defaults", service));
        slot.as_ref()
    }

    fn record_protocol(&mut self, service: &str) -> Result<(), String> {
        let protocol = match self.defaults(service) {
            Some(defaults) => text(defaults, "Protocol").to_lowercase(),
            None => {
                let said = self.global.pointer("/Config/protocol");
                let said = said.and_then(Value::as_str).unwrap_or_default();
                said.to_lowercase()
            }
        };
        let protocol = or(&protocol, TCP);
        if self.protocol.is_empty() {
            protocol.clone_into(&mut self.protocol);
        } else if self.protocol != protocol {
            return Err(format!(
                "discovery chain {:?} uses inconsistent protocols; service {service:?} has {protocol:?} which is not {:?}",
                self.request.service, self.protocol
            ));
        }
        Ok(())
    }

    /// Makes all nodes; the key of the first.
    fn assemble(&mut self) -> Result<String, String> {
        let service = self.request.service.clone();
        let Some(router) = self.advanced_entry("service-router", &service) else {
            let target = self.target(&service, "");
            return self.splitter_or_resolver(&target);
        };
        self.advanced = true;
        self.record_protocol(&service)?;
        let mut routes = Vec::new();
        for route in list(&router, "Routes") {
            let to = route.get("Destination").map(To::of).unwrap_or_default();
            let target = self.target(or(&to.service, &service), &to.subset);
            let next = match to.subset.is_empty() {
                true => self.splitter_or_resolver(&target)?,
                false => resolver_key(&self.resolve(target, false)?),
            };
            routes.push((route.clone(), next));
        }
        // What no route matches goes on to the service itself.
        let target = self.target(&service, "");
        let next = self.splitter_or_resolver(&target)?;
        let otherwise = serde_json::json!({
            "Match": {"HTTP": {"PathPrefix": "/"}},
            "Destination": {"Service": service, "Namespace": "default", "Partition": "default"},
        });
        routes.push((otherwise, next));
        let name = format!("{service}.default.default");
        let start = format!("router:{name}");
        self.nodes
            .insert(start.clone(), Node::Router { name, routes });
        Ok(start)
    }

    /// A router's or splitter's entry, unless the caller's protocol knows none.
    fn advanced_entry(&mut self, kind: &str, service: &str) -> Option<Value> {
        let entry = self.found.find(kind, service)?;
        if self.plain {
            self.customized.protocol = true;
            return None;
        }
        Some(entry)
    }

    /// The id of the target of a service here.
    fn target(&mut self, service: &str, subset: &str) -> String {
        self.target_to(To {
            service: service.to_owned(),
            subset: subset.to_owned(),
            ..To::default()
        })
    }

    fn target_to(&mut self, mut to: To) -> String {
        match to.peer.is_empty() {
            true if to.datacenter.is_empty() => {
                self.request.datacenter.clone_into(&mut to.datacenter)
            }
            true => {}
            false => to.datacenter.clear(),
        }
        let id = to.id();
        let trust_domain = self.trust_domain;
        self.targets.entry(id.clone()).or_insert_with(|| {
            // How a peer's services are called is known with the peer only.
            let sni = match to.peer.is_empty() {
                true => to.sni(trust_domain),
                false => String::new(),
            };
            Target {
                to,
                name: sni.clone(),
                sni,
                ..Target::default()
            }
        });
        id
    }

    /// The id of another target than `from`, in what `to` says.
    fn rewrite(&mut self, from: &To, to: To) -> String {
        let mut merged = from.clone();
        if !to.service.is_empty() && to.service != merged.service {
            merged.service = to.service;
            // Another service's subsets are others.
            merged.subset.clear();
        }
        if !to.subset.is_empty() {
            merged.subset = to.subset;
        }
        if !to.datacenter.is_empty() {
            merged.datacenter = to.datacenter;
        }
        merged.peer = to.peer;
        self.target_to(merged)
    }

    fn splitter_or_resolver(&mut self, target: &str) -> Result<String, String> {
        let service = self.targets[target].to.service.clone();
        match self.splitter(&service, 0)? {
            Some(key) => Ok(key),
            None => Ok(resolver_key(&self.resolve(target.to_owned(), false)?)),
        }
    }

    /// The key of a service's splitter, if it has one.
    fn splitter(&mut self, service: &str, depth: usize) -> Result<Option<String>, String> {
        let key = splitter_key(service);
        if self.nodes.contains_key(&key) {
            return Ok(Some(key));
        }
        let Some(entry) = self.advanced_entry("service-splitter", service) else {
            return Ok(None);
        };
        if depth >= DEPTH_MAX {
            return Err(format!(
                "discovery chain {:?} has more than {DEPTH_MAX} splitters behind each other",
                self.request.service
            ));
        }
        let name = format!("{service}.default.default");
        // Known before what it leads to, so that a circle comes to an end.
        let empty = Node::Splitter {
            name: name.clone(),
            splits: Vec::new(),
            balancer: None,
        };
        self.nodes.insert(key.clone(), empty);
        let (mut splits, mut balancer) = (Vec::new(), None);
        for split in list(&entry, "Splits") {
            let to = To::of(split);
            let other = or(&to.service, service).to_owned();
            let next = match to.subset.is_empty() && other != service {
                true => self.splitter(&other, depth + 1)?,
                false => None,
            };
            let next = match next {
                Some(next) => next,
                None => {
                    let target = self.target(&other, &to.subset);
                    let key = resolver_key(&self.resolve(target, false)?);
                    // A splitter can have one way to hash only: the first.
                    if let (None, Some(Node::Resolver(node))) = (&balancer, self.nodes.get(&key)) {
                        balancer = node.balancer.clone().filter(is_hashing);
                    }
                    key
                }
            };
            splits.push(Split {
                definition: split.clone(),
                weight: split.get("Weight").and_then(Value::as_f64).unwrap_or(0.0) as f32,
                next,
            });
        }
        let whole = Node::Splitter {
            name,
            splits,
            balancer,
        };
        self.nodes.insert(key.clone(), whole);
        self.advanced = true;
        Ok(Some(key))
    }

    fn finish(mut self, start: String) -> Result<Chain, String> {
        splits::check_circles(&start, &self.nodes)?;
        splits::flatten(&mut self.nodes, &self.request.service)?;
        splits::prune(&start, &mut self.nodes);
        let retained = std::mem::take(&mut self.retained);
        self.targets.retain(|id, _| retained.contains(id));
        let request = self.request;
        if self.advanced && !is_http(&self.protocol) {
            return Err(format!(
                "discovery chain {:?} uses a protocol {:?} that does not permit advanced routing or splitting behavior",
                request.service, self.protocol
            ));
        }
        if !request.protocol.is_empty() && request.protocol != self.protocol {
            self.protocol.clone_from(&request.protocol);
            self.customized.protocol = true;
        }
        let defaults = self.defaults(&request.service).cloned().unwrap_or_default();
        let extensions = [&self.global, &defaults];
        let extensions = extensions.map(|entry| list(entry, "EnvoyExtensions"));
        let is_default = match self.nodes.get(&start) {
            Some(Node::Resolver(node)) => {
                let own = |target: &Target| {
                    target.to.service == request.service && target.to.peer.is_empty()
                };
                node.is_default && self.targets.get(&node.target).is_some_and(own)
            }
            _ => false,
        };
        Ok(Chain {
            service: request.service.clone(),
            datacenter: request.datacenter.clone(),
            is_default,
            customization: self.customization(),
            meta: defaults.get("Meta").cloned(),
            extensions: extensions.concat(),
            protocol: self.protocol,
            start,
            nodes: self.nodes,
            targets: self.targets,
        })
    }

    /// Tells chains apart whose overrides had an effect; empty when none had. Opaque.
    fn customization(&self) -> String {
        let Customized {
            mesh_gateway,
            protocol,
            connect_timeout,
        } = self.customized;
        if !(mesh_gateway || protocol || connect_timeout) {
            return String::new();
        }
        let request = self.request;
        let of = |has: bool, text: &str| has.then(|| text.to_owned());
        let text = serde_json::json!([
            of(mesh_gateway, &request.mesh_gateway),
            of(protocol, &request.protocol),
            of(
                connect_timeout,
                &crate::duration::print(request.connect_timeout)
            ),
        ]);
        // FNV-1a: the same on every server and in every version.
        let hash = text
            .to_string()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{hash:016x}")[..8].to_owned()
    }
}

/// Whether a load balancer chooses by a hash of the request.
fn is_hashing(balancer: &Value) -> bool {
    matches!(text(balancer, "Policy"), "ring_hash" | "maglev")
}

/// Objects without what is empty.
fn shown<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    });
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    Value::Object(fields.collect::<Map<_, _>>())
}
