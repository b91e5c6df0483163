//! `/healthz`, `/readyz` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Counters;

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Open connections; more wait in the kernel's queue. Whoever asks here are probes and Prometheus.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may live: one that is kept open takes nobody's place for ever.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// Pause after a failed accept: the process is out of file descriptors, and trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is asked about.
#[derive(Debug, Default)]
pub struct Health {
    /// Whether the API server has answered.
    pub ready: AtomicBool,
    /// Whether this replica leads.
    pub leads: AtomicBool,
    /// Counters of the controller.
    pub counters: Arc<Counters>,
}

impl Health {
    /// The metrics as Prometheus' text.
    fn metrics(&self) -> String {
        self.counters.text(self.leads.load(Ordering::Relaxed))
    }

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, String) {
        if method != Method::GET && method != Method::HEAD {
            return (
                StatusCode::METHOD_NOT_ALLOWED,
                format!("method {method} not allowed\n"),
            );
        }
        match path {
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if self.ready.load(Ordering::Relaxed) => (StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the API server has not answered yet\n".to_owned(),
            ),
            "/metrics" => (StatusCode::OK, self.metrics()),
            _ => (
                StatusCode::NOT_FOUND,
                "/healthz, /readyz or /metrics\n".to_owned(),
            ),
        }
    }
}

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let health = Arc::clone(&health);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request: Request<Incoming>| {
                let (status, text) = health.answer(request.method(), request.uri().path());
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = status;
                let kind =
                    http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, kind);
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let mut server = http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT);
            let served = server.serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(CONNECTION_TIME_MAX, served).await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn ready_means_that_the_api_server_has_answered() {
        let health = Health::default();
        assert_eq!(health.answer(&Method::GET, "/healthz").0, StatusCode::OK);
        assert_eq!(
            health.answer(&Method::GET, "/readyz").0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        health.ready.store(true, Ordering::Relaxed);
        assert_eq!(health.answer(&Method::GET, "/readyz").0, StatusCode::OK);
        assert_eq!(
            health.answer(&Method::POST, "/readyz").0,
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(health.answer(&Method::GET, "/").0, StatusCode::NOT_FOUND);
    }

    /// Whoever keeps connections open keeps others waiting until one of them ends, and no longer.
    #[tokio::test]
    async fn so_many_connections_are_served_and_the_next_one_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::default()));
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
            stream.write_all(request).await.unwrap();
            stream
        };
        let answer = async |stream: &mut TcpStream| stream.read_exact(&mut [0; 15]).await.map(drop);
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = ask().await;
            answer(&mut stream).await.unwrap();
            held.push(stream);
        }
        let mut next = ask().await;
        // The time in which it is not answered; it decides nothing when the test is good.
        let early = timeout(Duration::from_millis(200), answer(&mut next)).await;
        assert!(early.is_err(), "more than {CONNECTIONS_MAX} are served");
        drop(held.pop());
        answer(&mut next).await.unwrap();
        server.abort();
    }

    #[test]
    fn metrics_are_answered() {
        let health = Health::default();
        health.counters.status_writes.store(7, Ordering::Relaxed);
        let (status, text) = health.answer(&Method::GET, "/metrics");
        assert_eq!(status, StatusCode::OK);
        assert!(
            text.contains(
                "# TYPE operator_status_writes_total counter\noperator_status_writes_total 7\n"
            ),
            "{text}"
        );
    }
}
