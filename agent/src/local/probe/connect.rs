//! Connections: TCP, TLS, UDP.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Outcome, critical, other, passing};
use crate::env::{BoxStream, Env};
use crate::local::definition::Tls;
use crate::tls::ClientTls;

/// A connection must be accepted.
pub(super) async fn tcp(env: &Env, address: &str, tls: Option<&Tls>) -> Outcome {
    match open(env, address, tls, &[]).await {
        Ok(_) => passing(format!("TCP connect {address}: Success")),
        Err(error) => critical(format!("dial tcp {address}: {error}")),
    }
}

/// A datagram must not be refused. No answer is no refusal.
pub(super) async fn udp(env: &Env, address: &str) -> Outcome {
    /// How long a refusal may take to come back.
    const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);
    let attempt = async {
        let (host, port) = split(address)?;
        let found = env.net.resolve(host, port).await?;
        let to = *found.first().ok_or_else(|| other("no address"))?;
        // A socket of its own that is connected, or the kernel does not tell of refusals.
        let own: std::net::SocketAddr = match to.is_ipv4() {
            true => ([0, 0, 0, 0], 0).into(),
            false => ([0_u16; 8], 0).into(),
        };
        let socket = tokio::net::UdpSocket::bind(own).await?;
        socket.connect(to).await?;
        socket.send(b"").await?;
        let mut answer = [0; 1];
        match tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    };
    match attempt.await {
        Ok(()) => passing(format!("UDP connect {address}: Success")),
        Err(error) => critical(format!("dial udp {address}: {error}")),
    }
}

/// Connects to the first address that takes it.
pub(super) async fn open(
    env: &Env,
    address: &str,
    tls: Option<&Tls>,
    protocols: &[&[u8]],
) -> io::Result<BoxStream> {
    let (host, port) = split(address)?;
    let mut last = other("no address");
    for to in env.net.resolve(host, port).await? {
        match env.net.connect(to).await {
            Ok(stream) => {
                return match tls {
                    None => Ok(stream),
                    Some(tls) => secure(stream, host, tls, protocols).await,
                };
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `HOST:PORT`, the host in brackets if it is IPv6.
pub(super) fn split(address: &str) -> io::Result<(&str, u16)> {
    let split = address.rsplit_once(':');
    let (host, port) = split.ok_or_else(|| other(format!("address {address}: missing port")))?;
    let port = port
        .parse()
        .map_err(|_| other(format!("address {address}: invalid port")))?;
    let host = host
        .strip_prefix('[')
        .map_or(host, |host| host.trim_end_matches(']'));
    Ok((host, port))
}

/// Speaks TLS on a connection.
async fn secure(
    stream: BoxStream,
    host: &str,
    tls: &Tls,
    protocols: &[&[u8]],
) -> io::Result<BoxStream> {
    let name = match tls.server_name.as_str() {
        "" => host,
        name => name,
    };
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let settings = ClientTls {
        skip_verify: tls.skip_verify,
        ..ClientTls::default()
    };
    let config = settings.load().map_err(io::Error::other)?;
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let connector = TlsConnector::from(Arc::new(config));
    Ok(Box::new(connector.connect(name, stream).await?))
}
