//! `agent intention`: who may connect to whom.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::Parser;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{ApiFlags, ServerFlags};
use super::table::{self, row};
use super::{Done, Failure, Io, config, flags};
use crate::client::{Client, Response, escape_path, query};

const USAGE: &str = "Usage: agent intention SUBCOMMAND [FLAGS] [ARGUMENTS]

Subcommands:
    check   Says whether a service may connect to another
    create  Makes intentions
    delete  Removes an intention
    get     Prints an intention
    list    Lists all intentions
    match   Lists the intentions that concern a service
";

/// Exit code of `check` when a connection is denied, and of `list` when there is nothing.
const NO: u8 = 2;

/// An intention, as far as it is printed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Shown {
    #[serde(rename = "ID")]
    id: String,
    description: String,
    source_name: String,
    destination_name: String,
    action: String,
    permissions: Vec<Value>,
    meta: BTreeMap<String, String>,
    precedence: i64,
    created_at: String,
}

impl Shown {
    fn sentence(&self) -> String {
        let detail = match self.permissions.len() {
            0 => self.action.clone(),
            1 => "1 permission".to_owned(),
            count => format!("{count} permissions"),
        };
        let (source, destination) = (&self.source_name, &self.destination_name);
        format!("{source} => {destination} ({detail})")
    }
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    match args.split_first() {
        Some((verb, rest)) => match verb.as_str() {
            "check" => check(rest, io).await,
            "create" => create(rest, io).await,
            "delete" => delete(rest, io).await,
            "get" => get(rest, io).await,
            "list" => list(rest, io).await,
            "match" => matching(rest, io).await,
            "-h" | "-help" | "--help" => Err(Failure::Help(USAGE.into())),
            other => Err(Failure::Message(format!(
                "There is no subcommand {other:?}.\n{USAGE}"
            ))),
        },
        None => Err(Failure::Message(USAGE.into())),
    }
}

/// Says whether a service may connect to another: `Allowed`, or `Denied` and exit code 2.
#[derive(Parser)]
struct CheckFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// The two services
    services: Vec<String>,
}

async fn check(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: CheckFlags = flags::parse("intention check", args)?;
    let [source, destination] = &flags.services[..] else {
        let text = "Error: command requires exactly two arguments: src and dst";
        return Err(Failure::Usage(text.into()));
    };
    #[derive(Deserialize)]
    struct Checked {
        #[serde(rename = "Allowed")]
        allowed: bool,
    }
    let client = flags.api.client(io)?;
    let mut params = flags.server.params();
    params.extend([
        ("source", Some(source.as_str())),
        ("destination", Some(destination)),
        ("source-type", Some("consul")),
    ]);
    let path = format!("/v1/connect/intentions/check{}", query(params));
    let checked = client.get_json(&path).await;
    let checked: Checked = checked.map_err(Failure::because("Error checking the connection"))?;
    writeln!(
        io.out,
        "{}",
        if checked.allowed { "Allowed" } else { "Denied" }
    )?;
    Ok(if checked.allowed { 0 } else { NO })
}

/// Makes an intention between two services; with -file from files that hold such.
#[derive(Parser)]
struct CreateFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// The connection is allowed, which is the default
    #[arg(long)]
    allow: Option<bool>,
    /// The connection is denied
    #[arg(long)]
    deny: Option<bool>,
    /// The arguments are files in JSON or HCL
    #[arg(long)]
    file: Option<bool>,
    /// Take the place of an intention between the same services
    #[arg(long)]
    replace: Option<bool>,
    /// Meta data, KEY=VALUE; may be repeated
    #[arg(long)]
    meta: Vec<String>,
    /// The two services, or files
    arguments: Vec<String>,
}

async fn create(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: CreateFlags = flags::parse("intention create", args)?;
    if flags::on(flags.allow) && flags::on(flags.deny) {
        let text = "Only one of -allow or -deny may be specified.";
        return Err(Failure::Usage(text.into()));
    }
    let intentions = wanted(&flags, io)?;
    let client = flags.api.client(io)?;
    for intention in intentions {
        let shown = Shown::deserialize(&intention);
        let shown = shown.map_err(Failure::because("Error: the intention cannot be read"))?;
        let prefix = format!("Error creating intention {:?}", shown.sentence());
        let known = match flags::on(flags.replace) {
            true => find(&client, &flags.server, &shown).await,
            false => Ok(None),
        };
        let known = known.map_err(Failure::because(&prefix))?;
        let body = Bytes::from(intention.to_string());
        let params = flags.server.params();
        let (method, path) = match &known {
            // One that was made by an entry has no id, and is replaced by its ends.
            Some(known) if known.id.is_empty() => {
                let path = exact(&flags.server, &shown.source_name, &shown.destination_name);
                (hyper::Method::PUT, path)
            }
            Some(known) => {
                let path = format!("/v1/connect/intentions/{}{}", known.id, query(params));
                (hyper::Method::PUT, path)
            }
            None => {
                let path = format!("/v1/connect/intentions{}", query(params));
                (hyper::Method::POST, path)
            }
        };
        let done = client
            .request(method, &path, body)
            .await
            .and_then(Response::success);
        done.map_err(Failure::because(&prefix))?;
        let what = if known.is_some() {
            "Replaced"
        } else {
            "Created"
        };
        writeln!(io.out, "{what}: {}", shown.sentence())?;
    }
    Ok(0)
}

/// What is to be made, in the API's JSON.
fn wanted(flags: &CreateFlags, io: &mut Io<'_>) -> Result<Vec<Value>, Failure> {
    if flags::on(flags.file) {
        let files = flags.arguments.iter();
        return files.map(|file| config::load(file, io)).collect();
    }
    let [source, destination] = &flags.arguments[..] else {
        let text = "Error: command requires exactly two arguments: src and dst";
        return Err(Failure::Usage(text.into()));
    };
    let meta: Map<String, Value> = flags
        .meta
        .iter()
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.into())
        })
        .collect();
    let action = if flags::on(flags.deny) {
        "deny"
    } else {
        "allow"
    };
    let intention = json!({"SourceName": source, "DestinationName": destination, "SourceType": "consul",
                           "Action": action, "Meta": meta});
    Ok(vec![intention])
}

fn exact(server: &ServerFlags, source: &str, destination: &str) -> String {
    let mut params = server.params();
    params.extend([("source", Some(source)), ("destination", Some(destination))]);
    format!("/v1/connect/intentions/exact{}", query(params))
}

async fn find(
    client: &Client,
    server: &ServerFlags,
    ends: &Shown,
) -> Result<Option<Shown>, crate::client::Error> {
    let path = exact(server, &ends.source_name, &ends.destination_name);
    let response = client.get(&path).await?;
    if response.status == hyper::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    client.get_json(&path).await.map(Some)
}

/// Which intention is meant: two services, or an id.
#[derive(Parser)]
struct OneFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// The two services, or the id
    one: Vec<String>,
}

impl OneFlags {
    fn path(&self) -> Result<String, Failure> {
        match &self.one[..] {
            [id] => Ok(format!(
                "/v1/connect/intentions/{}{}",
                escape_path(id),
                query(self.server.params())
            )),
            [source, destination] => Ok(exact(&self.server, source, destination)),
            _ => {
                let text = "Error: command requires exactly 1 or 2 arguments";
                Err(Failure::Usage(text.into()))
            }
        }
    }
}

async fn get(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: OneFlags = flags::parse("intention get", args)?;
    let path = flags.path()?;
    let client = flags.api.client(io)?;
    let found = client.get_json(&path).await;
    let found: Shown = found.map_err(Failure::because("Error reading the intention"))?;
    let mut rows = vec![
        row(["Source:", &found.source_name]),
        row(["Destination:", &found.destination_name]),
    ];
    match found.permissions.len() {
        0 => rows.push(row(["Action:", &found.action])),
        count => rows.push(row(["Permissions:", &count.to_string()])),
    }
    for (label, value) in [("ID:", &found.id), ("Description:", &found.description)] {
        if !value.is_empty() {
            rows.push(row([label, value]));
        }
    }
    for (key, value) in &found.meta {
        rows.push(row([&format!("Meta[{key}]:"), value]));
    }
    if !found.created_at.is_empty() {
        rows.push(row(["Created At:", &found.created_at]));
    }
    io.out.write_all(table::print(&rows).as_bytes())?;
    Ok(0)
}

async fn delete(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: OneFlags = flags::parse("intention delete", args)?;
    let path = flags.path()?;
    let client = flags.api.client(io)?;
    let deleted = client.delete_json(&path).await;
    let _: bool = deleted.map_err(Failure::because("Error deleting the intention"))?;
    writeln!(io.out, "Intention deleted.")?;
    Ok(0)
}

/// Lists all intentions.
#[derive(Parser)]
struct ListFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
}

async fn list(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: ListFlags = flags::parse("intention list", args)?;
    let client = flags.api.client(io)?;
    let path = format!("/v1/connect/intentions{}", query(flags.server.params()));
    let found = client.get_json(&path).await;
    let prefix = "Failed to retrieve the intentions list";
    let found: Vec<Shown> = found.map_err(Failure::because(prefix))?;
    if found.is_empty() {
        io.fail("There are no intentions.");
        return Ok(NO);
    }
    let mut rows = vec![row(["ID", "Source", "Action", "Destination", "Precedence"])];
    rows.extend(found.iter().map(|one| {
        row([
            &one.id,
            &one.source_name,
            &one.action,
            &one.destination_name,
            &one.precedence.to_string(),
        ])
    }));
    io.out.write_all(table::print(&rows).as_bytes())?;
    Ok(0)
}

/// Lists the intentions that concern a service, the one that decides first.
#[derive(Parser)]
struct MatchFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// The service connects
    #[arg(long)]
    source: Option<bool>,
    /// The service is connected to, which is the default
    #[arg(long)]
    destination: Option<bool>,
    /// The service
    service: Vec<String>,
}

async fn matching(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: MatchFlags = flags::parse("intention match", args)?;
    let [service] = &flags.service[..] else {
        let text = "Error: command requires exactly one argument: src or dst";
        return Err(Failure::Usage(text.into()));
    };
    if flags::on(flags.source) && flags::on(flags.destination) {
        let text = "Error: only one of -source or -destination may be specified";
        return Err(Failure::Usage(text.into()));
    }
    let by = if flags::on(flags.source) {
        "source"
    } else {
        "destination"
    };
    let client = flags.api.client(io)?;
    let mut params = flags.server.params();
    params.extend([("by", Some(by)), ("name", Some(service.as_str()))]);
    let path = format!("/v1/connect/intentions/match{}", query(params));
    let found = client.get_json(&path).await;
    let found: BTreeMap<String, Vec<Shown>> =
        found.map_err(Failure::because("Error matching the connection"))?;
    for one in found.values().flatten() {
        writeln!(io.out, "{}", one.sentence())?;
    }
    Ok(0)
}
