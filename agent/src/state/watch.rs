//! Sharing the tables with readers, and waking those who wait for a change.
//!
//! The one file of `state` that knows a runtime. A waiter stands in the line of exactly what it asked for (a key, a
//! prefix, a row, a table), so that a write wakes nobody else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedSender};
use uuid::Uuid;

use super::Store;
use super::query::Query;

/// Changes that are remembered one by one between two publications; more wake everybody. Replaying a log
/// publishes rarely, and has no waiters.
const TOUCHED_MAX: usize = 4096;

/// A line that waiters stand in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Key(Arc<str>),
    Prefix(Arc<str>),
    Nodes,
    Node(Arc<str>),
    Services,
    Service(Arc<str>),
    Mesh(Arc<str>),
    Checks,
    Sessions,
    Session(Uuid),
    ClusterId,
    Autopilot,
    Prepared,
    Places,
    Entries,
    /// All of [`Topic::Mesh`]. Nobody stands in it.
    AllMesh,
    Ca,
    Acl,
    /// Every publication.
    Applied,
}

impl Topic {
    fn of(query: &Query) -> Self {
        let lower = |name: &str| Arc::from(name.to_lowercase());
        match query {
            // What stands on two tables is looked at anew at each change, and answered when it is concerned.
            Query::Noop
            | Query::Txn(_)
            | Query::AddressOwners { .. }
            | Query::ChecksWithMeta { .. }
            | Query::GatewayServices { .. }
            | Query::ExportedServices
            | Query::Merged(_)
            | Query::NodeInfos { .. }
            | Query::Graph(_)
            | Query::IngressHealth { .. } => Topic::Applied,
            Query::KvGet { key } => Topic::Key(key.as_str().into()),
            Query::KvList { prefix } | Query::KvKeys { prefix, .. } => {
                Topic::Prefix(prefix.as_str().into())
            }
            Query::Nodes { .. } => Topic::Nodes,
            Query::Node { node } | Query::NodeServices { node } | Query::NodeChecks { node } => {
                Topic::Node(lower(node))
            }
            Query::Services { .. } | Query::Instances { .. } => Topic::Services,
            Query::ServiceNodes { service, .. }
            | Query::ServiceChecks { service }
            | Query::ServiceHealth { service, .. } => Topic::Service(lower(service)),
            Query::MeshHealth { service, .. } => Topic::Mesh(lower(service)),
            Query::StateChecks { .. } => Topic::Checks,
            Query::Session { id } => Topic::Session(*id),
            Query::Sessions | Query::NodeSessions { .. } => Topic::Sessions,
            Query::ClusterId => Topic::ClusterId,
            Query::Autopilot => Topic::Autopilot,
            Query::PreparedQueries | Query::PreparedQuery { .. } => Topic::Prepared,
            Query::Places | Query::NodePlace { .. } => Topic::Places,
            Query::Entries { .. }
            | Query::Entry { .. }
            | Query::Chain(_)
            | Query::VirtualIp { .. } => Topic::Entries,
            Query::CaRoots | Query::CaConfig => Topic::Ca,
            Query::Acl(_) => Topic::Acl,
        }
    }
}

/// What was changed since the last publication.
#[derive(Debug, Clone, Default)]
pub(super) struct Touched {
    topics: Vec<Topic>,
    everything: bool,
}

impl Touched {
    /// Wakes everybody at the next publication.
    pub(super) fn everything() -> Self {
        Self {
            topics: Vec::new(),
            everything: true,
        }
    }

    pub(super) fn key(&mut self, key: Arc<str>) {
        self.push(Topic::Key(key));
    }

    pub(super) fn nodes(&mut self) {
        self.push(Topic::Nodes);
    }

    pub(super) fn node(&mut self, name: Arc<str>) {
        self.push(Topic::Node(name));
    }

    pub(super) fn services(&mut self) {
        self.push(Topic::Services);
    }

    pub(super) fn service(&mut self, name: Arc<str>) {
        self.push(Topic::Service(name));
    }

    pub(super) fn mesh(&mut self, target: Arc<str>) {
        self.push(Topic::Mesh(target));
    }

    pub(super) fn checks(&mut self) {
        self.push(Topic::Checks);
    }

    pub(super) fn session(&mut self, id: Uuid) {
        self.push(Topic::Session(id));
        self.push(Topic::Sessions);
    }

    pub(super) fn autopilot(&mut self) {
        self.push(Topic::Autopilot);
    }

    pub(super) fn prepared(&mut self) {
        self.push(Topic::Prepared);
    }

    pub(super) fn places(&mut self) {
        self.push(Topic::Places);
    }

    pub(super) fn entries(&mut self) {
        self.push(Topic::Entries);
    }

    /// What ends connections to other services through the mesh has changed.
    pub(super) fn all_mesh(&mut self) {
        self.push(Topic::AllMesh);
    }

    pub(super) fn ca(&mut self) {
        self.push(Topic::Ca);
    }

    pub(super) fn acl(&mut self) {
        self.push(Topic::Acl);
    }

    pub(super) fn cluster_id(&mut self) {
        self.push(Topic::ClusterId);
    }

    fn push(&mut self, topic: Topic) {
        if self.everything {
            return;
        }
        if self.topics.len() >= TOUCHED_MAX {
            *self = Self::everything();
        } else {
            self.topics.push(topic);
        }
    }
}

/// The published tables, and the waiters for a change of them.
pub struct Shared {
    store: ArcSwap<Store>,
    lines: Mutex<Lines>,
    /// To the task that wakes, once anybody has waited.
    woken: OnceLock<UnboundedSender<Vec<Arc<Notify>>>>,
}

impl Shared {
    /// Publishes a first version.
    pub fn new(mut store: Store) -> Self {
        store.touched = Touched::default();
        Self {
            store: ArcSwap::from_pointee(store),
            lines: Mutex::default(),
            woken: OnceLock::new(),
        }
    }

    /// The current version. It stays as it is for as long as it is held.
    pub fn load(&self) -> Arc<Store> {
        self.store.load_full()
    }

    /// Makes the writer's tables visible and wakes those whose query they concern.
    ///
    /// Call it once for a batch of applied commands, before their proposers are answered, so that they read what
    /// they wrote.
    pub fn publish(&self, store: &mut Store) {
        let touched = std::mem::take(&mut store.touched);
        // Visible first: who joins a line after the lock below finds the new version.
        self.store.store(Arc::new(store.clone()));
        let woken = self.lines().concerned(&touched);
        if woken.is_empty() {
            return;
        }
        match self.woken.get() {
            Some(waker) => {
                if let Err(unsent) = waker.send(woken) {
                    notify(unsent.0);
                }
            }
            None => notify(woken),
        }
    }

    /// The same for tables from a snapshot, which may be of another history: every [`Shared::changed`] returns.
    pub fn replace(&self, store: &mut Store) {
        store.touched = Touched::everything();
        self.lines().replaced += 1;
        self.publish(store);
    }

    /// Waits until the query's answer may have changed at an index above `beyond`.
    ///
    /// Returns at once when it has: the index is what counts, so no publication between the caller's read and this
    /// call is missed. Cancel safe; bound it with a timeout.
    pub async fn changed(&self, query: &Query, beyond: u64) {
        // Waking ten thousand waiters takes as many messages to their runtime from any other thread, and the writer has
        // better things to do: it sends one, and a task among the waiters does the rest.
        if self.woken.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            self.woken.get_or_init(|| {
                let (waker, mut woken) = mpsc::unbounded_channel();
                runtime.spawn(async move {
                    while let Some(lines) = woken.recv().await {
                        notify(lines);
                    }
                });
                waker
            });
        }
        let place = self.join(Topic::of(query));
        loop {
            // In line before looking, or a publication in between would be lost.
            let notified = place.line.notified();
            if self.store.load().changed_index(query) > beyond {
                return;
            }
            notified.await;
            if self.lines().replaced != place.replaced {
                return;
            }
        }
    }

    /// How many queries wait, for metrics.
    pub fn waiting(&self) -> usize {
        self.lines().waiting
    }

    fn join(&self, topic: Topic) -> Place<'_> {
        let mut lines = self.lines();
        Place {
            shared: self,
            line: lines.join(&topic),
            replaced: lines.replaced,
            topic,
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Nothing that is done under the lock can leave it half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn notify(lines: Vec<Arc<Notify>>) {
    for line in lines {
        line.notify_waiters();
    }
}

/// A waiter's place in a line; dropping it leaves the line.
struct Place<'a> {
    shared: &'a Shared,
    topic: Topic,
    line: Arc<Notify>,
    /// [`Lines::replaced`] when it joined.
    replaced: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.lines().leave(&self.topic);
    }
}

/// All lines that somebody stands in.
#[derive(Default)]
struct Lines {
    by_topic: BTreeMap<Topic, Line>,
    /// How many prefixes of each length are watched: a written key is looked up once per length.
    prefix_lengths: BTreeMap<usize, usize>,
    waiting: usize,
    /// How often all tables were replaced.
    replaced: u64,
}

struct Line {
    notify: Arc<Notify>,
    waiting: usize,
}

impl Lines {
    fn join(&mut self, topic: &Topic) -> Arc<Notify> {
        self.waiting += 1;
        if let Some(line) = self.by_topic.get_mut(topic) {
            line.waiting += 1;
            return line.notify.clone();
        }
        if let Topic::Prefix(prefix) = topic {
            *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
        }
        let notify = Arc::new(Notify::new());
        let line = Line {
            notify: notify.clone(),
            waiting: 1,
        };
        self.by_topic.insert(topic.clone(), line);
        notify
    }

    fn leave(&mut self, topic: &Topic) {
        self.waiting -= 1;
        let Some(line) = self.by_topic.get_mut(topic) else {
            return;
        };
        line.waiting -= 1;
        if line.waiting > 0 {
            return;
        }
        self.by_topic.remove(topic);
        if let Topic::Prefix(prefix) = topic
            && let Entry::Occupied(mut count) = self.prefix_lengths.entry(prefix.len())
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// The lines that a change concerns, some perhaps more than once.
    fn concerned(&self, touched: &Touched) -> Vec<Arc<Notify>> {
        if self.by_topic.is_empty() {
            return Vec::new();
        }
        if touched.everything {
            let all = self.by_topic.values();
            return all.map(|line| line.notify.clone()).collect();
        }
        let mut found = Vec::new();
        let applied = self.by_topic.get(&Topic::Applied);
        found.extend(applied.map(|line| line.notify.clone()));
        if touched.topics.contains(&Topic::AllMesh) {
            let first = Topic::Mesh(Arc::from(""));
            let mesh = self.by_topic.range(first..);
            let mesh = mesh.take_while(|(topic, _)| matches!(topic, Topic::Mesh(_)));
            found.extend(mesh.map(|(_, line)| line.notify.clone()));
        }
        let mut look = |topic: &Topic| {
            let line = self.by_topic.get(topic);
            found.extend(line.map(|line| line.notify.clone()));
        };
        for topic in &touched.topics {
            look(topic);
            if let Topic::Service(service) = topic {
                // A gateway may stand for it because it is there.
                look(&Topic::Mesh(service.clone()));
            }
            let Topic::Key(key) = topic else { continue };
            for len in self
                .prefix_lengths
                .keys()
                .take_while(|len| **len <= key.len())
            {
                if let Some(prefix) = key.get(..*len) {
                    look(&Topic::Prefix(prefix.into()));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
