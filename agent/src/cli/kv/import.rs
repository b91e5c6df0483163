//! `agent kv import`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use serde::Deserialize;

use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::KvPut;

/// Writes what `kv export` printed.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Put in front of every key
    #[arg(long, default_value = "")]
    prefix: String,
    /// The entries: themselves, `-` for the standard input or `@FILE`
    data: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    #[serde(default)]
    flags: u64,
    /// Base64.
    #[serde(default)]
    value: String,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("kv import", args)?;
    let text = match &flags.data[..] {
        [data] => read(data, io)?,
        [] => return Err(Failure::Usage("Error! Missing DATA argument".into())),
        more => {
            let text = format!("Too many arguments (expected 1, got {})", more.len());
            return Err(Failure::Usage(text));
        }
    };
    // All of it is understood before the first key is written.
    let entries: Vec<Entry> =
        serde_json::from_slice(&text).map_err(Failure::because("Cannot unmarshal data"))?;
    let mut pairs = Vec::with_capacity(entries.len());
    for entry in entries {
        let failed = format!("Error base 64 decoding value for key {}", entry.key);
        let value = STANDARD.decode(&entry.value);
        let value = value.map_err(Failure::because(&failed))?;
        pairs.push((join(&flags.prefix, &entry.key), entry.flags, value));
    }
    let client = flags.api.client(io)?;
    for (key, number, value) in pairs {
        let put = KvPut {
            flags: Some(number),
            datacenter: flags.server.datacenter().map(str::to_owned),
            ..KvPut::default()
        };
        let failed = format!("Error! Failed writing data for key {key}");
        let written = client.kv_put(&key, value, &put).await;
        written.map_err(Failure::because(&failed))?;
        writeln!(io.out, "Imported: {key}")?;
    }
    Ok(0)
}

/// A path of both, with one slash between them.
fn join(prefix: &str, key: &str) -> String {
    match prefix.trim_end_matches('/') {
        "" => key.to_owned(),
        prefix => format!("{prefix}/{key}"),
    }
}

fn read(data: &str, io: &mut Io<'_>) -> Result<Vec<u8>, Failure> {
    if data == "-" {
        let mut text = Vec::new();
        io.input
            .read_to_end(&mut text)
            .map_err(Failure::because("Error! Failed to read the standard input"))?;
        return Ok(text);
    }
    match data.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(Failure::because(&format!(
            "Error! Failed to read file {path}"
        ))),
        None => Ok(data.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_joined_with_one_slash() {
        for (prefix, key, wanted) in [
            ("", "a/b", "a/b"),
            ("p", "a", "p/a"),
            ("p/", "a", "p/a"),
            ("/", "a", "a"),
        ] {
            assert_eq!(join(prefix, key), wanted);
        }
    }
}
