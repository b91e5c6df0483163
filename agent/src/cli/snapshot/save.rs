//! `agent snapshot save`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::one_file;
use crate::archive;
use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::query;

/// How long it may take until all of it is here.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Saves the state of the cluster, as of one moment, to a file.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Where to; a file of that name is replaced once the new one is whole
    file: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("snapshot save", args)?;
    let file = Path::new(one_file(&flags.file)?);
    let client = flags.api.client(io)?.with_timeout(TIME_MAX);
    let path = format!("/v1/snapshot{}", query(flags.server.params()));
    let failed = "Error saving snapshot";
    let response = client.get(&path).await.map_err(Failure::because(failed))?;
    let response = response.success().map_err(Failure::because(failed))?;
    let (about, _) = archive::read(&response.body).map_err(Failure::because(
        "Error verifying snapshot file, nothing was saved",
    ))?;
    write(file, &response.body).map_err(Failure::because("Error writing snapshot file"))?;
    writeln!(
        io.out,
        "Saved and verified snapshot to index {}",
        about.index
    )?;
    Ok(0)
}

/// Under another name first: whoever looks for the file finds a whole one.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unverified");
    let written = || {
        // It holds the private key of the certificate authority.
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    written().inspect_err(|_| {
        // What is left of it is of no use; the first error says what is wrong.
        let _ = fs::remove_file(&unfinished);
    })
}
