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
mod fake;
mod got;
mod graph;
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
        dns_domains: vec!["consul.".into()],
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
        tags: Tags::from([("role", "consul"), ("build", "1.19.0:abc")]),
    })
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
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
