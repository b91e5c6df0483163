//! What a driver saw: processes or pods, what is on disk, and what the agents answered. Pure data; the driver fetches.

mod answers;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use answers::{Unreadable, answers, tls_files};

/// Everything that a step is chosen from, taken at one moment. The same shape is read by `operator plan --observed`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observed {
    /// What is recorded about the bootstrap, outside the cluster.
    #[serde(default)]
    pub bootstrap: Latch,
    /// Servers by node name, also those that should not exist any more. A server that is not listed never existed.
    #[serde(default)]
    pub servers: BTreeMap<String, Agent>,
    /// Clients by node name.
    #[serde(default)]
    pub clients: BTreeMap<String, Agent>,
}

/// Record of the bootstrap, kept outside the cluster and only ever moved forward.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Latch {
    /// Nothing was ever started with the flag, as far as is recorded.
    #[default]
    Open,
    /// This server, and no other, may be started with the flag.
    Reserved(String),
    /// The cluster exists and has this id. Nothing is started with the flag again.
    Done(Uuid),
}

/// One agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Agent {
    /// Its process.
    #[serde(default)]
    pub process: Process,
    /// What is in its `raft/` folder. Always `absent` for a client.
    #[serde(default)]
    pub raft_data: RaftData,
    /// Tokens on which its `raft/` folder was moved aside, as far as is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved_aside: Vec<String>,
    /// What it answered. Absent: it does not answer, or does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
}

/// The process of an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Process {
    /// There is none.
    #[default]
    Absent,
    /// It runs.
    Running(Running),
    /// It ended, and the driver saw how.
    Exited(Exited),
}

/// A process that runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Running {
    /// Whether it carries `-bootstrap`.
    #[serde(default)]
    pub bootstrap: bool,
    /// Revision of the configuration that it was started with. Empty: as wanted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// How long it has been running, in seconds.
    #[serde(default)]
    pub uptime_seconds: f64,
    /// Whether it was already told to stop.
    #[serde(default)]
    pub stopping: bool,
    /// Why it does not come up, in the platform's words: then it does not run yet, although it was told to. Empty:
    /// nothing is known to be wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

impl Running {
    /// How long it has been running.
    pub fn uptime(&self) -> Duration {
        Duration::try_from_secs_f64(self.uptime_seconds).unwrap_or_default()
    }
}

/// A process that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exited {
    /// Times in a row that it ended before it ever answered.
    #[serde(default)]
    pub failed_starts: u32,
    /// The last thing it said, when a start failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// What is in a server's `raft/` folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RaftData {
    /// There is no such folder.
    #[default]
    Absent,
    /// The folder was made, but holds no log, vote or snapshot: this server never was in a cluster.
    Blank,
    /// There is state of a cluster, or it cannot be told.
    Present,
}

/// What an agent answered about itself and others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answers {
    /// Consul node id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_id: String,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Address that others reach its server port at, `host:port`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Cluster that it belongs to, once it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Uuid>,
    /// Its place in Raft. Absent: a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft: Option<Raft>,
    /// What gossip tells it, itself included.
    #[serde(default)]
    pub members: Vec<Seen>,
    /// The Raft configuration as it knows it. Empty: it knows none.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Digest of the certificates that it has in force, as `info` shows it. Empty: it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tls_files: String,
    /// Autopilot's `MinQuorum`. Only the leader is asked for it. Absent: it was not, or did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_quorum: Option<u32>,
}

/// A server's place in Raft, from the block `raft` of `info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Raft {
    /// `raft.state`.
    #[serde(default)]
    pub role: Role,
    /// `raft.term`.
    #[serde(default)]
    pub term: u64,
    /// `raft.num_peers`: voters other than itself.
    #[serde(default)]
    pub num_peers: u64,
    /// `raft.raft_id`: of its `raft/` folder, never the same twice. Empty: it does not tell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub raft_id: String,
    /// `raft.latest_configuration_index`: of the entry that set the configuration.
    #[serde(default)]
    pub configuration_index: u64,
    /// `raft.last_log_term`.
    #[serde(default)]
    pub last_log_term: u64,
    /// `raft.last_log_index`.
    #[serde(default)]
    pub last_log_index: u64,
    /// `raft.commit_index`.
    #[serde(default)]
    pub commit_index: u64,
}

/// `raft.state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Leads.
    Leader,
    /// Follows, or belongs to no cluster.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Its Raft has stopped.
    Shutdown,
}

/// A member as gossip shows it to one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seen {
    /// Node name.
    pub name: String,
    /// `host:port` of its gossip.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Status.
    #[serde(default)]
    pub status: Status,
    /// Whether it is a server.
    #[serde(default)]
    pub server: bool,
    /// Whether it carries the tag `bootstrap`.
    #[serde(default)]
    pub bootstrap: bool,
    /// Its tag `cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Uuid>,
}

/// Status of a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Answers probes.
    #[default]
    Alive,
    /// Has announced that it goes.
    Leaving,
    /// Went, in peace.
    Left,
    /// Does not answer probes.
    Failed,
}

/// One server of the Raft configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Node name; may be empty while it is unknown.
    #[serde(default)]
    pub name: String,
    /// Consul node id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_id: String,
    /// Server address, `host:port`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Whether it votes.
    #[serde(default)]
    pub voter: bool,
}

impl Agent {
    /// Its process, if it runs.
    pub fn running(&self) -> Option<&Running> {
        match &self.process {
            Process::Running(running) => Some(running),
            Process::Absent | Process::Exited(_) => None,
        }
    }

    /// Whether it runs with `-bootstrap`.
    pub fn flagged(&self) -> bool {
        self.running().is_some_and(|running| running.bootstrap)
    }

    /// Its place in Raft, if it answers and is a server.
    pub fn raft(&self) -> Option<&Raft> {
        self.answers.as_ref()?.raft.as_ref()
    }

    /// The cluster that it says it belongs to.
    pub fn cluster(&self) -> Option<Uuid> {
        self.answers.as_ref()?.cluster
    }

    /// Whether it may hold state of a cluster: what it answers counts more than what its disk looks like.
    pub fn has_state(&self) -> bool {
        match (&self.answers, self.raft_data) {
            (Some(answers), _) => {
                answers.cluster.is_some()
                    || answers.raft.as_ref().is_some_and(|r| r.last_log_index > 0)
            }
            (None, data) => data == RaftData::Present,
        }
    }
}

impl Answers {
    /// How this agent sees that member.
    pub fn member(&self, name: &str) -> Option<&Seen> {
        self.members
            .iter()
            .find(|member| member.name.eq_ignore_ascii_case(name))
    }

    /// Whether this agent sees that member alive.
    pub fn sees_alive(&self, name: &str) -> bool {
        self.member(name)
            .is_some_and(|member| member.status == Status::Alive)
    }
}
