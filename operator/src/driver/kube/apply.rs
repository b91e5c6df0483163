//! Steps to calls. Nothing is chosen here but how a step is said to Kubernetes.

use http::Method;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::PropagationPolicy;
use uuid::Uuid;

use super::agents::Target;
use super::objects::{self, Kind, replica_count};
use super::{Error, Kube, names, see};
use crate::crd::{BootstrapRecord, Phase};
use crate::observe::Latch;
use crate::plan::{Launch, Step};

fn changed<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Changed(text.into()))
}

/// Whether nobody has deleted it yet.
fn stays(pod: &&Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

impl Kube {
    pub(super) async fn carry_out(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Wait(_) | Step::Steady | Step::Stalled(_) => Ok(()),
            Step::Reserve { server } => self.reserve(server).await,
            Step::Record { cluster } => self.record(*cluster).await,
            Step::StartFirst(launch) => self.start_first(launch).await,
            Step::StartServers(launches) => self.start(launches, 0).await,
            Step::StartAgain(launch) => self.start(std::slice::from_ref(launch), 0).await,
            // All whose volumes are there belong together: one apply brings them back at once.
            Step::RestartDead(launch) => {
                let back = self.with_volumes();
                self.start(std::slice::from_ref(launch), back).await
            }
            Step::RestartFirstWithoutBootstrap { server, leave } => {
                self.restart_first(server, *leave).await
            }
            Step::ReplaceServer { server } => self.replace(server).await,
            Step::StopUnformed { server: _ } => self.stop_unformed().await,
            Step::RepairSecondBootstrap { server, cluster } => {
                self.set_aside(server, *cluster).await
            }
            Step::MoveAside { server, token } => self.move_aside(server, token).await,
            Step::RecoverQuorum(alone) => self.recover(alone).await,
            Step::RemoveServer { server } => self.remove(server).await,
            Step::SetMinQuorum { leader, servers } => {
                self.check_lead()?;
                let target = self.target(leader)?;
                let agents = &self.shared.agents;
                Ok(agents.set_min_quorum(&target, *servers).await?)
            }
            Step::StartClients(_) => self.start_clients().await,
            Step::StopClient { client } => self.stop_client(client).await,
            Step::Join { .. }
            | Step::TransferLeader { .. }
            | Step::RemoveGhost { .. }
            | Step::ForgetServer { .. } => self.tell(step).await,
        }
    }

    /// The steps that an agent carries out when it is told to.
    async fn tell(&self, step: &Step) -> Result<(), Error> {
        let escape = |text: &str| agent::client::escape_path(text);
        let (node, method, path) = match step {
            Step::Join {
                agent,
                to: _,
                address,
            } => (
                agent,
                Method::PUT,
                format!("/v1/agent/join/{}", escape(address)),
            ),
            Step::TransferLeader { from, to: _, to_id } => (
                from,
                Method::PUT,
                format!("/v1/operator/raft/transfer-leader?id={}", escape(to_id)),
            ),
            Step::RemoveGhost {
                server: _,
                id,
                leader,
            } => (
                leader,
                Method::DELETE,
                format!("/v1/operator/raft/peer?id={}", escape(id)),
            ),
            Step::ForgetServer { server, leader } => (
                leader,
                Method::PUT,
                format!("/v1/agent/force-leave/{}", escape(server)),
            ),
            _ => return Ok(()),
        };
        self.check_lead()?;
        let target = self.target(node)?;
        Ok(self.shared.agents.tell(&target, method, &path).await?)
    }

    fn target(&self, node: &str) -> Result<Target, Error> {
        let found = self
            .targets()
            .into_iter()
            .find(|target| target.node == node);
        found.ok_or_else(|| Error::Changed(format!("{node} does not run any more")))
    }

    pub(super) fn number(&self, server: &str) -> Result<usize, Error> {
        let number = self.seat_number(server);
        number.ok_or_else(|| {
            Error::Changed(format!("{server} is no server of this cluster any more"))
        })
    }

    fn pod(&self, number: usize) -> Option<&Pod> {
        self.snapshot.pod(&names::server(&self.name), number)
    }

    /// The volume first, so that its UID can be put on record with the name.
    async fn reserve(&mut self, server: &str) -> Result<(), Error> {
        let number = self.number(server)?;
        let mut record = BootstrapRecord {
            name: server.to_owned(),
            ..BootstrapRecord::default()
        };
        if !self.cluster.spec.ephemeral {
            self.create(&objects::first_claim(&self.cluster, number))
                .await?;
            let claim = self
                .api::<PersistentVolumeClaim>()
                .get(&names::claim(&self.name, number))
                .await?;
            record.pvc_uid = claim.metadata.uid;
        }
        if see::latch(&self.cluster) != Latch::Open {
            return changed("the bootstrap is on record already");
        }
        // Before anybody is started: there is no time at which the cluster is there without it.
        self.protect_from_birth().await?;
        let mut status = self.cluster.status.clone().unwrap_or_default();
        status.bootstrap_server = Some(record);
        status.phase = Some(Phase::Preparing);
        self.write_status(status).await
    }

    /// The id into the status, as the API server then has it; only then does the permit go.
    async fn record(&mut self, cluster: Uuid) -> Result<(), Error> {
        let mut status = self.cluster.status.clone().unwrap_or_default();
        status.cluster_id = Some(cluster.to_string());
        if let Some(record) = &mut status.bootstrap_server {
            let number = self.seat_number(&record.name).unwrap_or_default();
            record.pod_uid = self.pod(number).and_then(|pod| pod.metadata.uid.clone());
            let claim = self.snapshot.claim(&self.name, number);
            record.pvc_uid = claim.and_then(|claim| claim.metadata.uid.clone());
        }
        self.write_status(status).await?;
        if see::latch(&self.cluster) != Latch::Done(cluster) {
            return changed("the API server did not store the cluster id");
        }
        self.withdraw_permit().await
    }

    pub(super) async fn withdraw_permit(&self) -> Result<(), Error> {
        let name = names::permit(&self.name);
        self.delete(Kind::ConfigMap, &name, None, PropagationPolicy::Background)
            .await
    }

    /// The only place where the flag comes from. The StatefulSet is created, never applied: no stale view, no retry and
    /// no second operator can put the flag onto one that is there.
    async fn start_first(&mut self, launch: &Launch) -> Result<(), Error> {
        if !matches!(see::latch(&self.cluster), Latch::Reserved(name) if name == launch.name) {
            return changed("the bootstrap is not reserved for this server any more");
        }
        if self.number(&launch.name)? != 0 {
            return Err(Error::Incomplete(format!(
                "the first server is number 0, not {}",
                launch.name
            )));
        }
        if self.snapshot.servers.is_some() {
            // Scaled to nothing by hand before it had formed anything.
            return self.stop_unformed().await;
        }
        let image = self.image()?;
        self.put(&objects::permit(&self.cluster)).await?;
        let set = objects::first_server(&self.cluster, &image);
        if self.create(&set).await? {
            Ok(())
        } else {
            changed("the StatefulSet exists already")
        }
    }

    /// One apply says it all: the template without the flag, and as many servers as these are to be among. From here on
    /// no pod that Kubernetes makes carries the flag.
    async fn start(&mut self, launches: &[Launch], at_least: usize) -> Result<(), Error> {
        let live = self.snapshot.servers.as_ref();
        let mut replicas = live.map_or(0, replica_count).max(at_least);
        for launch in launches {
            replicas = replicas.max(self.number(&launch.name)? + 1);
        }
        self.put_servers(replicas).await
    }

    /// Servers that are wanted up to the last one whose volume there is.
    fn with_volumes(&self) -> usize {
        let has = |number: &usize| self.snapshot.claim(&self.name, *number).is_some();
        (0..self.desired.servers)
            .rev()
            .find(has)
            .map_or(0, |number| number + 1)
    }

    pub(super) async fn put_servers(&self, replicas: usize) -> Result<(), Error> {
        let image = self.image()?;
        let live = self.snapshot.servers.as_ref();
        let (mut set, _) = objects::servers(&self.cluster, &image, replicas, live);
        set.over(live);
        self.put_set(&set).await
    }

    /// Makes sure that the StatefulSet controller has seen the newest template, so that a pod it makes now is of it.
    fn check_seen_by_controller(set: &StatefulSet) -> Result<(), Error> {
        let status = set.status.as_ref();
        if status.and_then(|status| status.observed_generation) >= set.metadata.generation {
            return Ok(());
        }
        changed("the StatefulSet controller has not seen the newest template yet")
    }

    /// The first server goes, and comes back without the flag.
    ///
    /// One that votes alone is not evicted: servers that are not wanted any more, and never joined, would count against
    /// the budget for ever, and the budget's quorum is that one server.
    async fn restart_first(&mut self, server: &str, leave: bool) -> Result<(), Error> {
        let flagged = self.snapshot.servers.as_ref().is_some_and(see::set_flagged);
        if leave || flagged {
            return self.replace(server).await;
        }
        self.make_anew(self.number(server)?).await
    }

    /// The pod goes, and comes back from the newest template.
    async fn replace(&mut self, server: &str) -> Result<(), Error> {
        let number = self.number(server)?;
        let Some(set) = &self.snapshot.servers else {
            return changed("the StatefulSet is gone");
        };
        if see::set_flagged(set) {
            // A cluster of one: it had no other servers to be started.
            return self.put_servers(replica_count(set)).await;
        }
        Self::check_seen_by_controller(set)?;
        let Some(pod) = self.pod(number).filter(stays) else {
            return Ok(());
        };
        // One that is not ready is in no budget: it would wait for ever for one that allows nobody to go.
        let down = see::address(pod).is_none() || !see::ready(pod);
        self.remove_pod(pod, down).await
    }

    /// Nothing was formed, so the whole set goes, with its pods; volumes stay.
    async fn stop_unformed(&mut self) -> Result<(), Error> {
        let Some(set) = self.snapshot.servers.as_ref() else {
            return Ok(());
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        // A claim that is to go with the set has the set for its owner. What cannot be seen may be data.
        let owned = |claim: &PersistentVolumeClaim| {
            let owners = claim.metadata.owner_references.iter().flatten();
            owners
                .into_iter()
                .any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
        };
        if self.snapshot.claims.iter().any(owned) {
            return changed("the StatefulSet must let go of its volumes before it is deleted");
        }
        let name = names::server(&self.name);
        self.delete(
            Kind::StatefulSet,
            &name,
            set.metadata.uid.as_ref(),
            PropagationPolicy::Foreground,
        )
        .await
    }

    /// The agent itself moves the folder aside when it starts next: nobody else can reach its disk.
    async fn set_aside(&self, server: &str, cluster: Uuid) -> Result<(), Error> {
        let number = self.number(server)?;
        let mut config = objects::config(&self.cluster);
        config.value["data"][names::SET_ASIDE] = serde_json::json!(cluster.to_string());
        self.put(&config).await?;
        self.make_anew(number).await
    }

    /// The pod of a server that no quorum needs, or that is the whole quorum, or that none is left of: no budget
    /// protects it.
    pub(super) async fn make_anew(&self, number: usize) -> Result<(), Error> {
        let Some(set) = self
            .snapshot
            .servers
            .as_ref()
            .filter(|set| !see::set_flagged(set))
        else {
            return changed("there is no StatefulSet without the flag");
        };
        Self::check_seen_by_controller(set)?;
        match self.pod(number).filter(stays) {
            Some(pod) => {
                self.delete(
                    Kind::Pod,
                    pod.metadata.name.as_deref().unwrap_or_default(),
                    pod.metadata.uid.as_ref(),
                    PropagationPolicy::Background,
                )
                .await
            }
            None => Ok(()),
        }
    }

    /// The server leaves, and its pod goes before the kubelet could start it again: the highest number, as a StatefulSet
    /// takes no other. Were it started once more, it would be a learner that nobody counts on.
    async fn remove(&mut self, server: &str) -> Result<(), Error> {
        let number = self.number(server)?;
        let replicas = self.snapshot.servers.as_ref().map_or(0, replica_count);
        if replicas != number + 1 {
            return changed(format!("{server} is not the last of {replicas} servers"));
        }
        if let Ok(target) = self.target(server) {
            self.check_lead()?;
            self.shared
                .agents
                .tell(&target, Method::PUT, "/v1/agent/leave")
                .await?;
        }
        self.put_servers(number).await
    }

    async fn start_clients(&self) -> Result<(), Error> {
        let (set, _) = objects::client_set(&self.cluster, &self.image()?);
        self.put_set(&set).await
    }

    /// One that is not wanted goes with the number of replicas; another comes back from the newest template.
    async fn stop_client(&self, client: &str) -> Result<(), Error> {
        let Some(set) = &self.snapshot.clients else {
            return Ok(());
        };
        let wanted = &self.desired.client_seats;
        let Some(number) = wanted.iter().position(|seat| seat.name == client) else {
            return self.start_clients().await;
        };
        Self::check_seen_by_controller(set)?;
        let pod = self.snapshot.pod(&names::client(&self.name), number);
        match pod.filter(stays) {
            Some(pod) => self.remove_pod(pod, true).await,
            None => Ok(()),
        }
    }
}
