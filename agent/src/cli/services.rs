//! `agent services ...`: registers services on an agent, and takes them off.

use std::path::Path;

use bytes::Bytes;
use clap::Parser;
use serde_json::{Map, Value, json};

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};
use crate::client::{Response, escape_path};
use crate::config::files::{self, Format};

mod export;

const USAGE: &str = "Usage: agent services COMMAND [FLAGS] [FILE ...]

Commands:
    deregister         Takes services off an agent
    export             Exports a service to peered clusters
    exported-services  Lists what is exported
    register           Puts services on an agent
";

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let Some((word, rest)) = args.split_first() else {
        return Err(Failure::Message(USAGE.trim_end().into()));
    };
    match word.as_str() {
        "deregister" => deregister(rest, io).await,
        "export" => export::export(rest, io).await,
        "exported-services" => export::list(rest, io).await,
        "register" => register(rest, io).await,
        "-h" | "-help" | "--help" => Err(Failure::Help(USAGE.into())),
        word => Err(Failure::Usage(format!(
            "There is no command {word:?} here. The commands are deregister, export, exported-services and register."
        ))),
    }
}

/// Puts services on an agent: one that the flags describe, or all that files define.
#[derive(Parser)]
struct RegisterFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// Address, if it is not the node's
    #[arg(long, default_value = "")]
    address: String,
    /// Id; the name unless given
    #[arg(long, default_value = "")]
    id: String,
    /// What kind of proxy or gateway it is
    #[arg(long, default_value = "")]
    kind: String,
    /// Meta data, KEY=VALUE; may be repeated
    #[arg(long)]
    meta: Vec<String>,
    /// Name
    #[arg(long, default_value = "")]
    name: String,
    /// Port
    #[arg(long)]
    port: Option<u16>,
    /// Unix socket instead of address and port
    #[arg(long, default_value = "")]
    socket: String,
    /// Tag; may be repeated
    #[arg(long)]
    tag: Vec<String>,
    /// Files with definitions, JSON or HCL
    file: Vec<String>,
}

async fn register(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: RegisterFlags = flags::parse("services register", args)?;
    let services = match (flags.name.as_str(), flags.file.is_empty()) {
        ("", true) => {
            let text = "Service registration requires at least one argument or flags.";
            return Err(Failure::Usage(text.into()));
        }
        (_, true) => vec![described(&flags)],
        ("", false) => defined(&flags.file)?,
        (_, false) => {
            let text = "-name and files exclude each other";
            return Err(Failure::Usage(text.into()));
        }
    };
    let client = flags.api.client(io)?;
    for service in services {
        let name = text_of(&service, "name");
        let failed = format!("Error registering service {name:?}");
        let body = Bytes::from(service.to_string());
        let sent = client.put("/v1/agent/service/register", body).await;
        sent.and_then(Response::success)
            .map_err(Failure::because(&failed))?;
        writeln!(io.out, "Registered service: {name}")?;
    }
    Ok(0)
}

fn described(flags: &RegisterFlags) -> Value {
    let meta = flags.meta.iter().map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), Value::from(value))
    });
    json!({
        "id": flags.id,
        "name": flags.name,
        "kind": flags.kind,
        "address": flags.address,
        "port": flags.port.unwrap_or(0),
        "socketpath": flags.socket,
        "tags": flags.tag,
        "meta": meta.collect::<Map<_, _>>(),
    })
}

/// Takes services off an agent, by id or as files define them.
#[derive(Parser)]
struct DeregisterFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// Id of the service
    #[arg(long, default_value = "")]
    id: String,
    /// Files with definitions, JSON or HCL
    file: Vec<String>,
}

async fn deregister(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: DeregisterFlags = flags::parse("services deregister", args)?;
    let ids = match (flags.id.as_str(), flags.file.is_empty()) {
        ("", true) => {
            let text = "Service deregistration requires at least one argument or -id.";
            return Err(Failure::Usage(text.into()));
        }
        (id, true) => vec![id.to_owned()],
        ("", false) => defined(&flags.file)?.iter().map(id_of).collect(),
        (_, false) => return Err(Failure::Usage("-id and files exclude each other".into())),
    };
    let client = flags.api.client(io)?;
    for id in ids {
        let path = format!("/v1/agent/service/deregister/{}", escape_path(&id));
        let sent = client.put(&path, Bytes::new()).await;
        let failed = format!("Error deregistering service {id:?}");
        sent.and_then(Response::success)
            .map_err(Failure::because(&failed))?;
        writeln!(io.out, "Deregistered service: {id}")?;
    }
    Ok(0)
}

fn text_of(service: &Value, key: &str) -> String {
    let text = service.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn id_of(service: &Value) -> String {
    match text_of(service, "id") {
        id if id.is_empty() => text_of(service, "name"),
        id => id,
    }
}

/// Every service of these files.
fn defined(paths: &[String]) -> Result<Vec<Value>, Failure> {
    let mut services = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(path)
            .map_err(Failure::because(&format!("Failed to read {path}")))?;
        let format = match Path::new(path).extension().and_then(|e| e.to_str()) {
            Some("hcl") => Format::Hcl,
            _ => Format::Json,
        };
        let value = files::to_json(&text, format).map_err(Failure::because(path))?;
        let found = services_in(value);
        if found.is_empty() {
            return Err(Failure::Message(format!("{path}: it defines no service")));
        }
        services.extend(found);
    }
    Ok(services)
}

/// `service` is one, or in HCL a list of blocks; `services` is a list.
fn services_in(mut root: Value) -> Vec<Value> {
    squeeze(&mut root);
    let mut services = Vec::new();
    for key in ["service", "services"] {
        match root.get_mut(key).map(Value::take) {
            Some(Value::Array(list)) => services.extend(list),
            Some(service @ Value::Object(_)) => services.push(service),
            _ => {}
        }
    }
    services
}

/// Objects whose keys are data.
const DATA: [&str; 4] = ["config", "header", "meta", "taggedaddresses"];

/// Files write `enable_tag_override`, the API `EnableTagOverride`, which it takes in any case.
fn squeeze(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(squeeze),
        Value::Object(fields) => {
            let squeezed = std::mem::take(fields).into_iter().map(|(key, mut value)| {
                let key = key.to_lowercase().replace('_', "");
                if !DATA.contains(&key.as_str()) {
                    squeeze(&mut value);
                }
                (key, value)
            });
            *fields = squeezed.collect();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_become_what_the_api_takes() {
        let file =
            json!({"service": {"name": "web", "enable_tag_override": true, "meta": {"a_b": "c"}}});
        let wanted = json!({"name": "web", "enabletagoverride": true, "meta": {"a_b": "c"}});
        assert_eq!(services_in(file), [wanted]);
        let file = json!({"Services": [{"Name": "a"}, {"ID": "b1", "Name": "b"}]});
        let ids: Vec<_> = services_in(file).iter().map(id_of).collect();
        assert_eq!(ids, ["a", "b1"]);
    }
}
