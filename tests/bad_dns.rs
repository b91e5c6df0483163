//! What a stranger can send to the DNS port: FORMERR, NOTIMP, REFUSED or silence, and the next question is answered.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tests::{Cluster, Random, eventually, seed};

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(60);

const FORMERR: u8 = 1;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing: an answer could be the start of a loop, or there is nobody whom it could be for.
    Silence,
    Code(u8),
}

use Fate::{Code, Silence};

/// A header: id, flags, and how many questions, answers, authorities and additionals are said to follow.
fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let words = [0x4242, flags].into_iter().chain(counts);
    words.flat_map(u16::to_be_bytes).collect()
}

fn name(labels: &[&[u8]]) -> Vec<u8> {
    let mut name = Vec::new();
    for label in labels {
        name.push(u8::try_from(label.len()).expect("short"));
        name.extend(*label);
    }
    name.push(0);
    name
}

const TYPE_A: [u8; 4] = [0, 1, 0, 1];

/// A question as it should be.
fn good() -> Vec<u8> {
    let name = name(&[b"a", b"node", b"consul"]);
    [header(0x0100, [1, 0, 0, 0]), name, TYPE_A.to_vec()].concat()
}

fn message(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    [header(flags, counts), rest.to_vec()].concat()
}

/// Messages that are wrong, each in its own way, and what becomes of them.
fn wrong() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let one = [1, 0, 0, 0];
    let question = |name: &[u8]| message(0x0100, one, &[name, &TYPE_A].concat());
    let opcode = |opcode: u16| {
        let mut packet = good();
        packet[2..4].copy_from_slice(&(opcode << 11).to_be_bytes());
        packet
    };
    let sixty_three = [b'a'; 63];
    let long = name(&[&sixty_three[..]; 5]);
    let plain = name(&[b"a", b"node", b"consul"]);
    let opt = |rest: &[u8]| {
        let body = [&plain[..], &TYPE_A, &[0, 0, 41, 0x10, 0, 0, 0, 0, 0], rest].concat();
        message(0x0100, [1, 0, 0, 1], &body)
    };
    vec![
        ("nothing", vec![], Silence),
        ("a byte", vec![0x42], Silence),
        ("half a header", good()[..11].to_vec(), Silence),
        (
            "an answer",
            message(0x8180, one, &[&plain[..], &TYPE_A].concat()),
            Silence,
        ),
        ("a header alone", good()[..12].to_vec(), Code(FORMERR)),
        ("half a name", good()[..20].to_vec(), Code(FORMERR)),
        (
            "no type",
            good()[..good().len() - 3].to_vec(),
            Code(FORMERR),
        ),
        (
            "no question",
            message(0x0100, [0, 0, 0, 0], &[]),
            Code(FORMERR),
        ),
        (
            "two questions",
            message(
                0x0100,
                [2, 0, 0, 0],
                &[&plain[..], &TYPE_A, &plain, &TYPE_A].concat(),
            ),
            Code(FORMERR),
        ),
        (
            "65,535 questions",
            message(0x0100, [0xffff; 4], &[&plain[..], &TYPE_A].concat()),
            Code(FORMERR),
        ),
        (
            "answers that are not there",
            message(0x0100, [1, 9, 9, 9], &[&plain[..], &TYPE_A].concat()),
            Code(FORMERR),
        ),
        (
            "a name that points to itself",
            question(&[0xc0, 12]),
            Code(FORMERR),
        ),
        (
            "a name that points ahead",
            question(&[0xc0, 40]),
            Code(FORMERR),
        ),
        (
            "a name that points behind the end",
            question(&[0xff, 0xff]),
            Code(FORMERR),
        ),
        (
            "two names that point to each other",
            question(&[1, b'a', 0xc0, 12]),
            Code(FORMERR),
        ),
        (
            "a label of a reserved kind",
            question(&[0x80, 0]),
            Code(FORMERR),
        ),
        (
            "a label longer than the message",
            question(&[63, b'a', 0]),
            Code(FORMERR),
        ),
        ("a name of 321 bytes", question(&long), Code(FORMERR)),
        ("the root", question(&[0]), Code(REFUSED)),
        (
            "bytes that are no text",
            question(&name(&[&[0xff, 0xfe], b"node", b"consul"])),
            Code(NXDOMAIN),
        ),
        (
            "a zero and a dot in a label",
            question(&name(&[b"a\0.b", b"node", b"consul"])),
            Code(NXDOMAIN),
        ),
        ("IQUERY", opcode(1), Code(NOTIMP)),
        ("STATUS", opcode(2), Code(NOTIMP)),
        ("NOTIFY", opcode(4), Code(NOTIMP)),
        ("UPDATE", opcode(5), Code(NOTIMP)),
        ("opcode 15", opcode(15), Code(NOTIMP)),
        (
            "EDNS with an option longer than itself",
            opt(&[0, 4, 0, 10, 0xff, 0xff]),
            Code(FORMERR),
        ),
        ("EDNS that is cut", opt(&[0xff, 0xff]), Code(FORMERR)),
        (
            "a transfer of the zone",
            message(0x0100, one, &[&plain[..], &[0, 252, 0, 1]].concat()),
            Code(NOTIMP),
        ),
        (
            "another class",
            message(0x0100, one, &[&plain[..], &[0, 1, 0, 3]].concat()),
            Code(REFUSED),
        ),
    ]
}

fn with_id(mut packet: Vec<u8>, id: u16) -> Vec<u8> {
    let len = packet.len().min(2);
    packet[..len].copy_from_slice(&id.to_be_bytes()[..len]);
    packet
}

struct Asker {
    socket: UdpSocket,
    next: u16,
}

impl Asker {
    fn of(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        Self { socket, next: 1 }
    }

    fn send(&mut self, packet: Vec<u8>) -> u16 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.socket.send(&with_id(packet, id)).expect("sent");
        id
    }

    /// Whatever comes until a good question is answered: datagrams of one socket are answered in their order.
    #[track_caller]
    fn until_answered(&mut self, what: &str) -> Vec<Vec<u8>> {
        let id = self.send(good());
        let mut others = Vec::new();
        let mut buffer = [0; 65_535];
        loop {
            let len = self.socket.recv(&mut buffer);
            let len = len.unwrap_or_else(|error| panic!("after {what}, no answer: {error}"));
            let answer = buffer[..len].to_vec();
            assert!(len >= 12 && answer[2] & 0x80 != 0, "{what}: {answer:?}");
            if answer[..2] == id.to_be_bytes() {
                assert_eq!(answer[3] & 0x0f, 0, "after {what}");
                assert_eq!(answer[7], 1, "after {what}: one address");
                return others;
            }
            others.push(answer);
        }
    }
}

/// Sends over TCP; the answer, or nothing when the server hangs up.
fn over_tcp(server: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let len = u16::try_from(packet.len()).expect("short");
    let framed = [&len.to_be_bytes()[..], packet].concat();
    stream.write_all(&framed).expect("sent");
    answer(&mut stream)
}

fn answer(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut len = [0; 2];
    match stream.read_exact(&mut len) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            ) =>
        {
            return None;
        }
        Err(error) => panic!("no answer: {error}"),
    }
    let mut answer = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut answer).expect("a whole answer");
    Some(answer)
}

fn fate(answer: Option<&Vec<u8>>) -> Fate {
    answer.map_or(Silence, |answer| Code(answer[3] & 0x0f))
}

/// One agent that serves alone.
fn server() -> (Cluster, SocketAddr) {
    let mut cluster = Cluster::new();
    cluster["A"].start(&["-dev"]);
    cluster["A"].wait_until_up();
    let server = cluster.block.socket(1, 8600);
    eventually("the node has a name", || match over_tcp(server, &good()) {
        Some(answer) if answer[7] == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    (cluster, server)
}

#[test]
fn wrong_messages_are_refused_or_dropped_and_the_next_question_is_answered() {
    let (cluster, server) = server();
    let mut asker = Asker::of(server);
    for (what, packet, wanted) in wrong() {
        let id = asker.send(packet.clone());
        let others = asker.until_answered(what);
        assert!(others.len() <= 1, "{what}: {others:?}");
        assert_eq!(fate(others.first()), wanted, "{what} over UDP");
        for answer in &others {
            assert_eq!(answer[..2], id.to_be_bytes(), "{what}: whose answer is it?");
        }
        let answer = over_tcp(server, &packet);
        assert_eq!(fate(answer.as_ref()), wanted, "{what} over TCP");
        assert_eq!(
            fate(over_tcp(server, &good()).as_ref()),
            Code(0),
            "after {what}"
        );
    }
    assert!(cluster["A"].is_running());
    assert_eq!(cluster["A"].count("panicked"), 0);
}

#[test]
fn connections_that_break_off_or_say_half_of_it_hurt_nobody() {
    let (cluster, server) = server();
    for half in [
        &[0][..],
        &[0, 0],
        &[0, 40],
        &[0xff, 0xff, 1, 2, 3],
        &[0, 12, 0x42],
    ] {
        let mut stream = TcpStream::connect(server).expect("a connection");
        stream.write_all(half).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        assert_eq!(answer(&mut stream), None, "{half:?}");
    }
    // Byte by byte, and two questions at once: both are questions like any other.
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let framed = [
        &[0, u8::try_from(good().len()).expect("short")][..],
        &good(),
    ]
    .concat();
    for byte in &framed {
        stream.write_all(&[*byte]).expect("sent");
    }
    assert_eq!(fate(answer(&mut stream).as_ref()), Code(0));
    stream.write_all(&framed.repeat(2)).expect("sent");
    for _ in 0..2 {
        assert_eq!(fate(answer(&mut stream).as_ref()), Code(0));
    }
    assert!(cluster["A"].is_running());
}

/// Whoever opens connections and says nothing takes places, but not for ever, and nobody's who asks by datagram.
#[test]
fn so_many_connections_are_served_and_more_are_closed_at_once() {
    // CONNECTIONS_MAX of the server.
    const PLACES: usize = 1024;
    let (cluster, server) = server();
    let connect = || {
        let stream = TcpStream::connect(server).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream
    };
    let ask = |stream: &mut TcpStream| {
        let len = u8::try_from(good().len()).expect("short");
        // A connection that is closed already may say so here or below.
        let _ = stream.write_all(&[&[0, len][..], &good()].concat());
        answer(stream)
    };
    let mut held: Vec<_> = (0..PLACES).map(|_| connect()).collect();
    assert_eq!(ask(&mut connect()), None, "there is no place for one more");
    Asker::of(server).until_answered("held connections");
    // Those who say nothing for a while are closed, the first of them first.
    assert_eq!(answer(&mut held[0]), None);
    eventually("there are places again", || {
        ask(&mut connect()).map(drop).ok_or("no answer")
    });
    assert!(cluster["A"].is_running());
}

/// Messages of all kinds with bytes changed, cut and added.
#[test]
fn thousands_of_broken_messages_do_no_harm() {
    const ROUNDS: usize = 100;
    // So many at a time stay within a socket's buffer.
    const AT_ONCE: usize = 30;
    let (cluster, server) = server();
    let seed = seed();
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let mut asker = Asker::of(server);
    let mut templates: Vec<_> = wrong().into_iter().map(|(_, packet, _)| packet).collect();
    templates.push(good());
    for _ in 0..ROUNDS {
        let mut last = Vec::new();
        for _ in 0..AT_ONCE {
            let mut packet = random.pick(&templates).clone();
            for _ in 0..=random.below(4) {
                let at = random.below(packet.len() as u64 + 1) as usize;
                let byte = random.below(256) as u8;
                match random.below(3) {
                    0 => packet.truncate(at),
                    1 => packet.insert(at, byte),
                    _ => packet.iter_mut().skip(at).take(1).for_each(|of| *of = byte),
                }
            }
            asker.send(packet.clone());
            last = packet;
        }
        let others = asker.until_answered("broken messages");
        assert!(others.len() <= AT_ONCE, "more answers than messages");
        over_tcp(server, &last);
    }
    assert_eq!(fate(over_tcp(server, &good()).as_ref()), Code(0));
    assert!(cluster["A"].is_running());
    assert_eq!(cluster["A"].count("panicked"), 0);
}
