//! `agent acl auth-method`.

use clap::Parser;
use serde_json::{Map, Value, json};

use super::super::api::{ApiFlags, ServerFlags};
use super::super::{Done, Failure, Io, flags};
use super::noun::Noun;
use super::{Call, FormatFlags, Lines, content, indented, text};

const USAGE: &str = "Usage: agent acl auth-method SUBCOMMAND [FLAGS]

Subcommands:
    create  Makes an auth method
    delete  Removes an auth method, with its rules and the tokens that it handed out
    list    Lists all auth methods
    read    Prints an auth method
    update  Changes an auth method
";

/// Auth methods: ways to get a token for an identity of somebody else.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    format: FormatFlags,
    /// Name of the auth method
    #[arg(long, default_value = "")]
    name: String,
    /// kubernetes or jwt
    #[arg(long = "type", default_value = "")]
    kind: String,
    /// For people
    #[arg(long)]
    display_name: Option<String>,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// The longest life of a token that it hands out, as 24h
    #[arg(long)]
    max_token_ttl: Option<String>,
    /// Where its tokens count: local or global
    #[arg(long)]
    token_locality: Option<String>,
    /// Its settings in JSON: @FILE, or - for the standard input
    #[arg(long)]
    config: Option<String>,
    /// kubernetes: address of its API
    #[arg(long)]
    kubernetes_host: Option<String>,
    /// kubernetes: PEM of the authority of its API, or @FILE
    #[arg(long)]
    kubernetes_ca_cert: Option<String>,
    /// kubernetes: token of an account that may review tokens
    #[arg(long)]
    kubernetes_service_account_jwt: Option<String>,
    /// update: replace everything by what is given
    #[arg(long)]
    no_merge: Option<bool>,
}

impl Flags {
    fn add_to(&self, row: &mut Map<String, Value>, io: &mut Io<'_>) -> Result<(), Failure> {
        row.insert("Name".to_owned(), json!(self.name));
        let kind = Some(&self.kind).filter(|kind| !kind.is_empty());
        for (key, value) in [
            ("Type", kind),
            ("DisplayName", self.display_name.as_ref()),
            ("Description", self.description.as_ref()),
            ("MaxTokenTTL", self.max_token_ttl.as_ref()),
            ("TokenLocality", self.token_locality.as_ref()),
        ] {
            if let Some(value) = value {
                row.insert(key.to_owned(), json!(value));
            }
        }
        if let Some(config) = &self.config {
            let config: Value = serde_json::from_str(&content(config, io)?).map_err(
                Failure::because("Error loading configuration from flag -config"),
            )?;
            row.insert("Config".to_owned(), config);
        }
        let mut config = match row.remove("Config") {
            Some(Value::Object(config)) => config,
            _ => Map::new(),
        };
        for (key, value) in [
            ("Host", &self.kubernetes_host),
            ("CACert", &self.kubernetes_ca_cert),
            ("ServiceAccountJWT", &self.kubernetes_service_account_jwt),
        ] {
            if let Some(value) = value {
                config.insert(key.to_owned(), json!(content(value, io)?));
            }
        }
        row.insert("Config".to_owned(), Value::Object(config));
        Ok(())
    }
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    const METHOD: Noun = Noun {
        name: "auth method",
        path: "/v1/acl/auth-method",
        pretty,
    };
    let verbs = ["create", "delete", "list", "read", "update"];
    let (verb, rest) = super::subcommand(args, USAGE, &verbs)?;
    let flags: Flags = flags::parse(&format!("acl auth-method {verb}"), rest)?;
    flags.format.check()?;
    let call = Call::new(&flags.api, &flags.server, io)?;
    let (name, format) = (&flags.name, &flags.format);
    let mut row = Map::new();
    match verb {
        "list" => {
            let path = "/v1/acl/auth-methods";
            METHOD.list(path, listed, &call, format, io).await
        }
        _ if name.is_empty() => Err(Failure::Usage("Missing required '-name' flag".into())),
        "create" if flags.kind.is_empty() => {
            Err(Failure::Usage("Missing required '-type' flag".into()))
        }
        "create" => {
            flags.add_to(&mut row, io)?;
            METHOD.create(row, &call, format, io).await
        }
        "delete" => METHOD.delete(name, &call, io).await,
        "read" => METHOD.read(name, &call, format, io).await,
        _ => {
            if !flags::on(flags.no_merge) {
                row = METHOD.current(name, &call).await?;
            }
            flags.add_to(&mut row, io)?;
            METHOD.update(name, row, &call, format, io).await
        }
    }
}

fn head(row: &Value, with_meta: bool) -> Lines {
    let mut lines = Lines::new(15);
    lines.line("Type", text(row, "Type"));
    lines.given("DisplayName", text(row, "DisplayName"));
    lines.line("Description", text(row, "Description"));
    lines.given(
        "MaxTokenTTL",
        Some(text(row, "MaxTokenTTL"))
            .filter(|ttl| *ttl != "0s")
            .unwrap_or(""),
    );
    lines.given("TokenLocality", text(row, "TokenLocality"));
    if with_meta {
        lines.meta(row);
    }
    lines
}

fn pretty(row: &Value, with_meta: bool) -> String {
    let mut name = Lines::new(15);
    name.line("Name", text(row, "Name"));
    let rest = head(row, with_meta).text;
    format!("{}{rest}Config:\n{}\n", name.text, indented(&row["Config"]))
}

fn listed(row: &Value, with_meta: bool) -> String {
    let lines = head(row, with_meta).text;
    let inside = lines.lines().map(|line| format!("   {line}\n"));
    format!("{}:\n{}", text(row, "Name"), inside.collect::<String>())
}
