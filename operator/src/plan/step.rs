//! The steps. Each reads as a person would say it, and carries all that a driver needs.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::safety::Unsafe;
use crate::crd::PauseBefore;

/// One agent to be started. Starting one that already runs changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Launch {
    /// Node name.
    pub name: String,
    /// Host or IP address to bind and advertise.
    pub address: String,
    /// Server or client.
    pub server: bool,
    /// Whether it carries `-bootstrap`.
    #[serde(default)]
    pub bootstrap: bool,
}

/// One log that is gone on with alone, after the loss of a quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alone {
    /// Node name.
    pub server: String,
    /// Host or IP address that it is reached at.
    pub address: String,
    /// Consul node id.
    pub node_id: String,
    /// Cluster id, which stays.
    pub cluster: Uuid,
    /// Raft id of its folder.
    pub raft_id: String,
    /// Term of its log's last entry.
    pub last_log_term: u64,
    /// Index of its log's last entry.
    pub last_log_index: u64,
}

/// A recovery that a person may confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Offer {
    /// Node name of the server whose log has most.
    pub survivor: String,
    /// Index of its log's last entry.
    pub last_log_index: u64,
    /// What `spec.recovery.token` has to be.
    pub code: String,
    /// The survivor that the spec names, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// The one next change. A driver carries it out and chooses nothing; it may carry it out twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// Record, before it starts, that this server and no other may form the cluster.
    Reserve {
        /// Node name.
        server: String,
    },
    /// Start the first server with `-bootstrap`.
    StartFirst(Launch),
    /// Record the id that the cluster got. Nothing is started with the flag after this.
    Record {
        /// Cluster id.
        cluster: Uuid,
    },
    /// Start servers that never ran, without the flag.
    StartServers(Vec<Launch>),
    /// Start a server that left, without the flag.
    StartAgain(Launch),
    /// Start a server of the cluster whose process is gone, without the flag.
    RestartDead(Launch),
    /// Let an agent join the pool.
    Join {
        /// Node name of the agent that is told to join.
        agent: String,
        /// Node name of the agent that it contacts.
        to: String,
        /// Address of that agent.
        address: String,
    },
    /// Nothing to do until something happens.
    Wait(Waiting),
    /// Stop the first server, so that it comes back without `-bootstrap`.
    RestartFirstWithoutBootstrap {
        /// Node name.
        server: String,
        /// Leave gracefully, which is the rule; a lone server only stops, as nobody would be left.
        leave: bool,
    },
    /// Stop a server that was started without the flag before anything was formed, and move its empty `raft/` folder
    /// aside, so that it can start with the flag.
    StopUnformed {
        /// Node name.
        server: String,
    },
    /// Stop an accidental second bootstrap server and move its `raft/` folder aside.
    RepairSecondBootstrap {
        /// Node name.
        server: String,
        /// Id of the one-node cluster that it formed.
        cluster: Uuid,
    },
    /// Stop a server and move its `raft/` folder aside, as a person asked for.
    MoveAside {
        /// Node name.
        server: String,
        /// What the person called it.
        token: String,
    },
    /// Let the server whose log has most go on alone, as a person confirmed: the others are lost for good.
    RecoverQuorum(Alone),
    /// Hand leadership over before the leader is stopped.
    TransferLeader {
        /// Node name of the leader.
        from: String,
        /// Node name of the next one.
        to: String,
        /// Consul node id of the next one.
        to_id: String,
    },
    /// Let a server that is not wanted any more leave gracefully.
    RemoveServer {
        /// Node name.
        server: String,
    },
    /// Take a dead server that is not wanted any more out of gossip, and so out of the Raft configuration.
    ForgetServer {
        /// Node name.
        server: String,
        /// Node name of the leader, which is told.
        leader: String,
    },
    /// Take what a server left in the Raft configuration, when it lost its data dir, out of it.
    RemoveGhost {
        /// Node name, which its new self has as well.
        server: String,
        /// Node id of its former self.
        id: String,
        /// Node name of the leader, which is told.
        leader: String,
    },
    /// Stop a server, without leaving, so that it starts with the configuration that is wanted now.
    ReplaceServer {
        /// Node name.
        server: String,
    },
    /// Tell autopilot how many servers it must leave when it removes dead ones.
    SetMinQuorum {
        /// Node name of the leader, which is told.
        leader: String,
        /// A majority of the servers that are wanted, or what the spec's configuration says.
        servers: u32,
    },
    /// Start clients.
    StartClients(Vec<Launch>),
    /// Let a client leave, because it is not wanted any more or runs with another configuration.
    StopClient {
        /// Node name.
        client: String,
    },
    /// All is as wanted.
    Steady,
    /// A person has to act.
    Stalled(Stall),
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Waiting {
    /// The spec says so.
    Paused,
    /// The spec asks to wait before this kind of step.
    PausedBefore(PauseBefore),
    /// An agent that runs does not answer yet.
    Answer(String),
    /// There is no leader.
    Leader,
    /// A server is a member, and the leader has not added it yet.
    Peer(String),
    /// A server is not a voter yet.
    Voters {
        /// Voters there are.
        have: usize,
        /// Voters there should be.
        want: usize,
        /// Node name of one that is missing.
        missing: String,
    },
    /// A server has not got the leader's log yet.
    Replication {
        /// Node name.
        server: String,
        /// Entries that it lacks.
        behind: u64,
    },
    /// An agent was told to stop and still runs.
    Exit(String),
    /// A member still carries the tag of `-bootstrap` in gossip.
    FlagInGossip {
        /// Node name of the member.
        server: String,
        /// Node name of the agent that sees it so.
        seen_by: String,
    },
    /// A client is not a member yet.
    Member(String),
    /// A server is dead, and gossip has not found out yet.
    Death(String),
    /// A server would be stopped, were it safe.
    Unsafe(Unsafe),
}

/// Why a person has to act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Stall {
    /// The cluster was formed, and no server holds any of its data.
    DataLost {
        /// Cluster id on record.
        cluster: Uuid,
    },
    /// The bootstrap was reserved for a server that this cluster does not have.
    ReservedElsewhere {
        /// Node name on record.
        reserved: String,
    },
    /// A majority of the voters has lost its data or is not ours to start.
    QuorumLost {
        /// Voters in the Raft configuration.
        voters: usize,
        /// Those that can still vote.
        alive: usize,
        /// Those that are needed.
        needed: usize,
        /// What a person may confirm. Absent: there is nothing to go on with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offer: Option<Offer>,
    },
    /// A person asked to move data aside that is in use.
    DataInUse {
        /// Node name, as the spec has it.
        server: String,
    },
    /// A server holds data of another cluster, and it may not be moved aside.
    OtherCluster {
        /// Node name.
        server: String,
        /// The cluster that it belongs to.
        found: Uuid,
        /// The cluster that it should belong to.
        expected: Uuid,
        /// Why its data is not moved aside.
        kept: Kept,
    },
    /// A voter is no server of this resource.
    UnknownVoter {
        /// Node name, if it is known.
        name: String,
        /// Server address.
        address: String,
    },
    /// An agent was started and does not come up.
    Stuck {
        /// Node name.
        agent: String,
        /// The platform's words.
        error: String,
    },
    /// The platform refuses what a step needs.
    Refused {
        /// The step.
        step: String,
        /// The platform's words.
        error: String,
    },
    /// An agent ends each time before it answers.
    StartFails {
        /// Node name.
        agent: String,
        /// Times in a row.
        times: u32,
        /// The last thing it said.
        error: String,
    },
}

/// Why data of another cluster is not moved aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Kept {
    /// That cluster has several voters: it is no accidental second bootstrap.
    SeveralVoters,
    /// `recovery.moveAsideSecondBootstrap` is false.
    NotAllowed,
    /// The cluster that it should belong to has no leader to join.
    NoLeader,
}

impl Display for Launch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.address)
    }
}

/// As a person lists things: `a, b and c`.
fn names(launches: &[Launch]) -> String {
    let names: Vec<_> = launches.iter().map(Launch::to_string).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::Reserve { server } => write!(f, "reserve the bootstrap for {server}"),
            Step::StartFirst(launch) => write!(f, "start {launch} with -server -bootstrap"),
            Step::Record { cluster } => write!(f, "record the cluster id {cluster}"),
            Step::StartServers(launches) => write!(
                f,
                "start {} with -server, without -bootstrap",
                names(launches)
            ),
            Step::StartAgain(launch) => write!(f, "start {launch} again, without -bootstrap"),
            Step::RestartDead(launch) => write!(f, "restart {launch}, which does not run"),
            Step::Join { agent, to, address } => write!(f, "join {agent} to {to} at {address}"),
            Step::Wait(waiting) => write!(f, "wait: {waiting}"),
            Step::RestartFirstWithoutBootstrap {
                server,
                leave: true,
            } => {
                write!(
                    f,
                    "{server} leaves gracefully, to come back without -bootstrap"
                )
            }
            Step::RestartFirstWithoutBootstrap {
                server,
                leave: false,
            } => {
                write!(f, "{server} stops, to come back without -bootstrap")
            }
            Step::StopUnformed { server } => {
                write!(
                    f,
                    "stop {server}, which was started without -bootstrap and formed nothing, and move its raft/ aside"
                )
            }
            Step::RepairSecondBootstrap { server, cluster } => {
                write!(
                    f,
                    "second bootstrap server: stop {server} (cluster {cluster}) and move its raft/ aside"
                )
            }
            Step::MoveAside { server, token } => {
                write!(
                    f,
                    "stop {server} and move its raft/ aside, as spec.recovery.moveAside ({token}) asks for"
                )
            }
            Step::RecoverQuorum(alone) => write!(
                f,
                "recover from the loss of a quorum: {} goes on alone with its log up to {}-{}",
                alone.server, alone.last_log_term, alone.last_log_index
            ),
            Step::TransferLeader { from, to, .. } => {
                write!(f, "{from} hands leadership over to {to}")
            }
            Step::RemoveServer { server } => write!(f, "{server} leaves gracefully, and for good"),
            Step::ForgetServer { server, .. } => {
                write!(f, "forget {server}, which is dead and not wanted any more")
            }
            Step::RemoveGhost { server, id, .. } => {
                write!(
                    f,
                    "remove the former {server} (node id {id}), which lost its data, from the peers"
                )
            }
            Step::ReplaceServer { server } => {
                write!(f, "stop {server}, to start it with the new configuration")
            }
            Step::SetMinQuorum { servers, .. } => {
                write!(
                    f,
                    "set autopilot's min_quorum to {servers}: it removes no dead server where fewer would be left"
                )
            }
            Step::StartClients(launches) => write!(f, "start client {}", names(launches)),
            Step::StopClient { client } => write!(f, "client {client} leaves"),
            Step::Steady => f.write_str("steady: all is as wanted"),
            Step::Stalled(stall) => write!(f, "stalled: {stall}"),
        }
    }
}

impl Display for Waiting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Paused => f.write_str("spec.paused is true"),
            Waiting::PausedBefore(kind) => write!(f, "spec.updatePolicy.pauseBefore is {kind:?}"),
            Waiting::Answer(agent) => write!(f, "{agent} does not answer yet"),
            Waiting::Leader => f.write_str("there is no leader yet"),
            Waiting::Peer(server) => write!(f, "the leader has not added {server} as a peer yet"),
            Waiting::Voters {
                have,
                want,
                missing,
            } => write!(f, "{have} of {want} voters, {missing} is not one yet"),
            Waiting::Replication { server, behind } => {
                write!(f, "{server} is {behind} log entries behind the leader")
            }
            Waiting::Exit(agent) => write!(f, "{agent} is stopping"),
            Waiting::FlagInGossip { server, seen_by } => {
                write!(
                    f,
                    "{seen_by} still sees {server} with the tag of -bootstrap"
                )
            }
            Waiting::Death(server) => {
                write!(f, "{server} is dead, and gossip has not found out yet")
            }
            Waiting::Member(client) => write!(f, "{client} is not a member yet"),
            Waiting::Unsafe(why) => write!(f, "{why}"),
        }
    }
}

impl Display for Offer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Offer {
            survivor,
            last_log_index,
            code,
            expected,
        } = self;
        write!(
            f,
            ", or, if they are lost for good, confirm that {survivor}, which has most (up to index {last_log_index}), goes on \
             alone, by {{\"spec\":{{\"recovery\":{{\"token\":\"{code}\"}}}}}}; writes that only the others have are lost then"
        )?;
        match expected {
            Some(other) => write!(
                f,
                "; spec.recovery.survivor is {other}: take it away, or bring back what {other} had"
            ),
            None => Ok(()),
        }
    }
}

impl Display for Stall {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Stall::DataLost { cluster } => write!(
                f,
                "cluster {cluster} was formed, and no server holds any of its data; a new one is never formed by itself: \
                 put the data back, or destroy the cluster"
            ),
            Stall::ReservedElsewhere { reserved } => write!(
                f,
                "the bootstrap was reserved for {reserved}, which is no server of this cluster: node names cannot change"
            ),
            Stall::QuorumLost {
                voters,
                alive,
                needed,
                offer,
            } => {
                write!(
                    f,
                    "{alive} of {voters} voters still have their data and {needed} are needed: bring the others' data back"
                )?;
                offer.as_ref().map_or(Ok(()), |offer| write!(f, "{offer}"))
            }
            Stall::DataInUse { server } => write!(
                f,
                "spec.recovery.moveAside asks for the data of {server}, which is no server here, does not run, or is well: \
                 nothing is moved; take the field away"
            ),
            Stall::OtherCluster {
                server,
                found,
                expected,
                kept,
            } => {
                write!(
                    f,
                    "{server} belongs to cluster {found}, not to {expected}; its data stays because "
                )?;
                f.write_str(match kept {
                    Kept::SeveralVoters => "that cluster has several voters",
                    Kept::NotAllowed => "spec.recovery.moveAsideSecondBootstrap is false",
                    Kept::NoLeader => "there is no leader to join instead",
                })
            }
            Stall::UnknownVoter { name, address } => write!(
                f,
                "{name} at {address} votes in this cluster and is none of its servers: let it leave, or remove it with \
                 `operator raft remove-peer`"
            ),
            Stall::Stuck { agent, error } => write!(f, "{agent} does not come up: {error}"),
            Stall::Refused { step, error } => write!(f, "cannot {step}: {error}"),
            Stall::StartFails {
                agent,
                times,
                error,
            } => {
                write!(f, "{agent} ended {times} times before it answered")?;
                if error.is_empty() {
                    Ok(())
                } else {
                    write!(f, ": {error}")
                }
            }
        }
    }
}
