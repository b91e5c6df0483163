//! What a signal means to a running agent.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::Config;

/// The signals that are acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: what process managers send.
    Terminate,
    /// SIGHUP.
    Hangup,
}

impl Signal {
    /// Its name as Go prints it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "interrupt",
            Signal::Terminate => "terminated",
            Signal::Hangup => "hangup",
        }
    }
}

/// What is done about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Leave the cluster, then end with code 0.
    GracefulLeave,
    /// Stop without a word to the cluster, with code 1.
    Stop,
    /// Read the configuration again.
    Reload,
    /// End at once with code 1.
    ExitNow,
    /// Nothing: it makes no sense now.
    Ignore,
}

/// Chooses what to do about `signal`; `leaving`: whether the agent is on its way out already.
pub(super) fn decide(signal: Signal, leaving: bool, config: &Config) -> Action {
    match (signal, leaving) {
        (Signal::Hangup, true) => Action::Ignore,
        (Signal::Hangup, false) => Action::Reload,
        (_, true) => Action::ExitNow,
        (Signal::Interrupt, _) if config.skip_leave_on_interrupt => Action::Stop,
        (Signal::Terminate, _) if !config.leave_on_terminate => Action::Stop,
        _ => Action::GracefulLeave,
    }
}

/// The process's signals, in order, from now on.
pub(super) fn listen() -> std::io::Result<mpsc::Receiver<Signal>> {
    // A few: more than one of a kind says nothing new.
    let (sender, signals) = mpsc::channel(8);
    for (kind, meaning) in [
        (SignalKind::interrupt(), Signal::Interrupt),
        (SignalKind::terminate(), Signal::Terminate),
        (SignalKind::hangup(), Signal::Hangup),
    ] {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(meaning).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(signals)
}
