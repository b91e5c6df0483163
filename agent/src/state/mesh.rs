//! What is answered from the catalog and the config entries together: chains, gateways, addresses of services.

use std::sync::Arc;

use super::entries::View;
use super::query::{Answer, Query};
use super::{Indexes, Service, ServiceHealth, Tables};
use crate::entries::gateways::{self, INGRESS, TERMINATING};
use crate::entries::{central, chain, rules};

impl Tables {
    pub(super) fn mesh_answer(&self, query: &Query) -> Answer {
        match query {
            Query::Chain(request) => Answer::Chain(self.chain(request)),
            Query::GatewayServices { gateway } => {
                let known = self.catalog.known();
                let view = View::of(&self.entries);
                Answer::GatewayServices(gateways::services_of(gateway, &view, &known))
            }
            Query::IngressHealth {
                service,
                tags,
                passing,
            } => Answer::ServiceHealth(self.gateway_health(INGRESS, service, tags, *passing)),
            Query::Merged(of) => self.merged(self.query(&of.plain())),
            Query::ExportedServices => {
                let names: Vec<_> = self
                    .catalog
                    .known()
                    .into_iter()
                    .map(|known| known.name)
                    .collect();
                let exported = rules::exported_to(&View::of(&self.entries), &names);
                Answer::ExportedServices(exported.into_iter().collect())
            }
            Query::VirtualIp { service } => {
                Answer::VirtualIp(self.virtual_ips.find(service).cloned())
            }
            _ => Answer::Nothing,
        }
    }

    pub(super) fn mesh_indexes(&self, query: &Query) -> Indexes {
        let catalog = &self.catalog.index;
        let index = match query {
            Query::Merged(of) => {
                let plain = self.indexes(&of.plain());
                let entries = self.entries.index;
                return Indexes {
                    shown: plain.shown.max(entries),
                    changed: plain.changed.max(entries),
                };
            }
            Query::Chain(_) => {
                // Another's trust domain came with its roots.
                let own = self.cluster_id.map(|(id, _)| id);
                let foreign = self.ca.cluster_id().filter(|id| Some(*id) != own);
                let domain = foreign.map_or(0, |_| self.ca.roots_index);
                let entries = self.entries.index.max(domain);
                entries.max(self.virtual_ips.counters.index)
            }
            Query::GatewayServices { .. } | Query::ExportedServices => {
                self.entries.index.max(catalog.services)
            }
            Query::IngressHealth { .. } => self.entries.index.max(catalog.any()),
            _ => return self.virtual_ips.indexes(),
        };
        Indexes::same(index)
    }

    fn chain(&self, request: &chain::ChainRequest) -> Result<String, String> {
        let own = self.cluster_id.map(|(id, _)| id);
        let trust_domain = self.ca.cluster_id().or(own).unwrap_or_default();
        let trust_domain = format!("{trust_domain}.consul");
        let chain = chain::compile(request, &trust_domain, &View::of(&self.entries))?;
        let ips = self.virtual_ips.find(&request.service);
        let own = ips.map(|ips| ips.address().to_string());
        let given = ips.map(|ips| ips.manual.clone());
        let own = own.into_iter().collect();
        Ok(chain.show(own, given.unwrap_or_default()).to_string())
    }

    /// Shows proxies and gateways with what the entries say of them.
    fn merged(&self, answer: Answer) -> Answer {
        let view = View::of(&self.entries);
        let merge = |service: &mut Arc<Service>| {
            let mesh = service.mesh.as_deref();
            let name = match (service.kind.as_str(), mesh) {
                ("connect-proxy", Some(mesh)) => &mesh.destination,
                (kind, _) if kind.ends_with("-gateway") => &service.service,
                _ => return,
            };
            let given = mesh.and_then(|mesh| serde_json::from_str(&mesh.proxy).ok());
            let proxy = central::merged(name, &given.unwrap_or_default(), &view);
            let mut shown = Service::clone(service);
            shown.mesh.get_or_insert_default().proxy = proxy.to_string();
            *service = Arc::new(shown);
        };
        match answer {
            Answer::ServiceNodes(mut found) => {
                found.iter_mut().for_each(|row| merge(&mut row.service));
                Answer::ServiceNodes(found)
            }
            Answer::ServiceHealth(mut found) => {
                found.iter_mut().for_each(|row| merge(&mut row.service));
                Answer::ServiceHealth(found)
            }
            Answer::NodeServices(Some(mut found)) => {
                found.services.iter_mut().for_each(merge);
                Answer::NodeServices(Some(found))
            }
            other => other,
        }
    }

    /// Those at which connections to a service through the mesh end: its own, and gateways that stand for it.
    pub(super) fn mesh_health(
        &self,
        service: &str,
        tags: &[String],
        passing: bool,
    ) -> Vec<ServiceHealth> {
        let mut found = self.catalog.mesh_health(service, tags, passing);
        found.extend(self.gateway_health(TERMINATING, service, tags, passing));
        found
    }

    /// Changes of its own instances, and of the gateways that stand for it.
    pub(super) fn mesh_health_indexes(&self, service: &str) -> Indexes {
        let mut indexes = self.catalog.mesh_indexes(service);
        indexes.changed = indexes.changed.max(self.entries.gateways);
        if !self.entries.of_kind(TERMINATING).is_empty() {
            // A gateway for `*` stands for what is there outside of the mesh.
            let own = self.catalog.service_indexes(service).changed;
            indexes.changed = indexes.changed.max(own);
        }
        for gateway in self.gateways(TERMINATING, service) {
            let changed = self.catalog.service_indexes(&gateway).changed;
            indexes.changed = indexes.changed.max(changed);
        }
        indexes.shown = indexes.shown.max(indexes.changed);
        indexes
    }

    fn gateways(&self, kind: &str, service: &str) -> Vec<String> {
        if self.entries.of_kind(kind).is_empty() {
            return Vec::new();
        }
        let known = self.catalog.known_one(service);
        gateways::gateways_for(kind, service, &View::of(&self.entries), known.as_ref())
    }

    fn gateway_health(
        &self,
        kind: &str,
        service: &str,
        tags: &[String],
        passing: bool,
    ) -> Vec<ServiceHealth> {
        let gateways = self.gateways(kind, service);
        let instances = gateways
            .iter()
            .flat_map(|gateway| self.catalog.health(gateway, tags, passing));
        // Something else may have the same name.
        instances
            .filter(|instance| instance.service.kind == kind)
            .collect()
    }
}
