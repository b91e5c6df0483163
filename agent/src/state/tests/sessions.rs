use super::*;

fn lock(session: Uuid, value: &str) -> KvOp {
    KvOp::Lock {
        write: write(value),
        session,
    }
}

fn unlock(session: Uuid, value: &str) -> KvOp {
    KvOp::Unlock {
        write: write(value),
        session,
    }
}

#[test]
fn a_lock_is_held_by_one_session_and_counts_fresh_acquisitions() {
    let mut f = Fixture::new();
    f.node("n");
    let (a, b) = (
        f.session("n", Behavior::Release),
        f.session("n", Behavior::Release),
    );
    assert_eq!(f.kv("k", lock(a, "1")), Outcome::Bool(true));
    assert_eq!(f.kv("k", lock(b, "2")), Outcome::Bool(false));
    let entry = f.get("k").unwrap();
    assert_eq!((entry.session, entry.lock_index), (Some(a), 1));
    // Again by the holder: the value changes, the count does not.
    assert_eq!(f.kv("k", lock(a, "3")), Outcome::Bool(true));
    assert_eq!(f.get("k").unwrap().lock_index, 1);
    // A plain write keeps the lock.
    f.set("k", "4");
    assert_eq!(f.get("k").unwrap().session, Some(a));
    assert_eq!(f.kv("k", unlock(b, "5")), Outcome::Bool(false));
    assert_eq!(f.kv("k", unlock(a, "6")), Outcome::Bool(true));
    let entry = f.get("k").unwrap();
    assert_eq!((entry.session, entry.lock_index), (None, 1));
    assert_eq!(entry.value, "6");
    assert_eq!(f.kv("k", lock(b, "7")), Outcome::Bool(true));
    assert_eq!(f.get("k").unwrap().lock_index, 2);
    assert_eq!(f.kv("none", unlock(a, "")), Outcome::Bool(false));
}

#[test]
fn a_lock_needs_a_session_that_exists() {
    let mut f = Fixture::new();
    let outcome = f.kv("k", lock(Uuid::nil(), ""));
    assert_eq!(
        refusal(&outcome),
        (
            Refusal::InvalidSession,
            "invalid session \"00000000-0000-0000-0000-000000000000\""
        )
    );
    assert!(f.get("k").is_none());
}

#[test]
fn the_end_of_a_session_releases_or_deletes_its_keys() {
    let mut f = Fixture::new();
    f.node("n");
    let release = f.session("n", Behavior::Release);
    let delete = f.session("n", Behavior::Delete);
    f.kv("r", lock(release, "1"));
    f.kv("d", lock(delete, "1"));
    f.kv("d2", lock(delete, "1"));
    let before = f.get("r").unwrap();
    for id in [release, delete] {
        assert_eq!(
            f.apply(Command::SessionDestroy { id }),
            Outcome::Done,
            "{id}"
        );
    }
    let after = f.get("r").unwrap();
    assert_eq!(after.session, None);
    assert_eq!(after.value, "1");
    assert!(after.modify_index > before.modify_index);
    assert!(f.get("d").is_none() && f.get("d2").is_none());
    assert_eq!(f.shown(&list("d")), f.store.last_index());
    assert_eq!(f.store.query(&Query::Sessions), Answer::Sessions(vec![]));
    // Unknown ones count as destroyed.
    assert_eq!(
        f.apply(Command::SessionDestroy { id: release }),
        Outcome::Done
    );
}

#[test]
fn a_session_needs_its_node_and_healthy_checks() {
    let mut f = Fixture::new();
    let create = |f: &mut Fixture, checks: &[&str]| {
        let session = new_session(Uuid::from_u128(9), "N", Behavior::Release, checks);
        f.apply(Command::SessionCreate(Box::new(session)))
    };
    let outcome = create(&mut f, &[]);
    assert_eq!(
        refusal(&outcome),
        (Refusal::MissingNode, "Missing node registration")
    );
    f.node("n");
    let outcome = create(&mut f, &["zz"]);
    assert_eq!(
        refusal(&outcome),
        (Refusal::MissingCheck, "Missing check 'zz' registration")
    );
    f.register("n", vec![], vec![serf(CheckStatus::Critical)]);
    let outcome = create(&mut f, &[SERF_HEALTH]);
    assert_eq!(
        refusal(&outcome),
        (
            Refusal::CriticalCheck,
            "Check 'serfHealth' is in critical state"
        )
    );
    assert_eq!(create(&mut f, &[]), Outcome::SessionId(Uuid::from_u128(9)));
    let outcome = create(&mut f, &[]);
    assert_eq!(
        refusal(&outcome),
        (
            Refusal::DuplicateSession,
            "Session id '00000000-0000-0000-0000-000000000009' exists"
        )
    );
    match f.store.query(&Query::NodeSessions { node: "N".into() }) {
        // Shown with the node's own spelling.
        Answer::Sessions(sessions) => assert_eq!(sessions[0].node, "n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_ends_when_its_node_or_a_check_is_lost() {
    for loss in 0..3 {
        let mut f = Fixture::new();
        f.node("n");
        f.node("m");
        let doomed = f.session("n", Behavior::Delete);
        let other = f.session("m", Behavior::Delete);
        f.kv("k", lock(doomed, ""));
        f.kv("other", lock(other, ""));
        match loss {
            0 => f.register("n", vec![], vec![serf(CheckStatus::Critical)]),
            1 => f.apply(Command::Deregister(Deregister::Node { node: "N".into() })),
            _ => f.apply(Command::Deregister(Deregister::Check {
                node: "n".into(),
                id: SERF_HEALTH.into(),
            })),
        };
        assert!(f.get("k").is_none(), "loss {loss}");
        assert_eq!(
            f.store.query(&Query::Session { id: doomed }),
            Answer::Session(None)
        );
        assert_eq!(f.get("other").unwrap().session, Some(other));
    }
}

#[test]
fn a_warning_or_a_foreign_check_does_not_end_a_session() {
    let mut f = Fixture::new();
    f.node("n");
    let id = f.session("n", Behavior::Release);
    f.register("n", vec![], vec![serf(CheckStatus::Warning)]);
    let foreign = Check {
        check_id: "disk".into(),
        status: CheckStatus::Critical,
        ..Check::default()
    };
    f.register("n", vec![], vec![foreign]);
    assert!(matches!(
        f.store.query(&Query::Session { id }),
        Answer::Session(Some(_))
    ));
}

#[test]
fn deleting_a_locked_key_frees_its_session() {
    let mut f = Fixture::new();
    f.node("n");
    let id = f.session("n", Behavior::Delete);
    f.kv("k", lock(id, ""));
    f.kv("k", KvOp::Delete);
    f.set("k", "mine");
    f.apply(Command::SessionDestroy { id });
    assert_eq!(f.get("k").unwrap().value, "mine");
}

#[test]
fn session_json_has_consuls_fields_in_consuls_order() {
    let mut f = Fixture::new();
    f.node("n");
    let id = f.session("n", Behavior::Release);
    let Answer::Session(Some(session)) = f.store.query(&Query::Session { id }) else {
        panic!()
    };
    assert_eq!(
        serde_json::to_string(&session).unwrap(),
        r#"{"ID":"00000000-0000-0000-0000-000000000002","Name":"","Node":"n","LockDelay":15000000000,"Behavior":"release","TTL":"","NodeChecks":["serfHealth"],"ServiceChecks":null,"CreateIndex":2,"ModifyIndex":2}"#
    );
}

#[test]
fn a_key_whose_session_was_ended_refuses_locks_until_its_delay_is_over() {
    for behavior in [Behavior::Release, Behavior::Delete] {
        let mut f = Fixture::new();
        f.node("n");
        let (lost, next) = (f.session("n", behavior), f.session("n", behavior));
        f.kv("k", lock(lost, "1"));
        f.apply(Command::SessionDestroy { id: lost });
        let delays: Vec<_> = f.store.lock_delays().collect();
        let delayed = DelayedKey {
            key: "k".into(),
            index: f.store.last_index(),
        };
        assert_eq!(delays, [(delayed.clone(), Duration::from_secs(15))]);
        assert_eq!(f.kv("k", lock(next, "2")), Outcome::Bool(false));
        // Only locks are refused.
        f.set("k", "3");
        // The end of another delay of that key is not this one's.
        let earlier = DelayedKey {
            index: delayed.index - 1,
            ..delayed.clone()
        };
        f.apply(Command::EndLockDelays(vec![earlier]));
        assert_eq!(f.kv("k", lock(next, "4")), Outcome::Bool(false));
        f.apply(Command::EndLockDelays(vec![delayed]));
        assert_eq!(f.kv("k", lock(next, "5")), Outcome::Bool(true));
        assert_eq!(f.store.lock_delays().count(), 0);
    }
}

#[test]
fn a_release_begins_no_delay_and_neither_does_a_session_without_one() {
    let mut f = Fixture::new();
    f.node("n");
    let (a, b) = (
        f.session("n", Behavior::Release),
        f.session("n", Behavior::Release),
    );
    f.kv("k", lock(a, "1"));
    f.kv("k", unlock(a, "1"));
    assert_eq!(f.kv("k", lock(b, "2")), Outcome::Bool(true));
    let mut session = new_session(Uuid::from_u128(77), "n", Behavior::Release, &[]);
    session.lock_delay = 0;
    f.apply(Command::SessionCreate(Box::new(session)));
    f.kv("l", lock(Uuid::from_u128(77), "1"));
    f.apply(Command::SessionDestroy {
        id: Uuid::from_u128(77),
    });
    assert_eq!(f.kv("l", lock(a, "2")), Outcome::Bool(true));
    assert_eq!(f.store.lock_delays().count(), 0);
}
