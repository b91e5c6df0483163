//! DNS under load: 8 clients, each with many questions under way, as dnsperf asks.
//!
//! The load is our own and runs on the same processors, so that what it costs counts against the server.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tests::Cluster;

use super::core::Usage;

const CLIENTS: usize = 8;

/// Questions that a client has under way.
const UNDER_WAY: usize = 12;

/// Instances of the service.
const INSTANCES: usize = 10;

/// Queries a second of Consul 1.19 on such a machine (dnsperf, 8 clients, 10 instances).
const CONSUL: f64 = 14_912.0;

/// Ours must answer so many times more.
const GOAL: f64 = 5.0;

/// After this without an answer a client asks anew: datagrams get lost.
const LOST_AFTER: Duration = Duration::from_millis(500);

/// Prints what was reached; whether it is the goal.
pub(crate) fn run() -> bool {
    let cluster = Cluster::bootstrapped();
    let agent = &cluster["A"];
    for n in 0..INSTANCES {
        let node = serde_json::json!({
            "Node": format!("web{n}"),
            "Address": format!("10.0.0.{n}"),
            "Service": {"Service": "web", "Port": 80},
        });
        agent.put("/v1/catalog/register", &node.to_string());
    }
    let mut address: SocketAddr = agent.server_address().parse().expect("an address");
    address.set_port(8600);
    let pid = agent.pid();
    let time = Duration::from_secs(super::setting("BENCH_DNS_SECONDS", 10));
    println!(
        "{:<12} {:>12} {:>8} {:>14}",
        "question", "queries/s", "x Consul", "CPU a query"
    );
    let mut reached = true;
    for (kind, counts) in [(RecordType::A, true), (RecordType::SRV, false)] {
        let before = Usage::of(pid);
        let rate = load(address, kind, time);
        let cpu = (Usage::of(pid) - &before).cpu();
        let times = rate / CONSUL;
        let each = cpu.as_secs_f64() * 1e6 / (rate * time.as_secs_f64()).max(1.0);
        println!(
            "{:<12} {rate:>12.0} {times:>8.1} {each:>11.1} us",
            kind.to_string()
        );
        reached &= !counts || times >= GOAL;
    }
    reached
}

/// Answers a second.
fn load(server: SocketAddr, kind: RecordType, time: Duration) -> f64 {
    let name = Name::from_ascii("web.service.consul.").expect("a name");
    let mut question = Message::query();
    question.add_query(Query::query(name, kind));
    let question = question.to_vec().expect("short enough");
    let (over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let answered = client(server, &question, &over);
                answers.fetch_add(answered, Ordering::Relaxed);
            });
        }
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    answers.into_inner() as f64 / started.elapsed().as_secs_f64()
}

fn client(server: SocketAddr, question: &[u8], over: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("a route");
    socket.set_read_timeout(Some(LOST_AFTER)).expect("a time");
    let (mut answers, mut buffer) = (0, [0; 4096]);
    let fill = || {
        for _ in 0..UNDER_WAY {
            // What is lost is asked again.
            let _ = socket.send(question);
        }
    };
    fill();
    while !over.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(len) => {
                assert!(len > question.len(), "an answer without records");
                answers += 1;
                let _ = socket.send(question);
            }
            Err(_) => fill(),
        }
    }
    answers
}
