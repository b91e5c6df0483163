//! What draws the mesh: the surroundings of a service, and what gateways stand for, each with its instances, so that what is
//! shown together was true together.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entries::{ConfigEntry, View};
use super::query::Answer;
use super::{Indexes, ServiceHealth, Tables};
use crate::entries::gateways::{self, GatewayService};
use crate::entries::intentions::{self, ANY};
use crate::entries::topology::{self, Asked, CONNECT_PROXY, Link, Seen};

/// A question about the mesh as it is drawn. Append only: it travels between servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GraphQuery {
    /// What is around a service.
    Topology(Asked),
    /// Services that a gateway stands for.
    Gateway {
        /// The gateway's name, in any case.
        gateway: String,
    },
    /// Intentions for the services that a gateway stands for: an [`Answer::Entries`].
    Intentions {
        /// The gateway's name, in any case.
        gateway: String,
    },
}

impl GraphQuery {
    /// Whose surroundings these are.
    pub fn service(&self) -> &str {
        match self {
            GraphQuery::Topology(asked) => &asked.service,
            GraphQuery::Gateway { gateway } | GraphQuery::Intentions { gateway } => gateway,
        }
    }
}

/// The answer to a [`GraphQuery`]. Append only: it travels between servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GraphAnswer {
    /// To [`GraphQuery::Topology`].
    Topology(Box<Surroundings>),
    /// To [`GraphQuery::Gateway`], by service.
    Gateway(Vec<Behind>),
}

/// What is around a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// What is spoken to it.
    pub protocol: String,
    /// Whether all its proxies are transparent, and there is one.
    pub transparent: bool,
    /// Those it connects to.
    pub upstreams: Side,
    /// Those that connect to it.
    pub downstreams: Side,
}

/// One side of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// By name.
    pub links: Vec<Link>,
    /// Instances of all of these, and their sidecars.
    pub instances: Vec<ServiceHealth>,
}

/// A service behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Its name.
    pub service: String,
    /// What the gateway says of it, once for each port.
    pub said: Vec<GatewayService>,
    /// Its instances; perhaps none.
    pub instances: Vec<ServiceHealth>,
}

impl Tables {
    pub(super) fn graph_answer(&self, query: &GraphQuery) -> Answer {
        match query {
            GraphQuery::Topology(asked) => {
                let surroundings = Box::new(self.surroundings(asked));
                Answer::Graph(GraphAnswer::Topology(surroundings))
            }
            GraphQuery::Gateway { gateway } => {
                Answer::Graph(GraphAnswer::Gateway(self.behind(gateway)))
            }
            GraphQuery::Intentions { gateway } => Answer::Entries(self.intentions_behind(gateway)),
        }
    }

    pub(super) fn graph_indexes(&self, query: &GraphQuery) -> Indexes {
        let (entries, catalog) = (self.entries.index, &self.catalog.index);
        Indexes::same(match query {
            // Services with an address of their own count although they may have no instance.
            GraphQuery::Topology(_) => {
                let addresses = self.virtual_ips.counters.index;
                entries.max(catalog.any()).max(addresses)
            }
            GraphQuery::Gateway { .. } => entries.max(catalog.any()),
            GraphQuery::Intentions { .. } => entries.max(catalog.services),
        })
    }

    fn surroundings(&self, asked: &Asked) -> Surroundings {
        let addressed = self.virtual_ips.rows.values();
        let addressed = addressed.map(|row| row.service.clone()).collect();
        let mut seen = Seen::new(self.catalog.known(), addressed);
        self.catalog
            .every_service()
            .for_each(|service| seen.add(service));
        let intentions = intentions::all(&self.entries.of_kind(intentions::KIND));
        let drawn = topology::topology(asked, &seen, &intentions, &View::of(&self.entries));
        Surroundings {
            protocol: drawn.protocol,
            transparent: drawn.transparent,
            upstreams: self.side(drawn.upstreams),
            downstreams: self.side(drawn.downstreams),
        }
    }

    fn side(&self, links: Vec<Link>) -> Side {
        let (mut instances, mut taken) = (Vec::new(), BTreeSet::new());
        for link in &links {
            let own = self.catalog.health(&link.name, &[], false);
            let mesh = self.catalog.mesh_health(&link.name, &[], false);
            let sidecars = mesh.into_iter();
            let sidecars = sidecars.filter(|one| one.service.kind == CONNECT_PROXY);
            for one in own.into_iter().chain(sidecars) {
                // A proxy may be named as a service of its own.
                if taken.insert((one.node.node.clone(), one.service.id.clone())) {
                    instances.push(one);
                }
            }
        }
        Side { links, instances }
    }

    fn gateway_services(&self, gateway: &str) -> Vec<GatewayService> {
        let known = self.catalog.known();
        gateways::services_of(gateway, &View::of(&self.entries), &known)
    }

    fn behind(&self, gateway: &str) -> Vec<Behind> {
        let mut behind: Vec<Behind> = Vec::new();
        for row in self.gateway_services(gateway) {
            match behind.last_mut() {
                Some(last) if last.service == row.service => last.said.push(row),
                _ => behind.push(Behind {
                    instances: self.catalog.health(&row.service, &[], false),
                    service: row.service.clone(),
                    said: vec![row],
                }),
            }
        }
        behind
    }

    fn intentions_behind(&self, gateway: &str) -> Vec<Arc<ConfigEntry>> {
        let services = self.gateway_services(gateway);
        let mut names: BTreeSet<&str> = services.iter().map(|row| &*row.service).collect();
        if !names.is_empty() {
            names.insert(ANY);
        }
        let names = names.into_iter();
        let found = names.filter_map(|name| self.entries.find(intentions::KIND, name));
        found.cloned().collect()
    }
}
