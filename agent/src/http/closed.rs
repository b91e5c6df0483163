//! What Consul answers where a feature is not in use, as clients expect it: ACLs, gossip encryption, peering, profiles.

use serde::Deserialize;

use super::body::{Response, empty, text};
use super::catalog::named;
use super::error::Error;
use super::request::Request;
use super::{Api, Server, json};
use crate::gossip::{Member, Status};
use hyper::StatusCode;

/// Every route of ACLs and tokens, while there are none.
pub(super) fn acl() -> Error {
    Error {
        status: StatusCode::UNAUTHORIZED,
        text: "ACL support disabled".into(),
    }
}

/// `/v1/operator/keyring` without encryption: no node has keys, which Consul says node by node.
pub(super) async fn keyring<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Body {
        key: String,
    }
    check_keyring(&request)?;
    let text = match request.method.as_str() {
        "GET" => "Keyring is empty (encryption not enabled)",
        _ => {
            let body = request.body(server.settings().kv_max_value_size).await?;
            let Body { key } = json::decode(&body)?;
            if key.is_empty() {
                return Err(Error::bad_request("Missing key"));
            }
            "No keyring to modify (encryption not enabled)"
        }
    };
    let datacenter = &server.settings().datacenter;
    let members = server.api().members();
    let alive = || members.iter().filter(|m| m.status == Status::Alive);
    let is_server = |m: &&std::sync::Arc<Member>| m.tags.get("role").is_some_and(|r| r == "consul");
    let wan = alive()
        .filter(is_server)
        .map(|m| format!("{}.{datacenter}", m.name));
    let mut errors = pool("WAN", wan.collect(), text);
    let lan = alive().map(|m| m.name.clone()).collect();
    errors.extend(pool(&format!("{datacenter} (LAN)"), lan, text));
    let many = if errors.len() == 1 { "error" } else { "errors" };
    let list: String = errors.iter().map(|e| format!("\t* {e}\n")).collect();
    Err(Error::internal(format!(
        "{} {many} occurred:\n{list}\n",
        errors.len()
    )))
}

fn check_keyring(request: &Request) -> Result<(), Error> {
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

/// What the members of a pool answer.
fn pool(name: &str, mut members: Vec<String>, text: &str) -> Vec<String> {
    members.sort();
    let count = members.len();
    let mut errors = vec![format!(
        "{name} error: {count}/{count} nodes reported failure"
    )];
    errors.extend(members.iter().map(|member| format!("{member}: {text}")));
    errors
}

/// `/v1/peering/NAME`: there is none.
pub(super) fn peering(request: &Request, name: String) -> Result<Response, Error> {
    let name = named(name, "Must specify a name to fetch.")?;
    match request.method.as_str() {
        // What is not there need not be deleted.
        "DELETE" => Ok(empty(StatusCode::OK)),
        _ => Err(Error::not_found(format!("Peering not found for {name:?}"))),
    }
}

/// Establishing a peering, in the words of a server whose configuration switches peering off.
pub(super) fn no_peering() -> Error {
    Error::internal(
        "rpc error: code = FailedPrecondition desc = peering must be enabled to use this endpoint: this agent has no cluster peering",
    )
}

/// `/debug/pprof/`: profiles of Go's runtime, of which a program without one has none.
pub(super) fn profile<A: Api>(server: &Server<A>, name: &str) -> Result<Response, Error> {
    if !server.settings().enable_debug {
        return Err(Error::not_found(
            "Invalid URL path: not a recognized HTTP API endpoint",
        ));
    }
    match name {
        "" => Ok(text(
            StatusCode::OK,
            "cmdline\n\nThis agent has no Go runtime: use perf or heaptrack for profiles, and /v1/agent/metrics for figures.\n",
        )),
        "cmdline" => {
            let arguments: Vec<_> = std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect();
            Ok(text(StatusCode::OK, arguments.join("\0")))
        }
        "heap" | "profile" | "goroutine" | "trace" | "allocs" | "block" | "mutex"
        | "threadcreate" | "symbol" => Err(Error {
            status: StatusCode::NOT_IMPLEMENTED,
            text: format!(
                "this agent has no Go runtime, and so no profile {name:?}: use perf or heaptrack on its process"
            )
            .into(),
        }),
        _ => Err(Error::not_found(format!("Unknown profile: {name}"))),
    }
}
