//! `agent acl role`.

use clap::Parser;
use serde_json::{Map, Value, json};

use super::super::api::{ApiFlags, ServerFlags};
use super::super::{Done, Failure, Io, flags};
use super::noun::Noun;
use super::{Call, FormatFlags, GrantFlags, Lines, text};

const USAGE: &str = "Usage: agent acl role SUBCOMMAND [FLAGS]

Subcommands:
    create  Makes a role
    delete  Removes a role
    list    Lists all roles
    read    Prints a role
    update  Changes a role
";

/// Roles: what several tokens allow, under a name.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    format: FormatFlags,
    #[command(flatten)]
    grants: GrantFlags,
    /// Id of the role
    #[arg(long, default_value = "")]
    id: String,
    /// Name of the role
    #[arg(long, default_value = "")]
    name: String,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// update: replace all that the role allows by what is given; else it is added
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
        self.grants.add_to(row, io)
    }
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    const ROLE: Noun = Noun {
        name: "role",
        path: "/v1/acl/role",
        pretty,
    };
    let verbs = ["create", "delete", "list", "read", "update"];
    let (verb, rest) = super::subcommand(args, USAGE, &verbs)?;
    let flags: Flags = flags::parse(&format!("acl role {verb}"), rest)?;
    flags.format.check()?;
    let (call, format) = (Call::new(&flags.api, &flags.server, io)?, &flags.format);
    match verb {
        "create" if flags.name.is_empty() => {
            return Err(Failure::Usage("Missing required '-name' flag".into()));
        }
        "create" => {
            let mut row = Map::new();
            flags.add_to(&mut row, io)?;
            return ROLE.create(row, &call, format, io).await;
        }
        "list" => return ROLE.list("/v1/acl/roles", pretty, &call, format, io).await,
        _ => {}
    }
    let id = call.id_of("role", &flags.id, &flags.name).await?;
    match verb {
        "delete" => ROLE.delete(&id, &call, io).await,
        "read" => ROLE.read(&id, &call, format, io).await,
        _ => {
            let mut row = ROLE.current(&id, &call).await?;
            if flags::on(flags.no_merge) {
                for key in [
                    "Policies",
                    "ServiceIdentities",
                    "NodeIdentities",
                    "TemplatedPolicies",
                ] {
                    row.remove(key);
                }
            }
            flags.add_to(&mut row, io)?;
            ROLE.update(&id, row, &call, format, io).await
        }
    }
}

fn pretty(row: &Value, with_meta: bool) -> String {
    let mut lines = Lines::new(14);
    lines.line("ID", text(row, "ID"));
    lines.line("Name", text(row, "Name"));
    lines.line("Description", text(row, "Description"));
    if with_meta {
        lines.meta(row);
    }
    lines.grants(row);
    lines.text
}
