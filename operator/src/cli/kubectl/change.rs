//! What changes something: `snapshot`, `restart`, `pause`, `resume`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::read::At;
use crate::crd::{
    ClaimPlace, ConsulCluster, ConsulSnapshot, ConsulSnapshotSchedule, ConsulSnapshotSpec,
    Destination, JobPhase,
};

/// Annotation of every pod; a new value is another configuration, which the operator brings about one server at a time.
const RESTARTED_AT: &str = "consulcluster.dev/restarted-at";
/// Time between two looks at a snapshot that is being taken.
const LOOK: Duration = Duration::from_secs(1);

/// What `snapshot` takes.
#[derive(Debug, ClapArgs)]
pub(super) struct SnapshotArgs {
    /// Name of the ConsulCluster; not needed where there is only one.
    cluster: Option<String>,
    /// Put it where this ConsulSnapshotSchedule puts its own [default: the only one of the cluster]
    #[arg(long, conflicts_with = "pvc")]
    like: Option<String>,
    /// Put it into this volume claim, as CLAIM or CLAIM/FOLDER
    #[arg(long)]
    pvc: Option<String>,
    /// Do not wait until it is verified
    #[arg(long)]
    no_wait: bool,
}

/// `snapshot`.
pub(super) async fn snapshot(at: &At, args: &SnapshotArgs) -> anyhow::Result<()> {
    let cluster = at.cluster(args.cluster.as_deref()).await?;
    let own = cluster.name_any();
    let destination = match &args.pvc {
        Some(text) => claim(text),
        None => like(at, &own, args.like.as_deref()).await?,
    };
    let name = format!("{own}-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let spec = ConsulSnapshotSpec {
        cluster: own,
        destination,
        time_limit_seconds: 3600,
        resources: None,
    };
    let api: Api<ConsulSnapshot> = at.api();
    api.create(&PostParams::default(), &ConsulSnapshot::new(&name, spec))
        .await?;
    crate::cli::print(&format!("ConsulSnapshot {name} is made\n"))?;
    if args.no_wait {
        return Ok(());
    }
    let mut told = String::new();
    loop {
        let found = api.get_opt(&name).await?;
        let found = found.with_context(|| format!("somebody deleted ConsulSnapshot {name}"))?;
        let status = found.status.unwrap_or_default();
        let message = status.message.unwrap_or_default();
        if status.phase == JobPhase::Failed {
            bail!("{message}");
        }
        if message != told {
            crate::cli::print(&format!("{message}\n"))?;
            told = message;
        }
        if status.phase == JobPhase::Completed {
            let location = status.location.unwrap_or_default();
            return crate::cli::print(&format!("{location}\n"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `CLAIM` or `CLAIM/FOLDER`.
fn claim(text: &str) -> Destination {
    let (claim_name, path) = text.split_once('/').unwrap_or((text, ""));
    Destination {
        pvc: Some(ClaimPlace {
            claim_name: claim_name.to_owned(),
            path: path.trim_matches('/').to_owned(),
        }),
        s3: None,
    }
}

async fn like(at: &At, cluster: &str, name: Option<&str>) -> anyhow::Result<Destination> {
    let api: Api<ConsulSnapshotSchedule> = at.api();
    if let Some(name) = name {
        let found = api.get_opt(name).await?;
        let found =
            found.with_context(|| format!("there is no ConsulSnapshotSchedule \"{name}\""))?;
        return Ok(found.spec.destination);
    }
    let all = api.list(&ListParams::default()).await?.items;
    let mut all: Vec<_> = all
        .into_iter()
        .filter(|schedule| schedule.spec.cluster == cluster)
        .collect();
    match all.len() {
        0 => bail!(
            "where to? The cluster has no ConsulSnapshotSchedule: say --pvc CLAIM, or make a ConsulSnapshot"
        ),
        1 => Ok(all.remove(0).spec.destination),
        _ => {
            let names: Vec<_> = all.iter().map(kube::ResourceExt::name_any).collect();
            bail!("where to? Say --like with one of {}", names.join(", "))
        }
    }
}

/// `restart`.
pub(super) async fn restart(at: &At, name: Option<&str>) -> anyhow::Result<()> {
    let cluster = at.cluster(name).await?;
    let own = cluster.name_any();
    if cluster.spec.paused {
        bail!("the cluster \"{own}\" is paused: nothing would happen before it is resumed");
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = json!({"spec": {"podMetadata": {"annotations": {RESTARTED_AT: now}}}});
    write(at, &own, &patch).await?;
    crate::cli::print(&format!(
        "{own}: its servers are restarted one after another; watch them with `kubectl consulcluster status {own} --watch`\n"
    ))
}

/// `pause` and `resume`.
pub(super) async fn pause(at: &At, name: Option<&str>, paused: bool) -> anyhow::Result<()> {
    let cluster = at.cluster(name).await?;
    let own = cluster.name_any();
    let (done, already) = match paused {
        true => ("paused: the operator observes only", "paused already"),
        false => ("resumed", "not paused"),
    };
    if cluster.spec.paused == paused {
        return crate::cli::print(&format!("{own}: {already}\n"));
    }
    write(at, &own, &json!({"spec": {"paused": paused}})).await?;
    crate::cli::print(&format!("{own}: {done}\n"))
}

async fn write(at: &At, name: &str, patch: &Value) -> anyhow::Result<()> {
    let params = PatchParams {
        field_manager: Some("kubectl-consulcluster".to_owned()),
        ..PatchParams::default()
    };
    let api: Api<ConsulCluster> = at.api();
    api.patch(name, &params, &Patch::Merge(patch)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_may_have_a_folder() {
        let parts = |text: &str| {
            let pvc = claim(text).pvc.unwrap();
            (pvc.claim_name, pvc.path)
        };
        assert_eq!(parts("keep"), ("keep".into(), String::new()));
        assert_eq!(parts("keep/a/b/"), ("keep".into(), "a/b".into()));
    }
}
