//! `agent reload`: make an agent read its configuration again.

use clap::Parser;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};

/// Makes an agent read its configuration files again, as SIGHUP does.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("reload", args)?;
    let client = flags.api.client(io)?;
    client
        .reload()
        .await
        .map_err(Failure::because("Error reloading"))?;
    writeln!(io.out, "Configuration reload triggered")?;
    Ok(0)
}
