//! What a server's Raft has and believes, for those who check Raft's rules from outside: simulations and tests.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{RaftMetrics, ServerState};
use uuid::Uuid;

use super::codec::encode_entry;
use super::identity::Identity;
use super::log::{LogReader, Seen};
use super::types::{Entry, LogId};
use super::{RaftId, TypeConfig};

/// Where an entry is in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The term that it was proposed in.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// An entry, as short as one can be told from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Where it is.
    pub position: Position,
    /// Of its encoding: equal for equal entries.
    pub digest: u64,
}

/// What a server believes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Belief {
    /// The current term.
    pub term: u64,
    /// Whether it leads in it.
    pub leads: bool,
    /// Last index of its log that it knows to be committed; 0 for none.
    pub committed: u64,
    /// On a leader: last index that it takes a quorum to have; 0 for none.
    pub replicated: u64,
    /// Last index applied; 0 for none.
    pub applied: u64,
    /// The voters of its configuration; two sets while it is a joint one.
    pub voters: Vec<BTreeSet<RaftId>>,
}

/// What is new in a server's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogNews {
    /// The last entry that is purged.
    pub purged: Option<Position>,
    /// `entries` is all that the log has, and what was told before is void.
    pub anew: bool,
    /// In order, without gaps.
    pub entries: Vec<Mark>,
    /// Index of the first entry that is not on disk yet, or of the next one when all are.
    pub written: u64,
}

/// What has changed since the last look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// The server.
    pub id: RaftId,
    /// The cluster that it belongs to.
    pub cluster: Option<Uuid>,
    /// What it believes now.
    pub belief: Belief,
    /// What its log has got; `None` for nothing.
    pub log: Option<LogNews>,
}

/// Looks at one server again and again. Costs little where nothing has changed.
pub struct Inspector {
    identity: Arc<Identity>,
    metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    reader: LogReader,
    seen: Seen,
    /// What was told last.
    told: Option<(Option<Uuid>, Beliefs)>,
}

/// A [`Belief`] as it can be compared without copying a configuration.
#[derive(PartialEq, Eq)]
struct Beliefs {
    term: u64,
    state: ServerState,
    committed: Option<LogId>,
    replicated: Option<LogId>,
    applied: Option<LogId>,
    configured: Option<LogId>,
}

impl Inspector {
    pub(super) fn new(
        identity: Arc<Identity>,
        metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
        reader: LogReader,
    ) -> Self {
        Self {
            identity,
            metrics,
            reader,
            seen: Seen::default(),
            told: None,
        }
    }

    /// What has changed since the last look; `None` when nothing has.
    ///
    /// # Errors
    /// The log has failed or is closed, or cannot be read.
    pub fn look(&mut self) -> io::Result<Option<Look>> {
        let metrics = self.metrics.borrow_watched();
        let cluster = self.identity.cluster();
        let now = (cluster, Beliefs::of(&metrics));
        let log = self.reader.news(&mut self.seen)?;
        if log.is_none() && self.told.as_ref() == Some(&now) {
            return Ok(None);
        }
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let configs = metrics.membership_config.membership().get_joint_config();
        let belief = Belief {
            term: metrics.current_term,
            leads: metrics.state == ServerState::Leader,
            committed: index(metrics.local_committed),
            replicated: index(metrics.cluster_committed),
            applied: index(metrics.last_applied),
            voters: configs.clone(),
        };
        self.told = Some(now);
        Ok(Some(Look {
            id: self.identity.raft_id(),
            cluster,
            belief,
            log: log.map(|news| LogNews {
                purged: news.purged.as_ref().map(position),
                anew: news.anew,
                entries: news.entries.iter().map(mark).collect(),
                written: news.written,
            }),
        }))
    }
}

impl Beliefs {
    fn of(metrics: &RaftMetrics<TypeConfig>) -> Self {
        Self {
            term: metrics.current_term,
            state: metrics.state,
            committed: metrics.local_committed,
            replicated: metrics.cluster_committed,
            applied: metrics.last_applied,
            configured: *metrics.membership_config.log_id(),
        }
    }
}

fn position(id: &LogId) -> Position {
    Position {
        term: id.leader_id.term,
        index: id.index,
    }
}

fn mark(entry: &Entry) -> Mark {
    let mut bytes = Vec::new();
    encode_entry(entry, &mut bytes);
    let mut digest = DefaultHasher::new();
    digest.write(&bytes);
    Mark {
        position: position(&entry.log_id),
        digest: digest.finish(),
    }
}
