//! `agent snapshot`: save the state, put it back, look into a saved one. Where it is kept is a file or, as
//! `s3://BUCKET/KEY`, an object of S3-compatible storage.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use sha2::{Digest as _, Sha256};

use super::{Done, Failure, Io};
use crate::archive::{self, About};
use crate::state::Store;

mod inspect;
mod place;
mod reach;
mod restore;
mod s3;
mod save;

const USAGE: &str = "Usage: agent snapshot COMMAND [FLAGS] FILE

Commands:
    save     Saves the state of the cluster to a file
    restore  Puts a saved state in place of the cluster's
    inspect  Shows what is in a saved state

FILE may be s3://BUCKET/KEY: an object of S3-compatible storage. Its credentials come from the environment:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where there is one, AWS_SESSION_TOKEN.
";

/// How S3-compatible storage is reached.
#[derive(Debug, Default, Args)]
struct S3Flags {
    /// URL of the S3 server [environment: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL] [default: Amazon's of the region]
    #[arg(long)]
    aws_s3_endpoint: Option<String>,
    /// Region of the bucket [environment: AWS_REGION] [default: us-east-1]
    #[arg(long)]
    aws_s3_region: Option<String>,
    /// Whether the bucket stands in the path of URLs, not in the host's name [default: true with an endpoint]
    #[arg(long)]
    aws_s3_path_style: Option<bool>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    match args.split_first() {
        Some((verb, rest)) => match verb.as_str() {
            "save" => save::run(rest, io).await,
            "restore" => restore::run(rest, io).await,
            "inspect" => inspect::run(rest, io).await,
            "agent" => Err(Failure::Message(
                "snapshot agent is a feature of Consul Enterprise: run 'snapshot save' from a timer instead".into(),
            )),
            "-h" | "-help" | "--help" => Err(Failure::Help(USAGE.into())),
            other => Err(Failure::Usage(format!("there is no command {other:?}"))),
        },
        None => Err(Failure::Help(USAGE.into())),
    }
}

/// The only argument.
fn one_file(files: &[String]) -> Result<&str, Failure> {
    match files {
        [] => Err(Failure::Usage("Missing FILE argument".into())),
        [file] => Ok(file),
        more => {
            let text = format!("Too many arguments (expected 1, got {})", more.len());
            Err(Failure::Usage(text))
        }
    }
}

/// What SHA-256 makes of the archive, in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes a saved state apart, and its state too: what passes here can be put back.
fn decode(bytes: &Bytes) -> Result<(About, Store), String> {
    let (about, state) = archive::read(bytes).map_err(|error| error.to_string())?;
    let store = Store::decode(&state)
        .map_err(|error| format!("the saved state cannot be read: {error}"))?;
    Ok((about, store))
}

/// Writes what was done, as JSON, for the program that asked for it.
fn report(file: Option<&PathBuf>, what: &serde_json::Value) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let failed = format!("Error writing the report to {}", file.display());
    std::fs::write(file, what.to_string()).map_err(Failure::because(&failed))
}
