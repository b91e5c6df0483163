//! From objects of the API server, and the agents' answers, to [`Observed`]. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Event, PersistentVolumeClaim, Pod, PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::names;
use super::objects::replica_count;
use crate::crd::ConsulCluster;
use crate::observe::{Agent, Answers, Latch, Observed, Process, RaftData, Running};
use crate::plan::Desired;

/// How long a pod may be without a host before that counts as trouble: a new volume alone makes it seconds.
const UNSCHEDULED_SECONDS_MAX: i64 = 10;

/// Age at which an Event of a refusal says nothing any more: the StatefulSet controller tries again within minutes.
const REFUSAL_SECONDS_MAX: i64 = 600;

/// How long a refusal must have been repeated. The old pod's claim may still be on its way out, and the like: that is over
/// within seconds, and nobody is to be called for it.
const REFUSAL_SECONDS_MIN: i64 = 5;

/// Restarts in a row after which a container that waits for its next one is in trouble.
const RESTARTS_MAX: i32 = 3;

/// What the API server has of one cluster, read at one time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// StatefulSet of the servers.
    pub servers: Option<StatefulSet>,
    /// StatefulSet of the clients.
    pub clients: Option<StatefulSet>,
    /// Pods of both.
    pub pods: Vec<Pod>,
    /// Claims of the servers.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Why the platform refuses to make pods of the servers, in its words.
    pub refusal: Option<String>,
    /// Why claims that wait get no volume, by their names, in the platform's words.
    pub claim_refusals: BTreeMap<String, String>,
}

/// The latch, as the status records it.
pub fn latch(cluster: &ConsulCluster) -> Latch {
    let Some(status) = &cluster.status else {
        return Latch::Open;
    };
    if let Some(id) = status.cluster_id.as_deref().and_then(|id| id.parse().ok()) {
        return Latch::Done(id);
    }
    match &status.bootstrap_server {
        Some(record) => Latch::Reserved(record.name.clone()),
        None => Latch::Open,
    }
}

impl Snapshot {
    /// The pod of that number in the set of that name.
    pub fn pod(&self, set: &str, number: usize) -> Option<&Pod> {
        let is = |pod: &&Pod| names::number(set, name(&pod.metadata.name)) == Some(number);
        self.pods.iter().find(is)
    }

    /// The claim of the server of that number.
    pub fn claim(&self, cluster: &str, number: usize) -> Option<&PersistentVolumeClaim> {
        let wanted = names::claim(cluster, number);
        self.claims
            .iter()
            .find(|claim| name(&claim.metadata.name) == wanted)
    }

    /// UIDs and names of the claims that wait for a volume while a pod waits for them.
    pub fn claims_pending(&self) -> BTreeMap<String, String> {
        if self.pods.iter().all(|pod| container(pod).is_some()) {
            return BTreeMap::new();
        }
        let pending = |claim: &&PersistentVolumeClaim| {
            claim
                .status
                .as_ref()
                .is_some_and(|status| status.phase.as_deref() == Some("Pending"))
        };
        let key = |claim: &PersistentVolumeClaim| {
            Some((claim.metadata.uid.clone()?, claim.metadata.name.clone()?))
        };
        self.claims.iter().filter(pending).filter_map(key).collect()
    }

    /// Everything that a step is chosen from.
    pub fn observed(
        &self,
        cluster: &ConsulCluster,
        desired: &Desired,
        mut answers: BTreeMap<String, Answers>,
        now: Timestamp,
    ) -> Observed {
        let own = name(&cluster.metadata.name);
        let latch = latch(cluster);
        let mut observed = Observed {
            bootstrap: latch.clone(),
            ..Observed::default()
        };
        let server_set = names::server(own);
        for (number, seat) in desired.server_seats.iter().enumerate() {
            let pod = self.pod(&server_set, number);
            let mut process = self.process(self.servers.as_ref(), pod, number, now);
            if let Process::Running(running) = &mut process
                && !running.trouble.is_empty()
                && let Some(why) = self.claim_refusals.get(&names::claim(own, number))
            {
                running.trouble = format!("{why} ({})", running.trouble);
            }
            let agent = Agent {
                process,
                raft_data: self.raft_data(cluster, &latch, &seat.name, number),
                moved_aside: self.moved_aside(own, number),
                answers: answers.remove(&seat.name),
            };
            if agent != Agent::default() {
                observed.servers.insert(seat.name.clone(), agent);
            }
        }
        let client_set = names::client(own);
        let prefix = cluster.spec.prefix(own);
        let promised = self.clients.as_ref().map_or(0, replica_count);
        let pods = self
            .pods
            .iter()
            .filter_map(|pod| names::number(&client_set, name(&pod.metadata.name)));
        let count = pods.max().map_or(0, |last| last + 1).max(promised);
        for number in 0..count.min(CLIENTS_MAX) {
            let seat = format!("{prefix}-client-{number}");
            let process = self.process(
                self.clients.as_ref(),
                self.pod(&client_set, number),
                number,
                now,
            );
            let agent = Agent {
                process,
                answers: answers.remove(&seat),
                ..Agent::default()
            };
            if agent != Agent::default() {
                observed.clients.insert(seat, agent);
            }
        }
        observed
    }

    /// What there is of a pod, or of one that the StatefulSet was asked for: that one is as good as running, as nobody
    /// needs to start it, and nobody may count on its being down.
    fn process(
        &self,
        set: Option<&StatefulSet>,
        pod: Option<&Pod>,
        number: usize,
        now: Timestamp,
    ) -> Process {
        if let Some(pod) = pod {
            return Process::Running(running(pod, now));
        }
        let Some(set) = set.filter(|set| number < replica_count(set)) else {
            return Process::Absent;
        };
        let template = set.spec.as_ref().map(|spec| &spec.template);
        Process::Running(Running {
            bootstrap: flagged(template.and_then(|template| template.spec.as_ref())),
            revision: template
                .and_then(|template| template.metadata.as_ref())
                .map(revision)
                .unwrap_or_default(),
            uptime_seconds: 0.0,
            stopping: false,
            trouble: self.refusal.clone().unwrap_or_default(),
        })
    }

    /// The token on which the server was last told to move its data aside.
    fn moved_aside(&self, own: &str, number: usize) -> Vec<String> {
        let claim = self.claim(own, number);
        let notes = claim.and_then(|claim| claim.metadata.annotations.as_ref());
        let token = notes.and_then(|notes| notes.get(names::MOVED_ASIDE));
        token.into_iter().cloned().collect()
    }

    /// What the claim tells of the data on it: that there may be some, unless it was made for the bootstrap that is on
    /// record as not over yet.
    fn raft_data(
        &self,
        cluster: &ConsulCluster,
        latch: &Latch,
        seat: &str,
        number: usize,
    ) -> RaftData {
        let own = name(&cluster.metadata.name);
        let Some(claim) = self.claim(own, number) else {
            return RaftData::Absent;
        };
        let annotation = |key: &str| {
            claim
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(key))
        };
        if annotation(names::CLUSTER_ID).is_some() {
            return RaftData::Present;
        }
        match latch {
            // Nobody was served before it was on record, so what the seed formed and lost meanwhile is not missed.
            Latch::Reserved(reserved) if reserved == seat => RaftData::Blank,
            // Made by an operator that did not live to put it on record; nothing has used it.
            Latch::Open
                if self.servers.is_none()
                    && annotation(names::RESERVED_BY) == cluster.metadata.uid.as_ref() =>
            {
                RaftData::Blank
            }
            _ => RaftData::Present,
        }
    }
}

/// What a StatefulSet is refused again and again, in the words of its last Event about it.
pub fn refusal(events: Vec<Event>, now: Timestamp) -> Option<String> {
    let lasting = |event: &Event| {
        let Some(last) = last_told(event) else {
            return false;
        };
        let first = event
            .first_timestamp
            .as_ref()
            .map_or(last, |at| at.0.as_second());
        now.as_second() - last < REFUSAL_SECONDS_MAX && last - first >= REFUSAL_SECONDS_MIN
    };
    let refused = events.into_iter().filter(lasting).max_by_key(last_told);
    refused.and_then(|event| event.message)
}

/// The last words about each of the claims that wait, which are given by UID and name.
pub fn claim_refusals(
    pending: &BTreeMap<String, String>,
    mut events: Vec<Event>,
) -> BTreeMap<String, String> {
    events.sort_by_key(last_told);
    let about = |event: Event| {
        let name = pending.get(event.involved_object.uid.as_deref()?)?;
        Some((name.clone(), event.message?))
    };
    events.into_iter().filter_map(about).collect()
}

/// When an Event was last told, in seconds.
fn last_told(event: &Event) -> Option<i64> {
    let told = event.last_timestamp.as_ref();
    told.or(event.metadata.creation_timestamp.as_ref())
        .map(|at| at.0.as_second())
}

/// Clients that are looked at: what the resource allows.
const CLIENTS_MAX: usize = 200;

fn name(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}

/// Revision that a pod was started with, or that those of a template are.
pub fn revision(metadata: &ObjectMeta) -> String {
    let labels = metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(names::REVISION))
        .cloned()
        .unwrap_or_default()
}

/// Whether a pod is started with `-bootstrap`.
pub fn flagged(pod: Option<&PodSpec>) -> bool {
    let agent = |container: &&Container| container.name == names::CONTAINER;
    let container = pod.and_then(|pod| pod.containers.iter().find(agent));
    let args = container.and_then(|container| container.args.as_ref());
    args.is_some_and(|args| args.iter().any(|arg| arg == "-bootstrap"))
}

/// Whether the StatefulSet still has the template with `-bootstrap`.
pub fn set_flagged(set: &StatefulSet) -> bool {
    flagged(
        set.spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref()),
    )
}

/// The agent's container, as the kubelet reports it.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|status| status.name == names::CONTAINER)
}

/// Where the agent of a pod can be asked, if it runs.
pub fn address(pod: &Pod) -> Option<&str> {
    container(pod)?.state.as_ref()?.running.as_ref()?;
    pod.status.as_ref()?.pod_ip.as_deref()
}

/// Whether its agent listens at the port of that name.
pub fn listens(pod: &Pod, port: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.any(|found| found.name.as_deref() == Some(port))
}

/// Whether an argument of its agent names that file.
pub fn started_with(pod: &Pod, file: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut args = containers.flat_map(|container| container.args.iter().flatten());
    args.any(|arg| arg.rsplit('/').next() == Some(file))
}

/// Whether every pod of a DaemonSet is of its newest template, and ready.
pub fn rolled(set: &DaemonSet) -> bool {
    set.status.as_ref().is_some_and(|status| {
        let wanted = status.desired_number_scheduled;
        status.observed_generation >= set.metadata.generation
            && status.updated_number_scheduled.unwrap_or(0) == wanted
            && status.number_ready == wanted
    })
}

/// Whether the kubelet last found its agent ready: a caught-up voter.
pub fn ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

fn running(pod: &Pod, now: Timestamp) -> Running {
    let started = container(pod)
        .and_then(|status| status.state.as_ref()?.running.as_ref()?.started_at.as_ref());
    Running {
        bootstrap: flagged(pod.spec.as_ref()),
        revision: revision(&pod.metadata),
        uptime_seconds: started.map_or(0.0, |at| age_seconds(at, now)),
        stopping: pod.metadata.deletion_timestamp.is_some(),
        trouble: trouble(pod, now).unwrap_or_default(),
    }
}

/// Never negative: the clocks of two machines differ.
fn age_seconds(at: &Time, now: Timestamp) -> f64 {
    (now.as_millisecond() - at.0.as_millisecond()).max(0) as f64 / 1000.0
}

/// Why a pod does not come up, when that will not pass by itself within seconds.
fn trouble(pod: &Pod, now: Timestamp) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if let Some(status) = container(pod) {
        return container_trouble(status);
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unscheduled = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let long = |at: &Time| age_seconds(at, now) >= UNSCHEDULED_SECONDS_MAX as f64;
    let since = unscheduled
        .last_transition_time
        .as_ref()
        .or(pod.metadata.creation_timestamp.as_ref());
    since.is_some_and(long).then(|| {
        let reason = unscheduled.reason.as_deref().unwrap_or("Unscheduled");
        said(reason, unscheduled.message.as_deref())
    })
}

fn container_trouble(status: &ContainerStatus) -> Option<String> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    match reason {
        "" | "ContainerCreating" | "PodInitializing" => None,
        "CrashLoopBackOff" if status.restart_count < RESTARTS_MAX => None,
        "CrashLoopBackOff" => {
            let last = status
                .last_state
                .as_ref()
                .and_then(|last| last.terminated.as_ref());
            let how = last.map(|last| {
                // The end of its log: why it ended is what it said last.
                let message = last.message.as_deref().and_then(|message| {
                    let mut lines = message.lines().rev();
                    lines.find(|line| !line.trim().is_empty())
                });
                let words = message.or(last.reason.as_deref()).unwrap_or_default();
                format!(
                    "ended {} times, last with code {}: {}",
                    status.restart_count,
                    last.exit_code,
                    words.trim()
                )
            });
            Some(said(reason, how.as_deref().or(waiting.message.as_deref())))
        }
        _ => Some(said(reason, waiting.message.as_deref())),
    }
}

fn said(reason: &str, message: Option<&str>) -> String {
    let text = match message {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    };
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests;
