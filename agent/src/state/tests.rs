//! Facts about the tables, told through commands and queries alone.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;

mod acl;
mod ca;
mod catalog;
mod kv;
mod mesh;
mod model;
mod restore;
mod sessions;
mod txn;

/// A store with a clock that advances with the index.
struct Fixture {
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        Self {
            store: Store::default(),
        }
    }

    /// Applies at the next index.
    fn apply(&mut self, command: Command) -> Outcome {
        let index = self.store.last_index() + 1;
        let stamped = Stamped {
            unix_ms: index * 1000,
            command,
        };
        // Every command goes through its wire form.
        let stamped = Stamped::decode(&stamped.encode()).unwrap();
        let outcome = self.store.apply(index, &stamped);
        assert!(
            Store::decode(&self.store.encode()).unwrap() == self.store,
            "a snapshot after {stamped:?} is another store"
        );
        outcome
    }

    fn kv(&mut self, key: &str, op: KvOp) -> Outcome {
        let key = key.to_owned();
        self.apply(Command::Kv(KvCommand { key, op }))
    }

    fn set(&mut self, key: &str, value: &str) -> u64 {
        assert_eq!(self.kv(key, KvOp::Set(write(value))), Outcome::Bool(true));
        self.store.last_index()
    }

    fn get(&self, key: &str) -> Option<KvEntry> {
        let key = key.to_owned();
        match self.store.query(&Query::KvGet { key }) {
            Answer::Kv(entry) => entry.map(|entry| (*entry).clone()),
            other => panic!("{other:?}"),
        }
    }

    /// A node whose serfHealth passes.
    fn node(&mut self, name: &str) {
        let outcome = self.register(name, vec![], vec![serf(CheckStatus::Passing)]);
        assert_eq!(outcome, Outcome::Done);
    }

    fn register(&mut self, node: &str, services: Vec<Service>, checks: Vec<Check>) -> Outcome {
        self.apply(Command::Register(Box::new(Register {
            node: Node {
                node: node.into(),
                address: "127.0.0.1".into(),
                datacenter: "dc1".into(),
                ..Node::default()
            },
            skip_node_update: false,
            services,
            checks,
        })))
    }

    fn session(&mut self, node: &str, behavior: Behavior) -> Uuid {
        let id = Uuid::from_u128(u128::from(self.store.last_index()) + 1);
        let outcome = self.apply(Command::SessionCreate(Box::new(new_session(
            id,
            node,
            behavior,
            &[SERF_HEALTH],
        ))));
        assert_eq!(outcome, Outcome::SessionId(id));
        id
    }

    fn shown(&self, query: &Query) -> u64 {
        self.store.index_of(query)
    }

    fn changed(&self, query: &Query) -> u64 {
        self.store.changed_index(query)
    }
}

fn write(value: &str) -> KvWrite {
    KvWrite {
        value: value.to_owned().into(),
        flags: 0,
    }
}

fn key(key: &str) -> Query {
    Query::KvGet { key: key.into() }
}

fn list(prefix: &str) -> Query {
    Query::KvList {
        prefix: prefix.into(),
    }
}

fn serf(status: CheckStatus) -> Check {
    Check {
        check_id: SERF_HEALTH.into(),
        name: "Serf Health Status".into(),
        status,
        ..Check::default()
    }
}

fn new_session(id: Uuid, node: &str, behavior: Behavior, checks: &[&str]) -> Session {
    Session {
        lock_delay: 15_000_000_000,
        behavior,
        node_checks: checks.iter().map(|check| (*check).to_owned()).collect(),
        ..Session::plain(id, node)
    }
}

fn refusal(outcome: &Outcome) -> (Refusal, &str) {
    match outcome {
        Outcome::Error { code, text } => (*code, text),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn an_empty_store_shows_index_1_everywhere() {
    let store = Store::default();
    let none = BTreeMap::new;
    for query in [
        Query::Noop,
        key("a"),
        list(""),
        list("a"),
        Query::Nodes { meta: none() },
        Query::Services { meta: none() },
        Query::Node { node: "n".into() },
        Query::ServiceChecks {
            service: "s".into(),
        },
        Query::StateChecks {
            state: "any".into(),
        },
        Query::Sessions,
        Query::Session { id: Uuid::nil() },
        Query::ClusterId,
    ] {
        assert_eq!(store.index_of(&query), 1, "{query:?}");
        assert_eq!(store.changed_index(&query), 0, "{query:?}");
    }
}

#[test]
fn the_cluster_id_is_written_once() {
    let mut f = Fixture::new();
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(f.apply(Command::SetClusterId(a)), Outcome::Done);
    assert_eq!(f.apply(Command::SetClusterId(a)), Outcome::Done);
    let outcome = f.apply(Command::SetClusterId(b));
    assert_eq!(
        refusal(&outcome),
        (
            Refusal::ClusterIdTaken,
            "the cluster id is 00000000-0000-0000-0000-000000000001 and cannot become 00000000-0000-0000-0000-000000000002"
        )
    );
    assert_eq!(f.store.cluster_id(), Some(a));
    assert_eq!(f.store.query(&Query::ClusterId), Answer::ClusterId(Some(a)));
    assert_eq!(f.shown(&Query::ClusterId), 1);
}

#[test]
fn a_noop_and_a_blank_entry_only_advance_the_index() {
    let mut f = Fixture::new();
    assert_eq!(f.apply(Command::Noop), Outcome::Done);
    f.store.advance(7);
    assert_eq!(f.store.last_index(), 7);
    assert_eq!(f.shown(&Query::Noop), 7);
    assert_eq!(f.shown(&list("")), 1);
}

#[test]
fn commands_of_another_version_or_cut_or_padded_are_refused() {
    let stamped = Stamped {
        unix_ms: 1,
        command: Command::Kv(KvCommand {
            key: "k".into(),
            op: KvOp::Set(write("value")),
        }),
    };
    let bytes = stamped.encode();
    assert_eq!(Stamped::decode(&bytes).unwrap(), stamped);
    assert!(matches!(Stamped::decode(b""), Err(DecodeError::Empty)));
    for len in 1..bytes.len() {
        assert!(Stamped::decode(&bytes[..len]).is_err(), "cut at {len}");
    }
    let mut newer = bytes.to_vec();
    newer[0] = 2;
    let error = Stamped::decode(&newer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "written in version 2, understood up to 1"
    );
    let mut padded = bytes.to_vec();
    padded.push(0);
    let error = Stamped::decode(&padded).unwrap_err();
    assert_eq!(error.to_string(), "1 bytes too many");
}

#[test]
fn the_wire_form_of_commands_does_not_change() {
    // A log that an older version wrote must be read the same: these bytes are fixed for ever.
    let encoded = |command| {
        Stamped {
            unix_ms: 1,
            command,
        }
        .encode()
    };
    assert_eq!(encoded(Command::Noop)[..], [1, 1, 0]);
    let set = Command::Kv(KvCommand {
        key: "k".into(),
        op: KvOp::Set(KvWrite {
            value: "v".into(),
            flags: 5,
        }),
    });
    assert_eq!(encoded(set)[..], [1, 1, 1, 1, b'k', 0, 1, b'v', 5]);
    let delete = Deregister::Node { node: "n".into() };
    assert_eq!(
        encoded(Command::Deregister(delete))[..],
        [1, 1, 3, 0, 1, b'n']
    );
    let reap = Command::ReapTombstones { up_to: 9 };
    assert_eq!(encoded(reap)[..], [1, 1, 6, 9]);
    let id = encoded(Command::SetClusterId(Uuid::nil()));
    assert_eq!(id[..4], [1, 1, 7, 16]);
    let authority = Command::Ca(CaStep::Set {
        config: Box::default(),
        roots: Vec::new(),
        cas: 3,
    });
    let authority = encoded(authority);
    assert_eq!(authority[..5], [1, 1, 18, 0, 16]);
    // An empty cluster id, three empty texts and two indexes; no roots.
    assert_eq!(authority[5..], [&[0; 21][..], &[0, 3]].concat());
}
