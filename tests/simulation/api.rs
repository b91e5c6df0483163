//! The HTTP API of a simulated host, and what its clients make of the answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::client::{self, KvPair, KvPut};
use agent::config::Config;
use agent::env::Env;
use agent::http::{self, Build, Parts, Process, Server};
use agent::metrics::{self, Metrics};
use agent::node::{Error, Node};
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest a client waits before it counts an outcome as unknown.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the process around a node does for its API: nothing here.
struct Around;

impl Process for Around {
    fn follow_log(&self, _: tracing::Level, _: bool) -> BoxStream<'static, Bytes> {
        Box::pin(futures::stream::empty())
    }

    fn reload(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Serves a node's API on the host that this runs on, until the host's software ends.
pub(crate) async fn serve(node: &Node, env: Env, config: &Config) -> anyhow::Result<()> {
    let listeners = http::bind(&*env.net, &config.http).await?;
    let metrics = Metrics::new(
        Arc::clone(&env.clock),
        metrics::Settings {
            host: None,
            prometheus: false,
        },
    );
    let build = Build {
        version: "simulated",
        revision: "",
        date: "",
    };
    let server = Server::new(Parts {
        api: node.clone(),
        settings: http::Settings::new(config, node.id(), build),
        metrics: Arc::new(metrics),
        env,
        process: Arc::new(Around),
        shutdown: CancellationToken::new(),
    });
    tokio::spawn(server.run(listeners));
    Ok(())
}

/// What became of a write.
pub(crate) enum Written {
    /// It was answered: whether its condition held.
    Answered(bool),
    /// The node says that nothing was done.
    Refused,
    Unknown,
}

/// What became of a renewal.
pub(crate) enum Renewed {
    /// The session lives, and its time has begun anew.
    Lives,
    /// There is no such session.
    Gone,
    Unknown,
}

/// A write to one key.
pub(crate) enum Change<'a> {
    Put(&'a str, KvPut),
    Delete,
}

/// How a key is read.
#[derive(Clone, Copy)]
pub(crate) enum How {
    Default,
    Consistent,
    /// As a list, which a follower answers itself.
    Listed,
    Stale,
}

/// A program on the host that uses its API.
#[derive(Clone)]
pub(crate) struct Client(client::Client);

impl Client {
    /// One of the agent whose API is at `address`.
    pub(crate) fn new(address: SocketAddr, env: &Env) -> Self {
        let client = client::Client::with_net(&address.to_string(), Arc::clone(&env.net));
        Self(client.expect("an address is one"))
    }

    pub(crate) async fn change(&self, key: &str, change: Change<'_>) -> Written {
        let done = async {
            match change {
                Change::Put(value, put) => self.0.kv_put(key, value.to_owned(), &put).await,
                Change::Delete => self.0.kv_delete(key, None).await,
            }
        };
        match timeout(PATIENCE, done).await {
            Ok(Ok(done)) => Written::Answered(done),
            Ok(Err(error)) if is_refusal(&error) => Written::Refused,
            Ok(Err(_)) | Err(_) => Written::Unknown,
        }
    }

    /// A session of a node that no server looks after, without checks: one that lasts for the whole run, or for its TTL.
    pub(crate) async fn session(&self, ttl: Option<&str>) -> Option<String> {
        let node = r#"{"Node": "clients", "Address": "10.0.1.1"}"#;
        let ttl = ttl.map_or_else(String::new, |ttl| format!(r#", "TTL": "{ttl}""#));
        let session = format!(r#"{{"Node": "clients", "NodeChecks": [], "LockDelay": "0s"{ttl}}}"#);
        let made = async {
            let node = Bytes::from_static(node.as_bytes());
            let _: bool = self.0.put_json("/v1/catalog/register", node).await?;
            self.0
                .put_json("/v1/session/create", Bytes::from(session))
                .await
        };
        let made: Result<Created, client::Error> = timeout(PATIENCE, made).await.ok()?;
        Some(made.ok()?.id)
    }

    /// Starts a session's time anew.
    pub(crate) async fn renew(&self, session: &str) -> Renewed {
        let path = format!("/v1/session/renew/{session}");
        match timeout(PATIENCE, self.0.put(&path, Bytes::new())).await {
            Ok(Ok(response)) if response.status == 200 => Renewed::Lives,
            Ok(Ok(response)) if response.status == 404 => Renewed::Gone,
            Ok(_) | Err(_) => Renewed::Unknown,
        }
    }

    /// What the key holds, if there was an answer.
    pub(crate) async fn read(&self, key: &str, how: How) -> Option<Option<KvPair>> {
        let params: &[(&str, Option<&str>)] = match how {
            How::Default => &[],
            How::Consistent => &[("consistent", None)],
            How::Stale => &[("stale", None)],
            How::Listed => {
                let listed = timeout(PATIENCE, self.0.kv_list(key, &[])).await;
                let mut found = listed.ok()?.ok()?.into_iter();
                return Some(found.find(|pair| pair.key == key));
            }
        };
        timeout(PATIENCE, self.0.kv_get(key, params))
            .await
            .ok()?
            .ok()
    }
}

#[derive(serde::Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

/// Whether nothing was done for certain.
fn is_refusal(error: &client::Error) -> bool {
    match error {
        client::Error::Status { body, .. } => ![Error::Unknown, Error::ShuttingDown]
            .iter()
            .any(|unknown| *body == unknown.to_string()),
        other => other.is_before_sending(),
    }
}
