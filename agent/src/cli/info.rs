//! `agent info`: what an agent knows of itself.

use clap::Parser;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};

/// Prints what an agent knows of itself, in blocks.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("info", args)?;
    let client = flags.api.client(io)?;
    let stats = client
        .stats()
        .await
        .map_err(Failure::because("Error querying agent"))?;
    for (block, values) in stats {
        writeln!(io.out, "{block}:")?;
        for (key, value) in values {
            writeln!(io.out, "\t{key} = {value}")?;
        }
    }
    Ok(0)
}
