//! Many clients that wait for news of one service, of which an instance keeps failing and recovering.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Cluster, SERVERS, eventually};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::core::{Usage, memory};
use crate::table::{print, row};
use crate::{median_of, servers, setting};

/// Instances of the service that is watched.
const INSTANCES: usize = 10;

/// Clients that watch other services, which nothing happens to.
const BYSTANDERS: usize = 500;

/// Services that these watch.
const OTHERS: usize = 10;

/// How often the instance changes.
const FLAPS: usize = 11;

/// Longest that the last of them may sleep after a change: as with keys.
const AWAKE_MAX_MS: f64 = 100.0;

/// Memory of one, as with keys.
const KILOBYTES_MAX: f64 = 4.0;

/// Servers that used less of a processor than this in [`LOOK`] have dealt with what they were sent.
const QUIET: Duration = Duration::from_millis(30);
const LOOK: Duration = Duration::from_millis(300);

/// A watcher's news: when it had a whole answer, and that answer's index.
type News = mpsc::UnboundedSender<(Instant, u64)>;

/// What was seen.
struct Seen {
    /// Until the last one had its answer, in milliseconds, of each change.
    awake: Vec<f64>,
    /// Of all servers, in milliseconds, of each change.
    cpu: Vec<f64>,
    /// Bytes of all servers.
    memory: f64,
    /// Answers that those had whom nothing concerned.
    strangers: usize,
}

pub(super) fn run() -> bool {
    let count = setting("BENCH_WATCHERS", 5000) as usize;
    let Seen {
        awake,
        cpu,
        memory,
        strangers,
    } = measure(count);
    let (awake, cpu) = (median_of(awake), median_of(cpu));
    let rows = [
        row(
            "all awake after a change (median)",
            "ms",
            AWAKE_MAX_MS,
            awake,
        ),
        row("CPU of all servers for a change", "ms", f64::NAN, cpu),
        row(
            "the same for each watcher, its next question included",
            "us",
            f64::NAN,
            cpu * 1e3 / count as f64,
        ),
        row(
            "memory of a watcher",
            "KB",
            KILOBYTES_MAX,
            memory / 1024.0 / count as f64,
        ),
        row(
            format!("watchers of other services woken, of {BYSTANDERS}"),
            "",
            0.0,
            strangers as f64,
        ),
    ];
    let title = format!("{count} watchers of one service, on three servers");
    print(&title, &rows)
}

fn measure(count: usize) -> Seen {
    let cluster = servers();
    for other in 0..OTHERS {
        set(&cluster, &format!("other{other}"), 0, "passing");
    }
    for instance in 0..INSTANCES {
        set(&cluster, "watched", instance, "passing");
    }
    cluster.wait_until_equal(&SERVERS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (others, mut of_others) = mpsc::unbounded_channel();
    let watch_others = |n: usize| format!("other{}", n % OTHERS);
    start(&runtime, &cluster, BYSTANDERS, watch_others, &others);
    for _ in 0..BYSTANDERS {
        runtime.block_on(of_others.recv()).expect("all look once");
    }
    settle(&cluster);
    let before = memory_of(&cluster);
    let (own, mut news) = mpsc::unbounded_channel();
    start(&runtime, &cluster, count, |_| "watched".to_owned(), &own);
    all_awake(&runtime, &mut news, count);
    settle(&cluster);
    let mut seen = Seen {
        awake: Vec::new(),
        cpu: Vec::new(),
        memory: memory_of(&cluster) - before,
        strangers: 0,
    };
    for flap in 0..FLAPS {
        let status = ["critical", "passing"][flap % 2];
        let (before, begun) = (used(&cluster), Instant::now());
        let last = std::thread::scope(|scope| {
            scope.spawn(|| set(&cluster, "watched", 0, status));
            all_awake(&runtime, &mut news, count)
        });
        seen.awake.push((last - begun).as_secs_f64() * 1e3);
        // All are waiting again then.
        settle(&cluster);
        let cpu = used(&cluster) - before;
        seen.cpu.push(cpu.as_secs_f64() * 1e3);
        assert!(news.try_recv().is_err(), "one change wakes nobody twice");
    }
    while of_others.try_recv().is_ok() {
        seen.strangers += 1;
    }
    seen
}

/// Registers an instance with its check.
fn set(cluster: &Cluster, service: &str, instance: usize, status: &str) {
    let body = json!({
        "Node": format!("n{instance}"),
        "Address": format!("10.0.0.{instance}"),
        "Service": {"ID": service, "Service": service, "Port": 8080},
        "Check": {
            "CheckID": format!("service:{service}"),
            "Name": "alive",
            "ServiceID": service,
            "Status": status,
        },
    });
    cluster["A"].put("/v1/catalog/register", &body.to_string());
}

/// Lets clients watch, spread over the servers. Each reports its first look at once.
fn start(
    runtime: &Runtime,
    cluster: &Cluster,
    count: usize,
    service: impl Fn(usize) -> String,
    news: &News,
) {
    for number in 0..count {
        let server = cluster[SERVERS[number % SERVERS.len()]].http().address;
        runtime.spawn(watch(server, service(number), news.clone()));
    }
}

/// Waits until each of them has had an answer.
fn all_awake(
    runtime: &Runtime,
    news: &mut mpsc::UnboundedReceiver<(Instant, u64)>,
    count: usize,
) -> Instant {
    runtime.block_on(async {
        let mut last = None;
        let mut index = None;
        for _ in 0..count {
            let (at, seen) = news.recv().await.expect("watchers do not end");
            assert_eq!(*index.get_or_insert(seen), seen, "all see the same change");
            last = last.max(Some(at));
        }
        last.expect("there are some")
    })
}

/// Asks, waits, asks again with the new index.
async fn watch(server: SocketAddr, service: String, news: News) {
    let mut index = 0;
    let mut stream =
        BufReader::with_capacity(512, TcpStream::connect(server).await.expect("a server"));
    loop {
        let question = format!(
            "GET /v1/health/service/{service}?passing&index={index}&wait=10m HTTP/1.1\r\nHost: {server}\r\n\r\n"
        );
        let sent = stream.get_mut().write_all(question.as_bytes()).await;
        sent.expect("a server");
        let Some(found) = answer(&mut stream).await else {
            // The servers are gone: the measurement is over.
            return;
        };
        index = found;
        if news.send((Instant::now(), index)).is_err() {
            return;
        }
    }
}

/// The index of a whole answer.
async fn answer(stream: &mut BufReader<TcpStream>) -> Option<u64> {
    let (mut index, mut length) = (None, None);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let text = line.trim_end().to_ascii_lowercase();
        if let Some(status) = text.strip_prefix("http/1.1 ") {
            assert!(status.starts_with("200"), "{text}");
        } else if text.is_empty() {
            break;
        } else if let Some((name, value)) = text.split_once(": ") {
            match name {
                "x-consul-index" => index = value.parse().ok(),
                "content-length" => length = value.parse().ok(),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length.expect("a body of a known length")];
    stream.read_exact(&mut body).await.ok()?;
    Some(index.expect("an index"))
}

fn used(cluster: &Cluster) -> Duration {
    let used = |name: &str| Usage::of(cluster[name].pid()).cpu();
    SERVERS.into_iter().map(used).sum()
}

fn memory_of(cluster: &Cluster) -> f64 {
    let memory = |name: &str| memory(cluster[name].pid()) as f64;
    SERVERS.into_iter().map(memory).sum()
}

fn settle(cluster: &Cluster) {
    eventually("the servers have nothing to do", || {
        let before = used(cluster);
        std::thread::sleep(LOOK);
        match used(cluster) - before {
            used if used < QUIET => Ok(()),
            used => Err(format!("{used:?}")),
        }
    });
}
