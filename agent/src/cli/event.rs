//! `agent event`: fires an event to all nodes.

use bytes::Bytes;
use clap::Parser;
use serde::Deserialize;

use super::api::{ApiFlags, ServerFlags};
use super::{Done, Failure, Io, flags};
use crate::client::{escape_path, query};

/// Fires an event to every node, or to those that the expressions name.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    server: ServerFlags,
    /// Name of the event
    #[arg(long, default_value = "")]
    name: String,
    /// Regular expression: only nodes with such a name
    #[arg(long, default_value = "")]
    node: String,
    /// Regular expression: only nodes with such a service
    #[arg(long, default_value = "")]
    service: String,
    /// Regular expression: only nodes on which that service has such a tag
    #[arg(long, default_value = "")]
    tag: String,
    /// What the event carries
    payload: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("event", args)?;
    if flags.name.is_empty() {
        return Err(Failure::Usage("Event name must be specified".into()));
    }
    if flags.service.is_empty() && !flags.tag.is_empty() {
        let text = "Cannot provide tag filter without service filter";
        return Err(Failure::Usage(text.into()));
    }
    let payload = match &flags.payload[..] {
        [] => Bytes::new(),
        [payload] => Bytes::from(payload.clone()),
        more => {
            let text = format!("Too many arguments (expected 1, got {})", more.len());
            return Err(Failure::Usage(text));
        }
    };
    let mut params = flags.server.params();
    for (name, value) in [
        ("node", &flags.node),
        ("service", &flags.service),
        ("tag", &flags.tag),
    ] {
        if !value.is_empty() {
            params.push((name, Some(value)));
        }
    }
    let path = format!(
        "/v1/event/fire/{}{}",
        escape_path(&flags.name),
        query(params)
    );
    #[derive(Deserialize)]
    struct Fired {
        #[serde(rename = "ID")]
        id: String,
    }
    let client = flags.api.client(io)?;
    let fired = client.put_json(&path, payload).await;
    let fired: Fired = fired.map_err(Failure::because("Error firing event"))?;
    writeln!(io.out, "Event ID: {}", fired.id)?;
    Ok(0)
}
