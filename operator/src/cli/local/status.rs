//! `operator local status`: looks, and changes nothing.

use anyhow::Result;
use k8s_openapi::jiff::Timestamp;
use serde_yaml::with::singleton_map_recursive;

use super::{Which, folder};
use crate::crd::{ConsulCluster, ConsulClusterStatus, MemberRole, MemberStatus};
use crate::driver::Driver;
use crate::driver::local::store::Store;
use crate::observe::{Agent, Observed};
use crate::plan::plan;

/// What to show.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    which: Which,
    /// How to show it; json and yaml are the resource with its status.
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    /// What was observed, as `operator plan --observed` reads it.
    Observed,
}

/// Shows a cluster as it is now.
pub(super) async fn run(args: &Args) -> Result<()> {
    let dir = folder::find(&args.which)?;
    folder::check_ours(&dir)?;
    let mut local = folder::driver(Store::look(&dir)?)?;
    let observed = local.observe().await?;
    let step = plan(local.desired(), &observed);
    let status = crate::status::status(
        local.cluster(),
        local.desired(),
        &observed,
        &step,
        Timestamp::now(),
    );
    let cluster = ConsulCluster {
        status: Some(status.clone()),
        ..local.cluster().clone()
    };
    super::super::print(&match args.output {
        Output::Json => serde_json::to_string_pretty(&cluster)? + "\n",
        Output::Yaml => serde_yaml::to_string(&cluster)?,
        Output::Observed => {
            let mut text = Vec::new();
            singleton_map_recursive::serialize(
                &observed,
                &mut serde_yaml::Serializer::new(&mut text),
            )?;
            String::from_utf8(text)?
        }
        Output::Table | Output::Wide => {
            tables(&cluster, &status, &observed, args.output == Output::Wide)
        }
    })
}

/// The columns that `kubectl get` shows, then one line for each agent.
fn tables(
    cluster: &ConsulCluster,
    status: &ConsulClusterStatus,
    observed: &Observed,
    wide: bool,
) -> String {
    let mut agents = vec![
        [
            "NODE",
            "ADDRESS",
            "PROCESS",
            "ROLE",
            "LAST-LOG-INDEX",
            "BOOTSTRAP",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    agents.extend(status.members.iter().map(|m| server_row(m, observed)));
    agents.extend(observed.clients.iter().map(client_row));
    let whole = cluster_table(cluster, status, wide);
    format!("{}\n{}", table(&whole), table(&agents))
}

/// The text, or the dash that stands for none.
fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// The cluster as a whole, as `kubectl get` shows it.
fn cluster_table(
    cluster: &ConsulCluster,
    status: &ConsulClusterStatus,
    wide: bool,
) -> [Vec<String>; 2] {
    let mut head = vec![
        "NAME", "READY", "PHASE", "LEADER", "VOTERS", "CLIENTS", "VERSION",
    ];
    let phase = status.phase.map(|phase| format!("{phase:?}"));
    let mut row = vec![
        or_dash(cluster.metadata.name.as_deref()),
        or_dash(status.ready.as_deref()),
        or_dash(phase.as_deref()),
        or_dash(status.leader.as_deref()),
        status.voters.to_string(),
        format!("{}/{}", status.clients, cluster.spec.clients),
        or_dash(status.version.as_deref()),
    ];
    if wide {
        head.extend(["CLUSTER-ID", "FLAGGED", "MESSAGE"]);
        row.extend([
            or_dash(status.cluster_id.as_deref()),
            or_dash(status.flagged.as_deref()),
            or_dash(status.message.as_deref()),
        ]);
    }
    [head.into_iter().map(str::to_owned).collect(), row]
}

fn server_row(member: &MemberStatus, observed: &Observed) -> Vec<String> {
    let agent = observed.servers.get(&member.name);
    let role = match member.role {
        Some(MemberRole::Leader) => "leader",
        Some(MemberRole::Voter) => "voter",
        Some(MemberRole::Learner) => "learner",
        Some(MemberRole::Left) => "left",
        Some(MemberRole::Foreign) => "foreign",
        None => "-",
    };
    let index = member.last_log_index.map(|index| index.to_string());
    let runs = agent.is_some_and(|agent| agent.running().is_some());
    let flag = if member.bootstrap_flag { "yes" } else { "no" };
    vec![
        member.name.clone(),
        or_dash(member.address.as_deref()),
        process_word(runs),
        role.to_owned(),
        or_dash(index.as_deref()),
        flag.to_owned(),
    ]
}

fn client_row((name, agent): (&String, &Agent)) -> Vec<String> {
    let address = agent.answers.as_ref().map(|answers| &answers.address);
    let host = address.and_then(|address| Some(address.rsplit_once(':')?.0));
    vec![
        name.clone(),
        or_dash(host),
        process_word(agent.running().is_some()),
        "client".to_owned(),
        or_dash(None),
        or_dash(None),
    ]
}

fn process_word(runs: bool) -> String {
    if runs { "running" } else { "stopped" }.to_owned()
}

/// Columns aligned to the left, two spaces apart.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let rows = [["A", "LONG"], ["longer", "b"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "A       LONG\nlonger  b\n");
    }
}
