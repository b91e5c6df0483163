use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, LazyLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::{Value, json};

use super::bed::{checked, image, kubectl, program};
use super::{Kube, Path, wait_for};

/// Phases of a bootstrap, in their order.
const PHASES: [&str; 8] = [
    "Preparing",
    "Bootstrapping",
    "Expanding",
    "Joining",
    "Verifying",
    "Rotating",
    "Settling",
    "Running",
];

/// Name of the Helm release, and so of the operator's Deployment.
const RELEASE: &str = "consulcluster-operator";

/// Operators that look after one namespace run side by side; one for the whole cluster must be alone.
static WHOLE_CLUSTER: RwLock<()> = RwLock::new(());

/// What is installed once for all tests.
static INSTALLED: LazyLock<()> = LazyLock::new(|| {
    let crds = program("crds");
    let crds = crds.to_str().expect("the path is text");
    kubectl(&["apply", "--server-side", "--force-conflicts", "-k", crds])
        .unwrap_or_else(|said| panic!("the ConsulCluster resource is refused: {said}"));
});

/// How a scene differs from the rule.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// More arguments of `helm install`, `--set a=b` and the like.
    pub helm: Vec<String>,
    /// No operator is installed.
    pub no_operator: bool,
    /// The scene has the whole Kubernetes for itself.
    pub alone: bool,
}

enum Guard {
    Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}

/// A namespace of its own, at the Pod Security level `restricted`, with an operator that looks after it alone. It is
/// deleted at the end; when the test fails, what a person would look at is printed before.
pub struct Scene {
    /// The API.
    pub kube: Arc<Kube>,
    /// Name of the namespace.
    pub namespace: String,
    _guard: Guard,
}

impl Scene {
    /// A scene like most.
    pub fn new(name: &str) -> Self {
        Self::with(name, &Options::default())
    }

    /// A scene with options.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn with(name: &str, options: &Options) -> Self {
        let guard = if options.alone {
            Guard::Alone(WHOLE_CLUSTER.write().unwrap_or_else(|e| e.into_inner()))
        } else {
            Guard::Shared(WHOLE_CLUSTER.read().unwrap_or_else(|e| e.into_inner()))
        };
        let kube = Arc::new(Kube::connect());
        LazyLock::force(&INSTALLED);
        for plural in [
            "consulclusters",
            "consulsnapshots",
            "consulsnapshotschedules",
            "consulrestores",
        ] {
            wait_for(&format!("{plural} are served"), || {
                kube.get(&format!("/apis/consulcluster.dev/v1alpha1/{plural}"))
            });
        }
        let namespace = format!("{name}-{:05x}", rand::random::<u32>() & 0xF_FFFF);
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": namespace,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        });
        kube.create("/api/v1/namespaces", &object)
            .unwrap_or_else(|e| panic!("namespace {namespace}: {e}"));
        let scene = Self {
            kube,
            namespace,
            _guard: guard,
        };
        if !options.no_operator {
            scene.helm("install", &options.helm);
        }
        scene
    }

    /// Runs `helm VERB RELEASE CHART` with the images under test, for this namespace only.
    ///
    /// # Panics
    /// When Helm fails.
    #[track_caller]
    pub fn helm(&self, verb: &str, more: &[String]) -> String {
        let (operator, agent) = (image("operator"), image("agent"));
        let split = |image: &str| {
            let (repository, tag) = image.rsplit_once(':').expect("an image with a tag");
            (repository.to_owned(), tag.to_owned())
        };
        let ((operator, tag), (agent, agent_tag)) = (split(&operator), split(&agent));
        checked(
            Command::new("helm")
                .args([verb, RELEASE])
                .arg(program("charts/consulcluster-operator"))
                .args(["--namespace", &self.namespace])
                .args([
                    "--set",
                    &format!("image.repository={operator},image.tag={tag}"),
                ])
                .args([
                    "--set",
                    &format!("agentImage.repository={agent},agentImage.tag={agent_tag}"),
                ])
                .args([
                    "--set",
                    &format!("crds.install=false,watchNamespace={}", self.namespace),
                ])
                .args(more),
        )
    }

    /// Applies a `ConsulCluster`.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn apply(&self, name: &str, spec: Value) {
        self.try_apply(name, spec)
            .unwrap_or_else(|e| panic!("ConsulCluster {name}: {e}"));
    }

    /// The same.
    ///
    /// # Errors
    /// What the API server said.
    pub fn try_apply(&self, name: &str, spec: Value) -> Result<Value, super::Refused> {
        self.kube.apply(
            &Path::CLUSTERS.one(&self.namespace, name),
            &cluster(name, spec),
        )
    }

    /// The `ConsulCluster` as it is.
    ///
    /// # Errors
    /// What the API server said.
    pub fn get(&self, name: &str) -> Result<Value, super::Refused> {
        self.kube.get(&Path::CLUSTERS.one(&self.namespace, name))
    }

    /// Waits until the bootstrap of that cluster is in `phase`. One may be over before it was seen: then it ends in a later
    /// one. The phase that was seen.
    ///
    /// # Panics
    /// When it never comes to that.
    pub fn wait_phase(&self, name: &str, phase: &str) -> String {
        let place = |of: &str| PHASES.iter().position(|phase| *phase == of);
        let seen = wait_for(&format!("phase {phase} or later"), || {
            let object = self.get(name).map_err(|e| e.to_string())?;
            let now = object["status"]["phase"].as_str().unwrap_or_default();
            let reached = place(now) >= place(phase);
            reached.then(|| now.to_owned()).ok_or(now.to_owned())
        });
        if seen != phase {
            println!("{phase} was over before it was seen, in {seen} now");
        }
        seen
    }

    /// Waits until a condition of a `ConsulCluster` has a status, for the spec as it is now.
    ///
    /// # Panics
    /// When it does not get it.
    #[track_caller]
    pub fn wait_condition(&self, name: &str, condition: &str, status: &str) -> Value {
        wait_for(&format!("{name} is {condition}={status}"), || {
            let object = self.get(name).map_err(|e| e.to_string())?;
            let found = find(&object, condition);
            let generation = &object["metadata"]["generation"];
            if found["status"] == status && found["observedGeneration"] == *generation {
                Ok(object)
            } else {
                Err(format!("{found}; {}", object["status"]["message"]))
            }
        })
    }

    /// Waits until a `ConsulCluster` is Ready, and its bootstrap is over.
    ///
    /// # Panics
    /// When it does not become so.
    #[track_caller]
    pub fn wait_ready(&self, name: &str) -> Value {
        let object = self.wait_condition(name, "Ready", "True");
        assert_eq!(
            find(&object, "Bootstrapped")["status"],
            "True",
            "{object:#}"
        );
        object
    }

    /// Waits until the kubelet calls all of the servers' pods ready, and none is about to go: what it says comes a little
    /// later than what the agents say.
    ///
    /// # Panics
    /// When they are not.
    #[track_caller]
    pub fn wait_pods_ready(&self, name: &str, servers: usize) {
        wait_for(&format!("{servers} pods are ready"), || {
            let mut pods = self.servers(name);
            pods.retain(is_ready);
            (pods.len() == servers).then_some(()).ok_or(pods.len())
        });
    }

    /// Whether a `ConsulCluster` is Ready now, for the spec as it is now.
    pub fn ready_now(&self, name: &str) -> bool {
        self.condition(name, "Ready", "True").is_some()
    }

    /// The code by which a person confirms a recovery, as the condition `Stalled` shows it.
    ///
    /// # Errors
    /// What the condition says instead.
    pub fn recovery_code(&self, name: &str) -> Result<String, String> {
        let stalled = self.condition(name, "Stalled", "True").unwrap_or_default();
        let text = stalled["message"].as_str().unwrap_or_default();
        let code = text.split("\"token\":\"").nth(1);
        let code = code.and_then(|rest| rest.split('"').next());
        code.map(str::to_owned).ok_or_else(|| text.to_owned())
    }

    /// A condition, when it has this status for the spec as it is now.
    pub fn condition(&self, name: &str, condition: &str, status: &str) -> Option<Value> {
        let object = self.get(name).ok()?;
        let found = find(&object, condition);
        let current = found["observedGeneration"] == object["metadata"]["generation"];
        (found["status"] == status && current).then_some(found)
    }

    /// The servers' pods.
    pub fn servers(&self, name: &str) -> Vec<Value> {
        let prefix = format!("{name}-server-");
        let mut pods = self.kube.list(Path::PODS, &self.namespace, "");
        pods.retain(|pod| {
            let name = pod["metadata"]["name"].as_str();
            name.is_some_and(|name| name.starts_with(&prefix))
        });
        pods
    }

    /// UIDs of the servers' pods that run and are not about to go.
    pub fn server_uids(&self, name: &str) -> BTreeSet<String> {
        let pods = self.servers(name).into_iter().filter(|pod| {
            pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
        });
        pods.filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned))
            .collect()
    }

    /// Waits until no server's pod is one of these, as many are ready again, and the cluster is Ready.
    ///
    /// # Panics
    /// When that never is so.
    #[track_caller]
    pub fn wait_replaced(&self, name: &str, before: &BTreeSet<String>) {
        wait_for("every pod is another one", || {
            let now = self.server_uids(name);
            let left = now.intersection(before).count();
            (left == 0 && now.len() == before.len())
                .then_some(())
                .ok_or(left)
        });
        self.wait_ready(name);
        self.wait_pods_ready(name, before.len());
    }

    /// Waits until another pod stands in for one of these, all are ready again, and the cluster is Ready.
    ///
    /// # Panics
    /// When that never is so.
    #[track_caller]
    pub fn wait_other(&self, name: &str, before: &BTreeSet<String>) {
        wait_for("a pod is replaced", || {
            let now = self.server_uids(name);
            (now.len() == before.len() && now != *before)
                .then_some(())
                .ok_or(now.len())
        });
        self.wait_pods_ready(name, before.len());
        self.wait_ready(name);
    }

    /// Checks that Events about a `ConsulCluster` say these things, in this order, others between them.
    ///
    /// # Panics
    /// When one is missing, with all that was said.
    #[track_caller]
    pub fn assert_events_in_order(&self, name: &str, wanted: &[String]) {
        let events = self.events(name);
        let mut rest = events.iter();
        for part in wanted {
            let found = rest
                .any(|(reason, message)| format!("{reason}: {message}").contains(part.as_str()));
            assert!(found, "no Event with {part:?} in its place: {events:#?}");
        }
    }

    /// What the operator said about a `ConsulCluster` in Events, in order: reason and message.
    pub fn events(&self, name: &str) -> Vec<(String, String)> {
        let mut events = self.kube.list(Path::EVENTS, &self.namespace, "");
        events.retain(|event| {
            event["involvedObject"]["kind"] == "ConsulCluster"
                && event["involvedObject"]["name"] == name
        });
        events.sort_by_key(|event| {
            let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
            let micro = text(&event["eventTime"]);
            let time = if micro.is_empty() {
                text(&event["firstTimestamp"])
            } else {
                micro
            };
            let version: u64 = text(&event["metadata"]["resourceVersion"])
                .parse()
                .unwrap_or(0);
            (time, version)
        });
        let text = |event: &Value, of: &str| event[of].as_str().unwrap_or_default().to_owned();
        events
            .iter()
            .map(|event| (text(event, "reason"), text(event, "message")))
            .collect()
    }

    /// The operator's pods that have not ended.
    pub fn operators(&self) -> Vec<Value> {
        let selector = format!("app.kubernetes.io/instance={RELEASE}");
        self.kube.list(Path::PODS, &self.namespace, &selector)
    }

    /// Kills every operator pod at once, as a node that dies would: it is not asked to end, and gives nothing back.
    pub fn kill_operators(&self) {
        for pod in self.operators() {
            self.kill_pod(pod["metadata"]["name"].as_str().expect("a pod has a name"));
        }
    }

    /// Deletes a pod without asking it to end.
    ///
    /// # Panics
    /// When the API server refuses.
    #[track_caller]
    pub fn kill_pod(&self, name: &str) {
        let path = Path::PODS.one(&self.namespace, name);
        self.kube
            .delete_with(&path, &json!({"gracePeriodSeconds": 0}))
            .unwrap_or_else(|e| panic!("pod {name} cannot be deleted: {e}"));
    }

    /// Node name of the leader as the servers' HTTP API tells it, asked through any of them.
    pub fn leader(&self, name: &str, servers: usize) -> Option<String> {
        (0..servers).find_map(|ordinal| {
            let pod = format!("{name}-server-{ordinal}");
            let own = self
                .kube
                .agent(&self.namespace, &pod, "/v1/agent/self")
                .ok()?;
            (own["Stats"]["consul"]["leader"] == "true").then_some(pod)
        })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for what in [
                &[
                    "get",
                    "consulclusters,statefulsets,pods,pvc,leases",
                    "-o",
                    "wide",
                ][..],
                &["get", "events", "--sort-by=.metadata.creationTimestamp"],
                &["get", "consulclusters", "-o", "yaml"],
                &[
                    "logs",
                    "-l",
                    "app.kubernetes.io/instance=consulcluster-operator",
                    "--tail=60",
                ],
            ] {
                let arguments: Vec<&str> = what
                    .iter()
                    .copied()
                    .chain(["--namespace", &self.namespace])
                    .collect();
                let said = kubectl(&arguments).unwrap_or_else(|said| said);
                eprintln!("--- kubectl {}\n{said}", arguments.join(" "));
            }
        }
        let _ = self
            .kube
            .delete(&format!("/api/v1/namespaces/{}", self.namespace));
    }
}

/// A `ConsulCluster` object. Without keys, certificates and tokens where the spec does not say a word of them: so a test
/// may ask agents directly what it wants to know. `tests/kube/secure.rs` is about those that have them.
pub fn cluster(name: &str, mut spec: Value) -> Value {
    for (field, off) in [
        ("gossip", json!({"enabled": false})),
        ("tls", json!({"mode": "Disabled"})),
        ("acl", json!({"enabled": false})),
    ] {
        if spec[field].is_null() {
            spec[field] = off;
        }
    }
    json!({
        "apiVersion": "consulcluster.dev/v1alpha1",
        "kind": "ConsulCluster",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// Whether the kubelet calls a pod ready, and it is not about to go.
pub(super) fn is_ready(pod: &Value) -> bool {
    find(pod, "Ready")["status"] == "True" && pod["metadata"]["deletionTimestamp"].is_null()
}

/// A condition of an object; null when it has none of that type.
fn find(object: &Value, condition: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|c| c["type"] == condition);
    found.cloned().unwrap_or_default()
}
