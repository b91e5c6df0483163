use super::*;

pub(super) fn restore(f: &mut Fixture, id: u128, saved: &[u8]) -> Outcome {
    let id = Uuid::from_u128(id);
    let mut parts = 0;
    for bytes in saved.chunks(50) {
        let part = RestoreStep::Part {
            id,
            number: parts,
            bytes: bytes.to_vec().into(),
        };
        assert_eq!(f.apply(Command::Restore(part)), Outcome::Done);
        parts += 1;
    }
    let crc32c = crc32c::crc32c(saved);
    f.apply(Command::Restore(RestoreStep::Commit { id, parts, crc32c }))
}

/// A store with something in every table.
fn full() -> Fixture {
    let mut f = Fixture::new();
    f.apply(Command::SetClusterId(Uuid::from_u128(7)));
    f.node("n");
    let session = f.session("n", Behavior::Release);
    f.set("a", "1");
    let lock = KvOp::Lock {
        write: write("held"),
        session,
    };
    assert_eq!(f.kv("locked", lock), Outcome::Bool(true));
    f
}

#[test]
fn rows_come_back_as_if_written_at_one_index() {
    let saved = full();
    let mut f = Fixture::new();
    f.apply(Command::SetClusterId(Uuid::from_u128(8)));
    f.set("later", "x");
    assert_eq!(restore(&mut f, 1, &saved.store.encode()), Outcome::Done);
    let index = f.store.last_index();
    assert_eq!(f.get("later"), None);
    let entry = f.get("a").unwrap();
    assert_eq!((&entry.value[..], entry.modify_index), (&b"1"[..], index));
    assert!(f.get("locked").unwrap().session.is_some());
    assert_eq!(f.store.counts(), saved.store.counts());
    assert_eq!(f.store.cluster_id(), Some(Uuid::from_u128(8)));
    // Whoever waits for anything of before sees a change.
    let nodes = Query::Nodes {
        meta: BTreeMap::new(),
    };
    for query in [key("a"), key("later"), list("x"), nodes, Query::Sessions] {
        assert_eq!(f.changed(&query), index, "{query:?}");
    }
    // Locks work on.
    let session = f.store.sessions().next().unwrap().id;
    f.apply(Command::SessionDestroy { id: session });
    assert_eq!(f.get("locked").unwrap().session, None);
}

#[test]
fn what_is_not_whole_changes_nothing() {
    let saved = full().store.encode();
    let mut f = Fixture::new();
    f.set("a", "now");
    let id = Uuid::from_u128(1);
    let part = |number, bytes: &[u8]| {
        let bytes = bytes.to_vec().into();
        Command::Restore(RestoreStep::Part { id, number, bytes })
    };
    let commit = |parts, crc32c| Command::Restore(RestoreStep::Commit { id, parts, crc32c });
    let crc32c = crc32c::crc32c(&saved);
    let refused = |outcome: &Outcome, part: &str| {
        let (code, text) = refusal(outcome);
        assert_eq!(code, Refusal::InvalidSnapshot);
        assert!(text.contains(part), "{text}");
    };
    refused(&f.apply(commit(1, crc32c)), "another restore");
    refused(&f.apply(part(1, &saved)), "another restore");
    f.apply(part(0, &saved));
    refused(&f.apply(commit(2, crc32c)), "1 parts of 2");
    f.apply(part(0, &saved));
    refused(&f.apply(commit(1, crc32c ^ 1)), "checksum");
    let cut = &saved[..saved.len() - 1];
    f.apply(part(0, cut));
    refused(&f.apply(commit(1, crc32c::crc32c(cut))), "cannot be read");
    // A second one takes the place of the first.
    f.apply(part(0, &saved));
    assert_eq!(restore(&mut f, 2, &full().store.encode()), Outcome::Done);
    refused(&f.apply(commit(1, crc32c)), "another restore");
    assert_eq!(f.get("a").unwrap().value, "1");
}

#[test]
fn parts_are_forgotten_when_nobody_comes_back() {
    let saved = full().store.encode();
    let mut f = Fixture::new();
    let id = Uuid::from_u128(1);
    let bytes = saved.clone().into();
    let number = 0;
    f.apply(Command::Restore(RestoreStep::Part { id, number, bytes }));
    // The fixture's clock advances by a second with each index.
    for _ in 0..602 {
        f.apply(Command::Noop);
    }
    let crc32c = crc32c::crc32c(&saved);
    let commit = RestoreStep::Commit {
        id,
        parts: 1,
        crc32c,
    };
    assert!(matches!(
        f.apply(Command::Restore(commit)),
        Outcome::Error { .. }
    ));
}
