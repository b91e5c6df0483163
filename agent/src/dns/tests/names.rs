//! Names of other things than nodes and services.

use super::*;

#[tokio::test]
async fn the_domain_has_an_authority_and_name_servers() {
    let bench = Bench::new("");
    let consul = Service {
        id: "consul".into(),
        service: "consul".into(),
        port: 8300,
        ..Service::default()
    };
    bench.register(node("s1", "10.0.0.1"), vec![consul], vec![]);
    let got = bench.ask("consul.", RecordType::NS).await;
    assert_eq!(lines(&got.answers), ["consul. 0 NS s1.node.dc1.consul."]);
    assert_eq!(
        lines(&got.additionals),
        ["s1.node.dc1.consul. 0 A 10.0.0.1"]
    );
    let got = bench.ask("consul.", RecordType::SOA).await;
    let RData::SOA(soa) = &got.answers[0].data else {
        panic!("{got:?}");
    };
    assert_eq!(soa.mname.to_string(), "ns.consul.");
    assert_eq!(soa.rname.to_string(), "hostmaster.consul.");
    assert_eq!(
        (soa.refresh, soa.retry, soa.expire, soa.minimum),
        (3600, 600, 86400, 0)
    );
    assert_eq!(got.authorities.len(), 1);
    let got = bench.ask("consul.", RecordType::AXFR).await;
    assert_eq!(code(&got), ResponseCode::NotImp);
}

#[tokio::test]
async fn addresses_are_found_by_their_reverse() {
    let bench = Bench::new("");
    bench.web(
        "n1",
        "127.0.0.9",
        service("127.0.0.8", 80, &[]),
        CheckStatus::Critical,
    );
    let ptr = |name: &'static str| bench.ask(name, RecordType::PTR);
    let got = ptr("9.0.0.127.in-addr.arpa.").await;
    assert_eq!(
        lines(&got.answers),
        ["9.0.0.127.in-addr.arpa. 0 PTR n1.node.dc1.consul."]
    );
    let got = ptr("8.0.0.127.in-addr.arpa.").await;
    assert_eq!(
        lines(&got.answers),
        ["8.0.0.127.in-addr.arpa. 0 PTR web.service.dc1.consul."]
    );
    let got = ptr("7.0.0.127.in-addr.arpa.").await;
    assert_eq!(code(&got), ResponseCode::Refused);
}

#[tokio::test]
async fn a_second_domain_answers_in_its_own_name() {
    let bench = Bench::new("domain = \"corp\"\nalt_domain = \"b.example\"");
    bench.web("n1", "10.0.0.1", service("", 80, &[]), CheckStatus::Passing);
    for domain in ["corp.", "b.example."] {
        let name = format!("web.service.{domain}");
        let got = bench.ask(&name, RecordType::SRV).await;
        assert_eq!(
            lines(&got.answers),
            [format!("{name} 0 SRV 1 7 80 n1.node.dc1.{domain}")]
        );
    }
    let got = bench.ask("web.service.consul.", RecordType::A).await;
    assert_eq!(code(&got), ResponseCode::Refused);
}

#[tokio::test]
async fn reads_are_stale_only_as_long_as_they_may_be() {
    let old = Fake {
        age: Duration::from_secs(10),
        ..Fake::default()
    };
    for (settings, wanted) in [
        ("", &[Consistency::Stale][..]),
        (
            "dns_config { max_stale = \"5s\" }",
            &[Consistency::Stale, Consistency::Default],
        ),
        (
            "dns_config { allow_stale = false }",
            &[Consistency::Default],
        ),
    ] {
        let bench = Bench::of(old.clone(), settings);
        bench.ask("n1.node.consul.", RecordType::A).await;
        let asked = std::mem::take(&mut *bench.fake.asked.lock().unwrap());
        assert_eq!(asked, wanted, "{settings}");
    }
    let broken = Fake {
        broken: true,
        ..Fake::default()
    };
    let got = Bench::of(broken, "")
        .ask("n1.node.consul.", RecordType::A)
        .await;
    assert_eq!(code(&got), ResponseCode::ServFail);
}

#[tokio::test]
async fn prepared_queries_are_names_too() {
    let bench = Bench::new("");
    bench.web("n1", "10.0.0.1", service("", 80, &[]), CheckStatus::Passing);
    let query = crate::state::PreparedQuery {
        id: uuid::Uuid::from_u128(1),
        name: "to-".into(),
        template: crate::state::QueryTemplate {
            kind: "name_prefix_match".into(),
            ..Default::default()
        },
        service: crate::state::QueryService {
            service: "${name.suffix}".into(),
            ..Default::default()
        },
        dns: crate::state::QueryDns { ttl: "7s".into() },
        ..Default::default()
    };
    let step = crate::state::PreparedStep::Create(Box::new(query));
    let command = Command::Prepared(step);
    let unix_ms = 0;
    let stamped = Stamped { unix_ms, command };
    bench.fake.store.lock().unwrap().apply(9, &stamped);
    let got = bench.ask("to-web.query.consul.", RecordType::A).await;
    assert_eq!(lines(&got.answers), ["to-web.query.consul. 7 A 10.0.0.1"]);
    for name in ["to-db.query.consul.", "web.query.consul."] {
        let got = bench.ask(name, RecordType::A).await;
        assert_eq!(code(&got), ResponseCode::NXDomain, "{name}");
    }
}
