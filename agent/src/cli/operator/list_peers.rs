//! `agent operator raft list-peers`.

use clap::Parser;

use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::table::{self, row};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::{RaftConfiguration, query};

/// Lists the servers of the Raft configuration.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("operator raft list-peers", args)?;
    let client = flags.api.client(io)?;
    let path = format!(
        "/v1/operator/raft/configuration{}",
        query(flags.server.params())
    );
    let configuration = client.get_json(&path).await.map_err(Failure::because(
        "Error getting peers: Failed to retrieve raft configuration",
    ))?;
    io.out
        .write_all(table::print(&rows(&configuration)).as_bytes())?;
    Ok(0)
}

fn rows(configuration: &RaftConfiguration) -> Vec<Vec<String>> {
    let header = [
        "Node",
        "ID",
        "Address",
        "State",
        "Voter",
        "RaftProtocol",
        "Commit Index",
        "Trails Leader By",
    ];
    let leader = configuration.servers.iter().find(|server| server.leader);
    let mut rows = vec![row(header)];
    for server in &configuration.servers {
        let node = match server.node.as_str() {
            "" => "(unknown)",
            name => name,
        };
        let state = if server.leader { "leader" } else { "follower" };
        let trails = match leader {
            Some(leader) if !server.leader => {
                format!(
                    "{} commits",
                    leader.last_index.saturating_sub(server.last_index)
                )
            }
            _ => "-".to_owned(),
        };
        rows.push(row([
            node,
            &server.id,
            &server.address,
            state,
            &server.voter.to_string(),
            &server.protocol_version,
            &server.last_index.to_string(),
            &trails,
        ]));
    }
    rows
}
