//! `operator local status`: looks, and changes nothing.

use anyhow::Result;
use k8s_openapi::jiff::Timestamp;
use serde_yaml::with::singleton_map_recursive;

use super::{Which, folder};
use crate::crd::{ConsulCluster, ConsulClusterStatus, MemberRole};
use crate::driver::Driver;
use crate::driver::local::store::Store;
use crate::observe::Observed;
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
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let phase = status
        .phase
        .map_or_else(|| "-".to_owned(), |phase| format!("{phase:?}"));
    let name = cluster.metadata.name.clone();
    let mut head = vec![
        "NAME", "READY", "PHASE", "LEADER", "VOTERS", "CLIENTS", "VERSION",
    ];
    let clients = format!("{}/{}", status.clients, cluster.spec.clients);
    let voters = status.voters.to_string();
    let mut row = vec![
        text(&name),
        text(&status.ready),
        phase,
        text(&status.leader),
        voters,
        clients,
        text(&status.version),
    ];
    if wide {
        head.extend(["CLUSTER-ID", "FLAGGED", "MESSAGE"]);
        row.extend([
            text(&status.cluster_id),
            text(&status.flagged),
            text(&status.message),
        ]);
    }
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
    for member in &status.members {
        let agent = observed.servers.get(&member.name);
        let role = match member.role {
            Some(MemberRole::Leader) => "leader",
            Some(MemberRole::Voter) => "voter",
            Some(MemberRole::Learner) => "learner",
            Some(MemberRole::Left) => "left",
            Some(MemberRole::Foreign) => "foreign",
            None => "-",
        };
        let index = member
            .last_log_index
            .map_or_else(|| "-".to_owned(), |index| index.to_string());
        let runs = agent.is_some_and(|agent| agent.running().is_some());
        let flag = if member.bootstrap_flag { "yes" } else { "no" };
        agents.push(vec![
            member.name.clone(),
            text(&member.address),
            process_word(runs),
            role.to_owned(),
            index,
            flag.to_owned(),
        ]);
    }
    for (name, agent) in &observed.clients {
        let runs = agent.running().is_some();
        let address = agent
            .answers
            .as_ref()
            .map(|answers| answers.address.clone());
        let address = address.and_then(|address| Some(address.rsplit_once(':')?.0.to_owned()));
        let dash = || "-".to_owned();
        agents.push(vec![
            name.clone(),
            text(&address),
            process_word(runs),
            "client".to_owned(),
            dash(),
            dash(),
        ]);
    }
    let head = head.into_iter().map(str::to_owned).collect();
    format!("{}\n{}", table(&[head, row]), table(&agents))
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
