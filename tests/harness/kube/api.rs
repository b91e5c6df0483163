use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Connection, Http, Reply};
use crate::process::Process;

/// Longest that one call may take. A call through the pod proxy waits for the pod's own answer.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// The API of a Kubernetes. Cheap to share by reference; dropping it ends the proxy.
pub struct Kube {
    http: Http,
    _proxy: Process,
}

/// Where a kind of object is found: the part of the path before and after the namespace.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    group: &'static str,
    plural: &'static str,
}

impl Path {
    /// `ConsulCluster`s.
    pub const CLUSTERS: Self = Self::new("apis/consulcluster.dev/v1alpha1", "consulclusters");
    /// Secrets.
    pub const SECRETS: Self = Self::new("api/v1", "secrets");
    /// Pods.
    pub const PODS: Self = Self::new("api/v1", "pods");
    /// Volume claims.
    pub const CLAIMS: Self = Self::new("api/v1", "persistentvolumeclaims");
    /// ConfigMaps.
    pub const CONFIG_MAPS: Self = Self::new("api/v1", "configmaps");
    /// ServiceAccounts.
    pub const SERVICE_ACCOUNTS: Self = Self::new("api/v1", "serviceaccounts");
    /// Services.
    pub const SERVICES: Self = Self::new("api/v1", "services");
    /// Events, as `kubectl get events` shows them.
    pub const EVENTS: Self = Self::new("api/v1", "events");
    /// StatefulSets.
    pub const STATEFUL_SETS: Self = Self::new("apis/apps/v1", "statefulsets");
    /// DaemonSets.
    pub const DAEMON_SETS: Self = Self::new("apis/apps/v1", "daemonsets");
    /// NetworkPolicies.
    pub const NETWORK_POLICIES: Self = Self::new("apis/networking.k8s.io/v1", "networkpolicies");
    /// Deployments.
    pub const DEPLOYMENTS: Self = Self::new("apis/apps/v1", "deployments");
    /// Leases.
    pub const LEASES: Self = Self::new("apis/coordination.k8s.io/v1", "leases");
    /// Disruption budgets.
    pub const BUDGETS: Self = Self::new("apis/policy/v1", "poddisruptionbudgets");

    /// A kind of object: `apis/GROUP/VERSION` or `api/v1`, and its plural.
    pub const fn new(group: &'static str, plural: &'static str) -> Self {
        Self { group, plural }
    }

    /// All of them in a namespace.
    pub fn list(self, namespace: &str) -> String {
        format!("/{}/namespaces/{namespace}/{}", self.group, self.plural)
    }

    /// One of them.
    pub fn one(self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.list(namespace))
    }
}

/// What the API server said instead of doing it.
#[derive(Debug, Clone)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// Its words.
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self {
            status: 0,
            message: format!("no answer: {error}"),
        }
    }
}

impl Kube {
    /// The cluster that `KUBECONFIG` names.
    ///
    /// # Panics
    /// When there is none: a test that needs a Kubernetes and has none has failed.
    pub fn connect() -> Self {
        assert!(
            std::env::var_os("KUBECONFIG").is_some(),
            "this test needs a Kubernetes, and KUBECONFIG is not set: run `make test-kube`, which makes one"
        );
        let mut command = Command::new("kubectl");
        command.args(["proxy", "--port=0"]);
        let proxy = Process::start("kubectl proxy", command);
        let line = proxy.wait_for_line("Starting to serve on ").text;
        let address: SocketAddr = line
            .rsplit(' ')
            .next()
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("no address in {line:?}"));
        Self {
            http: Http { address },
            _proxy: proxy,
        }
    }

    /// Where the proxy listens, for clients that keep connections.
    pub fn address(&self) -> SocketAddr {
        self.http.address
    }

    /// Sends one request to a path of the API as it is.
    ///
    /// # Errors
    /// When there is no whole answer: then the outcome is unknown.
    pub fn raw(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
        self.http.request_within(CALL_LIMIT, method, path, body)
    }

    /// Reads an object or a list.
    ///
    /// # Errors
    /// What the API server said, 404 among it.
    pub fn get(&self, path: &str) -> Result<Value, Refused> {
        read(&self.raw("GET", path, b"")?)
    }

    /// The objects of a kind in a namespace, with a label selector that may be empty.
    ///
    /// # Panics
    /// When the API server does not answer.
    #[track_caller]
    pub fn list(&self, of: Path, namespace: &str, selector: &str) -> Vec<Value> {
        let path = format!("{}?labelSelector={selector}", of.list(namespace));
        let mut list = self
            .get(&path)
            .unwrap_or_else(|e| panic!("GET {path}: {e}"));
        match list["items"].take() {
            Value::Array(items) => items,
            other => panic!("GET {path}: no items: {other}"),
        }
    }

    /// Creates an object in the list at `path`.
    ///
    /// # Errors
    /// What the API server said.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value, Refused> {
        self.typed("POST", path, "application/json", object)
    }

    /// Applies an object by server-side apply, as a person with `kubectl apply --server-side` would.
    ///
    /// # Errors
    /// What the API server said.
    pub fn apply(&self, path: &str, object: &Value) -> Result<Value, Refused> {
        let path = format!("{path}?fieldManager=tests");
        self.typed("PATCH", &path, "application/apply-patch+yaml", object)
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// What the API server said.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Value, Refused> {
        self.typed("PATCH", path, "application/merge-patch+json", patch)
    }

    /// Changes an object by a list of JSON patches: array elements too.
    ///
    /// # Errors
    /// What the API server said.
    pub fn json_patch(&self, path: &str, patch: &Value) -> Result<Value, Refused> {
        self.typed("PATCH", path, "application/json-patch+json", patch)
    }

    /// Deletes an object. One that is not there is no error.
    ///
    /// # Errors
    /// What the API server said.
    pub fn delete(&self, path: &str) -> Result<(), Refused> {
        self.delete_with(path, &json!({}))
    }

    /// Deletes an object with options: `gracePeriodSeconds`, `preconditions`.
    ///
    /// # Errors
    /// What the API server said.
    pub fn delete_with(&self, path: &str, options: &Value) -> Result<(), Refused> {
        match self.typed("DELETE", path, "application/json", options) {
            Ok(_) => Ok(()),
            Err(refused) if refused.status == 404 => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    /// Path of a pod's HTTP port 8500, through the API server's pod proxy.
    pub fn agent_path(namespace: &str, pod: &str, path: &str) -> String {
        format!("/api/v1/namespaces/{namespace}/pods/{pod}:8500/proxy{path}")
    }

    /// The same, of its HTTPS port 8501, with a token.
    pub fn secure_path(namespace: &str, pod: &str, path: &str, token: &str) -> String {
        let with = if path.contains('?') { '&' } else { '?' };
        format!(
            "/api/v1/namespaces/{namespace}/pods/https:{pod}:8501/proxy{path}{with}token={token}"
        )
    }

    /// Asks the agent in a pod.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn agent(&self, namespace: &str, pod: &str, path: &str) -> Result<Value, Refused> {
        self.get(&Self::agent_path(namespace, pod, path))
    }

    fn typed(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, Refused> {
        let body = body.to_string();
        let mut connection = Connection::open(self.http.address, CALL_LIMIT)?;
        read(&connection.request_typed(method, path, content_type, body.as_bytes())?)
    }
}

fn read(reply: &Reply) -> Result<Value, Refused> {
    let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if (200..300).contains(&reply.status) {
        return Ok(value);
    }
    let message = value["message"]
        .as_str()
        .map_or_else(|| reply.text(), str::to_owned);
    Err(Refused {
        status: reply.status,
        message,
    })
}
