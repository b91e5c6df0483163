//! The pod templates. They pass Pod Security level `restricted`.

use serde_json::{Map, Value, json};

use super::support::permit_of;
use super::{names, own_name};
use crate::crd::{ConsulCluster, ConsulClusterSpec};
use crate::secure;
use crate::secure::render::{self, HTTPS_PORT};

/// Where the data volume is.
const DATA: &str = "/consul/data";
/// Where the configuration is.
const CONFIG: &str = "/consul/config";
/// Time between a SIGTERM and the kill: a leave, with the hand-over before it, is bounded by 20 s.
const GRACE_SECONDS: i64 = 30;

/// Which pods a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// The first server, while it forms the cluster.
    FirstServer,
    /// Every server, for life.
    Servers,
    /// Clients of a StatefulSet.
    Clients,
    /// Clients of a DaemonSet.
    ClientAgents,
}

impl For {
    fn role(self) -> &'static str {
        match self {
            For::FirstServer | For::Servers => "server",
            For::Clients => "client",
            For::ClientAgents => "client-agent",
        }
    }

    fn is_server(self) -> bool {
        matches!(self, For::FirstServer | For::Servers)
    }
}

/// The template, with the hash of what every pod of that kind is started with.
pub(super) fn template(cluster: &ConsulCluster, image: &str, what: For) -> (Value, String) {
    let mut template = unnamed(cluster, image, what);
    // The first server counts as being of the revision that it will have for life: what makes it different is the flag.
    let mut lasting = match what {
        For::FirstServer => unnamed(cluster, image, For::Servers),
        _ => template.clone(),
    };
    // Not what the code happens to write first: another order must not restart anybody's servers.
    lasting.sort_all_objects();
    let config = super::support::config_text(cluster);
    let revision = crate::plan::hash(&format!("{lasting}\n{config}"));
    template["metadata"]["labels"][names::REVISION] = json!(revision);
    (template, revision)
}

fn unnamed(cluster: &ConsulCluster, image: &str, what: For) -> Value {
    let spec = &cluster.spec;
    let name = own_name(cluster);
    let mut pod = json!({
        "serviceAccountName": name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": names::USER,
            "runAsGroup": names::USER,
            "fsGroup": names::USER,
            // Without it each start would walk the whole volume.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(cluster, image, what)],
        "volumes": [{"name": "config", "configMap": {"name": names::config(name)}}],
    });
    if secured(cluster) {
        let secret =
            json!({"secretName": names::secure(name, what.is_server()), "defaultMode": 0o440});
        push(
            &mut pod["volumes"],
            json!({"name": "secure", "secret": secret}),
        );
    }
    if (what.is_server() && spec.ephemeral) || !what.is_server() {
        push(&mut pod["volumes"], json!({"name": "data", "emptyDir": {}}));
    }
    if let Some(pod) = pod.as_object_mut() {
        schedule(pod, cluster, what);
    }
    let mut labels = names::labels(name);
    labels.extend(names::pods(name, what.role()));
    let mut annotations = json!({});
    if let Some(more) = &spec.pod_metadata {
        // Ours win: a Service or a set that loses its pods is a cluster that is gone.
        let own = std::mem::take(&mut labels);
        labels = more.labels.clone();
        labels.extend(own);
        annotations = json!(more.annotations);
    }
    if what == For::Servers {
        labels.insert(names::SERVES.to_owned(), "true".to_owned());
    }
    json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": pod})
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

/// Whether anything that protects is on.
fn secured(cluster: &ConsulCluster) -> bool {
    secure::stages(cluster) != secure::Stages::default()
}

fn container(cluster: &ConsulCluster, image: &str, what: For) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut env = vec![
        field("POD_IP", "status.podIP"),
        field("POD_NAME", "metadata.name"),
    ];
    match what {
        For::ClientAgents => env.push(field("HOST_NAME", "spec.nodeName")),
        _ => env.push(field(
            "POD_NUMBER",
            "metadata.labels['apps.kubernetes.io/pod-index']",
        )),
    }
    if what == For::Servers {
        // Nothing, but for a second bootstrap server that is brought back: see the agent's `aside`.
        let from = json!({"name": names::config(own_name(cluster)), "key": names::SET_ASIDE, "optional": true});
        env.push(json!({"name": names::SET_ASIDE, "valueFrom": {"configMapKeyRef": from}}));
    }
    let mut ports = Vec::new();
    if secure::has_http(cluster) {
        ports.push(json!({"name": "http", "containerPort": names::HTTP_PORT, "protocol": "TCP"}));
    }
    if secure::has_https(cluster) {
        ports.push(json!({"name": names::HTTPS, "containerPort": HTTPS_PORT, "protocol": "TCP"}));
        // For whoever enters the pod.
        let here = format!("https://localhost:{HTTPS_PORT}");
        env.push(json!({"name": "CONSUL_HTTP_ADDR", "value": here}));
        let authorities = format!("{}/{}", render::MOUNT, render::AUTHORITIES);
        env.push(json!({"name": "CONSUL_CACERT", "value": authorities}));
    }
    ports.extend([
        json!({"name": "gossip", "containerPort": 8301, "protocol": "TCP"}),
        json!({"name": "gossip-udp", "containerPort": 8301, "protocol": "UDP"}),
    ]);
    if what.is_server() {
        ports.push(json!({"name": "server", "containerPort": 8300, "protocol": "TCP"}));
    }
    let mut container = json!({
        "name": names::CONTAINER,
        "image": image,
        "args": arguments(cluster, what),
        "env": env,
        "envFrom": permit(cluster, what),
        "ports": ports,
        // The last thing that an agent says before it ends is why: it belongs into the pod's status, and the condition.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            {"name": "config", "mountPath": CONFIG, "readOnly": true},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    if secured(cluster) {
        let mount = json!({"name": "secure", "mountPath": render::MOUNT, "readOnly": true});
        push(&mut container["volumeMounts"], mount);
    }
    probes(&mut container, cluster, what);
    let spec = &cluster.spec;
    if let Some(policy) = spec.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if let (Some(resources), true) = (&spec.resources, what.is_server()) {
        container["resources"] = json!(resources);
    }
    container
}

fn probes(container: &mut Value, cluster: &ConsulCluster, what: For) {
    // The kubelet checks no certificate, and has no token: these paths need none.
    let (port, scheme) = match secure::has_https(cluster) {
        true => (names::HTTPS, "HTTPS"),
        false => ("http", "HTTP"),
    };
    // Asked every second: on its answer depend evictions, and so every planned restart.
    container["readinessProbe"] = json!({
        "httpGet": {"path": "/v1/agent/ready", "port": port, "scheme": scheme},
        "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3, "successThreshold": 1,
    });
    if what != For::FirstServer {
        // The first server has none: a failed one would make it leave, and be started again with its flag. Nor does it
        // ever depend on a leader: the loss of a quorum must not restart everybody. Ten minutes for a long replay; asked
        // every second, as readiness is not asked before this has succeeded, and every planned change waits for readiness.
        let answers = json!({"path": "/v1/agent/version", "port": port, "scheme": scheme});
        container["startupProbe"] = json!({
            "httpGet": answers, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 600, "successThreshold": 1,
        });
        container["livenessProbe"] = json!({
            "httpGet": answers, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6, "successThreshold": 1,
        });
    }
}

/// The permit comes by the environment, which is read anew each time that the container starts; the arguments are not.
fn permit(cluster: &ConsulCluster, what: For) -> Value {
    match what {
        For::FirstServer => {
            json!([{"configMapRef": {"name": names::permit(own_name(cluster)), "optional": true}}])
        }
        // Said, not left out: what nobody applies, nobody takes away.
        _ => json!([]),
    }
}

/// The manual's command line.
fn arguments(cluster: &ConsulCluster, what: For) -> Vec<String> {
    let spec = &cluster.spec;
    let name = own_name(cluster);
    let mut args = vec!["agent".to_owned()];
    if what.is_server() {
        args.push("-server".to_owned());
    }
    if what == For::FirstServer {
        let permit = permit_of(cluster, "$(POD_NUMBER)");
        args.push("-bootstrap".to_owned());
        // It names the pod, too: whoever scales this set by hand makes further pods with the same arguments, and each of
        // them would form a cluster of its own.
        args.push(format!("-bootstrap-permit={}={permit}", names::PERMIT));
        // Its stop is the manual's graceful leave. That of a lone server, and of every later one, is only a stop.
        if spec.servers > 1 {
            args.push("-hcl=leave_on_terminate = true".to_owned());
        }
    }
    let prefix = spec.prefix(name);
    let node = match what {
        For::ClientAgents => format!("{prefix}-client-$(HOST_NAME)"),
        _ => format!("{prefix}-{}-$(POD_NUMBER)", what.role()),
    };
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let join = format!("{}.{namespace}.svc", names::server(name));
    args.extend([
        format!("-node={node}"),
        "-bind=0.0.0.0".to_owned(),
        "-advertise=$(POD_IP)".to_owned(),
        "-client=0.0.0.0".to_owned(),
        format!("-data-dir={DATA}"),
        format!("-config-dir={CONFIG}"),
        format!("-datacenter={}", spec.datacenter),
        // For the time when the operator is away; also where a server with the flag asks for a cluster first.
        format!("-retry-join={join}"),
        "-retry-interval=5s".to_owned(),
    ]);
    args.extend(render::arguments(cluster));
    // `$(` would be taken for a variable of the pod.
    args.extend(spec.extra_args.iter().map(|arg| arg.replace("$(", "$$(")));
    args
}

fn schedule(pod: &mut Map<String, Value>, cluster: &ConsulCluster, what: For) {
    let ConsulClusterSpec {
        image_pull_secrets,
        affinity,
        topology_spread_constraints,
        tolerations,
        node_selector,
        priority_class_name,
        ..
    } = &cluster.spec;
    let mut put = |key: &str, value: Value| pod.insert(key.to_owned(), value);
    if !image_pull_secrets.is_empty() {
        put("imagePullSecrets", json!(image_pull_secrets));
    }
    if !tolerations.is_empty() {
        put("tolerations", json!(tolerations));
    }
    if !node_selector.is_empty() {
        put("nodeSelector", json!(node_selector));
    }
    if let Some(class) = priority_class_name {
        put("priorityClassName", json!(class));
    }
    if !what.is_server() {
        return;
    }
    if !topology_spread_constraints.is_empty() {
        put(
            "topologySpreadConstraints",
            json!(topology_spread_constraints),
        );
    }
    // Preferred only: what is required leaves pods unscheduled on small Kubernetes clusters.
    let apart = json!({
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": names::pods(own_name(cluster), "server")},
            },
        }]},
    });
    put(
        "affinity",
        affinity.as_ref().map_or(apart, |affinity| json!(affinity)),
    );
}
