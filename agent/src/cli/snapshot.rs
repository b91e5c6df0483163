//! `agent snapshot`: save the state, put it back, look into a saved one.

use super::{Done, Failure, Io};

mod inspect;
mod restore;
mod save;

const USAGE: &str = "Usage: agent snapshot COMMAND [FLAGS] FILE

Commands:
    save     Saves the state of the cluster to a file
    restore  Puts a saved state in place of the cluster's
    inspect  Shows what is in a saved state
";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    match args.split_first() {
        Some((verb, rest)) => match verb.as_str() {
            "save" => save::run(rest, io).await,
            "restore" => restore::run(rest, io).await,
            "inspect" => inspect::run(rest, io),
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
