//! What can be asked of the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::table::{Catalog, NodeRow, ServiceRow, lower};
use super::{
    Check, CheckStatus, Node, NodeInfo, Service, ServiceHealth, ServiceNode, ServicesOfNode,
};
use crate::entries::gateways::Known;
use crate::state::Indexes;
use crate::state::command::{Outcome, Refusal};

impl Catalog {
    pub(in crate::state) fn node_row(&self, name: &str) -> Option<&NodeRow> {
        self.nodes.get(&*lower(name))
    }

    pub(in crate::state) fn nodes_with(&self, meta: &BTreeMap<String, String>) -> Vec<Arc<Node>> {
        self.rows_with(meta).map(|row| row.node.clone()).collect()
    }

    /// Service names with every tag that an instance carries.
    pub(in crate::state) fn services_with(
        &self,
        meta: &BTreeMap<String, String>,
    ) -> BTreeMap<String, BTreeSet<String>> {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for service in self.rows_with(meta).flat_map(|row| row.services.values()) {
            let tags = names.entry(service.service.clone()).or_default();
            tags.extend(service.tags.iter().cloned());
        }
        names
    }

    /// Every instance of every service.
    pub(in crate::state) fn all_instances(
        &self,
        meta: &BTreeMap<String, String>,
    ) -> Vec<ServiceNode> {
        self.rows_with(meta)
            .flat_map(|row| row.services.values().map(move |service| (row, service)))
            .map(|(row, service)| ServiceNode {
                node: row.node.clone(),
                service: service.clone(),
            })
            .collect()
    }

    /// The same without their nodes.
    pub(in crate::state) fn every_service(&self) -> impl Iterator<Item = &Service> {
        let rows = self.nodes.values();
        rows.flat_map(|row| row.services.values().map(|service| &**service))
    }

    /// Checks on nodes with these meta data, of a service itself or of all, in a state.
    pub(in crate::state) fn checks_with(
        &self,
        service: Option<&str>,
        state: &str,
        meta: &BTreeMap<String, String>,
    ) -> Vec<Arc<Check>> {
        let wanted = |check: &Check| {
            (state == "any" || check.status.as_str() == state)
                && service.is_none_or(|name| lower(&check.service_name) == lower(name))
        };
        let checks = self.rows_with(meta).flat_map(|row| row.checks.values());
        checks.filter(|check| wanted(check)).cloned().collect()
    }

    /// Instances of a service that carry all these tags.
    pub(in crate::state) fn instances(&self, service: &str, tags: &[String]) -> Vec<ServiceNode> {
        self.instance_rows(service)
            .filter(|(_, service)| has_tags(service, tags))
            .map(|(row, service)| ServiceNode {
                node: row.node.clone(),
                service: service.clone(),
            })
            .collect()
    }

    /// The same with their checks, on demand only those whose checks all pass.
    pub(in crate::state) fn health(
        &self,
        service: &str,
        tags: &[String],
        passing: bool,
    ) -> Vec<ServiceHealth> {
        health_of(self.instance_rows(service), tags, passing)
    }

    /// The same of those at which connections to a service through the mesh end.
    pub(in crate::state) fn mesh_health(
        &self,
        service: &str,
        tags: &[String],
        passing: bool,
    ) -> Vec<ServiceHealth> {
        health_of(self.rows_of(self.mesh.get(&*lower(service))), tags, passing)
    }

    /// Services that are neither proxies nor gateways, as gateways may stand for them.
    pub(in crate::state) fn known(&self) -> Vec<Known> {
        let names = self.services.keys();
        names.filter_map(|name| self.known_one(name)).collect()
    }

    pub(in crate::state) fn known_one(&self, service: &str) -> Option<Known> {
        let mut instances = self.instance_rows(service);
        let first = instances.find(|(_, service)| service.kind.is_empty())?.1;
        let is_native = |service: &Service| service.mesh.as_ref().is_some_and(|mesh| mesh.native);
        let outside = |service: &Service| service.kind.is_empty() && !is_native(service);
        Some(Known {
            name: first.service.clone(),
            in_mesh: self.mesh.contains_key(&*lower(service)),
            outside: outside(first) || instances.any(|(_, service)| outside(service)),
        })
    }

    pub(in crate::state) fn services_on(&self, name: &str) -> Option<ServicesOfNode> {
        self.node_row(name).map(|row| ServicesOfNode {
            node: row.node.clone(),
            services: row.services.values().cloned().collect(),
        })
    }

    /// One node, or all by name, with all that is known of them.
    pub(in crate::state) fn infos(&self, name: Option<&str>) -> Vec<NodeInfo> {
        let info = |row: &NodeRow| NodeInfo {
            node: row.node.clone(),
            services: row.services.values().cloned().collect(),
            checks: row.checks.values().cloned().collect(),
        };
        match name {
            Some(name) => self.node_row(name).into_iter().map(info).collect(),
            None => self.nodes.values().map(info).collect(),
        }
    }

    pub(in crate::state) fn checks_on(&self, name: &str) -> Vec<Arc<Check>> {
        let row = self.node_row(name).into_iter();
        row.flat_map(|row| row.checks.values()).cloned().collect()
    }

    /// The checks of a service itself, without those of its nodes.
    pub(in crate::state) fn checks_of(&self, service: &str) -> Vec<Arc<Check>> {
        self.instance_rows(service)
            .flat_map(|(row, service)| row.checks.of(&service.id))
            .cloned()
            .collect()
    }

    /// Who has this address. Looks at every row: reverse look-ups are rare, and an index would cost every registration.
    pub(in crate::state) fn owners_of(&self, address: &str) -> (Vec<Arc<Node>>, Vec<Arc<Service>>) {
        let rows = || self.nodes.values();
        let nodes = rows().filter(|row| row.node.address == address);
        let services = rows().flat_map(|row| row.services.values());
        let services = services.filter(|service| service.address == address);
        (
            nodes.map(|row| row.node.clone()).collect(),
            services.cloned().collect(),
        )
    }

    /// Checks in a state; `any` stands for all, and a word that is no state for none.
    pub(in crate::state) fn checks_in(&self, state: &str) -> Vec<Arc<Check>> {
        self.nodes
            .values()
            .flat_map(|row| row.checks.values())
            .filter(|check| state == "any" || check.status.as_str() == state)
            .cloned()
            .collect()
    }

    pub(in crate::state) fn node_indexes(&self, name: &str) -> Indexes {
        match self.node_row(name) {
            Some(row) => Indexes::same(row.index),
            None => Indexes {
                shown: self.index.any(),
                changed: self.index.nodes_gone,
            },
        }
    }

    pub(in crate::state) fn service_indexes(&self, service: &str) -> Indexes {
        self.indexes_of(self.services.get(&*lower(service)))
    }

    pub(in crate::state) fn mesh_indexes(&self, service: &str) -> Indexes {
        self.indexes_of(self.mesh.get(&*lower(service)))
    }

    fn indexes_of(&self, row: Option<&ServiceRow>) -> Indexes {
        match row {
            Some(row) => Indexes::same(row.index),
            None => Indexes {
                shown: self.index.any(),
                changed: self.index.services_gone,
            },
        }
    }

    /// Why no session may depend on this check, if so.
    pub(in crate::state) fn refuse_session(&self, node: &str, check: &str) -> Option<Outcome> {
        let found = self.node_row(node).and_then(|row| row.checks.get(check));
        match found.map(|check| check.status) {
            None => Some(Outcome::refuse(
                Refusal::MissingCheck,
                format!("Missing check '{check}' registration"),
            )),
            Some(CheckStatus::Critical) => Some(Outcome::refuse(
                Refusal::CriticalCheck,
                format!("Check '{check}' is in critical state"),
            )),
            Some(CheckStatus::Passing | CheckStatus::Warning) => None,
        }
    }

    fn rows_with<'a>(
        &'a self,
        meta: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a NodeRow> {
        self.nodes
            .values()
            .filter(move |row| meta.iter().all(|(k, v)| row.node.meta.get(k) == Some(v)))
    }

    fn instance_rows(&self, service: &str) -> impl Iterator<Item = (&NodeRow, &Arc<Service>)> {
        self.rows_of(self.services.get(&*lower(service)))
    }

    fn rows_of<'a>(
        &'a self,
        row: Option<&'a ServiceRow>,
    ) -> impl Iterator<Item = (&'a NodeRow, &'a Arc<Service>)> {
        row.into_iter()
            .flat_map(|row| row.instances.iter())
            .filter_map(|(node, id)| {
                let row = self.nodes.get(node)?;
                Some((row, row.services.get(id)?))
            })
    }
}

fn health_of<'a>(
    rows: impl Iterator<Item = (&'a NodeRow, &'a Arc<Service>)>,
    tags: &[String],
    passing: bool,
) -> Vec<ServiceHealth> {
    let passes = |entry: &ServiceHealth| {
        let mut checks = entry.checks.iter();
        !passing || checks.all(|check| check.status == CheckStatus::Passing)
    };
    rows.filter(|(_, service)| has_tags(service, tags))
        .map(|(row, service)| ServiceHealth {
            node: row.node.clone(),
            service: service.clone(),
            checks: row.checks.concerning(&service.id),
        })
        .filter(passes)
        .collect()
}

fn has_tags(service: &Service, tags: &[String]) -> bool {
    tags.iter()
        .all(|tag| service.tags.iter().any(|t| t.eq_ignore_ascii_case(tag)))
}
