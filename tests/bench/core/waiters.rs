//! Many blocking queries on one key: what one costs while it waits, and how soon all are awake.

use std::time::{Duration, Instant};

use tests::{Agent, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::usage::{Usage, memory};

/// How many wait.
pub(super) const WAITERS: usize = 10_000;

/// A server that used less of a processor than this in [`LOOK`] has dealt with what it was sent.
const QUIET: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(300);

/// What the waiters cost.
pub(super) struct Waited {
    /// Bytes of the server's memory for each, its connection included.
    pub(super) bytes_each: f64,
    /// From sending the write until the last one had its answer, in milliseconds.
    pub(super) last_awake_ms: f64,
}

/// Lets them wait on the leader, then writes.
pub(super) fn measure(leader: &Agent) -> Waited {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let http = leader.http();
    http.put("/v1/kv/watched", "before").expect("an answer");
    let index = http.get("/v1/kv/watched").expect("an answer").index();
    let request = format!(
        "GET /v1/kv/watched?index={index}&wait=10m HTTP/1.1\r\nHost: {}\r\n\r\n",
        http.address
    );
    settle(leader);
    let before = memory(leader.pid());
    let mut waiting = JoinSet::new();
    runtime.block_on(async {
        for _ in 0..WAITERS {
            let mut stream = TcpStream::connect(http.address).await.expect("a server");
            stream
                .write_all(request.as_bytes())
                .await
                .expect("a server");
            waiting.spawn(async move {
                let mut answer = [0; 1024];
                let read = stream.read(&mut answer).await.expect("an answer");
                assert!(answer[..read].starts_with(b"HTTP/1.1 200 "), "woken well");
                Instant::now()
            });
        }
    });
    settle(leader);
    let after = memory(leader.pid());
    let start = Instant::now();
    let writer = std::thread::spawn(move || http.put("/v1/kv/watched", "after"));
    let last = runtime.block_on(async {
        let mut last = start;
        while let Some(awake) = waiting.join_next().await {
            last = last.max(awake.expect("no waiter panics"));
        }
        last
    });
    let written = writer.join().expect("no panic").expect("an answer");
    assert_eq!(written.status, 200, "{}", written.text());
    Waited {
        bytes_each: after.saturating_sub(before) as f64 / WAITERS as f64,
        last_awake_ms: (last - start).as_secs_f64() * 1e3,
    }
}

fn settle(server: &Agent) {
    let pid = server.pid();
    eventually("the server has nothing to do", || {
        let before = Usage::of(pid);
        std::thread::sleep(LOOK);
        let used = (Usage::of(pid) - &before).cpu();
        if used < QUIET {
            Ok(())
        } else {
            Err(format!("{used:?}"))
        }
    });
}
