//! Agents as child processes of this machine, each on a loopback address of its own.
//!
//! They are started apart from the operator and outlive it. Nothing that this driver remembers is needed: who runs is
//! found in `/proc` by data dir, what they know is asked over HTTP, and the record of the bootstrap is backed by the
//! servers' own data.

pub mod address;
mod evidence;
mod launch;
mod probe;
pub mod process;
mod recover;
pub mod store;
mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Instant;

use rustix::process::Signal;

pub use evidence::Evidence;
pub use launch::program;
use process::Identity;
use store::{State, Store, StoreError};
use track::Tracked;

use super::{Driver, ask};
use crate::crd::ConsulCluster;
use crate::observe::{Agent, Latch, Observed};
use crate::plan::{Desired, Step};

/// Why a step was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent's binary cannot be started.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The binary.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A process cannot be signalled.
    #[error("cannot stop {name} (process {pid}): {source}")]
    Signal {
        /// Node name.
        name: String,
        /// Process id.
        pid: i32,
        /// Why not.
        source: std::io::Error,
    },
    /// An agent refused.
    #[error("{name}: {source}")]
    Agent {
        /// Node name.
        name: String,
        /// Its answer.
        source: agent::client::Error,
    },
    /// Something that the step takes for granted is not so any more; the next observation will tell.
    #[error("{0}")]
    Changed(String),
}

/// Runs agents as processes of this machine.
pub struct Local {
    store: Store,
    state: State,
    program: PathBuf,
    cluster: ConsulCluster,
    desired: Desired,
    agents: BTreeMap<String, Tracked>,
    /// Our own children, to be waited for.
    children: Vec<Child>,
    /// Those of them that were killed: by a person, a test, or for want of memory, but not by a fault of their own.
    killed: BTreeSet<i32>,
    clients: probe::Clients,
    searched: Option<Instant>,
    evidence: evidence::Tails,
}

impl Local {
    /// A driver for that cluster in that folder. Nothing is started.
    pub fn new(
        store: Store,
        state: State,
        program: PathBuf,
        base: Ipv4Addr,
        cluster: ConsulCluster,
    ) -> Self {
        let state = State {
            base: Some(base),
            agent: Some(program.clone()),
            ..state
        };
        let desired = boil_down(&cluster, base);
        let mut local = Local {
            store,
            state,
            program,
            cluster,
            desired,
            agents: BTreeMap::new(),
            children: Vec::new(),
            killed: BTreeSet::new(),
            clients: probe::Clients::default(),
            searched: None,
            evidence: evidence::Tails::default(),
        };
        local.search();
        local.evidence.skip_to_end(&local.store, &local.desired);
        local
    }

    /// What is wanted.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The resource.
    pub fn cluster(&self) -> &ConsulCluster {
        &self.cluster
    }

    /// The agent's binary.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The folder.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Wants something else from now on.
    pub fn want(&mut self, cluster: ConsulCluster) {
        let base = self.state.base.unwrap_or(address::BASE);
        self.desired = boil_down(&cluster, base);
        self.cluster = ConsulCluster {
            status: self.cluster.status.take(),
            ..cluster
        };
    }

    /// Keeps the resource with its status, for `local status`.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep(&mut self, status: crate::crd::ConsulClusterStatus) -> Result<(), StoreError> {
        self.cluster.status = Some(status);
        self.keep_resource()
    }

    /// Keeps the resource as it is.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep_resource(&mut self) -> Result<(), StoreError> {
        self.state.cluster = Some(self.cluster.clone());
        self.store.save(&self.state)
    }

    /// Lines that agents have logged since the last call and that are evidence of a step.
    pub fn evidence(&mut self) -> Vec<Evidence> {
        self.evidence.read(&self.store, &self.desired)
    }

    /// Agents that run now, by name.
    pub fn running(&mut self) -> BTreeMap<String, Identity> {
        self.search();
        let running = self
            .agents
            .iter()
            .filter_map(|(name, agent)| Some((name.clone(), agent.found.as_ref()?.identity)));
        running.filter(|(_, identity)| identity.lives()).collect()
    }

    fn client(&mut self, name: &str) -> Result<agent::client::Client, Error> {
        let seats = self
            .desired
            .server_seats
            .iter()
            .chain(&self.desired.client_seats);
        let address = seats
            .into_iter()
            .find(|seat| seat.name == name)
            .map(|seat| seat.address.clone());
        let bind = || {
            self.agents
                .get(name)
                .and_then(|agent| agent.found.as_ref()?.bind.clone())
        };
        let Some(address) = address.or_else(bind) else {
            return Err(Error::Changed(format!("{name} has no address any more")));
        };
        self.clients.of(&address).map_err(|source| Error::Agent {
            name: name.to_owned(),
            source,
        })
    }

    /// The steps that an agent carries out when it is told to.
    async fn tell(&mut self, step: &Step) -> Result<(), Error> {
        let (name, told) = match step {
            Step::Join {
                agent,
                to: _,
                address,
            } => (agent, self.client(agent)?.join(address).await),
            Step::TransferLeader { from, to: _, to_id } => (
                from,
                self.client(from)?.raft_transfer_leader(Some(to_id)).await,
            ),
            Step::RemoveGhost {
                server: _,
                id,
                leader,
            } => (
                leader,
                self.client(leader)?.raft_remove_peer_by_id(id).await,
            ),
            Step::ForgetServer { server, leader } => (
                leader,
                self.client(leader)?.force_leave(server, false).await,
            ),
            _ => return Ok(()),
        };
        told.map_err(|source| Error::Agent {
            name: name.clone(),
            source,
        })
    }
}

/// Somebody else may change the settings meanwhile; then the next look sees what became of it.
async fn set_min_quorum(
    client: &agent::client::Client,
    servers: u32,
) -> Result<(), agent::client::Error> {
    let settings: serde_json::Value = client.get_json(ask::AUTOPILOT).await?;
    let (path, body) = ask::with_min_quorum(&settings, servers);
    client.put_json::<bool>(&path, body.into()).await.map(drop)
}

fn boil_down(cluster: &ConsulCluster, base: Ipv4Addr) -> Desired {
    Desired::new(cluster, |mode, number| {
        address::address(base, mode, number).to_string()
    })
}

impl Driver for Local {
    type Error = Error;

    async fn observe(&mut self) -> Result<Observed, Error> {
        self.notice();
        self.kill_the_stubborn()?;
        let seats = self
            .desired
            .server_seats
            .iter()
            .chain(&self.desired.client_seats);
        let mut asked: Vec<(String, String)> = Vec::new();
        for (name, agent) in &self.agents {
            let Some(found) = &agent.found else { continue };
            let seat = seats
                .clone()
                .find(|seat| seat.name == *name)
                .map(|seat| seat.address.clone());
            if let Some(address) = found.bind.clone().or(seat) {
                asked.push((name.clone(), address));
            }
        }
        let mut answers = self.clients.ask_all(asked).await;
        self.note_answers(answers.keys());
        let mut observed = Observed {
            bootstrap: self.state.bootstrap.clone(),
            ..Observed::default()
        };
        for seat in &self.desired.server_seats {
            let agent = Agent {
                process: self.process(&seat.name),
                raft_data: self.store.raft_data(&seat.name),
                moved_aside: self.store.moved_aside(&seat.name),
                answers: answers.remove(&seat.name),
            };
            if agent != Agent::default() {
                observed.servers.insert(seat.name.clone(), agent);
            }
        }
        let clients = self
            .agents
            .keys()
            .filter(|name| !observed.servers.contains_key(*name));
        for name in clients.cloned().collect::<Vec<_>>() {
            let (process, answers) = (self.process(&name), answers.remove(&name));
            observed.clients.insert(
                name,
                Agent {
                    process,
                    answers,
                    ..Agent::default()
                },
            );
        }
        Ok(observed)
    }

    async fn apply(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Wait(_) | Step::Steady | Step::Stalled(_) => {}
            Step::Reserve { server } => {
                self.state.bootstrap = Latch::Reserved(server.clone());
                self.store.save(&self.state)?;
            }
            Step::Record { cluster } => {
                self.state.bootstrap = Latch::Done(*cluster);
                self.store.save(&self.state)?;
            }
            Step::StartFirst(launch) | Step::StartAgain(launch) | Step::RestartDead(launch) => {
                self.start(launch).await?;
            }
            Step::StartServers(launches) | Step::StartClients(launches) => {
                for launch in launches {
                    self.start(launch).await?;
                }
            }
            Step::RestartFirstWithoutBootstrap {
                server,
                leave: true,
            }
            | Step::RemoveServer { server } => {
                self.stop(server, Signal::INT)?;
            }
            Step::RestartFirstWithoutBootstrap {
                server,
                leave: false,
            }
            | Step::ReplaceServer { server } => {
                self.stop(server, Signal::TERM)?;
            }
            Step::StopClient { client } => self.stop(client, Signal::INT)?,
            Step::StopUnformed { server } => {
                self.move_aside(server, |agent| !agent.has_state()).await?
            }
            Step::RepairSecondBootstrap { server, cluster } => {
                self.move_aside(server, |agent| agent.cluster() == Some(*cluster))
                    .await?;
            }
            Step::MoveAside { server, token } => self.move_aside_on(server, token).await?,
            Step::RecoverQuorum(alone) => self.recover(alone).await?,
            Step::SetMinQuorum { leader, servers } => {
                let client = self.client(leader)?;
                set_min_quorum(&client, *servers)
                    .await
                    .map_err(|source| Error::Agent {
                        name: leader.clone(),
                        source,
                    })?;
            }
            Step::Join { .. }
            | Step::TransferLeader { .. }
            | Step::RemoveGhost { .. }
            | Step::ForgetServer { .. } => self.tell(step).await?,
        }
        Ok(())
    }
}
