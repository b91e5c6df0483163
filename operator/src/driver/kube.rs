//! Agents as pods of a Kubernetes cluster.
//!
//! One value of [`Kube`] is one look at one cluster: it reads the resource and everything that belongs to it from the
//! API server, never from a cache, asks the agents, and carries one step out. Nothing is remembered from one look to the
//! next that a decision depends on.

pub mod agents;
mod apply;
mod calls;
pub mod converge;
pub mod diff;
pub mod milestones;
pub mod names;
pub mod objects;
mod protect;
pub mod rbac;
mod recover;
pub mod rest;
pub mod see;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};

use agents::{Agents, Refused, Target};
pub use protect::{Protected, accesses, vault};
use rest::{Rest, Versions};
use see::Snapshot;

use super::Driver;
use crate::backup::restored;
use crate::crd::{ConsulCluster, ConsulClusterStatus, ConsulRestore};
use crate::observe::Observed;
use crate::plan::{Desired, Mode, Stall, Step, plan};
use crate::secure::{Given, Vault};

/// Why an observation or a step was not possible.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or did not answer.
    #[error("{0}")]
    Api(#[source] Box<kube::Error>),
    /// An agent refused, or did not answer.
    #[error(transparent)]
    Agent(#[from] Refused),
    /// Something that was taken for granted is not so any more, or not yet; the next observation will tell.
    #[error("{0}")]
    Changed(String),
    /// The resource is gone: nothing is left to be done.
    #[error("the resource is gone")]
    Gone,
    /// The spec leaves something open that only a person can decide.
    #[error("{0}")]
    Incomplete(String),
    /// Another operator leads.
    #[error("this operator does not lead any more")]
    Deposed,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Error::Api(Box::new(error))
    }
}

impl Error {
    /// Whether it passes by itself, so that it is tried again soon and told to nobody.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Changed(_) | Error::Gone | Error::Deposed => true,
            // Conflicts, precondition failures, a budget that does not allow an eviction yet.
            Error::Api(error) => {
                matches!(&**error, kube::Error::Api(status) if matches!(status.code, 404 | 409 | 429))
            }
            Error::Agent(_) | Error::Incomplete(_) => false,
        }
    }
}

/// What all looks share.
pub struct Shared {
    /// The API server.
    pub client: Client,
    /// The agents.
    pub agents: Agents,
    /// Image of agents whose spec names none.
    pub image: Option<String>,
    /// Whether this operator may still write: asked before every call that changes something.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// One look at one cluster.
pub struct Kube {
    shared: Arc<Shared>,
    namespace: String,
    name: String,
    cluster: ConsulCluster,
    desired: Desired,
    snapshot: Snapshot,
    rest: Option<Rest>,
    /// The status as the API server has it.
    stored: Option<ConsulClusterStatus>,
    /// What protects the cluster, if anything does.
    vault: Option<Vault>,
    /// The version of its Secret.
    vault_version: Option<String>,
    /// The versions of all Secrets that what protects it is made from, or seen in.
    secret_versions: Versions,
    given: Given,
    /// Why nothing may be done: what protects the cluster is not there, or not whole.
    problem: Option<String>,
}

impl Kube {
    /// A driver for the resource of that name, which is read now.
    ///
    /// # Errors
    /// It is gone, or cannot be read.
    pub async fn new(shared: Arc<Shared>, namespace: &str, name: &str) -> Result<Self, Error> {
        let api: Api<ConsulCluster> = Api::namespaced(shared.client.clone(), namespace);
        let cluster = api.get_opt(name).await?.ok_or(Error::Gone)?;
        let desired = Desired::new(&cluster, |_, _| String::new());
        Ok(Kube {
            shared,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            stored: cluster.status.clone(),
            vault: None,
            vault_version: None,
            secret_versions: Versions::new(),
            given: Given::default(),
            problem: None,
            cluster,
            desired,
            snapshot: Snapshot::default(),
            rest: None,
        })
    }

    /// The resource, as it was read or last written.
    pub fn cluster(&self) -> &ConsulCluster {
        &self.cluster
    }

    /// The status as the API server has it.
    pub fn stored_status(&self) -> Option<&ConsulClusterStatus> {
        self.stored.as_ref()
    }

    /// The step that is to be taken.
    pub fn plan(&self, observed: &Observed) -> Step {
        match &self.problem {
            Some(problem) => Step::Stalled(Stall::Refused {
                step: "reach the agents".to_owned(),
                error: problem.clone(),
            }),
            None => plan(&self.desired, observed),
        }
    }

    /// Whether anything may be changed.
    pub fn may_act(&self) -> bool {
        !self.desired.paused && self.problem.is_none()
    }

    /// What is wanted.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What the agents said in the last observation, to be compared with what they say later.
    pub fn rest(&self) -> Option<&Rest> {
        self.rest.as_ref()
    }

    /// The status that belongs to this observation and step.
    pub fn status(&self, observed: &Observed, step: &Step, now: Timestamp) -> ConsulClusterStatus {
        let mut status = crate::status::status(&self.cluster, &self.desired, observed, step, now);
        let set = names::server(&self.name);
        for member in &mut status.members {
            let number = self.seat_number(&member.name);
            let pod = number.and_then(|number| self.snapshot.pod(&set, number));
            member.pod_uid = pod.and_then(|pod| pod.metadata.uid.clone());
            member.pod = pod.and_then(|pod| pod.metadata.name.clone());
        }
        // A volume that was kept is no server: the scale subresource counts pods.
        status.members.retain(|member| {
            let number = self.seat_number(&member.name);
            member.pod.is_some() || number.is_some_and(|number| number < self.desired.servers)
        });
        let pods = status.members.iter().filter(|member| member.pod.is_some());
        status.servers = i32::try_from(pods.count()).unwrap_or(i32::MAX);
        let labels = names::pods(&self.name, "server");
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        status.selector = Some(labels.join(","));
        status
    }

    /// What becomes of `spec.restoreFrom`, in the status that is about to be written; its ConsulRestore is made when its
    /// time has come. Whether there is more to come.
    ///
    /// # Errors
    /// The ConsulRestore cannot be read or made.
    pub async fn follow_restore(&self, status: &mut ConsulClusterStatus) -> Result<bool, Error> {
        if restored::is_open(&self.cluster) && !self.desired.paused {
            let api: Api<ConsulRestore> = self.api();
            let found = api.get_opt(&restored::name(&self.cluster)).await?;
            let decision = restored::decide(&self.cluster, status, found.as_ref());
            if let Some(value) = decision.make {
                let kind = objects::Kind::ConsulRestore;
                self.create(&objects::Object { kind, value }).await?;
            }
            status.restored = Some(decision.restored);
        }
        restored::qualify(&self.cluster, status, Timestamp::now());
        Ok(restored::is_open(&self.cluster))
    }

    /// Number of the server's seat of that name.
    fn seat_number(&self, name: &str) -> Option<usize> {
        self.desired
            .server_seats
            .iter()
            .position(|seat| seat.name == name)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.shared.client.clone(), &self.namespace)
    }

    /// Image of the agents: as the spec says; else what runs, so that a new operator does not restart it; else the
    /// operator's own.
    fn image(&self) -> Result<String, Error> {
        let live = || {
            let set = self.snapshot.servers.as_ref()?;
            let pod = set.spec.as_ref()?.template.spec.as_ref()?;
            pod.containers
                .iter()
                .find(|c| c.name == names::CONTAINER)?
                .image
                .clone()
        };
        let image = self
            .cluster
            .spec
            .image
            .clone()
            .or_else(live)
            .or_else(|| self.shared.image.clone());
        image.ok_or_else(|| {
            Error::Incomplete(
                "spec.image is missing, and this operator was started without --agent-image"
                    .to_owned(),
            )
        })
    }

    async fn read(&self) -> Result<Snapshot, Error> {
        let all = ListParams::default().labels(&names::selector(&self.name));
        let agents = format!(
            "{},{} in (server,client)",
            names::selector(&self.name),
            names::ROLE
        );
        let agents = ListParams::default().labels(&agents);
        let (sets, pods, claims) = (
            self.api::<k8s_openapi::api::apps::v1::StatefulSet>(),
            self.api(),
            self.api(),
        );
        let (sets, pods, claims) =
            futures::try_join!(sets.list(&all), pods.list(&agents), claims.list(&all))?;
        let mut snapshot = Snapshot {
            pods: pods.items,
            claims: claims.items,
            ..Snapshot::default()
        };
        for set in sets.items {
            match set.metadata.name.as_deref() {
                Some(name) if name == names::server(&self.name) => snapshot.servers = Some(set),
                Some(name) if name == names::client(&self.name) => snapshot.clients = Some(set),
                _ => {}
            }
        }
        self.check_owner(&snapshot)?;
        snapshot.refusal = self.refusal(&snapshot).await?;
        snapshot.claim_refusals = self.claim_refusals(&snapshot).await?;
        Ok(snapshot)
    }

    /// A set of a resource that had our name before us goes with it; until then it is not ours.
    fn check_owner(&self, snapshot: &Snapshot) -> Result<(), Error> {
        for set in [&snapshot.servers, &snapshot.clients].into_iter().flatten() {
            let owners = set.metadata.owner_references.iter().flatten();
            let mut others = owners.filter(|owner| {
                owner.controller == Some(true)
                    && Some(&owner.uid) != self.cluster.metadata.uid.as_ref()
            });
            if let Some(other) = others.next() {
                let name = set.metadata.name.as_deref().unwrap_or_default();
                return Err(Error::Changed(format!(
                    "StatefulSet {name} still belongs to {} {} with UID {}",
                    other.kind, other.name, other.uid
                )));
            }
        }
        Ok(())
    }

    /// Why the StatefulSet cannot make pods (a quota, a policy): only its Events say it. Asked when pods are missing.
    async fn refusal(&self, snapshot: &Snapshot) -> Result<Option<String>, Error> {
        let Some(set) = &snapshot.servers else {
            return Ok(None);
        };
        let name = names::server(&self.name);
        let missing =
            (0..objects::replica_count(set)).any(|number| snapshot.pod(&name, number).is_none());
        let (true, Some(uid)) = (missing, &set.metadata.uid) else {
            return Ok(None);
        };
        let params =
            ListParams::default().fields(&format!("involvedObject.uid={uid},reason=FailedCreate"));
        let events = self.api::<Event>().list(&params).await?;
        Ok(see::refusal(events.items, Timestamp::now()))
    }

    /// Why claims get no volume (no such storage class): only their Events say it; the pod says no more than that it waits
    /// for them.
    async fn claim_refusals(&self, snapshot: &Snapshot) -> Result<BTreeMap<String, String>, Error> {
        let pending = snapshot.claims_pending();
        if pending.is_empty() {
            return Ok(BTreeMap::new());
        }
        let params = ListParams::default()
            .fields("involvedObject.kind=PersistentVolumeClaim,reason=ProvisioningFailed");
        let events = self.api::<Event>().list(&params).await?;
        Ok(see::claim_refusals(&pending, events.items))
    }

    /// Every pod whose agent can be asked.
    fn targets(&self) -> Vec<Target> {
        let (servers, clients) = (names::server(&self.name), names::client(&self.name));
        let prefix = self.cluster.spec.prefix(&self.name);
        let access = self.accesses();
        let target = |pod: &k8s_openapi::api::core::v1::Pod| {
            let name = pod.metadata.name.clone()?;
            let node = match (
                names::number(&servers, &name),
                names::number(&clients, &name),
            ) {
                (Some(number), _) => format!("{prefix}-server-{number}"),
                (None, Some(number)) => format!("{prefix}-client-{number}"),
                (None, None) => return None,
            };
            Some(Target {
                node,
                access: access(pod, names::number(&servers, &name).is_some()),
                pod: name,
                namespace: self.namespace.clone(),
                address: see::address(pod)?.to_owned(),
            })
        };
        self.snapshot.pods.iter().filter_map(target).collect()
    }

    /// What is wanted, with addresses as they are now: the pod's, or its name in DNS while it has none.
    fn boil_down(&self) -> Result<Desired, Error> {
        let (server, client) = (names::server(&self.name), names::client(&self.name));
        let mut desired = Desired::new(&self.cluster, |mode, number| {
            let set = if mode == Mode::Server {
                &server
            } else {
                &client
            };
            let pod = self.snapshot.pod(set, number);
            let address = pod.and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
            address.unwrap_or_else(|| format!("{set}-{number}.{server}.{}.svc", self.namespace))
        });
        let live = self.snapshot.servers.as_ref();
        let image = self.image()?;
        desired.revision = objects::servers(&self.cluster, &image, desired.servers, live).1;
        desired.client_revision = objects::client_set(&self.cluster, &image).1;
        Ok(desired)
    }
}

impl Driver for Kube {
    type Error = Error;

    async fn observe(&mut self) -> Result<Observed, Error> {
        self.snapshot = self.read().await?;
        self.look_at_vault().await?;
        self.desired = self.boil_down()?;
        let leader = self
            .cluster
            .status
            .as_ref()
            .and_then(|status| status.leader.clone());
        let targets = self.targets();
        let answers = match self.problem {
            None => {
                let agents = &self.shared.agents;
                agents.ask_all(&targets, leader.as_deref()).await
            }
            // Nobody would answer.
            Some(_) => BTreeMap::new(),
        };
        let versions = self.secret_versions.clone();
        self.rest = Some(Rest::new(self.api(), versions, targets, &answers));
        Ok(self
            .snapshot
            .observed(&self.cluster, &self.desired, answers, Timestamp::now()))
    }

    async fn apply(&mut self, step: &Step) -> Result<(), Error> {
        self.carry_out(step).await
    }
}
