//! `agent operator raft ...`: the set of Raft servers.

use super::{Done, Failure, Io};

mod list_peers;
mod remove_peer;
mod transfer_leader;

const USAGE: &str = "Usage: agent operator raft COMMAND [FLAGS]

Commands:
    list-peers       Lists the servers of the Raft configuration
    remove-peer      Removes a server from the Raft configuration
    transfer-leader  Hands leadership to another server
";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let words: Vec<&str> = args.iter().map(String::as_str).take(2).collect();
    match words[..] {
        ["raft", "list-peers"] => list_peers::run(&args[2..], io).await,
        ["raft", "remove-peer"] => remove_peer::run(&args[2..], io).await,
        ["raft", "transfer-leader"] => transfer_leader::run(&args[2..], io).await,
        ["-h" | "-help" | "--help", ..] | ["raft", "-h" | "-help" | "--help"] => {
            Err(Failure::Help(USAGE.into()))
        }
        ["raft", word] | [word] if word != "raft" => Err(Failure::Usage(format!(
            "There is no command {word:?} here. {}",
            "The commands are raft list-peers, raft remove-peer and raft transfer-leader."
        ))),
        [word, _] if word != "raft" => Err(Failure::Usage(format!(
            "There is no command {word:?} here. The only one is raft."
        ))),
        _ => Err(Failure::Message(USAGE.trim_end().into())),
    }
}
