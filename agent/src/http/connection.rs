//! One connection: a request after the other, until one side has enough.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream as BoxedStream;
use hyper::Method;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::body::{self, Body, Response};
use super::request::BODY_TIMEOUT;
use super::wire::{Form, Head, Unread, Wire, chunk, encode};
use super::{Api, Server, gzip};
use crate::env::BoxStream;
use crate::seats::Seat;

/// How long a client may take to send a request's head, and how long it may keep a connection without one. Consul's
/// own client lets go of idle connections after 90 s, so it never meets a connection that is just being closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// How long requests may go on after a shutdown began.
const DRAIN: Duration = Duration::from_secs(5);

/// How much of a refused body is read before the connection is closed: eight times the largest value.
///
/// Many clients send all of a body before they look for an answer; closing the connection on them would reset it, and
/// the answer with it.
const MAX_DISCARDED_BYTES: usize = 4 << 20;

/// How long a client that is told to go may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes set aside for a response's head.
const HEAD_BYTES: usize = 384;

/// Serves a connection until it ends, or for a bounded time after the shutdown.
///
/// No `async fn`, nor are others on the way of a request: those keep their arguments twice for as long as they wait,
/// and ten thousand blocking queries wait for long.
pub(super) fn serve<A: Api>(
    server: Arc<Server<A>>,
    stream: BoxStream,
    from: SocketAddr,
    seat: Seat,
) -> impl Future<Output = ()> + Send {
    let wire = Wire::new(stream, server.settings().header_bytes_max);
    async move {
        let shutdown = server.shutdown();
        let ended = tokio::select! {
            biased;
            ended = requests(&server, &wire, &from, shutdown) => ended,
            () = too_late(shutdown) => {
                tracing::debug!(target: "http", %from, "Closed a connection in the middle of a request");
                Ok(())
            }
        };
        if let Err(error) = ended {
            // One that went away, or was too slow: the client's own business.
            tracing::debug!(target: "http", %from, %error, "Connection failed");
        }
        drop(seat);
    }
}

async fn too_late(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    Box::pin(sleep(DRAIN)).await;
}

async fn requests<A: Api>(
    server: &Server<A>,
    wire: &Wire,
    from: &SocketAddr,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let mut stopped = pin!(shutdown.cancelled());
    let mut idle = pin!(Idle::new(HEAD_TIMEOUT));
    loop {
        idle.as_mut().begin();
        let head = tokio::select! {
            biased;
            head = wire.head() => head?,
            () = idle.as_mut().over() => return Err(io::ErrorKind::TimedOut.into()),
            () = stopped.as_mut() => return Ok(()),
        };
        let head = match head {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(status) => {
                let form = Form {
                    old: false,
                    keep_alive: false,
                    without_body: false,
                };
                send(server, wire, body::empty(status), form).await?;
                return farewell(wire).await;
            }
        };
        let (old, asked, gzip) = (head.old, head.keep_alive, head.gzip);
        let without_body = head.method == Method::HEAD;
        let Some(mut response) = answer(server, wire, head, *from).await else {
            return Ok(());
        };
        if gzip && gzip::is_worth_it(&response) {
            response = Box::pin(gzip::compress(response, server.has_threads())).await;
        }
        let form = Form {
            old,
            keep_alive: asked && !shutdown.is_cancelled() && !(old && is_stream(&response)),
            without_body,
        };
        send(server, wire, response, form).await?;
        if !form.keep_alive {
            return farewell(wire).await;
        }
        // Nearly always there is nothing left of it, and nothing to wait for.
        if !wire.has_read_body() && !skip_body(wire).await {
            return farewell(wire).await;
        }
    }
}

/// The response to a request; `None` when the client has gone meanwhile.
fn answer<A: Api>(
    server: &Server<A>,
    wire: &Wire,
    head: Head,
    from: SocketAddr,
) -> impl Future<Output = Option<Response>> + Send {
    // Boxed, so that a connection between two requests is small.
    let response = Box::pin(server.respond(head, wire.clone(), from));
    async move {
        tokio::select! {
            biased;
            response = response => Some(response),
            () = wire.gone() => None,
        }
    }
}

fn is_stream(response: &Response) -> bool {
    matches!(response.body, Body::Stream(_))
}

fn send<A: Api>(
    server: &Server<A>,
    wire: &Wire,
    response: Response,
    form: Form,
) -> impl Future<Output = io::Result<()>> + Send {
    let body = match &response.body {
        Body::Whole(bytes) => bytes.len(),
        Body::Stream(_) => 0,
    };
    let mut out = Vec::with_capacity(HEAD_BYTES + body);
    let more = &server.settings().response_headers;
    with_date(server.unix_ms(), |date| {
        encode(&response, form, date, more, &mut out);
    });
    let stream = match response.body {
        Body::Stream(stream) if !form.without_body => Some(stream),
        _ => None,
    };
    async move {
        wire.write(&out).await?;
        drop(out);
        match stream {
            Some(stream) => Box::pin(send_stream(wire, stream, form)).await,
            None => Ok(()),
        }
    }
}

async fn send_stream(
    wire: &Wire,
    mut stream: BoxedStream<'static, Bytes>,
    form: Form,
) -> io::Result<()> {
    loop {
        let next = tokio::select! {
            biased;
            next = stream.next() => next,
            () = wire.gone() => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        match next {
            // An empty chunk would be taken for the end.
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => wire.write(&chunk(form, &bytes)).await?,
            None => return wire.write(&chunk(form, b"")).await,
        }
    }
}

/// Reads over what is left of a body; whether the next request can be found.
fn skip_body(wire: &Wire) -> BoxFuture<'_, bool> {
    Box::pin(async {
        let skipped = timeout(BODY_TIMEOUT, wire.skip_body(MAX_DISCARDED_BYTES));
        skipped.await == Ok(true)
    })
}

/// Ends the connection so that the client can still read what it was told: closing while something unread waits would
/// reset the connection.
fn farewell(wire: &Wire) -> BoxFuture<'_, io::Result<()>> {
    Box::pin(async {
        wire.finish().await?;
        let patience = match wire.unread() {
            Unread::Nothing => return Ok(()),
            Unread::Body => BODY_TIMEOUT,
            Unread::Anything => FAREWELL,
        };
        // However it ends, it is over.
        let _ = timeout(patience, wire.forget(MAX_DISCARDED_BYTES)).await;
        Ok(())
    })
}

/// Measures how long a client has been silent, without touching a timer for each request.
struct Idle {
    limit: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        let since = Instant::now();
        Self {
            limit,
            since,
            timer: Box::pin(sleep_until(since + limit)),
        }
    }

    /// The silence begins.
    fn begin(mut self: Pin<&mut Self>) {
        self.since = Instant::now();
    }

    /// Returns when it has lasted too long.
    async fn over(mut self: Pin<&mut Self>) {
        loop {
            self.timer.as_mut().await;
            let end = self.since + self.limit;
            if self.timer.deadline() >= end {
                return;
            }
            self.timer.as_mut().reset(end);
        }
    }
}

thread_local! {
    /// The second that was last written out, and how.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Passes the value of `Date`, written out once a second.
fn with_date(unix_ms: u64, with: impl FnOnce(&str)) {
    let second = unix_ms / 1000;
    DATE.with_borrow_mut(|(shown, text)| {
        if *shown != second {
            *text = date(second);
            *shown = second;
        }
        with(text);
    });
}

/// As RFC 9110 has it.
fn date(unix_seconds: u64) -> String {
    let timestamp = i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .unwrap_or_default();
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&timestamp)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        let mut seen = Vec::new();
        for unix_ms in [0, 999, 1000] {
            with_date(unix_ms, |date| seen.push(date.to_owned()));
        }
        assert_eq!(seen[0], seen[1]);
        assert_ne!(seen[1], seen[2]);
    }

    #[tokio::test]
    async fn silence_is_measured_from_its_beginning() {
        let limit = Duration::from_millis(20);
        let mut idle = pin!(Idle::new(limit));
        tokio::time::sleep(limit / 2).await;
        let begin = Instant::now();
        idle.as_mut().begin();
        idle.as_mut().over().await;
        assert!(begin.elapsed() >= limit);
    }
}
