//! Whether this agent takes its full part: what a load balancer, or a Kubernetes readiness probe, asks.

use std::time::Duration;

use super::{Node, Phase, Server};
use crate::leader::peers::server_addr;

/// Longest silence of the leader after which a follower still counts: far above its heartbeats and any pause of a busy
/// machine, and below what a person would wait.
const LEADER_SILENCE_MAX: Duration = Duration::from_secs(3);

/// Committed entries that may wait to be applied: more than a busy server ever queues, and applied within a blink.
const PENDING_MAX: u64 = 1024;

/// The reason why this agent is not ready, or nothing.
pub(super) fn not_ready(node: &Node) -> Option<String> {
    match &*node.inner.phase.borrow() {
        Phase::Running => {}
        Phase::Leaving | Phase::Left => return Some("leaving".to_owned()),
        Phase::Failed(why) => return Some(why.clone()),
    }
    match &node.inner.server {
        Some(server) => server_not_ready(server),
        None => {
            let servers = node.members().iter().any(|m| server_addr(m).is_some());
            if !servers {
                return Some("no server is known".to_owned());
            }
            let waits = node.tls().waits_for_certificate();
            waits.then(|| match node.inner.lacks_certificate.load_full() {
                Some(why) => format!("no certificate yet: {why}"),
                None => "no certificate yet".to_owned(),
            })
        }
    }
}

fn server_not_ready(server: &Server) -> Option<String> {
    if let Some(why) = server.consensus.room().borrow().lacking() {
        return Some(format!("no room on the disk: {why}"));
    }
    let status = server.consensus.status();
    if !status.voters.contains(&status.id) {
        return Some("not a voter".to_owned());
    }
    if !status.is_leader() {
        if status.leader.is_none() {
            return Some("no leader is known".to_owned());
        }
        match server.consensus.last_contact() {
            Some(age) if age <= LEADER_SILENCE_MAX => {}
            _ => return Some("the leader is silent".to_owned()),
        }
    }
    behind(
        status.cluster_commit_index.max(status.commit_index),
        status.applied_index,
    )
}

/// Why a server lags too far behind what is committed: it has not applied it yet, or does not even have it.
fn behind(committed: u64, applied: u64) -> Option<String> {
    let pending = committed.saturating_sub(applied);
    (pending > PENDING_MAX).then(|| format!("{pending} committed entries are not applied yet"))
}
