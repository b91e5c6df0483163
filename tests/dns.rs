//! DNS end to end: UDP and TCP, asked of servers and of a client.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde_json::json;
use tests::{Agent, Cluster, SERVERS, eventually};

/// Long enough for any machine; a lost datagram is sent again.
const PATIENCE: Duration = Duration::from_secs(60);

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("short enough")
}

fn dns(agent: &Agent) -> SocketAddr {
    let server = agent.server_address();
    let mut address: SocketAddr = server.parse().expect("an address");
    address.set_port(8600);
    address
}

fn udp(agent: &Agent, name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    let question = question(name, kind);
    socket.send_to(&question, dns(agent)).expect("sent");
    let mut buffer = [0; 65_535];
    let (len, _) = socket.recv_from(&mut buffer).expect("an answer");
    Message::from_vec(&buffer[..len]).expect("a message")
}

fn tcp(agent: &Agent, name: &str, kind: RecordType) -> Message {
    let mut stream = TcpStream::connect(dns(agent)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let question = question(name, kind);
    let len = u16::try_from(question.len()).expect("short");
    stream.write_all(&len.to_be_bytes()).expect("sent");
    stream.write_all(&question).expect("sent");
    let mut len = [0; 2];
    stream.read_exact(&mut len).expect("an answer");
    let mut answer = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut answer).expect("an answer");
    Message::from_vec(&answer).expect("a message")
}

/// Data of the answers, sorted.
fn data(message: &Message) -> Vec<String> {
    let mut data: Vec<_> = message.answers.iter().map(|r| r.data.to_string()).collect();
    data.sort();
    data
}

#[test]
fn names_are_answered_by_servers_and_clients() {
    let mut cluster = Cluster::formed();
    let b = cluster.address("B");
    cluster["D"].start(&["-retry-join", &b]);
    cluster["D"].wait_until_up();
    cluster["D"].wait_for_leader();
    for n in 1..=2 {
        let node = json!({
            "Node": format!("web{n}"),
            "Address": format!("10.0.0.{n}"),
            "Service": {"Service": "web", "Port": 80 + n, "Tags": ["v1"]},
        });
        cluster["D"].put("/v1/catalog/register", &node.to_string());
    }
    for name in ["A", "B", "C", "D"] {
        let agent = &cluster[name];
        let found = eventually("both instances are found", || {
            let found = udp(agent, "v1.web.service.consul.", RecordType::A);
            match found.answers.len() {
                2 => Ok(found),
                other => Err(format!("{other} answers")),
            }
        });
        assert_eq!(data(&found), ["10.0.0.1", "10.0.0.2"]);
        let found = tcp(agent, "_web._tcp.service.dc1.consul.", RecordType::SRV);
        assert_eq!(
            data(&found),
            [
                "1 1 81 web1.node.dc1.consul.",
                "1 1 82 web2.node.dc1.consul."
            ]
        );
        assert_eq!(found.additionals.len(), 2);
        let none = udp(agent, "none.service.consul.", RecordType::A);
        assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
        let server = udp(agent, "b.node.consul.", RecordType::A);
        assert_eq!(data(&server), [dns(&cluster["B"]).ip().to_string()]);
        let other = udp(agent, "example.com.", RecordType::A);
        assert_eq!(other.metadata.response_code, ResponseCode::Refused);
    }
}

#[test]
fn a_server_without_a_leader_still_answers() {
    let mut cluster = Cluster::formed();
    let node = json!({"Node": "n1", "Address": "10.0.0.1"});
    cluster["A"].put("/v1/catalog/register", &node.to_string());
    cluster.wait_until_equal(&SERVERS);
    cluster["A"].kill();
    cluster["B"].kill();
    let found = udp(&cluster["C"], "n1.node.consul.", RecordType::A);
    assert_eq!(data(&found), ["10.0.0.1"]);
}
