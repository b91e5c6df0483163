//! `agent acl binding-rule`.

use clap::Parser;
use serde_json::{Map, Value, json};

use super::super::api::{ApiFlags, ServerFlags};
use super::super::{Done, Failure, Io, flags};
use super::{Call, FormatFlags, Lines, text};
use crate::client::escape_path;

const USAGE: &str = "Usage: agent acl binding-rule SUBCOMMAND [FLAGS]

Subcommands:
    create  Makes a binding rule
    delete  Removes a binding rule
    list    Lists binding rules
    read    Prints a binding rule
    update  Changes a binding rule
";

/// Binding rules: what tokens of auth methods allow.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    format: FormatFlags,
    /// Id of the rule
    #[arg(long, default_value = "")]
    id: String,
    /// Name of the auth method
    #[arg(long, default_value = "")]
    method: String,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// Filter expression on what is known of an identity
    #[arg(long)]
    selector: Option<String>,
    /// service, node, role, policy or templated-policy
    #[arg(long)]
    bind_type: Option<String>,
    /// What the identity gets, with ${...} for what is known of it
    #[arg(long)]
    bind_name: Option<String>,
    /// Variable of a templated policy: name=VALUE
    #[arg(long)]
    bind_vars: Vec<String>,
    /// update: replace everything by what is given
    #[arg(long)]
    no_merge: Option<bool>,
}

impl Flags {
    fn add_to(&self, row: &mut Map<String, Value>) -> Result<(), Failure> {
        for (key, value) in [
            ("Description", &self.description),
            ("Selector", &self.selector),
            ("BindType", &self.bind_type),
            ("BindName", &self.bind_name),
        ] {
            if let Some(value) = value {
                row.insert(key.to_owned(), json!(value));
            }
        }
        for pair in &self.bind_vars {
            match pair.split_once('=') {
                Some((key, value)) if key.eq_ignore_ascii_case("name") => {
                    row.insert("BindVars".to_owned(), json!({ "Name": value }));
                }
                _ => {
                    return Err(Failure::Usage(format!(
                        "-bind-vars {pair:?} must be name=VALUE"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let verbs = ["create", "delete", "list", "read", "update"];
    let (verb, rest) = super::subcommand(args, USAGE, &verbs)?;
    let flags: Flags = flags::parse(&format!("acl binding-rule {verb}"), rest)?;
    flags.format.check()?;
    let mut call = Call::new(&flags.api, &flags.server, io)?;
    let path = format!("/v1/acl/binding-rule/{}", escape_path(&flags.id));
    match verb {
        "create" => {
            if flags.method.is_empty() {
                return Err(Failure::Usage("Missing required '-method' flag".into()));
            }
            let mut body = Map::new();
            body.insert("AuthMethod".to_owned(), json!(flags.method));
            flags.add_to(&mut body)?;
            let body = Value::Object(body);
            let failed = "Failed to create new binding rule";
            let row = call.put("/v1/acl/binding-rule", &body, failed).await?;
            flags.format.print(&row, io, pretty)
        }
        "list" => {
            if !flags.method.is_empty() {
                call.params.push(("authmethod", Some(&flags.method)));
            }
            let failed = "Failed to retrieve the binding rule list";
            let rows = call.get("/v1/acl/binding-rules", failed).await?;
            flags.format.print(&rows, io, pretty)
        }
        _ if flags.id.is_empty() => Err(Failure::Usage("Must specify the -id parameter".into())),
        "delete" => {
            let id = &flags.id;
            let failed = format!("Error deleting binding rule {id:?}");
            call.delete(&path, &failed).await?;
            writeln!(io.out, "Binding rule {id:?} deleted successfully")?;
            Ok(0)
        }
        "read" => {
            let row = call.get(&path, "Error reading binding rule").await?;
            flags.format.print(&row, io, pretty)
        }
        _ => {
            let mut row = Map::new();
            if !flags::on(flags.no_merge) {
                let failed = "Error when retrieving current binding rule";
                let found = call.get(&path, failed).await?;
                row = found.as_object().cloned().unwrap_or_default();
            }
            flags.add_to(&mut row)?;
            let failed = format!("Error updating binding rule {:?}", flags.id);
            let row = call.put(&path, &Value::Object(row), &failed).await?;
            flags.format.print(&row, io, pretty)
        }
    }
}

fn pretty(row: &Value, with_meta: bool) -> String {
    let mut lines = Lines::new(14);
    for (label, key) in [
        ("ID", "ID"),
        ("AuthMethod", "AuthMethod"),
        ("Description", "Description"),
        ("BindType", "BindType"),
        ("BindName", "BindName"),
        ("Selector", "Selector"),
    ] {
        lines.line(label, text(row, key));
    }
    let name = text(&row["BindVars"], "Name");
    lines.section(
        "BindVars",
        (!name.is_empty()).then(|| format!("- Name: {name}")),
    );
    if with_meta {
        lines.meta(row);
    }
    lines.text
}
