//! What runs on this agent: its services and checks, kept on disk, run, and told to the catalog.
//!
//! The agent has the say about its own node: the catalog follows (`follow.rs`), and what it has too much is removed. What
//! is to be done is decided in `table.rs`, without a clock or a socket; this file and those beside it carry it out.

pub mod definition;
mod disk;
mod follow;
mod load;
mod maintenance;
mod probe;
mod register;
mod run;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::env::Env;
use crate::node::{Error as NodeError, ReadOptions, Reply};
use crate::state::{Check, CheckStatus, Command, Node, Outcome, Query};
use definition::{CheckDefinition, Kind, Raw};
use disk::Kept;
use maintenance::maintenance;
use table::{Rules, Table};

pub use table::{InNameOf, NODE_MAINTENANCE, OwnCheck, OwnService, SERVICE_MAINTENANCE, Source};

/// Longest time that a write to the catalog is waited for when the agent leaves.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What an agent's own services and checks are started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's own row in the catalog.
    pub node: Node,
    /// Where definitions are kept; none keeps nothing.
    pub data_dir: Option<PathBuf>,
    /// Longest output of a check that is kept, in bytes.
    pub output_max: usize,
    /// Whether outputs of checks are thrown away.
    pub discard_output: bool,
    /// How long a check's new output may wait to be written, if its status is the same.
    pub update_interval: Duration,
    /// Whether checks from the API may run programs.
    pub scripts_from_api: bool,
    /// Whether checks from configuration files may.
    pub scripts_from_files: bool,
    /// First and last port that sidecars are given which have none of their own; none gives none.
    pub sidecar_ports: Option<(u16, u16)>,
    /// Whether it matters in whose name the catalog is told.
    pub asks_for_tokens: bool,
}

/// The servers, as far as a node's own services need them.
pub trait Servers: Send + Sync + 'static {
    /// See [`crate::node::Node::read`].
    fn read(&self, query: Query, options: ReadOptions) -> BoxFuture<'_, Result<Reply, NodeError>>;
    /// See [`crate::node::Node::propose`].
    fn propose(
        &self,
        name: &InNameOf,
        command: Command,
    ) -> BoxFuture<'_, Result<Outcome, NodeError>>;
    /// How many nodes there are.
    fn nodes(&self) -> usize;
    /// Waits until servers may be there that were not before.
    fn news(&self) -> BoxFuture<'_, ()>;
}

/// Why a registration was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it says is wrong.
    #[error(transparent)]
    Definition(#[from] definition::Error),
    /// It would run a program.
    #[error(
        "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
    )]
    NoScripts,
    /// The same in a file.
    #[error(
        "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
    )]
    NoScriptsInFiles,
    /// A check of a service that is not here.
    #[error("ServiceID {0:?} does not exist")]
    NoService(String),
    /// A service that is not here, to be removed or maintained.
    #[error(
        "Unknown service ID {0:?}. Ensure that the service ID is passed, not the service name."
    )]
    UnknownService(String),
    /// A check that is not here.
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck(String),
    /// A check that nobody can be told the result of.
    #[error("CheckID {0:?} does not have associated TTL")]
    NoTtl(String),
    /// It could not be written to the data dir.
    #[error("failed to persist {what}: {source}")]
    Disk {
        /// What.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// The agent's own services and checks. Cloning is cheap.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    settings: Settings,
    own: ArcSwap<Node>,
    table: Mutex<Table>,
    /// Counts changes.
    version: watch::Sender<u64>,
    /// What is on disk follows the table one change at a time.
    registering: tokio::sync::Mutex<()>,
    kept: Option<Kept>,
    runners: Mutex<BTreeMap<String, AbortOnDropHandle<()>>>,
    servers: watch::Sender<Option<Arc<dyn Servers>>>,
    stop: CancellationToken,
    tasks: Mutex<Vec<AbortOnDropHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds this lock")
}

impl Local {
    /// With nothing in it.
    pub fn new(env: Env, settings: Settings) -> Self {
        let rules = Rules {
            node: settings.node.node.clone(),
            output_max: settings.output_max,
            discard_output: settings.discard_output,
            update_interval: settings.update_interval,
            asks_for_tokens: settings.asks_for_tokens,
        };
        let kept = settings.data_dir.as_ref();
        let kept = kept.map(|folder| Kept::new(env.disk.clone(), folder));
        Self {
            inner: Arc::new(Inner {
                own: ArcSwap::from_pointee(settings.node.clone()),
                table: Mutex::new(Table::new(rules)),
                version: watch::Sender::new(0),
                registering: tokio::sync::Mutex::default(),
                kept,
                runners: Mutex::default(),
                servers: watch::Sender::new(None),
                stop: CancellationToken::new(),
                tasks: Mutex::default(),
                env,
                settings,
            }),
        }
    }

    /// Starts to tell the servers, and to do what has a time.
    pub fn start(&self, servers: Arc<dyn Servers>) {
        self.inner.servers.send_replace(Some(servers.clone()));
        let follow = tokio::spawn(follow::run(self.clone(), servers));
        let keep_time = tokio::spawn(run::keep_time(self.clone()));
        let mut tasks = lock(&self.inner.tasks);
        tasks.extend([follow, keep_time].map(AbortOnDropHandle::new));
    }

    /// Ends everything; a write that is under way is waited for, so that it is not made after a leave.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        lock(&self.inner.runners).clear();
        let tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        let ended = futures::future::join_all(tasks);
        // One that does not end in time is cut off.
        let _ = tokio::time::timeout(STOP_TIMEOUT, ended).await;
        // The node, which holds this in turn.
        self.inner.servers.send_replace(None);
    }

    /// Changes the node's own meta data.
    pub fn set_meta(&self, meta: BTreeMap<String, String>) {
        let own = Node {
            meta,
            ..(*self.node()).clone()
        };
        if own != *self.node() {
            self.inner.own.store(Arc::new(own));
            self.table().node_in_sync = false;
            self.changed();
        }
    }

    /// The node's own row.
    pub fn node(&self) -> Arc<Node> {
        self.inner.own.load_full()
    }

    /// Registers a check from the API.
    ///
    /// # Errors
    /// See [`Error`]; nothing has changed then.
    pub async fn register_check(&self, raw: &Raw) -> Result<(), Error> {
        let definition = raw.to_check()?;
        self.allow_scripts(std::slice::from_ref(&definition), Source::Api)?;
        let service = &definition.service_id;
        if !service.is_empty() && !self.table().services.contains_key(service) {
            return Err(Error::NoService(service.clone()));
        }
        let _one = self.inner.registering.lock().await;
        let id = definition.id.clone();
        self.keep(
            move |kept, raw: Raw| kept.keep_check(&id, &raw),
            raw.clone(),
        )
        .await?;
        self.put_check(definition, Source::Api)
    }

    fn put_check(&self, definition: CheckDefinition, source: Source) -> Result<(), Error> {
        let (id, service) = (definition.id.clone(), definition.service_id.clone());
        let mut table = self.table();
        if !service.is_empty() && !table.services.contains_key(&service) {
            return Err(Error::NoService(service));
        }
        table.put_check(Arc::new(definition), source, Instant::now());
        drop(table);
        self.restart([id]);
        self.changed();
        Ok(())
    }

    /// Removes a check.
    ///
    /// # Errors
    /// When there is none.
    pub async fn deregister_check(&self, id: &str) -> Result<(), Error> {
        let _one = self.inner.registering.lock().await;
        if !self.table().drop_check(id) {
            return Err(Error::UnknownCheck(id.to_owned()));
        }
        self.restart([id.to_owned()]);
        self.changed();
        self.forget_checks(&[id.to_owned()]).await
    }

    /// Takes the word of whoever a TTL check waits for.
    ///
    /// # Errors
    /// When there is no such check, or it is no TTL check.
    pub async fn heartbeat(
        &self,
        id: &str,
        status: CheckStatus,
        output: &str,
    ) -> Result<(), Error> {
        let (now, random) = (Instant::now(), self.inner.env.random.next_u64());
        let told = self.table().heartbeat(id, status, output, now, random);
        match told {
            Ok(true) => self.changed(),
            Ok(false) => {}
            Err(table::NoHeartbeat::NoCheck) => return Err(Error::UnknownCheck(id.to_owned())),
            Err(table::NoHeartbeat::NoTtl) => return Err(Error::NoTtl(id.to_owned())),
        }
        let known = self.check(id).map(|check| (check.row, check.definition));
        if let Some((row, definition)) = known
            && let Kind::Ttl(ttl) = definition.kind
        {
            let expires = self.inner.env.clock.unix_ms() + ttl.as_millis() as u64;
            let state = disk::KeptState {
                id: id.to_owned(),
                status: row.status,
                output: row.output.clone(),
                expires_unix_ms: expires,
            };
            self.keep(|kept, state| kept.keep_state(&state), state)
                .await?;
        }
        Ok(())
    }

    /// Takes the node, or one of its services, out of service or back into it.
    ///
    /// # Errors
    /// When there is no such service.
    pub async fn maintain(&self, service: Option<&str>, on: Option<&str>) -> Result<(), Error> {
        let (id, service) = match service {
            None => (NODE_MAINTENANCE.to_owned(), ""),
            Some(service) => (format!("{SERVICE_MAINTENANCE}{service}"), service),
        };
        if !service.is_empty() && !self.table().services.contains_key(service) {
            return Err(Error::UnknownService(service.to_owned()));
        }
        let _one = self.inner.registering.lock().await;
        match on {
            Some(reason) if !self.table().checks.contains_key(&id) => {
                let definition = maintenance(&id, service, reason);
                let raw = disk::raw_maintenance(&definition);
                self.keep(move |kept, raw: Raw| kept.keep_check(&id, &raw), raw)
                    .await?;
                self.put_check(definition, Source::Api)
            }
            None if self.table().drop_check(&id) => {
                self.changed();
                self.forget_checks(&[id]).await
            }
            _ => Ok(()),
        }
    }

    /// All services by id.
    pub fn services(&self) -> BTreeMap<String, OwnService> {
        self.table().services.clone()
    }

    /// One service.
    pub fn service(&self, id: &str) -> Option<OwnService> {
        self.table().services.get(id).cloned()
    }

    /// All checks by id.
    pub fn checks(&self) -> BTreeMap<String, OwnCheck> {
        self.table().checks.clone()
    }

    /// One check.
    pub fn check(&self, id: &str) -> Option<OwnCheck> {
        self.table().checks.get(id).cloned()
    }

    /// The checks that decide on a service's health: its own and the node's.
    pub fn checks_for(&self, service: &str) -> Vec<Arc<Check>> {
        self.table().checks_for(service)
    }

    /// Follows changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    /// `None` once everything stops.
    async fn wait_for_servers(&self) -> Option<Arc<dyn Servers>> {
        let mut servers = self.inner.servers.subscribe();
        let found = servers.wait_for(Option::is_some).await.ok()?;
        found.clone()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.inner.table)
    }

    fn changed(&self) {
        self.inner.version.send_modify(|version| *version += 1);
    }

    fn allow_scripts(&self, checks: &[CheckDefinition], source: Source) -> Result<(), Error> {
        let settings = &self.inner.settings;
        if !checks.iter().any(CheckDefinition::runs_a_program) {
            return Ok(());
        }
        match source {
            Source::Api if !settings.scripts_from_api => Err(Error::NoScripts),
            Source::File if !settings.scripts_from_files => Err(Error::NoScriptsInFiles),
            _ => Ok(()),
        }
    }

    /// Begins these checks anew, or ends them where they are gone.
    fn restart(&self, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            let definition = self.check(&id).map(|check| check.definition);
            let mut runners = lock(&self.inner.runners);
            runners.remove(&id);
            if let Some(definition) = definition
                && run::is_run(&definition, &self.inner.settings.node.node)
                && !self.inner.stop.is_cancelled()
            {
                let runner = tokio::spawn(run::check(self.clone(), definition));
                runners.insert(id, AbortOnDropHandle::new(runner));
            }
        }
    }

    /// Takes the result of a run.
    fn report(&self, id: &str, status: CheckStatus, output: &str) {
        let (now, random) = (Instant::now(), self.inner.env.random.next_u64());
        let changed = self.table().report(id, status, output, now, random);
        if changed {
            self.changed();
        }
    }

    async fn forget_checks(&self, ids: &[String]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let forget =
            |kept: &Kept, ids: Vec<String>| ids.iter().try_for_each(|id| kept.forget_check(id));
        self.keep(forget, ids.to_vec()).await
    }

    /// Does something on disk, away from the thread that answers requests.
    async fn keep<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Kept, T) -> Result<(), Error> + Send + 'static,
        with: T,
    ) -> Result<(), Error> {
        let Some(kept) = self.inner.kept.clone() else {
            return Ok(());
        };
        if !self.inner.env.disk.wants_threads() {
            return work(&kept, with);
        }
        match tokio::task::spawn_blocking(move || work(&kept, with)).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
