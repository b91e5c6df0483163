//! `agent peering ...`: connections to other clusters. This agent makes none; the verbs ask whichever agent answers.

use bytes::Bytes;
use clap::Parser;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags, table};
use crate::client::{Client, Error, Response, escape_path};

const USAGE: &str = "Usage: agent peering COMMAND [FLAGS]

Commands:
    delete          Ends a peering
    establish       Makes a peering with the token of another cluster
    generate-token  Makes a token with which another cluster can make a peering
    list            Lists the peerings
    read            Shows a peering
";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let Some((word, rest)) = args.split_first() else {
        return Err(Failure::Message(USAGE.trim_end().into()));
    };
    if super::is_help(word) {
        return Err(Failure::Help(USAGE.into()));
    }
    let verbs = ["delete", "establish", "generate-token", "list", "read"];
    if !verbs.contains(&word.as_str()) {
        return Err(Failure::Usage(format!(
            "There is no command {word:?} here. The commands are delete, establish, generate-token, list and read."
        )));
    }
    let flags: Flags = flags::parse(&format!("peering {word}"), rest)?;
    if !matches!(flags.format.as_str(), "pretty" | "json") {
        let text = format!(
            "Invalid format, valid formats are {{pretty|json}}: {}",
            flags.format
        );
        return Err(Failure::Message(text));
    }
    let client = flags.api.client(io)?;
    if word == "list" {
        return list(&flags, &client, io).await;
    }
    if flags.name.is_empty() {
        return Err(Failure::Message("Missing the required -name flag".into()));
    }
    match word.as_str() {
        "delete" => delete(&flags, &client, io).await,
        "read" => read(&flags, &client, io).await,
        "establish" => establish(&flags, &client, io).await,
        _ => generate_token(&flags, &client, io).await,
    }
}

/// Connections to other clusters.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// How to print it: pretty or json
    #[arg(long, default_value = "pretty")]
    format: String,
    /// Meta data of the peering, KEY=VALUE; may be repeated
    #[arg(long)]
    meta: Vec<String>,
    /// Name of the peering
    #[arg(long, default_value = "")]
    name: String,
    /// Token of the other cluster, for establish
    #[arg(long, default_value = "")]
    peering_token: String,
    /// Addresses under which the other cluster finds this one, separated by commas, for generate-token
    #[arg(long, default_value = "")]
    server_external_addresses: String,
}

impl Flags {
    fn path(&self) -> String {
        format!("/v1/peering/{}", escape_path(&self.name))
    }

    fn meta(&self) -> Value {
        let pairs = self.meta.iter().map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), Value::from(value))
        });
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

async fn list(flags: &Flags, client: &Client, io: &mut Io<'_>) -> Done {
    let found = client.get_json("/v1/peerings").await;
    let found: Vec<Value> = found.map_err(Failure::because("Error listing peerings"))?;
    if flags.format == "json" {
        return print_json(&Value::Array(found), io);
    }
    if found.is_empty() {
        writeln!(io.out, "There are no peering connections.")?;
        return Ok(0);
    }
    let header = table::row(["Name", "State", "Imported Svcs", "Exported Svcs", "Meta"]);
    let count = |list: &Value| list.as_array().map_or(0, Vec::len).to_string();
    let rows = found.iter().map(|peering| {
        let text = |key: &str| peering[key].as_str().unwrap_or_default().to_owned();
        let status = &peering["StreamStatus"];
        vec![
            text("Name"),
            text("State"),
            count(&status["ImportedServices"]),
            count(&status["ExportedServices"]),
            meta_of(peering).join(","),
        ]
    });
    let rows: Vec<_> = [header].into_iter().chain(rows).collect();
    write!(io.out, "{}", table::print(&rows))?;
    Ok(0)
}

fn meta_of(peering: &Value) -> Vec<String> {
    let pairs = peering["Meta"].as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect()
}

async fn read(flags: &Flags, client: &Client, io: &mut Io<'_>) -> Done {
    let response = client.get(&flags.path()).await;
    let response = response.map_err(Failure::because("Error reading peering"))?;
    if response.status.as_u16() == 404 {
        let text = format!("No peering with name {} found.", flags.name);
        return Err(Failure::Message(text));
    }
    let found = value("Error reading peering", response)?;
    if flags.format == "json" {
        return print_json(&found, io);
    }
    for key in ["Name", "ID", "State"] {
        let label = format!("{key}:");
        writeln!(
            io.out,
            "{label:<14}{}",
            found[key].as_str().unwrap_or_default()
        )?;
    }
    for pair in meta_of(&found) {
        writeln!(io.out, "Meta:         {pair}")?;
    }
    Ok(0)
}

async fn delete(flags: &Flags, client: &Client, io: &mut Io<'_>) -> Done {
    let failed = format!("Error deleting peering for {}", flags.name);
    let sent = client.delete(&flags.path()).await;
    sent.and_then(Response::success)
        .map_err(Failure::because(&failed))?;
    let name = &flags.name;
    writeln!(
        io.out,
        "Successfully submitted peering connection, {name}, for deletion"
    )?;
    Ok(0)
}

async fn establish(flags: &Flags, client: &Client, io: &mut Io<'_>) -> Done {
    if flags.peering_token.is_empty() {
        let text = "Missing the required -peering-token flag";
        return Err(Failure::Message(text.into()));
    }
    let body = json!({
        "PeerName": flags.name, "PeeringToken": flags.peering_token, "Meta": flags.meta(),
    });
    let failed = format!("Error establishing peering for {}", flags.name);
    post(client, "/v1/peering/establish", &body, &failed).await?;
    let name = &flags.name;
    writeln!(
        io.out,
        "Successfully established peering connection with {name}"
    )?;
    Ok(0)
}

async fn generate_token(flags: &Flags, client: &Client, io: &mut Io<'_>) -> Done {
    let addresses = flags.server_external_addresses.split(',');
    let addresses: Vec<_> = addresses.filter(|address| !address.is_empty()).collect();
    let body = json!({
        "PeerName": flags.name, "Meta": flags.meta(), "ServerExternalAddresses": addresses,
    });
    let failed = format!("Error generating peering token for {}", flags.name);
    let made = post(client, "/v1/peering/token", &body, &failed).await?;
    let made = value(&failed, made)?;
    if flags.format == "json" {
        return print_json(&made, io);
    }
    writeln!(
        io.out,
        "{}",
        made["PeeringToken"].as_str().unwrap_or_default()
    )?;
    Ok(0)
}

async fn post(
    client: &Client,
    path: &str,
    body: &Value,
    failed: &str,
) -> Result<Response, Failure> {
    let body = Bytes::from(body.to_string());
    let sent = client.request(Method::POST, path, body).await;
    sent.and_then(Response::success)
        .map_err(Failure::because(failed))
}

fn value(failed: &str, response: Response) -> Result<Value, Failure> {
    let response = response.success().map_err(Failure::because(failed))?;
    let decoded = serde_json::from_slice(&response.body).map_err(|source| Error::Decode {
        url: "/v1/peering".to_owned(),
        source,
    });
    decoded.map_err(Failure::because(failed))
}

fn print_json(value: &Value, io: &mut Io<'_>) -> Done {
    writeln!(io.out, "{value:#}")?;
    Ok(0)
}
