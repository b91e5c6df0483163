//! From the JSON of an agent's HTTP API to [`Answers`].

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Answers, Peer, Raft, Role, Seen, Status};

/// An answer that does not look like one of an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer to {path} is not one of an agent: {problem}")]
pub struct Unreadable {
    /// What was asked.
    pub path: &'static str,
    /// What is wrong with the answer.
    pub problem: String,
}

const SELF: &str = "/v1/agent/self";
const MEMBERS: &str = "/v1/agent/members";
const CONFIGURATION: &str = "/v1/operator/raft/configuration";

/// One entry of `/v1/agent/members`, also `Member` of `/v1/agent/self`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    #[serde(default)]
    addr: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    tags: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    status: u8,
}

impl Member {
    fn cluster(&self) -> Option<Uuid> {
        self.tags.get("cluster")?.parse().ok()
    }

    fn server(&self) -> bool {
        self.tags.get("role").is_some_and(|role| role == "consul")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    servers: Vec<Server>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    address: String,
    voter: bool,
}

/// Reads what an agent answered to the three questions. `configuration` is absent when a client was asked, or when
/// the server knows none.
///
/// # Errors
/// The first answer that is not of the agreed form: something else listens at that address.
pub fn answers(
    own: &Value,
    members: &Value,
    configuration: Option<&Value>,
) -> Result<Answers, Unreadable> {
    let unreadable = |path, problem: serde_json::Error| Unreadable {
        path,
        problem: problem.to_string(),
    };
    let member = Member::deserialize(&own["Member"]).map_err(|e| unreadable(SELF, e))?;
    let all = Vec::<Member>::deserialize(members).map_err(|e| unreadable(MEMBERS, e))?;
    let servers = match configuration {
        Some(json) => {
            Configuration::deserialize(json)
                .map_err(|e| unreadable(CONFIGURATION, e))?
                .servers
        }
        None => Vec::new(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let port = member.tags.get("port").map_or("8300", String::as_str);
    Ok(Answers {
        node_id: text(&own["Config"]["NodeID"]),
        version: text(&own["Config"]["Version"]),
        address: format!("{}:{port}", member.addr),
        cluster: member.cluster(),
        raft: if member.server() {
            Some(raft(&own["Stats"]["raft"])?)
        } else {
            None
        },
        members: all.into_iter().map(seen).collect(),
        peers: servers.into_iter().map(peer).collect(),
        tls_files: tls_files(own),
        min_quorum: None,
    })
}

/// Digest of the certificates that an agent has in force, in what it answers about itself. Empty: it has none.
pub fn tls_files(own: &Value) -> String {
    let digest = own["Stats"]["tls"]["files_sha256"].as_str();
    digest.unwrap_or_default().to_owned()
}

fn seen(member: Member) -> Seen {
    Seen {
        address: format!("{}:{}", member.addr, member.port),
        // Serf's numbers; 0 ("none") and unknown ones count as failed, the careful reading.
        status: match member.status {
            1 => Status::Alive,
            2 => Status::Leaving,
            3 => Status::Left,
            _ => Status::Failed,
        },
        server: member.server(),
        bootstrap: member.tags.contains_key("bootstrap"),
        cluster: member.cluster(),
        name: member.name,
    }
}

fn peer(server: Server) -> Peer {
    // What Consul prints for a server that is not in the catalog yet.
    let name = if server.node == "(unknown)" {
        String::new()
    } else {
        server.node
    };
    Peer {
        name,
        node_id: server.id,
        address: server.address,
        voter: server.voter,
    }
}

/// `Stats.raft`: every value is text, as in `info`.
fn raft(stats: &Value) -> Result<Raft, Unreadable> {
    let text = |key: &'static str| {
        let problem = format!("Stats.raft has no {key}");
        stats[key].as_str().ok_or(Unreadable {
            path: SELF,
            problem,
        })
    };
    let number = |key: &'static str| {
        let value = text(key)?;
        let problem = format!("Stats.raft.{key} is \"{value}\"");
        value.parse::<u64>().map_err(|_| Unreadable {
            path: SELF,
            problem,
        })
    };
    let older = |key: &'static str| {
        if stats[key].is_null() {
            Ok(0)
        } else {
            number(key)
        }
    };
    let role = match text("state")? {
        "Leader" => Role::Leader,
        "Candidate" => Role::Candidate,
        "Shutdown" => Role::Shutdown,
        _ => Role::Follower,
    };
    Ok(Raft {
        role,
        term: number("term")?,
        num_peers: number("num_peers")?,
        // Older agents do not tell these.
        raft_id: stats["raft_id"].as_str().unwrap_or_default().to_owned(),
        configuration_index: older("latest_configuration_index")?,
        last_log_term: older("last_log_term")?,
        last_log_index: number("last_log_index")?,
        commit_index: number("commit_index")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn own() -> Value {
        json!({
            "Config": {"NodeName": "a", "NodeID": "0e3c", "Version": "0.1.0", "Server": true},
            "Member": {"Name": "a", "Addr": "127.0.0.1", "Port": 8301, "Status": 1,
                "Tags": {"role": "consul", "port": "8300", "bootstrap": "1", "cluster": "6f0b0b4e-6f77-4b8b-9a3b-0d8f0a1c2d3e"}},
            "Stats": {"raft": {"state": "Leader", "term": "2", "num_peers": "0", "last_log_index": "7", "commit_index": "7",
                "raft_id": "18446744073709551615", "last_log_term": "1",
                "latest_configuration_index": "5"}},
        })
    }

    #[test]
    fn a_servers_answers_are_read() {
        let members = json!([own()["Member"], {"Name": "b", "Addr": "127.0.0.2", "Port": 8301, "Status": 3, "Tags": {"role": "node"}}]);
        let configuration = json!({"Servers": [{"ID": "0e3c", "Node": "(unknown)", "Address": "127.0.0.1:8300", "Leader": true, "Voter": true}]});
        let read = answers(&own(), &members, Some(&configuration)).unwrap();
        assert_eq!(
            (read.node_id.as_str(), read.address.as_str()),
            ("0e3c", "127.0.0.1:8300")
        );
        assert_eq!(
            read.raft,
            Some(Raft {
                role: Role::Leader,
                term: 2,
                num_peers: 0,
                raft_id: "18446744073709551615".into(),
                configuration_index: 5,
                last_log_term: 1,
                last_log_index: 7,
                commit_index: 7
            })
        );
        assert!(read.cluster.is_some() && read.sees_alive("A"));
        assert_eq!(
            read.member("b").map(|b| (b.status, b.server, b.bootstrap)),
            Some((Status::Left, false, false))
        );
        assert_eq!(
            read.peers,
            [Peer {
                name: String::new(),
                node_id: "0e3c".into(),
                address: "127.0.0.1:8300".into(),
                voter: true
            }]
        );
    }

    #[test]
    fn a_client_has_no_raft() {
        let mut own = own();
        own["Member"]["Tags"] = json!({"role": "node"});
        assert_eq!(answers(&own, &json!([]), None).unwrap().raft, None);
    }

    #[test]
    fn an_answer_of_something_else_is_an_error_that_names_the_question() {
        let error = answers(&json!({"hello": "world"}), &json!([]), None).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the answer to /v1/agent/self is not one of an agent"),
            "{error}"
        );
        let mut own = own();
        own["Stats"]["raft"]["term"] = json!("two");
        assert_eq!(
            answers(&own, &json!([]), None).unwrap_err().problem,
            "Stats.raft.term is \"two\""
        );
        let error = answers(&super::tests::own(), &json!({}), None).unwrap_err();
        assert_eq!(error.path, "/v1/agent/members");
    }
}
