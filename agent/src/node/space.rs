//! What a server does while its disk is full: hands leadership over, and says so.
//!
//! The rest follows from the log's room where it is needed: proposals are refused (`Consensus::propose`), entries of the
//! leader are not taken (`raft/service.rs`), elections are not stood for (`raft/standing.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Error, Node, Server};
use crate::raft::{RaftId, Status};
use crate::rpc::{Answered, Request};

/// Time between two tries to hand leadership over.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Longest time a server may take to say whether it has room.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time one server may take to take over.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

/// The voters that may take over, in the order in which to ask them: who is furthest ahead first, the higher id among
/// equals. Nobody when this server does not lead.
fn successors(status: &Status) -> Vec<RaftId> {
    if !status.is_leader() {
        return Vec::new();
    }
    let known = |id: &RaftId| Some((*status.matched.get(id)?, *id));
    let mut others: Vec<_> = status
        .voters
        .iter()
        .filter(|id| **id != status.id)
        .filter_map(known)
        .collect();
    others.sort_unstable_by(|a, b| b.cmp(a));
    others.into_iter().map(|(_, id)| id).collect()
}

impl Node {
    /// Watches the room on the log's disk. Ends with the log.
    pub(super) async fn watch_space(self) {
        let Some(server) = &self.inner.server else {
            return;
        };
        let mut room = server.consensus.room();
        loop {
            let lacking = room.borrow_and_update().lacking().map(str::to_owned);
            let changed = match lacking {
                None => room.changed().await,
                Some(why) => {
                    tracing::error!(
                        target: "raft",
                        "no room on the disk: this server takes no writes and does not lead until there is: {why}"
                    );
                    let filled = room.wait_for(|room| room.lacking().is_none());
                    tokio::select! {
                        found = filled => {
                            if found.is_ok() {
                                tracing::info!(target: "raft", "there is room on the disk again");
                            }
                            found.map(drop)
                        }
                        never = self.give_way(server) => match never {},
                    }
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Hands leadership over whenever this server has it.
    async fn give_way(&self, server: &Server) -> std::convert::Infallible {
        loop {
            let led = |status: &Status| status.is_leader().then_some(());
            server.consensus.wait_until(led).await;
            let status = server.consensus.status();
            // A leader that nobody answers yet, or that has nobody to follow it, tries again.
            if let Some(id) = self.able(server, &status).await {
                let name = status.peers.get(&id).map_or("?", |node| &node.name);
                tracing::info!(target: "consul", "transferring leadership, the disk is full: to={name}");
                if let Err(error) = server.consensus.transfer_leader(id, TRANSFER_TIMEOUT).await {
                    tracing::warn!(target: "consul", "failed to transfer leadership: {error}");
                }
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    /// The first successor that says that it has room. A leader that has begun to hand over takes no more writes and
    /// lets its lease go, so that nobody is asked to take over who would refuse.
    async fn able(&self, server: &Server, status: &Status) -> Option<RaftId> {
        for id in successors(status) {
            let Some(address) = server.consensus.address(id, status) else {
                continue;
            };
            let asked = self
                .inner
                .calls
                .request(address, &Request::HasRoom, ASK_TIMEOUT);
            // A server that does not know the question is of another version; it may have room.
            if let Ok(Answered(Ok(_) | Err(Error::Refused(_)))) = asked.await {
                return Some(id);
            }
        }
        None
    }
}

/// What `info` says of it.
pub(super) fn block(server: &Server) -> BTreeMap<String, String> {
    let room = server.consensus.room();
    let room = room.borrow();
    let lacking = room.lacking().unwrap_or_default();
    BTreeMap::from([
        ("disk_full".to_owned(), room.lacking().is_some().to_string()),
        ("disk_full_reason".to_owned(), lacking.to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::raft::Role;

    fn status(role: Role, matched: &[(RaftId, u64)]) -> Status {
        let mut status = Status::of_leader(1, 1, 9);
        status.role = role;
        status.voters = BTreeSet::from([1, 2, 3, 4]);
        status.matched = matched.iter().copied().collect();
        status
    }

    #[test]
    fn whoever_is_furthest_ahead_is_asked_first_and_silent_ones_never() {
        let leader = status(Role::Leader, &[(2, 8), (3, 9), (5, 9)]);
        assert_eq!(successors(&leader), [3, 2]);
        let follower = status(Role::Follower, &[(2, 8)]);
        assert_eq!(successors(&follower), [0; 0]);
    }
}
