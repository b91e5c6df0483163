//! A small HTTP client for agents: used by the command line, the operator and the tests.
//!
//! HTTP/1.1 over TCP, TLS or a Unix socket, connections reused, every step bounded in time. It speaks to Consul's agents too.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::env::{BoxStream, Net, RealNet};
use crate::tls::ClientTls;

mod address;
mod api;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

pub use address::{Address, AddressError};
pub use api::{
    AgentMember, AgentSelf, KvPair, KvPut, MemberStatus, RaftConfiguration, RaftPeer, SelfConfig,
    escape_path, query,
};
pub use stream::Stream;

/// Longest time for a connection to be made. A refused one fails at once; this bounds silence.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Default of [`Client::with_timeout`]: a graceful leave, the slowest answer of an agent, ends well within.
const REQUEST_TIME_DEFAULT: Duration = Duration::from_secs(60);
/// Largest answer that is read into memory: far above any of an agent's, and a bound against something else.
const BODY_SIZE_MAX_BYTES: usize = 256 << 20;
/// Idle connections kept. More than a few callers at once only happen in load tests.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Speaks to one agent. Cloning is cheap; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    timeout: Duration,
    /// Which one requests are for, where not the agent's own.
    datacenter: Option<Arc<str>>,
    answer_bytes_max: usize,
}

struct Inner {
    address: Address,
    net: Arc<dyn Net>,
    /// How HTTPS is spoken; what the system trusts, where nothing was said.
    tls: OnceLock<Arc<ClientConfig>>,
    /// Whom the agent's certificate must name, where that is not the address's host.
    server_name: Option<String>,
    headers: HeaderMap,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// An answer that was read whole. Its status may be any; see [`Response::success`].
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// Headers, among them `X-Consul-Index`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer, or not the one that was wanted. The texts are printed as they are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent's address cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A certificate, a key or an authority cannot be used.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
    /// Nobody listens there, or the name has no address. Nothing was sent.
    #[error("{} {url:?}: dial {place}: {reason}", verb(method))]
    Connect {
        /// Method of the request.
        method: Method,
        /// Where it was to go.
        url: String,
        /// `tcp HOST:PORT` or `unix PATH`.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// No answer in time. Whether the request was carried out is unknown.
    #[error("{} {url:?}: no answer within {}", verb(method), crate::duration::print(*waited))]
    Timeout {
        /// Method of the request.
        method: Method,
        /// Where it went.
        url: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The connection broke, or what came back is not HTTP. Whether the request was carried out is unknown.
    #[error("{} {url:?}: {reason}", verb(method))]
    Transport {
        /// Method of the request.
        method: Method,
        /// Where it went.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The agent answered with an error.
    #[error("Unexpected response code: {} ({body})", status.as_u16())]
    Status {
        /// The status code.
        status: StatusCode,
        /// The body, trimmed.
        body: String,
    },
    /// The answer's body is not what this request is answered with.
    #[error("{url:?}: cannot understand the answer: {source}")]
    Decode {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A method as Go's client prints it: `Get`.
fn verb(method: &Method) -> String {
    let (first, rest) = method.as_str().split_at(1);
    format!("{first}{}", rest.to_lowercase())
}

impl Error {
    /// Whether the request certainly was not carried out, so that sending it again is safe.
    pub fn is_before_sending(&self) -> bool {
        matches!(
            self,
            Error::Address(_) | Error::Tls(_) | Error::Connect { .. }
        )
    }
}

impl Response {
    /// The answer itself when its status is 2xx.
    ///
    /// # Errors
    /// [`Error::Status`] otherwise.
    pub fn success(self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        let body = String::from_utf8_lossy(&self.body).trim().to_owned();
        let status = self.status;
        Err(Error::Status { status, body })
    }

    /// `X-Consul-Index`, when it is there.
    pub fn index(&self) -> Option<u64> {
        self.headers
            .get("x-consul-index")?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }

    /// `X-Consul-ContentHash`, when it is there.
    pub fn content_hash(&self) -> Option<&str> {
        self.headers.get("x-consul-contenthash")?.to_str().ok()
    }
}

impl Client {
    /// A client of the agent at `address`: `HOST:PORT`, `http://HOST:PORT`, `https://HOST:PORT` or `unix://PATH`. Nothing
    /// is sent yet.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(address: &str) -> Result<Self, Error> {
        Self::with_net(address, Arc::new(RealNet))
    }

    /// The same over another network; Unix sockets are the kernel's in any case.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn with_net(address: &str, net: Arc<dyn Net>) -> Result<Self, Error> {
        let inner = Inner {
            address: address.parse()?,
            net,
            tls: OnceLock::new(),
            server_name: None,
            headers: HeaderMap::new(),
            idle: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            timeout: REQUEST_TIME_DEFAULT,
            datacenter: None,
            answer_bytes_max: BODY_SIZE_MAX_BYTES,
        })
    }

    /// The same client with another bound for a whole request, from the connection to the last byte of the answer.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// The same client for answers of up to that many bytes: a saved state may be larger than anything else.
    #[must_use]
    pub fn with_answer_bytes_max(&self, answer_bytes_max: usize) -> Self {
        Self {
            answer_bytes_max,
            ..self.clone()
        }
    }

    /// A client whose requests are for a datacenter, where one is given; else for the agent's own.
    #[must_use]
    pub fn in_datacenter(&self, datacenter: Option<&str>) -> Self {
        Self {
            datacenter: datacenter.map(Arc::from),
            ..self.clone()
        }
    }

    /// A path with the datacenter that it is for.
    fn placed<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let Some(datacenter) = &self.datacenter else {
            return Cow::Borrowed(path);
        };
        let join = if path.contains('?') { '&' } else { '?' };
        let datacenter = api::escape(datacenter, b"-._~");
        Cow::Owned(format!("{path}{join}dc={datacenter}"))
    }

    /// A client that sends `token` as `X-Consul-Token` with every request.
    ///
    /// # Errors
    /// [`Error::Address`] when the token cannot stand in a header.
    pub fn with_token(&self, token: &str) -> Result<Self, Error> {
        self.with_header("x-consul-token", token)
    }

    /// A client that sends `USER:PASSWORD` as basic authentication with every request.
    ///
    /// # Errors
    /// [`Error::Address`] when it cannot stand in a header.
    pub fn with_basic_auth(&self, user_and_password: &str) -> Result<Self, Error> {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(user_and_password);
        self.with_header(AUTHORIZATION.as_str(), &format!("Basic {text}"))
    }

    /// A client that speaks HTTPS as these settings say. With `always` it does so even where the address has no
    /// scheme; a Unix socket is never protected.
    ///
    /// # Errors
    /// [`Error::Tls`] when a file cannot be used.
    pub fn with_tls(&self, settings: &ClientTls, always: bool) -> Result<Self, Error> {
        let address = match always {
            true => self.inner.address.clone().secured(),
            false => self.inner.address.clone(),
        };
        Ok(self.speaking(address, settings.load()?, settings.server_name.clone()))
    }

    /// A client that speaks HTTPS with whoever shows a certificate of these authorities, in PEM form, that names
    /// `server_name`, wherever it is.
    ///
    /// # Errors
    /// [`Error::Tls`] when the text holds no authorities.
    pub fn with_authorities(&self, pem: &str, server_name: &str) -> Result<Self, Error> {
        let address = self.inner.address.clone().secured();
        let tls = ClientTls::trusting(pem)?;
        Ok(self.speaking(address, tls, Some(server_name.to_owned())))
    }

    fn speaking(&self, address: Address, tls: Arc<ClientConfig>, name: Option<String>) -> Self {
        let inner = Inner {
            address,
            net: Arc::clone(&self.inner.net),
            tls: OnceLock::from(tls),
            server_name: name,
            headers: self.inner.headers.clone(),
            idle: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            ..self.clone()
        }
    }

    pub(crate) fn with_header(&self, name: &'static str, value: &str) -> Result<Self, Error> {
        let mut value = HeaderValue::from_str(value).map_err(|_| AddressError::Header { name })?;
        value.set_sensitive(true);
        let mut headers = self.inner.headers.clone();
        headers.insert(name, value);
        let inner = Inner {
            address: self.inner.address.clone(),
            net: Arc::clone(&self.inner.net),
            tls: self.inner.tls.clone(),
            server_name: self.inner.server_name.clone(),
            headers,
            idle: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            timeout: self.timeout,
            datacenter: self.datacenter.clone(),
            answer_bytes_max: self.answer_bytes_max,
        })
    }

    /// Where this client sends to.
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Sends a GET; `path` may carry a query.
    ///
    /// # Errors
    /// Anything but [`Error::Status`] and [`Error::Decode`]: any status is an answer.
    pub async fn get(&self, path: &str) -> Result<Response, Error> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// Sends a PUT; `path` may carry a query.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Result<Response, Error> {
        self.request(Method::PUT, path, body.into()).await
    }

    /// Sends a DELETE; `path` may carry a query.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, path: &str) -> Result<Response, Error> {
        self.request(Method::DELETE, path, Bytes::new()).await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response, Error> {
        let deadline = Instant::now() + self.timeout;
        let call = Call::new(self, &method, &self.placed(path));
        let whole = async {
            let (response, sender) = self.exchange(&call, body).await?;
            let (head, body) = response.into_parts();
            let body = http_body_util::Limited::new(body, self.answer_bytes_max)
                .collect()
                .await
                .map_err(|e| call.transport(&*e))?
                .to_bytes();
            self.put_back(sender);
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        match timeout_at(deadline, whole).await {
            Ok(result) => result,
            Err(_) => Err(call.timeout(self.timeout)),
        }
    }

    /// Sends a GET whose answer has no end (`/v1/agent/monitor`): the client's time bounds only its first line.
    ///
    /// # Errors
    /// Also [`Error::Status`]: a stream is worth reading only when its status is 2xx.
    pub async fn stream(&self, path: &str) -> Result<Stream, Error> {
        let call = Call::new(self, &Method::GET, &self.placed(path));
        let (response, sender) = timeout(self.timeout, self.exchange(&call, Bytes::new()))
            .await
            .map_err(|_| call.timeout(self.timeout))??;
        if response.status().is_success() {
            return Ok(Stream {
                body: response.into_body(),
                call,
                _sender: sender,
            });
        }
        let (head, body) = response.into_parts();
        let body = timeout(
            self.timeout,
            http_body_util::Limited::new(body, BODY_SIZE_MAX_BYTES).collect(),
        )
        .await
        .map_err(|_| call.timeout(self.timeout))?
        .map_err(|e| call.transport(&*e))?
        .to_bytes();
        let status = head.status;
        let body = String::from_utf8_lossy(&body).trim().to_owned();
        Err(Error::Status { status, body })
    }

    /// Sends the request over an idle connection, or a new one where there is none.
    async fn exchange(
        &self,
        call: &Call,
        body: Bytes,
    ) -> Result<(hyper::Response<Incoming>, SendRequest<Full<Bytes>>), Error> {
        let mut request = self.build(call, body)?;
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            // The other side may close an idle connection at any time. hyper hands the request back when none of it
            // was sent; only then is it safe to send it again.
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(call.transport(&error.into_error())),
                },
            }
        }
        let stream = timeout(CONNECT_TIME_MAX, self.connect())
            .await
            .map_err(|_| call.connect("i/o timeout"))?
            .map_err(|e| call.connect(&reason(&e)))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| call.transport(&e))?;
        // Ends by itself when the sender is dropped or the other side hangs up; its error is the request's, too.
        tokio::spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await;
        Ok((response.map_err(|e| call.transport(&e))?, sender))
    }

    fn build(&self, call: &Call, body: Bytes) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.path)
            .header(HOST, self.inner.address.host_header())
            .body(Full::new(body))
            .map_err(|e| call.transport(&e))?;
        request.headers_mut().extend(self.inner.headers.clone());
        Ok(request)
    }

    async fn connect(&self) -> std::io::Result<BoxStream> {
        let (host, port) = match &self.inner.address {
            Address::Tcp { host, port } | Address::Tls { host, port } => (host, *port),
            Address::Unix(path) => {
                return Ok(Box::new(tokio::net::UnixStream::connect(path).await?));
            }
        };
        let mut last = std::io::Error::other("the name has no address");
        for address in self.inner.net.resolve(host, port).await? {
            match self.inner.net.connect(address).await {
                Ok(stream) => {
                    return match &self.inner.address {
                        Address::Tls { .. } => self.secure(stream, host).await,
                        _ => Ok(stream),
                    };
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Makes the handshake with the agent, which must be who the address or the settings say.
    async fn secure(&self, stream: BoxStream, host: &str) -> std::io::Result<BoxStream> {
        let config = match self.inner.tls.get() {
            Some(config) => config,
            None => {
                let config = ClientTls::default().load().map_err(std::io::Error::other)?;
                self.inner.tls.get_or_init(|| config)
            }
        };
        let name = self.inner.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(config));
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self
            .inner
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.pop()
    }

    fn put_back(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self
            .inner
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !sender.is_closed() && idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(sender);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.inner.address)
    }
}

/// What the system said, in the words that Go programs print: scripts look for `connection refused`.
fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "connect: connection refused".into(),
        Kind::NotFound => "connect: no such file or directory".into(),
        Kind::PermissionDenied => "connect: permission denied".into(),
        Kind::TimedOut => "i/o timeout".into(),
        _ => error.to_string(),
    }
}

/// One request, for the messages about it.
struct Call {
    method: Method,
    path: String,
    url: String,
    place: String,
}

impl Call {
    fn new(client: &Client, method: &Method, path: &str) -> Self {
        let address = &client.inner.address;
        Self {
            method: method.clone(),
            path: path.to_owned(),
            url: format!("{}{path}", address.base_url()),
            place: address.place(),
        }
    }

    fn connect(&self, reason: &str) -> Error {
        Error::Connect {
            method: self.method.clone(),
            url: self.url.clone(),
            place: self.place.clone(),
            reason: reason.to_owned(),
        }
    }

    fn timeout(&self, waited: Duration) -> Error {
        Error::Timeout {
            method: self.method.clone(),
            url: self.url.clone(),
            waited,
        }
    }

    fn transport(&self, error: &dyn std::error::Error) -> Error {
        // hyper says "connection error" of everything; what happened is what caused it.
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !reason.contains(&text) {
                reason.push_str(": ");
                reason.push_str(&text);
            }
            cause = error.source();
        }
        Error::Transport {
            method: self.method.clone(),
            url: self.url.clone(),
            reason,
        }
    }
}
