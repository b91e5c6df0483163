//! Who may do what, told through commands, queries and answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{DefaultPolicy, Granted, Holder, Resolver};
use crate::config;
use crate::state::{
    AclGrants, AclPolicy, AclQuery, AclRole, AclStep, AclToken, Answer, Check, Command, Deregister,
    GLOBAL_MANAGEMENT, KvCommand, KvOp, KvRead, KvWrite, Node, NodeIdentity, Outcome,
    PreparedQuery, PreparedStep, Query, Register, RestoreStep, Service, ServiceIdentity, Session,
    Stamped, Store, TxnOp,
};

mod graph;

const MANAGER: &str = "11111111-2222-3333-4444-555555555555";

/// A store with a little of everything.
fn store() -> Store {
    let mut store = Store::default();
    let service = |name: &str| Service {
        id: format!("{name}1"),
        service: name.to_owned(),
        ..Service::default()
    };
    for node in ["n1", "n2"] {
        apply(
            &mut store,
            Command::Register(Box::new(register(
                node,
                vec![service("web"), service("db")],
                vec![Check {
                    check_id: "of-web".into(),
                    service_id: "web1".into(),
                    ..Check::default()
                }],
            ))),
        );
    }
    for key in ["a/1", "a/b/1", "c"] {
        apply(&mut store, Command::Kv(set(key)));
    }
    apply(
        &mut store,
        Command::SessionCreate(Box::new(Session::plain(Uuid::from_u128(7), "n1"))),
    );
    store
}

fn apply(store: &mut Store, command: Command) -> Outcome {
    let index = store.last_index() + 1;
    let outcome = store.apply(
        index,
        &Stamped {
            unix_ms: 1,
            command,
        },
    );
    assert!(!matches!(outcome, Outcome::Error { .. }), "{outcome}");
    outcome
}

fn register(node: &str, services: Vec<Service>, checks: Vec<Check>) -> Register {
    Register {
        node: Node {
            node: node.into(),
            address: "127.0.0.1".into(),
            ..Node::default()
        },
        skip_node_update: false,
        services,
        checks,
    }
}

fn set(key: &str) -> KvCommand {
    KvCommand {
        key: key.into(),
        op: KvOp::Set(KvWrite::default()),
    }
}

fn holder(rules: &str) -> Holder {
    let granted = Granted {
        accessor: Uuid::from_u128(0xab),
        rules: vec![rules.to_owned()],
        expires_ms: None,
    };
    Holder::new(&granted, DefaultPolicy::Deny, false).expect("rules")
}

fn may(rules: &str, command: &Command) -> bool {
    holder(rules).check_command(&store(), command).is_ok()
}

#[test]
fn a_command_takes_what_it_changes() {
    let service = |name: &str, id: &str| Service {
        id: id.into(),
        service: name.into(),
        ..Service::default()
    };
    let on_node = |services: Vec<Service>| {
        Command::Register(Box::new(Register {
            skip_node_update: true,
            ..register("n1", services, Vec::new())
        }))
    };
    let of_check = |service_id: &str| {
        let check = Check {
            check_id: "x".into(),
            service_id: service_id.into(),
            ..Check::default()
        };
        Command::Register(Box::new(Register {
            skip_node_update: true,
            ..register("n1", Vec::new(), vec![check])
        }))
    };
    let gone = |id: &str| {
        Command::Deregister(Deregister::Service {
            node: "n1".into(),
            id: id.into(),
        })
    };
    let session = Command::SessionCreate(Box::new(Session::plain(Uuid::from_u128(8), "n1")));
    let tree = |key: &str| {
        Command::Kv(KvCommand {
            key: key.into(),
            op: KvOp::DeleteTree,
        })
    };
    let web = "service \"web\" { policy = \"write\" }";
    let n1 = "node \"n1\" { policy = \"write\" }";
    let keys = "key_prefix \"a/\" { policy = \"write\" }";
    let inside = "key_prefix \"a/\" { policy = \"write\" } key \"a/b/1\" { policy = \"read\" }";
    for (rules, command, wanted) in [
        (keys, Command::Kv(set("a/1")), true),
        (keys, Command::Kv(set("c")), false),
        (keys, tree("a/"), true),
        (keys, tree(""), false),
        (inside, tree("a/"), false),
        (web, on_node(vec![service("web", "new")]), true),
        (web, on_node(vec![service("db", "new")]), false),
        // The id of another service.
        (web, on_node(vec![service("web", "db1")]), false),
        (n1, on_node(vec![service("web", "new")]), false),
        (web, of_check("web1"), true),
        (web, of_check("db1"), false),
        (web, of_check(""), false),
        (n1, of_check(""), true),
        (web, gone("web1"), true),
        (web, gone("db1"), false),
        (n1, gone("db1"), true),
        (web, gone("none"), false),
        (
            "session \"n1\" { policy = \"write\" }",
            session.clone(),
            true,
        ),
        ("session \"n2\" { policy = \"write\" }", session, false),
        (
            "session \"n1\" { policy = \"write\" }",
            Command::SessionDestroy {
                id: Uuid::from_u128(7),
            },
            true,
        ),
        (
            "session \"n2\" { policy = \"write\" }",
            Command::SessionDestroy {
                id: Uuid::from_u128(7),
            },
            false,
        ),
        (
            "acl = \"read\"",
            Command::Acl(AclStep::DeletePolicy(Uuid::nil())),
            false,
        ),
        (
            "acl = \"write\"",
            Command::Acl(AclStep::DeletePolicy(Uuid::nil())),
            true,
        ),
    ] {
        assert_eq!(may(rules, &command), wanted, "{rules}: {command:?}");
    }
}

#[test]
fn a_node_that_stays_as_it_is_takes_nothing() {
    let web = "service_prefix \"\" { policy = \"write\" }";
    let same = register("n1", Vec::new(), Vec::new());
    assert!(may(web, &Command::Register(Box::new(same.clone()))));
    let mut moved = same.clone();
    moved.node.address = "127.0.0.9".into();
    assert!(!may(web, &Command::Register(Box::new(moved))));
    let mut new = same;
    new.node.node = "n9".into();
    assert!(!may(web, &Command::Register(Box::new(new))));
}

#[test]
fn what_only_servers_do_is_refused_to_everybody() {
    let everything = &AclPolicy::builtin()[0].rules;
    for command in [
        Command::SetClusterId(Uuid::from_u128(1)),
        Command::ReapTombstones { up_to: 5 },
        Command::EndLockDelays(Vec::new()),
    ] {
        assert!(!may(everything, &command), "{command:?}");
    }
    let part = RestoreStep::Part {
        id: Uuid::nil(),
        number: 0,
        bytes: Vec::new().into(),
    };
    assert!(may(everything, &Command::Restore(part.clone())));
    assert!(!may("operator = \"write\"", &Command::Restore(part)));
}

#[test]
fn refusals_say_who_lacks_what() {
    let denied = holder("").check_command(&store(), &Command::Kv(set("a/1")));
    assert_eq!(
        denied.unwrap_err().0,
        "Permission denied: token with AccessorID '00000000-0000-0000-0000-0000000000ab' lacks permission 'key:write' on \"a/1\""
    );
    let anonymous = Granted::by(&Default::default(), &AclToken::anonymous(), "dc1");
    let anonymous = Holder::new(&anonymous, DefaultPolicy::Deny, false).unwrap();
    let denied = anonymous.check_query(&Query::Autopilot).unwrap_err();
    assert_eq!(
        denied.0,
        "Permission denied: anonymous token lacks permission 'operator:read'. The anonymous token is used implicitly when a request does not specify a token."
    );
}

/// What is left of an answer, and whether something was left out.
fn seen(rules: &str, query: &Query) -> (Answer, bool) {
    let (store, holder) = (store(), holder(rules));
    let other = holder.instead_of(query);
    let mut answer = store.query(other.as_ref().unwrap_or(query));
    let left_out = holder.filter(query, &mut answer);
    (answer, left_out)
}

#[test]
fn lists_are_filtered() {
    let meta = BTreeMap::new();
    let web = "service \"web\" { policy = \"read\" } node \"n1\" { policy = \"read\" }";
    let (answer, left_out) = seen(web, &Query::Services { meta: meta.clone() });
    let Answer::Services(services) = answer else {
        panic!()
    };
    assert!(left_out && services.into_keys().eq(["web"]));
    let (answer, left_out) = seen(web, &Query::Nodes { meta: meta.clone() });
    let Answer::Nodes(nodes) = answer else {
        panic!()
    };
    assert!(left_out && nodes.len() == 1 && nodes[0].node == "n1");
    let query = Query::ServiceHealth {
        service: "web".into(),
        tags: Vec::new(),
        passing: false,
    };
    let (Answer::ServiceHealth(found), true) = seen(web, &query) else {
        panic!()
    };
    assert!(found.len() == 1 && found[0].node.node == "n1");
    let state = "any".to_owned();
    let (Answer::Checks(checks), true) = seen(web, &Query::StateChecks { state }) else {
        panic!()
    };
    assert_eq!(checks.len(), 1);
    let node = "n1".to_owned();
    let (Answer::NodeServices(Some(row)), true) = seen(web, &Query::NodeServices { node }) else {
        panic!()
    };
    assert_eq!(row.services.len(), 1);
    let (answer, left_out) = seen("", &Query::Sessions);
    assert_eq!((answer, left_out), (Answer::Sessions(Vec::new()), true));
    let all = "node_prefix \"\" { policy = \"read\" }";
    let (Answer::Nodes(nodes), false) = seen(all, &Query::Nodes { meta }) else {
        panic!()
    };
    assert_eq!(nodes.len(), 2);
}

#[test]
fn keys_are_cut_after_they_are_filtered() {
    let list = |rules: &str, separator: &str| {
        let query = Query::KvKeys {
            prefix: String::new(),
            separator: separator.to_owned(),
        };
        match seen(rules, &query) {
            (Answer::Keys(keys), left_out) => {
                let keys: Vec<_> = keys.iter().map(|key| key.to_string()).collect();
                (keys.join(" "), left_out)
            }
            other => panic!("{other:?}"),
        }
    };
    let b = "key_prefix \"a/b/\" { policy = \"read\" }";
    assert_eq!(list(b, ""), ("a/b/1".to_owned(), true));
    // A folder of which a key may be read, although nothing is said of the folder.
    assert_eq!(list(b, "/"), ("a/".to_owned(), true));
    let all = "key_prefix \"\" { policy = \"read\" }";
    assert_eq!(list(all, "/"), ("a/ c".to_owned(), false));
    assert_eq!(list("", "/"), (String::new(), true));
}

#[test]
fn listing_keys_takes_more_where_that_is_asked_for() {
    let query = Query::KvList {
        prefix: "a/".into(),
    };
    let with = |rules: &str| {
        let granted = Granted {
            accessor: Uuid::nil(),
            rules: vec![rules.to_owned()],
            expires_ms: None,
        };
        let holder = Holder::new(&granted, DefaultPolicy::Deny, true).unwrap();
        holder.check_query(&query).is_ok()
    };
    assert!(!with("key_prefix \"a/\" { policy = \"read\" }"));
    assert!(with("key_prefix \"a/\" { policy = \"list\" }"));
}

#[test]
fn operations_of_a_transaction_are_refused_by_their_place() {
    let ops = [
        TxnOp::Kv(set("a/1")),
        TxnOp::Kv(set("c")),
        TxnOp::KvRead {
            key: "c".into(),
            read: KvRead::GetTree,
        },
        TxnOp::KvRead {
            key: "c".into(),
            read: KvRead::CheckNotExists,
        },
    ];
    let holder = holder("key_prefix \"a/\" { policy = \"write\" }");
    let places = holder.check_txn(&store(), &ops);
    let places: Vec<_> = places.iter().map(|error| error.op_index).collect();
    assert_eq!(places, [1, 3]);
}

#[test]
fn tokens_of_prepared_queries_are_for_managers() {
    let query = || {
        Answer::PreparedQuery(Some(Arc::new(PreparedQuery {
            token: "secret".into(),
            ..PreparedQuery::default()
        })))
    };
    let asked = Query::PreparedQuery {
        id_or_name: "x".into(),
    };
    let shown = |rules: &str| {
        let mut answer = query();
        holder(rules).filter(&asked, &mut answer);
        match answer {
            Answer::PreparedQuery(Some(query)) => query.token.clone(),
            _ => panic!(),
        }
    };
    assert_eq!(shown("query_prefix \"\" { policy = \"read\" }"), "<hidden>");
    assert_eq!(shown("acl = \"write\""), "secret");
}

#[test]
fn a_template_without_a_prefix_is_about_every_name() {
    let query = |kind: &str| {
        let mut query = PreparedQuery::default();
        kind.clone_into(&mut query.template.kind);
        query
    };
    let creates = |rules: &str, kind: &str| {
        let step = PreparedStep::Create(Box::new(query(kind)));
        let command = Command::Prepared(step);
        holder(rules).check_command(&store(), &command).is_ok()
    };
    let sees = |rules: &str, kind: &str| {
        let mut answer = Answer::PreparedQueries(vec![Arc::new(query(kind))]);
        !holder(rules).filter(&Query::PreparedQueries, &mut answer)
    };
    let (none, some) = ("", "query \"a\" { policy = \"write\" }");
    let all = "query_prefix \"\" { policy = \"write\" }";
    for rules in [none, some] {
        assert!(creates(rules, "") && !creates(rules, "name_prefix_match"));
        assert!(!sees(rules, "") && !sees(rules, "name_prefix_match"));
    }
    assert!(creates(all, "name_prefix_match") && sees(all, "name_prefix_match"));
    // One without a name is in nobody's list but a manager's.
    assert!(!sees(all, "") && sees("acl = \"write\"", ""));
}

#[test]
fn secrets_are_for_those_who_know_them_and_for_managers() {
    let mut store = store();
    bootstrap(&mut store);
    let shown = |rules: &str, query: AclQuery| {
        let query = Query::Acl(query);
        let mut answer = store.query(&query);
        holder(rules).filter(&query, &mut answer);
        let Answer::Acl(crate::state::AclAnswer::Tokens(rows, _)) = answer else {
            panic!()
        };
        rows.iter().any(|row| row.secret == MANAGER)
    };
    let list = || AclQuery::Tokens(Default::default());
    assert!(!shown("acl = \"read\"", list()));
    assert!(shown("acl = \"write\"", list()));
    assert!(shown("", AclQuery::SecretToken(MANAGER.to_owned())));
}

fn bootstrap(store: &mut Store) {
    let token = AclToken {
        accessor: Uuid::from_u128(0x11),
        secret: MANAGER.to_owned(),
        grants: AclGrants {
            policies: vec![GLOBAL_MANAGEMENT],
            ..AclGrants::default()
        },
        ..AclToken::default()
    };
    let step = AclStep::Bootstrap {
        token: Box::new(token),
        reset: 0,
    };
    apply(store, Command::Acl(step));
}

fn resolver() -> Resolver {
    let settings = config::Acl {
        enabled: true,
        default_policy: DefaultPolicy::Deny,
        ..config::Acl::default()
    };
    Resolver::new(&settings, "dc1")
}

#[test]
fn a_token_is_what_its_policies_roles_and_identities_are() {
    let mut store = Store::default();
    bootstrap(&mut store);
    let policy = AclPolicy {
        id: Uuid::from_u128(0x21),
        name: "p".into(),
        rules: "key_prefix \"a/\" { policy = \"write\" }".into(),
        ..AclPolicy::default()
    };
    let elsewhere = AclPolicy {
        id: Uuid::from_u128(0x22),
        name: "q".into(),
        rules: "key \"q\" { policy = \"write\" }".into(),
        datacenters: vec!["dc2".into()],
        ..AclPolicy::default()
    };
    for policy in [policy, elsewhere] {
        let policy = Box::new(policy);
        apply(
            &mut store,
            Command::Acl(AclStep::SetPolicy { policy, cas: 0 }),
        );
    }
    let role = Box::new(AclRole {
        id: Uuid::from_u128(0x31),
        name: "r".into(),
        grants: AclGrants {
            policies: vec![Uuid::from_u128(0x21), Uuid::from_u128(0x22)],
            service_identities: vec![ServiceIdentity {
                service_name: "web".into(),
                datacenters: Vec::new(),
            }],
            ..AclGrants::default()
        },
        ..AclRole::default()
    });
    apply(&mut store, Command::Acl(AclStep::SetRole { role, cas: 0 }));
    let token = Box::new(AclToken {
        accessor: Uuid::from_u128(0x41),
        secret: "s".into(),
        roles: vec![Uuid::from_u128(0x31)],
        grants: AclGrants {
            node_identities: vec![NodeIdentity {
                node_name: "n2".into(),
                datacenter: "dc2".into(),
            }],
            ..AclGrants::default()
        },
        ..AclToken::default()
    });
    apply(
        &mut store,
        Command::Acl(AclStep::SetToken { token, cas: 0 }),
    );
    let holder = resolver().holder(store.acl(), "s", 1).unwrap();
    let may = |command: &Command| holder.check_command(&store, command).is_ok();
    assert!(may(&Command::Kv(set("a/1"))) && !may(&Command::Kv(set("q"))));
    let service = |name: &str| Service {
        id: name.into(),
        service: name.into(),
        ..Service::default()
    };
    let on = |node: &str, name: &str| {
        Command::Register(Box::new(Register {
            skip_node_update: true,
            ..register(node, vec![service(name)], Vec::new())
        }))
    };
    // The node is not there yet, and its identity counts elsewhere.
    assert!(!may(&on("n2", "web")));
    apply(
        &mut store,
        Command::Register(Box::new(register("n2", Vec::new(), Vec::new()))),
    );
    let may = |command: &Command| holder.check_command(&store, command).is_ok();
    assert!(may(&on("n2", "web")) && may(&on("n2", "web-sidecar-proxy")));
    assert!(!may(&on("n2", "db")));
}

#[test]
fn what_was_resolved_is_forgotten_when_the_tables_change() {
    let mut store = Store::default();
    let resolver = resolver();
    let unknown = resolver.holder(store.acl(), MANAGER, 1).unwrap_err();
    assert!(unknown.0.starts_with("ACL system must be bootstrapped"));
    bootstrap(&mut store);
    let first = resolver.holder(store.acl(), MANAGER, 1).unwrap();
    let again = resolver.holder(store.acl(), MANAGER, 1).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert!(first.check_query(&Query::Autopilot).is_ok());
    let old = store.clone();
    let gone = AclStep::DeleteTokens(vec![Uuid::from_u128(0x11)]);
    apply(&mut store, Command::Acl(gone));
    let unknown = resolver.holder(store.acl(), MANAGER, 1).unwrap_err();
    assert_eq!(unknown.0, "ACL not found");
    // Whoever still reads an older version of the tables leaves nothing behind.
    assert!(resolver.holder(old.acl(), MANAGER, 1).is_ok());
    assert!(resolver.holder(store.acl(), MANAGER, 1).is_err());
}

#[test]
fn a_token_ends_with_its_time_although_it_was_resolved() {
    let mut store = Store::default();
    bootstrap(&mut store);
    let token = Box::new(AclToken {
        accessor: Uuid::from_u128(0x41),
        secret: "s".into(),
        expires_ms: Some(1000),
        ..AclToken::default()
    });
    apply(
        &mut store,
        Command::Acl(AclStep::SetToken { token, cas: 0 }),
    );
    let resolver = resolver();
    assert!(resolver.holder(store.acl(), "s", 999).is_ok());
    assert!(resolver.holder(store.acl(), "s", 1000).is_err());
    assert!(resolver.granted(store.acl(), "s", 1000).is_err());
}
