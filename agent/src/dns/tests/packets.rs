//! What is no question, and other servers.

use std::net::SocketAddr;

use super::*;
use crate::env::{Net as _, RealNet};

#[tokio::test]
async fn what_is_no_question_gets_no_answer_or_a_short_one() {
    let bench = Bench::new("");
    let good = question("n1.node.consul.", RecordType::A).to_vec().unwrap();
    let respond = |bytes: Vec<u8>| {
        let server = bench.server.clone();
        async move {
            let answer = server.respond(&bytes, Transport::Udp).await?;
            Some(code(&Message::from_vec(&answer).unwrap()))
        }
    };
    assert_eq!(respond(vec![]).await, None);
    assert_eq!(respond(good[..11].to_vec()).await, None);
    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert_eq!(respond(answer).await, None, "answers are not answered");
    for (at, value, wanted) in [
        (5, 0, ResponseCode::FormErr),
        (5, 2, ResponseCode::FormErr),
        (4, 255, ResponseCode::FormErr),
        (12, 63, ResponseCode::FormErr),
        (7, 1, ResponseCode::FormErr),
        (2, 5 << 3, ResponseCode::NotImp),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(respond(bytes).await, Some(wanted), "{at} = {value}");
    }
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(
        code(&bench.send(&chaos, Transport::Udp).await),
        ResponseCode::Refused
    );
    let mut newer = question("n1.node.consul.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let got = bench.send(&newer, Transport::Udp).await;
    assert_eq!(code(&got), ResponseCode::BADSIG, "the same number");
    let mut update = question("n1.node.consul.", RecordType::A);
    update.metadata.op_code = OpCode::Status;
    let got = bench.send(&update, Transport::Udp).await;
    assert_eq!(code(&got), ResponseCode::NotImp);
}

#[test]
fn changed_packets_do_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let bench = Bench::new("");
    bench.web(
        "n1",
        "10.0.0.1",
        service("10.9.9.9", 80, &["v1"]),
        CheckStatus::Passing,
    );
    let mut edns = question("v1.web.service.dc1.consul.", RecordType::ANY);
    edns.set_edns(Edns::new());
    let seeds = [
        question("n1.node.consul.", RecordType::A),
        question("_web._tcp.service.consul.", RecordType::SRV),
        question("9.0.0.127.in-addr.arpa.", RecordType::PTR),
        question("7f000001.addr.consul.", RecordType::AAAA),
        question("consul.", RecordType::SOA),
        edns,
    ];
    let seeds = seeds.map(|seed| seed.to_vec().unwrap());
    crate::fuzz::run("dns", &seeds, |bytes| {
        let answer = runtime.block_on(bench.server.respond(bytes, Transport::Udp));
        let Some(answer) = answer else {
            return "no answer".to_owned();
        };
        assert!(answer.len() <= 4096 || read(bytes).is_ok());
        assert_eq!(answer[..2], bytes[..2]);
        let answer = Message::from_vec(&answer).expect("what we send can be read");
        format!("{} with {}", code(&answer), answer.answers.len().min(1))
    });
}

/// A DNS server that gives one answer to everything, or an error.
async fn recursor(code: ResponseCode) -> SocketAddr {
    let net = RealNet;
    let mut listener = net.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = net.bind_udp(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            let answer = answer(&buffer[..len], code);
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let len = stream.read_u16().await.unwrap();
            let mut question = vec![0; len.into()];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question, code);
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

fn answer(question: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut message = Message::from_vec(question).unwrap().into_response();
    message.metadata.response_code = code;
    if code == ResponseCode::NoError {
        let name = message.queries[0].name().clone();
        let data = RData::A(hickory_proto::rr::rdata::A::new(1, 2, 3, 4));
        message.add_answer(hickory_proto::rr::Record::from_rdata(name, 60, data));
    }
    message.to_vec().unwrap()
}

#[tokio::test]
async fn other_names_are_asked_of_others() {
    let broken = recursor(ResponseCode::ServFail).await;
    let good = recursor(ResponseCode::NoError).await;
    let bench = Bench::new(&format!("recursors = [\"{broken}\", \"{good}\"]"));
    for over in [Transport::Udp, Transport::Tcp] {
        let got = bench
            .send(&question("example.com.", RecordType::A), over)
            .await;
        assert_eq!(lines(&got.answers), ["example.com. 60 A 1.2.3.4"]);
    }
    let got = bench.ask("none.node.consul.", RecordType::A).await;
    assert_eq!(code(&got), ResponseCode::NXDomain);
    assert!(got.metadata.recursion_available);
    bench.web(
        "n1",
        "10.0.0.1",
        service("web.example.com", 80, &[]),
        CheckStatus::Passing,
    );
    let got = bench.ask("web.service.consul.", RecordType::A).await;
    assert_eq!(
        lines(&got.answers),
        [
            "web.example.com. 60 A 1.2.3.4",
            "web.service.consul. 0 CNAME web.example.com."
        ]
    );
    let alone = Bench::new(&format!("recursors = [\"{broken}\"]"));
    let got = alone.ask("example.com.", RecordType::A).await;
    assert_eq!(code(&got), ResponseCode::ServFail);
}
