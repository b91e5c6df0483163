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
    #[error("closed without an answer")]
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
    addr: SocketAddr,
    kind: FrameKind,
    request: &Exchange,
) -> Result<Exchange, JoinError> {
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
    let protocol = |e: StreamError| JoinError::Protocol {
        address: addr,
        reason: e.to_string(),
    };
    let talk = async {
        let frame = seal_frame(kind, &request.encode())?;
        stream.write_all(&frame).await?;
        stream.flush().await?;
        read_frame(&mut stream).await
    };
    let (kind, payload) = timeout(DEADLINE, talk)
        .await
        .unwrap_or(Err(StreamError::Deadline))
        .map_err(protocol)?;
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

/// The words that Consul has for the most frequent failure; the kind stays.
fn worded(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::ConnectionRefused {
        io::Error::new(e.kind(), "connect: connection refused")
    } else {
        e
    }
}

/// Reads one frame. The buffer grows with what arrives, not with what is announced.
async fn read_frame(stream: &mut BoxStream) -> Result<(FrameKind, Vec<u8>), StreamError> {
    let mut head = [0; FRAME_HEAD];
    let mut filled = 0;
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
            let outcome = timeout(DEADLINE, serve_one(stream, requests)).await;
            if let Err(e) = outcome.unwrap_or(Err(StreamError::Deadline)) {
                shared.streams_dropped.fetch_add(1, Ordering::Relaxed);
                if let StreamError::Decode(error) = &e {
                    shared.note_version(from, error);
                }
                tracing::debug!(target: "serf", "dropped a stream: from={from} error={e}");
            }
            drop(permit);
        });
    }
}

/// Reads a request, has the driver answer it, and sends the answer.
async fn serve_one(
    mut stream: BoxStream,
    requests: mpsc::Sender<Command>,
) -> Result<(), StreamError> {
    let (kind, payload) = read_frame(&mut stream).await?;
    if matches!(kind, FrameKind::Accept | FrameKind::Refuse) {
        return Err(StreamError::Kind);
    }
    let request = Exchange::decode(&payload)?;
    let (reply, answer) = oneshot::channel();
    // The driver is gone only when the whole pool member shuts down: nothing is left to say.
    let command = Command::Answer {
        kind,
        request,
        reply,
    };
    if requests.send(command).await.is_err() {
        return Ok(());
    }
    let frame = match answer.await {
        Ok(Ok(exchange)) => seal_frame(FrameKind::Accept, &exchange.encode())?,
        Ok(Err(reason)) => seal_frame(FrameKind::Refuse, reason.as_bytes())?,
        Err(_) => return Ok(()),
    };
    stream.write_all(&frame).await?;
    stream.shutdown().await?;
    Ok(())
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
