//! Addresses that stand for services, and entries that must fit, through any sequence of changes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn sidecar(service: &str) -> Service {
    Service {
        kind: "connect-proxy".into(),
        id: format!("{service}-proxy"),
        service: format!("{service}-proxy"),
        port: 20000,
        mesh: Some(Box::new(Mesh {
            destination: service.into(),
            ..Mesh::default()
        })),
        ..Service::default()
    }
}

fn set(entry: Value) -> Command {
    let entry = Box::new(crate::entries::read(entry).unwrap());
    Command::CheckedEntry(EntryStep::Set { entry, cas: None })
}

fn delete(kind: &str, name: &str) -> Command {
    let (kind, name) = (kind.to_owned(), name.to_owned());
    let cas = None;
    Command::CheckedEntry(EntryStep::Delete { kind, name, cas })
}

fn begin() -> Command {
    Command::Virtual(VirtualStep::Begin)
}

impl Fixture {
    fn address(&self, service: &str) -> Option<String> {
        let service = service.to_owned();
        match self.store.query(&Query::VirtualIp { service }) {
            Answer::VirtualIp(found) => found.map(|ips| ips.address().to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// What the row of a sidecar shows.
    fn rows_show(&self, service: &str) -> Vec<String> {
        let query = Query::MeshHealth {
            service: service.to_owned(),
            tags: Vec::new(),
            passing: false,
        };
        let Answer::ServiceHealth(found) = self.store.query(&query) else {
            panic!("another answer");
        };
        let shown = found
            .iter()
            .filter_map(|row| row.service.tagged_addresses.get(CONSUL_VIRTUAL));
        shown.map(|address| address.address.clone()).collect()
    }
}

#[test]
fn an_old_log_means_what_it_meant() {
    let mut f = Fixture::new();
    f.register("n", vec![sidecar("web")], vec![]);
    // Entries of before need not fit.
    let splitter = json!({"Kind": "service-splitter", "Name": "db", "Splits": [{"Weight": 100}]});
    let entry = Box::new(crate::entries::read(splitter.clone()).unwrap());
    let outcome = f.apply(Command::Entry(EntryStep::Set { entry, cas: None }));
    assert_eq!(outcome, Outcome::Bool(true));
    assert_eq!((f.address("web"), f.rows_show("web")), (None, Vec::new()));
    f.apply(begin());
    // By name, so that every server gives the same.
    assert_eq!(f.address("db").as_deref(), Some("240.0.0.1"));
    assert_eq!(f.address("WEB").as_deref(), Some("240.0.0.2"));
    assert_eq!(f.rows_show("web"), ["240.0.0.2"]);
    let Outcome::Error { code, .. } = f.apply(set(
        json!({"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 100}]}),
    )) else {
        panic!("a splitter without a protocol was taken");
    };
    assert_eq!(code, Refusal::InvalidEntry);
}

#[test]
fn those_who_name_the_address_themselves_are_not_believed() {
    let mut f = Fixture::new();
    f.apply(begin());
    let mut service = sidecar("web");
    let own = ServiceAddress {
        address: "240.9.9.9".into(),
        port: 1,
    };
    service.tagged_addresses.insert(CONSUL_VIRTUAL.into(), own);
    f.register("n", vec![service.clone()], vec![]);
    assert_eq!(f.rows_show("web"), ["240.0.0.1"]);
    let index = f.store.last_index();
    f.register("n", vec![service], vec![]);
    let query = Query::MeshHealth {
        service: "web".into(),
        tags: Vec::new(),
        passing: false,
    };
    assert_eq!(f.store.changed_index(&query), index);
    // A proxy of another service has that one's.
    let other = Service {
        id: "web-proxy".into(),
        ..sidecar("api")
    };
    f.register("n", vec![other], vec![]);
    assert_eq!(
        (f.address("web"), f.rows_show("api")),
        (None, vec!["240.0.0.2".to_owned()])
    );
}

#[test]
fn a_transaction_that_fails_gives_nobody_an_address() {
    let mut f = Fixture::new();
    f.apply(begin());
    f.node("n");
    let (verb, node) = (RowVerb::Set, "n".to_owned());
    let good = TxnOp::Service {
        verb,
        node,
        service: Box::new(sidecar("web")),
    };
    let bad = TxnOp::Kv(KvCommand {
        key: "k".into(),
        op: KvOp::DeleteCas { index: 99 },
    });
    f.set("k", "v");
    assert!(matches!(
        f.apply(Command::Txn(vec![good.clone(), bad])),
        Outcome::TxnFailed(_)
    ));
    assert_eq!(f.address("web"), None);
    assert!(matches!(f.apply(Command::Txn(vec![good])), Outcome::Txn(_)));
    assert_eq!(f.rows_show("web"), ["240.0.0.1"]);
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Register(&'static str, &'static str),
    Deregister(&'static str, &'static str),
    DropNode(&'static str),
    Resolver(&'static str),
    NoResolver(&'static str),
    Gateway(&'static str),
    NoGateway,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || prop::sample::select(NAMES.to_vec());
    let node = || prop::sample::select(vec!["n1", "n2"]);
    let step = prop_oneof![
        Just(Step::Begin),
        (node(), name()).prop_map(|(node, name)| Step::Register(node, name)),
        (node(), name()).prop_map(|(node, name)| Step::Register(node, name)),
        (node(), name()).prop_map(|(node, name)| Step::Deregister(node, name)),
        node().prop_map(Step::DropNode),
        name().prop_map(Step::Resolver),
        name().prop_map(Step::NoResolver),
        name().prop_map(Step::Gateway),
        Just(Step::NoGateway),
    ];
    prop::collection::vec(step, 0..24)
}

proptest! {
    /// Who needs an address has one of its own, shown where it must be; nobody else has any.
    #[test]
    fn addresses_follow_the_mesh(steps in steps()) {
        let mut f = Fixture::new();
        let mut begun = false;
        let (mut instances, mut resolvers, mut gateway) = (BTreeSet::new(), BTreeSet::new(), None);
        for step in steps {
            match step {
                Step::Begin => {
                    f.apply(begin());
                    begun = true;
                }
                Step::Register(node, name) => {
                    f.register(node, vec![sidecar(name)], vec![]);
                    instances.insert((node, name));
                }
                Step::Deregister(node, name) => {
                    let id = format!("{name}-proxy");
                    let service = Deregister::Service { node: node.into(), id };
                    f.apply(Command::Deregister(service));
                    instances.remove(&(node, name));
                }
                Step::DropNode(node) => {
                    f.apply(Command::Deregister(Deregister::Node { node: node.into() }));
                    instances.retain(|(other, _)| *other != node);
                }
                Step::Resolver(name) => {
                    f.apply(set(json!({"Kind": "service-resolver", "Name": name, "ConnectTimeout": "1s"})));
                    resolvers.insert(name);
                }
                Step::NoResolver(name) => {
                    f.apply(delete("service-resolver", name));
                    resolvers.remove(name);
                }
                Step::Gateway(name) => {
                    f.apply(set(json!({"Kind": "terminating-gateway", "Name": "g", "Services": [{"Name": name}, {"Name": "*"}]})));
                    gateway = Some(name);
                }
                Step::NoGateway => {
                    f.apply(delete("terminating-gateway", "g"));
                    gateway = None;
                }
            }
            let mut seen = BTreeSet::new();
            for name in NAMES {
                let count = instances.iter().filter(|(_, other)| *other == name).count();
                let needs = begun && (count > 0 || resolvers.contains(name) || gateway == Some(name));
                let address = f.address(name);
                prop_assert_eq!(address.is_some(), needs, "{}", name);
                if let Some(address) = address {
                    prop_assert_eq!(f.rows_show(name), vec![address.clone(); count]);
                    prop_assert!(seen.insert(address));
                }
            }
        }
    }
}
