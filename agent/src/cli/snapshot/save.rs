//! `agent snapshot save`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde_json::json;

use super::place::Place;
use super::{S3Flags, one_file, reach, report};
use crate::archive::{self, ARCHIVE_BYTES_MAX};
use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::query;

/// How long it may take until all of it is here.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Saves the state of the cluster, as of one moment, to a file or to s3://BUCKET/KEY, and reads it back.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    s3: S3Flags,
    /// Make the folders that FILE is to be in
    #[arg(long)]
    make_folders: Option<bool>,
    /// Delete this older one (a file or s3://BUCKET/KEY) once the new one is verified; may be given several times
    #[arg(long)]
    delete: Vec<String>,
    /// Write what was done to this file, as JSON. This is for jobs: they also wait, for up to 30s, for an agent that
    /// takes no connections yet
    #[arg(long)]
    report: Option<PathBuf>,
    /// Where to; a file of that name is replaced once the new one is whole
    file: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("snapshot save", args)?;
    let file = one_file(&flags.file)?;
    let failed = "Error saving snapshot";
    let place =
        |text: &str, io: &Io<'_>| Place::new(text, &flags.s3, io).map_err(Failure::because(failed));
    // All that can be seen to be wrong is, before anything is asked for.
    let to = place(file, io)?;
    let mut older = Vec::new();
    for text in &flags.delete {
        if text == file {
            let text = format!("-delete names {text}, which is where the new one goes");
            return Err(Failure::Usage(text));
        }
        older.push((text, place(text, io)?));
    }
    let client = flags.api.client(io)?;
    let client = client
        .with_timeout(TIME_MAX)
        .with_answer_bytes_max(ARCHIVE_BYTES_MAX);
    let path = format!("/v1/snapshot{}", query(flags.server.params()));
    let response = reach::answer(flags.report.is_some(), || client.get(&path))
        .await
        .map_err(Failure::because(failed))?;
    let response = response.success().map_err(Failure::because(failed))?;
    archive::read(&response.body).map_err(Failure::because(
        "Error verifying snapshot file, nothing was saved",
    ))?;
    let size = response.body.len();
    let folders = flags.make_folders == Some(true);
    let (about, sha256) = to
        .write_verified(response.body, folders)
        .await
        .map_err(Failure::because("Error writing snapshot file"))?;
    writeln!(
        io.out,
        "Saved and verified snapshot to index {}",
        about.index
    )?;
    let (mut deleted, mut kept) = (Vec::new(), Vec::new());
    for (text, place) in older {
        match place.delete().await {
            Ok(()) => {
                writeln!(io.out, "Deleted {text}")?;
                deleted.push(text);
            }
            // The new one is there, which is what counts; the old one is somebody's to look at.
            Err(error) => {
                io.fail(format!("Error deleting {text}: {error}"));
                kept.push(json!({"Location": text, "Error": error}));
            }
        }
    }
    let done = json!({
        "Location": file, "Index": about.index, "Term": about.term, "Size": size, "SHA256": sha256,
        "Deleted": deleted, "NotDeleted": kept,
    });
    report(flags.report.as_ref(), &done)?;
    Ok(0)
}
