//! Resolvers: where a target's connections end in the end, and where they go when nobody is there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{Compiler, Failover, Node, Resolver, To, resolver_key};
use crate::entries::check::{list, text};

/// When a resolver does not say how long a connection may take. Consul's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Compiler<'_> {
    /// Follows redirects and default subsets from a target, and makes the node at their end; the id of its target. For
    /// failover no node is made.
    pub(super) fn resolve(&mut self, mut id: String, for_failover: bool) -> Result<String, String> {
        let (mut passed, mut order) = (BTreeSet::new(), Vec::new());
        let (entry, to) = loop {
            if self.nodes.contains_key(&resolver_key(&id)) {
                return Ok(id);
            }
            let to = self.targets[&id].to.clone();
            if to.peer.is_empty() {
                self.record_protocol(&to.service)?;
            }
            let entry = self.found.find("service-resolver", &to.service);
            let entry = entry.unwrap_or_default();
            order.push(id.clone());
            if !passed.insert(id.clone()) {
                let order = order.join(" -> ");
                return Err(format!("detected circular resolver redirect: [{order}]"));
            }
            if let Some(redirect) = entry.get("Redirect") {
                let next = self.rewrite(&to, To::of(redirect));
                if next != id {
                    id = next;
                    continue;
                }
            }
            let default_subset = text(&entry, "DefaultSubset");
            if to.subset.is_empty() && !default_subset.is_empty() {
                let subset = default_subset.to_owned();
                let next = To {
                    subset,
                    ..To::default()
                };
                id = self.rewrite(&to, next);
                continue;
            }
            break (entry, to);
        };
        let subset = entry.get("Subsets").and_then(|all| all.get(&to.subset));
        if !to.subset.is_empty() && subset.is_none() {
            return Err(format!(
                "service {:?} does not have a subset named {:?}",
                to.service, to.subset
            ));
        }
        let subset = subset.cloned();
        let node = self.resolver(&id, &to, &entry, subset)?;
        self.retained.insert(id.clone());
        if for_failover {
            return Ok(id);
        }
        // Known before its failover, which may lead back here.
        let key = resolver_key(&id);
        self.nodes.insert(key.clone(), Node::Resolver(node));
        let failover = self.failover(&id, &to, &entry)?;
        if let Some(Node::Resolver(node)) = self.nodes.get_mut(&key) {
            node.failover = failover;
        }
        Ok(id)
    }

    /// The node of a target, about which the target learns what the entries say.
    fn resolver(
        &mut self,
        id: &str,
        to: &To,
        entry: &Value,
        subset: Option<Value>,
    ) -> Result<Box<Resolver>, String> {
        let asked = self.request.connect_timeout;
        let mut connect_timeout = match time(entry, "ConnectTimeout") {
            Duration::ZERO => CONNECT_TIMEOUT,
            time => time,
        };
        if !asked.is_zero() && asked != connect_timeout {
            connect_timeout = asked;
            self.customized.connect_timeout = true;
        }
        self.describe(id, to, entry, subset, connect_timeout)?;
        const SAYS: [&str; 7] = [
            "DefaultSubset",
            "Subsets",
            "Redirect",
            "Failover",
            "ConnectTimeout",
            "RequestTimeout",
            "LoadBalancer",
        ];
        Ok(Box::new(Resolver {
            is_default: SAYS.iter().all(|name| entry.get(name).is_none()),
            connect_timeout,
            request_timeout: time(entry, "RequestTimeout"),
            target: id.to_owned(),
            failover: None,
            balancer: entry.get("LoadBalancer").cloned(),
        }))
    }

    /// Tells a target what the entries say of it.
    fn describe(
        &mut self,
        id: &str,
        to: &To,
        entry: &Value,
        subset: Option<Value>,
        connect_timeout: Duration,
    ) -> Result<(), String> {
        let defaults = self.defaults(&to.service).cloned().unwrap_or_default();
        let sni = text(&defaults, "ExternalSNI").to_owned();
        if !sni.is_empty() {
            let said = [
                ("Redirect", "redirects"),
                ("Subsets", "subsets"),
                ("Failover", "failover"),
            ];
            if let Some((_, what)) = said.iter().find(|(name, _)| entry.get(name).is_some()) {
                return Err(format!(
                    "service {:?} has an external SNI set; cannot define {what} for external services",
                    to.service
                ));
            }
        }
        let gateway = |of: &Value| {
            let mode = of.pointer("/MeshGateway/Mode").and_then(Value::as_str);
            mode.unwrap_or_default().to_owned()
        };
        let direct = |of: &Value| {
            let direct = of.pointer("/TransparentProxy/DialedDirectly");
            direct.and_then(Value::as_bool).unwrap_or_default()
        };
        let mut mesh_gateway = match gateway(&defaults) {
            mode if mode.is_empty() => gateway(&self.global),
            mode => mode,
        };
        let dialed_directly = direct(&defaults) || direct(&self.global);
        let asked = &self.request.mesh_gateway;
        let is_external = !sni.is_empty();
        if !asked.is_empty() && *asked != mesh_gateway && !is_external {
            mesh_gateway.clone_from(asked);
            self.customized.mesh_gateway = true;
        }
        if let Some(target) = self.targets.get_mut(id) {
            target.connect_timeout = connect_timeout;
            target.subset = subset;
            target.external = is_external;
            if is_external {
                // Mesh gateways know nothing of it.
                target.sni = sni;
            } else {
                target.mesh_gateway = mesh_gateway;
                target.dialed_directly = dialed_directly;
            }
        }
        Ok(())
    }

    /// Where connections go when a target has no healthy instance.
    fn failover(&mut self, id: &str, to: &To, entry: &Value) -> Result<Option<Failover>, String> {
        let all = entry.get("Failover").unwrap_or(&Value::Null);
        let Some(failover) = all.get(&to.subset).or_else(|| all.get("*")) else {
            return Ok(None);
        };
        let datacenters = list(failover, "Datacenters").iter();
        let mut others: Vec<To> = datacenters
            .map(|datacenter| To {
                datacenter: datacenter.as_str().unwrap_or_default().to_owned(),
                ..To::of(failover)
            })
            .collect();
        if others.is_empty() {
            others = list(failover, "Targets").iter().map(To::of).collect();
        }
        if others.is_empty() {
            others.push(To::of(failover));
        }
        let mut targets = Vec::new();
        for other in others {
            let other = self.rewrite(to, other);
            // Nobody fails over to himself.
            if other != id {
                targets.push(self.resolve(other, true)?);
            }
        }
        if targets.is_empty() {
            return Ok(None);
        }
        let said = |policy: &&Value| !text(policy, "Mode").is_empty();
        let policy = failover.get("Policy").filter(said);
        let policy = policy.or_else(|| self.global.get("FailoverPolicy"));
        let policy = policy.cloned();
        Ok(Some(Failover { targets, policy }))
    }
}

fn time(entry: &Value, name: &str) -> Duration {
    crate::duration::parse(text(entry, name)).unwrap_or_default()
}
