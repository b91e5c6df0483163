//! Accepts connections on the server port and hands each to what its preamble asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Node;
use crate::env::{BoxStream, Listener};
use crate::log::Told;
use crate::raft::Service;
use crate::rpc::{self, Answered, HANDSHAKE_TIMEOUT, Handler, MAGIC, Purpose, Request};
use crate::tls::Peer;

/// Connections at a time. A cluster has at most a few thousand clients, each with one or two.
const MAX_CONNECTIONS: usize = 8192;

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

/// Answers calls of other nodes.
struct Calls(Node);

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
            Ok(request) => {
                let _counted = self
                    .0
                    .inner
                    .server
                    .as_ref()
                    .map(|server| Counted::new(&server.in_flight));
                let gate = &self.0.inner.gate;
                let place = match &request {
                    Request::Propose(command) => gate.proposal(command.len()),
                    _ => gate.request(),
                };
                match place {
                    // Nobody waits for an answer after that; what has been proposed by then may still be committed.
                    Some(_place) => {
                        let answer = self.0.answer(request, deadline);
                        match tokio::time::timeout_at(deadline, answer).await {
                            Ok(answered) => answered,
                            Err(_) => return Ok(None),
                        }
                    }
                    None => Answered(Err(super::Error::Busy)),
                }
            }
            Err(error) if error.is_other_version() => return Err(error),
            // One that a later version added: whoever sends it has others that are understood.
            Err(error) => Answered(Err(super::Error::Refused(error.to_string()))),
        };
        Ok(Some(answered.encode()))
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
    let calls = Arc::new(Calls(node));
    let open = Arc::new(AtomicUsize::new(0));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly "too many open files": give others time to close theirs.
                    tracing::warn!(target: "rpc", "failed to accept a connection: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            dropped.too_many.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let requests = requests.clone();
        let (calls, service, dropped, open) = (
            calls.clone(),
            service.clone(),
            dropped.clone(),
            open.clone(),
        );
        open.fetch_add(1, Ordering::Relaxed);
        connections.spawn(async move {
            if let Err(error) = connection(stream, &calls, &service, &requests).await {
                dropped.note(from, &error);
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn connection(
    stream: BoxStream,
    calls: &Arc<Calls>,
    service: &Arc<Service>,
    requests: &Handle,
) -> Result<(), rpc::Error> {
    let tls = &calls.0.inner.tls;
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
    let (stream, peer) = tokio::time::timeout(HANDSHAKE_TIMEOUT, begin)
        .await
        .unwrap_or(Err(rpc::Error::Timeout(HANDSHAKE_TIMEOUT)))?;
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
    if purpose != Purpose::Call && peer != Peer::Server && tls.only_servers_speak_raft() {
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
        Purpose::Raft => rpc::serve(stream, service.clone()).await,
        Purpose::Append => service.serve_append(stream).await,
        Purpose::Snapshot => service.serve_snapshot(stream).await,
    }
}
