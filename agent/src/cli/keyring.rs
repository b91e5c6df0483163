//! `agent keyring`: the keys of gossip.

use bytes::Bytes;
use clap::Parser;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use std::collections::BTreeMap;

use super::api::ApiFlags;
use super::{Done, Failure, Io, flags};
use crate::client::{Response, query};

/// Lists and changes the keys that gossip is encrypted with.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    api: ApiFlags,
    /// List all keys, each with the number of members that have it
    #[arg(long)]
    list: Option<bool>,
    /// List the keys that members seal with
    #[arg(long)]
    list_primary: Option<bool>,
    /// Make all members open what is sealed with this key, too
    #[arg(long, default_value = "")]
    install: String,
    /// Make all members seal with this key, which must be installed
    #[arg(long = "use", default_value = "")]
    used: String,
    /// Make all members forget this key, which nobody may seal with
    #[arg(long, default_value = "")]
    remove: String,
    /// Members through which answers are sent once more, 0 to 5; accepted for Consul's sake, as answers come over TCP here
    #[arg(long, default_value_t = 0)]
    relay_factor: u8,
    /// With -list: this datacenter alone
    #[arg(long)]
    local_only: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pool {
    #[serde(rename = "WAN")]
    wan: bool,
    datacenter: String,
    keys: BTreeMap<String, usize>,
    #[serde(default)]
    primary_keys: BTreeMap<String, usize>,
    num_nodes: usize,
}

/// Runs the verb.
pub(super) async fn run(args: &[String], io: &mut Io<'_>) -> Done {
    let flags: Flags = flags::parse("keyring", args)?;
    let (list, primary) = (flags::on(flags.list), flags::on(flags.list_primary));
    let changes = [
        (
            &flags.install,
            Method::POST,
            "Installing new gossip encryption key...",
        ),
        (
            &flags.used,
            Method::PUT,
            "Changing primary gossip encryption key...",
        ),
        (
            &flags.remove,
            Method::DELETE,
            "Removing gossip encryption key...",
        ),
    ];
    let mut wanted: Vec<_> = changes.iter().filter(|(key, ..)| !key.is_empty()).collect();
    if wanted.len() + usize::from(list || primary) != 1 {
        return Err(Failure::Usage(
            "Only a single action is allowed: -list, -list-primary, -install, -use or -remove"
                .into(),
        ));
    }
    if flags.relay_factor > 5 {
        return Err(Failure::Usage(
            "Error parsing relay factor: it is 0 to 5".into(),
        ));
    }
    if flags::on(flags.local_only) && !(list || primary) {
        return Err(Failure::Usage(
            "local-only can only be used with -list".into(),
        ));
    }
    let client = flags.api.client(io)?;
    if let Some((key, method, said)) = wanted.pop() {
        writeln!(io.out, "==> {said}")?;
        let body = Bytes::from(json!({ "Key": key }).to_string());
        let sent = client.request(method.clone(), "/v1/operator/keyring", body);
        let sent = sent.await.and_then(Response::success);
        sent.map_err(Failure::because("error"))?;
        return Ok(0);
    }
    writeln!(io.out, "==> Gathering installed encryption keys...")?;
    let params = flags::on(flags.local_only).then_some(("local-only", Some("true")));
    let path = format!("/v1/operator/keyring{}", query(params));
    let pools: Vec<Pool> = client
        .get_json(&path)
        .await
        .map_err(Failure::because("error"))?;
    for pool in pools {
        let name = match pool.wan {
            true => "WAN".to_owned(),
            false => format!("{} (LAN)", pool.datacenter),
        };
        writeln!(io.out, "\n{name}:")?;
        let keys = if primary {
            pool.primary_keys
        } else {
            pool.keys
        };
        for (key, count) in keys {
            writeln!(io.out, "  {key} [{count}/{}]", pool.num_nodes)?;
        }
    }
    Ok(0)
}
