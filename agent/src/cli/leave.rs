//! `agent leave`: make an agent leave gracefully and stop.

use clap::Parser;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};

/// Makes an agent leave its cluster gracefully and stop; returns when the leave is over.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("leave", args)?;
    let client = flags.api.client(io)?;
    client
        .leave()
        .await
        .map_err(Failure::because("Error leaving"))?;
    writeln!(io.out, "Graceful leave complete")?;
    Ok(0)
}
