//! `/v1/operator/autopilot/`

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::blocking::{check_scope, read};
use super::body::Response;
use super::catalog::unexpected;
use super::error::Error;
use super::json;
use super::request::{Request, parse_u64};
use super::{Api, Server};
use crate::duration;
use crate::leader::autopilot::{ClusterHealth, ServerHealth};
use crate::state::{Answer, Autopilot, Command, Outcome, Query};

/// The settings as Consul shows and takes them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    cleanup_dead_servers: bool,
    last_contact_threshold: String,
    max_trailing_logs: u64,
    min_quorum: u32,
    server_stabilization_time: String,
    redundancy_zone_tag: String,
    disable_upgrade_migration: bool,
    upgrade_version_tag: String,
    create_index: u64,
    modify_index: u64,
}

impl From<Autopilot> for Settings {
    fn from(row: Autopilot) -> Self {
        let Autopilot {
            cleanup_dead_servers,
            last_contact_threshold,
            max_trailing_logs,
            min_quorum,
            server_stabilization_time,
            redundancy_zone_tag,
            disable_upgrade_migration,
            upgrade_version_tag,
            create_index,
            modify_index,
        } = row;
        Self {
            cleanup_dead_servers,
            last_contact_threshold: duration::print(last_contact_threshold),
            max_trailing_logs,
            min_quorum,
            server_stabilization_time: duration::print(server_stabilization_time),
            redundancy_zone_tag,
            disable_upgrade_migration,
            upgrade_version_tag,
            create_index,
            modify_index,
        }
    }
}

/// What a client sends: what it leaves away has its default. Its names are folded to lower case before.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Sent {
    #[serde(rename = "cleanupdeadservers")]
    cleanup_dead_servers: Option<bool>,
    #[serde(rename = "lastcontactthreshold")]
    last_contact_threshold: Option<Value>,
    #[serde(rename = "maxtrailinglogs")]
    max_trailing_logs: Option<u64>,
    #[serde(rename = "minquorum")]
    min_quorum: Option<u32>,
    #[serde(rename = "serverstabilizationtime")]
    server_stabilization_time: Option<Value>,
    #[serde(rename = "redundancyzonetag")]
    redundancy_zone_tag: String,
    #[serde(rename = "disableupgrademigration")]
    disable_upgrade_migration: bool,
    #[serde(rename = "upgradeversiontag")]
    upgrade_version_tag: String,
}

impl Sent {
    fn into_settings(self) -> Result<Autopilot, String> {
        let default = Autopilot::default();
        Ok(Autopilot {
            cleanup_dead_servers: self
                .cleanup_dead_servers
                .unwrap_or(default.cleanup_dead_servers),
            last_contact_threshold: time(
                self.last_contact_threshold,
                default.last_contact_threshold,
            )?,
            max_trailing_logs: self.max_trailing_logs.unwrap_or(default.max_trailing_logs),
            min_quorum: self.min_quorum.unwrap_or(default.min_quorum),
            server_stabilization_time: time(
                self.server_stabilization_time,
                default.server_stabilization_time,
            )?,
            redundancy_zone_tag: self.redundancy_zone_tag,
            disable_upgrade_migration: self.disable_upgrade_migration,
            upgrade_version_tag: self.upgrade_version_tag,
            ..default
        })
    }
}

/// A Go duration, or a number of nanoseconds.
fn time(sent: Option<Value>, default: Duration) -> Result<Duration, String> {
    match sent {
        None => Ok(default),
        Some(Value::String(text)) => {
            duration::parse(&text).map_err(|_| format!("time: invalid duration {text:?}"))
        }
        Some(Value::Number(number)) => number
            .as_u64()
            .map(Duration::from_nanos)
            .ok_or_else(|| format!("time: invalid duration {number}")),
        Some(other) => Err(format!("time: invalid duration {other}")),
    }
}

/// Shows the settings, or sets them, with `cas` only if they were last set at that index.
pub(super) async fn configuration<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    if request.method == "GET" {
        let (answer, headers) = read(server, &request.params, Query::Autopilot).await?;
        let Answer::Autopilot(row) = answer else {
            return Err(unexpected());
        };
        let settings = Settings::from(row.unwrap_or_default());
        return Ok(headers.on(server.json(&request.params, &settings)));
    }
    check_scope(server.settings(), &request.params)?;
    let cas = match request.params.get("cas") {
        None => None,
        Some(text) => Some(parse_u64(text).map_err(|reason| {
            Error::bad_request(format!(
                "Error parsing cas value: strconv.ParseUint: parsing {text:?}: {reason}"
            ))
        })?),
    };
    let body = request.body(server.settings().kv_max_value_size).await?;
    let malformed =
        |why: &str| Error::bad_request(format!("Error parsing autopilot config: {why}"));
    let sent: Sent = json::decode(&body).map_err(|error| {
        let why = error.text.trim_start_matches("Request decode failed: ");
        malformed(why)
    })?;
    let config = sent.into_settings().map_err(|why| malformed(&why))?;
    let command = Command::SetAutopilot {
        config: Box::new(config),
        cas,
    };
    match server.apply(command).await? {
        Outcome::Bool(set) => Ok(server.json(&request.params, &set)),
        _ => Err(unexpected()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health<'a> {
    healthy: bool,
    failure_tolerance: usize,
    servers: Vec<HealthEntry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthEntry<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'a str,
    address: String,
    serf_status: &'a str,
    version: &'a str,
    leader: bool,
    last_contact: String,
    last_term: u64,
    last_index: u64,
    healthy: bool,
    voter: bool,
    stable_since: String,
}

impl<'a> From<&'a ServerHealth> for HealthEntry<'a> {
    fn from(server: &'a ServerHealth) -> Self {
        Self {
            id: server.id,
            name: &server.name,
            address: server.address.to_string(),
            serf_status: &server.member_status,
            version: &server.version,
            leader: server.leader,
            last_contact: last_contact(server),
            last_term: server.last_term,
            last_index: server.last_index,
            healthy: server.healthy,
            voter: server.voter,
            stable_since: stable_since(server),
        }
    }
}

/// A server that has never answered is shown as one whose answer is longer ago than any.
fn last_contact(server: &ServerHealth) -> String {
    const NEVER: Duration = Duration::from_secs(i64::MAX as u64 / 1_000_000_000);
    let age = server.last_contact.unwrap_or(NEVER);
    // Whole milliseconds: more digits say nothing.
    duration::print(Duration::from_millis(age.as_millis() as u64))
}

fn stable_since(server: &ServerHealth) -> String {
    let ms = i64::try_from(server.stable_since_ms).unwrap_or(i64::MAX);
    let second = jiff::Timestamp::from_second(ms / 1000);
    second.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// How well the servers are: 200 if all of them are, else 429 with the same body.
pub(super) async fn health<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let found = server.api().health().await?;
    let shown = Health {
        healthy: found.healthy,
        failure_tolerance: found.failure_tolerance,
        servers: found.servers.iter().map(HealthEntry::from).collect(),
    };
    let mut response = server.json(&request.params, &shown);
    if !found.healthy {
        response.status = StatusCode::TOO_MANY_REQUESTS;
    }
    Ok(response)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct State<'a> {
    healthy: bool,
    failure_tolerance: usize,
    optimistic_failure_tolerance: usize,
    servers: BTreeMap<Uuid, StateEntry<'a>>,
    leader: String,
    voters: Vec<Uuid>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StateEntry<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'a str,
    address: String,
    node_status: &'a str,
    version: &'a str,
    last_contact: String,
    last_term: u64,
    last_index: u64,
    healthy: bool,
    stable_since: String,
    read_replica: bool,
    status: &'static str,
    meta: BTreeMap<String, String>,
    node_type: &'static str,
}

impl<'a> From<&'a ServerHealth> for StateEntry<'a> {
    fn from(server: &'a ServerHealth) -> Self {
        let suffrage = if server.voter { "voter" } else { "non-voter" };
        Self {
            id: server.id,
            name: &server.name,
            address: server.address.to_string(),
            node_status: &server.member_status,
            version: &server.version,
            last_contact: last_contact(server),
            last_term: server.last_term,
            last_index: server.last_index,
            healthy: server.healthy,
            stable_since: stable_since(server),
            read_replica: false,
            status: if server.leader { "leader" } else { suffrage },
            meta: BTreeMap::new(),
            // Without an Enterprise licence every server is meant to vote.
            node_type: "voter",
        }
    }
}

/// The same with more words.
pub(super) async fn state<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let found = server.api().health().await?;
    Ok(server.json(&request.params, &shown(&found)))
}

fn shown(found: &ClusterHealth) -> State<'_> {
    let leader = found.servers.iter().find(|server| server.leader);
    State {
        healthy: found.healthy,
        failure_tolerance: found.failure_tolerance,
        // Differs only with Enterprise's redundancy zones.
        optimistic_failure_tolerance: found.failure_tolerance,
        servers: found
            .servers
            .iter()
            .map(|server| (server.id, StateEntry::from(server)))
            .collect(),
        leader: leader.map_or_else(String::new, |server| server.id.to_string()),
        voters: found
            .servers
            .iter()
            .filter(|server| server.voter)
            .map(|server| server.id)
            .collect(),
    }
}
