//! Agents as far as an operator sees them: three questions over HTTP, answered by one listener for all addresses.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Where agents speak HTTP.
const PORT: u16 = 8500;

/// What is known of a server from its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    cluster: String,
    flagged: bool,
}

impl Member {
    /// None: it is no server's pod, or it is about to go.
    pub(super) fn of(pod: &Value) -> Option<Self> {
        let name = pod["metadata"]["name"].as_str()?;
        let (cluster, _) = name.rsplit_once("-server-")?;
        let args = pod["spec"]["containers"][0]["args"].as_array()?;
        pod["metadata"]["deletionTimestamp"]
            .is_null()
            .then(|| Self {
                cluster: cluster.to_owned(),
                flagged: args.iter().any(|arg| arg == "-bootstrap"),
            })
    }
}

/// One agent that answers.
struct Agent {
    address: Ipv4Addr,
    name: String,
    member: Member,
}

/// All agents, by the UID of their pods.
#[derive(Default)]
pub(super) struct Fleet {
    agents: HashMap<String, Agent>,
    addresses: u32,
}

impl Fleet {
    /// Takes over which pods there are; names and addresses of those that are new.
    pub(super) fn follow(
        &mut self,
        pods: HashMap<String, (String, Member)>,
    ) -> Vec<(String, Ipv4Addr)> {
        self.agents.retain(|uid, _| pods.contains_key(uid));
        let mut new = Vec::new();
        for (uid, (name, member)) in pods {
            if self.agents.contains_key(&uid) {
                continue;
            }
            self.addresses += 1;
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 200, 0, 0)) + self.addresses);
            new.push((name.clone(), address));
            let agent = Agent {
                address,
                name,
                member,
            };
            self.agents.insert(uid, agent);
        }
        new
    }

    /// The answer of the agent at that address to one of the questions of the operator.
    fn answer(&self, address: IpAddr, path: &str) -> Option<Value> {
        let own = self
            .agents
            .values()
            .find(|agent| agent.address == address)?;
        let servers: BTreeMap<&str, &Agent> = self
            .agents
            .values()
            .filter(|agent| agent.member.cluster == own.member.cluster)
            .map(|agent| (agent.name.as_str(), agent))
            .collect();
        match path.split('?').next()? {
            "/v1/agent/self" => Some(itself(own, &servers)),
            "/v1/agent/members" => Some(servers.values().map(|agent| member(agent)).collect()),
            "/v1/operator/raft/configuration" => {
                let server = |agent: &&Agent| json!({"ID": id(agent), "Node": agent.name, "Address": format!("{}:8300", agent.address), "Voter": true});
                Some(json!({"Servers": servers.values().map(server).collect::<Vec<_>>()}))
            }
            "/v1/operator/autopilot/configuration" => Some(json!({"MinQuorum": 2})),
            _ => Some(Value::Null),
        }
    }
}

/// The one with the flag while there is one, and then the one that was never restarted.
fn leader<'a>(servers: &BTreeMap<&str, &'a Agent>) -> Option<&'a Agent> {
    let flagged = servers.values().find(|agent| agent.member.flagged);
    flagged.or(servers.values().next_back()).copied()
}

fn itself(own: &Agent, servers: &BTreeMap<&str, &Agent>) -> Value {
    let leads = leader(servers).is_some_and(|leader| leader.name == own.name);
    let state = if leads { "Leader" } else { "Follower" };
    let peers = servers.len() - 1;
    json!({
        "Config": {"NodeName": own.name, "NodeID": id(own), "Version": "1", "Server": true},
        "Member": member(own),
        "Stats": {"raft": {
            "state": state, "term": "2", "num_peers": peers.to_string(), "last_log_index": "9", "commit_index": "9",
        }},
    })
}

fn member(agent: &Agent) -> Value {
    let mut tags =
        json!({"role": "consul", "port": "8300", "cluster": cluster_id(&agent.member.cluster)});
    if agent.member.flagged {
        tags["bootstrap"] = json!("1");
    }
    json!({"Name": agent.name, "Addr": agent.address, "Port": 8301, "Status": 1, "Tags": tags})
}

fn id(agent: &Agent) -> String {
    uuid::Uuid::from_u128(number(&agent.name)).to_string()
}

fn cluster_id(name: &str) -> String {
    uuid::Uuid::from_u128(number(name)).to_string()
}

/// The same for the same name, and another for every other of at most 16 bytes.
fn number(name: &str) -> u128 {
    name.bytes()
        .fold(0, |sum, byte| (sum << 8) | u128::from(byte))
}

pub(super) fn locked(fleet: &Mutex<Fleet>) -> MutexGuard<'_, Fleet> {
    fleet.lock().expect("no panic while it is held")
}

/// Answers at every address of this host until the runtime is dropped.
pub(super) fn serve(fleet: Arc<Mutex<Fleet>>) -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let everywhere = SocketAddr::from(([0, 0, 0, 0], PORT));
    let listener = runtime
        .block_on(TcpListener::bind(everywhere))
        .unwrap_or_else(|e| panic!("{everywhere}: {e}"));
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let fleet = Arc::clone(&fleet);
            // A connection that breaks off is the operator's matter.
            tokio::spawn(async move { drop(converse(stream, &fleet).await) });
        }
    });
    runtime
}

/// One request after the other. The operator's questions have no bodies; an answer of `null` is a 404.
async fn converse(stream: TcpStream, fleet: &Mutex<Fleet>) -> io::Result<()> {
    let address = stream.local_addr()?.ip();
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        // The pod is gone: nobody listens there any more.
        let Some(answer) = locked(fleet).answer(address, path) else {
            return Ok(());
        };
        let status = if answer.is_null() {
            "404 Not Found"
        } else {
            "200 OK"
        };
        let body = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream
            .get_mut()
            .write_all(format!("{head}{body}").as_bytes())
            .await?;
    }
}
