//! Random commands against a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What the model knows of a key.
#[derive(Debug, Clone, PartialEq)]
struct ModelEntry {
    value: u8,
    session: Option<Uuid>,
    lock_index: u64,
    create: u64,
    modify: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Set(String, u8),
    Cas(String, u8, u64),
    Lock(String, u8, u8),
    Unlock(String, u8, u8),
    Delete(String),
    DeleteCas(String, u64),
    DeleteTree(String),
    Create(u8, Behavior),
    Destroy(u8),
    Reap(u64),
    EndDelays(Vec<String>),
}

/// Few names, so that they meet.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a/b", "a/b/c", "a/c", "ab", "b", "b/a", "ä/ö"])
        .prop_map(str::to_owned)
}

fn prefix() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "a/", "a/b", "b/", "zz", "ä"]).prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = Step> {
    let value = || 0..3u8;
    let session = || 0..3u8;
    prop_oneof![
        4 => (name(), value()).prop_map(|(k, v)| Step::Set(k, v)),
        3 => (name(), value(), 0..30u64).prop_map(|(k, v, i)| Step::Cas(k, v, i)),
        4 => (name(), value(), session()).prop_map(|(k, v, s)| Step::Lock(k, v, s)),
        2 => (name(), value(), session()).prop_map(|(k, v, s)| Step::Unlock(k, v, s)),
        2 => name().prop_map(Step::Delete),
        2 => (name(), 0..30u64).prop_map(|(k, i)| Step::DeleteCas(k, i)),
        1 => prefix().prop_map(Step::DeleteTree),
        3 => (session(), any::<bool>()).prop_map(|(s, d)| Step::Create(s, if d { Behavior::Delete } else { Behavior::Release })),
        2 => session().prop_map(Step::Destroy),
        1 => (0..60u64).prop_map(Step::Reap),
        2 => prop::collection::vec(name(), 1..4).prop_map(Step::EndDelays),
    ]
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<String, ModelEntry>,
    sessions: BTreeMap<Uuid, Behavior>,
    delayed: BTreeSet<String>,
}

impl Model {
    fn apply(&mut self, index: u64, step: &Step) -> Outcome {
        match step {
            Step::Set(key, value) => {
                let session = self.keys.get(key).and_then(|e| e.session);
                self.put(index, key, *value, session)
            }
            Step::Cas(key, value, expected) => {
                let (modify, session) = self
                    .keys
                    .get(key)
                    .map_or((0, None), |e| (e.modify, e.session));
                if modify != *expected {
                    return Outcome::Bool(false);
                }
                self.put(index, key, *value, session)
            }
            Step::Lock(key, value, session) => {
                let id = id(*session);
                if !self.sessions.contains_key(&id) {
                    return Outcome::Error {
                        code: Refusal::InvalidSession,
                        text: format!("invalid session \"{id}\""),
                    };
                }
                match self.keys.get(key).and_then(|e| e.session) {
                    Some(holder) if holder != id => Outcome::Bool(false),
                    None if self.delayed.contains(key) => Outcome::Bool(false),
                    _ => self.put(index, key, *value, Some(id)),
                }
            }
            Step::Unlock(key, value, session) => match self.keys.get(key).and_then(|e| e.session) {
                Some(holder) if holder == id(*session) => self.put(index, key, *value, None),
                _ => Outcome::Bool(false),
            },
            Step::Delete(key) => {
                self.keys.remove(key);
                Outcome::Bool(true)
            }
            Step::DeleteCas(key, expected) => {
                if self.keys.get(key).is_some_and(|e| e.modify != *expected) {
                    return Outcome::Bool(false);
                }
                self.keys.remove(key);
                Outcome::Bool(true)
            }
            Step::DeleteTree(prefix) => {
                self.keys.retain(|key, _| !key.starts_with(prefix));
                Outcome::Bool(true)
            }
            Step::Create(session, behavior) => {
                let id = id(*session);
                if self.sessions.contains_key(&id) {
                    return Outcome::Error {
                        code: Refusal::DuplicateSession,
                        text: format!("Session id '{id}' exists"),
                    };
                }
                self.sessions.insert(id, *behavior);
                Outcome::SessionId(id)
            }
            Step::Destroy(session) => {
                let id = id(*session);
                if self.sessions.contains_key(&id) {
                    let held = self.keys.iter().filter(|(_, e)| e.session == Some(id));
                    self.delayed.extend(held.map(|(key, _)| key.clone()));
                }
                match self.sessions.remove(&id) {
                    Some(Behavior::Delete) => self.keys.retain(|_, e| e.session != Some(id)),
                    Some(Behavior::Release) => {
                        for entry in self.keys.values_mut().filter(|e| e.session == Some(id)) {
                            entry.session = None;
                            entry.modify = index;
                        }
                    }
                    None => {}
                }
                Outcome::Done
            }
            Step::Reap(_) => Outcome::Done,
            Step::EndDelays(keys) => {
                self.delayed.retain(|key| !keys.contains(key));
                Outcome::Done
            }
        }
    }

    fn put(&mut self, index: u64, key: &str, value: u8, session: Option<Uuid>) -> Outcome {
        let old = self.keys.get(key).cloned();
        let fresh = ModelEntry {
            value,
            session,
            lock_index: old.as_ref().map_or(0, |e| e.lock_index)
                + u64::from(session.is_some() && old.as_ref().is_none_or(|e| e.session.is_none())),
            create: old.as_ref().map_or(index, |e| e.create),
            modify: index,
        };
        if old.is_none_or(|old| (old.value, old.session) != (value, session)) {
            self.keys.insert(key.to_owned(), fresh);
        }
        Outcome::Bool(true)
    }
}

fn id(session: u8) -> Uuid {
    Uuid::from_u128(u128::from(session) + 1)
}

fn command(step: &Step, store: &Store) -> Command {
    let write = |value: &u8| KvWrite {
        value: vec![*value].into(),
        flags: 0,
    };
    let (key, op) = match step {
        Step::Set(key, value) => (key, KvOp::Set(write(value))),
        Step::Cas(key, value, index) => (
            key,
            KvOp::Cas {
                write: write(value),
                index: *index,
            },
        ),
        Step::Lock(key, value, session) => (
            key,
            KvOp::Lock {
                write: write(value),
                session: id(*session),
            },
        ),
        Step::Unlock(key, value, session) => (
            key,
            KvOp::Unlock {
                write: write(value),
                session: id(*session),
            },
        ),
        Step::Delete(key) => (key, KvOp::Delete),
        Step::DeleteCas(key, index) => (key, KvOp::DeleteCas { index: *index }),
        Step::DeleteTree(prefix) => (prefix, KvOp::DeleteTree),
        Step::Create(session, behavior) => {
            return Command::SessionCreate(Box::new(new_session(
                id(*session),
                "n",
                *behavior,
                &[],
            )));
        }
        Step::Destroy(session) => return Command::SessionDestroy { id: id(*session) },
        Step::Reap(up_to) => return Command::ReapTombstones { up_to: *up_to },
        Step::EndDelays(keys) => {
            let delays = store.lock_delays().map(|(delayed, _)| delayed);
            let ended = delays.filter(|delayed| keys.iter().any(|key| **key == *delayed.key));
            return Command::EndLockDelays(ended.collect());
        }
    };
    Command::Kv(KvCommand {
        key: key.clone(),
        op,
    })
}

fn entries(store: &Store, prefix: &str) -> BTreeMap<String, ModelEntry> {
    let Answer::KvList(found) = store.query(&list(prefix)) else {
        panic!("not a list")
    };
    found
        .iter()
        .map(|e| {
            let entry = ModelEntry {
                value: e.value[0],
                session: e.session,
                lock_index: e.lock_index,
                create: e.create_index,
                modify: e.modify_index,
            };
            (e.key.to_string(), entry)
        })
        .collect()
}

const PREFIXES: [&str; 7] = ["", "a", "a/", "a/b", "b/", "zz", "ä"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_the_model_and_indexes_tell_of_every_change(steps in prop::collection::vec(step(), 1..60)) {
        let (mut f, mut model) = (Fixture::new(), Model::default());
        // A second server, which is restored from a snapshot half way.
        let mut other = Fixture::new();
        f.node("n");
        other.node("n");
        for (at, step) in steps.iter().enumerate() {
            let index = f.store.last_index() + 1;
            // A reaper never reaps the future.
            let step = match step {
                Step::Reap(up_to) => Step::Reap(*up_to % index),
                step => step.clone(),
            };
            let before = f.store.clone();
            let command = command(&step, &f.store);
            let outcome = f.apply(command.clone());
            prop_assert_eq!(&outcome, &model.apply(index, &step), "{:?}", step);
            prop_assert_eq!(&outcome, &other.apply(command));
            if at == steps.len() / 2 {
                other.store = Store::decode(&other.store.encode()).unwrap();
            }
            prop_assert!(f.store == other.store);
            for prefix in PREFIXES {
                let expected: BTreeMap<_, _> = model
                    .keys
                    .iter()
                    .filter(|(key, _)| key.starts_with(prefix))
                    .map(|(key, entry)| (key.clone(), entry.clone()))
                    .collect();
                prop_assert_eq!(entries(&f.store, prefix), expected);
            }
            let queries = PREFIXES.iter().map(|p| list(p)).chain(model.keys.keys().map(|k| key(k)));
            for query in queries.chain(["a", "ab", "ä/ö"].map(key)) {
                let (was, is) = (before.index_of(&query), f.store.index_of(&query));
                prop_assert!(is >= was, "{:?} went back from {} to {}", query, was, is);
                prop_assert!(f.store.changed_index(&query) <= is);
                if before.query(&query) != f.store.query(&query) {
                    prop_assert_eq!(f.store.changed_index(&query), index, "{:?}", query);
                    prop_assert_eq!(is, index, "{:?}", query);
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_command_and_no_store(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // Either outcome is fine; a panic is not.
        let _ = Stamped::decode(&bytes);
        let _ = Store::decode(&bytes);
        let mut framed = vec![1, 0, 0, 0, 2];
        framed.extend((bytes.len() as u64).to_le_bytes());
        framed.extend(&bytes);
        let _ = Store::decode(&framed);
    }
}
