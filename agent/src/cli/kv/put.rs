//! `agent kv put`.

use base64::Engine as _;
use clap::Parser;

use super::strip_slash;
use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::KvPut;

/// Writes a value to a key.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Take the lock on the key for -session; it is made if it does not exist
    #[arg(long)]
    acquire: Option<bool>,
    /// The value is given in base64
    #[arg(long)]
    base64: Option<bool>,
    /// Write only if the key was not changed since -modify-index; 0 means that it must not exist
    #[arg(long)]
    cas: Option<bool>,
    /// Number that is stored with the value, of the writer's own meaning
    #[arg(long)]
    flags: Option<u64>,
    /// Modify index that -cas compares with
    #[arg(long)]
    modify_index: Option<u64>,
    /// Give the lock of -session back
    #[arg(long)]
    release: Option<bool>,
    /// Session of -acquire and -release
    #[arg(long, default_value = "")]
    session: String,
    /// The key, and the value: itself, `-` for the standard input or `@FILE`
    key_and_value: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("kv put", args)?;
    let (key, value) = match &flags.key_and_value[..] {
        [] => return Err(Failure::Usage("Error! Missing KEY argument".into())),
        [key] => (strip_slash(key), Vec::new()),
        [key, value] => (strip_slash(key), read_value(value, &flags, io)?),
        more => {
            let text = format!("Too many arguments (expected 1 or 2, got {})", more.len());
            return Err(Failure::Usage(text));
        }
    };
    if key.is_empty() {
        return Err(Failure::Usage("Error! Missing KEY argument".into()));
    }
    let put = conditions(&flags)?;
    if flags.server.stale() {
        return Err(Failure::Usage("-stale means nothing for a write".into()));
    }
    let client = flags.api.client(io)?;
    let written = client.kv_put(key, value, &put).await;
    let acquire = put.acquire.is_some();
    let release = put.release.is_some();
    let prefix = match put.cas {
        Some(_) => format!("Error! Did not write to {key}"),
        None => "Error! Failed writing data".to_owned(),
    };
    if !written.map_err(Failure::because(&prefix))? {
        return Err(Failure::Message(match put.cas {
            Some(0) => format!("{prefix}: CAS performed with index=0 and key already exists."),
            Some(_) => format!("{prefix}: CAS failed"),
            None if acquire => "Error! Did not acquire lock".to_owned(),
            None => "Error! Did not release lock".to_owned(),
        }));
    }
    match (acquire, release) {
        (true, _) => writeln!(io.out, "Success! Lock acquired on: {key}")?,
        (_, true) => writeln!(io.out, "Success! Lock released on: {key}")?,
        _ => writeln!(io.out, "Success! Data written to: {key}")?,
    }
    Ok(0)
}

fn conditions(flags: &Flags) -> Result<KvPut, Failure> {
    let on = |flag: Option<bool>| flag == Some(true);
    let usage = |text: &str| Err(Failure::Usage(text.into()));
    if flags.modify_index.is_some() && !on(flags.cas) {
        return usage("Cannot specify -modify-index without -cas!");
    }
    if [flags.cas, flags.acquire, flags.release]
        .into_iter()
        .filter(|&f| on(f))
        .count()
        > 1
    {
        return usage("-cas, -acquire and -release exclude each other");
    }
    let locks = on(flags.acquire) || on(flags.release);
    if locks && flags.session.is_empty() {
        return usage("Missing -session (required with -acquire and -release)");
    }
    if !locks && !flags.session.is_empty() {
        return usage("-session means nothing without -acquire or -release");
    }
    let session = Some(flags.session.clone());
    Ok(KvPut {
        flags: flags.flags,
        cas: on(flags.cas).then(|| flags.modify_index.unwrap_or(0)),
        acquire: session.clone().filter(|_| on(flags.acquire)),
        release: session.filter(|_| on(flags.release)),
        datacenter: flags.server.datacenter().map(str::to_owned),
    })
}

fn read_value(text: &str, flags: &Flags, io: &mut Io<'_>) -> Result<Vec<u8>, Failure> {
    let value = if text == "-" {
        let mut value = Vec::new();
        io.input
            .read_to_end(&mut value)
            .map_err(Failure::because("Error! Failed to read the standard input"))?;
        value
    } else if let Some(path) = text.strip_prefix('@') {
        std::fs::read(path).map_err(Failure::because(&format!(
            "Error! Failed to read file {path}"
        )))?
    } else {
        text.as_bytes().to_vec()
    };
    if flags.base64 != Some(true) {
        return Ok(value);
    }
    base64::engine::general_purpose::STANDARD
        .decode(value.trim_ascii())
        .map_err(Failure::because("Error! Cannot base 64 decode data"))
}
