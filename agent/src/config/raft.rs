//! What is kept of the log, and what a person has asked one server for.

use super::build::{MILLISECOND, SECOND, at_least, invalid, parsed, within};
use super::layer::{Layer, Number, QuorumRecoveryLayer, RaftSetAsideLayer};
use super::{Error, QuorumRecovery, RaftSetAside, RaftSettings};

pub(super) fn check_raft(layer: &Layer) -> Result<RaftSettings, Error> {
    let key = "raft_snapshot_threshold";
    Ok(RaftSettings {
        snapshot_threshold: within(key, layer.raft_snapshot_threshold, 16384, 1, i64::MAX)?,
        snapshot_interval: at_least(
            "raft_snapshot_interval",
            layer.raft_snapshot_interval,
            SECOND * 30,
            MILLISECOND * 5,
        )?,
        trailing_logs: within(
            "raft_trailing_logs",
            layer.raft_trailing_logs,
            10240,
            1,
            i64::MAX,
        )?,
    })
}

/// Whole or absent: half of it would name more than one log.
pub(super) fn check_quorum_recovery(layer: &Layer) -> Result<Option<QuorumRecovery>, Error> {
    let block = &layer.quorum_recovery;
    if *block == QuorumRecoveryLayer::default() {
        return Ok(None);
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let number = |key, value: &Option<Number>| {
        let given = value.as_ref().map_or(0, |Number(number)| *number);
        within(key, Some(Number(given)), 0, 1, i64::MAX)
    };
    Ok(Some(QuorumRecovery {
        cluster_id: parsed(
            "quorum_recovery.cluster_id",
            &text(&block.cluster_id),
            "a UUID",
        )?,
        raft_id: parsed(
            "quorum_recovery.raft_id",
            &text(&block.raft_id),
            "a number in quotes",
        )?,
        last_log_term: number("quorum_recovery.last_log_term", &block.last_log_term)?,
        last_log_index: number("quorum_recovery.last_log_index", &block.last_log_index)?,
    }))
}

/// Whole or absent, too.
pub(super) fn check_raft_set_aside(layer: &Layer) -> Result<Option<RaftSetAside>, Error> {
    let block = &layer.raft_set_aside;
    if *block == RaftSetAsideLayer::default() {
        return Ok(None);
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (node_name, token) = (text(&block.node_name), text(&block.token));
    if node_name.is_empty() {
        return invalid("raft_set_aside.node_name cannot be empty");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if token.is_empty() || token.len() > 64 || !token.chars().all(plain) {
        return invalid(format!(
            "raft_set_aside.token must be 1 to 64 of A-Z a-z 0-9 . _ -, not {token:?}"
        ));
    }
    Ok(Some(RaftSetAside { node_name, token }))
}
