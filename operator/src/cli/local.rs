//! `operator local`: a ConsulCluster as processes of this machine.

mod destroy;
mod down;
mod folder;
mod progress;
mod saved;
mod status;
mod up;

use std::path::PathBuf;

use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Brings a cluster up as the manual says, and keeps it as its file says until it is interrupted.
    Up(up::Args),
    /// Shows a cluster.
    Status(status::Args),
    /// Saves a running cluster's state to a file.
    Snapshot(saved::Args),
    /// Stops a cluster's agents; their data stays.
    Down(Which),
    /// Stops a cluster's agents and removes their data.
    Destroy(destroy::Args),
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Which {
    /// Name of the cluster; not needed where there is only one.
    name: Option<String>,
    /// Folder of the cluster [default: .consulcluster/NAME]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs one of the verbs.
pub(super) async fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Up(args) => up::run(args).await,
        Verb::Status(args) => status::run(&args).await,
        Verb::Snapshot(args) => saved::run(&args).await,
        Verb::Down(which) => down::run(&which).await,
        Verb::Destroy(args) => destroy::run(&args).await,
    }
}
