//! Accepts connections on the server port and hands each to what its preamble asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Node;
use super::certify::Applications;
use crate::env::{BoxStream, Listener};
use crate::log::Told;
use crate::raft::Service;
use crate::rpc::{self, Answered, Handler, MAGIC, Purpose, Request};
use crate::seats::Seats;
use crate::tls::Peer;

/// Connections at a time. A cluster has at most a few thousand clients, each with one or two.
const MAX_CONNECTIONS: u32 = 8192;

/// Connections of clients without a certificate at a time, which are strangers; and how long one may last. Those over it come back,
/// each after a pause of its own.
const MAX_APPLICANTS: usize = 256;
const APPLICATION_TIME_MAX: Duration = Duration::from_secs(30);

/// Connections that were dropped, by reason.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Whoever speaks another version comes again and again: to say so once is enough.
    told: Told,
    /// Did not begin with our preamble, or broke the protocol later.
    garbage: AtomicU64,
    /// Of another version of the protocol.
    version: AtomicU64,
    /// Over the limit.
    too_many: AtomicU64,
    /// Connections that are open on which a certificate is asked for.
    applicants: AtomicUsize,
}

impl Dropped {
    /// Counts a connection that ended with an error, and says what there is to say.
    fn note(&self, from: SocketAddr, error: &rpc::Error) {
        if error.is_other_version() {
            self.version.fetch_add(1, Ordering::Relaxed);
            if self.told.is_news(from.ip(), &error.to_string()) {
                tracing::error!(target: "rpc", "dropped a connection of {from}: {error}");
            }
        } else if matches!(error, rpc::Error::Protocol(_) | rpc::Error::Timeout(_)) {
            self.garbage.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(target: "rpc", "dropped a connection of {from}: {error}");
        }
    }

    /// Counts a connection for which there is no room, and says so once for each address.
    fn turned_away(&self, from: SocketAddr, max: u32) {
        self.too_many.fetch_add(1, Ordering::Relaxed);
        let why = format!(
            "as many are open as may be: {max} from one address (limits.rpc_max_conns_per_client), {MAX_CONNECTIONS} in all"
        );
        if self.told.is_news(from.ip(), &why) {
            tracing::warn!(target: "rpc", "dropped a connection of {from}: {why}");
        }
    }

    pub(super) fn counts(&self) -> BTreeMap<String, String> {
        [
            ("rpc_garbage", &self.garbage),
            ("rpc_other_version", &self.version),
            ("rpc_over_limit", &self.too_many),
        ]
        .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed).to_string()))
        .into()
    }
}

/// Counts while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers calls of another node.
struct Calls {
    node: Node,
    /// Where it is.
    from: SocketAddr,
}

impl Handler for Calls {
    async fn handle(
        &self,
        method: u8,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Option<Bytes>, rpc::Error> {
        if method != Request::METHOD {
            return Err(rpc::Error::Protocol(format!("unknown method {method}")));
        }
        let answered = match Request::decode(&body) {
            Ok(request) => match self.answer(request, deadline).await {
                Some(answered) => answered,
                None => return Ok(None),
            },
            Err(error) if error.is_other_version() => return Err(error),
            // One that a later version added: whoever sends it has others that are understood.
            Err(error) => Answered(Err(super::Error::Refused(error.to_string()))),
        };
        Ok(Some(answered.encode()))
    }
}

impl Calls {
    /// `None` when nobody waits for an answer any more.
    async fn answer(&self, request: Request, deadline: Instant) -> Option<Answered> {
        let inner = &self.node.inner;
        if let Err(refused) = self.node.enter_from(self.from, &request) {
            return Some(Answered(Err(refused)));
        }
        let server = inner.server.as_ref();
        let _counted = server.map(|server| Counted::new(&server.in_flight));
        let place = match &request {
            Request::Propose(command) => inner.gate.proposal(command.len()),
            _ => inner.gate.request(),
        };
        let Some(_place) = place else {
            return Some(Answered(Err(super::Error::Busy)));
        };
        // What has been proposed by the deadline may still be committed.
        let answer = self.node.answer(request, deadline);
        tokio::time::timeout_at(deadline, answer).await.ok()
    }
}

/// Serves until it is dropped. Requests of clients are worked on in `requests`, Raft's messages right here.
pub(super) async fn serve(
    node: Node,
    service: Arc<Service>,
    mut listener: Box<dyn Listener>,
    requests: Handle,
) {
    let dropped = node.inner.dropped.clone();
    let seats = Seats::new(MAX_CONNECTIONS);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly "too many open files": give others time to close theirs.
                    tracing::warn!(target: "rpc", "failed to accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let max = node.inner.config.limits.rpc_max_conns_per_client;
        let Some(seat) = seats.take(from.ip(), max) else {
            dropped.turned_away(from, max);
            continue;
        };
        let requests = requests.clone();
        let calls = Arc::new(Calls {
            node: node.clone(),
            from,
        });
        let (service, dropped) = (service.clone(), dropped.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, &calls, &service, &requests).await {
                dropped.note(from, &error);
            }
            drop(seat);
        });
    }
}

async fn connection(
    stream: BoxStream,
    calls: &Arc<Calls>,
    service: &Arc<Service>,
    requests: &Handle,
) -> Result<(), rpc::Error> {
    let tls = &calls.node.inner.tls;
    let handshake_time = calls.node.inner.config.limits.rpc_handshake_timeout;
    let mut preamble = [0; 5];
    let begin = async {
        let (mut stream, peer) = tls
            .accept_rpc(stream)
            .await
            .map_err(|e| rpc::Error::Protocol(format!("no TLS handshake: {e}")))?;
        let read = stream.read_exact(&mut preamble).await;
        read.map_err(|e| rpc::Error::Protocol(format!("no preamble: {e}")))?;
        Ok((stream, peer))
    };
    let (stream, peer) = tokio::time::timeout(handshake_time, begin)
        .await
        .unwrap_or(Err(rpc::Error::Timeout(handshake_time)))?;
    let [magic @ .., purpose] = preamble;
    let [name @ .., version] = magic;
    if MAGIC.starts_with(&name) && magic != MAGIC {
        return Err(rpc::Error::Version {
            found: version,
            own: MAGIC[3],
        });
    }
    if magic != MAGIC {
        return Err(rpc::Error::Protocol(format!(
            "unknown preamble {preamble:?}"
        )));
    }
    let purpose = Purpose::try_from(purpose)?;
    if peer == Peer::Applicant && purpose != Purpose::Certify {
        let why = "it shows no certificate, which verify_incoming demands";
        return Err(rpc::Error::Protocol(why.to_owned()));
    }
    let for_all = matches!(purpose, Purpose::Call | Purpose::Certify);
    if !for_all && peer != Peer::Server && tls.only_servers_speak_raft() {
        let why =
            "it speaks Raft without a server's certificate, which verify_server_hostname demands";
        return Err(rpc::Error::Protocol(why.to_owned()));
    }
    match purpose {
        Purpose::Call => {
            // Ends with this connection's task: the node may be shut down while a request waits.
            let serving = AbortOnDropHandle::new(requests.spawn(rpc::serve(stream, calls.clone())));
            serving.await.unwrap_or(Ok(()))
        }
        Purpose::Certify => {
            let dropped = &calls.node.inner.dropped;
            let _counted = Counted::new(&dropped.applicants);
            if dropped.applicants.load(Ordering::Relaxed) > MAX_APPLICANTS {
                dropped.too_many.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            let applications = Arc::new(Applications {
                node: calls.node.clone(),
                from: calls.from,
            });
            let serving = AbortOnDropHandle::new(requests.spawn(rpc::serve(stream, applications)));
            let served = tokio::time::timeout(APPLICATION_TIME_MAX, serving).await;
            served.map_or(Ok(()), |served| served.unwrap_or(Ok(())))
        }
        Purpose::Raft => rpc::serve(stream, service.clone()).await,
        Purpose::Append => service.serve_append(stream).await,
        Purpose::Snapshot => service.serve_snapshot(stream).await,
    }
}
