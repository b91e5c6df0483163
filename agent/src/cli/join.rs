//! `agent join`: make an agent join a cluster.

use clap::Parser;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};

/// Makes an agent join the cluster of each of the given addresses.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Join a server to the pool of the servers of all datacenters
    #[arg(long)]
    wan: Option<bool>,
    /// Addresses of members: HOST or HOST:PORT
    addresses: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("join", args)?;
    if flags.addresses.is_empty() {
        return Err(Failure::Usage(
            "At least one address to join must be specified.".into(),
        ));
    }
    let client = flags.api.client(io)?;
    let mut joined = 0;
    for address in &flags.addresses {
        let done = match flags::on(flags.wan) {
            true => client.join_wan(address).await,
            false => client.join(address).await,
        };
        match done {
            Ok(()) => joined += 1,
            Err(e) => writeln!(io.err, "Error joining address '{address}': {e}")?,
        }
    }
    if joined == 0 {
        return Err(Failure::Message("Failed to join any nodes.".into()));
    }
    writeln!(
        io.out,
        "Successfully joined cluster by contacting {joined} nodes."
    )?;
    Ok(0)
}
