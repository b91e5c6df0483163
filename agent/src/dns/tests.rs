//! Questions and answers as bytes, with a node that is one store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::server::{Transport, read};
use super::*;
use crate::config::{FlagSettings, Format, Machine, SourceFile, load};
use crate::env::Env;
use crate::metrics::{self, Metrics};
use crate::node::Consistency;
use crate::state::{
    Check, CheckStatus, Command, EntryStep, Mesh, Node as NodeRow, Register, Service, Stamped,
    Store, VirtualStep, Weights,
};

mod datacenters;
mod mesh;
mod names;
mod packets;

/// A node that is its store.
#[derive(Clone, Default)]
struct Fake {
    store: Arc<Mutex<Store>>,
    /// How old it says its state is.
    age: Duration,
    asked: Arc<Mutex<Vec<Consistency>>>,
    broken: bool,
    /// The other datacenters, the nearest first.
    others: Vec<(String, Fake)>,
    /// Whether it stands for a datacenter that nobody knows.
    unknown: bool,
}

impl Api for Fake {
    fn at(&self, datacenter: &str) -> Self {
        let found = self.others.iter().find(|(name, _)| name == datacenter);
        match found {
            Some((_, other)) => other.clone(),
            None => Self {
                unknown: true,
                ..Self::default()
            },
        }
    }

    async fn datacenters(&self) -> Result<Vec<String>, NodeError> {
        let others = self.others.iter().map(|(name, _)| name.clone());
        Ok(std::iter::once("dc1".to_owned()).chain(others).collect())
    }

    async fn read(&self, query: Query, options: ReadOptions) -> Result<Reply, NodeError> {
        self.asked.lock().unwrap().push(options.consistency);
        if self.unknown {
            return Err(NodeError::NoPath);
        }
        if self.broken {
            return Err(NodeError::NoLeader);
        }
        let store = self.store.lock().unwrap();
        Ok(Reply {
            answer: store.query(&query),
            index: store.index_of(&query),
            known_leader: true,
            last_contact: self.age,
            filtered: false,
        })
    }

    fn is_unchanged(&self, query: &Query, options: &ReadOptions, index: u64) -> bool {
        let stale = options.consistency == Consistency::Stale;
        let fresh = options.max_stale.is_none_or(|max| self.age <= max);
        let found = self.store.lock().unwrap().index_of(query);
        !self.broken && (!stale || fresh) && found == index
    }
}

struct Bench {
    fake: Fake,
    server: Arc<Server<Fake>>,
}

impl Bench {
    fn new(settings: &str) -> Self {
        Self::of(Fake::default(), settings)
    }

    fn of(fake: Fake, settings: &str) -> Self {
        let file = SourceFile {
            name: "a.hcl".into(),
            format: Format::Hcl,
            text: format!(
                "data_dir = \"/d\"\nbind_addr = \"127.0.0.1\"\nnode_name = \"a\"\n{settings}"
            ),
        };
        let machine = Machine {
            hostname: "h".into(),
            private_ipv4: Vec::new(),
            public_ipv6: Vec::new(),
            temporary_dir: "/tmp".into(),
        };
        let config = load(&[file], &FlagSettings::default(), &machine).unwrap();
        let env = Env::real();
        let metrics = Metrics::new(env.clock.clone(), metrics::Settings::default());
        let server = Server::new(
            fake.clone(),
            env,
            Settings::new(&config.config),
            &metrics,
            CancellationToken::new(),
        );
        Self { fake, server }
    }

    fn register(&self, node: NodeRow, services: Vec<Service>, checks: Vec<Check>) {
        let mut store = self.fake.store.lock().unwrap();
        let index = store.last_index() + 1;
        let command = Command::Register(Box::new(Register {
            node,
            skip_node_update: false,
            services,
            checks,
        }));
        let unix_ms = 0;
        store.apply(index, &Stamped { unix_ms, command });
    }

    /// A node with one service on it, in a state.
    fn web(&self, name: &str, address: &str, service: Service, status: CheckStatus) {
        let check = Check {
            check_id: "c".into(),
            service_id: service.id.clone(),
            status,
            ..Check::default()
        };
        self.register(node(name, address), vec![service], vec![check]);
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.send(&question(name, kind), Transport::Udp).await
    }

    async fn send(&self, message: &Message, over: Transport) -> Message {
        let bytes = self.server.respond(&message.to_vec().unwrap(), over).await;
        let answer = Message::from_vec(&bytes.expect("an answer")).unwrap();
        if over == Transport::Udp {
            self.again(message, &answer);
        }
        assert_eq!(answer.metadata.id, message.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert_eq!(answer.queries, message.queries);
        answer
    }

    /// If the answer was kept, whoever asks next gets the like of it.
    fn again(&self, message: &Message, answer: &Message) {
        let Some(kept) = self.kept(message) else {
            return;
        };
        let mut metadata = answer.metadata;
        metadata.id = kept.metadata.id;
        assert_eq!(kept.metadata, metadata);
        assert_eq!(kept.queries, answer.queries);
        assert_eq!(kept.edns, answer.edns);
        assert_eq!(kept.answers.len(), answer.answers.len());
        // Of more instances than are shown, it may be others.
        if self.instances(message) == answer.answers.len() {
            assert_eq!(lines(&kept.answers), lines(&answer.answers));
        }
    }

    /// What is kept for a question, as somebody with another id gets it.
    fn kept(&self, message: &Message) -> Option<Message> {
        let mut other = message.clone();
        other.metadata.id = other.metadata.id.wrapping_add(1);
        let mut bytes = Vec::new();
        let question = other.to_vec().unwrap();
        let found = self.server.respond_kept(&question, &mut bytes);
        let kept = found.then(|| Message::from_vec(&bytes).unwrap())?;
        assert_eq!(kept.metadata.id, other.metadata.id);
        Some(kept)
    }

    fn instances(&self, message: &Message) -> usize {
        let name = message.queries[0].name().to_string();
        let service = name.split('.').next().unwrap_or_default().to_owned();
        let query = Query::ServiceHealth {
            service,
            tags: Vec::new(),
            passing: false,
        };
        match self.fake.store.lock().unwrap().query(&query) {
            crate::state::Answer::ServiceHealth(all) => all.len(),
            _ => 0,
        }
    }
}

fn node(name: &str, address: &str) -> NodeRow {
    NodeRow {
        node: name.into(),
        address: address.into(),
        datacenter: "dc1".into(),
        ..NodeRow::default()
    }
}

fn service(address: &str, port: u16, tags: &[&str]) -> Service {
    Service {
        id: format!("web-{port}"),
        service: "web".into(),
        address: address.into(),
        port,
        tags: tags.iter().map(|&t| t.to_owned()).collect(),
        weights: Weights {
            passing: 7,
            warning: 3,
        },
        ..Service::default()
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

/// Records as `NAME TTL TYPE DATA`, sorted.
fn lines(records: &[hickory_proto::rr::Record]) -> Vec<String> {
    let line = |r: &hickory_proto::rr::Record| {
        format!("{} {} {} {}", r.name, r.ttl, r.record_type(), r.data)
    };
    let mut lines: Vec<_> = records.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_node_is_found_with_its_meta_data() {
    let bench = Bench::new("dns_config { node_ttl = \"10s\" }");
    let mut row = node("N1", "10.0.0.1");
    row.meta = BTreeMap::from([("rack".to_owned(), "r1".to_owned())]);
    bench.register(row, vec![], vec![]);
    let got = bench.ask("n1.node.consul.", RecordType::A).await;
    assert_eq!(code(&got), ResponseCode::NoError);
    assert!(got.metadata.authoritative && got.metadata.recursion_desired);
    assert!(!got.metadata.recursion_available);
    assert_eq!(lines(&got.answers), ["n1.node.consul. 10 A 10.0.0.1"]);
    assert_eq!(lines(&got.additionals), ["n1.node.consul. 10 TXT rack=r1"]);
    let got = bench.ask("n1.node.dc1.consul.", RecordType::TXT).await;
    assert_eq!(lines(&got.answers), ["n1.node.dc1.consul. 10 TXT rack=r1"]);
    let got = bench.ask("n1.node.consul.", RecordType::ANY).await;
    assert_eq!(got.answers.len(), 2);
}

#[tokio::test]
async fn an_absent_name_differs_from_an_absent_record() {
    let bench = Bench::new("");
    bench.register(node("n1", "10.0.0.1"), vec![], vec![]);
    for name in ["n2.node.consul.", "web.service.consul.", "zz.consul."] {
        let got = bench.ask(name, RecordType::A).await;
        assert_eq!(code(&got), ResponseCode::NXDomain, "{name}");
        assert!(got.metadata.authoritative);
        assert_eq!(got.authorities.len(), 1);
        assert_eq!(got.authorities[0].record_type(), RecordType::SOA);
    }
    let got = bench.ask("n1.node.consul.", RecordType::AAAA).await;
    assert_eq!((code(&got), got.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(got.authorities[0].record_type(), RecordType::SOA);
}

#[tokio::test]
async fn only_healthy_instances_are_answered() {
    let bench = Bench::new("");
    let add = |n: u16, status| {
        bench.web(
            &format!("n{n}"),
            &format!("10.0.0.{n}"),
            service("", 80, &["v1"]),
            status,
        );
    };
    add(1, CheckStatus::Passing);
    add(2, CheckStatus::Warning);
    add(3, CheckStatus::Critical);
    let found = lines(
        &bench
            .ask("web.service.consul.", RecordType::A)
            .await
            .answers,
    );
    let wanted = ["1", "2"].map(|n| format!("web.service.consul. 0 A 10.0.0.{n}"));
    assert_eq!(found, wanted);
    for name in ["V1.web.service.consul.", "_web._v1.service.consul."] {
        assert_eq!(bench.ask(name, RecordType::A).await.answers.len(), 2);
    }
    let none = bench.ask("v2.web.service.consul.", RecordType::A).await;
    assert_eq!(code(&none), ResponseCode::NXDomain);
    let strict = Bench::of(bench.fake.clone(), "dns_config { only_passing = true }");
    let found = strict.ask("web.service.consul.", RecordType::A).await;
    assert_eq!(found.answers.len(), 1);
}

#[tokio::test]
async fn locations_have_weights_and_targets_with_addresses() {
    let bench = Bench::new("dns_config { service_ttl { \"web\" = \"5s\" } }");
    let passing = CheckStatus::Passing;
    bench.web("n1", "10.0.0.1", service("", 80, &[]), passing);
    bench.web(
        "n2",
        "10.0.0.2",
        service("10.9.9.9", 81, &[]),
        CheckStatus::Warning,
    );
    bench.web(
        "n3",
        "10.0.0.3",
        service("web.example.com", 82, &[]),
        passing,
    );
    let mut ask = question("_web._tcp.service.consul.", RecordType::SRV);
    ask.set_edns(Edns::new());
    let got = bench.send(&ask, Transport::Udp).await;
    let name = "_web._tcp.service.consul. 5 SRV";
    assert_eq!(
        lines(&got.answers),
        [
            format!("{name} 1 3 81 0a090909.addr.dc1.consul."),
            format!("{name} 1 7 80 n1.node.dc1.consul."),
            format!("{name} 1 7 82 web.example.com."),
        ]
    );
    assert_eq!(
        lines(&got.additionals),
        [
            "0a090909.addr.dc1.consul. 5 A 10.9.9.9",
            "n1.node.dc1.consul. 5 A 10.0.0.1",
        ]
    );
    let addr = bench.ask("0a090909.addr.dc1.consul.", RecordType::A).await;
    assert_eq!(
        lines(&addr.answers),
        ["0a090909.addr.dc1.consul. 0 A 10.9.9.9"]
    );
    let alias = bench.ask("web.service.consul.", RecordType::CNAME).await;
    assert_eq!(
        lines(&alias.answers),
        ["web.service.consul. 5 CNAME web.example.com."]
    );
}

#[tokio::test]
async fn answers_come_in_random_order_and_a_few_at_a_time() {
    let bench = Bench::new("");
    for n in 1..=20 {
        bench.web(
            &format!("n{n}"),
            &format!("10.0.0.{n}"),
            service("", 80, &[]),
            CheckStatus::Passing,
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    // That one of 20 never shows among 3 of them in 2000 tries has a chance of 10^-141.
    for _ in 0..2000 {
        let got = bench.ask("web.service.consul.", RecordType::A).await;
        assert_eq!(got.answers.len(), 3);
        assert!(!got.metadata.truncation);
        seen.extend(lines(&got.answers));
    }
    assert_eq!(seen.len(), 20);
    let all = question("web.service.consul.", RecordType::A);
    let got = bench.send(&all, Transport::Tcp).await;
    assert_eq!(got.answers.len(), 20);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    let mut ask = question("web.service.consul.", RecordType::A);
    ask.set_edns(edns);
    let got = bench.send(&ask, Transport::Udp).await;
    assert_eq!((got.answers.len(), got.edns.is_some()), (20, true));
    let marking = Bench::of(
        bench.fake.clone(),
        "dns_config { enable_truncate = true, a_record_limit = 5 }",
    );
    let got = marking.ask("web.service.consul.", RecordType::A).await;
    assert!(got.metadata.truncation);
    let got = marking.send(&all, Transport::Tcp).await;
    assert_eq!((got.answers.len(), got.metadata.truncation), (5, false));
}

#[tokio::test]
async fn what_is_kept_is_given_as_long_as_it_is_true() {
    let bench = Bench::new("");
    let add = |n: u16, status| {
        let address = format!("10.0.0.{n}");
        bench.web(&format!("n{n}"), &address, service("", 80, &[]), status);
    };
    add(1, CheckStatus::Passing);
    let ask = question("web.service.consul.", RecordType::A);
    let wanted = |n: u16| format!("web.service.consul. 0 A 10.0.0.{n}");
    assert!(bench.kept(&ask).is_none(), "nobody has asked");
    bench.send(&ask, Transport::Udp).await;
    let asked = || bench.fake.asked.lock().unwrap().len();
    let before = asked();
    let kept = bench.kept(&ask).expect("nothing has changed");
    assert_eq!((lines(&kept.answers), asked()), (vec![wanted(1)], before));
    // Another service does not matter, nor another question.
    let mut other = service("", 81, &[]);
    other.service = "other".into();
    bench.register(node("n9", "10.0.0.9"), vec![other], vec![]);
    assert!(bench.kept(&ask).is_some());
    let aaaa = question("web.service.consul.", RecordType::AAAA);
    assert!(bench.kept(&aaaa).is_none());
    // A second instance, a sick one, and the address of a node.
    type Change<'a> = &'a dyn Fn();
    let changes: [(Change<'_>, &[u16]); 3] = [
        (&|| add(2, CheckStatus::Passing), &[1, 2]),
        (&|| add(1, CheckStatus::Critical), &[2]),
        (
            &|| bench.register(node("n2", "10.0.0.7"), vec![], vec![]),
            &[7],
        ),
    ];
    for (change, left) in changes {
        change();
        assert!(bench.kept(&ask).is_none(), "{left:?}");
        let got = bench.send(&ask, Transport::Udp).await;
        let wanted: Vec<_> = left.iter().map(|n| wanted(*n)).collect();
        assert_eq!(lines(&got.answers), wanted);
        let kept = bench.kept(&ask).expect("kept anew");
        assert_eq!(lines(&kept.answers), wanted);
    }
}

#[tokio::test]
async fn what_is_kept_is_not_given_when_the_state_is_too_old_or_the_asker_sends_options() {
    for (settings, age, wanted) in [
        ("", 10, true),
        ("dns_config { max_stale = \"5s\" }", 4, true),
        ("dns_config { max_stale = \"5s\" }", 10, false),
        ("dns_config { allow_stale = false }", 10, true),
        ("dns_config { a_record_limit = 1 }", 0, false),
    ] {
        let fake = Fake {
            age: Duration::from_secs(age),
            ..Fake::default()
        };
        let bench = Bench::of(fake, settings);
        bench.web("n1", "10.0.0.1", service("", 80, &[]), CheckStatus::Passing);
        let mut ask = question("web.service.consul.", RecordType::A);
        bench.send(&ask, Transport::Udp).await;
        assert_eq!(bench.kept(&ask).is_some(), wanted, "{settings} {age}");
        let mut edns = Edns::new();
        ask.set_edns(edns.clone());
        bench.send(&ask, Transport::Udp).await;
        assert_eq!(bench.kept(&ask).is_some(), wanted, "{settings} {age}");
        let option = hickory_proto::rr::rdata::opt::EdnsOption::Unknown(10, vec![1; 8]);
        edns.options_mut().insert(option);
        ask.set_edns(edns);
        bench.send(&ask, Transport::Udp).await;
        assert!(bench.kept(&ask).is_none(), "a cookie is never the same");
    }
}
