//! Reading the configuration again while the agent runs.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::flags::Parsed;
use crate::config::{self, Bootstrap, Config, Loaded, Machine};
use crate::log::Log;
use crate::node::Node;

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
    /// What takes over what applies live, once it runs.
    node: OnceLock<Node>,
}

/// Reads and checks the configuration that the command line asks for.
pub(super) fn load(flags: &Parsed, machine: &Machine) -> Result<Loaded, config::Error> {
    let files = config::files::read(&flags.paths, flags.format)?;
    let mut loaded = config::load(&files, &flags.settings, machine)?;
    if let Some((name, value)) = &flags.permit {
        fence(
            &mut loaded,
            name,
            value,
            std::env::var(name).ok().as_deref(),
        );
    }
    Ok(loaded)
}

/// Takes the right to form a cluster away unless the permit is there. The command line of a container outlives the
/// moment that it was meant for: the kubelet starts it again as it was. The environment is read anew each time.
fn fence(loaded: &mut Loaded, name: &str, value: &str, found: Option<&str>) {
    if loaded.config.bootstrap == Bootstrap::Alone && found != Some(value) {
        loaded.config.bootstrap = Bootstrap::Never;
        loaded.warnings.push(format!(
            "-bootstrap is ignored: the environment variable {name} does not hold its permit (any more)"
        ));
    }
}

impl Reloader {
    pub(super) fn new(flags: Parsed, machine: Machine, log: Log, config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                flags,
                machine,
                log,
                current: ArcSwap::from_pointee(config),
                node: OnceLock::new(),
            }),
        }
    }

    /// Lets this node take part in reloads.
    pub(super) fn attach(&self, node: Node) {
        // There is one node a process; a second call changes nothing.
        let _ = self.inner.node.set(node);
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
            node,
        } = &*self.inner;
        let failed = |error: String| {
            tracing::error!(target: "agent", error, "Failed to reload configs");
            error
        };
        let loaded = load(flags, machine).map_err(|error| failed(error.to_string()))?;
        if let Some(node) = node.get() {
            node.reload(&loaded.config)
                .map_err(|error| failed(error.to_string()))?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::agent::flags;

    fn bootstrap(line: &str, found: Option<&str>) -> (Bootstrap, usize) {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let parsed = flags::parse(&args).unwrap_or_else(|_| panic!("valid flags: {line}"));
        let machine = Machine {
            hostname: "host".into(),
            private_ipv4: vec![[10, 0, 0, 1].into()],
            public_ipv6: Vec::new(),
            temporary_dir: "/tmp/x".into(),
        };
        let mut loaded = config::load(&[], &parsed.settings, &machine).expect("valid");
        let before = loaded.warnings.len();
        if let Some((name, value)) = &parsed.permit {
            fence(&mut loaded, name, value, found);
        }
        (loaded.config.bootstrap, loaded.warnings.len() - before)
    }

    #[test]
    fn the_flag_counts_only_with_its_permit() {
        let line = "-server -bootstrap -data-dir /d -bootstrap-permit PERMIT=4711";
        assert_eq!(bootstrap(line, Some("4711")), (Bootstrap::Alone, 0));
        assert_eq!(bootstrap(line, Some("4712")), (Bootstrap::Never, 1));
        assert_eq!(bootstrap(line, None), (Bootstrap::Never, 1));
    }

    #[test]
    fn no_permit_is_asked_for_where_none_is_announced() {
        let line = "-server -bootstrap -data-dir /d";
        assert_eq!(bootstrap(line, None), (Bootstrap::Alone, 0));
        let line = "-server -data-dir /d -bootstrap-permit PERMIT=4711";
        assert_eq!(bootstrap(line, None), (Bootstrap::Never, 0));
    }
}
