//! Checks over HTTP/2: its ping, and the health protocol of gRPC.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use hyper::{Method, Request};
use tokio_util::task::AbortOnDropHandle;

use super::{Outcome, connect, critical, other, passing};
use crate::env::Env;
use crate::local::definition::Tls;

/// Longest answer of a health service that is read.
const ANSWER_MAX: usize = 64 * 1024;

/// A ping must come back.
pub(super) async fn ping(env: &Env, address: &str, tls: Option<&Tls>) -> Outcome {
    let attempt = async {
        // A connection that nobody can ask anything any more would be closed.
        let (_sender, mut connection) = handshake(env, address, tls).await?;
        let mut pings = connection.ping_pong().ok_or_else(|| other("no ping"))?;
        let driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let pong = pings.ping(h2::Ping::opaque()).await;
        drop(driver);
        pong.map_err(io::Error::other)
    };
    match attempt.await {
        Ok(_) => passing("HTTP2 ping was successful"),
        Err(error) => critical(format!("HTTP2 ping to {address} failed: {error}")),
    }
}

/// The health service must say that it serves.
pub(super) async fn grpc(env: &Env, target: &str, tls: Option<&Tls>) -> Outcome {
    let (address, service) = target.split_once('/').unwrap_or((target, ""));
    match health(env, address, service, tls).await {
        Ok(SERVING) => passing(format!("gRPC check {target}: success")),
        Ok(status) => {
            let word = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
            let word = usize::try_from(status).ok().and_then(|n| word.get(n));
            let word = word.copied().unwrap_or("an unknown status");
            critical(format!("gRPC {target} serving status: {word}"))
        }
        Err(error) => critical(format!("gRPC check {target} failed: {error}")),
    }
}

const SERVING: u64 = 1;

type Connection = client::Connection<crate::env::BoxStream, Bytes>;

async fn handshake(
    env: &Env,
    address: &str,
    tls: Option<&Tls>,
) -> io::Result<(SendRequest<Bytes>, Connection)> {
    let stream = connect::open(env, address, tls, &[b"h2"]).await?;
    client::handshake(stream).await.map_err(io::Error::other)
}

/// One call of `grpc.health.v1.Health/Check`; the status that it answers.
async fn health(env: &Env, address: &str, service: &str, tls: Option<&Tls>) -> io::Result<u64> {
    let (sender, connection) = handshake(env, address, tls).await?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut sender = sender.ready().await.map_err(io::Error::other)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "Consul Health Check")
        .body(())
        .map_err(io::Error::other)?;
    let (response, mut body) = sender
        .send_request(request, false)
        .map_err(io::Error::other)?;
    body.send_data(message(service), true)
        .map_err(io::Error::other)?;
    let response = response.await.map_err(io::Error::other)?;
    if !response.status().is_success() {
        return Err(other(format!("HTTP status {}", response.status())));
    }
    refused(response.headers())?;
    let mut answer = BytesMut::new();
    let mut stream = response.into_body();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(io::Error::other)?;
        // Who does not give room back gets no more than the first window.
        let _ = stream.flow_control().release_capacity(piece.len());
        answer.extend_from_slice(&piece);
        if answer.len() > ANSWER_MAX {
            return Err(other("the answer is too long"));
        }
    }
    if let Some(trailers) = stream.trailers().await.map_err(io::Error::other)? {
        refused(&trailers)?;
    }
    let message = answer.get(5..).ok_or_else(|| other("the answer is cut"))?;
    Ok(status(message))
}

/// The error that headers or trailers tell.
fn refused(headers: &hyper::HeaderMap) -> io::Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => {
            let why = text("grpc-message").unwrap_or_default();
            Err(other(format!("rpc error: code = {code} desc = {why}")))
        }
    }
}

/// A `HealthCheckRequest`, framed: field 1 is the service's name.
fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() {
        body.put_u8(0x0a);
        let mut len = service.len();
        while len >= 0x80 {
            body.put_u8((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        body.put_u8(len as u8);
        body.extend_from_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&body);
    framed.freeze()
}

/// Field 1 of a `HealthCheckResponse`, a number; 0 when it is not there.
fn status(message: &[u8]) -> u64 {
    let [0x08, number @ ..] = message else {
        return 0;
    };
    let mut status = 0;
    for (place, byte) in number.iter().take(9).enumerate() {
        status |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_protobufs_in_frames() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(
            &message("web")[..],
            [0, 0, 0, 0, 5, 0x0a, 3, b'w', b'e', b'b']
        );
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(status(&[0x08, 1]), SERVING);
        assert_eq!(status(&[0x08, 0xac, 0x02]), 300);
        assert_eq!(status(&[]), 0);
        assert_eq!(status(&[0x08; 100]), 8);
    }
}
