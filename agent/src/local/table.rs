//! What runs here and how it is: the agent's own view, which the catalog follows. Pure: time comes in.

mod results;
mod sync;
#[cfg(test)]
mod tests;

pub(super) use results::{NoHeartbeat, is_own_alias, worst};
pub use sync::InNameOf;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::definition::{CheckDefinition, Kind, ServiceDefinition, sidecar_id};
use crate::config::Secret;
use crate::state::{CONSUL_VIRTUAL, Check, CheckStatus, Service, ServiceAddress};

/// Id of the check that takes the whole node out of service.
pub const NODE_MAINTENANCE: &str = "_node_maintenance";
/// What stands before a service's id in the check that takes it out of service.
pub const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// Where a definition comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The API: kept in the data dir.
    Api,
    /// A configuration file: read again at each start and reload.
    File,
}

/// A service that runs here.
#[derive(Debug, Clone)]
pub struct OwnService {
    /// The catalog's row of it; indexes are 0.
    pub row: Arc<Service>,
    /// Who defined it.
    pub source: Source,
    /// Whether it goes with the service whose sidecar it is.
    pub(super) sidecar: bool,
    /// Of its definition; empty for none.
    pub(super) token: Secret,
    pub(super) in_sync: bool,
}

/// A check that is run here.
#[derive(Debug, Clone)]
pub struct OwnCheck {
    /// The catalog's row of it; indexes are 0.
    pub row: Arc<Check>,
    /// How it is run.
    pub definition: Arc<CheckDefinition>,
    /// Who defined it.
    pub source: Source,
    pub(super) in_sync: bool,
    /// When a new output is to be written, if nothing else happens before.
    output_due: Option<Instant>,
    /// When a TTL is over.
    pub(super) expires: Option<Instant>,
    /// Since when it is critical.
    critical_since: Option<Instant>,
    successes: u32,
    failures: u32,
}

/// Settings that the table obeys.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Own node name.
    pub(super) node: String,
    /// Longest output that is kept, in bytes.
    pub(super) output_max: usize,
    /// Whether outputs are thrown away.
    pub(super) discard_output: bool,
    /// How long a new output may wait to be written; 0 writes at once.
    pub(super) update_interval: Duration,
    /// Whether it matters in whose name the catalog is told.
    pub(super) asks_for_tokens: bool,
}

/// All services and checks of this agent.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rules: Rules,
    pub(super) services: BTreeMap<String, OwnService>,
    pub(super) checks: BTreeMap<String, OwnCheck>,
    /// Ids that the catalog may still have, and in whose name they are taken out of it.
    pub(super) gone_services: BTreeMap<String, InNameOf>,
    pub(super) gone_checks: BTreeMap<String, InNameOf>,
    /// Whether the catalog has the node's own row as it should be.
    pub(super) node_in_sync: bool,
}

impl Table {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            services: BTreeMap::new(),
            checks: BTreeMap::new(),
            gone_services: BTreeMap::new(),
            gone_checks: BTreeMap::new(),
            node_in_sync: false,
        }
    }

    /// Adds a service or replaces it, with its checks. Checks that it had before and that are not named stay, unless
    /// `replace` says otherwise; those with an id in use keep their result. The ids of checks that are gone.
    pub(super) fn put_service(
        &mut self,
        definition: &ServiceDefinition,
        source: Source,
        replace: bool,
        now: Instant,
    ) -> Vec<String> {
        let row = &self.with_address(&definition.service);
        let same = |old: &&OwnService| old.in_sync && *old.row == *row;
        let in_sync = self.services.get(&row.id).as_ref().is_some_and(same);
        self.gone_services.remove(&row.id);
        let own = OwnService {
            row: Arc::new(row.clone()),
            source,
            sidecar: definition.sidecar,
            token: definition.token.clone(),
            in_sync,
        };
        self.services.insert(row.id.clone(), own);
        let mut gone = Vec::new();
        if replace {
            let maintenance = format!("{SERVICE_MAINTENANCE}{}", row.id);
            let named =
                |id: &str| id == maintenance || definition.checks.iter().any(|c| c.id == id);
            gone = self.ids_of_checks(&row.id);
            gone.retain(|id| !named(id));
            for id in &gone {
                self.drop_check(id);
            }
        }
        for check in &definition.checks {
            let known = self.checks.get(&check.id).map(|old| old.row.clone());
            self.put_check(Arc::new(check.clone()), source, now);
            if let (Some(known), Some(own)) = (known, self.checks.get_mut(&check.id)) {
                let row = Arc::make_mut(&mut own.row);
                (row.status, row.output) = (known.status, known.output.clone());
            }
        }
        // Checks that stay show the service's name and tags.
        let (name, tags) = (row.service.clone(), row.tags.clone());
        for check in self
            .checks
            .values_mut()
            .filter(|c| c.row.service_id == row.id)
        {
            if check.row.service_name != name || check.row.service_tags != tags {
                let row = Arc::make_mut(&mut check.row);
                (row.service_name, row.service_tags) = (name.clone(), tags.clone());
            }
        }
        self.refresh_aliases();
        gone
    }

    /// Adds a check or replaces it.
    ///
    /// The caller has seen to it that its service is here.
    /// A row with the address that the servers gave to its service.
    fn with_address(&self, row: &Service) -> Service {
        let mut row = row.clone();
        let known = self.services.get(&row.id);
        let known = known.filter(|old| row.mesh_target().is_some() && old.row.mesh == row.mesh);
        let known = known.and_then(|old| old.row.tagged_addresses.get(CONSUL_VIRTUAL));
        if let Some(known) = known {
            let (address, port) = (known.address.clone(), row.port);
            let known = ServiceAddress { address, port };
            row.tagged_addresses
                .insert(CONSUL_VIRTUAL.to_owned(), known);
        }
        row
    }

    pub(super) fn put_check(
        &mut self,
        definition: Arc<CheckDefinition>,
        source: Source,
        now: Instant,
    ) {
        let mut row = definition.row(&self.rules.node);
        if let Some(service) = self.services.get(&definition.service_id) {
            row.service_name = service.row.service.clone();
            row.service_tags = service.row.tags.clone();
        }
        if definition.kind == Kind::Maintenance {
            row.output.clear();
        }
        let expires = match definition.kind {
            Kind::Ttl(ttl) => Some(now + ttl),
            _ => None,
        };
        let critical = row.status == CheckStatus::Critical;
        let id = definition.id.clone();
        self.gone_checks.remove(&id);
        let own = OwnCheck {
            row: Arc::new(row),
            definition,
            source,
            in_sync: false,
            output_due: None,
            expires,
            critical_since: critical.then_some(now),
            successes: 0,
            failures: 0,
        };
        self.checks.insert(id, own);
        self.refresh_aliases();
    }

    /// Removes a service with its checks; the ids of these. `None`: there is no such service.
    pub(super) fn drop_service(&mut self, id: &str) -> Option<Vec<String>> {
        let gone = self.services.remove(id)?;
        let name = self.of_service(&gone);
        let checks = self.ids_of_checks(id);
        for check in &checks {
            self.checks.remove(check);
        }
        // The catalog drops a service's checks with it.
        self.gone_services.insert(id.to_owned(), name);
        self.refresh_aliases();
        Some(checks)
    }

    /// A service and, if it was registered with it, its sidecar: what goes when it goes. Nothing when it is not here.
    pub(super) fn with_sidecar(&self, id: &str) -> Vec<String> {
        let sidecar = sidecar_id(id);
        let is_sidecar = |own: &OwnService| own.sidecar;
        let mut ids = Vec::new();
        if self.services.contains_key(id) {
            ids.push(id.to_owned());
            if self.services.get(&sidecar).is_some_and(is_sidecar) {
                ids.push(sidecar);
            }
        }
        ids
    }

    /// Removes a check; false when there is none.
    pub(super) fn drop_check(&mut self, id: &str) -> bool {
        let Some(gone) = self.checks.remove(id) else {
            return false;
        };
        let name = self.of_check(&gone);
        self.gone_checks.insert(id.to_owned(), name);
        self.refresh_aliases();
        true
    }

    /// Removes what files defined and do not any more; the ids of checks that are gone.
    pub(super) fn drop_unnamed(
        &mut self,
        service: impl Fn(&str) -> bool,
        check: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let services = self.services.iter();
        let doomed: Vec<String> = services
            .filter(|(id, own)| own.source == Source::File && !service(id))
            .map(|(id, _)| id.clone())
            .collect();
        let mut gone: Vec<String> = Vec::new();
        for id in doomed {
            gone.extend(self.drop_service(&id).unwrap_or_default());
        }
        let checks = self.checks.iter();
        let doomed: Vec<String> = checks
            .filter(|(id, own)| own.source == Source::File && !check(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in doomed {
            self.drop_check(&id);
            gone.push(id);
        }
        gone
    }

    /// Whether a service from a file is here as it is defined.
    pub(super) fn has_service(&self, definition: &ServiceDefinition) -> bool {
        let own = self.services.get(&definition.service.id);
        own.is_some_and(|own| own.source == Source::File && *own.row == definition.service)
            && definition.checks.iter().all(|check| self.has_check(check))
    }

    /// Whether a check from a file is here as it is defined.
    pub(super) fn has_check(&self, definition: &CheckDefinition) -> bool {
        let own = self.checks.get(&definition.id);
        own.is_some_and(|own| own.source == Source::File && *own.definition == *definition)
    }

    /// Ids of the checks of a service.
    pub(super) fn ids_of_checks(&self, service: &str) -> Vec<String> {
        let checks = self.checks.iter();
        checks
            .filter(|(_, check)| check.row.service_id == service)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The checks that decide on a service's health: its own and the node's.
    pub(super) fn checks_for(&self, service: &str) -> Vec<Arc<Check>> {
        let checks = self.checks.values();
        checks
            .filter(|c| c.row.service_id == service || c.row.service_id.is_empty())
            .map(|check| check.row.clone())
            .collect()
    }
}
