//! Names of the service mesh.

use super::*;

/// A proxy or a gateway.
fn mesh_service(kind: &str, id: &str, port: u16, destination: &str) -> Service {
    Service {
        kind: kind.into(),
        id: id.into(),
        service: id.into(),
        port,
        mesh: Some(Box::new(Mesh {
            destination: destination.into(),
            ..Mesh::default()
        })),
        ..Service::default()
    }
}

#[tokio::test]
async fn services_are_found_through_the_mesh_and_by_their_gateways() {
    let bench = Bench::new("");
    let apply = |command: Command| {
        let mut store = bench.fake.store.lock().unwrap();
        let index = store.last_index() + 1;
        let unix_ms = 0;
        store.apply(index, &Stamped { unix_ms, command });
    };
    apply(Command::Virtual(VirtualStep::Begin));
    let sidecar = mesh_service("connect-proxy", "web-proxy", 20000, "web");
    bench.web("n", "10.0.0.1", sidecar, CheckStatus::Passing);
    let gateway = mesh_service("ingress-gateway", "in", 8080, "");
    bench.web("g", "10.0.0.2", gateway, CheckStatus::Passing);
    let sick = mesh_service("ingress-gateway", "in", 8081, "");
    bench.web("s", "10.0.0.3", sick, CheckStatus::Critical);
    let entry = json!({"Kind": "ingress-gateway", "Name": "in", "Listeners": [{"Port": 8080, "Services": [{"Name": "web"}]}]});
    let entry = Box::new(crate::entries::read(entry).unwrap());
    apply(Command::CheckedEntry(EntryStep::Set { entry, cas: None }));

    let addresses = async |name: &str| {
        let answer = bench.ask(name, RecordType::A).await;
        let data = answer.answers.iter().map(|record| record.data.to_string());
        data.collect::<Vec<_>>()
    };
    assert_eq!(addresses("web.connect.consul.").await, ["10.0.0.1"]);
    assert_eq!(addresses("web.connect.dc1.consul.").await, ["10.0.0.1"]);
    assert_eq!(addresses("web.ingress.consul.").await, ["10.0.0.2"]);
    assert_eq!(addresses("web.virtual.consul.").await, ["240.0.0.1"]);
    assert_eq!(addresses("WEB.virtual.dc1.dc.consul.").await, ["240.0.0.1"]);
    for (name, port) in [
        ("web.connect.consul.", 20000),
        ("web.ingress.consul.", 8080),
    ] {
        let answer = bench.ask(name, RecordType::SRV).await;
        let RData::SRV(srv) = &answer.answers[0].data else {
            panic!("{answer:?}")
        };
        assert_eq!(srv.port, port, "{name}");
    }
    // The name is there, only no such record of it.
    let answer = bench.ask("web.virtual.consul.", RecordType::SRV).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty());
    for name in [
        "db.virtual.consul.",
        "db.connect.consul.",
        "db.ingress.consul.",
        "a.web.connect.consul.",
        "connect.consul.",
    ] {
        let answer = bench.ask(name, RecordType::A).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NXDomain,
            "{name}"
        );
    }
}
