//! The loop around the decisions: reads what there is, carries out, writes the status, says when to look again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams,
    PostParams, Preconditions, PropagationPolicy,
};
use kube::runtime::controller::{Action, Config};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::job::Asker;
use super::outcome::{self, Outcome};
use super::{JOB, SCHEDULE, SCHEDULE_UID, job, restore, schedule, snapshot};
use crate::controller::Counters;
use crate::crd::{
    ConsulCluster, ConsulRestore, ConsulSnapshot, ConsulSnapshotSchedule, JobPhase, LastBackup,
};
use crate::driver::kube::{Error, names};

/// Jobs of one kind that are looked after at the same time.
const CONCURRENCY: u16 = 8;
/// How often schedules that are gone are forgotten.
const PRUNE: Duration = Duration::from_secs(60);
/// Pause after a failure; a conflict is over at once.
const FAILED: Duration = Duration::from_secs(10);
const PASSING: Duration = Duration::from_millis(500);

/// Looks after saved states.
pub struct Worker {
    /// The API server.
    pub client: Client,
    /// Image of agents whose cluster names none.
    pub image: Option<String>,
    /// Whether this operator may still write.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The time.
    pub now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Where Events go.
    pub recorder: Recorder,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// What a watch shows; see the cluster's controller.
type Seen = PartialObjectMeta<DynamicObject>;

/// The three kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Snapshot,
    Schedule,
    Restore,
}

struct Context {
    worker: Arc<Worker>,
    kind: Kind,
}

/// Runs until `shutdown` ends. `namespace`: the one that is served; absent: all.
pub async fn run(
    worker: Arc<Worker>,
    namespace: Option<String>,
    shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let one = |kind| {
        run_kind(
            kind,
            Arc::clone(&worker),
            namespace.clone(),
            shutdown.clone(),
        )
    };
    tokio::join!(one(Kind::Snapshot), one(Kind::Schedule), one(Kind::Restore));
}

async fn run_kind(
    kind: Kind,
    worker: Arc<Worker>,
    namespace: Option<String>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let resource = match kind {
        Kind::Snapshot => ApiResource::erase::<ConsulSnapshot>(&()),
        Kind::Schedule => ApiResource::erase::<ConsulSnapshotSchedule>(&()),
        Kind::Restore => ApiResource::erase::<ConsulRestore>(&()),
    };
    let client = worker.client.clone();
    let all: Api<Seen> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let mut controller = Controller::new_with(all, watcher::Config::default(), resource.clone())
        .with_config(Config::default().concurrency(CONCURRENCY));
    controller = watch_others(controller, kind, client, namespace.as_deref(), resource);
    let known = controller.store();
    let counters = Arc::clone(&worker.counters);
    let prune = async move {
        if kind != Kind::Schedule {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(PRUNE).await;
            let all = known.state();
            let place = |one: &Arc<Seen>| (one.namespace().unwrap_or_default(), one.name_any());
            counters.retain_schedules(&all.iter().map(place).collect());
        }
    };
    let context = Arc::new(Context { worker, kind });
    let work = controller
        .graceful_shutdown_on(shutdown)
        .run(reconcile, on_error, context)
        .for_each(|done| async move {
            if let Err(error) = done {
                tracing::debug!(%error, "not reconciled");
            }
        });
    tokio::select! {
        () = work => {}
        () = prune => {}
    }
}

/// A job tells its own resource; a snapshot tells its schedule.
fn watch_others(
    controller: Controller<Seen>,
    kind: Kind,
    client: Client,
    namespace: Option<&str>,
    resource: ApiResource,
) -> Controller<Seen> {
    let (what, watched) = match kind {
        Kind::Snapshot => ("snapshot", ApiResource::erase::<Job>(&())),
        Kind::Restore => ("restore", ApiResource::erase::<Job>(&())),
        Kind::Schedule => ("", ApiResource::erase::<ConsulSnapshot>(&())),
    };
    let selector = match kind {
        Kind::Schedule => SCHEDULE.to_owned(),
        _ => format!("{JOB}={what}"),
    };
    let others: Api<Seen> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &watched),
        None => Api::all_with(client, &watched),
    };
    let config = watcher::Config::default().labels(&selector);
    controller.watches_with(others, watched, config, move |object: Seen| {
        let name = match kind {
            Kind::Schedule => object.labels().get(SCHEDULE).cloned(),
            _ => {
                let owners = object.owner_references();
                owners
                    .iter()
                    .find(|owner| owner.kind == resource.kind)
                    .map(|owner| owner.name.clone())
            }
        };
        let namespace = object.namespace()?;
        Some(ObjectRef::new_with(&name?, resource.clone()).within(&namespace))
    })
}

async fn reconcile(object: Arc<Seen>, context: Arc<Context>) -> Result<Action, Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let Context { worker, kind } = &*context;
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let again = match kind {
        Kind::Snapshot => worker.snapshot(&namespace, &name).await,
        Kind::Schedule => worker.schedule(&namespace, &name).await,
        Kind::Restore => worker.restore(&namespace, &name).await,
    };
    match again {
        Ok(Some(again)) => Ok(Action::requeue(again)),
        Ok(None) => Ok(Action::await_change()),
        Err(Error::Gone) => {
            if *kind == Kind::Schedule {
                worker.counters.forget_schedule(&namespace, &name);
            }
            Ok(Action::await_change())
        }
        Err(error) => {
            if !error.is_passing() {
                tracing::warn!(namespace, name, ?kind, %error, "cannot go on");
                worker.counters.failed(&error);
            }
            Err(error)
        }
    }
}

fn on_error(_: Arc<Seen>, error: &Error, _: Arc<Context>) -> Action {
    Action::requeue(match error.is_passing() {
        true => PASSING,
        false => FAILED,
    })
}

impl Worker {
    fn check_lead(&self) -> Result<(), Error> {
        match (self.leads)() {
            true => Ok(()),
            false => Err(Error::Deposed),
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Looks at one `ConsulSnapshot`; when to look again.
    ///
    /// # Errors
    /// What kept it from being done; trying again is safe.
    pub async fn snapshot(&self, namespace: &str, name: &str) -> Result<Option<Duration>, Error> {
        let api: Api<ConsulSnapshot> = self.api(namespace);
        let found = api.get_opt(name).await?.ok_or(Error::Gone)?;
        let cluster = self.cluster(namespace, &found.spec.cluster).await?;
        let job = self.job(namespace, &snapshot::asker(&found)).await?;
        let older = self.older(namespace, &found, &job).await?;
        let decision = snapshot::decide(&snapshot::Seen {
            snapshot: &found,
            cluster: cluster.as_ref(),
            image: self.image(cluster.as_ref()),
            job,
            older,
            now: (self.now)(),
        });
        let asker = snapshot::asker(&found);
        match &decision.act {
            snapshot::Act::Nothing => {}
            snapshot::Act::Create(job) => {
                self.create::<Job>(namespace, job).await?;
                tracing::info!(namespace, snapshot = name, "a snapshot begins");
            }
            snapshot::Act::Delete { uid } => {
                self.delete_job(namespace, &job::name(&asker), uid).await?;
            }
        }
        for older in &decision.forget {
            self.check_lead()?;
            match api.delete(older, &DeleteParams::default()).await {
                Ok(_) => tracing::info!(namespace, snapshot = older, "its file was deleted"),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            }
        }
        let before = found.status.clone().unwrap_or_default();
        let ends = decision.status.phase.is_final() && !before.phase.is_final();
        if ends && decision.status.phase == JobPhase::Completed {
            self.note_backup(namespace, &found, &decision.status)
                .await?;
        }
        if found.status.as_ref() != Some(&decision.status) {
            let mut changed = found.clone();
            changed.status = Some(decision.status.clone());
            self.write_status(&api, name, &changed).await?;
        }
        if ends {
            let message = decision.status.message.clone().unwrap_or_default();
            let good = decision.status.phase == JobPhase::Completed;
            tracing::info!(namespace, snapshot = name, good, "{message}");
            self.counters.backup_ended(good);
            self.tell(&found, good, "SnapshotVerified", "SnapshotFailed", &message)
                .await;
        }
        Ok(decision.again)
    }

    /// Looks at one `ConsulSnapshotSchedule`; when to look again.
    ///
    /// # Errors
    /// What kept it from being done; trying again is safe.
    pub async fn schedule(&self, namespace: &str, name: &str) -> Result<Option<Duration>, Error> {
        let api: Api<ConsulSnapshotSchedule> = self.api(namespace);
        let found = api.get_opt(name).await?.ok_or(Error::Gone)?;
        let made = self
            .made(namespace, found.metadata.uid.as_deref().unwrap_or_default())
            .await?;
        let decision = schedule::decide(&schedule::Seen {
            schedule: &found,
            made: &made,
            now: (self.now)(),
        });
        if let Some(make) = &decision.make {
            // Its name follows from its time: one that is there already was made for the same.
            self.create::<ConsulSnapshot>(namespace, make).await?;
        }
        self.counters.schedule(namespace, &found, &decision.status);
        if found.status.as_ref() != Some(&decision.status) {
            let mut changed = found;
            changed.status = Some(decision.status);
            self.write_status(&api, name, &changed).await?;
        }
        Ok(decision.again)
    }

    /// Looks at one `ConsulRestore`; when to look again.
    ///
    /// # Errors
    /// What kept it from being done; trying again is safe.
    pub async fn restore(&self, namespace: &str, name: &str) -> Result<Option<Duration>, Error> {
        let api: Api<ConsulRestore> = self.api(namespace);
        let found = api.get_opt(name).await?.ok_or(Error::Gone)?;
        if found.status.as_ref().is_some_and(|s| s.phase.is_final()) {
            return Ok(None);
        }
        let cluster = self.cluster(namespace, &found.spec.cluster).await?;
        let source = match &found.spec.source.snapshot {
            Some(source) => {
                self.api::<ConsulSnapshot>(namespace)
                    .get_opt(source)
                    .await?
            }
            None => None,
        };
        let asker = restore::asker(&found);
        let decision = restore::decide(&restore::Seen {
            restore: &found,
            cluster: cluster.as_ref(),
            snapshot: source.as_ref(),
            job: self.job(namespace, &asker).await?,
            image: self.image(cluster.as_ref()),
            now: (self.now)(),
        });
        match &decision.act {
            restore::Act::Nothing => {}
            restore::Act::CreateSuspended(job) => self.create::<Job>(namespace, job).await?,
            restore::Act::Resume { uid } => {
                self.resume(namespace, &job::name(&asker), uid).await?;
                tracing::info!(namespace, restore = name, "a saved state is put back");
            }
        }
        let ends = decision.status.phase.is_final();
        if found.status.as_ref() != Some(&decision.status) {
            let mut changed = found.clone();
            changed.status = Some(decision.status.clone());
            self.write_status(&api, name, &changed).await?;
        }
        if ends {
            let message = decision.status.message.clone().unwrap_or_default();
            let good = decision.status.phase == JobPhase::Completed;
            tracing::info!(namespace, restore = name, good, "{message}");
            self.tell(&found, good, "Restored", "RestoreFailed", &message)
                .await;
        }
        Ok(decision.again)
    }

    async fn cluster(&self, namespace: &str, name: &str) -> Result<Option<ConsulCluster>, Error> {
        Ok(self.api::<ConsulCluster>(namespace).get_opt(name).await?)
    }

    /// As the cluster's spec says; else the one that this operator was released with, which knows what it is asked.
    fn image<'a>(&'a self, cluster: Option<&'a ConsulCluster>) -> Option<&'a str> {
        let own = cluster.and_then(|cluster| cluster.spec.image.as_deref());
        own.or(self.image.as_deref())
    }

    async fn job(&self, namespace: &str, asker: &Asker<'_>) -> Result<Outcome, Error> {
        let name = job::name(asker);
        let job = self.api::<Job>(namespace).get_opt(&name).await?;
        let pods = match &job {
            Some(_) => {
                let with = ListParams::default().labels(&format!("job-name={name}"));
                self.api::<Pod>(namespace).list(&with).await?.items
            }
            None => Vec::new(),
        };
        Ok(outcome::read(job.as_ref(), &pods, asker.uid))
    }

    /// Snapshots that the schedule with that UID made.
    async fn made(&self, namespace: &str, uid: &str) -> Result<Vec<ConsulSnapshot>, Error> {
        let with = ListParams::default().labels(&format!("{SCHEDULE_UID}={uid}"));
        let all = self.api::<ConsulSnapshot>(namespace).list(&with).await?;
        Ok(all.items)
    }

    /// Before its job is made: which older ones it is to delete. Afterwards: all that it may have been told to.
    async fn older(
        &self,
        namespace: &str,
        found: &ConsulSnapshot,
        job: &Outcome,
    ) -> Result<Vec<snapshot::Older>, Error> {
        let (Some(schedule), Some(uid)) = (
            found.labels().get(SCHEDULE),
            found.labels().get(SCHEDULE_UID),
        ) else {
            return Ok(Vec::new());
        };
        if !matches!(job, Outcome::Absent | Outcome::Succeeded { .. })
            || found.status.as_ref().is_some_and(|s| s.phase.is_final())
        {
            return Ok(Vec::new());
        }
        let made = self.made(namespace, uid).await?;
        if *job != Outcome::Absent {
            let others = made.iter().filter(|s| s.name_any() != found.name_any());
            return Ok(others.map(schedule::older).collect());
        }
        let api = self.api::<ConsulSnapshotSchedule>(namespace);
        let schedule = api.get_opt(schedule).await?;
        // Deleted, or another one of the same name: nobody says any more how long they are kept.
        let schedule = schedule.filter(|schedule| schedule.metadata.uid.as_ref() == Some(uid));
        Ok(schedule.map_or_else(Vec::new, |schedule| {
            schedule::retire(&schedule.spec.retention, &made, found, (self.now)())
        }))
    }

    /// Creates; one of that name that is there already is as good.
    async fn create<K>(&self, namespace: &str, object: &Value) -> Result<(), Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        self.check_lead()?;
        let value: DynamicObject = serde_json::from_value(object.clone())
            .map_err(|e| Error::from(kube::Error::SerdeError(e)))?;
        let resource = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource);
        match api.create(&params(), &value).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete_job(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
        self.check_lead()?;
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api::<Job>(namespace).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Allows the very job of the status to run.
    async fn resume(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
        self.check_lead()?;
        let patch = json!({"metadata": {"uid": uid}, "spec": {"suspend": false}});
        let params = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.api::<Job>(namespace);
        api.patch(name, &params, &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// Writes the status over the very one that was read; a conflict means that somebody was faster.
    async fn write_status<K>(&self, api: &Api<K>, name: &str, changed: &K) -> Result<(), Error>
    where
        K: Serialize + DeserializeOwned + Clone + std::fmt::Debug,
    {
        self.check_lead()?;
        api.replace_status(name, &params(), changed).await?;
        Ok(())
    }

    /// The last verified snapshot, in the cluster's own status.
    async fn note_backup(
        &self,
        namespace: &str,
        found: &ConsulSnapshot,
        status: &crate::crd::ConsulSnapshotStatus,
    ) -> Result<(), Error> {
        let Some(mut cluster) = self.cluster(namespace, &found.spec.cluster).await? else {
            return Ok(());
        };
        let (Some(time), Some(index), Some(size_bytes)) = (
            status.completion_time.clone(),
            status.index,
            status.size_bytes,
        ) else {
            return Ok(());
        };
        let mut own = cluster.status.clone().unwrap_or_default();
        if own
            .last_backup
            .as_ref()
            .is_some_and(|last| last.time >= time)
        {
            return Ok(());
        }
        own.last_backup = Some(LastBackup {
            name: found.metadata.name.clone(),
            time,
            index,
            size_bytes,
        });
        cluster.status = Some(own);
        let name = cluster.name_any();
        let api = self.api::<ConsulCluster>(namespace);
        self.write_status(&api, &name, &cluster).await
    }

    async fn tell<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        good: bool,
        well: &str,
        badly: &str,
        note: &str,
    ) {
        let event = Event {
            type_: match good {
                true => EventType::Normal,
                false => EventType::Warning,
            },
            reason: if good { well } else { badly }.to_owned(),
            note: Some(note.chars().take(900).collect()),
            action: note.chars().take(100).collect(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &about.object_ref(&())).await {
            tracing::debug!(%error, "an Event was not taken");
        }
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PostParams::default()
    }
}
