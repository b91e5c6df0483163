//! The handle on consensus: openraft behind a face of our own. No openraft type leaves this folder through it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft::type_config::alias::{InstantOf, WatchReceiverOf};
use openraft::{ChangeMembers, Config, Instant as _, Raft, ServerState, SnapshotPolicy};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::contacts::Contacts;
use super::identity::{self, Identity};
use super::inspect::Inspector;
use super::lease::Lease;
use super::log::{LogReader, LogStore, Room};
use super::network::{AddressBook, Factory, Shared as NetworkShared};
use super::recovery::QuorumRecovery;
use super::rounds::{Confirmations, Proposals};
use super::service::Service;
use super::snapshot::SnapshotStore;
use super::state_machine::StateMachine;
use super::status::{Status, StatusWatch};
use super::{PeerNode, RaftId, TypeConfig, compaction, log, recovery, snapshot, standing};
use crate::env::Env;
use crate::rpc::{Pool, Purpose};
use crate::state::{Outcome, Shared};

/// Times and sizes. Defaults and their reasons: `agent/DESIGN.md`, "What protects against false elections".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Time between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// Shortest time a follower waits after the leader's lease is over before it asks for votes.
    pub election_timeout_min: Duration,
    /// Longest such time, and the length of the lease.
    pub election_timeout_max: Duration,
    /// Entries after which a snapshot is taken, if the log has become as long as the last one by then.
    pub snapshot_threshold: u64,
    /// Entries that are kept behind a snapshot for followers that trail.
    pub trailing_logs: u64,
    /// Goes on alone after the loss of a quorum, if the log is the one that is named.
    pub recovery: Option<QuorumRecovery>,
}

impl Options {
    /// Defaults for `performance.raft_multiplier`, 1 (fastest) to 10. Consul's default, 5, is ours as well; 1 takes 0.6
    /// and 10 takes 1.5 of its times. Consul's own would be 5 s: slower by an order than what is safe here.
    pub fn with_multiplier(multiplier: u32) -> Self {
        let scaled = |ms: u64| Duration::from_millis(ms) * (multiplier + 5) / 10;
        Self {
            heartbeat: scaled(60),
            election_timeout_min: scaled(200),
            election_timeout_max: scaled(400),
            snapshot_threshold: 16384,
            trailing_logs: 10240,
            recovery: None,
        }
    }
}

/// Why consensus cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder cannot be made.
    #[error("cannot create {path}: {source}")]
    CreateFolder {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The identity cannot be read.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// `peers.json` cannot be followed.
    #[error(transparent)]
    Recovery(#[from] recovery::Error),
    /// openraft refuses what it was given.
    #[error("raft cannot start: {0}")]
    Raft(String),
}

/// Why a proposal or a read was not done here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another server leads, or none. Nothing was proposed.
    #[error("this server does not lead")]
    NotLeader,
    /// The entry may or may not have been committed.
    #[error("leadership was lost; the outcome is unknown")]
    Unknown,
    /// A change of the configuration is not possible now.
    #[error("{0}")]
    Refused(String),
    /// The disk is full, and why it seems so. Nothing was proposed.
    #[error("no room on the disk of this server: {0}")]
    NoRoom(String),
    /// Raft has stopped.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

/// A started Raft. Cloning is cheap.
#[derive(Clone)]
pub struct Consensus {
    raft: Raft<TypeConfig, StateMachine>,
    identity: Arc<Identity>,
    service: Arc<Service>,
    log_failed: watch::Receiver<Option<Arc<log::Error>>>,
    room: watch::Receiver<Room>,
    addresses: AddressBook,
    lease: Arc<Lease>,
    contacts: Arc<Contacts>,
    proposals: Arc<Proposals>,
    confirmations: Arc<Confirmations>,
    /// What the core says of itself, for looks that cost nothing.
    metrics: WatchReceiverOf<TypeConfig, openraft::RaftMetrics<TypeConfig>>,
    reader: LogReader,
    /// Held while the configuration is changed.
    changes: Arc<tokio::sync::Mutex<()>>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

impl Consensus {
    /// Opens what is in `folder` (`DATA/raft`) and starts Raft on it, without forming anything.
    pub async fn start(
        env: &Env,
        folder: &Path,
        options: Options,
        addresses: AddressBook,
        shared: Arc<Shared>,
    ) -> Result<Self, StartError> {
        let create = |source| StartError::CreateFolder {
            path: folder.to_owned(),
            source,
        };
        env.disk.create_dir_all(folder).map_err(create)?;
        let snapshots = Arc::new(SnapshotStore::open(
            env.disk.clone(),
            &folder.join("snapshots"),
        )?);
        let log_options = log::Options {
            nonce: env.random.next_u64(),
            ..log::Options::default()
        };
        let mut log = LogStore::open(env.disk.clone(), &folder.join("wal"), log_options)?;
        let has_data = is_written(&mut log).await? || snapshots.latest()?.is_some();
        let identity = Arc::new(Identity::open(env, folder, has_data)?);
        let log =
            recovery::recover(env, folder, &identity, log, &snapshots, options.recovery).await?;
        let (log_failed, room) = (log.failed(), log.room());
        let contacts = Arc::new(Contacts::default());
        let network = Factory(Arc::new(NetworkShared {
            env: env.clone(),
            identity: identity.clone(),
            addresses: addresses.clone(),
            votes: Pool::new(env.net.clone(), Purpose::Raft),
            contacts: contacts.clone(),
            timeout: options.election_timeout_max * 2,
        }));
        let machine = StateMachine::new(shared, snapshots.clone());
        let reader = log.reader();
        // It may have confirmed a leader just before it stopped.
        let barred = has_data.then_some(options.election_timeout_max);
        let config = Arc::new(
            config(options, barred.is_none())
                .validate()
                .map_err(|e| StartError::Raft(e.to_string()))?,
        );
        let raft = Raft::new(identity.raft_id(), config, network, log, machine)
            .await
            .map_err(|e| StartError::Raft(e.to_string()))?;
        let service = Service::new(
            identity.clone(),
            raft.clone(),
            room.clone(),
            snapshots.clone(),
            barred,
        );
        let standing = standing::follow(raft.clone(), room.clone(), barred);
        let threshold = options.snapshot_threshold;
        let compaction = compaction::follow(raft.clone(), reader.clone(), snapshots, threshold);
        let tasks = [tokio::spawn(standing), tokio::spawn(compaction)];
        Ok(Self {
            metrics: raft.metrics(),
            reader,
            proposals: Proposals::new(raft.clone()),
            confirmations: Confirmations::new(raft.clone(), contacts.clone()),
            contacts,
            raft,
            identity,
            service: Arc::new(service),
            log_failed,
            room,
            _tasks: Arc::new(tasks.map(AbortOnDropHandle::new)),
            addresses,
            lease: Arc::new(Lease::new(options.election_timeout_max)),
            changes: Arc::default(),
        })
    }

    /// Who this server is to Raft.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Takes messages of other servers.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Whether there is any Raft state: a vote, a log or a snapshot that makes this server part of a cluster.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        self.raft
            .is_initialized()
            .await
            .map_err(|e| Error::Stopped(e.to_string()))
    }

    /// Forms a cluster of `members`, this server among them. On a pristine server only.
    pub async fn form(&self, members: BTreeMap<RaftId, PeerNode>) -> Result<(), Error> {
        self.raft
            .initialize(members)
            .await
            .map_err(|e| Error::Refused(e.to_string()))
    }

    /// Where this server stands. Copies much: for whoever looks at it as a whole, not for each request.
    pub fn status(&self) -> Status {
        Status::of(&self.metrics.borrow_watched(), self.reader.last())
    }

    /// One who looks at log and beliefs from outside.
    pub fn inspector(&self) -> Inspector {
        let metrics = self.raft.metrics();
        Inspector::new(self.identity.clone(), metrics, self.reader.clone())
    }

    /// Whether this server leads, as far as it knows. One that can write nothing at all, votes included, does not.
    pub fn leads(&self) -> bool {
        self.metrics.borrow_watched().state == ServerState::Leader && !self.is_blocked()
    }

    /// Who leads, as far as this server knows.
    pub fn leader(&self) -> Option<RaftId> {
        let leader = self.metrics.borrow_watched().current_leader;
        leader.filter(|id| *id != self.identity.raft_id() || !self.is_blocked())
    }

    /// What the log's disk lacks room for.
    pub fn room(&self) -> watch::Receiver<Room> {
        self.room.clone()
    }

    fn is_blocked(&self) -> bool {
        self.room.borrow().is_blocked()
    }

    /// Refuses what would become entries while there is no room for them.
    fn check_room(&self) -> Result<(), Error> {
        match self.room.borrow().lacking() {
            Some(why) => Err(Error::NoRoom(why.to_owned())),
            None => Ok(()),
        }
    }

    /// Where the leader is: as gossip has it, else as the configuration has it.
    pub fn leader_address(&self) -> Option<std::net::SocketAddr> {
        let leader = self.leader()?;
        let metrics = self.metrics.borrow_watched();
        let known = self.addresses.load().get(&leader).copied();
        known.or_else(|| Some(metrics.membership_config.get_node(&leader)?.addr))
    }

    /// Calls `check` now and after every change of the status until it gives a value.
    pub async fn wait_until<T>(&self, mut check: impl FnMut(&Status) -> Option<T>) -> T {
        let mut metrics = self.raft.metrics();
        loop {
            // Marks the present value as seen before it is read, so that no change is missed between the two.
            drop(metrics.borrow_and_update());
            let seen = check(&self.status());
            if let Some(found) = seen {
                return found;
            }
            if metrics.changed().await.is_err() {
                // Raft is gone: nothing will change any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Where a server of the configuration is: as gossip has it, else as the configuration has it.
    pub fn address(&self, id: RaftId, status: &Status) -> Option<std::net::SocketAddr> {
        let known = self.addresses.load().get(&id).copied();
        known.or_else(|| status.peers.get(&id).map(|node| node.addr))
    }

    /// How long ago the leader was last heard of; zero on the leader itself, `None` when there never was one.
    pub fn last_contact(&self) -> Option<Duration> {
        // Also one that waits for room on its disk: it has what it had.
        if self.metrics.borrow_watched().state == ServerState::Leader {
            return Some(Duration::ZERO);
        }
        self.service.last_append().map(|at| at.elapsed())
    }

    /// Follows changes of the status from now on.
    pub fn watch(&self) -> StatusWatch {
        StatusWatch::new(&self.raft)
    }

    /// Waits until the log cannot be written any more, and says why. The process must then stop.
    pub async fn failure(&self) -> String {
        let mut failed = self.log_failed.clone();
        let log = async {
            loop {
                if let Some(why) = failed.borrow_and_update().clone() {
                    return why.to_string();
                }
                if failed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            why = log => why,
            why = self.fatal() => why,
        }
    }

    /// Waits until Raft has stopped by itself.
    async fn fatal(&self) -> String {
        // Closed as the last thing that the core does, after it has said why.
        let mut core = self.raft.server_metrics();
        while core.changed().await.is_ok() {}
        let state = self.metrics.borrow_watched().running_state.clone();
        match state {
            Err(fatal) => fatal.to_string(),
            Ok(()) => std::future::pending().await,
        }
    }

    /// Proposes an encoded command; its outcome once it is committed and applied here.
    ///
    /// Not cancel safe: a dropped call may still be committed.
    pub async fn propose(&self, command: Bytes) -> Result<Outcome, Error> {
        self.check_room()?;
        self.proposals.propose(command).await
    }

    /// Makes sure that this server leads, and that its state holds every write acknowledged before the call.
    ///
    /// With `quorum`, by asking a quorum; else by the lease where it lasts (see `raft/lease.rs`).
    pub async fn linearize(&self, quorum: bool) -> Result<(), Error> {
        if !quorum && self.leased(|| ()).is_some() {
            return Ok(());
        }
        self.confirmations.confirm().await
    }

    /// What `view` makes of the state, if it holds every write acknowledged before the call; `None` when only
    /// [`Consensus::linearize`] can tell. Asks nobody and waits for nothing.
    pub fn leased<T>(&self, view: impl FnOnce() -> T) -> Option<T> {
        let hold = self
            .lease
            .hold(&self.metrics.borrow_watched(), &self.contacts)?;
        let view = view();
        // In this order: while the lease lasts nobody else can have acknowledged anything, so that what was made
        // before this moment is not stale.
        let now = InstantOf::<TypeConfig>::now();
        self.lease.lasts(&hold, now).then_some(view)
    }

    fn term(&self) -> u64 {
        self.metrics.borrow_watched().current_term
    }

    /// Adds a server without a vote, or changes what the configuration says of one.
    ///
    /// The log is cut behind a fresh snapshot first, so that a configuration of one voter is in nobody's history
    /// (DESIGN.md section 1, rule 7).
    pub async fn add_learner(&self, id: RaftId, node: PeerNode) -> Result<(), Error> {
        self.cut_log().await?;
        let nodes = BTreeMap::from([(id, node)]);
        self.change(ChangeMembers::AddNodes(nodes)).await
    }

    /// Changes the address or name of a server in the configuration.
    pub async fn set_node(&self, id: RaftId, node: PeerNode) -> Result<(), Error> {
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, node)])))
            .await
    }

    /// Gives a learner its vote.
    pub async fn promote(&self, id: RaftId) -> Result<(), Error> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])))
            .await
    }

    /// Removes a server from the configuration.
    pub async fn remove(&self, id: RaftId) -> Result<(), Error> {
        if self.status().voters.contains(&id) {
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])))
                .await?;
        }
        if self.status().peers.contains_key(&id) {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])))
                .await?;
        }
        Ok(())
    }

    /// Finishes a change of the configuration that a former leader left half done; `false`: there is none.
    pub async fn finish_joint(&self) -> Result<bool, Error> {
        let turn = self.changes.lock().await;
        // What looked half done may have been under way.
        if !self.status().joint {
            return Ok(false);
        }
        let nobody = ChangeMembers::AddVoterIds(BTreeSet::new());
        self.change_in_turn(nobody, &turn).await?;
        Ok(true)
    }

    async fn change(&self, change: ChangeMembers<RaftId, PeerNode>) -> Result<(), Error> {
        let turn = self.changes.lock().await;
        self.change_in_turn(change, &turn).await
    }

    /// One at a time: a change of voters is two entries, and the second must follow the first. Whoever began it does
    /// that, and would fail if somebody else, who sees the first, did it too.
    async fn change_in_turn(
        &self,
        change: ChangeMembers<RaftId, PeerNode>,
        _turn: &tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<(), Error> {
        self.check_room()?;
        // Voters that are removed do not stay as learners.
        self.raft
            .change_membership(change, false)
            .await
            .map_err(write_error)?;
        Ok(())
    }

    /// Takes a snapshot of what is committed and purges the log up to it, unless that was done for the present
    /// configuration already.
    async fn cut_log(&self) -> Result<(), Error> {
        let status = self.status();
        if status
            .purged
            .is_some_and(|purged| purged >= status.membership_index)
        {
            return Ok(());
        }
        let stopped = |fatal| stopped(&fatal);
        let beyond = status.membership_index;
        self.raft.trigger().snapshot().await.map_err(stopped)?;
        let upto = self
            .wait_until(|status| match status.snapshot {
                Some((index, _)) if index >= beyond => Some(Some(index)),
                _ => (!status.is_leader()).then_some(None),
            })
            .await
            .ok_or(Error::NotLeader)?;
        self.raft.trigger().purge_log(upto).await.map_err(stopped)?;
        self.wait_until(|status| {
            (status.purged.is_some_and(|purged| purged >= upto) || !status.is_leader())
                .then_some(())
        })
        .await;
        Ok(())
    }

    /// Asks `to` to take over. Returns when this server no longer leads, or an error after `timeout`.
    pub async fn transfer_leader(&self, to: RaftId, timeout: Duration) -> Result<(), Error> {
        // The others may elect the next leader while this one's lease would still last.
        self.lease.waive(self.term());
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|e| Error::Stopped(e.to_string()))?;
        let done = self.wait_until(|status| (!status.is_leader()).then_some(()));
        tokio::time::timeout(timeout, done).await.map_err(|_| {
            Error::Refused(format!("server {to} did not take over within {timeout:?}"))
        })
    }

    /// Stops Raft. What is on disk stays; nothing is announced to anybody.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(target: "raft", "raft did not stop cleanly: {error}");
        }
    }
}

/// Whether a log holds anything that other servers may have heard of.
async fn is_written(log: &mut LogStore) -> Result<bool, StartError> {
    let failed = |e: std::io::Error| StartError::Raft(e.to_string());
    let state = log.get_log_state().await.map_err(failed)?;
    let vote = log
        .get_log_reader()
        .await
        .read_vote()
        .await
        .map_err(failed)?;
    Ok(state.last_log_id.is_some() || vote.is_some())
}

pub(super) fn stopped(fatal: &Fatal<TypeConfig>) -> Error {
    Error::Stopped(fatal.to_string())
}

pub(super) fn write_error(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Error::NotLeader,
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Error::Unknown,
        RaftError::APIError(other) => Error::Refused(other.to_string()),
        RaftError::Fatal(fatal) => Error::Stopped(fatal.to_string()),
    }
}

fn config(options: Options, elect: bool) -> Config {
    let ms = |duration: Duration| duration.as_millis() as u64;
    Config {
        cluster_name: "consul".to_owned(),
        heartbeat_interval: ms(options.heartbeat),
        election_timeout_min: ms(options.election_timeout_min),
        election_timeout_max: ms(options.election_timeout_max),
        install_snapshot_timeout: 60_000,
        // See `raft/compaction.rs`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: options.trailing_logs,
        purge_batch_size: 256,
        replication_lag_threshold: options.snapshot_threshold.max(options.trailing_logs),
        enable_elect: elect,
        enable_pre_vote: Some(true),
        // On by default, and unsafe: a leader sends entries while it still writes them. Killed in between and leading
        // again in the same term, it puts other entries under the same log ids, which followers take for those that
        // they have; logs then differ for ever (found by killing leaders under load).
        enable_leader_restore: Some(false),
        // openraft sets these queues aside in full, 400 bytes a place: its defaults of 65536 are 26 MB of an idle
        // server. When they are full, callers wait.
        api_channel_size: Some(2048),
        notification_channel_size: Some(1024),
        backoff: "20ms 40ms 80ms ...500ms".to_owned(),
        ..Config::default()
    }
}
