//! The command line, one file per verb.

mod crd;
mod kubectl;
mod local;
mod plan;
mod rbac;
mod ready;
mod run;

use clap::{Parser, Subcommand};

pub use kubectl::arguments;

/// Drives the documented manual bootstrap of a ConsulCluster, and keeps the cluster healthy after it.
#[derive(Debug, Parser)]
#[command(name = "operator", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

impl Cli {
    /// What is logged unless OPERATOR_LOG says otherwise: the service tells what it does, the tools print it. An agent
    /// that does not answer yet is no error, though the client library calls it one.
    pub fn log_filter(&self) -> &'static str {
        match self.verb {
            Verb::Run(_) => "info,kube_client::client::builder=off",
            _ => "warn",
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Looks after the ConsulClusters of a Kubernetes cluster.
    Run(run::Args),
    /// Prints the manifests of ConsulCluster and of the resources about its saved states.
    Crd(crd::Args),
    /// Prints the rights that `run` needs, as manifests.
    Rbac(rbac::Args),
    /// Asks a running operator whether it is ready.
    Ready(ready::Args),
    /// Prints the next step for a ConsulCluster and an observation, and why; touches nothing.
    Plan(plan::Args),
    /// Shows and changes a cluster of Kubernetes from a terminal; also as `kubectl consulcluster`.
    Kubectl(kubectl::Args),
    /// Runs a ConsulCluster as processes of this machine.
    #[command(subcommand)]
    Local(local::Verb),
}

/// Runs one verb.
///
/// # Errors
/// What to tell the person, in one sentence.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.verb {
        Verb::Run(args) => run::run(args).await,
        Verb::Crd(args) => crd::run(&args),
        Verb::Rbac(args) => rbac::run(&args),
        Verb::Ready(args) => ready::run(&args).await,
        Verb::Plan(args) => plan::run(&args),
        Verb::Kubectl(args) => kubectl::run(args).await,
        Verb::Local(verb) => local::run(verb).await,
    }
}

/// Reads a ConsulCluster from a file and says what a person should know about it.
fn read_cluster(path: &std::path::Path) -> anyhow::Result<crate::crd::ConsulCluster> {
    let text =
        std::fs::read_to_string(path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    crate::crd::read(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
}

/// Prints; a reader that went away early (`operator crd | head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
