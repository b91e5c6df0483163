//! `agent agent`: run an agent until it leaves or is stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Done, Failure, Io};
use crate::config::{Config, Machine};
use crate::env::Env;
use crate::log::Log;
use crate::node::{self, Node, Phase};

mod api;
mod aside;
mod banner;
mod drive;
mod flags;
mod reload;
mod runtime;
mod signals;
#[cfg(test)]
mod tests;

use api::Bound;
use drive::{Ended, Running, drive};
use reload::{Reloader, load};
use runtime::RaftThread;
use signals::Signal;

/// Longest time a leave after a signal may take, beside `leave_drain_time`. Consul's is 15 s in all.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(15);

/// Runs the verb.
pub(super) fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags = flags::parse(args)?;
    let machine = Machine::detect();
    let loaded = load(&flags, &machine).map_err(problem)?;
    let config = loaded.config;
    let _temporary = Temporary::make(&config)?;
    let _lock = lock_data_dir(&config.data_dir)?;
    let log = Log::install(&config.log).map_err(problem)?;
    let _pid_file = PidFile::write(&config)?;
    let node_id = fs::read_to_string(config.data_dir.join("node-id")).ok();
    let banner = banner::print(&config, node_id.as_deref().map(str::trim));
    io.out.write_all(banner.as_bytes())?;
    io.out.flush()?;
    for warning in &loaded.warnings {
        tracing::warn!(target: "agent", "{warning}");
    }
    if let Some(cluster) = std::env::var(aside::VARIABLE)
        .ok()
        .filter(|id| !id.is_empty())
    {
        let now = Env::real().clock.unix_ms();
        if let Some(path) = aside::set_aside(&config.data_dir, &cluster, now).map_err(problem)? {
            tracing::warn!(target: "agent", "raft data of cluster {cluster} moved aside to {}, as asked", path.display());
        }
    }
    if let Some(order) = config
        .raft_set_aside
        .as_ref()
        .filter(|order| order.node_name == config.node_name)
    {
        let now = Env::real().clock.unix_ms();
        if let Some(path) = aside::on_token(&config.data_dir, &order.token, now).map_err(problem)? {
            tracing::warn!(target: "agent", "raft data moved aside to {}, as asked by {}", path.display(), order.token);
        }
    }
    let raft = match config.server {
        true => Some(runtime::RaftThread::start().map_err(problem)?),
        false => None,
    };
    let reloader = Reloader::new(flags, machine, log.clone(), config);
    let main = runtime::main().map_err(problem)?;
    main.block_on(serve(reloader, raft.as_ref().map(RaftThread::handle), log))
}

/// An error as Consul prints those that keep an agent from starting.
fn problem(error: impl std::fmt::Display) -> Failure {
    Failure::Message(format!("==> {error}"))
}

async fn serve(reloader: Reloader, raft: Option<Handle>, log: Log) -> Done {
    // Before anything is started: a signal in between would end the process without a clean end.
    let mut signals = signals::listen().map_err(problem)?;
    let env = Env::real();
    let (node, bound) = tokio::select! {
        started = start(&env, &reloader, raft) => started.map_err(|e| problem(format!("Error starting agent: {e}")))?,
        Some(signal) = interrupted(&mut signals) => {
            tracing::info!(target: "agent", signal = signal.name(), "Caught while starting, exiting");
            return Ok(1);
        }
    };
    reloader.attach(node.clone());
    let api = bound.serve(&node, env, log, reloader.clone());
    tracing::info!(target: "agent", "Consul agent running!");
    let code = drive(&node, &mut signals, &reloader, LEAVE_TIME_MAX).await;
    api.close().await;
    tracing::info!(target: "agent", code, "Exit code");
    Ok(code)
}

/// Takes the API's addresses and starts the node; a client has no Raft to run elsewhere.
async fn start(
    env: &Env,
    reloader: &Reloader,
    raft: Option<Handle>,
) -> anyhow::Result<(Node, Bound)> {
    let config = Config::clone(&reloader.current());
    let bound = api::bind(env, &config).await?;
    let raft = raft.unwrap_or_else(Handle::current);
    let node = node::start(env.clone(), config, raft).await?;
    Ok((node, bound))
}

/// The next signal that ends a process. One that asks for a reload means nothing while the files were just read.
async fn interrupted(signals: &mut mpsc::Receiver<Signal>) -> Option<Signal> {
    loop {
        match signals.recv().await {
            Some(Signal::Hangup) => {}
            other => return other,
        }
    }
}

impl Running for Node {
    async fn leave(&self) -> Result<(), String> {
        Node::leave(self).await.map_err(|e| e.to_string())
    }

    async fn stop(&self) {
        Node::stop(self).await;
    }

    async fn ended(&self) -> Ended {
        let mut phase = self.phase();
        loop {
            match &*phase.borrow_and_update() {
                Phase::Left => return Ended::Left,
                Phase::Failed(why) => return Ended::Failed(why.clone()),
                Phase::Running | Phase::Leaving => {}
            }
            if phase.changed().await.is_err() {
                return Ended::Failed("the node is gone".into());
            }
        }
    }
}

/// Makes the data folder where there is none, and keeps other agents out of it for as long as the file is open: two
/// that write one log would destroy it.
fn lock_data_dir(path: &Path) -> Result<fs::File, Failure> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            return Err(problem(format!("data_dir \"{shown}\" is not a directory")));
        }
        _ => {}
    }
    let failed = |e| problem(format!("cannot use data_dir \"{shown}\": {e}"));
    fs::create_dir_all(path).map_err(failed)?;
    let file = path.join("agent.lock");
    let lock = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(problem(format!(
            "data_dir \"{shown}\" is in use by another agent: stop it, or give this one a data_dir of its own"
        ))),
        Err(fs::TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// The data folder of a development agent, removed with it.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn make(config: &Config) -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        if !config.data_dir_is_temporary {
            return Ok(Self(None));
        }
        let path = config.data_dir.clone();
        // Fails when it exists: a stranger's folder in a shared place must not become ours.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| problem(format!("cannot make the folder {}: {e}", path.display())))?;
        Ok(Self(Some(path)))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What stays behind is in the system's folder for such things.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// The file that holds the process id, removed with the process.
struct PidFile(Option<PathBuf>);

impl PidFile {
    fn write(config: &Config) -> Result<Self, Failure> {
        if let Some(path) = &config.pid_file {
            fs::write(path, format!("{}\n", std::process::id())).map_err(|e| {
                problem(format!("Could not write pid file {}: {e}", path.display()))
            })?;
        }
        Ok(Self(config.pid_file.clone()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}
