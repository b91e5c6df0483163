//! `agent force-leave`: make a failed member one that left.

use clap::Parser;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};

/// Makes a failed member one that left, so that it is no longer waited for.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Forget the member at once
    #[arg(long)]
    prune: Option<bool>,
    /// The name is NODE.DATACENTER, in the pool of the servers of all datacenters
    #[arg(long)]
    wan: Option<bool>,
    /// Name of the node
    nodes: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("force-leave", args)?;
    let [node] = &flags.nodes[..] else {
        return Err(Failure::Usage(
            "A single node name must be specified to force leave.".into(),
        ));
    };
    let client = flags.api.client(io)?;
    let prune = flags::on(flags.prune);
    let done = match flags::on(flags.wan) {
        true => client.force_leave_wan(node, prune).await,
        false => client.force_leave(node, prune).await,
    };
    done.map_err(Failure::because("Error force leaving"))?;
    Ok(0)
}
