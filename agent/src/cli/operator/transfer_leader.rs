//! `agent operator raft transfer-leader`.

use clap::Parser;

use crate::cli::api::ApiFlags;
use crate::cli::{Done, Failure, Io, flags};

/// Hands leadership to another server: the one with the given id, or the one that is furthest ahead.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Datacenter to ask; without it the agent's own
    #[arg(long)]
    datacenter: Option<String>,
    /// Node id of the server that shall lead
    #[arg(long)]
    id: Option<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("operator raft transfer-leader", args)?;
    let client = flags.api.client(io)?;
    let client = client.in_datacenter(flags.datacenter.as_deref());
    let id = flags.id.as_deref().filter(|id| !id.is_empty());
    client
        .raft_transfer_leader(id)
        .await
        .map_err(Failure::because("Error transferring leadership"))?;
    writeln!(io.out, "Success")?;
    Ok(0)
}
