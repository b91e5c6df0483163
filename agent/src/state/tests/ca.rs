use super::*;

fn root(id: &str) -> CaRoot {
    CaRoot {
        id: id.to_owned(),
        root_cert: "PEM".to_owned(),
        signing_key: "SECRET".to_owned(),
        active: true,
        ..CaRoot::default()
    }
}

fn set(f: &mut Fixture, config: &str, roots: Vec<CaRoot>, cas: u64) -> Outcome {
    let config = Box::new(CaConfig {
        cluster_id: Uuid::from_u128(7),
        provider: "consul".to_owned(),
        config: config.to_owned(),
        private_key: "SECRET".to_owned(),
        ..CaConfig::default()
    });
    f.apply(Command::Ca(CaStep::Set { config, roots, cas }))
}

fn shown(store: &Store) -> CaRoots {
    match store.query(&Query::CaRoots) {
        Answer::CaRoots(roots) => roots,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_changed_moves_its_index() {
    let mut f = Fixture::new();
    assert_eq!(set(&mut f, "{}", vec![root("a")], 0), Outcome::Bool(true));
    let first = f.store.ca_index();
    assert_eq!(first, f.store.last_index());
    // A second beginning, and a change of what is not there any more.
    assert_eq!(set(&mut f, "{}", vec![root("b")], 0), Outcome::Bool(false));
    assert_eq!(shown(&f.store).active().unwrap().id, "a");
    // Another configuration with the same roots.
    let done = set(&mut f, "{1}", vec![root("a")], first);
    assert_eq!(done, Outcome::Bool(true));
    assert_eq!(f.store.index_of(&Query::CaRoots), first);
    let second = f.store.index_of(&Query::CaConfig);
    assert_eq!(second, f.store.last_index());
    let old = CaRoot {
        active: false,
        rotated_out_at_ms: Some(5),
        ..root("a")
    };
    let done = set(&mut f, "{1}", vec![root("b"), old], second);
    assert_eq!(done, Outcome::Bool(true));
    let third = f.store.last_index();
    let rows = f.store.ca_roots();
    let indexes: Vec<_> = rows
        .iter()
        .map(|row| (row.create_index, row.modify_index))
        .collect();
    assert_eq!(indexes, [(third, third), (first, third)]);
    assert_eq!(f.changed(&Query::CaRoots), third);
}

#[test]
fn answers_hold_no_private_key() {
    let mut f = Fixture::new();
    set(&mut f, "{}", vec![root("a")], 0);
    for query in [Query::CaRoots, Query::CaConfig] {
        let answer = format!("{:?}", f.store.query(&query));
        assert!(!answer.contains("SECRET"), "{answer}");
    }
    assert_eq!(f.store.ca_roots()[0].signing_key, "SECRET");
}

#[test]
fn it_survives_a_snapshot_and_comes_back_with_a_saved_state() {
    let mut saved = Fixture::new();
    set(&mut saved, "{}", vec![root("a")], 0);
    let bytes = saved.store.encode();
    let decoded = Store::decode(&bytes).unwrap();
    assert_eq!(decoded, saved.store);
    assert_eq!(decoded.ca_roots()[0].signing_key, "SECRET");

    let mut f = Fixture::new();
    set(&mut f, "{}", vec![root("b")], 0);
    f.set("k", "v");
    assert_eq!(super::restore::restore(&mut f, 1, &bytes), Outcome::Done);
    assert_eq!(shown(&f.store).active().unwrap().id, "a");
    assert_eq!(f.changed(&Query::CaRoots), f.store.last_index());
    // A state from before there was an authority takes none away.
    let empty = Fixture::new().store.encode();
    assert_eq!(super::restore::restore(&mut f, 2, &empty), Outcome::Done);
    assert_eq!(shown(&f.store).active().unwrap().id, "a");
}
