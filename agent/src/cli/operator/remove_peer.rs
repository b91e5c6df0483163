//! `agent operator raft remove-peer`.

use clap::Parser;

use crate::cli::api::ApiFlags;
use crate::cli::{Done, Failure, Io, flags};

/// Removes a server from the Raft configuration. For one that is gone for good and was not removed by itself.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Datacenter to ask; without it the agent's own
    #[arg(long)]
    datacenter: Option<String>,
    /// RPC address of the server: IP:PORT
    #[arg(long, default_value = "")]
    address: String,
    /// Node id of the server
    #[arg(long, default_value = "")]
    id: String,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let Flags {
        api,
        datacenter,
        address,
        id,
    } = flags::parse("operator raft remove-peer", args)?;
    let failed = "Error removing peer";
    let (kind, name) = match (address.as_str(), id.as_str()) {
        ("", "") => {
            let text = format!("{failed}: an address or id is required for the peer to remove");
            return Err(Failure::Message(text));
        }
        (address, "") => ("address", address),
        ("", id) => ("id", id),
        _ => {
            return Err(Failure::Message(format!(
                "{failed}: cannot give both an address and id"
            )));
        }
    };
    let client = api.client(io)?.in_datacenter(datacenter.as_deref());
    let removed = match kind {
        "address" => client.raft_remove_peer_by_address(name).await,
        _ => client.raft_remove_peer_by_id(name).await,
    };
    removed.map_err(Failure::because(failed))?;
    writeln!(io.out, "Removed peer with {kind} {name:?}")?;
    Ok(0)
}
