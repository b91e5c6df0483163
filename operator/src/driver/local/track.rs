//! Who runs, who ended and how.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::{self, Found};
use super::{Local, evidence};
use crate::observe::{Exited, Process, Running};
use crate::plan::MAX_FAILED_STARTS;

/// Time between two searches for agents that somebody else started.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time after which an agent that could not start is tried once more, although a person was asked to look.
const START_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// An agent that ends this soon, unasked, could not really start, even if it answered once.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// What is remembered of one agent between two observations.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) found: Option<Found>,
    pub(super) seen_first: Instant,
    pub(super) answered: bool,
    pub(super) stop_since: Option<Instant>,
    pub(super) exited: bool,
    pub(super) failed_starts: u32,
    pub(super) failed_at: Option<Instant>,
    failed_revision: String,
    error: String,
}

impl Default for Tracked {
    fn default() -> Self {
        Tracked {
            found: None,
            seen_first: Instant::now(),
            answered: false,
            stop_since: None,
            exited: false,
            failed_starts: 0,
            failed_at: None,
            failed_revision: String::new(),
            error: String::new(),
        }
    }
}

impl Local {
    /// Looks for agents anew: ours, those of an operator before us, and those that a person started in our folder.
    pub(super) fn search(&mut self) {
        self.searched = Some(Instant::now());
        let program = self
            .program
            .file_name()
            .map_or_else(|| OsString::from("agent"), OsStr::to_os_string);
        for (name, found) in process::find(self.store.dir(), &program) {
            let agent = self.agents.entry(name).or_default();
            if agent.found.as_ref().map(|known| known.identity) != Some(found.identity) {
                *agent = Tracked {
                    failed_starts: agent.failed_starts,
                    failed_at: agent.failed_at,
                    ..Tracked::default()
                };
                agent.found = Some(found);
            }
        }
    }

    pub(super) fn reap(&mut self) {
        let killed = &mut self.killed;
        self.children.retain_mut(|child| {
            let ended = match child.try_wait() {
                Ok(None) => return true,
                Ok(Some(status)) => status.signal() == Some(Signal::KILL.as_raw()),
                Err(_) => false,
            };
            if ended && let Ok(pid) = i32::try_from(child.id()) {
                killed.insert(pid);
            }
            false
        });
    }

    /// Whether an agent has ended since the last observation. Cheap: asks nobody.
    pub fn somebody_ended(&mut self) -> bool {
        self.reap();
        self.agents
            .values()
            .filter_map(|agent| agent.found.as_ref())
            .any(|found| !found.identity.lives())
    }

    /// Notices who ended, and how.
    pub(super) fn notice(&mut self) {
        self.reap();
        if self
            .searched
            .is_none_or(|at| at.elapsed() > SEARCH_INTERVAL)
        {
            self.search();
        }
        for (name, agent) in &mut self.agents {
            let Some(found) = &agent.found else { continue };
            if found.identity.lives() {
                // Told to stop by an operator before this one: its time counts from now.
                if agent.stop_since.is_none() && self.store.is_stopping(name, found.identity) {
                    agent.stop_since = Some(Instant::now());
                }
                continue;
            }
            let told = agent.stop_since.is_some() || self.store.is_stopping(name, found.identity);
            let killed = self.killed.remove(&found.identity.pid);
            let soon = !agent.answered || agent.seen_first.elapsed() < SHORT_LIFE;
            if soon && !told && !killed {
                agent.failed_starts += 1;
                agent.failed_at = Some(Instant::now());
                agent.failed_revision.clone_from(&found.revision);
                agent.error = evidence::last_words(&self.store.log(name));
            } else {
                agent.failed_starts = 0;
            }
            (agent.found, agent.exited, agent.answered, agent.stop_since) =
                (None, true, false, None);
        }
    }

    pub(super) fn process(&self, name: &str) -> Process {
        let Some(agent) = self.agents.get(name) else {
            return Process::Absent;
        };
        let Some(found) = &agent.found else {
            if !agent.exited {
                return Process::Absent;
            }
            // Another configuration, or some time, is worth another try.
            let another = agent.failed_revision != self.desired.revision;
            let rested = agent
                .failed_at
                .is_none_or(|at| at.elapsed() > START_RETRY_INTERVAL);
            let forgiven = if another || rested {
                MAX_FAILED_STARTS - 1
            } else {
                u32::MAX
            };
            let failed_starts = agent.failed_starts.min(forgiven);
            return Process::Exited(Exited {
                failed_starts,
                error: agent.error.clone(),
            });
        };
        Process::Running(Running {
            bootstrap: found.bootstrap,
            revision: found.revision.clone(),
            uptime_seconds: found.identity.uptime().as_secs_f64(),
            stopping: agent.stop_since.is_some() || self.store.is_stopping(name, found.identity),
            trouble: String::new(),
        })
    }

    /// Notes who has answered. One that has done so for a while has started well.
    pub(super) fn note_answers<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        for name in names {
            let Some(agent) = self.agents.get_mut(name) else {
                continue;
            };
            agent.answered = true;
            if agent.seen_first.elapsed() >= SHORT_LIFE {
                (agent.failed_starts, agent.failed_at) = (0, None);
            }
        }
    }
}
