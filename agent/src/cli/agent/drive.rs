//! From a running agent to its exit code: signals, leaves and failures.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::reload::Reloader;
use super::signals::{Action, Signal, decide};

/// The end of a node's life, when it did not come from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It left gracefully, asked over HTTP.
    Left,
    /// It cannot go on.
    Failed(String),
}

/// A running node, as the process around it sees it.
pub(super) trait Running {
    /// Leaves gracefully; returns when the leave is over.
    fn leave(&self) -> impl Future<Output = Result<(), String>>;
    /// Stops without a word to anybody.
    fn stop(&self) -> impl Future<Output = ()>;
    /// Waits until the node's life has ended by itself.
    fn ended(&self) -> impl Future<Output = Ended>;
}

/// Runs until the node's end; the exit code. A leave may take `leave_time_max` beside `leave_drain_time`.
pub(super) async fn drive(
    node: &impl Running,
    signals: &mut mpsc::Receiver<Signal>,
    reloader: &Reloader,
    leave_time_max: Duration,
) -> u8 {
    loop {
        let signal = tokio::select! {
            ended = node.ended() => match ended {
                Ended::Left => break 0,
                Ended::Failed(why) => {
                    tracing::error!(target: "agent", error = why, "the agent cannot go on");
                    node.stop().await;
                    break 1;
                }
            },
            // The sender lives as long as the runtime: there is always a next one.
            Some(signal) = signals.recv() => signal,
        };
        tracing::info!(target: "agent", signal = signal.name(), "Caught");
        match decide(signal, false, &reloader.current()) {
            // From here on the node's end is ours: a part that stops because it is told to has not failed.
            Action::GracefulLeave => break leave(node, signals, reloader, leave_time_max).await,
            Action::Reload => {
                // The error is logged; the agent goes on with what it has.
                let _ = reloader.reload();
            }
            Action::Stop => {
                node.stop().await;
                break 1;
            }
            Action::ExitNow => break 1,
            Action::Ignore => {}
        }
    }
}

async fn leave(
    node: &impl Running,
    signals: &mut mpsc::Receiver<Signal>,
    reloader: &Reloader,
    leave_time_max: Duration,
) -> u8 {
    tracing::info!(target: "agent", "Gracefully shutting down agent...");
    let config = reloader.current();
    let deadline = Instant::now() + leave_time_max + config.leave_drain_time;
    let leave = timeout_at(deadline, node.leave());
    tokio::pin!(leave);
    loop {
        tokio::select! {
            left = &mut leave => return match left {
                Ok(Ok(())) => 0,
                Ok(Err(why)) => {
                    tracing::error!(target: "agent", error = why, "Error on leave");
                    1
                }
                Err(_) => {
                    tracing::error!(target: "agent", "the leave did not end in time");
                    1
                }
            },
            Some(signal) = signals.recv() => {
                if decide(signal, true, &config) == Action::ExitNow {
                    tracing::info!(target: "agent", signal = signal.name(), "Caught a second signal, exiting");
                    return 1;
                }
            }
        }
    }
}
