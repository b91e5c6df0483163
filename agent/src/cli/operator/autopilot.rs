//! `agent operator autopilot ...`: how the leader looks after the set of servers.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags};
use crate::client::query;
use crate::duration;

const CONFIGURATION: &str = "/v1/operator/autopilot/configuration";

/// The settings as the API has them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    cleanup_dead_servers: bool,
    last_contact_threshold: String,
    max_trailing_logs: u64,
    min_quorum: u64,
    server_stabilization_time: String,
    redundancy_zone_tag: String,
    disable_upgrade_migration: bool,
    upgrade_version_tag: String,
    create_index: u64,
    modify_index: u64,
}

/// Shows the settings.
#[derive(Parser)]
struct GetFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
}

/// Runs `get-config`.
pub(super) async fn get(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: GetFlags = flags::parse("operator autopilot get-config", args)?;
    let client = flags.api.client(io)?;
    let path = format!("{CONFIGURATION}{}", query(flags.server.params()));
    let found: Configuration = client
        .get_json(&path)
        .await
        .map_err(Failure::because("Error querying Autopilot configuration"))?;
    write!(
        io.out,
        "CleanupDeadServers = {}\n\
         LastContactThreshold = {}\n\
         MaxTrailingLogs = {}\n\
         MinQuorum = {}\n\
         ServerStabilizationTime = {}\n\
         RedundancyZoneTag = {:?}\n\
         DisableUpgradeMigration = {}\n\
         UpgradeVersionTag = {:?}\n",
        found.cleanup_dead_servers,
        found.last_contact_threshold,
        found.max_trailing_logs,
        found.min_quorum,
        found.server_stabilization_time,
        found.redundancy_zone_tag,
        found.disable_upgrade_migration,
        found.upgrade_version_tag,
    )?;
    Ok(0)
}

/// Changes the settings that are named; the others stay.
#[derive(Parser)]
struct SetFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// Datacenter to ask; without it the agent's own
    #[arg(long)]
    datacenter: Option<String>,
    /// Whether failed servers are removed once that makes the cluster safer
    #[arg(long)]
    cleanup_dead_servers: Option<bool>,
    /// A server that has not answered the leader for longer is unhealthy (200ms)
    #[arg(long)]
    last_contact_threshold: Option<String>,
    /// A server with more entries missing is unhealthy
    #[arg(long)]
    max_trailing_logs: Option<u64>,
    /// Failed servers are not removed while there are no more voters than this
    #[arg(long)]
    min_quorum: Option<u64>,
    /// How long a new server must be healthy before it votes (10s)
    #[arg(long)]
    server_stabilization_time: Option<String>,
    /// Kept and shown; it needs Consul Enterprise to mean anything
    #[arg(long)]
    redundancy_zone_tag: Option<String>,
    /// Kept and shown; it needs Consul Enterprise to mean anything
    #[arg(long)]
    disable_upgrade_migration: Option<bool>,
    /// Kept and shown; it needs Consul Enterprise to mean anything
    #[arg(long)]
    upgrade_version_tag: Option<String>,
}

impl SetFlags {
    fn change(self, settings: &mut Configuration) -> Result<(), Failure> {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        for text in [
            &self.last_contact_threshold,
            &self.server_stabilization_time,
        ]
        .into_iter()
        .flatten()
        {
            duration::parse(text)
                .map_err(|_| Failure::Usage(format!("{text:?} is no duration such as 10s")))?;
        }
        set(
            &mut settings.cleanup_dead_servers,
            self.cleanup_dead_servers,
        );
        set(
            &mut settings.last_contact_threshold,
            self.last_contact_threshold,
        );
        set(&mut settings.max_trailing_logs, self.max_trailing_logs);
        set(&mut settings.min_quorum, self.min_quorum);
        set(
            &mut settings.server_stabilization_time,
            self.server_stabilization_time,
        );
        set(&mut settings.redundancy_zone_tag, self.redundancy_zone_tag);
        set(
            &mut settings.disable_upgrade_migration,
            self.disable_upgrade_migration,
        );
        set(&mut settings.upgrade_version_tag, self.upgrade_version_tag);
        Ok(())
    }
}

/// Runs `set-config`.
pub(super) async fn set(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: SetFlags = flags::parse("operator autopilot set-config", args)?;
    let client = flags.api.client(io)?;
    let client = client.in_datacenter(flags.datacenter.as_deref());
    let mut settings: Configuration = client
        .get_json(CONFIGURATION)
        .await
        .map_err(Failure::because("Error querying Autopilot configuration"))?;
    flags.change(&mut settings)?;
    let failed = "Error setting Autopilot configuration";
    let body = serde_json::to_vec(&settings).map_err(Failure::because(failed))?;
    // Only over what was read, so that two people do not undo each other's change.
    let path = format!("{CONFIGURATION}?cas={}", settings.modify_index);
    let set: bool = client
        .put_json(&path, body.into())
        .await
        .map_err(Failure::because(failed))?;
    if !set {
        return Err(Failure::Message(
            "Configuration could not be atomically updated, please try again".to_owned(),
        ));
    }
    writeln!(io.out, "Configuration updated!")?;
    Ok(0)
}

/// Shows how well the servers are.
#[derive(Parser)]
struct StateFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Output format: pretty or json
    #[arg(long, default_value = "pretty")]
    format: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    healthy: bool,
    failure_tolerance: u64,
    leader: String,
    voters: Vec<String>,
    servers: BTreeMap<String, StateServer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StateServer {
    name: String,
    address: String,
    version: String,
    status: String,
    node_type: String,
    node_status: String,
    healthy: bool,
    last_contact: String,
    last_term: u64,
    last_index: u64,
}

/// Runs `state`.
pub(super) async fn state(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: StateFlags = flags::parse("operator autopilot state", args)?;
    let failed = "Error reading autopilot state";
    let client = flags.api.client(io)?;
    let path = format!(
        "/v1/operator/autopilot/state{}",
        query(flags.server.params())
    );
    let found: Value = client
        .get_json(&path)
        .await
        .map_err(Failure::because(failed))?;
    match flags.format.as_str() {
        "json" => {
            let text = serde_json::to_string_pretty(&found).map_err(Failure::because(failed))?;
            writeln!(io.out, "{text}")?;
        }
        "pretty" => {
            let found: State = serde_json::from_value(found).map_err(Failure::because(failed))?;
            print(&found, io.out)?;
        }
        other => {
            return Err(Failure::Usage(format!(
                "Unknown format {other:?}: pretty and json exist"
            )));
        }
    }
    Ok(0)
}

fn print(state: &State, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "Healthy:           {}", state.healthy)?;
    writeln!(out, "Failure Tolerance: {}", state.failure_tolerance)?;
    writeln!(out, "Leader:            {}", state.leader)?;
    writeln!(out, "Voters:")?;
    for voter in &state.voters {
        writeln!(out, "   {voter}")?;
    }
    writeln!(out, "\nServers:")?;
    for (id, server) in &state.servers {
        let StateServer {
            name,
            address,
            version,
            status,
            node_type,
            node_status,
            healthy,
            last_contact,
            last_term,
            last_index,
        } = server;
        writeln!(out, "   {id}")?;
        writeln!(out, "      Name:            {name}")?;
        writeln!(out, "      Address:         {address}")?;
        writeln!(out, "      Version:         {version}")?;
        writeln!(out, "      Status:          {status}")?;
        writeln!(out, "      Node Type:       {node_type}")?;
        writeln!(out, "      Node Status:     {node_status}")?;
        writeln!(out, "      Healthy:         {healthy}")?;
        writeln!(out, "      Last Contact:    {last_contact}")?;
        writeln!(out, "      Last Term:       {last_term}")?;
        writeln!(out, "      Last Index:      {last_index}")?;
    }
    Ok(())
}
