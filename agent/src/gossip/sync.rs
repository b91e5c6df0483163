//! The TCP path: one framed request and one framed answer per connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::codec::{DecodeError, Exchange, FRAME_HEAD, FrameKind, open_frame, seal_frame};
use super::driver::Command;
use super::keyring::KeyringOp;
use super::sealed::{self, OpenError, is_sealed, was_closed};
use super::{JoinError, Shared};
use crate::env::{BoxStream, Env, Listener};

/// Longest an exchange may take, on either side.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Most streams that are served at once; more wait in the kernel's queue. Bounds memory to this many frames.
const STREAMS_MAX: usize = 32;
/// How long to wait after an error of the listener, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a stream came to nothing.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("closed without an answer, as by one whose gossip is encrypted")]
    Closed,
    #[error("unexpected kind of frame")]
    Kind,
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// Splits `host`, `host:port`, `ip`, `[v6]:port` or `v6` into host and port.
pub(crate) fn parse_address(address: &str, default_port: u16) -> io::Result<(String, u16)> {
    let invalid = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let address = address.trim();
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| invalid("missing ']' in address"))?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| invalid("invalid port"))?,
            None if rest.is_empty() => default_port,
            None => return Err(invalid("unexpected text after ']'")),
        };
        return Ok((host.to_owned(), port));
    }
    let (host, port) = match address.split_once(':') {
        // More than one colon and no brackets: an IPv6 address.
        Some((_, rest)) if rest.contains(':') => (address, default_port),
        Some((host, port)) => (host, port.parse().map_err(|_| invalid("invalid port"))?),
        None => (address, default_port),
    };
    if host.is_empty() {
        return Err(invalid("missing host"));
    }
    Ok((host.to_owned(), port))
}

/// Sends one request to `addr` and reads the answer.
pub(crate) async fn exchange(
    env: &Env,
    shared: &Shared,
    addr: SocketAddr,
    kind: FrameKind,
    request: &Exchange,
) -> Result<Exchange, JoinError> {
    let protocol = |e: StreamError| JoinError::Protocol {
        address: addr,
        reason: e.to_string(),
    };
    let (kind, payload) = talk(env, shared, addr, kind, &request.encode()).await?;
    match kind {
        FrameKind::Accept => {
            Exchange::decode(&payload).map_err(|e| protocol(StreamError::Decode(e)))
        }
        FrameKind::Refuse => Err(JoinError::Refused {
            address: addr,
            reason: String::from_utf8_lossy(&payload).into_owned(),
        }),
        _ => Err(protocol(StreamError::Kind)),
    }
}

/// Has the member at `addr` do something with its keys; all of them, or why not.
pub(super) async fn ask_keys(
    env: &Env,
    shared: &Shared,
    addr: SocketAddr,
    op: &KeyringOp,
) -> Result<Result<Vec<String>, String>, JoinError> {
    let protocol = |reason: String| JoinError::Protocol {
        address: addr,
        reason,
    };
    let request = postcard::to_stdvec(op).map_err(|e| protocol(e.to_string()))?;
    let (kind, payload) = talk(env, shared, addr, FrameKind::Keyring, &request).await?;
    match kind {
        FrameKind::Keys => postcard::from_bytes(&payload).map_err(|e| protocol(e.to_string())),
        FrameKind::Refuse => Ok(Err(String::from_utf8_lossy(&payload).into_owned())),
        _ => Err(protocol(StreamError::Kind.to_string())),
    }
}

/// One frame there, one frame back.
async fn talk(
    env: &Env,
    shared: &Shared,
    addr: SocketAddr,
    kind: FrameKind,
    payload: &[u8],
) -> Result<(FrameKind, Vec<u8>), JoinError> {
    let connect = |source| JoinError::Connect {
        address: addr,
        source,
    };
    let mut stream = match timeout(DEADLINE, env.net.connect(addr)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Err(connect(worded(e))),
        Err(_) => {
            return Err(connect(io::Error::new(
                io::ErrorKind::TimedOut,
                "i/o timeout",
            )));
        }
    };
    let talk = async {
        let frame = seal_frame(kind, payload)?;
        // Keys never travel in the open.
        let sealer = shared.sealer.as_deref();
        let sealer = sealer.filter(|sealer| sealer.seals() || kind == FrameKind::Keyring);
        match sealer {
            Some(sealer) => Ok(whole_frame(&sealer.ask(&mut stream, &frame).await?)?),
            None => {
                stream.write_all(&frame).await?;
                stream.flush().await?;
                read_frame(&mut stream, &[])
                    .await
                    .map_err(|error| match error {
                        StreamError::Io(error) if was_closed(&error) => StreamError::Closed,
                        error => error,
                    })
            }
        }
    };
    timeout(DEADLINE, talk)
        .await
        .unwrap_or(Err(StreamError::Deadline))
        .map_err(|e: StreamError| JoinError::Protocol {
            address: addr,
            reason: e.to_string(),
        })
}

/// A frame that is there as a whole.
fn whole_frame(bytes: &[u8]) -> Result<(FrameKind, Vec<u8>), DecodeError> {
    let (head, payload) = bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
    let (kind, length) = open_frame(head)?;
    match payload.len() == length {
        true => Ok((kind, payload.to_vec())),
        false => Err(DecodeError::Truncated),
    }
}

/// The words that Consul has for the most frequent failure; the kind stays.
fn worded(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::ConnectionRefused {
        io::Error::new(e.kind(), "connect: connection refused")
    } else {
        e
    }
}

/// Reads one frame. The buffer grows with what arrives, not with what is announced.
///
/// `first` are bytes of its head that were read before.
async fn read_frame(
    stream: &mut BoxStream,
    first: &[u8],
) -> Result<(FrameKind, Vec<u8>), StreamError> {
    let mut head = [0; FRAME_HEAD];
    head[..first.len()].copy_from_slice(first);
    let mut filled = first.len();
    while filled < FRAME_HEAD {
        match stream.read(&mut head[filled..]).await? {
            0 if filled == 0 => return Err(StreamError::Closed),
            0 => return Err(DecodeError::Truncated.into()),
            n => filled += n,
        }
    }
    let (kind, length) = open_frame(&head)?;
    let mut payload = Vec::new();
    let read = stream.take(length as u64).read_to_end(&mut payload).await?;
    if read < length {
        return Err(DecodeError::Truncated.into());
    }
    Ok((kind, payload))
}

/// Accepts streams and serves each on its own task until the future is dropped.
pub(crate) async fn serve(
    mut listener: Box<dyn Listener>,
    requests: mpsc::Sender<Command>,
    shared: Arc<Shared>,
) {
    let permits = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!(target: "serf", "cannot accept a stream: error={e}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (requests, shared) = (requests.clone(), Arc::clone(&shared));
        tasks.spawn(async move {
            let outcome = timeout(DEADLINE, serve_one(stream, requests, &shared)).await;
            if let Err(e) = outcome.unwrap_or(Err(StreamError::Deadline)) {
                shared.streams_dropped.fetch_add(1, Ordering::Relaxed);
                match &e {
                    StreamError::Decode(error) => shared.note_version(from, error),
                    StreamError::Open(error) => shared.note_unopened(from, *error),
                    _ => {}
                }
                tracing::debug!(target: "serf", "dropped a stream: from={from} error={e}");
            }
            drop(permit);
        });
    }
}

/// Reads a request, has it answered, and sends the answer.
async fn serve_one(
    mut stream: BoxStream,
    requests: mpsc::Sender<Command>,
    shared: &Shared,
) -> Result<(), StreamError> {
    let mut first = [0; 4];
    let mut filled = 0;
    while filled < first.len() {
        match stream.read(&mut first[filled..]).await? {
            0 if filled == 0 => return Err(StreamError::Closed),
            0 => return Err(DecodeError::Truncated.into()),
            n => filled += n,
        }
    }
    let (request, key) = match (&shared.sealer, is_sealed(&first)) {
        (None, true) => return Err(DecodeError::Sealed.into()),
        (Some(sealer), false) if sealer.demands() => return Err(OpenError::Plain.into()),
        (_, false) => (read_frame(&mut stream, &first).await?, None),
        (Some(sealer), true) => {
            let (frame, key) = sealer.listen(&mut stream).await??;
            (whole_frame(&frame)?, Some(key))
        }
    };
    let (kind, payload) = request;
    let frame = match kind {
        FrameKind::Keyring if key.is_some() => keys(shared, &payload)?,
        _ => match answer_of(kind, &payload, requests).await? {
            Some(frame) => frame,
            None => return Ok(()),
        },
    };
    match key {
        Some(key) => sealed::answer(&mut stream, &key, &frame).await?,
        None => stream.write_all(&frame).await?,
    }
    stream.shutdown().await?;
    Ok(())
}

/// What this node's keys are, after what was asked for.
fn keys(shared: &Shared, payload: &[u8]) -> Result<Vec<u8>, StreamError> {
    let op: Result<KeyringOp, _> = postcard::from_bytes(payload);
    let op = op.map_err(|_| DecodeError::Invalid("operation on keys"))?;
    let keys = postcard::to_stdvec(&shared.change_keys(&op));
    let keys = keys.map_err(|_| DecodeError::TooLong("keyring"))?;
    Ok(seal_frame(FrameKind::Keys, &keys)?)
}

/// What the driver says to a request; `None` when the whole pool member shuts down: nothing is left to say.
async fn answer_of(
    kind: FrameKind,
    payload: &[u8],
    requests: mpsc::Sender<Command>,
) -> Result<Option<Vec<u8>>, StreamError> {
    match kind {
        FrameKind::Join | FrameKind::Sync | FrameKind::Fetch | FrameKind::Push => {}
        // Keys are not spoken of in the open.
        FrameKind::Keyring | FrameKind::Accept | FrameKind::Refuse | FrameKind::Keys => {
            return Err(StreamError::Kind);
        }
    }
    let request = Exchange::decode(payload)?;
    let (reply, answer) = oneshot::channel();
    let command = Command::Answer {
        kind,
        request,
        reply,
    };
    if requests.send(command).await.is_err() {
        return Ok(None);
    }
    Ok(match answer.await {
        Ok(Ok(exchange)) => Some(seal_frame(FrameKind::Accept, &exchange.encode())?),
        Ok(Err(reason)) => Some(seal_frame(FrameKind::Refuse, reason.as_bytes())?),
        Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_as_people_write_them() {
        for (given, host, port) in [
            ("127.0.0.2", "127.0.0.2", 8301),
            ("127.0.0.2:9", "127.0.0.2", 9),
            ("node.example:9", "node.example", 9),
            (" node ", "node", 8301),
            ("::1", "::1", 8301),
            ("[::1]", "::1", 8301),
            ("[::1]:9", "::1", 9),
        ] {
            assert_eq!(
                parse_address(given, 8301).unwrap(),
                (host.to_owned(), port),
                "{given}"
            );
        }
        for given in ["", ":9", "a:b", "a:99999", "[::1", "[::1]x"] {
            assert!(parse_address(given, 8301).is_err(), "{given}");
        }
    }
}
