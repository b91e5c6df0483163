//! `agent kv ...`: the key/value store.

use super::{Done, Failure, Io};

mod delete;
mod export;
mod get;
mod import;
mod put;

const USAGE: &str = "Usage: agent kv COMMAND [FLAGS] [ARGUMENTS]

Commands:
    delete  Deletes a key, or all keys with a prefix
    export  Prints everything below a prefix
    get     Prints a value, or all with a prefix
    import  Writes what export printed
    put     Writes a value
";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let Some((word, rest)) = args.split_first() else {
        return Err(Failure::Message(USAGE.trim_end().into()));
    };
    match word.as_str() {
        "delete" => delete::run(rest, io).await,
        "export" => export::run(rest, io).await,
        "get" => get::run(rest, io).await,
        "import" => import::run(rest, io).await,
        "put" => put::run(rest, io).await,
        "-h" | "-help" | "--help" => Err(Failure::Help(USAGE.into())),
        word => Err(Failure::Usage(format!(
            "There is no command {word:?} here. The commands are get, put, delete, export and import."
        ))),
    }
}

/// A key as people type it: keys do not start with a slash, paths do.
fn strip_slash(key: &str) -> &str {
    key.strip_prefix('/').unwrap_or(key)
}

/// The only positional argument of `get` and `delete`.
fn one_key(keys: &[String]) -> Result<&str, Failure> {
    match keys {
        [] => Ok(""),
        [key] => Ok(strip_slash(key)),
        more => {
            let text = format!("Too many arguments (expected 1, got {})", more.len());
            Err(Failure::Usage(text))
        }
    }
}
