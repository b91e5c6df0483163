//! Sockets: datagrams and connections, and the way of a question through them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Api;
use super::answer::{Basis, Content};
use super::kept::{Kept, Known, QUESTION_MAX, Shuffled};
use super::lookup::Lookup;
use super::name::{Domains, Owner};
use super::recursor::Recursors;
use super::size::{DATAGRAM_MAX, Limits, encode, head, refuse};
use crate::config::{Config, Dns};
use crate::env::{BoxStream, Datagrams, Env, Listener, Net};
use crate::metrics::{Metrics, Timer};

/// Questions by datagram that wait for somebody else (a server, a recursor) at a time; more of them are dropped, which
/// tells their askers to ask again.
const WAITING_MAX: usize = 4096;

/// Open TCP connections; more are closed at once.
const CONNECTIONS_MAX: usize = 1024;

/// How long a connection may wait for its next question, or for its client to take an answer.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause after a failed receive or accept: trying again at once would only spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Names of other zones, to which our services' addresses refer, that are resolved for one answer.
const ALIASES_MAX: usize = 3;

/// An address of DNS cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for DNS ({transport}): {source}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// UDP or TCP.
    pub transport: &'static str,
    /// What the system said.
    pub source: io::Error,
}

/// Addresses that are taken, but not served yet.
#[derive(Default)]
pub struct Bound {
    sockets: Vec<Arc<dyn Datagrams>>,
    listeners: Vec<Box<dyn Listener>>,
}

/// Takes both kinds of sockets on every address.
///
/// # Errors
/// At the first one that cannot be had; the others are given up.
pub async fn bind(net: &dyn Net, addresses: &[SocketAddr]) -> Result<Bound, BindError> {
    let mut bound = Bound::default();
    for &address in addresses {
        let failed = |transport| {
            move |source| BindError {
                address,
                transport,
                source,
            }
        };
        let listener = net.listen(address).await.map_err(failed("TCP"))?;
        // The same port for both, also where the system chose it.
        let address = listener.local_addr().map_err(failed("TCP"))?;
        let socket = net.bind_udp(address).await.map_err(failed("UDP"))?;
        bound.sockets.push(socket);
        bound.listeners.push(listener);
    }
    Ok(bound)
}

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What a server answers with.
#[derive(Debug, Clone)]
pub struct Settings {
    domain: Name,
    alt_domain: Option<Name>,
    datacenter: String,
    node: String,
    dns: Dns,
    translate_wan_addrs: bool,
}

impl Settings {
    /// What of an agent's configuration concerns DNS.
    pub fn new(config: &Config) -> Self {
        // Checked when the configuration was read; the root stands for what cannot be.
        let name = |text: &str| Name::from_ascii(text).unwrap_or_else(|_| Name::root());
        Self {
            domain: name(&config.domain),
            alt_domain: config.dns.alt_domain.as_deref().map(name),
            datacenter: config.datacenter.clone(),
            node: config.node_name.clone(),
            dns: config.dns.clone(),
            translate_wan_addrs: config.translate_wan_addrs,
        }
    }
}

/// Answers questions, from any number of sockets.
pub struct Server<A> {
    lookup: Lookup<A>,
    recursors: Recursors,
    /// Of questions about names, and about addresses.
    timers: [Timer; 2],
    kept: Mutex<Kept>,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl<A: Api> Server<A> {
    /// Puts a server together.
    pub fn new(
        api: A,
        env: Env,
        settings: Settings,
        metrics: &Metrics,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let Settings {
            domain,
            alt_domain,
            datacenter,
            node,
            dns,
            translate_wan_addrs,
        } = settings;
        let timer = |name| metrics.timer(name, &[("node", &node)]);
        Arc::new(Self {
            recursors: Recursors::new(env.clone(), dns.clone()),
            lookup: Lookup {
                api,
                env,
                settings: dns,
                translate_wan_addrs,
                translates: false,
                domains: Domains {
                    main: domain,
                    others: alt_domain.into_iter().collect(),
                    datacenter,
                    node: node.clone(),
                },
            },
            timers: [timer("dns.domain_query"), timer("dns.ptr_query")],
            kept: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            shutdown,
        })
    }

    /// Serves until the shutdown.
    pub async fn run(self: Arc<Self>, bound: Bound) {
        let tasks = TaskTracker::new();
        for socket in bound.sockets {
            tasks.spawn(self.clone().datagrams(socket));
        }
        for listener in bound.listeners {
            tasks.spawn(self.clone().connections(listener));
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn datagrams(self: Arc<Self>, socket: Arc<dyn Datagrams>) {
        let mut buffer = vec![0; usize::from(DATAGRAM_MAX)];
        let mut ready = Vec::new();
        while !self.shutdown.is_cancelled() {
            // Others of this thread get their turn also while there is always another question.
            tokio::task::coop::consume_budget().await;
            let received = match socket.try_recv_from(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => return,
                    received = socket.recv_from(&mut buffer) => received,
                },
                received => received,
            };
            let (len, from) = match received {
                Ok(received) => received,
                Err(error) => {
                    // Among others the news that somebody does not want our answer.
                    tracing::debug!(target: "dns", %error, "Failed to receive a datagram");
                    if error.kind() != io::ErrorKind::ConnectionRefused {
                        tokio::time::sleep(PAUSE).await;
                    }
                    continue;
                }
            };
            if self.respond_kept(&buffer[..len], &mut ready) {
                send(&*socket, &ready, from).await;
                continue;
            }
            let server = self.clone();
            let question = buffer[..len].to_vec();
            let mut answered =
                async move { server.respond(&question, Transport::Udp).await }.boxed();
            // Nearly every answer is there at once, and needs no task of its own.
            match (&mut answered).now_or_never() {
                Some(Some(answer)) => send(&*socket, &answer, from).await,
                Some(None) => {}
                None => {
                    let Ok(place) = self.waiting.clone().try_acquire_owned() else {
                        continue;
                    };
                    let (socket, shutdown) = (socket.clone(), self.shutdown.clone());
                    tokio::spawn(async move {
                        let _place = place;
                        let answer = tokio::select! {
                            biased;
                            () = shutdown.cancelled() => return,
                            answer = answered => answer,
                        };
                        if let Some(answer) = answer {
                            send(&*socket, &answer, from).await;
                        }
                    });
                }
            }
        }
    }

    async fn connections(self: Arc<Self>, mut listener: Box<dyn Listener>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(place) = self.connections.clone().try_acquire_owned() else {
                        continue;
                    };
                    let server = self.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        let shutdown = server.shutdown.clone();
                        tokio::select! {
                            biased;
                            () = shutdown.cancelled() => {}
                            // However it ends, there is nobody left to tell.
                            _ = server.connection(stream) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(target: "dns", %error, "Failed to accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, mut stream: BoxStream) -> io::Result<()> {
        let mut question = Vec::new();
        loop {
            let read = async {
                let len = usize::from(stream.read_u16().await?);
                question.resize(len, 0);
                stream.read_exact(&mut question).await
            };
            tokio::time::timeout(IDLE_TIME_MAX, read).await??;
            let Some(answer) = self.respond(&question, Transport::Tcp).await else {
                return Ok(());
            };
            let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let framed = [&len.to_be_bytes()[..], &answer].concat();
            tokio::time::timeout(IDLE_TIME_MAX, stream.write_all(&framed)).await??;
        }
    }

    /// Writes the answer to a question by datagram that was answered before, if that is still true; whether it was.
    pub(super) fn respond_kept(&self, packet: &[u8], into: &mut Vec<u8>) -> bool {
        let Some((id, question)) = packet.split_first_chunk::<2>() else {
            return false;
        };
        if question.len() > QUESTION_MAX {
            return false;
        }
        let started = Instant::now();
        let mut kept = self.kept();
        let known = kept.get(question);
        let Some(known) = known.filter(|known| self.lookup.is_current(&known.basis)) else {
            return false;
        };
        known.answer.next(*id, self.lookup.dice(), into);
        self.timers[0].record(started.elapsed());
        true
    }

    /// Keeps what can be asked for again. An answer to EDNS with options is not: those change from question to question.
    fn keep(&self, request: &Message, packet: &[u8], basis: Basis, answer: Shuffled) {
        let options = request
            .edns
            .as_ref()
            .map(|edns| edns.options().as_ref().is_empty());
        let Some((_, question)) = packet.split_first_chunk::<2>() else {
            return;
        };
        if options.unwrap_or(true) && question.len() <= QUESTION_MAX {
            self.kept().put(question, Known { basis, answer });
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked in it left at worst an answer in another order.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to the bytes of a question; none where silence is the answer.
    pub(super) async fn respond(&self, packet: &[u8], over: Transport) -> Option<Vec<u8>> {
        let started = Instant::now();
        let request = match read(packet) {
            Ok(request) => request,
            Err(answer) => return answer,
        };
        let question = &request.queries[0];
        let owner = self
            .lookup
            .domains
            .understand(question.name(), question.query_type());
        let timer = match owner {
            Owner::Reverse(_) => &self.timers[1],
            _ => &self.timers[0],
        };
        let answer = self.answer(&request, owner, packet, over).await;
        timer.record(started.elapsed());
        answer
    }

    async fn answer(
        &self,
        request: &Message,
        owner: Owner,
        packet: &[u8],
        over: Transport,
    ) -> Option<Vec<u8>> {
        let question = &request.queries[0];
        let mut head = head(request);
        head.metadata.recursion_available = self.recursors.any();
        let looked_up = match owner {
            Owner::Ours(asked, domain) => {
                let content = self.lookup.ours(asked, question, &domain).await;
                content.map(Some)
            }
            Owner::Reverse(ip) => self.lookup.reverse(ip, question).await,
            Owner::Other => Ok(None),
        };
        let content = match looked_up {
            Ok(Some(mut content)) => {
                head.metadata.authoritative = true;
                if self.recursors.any() {
                    self.follow_aliases(&mut content, question.query_type())
                        .await;
                }
                content
            }
            Ok(None) if self.recursors.any() => {
                if let Some(answer) = self.recursors.forward(packet, over).await {
                    return Some(answer);
                }
                Content::bare(ResponseCode::ServFail)
            }
            Ok(None) => Content::bare(ResponseCode::Refused),
            Err(error) => {
                tracing::warn!(target: "dns", name = %question.name(), %error, "cannot answer");
                Content::bare(ResponseCode::ServFail)
            }
        };
        let settings = &self.lookup.settings;
        let mut limits = match over {
            Transport::Udp => Limits::datagram(request.edns.as_ref(), settings.udp_answer_limit),
            Transport::Tcp => Limits::stream(),
        };
        limits.mark = settings.enable_truncate;
        limits.compress = !settings.disable_compression;
        if let (Transport::Udp, Some(basis)) = (over, &content.basis)
            && let Some(shuffled) = Shuffled::of(&head, &content, limits)
        {
            self.keep(request, packet, basis.clone(), shuffled);
        }
        encode(&head, &content, limits)
            .or_else(|_| refuse(&head, ResponseCode::ServFail))
            .ok()
    }

    /// Adds what the host names that stand for addresses lead to.
    async fn follow_aliases(&self, content: &mut Content, kind: RecordType) {
        if !matches!(kind, RecordType::A | RecordType::AAAA | RecordType::ANY) {
            return;
        }
        let mut left = ALIASES_MAX;
        for group in &mut content.groups {
            let alias = group.answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) => Some(target.0.clone()),
                _ => None,
            });
            if let Some(target) = alias
                && left > 0
            {
                left -= 1;
                group
                    .answers
                    .extend(self.recursors.resolve(&target, kind).await);
            }
        }
    }
}

/// Sends an answer. Whoever does not get it asks again.
async fn send(socket: &dyn Datagrams, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to)
        && error.kind() == io::ErrorKind::WouldBlock
    {
        drop(socket.send_to(answer, to).await);
    }
}

/// Reads a question, or says what to answer to bytes that are none: nothing, where an answer could start a loop.
pub(super) fn read(packet: &[u8]) -> Result<Message, Option<Vec<u8>>> {
    let Some(&[high, low, flags, _, questions @ .., _, _, _, _, _, _]) = packet.first_chunk::<12>()
    else {
        return Err(None);
    };
    if flags & 0x80 != 0 {
        return Err(None);
    }
    let bare = || {
        let mut request = Message::query();
        request.metadata.id = u16::from_be_bytes([high, low]);
        request.metadata.op_code = OpCode::from_u8((flags >> 3) & 0x0f);
        request
    };
    let refused = |request: &Message, code| Err(refuse(&head(request), code).ok());
    // Looked at before anything is set aside for the number that is given.
    if u16::from_be_bytes(questions) != 1 {
        return refused(&bare(), ResponseCode::FormErr);
    }
    let Ok(request) = Message::from_vec(packet) else {
        return refused(&bare(), ResponseCode::FormErr);
    };
    let Some(question) = request.queries.first() else {
        return refused(&bare(), ResponseCode::FormErr);
    };
    if request.metadata.op_code != OpCode::Query {
        return refused(&request, ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refused(&request, ResponseCode::BADVERS);
    }
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return refused(&request, ResponseCode::Refused);
    }
    Ok(request)
}
