//! `agent acl binding-rule`.

use clap::Parser;
use serde_json::{Map, Value, json};

use super::super::api::{ApiFlags, ServerFlags};
use super::super::{Done, Failure, Io, flags};
use super::noun::Noun;
use super::{Call, FormatFlags, Lines, text};

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
    const RULE: Noun = Noun {
        name: "binding rule",
        path: "/v1/acl/binding-rule",
        pretty,
    };
    let verbs = ["create", "delete", "list", "read", "update"];
    let (verb, rest) = super::subcommand(args, USAGE, &verbs)?;
    let flags: Flags = flags::parse(&format!("acl binding-rule {verb}"), rest)?;
    flags.format.check()?;
    let mut call = Call::new(&flags.api, &flags.server, io)?;
    let (id, format) = (&flags.id, &flags.format);
    let mut row = Map::new();
    match verb {
        "create" if flags.method.is_empty() => {
            Err(Failure::Usage("Missing required '-method' flag".into()))
        }
        "create" => {
            row.insert("AuthMethod".to_owned(), json!(flags.method));
            flags.add_to(&mut row)?;
            RULE.create(row, &call, format, io).await
        }
        "list" => {
            if !flags.method.is_empty() {
                call.params.push(("authmethod", Some(&flags.method)));
            }
            let path = "/v1/acl/binding-rules";
            RULE.list(path, pretty, &call, format, io).await
        }
        _ if id.is_empty() => Err(Failure::Usage("Must specify the -id parameter".into())),
        "delete" => RULE.delete(id, &call, io).await,
        "read" => RULE.read(id, &call, format, io).await,
        _ => {
            if !flags::on(flags.no_merge) {
                row = RULE.current(id, &call).await?;
            }
            flags.add_to(&mut row)?;
            RULE.update(id, row, &call, format, io).await
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
