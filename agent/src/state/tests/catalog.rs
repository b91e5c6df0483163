use super::*;

fn service(id: &str, name: &str, tags: &[&str]) -> Service {
    Service {
        id: id.into(),
        service: name.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        port: 80,
        ..Service::default()
    }
}

fn check(id: &str, service_id: &str, status: CheckStatus) -> Check {
    Check {
        check_id: id.into(),
        service_id: service_id.into(),
        status,
        ..Check::default()
    }
}

fn nodes() -> Query {
    Query::Nodes {
        meta: BTreeMap::new(),
    }
}

fn services() -> Query {
    Query::Services {
        meta: BTreeMap::new(),
    }
}

fn node(name: &str) -> Query {
    Query::NodeServices { node: name.into() }
}

fn health(service: &str) -> Query {
    Query::ServiceHealth {
        service: service.into(),
        tags: vec![],
        passing: false,
    }
}

fn deregister(f: &mut Fixture, what: Deregister) {
    assert_eq!(f.apply(Command::Deregister(what)), Outcome::Done);
}

fn with_id(name: &str, id: u128, address: &str) -> Command {
    Command::Register(Box::new(Register {
        node: Node {
            id: Some(Uuid::from_u128(id)),
            node: name.into(),
            address: address.into(),
            ..Node::default()
        },
        skip_node_update: false,
        services: vec![],
        checks: vec![],
    }))
}

#[test]
fn an_equal_registration_changes_nothing() {
    let mut f = Fixture::new();
    let register = |f: &mut Fixture| {
        f.register(
            "n",
            vec![service("web1", "web", &["a"])],
            vec![
                serf(CheckStatus::Passing),
                check("c", "web1", CheckStatus::Passing),
            ],
        )
    };
    register(&mut f);
    let before = f.store.clone();
    register(&mut f);
    let queries = [nodes(), services(), node("n"), health("web")];
    for query in &queries {
        assert_eq!(f.store.query(query), before.query(query));
        assert_eq!(f.shown(query), 1, "{query:?}");
    }
}

#[test]
fn names_match_without_regard_to_case() {
    let mut f = Fixture::new();
    f.register("Node1", vec![service("web", "Web", &["Prod"])], vec![]);
    f.register("NODE1", vec![], vec![]);
    let Answer::Nodes(all) = f.store.query(&nodes()) else {
        panic!()
    };
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].node, "NODE1");
    let Answer::ServiceNodes(found) = f.store.query(&Query::ServiceNodes {
        service: "wEB".into(),
        tags: vec!["prod".into()],
    }) else {
        panic!()
    };
    assert_eq!(found[0].service.service, "Web");
}

#[test]
fn indexes_move_for_what_changed_and_for_nothing_else() {
    let mut f = Fixture::new();
    f.register(
        "a",
        vec![service("w", "web", &[])],
        vec![serf(CheckStatus::Passing)],
    );
    f.register(
        "b",
        vec![service("d", "db", &[])],
        vec![serf(CheckStatus::Passing)],
    );
    assert_eq!((f.shown(&node("a")), f.shown(&node("b"))), (1, 2));

    // A node-level check concerns every service on the node.
    f.register("a", vec![], vec![serf(CheckStatus::Critical)]);
    assert_eq!((f.shown(&health("web")), f.shown(&health("db"))), (3, 2));
    assert_eq!((f.shown(&node("a")), f.shown(&node("b"))), (3, 2));
    assert_eq!((f.shown(&nodes()), f.shown(&services())), (2, 2));

    // A service-level check concerns that service only.
    f.register("b", vec![service("w", "web", &[])], vec![]);
    f.register("b", vec![], vec![check("c", "d", CheckStatus::Passing)]);
    assert_eq!((f.shown(&health("web")), f.shown(&health("db"))), (4, 5));
    let any = Query::StateChecks {
        state: "any".into(),
    };
    assert_eq!(f.shown(&any), 5);
    assert_eq!(f.shown(&services()), 4);
}

#[test]
fn what_is_gone_shows_an_index_that_is_not_lower() {
    let mut f = Fixture::new();
    f.register(
        "a",
        vec![service("w", "web", &[])],
        vec![check("c", "w", CheckStatus::Passing)],
    );
    f.register("b", vec![service("d", "db", &[])], vec![]);
    let gone = Deregister::Service {
        node: "a".into(),
        id: "w".into(),
    };
    deregister(&mut f, gone);
    assert_eq!((f.shown(&health("web")), f.changed(&health("web"))), (3, 3));
    assert_eq!(f.store.query(&health("web")), Answer::ServiceHealth(vec![]));
    // Its checks went with it.
    let checks = Query::NodeChecks { node: "a".into() };
    assert_eq!(f.store.query(&checks), Answer::Checks(vec![]));
    // Others do not change what the absent one last did.
    f.register("b", vec![service("d", "db", &["x"])], vec![]);
    assert_eq!((f.shown(&health("web")), f.changed(&health("web"))), (4, 3));

    deregister(&mut f, Deregister::Node { node: "A".into() });
    assert_eq!((f.shown(&node("a")), f.changed(&node("a"))), (5, 5));
    assert_eq!(f.store.query(&node("a")), Answer::NodeServices(None));
    assert_eq!(f.shown(&nodes()), 5);
    // Again, and things that never were.
    deregister(&mut f, Deregister::Node { node: "a".into() });
    let never = Deregister::Check {
        node: "b".into(),
        id: "zz".into(),
    };
    deregister(&mut f, never);
    assert_eq!(f.shown(&nodes()), 5);
}

#[test]
fn a_service_id_can_change_its_name() {
    let mut f = Fixture::new();
    f.register("a", vec![service("w", "web", &[])], vec![]);
    f.register("a", vec![service("w", "www", &[])], vec![]);
    assert_eq!(f.store.query(&health("web")), Answer::ServiceHealth(vec![]));
    assert_eq!(f.shown(&health("web")), 2);
    let Answer::ServiceHealth(found) = f.store.query(&health("www")) else {
        panic!()
    };
    assert_eq!((found[0].service.create_index, found.len()), (1, 1));
    assert_eq!(f.store.counts().services, 1);
}

#[test]
fn services_are_listed_with_all_their_tags() {
    let mut f = Fixture::new();
    f.register("a", vec![service("1", "web", &["b", "a"])], vec![]);
    f.register(
        "b",
        vec![service("2", "web", &["c", "a"]), service("3", "db", &[])],
        vec![],
    );
    assert_eq!(
        serde_json::to_string(&match f.store.query(&services()) {
            Answer::Services(found) => found,
            other => panic!("{other:?}"),
        })
        .unwrap(),
        r#"{"db":[],"web":["a","b","c"]}"#
    );
    let counts = f.store.counts();
    assert_eq!((counts.nodes, counts.service_instances), (2, 3));
}

#[test]
fn passing_leaves_out_instances_with_any_other_check() {
    let mut f = Fixture::new();
    for (name, node_status, own_status) in [
        ("good", CheckStatus::Passing, CheckStatus::Passing),
        ("warned", CheckStatus::Passing, CheckStatus::Warning),
        ("dead", CheckStatus::Critical, CheckStatus::Passing),
    ] {
        f.register(
            name,
            vec![service("w", "web", &[]), service("o", "other", &[])],
            vec![
                serf(node_status),
                check("c", "w", own_status),
                check("o", "o", CheckStatus::Critical),
            ],
        );
    }
    let Answer::ServiceHealth(passing) = f.store.query(&Query::ServiceHealth {
        service: "web".into(),
        tags: vec![],
        passing: true,
    }) else {
        panic!()
    };
    assert_eq!(passing.len(), 1);
    assert_eq!(passing[0].node.node, "good");
    // The node's own check and the instance's, not the other service's.
    assert_eq!(passing[0].checks.len(), 2);
    let states = |state: &str| match f.store.query(&Query::StateChecks {
        state: state.into(),
    }) {
        Answer::Checks(checks) => checks.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((states("any"), states("warning"), states("zz")), (9, 1, 0));
}

#[test]
fn node_meta_filters_nodes_and_services() {
    let mut f = Fixture::new();
    f.register("plain", vec![service("1", "web", &[])], vec![]);
    f.apply(Command::Register(Box::new(Register {
        node: Node {
            node: "marked".into(),
            meta: BTreeMap::from([("rack".into(), "1".into())]),
            ..Node::default()
        },
        skip_node_update: false,
        services: vec![service("2", "db", &[])],
        checks: vec![],
    })));
    let meta = BTreeMap::from([("rack".to_owned(), "1".to_owned())]);
    let Answer::Nodes(found) = f.store.query(&Query::Nodes { meta: meta.clone() }) else {
        panic!()
    };
    assert_eq!((found.len(), found[0].node.as_str()), (1, "marked"));
    let Answer::Services(found) = f.store.query(&Query::Services { meta }) else {
        panic!()
    };
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["db"]);
}

#[test]
fn a_check_of_an_unknown_service_is_refused_and_nothing_of_it_stays() {
    let mut f = Fixture::new();
    let before = f.store.clone();
    let outcome = f.register("n", vec![], vec![check("c", "zz", CheckStatus::Passing)]);
    assert_eq!(
        refusal(&outcome),
        (Refusal::MissingService, "Missing service registration")
    );
    assert_eq!(f.store.query(&nodes()), before.query(&nodes()));
    assert_eq!(f.shown(&nodes()), 1);
}

#[test]
fn skip_node_update_keeps_the_node_but_creates_a_missing_one() {
    let mut f = Fixture::new();
    let register = |f: &mut Fixture, address: &str| {
        f.apply(Command::Register(Box::new(Register {
            node: Node {
                node: "n".into(),
                address: address.into(),
                ..Node::default()
            },
            skip_node_update: true,
            services: vec![service("w", "web", &[])],
            checks: vec![],
        })))
    };
    register(&mut f, "10.0.0.1");
    register(&mut f, "10.0.0.2");
    let Answer::NodeServices(Some(found)) = f.store.query(&node("n")) else {
        panic!()
    };
    assert_eq!(found.node.address, "10.0.0.1");
}

#[test]
fn the_same_id_under_another_name_is_a_renamed_node() {
    let mut f = Fixture::new();
    f.apply(with_id("old", 1, "10.0.0.1"));
    f.apply(with_id("new", 1, "10.0.0.1"));
    let Answer::Nodes(all) = f.store.query(&nodes()) else {
        panic!()
    };
    assert_eq!((all.len(), all[0].node.as_str()), (1, "new"));
    assert_eq!((all[0].create_index, all[0].modify_index), (1, 2));
}

#[test]
fn a_name_in_use_is_refused_to_another_id_until_its_owner_is_dead() {
    let mut f = Fixture::new();
    f.apply(with_id("n", 1, "10.0.0.1"));
    let outcome = f.apply(with_id("N", 2, "10.0.0.2"));
    assert_eq!(
        refusal(&outcome),
        (
            Refusal::NodeNameTaken,
            "failed inserting node: Error while renaming Node ID: \"00000000-0000-0000-0000-000000000002\" (10.0.0.2): Node name N is reserved by node 00000000-0000-0000-0000-000000000001 with name n (10.0.0.1)"
        )
    );
    let Command::Register(mut dead) = with_id("n", 1, "10.0.0.1") else {
        unreachable!()
    };
    dead.checks = vec![serf(CheckStatus::Critical)];
    f.apply(Command::Register(dead));
    assert_eq!(f.apply(with_id("n", 2, "10.0.0.2")), Outcome::Done);
    // The first id is free again, for another name.
    assert_eq!(f.apply(with_id("m", 1, "10.0.0.1")), Outcome::Done);
    assert_eq!(f.store.counts().nodes, 2);
}

#[test]
fn node_and_check_json_have_consuls_fields_in_consuls_order() {
    let mut f = Fixture::new();
    f.apply(with_id("n", 1, "10.0.0.1"));
    f.register(
        "m",
        vec![service("w", "web", &["t"])],
        vec![check("c", "w", CheckStatus::Warning)],
    );
    let Answer::Nodes(all) = f.store.query(&nodes()) else {
        panic!()
    };
    assert_eq!(
        serde_json::to_string(&all[1]).unwrap(),
        r#"{"ID":"00000000-0000-0000-0000-000000000001","Node":"n","Address":"10.0.0.1","Datacenter":"","TaggedAddresses":{},"Meta":{},"CreateIndex":1,"ModifyIndex":1}"#
    );
    let json = serde_json::to_string(&all[0]).unwrap();
    assert!(json.starts_with(r#"{"ID":"","Node":"m""#), "{json}");
    assert_eq!(serde_json::from_str::<Node>(&json).unwrap(), *all[0]);
    let Answer::Checks(checks) = f.store.query(&Query::ServiceChecks {
        service: "web".into(),
    }) else {
        panic!()
    };
    assert_eq!(
        serde_json::to_string(&checks[0]).unwrap(),
        r#"{"Node":"m","CheckID":"c","Name":"","Status":"warning","Notes":"","Output":"","ServiceID":"w","ServiceName":"web","ServiceTags":["t"],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":"","CreateIndex":2,"ModifyIndex":2}"#
    );
}
