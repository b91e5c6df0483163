//! Transactions: several operations at one log index, all of them or none.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::catalog::{Check, Node, Service};
use super::command::{Deregister, KvCommand, KvOp, Outcome, Register};
use super::kv::KvEntry;
use super::{Change, Tables};

/// Values that the results of one transaction may hold together. 128 listings of everything would otherwise be one
/// answer. Half a frame between nodes.
pub const TXN_RESULT_BYTES_MAX: usize = 32 << 20;

/// One operation. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    /// Writes or deletes a key; a condition that does not hold fails the transaction.
    Kv(KvCommand),
    /// Looks at a key, or at those with a prefix.
    KvRead {
        /// The key or the prefix.
        key: String,
        /// What to look for.
        read: KvRead,
    },
    /// A node of the catalog. Of a node to be read or deleted only the name counts.
    Node {
        /// What to do with it.
        verb: RowVerb,
        /// The row.
        node: Box<Node>,
    },
    /// A service. Of one to be read or deleted only the id counts.
    Service {
        /// What to do with it.
        verb: RowVerb,
        /// The node that it is on, in any case.
        node: String,
        /// The row.
        service: Box<Service>,
    },
    /// A check. Of one to be read or deleted only node and id count.
    Check {
        /// What to do with it.
        verb: RowVerb,
        /// The row, with the name of its node.
        check: Box<Check>,
    },
    /// Ends a session; done as well when there is none.
    SessionDelete {
        /// Which one.
        id: Uuid,
    },
}

/// What to look for in the key/value table. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvRead {
    /// The entry, which must be there.
    Get,
    /// The entry if it is there.
    GetOrEmpty,
    /// Every entry with this prefix.
    GetTree,
    /// Whether its `ModifyIndex` is this one.
    CheckIndex(u64),
    /// Whether this session holds it. A text, because one that is no session's id holds nothing.
    CheckSession(String),
    /// Whether it is absent.
    CheckNotExists,
}

/// What to do with a row of the catalog. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowVerb {
    /// Reads it; it must be there.
    Get,
    /// Writes it.
    Set,
    /// Writes it if it was last changed at this index; 0 stands for an absent row.
    Cas(u64),
    /// Deletes it; done as well when there is none.
    Delete,
    /// Deletes it if it was last changed at this index.
    DeleteCas(u64),
}

/// What one operation has to show. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnResult {
    /// An entry; after a write without its value.
    Kv(Arc<KvEntry>),
    /// A node.
    Node(Arc<Node>),
    /// A service.
    Service(Arc<Service>),
    /// A check.
    Check(Arc<Check>),
}

/// Why an operation failed, and with it the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnError {
    /// The place of the operation, from 0.
    pub op_index: usize,
    /// Why, in Consul's words.
    pub what: String,
}

impl TxnOp {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            TxnOp::Kv(_) | TxnOp::SessionDelete { .. } => false,
            TxnOp::KvRead { .. } => true,
            TxnOp::Node { verb, .. } | TxnOp::Service { verb, .. } | TxnOp::Check { verb, .. } => {
                *verb == RowVerb::Get
            }
        }
    }

    /// Bytes of the part that has no bound of its own.
    pub(super) fn payload_len(&self) -> usize {
        match self {
            TxnOp::Kv(kv) => kv.key.len() + kv.op.value().map_or(0, Bytes::len),
            _ => 0,
        }
    }
}

/// Results gathered so far.
#[derive(Default)]
struct Results {
    results: Vec<TxnResult>,
    bytes: usize,
}

impl Results {
    fn push(&mut self, result: TxnResult) -> Result<(), String> {
        if let TxnResult::Kv(entry) = &result {
            self.bytes += entry.key.len() + entry.value.len();
        }
        if self.bytes > TXN_RESULT_BYTES_MAX {
            return Err(format!(
                "the results of the transaction are larger than {TXN_RESULT_BYTES_MAX} bytes"
            ));
        }
        self.results.push(result);
        Ok(())
    }
}

impl Tables {
    /// Carries out every operation in order, or none: each sees what those before it did.
    pub(super) fn transact(&mut self, change: &mut Change<'_>, ops: &[TxnOp]) -> Outcome {
        // The version before is at hand for free. Whoever was woken in vain looks at the index and waits on.
        let before = self.clone();
        let (results, errors) = run(ops, |op, results| self.operate(change, op, results));
        if errors.is_empty() {
            return Outcome::Txn(results);
        }
        *self = before;
        Outcome::TxnFailed(errors)
    }

    /// Carries out operations that change nothing.
    pub(super) fn look(&self, ops: &[TxnOp]) -> Result<Vec<TxnResult>, Vec<TxnError>> {
        let (results, errors) = run(ops, |op, results| match op {
            TxnOp::KvRead { key, read } => self.read_key(key, read, results),
            TxnOp::Node { node, .. } => self.get_node(node, results),
            TxnOp::Service { node, service, .. } => self.get_service(node, &service.id, results),
            TxnOp::Check { check, .. } => self.get_check(check, results),
            TxnOp::Kv(_) | TxnOp::SessionDelete { .. } => {
                Err("a write cannot be answered as a read".to_owned())
            }
        });
        if errors.is_empty() {
            Ok(results)
        } else {
            Err(errors)
        }
    }

    fn operate(
        &mut self,
        change: &mut Change<'_>,
        op: &TxnOp,
        results: &mut Results,
    ) -> Result<(), String> {
        match op {
            TxnOp::Kv(command) => self.write_key(change, command, results),
            TxnOp::KvRead { key, read } => self.read_key(key, read, results),
            TxnOp::Node { verb, node } => self.operate_on_node(change, *verb, node, results),
            TxnOp::Service {
                verb,
                node,
                service,
            } => self.operate_on_service(change, *verb, node, service, results),
            TxnOp::Check { verb, check } => self.operate_on_check(change, *verb, check, results),
            TxnOp::SessionDelete { id } => {
                self.end_session(change, id);
                Ok(())
            }
        }
    }

    fn write_key(
        &mut self,
        change: &mut Change<'_>,
        command: &KvCommand,
        results: &mut Results,
    ) -> Result<(), String> {
        let key = command.key.as_str();
        let delayed = matches!(command.op, KvOp::Lock { .. })
            && self.kv.delays.contains(key)
            && self.kv.entries.get(key).is_none_or(|e| e.session.is_none());
        let sessions = &self.sessions.rows;
        let exists = |id: &Uuid| sessions.contains_key(id);
        match self.kv.apply(change, command, exists) {
            Outcome::Bool(false) => return Err(unmet(command, delayed)),
            Outcome::Error { text, .. } => return Err(text),
            _ => {}
        }
        if command.op.value().is_none() {
            return Ok(());
        }
        match self.kv.entries.get(key) {
            Some(entry) => results.push(TxnResult::Kv(Arc::new(KvEntry {
                value: Bytes::new(),
                ..KvEntry::clone(entry)
            }))),
            None => Ok(()),
        }
    }

    fn read_key(&self, key: &str, read: &KvRead, results: &mut Results) -> Result<(), String> {
        let entry = self.kv.entries.get(key);
        let there = || entry.ok_or_else(|| format!("key {key:?} doesn't exist"));
        match read {
            KvRead::Get => results.push(TxnResult::Kv(there()?.clone())),
            KvRead::GetOrEmpty => results.push(TxnResult::Kv(match entry {
                Some(entry) => entry.clone(),
                None => Arc::new(KvEntry::absent(key)),
            })),
            KvRead::GetTree => self
                .kv
                .with_prefix(key)
                .try_for_each(|entry| results.push(TxnResult::Kv(entry.clone()))),
            KvRead::CheckIndex(index) => {
                let found = there()?.modify_index;
                if found == *index {
                    return results.push(TxnResult::Kv(there()?.clone()));
                }
                Err(format!(
                    "failed index check for key {key:?}, current modify index {found} != {index}"
                ))
            }
            KvRead::CheckSession(session) => {
                let holder = there()?.session.map(|id| id.to_string());
                let holder = holder.unwrap_or_default();
                if holder == *session {
                    return results.push(TxnResult::Kv(there()?.clone()));
                }
                Err(format!(
                    "failed session check for key {key:?}, current session {holder:?} != {session:?}"
                ))
            }
            KvRead::CheckNotExists if entry.is_some() => Err(format!("key {key:?} exists")),
            KvRead::CheckNotExists => Ok(()),
        }
    }

    fn operate_on_node(
        &mut self,
        change: &mut Change<'_>,
        verb: RowVerb,
        node: &Node,
        results: &mut Results,
    ) -> Result<(), String> {
        let name = &node.node;
        let found = self.catalog.node_row(name).map(|r| r.node.modify_index);
        allowed(verb, found, || format!("node {name:?}"))?;
        match verb {
            RowVerb::Get => {}
            RowVerb::Set | RowVerb::Cas(_) => self.register_row(
                change,
                &Register {
                    node: node.clone(),
                    skip_node_update: false,
                    services: Vec::new(),
                    checks: Vec::new(),
                },
            )?,
            RowVerb::Delete | RowVerb::DeleteCas(_) => {
                let node = name.clone();
                self.deregister_row(change, &Deregister::Node { node });
                return Ok(());
            }
        }
        self.get_node(node, results)
    }

    fn operate_on_service(
        &mut self,
        change: &mut Change<'_>,
        verb: RowVerb,
        node: &str,
        service: &Service,
        results: &mut Results,
    ) -> Result<(), String> {
        let id = &service.id;
        let row = self.catalog.node_row(node);
        let found = row.and_then(|row| row.services.get(id.as_str()));
        let found = found.map(|service| service.modify_index);
        allowed(verb, found, || format!("service {id:?} on node {node:?}"))?;
        match verb {
            RowVerb::Get => {}
            RowVerb::Set | RowVerb::Cas(_) => {
                self.register_on(change, node, vec![service.clone()], Vec::new())?;
            }
            RowVerb::Delete | RowVerb::DeleteCas(_) => {
                let (node, id) = (node.to_owned(), id.clone());
                self.deregister_row(change, &Deregister::Service { node, id });
                return Ok(());
            }
        }
        self.get_service(node, id, results)
    }

    fn operate_on_check(
        &mut self,
        change: &mut Change<'_>,
        verb: RowVerb,
        check: &Check,
        results: &mut Results,
    ) -> Result<(), String> {
        let (node, id) = (&check.node, &check.check_id);
        let row = self.catalog.node_row(node);
        let found = row.and_then(|row| row.checks.get(id.as_str()));
        let found = found.map(|check| check.modify_index);
        allowed(verb, found, || format!("check {id:?} on node {node:?}"))?;
        match verb {
            RowVerb::Get => {}
            RowVerb::Set | RowVerb::Cas(_) => {
                self.register_on(change, node, Vec::new(), vec![check.clone()])?;
            }
            RowVerb::Delete | RowVerb::DeleteCas(_) => {
                let (node, id) = (node.clone(), id.clone());
                self.deregister_row(change, &Deregister::Check { node, id });
                return Ok(());
            }
        }
        self.get_check(check, results)
    }

    /// Writes what belongs to a node, which must be there and stays as it is.
    fn register_on(
        &mut self,
        change: &mut Change<'_>,
        node: &str,
        services: Vec<Service>,
        checks: Vec<Check>,
    ) -> Result<(), String> {
        let row = self.catalog.node_row(node);
        let row = row.ok_or("Missing node registration")?;
        let register = Register {
            node: Node::clone(&row.node),
            skip_node_update: true,
            services,
            checks,
        };
        self.register_row(change, &register)
    }

    fn register_row(&mut self, change: &mut Change<'_>, register: &Register) -> Result<(), String> {
        match self.catalog.register(change, register) {
            Ok(unhealthy) => {
                self.end_unhealthy(change, &unhealthy);
                Ok(())
            }
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    fn deregister_row(&mut self, change: &mut Change<'_>, what: &Deregister) {
        let unhealthy = self.catalog.deregister(change, what);
        self.end_unhealthy(change, &unhealthy);
    }

    fn get_node(&self, node: &Node, results: &mut Results) -> Result<(), String> {
        match self.catalog.node_row(&node.node) {
            Some(row) => results.push(TxnResult::Node(row.node.clone())),
            None => Err(missing(&format!("node {:?}", node.node))),
        }
    }

    fn get_service(&self, node: &str, id: &str, results: &mut Results) -> Result<(), String> {
        let row = self.catalog.node_row(node);
        match row.and_then(|row| row.services.get(id)) {
            Some(service) => results.push(TxnResult::Service(service.clone())),
            None => Err(missing(&format!("service {id:?} on node {node:?}"))),
        }
    }

    fn get_check(&self, check: &Check, results: &mut Results) -> Result<(), String> {
        let (node, id) = (&check.node, &check.check_id);
        let row = self.catalog.node_row(node);
        match row.and_then(|row| row.checks.get(id.as_str())) {
            Some(check) => results.push(TxnResult::Check(check.clone())),
            None => Err(missing(&format!("check {id:?} on node {node:?}"))),
        }
    }
}

/// Every operation in order; after a failed one the others are tried too, so that all errors are told at once.
fn run(
    ops: &[TxnOp],
    mut operate: impl FnMut(&TxnOp, &mut Results) -> Result<(), String>,
) -> (Vec<TxnResult>, Vec<TxnError>) {
    let (mut results, mut errors) = (Results::default(), Vec::new());
    for (op_index, op) in ops.iter().enumerate() {
        if let Err(what) = operate(op, &mut results) {
            errors.push(TxnError { op_index, what });
        }
    }
    (results.results, errors)
}

/// Whether the condition of a verb holds, for a row that was last changed at `found`.
fn allowed(verb: RowVerb, found: Option<u64>, row: impl Fn() -> String) -> Result<(), String> {
    match verb {
        RowVerb::Get if found.is_none() => Err(missing(&row())),
        RowVerb::Cas(index) if found.unwrap_or(0) != index => {
            Err(format!("failed to set {}, index is stale", row()))
        }
        RowVerb::DeleteCas(index) if found != Some(index) => {
            Err(format!("failed to delete {}, index is stale", row()))
        }
        _ => Ok(()),
    }
}

fn missing(row: &str) -> String {
    format!("{row} doesn't exist")
}

/// Why a write of a key was not made.
fn unmet(command: &KvCommand, delayed: bool) -> String {
    let key = &command.key;
    match &command.op {
        KvOp::Lock { .. } if delayed => format!("failed to lock key {key:?} due to lock delay"),
        KvOp::Lock { .. } => format!("failed to lock key {key:?}, lock is already held"),
        KvOp::Unlock { .. } => {
            format!("failed to unlock key {key:?}, lock isn't held, or is held by another session")
        }
        KvOp::DeleteCas { .. } => format!("failed to delete key {key:?}, index is stale"),
        KvOp::Set(_) | KvOp::Cas { .. } | KvOp::Delete | KvOp::DeleteTree => {
            format!("failed to set key {key:?}, index is stale")
        }
    }
}
