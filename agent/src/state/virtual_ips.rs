//! Addresses that stand for services, not for their instances: out of 240.0.0.0/4, by which nobody can be reached, so that
//! proxies on the way of a connection know what it is meant for.
//!
//! A service has one while there is something of the mesh about it: a sidecar or an instance that speaks for itself, a
//! router, splitter or resolver, or a terminating gateway that names it. The first leader that knows of them begins
//! ([`VirtualStep::Begin`]): logs from before mean what they meant.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::command::Outcome;
use super::entries::ConfigEntry;
use super::{Change, Indexes, Tables};
use crate::entries::{self, gateways};

/// The key under which a service's row has its address. Consul's.
pub const CONSUL_VIRTUAL: &str = "consul-virtual";
/// 240.0.0.0: services are counted from behind it.
const BASE: u32 = 240 << 24;
/// The last one, before 255.255.255.255.
const LAST: u32 = u32::MAX - 1 - BASE;
/// Kinds of entries that make a service one of the mesh.
const CHAIN: [&str; 3] = ["service-router", "service-splitter", "service-resolver"];

/// A service's addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualIp {
    /// The service's name, in lower case.
    pub service: String,
    /// How far the address is from 240.0.0.0.
    offset: u32,
    /// Further ones that somebody gave it.
    pub manual: Vec<String>,
    /// The log index that created it.
    pub create_index: u64,
    /// The log index of its last change.
    pub modify_index: u64,
}

impl VirtualIp {
    /// The address.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from(BASE + self.offset)
    }
}

/// A change of the addresses. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VirtualStep {
    /// Gives every service of the mesh an address, from now on too.
    Begin,
    /// Gives a service further addresses in place of those that it was given before, and takes them from others.
    Assign {
        /// Its name, in any case.
        service: String,
        /// IP addresses in their usual form.
        addresses: Vec<String>,
    },
}

/// All of them.
#[derive(Clone, Default, PartialEq)]
pub(super) struct VirtualIps {
    /// By service name in lower case.
    pub(super) rows: OrdMap<Arc<str>, Arc<VirtualIp>>,
    pub(super) counters: Counters,
    /// Offsets that are free again.
    pub(super) free: OrdSet<u32>,
}

/// What is no row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) begun: bool,
    /// The last offset that was ever given.
    last: u32,
    /// The last index that changed anything here.
    pub(super) index: u64,
}

impl VirtualIps {
    pub(super) fn restore(rows: Vec<Arc<VirtualIp>>, counters: Counters, free: Vec<u32>) -> Self {
        let rows = rows
            .into_iter()
            .map(|row| (Arc::from(row.service.as_str()), row));
        Self {
            rows: rows.collect(),
            counters,
            free: free.into_iter().collect(),
        }
    }

    pub(super) fn indexes(&self) -> Indexes {
        Indexes::same(self.counters.index)
    }

    /// The same rows, all written at one index.
    pub(super) fn moved_to(self, index: u64) -> Self {
        if !self.counters.begun {
            return self;
        }
        let rows = self.rows.values().map(|row| {
            Arc::new(VirtualIp {
                create_index: row.create_index.min(index),
                modify_index: index,
                ..VirtualIp::clone(row)
            })
        });
        let counters = Counters {
            index,
            ..self.counters
        };
        Self::restore(rows.collect(), counters, self.free.into_iter().collect())
    }

    pub(super) fn find(&self, service: &str) -> Option<&Arc<VirtualIp>> {
        self.rows.get(&*service.to_lowercase())
    }

    /// The address of a service, a new one if it has none; `None` when there is none left.
    fn assign(&mut self, change: &mut Change<'_>, service: &Arc<str>) -> Option<Ipv4Addr> {
        if let Some(row) = self.rows.get(service) {
            return Some(row.address());
        }
        let offset = match self.free.get_min().copied() {
            Some(free) => {
                self.free.remove(&free);
                free
            }
            None if self.counters.last >= LAST => return None,
            None => {
                self.counters.last += 1;
                self.counters.last
            }
        };
        let row = VirtualIp {
            service: service.to_string(),
            offset,
            manual: Vec::new(),
            create_index: change.index,
            modify_index: change.index,
        };
        let address = row.address();
        self.rows.insert(service.clone(), Arc::new(row));
        self.changed(change);
        Some(address)
    }

    fn release(&mut self, change: &mut Change<'_>, service: &Arc<str>) {
        if let Some(row) = self.rows.remove(service) {
            self.free.insert(row.offset);
            self.changed(change);
        }
    }

    fn give(&mut self, change: &mut Change<'_>, service: &str, addresses: &[String]) -> Outcome {
        let service: Arc<str> = service.to_lowercase().into();
        let Some(own) = self.rows.get(&service).cloned() else {
            return Outcome::Virtual {
                found: false,
                taken_from: Vec::new(),
            };
        };
        let mut taken_from = Vec::new();
        let others: Vec<_> = self.rows.values().cloned().collect();
        for other in others {
            if other.service == *service || !other.manual.iter().any(|ip| addresses.contains(ip)) {
                continue;
            }
            taken_from.push(other.service.clone());
            let mut left = VirtualIp::clone(&other);
            left.manual.retain(|ip| !addresses.contains(ip));
            left.modify_index = change.index;
            self.rows
                .insert(Arc::from(other.service.as_str()), Arc::new(left));
        }
        if !taken_from.is_empty() || own.manual != addresses {
            let row = VirtualIp {
                manual: addresses.to_vec(),
                modify_index: change.index,
                ..VirtualIp::clone(&own)
            };
            self.rows.insert(service, Arc::new(row));
            self.changed(change);
        }
        Outcome::Virtual {
            found: true,
            taken_from,
        }
    }

    fn changed(&mut self, change: &mut Change<'_>) {
        self.counters.index = change.index;
        // Chains show them.
        change.touched.entries();
    }
}

impl Tables {
    pub(super) fn virtual_step(&mut self, change: &mut Change<'_>, step: &VirtualStep) -> Outcome {
        match step {
            VirtualStep::Begin => {
                self.virtual_ips.counters.begun = true;
                change.mesh.extend(self.catalog.mesh.keys().cloned());
                for kind in CHAIN {
                    let named = self.entries.of_kind(kind);
                    let names = named.iter().map(|row| Arc::from(row.name.to_lowercase()));
                    change.mesh.extend(names);
                }
                for gateway in self.entries.of_kind(gateways::TERMINATING) {
                    change.mesh.extend(named_by(&gateway));
                }
                Outcome::Done
            }
            VirtualStep::Assign { service, addresses } => {
                self.virtual_ips.give(change, service, addresses)
            }
        }
    }

    /// Gives addresses to the services that a change concerns, or takes them back.
    pub(super) fn follow_mesh(&mut self, change: &mut Change<'_>) {
        let concerned = std::mem::take(&mut change.mesh);
        if !self.virtual_ips.counters.begun {
            return;
        }
        for service in &concerned {
            if self.is_in_mesh(service) {
                if let Some(address) = self.virtual_ips.assign(change, service) {
                    self.catalog.show_virtual(change, service, address);
                }
            } else {
                self.virtual_ips.release(change, service);
            }
        }
        // Rows that were shown their addresses say so themselves.
        change.mesh.clear();
    }

    fn is_in_mesh(&self, service: &Arc<str>) -> bool {
        let has = |kind: &&str| self.entries.find(kind, service).is_some();
        self.catalog.mesh.contains_key(service)
            || CHAIN.iter().any(has)
            || self
                .entries
                .of_kind(gateways::TERMINATING)
                .iter()
                .any(|gateway| named_by(gateway).contains(service))
    }
}

/// Services whose addresses may depend on an entry.
pub(super) fn concerned(entry: &ConfigEntry) -> BTreeSet<Arc<str>> {
    match entry.kind.as_str() {
        gateways::TERMINATING => named_by(entry),
        kind if CHAIN.contains(&kind) => BTreeSet::from([entry.name.to_lowercase().into()]),
        _ => BTreeSet::new(),
    }
}

/// Services that a terminating gateway names, in lower case.
fn named_by(gateway: &ConfigEntry) -> BTreeSet<Arc<str>> {
    let body = entries::body(gateway);
    let names = gateways::named_by_terminating(&body);
    names.map(|name| Arc::from(name.to_lowercase())).collect()
}
