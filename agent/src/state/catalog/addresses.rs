//! The addresses that stand for services, in the rows of those at which connections through the mesh end.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::table::Catalog;
use super::{Service, ServiceAddress};
use crate::state::Change;
use crate::state::virtual_ips::CONSUL_VIRTUAL;

/// Leaves the address of its service in a row that is written anew: it is not for those who register it to say.
pub(super) fn keep_virtual(existing: Option<&Service>, fresh: &mut Service) {
    let target = fresh.mesh_target();
    let known = existing.filter(|old| target.is_some() && old.mesh_target() == target);
    let known = known.and_then(|old| old.tagged_addresses.get(CONSUL_VIRTUAL));
    if let Some(known) = known {
        let known = ServiceAddress {
            address: known.address.clone(),
            port: fresh.port,
        };
        fresh
            .tagged_addresses
            .insert(CONSUL_VIRTUAL.to_owned(), known);
    }
}

impl Catalog {
    /// Shows the address of a service with those at which connections to it through the mesh end.
    pub(in crate::state) fn show_virtual(
        &mut self,
        change: &mut Change<'_>,
        service: &Arc<str>,
        address: Ipv4Addr,
    ) {
        let Some(row) = self.mesh.get(service) else {
            return;
        };
        for (node, id) in row.instances.clone() {
            let row = self.nodes.get(&node);
            let Some(old) = row.and_then(|row| row.services.get(&id)).cloned() else {
                continue;
            };
            let shown = ServiceAddress {
                address: address.to_string(),
                port: old.port,
            };
            if old.tagged_addresses.get(CONSUL_VIRTUAL) == Some(&shown) {
                continue;
            }
            let mut fresh = Service {
                modify_index: change.index,
                ..Service::clone(&old)
            };
            fresh
                .tagged_addresses
                .insert(CONSUL_VIRTUAL.to_owned(), shown);
            self.touch_instance(change, &fresh);
            self.services_changed(change);
            if let Some(row) = self.nodes.get_mut(&node) {
                row.services.insert(id, Arc::new(fresh));
            }
            self.touch_node(change, &node);
        }
    }
}
