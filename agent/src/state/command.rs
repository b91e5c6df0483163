//! What can be asked of the state, and what it says to that.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::acl::AclStep;
use super::autopilot::Autopilot;
use super::ca::CaStep;
use super::catalog::{Check, Node, Service};
use super::coordinates::NodePlace;
use super::entries::EntryStep;
use super::lock_delay::DelayedKey;
use super::prepared::PreparedStep;
use super::restore::RestoreStep;
use super::session::Session;
use super::txn::{TxnError, TxnOp, TxnResult};
use super::virtual_ips::VirtualStep;

/// The first byte of an encoded [`Stamped`].
///
/// Raised only when the bytes behind it change their meaning; a new [`Command`] variant at the end does not.
const VERSION: u8 = 1;

/// A command with the time at which its proposer stamped it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Milliseconds since the Unix epoch, by the proposer's clock.
    pub unix_ms: u64,
    /// What to do.
    pub command: Command,
}

impl Stamped {
    /// The form in which a command is stored in the log and sent to peers: a version byte, then postcard.
    pub fn encode(&self) -> Bytes {
        // The value of a KV write dwarfs everything else; beside it 64 bytes hold the rest of nearly every command.
        let mut bytes = Vec::with_capacity(64 + self.command.payload_len());
        bytes.push(VERSION);
        Bytes::from(
            postcard::to_extend(self, bytes)
                .expect("a vector takes every byte, and no field is a sequence of unknown length"),
        )
    }

    /// Reads what [`Stamped::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are of a newer version or cut or damaged. Nothing of them may then be applied: a server
    /// that skips a command diverges from the others.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.split_first() {
            None => Err(DecodeError::Empty),
            Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
                Ok((stamped, [])) => Ok(stamped),
                Ok((_, rest)) => Err(DecodeError::Trailing { bytes: rest.len() }),
                Err(source) => Err(DecodeError::Malformed { source }),
            },
            Some((&found, _)) => Err(DecodeError::Version {
                found: u32::from(found),
                understood: u32::from(VERSION),
            }),
        }
    }
}

/// A change of the state. Append only: the variant's number is its wire form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Changes nothing.
    Noop,
    /// Writes or deletes in the key/value table.
    Kv(KvCommand),
    /// [`Command::Register`] as the first release wrote it: read from old logs, never written.
    #[serde(skip_serializing, deserialize_with = "super::catalog::first::register")]
    FirstRegister(Box<Register>),
    /// Removes a node, a service or a check.
    Deregister(Deregister),
    /// Creates a session. Its id comes from the proposer, its indexes from the log.
    SessionCreate(Box<Session>),
    /// Ends a session, releasing or deleting what it holds. Done as well when there is none.
    SessionDestroy {
        /// Which one.
        id: Uuid,
    },
    /// Forgets the tombstones of keys that were deleted at or before this index.
    ReapTombstones {
        /// From `Store::expired_tombstones`.
        up_to: u64,
    },
    /// Names the cluster. Write-once: the same value again is accepted, another one refused.
    SetClusterId(Uuid),
    /// Lets keys be locked again whose lock delay is over, from `Store::lock_delays`. A delay that began later stays.
    EndLockDelays(Vec<DelayedKey>),
    /// Says how the leader is to look after the servers.
    SetAutopilot {
        /// The settings; their indexes do not count.
        config: Box<Autopilot>,
        /// Only if they were last set at this index; 0 stands for never.
        cas: Option<u64>,
    },
    /// Several operations, all or nothing.
    Txn(Vec<TxnOp>),
    /// A step in putting back a saved state.
    Restore(RestoreStep),
    /// Writes a node, and services and checks on it, all or nothing.
    Register(Box<Register>),
    /// Changes the prepared queries.
    Prepared(PreparedStep),
    /// Says where nodes are. Those that are not in the catalog are left out.
    SetPlaces(Vec<NodePlace>),
    /// Changes the config entries, without a look at what others say: read from old logs, not written any more.
    Entry(EntryStep),
    /// Changes the config entries, unless they would not fit together then. What fits is decided by `crate::entries::rules`:
    /// rules that refuse more or less than these need a variant of their own, or servers would diverge.
    CheckedEntry(EntryStep),
    /// Changes the addresses that stand for services.
    Virtual(VirtualStep),
    /// Changes the certificate authority.
    Ca(CaStep),
    /// Changes who may do what.
    Acl(AclStep),
}

impl Command {
    /// Whether applying it may take seconds.
    pub fn is_slow(&self) -> bool {
        matches!(self, Command::Restore(RestoreStep::Commit { .. }))
    }

    /// Bytes of the part that has no bound of its own.
    fn payload_len(&self) -> usize {
        match self {
            Command::Kv(kv) => kv.key.len() + kv.op.value().map_or(0, Bytes::len),
            Command::Restore(RestoreStep::Part { bytes, .. }) => bytes.len(),
            Command::Entry(EntryStep::Set { entry, .. })
            | Command::CheckedEntry(EntryStep::Set { entry, .. }) => entry.json.len(),
            Command::Txn(ops) => ops.iter().map(|op| 16 + op.payload_len()).sum(),
            _ => 0,
        }
    }
}

/// A change of the key/value table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvCommand {
    /// The key, or the prefix for [`KvOp::DeleteTree`].
    pub key: String,
    /// What to do with it.
    pub op: KvOp,
}

/// What to do with a key. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvOp {
    /// Writes; a lock on the key stays.
    Set(KvWrite),
    /// Writes if the entry's `ModifyIndex` is `index`; 0 stands for an absent key.
    Cas {
        /// What to write.
        write: KvWrite,
        /// The expected `ModifyIndex`.
        index: u64,
    },
    /// Writes and locks, unless another session holds the key or its lock delay lasts.
    Lock {
        /// What to write.
        write: KvWrite,
        /// The session that is to hold the key.
        session: Uuid,
    },
    /// Writes and unlocks, if this session holds the key.
    Unlock {
        /// What to write.
        write: KvWrite,
        /// The session that holds the key.
        session: Uuid,
    },
    /// Deletes the key.
    Delete,
    /// Deletes the key if its `ModifyIndex` is `index`. An absent key counts as deleted.
    DeleteCas {
        /// The expected `ModifyIndex`.
        index: u64,
    },
    /// Deletes every key with this prefix.
    DeleteTree,
}

impl KvOp {
    pub(super) fn value(&self) -> Option<&Bytes> {
        match self {
            KvOp::Set(write)
            | KvOp::Cas { write, .. }
            | KvOp::Lock { write, .. }
            | KvOp::Unlock { write, .. } => Some(&write.value),
            KvOp::Delete | KvOp::DeleteCas { .. } | KvOp::DeleteTree => None,
        }
    }
}

/// The client's part of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvWrite {
    /// Any bytes.
    pub value: Bytes,
    /// Any number; the servers give it no meaning.
    pub flags: u64,
}

/// A node with services and checks on it. Indexes inside the rows are ignored: the log sets them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The node.
    pub node: Node,
    /// Keep the node's row as it is if there is one.
    pub skip_node_update: bool,
    /// Services to write. Those not named here stay.
    pub services: Vec<Service>,
    /// Checks to write. Their `node` is ignored: it is the node above.
    pub checks: Vec<Check>,
}

/// What to remove from the catalog. Removing what is not there is done as well. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deregister {
    /// A node with its services, checks and sessions.
    Node {
        /// Node name, in any case.
        node: String,
    },
    /// One service with its checks.
    Service {
        /// Node name, in any case.
        node: String,
        /// Service id.
        id: String,
    },
    /// One check.
    Check {
        /// Node name, in any case.
        node: String,
        /// Check id.
        id: String,
    },
}

/// What applying one command said. A refusal is an outcome too: an error on one server only would make them
/// diverge. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
    /// Whether the condition held and the write was made.
    Bool(bool),
    /// The session that was created.
    SessionId(Uuid),
    /// Refused; nothing has changed.
    Error {
        /// Why, for programs.
        code: Refusal,
        /// Why, for people, in Consul's words where it has them.
        text: String,
    },
    /// Every operation of a transaction was carried out.
    Txn(Vec<TxnResult>),
    /// Some could not be, and nothing has changed. Never empty.
    TxnFailed(Vec<TxnError>),
    /// To [`VirtualStep::Assign`].
    Virtual {
        /// Whether the service has addresses at all.
        found: bool,
        /// Services from which some were taken.
        taken_from: Vec<String>,
    },
}

impl Outcome {
    pub(super) fn refuse(code: Refusal, text: impl Into<String>) -> Self {
        Outcome::Error {
            code,
            text: text.into(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Bool(made) => write!(f, "{made}"),
            Outcome::SessionId(id) => write!(f, "session {id}"),
            Outcome::Error { text, .. } => f.write_str(text),
            Outcome::Virtual { found, .. } => write!(f, "{found}"),
            Outcome::Txn(results) => write!(f, "{} results", results.len()),
            Outcome::TxnFailed(errors) => match errors.first() {
                Some(error) => write!(f, "operation {}: {}", error.op_index, error.what),
                None => f.write_str("failed"),
            },
        }
    }
}

/// Why a command was refused. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A lock was asked for by a session that does not exist.
    InvalidSession,
    /// A session with this id exists.
    DuplicateSession,
    /// The node is not registered.
    MissingNode,
    /// The service is not registered.
    MissingService,
    /// The check is not registered.
    MissingCheck,
    /// The check is critical, so no session may depend on it.
    CriticalCheck,
    /// The node name belongs to another node that is alive.
    NodeNameTaken,
    /// The cluster has another id already.
    ClusterIdTaken,
    /// Settings of autopilot that cannot be.
    InvalidAutopilot,
    /// A saved state that is not whole.
    InvalidSnapshot,
    /// A prepared query that cannot be.
    InvalidQuery,
    /// There is no prepared query with this id.
    MissingQuery,
    /// A config entry that does not fit the others.
    InvalidEntry,
    /// Tokens were bootstrapped before.
    AclBootstrapped,
    /// A token, policy, role, auth method or binding rule that does not fit the others.
    InvalidAcl,
    /// It was changed since its writer looked at it.
    AclChanged,
}

/// Why bytes are not a command, or not a store.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There is nothing.
    #[error("no bytes")]
    Empty,
    /// A newer program wrote it.
    #[error("written in version {found}, understood up to {understood}")]
    Version {
        /// What the bytes say.
        found: u32,
        /// The newest that this program reads.
        understood: u32,
    },
    /// Cut or damaged.
    #[error("malformed: {source}")]
    Malformed {
        /// What postcard said.
        source: postcard::Error,
    },
    /// More bytes than were written.
    #[error("{bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A section that this program does not know, so that dropping it would lose data.
    #[error("unknown section {tag}")]
    Section {
        /// Its tag.
        tag: u8,
    },
    /// The rows contradict each other.
    #[error("inconsistent: {what}")]
    Inconsistent {
        /// How.
        what: &'static str,
    },
}
