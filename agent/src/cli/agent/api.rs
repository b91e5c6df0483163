//! HTTP API and DNS of a running agent: their sockets, and what the process gives them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::reload::Reloader;
use crate::cli::version::BUILD_DATE;
use crate::config::Config;
use crate::dns;
use crate::env::{Env, Listener};
use crate::http::{self, Build, Parts, Process, Server};
use crate::log::{Log, Monitor};
use crate::metrics::{self, Metrics};
use crate::node::Node;
use crate::tls::Https;
use crate::{REVISION, VERSION};

/// Longest time that answers may take to be written once the node is gone: the one to the request that asked for the
/// leave, above all. Blocking queries and monitors are cut off.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// Addresses that are taken, but not served yet: connections wait.
pub(super) struct Bound {
    http: Vec<Box<dyn Listener>>,
    https: Vec<Box<dyn Listener>>,
    dns: dns::Bound,
}

/// The API at work.
pub(super) struct Api {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    dns: JoinHandle<()>,
    members: JoinHandle<()>,
}

/// Takes the addresses, before anything else of the node is started: one that is in use should cost nothing.
pub(super) async fn bind(env: &Env, config: &Config) -> anyhow::Result<Bound> {
    Ok(Bound {
        http: http::bind(&*env.net, &config.http).await?,
        https: http::bind(&*env.net, &config.https).await?,
        dns: dns::bind(&*env.net, &config.dns.addresses).await?,
    })
}

impl Bound {
    pub(super) fn serve(self, node: &Node, env: Env, log: Log, reloader: Reloader) -> Api {
        let shutdown = CancellationToken::new();
        let config = reloader.current();
        let build = Build {
            version: VERSION,
            revision: REVISION,
            date: BUILD_DATE,
        };
        let settings = metrics::Settings {
            host: (!config.disable_hostname).then(|| config.node_name.clone()),
            prometheus: config.prometheus,
        };
        let metrics = Arc::new(Metrics::new(Arc::clone(&env.clock), settings));
        let dns = dns::Server::new(
            node.clone(),
            env.clone(),
            dns::Settings::new(&config),
            &metrics,
            shutdown.clone(),
        );
        let dns = tokio::spawn(dns.run(self.dns));
        node.measure_leader(&metrics);
        node.count_requests(&metrics);
        let members = tokio::spawn(node.clone().count_members(Arc::clone(&metrics)));
        let server = Server::new(Parts {
            api: node.clone(),
            settings: http::Settings::new(&config, node.id(), build),
            metrics,
            env,
            process: Arc::new(Around { log, reloader }),
            shutdown: shutdown.clone(),
        });
        let secured = self.https.into_iter().map(|listener| {
            let https = Https::new(listener, Arc::clone(node.tls()));
            Box::new(https) as Box<dyn Listener>
        });
        let task = tokio::spawn(server.run(self.http.into_iter().chain(secured).collect()));
        Api {
            shutdown,
            task,
            dns,
            members,
        }
    }
}

impl Api {
    /// Takes no new requests, and finishes those that end soon.
    pub(super) async fn close(self) {
        self.shutdown.cancel();
        let task = self.task.abort_handle();
        self.dns.abort();
        self.members.abort();
        if tokio::time::timeout(CLOSE_TIME_MAX, self.task)
            .await
            .is_err()
        {
            tracing::debug!(target: "http", "some requests were cut off");
            task.abort();
        }
    }
}

/// The process around the node, as the API sees it.
struct Around {
    log: Log,
    reloader: Reloader,
}

impl Process for Around {
    fn follow_log(&self, level: Level, json: bool) -> BoxStream<'static, Bytes> {
        let monitor = self.log.monitor(level, json);
        let lines = futures::stream::unfold(monitor, |mut monitor: Monitor| async {
            let line = monitor.next().await?;
            Some((Bytes::copy_from_slice(line.as_bytes()), monitor))
        });
        lines.boxed()
    }

    fn reload(&self) -> Result<(), String> {
        self.reloader.reload()
    }
}
