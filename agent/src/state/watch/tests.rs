use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::state::{
    Check, CheckStatus, Command, KvCommand, KvOp, KvWrite, Node, Register, SERF_HEALTH, Stamped,
};

/// Polls once.
fn ready(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    future.poll(&mut context) == Poll::Ready(())
}

fn apply(store: &mut Store, command: Command) -> u64 {
    let index = store.last_index() + 1;
    let stamped = Stamped {
        unix_ms: 0,
        command,
    };
    store.apply(index, &stamped);
    index
}

fn set(store: &mut Store, key: &str, value: &str) -> u64 {
    let write = KvWrite {
        value: value.to_owned().into(),
        flags: 0,
    };
    let key = key.to_owned();
    let op = KvOp::Set(write);
    apply(store, Command::Kv(KvCommand { key, op }))
}

fn delete(store: &mut Store, key: &str) -> u64 {
    let key = key.to_owned();
    let op = KvOp::Delete;
    apply(store, Command::Kv(KvCommand { key, op }))
}

fn register(store: &mut Store, node: &str, status: CheckStatus) -> u64 {
    let node = Node {
        node: node.into(),
        ..Node::default()
    };
    let check = Check {
        check_id: SERF_HEALTH.into(),
        status,
        ..Check::default()
    };
    apply(
        store,
        Command::Register(Box::new(Register {
            node,
            skip_node_update: false,
            services: vec![],
            checks: vec![check],
        })),
    )
}

fn get(key: &str) -> Query {
    Query::KvGet { key: key.into() }
}

fn list(prefix: &str) -> Query {
    Query::KvList {
        prefix: prefix.into(),
    }
}

#[test]
fn what_has_changed_already_is_not_waited_for() {
    let mut store = Store::default();
    let index = set(&mut store, "a", "1");
    let shared = Shared::new(store);
    let query = get("a");
    assert!(ready(pin!(shared.changed(&query, index - 1))));
    assert!(!ready(pin!(shared.changed(&query, index))));
    assert_eq!(shared.waiting(), 0, "dropped waiters stand in no line");
}

#[test]
fn a_publication_between_reading_and_waiting_is_not_missed() {
    let mut store = Store::default();
    let shared = Shared::new(store.clone());
    let query = get("a");
    let seen = shared.load().index_of(&query);
    set(&mut store, "x", "1");
    set(&mut store, "a", "1");
    shared.publish(&mut store);
    assert!(ready(pin!(shared.changed(&query, seen))));
}

#[test]
fn a_write_wakes_its_key_and_its_prefixes_and_nobody_else() {
    let mut store = Store::default();
    let shared = Shared::new(store.clone());
    let queries = [
        (get("a/b"), true),
        (list(""), true),
        (list("a"), true),
        (list("a/b"), true),
        (get("a"), false),
        (get("a/bc"), false),
        (list("a/b/"), false),
        (list("b"), false),
        (Query::Sessions, false),
        (Query::Noop, true),
    ];
    let mut waiters: Vec<_> = queries
        .iter()
        .map(|(query, _)| Box::pin(shared.changed(query, 1)))
        .collect();
    set(&mut store, "zz", "first, so that the next index is above 1");
    shared.publish(&mut store);
    for waiter in &mut waiters {
        assert!(!ready(waiter.as_mut()));
    }
    assert_eq!(shared.waiting(), queries.len());

    // Wakers count: a waiter that is not concerned must not even be polled.
    let woken: Vec<_> = waiters
        .iter_mut()
        .map(|waiter| {
            let flag = Arc::new(Flag::default());
            let waker = Waker::from(flag.clone());
            let polled = waiter.as_mut().poll(&mut Context::from_waker(&waker));
            assert_eq!(polled, Poll::Pending);
            flag
        })
        .collect();
    set(&mut store, "a/b", "1");
    shared.publish(&mut store);
    for ((query, expected), (flag, waiter)) in
        queries.iter().zip(woken.iter().zip(waiters.iter_mut()))
    {
        assert_eq!(flag.is_set(), *expected, "{query:?} woken");
        assert_eq!(ready(waiter.as_mut()), *expected, "{query:?} done");
    }
    drop(waiters);
    assert_eq!(shared.waiting(), 0);
    assert!(shared.lines().prefix_lengths.is_empty());
}

#[test]
fn an_absent_key_waits_through_other_writes_until_it_comes() {
    let mut store = Store::default();
    set(&mut store, "other", "1");
    let shared = Shared::new(store.clone());
    let query = get("a");
    let mut waiter = pin!(shared.changed(&query, 1));
    assert!(!ready(waiter.as_mut()));
    set(&mut store, "other", "2");
    shared.publish(&mut store);
    assert!(!ready(waiter.as_mut()));
    set(&mut store, "a", "");
    shared.publish(&mut store);
    assert!(ready(waiter.as_mut()));
}

#[test]
fn a_deletion_wakes_and_an_equal_write_does_not() {
    let mut store = Store::default();
    let index = set(&mut store, "a", "1");
    let shared = Shared::new(store.clone());
    let (query, prefix) = (get("a"), list("a"));
    let mut key_waiter = pin!(shared.changed(&query, index));
    let mut prefix_waiter = pin!(shared.changed(&prefix, index));
    set(&mut store, "a", "1");
    shared.publish(&mut store);
    assert!(!ready(key_waiter.as_mut()) && !ready(prefix_waiter.as_mut()));
    delete(&mut store, "a");
    shared.publish(&mut store);
    assert!(ready(key_waiter.as_mut()) && ready(prefix_waiter.as_mut()));
}

#[test]
fn catalog_waiters_hear_of_their_rows() {
    let mut store = Store::default();
    register(&mut store, "n", CheckStatus::Passing);
    let index = register(&mut store, "m", CheckStatus::Passing);
    let shared = Shared::new(store.clone());
    let nodes = Query::Nodes {
        meta: BTreeMap::new(),
    };
    let node = Query::NodeChecks { node: "N".into() };
    let other = Query::NodeChecks { node: "m".into() };
    let state = Query::StateChecks {
        state: "any".into(),
    };
    let mut table = pin!(shared.changed(&nodes, index));
    let mut row = pin!(shared.changed(&node, index));
    let mut other_row = pin!(shared.changed(&other, index));
    let mut checks = pin!(shared.changed(&state, index));
    register(&mut store, "n", CheckStatus::Critical);
    shared.publish(&mut store);
    assert!(ready(row.as_mut()) && ready(checks.as_mut()));
    assert!(!ready(table.as_mut()) && !ready(other_row.as_mut()));
    register(&mut store, "new", CheckStatus::Passing);
    shared.publish(&mut store);
    assert!(ready(table.as_mut()));
    assert!(!ready(other_row.as_mut()));
}

#[test]
fn a_replaced_store_wakes_everybody_even_when_indexes_went_back() {
    let mut store = Store::default();
    set(&mut store, "a", "1");
    let shared = Shared::new(store);
    let query = get("a");
    let mut waiter = pin!(shared.changed(&query, 1_000_000));
    assert!(!ready(waiter.as_mut()));
    shared.replace(&mut Store::default());
    assert!(ready(waiter.as_mut()));
}

#[test]
fn more_changes_than_are_remembered_wake_everybody() {
    let mut store = Store::default();
    let shared = Shared::new(store.clone());
    let query = get("last");
    let mut waiter = pin!(shared.changed(&query, 1));
    assert!(!ready(waiter.as_mut()));
    for i in 0..=TOUCHED_MAX {
        set(&mut store, &format!("k{i}"), "");
    }
    set(&mut store, "last", "");
    assert!(store.touched.everything && store.touched.topics.is_empty());
    shared.publish(&mut store);
    assert!(ready(waiter.as_mut()));
}

#[test]
fn a_waiter_that_joins_while_a_write_is_published_hears_of_it() {
    const ROUNDS: u64 = 20_000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let mut store = Store::default();
    let shared = Arc::new(Shared::new(store.clone()));
    let heard = Arc::new(AtomicU64::new(0));
    let waiter = runtime.spawn({
        let (shared, heard) = (shared.clone(), heard.clone());
        async move {
            let queries = [get("k"), list("k"), Query::Noop];
            let mut seen = 0;
            while seen < ROUNDS {
                let query = &queries[usize::try_from(seen).unwrap() % queries.len()];
                // The writer goes on as soon as it knows that this was heard, so that the two meet in every round.
                heard.store(seen, Ordering::SeqCst);
                // At another moment of the publication each time.
                for _ in 0..seen % 400 {
                    std::hint::spin_loop();
                }
                let waited = shared.changed(query, seen);
                let waited = tokio::time::timeout(Duration::from_secs(60), waited).await;
                assert!(waited.is_ok(), "never heard of write {}", seen + 1);
                seen += 1;
            }
        }
    });
    for round in 0..ROUNDS {
        while heard.load(Ordering::SeqCst) < round {
            assert!(!waiter.is_finished(), "the waiter has failed");
            std::hint::spin_loop();
        }
        set(&mut store, "k", &round.to_string());
        shared.publish(&mut store);
    }
    runtime.block_on(waiter).unwrap();
    assert_eq!(shared.waiting(), 0);
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
