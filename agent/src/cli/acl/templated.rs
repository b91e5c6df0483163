//! `agent acl templated-policy`.

use clap::Parser;
use hyper::Method;
use serde_json::{Value, json};

use super::super::api::{ApiFlags, ServerFlags};
use super::super::{Done, Failure, Io, flags};
use super::{Call, FormatFlags, GrantFlags, Lines, text};
use crate::client::escape_path;
use crate::config::document;

const USAGE: &str = "Usage: agent acl templated-policy SUBCOMMAND [FLAGS]

Subcommands:
    list     Lists all templated policies
    preview  Prints the policy that a templated policy becomes
    read     Prints a templated policy
";

/// Policies that are made from a name.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    format: FormatFlags,
    /// Name of the templated policy
    #[arg(long, default_value = "")]
    name: String,
    /// preview: value of its variable, name:VALUE
    #[arg(long)]
    var: Vec<String>,
    /// preview: file in HCL or JSON with its name and variables
    #[arg(long, default_value = "")]
    file: String,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let verbs = ["list", "preview", "read"];
    let (verb, rest) = super::subcommand(args, USAGE, &verbs)?;
    let flags: Flags = flags::parse(&format!("acl templated-policy {verb}"), rest)?;
    flags.format.check()?;
    let call = Call::new(&flags.api, &flags.server, io)?;
    match verb {
        "list" => {
            let failed = "Failed to retrieve the templated policies list";
            let found = call.get("/v1/acl/templated-policies", failed).await?;
            if flags.format.format == "json" {
                return flags.format.print(&found, io, |_, _| String::new());
            }
            for name in found
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name)
            {
                writeln!(io.out, "{name}")?;
            }
            Ok(0)
        }
        "preview" => preview(&flags, &call, io).await,
        _ => {
            if flags.name.is_empty() {
                return Err(Failure::Usage("Must specify the -name parameter".into()));
            }
            let path = format!("/v1/acl/templated-policy/name/{}", escape_path(&flags.name));
            let failed = format!("Error reading templated policy with name {:?}", flags.name);
            let found = call.get(&path, &failed).await?;
            flags.format.print(&found, io, pretty)
        }
    }
}

async fn preview(flags: &Flags, call: &Call<'_>, io: &mut Io<'_>) -> Done {
    let given = GrantFlags {
        templated_policy: flags.name.clone(),
        templated_policy_file: flags.file.clone(),
        var: flags.var.clone(),
        ..GrantFlags::default()
    };
    let Some(one) = given.templated(io)?.into_iter().next() else {
        return Err(Failure::Usage(
            "Must specify either the -name or -file parameters".into(),
        ));
    };
    let name = text(&one, "TemplateName");
    let path = format!("/v1/acl/templated-policy/preview/{}", escape_path(name));
    let body = match &one["TemplateVariables"] {
        Value::Null => json!({}),
        variables => variables.clone(),
    };
    let failed = format!("Failed to generate the templated policy preview of {name:?}");
    let row = call.send(Method::POST, &path, Some(&body), &failed).await?;
    flags.format.print(&row, io, |row, _| {
        let mut lines = Lines::new(14);
        lines.line("Name", text(row, "Name"));
        lines.line("Description", text(row, "Description"));
        lines.text.push_str("Rules:\n");
        lines.text.push_str(text(row, "Rules"));
        lines.text
    })
}

fn pretty(row: &Value, _: bool) -> String {
    let mut lines = Lines::new(18);
    lines.line("Name", text(row, "TemplateName"));
    lines.line("Description", text(row, "Description"));
    let schema = text(row, "Schema");
    lines.line(
        "Input variables",
        if schema.is_empty() {
            "None"
        } else {
            "Name: String - Required"
        },
    );
    lines.text.push_str("Raw Template:\n");
    lines.text.push_str(text(row, "Template"));
    lines.text
}

/// Templated policies of a file: `TemplatedPolicy "NAME" { Name = "VALUE" }`, or in JSON an object of these.
pub(super) fn from_file(file: &str, io: &mut Io<'_>) -> Result<Vec<Value>, Failure> {
    let text = super::content(&format!("@{file}"), io)?;
    let wrong = || Failure::because("Failed to decode templated policies");
    let document: Value = document::read(&text).map_err(wrong())?;
    let of = |key: &str| {
        let mut fields = document.as_object().into_iter().flatten();
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.clone())
    };
    let Some(policies) = of("TemplatedPolicy").or_else(|| of("TemplatedPolicies")) else {
        return Err(Failure::Message(format!(
            "{file} has no TemplatedPolicy: write TemplatedPolicy \"builtin/service\" {{ Name = \"web\" }}"
        )));
    };
    // A block that comes once and one that comes several times.
    let blocks = match policies {
        Value::Array(blocks) => blocks,
        block => vec![block],
    };
    let mut all = Vec::new();
    for (name, variables) in blocks.iter().filter_map(Value::as_object).flatten() {
        let variables = match variables {
            Value::Array(list) => list.first().cloned().unwrap_or_default(),
            other => other.clone(),
        };
        let given = variables.as_object().into_iter().flatten();
        let name_given = given
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case("name"));
        let mut one = json!({ "TemplateName": name });
        if let Some((_, value)) = name_given {
            one["TemplateVariables"] = json!({ "Name": value });
        }
        all.push(one);
    }
    Ok(all)
}
