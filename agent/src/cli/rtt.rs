//! `agent rtt`: the round-trip time between two nodes, estimated.

use clap::Parser;
use serde::Deserialize;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};
use crate::client::Client;
use crate::coordinate::Coordinate;

/// Estimates the round-trip time between two nodes, or between one and the agent's own, from their network coordinates.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Use the coordinates of servers in the pool of all datacenters; names are NODE.DATACENTER
    #[arg(long)]
    wan: Option<bool>,
    /// The nodes
    nodes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Place {
    node: String,
    coord: Coordinate,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Datacenter {
    datacenter: String,
    coordinates: Vec<Place>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("rtt", args)?;
    let (first, second) = match &flags.nodes[..] {
        [first] => (first, None),
        [first, second] => (first, Some(second)),
        _ => {
            let text = "One or two node names must be specified";
            return Err(Failure::Usage(text.into()));
        }
    };
    let client = flags.api.client(io)?;
    let second = match second {
        Some(second) => second.clone(),
        None => own_name(&client, flags::on(flags.wan)).await?,
    };
    if flags::on(flags.wan) && [first, &second].iter().any(|n| n.split('.').count() != 2) {
        let text = "Node names must be specified as <node name>.<datacenter> with -wan";
        return Err(Failure::Message(text.into()));
    }
    let places = places(&client, flags::on(flags.wan)).await?;
    let find = |node: &str| {
        let found = places.iter().find(|place| place.node == node);
        found.ok_or_else(|| {
            Failure::Message(format!("Could not find a coordinate for node {node:?}"))
        })
    };
    let ms = find(first)?.coord.distance(&find(&second)?.coord) * 1000.0;
    let source = if flags::on(flags.wan) { "WAN" } else { "LAN" };
    writeln!(
        io.out,
        "Estimated {first} <-> {second} rtt: {ms:.3} ms (using {source} coordinates)"
    )?;
    Ok(0)
}

async fn own_name(client: &Client, wan: bool) -> Result<String, Failure> {
    let own = client.self_().await;
    let own = own.map_err(Failure::because("Unable to look up agent info"))?;
    let (node, datacenter) = (own.config.node_name, own.config.datacenter);
    Ok(match wan {
        true => format!("{node}.{datacenter}"),
        false => node,
    })
}

async fn places(client: &Client, wan: bool) -> Result<Vec<Place>, Failure> {
    let failed = || Failure::because("Error getting coordinates");
    if !wan {
        let places = client.get_json("/v1/coordinate/nodes").await;
        return places.map_err(failed());
    }
    let found = client.get_json("/v1/coordinate/datacenters").await;
    let found: Vec<Datacenter> = found.map_err(failed())?;
    let places = found.into_iter().flat_map(|dc| {
        let name = dc.datacenter;
        dc.coordinates.into_iter().map(move |place| Place {
            node: format!("{}.{name}", place.node),
            ..place
        })
    });
    Ok(places.collect())
}
