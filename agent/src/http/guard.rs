//! What the configuration shuts: endpoints by their path, and writes by the client's address. Pure.

use std::net::IpAddr;

use hyper::{Method, StatusCode};

use super::Settings;
use super::error::Error;

/// Refuses what is blocked for everybody.
///
/// # Errors
/// 403, in Consul's words.
pub(super) fn check_path(settings: &Settings, path: &str) -> Result<(), Error> {
    let blocked = &settings.block_endpoints;
    if blocked.iter().any(|prefix| path.starts_with(&**prefix)) {
        return Err(forbidden("Endpoint is blocked by agent configuration"));
    }
    Ok(())
}

/// Refuses writes of those who may only read. `from` is none on a Unix socket, whose permissions decide.
///
/// # Errors
/// 403, in Consul's words.
pub(super) fn check_write(
    settings: &Settings,
    method: &Method,
    from: Option<IpAddr>,
) -> Result<(), Error> {
    let allowed = &settings.allow_write_http_from;
    if allowed.is_empty() || method.is_safe() {
        return Ok(());
    }
    match from {
        Some(ip) if !allowed.iter().any(|cidr| cidr.contains(ip)) => {
            Err(forbidden("Access is restricted"))
        }
        _ => Ok(()),
    }
}

fn forbidden(text: &'static str) -> Error {
    Error {
        status: StatusCode::FORBIDDEN,
        text: text.into(),
    }
}
