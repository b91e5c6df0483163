//! What it takes to change something. There is no command without an answer here, or this does not compile.

use super::{Access, Denied, Holder, Resource, kinds};
use crate::state::{
    AclStep, Answer, Check, Command, Deregister, EntryStep, KvCommand, KvOp, KvRead, Node,
    PreparedQuery, PreparedStep, Query, Register, RowVerb, Service, Store, TxnError, TxnOp,
    VirtualStep,
};

use Access::{Read, Write};

impl Holder {
    /// Refuses a command that the holder may not propose. Those that nobody but the cluster itself proposes are refused to
    /// everybody.
    ///
    /// # Errors
    /// What is lacking.
    pub fn check_command(&self, store: &Store, command: &Command) -> Result<(), Denied> {
        match command {
            Command::Noop => Ok(()),
            Command::Kv(command) => self.check_kv(command),
            Command::FirstRegister(register) | Command::Register(register) => {
                self.check_register(store, register)
            }
            Command::Deregister(deregister) => self.check_deregister(store, deregister),
            Command::SessionCreate(session) => self.need(Resource::Session, &session.node, Write),
            Command::SessionDestroy { id } => match store.session(id) {
                Some(session) => self.need(Resource::Session, &session.node, Write),
                None => Ok(()),
            },
            Command::SetAutopilot { .. } => self.need(Resource::Operator, "", Write),
            // Its operations are refused one by one, see `check_txn`.
            Command::Txn(_) => Ok(()),
            // It brings tokens with it.
            Command::Restore(_) => self.need(Resource::Acl, "", Write),
            Command::Prepared(step) => self.check_prepared(store, step),
            Command::SetPlaces(places) => places
                .iter()
                .try_for_each(|place| self.need(Resource::Node, &place.node, Write)),
            Command::Entry(step) | Command::CheckedEntry(step) => self.check_entry(step),
            Command::Virtual(VirtualStep::Assign { .. }) => self.need(Resource::Mesh, "", Write),
            // It is checked by itself: it takes the index of the last one.
            Command::Acl(AclStep::Bootstrap { .. }) => Ok(()),
            Command::Acl(_) => self.need(Resource::Acl, "", Write),
            Command::ReapTombstones { .. }
            | Command::SetClusterId(_)
            | Command::EndLockDelays(_)
            | Command::Virtual(VirtualStep::Begin)
            | Command::Ca(_) => Err(internal()),
        }
    }

    fn check_kv(&self, command: &KvCommand) -> Result<(), Denied> {
        match command.op {
            KvOp::DeleteTree => self.need_below(Resource::Key, &command.key, Write),
            KvOp::Set(_)
            | KvOp::Cas { .. }
            | KvOp::Lock { .. }
            | KvOp::Unlock { .. }
            | KvOp::Delete
            | KvOp::DeleteCas { .. } => self.need(Resource::Key, &command.key, Write),
        }
    }

    /// A node that stays as it is takes nothing: an agent registers its services whatever its token may do with the node.
    fn check_register(&self, store: &Store, register: &Register) -> Result<(), Denied> {
        let node = &register.node.node;
        let known = node_row(store, node);
        let stays = known.as_ref().is_some_and(|known| {
            register.skip_node_update || has_same_content(known, &register.node)
        });
        if !stays {
            self.need(Resource::Node, node, Write)?;
        }
        let known = services_of(store, node);
        for service in &register.services {
            self.check_service(&known, service)?;
        }
        for check in &register.checks {
            // Its service may come with it.
            let new = register
                .services
                .iter()
                .find(|new| new.id == check.service_id);
            match new {
                Some(service) => self.need(Resource::Service, &service.service, Write)?,
                None => self.check_check(&known, node, check)?,
            }
        }
        Ok(())
    }

    /// Also that of a service of another name whose id it would take.
    fn check_service(&self, known: &[Service], service: &Service) -> Result<(), Denied> {
        self.need(Resource::Service, &service.service, Write)?;
        match known.iter().find(|known| known.id == service.id) {
            Some(known) => self.need(Resource::Service, &known.service, Write),
            None => Ok(()),
        }
    }

    fn check_check(&self, known: &[Service], node: &str, check: &Check) -> Result<(), Denied> {
        if check.service_id.is_empty() {
            return self.need(Resource::Node, node, Write);
        }
        match known.iter().find(|known| known.id == check.service_id) {
            Some(service) => self.need(Resource::Service, &service.service, Write),
            // It will be refused: there is no such service.
            None => Ok(()),
        }
    }

    fn check_deregister(&self, store: &Store, deregister: &Deregister) -> Result<(), Denied> {
        let node = match deregister {
            Deregister::Node { node }
            | Deregister::Service { node, .. }
            | Deregister::Check { node, .. } => node,
        };
        if self.may(Resource::Node, node, Write) {
            return Ok(());
        }
        let service = match deregister {
            Deregister::Node { .. } => None,
            Deregister::Service { id, .. } => Some(id.clone()),
            Deregister::Check { id, .. } => {
                let checks = checks_of(store, node);
                let check = checks.iter().find(|check| check.check_id == *id);
                check.map(|check| check.service_id.clone())
            }
        };
        let known = services_of(store, node);
        let service = service.and_then(|id| known.into_iter().find(|known| known.id == id));
        match service {
            Some(service) => self.need(Resource::Service, &service.service, Write),
            None => Err(self.lacks(Resource::Node, node, Write)),
        }
    }

    /// Queries without a name belong to whoever knows their id.
    fn check_prepared(&self, store: &Store, step: &PreparedStep) -> Result<(), Denied> {
        let need = |query: &PreparedQuery| match query.ruled_name() {
            Some(name) => self.need(Resource::Query, name, Write),
            None => Ok(()),
        };
        let id = match step {
            PreparedStep::Create(query) => return need(query),
            PreparedStep::Update(query) => {
                need(query)?;
                query.id
            }
            PreparedStep::Delete(id) => *id,
        };
        let query = Query::PreparedQuery {
            id_or_name: id.to_string(),
        };
        match store.query(&query) {
            Answer::PreparedQuery(Some(query)) if query.id == id => need(&query),
            _ => Ok(()),
        }
    }

    fn check_entry(&self, step: &EntryStep) -> Result<(), Denied> {
        let (kind, name) = match step {
            EntryStep::Set { entry, .. } => (&entry.kind, &entry.name),
            EntryStep::Delete { kind, name, .. } => (kind, name),
        };
        kinds::need(self, kind, name, Write)
    }

    /// Refuses operations of a transaction, by their place.
    pub fn check_txn(&self, store: &Store, ops: &[TxnOp]) -> Vec<TxnError> {
        let errors = ops.iter().enumerate().filter_map(|(op_index, op)| {
            let Err(Denied(what)) = self.check_op(store, op) else {
                return None;
            };
            Some(TxnError { op_index, what })
        });
        errors.collect()
    }

    /// What is only shown, is left out of the results.
    fn check_op(&self, store: &Store, op: &TxnOp) -> Result<(), Denied> {
        let writes = |verb: RowVerb| !matches!(verb, RowVerb::Get);
        match op {
            TxnOp::Kv(command) => self.check_kv(command),
            TxnOp::KvRead { key, read } => match read {
                KvRead::Get | KvRead::GetOrEmpty | KvRead::GetTree => Ok(()),
                KvRead::CheckIndex(_) | KvRead::CheckSession(_) | KvRead::CheckNotExists => {
                    self.need(Resource::Key, key, Read)
                }
            },
            TxnOp::Node { verb, node } if writes(*verb) => {
                self.need(Resource::Node, &node.node, Write)
            }
            TxnOp::Service {
                verb,
                node,
                service,
            } if writes(*verb) => {
                let known = services_of(store, node);
                match verb {
                    RowVerb::Set | RowVerb::Cas(_) => self.check_service(&known, service),
                    _ => {
                        let id = service.id.clone();
                        let node = node.clone();
                        self.check_deregister(store, &Deregister::Service { node, id })
                    }
                }
            }
            TxnOp::Check { verb, check } if writes(*verb) => match verb {
                RowVerb::Set | RowVerb::Cas(_) => {
                    self.check_check(&services_of(store, &check.node), &check.node, check)
                }
                _ => {
                    let (node, id) = (check.node.clone(), check.check_id.clone());
                    self.check_deregister(store, &Deregister::Check { node, id })
                }
            },
            TxnOp::SessionDelete { id } => match store.session(id) {
                Some(session) => self.need(Resource::Session, &session.node, Write),
                None => Ok(()),
            },
            TxnOp::Node { .. } | TxnOp::Service { .. } | TxnOp::Check { .. } => Ok(()),
        }
    }
}

fn internal() -> Denied {
    Denied("Permission denied: only servers themselves do this".to_owned())
}

fn has_same_content(known: &Node, new: &Node) -> bool {
    let Node {
        id,
        node,
        address,
        datacenter: _,
        tagged_addresses,
        meta,
        create_index: _,
        modify_index: _,
    } = new;
    known.id == *id
        && known.node.eq_ignore_ascii_case(node)
        && known.address == *address
        && known.tagged_addresses == *tagged_addresses
        && known.meta == *meta
}

fn node_row(store: &Store, node: &str) -> Option<Node> {
    let node = node.to_owned();
    match store.query(&Query::Node { node }) {
        Answer::Node(found) => found.map(|row| Node::clone(&row)),
        _ => None,
    }
}

fn services_of(store: &Store, node: &str) -> Vec<Service> {
    let node = node.to_owned();
    match store.query(&Query::NodeServices { node }) {
        Answer::NodeServices(Some(found)) => {
            let services = found.services.iter();
            services.map(|row| Service::clone(row)).collect()
        }
        _ => Vec::new(),
    }
}

fn checks_of(store: &Store, node: &str) -> Vec<Check> {
    let node = node.to_owned();
    match store.query(&Query::NodeChecks { node }) {
        Answer::Checks(found) => found.iter().map(|row| Check::clone(row)).collect(),
        _ => Vec::new(),
    }
}
