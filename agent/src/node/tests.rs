//! Real nodes on loopback, in one process.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::config::{self, FlagSettings, Format, Machine, SourceFile};
use crate::gossip::Status;
use crate::raft::Role;
use crate::state::Query;
use crate::state::{Command, KvCommand, KvOp, KvWrite, Outcome, Session};

/// Bounds a hang; nothing here depends on how long things take.
const HANG: Duration = Duration::from_secs(60);

/// Addresses 127.77.X.1 and up, X a test's own.
static NEXT: AtomicU8 = AtomicU8::new(1);

struct Bed {
    net: u8,
    dir: TempDir,
}

impl Bed {
    fn new() -> Self {
        Self {
            net: NEXT.fetch_add(1, Ordering::Relaxed),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Servers are numbered below 9, clients from 9 on.
    fn config(&self, n: u8, more: &str) -> Config {
        let data = self.dir.path().join(format!("n{n}"));
        let server = n < 9;
        let text = format!(
            r#"{{"node_name": "n{n}", "server": {server}, "bind_addr": "127.77.{}.{n}", "data_dir": {data:?} {more}}}"#,
            self.net
        );
        let file = SourceFile {
            name: "test.json".into(),
            format: Format::Json,
            text,
        };
        let machine = Machine {
            hostname: "host".into(),
            private_ipv4: vec![],
            public_ipv6: vec![],
            temporary_dir: self.dir.path().join("tmp"),
        };
        config::load(&[file], &FlagSettings::default(), &machine)
            .unwrap()
            .config
    }

    async fn start(&self, n: u8, more: &str) -> Node {
        start(
            Env::real(),
            self.config(n, more),
            tokio::runtime::Handle::current(),
        )
        .await
        .unwrap()
    }

    fn address(&self, n: u8) -> String {
        format!("127.77.{}.{n}", self.net)
    }
}

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

fn status(node: &Node) -> crate::raft::Status {
    node.inner.server.as_ref().unwrap().consensus.status()
}

async fn put(node: &Node, key: &str) -> Result<Outcome, Error> {
    let write = KvWrite {
        value: key.to_owned().into(),
        flags: 0,
    };
    node.propose(Command::Kv(KvCommand {
        key: key.into(),
        op: KvOp::Set(write),
    }))
    .await
}

async fn has(node: &Node, key: &str, consistency: Consistency) -> bool {
    let options = ReadOptions {
        consistency,
        ..ReadOptions::default()
    };
    let reply = node
        .read(Query::KvGet { key: key.into() }, options)
        .await
        .unwrap();
    matches!(reply.answer, Answer::Kv(Some(_)))
}

async fn voters(node: &Node, n: usize) {
    until(&format!("{n} voters"), async || {
        let status = status(node);
        status.voters.len() == n && !status.joint && status.membership_committed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manual_sequence() {
    let bed = Bed::new();
    let a = bed.start(1, r#", "bootstrap": true"#).await;
    until("a leads", async || status(&a).is_leader()).await;
    assert_eq!(put(&a, "one").await.unwrap(), Outcome::Bool(true));
    let (b, c) = (bed.start(2, "").await, bed.start(3, "").await);
    assert_eq!(status(&b).role, Role::Learner);
    for n in [2, 3] {
        assert_eq!(a.join(&bed.address(n)).await.unwrap(), 1);
    }
    voters(&a, 3).await;
    for follower in [&b, &c] {
        assert_eq!(
            put(follower, "through a follower").await.unwrap(),
            Outcome::Bool(true)
        );
        for consistency in [Consistency::Default, Consistency::Consistent] {
            assert!(has(follower, "one", consistency).await);
        }
        until("the write is there", async || {
            has(follower, "one", Consistency::Stale).await
        })
        .await;
    }
    a.leave().await.unwrap();
    assert_eq!(*a.phase().borrow(), Phase::Left);
    drop(a);
    until("b or c leads", async || {
        status(&b).is_leader() || status(&c).is_leader()
    })
    .await;
    put(&b, "while a is away").await.unwrap();
    until("a has left", async || {
        b.members()
            .iter()
            .any(|m| m.name == "n1" && m.status == Status::Left)
    })
    .await;

    let a = bed.start(1, "").await;
    assert!(!status(&a).is_leader());
    a.join(&bed.address(2)).await.unwrap();
    voters(&b, 3).await;
    until("a has what was written", async || {
        has(&a, "while a is away", Consistency::Stale).await
    })
    .await;
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_voters_is_finished_by_whoever_began_it() {
    let bed = Bed::new();
    let a = bed.start(1, r#", "bootstrap": true"#).await;
    until("a leads", async || status(&a).is_leader()).await;
    let (b, c) = (bed.start(2, "").await, bed.start(3, "").await);
    for n in [2, 3] {
        assert_eq!(a.join(&bed.address(n)).await.unwrap(), 1);
    }
    let consensus = &a.inner.server.as_ref().unwrap().consensus;
    let id = c
        .inner
        .server
        .as_ref()
        .unwrap()
        .consensus
        .identity()
        .raft_id();
    for _ in 0..5 {
        // The leader takes it in again each time, for it is alive.
        voters(&a, 3).await;
        let finish = async {
            loop {
                if status(&a).joint {
                    consensus.finish_joint().await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            removed = consensus.remove(id) => removed.unwrap(),
            () = finish => {}
        }
    }
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_that_expect_three_form_one_cluster() {
    let bed = Bed::new();
    let join = format!(
        r#", "bootstrap_expect": 3, "retry_interval": "100ms", "retry_join": ["{}", "{}", "{}"]"#,
        bed.address(1),
        bed.address(2),
        bed.address(3)
    );
    let mut nodes = vec![];
    for n in 1..=3 {
        nodes.push(bed.start(n, &join).await);
    }
    put(&nodes[2], "first").await.unwrap();
    for node in &nodes {
        voters(node, 3).await;
    }
    let clusters: Vec<_> = nodes
        .iter()
        .map(|n| {
            n.inner
                .server
                .as_ref()
                .unwrap()
                .consensus
                .identity()
                .cluster()
        })
        .collect();
    assert!(
        clusters.iter().all(|c| c.is_some() && *c == clusters[0]),
        "{clusters:?}"
    );
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_seed_that_still_has_its_flag_joins_instead_of_forming() {
    let bed = Bed::new();
    let a = bed.start(1, r#", "bootstrap": true"#).await;
    let b = bed.start(2, "").await;
    b.join(&bed.address(1)).await.unwrap();
    voters(&a, 2).await;
    let c = bed.start(3, "").await;
    c.join(&bed.address(1)).await.unwrap();
    voters(&a, 3).await;
    put(&a, "kept").await.unwrap();
    a.shutdown().await;
    drop(a);
    std::fs::remove_dir_all(bed.dir.path().join("n1/raft")).unwrap();
    std::fs::remove_dir_all(bed.dir.path().join("n1/serf")).unwrap();
    let more = format!(
        r#", "bootstrap": true, "retry_join": ["{}"]"#,
        bed.address(2)
    );
    let a = bed.start(1, &more).await;
    until("a is a voter of the old cluster", async || {
        let id = status(&a).id;
        status(&b).voters.contains(&id) && status(&b).voters.len() == 3
    })
    .await;
    until("a has the data", async || {
        has(&a, "kept", Consistency::Stale).await
    })
    .await;
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_reaches_the_leader_and_knows_when_there_is_none() {
    let bed = Bed::new();
    let a = bed.start(1, r#", "bootstrap": true"#).await;
    let quick = r#", "performance": {"rpc_hold_timeout": "50ms"}"#;
    let client = bed.start(9, quick).await;
    assert_eq!(put(&client, "nobody").await.unwrap_err(), Error::NoServers);
    client.join(&bed.address(1)).await.unwrap();
    until("the client writes", async || {
        put(&client, "k").await.is_ok()
    })
    .await;
    assert!(has(&client, "k", Consistency::Stale).await);
    assert!(client.leader_address().await.unwrap().is_some());
    a.shutdown().await;
    until("no leader", async || {
        put(&client, "k").await == Err(Error::NoLeader)
    })
    .await;
    client.shutdown().await;
}

fn session(id: u128, node: &str, ttl: &str) -> Session {
    Session {
        lock_delay: 50_000_000,
        ttl: ttl.to_owned(),
        ..Session::plain(Uuid::from_u128(id), node)
    }
}

async fn lock(node: &Node, key: &str, session: Uuid) -> bool {
    let key = key.to_owned();
    let write = KvWrite::default();
    let op = KvOp::Lock { write, session };
    node.propose(Command::Kv(KvCommand { key, op }))
        .await
        .unwrap()
        == Outcome::Bool(true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_passes_on_when_the_ttl_of_its_holder_and_the_delay_are_over() {
    let bed = Bed::new();
    let a = bed.start(1, r#", "bootstrap": true"#).await;
    until("a leads", async || status(&a).is_leader()).await;
    let client = bed.start(9, "").await;
    assert_eq!(client.join(&bed.address(1)).await.unwrap(), 1);
    until("the client is in the catalog", async || {
        let query = Query::Node { node: "n9".into() };
        let reply = a.read(query, ReadOptions::default()).await.unwrap();
        matches!(reply.answer, Answer::Node(Some(_)))
    })
    .await;
    let (brief, lasting) = (session(1, "n9", "100ms"), session(2, "n9", "1h"));
    for session in [&brief, &lasting] {
        let create = Command::SessionCreate(Box::new(session.clone()));
        assert_eq!(
            client.propose(create).await.unwrap(),
            Outcome::SessionId(session.id)
        );
    }
    // Nobody else gets it before its time is over, which a slow machine may see at the first try.
    lock(&client, "k", brief.id).await;
    until("the lock passes on", async || {
        lock(&client, "k", lasting.id).await
    })
    .await;
    assert_eq!(client.renew_session(brief.id).await, Ok(None));
    let renewed = client.renew_session(lasting.id).await.unwrap();
    assert_eq!(renewed.map(|session| session.id), Some(lasting.id));
    client.shutdown().await;
    a.shutdown().await;
}

/// A server that never knows a leader, and notes how much time each request was given.
#[derive(Default)]
struct Leaderless(std::sync::Mutex<Vec<Duration>>);

impl crate::rpc::Handler for Leaderless {
    async fn handle(
        &self,
        _: u8,
        _: bytes::Bytes,
        deadline: tokio::time::Instant,
    ) -> Result<Option<bytes::Bytes>, crate::rpc::Error> {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        self.0.lock().unwrap().push(left);
        Ok(Some(crate::rpc::Answered(Err(Error::NoLeader)).encode()))
    }
}

#[tokio::test]
async fn each_try_is_given_what_the_ones_before_have_left() {
    let bed = Bed::new();
    let node = bed.start(9, "").await;
    let listener = tokio::net::TcpListener::bind((bed.address(1), 8300))
        .await
        .unwrap();
    let server = listener.local_addr().unwrap();
    let noted = Arc::new(Leaderless::default());
    let handler = noted.clone();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preamble = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut preamble)
            .await
            .unwrap();
        crate::rpc::serve(Box::new(stream), handler).await
    });
    let deadline = tokio::time::Instant::now() + HANG;
    for _ in 0..3 {
        let left = deadline - tokio::time::Instant::now();
        let asked = node.ask(server, &crate::rpc::Request::Peers, deadline);
        assert_eq!(asked.await.0.unwrap_err(), Error::NoLeader);
        let given = *noted.0.lock().unwrap().last().unwrap();
        assert!(given <= left, "{given:?} where {left:?} is left");
    }
    let past = tokio::time::Instant::now();
    let asked = node.ask(server, &crate::rpc::Request::Peers, past).await;
    assert_eq!(asked.0.unwrap_err(), Error::NoLeader);
    assert_eq!(
        noted.0.lock().unwrap().len(),
        3,
        "nothing was sent any more"
    );
    node.shutdown().await;
    serving.abort();
}

/// The C library keeps pieces of up to 1032 bytes at hand for the next request; larger ones it has to look for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_most_takes_little_while_it_waits() {
    let bed = Bed::new();
    let a = bed.start(1, r#", "bootstrap": true"#).await;
    let command = Command::Kv(KvCommand {
        key: "k".to_owned(),
        op: KvOp::Delete,
    });
    let proposed = size_of_val(&a.propose(command));
    assert!(proposed <= 768, "{proposed} bytes");
    let deadline = tokio::time::Instant::now() + HANG;
    let answered = size_of_val(&a.answer(crate::rpc::Request::Peers, deadline));
    assert!(answered <= 768, "{answered} bytes");
    a.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datacenters_ask_each_other_for_what_clients_ask_and_for_nothing_else() {
    use crate::rpc::{Answered, Promise, Request};
    let bed = Bed::new();
    let a = bed.start(1, r#", "bootstrap": true"#).await;
    until("a leads", async || status(&a).is_leader()).await;
    let ask = async |datacenter: &str, forwarded, request| {
        let request = Request::In {
            datacenter: datacenter.to_owned(),
            forwarded,
            request: Box::new(request),
        };
        let deadline = tokio::time::Instant::now() + HANG;
        let Answered(answer) = a.answer(request, deadline).await;
        answer.map(drop)
    };
    assert_eq!(ask("dc1", true, Request::Peers).await, Ok(()));
    let promise = Promise {
        cluster: uuid::Uuid::from_u128(1),
        initiator: uuid::Uuid::from_u128(2),
        expect: 3,
    };
    let refused = Err(Error::Refused(
        "not a request that may be made of another datacenter".to_owned(),
    ));
    for request in [
        Request::Promise(promise.clone()),
        Request::Release(promise.clone()),
        Request::Confirm(promise),
        Request::HasRoom,
        Request::ReadIndex { quorum: false },
    ] {
        assert_eq!(ask("dc1", true, request).await, refused);
    }
    // It came to the wrong place, which must not send it further.
    assert_eq!(
        ask("dc2", true, Request::Peers).await,
        Err(Error::Refused(
            "this server is in datacenter 'dc1', not in 'dc2'".to_owned()
        ))
    );
    assert_eq!(ask("dc2", false, Request::Peers).await, Err(Error::NoPath));
    assert_eq!(a.at("dc2").leader_address().await, Err(Error::NoPath));
    assert_eq!(
        a.at("dc1")
            .leader_address()
            .await
            .map(|found| found.is_some()),
        Ok(true)
    );
    let read = a.at("dc2").read(Query::Noop, ReadOptions::default()).await;
    assert_eq!(read.map(drop), Err(Error::NoPath));
    assert_eq!(put(&a.at("dc2"), "k").await, Err(Error::NoPath));
    let names: Vec<_> = a
        .datacenters()
        .await
        .unwrap()
        .into_iter()
        .map(|dc| dc.name)
        .collect();
    assert_eq!(names, ["dc1"]);
    a.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_pool_of_all_datacenters_a_server_knows_its_own_one_alone() {
    let bed = Bed::new();
    let a = bed
        .start(1, r#", "bootstrap": true, "ports": {"serf_wan": -1}"#)
        .await;
    until("a leads", async || status(&a).is_leader()).await;
    assert!(a.wan_members().is_empty());
    assert!(!a.info().contains_key("serf_wan"));
    assert_eq!(a.info()["consul"]["known_datacenters"], "1");
    let error = a.join_wan("127.0.0.1").await.unwrap_err();
    assert_eq!(error.to_string(), "WAN Federation is disabled");
    let found = a.datacenters().await.unwrap();
    assert_eq!((found.len(), &found[0].places[0].0[..]), (1, "n1"));
    assert_eq!(put(&a.at("dc2"), "k").await, Err(Error::NoPath));
    a.shutdown().await;
}
