//! `agent kv get`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;

use super::one_key;
use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::KvPair;

/// Prints the value of a key, or with -recurse or -keys everything below a prefix.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Print values in base64
    #[arg(long)]
    base64: Option<bool>,
    /// Print everything that is stored with the value
    #[arg(long)]
    detailed: Option<bool>,
    /// Print only the keys below the prefix, each up to the next separator
    #[arg(long)]
    keys: Option<bool>,
    /// Print every key below the prefix with its value
    #[arg(long)]
    recurse: Option<bool>,
    /// Where -keys cuts the keys
    #[arg(long, default_value = "/")]
    separator: String,
    /// The key or prefix
    key: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("kv get", args)?;
    let key = one_key(&flags.key)?;
    let on = |flag: Option<bool>| flag == Some(true);
    if key.is_empty() && !on(flags.recurse) && !on(flags.keys) {
        return Err(Failure::Usage("Error! Missing KEY argument".into()));
    }
    let client = flags.api.client(io)?;
    let params = flags.server.params();
    let failed = "Error querying Consul agent";
    if on(flags.keys) {
        let keys = client.kv_keys(key, &flags.separator, &params).await;
        for key in keys.map_err(Failure::because(failed))? {
            writeln!(io.out, "{key}")?;
        }
        return Ok(0);
    }
    if on(flags.recurse) {
        let pairs = client
            .kv_list(key, &params)
            .await
            .map_err(Failure::because(failed))?;
        for (i, pair) in pairs.iter().enumerate() {
            match on(flags.detailed) {
                true => {
                    if i > 0 {
                        writeln!(io.out)?;
                    }
                    print_detailed(pair, on(flags.base64), io)?;
                }
                false => {
                    write!(io.out, "{}:", pair.key)?;
                    print_value(pair, on(flags.base64), io)?;
                }
            }
        }
        return Ok(0);
    }
    let Some(pair) = client
        .kv_get(key, &params)
        .await
        .map_err(Failure::because(failed))?
    else {
        return Err(Failure::Message(format!("Error! No key exists at: {key}")));
    };
    match on(flags.detailed) {
        true => print_detailed(&pair, on(flags.base64), io)?,
        false => print_value(&pair, on(flags.base64), io)?,
    }
    Ok(0)
}

/// The value as it is, and a line end.
fn print_value(pair: &KvPair, base64: bool, io: &mut Io<'_>) -> std::io::Result<()> {
    match base64 {
        true => io.out.write_all(STANDARD.encode(&pair.value).as_bytes())?,
        false => io.out.write_all(&pair.value)?,
    }
    io.out.write_all(b"\n")
}

fn print_detailed(pair: &KvPair, base64: bool, io: &mut Io<'_>) -> std::io::Result<()> {
    let session = match pair.session.as_deref() {
        None | Some("") => "-",
        Some(session) => session,
    };
    for (name, value) in [
        ("CreateIndex", pair.create_index.to_string()),
        ("Flags", pair.flags.to_string()),
        ("Key", pair.key.clone()),
        ("LockIndex", pair.lock_index.to_string()),
        ("ModifyIndex", pair.modify_index.to_string()),
        ("Session", session.to_owned()),
    ] {
        writeln!(io.out, "{name:<17}{value}")?;
    }
    write!(io.out, "{:<17}", "Value")?;
    print_value(pair, base64, io)
}
