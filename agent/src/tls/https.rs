//! Accepting clients of the HTTPS API.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Tls;
use super::prefixed::{Prefixed, is_handshake};
use crate::env::{BoxStream, Listener};

/// Handshakes at a time, on one address; who comes when there are so many waits to be accepted.
const MAX_HANDSHAKES: usize = 512;

/// What a client reads that speaks HTTP where HTTPS is spoken, as servers in Go say it.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

type Shaken = (Option<BoxStream>, SocketAddr);

/// A listener whose connections have made their handshake. One that fails is closed, and costs the others nothing.
pub struct Https {
    listener: Box<dyn Listener>,
    tls: Arc<Tls>,
    under_way: FuturesUnordered<BoxFuture<'static, Shaken>>,
}

impl Https {
    /// Secures what a listener accepts.
    pub fn new(listener: Box<dyn Listener>, tls: Arc<Tls>) -> Self {
        Self {
            listener,
            tls,
            under_way: FuturesUnordered::new(),
        }
    }

    fn begin(&self, stream: BoxStream, from: SocketAddr) {
        let now = self.tls.now.load_full();
        let limit = now.settings.https_handshake_timeout;
        let shake = async move {
            let Some(config) = now.https.clone() else {
                return Err(io::Error::other("there is no certificate any more"));
            };
            let mut stream = Prefixed::peek(stream).await?;
            if !is_handshake(stream.first()) {
                stream.write_all(NOT_TLS).await?;
                stream.shutdown().await?;
                return Err(io::Error::other("the client does not use TLS"));
            }
            TlsAcceptor::from(config).accept(stream).await
        };
        let whole = async move {
            let shaken = timeout(limit, shake).await;
            match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => (Some(Box::new(stream) as BoxStream), from),
                Err(error) => {
                    tracing::debug!(target: "http", %from, %error, "TLS handshake failed");
                    (None, from)
                }
            }
        };
        self.under_way.push(whole.boxed());
    }
}

impl Listener for Https {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        async move {
            loop {
                let has_room = self.under_way.len() < MAX_HANDSHAKES;
                tokio::select! {
                    Some(shaken) = self.under_way.next() => {
                        if let (Some(stream), from) = shaken {
                            return Ok((stream, from));
                        }
                    }
                    accepted = self.listener.accept(), if has_room => {
                        let (stream, from) = accepted?;
                        self.begin(stream, from);
                    }
                }
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
