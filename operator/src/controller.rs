//! The loop around the driver: which cluster to look at when, what is told to people, how errors are borne.
//!
//! One reconcile is one observation and one step. It never waits for anything but answers; what has to be waited for is
//! looked at again later, so that one cluster holds up no other.

mod counters;
mod health;
pub mod lease;
mod memory;
mod pace;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, ObjectReference, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::controller::{Action, Config};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};

use crate::backup::controller as backup;
use crate::crd::{ConsulCluster, ConsulClusterStatus, ConsulRestore};
use crate::driver::Driver as _;
use crate::driver::kube::agents::{Agents, Reach};
use crate::driver::kube::milestones::{self, Milestone};
use crate::driver::kube::{Error, Kube, Protected, Shared, names};
use crate::observe::Observed;
use crate::plan::{Stall, Step};

pub use counters::Counters;
pub use health::{Health, serve};
use memory::{AsOf, Key, Memories};

/// Clusters looked at at the same time. Each waits for answers most of the time.
const CONCURRENCY: u16 = 32;

/// How often clusters that are gone are forgotten: nobody is told of the deletion of what they own nothing of.
const PRUNE: Duration = Duration::from_secs(60);

/// Longest sentence in an Event: the API's limit is 1024 bytes.
const NOTE_CHARS_MAX: usize = 900;

/// What the controller is started with.
pub struct Options {
    /// Namespace that is served; absent: all.
    pub namespace: Option<String>,
    /// Image of agents whose spec names none.
    pub image: Option<String>,
    /// How agents are reached.
    pub reach: Reach,
    /// Name of this replica, for Events.
    pub identity: String,
    /// Whether this operator may still write.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Looks at clusters, one at a time or several at once.
pub struct Worker {
    shared: Arc<Shared>,
    recorder: Recorder,
    memories: Memories,
    counters: Arc<Counters>,
}

/// Runs until `shutdown` ends, and then until the reconciles under way are done.
pub async fn run(
    client: Client,
    options: Options,
    counters: Arc<Counters>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let namespace = options.namespace.clone();
    let shutdown = shutdown.shared();
    let worker = Arc::new(Worker::new(client.clone(), options, counters));
    let backups = backup::run(
        Arc::new(worker.backups()),
        namespace.clone(),
        shutdown.clone(),
    );
    let scope = Scope { client, namespace };
    let resource = ApiResource::erase::<ConsulCluster>(&());
    let clusters: Api<Seen> = match &scope.namespace {
        Some(namespace) => Api::namespaced_with(scope.client.clone(), namespace, &resource),
        None => Api::all_with(scope.client.clone(), &resource),
    };
    let config = watcher::Config::default();
    let mut controller = Controller::new_with(clusters, config, resource)
        .with_config(Config::default().concurrency(CONCURRENCY));
    controller = watch::<Pod>(controller, &scope, &worker, false);
    controller = watch::<StatefulSet>(controller, &scope, &worker, false);
    controller = watch::<PersistentVolumeClaim>(controller, &scope, &worker, false);
    controller = watch::<ConsulRestore>(controller, &scope, &worker, false);
    controller = watch::<ConfigMap>(controller, &scope, &worker, true);
    controller = watch::<Service>(controller, &scope, &worker, true);
    controller = watch::<ServiceAccount>(controller, &scope, &worker, true);
    controller = watch::<PodDisruptionBudget>(controller, &scope, &worker, true);
    controller = watch::<NetworkPolicy>(controller, &scope, &worker, true);
    controller = watch::<DaemonSet>(controller, &scope, &worker, true);
    let known = controller.store();
    let pruned = Arc::clone(&worker);
    let prune = async move {
        loop {
            tokio::time::sleep(PRUNE).await;
            let all: BTreeSet<Key> = known
                .state()
                .iter()
                .map(|one| (one.namespace().unwrap_or_default(), one.name_any()))
                .collect();
            pruned.memories.retain(&all);
            pruned.counters.retain_clusters(&all);
        }
    };
    let until = shutdown.clone();
    let stream = controller
        .graceful_shutdown_on(shutdown)
        .run(reconcile, on_error, worker);
    let clusters = stream.for_each(|done| async move {
        if let Err(error) = done {
            tracing::debug!(%error, "not reconciled");
        }
    });
    let prune = async move {
        tokio::select! { () = prune => {}, () = until => {} }
    };
    tokio::join!(clusters, backups, prune);
}

/// What a watch shows: names, labels, whether it is being deleted. The rest is read when it is needed, so it is neither
/// sent nor kept. Not typed, for one resource that cannot be read must not keep the others from being served.
type Seen = PartialObjectMeta<DynamicObject>;

struct Scope {
    client: Client,
    namespace: Option<String>,
}

/// Looks at a cluster when one of its objects of that kind changes. `around`: the kind is one of those that are only read
/// again when they were touched.
fn watch<K>(
    controller: Controller<Seen>,
    scope: &Scope,
    worker: &Arc<Worker>,
    around: bool,
) -> Controller<Seen>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let api: Api<PartialObjectMeta<K>> = match &scope.namespace {
        Some(namespace) => Api::namespaced(scope.client.clone(), namespace),
        None => Api::all(scope.client.clone()),
    };
    let worker = Arc::clone(worker);
    let resource = ApiResource::erase::<ConsulCluster>(&());
    let config = watcher::Config::default().labels(&names::any());
    controller.watches(api, config, move |object: PartialObjectMeta<K>| {
        let cluster = object.labels().get(names::CLUSTER).cloned()?;
        let namespace = object.namespace()?;
        let key = (namespace.clone(), cluster.clone());
        worker.memories.stirred(&key);
        if around {
            worker.memories.touched(&key);
        }
        Some(ObjectRef::new_with(&cluster, resource.clone()).within(&namespace))
    })
}

async fn reconcile(object: Arc<Seen>, worker: Arc<Worker>) -> Result<Action, Error> {
    let key: Key = (object.namespace().unwrap_or_default(), object.name_any());
    worker.counters.reconciles.fetch_add(1, Ordering::Relaxed);
    if object.metadata.deletion_timestamp.is_some() {
        // Owner references do the cleaning; volumes stay or go as the StatefulSet was told.
        return Ok(Action::await_change());
    }
    let began = Instant::now();
    let visited = visit(&key, object.resource_version(), &worker).await;
    worker.counters.looked(began.elapsed());
    match visited {
        Ok((step, pause)) => {
            worker.counters.stepped(&step);
            worker.memories.succeeded(&key);
            let known = u64::try_from(worker.memories.len()).unwrap_or(u64::MAX);
            worker.counters.clusters.store(known, Ordering::Relaxed);
            Ok(Action::requeue(pause))
        }
        Err(Error::Gone) => {
            worker.memories.forget(&key);
            worker.counters.forget_cluster(&key);
            Ok(Action::await_change())
        }
        Err(error) => {
            worker.counters.failed(&error);
            if !error.is_passing() {
                tracing::warn!(namespace = key.0, cluster = key.1, %error, "cannot go on");
                let told = Milestone {
                    reason: "Failed",
                    note: error.to_string(),
                    warning: true,
                };
                worker
                    .tell_once(
                        &key,
                        &object.object_ref(&ApiResource::erase::<ConsulCluster>(&())),
                        told,
                    )
                    .await;
            }
            Err(error)
        }
    }
}

fn on_error(object: Arc<Seen>, error: &Error, worker: Arc<Worker>) -> Action {
    let key: Key = (object.namespace().unwrap_or_default(), object.name_any());
    let failures = worker.memories.failed(&key);
    let delay = if error.is_passing() {
        pace::passing(failures)
    } else {
        pace::failed(failures)
    };
    tracing::debug!(namespace = key.0, cluster = key.1, %error, ?delay, "again later");
    Action::requeue(delay)
}

/// Looks at a cluster; at one that rests, no longer than it takes to hear that it does.
async fn visit(
    key: &Key,
    version: Option<String>,
    worker: &Worker,
) -> Result<(Step, Duration), Error> {
    let as_of = worker.memories.as_of(key, version);
    if let Some(rest) = worker.memories.at_rest(key, &as_of)
        && rest.lasts(&worker.shared.agents).await
    {
        return Ok((Step::Steady, pace::after(&Step::Steady, 0)));
    }
    look(key, as_of, worker).await
}

/// Observes, plans, carries one step out, and reports.
async fn look(key: &Key, as_of: AsOf, worker: &Worker) -> Result<(Step, Duration), Error> {
    let (namespace, name) = key;
    let looked = worker.memories.since_last_wait(key);
    let mut driver = Kube::new(Arc::clone(&worker.shared), namespace, name).await?;
    let observed = driver.observe().await?;
    let step = driver.plan(&observed);
    tracing::debug!(namespace, cluster = name, %step, "planned");
    if let (Some(pause), false) = (looked, matches!(step, Step::Wait(_))) {
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        worker
            .counters
            .waited_millis
            .fetch_add(millis, Ordering::Relaxed);
    }
    let before = driver.stored_status().cloned();
    let reference = driver.cluster().object_ref(&());
    for milestone in milestones::evidence(driver.desired(), &observed) {
        worker.tell_once(key, &reference, milestone).await;
    }
    if let Some(milestone) = milestones::step(&step, &observed) {
        worker.tell_once(key, &reference, milestone).await;
    }
    let done = carry_out(&mut driver, &observed, &step, worker, key).await;
    if let Some(milestone) = driver.vault_made_again() {
        worker.tell_once(key, &reference, milestone).await;
    }
    // A refusal is told in the platform's words; everything else that went wrong is looked at again first.
    let shown = match &done {
        Err(error) if !error.is_passing() => Step::Stalled(Stall::Refused {
            step: match &step {
                Step::Wait(_) | Step::Steady | Step::Stalled(_) => {
                    "keep the objects as the spec says".to_owned()
                }
                other => other.to_string(),
            },
            error: error.to_string(),
        }),
        _ => step.clone(),
    };
    let mut status = driver.status(&observed, &shown, Timestamp::now());
    let restoring = driver.follow_restore(&mut status).await?;
    let mut protecting = None;
    if let Ok(protected) = &done {
        protecting = protected.again;
        driver.note_protection(&mut status, protected.message.clone());
    }
    worker
        .counters
        .cluster(key, driver.cluster().spec.servers, &status);
    for milestone in milestones::turns(before.as_ref(), &status) {
        worker.tell(&reference, &milestone).await;
    }
    let news = differs(driver.stored_status(), &status);
    if news {
        driver.write_status(status).await?;
        worker
            .counters
            .status_writes
            .fetch_add(1, Ordering::Relaxed);
    }
    done?;
    let rest = (step == Step::Steady && !news && !restoring && protecting.is_none())
        .then(|| driver.rest().cloned());
    worker.memories.rests(key, as_of, rest.flatten());
    let same = worker.memories.planned(key, &step);
    let pause = protecting.unwrap_or_else(|| pace::after(&step, same));
    Ok((step, pause))
}

async fn carry_out(
    driver: &mut Kube,
    observed: &Observed,
    step: &Step,
    worker: &Worker,
    key: &Key,
) -> Result<Protected, Error> {
    if driver.may_act() {
        driver.keep_vault_made_again().await?;
        let surroundings = driver.surroundings(observed, step);
        let bootstrapped = surroundings.bootstrapped;
        if worker.memories.needs(key, &surroundings) {
            driver.converge_surroundings(&surroundings).await?;
            worker.memories.converged(key, surroundings);
        }
        driver.converge_sets(bootstrapped).await?;
        driver.converge_claims(observed).await?;
    }
    driver.apply(step).await?;
    if !matches!(step, Step::Wait(_) | Step::Steady | Step::Stalled(_)) {
        let why = crate::plan::why(step);
        tracing::info!(namespace = key.0, cluster = key.1, why, "{step}");
    }
    match step {
        Step::Steady => driver.protect(observed).await,
        _ => Ok(Protected::default()),
    }
}

/// Whether a status says something new. That the log grows is not: a busy cluster would have its status written for ever.
fn differs(before: Option<&ConsulClusterStatus>, after: &ConsulClusterStatus) -> bool {
    let still = |status: &ConsulClusterStatus| {
        let mut status = status.clone();
        status.last_log_index = None;
        for member in &mut status.members {
            member.last_log_index = None;
        }
        status
    };
    before.map(still) != Some(still(after))
}

impl Worker {
    /// Nothing is sent yet.
    pub fn new(client: Client, options: Options, counters: Arc<Counters>) -> Self {
        let Options {
            namespace: _,
            image,
            reach,
            identity,
            leads,
        } = options;
        let reporter = Reporter {
            controller: names::MANAGER.to_owned(),
            instance: Some(identity),
        };
        Worker {
            shared: Arc::new(Shared {
                client: client.clone(),
                agents: Agents::new(client.clone(), reach),
                image,
                leads,
            }),
            recorder: Recorder::new(client, reporter),
            memories: Memories::default(),
            counters,
        }
    }

    /// Who looks after the saved states of the same clusters.
    pub fn backups(&self) -> backup::Worker {
        backup::Worker {
            client: self.shared.client.clone(),
            image: self.shared.image.clone(),
            leads: Arc::clone(&self.shared.leads),
            now: Box::new(Timestamp::now),
            recorder: self.recorder.clone(),
            counters: Arc::clone(&self.counters),
        }
    }

    /// Looks at one cluster once: observes, plans, carries one step out, reports. The step, and when to look again.
    ///
    /// # Errors
    /// What kept it from being done; trying again is safe.
    pub async fn look(&self, namespace: &str, name: &str) -> Result<(Step, Duration), Error> {
        let key = (namespace.to_owned(), name.to_owned());
        look(&key, self.memories.as_of(&key, None), self).await
    }

    /// The same, but a cluster at rest, whose resource is of that version still, is not looked at as a whole.
    ///
    /// # Errors
    /// As of [`Worker::look`].
    pub async fn visit(
        &self,
        namespace: &str,
        name: &str,
        version: Option<String>,
    ) -> Result<(Step, Duration), Error> {
        visit(&(namespace.to_owned(), name.to_owned()), version, self).await
    }

    /// Something around the servers was touched: it is read again at the next look.
    pub fn touched(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.memories.stirred(&key);
        self.memories.touched(&key);
    }

    /// Tells it unless it was the same a moment ago.
    async fn tell_once(&self, key: &Key, reference: &ObjectReference, milestone: Milestone) {
        if self
            .memories
            .is_news(key, milestone.reason, &milestone.note)
        {
            self.tell(reference, &milestone).await;
        }
    }

    async fn tell(&self, reference: &ObjectReference, milestone: &Milestone) {
        let short = |most: usize| milestone.note.chars().take(most).collect::<String>();
        let event = Event {
            type_: if milestone.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: milestone.reason.to_owned(),
            note: Some(short(NOTE_CHARS_MAX)),
            // Part of what makes two Events the same one: without it the second server's would only count the first's up.
            action: short(100),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, reference).await {
            tracing::debug!(%error, "an Event was not taken");
        }
    }
}

/// Time that a shutdown may take for what is under way.
pub const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(20);
