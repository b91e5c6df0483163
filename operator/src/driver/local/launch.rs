//! Starting and stopping agents.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use rustix::process::Signal;

use super::process::{self, Found, Identity};
use super::track::Tracked;
use super::{Error, Local, evidence};
use crate::driver::Driver;
use crate::observe::Agent;
use crate::plan::Launch;

/// Longest time that an agent may take to stop before it is killed. Its own bound for a leave is 15 s.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause before another try to start an agent that could not start: what was in its way may be on its way out.
const START_PAUSE: Duration = Duration::from_millis(300);
/// Time between two looks at a process that was told to stop.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Local {
    /// Stops one agent without a leave, which keeps its place in the cluster, and waits until it has stopped.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub async fn stop_and_wait(&mut self, name: &str) -> Result<(), Error> {
        self.stop(name, Signal::TERM)?;
        let Some(identity) = self
            .agents
            .get(name)
            .and_then(|agent| Some(agent.found.as_ref()?.identity))
        else {
            return Ok(());
        };
        let since = Instant::now();
        while identity.lives() {
            if since.elapsed() > STOP_TIME_MAX {
                signal(name, identity, Signal::KILL)?;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            self.reap();
        }
        Ok(())
    }

    /// Starts an agent, unless it runs already.
    pub(super) async fn start(&mut self, launch: &Launch) -> Result<(), Error> {
        let failed_at = self
            .agents
            .get(&launch.name)
            .and_then(|agent| agent.failed_at);
        if let Some(rest) = failed_at.and_then(|at| START_PAUSE.checked_sub(at.elapsed())) {
            tokio::time::sleep(rest).await;
        }
        // Also one that a person started a moment ago.
        self.search();
        let runs = |agent: &Tracked| {
            agent
                .found
                .as_ref()
                .is_some_and(|found| found.identity.lives())
        };
        if self.agents.get(&launch.name).is_some_and(runs) {
            return Ok(());
        }
        let args = self.arguments(launch)?;
        let log = self.store.log(&launch.name);
        evidence::rotate(&log);
        let started = process::start(&self.program, &args, &self.desired.revision, &log);
        let child = started.map_err(|source| Error::Start {
            program: self.program.clone(),
            source,
        })?;
        tracing::debug!(node = launch.name, pid = child.id(), ?args, "started");
        let agent = self.agents.entry(launch.name.clone()).or_default();
        (agent.exited, agent.answered, agent.seen_first) = (true, false, Instant::now());
        if let Some(identity) = Identity::of(&child) {
            let (bootstrap, revision) = (launch.bootstrap, self.desired.revision.clone());
            agent.found = Some(Found {
                identity,
                bootstrap,
                revision,
                bind: Some(launch.address.clone()),
            });
        }
        self.children.push(child);
        Ok(())
    }

    /// The command line of the manual, and what the spec adds to it.
    fn arguments(&self, launch: &Launch) -> Result<Vec<String>, Error> {
        let spec = &self.cluster.spec;
        let mut args: Vec<String> = Vec::new();
        if launch.server {
            args.push("-server".to_owned());
        }
        if launch.bootstrap {
            args.push("-bootstrap".to_owned());
        }
        let data = self.store.data(&launch.name).display().to_string();
        let address = &launch.address;
        let pairs = [
            ("-node", &launch.name),
            ("-bind", address),
            ("-client", address),
            ("-data-dir", &data),
            ("-datacenter", &spec.datacenter),
        ];
        args.extend(
            pairs
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value.clone()]),
        );
        let mut config = spec.config.clone();
        if spec.domain != crate::crd::DEFAULT_DOMAIN {
            config.insert("domain".to_owned(), spec.domain.clone().into());
        }
        if !config.is_empty() {
            let text = serde_json::to_vec_pretty(&config).expect("plain data always encodes");
            let path = self.store.config(&self.desired.revision, &text)?;
            args.extend(["-config-file".to_owned(), path.display().to_string()]);
        }
        args.extend(spec.extra_args.iter().cloned());
        Ok(args)
    }

    /// Tells an agent to stop. One that was told already is not told twice: that would cut its leave short.
    pub(super) fn stop(&mut self, name: &str, how: Signal) -> Result<(), Error> {
        let Some(agent) = self.agents.get_mut(name) else {
            return Ok(());
        };
        let Some(found) = &agent.found else {
            return Ok(());
        };
        if agent.stop_since.is_some() || self.store.is_stopping(name, found.identity) {
            agent.stop_since.get_or_insert_with(Instant::now);
            return Ok(());
        }
        agent.stop_since = Some(Instant::now());
        signal(name, found.identity, how)?;
        // Noted after the signal. Killed in between, another operator tells it once more, which at worst cuts its leave
        // short; noted before, it would wait for ever for what nobody asked for.
        self.store.note_stopping(name, found.identity)?;
        Ok(())
    }

    /// Kills what was told to stop long ago. Rule 4 has counted it as down since then.
    pub(super) fn kill_the_stubborn(&self) -> Result<(), Error> {
        for (name, agent) in &self.agents {
            let Some(found) = &agent.found else { continue };
            if agent
                .stop_since
                .is_some_and(|since| since.elapsed() > STOP_TIME_MAX)
            {
                tracing::warn!(
                    node = name.as_str(),
                    "told to stop {} s ago and still running: killed",
                    STOP_TIME_MAX.as_secs()
                );
                signal(name, found.identity, Signal::KILL)?;
            }
        }
        Ok(())
    }

    /// Stops a server and moves its `raft/` folder aside, if it still is what the step takes it for.
    pub(super) async fn move_aside(
        &mut self,
        name: &str,
        is_still: impl Fn(&Agent) -> bool,
    ) -> Result<(), Error> {
        let observed = self.observe().await?;
        if !observed.servers.get(name).is_some_and(is_still) {
            return Err(Error::Changed(format!(
                "{name} is not as it was observed any more; looking again"
            )));
        }
        self.stop_and_wait(name).await?;
        if let Some(aside) = self.store.move_aside(name, Timestamp::now())? {
            tracing::info!(node = name, aside = %aside.display(), "raft folder moved aside");
        }
        Ok(())
    }
}

fn signal(name: &str, identity: Identity, signal: Signal) -> Result<(), Error> {
    let sent = identity.signal(signal);
    sent.map(drop).map_err(|source| Error::Signal {
        name: name.to_owned(),
        pid: identity.pid,
        source,
    })
}

/// Finds the agent's binary: as given, or beside the operator's own, or on the path.
///
/// # Errors
/// Where it was looked for.
pub fn program(given: Option<&Path>) -> Result<PathBuf, String> {
    let runs = |path: &Path| {
        rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
    };
    let resolve = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(path) = given {
        return if runs(path) {
            Ok(resolve(path))
        } else {
            Err(format!(
                "{} is not a program that can be started; give the agent's binary with --agent",
                path.display()
            ))
        };
    }
    let own = std::env::current_exe().ok();
    let beside = own
        .as_ref()
        .and_then(|own| own.parent())
        .map(|dir| dir.join("agent"));
    if let Some(path) = beside.as_ref().filter(|path| runs(path)) {
        return Ok(resolve(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .map(|dir| dir.join("agent"))
        .find(|path| runs(path));
    on_path.map(|path| resolve(&path)).ok_or_else(|| {
        let beside = beside.map_or_else(String::new, |path| format!(" as {}", path.display()));
        format!("the agent's binary was not found{beside} or on PATH; build it with `cargo build -p agent`, or give it with --agent")
    })
}
