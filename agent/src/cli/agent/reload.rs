//! Reading the configuration again while the agent runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::flags::Parsed;
use crate::config::{self, Config, Loaded, Machine};
use crate::log::Log;

/// Reads the configuration again and applies what can be applied. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Reloader {
    inner: Arc<Inner>,
}

struct Inner {
    flags: Parsed,
    machine: Machine,
    log: Log,
    current: ArcSwap<Config>,
}

/// Reads and checks the configuration that the command line asks for.
pub(super) fn load(flags: &Parsed, machine: &Machine) -> Result<Loaded, config::Error> {
    let files = config::files::read(&flags.paths, flags.format)?;
    config::load(&files, &flags.settings, machine)
}

impl Reloader {
    pub(super) fn new(flags: Parsed, machine: Machine, log: Log, config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                flags,
                machine,
                log,
                current: ArcSwap::from_pointee(config),
            }),
        }
    }

    /// What the agent runs with now.
    pub(super) fn current(&self) -> Arc<Config> {
        self.inner.current.load_full()
    }

    /// Reads everything again and applies what can be applied.
    ///
    /// # Errors
    /// What is wrong with the new configuration; the agent goes on with the old one.
    pub(super) fn reload(&self) -> Result<(), String> {
        let Inner {
            flags,
            machine,
            log,
            current,
        } = &*self.inner;
        let loaded = load(flags, machine).map_err(|error| {
            tracing::error!(target: "agent", %error, "Failed to reload configs");
            error.to_string()
        })?;
        for warning in &loaded.warnings {
            tracing::warn!(target: "agent", "{warning}");
        }
        let old = self.current();
        let diff = Config::reloadable_diff(&old, &loaded.config);
        for key in &diff.restart {
            tracing::warn!(target: "agent", key, "changed, but has no effect until the agent is started again");
        }
        log.set_level(loaded.config.log.level);
        if let Err(error) = log.reopen() {
            tracing::error!(target: "agent", %error, "the log goes on where it was");
        }
        current.store(Arc::new(old.reloaded(&loaded.config)));
        tracing::info!(target: "agent", applied = diff.live.join(","), "Configuration reloaded");
        Ok(())
    }
}
