//! `agent snapshot restore`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde_json::json;

use super::place::Place;
use super::{S3Flags, decode, one_file, reach, report, sha256};
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
    #[command(flatten)]
    s3: S3Flags,
    /// Only put it back when this is its SHA-256, in hexadecimal
    #[arg(long)]
    sha256: Option<String>,
    /// Write what was done to this file, as JSON. This is for jobs: they also wait, for up to 30s, for an agent that
    /// takes no connections yet
    #[arg(long)]
    report: Option<PathBuf>,
    /// The file that `snapshot save` wrote, or s3://BUCKET/KEY
    file: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("snapshot restore", args)?;
    let file = one_file(&flags.file)?;
    let opening = "Error opening snapshot file";
    let place = Place::new(file, &flags.s3, io).map_err(Failure::because(opening))?;
    let bytes = place.read().await.map_err(Failure::because(opening))?;
    let failed = "Error restoring snapshot";
    let found = sha256(&bytes);
    if let Some(wanted) = flags.sha256.filter(|wanted| *wanted != found) {
        let text = format!("{failed}: {file} has SHA-256 {found}, not {wanted}");
        return Err(Failure::Message(text));
    }
    let (about, _) = decode(&bytes).map_err(Failure::because(failed))?;
    let size = bytes.len();
    let client = flags.api.client(io)?.with_timeout(TIME_MAX);
    let path = format!("/v1/snapshot{}", query(flags.server.params()));
    let response = reach::answer(flags.report.is_some(), || client.put(&path, bytes.clone()))
        .await
        .map_err(Failure::because(failed))?;
    response.success().map_err(Failure::because(failed))?;
    writeln!(io.out, "Restored snapshot")?;
    let done = json!({"Location": file, "Index": about.index, "Term": about.term, "Size": size, "SHA256": found});
    report(flags.report.as_ref(), &done)?;
    Ok(0)
}
