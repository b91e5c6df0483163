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
    /// Not supported: this version has one datacenter
    #[arg(long)]
    wan: Option<bool>,
    /// Name of the node
    nodes: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("force-leave", args)?;
    if flags.wan == Some(true) {
        return Err(Failure::Message(
            "-wan is not supported: this version has one datacenter".into(),
        ));
    }
    let [node] = &flags.nodes[..] else {
        return Err(Failure::Usage(
            "A single node name must be specified to force leave.".into(),
        ));
    };
    let client = flags.api.client(io)?;
    client
        .force_leave(node, flags.prune == Some(true))
        .await
        .map_err(Failure::because("Error force leaving"))?;
    Ok(0)
}
