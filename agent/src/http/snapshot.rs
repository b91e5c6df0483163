//! `/v1/snapshot`

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use hyper::StatusCode;

use super::blocking::check_scope;
use super::body::{Body, Response, Value, empty};
use super::error::Error;
use super::request::Request;
use super::{Api, Server};
use crate::archive::{self, ARCHIVE_BYTES_MAX};
use crate::state::{Command, RESTORE_PART_BYTES, RestoreStep, Store};

/// How long it may take to arrive.
const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(600);

/// Saves the state, or puts a saved one back.
pub(super) async fn handle<A: Api>(
    server: &Server<A>,
    request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    match request.method.as_str() {
        "PUT" => restore(server, request).await,
        _ => save(server, &request).await,
    }
}

async fn save<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let saved = server.api().save(request.params.has("stale")).await?;
    let index = saved.about.index.max(1);
    let pieces = archive::write(&saved.about, saved.pieces);
    let body = Body::Stream(futures::stream::iter(pieces).boxed());
    let mut response = Response::new(StatusCode::OK, body);
    response.set("Content-Type", Value::Static("application/octet-stream"));
    response.set("X-Consul-Index", Value::Number(index));
    Ok(response)
}

/// Looks at all of it first: nothing that could not be put back reaches the log.
async fn restore<A: Api>(server: &Server<A>, mut request: Request) -> Result<Response, Error> {
    let body = request
        .body_within(ARCHIVE_BYTES_MAX, ARRIVAL_TIME_MAX)
        .await?;
    let checked = tokio::task::spawn_blocking(move || check(&body));
    let checked = checked
        .await
        .map_err(|error| Error::internal(error.to_string()))?;
    let state = checked.map_err(Error::bad_request)?;
    let id = server.random().uuid();
    let crc32c = crc32c::crc32c(&state);
    let mut parts = 0;
    for start in (0..state.len()).step_by(RESTORE_PART_BYTES) {
        let bytes = state.slice(start..state.len().min(start + RESTORE_PART_BYTES));
        let number = parts;
        let part = RestoreStep::Part { id, number, bytes };
        server.apply(Command::Restore(part)).await?;
        parts += 1;
    }
    let commit = RestoreStep::Commit { id, parts, crc32c };
    server.apply(Command::Restore(commit)).await?;
    tracing::info!(target: "http", bytes = state.len(), "Restored a saved state");
    Ok(empty(StatusCode::OK))
}

fn check(archive: &Bytes) -> Result<Bytes, String> {
    let (_, state) = archive::read(archive).map_err(|error| error.to_string())?;
    match Store::decode(&state) {
        Ok(_) => Ok(state),
        Err(error) => Err(format!("the saved state cannot be read: {error}")),
    }
}
