//! `agent services export` and `agent services exported-services`.

use std::collections::BTreeSet;

use bytes::Bytes;
use clap::Parser;
use serde_json::{Value, json};

use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags, table};
use crate::client::{Response, query};

const UNREADABLE: &str = "Error reading config entry exported-services/default";

const ENTRY: &str = "/v1/config/exported-services/default";

/// Exports a service to peered clusters, beside what is exported already.
#[derive(Parser)]
struct ExportFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// Partitions to export to: a feature of Consul Enterprise
    #[arg(long)]
    consumer_partitions: Vec<String>,
    /// Peers to export to, separated by commas; may be repeated
    #[arg(long)]
    consumer_peers: Vec<String>,
    /// Name of the service
    #[arg(long, default_value = "")]
    name: String,
}

/// Runs `services export`.
pub(super) async fn export(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: ExportFlags = flags::parse("services export", args)?;
    if flags.name.is_empty() {
        return Err(Failure::Usage("Missing the required -name flag".into()));
    }
    if !flags.consumer_partitions.is_empty() {
        let text = "-consumer-partitions is a feature of Consul Enterprise";
        return Err(Failure::Usage(text.into()));
    }
    let peers = flags.consumer_peers.iter().flat_map(|list| list.split(','));
    let peers: Vec<String> = peers
        .map(|peer| peer.trim().to_owned())
        .filter(|peer| !peer.is_empty())
        .collect();
    if peers.is_empty() {
        let text = "Missing the required -consumer-peers or -consumer-partitions flag";
        return Err(Failure::Usage(text.into()));
    }
    let client = flags.api.client(io)?;
    let failed = || Failure::because(UNREADABLE);
    let response = client.get(ENTRY).await.map_err(failed())?;
    let present = match response.status.as_u16() {
        404 => Value::Null,
        _ => {
            let response = response.success().map_err(failed())?;
            serde_json::from_slice(&response.body).map_err(Failure::because(UNREADABLE))?
        }
    };
    // Only if nobody changes it meanwhile: 0 says that there is none yet.
    let index = present["ModifyIndex"].as_u64().unwrap_or(0).to_string();
    let entry = with_export(present, &flags.name, &peers);
    let path = format!("/v1/config{}", query([("cas", Some(index.as_str()))]));
    let sent = client.put(&path, Bytes::from(entry.to_string())).await;
    let sent = sent.and_then(Response::success);
    let failed = "Error writing config entry exported-services/default";
    let sent = sent.map_err(Failure::because(failed))?;
    if sent.body.trim_ascii() == b"false" {
        return Err(Failure::Message(format!(
            "{failed}: it was changed by somebody else meanwhile; run the command again"
        )));
    }
    let peers = peers.join(",");
    let name = &flags.name;
    writeln!(
        io.out,
        "Successfully exported service {name:?} to cluster peers {peers:?}"
    )?;
    Ok(0)
}

/// The entry with one more export.
fn with_export(present: Value, name: &str, peers: &[String]) -> Value {
    let mut services = match &present["Services"] {
        Value::Array(services) => services.clone(),
        _ => Vec::new(),
    };
    let consumer = |peer: &String| json!({"Peer": peer});
    match services.iter_mut().find(|service| service["Name"] == name) {
        None => {
            let consumers: Vec<_> = peers.iter().map(consumer).collect();
            services.push(json!({"Name": name, "Consumers": consumers}));
        }
        Some(service) => {
            let mut consumers = match &service["Consumers"] {
                Value::Array(consumers) => consumers.clone(),
                _ => Vec::new(),
            };
            for peer in peers {
                if !consumers.iter().any(|consumer| consumer["Peer"] == **peer) {
                    consumers.push(consumer(peer));
                }
            }
            service["Consumers"] = Value::Array(consumers);
        }
    }
    let mut entry = json!({"Kind": "exported-services", "Name": "default", "Services": services});
    if present["Meta"].is_object() {
        entry["Meta"] = present["Meta"].clone();
    }
    entry
}

/// Lists what is exported, and to whom.
#[derive(Parser)]
struct ListFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// How to print it: pretty or json
    #[arg(long, default_value = "pretty")]
    format: String,
}

/// Runs `services exported-services`.
pub(super) async fn list(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: ListFlags = flags::parse("services exported-services", args)?;
    if !matches!(flags.format.as_str(), "pretty" | "json") {
        let text = format!(
            "Invalid format, valid formats are {{pretty|json}}: {}",
            flags.format
        );
        return Err(Failure::Message(text));
    }
    let client = flags.api.client(io)?;
    let path = format!("/v1/exported-services{}", query(flags.server.params()));
    let found = client.get_json(&path).await;
    let found: Vec<Value> = found.map_err(Failure::because("Error listing exported services"))?;
    if flags.format == "json" {
        writeln!(io.out, "{:#}", Value::Array(found))?;
        return Ok(0);
    }
    if found.is_empty() {
        writeln!(io.out, "No exported services found")?;
        return Ok(0);
    }
    let mut rows = vec![table::row(["Service", "Consumer Peers"])];
    for exported in &found {
        let peers = exported["Consumers"]["Peers"]
            .as_array()
            .into_iter()
            .flatten();
        let peers: BTreeSet<&str> = peers.filter_map(Value::as_str).collect();
        let peers: Vec<_> = peers.into_iter().collect();
        let name = exported["Service"].as_str().unwrap_or_default();
        rows.push(vec![name.to_owned(), peers.join(", ")]);
    }
    write!(io.out, "{}", table::print(&rows))?;
    Ok(0)
}
