//! `agent watch`: runs a command at each change of something, or prints it once.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

use super::api::{ApiFlags, ServerFlags};
use super::{Done, Failure, Io, flags, handler};
use crate::client::{Client, Response, escape_path, query};

/// How long one blocking query waits.
const WAIT: &str = "300s";

/// Longer than any answer to it takes, its jitter included.
const TIME_MAX: Duration = Duration::from_secs(360);

/// Pauses after failures in a row: the first, and the longest.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(180);

/// Prints something as it is now; with a command runs it now and at each change, what is watched as JSON on its standard
/// input and the index in CONSUL_INDEX.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// key, keyprefix, services, nodes, service, checks, event, connect_roots, connect_leaf or agent_service
    #[arg(long = "type", default_value = "")]
    kind: String,
    /// The key of type key
    #[arg(long, default_value = "")]
    key: String,
    /// Name of an event
    #[arg(long, default_value = "")]
    name: String,
    /// Whether only healthy instances of type service count
    #[arg(long)]
    passingonly: Option<bool>,
    /// The prefix of type keyprefix
    #[arg(long, default_value = "")]
    prefix: String,
    /// The service of types service, checks and connect_leaf; its id of type agent_service
    #[arg(long, default_value = "")]
    service: String,
    /// Whether the command runs in a shell
    #[arg(long, default_value = "true", action = clap::ArgAction::Set)]
    shell: bool,
    /// State of the checks of type checks
    #[arg(long, default_value = "")]
    state: String,
    /// Tag of the instances of type service; may be repeated
    #[arg(long)]
    tag: Vec<String>,
    /// The command
    command: Vec<String>,
}

/// What is asked for, and whether the only one of a list is meant.
struct Watched {
    path: String,
    params: Vec<(&'static str, Option<String>)>,
    single: bool,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("watch", args)?;
    let watched = watched(&flags)?;
    let client = flags.api.client(io)?.with_timeout(TIME_MAX);
    if flags.command.is_empty() {
        let (value, _) = look(&client, &flags, &watched, &Seen::default())
            .await
            .map_err(Failure::because("Error querying Consul agent"))?;
        let text = pretty(&value)?;
        writeln!(io.out, "{text}")?;
        return Ok(0);
    }
    let (mut seen, mut last, mut pause) = (Seen::default(), None, RETRY);
    loop {
        let (value, next) = match look(&client, &flags, &watched, &seen).await {
            Ok(found) => found,
            Err(error) => {
                writeln!(io.err, "Error querying Consul agent, trying again: {error}")?;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
                continue;
            }
        };
        pause = RETRY;
        // An index that goes back is another history: what was seen of it says nothing.
        seen = match next.index < seen.index {
            true => Seen::default(),
            false => next,
        };
        if last.as_ref() != Some(&value) {
            handle(&flags, &value, seen.index, io)?;
            last = Some(value);
        }
    }
}

fn watched(flags: &Flags) -> Result<Watched, Failure> {
    let required = |value: &str, name: &str| match value {
        "" => Err(Failure::Message(format!(
            "Must specify a single {name} to watch"
        ))),
        value => Ok(escape_path(value)),
    };
    let list = |path: String| Watched {
        path,
        params: Vec::new(),
        single: false,
    };
    Ok(match flags.kind.as_str() {
        "key" => Watched {
            single: true,
            ..list(format!("/v1/kv/{}", required(&flags.key, "key")?))
        },
        "keyprefix" => Watched {
            params: vec![("recurse", None)],
            ..list(format!("/v1/kv/{}", required(&flags.prefix, "prefix")?))
        },
        "services" => list("/v1/catalog/services".into()),
        "nodes" => list("/v1/catalog/nodes".into()),
        "service" => {
            let mut params: Vec<_> = flags
                .tag
                .iter()
                .map(|tag| ("tag", Some(tag.clone())))
                .collect();
            if flags.passingonly == Some(true) {
                params.push(("passing", Some("1".to_owned())));
            }
            let service = required(&flags.service, "service")?;
            Watched {
                params,
                ..list(format!("/v1/health/service/{service}"))
            }
        }
        "checks" => match (flags.service.as_str(), flags.state.as_str()) {
            ("", "") => list("/v1/health/state/any".into()),
            ("", state) => list(format!("/v1/health/state/{}", escape_path(state))),
            (service, "") => list(format!("/v1/health/checks/{}", escape_path(service))),
            _ => {
                let text = "Cannot specify service and state";
                return Err(Failure::Message(text.into()));
            }
        },
        "event" => {
            let name = Some(flags.name.clone()).filter(|name| !name.is_empty());
            Watched {
                params: name.map(|name| ("name", Some(name))).into_iter().collect(),
                ..list("/v1/event/list".into())
            }
        }
        "connect_roots" => list("/v1/agent/connect/ca/roots".into()),
        "connect_leaf" => {
            let service = required(&flags.service, "service name")?;
            list(format!("/v1/agent/connect/ca/leaf/{service}"))
        }
        "agent_service" => {
            let id = required(&flags.service, "service ID")?;
            list(format!("/v1/agent/service/{id}"))
        }
        "" => return Err(Failure::Message("Watch type must be specified".into())),
        other => {
            return Err(Failure::Message(format!("Unsupported watch type: {other}")));
        }
    })
}

/// What was last seen: its index, or of type agent_service its hash.
#[derive(Debug, Default)]
struct Seen {
    index: u64,
    hash: String,
}

/// What is there once it is another than was seen.
async fn look(
    client: &Client,
    flags: &Flags,
    watched: &Watched,
    seen: &Seen,
) -> Result<(Value, Seen), crate::client::Error> {
    let index = seen.index.to_string();
    let mut params = flags.server.params();
    params.extend(watched.params.iter().map(|(n, v)| (*n, v.as_deref())));
    if seen.index > 0 {
        params.extend([("index", Some(index.as_str())), ("wait", Some(WAIT))]);
    }
    if !seen.hash.is_empty() {
        params.extend([("hash", Some(seen.hash.as_str())), ("wait", Some(WAIT))]);
    }
    let path = format!("{}{}", watched.path, query(params));
    let response = client.get(&path).await?;
    let next = Seen {
        index: response.index().unwrap_or(0),
        hash: response.content_hash().unwrap_or_default().to_owned(),
    };
    // An absent key is news too.
    if response.status.as_u16() == 404 && response.body.is_empty() {
        return Ok((Value::Null, next));
    }
    let response = Response::success(response)?;
    let value: Value = serde_json::from_slice(&response.body)
        .map_err(|source| crate::client::Error::Decode { url: path, source })?;
    match value {
        Value::Array(mut list) if watched.single => Ok((list.pop().unwrap_or(Value::Null), next)),
        value => Ok((value, next)),
    }
}

fn pretty(value: &Value) -> Result<String, Failure> {
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
    serde::Serialize::serialize(value, &mut serializer)
        .map_err(Failure::because("Error encoding output"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Runs the command to its end: changes meanwhile are seen afterwards, as one.
fn handle(flags: &Flags, value: &Value, index: u64, io: &mut Io<'_>) -> Result<(), Failure> {
    let failed = "Error executing handler";
    let mut child = handler::command(flags.shell, &flags.command)
        .env("CONSUL_INDEX", index.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .map_err(Failure::because(failed))?;
    if let Some(mut input) = child.stdin.take() {
        // A command need not read it.
        let _ = writeln!(input, "{value}");
    }
    let status = child.wait().map_err(Failure::because(failed))?;
    if !status.success() {
        writeln!(io.err, "{failed}: {status}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(args: &[&str]) -> Result<String, String> {
        let args: Vec<_> = args.iter().map(|&a| a.to_owned()).collect();
        let flags = flags::parse("watch", &args).expect("valid flags");
        match watched(&flags) {
            Ok(watched) => {
                let params = watched.params.iter().map(|(n, v)| (*n, v.as_deref()));
                Ok(format!("{}{}", watched.path, query(params)))
            }
            Err(Failure::Message(text)) => Err(text),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_type_has_its_path() {
        for (args, wanted) in [
            (&["-type=key", "-key=a/b"][..], "/v1/kv/a/b"),
            (&["-type", "keyprefix", "-prefix=a/"], "/v1/kv/a/?recurse"),
            (&["-type=services"], "/v1/catalog/services"),
            (
                &[
                    "-type=service",
                    "-service=web",
                    "-tag=x",
                    "-passingonly=true",
                ],
                "/v1/health/service/web?tag=x&passing=1",
            ),
            (
                &["-type=checks", "-state=critical"],
                "/v1/health/state/critical",
            ),
            (
                &["-type=event", "-name=deploy"],
                "/v1/event/list?name=deploy",
            ),
            (&["-type=connect_roots"], "/v1/agent/connect/ca/roots"),
            (
                &["-type=connect_leaf", "-service=web"],
                "/v1/agent/connect/ca/leaf/web",
            ),
            (
                &["-type=agent_service", "-service=web-1"],
                "/v1/agent/service/web-1",
            ),
        ] {
            assert_eq!(path(args).as_deref(), Ok(wanted));
        }
        assert_eq!(
            path(&["-type=zz"]),
            Err("Unsupported watch type: zz".into())
        );
        assert_eq!(path(&[]), Err("Watch type must be specified".into()));
        assert!(path(&["-type=key"]).is_err());
    }
}
