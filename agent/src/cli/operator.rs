//! `agent operator raft ...` and `agent operator autopilot ...`: the set of servers.

use super::{Done, Failure, Io};

mod autopilot;
mod list_peers;
mod remove_peer;
mod transfer_leader;
mod usage;

const USAGE: &str = "Usage: agent operator COMMAND [FLAGS]

Commands:
    raft list-peers       Lists the servers of the Raft configuration
    raft remove-peer      Removes a server from the Raft configuration
    raft transfer-leader  Hands leadership to another server
    autopilot get-config  Shows how the leader looks after the servers
    autopilot set-config  Changes that
    autopilot state       Shows how well the servers are
    usage instances       Counts the instances of services
";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let words: Vec<&str> = args.iter().map(String::as_str).take(2).collect();
    match words[..] {
        ["raft", "list-peers"] => list_peers::run(&args[2..], io).await,
        ["raft", "remove-peer"] => remove_peer::run(&args[2..], io).await,
        ["raft", "transfer-leader"] => transfer_leader::run(&args[2..], io).await,
        ["autopilot", "get-config"] => autopilot::get(&args[2..], io).await,
        ["autopilot", "set-config"] => autopilot::set(&args[2..], io).await,
        ["autopilot", "state"] => autopilot::state(&args[2..], io).await,
        ["usage", "instances"] => usage::run(&args[2..], io).await,
        ["utilization" | "area" | "license", ..] => Err(Failure::Message(format!(
            "operator {} is a feature of Consul Enterprise",
            words[0]
        ))),
        ["-h" | "-help" | "--help", ..]
        | ["raft" | "autopilot" | "usage", "-h" | "-help" | "--help"] => {
            Err(Failure::Help(USAGE.into()))
        }
        ["raft" | "autopilot" | "usage", word] => Err(unknown(word)),
        [] | ["raft" | "autopilot" | "usage"] => Err(Failure::Message(USAGE.trim_end().into())),
        [word, ..] => Err(unknown(word)),
    }
}

fn unknown(word: &str) -> Failure {
    Failure::Usage(format!(
        "There is no command {word:?} here. {}",
        "The commands are raft list-peers, remove-peer, transfer-leader, autopilot get-config, set-config, state and usage instances."
    ))
}
