//! `operator kubectl`, also as the kubectl plugin `kubectl consulcluster`: what a person at a terminal wants of a cluster.
//!
//! It speaks to the API server as that person, never as the operator: whoever may not write a ConsulCluster cannot pause
//! one here either.

mod change;
mod picture;
mod read;

use clap::{Args as ClapArgs, Subcommand};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};

/// The plugin's name without `kubectl-`.
const PLUGIN: &str = "consulcluster";

/// Where the cluster is.
#[derive(Debug, Clone, ClapArgs)]
struct Place {
    /// Namespace of the cluster [default: the context's]
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, global = true)]
    context: Option<String>,
}

/// What to do.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows servers, voters, indexes, leader, the step, what it waits for, and why.
    Status {
        /// Name of the ConsulCluster; not needed where there is only one.
        cluster: Option<String>,
        /// Show it again whenever it changes.
        #[arg(long, short)]
        watch: bool,
    },
    /// Shows how the cluster was formed: the evidence of each step, in its order.
    BootstrapLog {
        /// Name of the ConsulCluster; not needed where there is only one.
        cluster: Option<String>,
    },
    /// Prints the logs of the servers.
    Logs {
        /// Name of the ConsulCluster; not needed where there is only one.
        cluster: Option<String>,
        /// Only this server, by its name or its number.
        #[arg(long)]
        server: Option<String>,
        /// Go on with what is logged from now on.
        #[arg(long, short)]
        follow: bool,
        /// Begin with that many of the last lines of each.
        #[arg(long, default_value_t = 100)]
        tail: i64,
    },
    /// Takes a snapshot now, and waits until it is verified.
    Snapshot(change::SnapshotArgs),
    /// Restarts the servers one after another, the leader last.
    Restart {
        /// Name of the ConsulCluster; not needed where there is only one.
        cluster: Option<String>,
    },
    /// Lets the operator observe only.
    Pause {
        /// Name of the ConsulCluster; not needed where there is only one.
        cluster: Option<String>,
    },
    /// Lets the operator work again.
    Resume {
        /// Name of the ConsulCluster; not needed where there is only one.
        cluster: Option<String>,
    },
}

/// The arguments as they would be without the plugin's name: `kubectl-consulcluster status` is `operator kubectl status`.
pub fn arguments(given: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let called = given.first().map(std::path::Path::new);
    let name = called.and_then(|path| path.file_name()?.to_str());
    let plugin = name.and_then(|name| name.strip_prefix("kubectl-"));
    match plugin.map(|name| name.trim_end_matches(".exe")) {
        Some(PLUGIN) => {
            let own = ["operator", "kubectl"].map(std::ffi::OsString::from);
            own.into_iter().chain(given.into_iter().skip(1)).collect()
        }
        _ => given,
    }
}

/// Runs one of the verbs.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let options = KubeConfigOptions {
        context: args.place.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match &args.place.context {
        Some(_) => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await?,
    };
    let namespace = args
        .place
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;
    let at = read::At { client, namespace };
    match args.verb {
        Verb::Status { cluster, watch } => read::status(&at, cluster.as_deref(), watch).await,
        Verb::BootstrapLog { cluster } => read::bootstrap_log(&at, cluster.as_deref()).await,
        Verb::Logs {
            cluster,
            server,
            follow,
            tail,
        } => {
            let which = read::Which {
                server: server.as_deref(),
                follow,
                tail,
            };
            read::logs(&at, cluster.as_deref(), &which).await
        }
        Verb::Snapshot(args) => change::snapshot(&at, &args).await,
        Verb::Restart { cluster } => change::restart(&at, cluster.as_deref()).await,
        Verb::Pause { cluster } => change::pause(&at, cluster.as_deref(), true).await,
        Verb::Resume { cluster } => change::pause(&at, cluster.as_deref(), false).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> Vec<std::ffi::OsString> {
        line.split(' ').map(std::ffi::OsString::from).collect()
    }

    #[test]
    fn the_plugins_name_is_a_verb_of_the_operator() {
        for (line, wanted) in [
            (
                "/usr/bin/kubectl-consulcluster status demo",
                "operator kubectl status demo",
            ),
            ("kubectl-consulcluster", "operator kubectl"),
            ("/bin/operator run", "/bin/operator run"),
            ("kubectl-other x", "kubectl-other x"),
        ] {
            assert_eq!(arguments(given(line)), given(wanted), "{line}");
        }
    }
}
