//! A Kubernetes without a cluster: an API server in memory, and behind it, one turn at a time, the StatefulSet
//! controller, the kubelet with the agents of `fake`, and the disruption budget. The operator under test is the real one
//! and speaks HTTP to it, so that a test can cut it off at any call.

mod api;
mod faults;
mod protection;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::Body;
use operator::controller::{Counters, Options, Worker};
use operator::driver::kube::agents::Reach;
use operator::plan::Step;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::fake::{self, Fake};
use faults::Fate;
pub(crate) use faults::{CUTS, Cut, STALE_TURNS_MAX};

/// Namespace and name of the cluster.
pub(crate) const PLACE: (&str, &str) = ("prod", "demo");

/// Plural and name.
pub(crate) type Key = (String, String);

pub(crate) type Objects = BTreeMap<Key, Value>;

pub(crate) struct World {
    pub(crate) objects: Objects,
    pub(crate) agents: Fake,
    /// Calls that change something, as `METHOD plural/name`.
    pub(crate) writes: Vec<String>,
    /// How often objects were read.
    pub(crate) reads: usize,
    /// Reasons of Events, in order.
    pub(crate) events: Vec<String>,
    /// The write that is cut, counted from now, and how.
    pub(crate) cut: Option<(usize, Cut)>,
    /// Whether the operator that looks now has died in a call.
    died: bool,
    /// Whether a call waits for the gate.
    parked: bool,
    /// How many turns ago the reads of this look are from.
    pub(crate) stale: usize,
    /// The same, for the next look.
    stale_next: usize,
    history: VecDeque<Objects>,
    /// Image that cannot be pulled.
    pub(crate) bad_image: String,
    /// Keys, certificates and tokens, as agents know them.
    pub(crate) protection: protection::Protection,
    /// Number of the last object that was made.
    made: u64,
    version: u64,
}

/// Cloning gives another handle of the same world.
#[derive(Clone)]
pub(crate) struct Platform {
    world: Arc<Mutex<World>>,
    gate: Arc<Notify>,
}

/// How a look of an operator ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Looked {
    /// It took this step.
    Step(Step),
    /// It met an error.
    Failed(String),
    /// It died in the middle.
    Died,
    /// A call of it is under way for so long that others go on.
    Parked,
}

impl Platform {
    pub(crate) fn new(spec: Value) -> Self {
        let servers = spec["servers"].as_i64().unwrap_or(3);
        let clients = spec["clients"].as_i64().unwrap_or(0);
        let count = |number: i64| i32::try_from(number).unwrap();
        let world = World {
            objects: BTreeMap::new(),
            agents: Fake::new(fake::desired(count(servers), count(clients))),
            writes: Vec::new(),
            reads: 0,
            events: Vec::new(),
            cut: None,
            died: false,
            parked: false,
            stale: 0,
            stale_next: 0,
            history: VecDeque::new(),
            bad_image: "bad".into(),
            protection: protection::Protection::default(),
            made: 0,
            version: 0,
        };
        let platform = Platform {
            world: Arc::new(Mutex::new(world)),
            gate: Arc::new(Notify::new()),
        };
        platform.world().make_cluster(spec);
        platform
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it stands, for a test that fails.
    pub(crate) fn why(&self) -> String {
        let world = self.world();
        let last = world.writes.iter().rev().take(25).collect::<Vec<_>>();
        format!(
            "{}; last writes first: {last:?}",
            world.condition("Reconciling")
        )
    }

    /// A new operator, which knows nothing.
    pub(crate) fn operator(&self) -> Worker {
        let platform = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let platform = platform.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let fate = platform.world().serve(&parts, &body);
                let (status, answer) = match fate {
                    Fate::Answer(answer) => answer,
                    Fate::Dead => pending().await,
                    Fate::Park => {
                        platform.gate.notified().await;
                        platform.world().resume(&parts, &body)
                    }
                };
                let response = Response::builder()
                    .status(status)
                    .body(Full::<Bytes>::from(answer));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        let client = Client::new(service, "default");
        let options = Options {
            namespace: None,
            image: Some("agent:1".into()),
            reach: Reach::Proxy,
            identity: "test".into(),
            leads: Arc::new(|| true),
        };
        Worker::new(client, options, Arc::new(Counters::default()))
    }

    /// One look of the operator, then one turn of everything else. None: the operator met an error, or died.
    pub(crate) async fn round(&self, operator: &Worker) -> Option<Step> {
        match self.round_beside(operator, operator).await {
            Looked::Step(step) => Some(step),
            Looked::Failed(_) | Looked::Died | Looked::Parked => None,
        }
    }

    /// The same. While a call of the operator is under way for long, another one takes its turns.
    pub(crate) async fn round_beside(&self, operator: &Worker, other: &Worker) -> Looked {
        {
            let mut world = self.world();
            world.stale = std::mem::take(&mut world.stale_next).max(world.stale);
        }
        let mut look = pin!(operator.look(PLACE.0, PLACE.1));
        let mut looked = Looked::Parked;
        while looked == Looked::Parked {
            looked = poll_fn(|cx| match look.as_mut().poll(cx) {
                Poll::Ready(Ok((step, _))) => Poll::Ready(Looked::Step(step)),
                Poll::Ready(Err(error)) => Poll::Ready(Looked::Failed(error.to_string())),
                Poll::Pending => {
                    let mut world = self.world();
                    if std::mem::take(&mut world.died) {
                        Poll::Ready(Looked::Died)
                    } else if std::mem::take(&mut world.parked) {
                        Poll::Ready(Looked::Parked)
                    } else {
                        Poll::Pending
                    }
                }
            })
            .await;
            if looked == Looked::Parked {
                self.world().stale = 0;
                for _ in 0..PARKED_ROUNDS {
                    let _ = other.look(PLACE.0, PLACE.1).await;
                    self.pass(other);
                }
                self.gate.notify_one();
            }
        }
        self.world().stale = 0;
        self.pass(operator);
        looked
    }

    /// A turn of everything but the operator.
    fn pass(&self, operator: &Worker) {
        // As the watches would say.
        operator.touched(PLACE.0, PLACE.1);
        self.world().turn();
        self.world().check();
    }

    /// Rounds until all is as wanted and the status says so; false: never.
    pub(crate) async fn settle(&self, operator: &Worker) -> bool {
        for _ in 0..ROUNDS_MAX {
            if self.round(operator).await == Some(Step::Steady) {
                return true;
            }
        }
        false
    }
}

/// Looks that another operator takes while a call of the first one is under way.
const PARKED_ROUNDS: usize = 3;

/// Far more than any way to a steady cluster takes.
const ROUNDS_MAX: usize = 150;

impl World {
    /// What must never be so, whatever happens.
    pub(crate) fn check(&self) {
        // A set that a hand scales makes further pods with the flag: it must count in none but the first.
        let flagged: Vec<_> = self
            .list("pods")
            .filter(|pod| self.may_form(pod))
            .map(|pod| pod["metadata"]["name"].clone())
            .collect();
        assert!(flagged.len() <= 1, "the flag counts in {flagged:?}");
        assert!(self.agents.flagged() <= 1, "two agents with the flag");
        assert!(self.agents.formed <= 1, "a second cluster was formed");
        self.check_secrets();
        let status = &self.cluster()["status"];
        if status["phase"] == "Running" && !self.agents_gone() {
            assert!(status["flagged"].is_null(), "steady with the flag");
        }
    }

    /// What was formed and is on no record was never served to anybody: it does not count as a cluster.
    pub(crate) fn forget_formed_unless(&mut self, recorded: bool) {
        if !recorded {
            self.agents.formed = 0;
        }
    }

    fn agents_gone(&self) -> bool {
        self.list("pods").next().is_none()
    }

    pub(crate) fn list<'a>(&'a self, plural: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects
            .iter()
            .filter(move |((kind, _), _)| kind == plural)
            .map(|(_, object)| object)
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(plural.to_owned(), name.to_owned()))
    }

    pub(crate) fn edit(&mut self, plural: &str, name: &str) -> &mut Value {
        let key = (plural.to_owned(), name.to_owned());
        self.objects
            .get_mut(&key)
            .unwrap_or_else(|| panic!("there is no {plural}/{name}"))
    }

    pub(crate) fn remove(&mut self, plural: &str, name: &str) -> Option<Value> {
        self.objects.remove(&(plural.to_owned(), name.to_owned()))
    }

    pub(crate) fn cluster(&self) -> &Value {
        self.get("consulclusters", PLACE.1).unwrap_or(&Value::Null)
    }

    pub(crate) fn condition(&self, name: &str) -> String {
        let conditions = self.cluster()["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = conditions
            .iter()
            .find(|condition| condition["type"] == name);
        found.map_or_else(String::new, |found| {
            let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", text("status"), text("reason"), text("message"))
        })
    }

    /// The resource, as the API server stores it.
    pub(crate) fn make_cluster(&mut self, spec: Value) {
        let text = json!({"apiVersion": "consulcluster.dev/v1alpha1", "kind": "ConsulCluster", "metadata": {"name": PLACE.1, "namespace": PLACE.0}, "spec": spec});
        let cluster = operator::crd::read(&text.to_string()).unwrap();
        let mut value = serde_json::to_value(cluster).unwrap();
        value["metadata"]["generation"] = json!(1);
        self.store("consulclusters", PLACE.1, value);
    }

    /// A change of the spec by a person.
    pub(crate) fn change(&mut self, field: &str, value: Value) {
        let cluster = self.edit("consulclusters", PLACE.1);
        cluster["spec"][field] = value;
        let generation = cluster["metadata"]["generation"].as_i64().unwrap_or(1);
        cluster["metadata"]["generation"] = json!(generation + 1);
        let servers = cluster["spec"]["servers"].as_u64().unwrap_or(3);
        self.agents.desired.servers = usize::try_from(servers).unwrap();
    }

    /// The resource is deleted, and the garbage collector takes what it owned; volumes stay, and what opens them.
    pub(crate) fn delete_cluster(&mut self) {
        self.remove("consulclusters", PLACE.1);
        let names: Vec<_> = self
            .list("pods")
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        names.iter().for_each(|name| self.agents.kill(name));
        self.objects.retain(|(kind, _), object| {
            kind == "persistentvolumeclaims" || object["metadata"]["ownerReferences"].is_null()
        });
    }
}
