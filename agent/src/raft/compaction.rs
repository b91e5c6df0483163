//! When the log is long enough for a snapshot.
//!
//! A snapshot costs as much as the state is large, so that one after every so many entries would cost a write the more,
//! the more keys there are. It is taken once the log has grown to its size: what is written to disk for snapshots is
//! then at most as much as for the log, and a start reads at most about twice the state.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::TypeConfig;
use super::log::LogReader;
use super::snapshot::SnapshotStore;
use super::state_machine::StateMachine;

/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long the log is.
#[derive(Debug, Clone, Copy)]
struct Length {
    /// Entries applied after the newest snapshot.
    entries: u64,
    /// Of the log's files.
    bytes: u64,
}

fn is_due(length: Length, threshold: u64, snapshot_bytes: u64) -> bool {
    length.entries >= threshold && length.bytes >= snapshot_bytes
}

/// Asks for snapshots for as long as Raft runs.
pub(super) async fn follow(
    raft: Raft<TypeConfig, StateMachine>,
    log: LogReader,
    snapshots: Arc<SnapshotStore>,
    threshold: u64,
) {
    let metrics = raft.metrics();
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let (applied, snapshot) = {
            let metrics = metrics.borrow_watched();
            let index = |id: Option<super::types::LogId>| id.map_or(0, |id| id.index);
            (index(metrics.last_applied), index(metrics.snapshot))
        };
        let length = Length {
            entries: applied.saturating_sub(snapshot),
            bytes: log.bytes(),
        };
        // One that is being taken is not disturbed.
        if is_due(length, threshold, snapshots.latest_bytes())
            && raft.trigger().snapshot().await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_when_the_log_is_long_both_by_itself_and_beside_the_state() {
        for (entries, bytes, snapshot_bytes, due) in [
            (100, 5000, 1000, true),
            (99, 5000, 1000, false),
            (100, 5000, 5001, false),
            (5000, 5000, 0, true),
        ] {
            let length = Length { entries, bytes };
            assert_eq!(is_due(length, 100, snapshot_bytes), due, "{length:?}");
        }
    }
}
