use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use super::addresses::keep_virtual;
use super::checks::Checks;
use super::{Check, CheckStatus, Node, SERF_HEALTH, Service};
use crate::entries::gateways::TERMINATING;
use crate::state::Change;
use crate::state::command::{Deregister, Outcome, Refusal, Register};

/// All nodes with their services and checks.
///
/// Rows are keyed by the node's name in lower case. A row's index, and a service's, is the last one that changed
/// anything that a query about it shows.
#[derive(Clone, Default, PartialEq)]
pub(in crate::state) struct Catalog {
    pub(in crate::state) nodes: OrdMap<Arc<str>, NodeRow>,
    ids: OrdMap<Uuid, Arc<str>>,
    /// By service name in lower case.
    pub(in crate::state) services: OrdMap<Arc<str>, ServiceRow>,
    /// Those whose connections through the mesh end at a service, by its name in lower case.
    pub(in crate::state) mesh: OrdMap<Arc<str>, ServiceRow>,
    pub(in crate::state) index: TableIndexes,
}

/// One node.
#[derive(Clone, PartialEq)]
pub(in crate::state) struct NodeRow {
    pub(in crate::state) node: Arc<Node>,
    pub(in crate::state) services: OrdMap<Arc<str>, Arc<Service>>,
    pub(in crate::state) checks: Checks,
    pub(in crate::state) index: u64,
}

/// The instances of one service.
#[derive(Clone, Default, PartialEq)]
pub(in crate::state) struct ServiceRow {
    pub(in crate::state) index: u64,
    /// Node (lower case) and service id.
    pub(super) instances: OrdSet<(Arc<str>, Arc<str>)>,
}

/// The last index that changed each table, or took the last trace of a row out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::state) struct TableIndexes {
    pub(in crate::state) nodes: u64,
    pub(in crate::state) services: u64,
    pub(in crate::state) checks: u64,
    pub(in crate::state) nodes_gone: u64,
    pub(in crate::state) services_gone: u64,
}

impl TableIndexes {
    pub(in crate::state) fn any(&self) -> u64 {
        self.nodes.max(self.services).max(self.checks)
    }
}

/// One node as a snapshot holds it.
#[derive(serde::Serialize, serde::Deserialize)]
pub(in crate::state) struct NodeDump {
    pub(in crate::state) node: Arc<Node>,
    pub(in crate::state) services: Vec<Arc<Service>>,
    pub(in crate::state) checks: Vec<Arc<Check>>,
    pub(in crate::state) index: u64,
}

/// What a change of the catalog means for sessions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::state) struct Unhealthy {
    /// Nodes (lower case) that are gone.
    pub(in crate::state) nodes: Vec<Arc<str>>,
    /// Checks that are critical or gone, with their node.
    pub(in crate::state) checks: Vec<(Arc<str>, Arc<str>)>,
}

impl Catalog {
    pub(in crate::state) fn dump(&self) -> impl Iterator<Item = NodeDump> {
        self.nodes.values().map(|row| NodeDump {
            node: row.node.clone(),
            services: row.services.values().cloned().collect(),
            checks: row.checks.values().cloned().collect(),
            index: row.index,
        })
    }

    pub(in crate::state) fn restore(
        nodes: Vec<NodeDump>,
        services: Vec<(String, u64)>,
        mesh: Vec<(String, u64)>,
        index: TableIndexes,
    ) -> Self {
        let mut catalog = Catalog {
            index,
            ..Catalog::default()
        };
        for dump in nodes {
            let name = lower(&dump.node.node);
            if let Some(id) = dump.node.id {
                catalog.ids.insert(id, name.clone());
            }
            let mut row = NodeRow {
                node: dump.node,
                services: OrdMap::new(),
                checks: Checks::default(),
                index: dump.index,
            };
            for service in dump.services {
                let id: Arc<str> = service.id.as_str().into();
                catalog.link(&name, &id, &service);
                row.services.insert(id, service);
            }
            for check in dump.checks {
                row.checks.insert(check);
            }
            catalog.nodes.insert(name, row);
        }
        for (rows, indexes) in [(&mut catalog.services, services), (&mut catalog.mesh, mesh)] {
            for (name, index) in indexes {
                if let Some(row) = rows.get_mut(name.as_str()) {
                    row.index = index;
                }
            }
        }
        catalog
    }

    /// The same rows, all written at one index.
    pub(in crate::state) fn moved_to(&self, index: u64) -> Self {
        let nodes = self.dump().map(|dump| NodeDump {
            node: Arc::new(Node {
                create_index: dump.node.create_index.min(index),
                modify_index: index,
                ..Node::clone(&dump.node)
            }),
            services: dump
                .services
                .iter()
                .map(|service| {
                    Arc::new(Service {
                        create_index: service.create_index.min(index),
                        modify_index: index,
                        ..Service::clone(service)
                    })
                })
                .collect(),
            checks: dump
                .checks
                .iter()
                .map(|check| {
                    Arc::new(Check {
                        create_index: check.create_index.min(index),
                        modify_index: index,
                        ..Check::clone(check)
                    })
                })
                .collect(),
            index,
        });
        let names = |rows: &OrdMap<Arc<str>, ServiceRow>| {
            let names = rows.keys().map(|name| (name.to_string(), index));
            names.collect::<Vec<_>>()
        };
        let all = TableIndexes {
            nodes: index,
            services: index,
            checks: index,
            nodes_gone: index,
            services_gone: index,
        };
        let (services, mesh) = (names(&self.services), names(&self.mesh));
        Self::restore(nodes.collect(), services, mesh, all)
    }

    /// Writes a node with services and checks. On a refusal the caller puts the old tables back.
    pub(in crate::state) fn register(
        &mut self,
        change: &mut Change<'_>,
        command: &Register,
    ) -> Result<Unhealthy, Outcome> {
        let name = lower(&command.node.node);
        let mut unhealthy = Unhealthy::default();
        if !(command.skip_node_update && self.nodes.contains_key(&name)) {
            self.put_node(change, &name, &command.node, &mut unhealthy)?;
        }
        for service in &command.services {
            self.put_service(change, &name, service);
        }
        for check in &command.checks {
            self.put_check(change, &name, check)?;
            if check.status == CheckStatus::Critical {
                let id = check.check_id.as_str().into();
                unhealthy.checks.push((name.clone(), id));
            }
        }
        Ok(unhealthy)
    }

    pub(in crate::state) fn deregister(
        &mut self,
        change: &mut Change<'_>,
        command: &Deregister,
    ) -> Unhealthy {
        let mut unhealthy = Unhealthy::default();
        match command {
            Deregister::Node { node } => self.drop_node(change, &lower(node), &mut unhealthy),
            Deregister::Service { node, id } => {
                self.drop_service(change, &lower(node), id, &mut unhealthy);
            }
            Deregister::Check { node, id } => {
                self.drop_check(change, &lower(node), id, &mut unhealthy);
            }
        }
        unhealthy
    }

    fn put_node(
        &mut self,
        change: &mut Change<'_>,
        name: &Arc<str>,
        node: &Node,
        unhealthy: &mut Unhealthy,
    ) -> Result<(), Outcome> {
        self.refuse_taken_name(name, node)?;
        // The same id under another name is the same node, renamed.
        let mut create_index = change.index;
        if let Some(id) = node.id
            && let Some(old) = self.ids.get(&id).filter(|old| *old != name).cloned()
        {
            create_index = self
                .nodes
                .get(&old)
                .map_or(create_index, |row| row.node.create_index);
            self.drop_node(change, &old, unhealthy);
        }
        let existing = self.nodes.get(name);
        if let Some(row) = existing {
            create_index = row.node.create_index;
        }
        let fresh = Node {
            create_index,
            modify_index: existing.map_or(change.index, |row| row.node.modify_index),
            ..node.clone()
        };
        if existing.is_some_and(|row| *row.node == fresh) {
            return Ok(());
        }
        let former_id = existing.and_then(|row| row.node.id);
        let fresh = Arc::new(Node {
            modify_index: change.index,
            ..fresh
        });
        if let Some(former) = former_id.filter(|former| Some(*former) != fresh.id) {
            self.ids.remove(&former);
        }
        if let Some(id) = fresh.id {
            self.ids.insert(id, name.clone());
        }
        match self.nodes.get_mut(name) {
            Some(row) => row.node = fresh,
            None => {
                let row = NodeRow {
                    node: fresh,
                    services: OrdMap::new(),
                    checks: Checks::default(),
                    index: change.index,
                };
                self.nodes.insert(name.clone(), row);
            }
        }
        self.index.nodes = change.index;
        change.touched.nodes();
        self.touch_node(change, name);
        if self.touch_services_of(change, name) {
            // Instances are shown with their node's address and meta data.
            self.services_changed(change);
        }
        Ok(())
    }

    fn refuse_taken_name(&self, name: &Arc<str>, node: &Node) -> Result<(), Outcome> {
        let (Some(id), Some(row)) = (node.id, self.nodes.get(name)) else {
            return Ok(());
        };
        let Some(owner) = row.node.id.filter(|owner| *owner != id) else {
            return Ok(());
        };
        let dead = row
            .checks
            .get(SERF_HEALTH)
            .is_some_and(|check| check.status == CheckStatus::Critical);
        if dead {
            // Somebody replaced the machine and kept its name.
            return Ok(());
        }
        Err(Outcome::refuse(
            Refusal::NodeNameTaken,
            format!(
                "failed inserting node: Error while renaming Node ID: \"{id}\" ({}): Node name {} is reserved by node {owner} with name {} ({})",
                node.address, node.node, row.node.node, row.node.address
            ),
        ))
    }

    fn put_service(&mut self, change: &mut Change<'_>, name: &Arc<str>, service: &Service) {
        let Some(row) = self.nodes.get(name) else {
            return;
        };
        let existing = row.services.get(service.id.as_str()).cloned();
        let mut fresh = Service {
            create_index: existing.as_ref().map_or(change.index, |s| s.create_index),
            modify_index: existing.as_ref().map_or(change.index, |s| s.modify_index),
            ..service.clone()
        };
        keep_virtual(existing.as_deref(), &mut fresh);
        change.mesh.extend(fresh.mesh_target().map(Arc::from));
        if existing.as_deref() == Some(&fresh) {
            return;
        }
        let id: Arc<str> = fresh.id.as_str().into();
        let names = |s: &Service| (lower(&s.service), s.mesh_target());
        if let Some(old) = existing.filter(|old| names(old) != names(&fresh)) {
            self.unlink(change, name, &id, &old);
        }
        self.link(name, &id, &fresh);
        self.touch_instance(change, &fresh);
        self.services_changed(change);
        if let Some(row) = self.nodes.get_mut(name) {
            let modify_index = change.index;
            row.services.insert(
                id,
                Arc::new(Service {
                    modify_index,
                    ..fresh
                }),
            );
        }
        self.touch_node(change, name);
    }

    fn put_check(
        &mut self,
        change: &mut Change<'_>,
        name: &Arc<str>,
        check: &Check,
    ) -> Result<(), Outcome> {
        let Some(row) = self.nodes.get(name) else {
            return Ok(());
        };
        let service = row.services.get(check.service_id.as_str());
        if service.is_none() && !check.service_id.is_empty() {
            return Err(Outcome::refuse(
                Refusal::MissingService,
                "Missing service registration",
            ));
        }
        let existing = row.checks.get(check.check_id.as_str());
        let fresh = Check {
            node: row.node.node.clone(),
            service_name: service.map(|s| s.service.clone()).unwrap_or_default(),
            service_tags: service.map(|s| s.tags.clone()).unwrap_or_default(),
            create_index: existing.map_or(change.index, |c| c.create_index),
            modify_index: existing.map_or(change.index, |c| c.modify_index),
            ..check.clone()
        };
        if existing.is_some_and(|existing| **existing == fresh) {
            return Ok(());
        }
        let services: BTreeSet<String> = existing
            .map(|c| c.service_id.clone())
            .into_iter()
            .chain([fresh.service_id.clone()])
            .collect();
        if let Some(row) = self.nodes.get_mut(name) {
            let modify_index = change.index;
            row.checks.insert(Arc::new(Check {
                modify_index,
                ..fresh
            }));
        }
        self.check_changed(change, name, &services);
        Ok(())
    }

    fn drop_node(&mut self, change: &mut Change<'_>, name: &Arc<str>, unhealthy: &mut Unhealthy) {
        let Some(row) = self.nodes.remove(name) else {
            return;
        };
        if let Some(id) = row.node.id {
            self.ids.remove(&id);
        }
        for (id, service) in &row.services {
            self.unlink(change, name, id, service);
        }
        if !row.services.is_empty() {
            self.services_changed(change);
        }
        if !row.checks.is_empty() {
            self.index.checks = change.index;
            change.touched.checks();
        }
        self.index.nodes = change.index;
        change.touched.nodes();
        self.index.nodes_gone = change.index;
        change.touched.node(name.clone());
        unhealthy.nodes.push(name.clone());
    }

    fn drop_service(
        &mut self,
        change: &mut Change<'_>,
        name: &Arc<str>,
        id: &str,
        unhealthy: &mut Unhealthy,
    ) {
        let Some(row) = self.nodes.get_mut(name) else {
            return;
        };
        let Some((id, service)) = row.services.remove_with_key(id) else {
            return;
        };
        let checks = row.checks.of(&id).to_vec();
        self.unlink(change, name, &id, &service);
        self.services_changed(change);
        self.touch_node(change, name);
        for check in checks {
            self.drop_check(change, name, &check.check_id, unhealthy);
        }
    }

    fn drop_check(
        &mut self,
        change: &mut Change<'_>,
        name: &Arc<str>,
        id: &str,
        unhealthy: &mut Unhealthy,
    ) {
        let Some(row) = self.nodes.get_mut(name) else {
            return;
        };
        let Some((id, check)) = row.checks.remove(id) else {
            return;
        };
        unhealthy.checks.push((name.clone(), id));
        if !check.service_id.is_empty() {
            // Its service may be gone already.
            self.touch_service(change, &lower(&check.service_name));
        }
        self.check_changed(change, name, &BTreeSet::from([check.service_id.clone()]));
    }

    pub(super) fn services_changed(&mut self, change: &mut Change<'_>) {
        self.index.services = change.index;
        change.touched.services();
    }

    /// Notes a change of a check that concerns the instances with these ids; an empty one stands for all on the node.
    fn check_changed(&mut self, change: &mut Change<'_>, name: &Arc<str>, ids: &BTreeSet<String>) {
        self.index.checks = change.index;
        change.touched.checks();
        self.touch_node(change, name);
        if ids.contains("") {
            self.touch_services_of(change, name);
        }
        for id in ids.iter().filter(|id| !id.is_empty()) {
            let row = self.nodes.get(name);
            if let Some(service) = row.and_then(|row| row.services.get(id.as_str())).cloned() {
                self.touch_instance(change, &service);
            }
        }
    }

    pub(super) fn touch_node(&mut self, change: &mut Change<'_>, name: &Arc<str>) {
        if let Some(row) = self.nodes.get_mut(name) {
            row.index = change.index;
        }
        change.touched.node(name.clone());
    }

    /// Whether there was any.
    fn touch_services_of(&mut self, change: &mut Change<'_>, name: &Arc<str>) -> bool {
        let row = self.nodes.get(name);
        let services = row.into_iter().flat_map(|row| row.services.values());
        let (mut names, mut targets) = (BTreeSet::new(), BTreeSet::new());
        for service in services {
            names.insert(lower(&service.service));
            targets.extend(service.mesh_target());
            if service.kind == TERMINATING {
                change.touched.all_mesh();
            }
        }
        for service in &names {
            self.touch_service(change, service);
        }
        for target in targets {
            self.touch_mesh(change, target);
        }
        !names.is_empty()
    }

    /// Notes a change of an instance, for those who ask for its service, and for those who connect through it.
    pub(super) fn touch_instance(&mut self, change: &mut Change<'_>, service: &Service) {
        self.touch_service(change, &lower(&service.service));
        if let Some(target) = service.mesh_target() {
            self.touch_mesh(change, target);
        }
        if service.kind == TERMINATING {
            change.touched.all_mesh();
        }
    }

    fn touch_service(&mut self, change: &mut Change<'_>, service: &Arc<str>) {
        if let Some(row) = self.services.get_mut(service) {
            row.index = change.index;
        }
        change.touched.service(service.clone());
    }

    fn touch_mesh(&mut self, change: &mut Change<'_>, target: String) {
        let target: Arc<str> = target.into();
        if let Some(row) = self.mesh.get_mut(&target) {
            row.index = change.index;
        }
        change.touched.mesh(target);
    }

    fn link(&mut self, name: &Arc<str>, id: &Arc<str>, service: &Service) {
        let instance = (name.clone(), id.clone());
        if let Some(target) = service.mesh_target() {
            let row = self.mesh.entry(target.into()).or_default();
            row.instances.insert(instance.clone());
        }
        let row = self.services.entry(lower(&service.service)).or_default();
        row.instances.insert(instance);
    }

    fn unlink(
        &mut self,
        change: &mut Change<'_>,
        name: &Arc<str>,
        id: &Arc<str>,
        service: &Service,
    ) {
        let instance = (name.clone(), id.clone());
        self.touch_instance(change, service);
        let service_name = lower(&service.service);
        if remove_instance(&mut self.services, &service_name, &instance) {
            self.index.services_gone = change.index;
        }
        change.mesh.extend(service.mesh_target().map(Arc::from));
        if let Some(target) = service.mesh_target()
            && remove_instance(&mut self.mesh, &target, &instance)
        {
            self.index.services_gone = change.index;
        }
    }
}

/// Takes an instance out of its row, and the row out when it was the last; true when it was.
fn remove_instance(
    rows: &mut OrdMap<Arc<str>, ServiceRow>,
    name: &str,
    instance: &(Arc<str>, Arc<str>),
) -> bool {
    let Some(row) = rows.get_mut(name) else {
        return false;
    };
    row.instances.remove(instance);
    let empty = row.instances.is_empty();
    if empty {
        rows.remove(name);
    }
    empty
}

pub(super) fn lower(name: &str) -> Arc<str> {
    Arc::from(name.to_lowercase())
}
