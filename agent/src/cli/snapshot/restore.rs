//! `agent snapshot restore`.

use std::time::Duration;

use bytes::Bytes;
use clap::Parser;

use super::one_file;
use crate::archive;
use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::query;

/// How long it may take until every server has it.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Puts a saved state in place of the cluster's: every key, service and session of now is lost.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// The file that `snapshot save` wrote
    file: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("snapshot restore", args)?;
    let file = one_file(&flags.file)?;
    let opened = std::fs::read(file);
    let bytes = Bytes::from(opened.map_err(Failure::because("Error opening snapshot file"))?);
    let failed = "Error restoring snapshot";
    archive::read(&bytes).map_err(Failure::because(failed))?;
    let client = flags.api.client(io)?.with_timeout(TIME_MAX);
    let path = format!("/v1/snapshot{}", query(flags.server.params()));
    let response = client
        .put(&path, bytes)
        .await
        .map_err(Failure::because(failed))?;
    response.success().map_err(Failure::because(failed))?;
    writeln!(io.out, "Restored snapshot")?;
    Ok(0)
}
