//! `agent acl policy`.

use clap::Parser;
use serde_json::{Map, Value, json};

use super::super::api::{ApiFlags, ServerFlags};
use super::super::{Done, Failure, Io, flags};
use super::noun::Noun;
use super::{Call, FormatFlags, Lines, content, datacenters, text};

const USAGE: &str = "Usage: agent acl policy SUBCOMMAND [FLAGS]

Subcommands:
    create  Makes a policy
    delete  Removes a policy
    list    Lists all policies
    read    Prints a policy
    update  Changes a policy
";

/// Policies: rules under a name.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    format: FormatFlags,
    /// Id of the policy
    #[arg(long, default_value = "")]
    id: String,
    /// Name of the policy
    #[arg(long, default_value = "")]
    name: String,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// The rules, @FILE, or - for the standard input
    #[arg(long)]
    rules: Option<String>,
    /// Datacenter in which it counts; may be repeated [default: all]
    #[arg(long)]
    valid_datacenter: Vec<String>,
    /// update: keep what is not given; else everything but the id is replaced
    #[arg(long)]
    no_merge: Option<bool>,
}

impl Flags {
    fn add_to(&self, row: &mut Map<String, Value>, io: &mut Io<'_>) -> Result<(), Failure> {
        if !self.name.is_empty() {
            row.insert("Name".to_owned(), json!(self.name));
        }
        if let Some(description) = &self.description {
            row.insert("Description".to_owned(), json!(description));
        }
        if let Some(rules) = &self.rules {
            row.insert("Rules".to_owned(), json!(content(rules, io)?));
        }
        if !self.valid_datacenter.is_empty() {
            row.insert("Datacenters".to_owned(), json!(self.valid_datacenter));
        }
        Ok(())
    }
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    const POLICY: Noun = Noun {
        name: "policy",
        path: "/v1/acl/policy",
        pretty,
    };
    let verbs = ["create", "delete", "list", "read", "update"];
    let (verb, rest) = super::subcommand(args, USAGE, &verbs)?;
    let flags: Flags = flags::parse(&format!("acl policy {verb}"), rest)?;
    flags.format.check()?;
    let (call, format) = (Call::new(&flags.api, &flags.server, io)?, &flags.format);
    let mut row = Map::new();
    match verb {
        "create" if flags.name.is_empty() => {
            return Err(Failure::Usage("Missing required '-name' flag".into()));
        }
        "create" => {
            flags.add_to(&mut row, io)?;
            return POLICY.create(row, &call, format, io).await;
        }
        "list" => {
            let path = "/v1/acl/policies";
            return POLICY.list(path, listed, &call, format, io).await;
        }
        _ => {}
    }
    let id = call.id_of("policy", &flags.id, &flags.name).await?;
    match verb {
        "delete" => POLICY.delete(&id, &call, io).await,
        "read" => POLICY.read(&id, &call, format, io).await,
        _ => {
            if !flags::on(flags.no_merge) {
                row = POLICY.current(&id, &call).await?;
            }
            flags.add_to(&mut row, io)?;
            POLICY.update(&id, row, &call, format, io).await
        }
    }
}

fn pretty(row: &Value, with_meta: bool) -> String {
    let mut lines = Lines::new(14);
    lines.line("ID", text(row, "ID"));
    lines.line("Name", text(row, "Name"));
    lines.line("Description", text(row, "Description"));
    lines.line("Datacenters", &given_datacenters(row));
    if with_meta {
        lines.meta(row);
    }
    lines.text.push_str("Rules:\n");
    lines.text.push_str(text(row, "Rules"));
    if !lines.text.ends_with('\n') {
        lines.text.push('\n');
    }
    lines.text
}

fn listed(row: &Value, with_meta: bool) -> String {
    let mut lines = Lines::new(14);
    lines.line("ID", text(row, "ID"));
    lines.line("Description", text(row, "Description"));
    lines.line("Datacenters", &given_datacenters(row));
    if with_meta {
        lines.meta(row);
    }
    let inside = lines.text.lines().map(|line| format!("   {line}\n"));
    format!("{}:\n{}", text(row, "Name"), inside.collect::<String>())
}

fn given_datacenters(row: &Value) -> String {
    match datacenters(row).as_str() {
        "all" => String::new(),
        names => names.to_owned(),
    }
}
