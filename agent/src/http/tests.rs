//! The API over real connections in memory, with a node that is one store.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{BoxStream as Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::acl::SharedHolder;
use crate::env::{BoxStream, Env, Listener};
use crate::gossip::KeyringOp;
use crate::gossip::{Status, Tags};
use crate::leader::autopilot::{ClusterHealth, ServerHealth};
use crate::metrics::{self, Metrics};
use crate::node::PoolKeys;
use crate::state::{
    Check, CheckStatus, Node as NodeRow, NodePlace, Register, SERF_HEALTH, Shared, Stamped, Store,
};

mod agent;
mod autopilot;
mod catalog;
mod closed;
mod config;
mod connect;
mod connections;
mod coordinate;
mod datacenters;
mod event;
mod got;
mod guard;
mod intentions;
mod kv;
mod local;
mod malformed;
mod mesh;
mod query;
mod sessions;
mod sizes;
mod snapshot;
mod txn;
mod ui;

use got::Got;

/// The settings of every test.
pub(super) fn settings() -> Settings {
    Settings {
        node_name: "a".into(),
        node_id: Uuid::from_u128(10),
        datacenter: "dc1".into(),
        primary_datacenter: "dc1".into(),
        translate_wan_addrs: false,
        server: true,
        build: Build {
            version: "1.19.0",
            revision: "abc",
            date: "2026-11-23T00:00:00Z",
        },
        kv_max_value_size: 524_288,
        txn_max_req_len: 524_288,
        default_query_time: Duration::from_secs(300),
        max_query_time: Duration::from_secs(600),
        discovery_max_stale: Duration::ZERO,
        session_ttl_min: Duration::from_secs(10),
        http_max_conns_per_client: 200,
        connect: true,
        acl: false,
        default_policy: "allow",
        allow_write_http_from: vec![],
        block_endpoints: vec![],
        header_bytes_max: 65536,
        response_headers: vec![],
        use_cache: true,
        enable_debug: false,
        pretty: false,
        debug_config: json!({"BindAddr": "127.0.0.1"}),
    }
}

/// A node that is its store.
struct Fake {
    store: Mutex<Store>,
    shared: Shared,
    leaderless: AtomicBool,
    local: Local,
    events: Events,
    /// Its datacenter.
    datacenter: &'static str,
    /// The other datacenters that it knows, the nearest first; each is a node that is a store too.
    others: Mutex<Vec<(String, Arc<Fake>)>>,
    /// Why every request fails.
    broken: Option<NodeError>,
    /// What was asked of it, besides reads and proposals.
    calls: Mutex<Vec<String>>,
}

impl Fake {
    fn new() -> Self {
        let fake = Self {
            store: Mutex::default(),
            shared: Shared::new(Store::default()),
            leaderless: AtomicBool::new(false),
            local: Local::new(
                Env::real(),
                crate::local::Settings {
                    node: NodeRow {
                        node: "a".into(),
                        ..NodeRow::default()
                    },
                    data_dir: None,
                    output_max: 4096,
                    discard_output: false,
                    update_interval: Duration::ZERO,
                    scripts_from_api: false,
                    scripts_from_files: false,
                    sidecar_ports: Some((21000, 21255)),
                    asks_for_tokens: false,
                },
            ),
            events: Events::default(),
            datacenter: "dc1",
            others: Mutex::default(),
            broken: None,
            calls: Mutex::default(),
        };
        // Index 1 is a configuration entry, as in a real log.
        fake.apply(Command::Noop);
        fake
    }

    fn apply(&self, command: Command) -> Outcome {
        let mut store = self.store.lock().unwrap();
        let index = store.last_index() + 1;
        let stamped = Stamped {
            unix_ms: 0,
            command,
        };
        let outcome = store.apply(index, &stamped);
        self.shared.publish(&mut store);
        outcome
    }

    fn call(&self, call: String) -> Result<(), NodeError> {
        self.calls.lock().unwrap().push(call);
        self.led()
    }

    /// A datacenter that cannot be asked.
    fn broken(why: NodeError) -> Self {
        Self {
            broken: Some(why),
            ..Self::new()
        }
    }

    fn led(&self) -> Result<(), NodeError> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        if self.leaderless.load(Ordering::SeqCst) {
            return Err(NodeError::NoLeader);
        }
        Ok(())
    }
}

fn member(name: &str, port: u16, status: Status) -> Arc<Member> {
    Arc::new(Member {
        name: name.into(),
        id: Uuid::from_u128(u128::from(port)),
        addr: SocketAddr::from(([127, 0, 0, 1], port)),
        generation: 1,
        status,
        tags: Tags::from([
            ("role".into(), "consul".into()),
            ("build".into(), "1.19.0:abc".into()),
        ]),
    })
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Api for Arc<Fake> {
    fn with(&self, _: &str) -> Self {
        self.clone()
    }

    async fn keyring(&self, op: KeyringOp, _: bool) -> Result<Vec<PoolKeys>, NodeError> {
        let error = match op {
            KeyringOp::List => "Keyring is empty (encryption not enabled)",
            _ => "No keyring to modify (encryption not enabled)",
        };
        let pool = |wan, name: &str| PoolKeys {
            wan,
            datacenter: "dc1".to_owned(),
            nodes: 1,
            errors: [(name.to_owned(), error.to_owned())].into(),
            ..PoolKeys::default()
        };
        Ok(vec![pool(true, "a.dc1"), pool(false, "a")])
    }

    fn secret(&self) -> String {
        String::new()
    }

    fn set_token(&self, of: TokenUse, secret: &str) -> Result<(), NodeError> {
        self.call(format!("token {of:?} {secret}"))
    }

    async fn holder(&self) -> Result<Option<SharedHolder>, NodeError> {
        Ok(None)
    }

    fn at(&self, datacenter: &str) -> Self {
        if datacenter == self.datacenter {
            return self.clone();
        }
        let others = self.others.lock().unwrap();
        let found = others.iter().find(|(name, _)| name == datacenter);
        match found {
            Some((_, other)) => other.clone(),
            None => Arc::new(Fake::broken(NodeError::NoPath)),
        }
    }

    async fn datacenters(&self) -> Result<Vec<Datacenter>, NodeError> {
        let others = self.others.lock().unwrap();
        let names = others.iter().map(|(name, _)| name.as_str());
        let found = std::iter::once("dc1").chain(names).map(|name| Datacenter {
            name: name.to_owned(),
            places: vec![("a".to_owned(), Coordinate::default())],
        });
        Ok(found.collect())
    }

    fn wan_members(&self) -> Vec<Arc<Member>> {
        vec![member("a.dc1", 8302, Status::Alive)]
    }

    async fn join_wan(&self, at: &str) -> Result<usize, JoinError> {
        let _ = self.call(format!("join -wan {at}"));
        match at {
            "client" => Err(JoinError::NoPool("Must be a server to join WAN cluster")),
            _ => Ok(1),
        }
    }

    async fn force_leave_wan(&self, name: &str, prune: bool) -> Result<(), NodeError> {
        self.call(format!("force-leave -wan {name} {prune}"))
    }

    async fn propose(&self, command: Command) -> Result<Outcome, NodeError> {
        self.led()?;
        Ok(self.apply(command))
    }

    async fn read(&self, query: Query, options: ReadOptions) -> Result<Reply, NodeError> {
        self.led()?;
        if options.min_index > 0 {
            let changed = self.shared.changed(&query, options.min_index);
            let _ = tokio::time::timeout(options.wait, changed).await;
        }
        let store = self.shared.load();
        Ok(Reply {
            answer: store.query(&query),
            index: store.index_of(&query),
            known_leader: true,
            last_contact: Duration::from_millis(7),
            filtered: false,
        })
    }

    fn members(&self) -> Vec<Arc<Member>> {
        vec![
            member("a", 8301, Status::Alive),
            member("b", 8302, Status::Left),
        ]
    }

    fn local_member(&self) -> Arc<Member> {
        member("a", 8301, Status::Alive)
    }

    async fn join(&self, at: &str) -> Result<usize, JoinError> {
        let _ = self.call(format!("join {at}"));
        if at == "127.0.0.9" {
            return Err(JoinError::Connect {
                address: address("127.0.0.9:8301"),
                source: io::Error::other("connection refused"),
            });
        }
        Ok(1)
    }

    async fn leave(&self) -> Result<(), NodeError> {
        self.call("leave".into())
    }

    async fn force_leave(&self, name: &str, prune: bool) -> Result<(), NodeError> {
        self.call(format!("force-leave {name} {prune}"))?;
        if name == "zz" {
            return Err(NodeError::NoSuchMember(name.into()));
        }
        Ok(())
    }

    async fn leader_address(&self) -> Result<Option<SocketAddr>, NodeError> {
        match self.led() {
            Err(NodeError::NoLeader) => Ok(None),
            led => led.map(|()| Some(address("127.0.0.1:8300"))),
        }
    }

    async fn peer_addresses(&self) -> Result<Vec<SocketAddr>, NodeError> {
        self.led()?;
        Ok(vec![address("127.0.0.1:8300"), address("127.0.0.2:8300")])
    }

    async fn raft_configuration(&self, stale: bool) -> Result<(Vec<RaftServer>, u64), NodeError> {
        self.call(format!("configuration {stale}"))?;
        let server = RaftServer {
            id: Uuid::from_u128(1),
            node: "a".into(),
            address: address("127.0.0.1:8300"),
            leader: true,
            voter: true,
            last_index: 9,
        };
        let unknown = RaftServer {
            node: String::new(),
            leader: false,
            voter: false,
            ..server.clone()
        };
        Ok((vec![server, unknown], 5))
    }

    async fn remove_peer(&self, peer: PeerRef) -> Result<(), NodeError> {
        self.call(format!("remove {peer:?}"))?;
        match peer {
            PeerRef::Address(address) if address == "1.1.1.1:1" => {
                Err(NodeError::NoSuchPeer(address))
            }
            _ => Ok(()),
        }
    }

    async fn renew_session(&self, id: Uuid) -> Result<Option<Arc<Session>>, NodeError> {
        self.call(format!("renew {id}"))?;
        Ok(self.shared.load().session(&id))
    }

    async fn transfer_leader(&self, id: Option<Uuid>) -> Result<(), NodeError> {
        self.call(format!("transfer {id:?}"))?;
        match id {
            Some(id) if id.is_nil() => Err(NodeError::NoTransferTarget),
            _ => Ok(()),
        }
    }

    async fn health(&self) -> Result<ClusterHealth, NodeError> {
        self.call("health".into())?;
        let server = |n: u8, leader| ServerHealth {
            id: Uuid::from_u128(n.into()),
            name: format!("s{n}"),
            address: SocketAddr::from(([127, 0, 0, n], 8300)),
            member_status: "alive".to_owned(),
            version: "1.19.0".to_owned(),
            leader,
            last_contact: Some(Duration::from_micros(u64::from(n - 1) * 1500)),
            last_term: 2,
            last_index: 90,
            healthy: n < 3,
            voter: true,
            stable_since_ms: 1_604_670_704_500,
        };
        Ok(ClusterHealth {
            servers: vec![server(1, true), server(3, false)],
            healthy: false,
            failure_tolerance: 0,
        })
    }

    fn local(&self) -> &Local {
        &self.local
    }

    async fn fire(&self, event: UserEvent) -> Result<(), NodeError> {
        self.led()?;
        self.events.push(Arc::new(UserEvent { ltime: 5, ..event }));
        Ok(())
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn coordinate(&self) -> Coordinate {
        Coordinate::default()
    }

    async fn tell_place(&self, node: &str, place: Coordinate) -> Result<(), NodeError> {
        self.led()?;
        let node = node.to_owned();
        self.apply(Command::SetPlaces(vec![NodePlace { node, place }]));
        Ok(())
    }

    async fn set_ca_config(&self, update: Update) -> Result<bool, NodeError> {
        self.led()?;
        let (store, env) = (self.shared.load(), Env::real());
        let step = crate::ca::change(&store, &update, env.clock.unix_ms(), &*env.random)?;
        let Some((step, _)) = step else {
            return Ok(false);
        };
        Ok(self.apply(Command::Ca(step)) == Outcome::Bool(true))
    }

    async fn leaf(
        &self,
        service: &str,
        min_index: u64,
        wait: Duration,
    ) -> Result<(SharedLeaf, bool), NodeError> {
        self.call(format!("leaf {service} {min_index} {wait:?}"))?;
        connect::leaf(&self.shared.load(), service)
    }

    fn meta(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("rack".into(), "1".into())])
    }

    fn not_ready(&self) -> Option<String> {
        self.led().err().map(|error| error.to_string())
    }

    async fn save(&self, stale: bool) -> Result<Saved, NodeError> {
        self.call(format!("save {stale}"))?;
        let store = self.shared.load();
        let state = store.encode();
        let about = crate::archive::About::new(1, store.last_index(), 5, state.len() as u64);
        let pieces = state.chunks(7).map(Bytes::copy_from_slice).collect();
        Ok(Saved { about, pieces })
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![(
            "state.kv_entries",
            self.shared.load().counts().kv_entries as f64,
        )]
    }

    fn later_gauges(&self) -> GaugeSource {
        let fake = self.clone();
        Box::new(move || fake.gauges())
    }

    fn info(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let raft = BTreeMap::from([("num_peers".to_owned(), "2".to_owned())]);
        BTreeMap::from([("raft".to_owned(), raft)])
    }
}

/// A log of two lines that then waits for ever, and a configuration with a mistake in it.
struct Around;

impl Process for Around {
    fn reload(&self) -> Result<(), String> {
        Err("agent.json:1:2: unexpected end".into())
    }

    fn follow_log(&self, level: tracing::Level, json: bool) -> Stream<'static, Bytes> {
        let lines = [format!("level={level}\n"), format!("json={json}\n")];
        futures::stream::iter(lines.map(Bytes::from))
            .chain(futures::stream::pending())
            .boxed()
    }
}

/// Hands out the ends of connections in memory.
struct Memory {
    incoming: mpsc::UnboundedReceiver<(DuplexStream, SocketAddr)>,
}

impl Listener for Memory {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        async {
            match self.incoming.recv().await {
                Some((stream, from)) => Ok((Box::new(stream) as BoxStream, from)),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address("127.0.0.1:8500"))
    }
}

/// A server with its fake node.
struct Bench {
    fake: Arc<Fake>,
    metrics: Arc<Metrics>,
    connect: mpsc::UnboundedSender<(DuplexStream, SocketAddr)>,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

impl Bench {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let fake = Arc::new(Fake::new());
        let env = Env::real();
        let metrics = Arc::new(Metrics::new(
            env.clock.clone(),
            metrics::Settings::default(),
        ));
        let shutdown = CancellationToken::new();
        let server = Server::new(Parts {
            api: fake.clone(),
            env,
            settings,
            metrics: metrics.clone(),
            process: Arc::new(Around),
            shutdown: shutdown.clone(),
        });
        let (connect, incoming) = mpsc::unbounded_channel();
        let served = tokio::spawn(server.serve(Box::new(Memory { incoming })));
        Self {
            fake,
            metrics,
            connect,
            shutdown,
            served,
        }
    }

    fn connect(&self) -> DuplexStream {
        self.connect_from("127.0.0.1:50000")
    }

    fn connect_from(&self, from: &str) -> DuplexStream {
        let (client, server) = tokio::io::duplex(1 << 20);
        self.connect.send((server, address(from))).unwrap();
        client
    }

    async fn get(&self, path: &str) -> Got {
        self.send("GET", path, "").await
    }

    async fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Got {
        self.send("PUT", path, body).await
    }

    async fn delete(&self, path: &str) -> Got {
        self.send("DELETE", path, "").await
    }

    async fn send(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Got {
        let body = body.as_ref();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    /// Sends bytes and reads to the end.
    async fn raw(&self, request: &[u8]) -> Got {
        let mut stream = self.connect();
        stream.write_all(request).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        Got::parse(&response)
    }

    /// The first answer, on a connection that stays open.
    async fn first_answer(&self, request: &[u8]) -> Got {
        let mut stream = self.connect();
        stream.write_all(request).await.unwrap();
        let mut response = Vec::new();
        loop {
            assert_ne!(
                stream.read_buf(&mut response).await.unwrap(),
                0,
                "closed early"
            );
            let text = String::from_utf8_lossy(&response).to_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let (_, length) = head.split_once("content-length: ").unwrap();
            let length = length.split("\r\n").next().unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return Got::parse(&response);
            }
        }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.fake.calls.lock().unwrap())
    }

    /// A node with a passing serfHealth.
    fn register(&self, node: &str) {
        let check = Check {
            check_id: SERF_HEALTH.into(),
            name: "Serf Health Status".into(),
            status: CheckStatus::Passing,
            ..Check::default()
        };
        self.fake.apply(Command::Register(Box::new(Register {
            node: NodeRow {
                node: node.into(),
                address: "127.0.0.1".into(),
                datacenter: "dc1".into(),
                ..NodeRow::default()
            },
            skip_node_update: false,
            services: vec![],
            checks: vec![check],
        })));
    }
}
