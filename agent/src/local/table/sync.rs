//! What the catalog has and should have: which command to send next.

use std::sync::Arc;

use super::{OwnCheck, OwnService, Source, Table};
use crate::config::Secret;
use crate::state::{
    CONSUL_VIRTUAL, Check, Command, Deregister, Node, Register, SERF_HEALTH, Service,
};

/// Most services, and most checks, that go with one command.
const BATCH: usize = 64;

/// The service that stands for servers: the leader's business.
const CONSUL: &str = "consul";

/// In whose name the catalog is told of something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum InNameOf {
    /// The agent's own.
    #[default]
    Agent,
    /// Whoever wrote the configuration files.
    Files,
    /// Whoever asks the agent without a token.
    Default,
    /// Whoever holds this token.
    Holder(Secret),
}

/// A command for the catalog, and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::local) struct Push {
    pub(in crate::local) command: Command,
    pub(in crate::local) name: InNameOf,
    covers: Covers,
}

impl Push {
    fn new(command: Command, name: &InNameOf, covers: Covers) -> Self {
        Self {
            command,
            name: name.clone(),
            covers,
        }
    }

    /// Whether it is about several rows, of which one alone may be what is refused.
    pub(in crate::local) fn is_of_many(&self) -> bool {
        match &self.covers {
            Covers::Registered {
                node,
                services,
                checks,
            } => usize::from(*node) + services.len() + checks.len() > 1,
            Covers::GoneService(_) | Covers::GoneCheck(_) => false,
        }
    }

    /// Tells that it is not allowed, in Consul's words.
    pub(in crate::local) fn log_denied(&self, why: &str) {
        match &self.covers {
            Covers::GoneService(id) => {
                tracing::warn!(target: "agent", "Service deregistration blocked by ACLs: service={id}: {why}");
            }
            Covers::GoneCheck(id) => {
                tracing::warn!(target: "agent", "Check deregistration blocked by ACLs: check={id}: {why}");
            }
            Covers::Registered {
                node,
                services,
                checks,
            } => {
                if *node {
                    tracing::warn!(target: "agent", "Node info update blocked by ACLs: {why}");
                }
                for service in services {
                    tracing::warn!(target: "agent", "Service registration blocked by ACLs: service={}: {why}", service.id);
                }
                for check in checks {
                    tracing::warn!(target: "agent", "Check registration blocked by ACLs: check={}: {why}", check.check_id);
                }
            }
        }
    }

    /// Tells of its success, in Consul's words.
    pub(in crate::local) fn log(&self) {
        match &self.covers {
            Covers::GoneService(id) => {
                tracing::info!(target: "agent", "Deregistered service: service={id}");
            }
            Covers::GoneCheck(id) => {
                tracing::info!(target: "agent", "Deregistered check: check={id}");
            }
            Covers::Registered {
                node,
                services,
                checks,
            } => {
                if *node {
                    tracing::info!(target: "agent", "Synced node info");
                }
                for service in services {
                    tracing::info!(target: "agent", "Synced service: service={}", service.id);
                }
                for check in checks {
                    tracing::debug!(target: "agent", "Synced check: check={}", check.check_id);
                }
            }
        }
    }
}

/// What is in sync once a command was applied.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::local) enum Covers {
    Registered {
        node: bool,
        services: Vec<Arc<Service>>,
        checks: Vec<Arc<Check>>,
    },
    GoneService(String),
    GoneCheck(String),
}

impl Table {
    /// Compares with what the catalog has, and notes what is to be written.
    pub(in crate::local) fn compare(
        &mut self,
        own: &Node,
        node: Option<&Node>,
        services: &[Arc<Service>],
        checks: &[Arc<Check>],
    ) {
        self.node_in_sync = node.is_some_and(|node| {
            node.id == own.id
                && node.address == own.address
                && node.tagged_addresses == own.tagged_addresses
                && node.meta == own.meta
        });
        for own in self.services.values_mut() {
            own.in_sync = false;
        }
        for theirs in services {
            match self.services.get_mut(&theirs.id) {
                None if theirs.id == CONSUL => {}
                None => {
                    // One that went before keeps its name.
                    self.gone_services.entry(theirs.id.clone()).or_default();
                }
                Some(own) => {
                    if own.row.enable_tag_override && own.row.tags != theirs.tags {
                        // Who writes tags to the catalog has the say.
                        Arc::make_mut(&mut own.row).tags.clone_from(&theirs.tags);
                    }
                    if theirs.mesh_target().is_some() && own.row.mesh == theirs.mesh {
                        follow_address(own, theirs);
                    }
                    let theirs = Service {
                        create_index: 0,
                        modify_index: 0,
                        ..(**theirs).clone()
                    };
                    own.in_sync = theirs == *own.row;
                }
            }
        }
        self.compare_checks(checks);
        let known = |id: &String| services.iter().any(|service| service.id == *id);
        self.gone_services.retain(|id, _| known(id));
        self.gone_checks
            .retain(|id, _| checks.iter().any(|check| check.check_id == *id));
    }

    fn compare_checks(&mut self, checks: &[Arc<Check>]) {
        for own in self.checks.values_mut() {
            own.in_sync = false;
        }
        for theirs in checks {
            let id = &theirs.check_id;
            let Some(own) = self.checks.get_mut(id) else {
                // Those of a service that goes go with it.
                let with_service = self.gone_services.contains_key(&theirs.service_id);
                if id != SERF_HEALTH && !with_service {
                    self.gone_checks.entry(id.clone()).or_default();
                }
                continue;
            };
            let waits = own.output_due.is_some();
            own.in_sync = same_check(&own.row, theirs, waits);
        }
    }

    /// In whose name the catalog is told of a service.
    pub(super) fn of_service(&self, own: &OwnService) -> InNameOf {
        self.named(&own.token, own.source)
    }

    /// The same of a check: without a token of its own that of its service.
    pub(super) fn of_check(&self, own: &OwnCheck) -> InNameOf {
        let service = self.services.get(&own.row.service_id);
        match (own.definition.token.0.is_empty(), service) {
            (true, Some(service)) => self.of_service(service),
            _ => self.named(&own.definition.token, own.source),
        }
    }

    fn named(&self, token: &Secret, source: Source) -> InNameOf {
        match (self.rules.asks_for_tokens, token.0.is_empty(), source) {
            (false, ..) => InNameOf::Agent,
            (true, false, _) => InNameOf::Holder(token.clone()),
            (true, true, Source::File) => InNameOf::Files,
            (true, true, Source::Api) => InNameOf::Default,
        }
    }

    /// The next command, if there is one to send; about at most so many services, and as many checks, all in one name.
    pub(in crate::local) fn next_push(&self, own: &Node, most: usize) -> Option<Push> {
        let node = || own.node.clone();
        if let Some((id, name)) = self.gone_services.first_key_value() {
            let (node, id) = (node(), id.clone());
            let covers = Covers::GoneService(id.clone());
            let command = Command::Deregister(Deregister::Service { node, id });
            return Some(Push::new(command, name, covers));
        }
        if let Some((id, name)) = self.gone_checks.first_key_value() {
            let (node, id) = (node(), id.clone());
            let covers = Covers::GoneCheck(id.clone());
            let command = Command::Deregister(Deregister::Check { node, id });
            return Some(Push::new(command, name, covers));
        }
        let late_services = || self.services.values().filter(|service| !service.in_sync);
        let late_checks = || self.checks.values().filter(|check| !check.in_sync);
        // The node's row comes first: the others stand on it.
        let name = match self.node_in_sync {
            false => InNameOf::Agent,
            true => late_services()
                .map(|own| self.of_service(own))
                .chain(late_checks().map(|own| self.of_check(own)))
                .next()?,
        };
        // A refusal of one of several is found by sending each alone.
        let room = most.min(BATCH);
        let room = if self.node_in_sync || most > 1 {
            room
        } else {
            0
        };
        let services: Vec<_> = late_services()
            .filter(|own| self.of_service(own) == name)
            .take(room)
            .map(|own| own.row.clone())
            .collect();
        let ready = |id: &str| {
            id.is_empty()
                || services.iter().any(|s| s.id == id)
                || self.services.get(id).is_some_and(|s| s.in_sync)
        };
        let checks: Vec<_> = late_checks()
            .filter(|own| ready(&own.row.service_id) && self.of_check(own) == name)
            .take(room.saturating_sub(if most < BATCH { services.len() } else { 0 }))
            .map(|own| own.row.clone())
            .collect();
        if self.node_in_sync && services.is_empty() && checks.is_empty() {
            return None;
        }
        let command = Command::Register(Box::new(Register {
            node: own.clone(),
            skip_node_update: self.node_in_sync,
            services: services.iter().map(|row| (**row).clone()).collect(),
            checks: checks.iter().map(|row| (**row).clone()).collect(),
        }));
        let covers = Covers::Registered {
            node: !self.node_in_sync,
            services,
            checks,
        };
        Some(Push::new(command, &name, covers))
    }

    /// Notes that a command was applied. What has changed since then stays to be written.
    pub(in crate::local) fn confirm(&mut self, push: &Push) {
        match &push.covers {
            Covers::GoneService(id) => drop(self.gone_services.remove(id)),
            Covers::GoneCheck(id) => drop(self.gone_checks.remove(id)),
            Covers::Registered {
                node,
                services,
                checks,
            } => {
                self.node_in_sync |= *node;
                for row in services {
                    if let Some(own) = self.services.get_mut(&row.id).filter(|s| s.row == *row) {
                        own.in_sync = true;
                    }
                }
                for row in checks {
                    if let Some(own) = self.checks.get_mut(&row.check_id).filter(|c| c.row == *row)
                    {
                        own.in_sync = true;
                        own.output_due = None;
                    }
                }
            }
        }
    }
}

/// The address that stands for a service is the servers' to say.
fn follow_address(own: &mut OwnService, theirs: &Service) {
    let said = theirs.tagged_addresses.get(CONSUL_VIRTUAL);
    if own.row.tagged_addresses.get(CONSUL_VIRTUAL) == said {
        return;
    }
    let addresses = &mut Arc::make_mut(&mut own.row).tagged_addresses;
    match said {
        Some(said) => addresses.insert(CONSUL_VIRTUAL.to_owned(), said.clone()),
        None => addresses.remove(CONSUL_VIRTUAL),
    };
}

/// Whether the catalog has a check as it is, but for what the store fills in; on demand without its output.
fn same_check(own: &Check, theirs: &Check, without_output: bool) -> bool {
    let theirs = Check {
        node: own.node.clone(),
        service_name: own.service_name.clone(),
        service_tags: own.service_tags.clone(),
        output: match without_output {
            true => own.output.clone(),
            false => theirs.output.clone(),
        },
        create_index: 0,
        modify_index: 0,
        ..theirs.clone()
    };
    theirs == *own
}
