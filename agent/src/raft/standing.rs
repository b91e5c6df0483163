//! Whether this server may stand for election: not right after a restart, and not on a full disk.

use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;

use super::TypeConfig;
use super::log::Room;
use super::state_machine::StateMachine;

/// What decides.
#[derive(Debug, Clone, Copy)]
struct View {
    /// Whether the log has room for more entries.
    has_room: bool,
    /// Whether there is nobody else to vote for.
    alone: bool,
}

/// A leader that can append nothing is of no use, unless it is the only server: then it answers reads at least.
fn may_stand(view: View) -> bool {
    view.has_room || view.alone
}

/// Follows the room on the disk after the time in which it is `barred` from elections.
pub(super) async fn follow(
    raft: Raft<TypeConfig, StateMachine>,
    mut room: watch::Receiver<Room>,
    barred: Option<Duration>,
) {
    if let Some(barred) = barred {
        tokio::time::sleep(barred).await;
    }
    let id = *raft.node_id();
    let metrics = raft.metrics();
    loop {
        let has_room = room.borrow_and_update().lacking().is_none();
        let alone = {
            let metrics = metrics.borrow_watched();
            metrics
                .membership_config
                .voter_ids()
                .all(|voter| voter == id)
        };
        raft.runtime_config()
            .elect(may_stand(View { has_room, alone }));
        if room.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_server_stands_only_when_there_is_nobody_else() {
        for (has_room, alone, stands) in [
            (true, false, true),
            (true, true, true),
            (false, true, true),
            (false, false, false),
        ] {
            assert_eq!(may_stand(View { has_room, alone }), stands);
        }
    }
}
