use super::*;

#[test]
fn writing_keeps_the_create_index_and_moves_the_modify_index() {
    let mut f = Fixture::new();
    let created = f.set("a", "1");
    let modified = f.set("a", "2");
    let entry = f.get("a").unwrap();
    assert_eq!(entry.value, "2");
    assert_eq!(
        (entry.create_index, entry.modify_index),
        (created, modified)
    );
    assert_eq!(entry.lock_index, 0);
}

#[test]
fn an_equal_write_changes_nothing() {
    let mut f = Fixture::new();
    let first = f.set("a", "1");
    f.set("a", "1");
    assert_eq!(f.get("a").unwrap().modify_index, first);
    assert_eq!(f.shown(&list("")), first);
    let other_flags = KvOp::Set(KvWrite {
        flags: 1,
        ..write("1")
    });
    f.kv("a", other_flags);
    assert_eq!(f.get("a").unwrap().modify_index, 3);
}

#[test]
fn cas_compares_the_modify_index_and_0_means_absent() {
    let mut f = Fixture::new();
    let cas = |value, index| KvOp::Cas {
        write: write(value),
        index,
    };
    assert_eq!(f.kv("a", cas("1", 7)), Outcome::Bool(false));
    assert_eq!(f.kv("a", cas("1", 0)), Outcome::Bool(true));
    let index = f.get("a").unwrap().modify_index;
    assert_eq!(f.kv("a", cas("2", 0)), Outcome::Bool(false));
    assert_eq!(f.kv("a", cas("2", index - 1)), Outcome::Bool(false));
    assert_eq!(f.get("a").unwrap().value, "1");
    assert_eq!(f.kv("a", cas("2", index)), Outcome::Bool(true));
    assert_eq!(f.get("a").unwrap().value, "2");
}

#[test]
fn delete_cas_needs_the_right_index_and_counts_an_absent_key_as_deleted() {
    let mut f = Fixture::new();
    let index = f.set("a", "1");
    let cas = |index| KvOp::DeleteCas { index };
    assert_eq!(f.kv("a", cas(0)), Outcome::Bool(false));
    assert_eq!(f.kv("a", cas(index + 1)), Outcome::Bool(false));
    assert!(f.get("a").is_some());
    assert_eq!(f.kv("a", cas(index)), Outcome::Bool(true));
    assert!(f.get("a").is_none());
    assert_eq!(f.kv("a", cas(index)), Outcome::Bool(true));
}

#[test]
fn delete_tree_takes_the_prefix_and_nothing_else() {
    let mut f = Fixture::new();
    for key in ["a", "a/1", "a/2", "ab", "b", "a/\u{10ffff}z"] {
        f.set(key, "x");
    }
    assert_eq!(f.kv("a/", KvOp::DeleteTree), Outcome::Bool(true));
    let left = f.store.query(&Query::KvKeys {
        prefix: String::new(),
        separator: String::new(),
    });
    assert_eq!(
        left,
        Answer::Keys(vec!["a".into(), "ab".into(), "b".into()])
    );
    f.kv("", KvOp::DeleteTree);
    assert_eq!(f.store.query(&list("")), Answer::KvList(vec![]));
}

#[test]
fn keys_are_cut_behind_the_separator_once_each() {
    let mut f = Fixture::new();
    // More keys in one folder than a listing walks before it seeks, and keys that sort behind the seek.
    for i in 0..40 {
        f.set(&format!("a/x/{i:02}"), "");
        f.set(&format!("a/x/\u{10ffff}{i:02}"), "");
    }
    for key in ["a/", "a/b", "a/y/1", "a/y/z/2", "b/1", "c"] {
        f.set(key, "");
    }
    let keys = |prefix: &str, separator: &str| match f.store.query(&Query::KvKeys {
        prefix: prefix.into(),
        separator: separator.into(),
    }) {
        Answer::Keys(keys) => keys.iter().map(|k| k.to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(keys("", "/"), ["a/", "b/", "c"]);
    assert_eq!(keys("a/", "/"), ["a/", "a/b", "a/x/", "a/y/"]);
    assert_eq!(keys("a/y", "/"), ["a/y/"]);
    assert_eq!(keys("a/y/", ""), ["a/y/1", "a/y/z/2"]);
    assert_eq!(keys("a/y/", "z/"), ["a/y/1", "a/y/z/"]);
    assert!(keys("zz", "/").is_empty());
}

#[test]
fn an_absent_key_shows_the_tables_index_but_changes_with_itself_only() {
    let mut f = Fixture::new();
    f.set("other", "1");
    assert_eq!((f.shown(&key("a")), f.changed(&key("a"))), (1, 0));
    f.set("other", "2");
    assert_eq!((f.shown(&key("a")), f.changed(&key("a"))), (2, 0));
    let created = f.set("a", "1");
    assert_eq!(
        (f.shown(&key("a")), f.changed(&key("a"))),
        (created, created)
    );
    f.set("other", "3");
    assert_eq!(f.shown(&key("a")), created);
    f.kv("a", KvOp::Delete);
    let deleted = f.store.last_index();
    f.set("other", "4");
    assert_eq!(
        (f.shown(&key("a")), f.changed(&key("a"))),
        (deleted + 1, deleted)
    );
}

#[test]
fn a_deletion_raises_the_prefix_and_reaping_does_not_lower_it() {
    let mut f = Fixture::new();
    f.set("p/a", "1");
    let b = f.set("p/b", "1");
    let elsewhere = f.set("q/a", "1");
    assert_eq!(f.shown(&list("p/")), b);
    f.kv("p/b", KvOp::Delete);
    let deleted = f.store.last_index();
    assert_eq!(f.shown(&list("p/")), deleted);
    assert_eq!(f.shown(&list("q/")), elsewhere);

    assert_eq!(f.store.expired_tombstones(deleted * 1000 - 1), None);
    let up_to = f.store.expired_tombstones(deleted * 1000).unwrap();
    assert_eq!(up_to, deleted);
    f.apply(Command::ReapTombstones { up_to });
    assert_eq!(f.store.expired_tombstones(u64::MAX), None);
    assert_eq!(f.shown(&list("p/")), deleted);
    // Somebody who was away for the whole life of the tombstone still hears of the deletion.
    assert!(f.changed(&key("p/b")) >= deleted);
}

#[test]
fn a_tombstone_ends_when_the_key_is_back() {
    let mut f = Fixture::new();
    f.set("a", "1");
    f.kv("a", KvOp::Delete);
    let back = f.set("a", "2");
    assert_eq!(f.get("a").unwrap().create_index, back);
    f.kv("a", KvOp::Delete);
    let deleted = f.store.last_index();
    // The first tombstone's reaping leaves the second one alone.
    f.apply(Command::ReapTombstones { up_to: back });
    assert_eq!(f.changed(&key("a")), deleted);
}

#[test]
fn deleting_what_is_absent_changes_nothing() {
    let mut f = Fixture::new();
    let set = f.set("a", "1");
    assert_eq!(f.kv("b", KvOp::Delete), Outcome::Bool(true));
    assert_eq!(f.kv("b", KvOp::DeleteTree), Outcome::Bool(true));
    assert_eq!(f.shown(&list("")), set);
    assert_eq!(f.store.expired_tombstones(u64::MAX), None);
}

#[test]
fn an_old_version_stays_as_it_was() {
    let mut f = Fixture::new();
    f.set("a", "1");
    let old = f.store.clone();
    f.set("a", "2");
    f.kv("a", KvOp::Delete);
    match old.query(&key("a")) {
        Answer::Kv(Some(entry)) => assert_eq!(entry.value, "1"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_has_consuls_fields_in_consuls_order() {
    let mut f = Fixture::new();
    f.node("n");
    f.kv(
        "a",
        KvOp::Set(KvWrite {
            value: "hello".into(),
            flags: u64::MAX,
        }),
    );
    f.set("empty", "");
    let json = serde_json::to_string(&f.get("a")).unwrap();
    assert_eq!(
        json,
        r#"{"LockIndex":0,"Key":"a","Flags":18446744073709551615,"Value":"aGVsbG8=","CreateIndex":2,"ModifyIndex":2}"#
    );
    let json = serde_json::to_string(&f.get("empty")).unwrap();
    assert!(json.contains(r#""Value":null"#), "{json}");

    let session = f.session("n", Behavior::Release);
    let lock = KvOp::Lock {
        write: write("x"),
        session,
    };
    f.kv("a", lock);
    let entry = f.get("a").unwrap();
    let json = serde_json::to_string(&entry).unwrap();
    assert_eq!(
        json,
        format!(
            r#"{{"LockIndex":1,"Key":"a","Flags":0,"Value":"eA==","Session":"{session}","CreateIndex":2,"ModifyIndex":5}}"#
        )
    );
    assert_eq!(serde_json::from_str::<KvEntry>(&json).unwrap(), entry);
    let binary = postcard::to_stdvec(&entry).unwrap();
    assert_eq!(postcard::from_bytes::<KvEntry>(&binary).unwrap(), entry);
}
