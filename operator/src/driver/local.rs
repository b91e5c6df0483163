//! Agents as child processes of this machine, each on a loopback address of its own.
//!
//! They are started apart from the operator and outlive it. Nothing that this driver remembers is needed: who runs is
//! found in `/proc` by data dir, what they know is asked over HTTP, and the record of the bootstrap is backed by the
//! servers' own data.

pub mod address;
mod evidence;
mod probe;
pub mod process;
pub mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use rustix::process::Signal;

pub use evidence::Evidence;
use process::{Found, Identity};
use store::{State, Store, StoreError};

use super::Driver;
use crate::crd::ConsulCluster;
use crate::observe::{Agent, Exited, Latch, Observed, Process, RaftData, Running};
use crate::plan::{Desired, Launch, MAX_FAILED_STARTS, Step};

/// Longest time that an agent may take to stop before it is killed. Its own bound for a leave is 15 s.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
/// Time between two searches for agents that somebody else started.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time after which an agent that could not start is tried once more, although a person was asked to look.
const START_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// An agent that ends this soon, unasked, could not really start, even if it answered once.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Time between two looks at a process that was told to stop.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

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

/// What is remembered of one agent between two observations.
#[derive(Debug)]
struct Tracked {
    found: Option<Found>,
    seen_first: Instant,
    answered: bool,
    stop_since: Option<Instant>,
    exited: bool,
    failed_starts: u32,
    failed_at: Option<Instant>,
    failed_revision: String,
    error: String,
}

impl Default for Tracked {
    fn default() -> Self {
        Tracked {
            found: None,
            seen_first: Instant::now(),
            answered: false,
            stop_since: None,
            exited: false,
            failed_starts: 0,
            failed_at: None,
            failed_revision: String::new(),
            error: String::new(),
        }
    }
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

    /// Stops one agent without a leave, which keeps its place in the cluster, and waits until it has stopped.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub async fn stop_and_wait(&mut self, name: &str) -> Result<(), Error> {
        self.stop(name, Signal::TERM)?;
        let Some(identity) = self
            .agents
            .get(name)
            .and_then(|agent| Some(agent.found.as_ref()?.identity))
        else {
            return Ok(());
        };
        let since = Instant::now();
        while identity.lives() {
            if since.elapsed() > STOP_TIME_MAX {
                signal(name, identity, Signal::KILL)?;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            self.reap();
        }
        Ok(())
    }

    /// Looks for agents anew: ours, those of an operator before us, and those that a person started in our folder.
    fn search(&mut self) {
        self.searched = Some(Instant::now());
        let program = self
            .program
            .file_name()
            .map_or_else(|| OsString::from("agent"), OsStr::to_os_string);
        for (name, found) in process::find(self.store.dir(), &program) {
            let agent = self.agents.entry(name).or_default();
            if agent.found.as_ref().map(|known| known.identity) != Some(found.identity) {
                *agent = Tracked {
                    failed_starts: agent.failed_starts,
                    failed_at: agent.failed_at,
                    ..Tracked::default()
                };
                agent.found = Some(found);
            }
        }
    }

    fn reap(&mut self) {
        let killed = &mut self.killed;
        self.children.retain_mut(|child| {
            let ended = match child.try_wait() {
                Ok(None) => return true,
                Ok(Some(status)) => status.signal() == Some(Signal::KILL.as_raw()),
                Err(_) => false,
            };
            if ended && let Ok(pid) = i32::try_from(child.id()) {
                killed.insert(pid);
            }
            false
        });
    }

    /// Whether an agent has ended since the last observation. Cheap: asks nobody.
    pub fn somebody_ended(&mut self) -> bool {
        self.reap();
        self.agents
            .values()
            .filter_map(|agent| agent.found.as_ref())
            .any(|found| !found.identity.lives())
    }

    /// Notices who ended, and how.
    fn notice(&mut self) {
        self.reap();
        if self
            .searched
            .is_none_or(|at| at.elapsed() > SEARCH_INTERVAL)
        {
            self.search();
        }
        for (name, agent) in &mut self.agents {
            let Some(found) = &agent.found else { continue };
            if found.identity.lives() {
                continue;
            }
            let told = agent.stop_since.is_some() || self.store.is_stopping(name, found.identity);
            let killed = self.killed.remove(&found.identity.pid);
            let soon = !agent.answered || agent.seen_first.elapsed() < SHORT_LIFE;
            if soon && !told && !killed {
                agent.failed_starts += 1;
                agent.failed_at = Some(Instant::now());
                agent.failed_revision.clone_from(&found.revision);
                agent.error = evidence::last_words(&self.store.log(name));
            } else {
                agent.failed_starts = 0;
            }
            (agent.found, agent.exited, agent.answered, agent.stop_since) =
                (None, true, false, None);
        }
    }

    fn process(&self, name: &str) -> Process {
        let Some(agent) = self.agents.get(name) else {
            return Process::Absent;
        };
        let Some(found) = &agent.found else {
            if !agent.exited {
                return Process::Absent;
            }
            // Another configuration, or some time, is worth another try.
            let another = agent.failed_revision != self.desired.revision;
            let rested = agent
                .failed_at
                .is_none_or(|at| at.elapsed() > START_RETRY_INTERVAL);
            let forgiven = if another || rested {
                MAX_FAILED_STARTS - 1
            } else {
                u32::MAX
            };
            let failed_starts = agent.failed_starts.min(forgiven);
            return Process::Exited(Exited {
                failed_starts,
                error: agent.error.clone(),
            });
        };
        Process::Running(Running {
            bootstrap: found.bootstrap,
            revision: found.revision.clone(),
            uptime_seconds: found.identity.uptime().as_secs_f64(),
            stopping: agent.stop_since.is_some() || self.store.is_stopping(name, found.identity),
        })
    }

    fn start(&mut self, launch: &Launch) -> Result<(), Error> {
        // Also one that a person started a moment ago.
        self.search();
        let runs = |agent: &Tracked| {
            agent
                .found
                .as_ref()
                .is_some_and(|found| found.identity.lives())
        };
        if self.agents.get(&launch.name).is_some_and(runs) {
            return Ok(());
        }
        let args = self.arguments(launch)?;
        let log = self.store.log(&launch.name);
        evidence::rotate(&log);
        let started = process::start(&self.program, &args, &self.desired.revision, &log);
        let child = started.map_err(|source| Error::Start {
            program: self.program.clone(),
            source,
        })?;
        tracing::debug!(node = launch.name, pid = child.id(), ?args, "started");
        let agent = self.agents.entry(launch.name.clone()).or_default();
        (agent.exited, agent.answered, agent.seen_first) = (true, false, Instant::now());
        if let Some(identity) = Identity::of(&child) {
            let (bootstrap, revision) = (launch.bootstrap, self.desired.revision.clone());
            agent.found = Some(Found {
                identity,
                bootstrap,
                revision,
                bind: Some(launch.address.clone()),
            });
        }
        self.children.push(child);
        Ok(())
    }

    /// The command line of the manual, and what the spec adds to it.
    fn arguments(&self, launch: &Launch) -> Result<Vec<String>, Error> {
        let spec = &self.cluster.spec;
        let mut args: Vec<String> = Vec::new();
        if launch.server {
            args.push("-server".to_owned());
        }
        if launch.bootstrap {
            args.push("-bootstrap".to_owned());
        }
        let data = self.store.data(&launch.name).display().to_string();
        let address = &launch.address;
        let pairs = [
            ("-node", &launch.name),
            ("-bind", address),
            ("-client", address),
            ("-data-dir", &data),
            ("-datacenter", &spec.datacenter),
        ];
        args.extend(
            pairs
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value.clone()]),
        );
        let mut config = spec.config.clone();
        if spec.domain != crate::crd::DEFAULT_DOMAIN {
            config.insert("domain".to_owned(), spec.domain.clone().into());
        }
        if !config.is_empty() {
            let text = serde_json::to_vec_pretty(&config).expect("plain data always encodes");
            let path = self.store.config(&self.desired.revision, &text)?;
            args.extend(["-config-file".to_owned(), path.display().to_string()]);
        }
        args.extend(spec.extra_args.iter().cloned());
        Ok(args)
    }

    /// Tells an agent to stop. One that was told already is not told twice: that would cut its leave short.
    fn stop(&mut self, name: &str, how: Signal) -> Result<(), Error> {
        let Some(agent) = self.agents.get_mut(name) else {
            return Ok(());
        };
        let Some(found) = &agent.found else {
            return Ok(());
        };
        if agent.stop_since.is_some() || self.store.is_stopping(name, found.identity) {
            agent.stop_since.get_or_insert_with(Instant::now);
            return Ok(());
        }
        self.store.note_stopping(name, found.identity)?;
        agent.stop_since = Some(Instant::now());
        signal(name, found.identity, how)
    }

    /// Kills what was told to stop long ago. Rule 4 has counted it as down since then.
    fn kill_the_stubborn(&self) -> Result<(), Error> {
        for (name, agent) in &self.agents {
            let Some(found) = &agent.found else { continue };
            if agent
                .stop_since
                .is_some_and(|since| since.elapsed() > STOP_TIME_MAX)
            {
                tracing::warn!(
                    node = name.as_str(),
                    "told to stop {} s ago and still running: killed",
                    STOP_TIME_MAX.as_secs()
                );
                signal(name, found.identity, Signal::KILL)?;
            }
        }
        Ok(())
    }

    /// Stops a server and moves its `raft/` folder aside, if it still is what the step takes it for.
    async fn move_aside(
        &mut self,
        name: &str,
        is_still: impl Fn(&Agent) -> bool,
    ) -> Result<(), Error> {
        let observed = self.observe().await?;
        if !observed.servers.get(name).is_some_and(is_still) {
            return Err(Error::Changed(format!(
                "{name} is not as it was observed any more; looking again"
            )));
        }
        self.stop_and_wait(name).await?;
        if let Some(aside) = self.store.move_aside(name, Timestamp::now())? {
            tracing::info!(node = name, aside = %aside.display(), "raft folder moved aside");
        }
        Ok(())
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
}

fn boil_down(cluster: &ConsulCluster, base: Ipv4Addr) -> Desired {
    Desired::new(cluster, |mode, number| {
        address::address(base, mode, number).to_string()
    })
}

fn signal(name: &str, identity: Identity, signal: Signal) -> Result<(), Error> {
    let sent = identity.signal(signal);
    sent.map(drop).map_err(|source| Error::Signal {
        name: name.to_owned(),
        pid: identity.pid,
        source,
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
        for (name, agent) in &mut self.agents {
            agent.answered |= answers.contains_key(name);
            if agent.answered && agent.seen_first.elapsed() >= SHORT_LIFE {
                (agent.failed_starts, agent.failed_at) = (0, None);
            }
        }
        let mut observed = Observed {
            bootstrap: self.state.bootstrap.clone(),
            ..Observed::default()
        };
        for seat in &self.desired.server_seats {
            let agent = Agent {
                process: self.process(&seat.name),
                raft_data: self.store.raft_data(&seat.name),
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
                    raft_data: RaftData::Absent,
                    answers,
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
                self.start(launch)?
            }
            Step::StartServers(launches) | Step::StartClients(launches) => {
                launches.iter().try_for_each(|launch| self.start(launch))?;
            }
            Step::Join {
                agent,
                to: _,
                address,
            } => {
                let client = self.client(agent)?;
                client.join(address).await.map_err(|source| Error::Agent {
                    name: agent.clone(),
                    source,
                })?;
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
            Step::TransferLeader { from, to: _, to_id } => {
                let client = self.client(from)?;
                let moved = client.raft_transfer_leader(Some(to_id)).await;
                moved.map_err(|source| Error::Agent {
                    name: from.clone(),
                    source,
                })?;
            }
            Step::RemoveGhost {
                server: _,
                id,
                leader,
            } => {
                let client = self.client(leader)?;
                let removed = client.raft_remove_peer_by_id(id).await;
                removed.map_err(|source| Error::Agent {
                    name: leader.clone(),
                    source,
                })?;
            }
            Step::ForgetServer { server, leader } => {
                let client = self.client(leader)?;
                let forgotten = client.force_leave(server, false).await;
                forgotten.map_err(|source| Error::Agent {
                    name: leader.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }
}

/// Finds the agent's binary: as given, or beside the operator's own, or on the path.
///
/// # Errors
/// Where it was looked for.
pub fn program(given: Option<&Path>) -> Result<PathBuf, String> {
    let runs = |path: &Path| {
        rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
    };
    let resolve = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(path) = given {
        return if runs(path) {
            Ok(resolve(path))
        } else {
            Err(format!(
                "{} is not a program that can be started; give the agent's binary with --agent",
                path.display()
            ))
        };
    }
    let own = std::env::current_exe().ok();
    let beside = own
        .as_ref()
        .and_then(|own| own.parent())
        .map(|dir| dir.join("agent"));
    if let Some(path) = beside.as_ref().filter(|path| runs(path)) {
        return Ok(resolve(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .map(|dir| dir.join("agent"))
        .find(|path| runs(path));
    on_path.map(|path| resolve(&path)).ok_or_else(|| {
        let beside = beside.map_or_else(String::new, |path| format!(" as {}", path.display()));
        format!("the agent's binary was not found{beside} or on PATH; build it with `cargo build -p agent`, or give it with --agent")
    })
}
