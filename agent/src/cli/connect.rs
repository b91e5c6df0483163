//! `agent connect`: the certificate authority of the service mesh.

use clap::Parser;
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

use super::api::{ApiFlags, ServerFlags};
use super::{Done, Failure, Io, flags};
use crate::client::{Response, query};

const USAGE: &str = "Usage: agent connect ca SUBCOMMAND [FLAGS]

Subcommands:
    get-config  Prints the configuration of the certificate authority
    set-config  Changes it to what a file says
";

const PATH: &str = "/v1/connect/ca/configuration";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let words: Vec<&str> = args.iter().take(2).map(String::as_str).collect();
    match words[..] {
        ["ca", "get-config"] => get_config(&args[2..], io).await,
        ["ca", "set-config"] => set_config(&args[2..], io).await,
        ["-h" | "-help" | "--help", ..] | ["ca", "-h" | "-help" | "--help"] => {
            Err(Failure::Help(USAGE.into()))
        }
        [] | ["ca"] => Err(Failure::Message(USAGE.into())),
        ["ca", other] | [other, ..] => Err(Failure::Message(format!(
            "There is no subcommand {other:?}.\n{USAGE}"
        ))),
    }
}

/// Prints the configuration of the certificate authority as JSON.
#[derive(Parser)]
struct GetFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
}

async fn get_config(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: GetFlags = flags::parse("connect ca get-config", args)?;
    let client = flags.api.client(io)?;
    let path = format!("{PATH}{}", query(flags.server.params()));
    let prefix = "Error querying CA configuration";
    let config: Value = client
        .get_json(&path)
        .await
        .map_err(Failure::because(prefix))?;
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    config
        .serialize(&mut serializer)
        .map_err(Failure::because("Error formatting CA configuration"))?;
    text.push(b'\n');
    io.out.write_all(&text)?;
    Ok(0)
}

/// Changes the configuration of the certificate authority: another key in it is another root, and those of before go on
/// being trusted until nobody has a certificate of them any more.
#[derive(Parser)]
struct SetFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// The file with the configuration, in JSON
    #[arg(long, default_value = "")]
    config_file: String,
    /// Whether a new root may do without the old one's signature, which cuts off those who do not know it yet
    #[arg(long)]
    force_without_cross_signing: Option<bool>,
}

async fn set_config(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: SetFlags = flags::parse("connect ca set-config", args)?;
    if flags.config_file.is_empty() {
        let text = "The -config-file flag is required";
        return Err(Failure::Message(text.into()));
    }
    let client = flags.api.client(io)?;
    let text = std::fs::read_to_string(&flags.config_file)
        .map_err(Failure::because("Error reading config file"))?;
    let unreadable = "Error parsing config file";
    let mut config: Value = serde_json::from_str(&text).map_err(Failure::because(unreadable))?;
    let Some(fields) = config.as_object_mut() else {
        return Err(Failure::Message(format!(
            "{unreadable}: it must be an object with Provider and Config"
        )));
    };
    let forced = flags::on(flags.force_without_cross_signing);
    fields.retain(|key, _| {
        let key = key.replace('_', "");
        !key.eq_ignore_ascii_case("forcewithoutcrosssigning")
    });
    fields.insert("ForceWithoutCrossSigning".to_owned(), forced.into());
    let path = format!("{PATH}{}", query(flags.server.params()));
    let prefix = "Error setting CA configuration";
    let response = client
        .put(&path, config.to_string())
        .await
        .map_err(Failure::because(prefix))?;
    Response::success(response).map_err(Failure::because(prefix))?;
    writeln!(io.out, "Configuration updated!")?;
    Ok(0)
}
