//! What Consul answers where a feature is not in use, as clients expect it: ACLs, peering, profiles.

use super::body::{Response, empty, text};
use super::catalog::named;
use super::error::Error;
use super::request::Request;
use super::{Api, Server};
use hyper::StatusCode;

/// Every route of ACLs and tokens, while they are off.
pub(super) fn acl() -> Error {
    Error {
        status: StatusCode::UNAUTHORIZED,
        text: "ACL support disabled".into(),
    }
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
