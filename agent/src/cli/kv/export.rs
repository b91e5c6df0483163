//! `agent kv export`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use super::one_key;
use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};

/// Prints every key below a prefix, in the form that `kv import` reads.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// The prefix; without it everything
    prefix: Vec<String>,
}

#[derive(Serialize)]
struct Entry {
    key: String,
    flags: u64,
    /// Base64.
    value: String,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("kv export", args)?;
    let prefix = one_key(&flags.prefix)?;
    let client = flags.api.client(io)?;
    let pairs = client.kv_list(prefix, &flags.server.params()).await;
    let pairs = pairs.map_err(Failure::because("Error querying Consul agent"))?;
    let entries: Vec<Entry> = pairs
        .into_iter()
        .map(|pair| Entry {
            key: pair.key,
            flags: pair.flags,
            value: STANDARD.encode(&pair.value),
        })
        .collect();
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    let written = entries.serialize(&mut serializer);
    written.map_err(Failure::because("Error exporting KV data"))?;
    text.push(b'\n');
    io.out.write_all(&text)?;
    Ok(0)
}
