//! `agent catalog ...`: nodes, services and datacenters.

use std::collections::BTreeMap;

use clap::Parser;
use serde::Deserialize;

use super::api::{ApiFlags, ServerFlags};
use super::{Done, Failure, Io, flags, table};
use crate::client::{Client, escape_path, query};

const USAGE: &str = "Usage: agent catalog COMMAND [FLAGS]

Commands:
    datacenters  Lists the datacenters
    nodes        Lists the nodes
    services     Lists the services
";

/// What is printed when nothing fits.
const NO_NODES: &str = "No nodes match the given query - try expanding your search.";
const NO_SERVICES: &str = "No services match the given query - try expanding your search.";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let Some((word, rest)) = args.split_first() else {
        return Err(Failure::Message(USAGE.trim_end().into()));
    };
    match word.as_str() {
        "datacenters" => datacenters(rest, io).await,
        "nodes" => nodes(rest, io).await,
        "services" => services(rest, io).await,
        "-h" | "-help" | "--help" => Err(Failure::Help(USAGE.into())),
        word => Err(Failure::Usage(format!(
            "There is no command {word:?} here. The commands are datacenters, nodes and services."
        ))),
    }
}

/// Lists the datacenters that this agent knows.
#[derive(Parser)]
struct DatacentersFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
}

async fn datacenters(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: DatacentersFlags = flags::parse("catalog datacenters", args)?;
    let client = flags.api.client(io)?;
    let path = format!("/v1/catalog/datacenters{}", query(flags.server.params()));
    let names: Vec<String> = client
        .get_json(&path)
        .await
        .map_err(Failure::because("Error listing datacenters"))?;
    for name in names {
        writeln!(io.out, "{name}")?;
    }
    Ok(0)
}

/// Lists the nodes of the catalog.
#[derive(Parser)]
struct NodesFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Print ids whole, tagged addresses and meta data
    #[arg(long)]
    detailed: Option<bool>,
    /// Only nodes for which this expression holds
    #[arg(long)]
    filter: Option<String>,
    /// Sort by the estimated time to this node
    #[arg(long)]
    near: Option<String>,
    /// Only nodes with this meta data, KEY=VALUE; may be repeated
    #[arg(long)]
    node_meta: Vec<String>,
    /// Only nodes with this service
    #[arg(long)]
    service: Option<String>,
}

/// A node, or an instance of a service with its node.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "ID", default)]
    id: String,
    node: String,
    address: String,
    #[serde(default)]
    datacenter: String,
    #[serde(default)]
    tagged_addresses: Option<BTreeMap<String, String>>,
    #[serde(alias = "NodeMeta", default)]
    meta: Option<BTreeMap<String, String>>,
}

async fn nodes(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: NodesFlags = flags::parse("catalog nodes", args)?;
    let client = flags.api.client(io)?;
    let nodes = find_nodes(&flags, &client).await?;
    if nodes.is_empty() {
        writeln!(io.out, "{NO_NODES}")?;
        return Ok(0);
    }
    let detailed = flags.detailed == Some(true);
    let mut rows = vec![match detailed {
        true => table::row(["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]),
        false => table::row(["Node", "ID", "Address", "DC"]),
    }];
    for node in nodes {
        rows.push(match detailed {
            true => vec![
                node.node,
                node.id,
                node.address,
                node.datacenter,
                pairs(node.tagged_addresses),
                pairs(node.meta),
            ],
            false => {
                let id = node.id.get(..8).unwrap_or(&node.id).to_owned();
                vec![node.node, id, node.address, node.datacenter]
            }
        });
    }
    write!(io.out, "{}", table::print(&rows))?;
    Ok(0)
}

async fn find_nodes(flags: &NodesFlags, client: &Client) -> Result<Vec<Node>, Failure> {
    let metas: Vec<String> = flags
        .node_meta
        .iter()
        .map(|pair| pair.replacen('=', ":", 1))
        .collect();
    let mut params = flags.server.params();
    params.extend(metas.iter().map(|meta| ("node-meta", Some(meta.as_str()))));
    for (name, value) in [("filter", &flags.filter), ("near", &flags.near)] {
        if let Some(value) = value {
            params.push((name, Some(value)));
        }
    }
    let path = match &flags.service {
        Some(service) => format!("/v1/catalog/service/{}", escape_path(service)),
        None => "/v1/catalog/nodes".to_owned(),
    };
    let nodes = client.get_json(&format!("{path}{}", query(params))).await;
    let mut nodes: Vec<Node> = nodes.map_err(Failure::because("Error listing nodes"))?;
    // Of several instances on a node one is enough.
    nodes.dedup_by(|a, b| a.node == b.node);
    Ok(nodes)
}

fn pairs(map: Option<BTreeMap<String, String>>) -> String {
    let pairs = map.unwrap_or_default();
    let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

/// Lists the names of services.
#[derive(Parser)]
struct ServicesFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Only services on this node
    #[arg(long)]
    node: Option<String>,
    /// Only services on nodes with this meta data, KEY=VALUE; may be repeated
    #[arg(long)]
    node_meta: Vec<String>,
    /// Print the tags of each
    #[arg(long)]
    tags: Option<bool>,
}

async fn services(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: ServicesFlags = flags::parse("catalog services", args)?;
    let client = flags.api.client(io)?;
    let services = find_services(&flags, &client).await?;
    if services.is_empty() {
        writeln!(io.out, "{NO_SERVICES}")?;
        return Ok(0);
    }
    if flags.tags != Some(true) {
        for name in services.keys() {
            writeln!(io.out, "{name}")?;
        }
        return Ok(0);
    }
    let rows: Vec<_> = services
        .into_iter()
        .map(|(name, mut tags)| {
            tags.sort();
            vec![name, tags.join(",")]
        })
        .collect();
    write!(io.out, "{}", table::print(&rows))?;
    Ok(0)
}

async fn find_services(
    flags: &ServicesFlags,
    client: &Client,
) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct OnNode {
        services: BTreeMap<String, Service>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Service {
        service: String,
        #[serde(default)]
        tags: Option<Vec<String>>,
    }
    let failed = "Error listing services";
    if let Some(node) = &flags.node {
        let params = query(flags.server.params());
        let path = format!("/v1/catalog/node/{}{params}", escape_path(node));
        let found: Option<OnNode> = client
            .get_json(&path)
            .await
            .map_err(Failure::because(failed))?;
        let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for service in found.into_iter().flat_map(|on| on.services.into_values()) {
            let tags = services.entry(service.service).or_default();
            tags.extend(service.tags.unwrap_or_default());
            tags.sort();
            tags.dedup();
        }
        return Ok(services);
    }
    let metas: Vec<String> = flags
        .node_meta
        .iter()
        .map(|pair| pair.replacen('=', ":", 1))
        .collect();
    let mut params = flags.server.params();
    params.extend(metas.iter().map(|meta| ("node-meta", Some(meta.as_str()))));
    let path = format!("/v1/catalog/services{}", query(params));
    client
        .get_json(&path)
        .await
        .map_err(Failure::because(failed))
}
