//! `agent acl`: tokens, policies, roles, and how tokens are got.

use bytes::Bytes;
use clap::{Args, Parser};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::api::{ApiFlags, ServerFlags};
use super::{Done, Failure, Io, flags};
use crate::client::{Client, Response, escape_path, query};

mod login;
mod method;
mod noun;
mod policy;
mod role;
mod rule;
mod templated;
mod token;

pub(super) use login::{login, logout};

const USAGE: &str = "Usage: agent acl SUBCOMMAND [FLAGS] [ARGUMENTS]

Subcommands:
    auth-method       Ways to get a token for an identity of somebody else
    binding-rule      What tokens of auth methods allow
    bootstrap         Makes the first token
    policy            Rules under a name
    role              What several tokens allow, under a name
    set-agent-token   Gives an agent a token to use itself
    templated-policy  Policies that are made from a name
    token             Tokens
";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    match args.split_first() {
        Some((verb, rest)) => match verb.as_str() {
            "auth-method" => method::run(rest, io).await,
            "binding-rule" => rule::run(rest, io).await,
            "bootstrap" => token::bootstrap(rest, io).await,
            "policy" => policy::run(rest, io).await,
            "role" => role::run(rest, io).await,
            "set-agent-token" => set_agent_token(rest, io).await,
            "templated-policy" => templated::run(rest, io).await,
            "token" => token::run(rest, io).await,
            word if super::is_help(word) => Err(Failure::Help(USAGE.into())),
            other => Err(Failure::Message(format!(
                "There is no subcommand {other:?}.\n{USAGE}"
            ))),
        },
        None => Err(Failure::Message(USAGE.into())),
    }
}

/// Splits off the subcommand of a noun, with its help.
fn subcommand<'a>(
    args: &'a [String],
    usage: &str,
    verbs: &[&str],
) -> Result<(&'a str, &'a [String]), Failure> {
    match args.split_first() {
        Some((word, _)) if super::is_help(word) => Err(Failure::Help(usage.into())),
        Some((word, rest)) if verbs.contains(&word.as_str()) => Ok((word, rest)),
        Some((word, _)) => Err(Failure::Message(format!(
            "There is no subcommand {word:?}.\n{usage}"
        ))),
        None => Err(Failure::Message(usage.into())),
    }
}

/// How it is printed.
#[derive(Debug, Args)]
struct FormatFlags {
    /// How to print it: pretty or json
    #[arg(long, default_value = "pretty")]
    format: String,
    /// Print indexes and hashes too
    #[arg(long)]
    meta: Option<bool>,
}

impl FormatFlags {
    /// Refuses a format that there is not.
    fn check(&self) -> Result<(), Failure> {
        match self.format.as_str() {
            "pretty" | "json" => Ok(()),
            other => Err(Failure::Usage(format!(
                "Invalid format {other:?}: it is pretty or json"
            ))),
        }
    }

    /// Prints a row, or several: as JSON, or by `pretty`.
    fn print(
        &self,
        value: &Value,
        io: &mut Io<'_>,
        pretty: impl Fn(&Value, bool) -> String,
    ) -> Done {
        if self.format == "json" {
            writeln!(io.out, "{}", indented(value))?;
            return Ok(0);
        }
        let with_meta = flags::on(self.meta);
        match value {
            Value::Array(rows) => {
                for (number, row) in rows.iter().enumerate() {
                    let gap = if number > 0 { "\n" } else { "" };
                    write!(io.out, "{gap}{}", pretty(row, with_meta))?;
                }
            }
            row => write!(io.out, "{}", pretty(row, with_meta))?,
        }
        Ok(0)
    }
}

/// JSON with four spaces, as Consul prints it.
fn indented(value: &Value) -> String {
    use serde::Serialize as _;
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => value.to_string(),
    }
}

/// A text field; empty when it is not there.
fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

/// Lines `Label:   value`, all values in one column.
struct Lines {
    width: usize,
    text: String,
}

impl Lines {
    fn new(width: usize) -> Self {
        Self {
            width,
            text: String::new(),
        }
    }

    fn line(&mut self, label: &str, value: &str) {
        let label = format!("{label}:");
        let line = format!("{label:<width$}{value}", width = self.width);
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn given(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            self.line(label, value);
        }
    }

    fn meta(&mut self, row: &Value) {
        self.given("Hash", text(row, "Hash"));
        for (label, key) in [
            ("Create Index", "CreateIndex"),
            ("Modify Index", "ModifyIndex"),
        ] {
            self.line(label, &row[key].to_string());
        }
    }

    fn section(&mut self, title: &str, lines: impl IntoIterator<Item = String>) {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        self.text.push_str(&format!("{title}:\n"));
        for line in lines {
            self.text.push_str(&format!("   {line}\n"));
        }
    }

    /// What a token or a role allows.
    fn grants(&mut self, row: &Value) {
        let list = |key: &str| row[key].as_array().cloned().unwrap_or_default();
        let links = |key: &str| {
            let links = list(key).into_iter();
            links.map(|link| format!("{} - {}", text(&link, "ID"), text(&link, "Name")))
        };
        self.section("Policies", links("Policies"));
        self.section("Roles", links("Roles"));
        let services = list("ServiceIdentities").into_iter().map(|one| {
            let name = text(&one, "ServiceName").to_owned();
            format!("{name} (Datacenters: {})", datacenters(&one))
        });
        self.section("Service Identities", services);
        let nodes = list("NodeIdentities").into_iter().map(|one| {
            let name = text(&one, "NodeName").to_owned();
            format!("{name} (Datacenter: {})", text(&one, "Datacenter"))
        });
        self.section("Node Identities", nodes);
        let templated = list("TemplatedPolicies").into_iter().map(|one| {
            let mut line = text(&one, "TemplateName").to_owned();
            let name = text(&one["TemplateVariables"], "Name");
            if !name.is_empty() {
                line.push_str(&format!(" (Name: {name})"));
            }
            line.push_str(&format!(" (Datacenters: {})", datacenters(&one)));
            line
        });
        self.section("Templated Policies", templated);
    }
}

fn datacenters(row: &Value) -> String {
    let names = row["Datacenters"].as_array().into_iter().flatten();
    let names: Vec<_> = names.filter_map(Value::as_str).collect();
    match names.is_empty() {
        true => "all".to_owned(),
        false => names.join(", "),
    }
}

/// What a token or a role is to allow.
#[derive(Debug, Default, Args)]
struct GrantFlags {
    /// Id of a policy; may be repeated
    #[arg(long)]
    policy_id: Vec<String>,
    /// Name of a policy; may be repeated
    #[arg(long)]
    policy_name: Vec<String>,
    /// Name of a service, and perhaps datacenters: SERVICE or SERVICE:DC,DC; may be repeated
    #[arg(long)]
    service_identity: Vec<String>,
    /// Name of a node and its datacenter: NODE:DC; may be repeated
    #[arg(long)]
    node_identity: Vec<String>,
    /// Name of a templated policy, whose variable -var gives
    #[arg(long, default_value = "")]
    templated_policy: String,
    /// File in HCL or JSON with templated policies and their variables
    #[arg(long, default_value = "")]
    templated_policy_file: String,
    /// Variable of the templated policy: name:VALUE
    #[arg(long)]
    var: Vec<String>,
}

impl GrantFlags {
    fn is_empty(&self) -> bool {
        self.policy_id.is_empty()
            && self.policy_name.is_empty()
            && self.service_identity.is_empty()
            && self.node_identity.is_empty()
            && self.templated_policy.is_empty()
            && self.templated_policy_file.is_empty()
    }

    /// Puts what was given behind what is there.
    fn add_to(&self, row: &mut Map<String, Value>, io: &mut Io<'_>) -> Result<(), Failure> {
        let ids = self.policy_id.iter().map(|id| json!({ "ID": id }));
        let names = self.policy_name.iter().map(|name| json!({ "Name": name }));
        append(row, "Policies", ids.chain(names));
        let services = self.service_identity.iter().map(|text| {
            let (name, datacenters) = text.split_once(':').unwrap_or((text, ""));
            let datacenters: Vec<_> = datacenters.split(',').filter(|dc| !dc.is_empty()).collect();
            json!({ "ServiceName": name, "Datacenters": datacenters })
        });
        append(row, "ServiceIdentities", services);
        for text in &self.node_identity {
            let Some((name, datacenter)) = text.split_once(':') else {
                return Err(Failure::Usage(format!(
                    "-node-identity {text:?} must be NODE:DATACENTER"
                )));
            };
            let one = json!({ "NodeName": name, "Datacenter": datacenter });
            append(row, "NodeIdentities", [one]);
        }
        append(row, "TemplatedPolicies", self.templated(io)?);
        Ok(())
    }

    fn templated(&self, io: &mut Io<'_>) -> Result<Vec<Value>, Failure> {
        match (
            self.templated_policy.as_str(),
            self.templated_policy_file.as_str(),
        ) {
            ("", "") if self.var.is_empty() => Ok(Vec::new()),
            ("", "") => Err(Failure::Usage(
                "-var means nothing without -templated-policy".into(),
            )),
            (name, "") => {
                let mut one = json!({ "TemplateName": name });
                for pair in &self.var {
                    let Some(("name", value)) = pair.split_once(':') else {
                        return Err(Failure::Usage(format!("-var {pair:?} must be name:VALUE")));
                    };
                    one["TemplateVariables"] = json!({ "Name": value });
                }
                Ok(vec![one])
            }
            ("", file) => templated::from_file(file, io),
            _ => Err(Failure::Usage(
                "Cannot combine the use of templated-policy flag with templated-policy-file".into(),
            )),
        }
    }
}

fn append(row: &mut Map<String, Value>, key: &str, more: impl IntoIterator<Item = Value>) {
    let mut list = match row.remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    list.extend(more);
    if !list.is_empty() {
        row.insert(key.to_owned(), Value::Array(list));
    }
}

/// A text from a flag: itself, `@FILE`, or `-` for the standard input.
fn content(given: &str, io: &mut Io<'_>) -> Result<String, Failure> {
    let failed = || Failure::because("Failed to load data");
    match (given, given.strip_prefix('@')) {
        ("-", _) => {
            let mut text = String::new();
            io.input.read_to_string(&mut text).map_err(failed())?;
            Ok(text)
        }
        (_, Some(file)) => std::fs::read_to_string(file).map_err(failed()),
        (text, None) => Ok(text.to_owned()),
    }
}

/// A request of one of these verbs.
struct Call<'a> {
    client: Client,
    params: Vec<(&'static str, Option<&'a str>)>,
}

impl<'a> Call<'a> {
    fn new(api: &ApiFlags, server: &'a ServerFlags, io: &Io<'_>) -> Result<Self, Failure> {
        Ok(Self {
            client: api.client(io)?,
            params: server.params(),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        failed: &str,
    ) -> Result<Value, Failure> {
        let path = format!("{path}{}", query(self.params.clone()));
        let body = body.map(|body| Bytes::from(body.to_string()));
        let sent = self
            .client
            .request(method, &path, body.unwrap_or_default())
            .await;
        let response = sent
            .and_then(Response::success)
            .map_err(Failure::because(failed))?;
        match response.body.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&response.body).map_err(Failure::because(failed)),
        }
    }

    async fn get(&self, path: &str, failed: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None, failed).await
    }

    async fn put(&self, path: &str, body: &Value, failed: &str) -> Result<Value, Failure> {
        self.send(Method::PUT, path, Some(body), failed).await
    }

    async fn delete(&self, path: &str, failed: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None, failed).await?;
        Ok(())
    }

    /// The id of a row that is named by one of both.
    async fn id_of(&self, noun: &str, id: &str, name: &str) -> Result<String, Failure> {
        match (id, name) {
            ("", "") => Err(Failure::Usage(format!(
                "Must specify either the -id or -name parameters of the {noun}"
            ))),
            ("", name) => {
                let path = format!("/v1/acl/{noun}/name/{}", escape_path(name));
                let failed = format!("Error determining {noun} ID");
                let row = self.get(&path, &failed).await?;
                Ok(text(&row, "ID").to_owned())
            }
            (id, _) => Ok(id.to_owned()),
        }
    }
}

/// Gives the agent a token to use itself: agent, default, dns, config_file_service_registration, replication or
/// agent_recovery.
#[derive(Parser)]
struct SetAgentTokenFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// What it is used for, and its secret
    words: Vec<String>,
}

async fn set_agent_token(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: SetAgentTokenFlags = flags::parse("acl set-agent-token", args)?;
    let (kind, secret) = match &flags.words[..] {
        [kind, secret] => (kind, secret.as_str()),
        _ => {
            return Err(Failure::Usage(
                "Expected two arguments: what the token is used for, and its secret".into(),
            ));
        }
    };
    let server = ServerFlags::default();
    let call = Call::new(&flags.api, &server, io)?;
    let path = format!("/v1/agent/token/{}", escape_path(kind));
    let failed = format!("Error setting the token {kind:?}");
    call.put(&path, &json!({ "Token": secret }), &failed)
        .await?;
    writeln!(io.out, "ACL token {kind:?} set successfully")?;
    Ok(0)
}
