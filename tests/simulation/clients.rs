//! Clients of one node: they write, compare, delete and read for as long as it runs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agent::env::{Random as _, SeededRandom};
use agent::node::{Consistency, Error, Node, ReadOptions};
use agent::state::{Answer, Command, KvCommand, KvEntry, KvOp, KvWrite, Outcome, Query};
use futures::future::join_all;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::history::History;
use tests::{Op, Registers};

/// Longest a client waits before it counts an outcome as unknown.
const PATIENCE: Duration = Duration::from_secs(20);

/// Clients on each node that share the same few keys.
const SHARERS: u64 = 2;

/// What the clients of all hosts share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) history: RefCell<History>,
    pub(crate) registers: RefCell<Registers>,
    pub(crate) stopped: Cell<bool>,
}

/// Starts the clients of a node, on the node's host. `name` is used by no other start of any host.
pub(crate) fn start(node: &Node, name: &str, shared: &Rc<Shared>, seed: u64) {
    spawn_local(write(
        node.clone(),
        format!("w/{name}"),
        Rc::clone(shared),
        SeededRandom::new(seed + 1),
    ));
    for number in 0..SHARERS {
        let client = Sharer {
            node: node.clone(),
            shared: Rc::clone(shared),
            random: SeededRandom::new(seed + 2 + number),
        };
        spawn_local(client.run());
    }
}

/// What became of a write.
enum Written {
    /// It was answered.
    Answered(Outcome),
    /// The node says that nothing was done.
    Refused,
    Unknown,
}

async fn apply(node: &Node, key: &str, op: KvOp) -> Written {
    let command = Command::Kv(KvCommand {
        key: key.to_owned(),
        op,
    });
    match timeout(PATIENCE, node.propose(command)).await {
        Ok(Ok(outcome)) => Written::Answered(outcome),
        Err(_) | Ok(Err(Error::Unknown | Error::ShuttingDown)) => Written::Unknown,
        Ok(Err(_)) => Written::Refused,
    }
}

fn set(value: &str) -> KvWrite {
    KvWrite {
        value: value.to_owned().into(),
        flags: 0,
    }
}

/// Writes a key that nobody else writes, and notes it once it is acknowledged.
async fn put(node: &Node, key: &str, shared: &Shared) {
    if let Written::Answered(Outcome::Bool(true)) = apply(node, key, KvOp::Set(set(key))).await {
        let mut history = shared.history.borrow_mut();
        history.note(key);
        history.acknowledged.insert(key.to_owned());
    }
}

/// Every key once: an acknowledged one must never be missing again.
async fn write(node: Node, prefix: String, shared: Rc<Shared>, random: SeededRandom) {
    for serial in 0_u64.. {
        sleep(Duration::from_millis(5 + random.below(60))).await;
        if shared.stopped.get() {
            return;
        }
        put(&node, &format!("{prefix}/{serial}"), &shared).await;
    }
}

/// Writes `number` keys at once, so that the log is long.
pub(crate) async fn fill(node: &Node, number: u64, shared: &Shared) {
    let keys: Vec<String> = (0..number).map(|n| format!("w/fill/{n}")).collect();
    join_all(keys.iter().map(|key| put(node, key, shared))).await;
}

/// A client of the keys that all share.
struct Sharer {
    node: Node,
    shared: Rc<Shared>,
    random: SeededRandom,
}

impl Sharer {
    async fn run(self) {
        loop {
            sleep(Duration::from_millis(5 + self.random.below(100))).await;
            if self.shared.stopped.get() {
                return;
            }
            let key = self
                .shared
                .registers
                .borrow_mut()
                .pick(self.random.next_u64());
            match self.random.below(10) {
                0..=2 => self.put(&key).await,
                3 => self.delete(&key).await,
                4 | 5 => self.swap(&key).await,
                6 => self.read_stale(&key).await,
                7 => drop(self.read(&key, Consistency::Consistent).await),
                _ => drop(self.read(&key, Consistency::Default).await),
            }
        }
    }

    /// Carries out a write; `seen` says what its answer means, `None` for one that it never gets.
    async fn change(&self, key: &str, op: Op, kv: KvOp, seen: impl Fn(bool) -> Op) {
        let ticket = self.shared.registers.borrow_mut().call(key, op);
        let written = apply(&self.node, key, kv).await;
        let mut registers = self.shared.registers.borrow_mut();
        match written {
            Written::Answered(Outcome::Bool(done)) => registers.answer(&ticket, seen(done)),
            Written::Answered(other) => panic!("{op:?} of {key} was answered with {other:?}"),
            Written::Refused => registers.refused(&ticket),
            Written::Unknown => registers.unknown(&ticket),
        }
    }

    async fn put(&self, key: &str) {
        let value = self.shared.registers.borrow_mut().fresh_value();
        let op = Op::Put(value);
        let kv = KvOp::Set(set(&value.to_string()));
        self.change(key, op, kv, |done| {
            assert!(done, "a plain write was refused");
            op
        })
        .await;
    }

    async fn delete(&self, key: &str) {
        self.change(key, Op::Delete, KvOp::Delete, |_| Op::Delete)
            .await;
    }

    /// Reads, and writes if nobody else has written meanwhile.
    async fn swap(&self, key: &str) {
        let Some(found) = self.read(key, Consistency::Default).await else {
            return;
        };
        let new = self.shared.registers.borrow_mut().fresh_value();
        let (expected, index) = match &found {
            Some(entry) => (Some(number(entry)), entry.modify_index),
            None => (None, 0),
        };
        let op = |done| Op::Swap {
            expected,
            new,
            done,
        };
        let write = set(&new.to_string());
        self.change(key, op(None), KvOp::Cas { write, index }, |done| {
            op(Some(done))
        })
        .await;
    }

    /// What was read, if anything was.
    async fn read(&self, key: &str, how: Consistency) -> Option<Option<Arc<KvEntry>>> {
        let ticket = self.shared.registers.borrow_mut().call(key, Op::Read(None));
        let found = get(&self.node, key, how).await;
        let mut registers = self.shared.registers.borrow_mut();
        match &found {
            Some(entry) => {
                let value = entry.as_deref().map(number);
                registers.answer(&ticket, Op::Read(value));
                note(&mut registers, entry.as_deref());
            }
            None => registers.refused(&ticket),
        }
        found
    }

    async fn read_stale(&self, key: &str) {
        if let Some(Some(entry)) = get(&self.node, key, Consistency::Stale).await {
            let mut registers = self.shared.registers.borrow_mut();
            registers.stale(key, number(&entry));
            note(&mut registers, Some(&entry));
        }
    }
}

fn note(registers: &mut Registers, entry: Option<&KvEntry>) {
    if let Some(entry) = entry {
        registers.written(entry.modify_index, &entry.key, &entry.value);
    }
}

fn number(entry: &KvEntry) -> u64 {
    std::str::from_utf8(&entry.value)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{} holds {:?}", entry.key, entry.value))
}

async fn get(node: &Node, key: &str, how: Consistency) -> Option<Option<Arc<KvEntry>>> {
    let options = ReadOptions {
        consistency: how,
        ..ReadOptions::default()
    };
    let query = Query::KvGet {
        key: key.to_owned(),
    };
    match timeout(PATIENCE, node.read(query, options)).await {
        Ok(Ok(reply)) => match reply.answer {
            Answer::Kv(entry) => Some(entry),
            other => panic!("a read of one key was answered with {other:?}"),
        },
        _ => None,
    }
}

/// Everything that a server itself has.
pub(crate) async fn everything(node: &Node) -> Vec<Arc<KvEntry>> {
    let options = ReadOptions {
        consistency: Consistency::Stale,
        ..ReadOptions::default()
    };
    let query = Query::KvList {
        prefix: String::new(),
    };
    match node.read(query, options).await.map(|reply| reply.answer) {
        Ok(Answer::KvList(entries)) => entries,
        // Asked again until the run is over.
        _ => Vec::new(),
    }
}
