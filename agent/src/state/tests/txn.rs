use super::*;

fn kv(key: &str, op: KvOp) -> TxnOp {
    TxnOp::Kv(KvCommand {
        key: key.into(),
        op,
    })
}

fn set(key: &str, value: &str) -> TxnOp {
    kv(key, KvOp::Set(write(value)))
}

fn read(key: &str, read: KvRead) -> TxnOp {
    let key = key.into();
    TxnOp::KvRead { key, read }
}

fn node(verb: RowVerb, name: &str) -> TxnOp {
    let node = Node {
        node: name.into(),
        address: "10.0.0.1".into(),
        datacenter: "dc1".into(),
        ..Node::default()
    };
    let node = Box::new(node);
    TxnOp::Node { verb, node }
}

fn service(verb: RowVerb, node: &str, port: u16) -> TxnOp {
    let service = Service {
        id: "w".into(),
        service: "web".into(),
        port,
        ..Service::default()
    };
    TxnOp::Service {
        verb,
        node: node.into(),
        service: Box::new(service),
    }
}

impl Fixture {
    fn txn(&mut self, ops: Vec<TxnOp>) -> Outcome {
        self.apply(Command::Txn(ops))
    }

    /// What the operations of a transaction that fails say, after a look at everything it must have left alone.
    #[track_caller]
    fn fails(&mut self, ops: Vec<TxnOp>) -> Vec<(usize, String)> {
        let before = self.store.clone();
        let Outcome::TxnFailed(errors) = self.txn(ops) else {
            panic!("should fail");
        };
        let mut after = self.store.clone();
        after.tables.last_index = before.last_index();
        assert!(before == after, "something has changed");
        errors.into_iter().map(|e| (e.op_index, e.what)).collect()
    }
}

fn errors<const N: usize>(wanted: [(usize, &str); N]) -> Vec<(usize, String)> {
    wanted.map(|(at, what)| (at, what.to_owned())).into()
}

#[test]
fn operations_see_what_those_before_them_did_and_share_one_index() {
    let mut f = Fixture::new();
    let outcome = f.txn(vec![
        set("a", "1"),
        read("a", KvRead::CheckIndex(1)),
        kv(
            "a",
            KvOp::Cas {
                write: write("2"),
                index: 1,
            },
        ),
        set("b", "3"),
        kv("b", KvOp::Delete),
        read("b", KvRead::CheckNotExists),
        read("", KvRead::GetTree),
    ]);
    let Outcome::Txn(results) = outcome else {
        panic!("{outcome:?}");
    };
    let shown: Vec<_> = results
        .iter()
        .map(|result| match result {
            TxnResult::Kv(e) => (&*e.key, &e.value[..], e.create_index, e.modify_index),
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted: [(&str, &[u8], u64, u64); 5] = [
        ("a", b"", 1, 1),
        ("a", b"1", 1, 1),
        ("a", b"", 1, 1),
        ("b", b"", 1, 1),
        ("a", b"2", 1, 1),
    ];
    assert_eq!(shown, wanted);
    assert_eq!(f.shown(&key("b")), 1);
    assert_eq!(f.changed(&key("b")), 1);
}

#[test]
fn one_failed_operation_undoes_all_of_them() {
    let mut f = Fixture::new();
    f.node("n");
    let session = f.session("n", Behavior::Release);
    f.set("a", "1");
    let lock = KvOp::Lock {
        write: write("x"),
        session,
    };
    let failed = f.fails(vec![
        set("a", "2"),
        kv("", KvOp::DeleteTree),
        kv("k", lock),
        node(RowVerb::Delete, "n"),
        TxnOp::SessionDelete { id: session },
        service(RowVerb::Set, "n", 80),
        read("a", KvRead::Get),
    ]);
    let wanted = errors([
        (5, "Missing node registration"),
        (6, "key \"a\" doesn't exist"),
    ]);
    assert_eq!(failed, wanted);
    assert_eq!(f.get("a").unwrap().value, "1");
    assert!(f.store.session(&session).is_some());
}

#[test]
fn conditions_of_keys_that_do_not_hold_say_what_was_found() {
    let mut f = Fixture::new();
    f.node("n");
    let (a, b) = (
        f.session("n", Behavior::Release),
        f.session("n", Behavior::Release),
    );
    f.set("k", "1");
    let lock = |session| KvOp::Lock {
        write: write("x"),
        session,
    };
    assert_eq!(f.kv("held", lock(a)), Outcome::Bool(true));
    let stranger = Uuid::from_u128(99);
    let failed = f.fails(vec![
        read("k", KvRead::CheckIndex(9)),
        read("k", KvRead::CheckSession(a.to_string())),
        read("k", KvRead::CheckNotExists),
        kv("k", KvOp::DeleteCas { index: 9 }),
        kv("held", lock(b)),
        kv(
            "held",
            KvOp::Unlock {
                write: write(""),
                session: b,
            },
        ),
        kv("k", lock(stranger)),
    ]);
    let session_check =
        format!("failed session check for key \"k\", current session \"\" != \"{a}\"");
    let wanted = errors([
        (
            0,
            "failed index check for key \"k\", current modify index 4 != 9",
        ),
        (1, &session_check),
        (2, "key \"k\" exists"),
        (3, "failed to delete key \"k\", index is stale"),
        (4, "failed to lock key \"held\", lock is already held"),
        (
            5,
            "failed to unlock key \"held\", lock isn't held, or is held by another session",
        ),
        (6, &format!("invalid session \"{stranger}\"")),
    ]);
    assert_eq!(failed, wanted);
    f.apply(Command::SessionDestroy { id: a });
    let failed = f.fails(vec![kv("held", lock(b))]);
    let wanted = errors([(0, "failed to lock key \"held\" due to lock delay")]);
    assert_eq!(failed, wanted);
}

#[test]
fn rows_of_the_catalog_have_conditions_too() {
    let mut f = Fixture::new();
    let outcome = f.txn(vec![
        node(RowVerb::Cas(0), "n"),
        service(RowVerb::Cas(0), "N", 80),
        service(RowVerb::Get, "n", 0),
    ]);
    let Outcome::Txn(results) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(results.len(), 3);
    assert!(matches!(&results[2], TxnResult::Service(s) if s.port == 80 && s.create_index == 1));
    let failed = f.fails(vec![
        node(RowVerb::Cas(0), "n"),
        node(RowVerb::DeleteCas(7), "n"),
        node(RowVerb::DeleteCas(0), "none"),
        node(RowVerb::Get, "none"),
        service(RowVerb::Cas(2), "n", 81),
        service(RowVerb::DeleteCas(2), "n", 0),
        service(RowVerb::Get, "none", 0),
    ]);
    let wanted = errors([
        (0, "failed to set node \"n\", index is stale"),
        (1, "failed to delete node \"n\", index is stale"),
        (2, "failed to delete node \"none\", index is stale"),
        (3, "node \"none\" doesn't exist"),
        (
            4,
            "failed to set service \"w\" on node \"n\", index is stale",
        ),
        (
            5,
            "failed to delete service \"w\" on node \"n\", index is stale",
        ),
        (6, "service \"w\" on node \"none\" doesn't exist"),
    ]);
    assert_eq!(failed, wanted);
    let outcome = f.txn(vec![
        service(RowVerb::DeleteCas(1), "n", 0),
        node(RowVerb::DeleteCas(1), "n"),
        node(RowVerb::Delete, "n"),
    ]);
    assert_eq!(outcome, Outcome::Txn(vec![]));
    assert_eq!(f.store.counts().nodes, 0);
}

#[test]
fn a_session_that_loses_its_node_in_a_transaction_ends() {
    let mut f = Fixture::new();
    f.node("n");
    let session = f.session("n", Behavior::Delete);
    let lock = KvOp::Lock {
        write: write("x"),
        session,
    };
    assert_eq!(f.txn(vec![kv("k", lock)]), {
        let mut entry = f.get("k").unwrap();
        entry.value = Default::default();
        Outcome::Txn(vec![TxnResult::Kv(entry.into())])
    });
    f.txn(vec![node(RowVerb::Delete, "n")]);
    assert!(f.store.session(&session).is_none());
    assert_eq!(f.get("k"), None);
}

#[test]
fn results_have_a_bound() {
    let mut f = Fixture::new();
    f.set("big", &"x".repeat(TXN_RESULT_BYTES_MAX / 2));
    let twice = vec![read("", KvRead::GetTree), read("", KvRead::GetTree)];
    let Answer::Txn(Err(failed)) = f.store.query(&Query::Txn(twice)) else {
        panic!("should be too much");
    };
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].op_index, 1);
    assert_eq!(
        failed[0].what,
        "the results of the transaction are larger than 33554432 bytes"
    );
}
