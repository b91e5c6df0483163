//! `/v1/operator/keyring`: the keys of gossip.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::body::{Response, empty};
use super::error::Error;
use super::request::Request;
use super::{Api, Server, json};
use crate::gossip::{KeyText, KeyringOp};
use crate::node::PoolKeys;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct View<'a> {
    #[serde(rename = "WAN")]
    wan: bool,
    datacenter: &'a str,
    segment: &'static str,
    keys: &'a BTreeMap<String, usize>,
    primary_keys: &'a BTreeMap<String, usize>,
    num_nodes: usize,
}

/// Lists, installs, uses or removes keys.
pub(super) async fn handle<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Body {
        key: String,
    }
    check(&request)?;
    let op = match request.method.as_str() {
        "GET" => KeyringOp::List,
        method => {
            let method = method.to_owned();
            let body = request.body(server.settings().kv_max_value_size).await?;
            let Body { key } = json::decode(&body)?;
            if key.is_empty() {
                return Err(Error::bad_request("Missing key"));
            }
            let key = KeyText(key);
            match method.as_str() {
                "POST" => KeyringOp::Install(key),
                "PUT" => KeyringOp::Use(key),
                _ => KeyringOp::Remove(key),
            }
        }
    };
    let own_only = request.params.is_set("local-only");
    let pools = server.api().keyring(op.clone(), own_only).await?;
    refuse_errors(&pools)?;
    if op != KeyringOp::List {
        return Ok(empty(StatusCode::OK));
    }
    let views = pools.iter().map(|pool| View {
        wan: pool.wan,
        datacenter: &pool.datacenter,
        segment: "",
        keys: &pool.keys,
        primary_keys: &pool.primary,
        num_nodes: pool.nodes,
    });
    Ok(server.json(&request.params, &views.collect::<Vec<_>>()))
}

/// Tells of all who did not do it, pool by pool.
fn refuse_errors(pools: &[PoolKeys]) -> Result<(), Error> {
    let mut errors = Vec::new();
    for pool in pools.iter().filter(|pool| !pool.errors.is_empty()) {
        let name = match pool.wan {
            true => "WAN".to_owned(),
            false => format!("{} (LAN)", pool.datacenter),
        };
        let (failed, all) = (pool.errors.len(), pool.nodes);
        errors.push(format!(
            "{name} error: {failed}/{all} nodes reported failure"
        ));
        let each = pool.errors.iter();
        errors.extend(each.map(|(member, why)| format!("{member}: {why}")));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let many = if errors.len() == 1 { "error" } else { "errors" };
    let list: String = errors.iter().map(|e| format!("\t* {e}\n")).collect();
    Err(Error::internal(format!(
        "{} {many} occurred:\n{list}\n",
        errors.len()
    )))
}

fn check(request: &Request) -> Result<(), Error> {
    if let Some(factor) = request.params.given("relay-factor") {
        match factor.parse::<i64>() {
            Ok(0..=5) => {}
            Ok(_) => {
                return Err(Error::bad_request("Relay factor must be in range: [0, 5]"));
            }
            Err(error) => {
                return Err(Error::bad_request(format!(
                    "Error parsing relay factor: {error}"
                )));
            }
        }
    }
    if request.params.given("local-only").is_some() && request.method != "GET" {
        return Err(Error::bad_request(
            "local-only can only be used with GET requests",
        ));
    }
    Ok(())
}
