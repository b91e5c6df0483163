//! `agent members`: the members of the cluster, as one agent knows them by gossip.

use clap::Parser;
use regex_lite::Regex;

use super::api::ApiFlags;
use super::table::{self, row};
use super::{Done, Failure, Io, flags};
use crate::client::{AgentMember, query};

/// Exit code when no member has the status that was asked for.
const NOTHING_MATCHED: u8 = 2;

/// Lists the members of the cluster.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// Show each member's tags
    #[arg(long)]
    detailed: Option<bool>,
    /// Show only members whose status matches this regular expression
    #[arg(long, default_value = ".*")]
    status: String,
    /// Show only members of this segment; only `_all` and the empty one exist
    #[arg(long)]
    segment: Option<String>,
    /// List the servers of all datacenters instead
    #[arg(long)]
    wan: Option<bool>,
    /// Only members for which this expression holds, such as 'Tags.role == consul'
    #[arg(long)]
    filter: Option<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("members", args)?;
    if !matches!(flags.segment.as_deref(), None | Some("" | "_all")) {
        return Err(Failure::Message(
            "-segment is not supported: only \"_all\" exists".into(),
        ));
    }
    let status =
        Regex::new(&flags.status).map_err(Failure::because("Failed to compile status regexp"))?;
    let client = flags.api.client(io)?;
    let wan = flags::on(flags.wan).then_some(("wan", Some("1")));
    let filter = flags.filter.as_deref().filter(|filter| !filter.is_empty());
    let params = wan
        .into_iter()
        .chain(filter.map(|filter| ("filter", Some(filter))));
    let path = format!("/v1/agent/members{}", query(params));
    let members = client.get_json(&path);
    let mut members: Vec<AgentMember> = members
        .await
        .map_err(Failure::because("Error retrieving members"))?;
    members.retain(|member| status.is_match(&member.status.to_string()));
    if members.is_empty() {
        return Ok(NOTHING_MATCHED);
    }
    sort(&mut members);
    let rows = match flags.detailed == Some(true) {
        true => detailed(&members),
        false => brief(&members),
    };
    io.out.write_all(table::print(&rows).as_bytes())?;
    Ok(0)
}

/// Servers first, then by name.
fn sort(members: &mut [AgentMember]) {
    members.sort_by(|a, b| (!is_server(a), &a.name).cmp(&(!is_server(b), &b.name)));
}

fn is_server(member: &AgentMember) -> bool {
    member.tags.get("role").is_some_and(|role| role == "consul")
}

fn address(member: &AgentMember) -> String {
    match member.addr.contains(':') {
        true => format!("[{}]:{}", member.addr, member.port),
        false => format!("{}:{}", member.addr, member.port),
    }
}

fn brief(members: &[AgentMember]) -> Vec<Vec<String>> {
    let header = [
        "Node",
        "Address",
        "Status",
        "Type",
        "Build",
        "Protocol",
        "DC",
        "Partition",
        "Segment",
    ];
    let mut rows = vec![row(header)];
    for member in members {
        let tag = |name: &str| member.tags.get(name).map_or("", String::as_str);
        let (kind, segment) = match tag("role") {
            "consul" => ("server", "<all>"),
            "node" => ("client", "<default>"),
            _ => ("unknown", "<default>"),
        };
        let segment = match tag("segment") {
            "" => segment,
            named => named,
        };
        let partition = match tag("ap") {
            "" => "default",
            named => named,
        };
        // The tag is `VERSION:REVISION`.
        let build = tag("build").split(':').next().unwrap_or_default();
        rows.push(row([
            &member.name,
            &address(member),
            &member.status.to_string(),
            kind,
            build,
            tag("vsn"),
            tag("dc"),
            partition,
            segment,
        ]));
    }
    rows
}

fn detailed(members: &[AgentMember]) -> Vec<Vec<String>> {
    let mut rows = vec![row(["Node", "Address", "Status", "Tags"])];
    for member in members {
        let tags: Vec<_> = member
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        rows.push(row([
            &member.name,
            &address(member),
            &member.status.to_string(),
            &tags.join(","),
        ]));
    }
    rows
}
