//! `agent config`: config entries.

use bytes::Bytes;
use clap::Parser;
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

use super::api::{ApiFlags, ServerFlags};
use super::{Done, Failure, Io, flags};
use crate::client::{escape_path, query};
use crate::config::document;

const USAGE: &str = "Usage: agent config SUBCOMMAND [FLAGS] [ARGUMENTS]

Subcommands:
    delete  Removes a config entry
    list    Lists the names of the entries of a kind
    read    Prints a config entry
    write   Writes a config entry from a file or the standard input
";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    match args.split_first() {
        Some((verb, rest)) => match verb.as_str() {
            "delete" => delete(rest, io).await,
            "list" => list(rest, io).await,
            "read" => read(rest, io).await,
            "write" => write(rest, io).await,
            "-h" | "-help" | "--help" => Err(Failure::Help(USAGE.into())),
            other => Err(Failure::Message(format!(
                "There is no subcommand {other:?}.\n{USAGE}"
            ))),
        },
        None => Err(Failure::Message(USAGE.into())),
    }
}

/// Prints a config entry as JSON.
#[derive(Parser)]
struct ReadFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Kind of the entry
    #[arg(long, default_value = "")]
    kind: String,
    /// Name of the entry
    #[arg(long, default_value = "")]
    name: String,
}

async fn read(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: ReadFlags = flags::parse("config read", args)?;
    given(&flags.kind, "Must specify the -kind parameter")?;
    given(&flags.name, "Must specify the -name parameter")?;
    let client = flags.api.client(io)?;
    let path = path(&flags.kind, &flags.name, flags.server.params());
    let prefix = format!("Error reading config entry {}/{}", flags.kind, flags.name);
    let entry = client.get_json(&path).await;
    let entry: Value = entry.map_err(Failure::because(&prefix))?;
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    entry
        .serialize(&mut serializer)
        .map_err(Failure::because(&prefix))?;
    text.push(b'\n');
    io.out.write_all(&text)?;
    Ok(0)
}

/// Lists the names of the entries of a kind.
#[derive(Parser)]
struct ListFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Kind of the entries
    #[arg(long, default_value = "")]
    kind: String,
    /// Expression that entries must match
    #[arg(long, default_value = "")]
    filter: String,
}

async fn list(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: ListFlags = flags::parse("config list", args)?;
    given(&flags.kind, "Must specify the -kind parameter")?;
    let client = flags.api.client(io)?;
    let mut params = flags.server.params();
    if !flags.filter.is_empty() {
        params.push(("filter", Some(&flags.filter)));
    }
    let path = format!("/v1/config/{}{}", escape_path(&flags.kind), query(params));
    let prefix = format!("Error listing config entries for kind {:?}", flags.kind);
    let found = client.get_json(&path).await;
    let found: Vec<Value> = found.map_err(Failure::because(&prefix))?;
    for entry in found {
        // The one entry of its kind that has no name is called as its kind.
        let name = entry["Name"].as_str().unwrap_or(&flags.kind);
        writeln!(io.out, "{name}")?;
    }
    Ok(0)
}

/// Writes a config entry: from a file in HCL or JSON, or with `-` from the standard input.
#[derive(Parser)]
struct WriteFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Write only if the entry was last changed at -modify-index
    #[arg(long)]
    cas: Option<bool>,
    /// Index of the last change; 0 stands for an entry that does not exist
    #[arg(long)]
    modify_index: Option<u64>,
    /// The file
    files: Vec<String>,
}

async fn write(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: WriteFlags = flags::parse("config write", args)?;
    let [file] = &flags.files[..] else {
        let text =
            "Must provide exactly one positional argument to specify the config entry to write";
        return Err(Failure::Usage(text.into()));
    };
    let index = index(flags::on(flags.cas), flags.modify_index)?;
    let entry = load(file, io)?;
    let (kind, name) = names(&entry);
    let client = flags.api.client(io)?;
    let mut params = flags.server.params();
    if let Some(index) = &index {
        params.push(("cas", Some(index)));
    }
    let path = format!("/v1/config{}", query(params));
    let prefix = format!("Error writing config entry {kind}/{name}");
    let written = client.put_json(&path, Bytes::from(entry.to_string())).await;
    if !written.map_err(Failure::because(&prefix))? {
        return Err(Failure::Message(format!(
            "Config entry not updated: {kind}/{name}"
        )));
    }
    writeln!(io.out, "Config entry written: {kind}/{name}")?;
    Ok(0)
}

/// Removes a config entry, named by flags or by a file that holds it.
#[derive(Parser)]
struct DeleteFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Kind of the entry
    #[arg(long, default_value = "")]
    kind: String,
    /// Name of the entry
    #[arg(long, default_value = "")]
    name: String,
    /// File that holds the entry
    #[arg(long, default_value = "")]
    filename: String,
    /// Remove only if the entry was last changed at -modify-index
    #[arg(long)]
    cas: Option<bool>,
    /// Index of the last change
    #[arg(long)]
    modify_index: Option<u64>,
}

async fn delete(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: DeleteFlags = flags::parse("config delete", args)?;
    let (kind, name) = match flags.filename.as_str() {
        "" => (flags.kind.clone(), flags.name.clone()),
        _ if !flags.kind.is_empty() || !flags.name.is_empty() => {
            let text = "The -filename parameter cannot be used with -kind or -name";
            return Err(Failure::Usage(text.into()));
        }
        file => names(&load(file, io)?),
    };
    given(&kind, "Must specify the -kind parameter")?;
    given(&name, "Must specify the -name parameter")?;
    let index = index(flags::on(flags.cas), flags.modify_index)?;
    let client = flags.api.client(io)?;
    let mut params = flags.server.params();
    if let Some(index) = &index {
        params.push(("cas", Some(index)));
    }
    let prefix = format!("Error deleting config entry {kind}/{name}");
    let deleted = client.delete_json(&path(&kind, &name, params)).await;
    let deleted: Value = deleted.map_err(Failure::because(&prefix))?;
    if deleted == Value::Bool(false) {
        return Err(Failure::Message(format!(
            "Config entry not deleted: {kind}/{name}"
        )));
    }
    writeln!(io.out, "Config entry deleted: {kind}/{name}")?;
    Ok(0)
}

fn given(value: &str, missing: &str) -> Result<(), Failure> {
    match value {
        "" => Err(Failure::Usage(missing.into())),
        _ => Ok(()),
    }
}

/// The index that a change depends on, as a parameter.
fn index(cas: bool, index: Option<u64>) -> Result<Option<String>, Failure> {
    match (cas, index) {
        (false, None) => Ok(None),
        (true, Some(index)) => Ok(Some(index.to_string())),
        (true, None) => Err(Failure::Usage(
            "Must specify -modify-index parameter with -cas".into(),
        )),
        (false, Some(_)) => Err(Failure::Usage(
            "Cannot specify -modify-index without -cas".into(),
        )),
    }
}

fn path<'a>(kind: &str, name: &str, params: Vec<(&'a str, Option<&'a str>)>) -> String {
    let (kind, name) = (escape_path(kind), escape_path(name));
    format!("/v1/config/{kind}/{name}{}", query(params))
}

/// A document from a file, or from the standard input.
pub(super) fn load(file: &str, io: &mut Io<'_>) -> Result<Value, Failure> {
    let failed = || Failure::because("Failed to load data");
    let mut text = String::new();
    match file {
        "-" => drop(io.input.read_to_string(&mut text).map_err(failed())?),
        file => text = std::fs::read_to_string(file).map_err(failed())?,
    }
    document::read(&text).map_err(Failure::because("Failed to decode config entry input"))
}

fn names(entry: &Value) -> (String, String) {
    let text = |name: &str| {
        let fields = entry.as_object().into_iter().flatten();
        let mut found = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let found = found.next().and_then(|(_, value)| value.as_str());
        found.unwrap_or_default().to_owned()
    };
    let (kind, name) = (text("kind"), text("name"));
    match name.is_empty() && kind == "mesh" {
        true => (kind.clone(), kind),
        false => (kind, name),
    }
}
