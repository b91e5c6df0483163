//! `spec.restoreFrom`: what becomes of it, and what it means for the cluster's status. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::job::short;
use crate::crd::{
    ConsulCluster, ConsulClusterStatus, ConsulRestore, JobPhase, Restored, condition,
};
use crate::driver::kube::names;

/// Whether there is anything to be looked at: the spec asks for it, and it has not ended.
pub fn is_open(cluster: &ConsulCluster) -> bool {
    let ended = cluster
        .status
        .as_ref()
        .and_then(|status| status.restored.as_ref())
        .is_some_and(|restored| restored.phase.is_final());
    cluster.spec.restore_from.is_some() && !ended
}

/// Name of the ConsulRestore. Part of the UID: a cluster that is made again has one of its own.
pub fn name(cluster: &ConsulCluster) -> String {
    let own = cluster.metadata.name.as_deref().unwrap_or_default();
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    format!("{own}-initial-{}", short(uid))
}

/// What is made, and what the status says.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The ConsulRestore, while there is none.
    pub make: Option<Value>,
    /// What the status says of it.
    pub restored: Restored,
}

/// Chooses. `status` is the one that is about to be written.
pub fn decide(
    cluster: &ConsulCluster,
    status: &ConsulClusterStatus,
    found: Option<&ConsulRestore>,
) -> Decision {
    let name = name(cluster);
    let pending = |message: &str| Restored {
        phase: JobPhase::Pending,
        by: None,
        message: Some(message.to_owned()),
    };
    let only = |restored| Decision {
        make: None,
        restored,
    };
    if let Some(found) = found {
        let said = found.status.clone().unwrap_or_default();
        return only(Restored {
            phase: said.phase,
            by: Some(name),
            message: said.message,
        });
    }
    let before = cluster
        .status
        .as_ref()
        .and_then(|status| status.restored.clone());
    if before.is_some_and(|before| before.by.is_some()) {
        // Made once; somebody deleted it.
        return only(Restored {
            phase: JobPhase::Failed,
            by: Some(name),
            message: Some("its ConsulRestore was deleted before it had ended".to_owned()),
        });
    }
    if status.cluster_id.is_some() && status.bootstrap_server.is_none() {
        // Not formed for this resource: its servers had data, which is worth more than a saved state.
        return only(Restored {
            phase: JobPhase::Completed,
            by: None,
            message: Some("skipped: the servers had data of a cluster already".to_owned()),
        });
    }
    let formed = status
        .conditions
        .iter()
        .any(|c| c.type_ == condition::BOOTSTRAPPED && c.status == "True");
    if !formed {
        return only(pending("the cluster is not formed yet"));
    }
    let own = cluster.metadata.name.as_deref().unwrap_or_default();
    let make = json!({
        "apiVersion": "consulcluster.dev/v1alpha1",
        "kind": "ConsulRestore",
        "metadata": {
            "name": name,
            "namespace": cluster.metadata.namespace,
            "labels": names::labels(own),
            "ownerReferences": [crate::driver::kube::objects::owner(cluster)],
        },
        "spec": {"cluster": own, "source": cluster.spec.restore_from},
    });
    Decision {
        make: Some(make),
        restored: pending("its ConsulRestore is made"),
    }
}

/// A cluster that is to start from a saved state is not ready before it has. Whoever takes the field away says that it is
/// fine as it is.
pub fn qualify(cluster: &ConsulCluster, status: &mut ConsulClusterStatus, now: Timestamp) {
    let (Some(restored), true) = (&status.restored, cluster.spec.restore_from.is_some()) else {
        return;
    };
    let (reason, stalled) = match restored.phase {
        JobPhase::Completed => return,
        JobPhase::Failed => ("RestoreFailed", true),
        JobPhase::Pending | JobPhase::Running => ("Restoring", false),
    };
    let why = restored.message.clone().unwrap_or_default();
    let mut text = format!("spec.restoreFrom: {why}");
    if stalled {
        text.push_str(
            "; take the field away to go on without, and make a ConsulRestore to try again",
        );
    }
    let before = cluster.status.iter().flat_map(|status| &status.conditions);
    let before: Vec<_> = before.collect();
    let mut set = |name: &str, value: &str, from: &str| {
        let mut all = status.conditions.iter_mut();
        let Some(found) = all.find(|c| c.type_ == name && c.status == from) else {
            return;
        };
        let kept = before.iter().find(|c| c.type_ == name && c.status == value);
        found.status = value.to_owned();
        found.reason = reason.to_owned();
        found.message.clone_from(&text);
        found.last_transition_time =
            kept.map_or(Time(now), |kept| kept.last_transition_time.clone());
    };
    set(condition::READY, "False", "True");
    match stalled {
        true => set(condition::STALLED, "True", "False"),
        false => set(condition::RECONCILING, "True", "False"),
    }
}
