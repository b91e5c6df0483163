//! A peer that speaks another version of a protocol, over raw sockets: one line in the log, the connection is closed, and
//! nothing has changed.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use tests::{Agent, Cluster, DEADLINE, SERVERS, eventually};
use uuid::Uuid;

/// How connections between nodes begin, with the version that is spoken.
const MAGIC: [u8; 4] = *b"ccr\x02";

const CALL: u8 = 1;
const RAFT: u8 = 2;
const APPEND: u8 = 3;
const SNAPSHOT: u8 = 4;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("a socket that is open");
    stream
}

/// A connection that is for something.
fn open(address: SocketAddr, purpose: u8) -> TcpStream {
    let mut stream = connect(address);
    let preamble = [&MAGIC[..], &[purpose]].concat();
    stream.write_all(&preamble).expect("it reads");
    stream
}

fn send_frame(stream: &mut TcpStream, body: &[u8]) {
    let length = u32::try_from(body.len()).expect("short").to_le_bytes();
    let frame = [&length[..], body].concat();
    stream.write_all(&frame).expect("it reads");
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).expect("an answer");
    body
}

/// A call of a method, for whose answer there is a minute.
fn call(method: u8, body: &[u8]) -> Vec<u8> {
    let head = [
        &1_u64.to_le_bytes()[..],
        &[method],
        &60_000_u32.to_le_bytes(),
    ];
    [&head.concat(), body].concat()
}

/// Waits until the other side closes, without another word.
#[track_caller]
fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty(), "answered with {rest:?}"),
        // Closed before it had read everything.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// What must not change by what a stranger says.
fn state(agent: &Agent) -> Result<BTreeMap<String, String>, String> {
    let mut state = BTreeMap::new();
    for (block, keys) in [
        (
            "raft",
            &[
                "term",
                "state",
                "last_log_index",
                "commit_index",
                "applied_index",
                "latest_configuration",
                "raft_id",
            ][..],
        ),
        ("consul", &["cluster_id", "leader_addr"]),
        ("serf_lan", &["members", "failed", "left"]),
    ] {
        for key in keys {
            state.insert((*key).to_owned(), agent.info(block, key)?);
        }
    }
    let keys = agent.http().get("/v1/kv/?recurse&stale");
    let keys = keys.map_err(|error| error.to_string())?;
    state.insert("kv".to_owned(), keys.text());
    Ok(state)
}

/// The state of an agent that has nothing to do.
fn at_rest(agent: &Agent) -> BTreeMap<String, String> {
    eventually("nothing changes by itself", || {
        let before = state(agent)?;
        sleep(Duration::from_millis(300));
        match state(agent)? {
            after if after == before => Ok(after),
            after => Err(format!("{before:?}, then {after:?}")),
        }
    })
}

/// Who a leader says that it is, and whom it means: the first thing in every raft message.
fn route(to: &Agent, from: &Agent) -> Vec<u8> {
    let number = |agent: &Agent| {
        let id = agent.info("raft", "raft_id").expect("it is up");
        id.parse::<u64>().expect("a number").to_le_bytes()
    };
    let cluster = to.info("consul", "cluster_id").expect("it is up");
    let cluster: Uuid = cluster.parse().expect("an id");
    [&cluster.as_bytes()[..], &number(from), &number(to)].concat()
}

#[test]
fn a_connection_of_another_version() {
    let cluster = Cluster::formed();
    cluster["A"].put("/v1/kv/key", "value");
    let before = SERVERS.map(|name| at_rest(&cluster[name]));
    let address = cluster.block.socket(2, 8300);
    for (version, purpose) in [(1, CALL), (3, RAFT), (4, APPEND), (5, SNAPSHOT)] {
        // It comes again: that is not said again.
        for _ in 0..3 {
            let mut stream = connect(address);
            let preamble = [b'c', b'c', b'r', version, purpose];
            stream.write_all(&preamble).expect("it reads");
            closed(stream);
        }
        let line = format!(
            "protocol version {version}, this node speaks 2: run the same version everywhere"
        );
        cluster["B"].wait_for_line(&line);
        assert_eq!(cluster["B"].count(&line), 1);
    }
    assert_eq!(SERVERS.map(|name| at_rest(&cluster[name])), before);
}

#[test]
fn a_request_of_another_version() {
    let cluster = Cluster::formed();
    cluster["A"].put("/v1/kv/key", "value");
    let before = SERVERS.map(|name| at_rest(&cluster[name]));
    let mut stream = open(cluster.block.socket(2, 8300), CALL);
    send_frame(&mut stream, &call(0, &[9, 2]));
    closed(stream);
    cluster["B"].wait_for_line("a request in format version 9, this node reads 1");
    // One of this version that this node does not know is refused, for others on that connection may be known.
    let mut stream = open(cluster.block.socket(2, 8300), CALL);
    send_frame(&mut stream, &call(0, &[1, 120]));
    let answer = read_frame(&mut stream);
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.contains("the request does not decode"), "{text}");
    // Asked who leads (`Request::Peers`), it answers as before.
    send_frame(&mut stream, &call(0, &[1, 2]));
    read_frame(&mut stream);
    assert_eq!(SERVERS.map(|name| at_rest(&cluster[name])), before);
}

#[test]
fn raft_messages_of_another_version() {
    let cluster = Cluster::formed();
    cluster["A"].put("/v1/kv/key", "value");
    let leader = cluster.leader_among(&SERVERS);
    let (number, name) = [(1, "A"), (2, "B"), (3, "C")]
        .into_iter()
        .find(|(_, name)| **name != *leader)
        .expect("two of them follow");
    let (follower, address) = (&cluster[name], cluster.block.socket(number, 8300));
    let before = SERVERS.map(|name| at_rest(&cluster[name]));
    let route = route(follower, &cluster[&leader]);

    for (method, version) in [(1, 9), (2, 10), (3, 11)] {
        let mut stream = open(address, RAFT);
        let message = [&route[..], &[version, 0]].concat();
        send_frame(&mut stream, &call(method, &message));
        closed(stream);
        follower.wait_for_line(&format!("a raft message: unknown format version {version}"));
    }
    for (purpose, message, version) in [
        (APPEND, &[2, 0, 0, 0, 12, 0][..], 12),
        (SNAPSHOT, &[13, 0], 13),
    ] {
        let mut stream = open(address, purpose);
        send_frame(&mut stream, &route);
        assert!(!read_frame(&mut stream).is_empty(), "it is admitted");
        send_frame(&mut stream, message);
        closed(stream);
        follower.wait_for_line(&format!("a raft message: unknown format version {version}"));
    }
    assert_eq!(SERVERS.map(|name| at_rest(&cluster[name])), before);
}

#[test]
fn gossip_of_another_version() {
    let cluster = Cluster::formed();
    cluster["A"].put("/v1/kv/key", "value");
    let before = SERVERS.map(|name| at_rest(&cluster[name]));
    let address = cluster.block.socket(2, 8301);
    let socket = UdpSocket::bind((cluster.block.ip(200), 0)).expect("free");
    for _ in 0..3 {
        let datagram = [0xC7, 0x5E, 2, 1, 2, 3];
        socket.send_to(&datagram, address).expect("sent");
    }
    let line = "version 2 of the gossip protocol is not spoken here";
    cluster["B"].wait_for_line(line);
    let mut stream = connect(address);
    stream
        .write_all(&[0xC7, b'g', b's', b'p', 3, 1, 0, 0, 0, 0])
        .expect("it reads");
    closed(stream);
    cluster["B"].wait_for_line("version 3 of the gossip protocol is not spoken here");
    assert_eq!(SERVERS.map(|name| at_rest(&cluster[name])), before);
    assert_eq!(cluster["B"].count(line), 1);
}
