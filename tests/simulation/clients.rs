//! Clients of one node's HTTP API: they write, compare, delete and read for as long as it runs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agent::client::{KvPair, KvPut};
use agent::env::{Random as _, SeededRandom};
use agent::node::{Consistency, Node, ReadOptions};
use agent::state::{Answer, KvEntry, Query};
use futures::future::join_all;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::api::{Change, Client, How, Written};
use crate::history::History;
use crate::keepers::Lock;
use tests::{Op, Registers};

/// Clients on each node that share the same few keys, unless a scenario wants more of them.
const SHARERS: u64 = 2;

/// What the clients of all hosts share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) history: RefCell<History>,
    pub(crate) registers: RefCell<Registers>,
    pub(crate) stopped: Cell<bool>,
    /// Clients on each node beyond the usual ones.
    pub(crate) more_sharers: Cell<u64>,
    /// Of clients that keep a lock by a session with a TTL; only some scenarios have such.
    pub(crate) lock: Rc<Lock>,
    /// Sessions made so far.
    sessions: Cell<u64>,
}

/// Starts the clients of a node, on the node's host. `name` is used by no other start of any host.
pub(crate) fn start(api: &Client, name: &str, shared: &Rc<Shared>, seed: u64) {
    spawn_local(write(
        api.clone(),
        format!("w/{name}"),
        Rc::clone(shared),
        SeededRandom::new(seed + 1),
    ));
    for number in 0..SHARERS + shared.more_sharers.get() {
        let client = Sharer {
            api: api.clone(),
            shared: Rc::clone(shared),
            random: SeededRandom::new(seed + 2 + number),
        };
        spawn_local(client.run());
    }
}

/// Writes a key that nobody else writes, and notes it once it is acknowledged.
async fn put(api: &Client, key: &str, shared: &Shared) {
    let change = Change::Put(key, KvPut::default());
    if let Written::Answered(true) = api.change(key, change).await {
        let mut history = shared.history.borrow_mut();
        history.note(key);
        history.acknowledged.insert(key.to_owned());
    }
}

/// Every key once: an acknowledged one must never be missing again.
async fn write(api: Client, prefix: String, shared: Rc<Shared>, random: SeededRandom) {
    for serial in 0_u64.. {
        sleep(Duration::from_millis(5 + random.below(60))).await;
        if shared.stopped.get() {
            return;
        }
        put(&api, &format!("{prefix}/{serial}"), &shared).await;
    }
}

/// Writes `number` keys at once, so that the log is long.
pub(crate) async fn fill(api: &Client, number: u64, shared: &Shared) {
    let keys: Vec<String> = (0..number).map(|n| format!("w/fill/{n}")).collect();
    join_all(keys.iter().map(|key| put(api, key, shared))).await;
}

/// A client of the keys that all share.
struct Sharer {
    api: Client,
    shared: Rc<Shared>,
    random: SeededRandom,
}

/// A session that locks are taken for.
struct Session {
    id: String,
    /// As the checker knows it.
    number: u64,
}

impl Sharer {
    async fn run(self) {
        let mut session = None;
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
            if session.is_none() {
                session = self.session().await;
            }
            match (self.random.below(12), &session) {
                (0, Some(session)) => self.acquire(&key, session).await,
                (1, Some(session)) => self.release(&key, session).await,
                (other, _) => self.plain(&key, other).await,
            }
        }
    }

    async fn plain(&self, key: &str, choice: u64) {
        match choice {
            0..=2 => self.put(key).await,
            3 => self.delete(key).await,
            4 | 5 => self.swap(key).await,
            6 => self.read_stale(key).await,
            7 => drop(self.read(key, How::Consistent).await),
            8 => drop(self.read(key, How::Listed).await),
            _ => drop(self.read(key, How::Default).await),
        }
    }

    async fn session(&self) -> Option<Session> {
        let id = self.api.session(None).await?;
        let number = self.shared.sessions.get() + 1;
        self.shared.sessions.set(number);
        Some(Session { id, number })
    }

    /// Takes the key's lock, unless another session has it.
    async fn acquire(&self, key: &str, session: &Session) {
        let condition = KvPut {
            acquire: Some(session.id.clone()),
            ..KvPut::default()
        };
        let session = session.number;
        self.put_if(key, condition, |new, done| Op::Acquire {
            session,
            new,
            done,
        })
        .await;
    }

    /// Gives the key's lock back, if this session has it.
    async fn release(&self, key: &str, session: &Session) {
        let condition = KvPut {
            release: Some(session.id.clone()),
            ..KvPut::default()
        };
        let session = session.number;
        self.put_if(key, condition, |new, done| Op::Release {
            session,
            new,
            done,
        })
        .await;
    }

    /// Carries out a write; `seen` says what its answer means, `None` for one that it never gets.
    async fn change(&self, key: &str, op: Op, change: Change<'_>, seen: impl Fn(bool) -> Op) {
        let ticket = self.shared.registers.borrow_mut().call(key, op);
        let written = self.api.change(key, change).await;
        let mut registers = self.shared.registers.borrow_mut();
        match written {
            Written::Answered(done) => registers.answer(&ticket, seen(done)),
            Written::Refused => registers.refused(&ticket),
            Written::Unknown => registers.unknown(&ticket),
        }
    }

    async fn put(&self, key: &str) {
        let value = self.shared.registers.borrow_mut().fresh_value();
        let op = Op::Put(value);
        let value = value.to_string();
        let change = Change::Put(&value, KvPut::default());
        self.change(key, op, change, |done| {
            assert!(done, "a plain write was refused");
            op
        })
        .await;
    }

    async fn delete(&self, key: &str) {
        self.change(key, Op::Delete, Change::Delete, |_| Op::Delete)
            .await;
    }

    /// Reads, and writes if nobody else has written meanwhile.
    async fn swap(&self, key: &str) {
        let Some(found) = self.read(key, How::Default).await else {
            return;
        };
        let (expected, index) = match &found {
            Some(entry) => (Some(number(entry)), entry.modify_index),
            None => (None, 0),
        };
        let condition = KvPut {
            cas: Some(index),
            ..KvPut::default()
        };
        self.put_if(key, condition, |new, done| Op::Swap {
            expected,
            new,
            done,
        })
        .await;
    }

    /// Writes a fresh value under a condition; `op` makes of the value and the answer what was done.
    async fn put_if(&self, key: &str, condition: KvPut, op: impl Fn(u64, Option<bool>) -> Op) {
        let new = self.shared.registers.borrow_mut().fresh_value();
        let value = new.to_string();
        let change = Change::Put(&value, condition);
        self.change(key, op(new, None), change, |done| op(new, Some(done)))
            .await;
    }

    /// What was read, if anything was.
    async fn read(&self, key: &str, how: How) -> Option<Option<KvPair>> {
        let ticket = self.shared.registers.borrow_mut().call(key, Op::Read(None));
        let found = self.api.read(key, how).await;
        let mut registers = self.shared.registers.borrow_mut();
        match &found {
            Some(entry) => {
                let value = entry.as_ref().map(number);
                registers.answer(&ticket, Op::Read(value));
                note(&mut registers, entry.as_ref());
            }
            None => registers.refused(&ticket),
        }
        found
    }

    async fn read_stale(&self, key: &str) {
        if let Some(Some(entry)) = self.api.read(key, How::Stale).await {
            let mut registers = self.shared.registers.borrow_mut();
            registers.stale(key, number(&entry));
            note(&mut registers, Some(&entry));
        }
    }
}

fn note(registers: &mut Registers, entry: Option<&KvPair>) {
    if let Some(entry) = entry {
        registers.written(entry.modify_index, &entry.key, &entry.value);
    }
}

fn number(entry: &KvPair) -> u64 {
    std::str::from_utf8(&entry.value)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{} holds {:?}", entry.key, entry.value))
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
