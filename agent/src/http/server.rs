//! Accepting connections, and the way of a request through them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, ready};
use hyper::StatusCode;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{self, Response, Value};
use super::datacenter::{Destination, destination};
use super::error::{Error, wrong_method};
use super::needs::{self, Need};
use super::request::{Params, Request};
use super::route::{ENDPOINTS, Found, Route, find};
use super::shared::{Bodies, Shared};
use super::wire::{Head, Wire};
use super::{Api, Process, Settings, connection, guard, kv, listen};
use crate::acl::SharedHolder;
use crate::env::{BoxStream, Env, Listener, Random};
use crate::metrics::{Metrics, Timer};
use crate::node;
use crate::seats::{Seat, Seats};
use crate::state::{Command, Outcome};

/// Pause after a failed accept: the process is out of file descriptors, and trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a refused connection may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Open connections of all clients together; more are refused like those of one client that has too many.
const MAX_CONNECTIONS: u32 = 65_536;

const REFUSAL: &str = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: 80\r\nConnection: close\r\nRetry-After: 1\r\n\r\nYour IP is issuing too many concurrent connections, please rate limit your calls";

/// What becomes of a request at its endpoint.
pub(super) type Answer<'a> = BoxFuture<'a, Result<Response, Error>>;

/// What a server is made of.
pub struct Parts<A> {
    /// The node.
    pub api: A,
    /// Random numbers for jitter and session ids; the clock.
    pub env: Env,
    /// Configuration.
    pub settings: Settings,
    /// Where requests are measured, and what `/v1/agent/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The process around the node.
    pub process: Arc<dyn Process>,
    /// Ends every listener, then every request.
    pub shutdown: CancellationToken,
}

/// The HTTP API, for any number of listeners.
pub struct Server<A> {
    api: A,
    /// The datacenter that `api` asks, where it is another one.
    elsewhere: Option<String>,
    /// What whoever asks may do, where this agent decides about that.
    holder: Option<SharedHolder>,
    common: Arc<Common>,
}

/// What is the same whichever datacenter is asked.
struct Common {
    env: Env,
    settings: Settings,
    metrics: Arc<Metrics>,
    process: Arc<dyn Process>,
    shutdown: CancellationToken,
    seats: Seats,
    shared: Shared,
    /// By endpoint, then by its methods.
    timers: Vec<Vec<Timer>>,
    /// By kind of command, as [`write_kind`] numbers them.
    writes: [Timer; WRITES.len()],
}

impl<A: Api> Server<A> {
    /// Puts the parts together.
    pub fn new(parts: Parts<A>) -> Arc<Self> {
        let timers = ENDPOINTS.iter().map(|endpoint| {
            let path = endpoint.pattern.trim_start_matches('/').replace('/', "_");
            let timer = |method: &&str| {
                parts
                    .metrics
                    .timer("api.http", &[("method", method), ("path", &path)])
            };
            endpoint.methods.iter().map(timer).collect()
        });
        let timers = timers.collect();
        let Parts {
            api,
            env,
            settings,
            metrics,
            process,
            shutdown,
        } = parts;
        Arc::new(Self {
            api,
            elsewhere: None,
            holder: None,
            common: Arc::new(Common {
                writes: WRITES.map(|name| metrics.timer(name, &[])),
                env,
                settings,
                metrics,
                process,
                shutdown,
                seats: Seats::new(MAX_CONNECTIONS),
                shared: Shared::default(),
                timers,
            }),
        })
    }

    /// The same API, of a datacenter.
    pub(super) fn at(&self, datacenter: &str) -> Self {
        let is_own = datacenter == self.common.settings.datacenter;
        Self {
            api: self.api.at(datacenter),
            elsewhere: (!is_own).then(|| datacenter.to_owned()),
            holder: self.holder.clone(),
            common: self.common.clone(),
        }
    }

    /// Whether it is the primary datacenter that is asked.
    pub(super) fn is_of_primary(&self) -> bool {
        self.datacenter() == self.common.settings.primary_datacenter
    }

    /// The same API, for whoever holds this token.
    pub(super) fn with(&self, secret: &str) -> Self {
        Self {
            api: self.api.with(secret),
            elsewhere: self.elsewhere.clone(),
            holder: None,
            common: self.common.clone(),
        }
    }

    /// The same API as this agent itself asks: on a server without regard for tokens.
    pub(super) fn as_agent(&self) -> Self {
        Self {
            api: self.api.own(),
            elsewhere: self.elsewhere.clone(),
            holder: None,
            common: self.common.clone(),
        }
    }

    /// Serves several listeners until the shutdown; see [`Server::serve`].
    pub async fn run(self: Arc<Self>, listeners: Vec<Box<dyn Listener>>) {
        let served = listeners.into_iter().map(|l| self.clone().serve(l));
        futures::future::join_all(served).await;
    }

    /// Serves a listener until the shutdown, then waits until its requests are over, for a bounded time.
    pub async fn serve(self: Arc<Self>, mut listener: Box<dyn Listener>) {
        let shutdown = self.common.shutdown.clone();
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    match self.seat(from) {
                        Some(seat) => {
                            let server = self.clone();
                            connections.spawn(connection::serve(server, stream, from, seat))
                        }
                        None => connections.spawn(refuse(stream)),
                    };
                }
                Err(error) => {
                    tracing::warn!(target: "http", %error, "Failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// One of the places for connections; `None` when there is none left for this client.
    pub(super) fn seat(&self, from: SocketAddr) -> Option<Seat> {
        let max = self.common.settings.http_max_conns_per_client;
        // Who may open a Unix socket is settled by its permissions.
        let max = if from == listen::NO_ADDRESS { 0 } else { max };
        self.common.seats.take(from.ip(), max)
    }

    /// Answers one request.
    pub(super) fn respond(
        &self,
        head: Head,
        wire: Wire,
        from: SocketAddr,
    ) -> impl Future<Output = Response> + Send {
        let started = Instant::now();
        // Only for whoever looks.
        let shown = tracing::enabled!(target: "http", tracing::Level::DEBUG).then(|| {
            let path = head.target.split('?').next().unwrap_or_default();
            Box::new((head.method.clone(), path.to_owned()))
        });
        let of_api = head.target.starts_with("/v1/");
        let policy = self.settings().default_policy;
        let response = match Request::new(head, wire) {
            Ok(request) => Either::Left(self.route(request, started, from)),
            Err(error) => Either::Right(ready(error.into())),
        };
        response.map(move |mut response: Response| {
            if of_api {
                response.set("X-Consul-Default-Acl-Policy", Value::Static(policy));
            }
            if let Some((method, url)) = shown.as_deref() {
                tracing::debug!(
                    target: "http",
                    %method,
                    url,
                    %from,
                    latency = ?started.elapsed(),
                    "Request finished"
                );
            }
            response
        })
    }

    fn route(
        &self,
        mut request: Request,
        started: Instant,
        from: SocketAddr,
    ) -> impl Future<Output = Response> + Send {
        if let Err(error) = guard::check_path(self.settings(), &request.path) {
            return Either::Right(ready(error.into()));
        }
        let (at, behind) = match find(&request.path) {
            Found::Endpoint(at, rest) => (at, request.path.len() - rest.len()),
            Found::Slash => return Either::Right(ready(add_slash(&request.path))),
            Found::Root => {
                return Either::Right(ready(body::text(
                    StatusCode::OK,
                    "Consul Agent: UI disabled. To enable, set ui_config.enabled=true in the agent configuration and restart.",
                )));
            }
            Found::Nothing => {
                let text = "Invalid URL path: not a recognized HTTP API endpoint";
                return Either::Right(ready(Error::not_found(text).into()));
            }
        };
        let endpoint = &ENDPOINTS[at];
        let by_method = endpoint.methods.iter().position(|m| request.method == *m);
        let Some(by_method) = by_method else {
            return Either::Right(ready(wrong_method(
                request.method.as_str(),
                endpoint.methods,
            )));
        };
        let ip = (from != listen::NO_ADDRESS).then_some(from.ip());
        if let Err(error) = guard::check_write(self.settings(), &request.method, ip) {
            return Either::Right(ready(error.into()));
        }
        // What stands behind the pattern; nobody looks at the whole path any more.
        let mut rest = std::mem::take(&mut request.path);
        rest.drain(..behind);
        let asked = request.params.given("dc");
        let method = endpoint.methods[by_method];
        let to = destination(self.settings(), endpoint.route, method, asked);
        let named = self.settings().acl || !request.token.0.is_empty();
        let answer = match (endpoint.route, to) {
            (route, to) if named => Either::Right(self.on_behalf(route, to, method, request, rest)),
            // Not boxed once more: this is what is asked for most.
            (Route::Kv, None) => Either::Left(kv::handle(self, request, rest)),
            (route, None) => Either::Right(self.dispatch(route, request, rest)),
            (route, Some(to)) => Either::Right(self.elsewhere(to, route, request, rest)),
        };
        Either::Left(answer.map(move |answer| {
            self.common.timers[at][by_method].record(started.elapsed());
            answer.unwrap_or_else(|error| {
                if error.status.is_server_error() {
                    tracing::error!(
                        target: "http",
                        method = endpoint.methods[by_method],
                        url = endpoint.pattern,
                        %from,
                        error = %error.text,
                        "Request error"
                    );
                }
                error.into()
            })
        }))
    }
}

impl<A: Api> Server<A> {
    /// Answers in the name of whoever holds the request's token, if that is theirs to ask.
    pub(super) fn on_behalf(
        &self,
        route: Route,
        to: Option<Destination>,
        method: &'static str,
        request: Request,
        rest: String,
    ) -> Answer<'_> {
        Box::pin(async move {
            let api = self.api.with(&request.token.0);
            let need = needs::need(route, method);
            let holder = match needs::is_decided_here(need) {
                true => api.holder().await?,
                false => None,
            };
            let server = Self {
                api,
                holder,
                elsewhere: self.elsewhere.clone(),
                common: self.common.clone(),
            };
            if let Need::Own(resource, access) = need {
                server.need(resource, &self.settings().node_name, access)?;
            }
            match to {
                None => server.dispatch(route, request, rest).await,
                Some(to) => server.elsewhere(to, route, request, rest).await,
            }
        })
    }
}

/// What endpoints use.
impl<A: Api> Server<A> {
    pub(super) fn api(&self) -> &A {
        &self.api
    }

    /// What whoever asks may do; `None` while everything is allowed.
    pub(super) fn holder(&self) -> Option<&SharedHolder> {
        self.holder.as_ref()
    }

    /// The datacenter that is asked.
    pub(super) fn datacenter(&self) -> &str {
        let own = &self.common.settings.datacenter;
        self.elsewhere.as_ref().unwrap_or(own)
    }

    /// Whether that is another one than this agent's.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere.is_some()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.common.settings
    }

    pub(super) fn random(&self) -> &dyn Random {
        &*self.common.env.random
    }

    pub(super) fn unix_ms(&self) -> u64 {
        self.common.env.clock.unix_ms()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.common.metrics
    }

    pub(super) fn shared_metrics(&self) -> Arc<Metrics> {
        self.common.metrics.clone()
    }

    /// Whether there may be threads for long work.
    pub(super) fn has_threads(&self) -> bool {
        self.common.env.disk.wants_threads()
    }

    pub(super) fn process(&self) -> &dyn Process {
        &*self.common.process
    }

    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.common.shutdown
    }

    /// A JSON answer, indented if the request or the agent's mode says so.
    pub(super) fn json<T: Serialize + ?Sized>(&self, params: &Params, value: &T) -> Response {
        body::json(value, self.is_pretty(params))
    }

    /// Whether JSON is indented.
    pub(super) fn is_pretty(&self, params: &Params) -> bool {
        self.common.settings.pretty || params.has("pretty")
    }

    /// What waiters of services were sent. It lasts for as long as somebody has it.
    pub(super) fn shared_bodies(&self) -> Arc<Bodies> {
        self.common.shared.join()
    }

    /// Proposes a command, and measures how long it took.
    pub(super) fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, node::Error>> + Send {
        let timer = write_kind(&command).map(|kind| &self.common.writes[kind]);
        let started = Instant::now();
        self.api.propose(command).inspect(move |_| {
            if let Some(timer) = timer {
                timer.record(started.elapsed());
            }
        })
    }

    /// Proposes a command; a refusal is an error with the store's text.
    pub(super) async fn apply(&self, command: Command) -> Result<Outcome, Error> {
        match self.propose(command).await? {
            Outcome::Error { text, .. } => Err(Error::internal(text)),
            outcome => Ok(outcome),
        }
    }
}

/// Names of samples of writes, as Consul's servers have them; here they are of the agent that was asked.
const WRITES: [&str; 6] = [
    "kvs.apply",
    "txn.apply",
    "session.apply",
    "catalog.register",
    "catalog.deregister",
    "prepared-query.apply",
];

/// The place in [`WRITES`] of what is measured.
fn write_kind(command: &Command) -> Option<usize> {
    Some(match command {
        Command::Kv(_) => 0,
        Command::Txn(_) => 1,
        Command::SessionCreate(_) | Command::SessionDestroy { .. } => 2,
        Command::Register(_) => 3,
        Command::Deregister(_) => 4,
        Command::Prepared(_) => 5,
        _ => return None,
    })
}

/// Sends the client to the same path with a slash.
fn add_slash(path: &str) -> Response {
    let mut response = body::empty(StatusCode::MOVED_PERMANENTLY);
    response.set("Location", Value::Text(format!("{path}/")));
    response
}

/// Says why before closing.
async fn refuse(mut stream: BoxStream) {
    let said = async {
        stream.write_all(REFUSAL.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing while something unread waits would reset the connection, and the client would not read the reason.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whether the client listens to it or not, it is gone.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, said).await;
}
