//! Where a server stands in Raft, and news of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Instant as _, Raft, RaftMetrics, ServerState};

use super::state_machine::StateMachine;
use super::types::LogId;
use super::{PeerNode, RaftId, TypeConfig};

/// A server's part in Raft at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not a voter (yet).
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Shutdown,
}

impl fmt::Display for Role {
    /// The names of Consul's `raft.state`; a learner is what Consul calls a follower without a vote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Learner | Role::Follower => "Follower",
            Role::Candidate => "Candidate",
            Role::Leader => "Leader",
            Role::Shutdown => "Shutdown",
        })
    }
}

/// Where a server stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// Own id.
    pub id: RaftId,
    /// Own part.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Who leads, as far as this server knows.
    pub leader: Option<RaftId>,
    /// Last index in the log; 0 when it is empty.
    pub last_index: u64,
    /// Term of the last entry that is known to be committed.
    pub last_term: u64,
    /// Term of the last entry of the log, committed or not: with [`Self::last_index`] it says whose log has most.
    pub log_term: u64,
    /// Last index known to be committed; 0 for none.
    pub commit_index: u64,
    /// Last index that a quorum has, as far as this server was told, whether or not it has it itself; 0 for none.
    pub cluster_commit_index: u64,
    /// Last index applied; 0 for none.
    pub applied_index: u64,
    /// Index and term of the newest snapshot.
    pub snapshot: Option<(u64, u64)>,
    /// Last index that was purged from the log.
    pub purged: Option<u64>,
    /// The servers of the configuration.
    pub peers: BTreeMap<RaftId, PeerNode>,
    /// Those that vote.
    pub voters: BTreeSet<RaftId>,
    /// Whether the configuration is committed.
    pub membership_committed: bool,
    /// Whether the configuration is a joint one.
    pub joint: bool,
    /// Index of the entry that set the configuration.
    pub membership_index: u64,
    /// On the leader: the last index known to be on each other server that has answered.
    pub matched: BTreeMap<RaftId, u64>,
    /// On the leader: the term of the entry at that index.
    pub matched_terms: BTreeMap<RaftId, u64>,
    /// On the leader: how long ago each other server's last answer was asked for.
    pub contacts: BTreeMap<RaftId, Duration>,
    /// Why Raft has stopped, if it has.
    pub failed: Option<String>,
}

impl Status {
    /// `last` is the log's last entry, of which the metrics tell the index only.
    pub(super) fn of(metrics: &RaftMetrics<TypeConfig>, last: Option<LogId>) -> Self {
        let membership = &metrics.membership_config;
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        Self {
            id: metrics.id,
            role: match metrics.state {
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Shutdown,
            },
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_index: metrics.last_log_index.unwrap_or(0),
            last_term: metrics.local_committed.map_or(0, |id| id.leader_id.term),
            log_term: last.map_or(0, |id| id.leader_id.term),
            commit_index: index(metrics.local_committed),
            cluster_commit_index: index(metrics.cluster_committed),
            applied_index: index(metrics.last_applied),
            snapshot: metrics.snapshot.map(|id| (id.index, id.leader_id.term)),
            purged: metrics.purged.map(|id| id.index),
            peers: membership
                .nodes()
                .map(|(id, node)| (*id, node.clone()))
                .collect(),
            voters: membership.voter_ids().collect(),
            membership_committed: membership.log_id()
                == metrics.committed_membership_config.log_id(),
            joint: membership.get_joint_config().len() > 1,
            membership_index: index(*membership.log_id()),
            matched: metrics
                .replication
                .iter()
                .flatten()
                .filter_map(|(id, matched)| Some((*id, (*matched)?.index)))
                .collect(),
            matched_terms: metrics
                .replication
                .iter()
                .flatten()
                .filter_map(|(id, matched)| Some((*id, (*matched)?.leader_id.term)))
                .collect(),
            contacts: metrics
                .heartbeat
                .iter()
                .flatten()
                .filter_map(|(id, acked)| Some((*id, (*acked)?.elapsed())))
                .collect(),
            failed: metrics
                .running_state
                .as_ref()
                .err()
                .map(|fatal| fatal.to_string()),
        }
    }

    /// A leader without peers whose log ends here.
    #[cfg(test)]
    pub(crate) fn of_leader(id: RaftId, term: u64, last_index: u64) -> Self {
        Self {
            id,
            role: Role::Leader,
            term,
            leader: Some(id),
            last_index,
            last_term: term,
            log_term: term,
            commit_index: last_index,
            cluster_commit_index: last_index,
            applied_index: last_index,
            snapshot: None,
            purged: None,
            peers: BTreeMap::new(),
            voters: BTreeSet::new(),
            membership_committed: true,
            joint: false,
            membership_index: 1,
            matched: BTreeMap::new(),
            matched_terms: BTreeMap::new(),
            contacts: BTreeMap::new(),
            failed: None,
        }
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Whether nothing is under way that replication moves on: every server votes, in a committed configuration.
    pub fn is_settled(&self) -> bool {
        self.membership_committed && !self.joint && self.peers.len() == self.voters.len()
    }

    /// The voter that is furthest ahead, other than this server; `None` when there is none that has answered.
    pub fn successor(&self) -> Option<RaftId> {
        let others = self.voters.iter().copied().filter(|id| *id != self.id);
        // The higher id among equals: any rule does, as long as it is one.
        others
            .filter_map(|id| Some((*self.matched.get(&id)?, id)))
            .max()
            .map(|(_, id)| id)
    }

    /// Voters other than this server, Consul's `num_peers`.
    pub fn other_voters(&self) -> usize {
        self.voters.iter().filter(|id| **id != self.id).count()
    }
}

/// Follows changes of the [`Status`].
pub struct StatusWatch {
    all: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    standing: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
}

impl StatusWatch {
    pub(super) fn new(raft: &Raft<TypeConfig, StateMachine>) -> Self {
        let (mut all, mut standing) = (raft.metrics(), raft.server_metrics());
        // New receivers have seen nothing: without this the first wait would be none.
        drop(all.borrow_and_update());
        drop(standing.borrow_and_update());
        Self { all, standing }
    }

    /// Waits for the next change of anything, the log's growth included; `false` when Raft is gone. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        self.all.changed().await.is_ok()
    }

    /// Waits until another server leads, or the configuration or the own part has changed; `false` when Raft is gone.
    /// Under load the log grows thousands of times a second, which is nobody's news but the log's. Cancel safe.
    pub async fn standing_changed(&mut self) -> bool {
        if self.standing.changed().await.is_err() {
            return false;
        }
        // The core tells one after the other: whoever looks at the status next must find the same there.
        loop {
            {
                let all = self.all.borrow_and_update();
                let standing = self.standing.borrow_and_update();
                if all.vote == standing.vote
                    && all.state == standing.state
                    && all.current_leader == standing.current_leader
                    && all.membership_config == standing.membership_config
                    && all.committed_membership_config == standing.committed_membership_config
                {
                    return true;
                }
            }
            if self.all.changed().await.is_err() {
                return false;
            }
        }
    }
}
