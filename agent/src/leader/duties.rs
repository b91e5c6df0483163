//! The loop around the leader's decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::acl::{AclDuty, KNOWS_ACL};
use super::autopilot::Stability;
use super::catalog;
use super::peers::{Change, Policy, Stranger, View, Why, next_change, server_addr, strangers};
use super::places::PendingPlaces;
use super::session_timers::SessionTimers;
use super::timings::{Timings, Work};
use super::upkeep::Upkeep;
use crate::ca;
use crate::config::Connect;
use crate::env::Env;
use crate::gossip::{self, Gossip, Member};
use crate::raft::{self, Consensus, RaftId, Status};
use crate::state::{
    Autopilot, CaStep, Command, ConfigEntry, EntryStep, Outcome, Shared, Stamped, VirtualStep,
};

/// Time between two looks when nothing says that something has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Pause after a change that could not be made.
const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// Time between two looks for tokens whose time is over. They do not count any more anyway.
const TOKEN_ROUND: Duration = Duration::from_secs(30);

/// Time between two lines about the same stranger.
const REMIND: Duration = Duration::from_secs(60);

/// Tag of servers that understand the commands of the service mesh, which a leader writes by itself.
pub const KNOWS_MESH: &str = "ft_mesh";

/// Tag of servers that can sign with the key of an intermediate certificate, in a datacenter that has a primary.
pub const KNOWS_INTERMEDIATE: &str = "ft_intermediate";

/// Everything that the leader works with.
pub struct Duties {
    /// Clock for stamps.
    pub env: Env,
    /// Members.
    pub gossip: Gossip,
    /// Peers, and where commands go.
    pub consensus: Consensus,
    /// The catalog.
    pub shared: Arc<Shared>,
    /// Own datacenter.
    pub datacenter: String,
    /// Own node name.
    pub name: String,
    /// Whether this server carries `-bootstrap`.
    pub bootstrap: bool,
    /// What autopilot's settings become if nobody has set them yet.
    pub autopilot: Autopilot,
    /// Config entries to be written when there are none of their kind and name.
    pub entries: Vec<ConfigEntry>,
    /// What is remembered of the servers' health.
    pub stability: Arc<Mutex<Stability>>,
    /// Times of sessions, which renewals start anew.
    pub timers: Arc<SessionTimers>,
    /// Where nodes say that they are.
    pub places: Arc<PendingPlaces>,
    /// Whether there is a certificate authority, and how it begins.
    pub connect: Connect,
    /// Whether its roots are another datacenter's, so that nothing begins or ends here.
    pub is_secondary: bool,
    /// What it does for tokens.
    pub acl: Arc<AclDuty>,
    /// How long all of it takes.
    pub timings: Arc<Timings>,
}

/// What a leader remembers from one look to the next; a new leader starts afresh.
struct Memory {
    /// When each stranger was last reported.
    reported: BTreeMap<Stranger, Instant>,
    /// Since when each learner has been caught up.
    caught_up: BTreeMap<RaftId, Instant>,
    /// How many of the configured entries have been seen to.
    entries_done: usize,
    /// What has a time.
    upkeep: Upkeep,
    /// Why there is no certificate authority, when that was last said.
    no_ca: Option<ca::Error>,
    /// When to look for tokens whose time is over.
    tokens_at: Instant,
    /// Bootstrap of tokens after which the one of the configuration was looked for.
    first_token: Option<u64>,
}

impl Memory {
    fn new(timers: Arc<SessionTimers>, places: Arc<PendingPlaces>) -> Self {
        Self {
            reported: BTreeMap::new(),
            caught_up: BTreeMap::new(),
            entries_done: 0,
            upkeep: Upkeep::start(timers, places, Instant::now()),
            no_ca: None,
            tokens_at: Instant::now(),
            first_token: None,
        }
    }

    /// Learners that are caught up, but not for long enough.
    fn unstable(
        &mut self,
        view: &View<'_>,
        policy: &Policy,
        long_enough: Duration,
    ) -> BTreeSet<RaftId> {
        let now = Instant::now();
        let ready = |id: &RaftId| !view.voters.contains(id) && view.caught_up(*id, policy);
        self.caught_up.retain(|id, _| ready(id));
        for id in view.peers.keys().filter(|id| ready(id)) {
            self.caught_up.entry(*id).or_insert(now);
        }
        let young = |since: &Instant| now.duration_since(*since) < long_enough;
        self.caught_up
            .iter()
            .filter(|(_, since)| young(since))
            .map(|(id, _)| *id)
            .collect()
    }
}

impl Duties {
    /// Does the leader's work whenever this server leads. Ends when Raft is gone.
    pub async fn run(self) {
        let mut status = self.consensus.watch();
        loop {
            if self.consensus.leads() {
                tracing::info!(target: "consul", "cluster leadership acquired");
                tracing::info!(target: "consul", "New leader elected: payload={}", self.name);
                *self
                    .stability
                    .lock()
                    .expect("no code panics while it holds this lock") = Stability::default();
                self.lead().await;
                tracing::info!(target: "consul", "cluster leadership lost");
            }
            if !status.standing_changed().await {
                return;
            }
        }
    }

    async fn lead(&self) {
        let mut status = self.consensus.watch();
        let mut progress = self.consensus.watch();
        let mut members = self.gossip.watch();
        let mut memory = Memory::new(self.timers.clone(), self.places.clone());
        let _barrier = self.measure_barrier();
        let mut begun = Instant::now();
        loop {
            members.mark_unchanged();
            let now = self.consensus.status();
            if !now.is_leader() {
                return;
            }
            match self.work(&now, &mut memory).await {
                Ok(true) => continue,
                Ok(false) => self.timings.record(Work::Reconcile, begun),
                Err(raft::Error::Stopped(_)) => return,
                // Somebody else will lead soon, or there will be room.
                Err(raft::Error::NoRoom(_)) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                Err(error) => {
                    if let raft::Error::Refused(why) = &error {
                        tracing::warn!(target: "consul", "failed to follow the members, will retry: {why}");
                    }
                    // Not cut short by news: a new leader is refused until a quorum has heard of it, and each refusal
                    // is news.
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            }
            tokio::select! {
                _ = members.changed() => {}
                alive = status.standing_changed() => if !alive { return },
                // Of the log only while somebody catches up.
                alive = progress.changed(), if !now.is_settled() => if !alive { return },
                () = tokio::time::sleep_until(memory.upkeep.next_time().min(Instant::now() + LOOK_AGAIN)) => {}
            }
            begun = Instant::now();
        }
    }

    /// Measures how long it takes until this leader's state holds all that was acknowledged before it. Nothing waits for that.
    fn measure_barrier(&self) -> AbortOnDropHandle<()> {
        let (consensus, timings) = (self.consensus.clone(), self.timings.clone());
        let begun = Instant::now();
        AbortOnDropHandle::new(tokio::spawn(async move {
            if consensus.linearize(false).await.is_ok() {
                timings.record(Work::Barrier, begun);
            }
        }))
    }

    /// Makes one change, if there is one to make; true when it did, so that the next look is at a fresh view.
    async fn work(&self, status: &Status, memory: &mut Memory) -> Result<bool, raft::Error> {
        let Some(cluster) = self.consensus.identity().cluster() else {
            return Ok(false);
        };
        let members = self.gossip.members();
        let set = self.shared.load().autopilot().cloned();
        let autopilot = set.as_ref().unwrap_or(&self.autopilot);
        let policy = Policy::of(autopilot);
        // Looked at every second at least, so that it is known since when everybody is well.
        self.stability
            .lock()
            .expect("no code panics while it holds this lock")
            .judge(status, &members, autopilot, self.env.clock.unix_ms());
        let none = BTreeSet::new();
        let mut view = View {
            cluster,
            datacenter: &self.datacenter,
            own: status.id,
            members: &members,
            peers: &status.peers,
            voters: &status.voters,
            joint: status.joint,
            last_index: status.last_index,
            matched: &status.matched,
            unstable: &none,
        };
        let unstable = memory.unstable(&view, &policy, autopilot.server_stabilization_time);
        view.unstable = &unstable;
        self.report(strangers(&view), cluster, &mut memory.reported);
        if let Some(first) = self.first_command(cluster) {
            self.propose(first).await?;
            return Ok(true);
        }
        if let Some(command) = self.acl_command(&members, memory) {
            self.propose(command).await?;
            return Ok(true);
        }
        if knows(&members, KNOWS_MESH) && self.look_after_mesh(cluster, memory).await? {
            return Ok(true);
        }
        if status.membership_committed
            && let Some(change) = next_change(&view, &policy)
        {
            self.apply(change).await?;
            return Ok(true);
        }
        if let Some(command) =
            catalog::next_command(&members, &self.datacenter, &self.shared.load())
        {
            let begun = Instant::now();
            self.propose(command).await?;
            self.timings.record(Work::ReconcileMember, begun);
            return Ok(true);
        }
        self.end_what_is_due(memory).await
    }

    /// Ends what has a time, if any of it is over. Whether something was done.
    async fn end_what_is_due(&self, memory: &mut Memory) -> Result<bool, raft::Error> {
        let due = memory.upkeep.next_command(
            &self.shared.load(),
            Instant::now(),
            self.env.clock.unix_ms(),
        );
        let Some(command) = due else {
            return Ok(false);
        };
        let begun = Instant::now();
        let reaps = matches!(command, Command::ReapTombstones { .. });
        self.propose(command).await?;
        if reaps {
            self.timings.record(Work::ReapTombstones, begun);
        }
        Ok(true)
    }

    /// What every cluster's state begins with, as far as it is not there yet.
    fn first_command(&self, cluster: Uuid) -> Option<Command> {
        let store = self.shared.load();
        // The state names its cluster, so that a snapshot or a copy of it can be told apart from a stranger's.
        if store.cluster_id() != Some(cluster) {
            return Some(Command::SetClusterId(cluster));
        }
        let first = || Command::SetAutopilot {
            config: Box::new(self.autopilot.clone()),
            cas: Some(0),
        };
        store.autopilot().is_none().then(first)
    }

    /// What is due of tokens: the first one, and those whose time is over.
    fn acl_command(&self, members: &[Arc<Member>], memory: &mut Memory) -> Option<Command> {
        let store = self.shared.load();
        self.acl.note(knows(members, KNOWS_ACL));
        let now = Instant::now();
        let look = memory.tokens_at <= now;
        let step = self.acl.next_step(
            store.acl(),
            self.env.clock.unix_ms(),
            look,
            &*self.env.random,
            &mut memory.first_token,
        );
        if look && step.is_none() {
            memory.tokens_at = now + TOKEN_ROUND;
        }
        step.map(Command::Acl)
    }

    /// What is due of the service mesh: its addresses, entries of the configuration, its certificate authority. Whether
    /// something was done.
    async fn look_after_mesh(
        &self,
        cluster: Uuid,
        memory: &mut Memory,
    ) -> Result<bool, raft::Error> {
        if !self.shared.load().has_virtual_ips() {
            self.propose(Command::Virtual(VirtualStep::Begin)).await?;
            return Ok(true);
        }
        if let Some(entry) = self.entries.get(memory.entries_done) {
            self.bootstrap(entry).await?;
            memory.entries_done += 1;
            return Ok(true);
        }
        if let Some((step, done)) = self.ca_step(cluster, &mut memory.no_ca) {
            self.propose(Command::Ca(step)).await?;
            tracing::info!(target: "connect", "{done}");
            return Ok(true);
        }
        Ok(false)
    }

    /// Writes a configured entry, unless there is one; then, or when it does not fit the others, nothing changes.
    async fn bootstrap(&self, entry: &ConfigEntry) -> Result<(), raft::Error> {
        if self.shared.load().entry(&entry.kind, &entry.name).is_some() {
            return Ok(());
        }
        let step = EntryStep::Set {
            entry: Box::new(entry.clone()),
            cas: Some(0),
        };
        let stamped = Stamped {
            unix_ms: self.env.clock.unix_ms(),
            command: Command::CheckedEntry(step),
        };
        let (kind, name) = (&entry.kind, &entry.name);
        match self.consensus.propose(stamped.encode()).await? {
            Outcome::Error { text, .. } => tracing::error!(
                target: "consul",
                "failed to apply configuration entry {kind:?} / {name:?} of config_entries.bootstrap: {text}"
            ),
            _ => {
                tracing::info!(target: "consul", "applied configuration entry: kind={kind} name={name}")
            }
        }
        Ok(())
    }

    /// What is due of the certificate authority, and what to say of it then: its first root, or the end of an old one.
    fn ca_step(
        &self,
        cluster: Uuid,
        said: &mut Option<ca::Error>,
    ) -> Option<(CaStep, &'static str)> {
        if !self.connect.enabled || self.is_secondary {
            return None;
        }
        let (store, now_ms) = (self.shared.load(), self.env.clock.unix_ms());
        if store.ca_config().is_some() {
            let step = ca::due(&store, now_ms)?;
            return Some((step, "pruned old unused root CA"));
        }
        match ca::first(&self.connect.ca, cluster, now_ms, &*self.env.random) {
            Ok(step) => Some((
                step,
                "initialized primary datacenter CA with provider: provider=consul",
            )),
            Err(error) => {
                if said.as_ref() != Some(&error) {
                    tracing::error!(target: "connect", "Failed to initialize Connect CA: {error}");
                    *said = Some(error);
                }
                None
            }
        }
    }

    async fn propose(&self, command: Command) -> Result<(), raft::Error> {
        let stamped = Stamped {
            unix_ms: self.env.clock.unix_ms(),
            command,
        };
        self.consensus.propose(stamped.encode()).await?;
        Ok(())
    }

    async fn apply(&self, change: Change) -> Result<(), raft::Error> {
        match change {
            Change::FinishJoint => {
                if self.consensus.finish_joint().await? {
                    tracing::warn!(target: "raft", "finished a change of the configuration that a former leader began");
                }
                Ok(())
            }
            Change::AddLearner { id, node } => {
                self.consensus.add_learner(id, node.clone()).await?;
                tracing::info!(target: "raft", "Added peer {}, starting replication", node.addr);
                Ok(())
            }
            Change::Promote { id, node } => {
                self.consensus.promote(id).await?;
                tracing::info!(target: "raft", "Promoted peer {} to voter", node.addr);
                Ok(())
            }
            Change::SetAddress { id, node } => {
                self.consensus.set_node(id, node.clone()).await?;
                tracing::info!(target: "raft", "Updated peer {} to address {}", node.name, node.addr);
                Ok(())
            }
            Change::Remove { id, node, why } => {
                self.consensus.remove(id).await?;
                let why = match why {
                    Why::Left => "it left",
                    Why::Replaced => "the node is back with an empty raft folder",
                    Why::Failed => "it failed, and the others are safer without it",
                };
                tracing::info!(target: "raft", "Removed peer {}", node.addr);
                tracing::info!(target: "consul", "removed server: node={} reason=\"{why}\"", node.name);
                Ok(())
            }
        }
    }

    fn report(&self, found: Vec<Stranger>, own: Uuid, reported: &mut BTreeMap<Stranger, Instant>) {
        reported.retain(|stranger, _| found.contains(stranger));
        let now = Instant::now();
        for stranger in found {
            if reported
                .get(&stranger)
                .is_some_and(|at| now.duration_since(*at) < REMIND)
            {
                continue;
            }
            let Stranger {
                name,
                addr,
                cluster,
                bootstrap,
            } = &stranger;
            if *bootstrap && self.bootstrap {
                tracing::error!(
                    target: "consul",
                    "Two nodes are in bootstrap mode. Only one node should be in bootstrap mode, not adding Raft peer.: \
                     node_to_add={name} other={}", self.name
                );
            }
            tracing::error!(
                target: "consul",
                "Member {name} ({addr}) belongs to another cluster, not adding Raft peer: its_cluster={cluster} \
                 own_cluster={own}; to take it in, stop it, move its raft folder aside, start it without -bootstrap, join"
            );
            reported.insert(stranger, now);
        }
    }
}

/// Whether every server that lives understands some commands, of which it has the tag. One of before stops at a command that
/// it does not know, as it would while a cluster is being upgraded.
pub(crate) fn knows(members: &[Arc<Member>], tag: &str) -> bool {
    members
        .iter()
        .filter(|m| m.status == gossip::Status::Alive && server_addr(m).is_some())
        .all(|m| m.tags.contains_key(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::Status;

    fn member(tags: &[&str], status: Status) -> Arc<Member> {
        let tags = tags
            .iter()
            .map(|tag| ((*tag).to_owned(), "8300".to_owned()));
        Arc::new(Member {
            name: "m".into(),
            id: Uuid::nil(),
            addr: ([127, 0, 0, 1], 8301).into(),
            generation: 0,
            status,
            tags: tags.collect(),
        })
    }

    #[test]
    fn one_living_server_of_before_holds_the_mesh_up() {
        let new = || member(&["port", KNOWS_MESH], Status::Alive);
        let old = |status| member(&["port"], status);
        let client = || member(&[], Status::Alive);
        let know_mesh = |members: &[Arc<Member>]| knows(members, KNOWS_MESH);
        assert!(know_mesh(&[new(), client(), old(Status::Left)]));
        assert!(!know_mesh(&[new(), old(Status::Alive)]));
    }
}
