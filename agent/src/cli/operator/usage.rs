//! `agent operator usage instances`: how many services there are.

use std::collections::BTreeMap;

use clap::Parser;
use serde::Deserialize;

use crate::cli::api::{ApiFlags, ServerFlags};
use crate::cli::{Done, Failure, Io, flags, table};
use crate::client::query;

/// Space between columns. Consul's, here.
const GAP: usize = 6;

/// Shows how many instances of services there are, and of which kinds.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Count in all datacenters
    #[arg(long)]
    all_datacenters: Option<bool>,
    /// Only services that are billed
    #[arg(long)]
    billable: Option<bool>,
    /// Only parts of the service mesh
    #[arg(long)]
    connect: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    usage: BTreeMap<String, Counts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Counts {
    #[serde(default)]
    nodes: u64,
    services: u64,
    billable_service_instances: u64,
    connect_service_instances: BTreeMap<String, u64>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("operator usage instances", args)?;
    let (billable, connect) = (flags::on(flags.billable), flags::on(flags.connect));
    if billable && connect {
        let text = "Cannot specify both -billable and -connect flags";
        return Err(Failure::Message(text.into()));
    }
    let all = flags::on(flags.all_datacenters);
    let mut params = flags.server.params();
    if all {
        params.push(("global", None));
    }
    let client = flags.api.client(io)?;
    let path = format!("/v1/operator/usage{}", query(params));
    let usage = client.get_json(&path).await;
    let Usage { usage } = usage.map_err(Failure::because("Error fetching usage information"))?;
    if !connect {
        write!(io.out, "{}", of_billable(&usage, all))?;
    }
    if !billable {
        write!(io.out, "{}", of_connect(&usage, all))?;
    }
    Ok(0)
}

fn of_billable(usage: &BTreeMap<String, Counts>, all: bool) -> String {
    let sum = |of: fn(&Counts) -> u64| usage.values().map(of).sum::<u64>();
    let billable = sum(|counts| counts.billable_service_instances);
    let mut text = format!("Billable Service Instances Total: {billable}\n");
    for (name, counts) in usage {
        let count = counts.billable_service_instances;
        text.push_str(&format!("{name} Billable Service Instances: {count}\n"));
    }
    let mut services = Vec::new();
    let mut nodes = vec![table::row(["Datacenter", "Count"])];
    for (name, counts) in usage {
        let numbers = [counts.services, counts.billable_service_instances];
        let [all_services, instances] = numbers.map(|number| number.to_string());
        services.push(vec![name.clone(), all_services, instances]);
        nodes.push(vec![name.clone(), counts.nodes.to_string()]);
    }
    nodes.extend([
        vec![],
        vec!["Total".to_owned(), sum(|counts| counts.nodes).to_string()],
    ]);
    let mut header = table::row(["Datacenter", "Services", "Service instances"]);
    if all {
        let total = sum(|counts| counts.services).to_string();
        services.extend([
            vec![],
            vec!["Total".to_owned(), total, billable.to_string()],
        ]);
    } else {
        header.remove(0);
        for row in &mut services {
            row.remove(0);
        }
    }
    services.insert(0, header);
    text.push_str("\nBillable Services\n");
    text.push_str(&table::print_apart(&services, GAP));
    text.push_str("\nNodes\n");
    text.push_str(&table::print_apart(&nodes, GAP));
    text.push('\n');
    text
}

fn of_connect(usage: &BTreeMap<String, Counts>, all: bool) -> String {
    let mut rows = vec![table::row(["Datacenter", "Type", "Service instances"])];
    let mut total = 0;
    for (name, counts) in usage {
        for (kind, count) in &counts.connect_service_instances {
            rows.push(vec![name.clone(), kind.clone(), count.to_string()]);
            total += count;
        }
    }
    if all {
        rows.extend([
            vec![],
            vec!["Total".to_owned(), String::new(), total.to_string()],
        ]);
    } else {
        for row in &mut rows {
            row.remove(0);
        }
    }
    format!("Connect Services\n{}", table::print_apart(&rows, GAP))
}
