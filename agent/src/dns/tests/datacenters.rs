//! Names of other datacenters.

use super::*;

/// A bench whose node knows `dc2`, where `web` runs at an address.
fn bench(settings: &str) -> Bench {
    let there = Bench::new("");
    there.web(
        "n2",
        "10.0.2.1",
        service("", 80, &["v1"]),
        CheckStatus::Passing,
    );
    {
        let mut store = there.fake.store.lock().unwrap();
        let index = store.last_index() + 1;
        let command = Command::Register(Box::new(Register {
            node: NodeRow {
                datacenter: "dc2".into(),
                tagged_addresses: [("wan".to_owned(), "9.9.9.9".to_owned())].into(),
                ..node("n2", "10.0.2.1")
            },
            skip_node_update: false,
            services: Vec::new(),
            checks: Vec::new(),
        }));
        store.apply(
            index,
            &Stamped {
                unix_ms: 0,
                command,
            },
        );
    }
    let down = Fake {
        broken: true,
        ..Fake::default()
    };
    let fake = Fake {
        others: vec![("dc3".to_owned(), down), ("dc2".to_owned(), there.fake)],
        ..Fake::default()
    };
    Bench::of(fake, settings)
}

fn addresses(answer: &Message) -> Vec<String> {
    let data = answer.answers.iter().map(|record| record.data.to_string());
    data.collect()
}

#[tokio::test]
async fn names_with_a_datacenter_are_looked_up_there() {
    let bench = bench("");
    for name in [
        "web.service.dc2.consul.",
        "v1.web.service.dc2.consul.",
        "n2.node.dc2.consul.",
    ] {
        let answer = bench.ask(name, RecordType::A).await;
        assert_eq!(addresses(&answer), ["10.0.2.1"], "{name}");
    }
    let answer = bench.ask("web.service.consul.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    let answer = bench.ask("web.service.dc2.consul.", RecordType::SRV).await;
    assert!(
        addresses(&answer)[0].ends_with("n2.node.dc2.consul."),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_unknown_datacenter_is_no_such_name_and_one_that_is_down_a_failure() {
    let bench = bench("");
    let unknown = bench.ask("web.service.dc9.consul.", RecordType::A).await;
    assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
    assert!(!unknown.authorities.is_empty(), "with its authority");
    let down = bench.ask("web.service.dc3.consul.", RecordType::A).await;
    assert_eq!(down.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn addresses_are_translated_for_other_datacenters_alone() {
    let bench = bench("translate_wan_addrs = true");
    bench.web("n1", "10.0.1.1", service("", 80, &[]), CheckStatus::Passing);
    let there = bench.ask("web.service.dc2.consul.", RecordType::A).await;
    assert_eq!(addresses(&there), ["9.9.9.9"]);
    let here = bench.ask("web.service.consul.", RecordType::A).await;
    assert_eq!(addresses(&here), ["10.0.1.1"]);
}

#[tokio::test]
async fn a_prepared_query_is_answered_from_elsewhere_when_there_is_nothing_here() {
    use crate::state::{PreparedQuery, PreparedStep, QueryFailover, QueryService};
    let bench = bench("");
    let query = |name: &str, id: u128, nearest_n| {
        let query = PreparedQuery {
            id: uuid::Uuid::from_u128(id),
            name: name.to_owned(),
            service: QueryService {
                service: "web".to_owned(),
                failover: QueryFailover {
                    nearest_n,
                    datacenters: Vec::new(),
                },
                ..QueryService::default()
            },
            ..PreparedQuery::default()
        };
        let mut store = bench.fake.store.lock().unwrap();
        let index = store.last_index() + 1;
        let command = Command::Prepared(PreparedStep::Create(Box::new(query)));
        store.apply(
            index,
            &Stamped {
                unix_ms: 0,
                command,
            },
        );
    };
    query("one", 1, 1);
    query("two", 2, 2);
    let one = bench.ask("one.query.consul.", RecordType::A).await;
    assert_eq!(
        one.metadata.response_code,
        ResponseCode::NXDomain,
        "only dc3 was tried"
    );
    let two = bench.ask("two.query.consul.", RecordType::A).await;
    assert_eq!(addresses(&two), ["10.0.2.1"]);
}
