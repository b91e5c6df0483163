//! `agent kv delete`.

use clap::Parser;

use super::one_key;
use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::{escape_path, query};

/// Deletes a key, or with -recurse everything below a prefix.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Delete only if the key was not changed since -modify-index
    #[arg(long)]
    cas: Option<bool>,
    /// Modify index that -cas compares with
    #[arg(long, default_value = "0")]
    modify_index: u64,
    /// Delete every key below the prefix
    #[arg(long)]
    recurse: Option<bool>,
    /// The key or prefix
    key: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("kv delete", args)?;
    let key = one_key(&flags.key)?;
    let recurse = flags.recurse == Some(true);
    let cas = flags.cas == Some(true);
    let usage = |text: &str| Err(Failure::Usage(text.into()));
    // A mistyped empty key must not delete everything; the empty prefix has to be written out.
    if key.is_empty() && (!recurse || flags.key.is_empty()) {
        return usage("Error! Missing KEY argument");
    }
    if cas && recurse {
        return usage("Cannot specify both -cas and -recurse!");
    }
    if cas && flags.modify_index == 0 {
        return usage("Must specify a -modify-index greater than 0 with -cas!");
    }
    if !cas && flags.modify_index != 0 {
        return usage("Cannot specify -modify-index without -cas!");
    }
    if flags.server.stale() {
        return Err(Failure::Usage("-stale means nothing for a write".into()));
    }
    let client = flags.api.client(io)?;
    let index = flags.modify_index.to_string();
    let mut params = flags.server.params();
    if cas {
        params.push(("cas", Some(index.as_str())));
    }
    if recurse {
        params.push(("recurse", None));
    }
    let path = format!("/v1/kv/{}{}", escape_path(key), query(params));
    let deleted = client.delete_json(&path).await;
    let prefix = match recurse {
        true => format!("Error! Did not delete prefix {key}"),
        false => format!("Error! Did not delete key {key}"),
    };
    if !deleted.map_err(Failure::because(&prefix))? {
        return Err(Failure::Message(format!("{prefix}: CAS failed")));
    }
    match recurse {
        true => writeln!(io.out, "Success! Deleted keys with prefix: {key}")?,
        false => writeln!(io.out, "Success! Deleted key: {key}")?,
    }
    Ok(0)
}
