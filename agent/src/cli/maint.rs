//! `agent maint`: takes a node or a service out of use, and back.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::Parser;
use serde::Deserialize;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};
use crate::client::{Client, escape_path, query};

const OF_NODE: &str = "_node_maintenance";
const OF_SERVICE: &str = "_service_maintenance:";

/// Shows what is in maintenance; with -enable or -disable changes it for the agent's node, or one service on it.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// End maintenance
    #[arg(long)]
    disable: Option<bool>,
    /// Begin maintenance
    #[arg(long)]
    enable: Option<bool>,
    /// Why, for people who look
    #[arg(long, default_value = "")]
    reason: String,
    /// Id of a service, instead of the node
    #[arg(long, default_value = "")]
    service: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    check_id: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    notes: String,
    #[serde(rename = "ServiceID", default)]
    service_id: String,
    #[serde(default)]
    service_name: String,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("maint", args)?;
    let on = |flag: Option<bool>| flag == Some(true);
    let usage = |text: &str| Err(Failure::Usage(text.into()));
    let client = flags.api.client(io)?;
    match (on(flags.enable), on(flags.disable)) {
        (true, true) => usage("Only one of -enable or -disable may be provided"),
        (false, _) if !flags.reason.is_empty() => usage("Reason may only be provided with -enable"),
        (false, false) if !flags.service.is_empty() => {
            usage("Service requires either -enable or -disable")
        }
        (false, false) => list(&client, io).await,
        (enable, _) => change(&flags, enable, &client, io).await,
    }
}

async fn list(client: &Client, io: &mut Io<'_>) -> Done {
    let checks = client.get_json("/v1/agent/checks").await;
    let checks: BTreeMap<String, Check> =
        checks.map_err(Failure::because("Error getting checks"))?;
    for check in checks.values() {
        let is_service = check.check_id.starts_with(OF_SERVICE);
        if check.check_id == OF_NODE {
            writeln!(io.out, "Node:\n  Name:   {}", check.node)?;
        } else if is_service {
            writeln!(io.out, "Service:\n  ID:     {}", check.service_id)?;
            writeln!(io.out, "  Name:   {}", check.service_name)?;
        } else {
            continue;
        }
        writeln!(io.out, "  Reason: {}\n", check.notes)?;
    }
    Ok(0)
}

async fn change(flags: &Flags, enable: bool, client: &Client, io: &mut Io<'_>) -> Done {
    let word = if enable { "true" } else { "false" };
    let mut params = vec![("enable", Some(word))];
    if !flags.reason.is_empty() {
        params.push(("reason", Some(&flags.reason)));
    }
    let (path, what, verb) = match flags.service.as_str() {
        "" => ("/v1/agent/maintenance".to_owned(), "node", "Node"),
        id => (
            format!("/v1/agent/service/maintenance/{}", escape_path(id)),
            "service",
            "Service",
        ),
    };
    let word = if enable { "enabling" } else { "disabling" };
    let failed = format!("Error {word} {what} maintenance");
    let path = format!("{path}{}", query(params));
    let response = client.put(&path, Bytes::new()).await;
    let response = response.and_then(crate::client::Response::success);
    response.map_err(Failure::because(&failed))?;
    let now = if enable { "enabled" } else { "disabled" };
    match flags.service.as_str() {
        "" => writeln!(io.out, "{verb} maintenance is now {now}")?,
        id => writeln!(io.out, "{verb} maintenance is now {now} for {id:?}")?,
    }
    Ok(0)
}
