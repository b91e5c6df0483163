//! The agents' HTTP: by pod IP inside the cluster, through the API server's pod proxy outside.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http::{Method, Request};
use serde_json::Value;

use super::super::ask::{self, Fetch};
use super::names::HTTP_PORT;
use crate::observe::Answers;
use crate::secure::render::HTTPS_PORT;

/// Longest time for one agent's answers to all questions of one observation.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// Longest time for an agent to do what it is told: a leave, the slowest, ends well within.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);

/// How agents are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// By pod IP.
    Direct,
    /// Through the API server, which needs the right to use `pods/proxy`.
    Proxy,
}

/// An agent's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Node name of the agent.
    pub node: String,
    /// Name of the pod.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Address of the pod.
    pub address: String,
    /// How it lets itself be asked.
    pub access: Arc<Access>,
}

/// What an agent asks of whoever speaks to it. Never shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// HTTPS: authorities of its certificate, in PEM form, and the name in it. None: HTTP.
    pub https: Option<(String, String)>,
    /// Token for what servers answer together.
    pub management: Option<String>,
    /// Token for what this agent answers alone: also when nobody knows any token.
    pub recovery: Option<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https.is_some() {
            "HTTPS"
        } else {
            "HTTP"
        };
        let token = if self.management.is_some() {
            ", token"
        } else {
            ""
        };
        write!(f, "Access({scheme}{token})")
    }
}

impl Access {
    fn port(&self) -> u16 {
        match self.https {
            Some(_) => HTTPS_PORT,
            None => HTTP_PORT,
        }
    }

    /// The token for this path. A client may be made to leave by its own; only servers forget others.
    fn token(&self, path: &str) -> Option<&str> {
        let alone = path.starts_with("/v1/agent/") && !path.starts_with("/v1/agent/force-leave/");
        let token = if alone {
            &self.recovery
        } else {
            &self.management
        };
        token.as_deref()
    }
}

/// An agent did not do what it was told, in its own words if it had any.
#[derive(Debug, thiserror::Error)]
#[error("{node}: {reason}")]
pub struct Refused {
    /// Node name.
    pub node: String,
    /// Why not.
    pub reason: String,
}

/// Speaks to agents. No connection outlives what it is for: a cluster at rest is asked once a minute, and thousands of
/// idle connections would cost more memory than making them anew costs time.
pub struct Agents {
    client: kube::Client,
    reach: Reach,
}

impl Agents {
    /// Nothing is sent yet.
    pub fn new(client: kube::Client, reach: Reach) -> Self {
        Agents { client, reach }
    }

    /// Asks all of them; who does not answer is not in the result. The leader, if it is known, is asked before the
    /// others: whoever then has its last entry has all that was acknowledged when it answered.
    pub async fn ask_all(
        &self,
        targets: &[Target],
        leader: Option<&str>,
    ) -> BTreeMap<String, Answers> {
        let (first, others): (Vec<_>, Vec<_>) = targets
            .iter()
            .partition(|target| Some(target.node.as_str()) == leader);
        let mut all = BTreeMap::new();
        for group in [first, others] {
            all.extend(self.ask(&group).await);
        }
        // Somebody else leads than was thought: the others' answers are older than the leader's.
        let found = ask::leader(&all);
        if let Some(found) = found.filter(|found| Some(found.as_str()) != leader) {
            let again: Vec<_> = targets
                .iter()
                .filter(|target| target.node != found)
                .collect();
            all.extend(self.ask(&again).await);
        }
        all
    }

    async fn ask(&self, targets: &[&Target]) -> Vec<(String, Answers)> {
        let asked = targets.iter().map(|target| async move {
            let agent = Asked {
                target,
                way: self.way(target).ok()?,
            };
            let answers = tokio::time::timeout(ANSWER_TIME_MAX, ask::ask(&target.node, &agent))
                .await
                .ok()??;
            Some((target.node.clone(), answers))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Tells an agent something.
    ///
    /// # Errors
    /// It refused, or did not answer; then it may have done it all the same.
    pub async fn tell(&self, target: &Target, method: Method, path: &str) -> Result<(), Refused> {
        let said = self.call(target, method, path, String::new(), None);
        said.await.map(drop)
    }

    /// Sets one of autopilot's settings, and leaves the others as they are.
    ///
    /// # Errors
    /// As of [`Agents::tell`]; also when somebody else changed them meanwhile.
    pub async fn set_min_quorum(&self, target: &Target, servers: u32) -> Result<(), Refused> {
        let call = async {
            let way = self.way(target)?;
            let agent = Asked { target, way };
            let settings = agent.fetch(ask::AUTOPILOT).await?;
            let (path, body) = ask::with_min_quorum(&settings, servers);
            let said = agent.way.call(target, Method::PUT, &path, body).await?;
            match said.trim() {
                "true" => Ok(()),
                _ => Err("autopilot's settings were changed meanwhile".to_owned()),
            }
        };
        bounded(target, call).await
    }

    /// What an agent says to a call that asks or changes something, in the name of that token if one is given.
    ///
    /// # Errors
    /// As of [`Agents::tell`].
    pub async fn call(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        body: String,
        token: Option<&str>,
    ) -> Result<String, Refused> {
        let mut target = target.clone();
        if let Some(token) = token {
            let access = Access {
                management: Some(token.to_owned()),
                ..(*target.access).clone()
            };
            target.access = Arc::new(access);
        }
        let call = async {
            let way = self.way(&target)?;
            way.call(&target, method, path, body).await
        };
        bounded(&target, call).await
    }

    fn way(&self, target: &Target) -> Result<Way, String> {
        let (address, access) = (&target.address, &target.access);
        match self.reach {
            Reach::Proxy => Ok(Way::Proxy(self.client.clone())),
            Reach::Direct => {
                let host = if address.contains(':') {
                    format!("[{address}]")
                } else {
                    address.clone()
                };
                let address = format!("{host}:{}", access.port());
                let client = agent::client::Client::new(&address).map_err(|e| e.to_string())?;
                let client = match &access.https {
                    Some((authorities, name)) => client
                        .with_authorities(authorities, name)
                        .map_err(|e| e.to_string())?,
                    None => client,
                };
                Ok(Way::Direct(client.with_timeout(CALL_TIME_MAX)))
            }
        }
    }
}

async fn bounded<T>(
    target: &Target,
    call: impl Future<Output = Result<T, String>>,
) -> Result<T, Refused> {
    let told = tokio::time::timeout(CALL_TIME_MAX, call).await;
    told.unwrap_or_else(|_| Err(format!("no answer within {} s", CALL_TIME_MAX.as_secs())))
        .map_err(|reason| Refused {
            node: target.node.clone(),
            reason,
        })
}

/// How one agent is reached.
enum Way {
    Direct(agent::client::Client),
    Proxy(kube::Client),
}

impl Way {
    async fn call(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<String, String> {
        match self {
            Way::Direct(client) => {
                let client = match target.access.token(path) {
                    Some(token) => &client.with_token(token).map_err(|e| e.to_string())?,
                    None => client,
                };
                let response = client
                    .request(method, path, body.into())
                    .await
                    .map_err(|e| e.to_string())?;
                let response = response.success().map_err(|e| e.to_string())?;
                Ok(String::from_utf8_lossy(&response.body).into_owned())
            }
            Way::Proxy(client) => {
                let Target {
                    pod,
                    namespace,
                    access,
                    ..
                } = target;
                let scheme = if access.https.is_some() { "https:" } else { "" };
                let port = access.port();
                let uri =
                    format!("/api/v1/namespaces/{namespace}/pods/{scheme}{pod}:{port}/proxy{path}");
                let mut request = Request::builder().method(method).uri(uri);
                if let Some(token) = access.token(path) {
                    request = request.header("X-Consul-Token", token);
                }
                let request = request.body(body.into_bytes());
                let request = request.map_err(|e| e.to_string())?;
                client
                    .request_text(request)
                    .await
                    .map_err(|e| e.to_string())
            }
        }
    }
}

/// One agent, to be asked.
struct Asked<'a> {
    target: &'a Target,
    way: Way,
}

impl Fetch for Asked<'_> {
    type Error = String;

    async fn fetch(&self, path: &str) -> Result<Value, String> {
        let (way, target) = (&self.way, self.target);
        let text = way.call(target, Method::GET, path, String::new()).await?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }
}
