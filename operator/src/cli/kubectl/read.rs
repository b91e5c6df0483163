//! What is only looked at: `status`, `bootstrap-log`, `logs`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt as _};

use super::picture::{Seen, draw, span};
use crate::crd::{ConsulCluster, ConsulSnapshotSchedule};
use crate::driver::kube::agents::{Agents, Reach, Target};
use crate::driver::kube::names;
use crate::observe::Answers;

/// Time between two looks of `status --watch`.
const WATCH: Duration = Duration::from_secs(2);

/// Whom to ask, and in which namespace.
pub(super) struct At {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl At {
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The cluster of that name, or the only one.
    pub(super) async fn cluster(&self, name: Option<&str>) -> anyhow::Result<ConsulCluster> {
        let api: Api<ConsulCluster> = self.api();
        let namespace = &self.namespace;
        if let Some(name) = name {
            let found = api.get_opt(name).await?;
            return found.with_context(|| {
                format!("there is no ConsulCluster \"{name}\" in namespace {namespace}")
            });
        }
        let mut all = api.list(&ListParams::default()).await?.items;
        match all.len() {
            0 => bail!("there is no ConsulCluster in namespace {namespace}"),
            1 => Ok(all.remove(0)),
            _ => {
                let names: Vec<_> = all.iter().map(ConsulCluster::name_any).collect();
                bail!(
                    "namespace {namespace} has {} ConsulClusters, name one: {}",
                    names.len(),
                    names.join(", ")
                )
            }
        }
    }

    /// Pods of the servers, by their numbers.
    async fn servers(&self, cluster: &str) -> anyhow::Result<Vec<Pod>> {
        let with = ListParams::default().labels(&format!(
            "{},{}=server",
            names::selector(cluster),
            names::ROLE
        ));
        let mut pods = self.api::<Pod>().list(&with).await?.items;
        let set = names::server(cluster);
        pods.sort_by_key(|pod| names::number(&set, &pod.name_any()));
        Ok(pods)
    }
}

/// `status`.
pub(super) async fn status(at: &At, name: Option<&str>, watch: bool) -> anyhow::Result<()> {
    let mut last = String::new();
    loop {
        let text = picture(at, name).await?;
        if text != last {
            if !last.is_empty() {
                crate::cli::print("\n")?;
            }
            crate::cli::print(&text)?;
            last = text;
        }
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(WATCH).await;
    }
}

async fn picture(at: &At, name: Option<&str>) -> anyhow::Result<String> {
    let cluster = at.cluster(name).await?;
    let own = cluster.name_any();
    let pods = at.servers(&own).await?;
    let answers = ask(at, &cluster, &pods).await;
    // Whoever may not read these sees the rest.
    let schedules = at
        .api::<ConsulSnapshotSchedule>()
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default();
    let schedules: Vec<_> = schedules
        .into_iter()
        .filter(|schedule| schedule.spec.cluster == own)
        .collect();
    Ok(draw(&Seen {
        cluster: &cluster,
        pods: &pods,
        answers: &answers,
        schedules: &schedules,
        now: Timestamp::now(),
    }))
}

/// The agents themselves, through the API server's pod proxy. The status tells what is missing: an index in it may be a
/// minute old, and whoever may not use the proxy sees that one.
async fn ask(at: &At, cluster: &ConsulCluster, pods: &[Pod]) -> BTreeMap<String, Answers> {
    let own = cluster.name_any();
    let set = names::server(&own);
    // Whoever may not read it is refused by agents that ask for a token, and sees the status.
    let secret = at.api::<Secret>().get_opt(&names::vault(&own)).await;
    let vault = secret.ok().flatten();
    let vault = vault.and_then(|secret| crate::driver::kube::vault(secret).ok());
    let access = crate::driver::kube::accesses(cluster, vault.as_ref());
    let target = |pod: &Pod| {
        let number = names::number(&set, &pod.name_any())?;
        Some(Target {
            access: access(pod, true),
            node: format!("{}-server-{number}", cluster.spec.prefix(&own)),
            pod: pod.name_any(),
            namespace: at.namespace.clone(),
            address: pod.status.as_ref()?.pod_ip.clone()?,
        })
    };
    let targets: Vec<_> = pods.iter().filter_map(target).collect();
    let leader = cluster.status.as_ref().and_then(|s| s.leader.clone());
    let agents = Agents::new(at.client.clone(), Reach::Proxy);
    agents.ask_all(&targets, leader.as_deref()).await
}

/// `bootstrap-log`.
pub(super) async fn bootstrap_log(at: &At, name: Option<&str>) -> anyhow::Result<()> {
    let cluster = at.cluster(name).await?;
    let uid = cluster.uid().unwrap_or_default();
    let with = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let events = at.api::<Event>().list(&with).await?.items;
    let mut rows: Vec<_> = events.into_iter().filter_map(line).collect();
    rows.sort();
    let mut text = String::new();
    for (time, reason, note) in &rows {
        text.push_str(&format!("{time}  {reason:<24}  {note}\n"));
    }
    if rows.is_empty() {
        text.push_str(
            "Kubernetes has no Events of this cluster any more: it keeps them for an hour or so.\n",
        );
    }
    let status = cluster.status.unwrap_or_default();
    for condition in &status.conditions {
        if condition.type_ == crate::crd::condition::BOOTSTRAPPED {
            let since = span(condition.last_transition_time.0, Timestamp::now());
            text.push_str(&format!(
                "Bootstrapped is {} for {since}: {}\n",
                condition.status, condition.message
            ));
        }
    }
    if let Some(id) = &status.cluster_id {
        text.push_str(&format!("cluster id {id}\n"));
    }
    crate::cli::print(&text)
}

/// When, what, and the sentence.
fn line(event: Event) -> Option<(Timestamp, String, String)> {
    let time = event.event_time.map(|time| time.0);
    let time = time.or_else(|| event.first_timestamp.map(|time| time.0));
    Some((time?, event.reason?, event.message.unwrap_or_default()))
}

/// Which logs.
pub(super) struct Which<'a> {
    pub(super) server: Option<&'a str>,
    pub(super) follow: bool,
    pub(super) tail: i64,
}

/// `logs`.
pub(super) async fn logs(at: &At, name: Option<&str>, which: &Which<'_>) -> anyhow::Result<()> {
    let cluster = at.cluster(name).await?;
    let own = cluster.name_any();
    let set = names::server(&own);
    let wanted = |pod: &Pod| {
        let Some(server) = which.server else {
            return true;
        };
        let pod = pod.name_any();
        pod == server || names::number(&set, &pod).map(|n| n.to_string()).as_deref() == Some(server)
    };
    let mut pods = at.servers(&own).await?;
    let all: Vec<_> = pods.iter().map(Pod::name_any).collect();
    pods.retain(wanted);
    if pods.is_empty() {
        match which.server {
            Some(server) => bail!("there is no server \"{server}\": {}", all.join(", ")),
            None => bail!("the cluster \"{own}\" has no servers"),
        }
    }
    let api = at.api::<Pod>();
    let params = LogParams {
        container: Some(names::CONTAINER.to_owned()),
        follow: which.follow,
        tail_lines: Some(which.tail),
        ..LogParams::default()
    };
    let alone = pods.len() == 1;
    let mut streams = Vec::new();
    for pod in &pods {
        let name = pod.name_any();
        let lines = api
            .log_stream(&name, &params)
            .await
            .with_context(|| format!("no log of {name}"))?
            .lines();
        let prefix = match alone {
            true => String::new(),
            false => format!("{name}: "),
        };
        streams.push(
            lines
                .map_ok(move |line| format!("{prefix}{line}\n"))
                .boxed(),
        );
    }
    // Followed, they come as they are written; otherwise one after the other.
    let mut lines = match which.follow {
        true => futures::stream::select_all(streams).boxed(),
        false => futures::stream::iter(streams).flatten().boxed(),
    };
    while let Some(line) = lines.try_next().await? {
        crate::cli::print(&line)?;
    }
    Ok(())
}
