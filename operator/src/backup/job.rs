//! The job that takes a snapshot or puts one back. Pure. Its pod passes Pod Security level `restricted`.

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde_json::{Value, json};

use super::place::{self, Place};
use super::{JOB, SCHEDULE};
use crate::crd::{BucketPlace, ConsulCluster, ConsulClusterSpec, Stage};
use crate::driver::kube::names;
use crate::secure;
use crate::secure::render::{self, HTTPS_PORT};

/// Where the certificate authorities of the storage are mounted.
const CA_MOUNT: &str = "/ca";
/// Where the agent writes what it did: the kubelet shows it as the container's last words.
const REPORT: &str = "/dev/termination-log";

/// Who asks for a job.
pub struct Asker<'a> {
    /// `ConsulSnapshot` or `ConsulRestore`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Schedule that made it.
    pub schedule: Option<&'a str>,
}

/// What a job does.
pub struct Work<'a> {
    /// Who asks.
    pub asker: Asker<'a>,
    /// The cluster.
    pub cluster: &'a ConsulCluster,
    /// Image of the agent.
    pub image: &'a str,
    /// The file.
    pub place: &'a Place,
    /// `save` or `restore`.
    pub verb: &'static str,
    /// More flags of the agent's.
    pub flags: Vec<String>,
    /// Seconds that it may take.
    pub time_limit_seconds: i64,
    /// Memory and processor time of the pod.
    pub resources: Option<&'a ResourceRequirements>,
    /// Pods that may be tried after one that failed.
    pub retries: i32,
    /// Whether it is made without being allowed to run.
    pub suspended: bool,
}

/// First characters of a UID, which tell two of the same name apart.
pub fn short(uid: &str) -> &str {
    uid.get(..8).unwrap_or(uid)
}

/// Name of a job: no two resources share one, nor do two of the same name that follow each other.
pub fn name(asker: &Asker<'_>) -> String {
    // A label holds the name too, and is no longer than 63.
    let start: String = asker.name.chars().take(46).collect();
    let what = match asker.kind {
        "ConsulRestore" => "restore",
        _ => "save",
    };
    format!(
        "{}-{what}-{}",
        start.trim_end_matches(['-', '.']),
        short(asker.uid)
    )
    .replace('.', "-")
}

/// The job.
pub fn job(work: &Work<'_>) -> Value {
    let Work {
        asker,
        cluster,
        retries,
        suspended,
        time_limit_seconds,
        ..
    } = work;
    let what = match asker.kind {
        "ConsulRestore" => "restore",
        _ => "snapshot",
    };
    let mut labels = json!({
        "app.kubernetes.io/name": "consul",
        "app.kubernetes.io/managed-by": names::MANAGER,
        JOB: what,
    });
    if let Some(schedule) = asker.schedule {
        labels[SCHEDULE] = json!(schedule);
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name(asker),
            "namespace": cluster.metadata.namespace,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "consulcluster.dev/v1alpha1",
                "kind": asker.kind,
                "name": asker.name,
                "uid": asker.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "backoffLimit": retries,
            "activeDeadlineSeconds": time_limit_seconds,
            // Never two at a time, also while the first one's host does not answer.
            "podReplacementPolicy": "Failed",
            "suspend": suspended,
            "template": {"metadata": {"labels": labels}, "spec": pod(work)},
        },
    })
}

fn pod(work: &Work<'_>) -> Value {
    let spec = &work.cluster.spec;
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    let mut env = Vec::new();
    let cluster = work.cluster.metadata.name.as_deref().unwrap_or_default();
    if secure::has_https(work.cluster) {
        let items = json!([{"key": render::AUTHORITIES, "path": render::AUTHORITIES}]);
        let secret = json!({"secretName": names::secure(cluster, true), "items": items});
        volumes.push(json!({"name": "authorities", "secret": secret}));
        mounts.push(json!({"name": "authorities", "mountPath": render::MOUNT, "readOnly": true}));
        let file = format!("{}/{}", render::MOUNT, render::AUTHORITIES);
        env.push(json!({"name": "CONSUL_CACERT", "value": file}));
    }
    if secure::stages(work.cluster).acl > Stage::Disabled {
        // By reference, so that it is in no object but the Secret.
        let from = json!({"name": names::secure(cluster, true), "key": render::TOKEN});
        env.push(json!({"name": "CONSUL_HTTP_TOKEN", "valueFrom": {"secretKeyRef": from}}));
    }
    let destination = &work.place.destination;
    if let Some(claim) = &destination.pvc {
        let read_only = work.verb == "restore";
        volumes.push(json!({"name": "backup", "persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": read_only}}));
        mounts.push(json!({"name": "backup", "mountPath": place::MOUNT, "readOnly": read_only}));
    }
    if let Some(s3) = &destination.s3 {
        env.extend(credentials(s3));
        if let Some(ca) = &s3.ca_secret_ref {
            let key = ca.key.as_deref().unwrap_or("ca.crt");
            volumes.push(json!({"name": "ca", "secret": {"secretName": ca.name, "items": [{"key": key, "path": "ca.crt"}]}}));
            mounts.push(json!({"name": "ca", "mountPath": CA_MOUNT, "readOnly": true}));
            env.push(json!({"name": "SSL_CERT_FILE", "value": format!("{CA_MOUNT}/ca.crt")}));
        }
    }
    let mut container = json!({
        "name": names::CONTAINER,
        "image": work.image,
        "args": arguments(work),
        "env": env,
        "volumeMounts": mounts,
        "terminationMessagePath": REPORT,
        // What it failed of is on its error stream.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    if let Some(policy) = spec.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if let Some(resources) = work.resources {
        container["resources"] = json!(resources);
    }
    let mut pod = json!({
        "restartPolicy": "Never",
        "serviceAccountName": work.cluster.metadata.name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": names::USER,
            "runAsGroup": names::USER,
            "fsGroup": names::USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    });
    schedule(&mut pod, spec);
    pod
}

/// Where the cluster's own pods may run, this one may.
fn schedule(pod: &mut Value, spec: &ConsulClusterSpec) {
    if !spec.image_pull_secrets.is_empty() {
        pod["imagePullSecrets"] = json!(spec.image_pull_secrets);
    }
    if !spec.tolerations.is_empty() {
        pod["tolerations"] = json!(spec.tolerations);
    }
    if !spec.node_selector.is_empty() {
        pod["nodeSelector"] = json!(spec.node_selector);
    }
    if let Some(class) = &spec.priority_class_name {
        pod["priorityClassName"] = json!(class);
    }
}

fn credentials(s3: &BucketPlace) -> Vec<Value> {
    let one = |key: &str, optional: bool| {
        let from = json!({"name": s3.credentials_secret, "key": key, "optional": optional});
        json!({"name": key, "valueFrom": {"secretKeyRef": from}})
    };
    vec![
        one("AWS_ACCESS_KEY_ID", false),
        one("AWS_SECRET_ACCESS_KEY", false),
        one("AWS_SESSION_TOKEN", true),
    ]
}

fn arguments(work: &Work<'_>) -> Vec<String> {
    let cluster = &work.cluster.metadata;
    let (name, namespace) = (
        cluster.name.as_deref().unwrap_or_default(),
        cluster.namespace.as_deref().unwrap_or_default(),
    );
    let mut all = vec![
        "snapshot".to_owned(),
        work.verb.to_owned(),
        // The Service of servers that are ready; whichever answers asks the leader.
        match secure::has_https(work.cluster) {
            true => format!("-http-addr=https://{name}.{namespace}.svc:{HTTPS_PORT}"),
            false => format!("-http-addr={name}.{namespace}.svc:{}", names::HTTP_PORT),
        },
        format!("-report={REPORT}"),
    ];
    all.extend(place::flags(&work.place.destination));
    all.extend(work.flags.iter().cloned());
    all.push(work.place.argument());
    // `$(` would be taken for a variable of the pod.
    all.iter().map(|arg| arg.replace("$(", "$$(")).collect()
}
