//! `/v1/config`: config entries.

use serde::Serialize;

use super::blocking::{check_scope, read};
use super::body::Response;
use super::catalog::unexpected;
use super::error::Error;
use super::filtered::Chosen;
use super::json;
use super::request::Request;
use super::{Api, Server};
use crate::entries;
use crate::filter::schema::Schema;
use crate::state::{Answer, Command, EntryStep, Outcome, Query};

/// Each kind has fields of its own.
static ANY: Schema = Schema::Any;

/// Writes an entry.
pub(super) async fn apply<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let undecodable = |text| Error::bad_request(format!("Request decoding failed: {text}"));
    let raw = json::value(&body).map_err(undecodable)?;
    let entry = entries::read(raw).map_err(|error| match error {
        entries::Error::Malformed(text) => undecodable(text),
        entries::Error::Invalid(text) => Error::internal(text),
    })?;
    let cas = match request.params.given("cas") {
        Some(_) => request.params.number("cas")?,
        None => None,
    };
    let entry = Box::new(entry);
    let written = change(server, EntryStep::Set { entry, cas }).await?;
    Ok(server.json(&request.params, &written))
}

/// One entry, those of a kind, or none of them any more.
pub(super) async fn of_kind<A: Api>(
    server: &Server<A>,
    request: Request,
    rest: String,
) -> Result<Response, Error> {
    let (kind, name) = match rest.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (rest.as_str(), None),
    };
    match (request.method.as_str(), name) {
        ("DELETE", Some(name)) if !name.is_empty() => delete(server, &request, kind, name).await,
        ("DELETE", _) => Err(Error::not_found(
            "Must provide both a kind and name to delete",
        )),
        (_, Some(name)) => show(server, &request, kind, name).await,
        (_, None) => list(server, &request, kind).await,
    }
}

async fn show<A: Api>(
    server: &Server<A>,
    request: &Request,
    kind: &str,
    name: &str,
) -> Result<Response, Error> {
    let query = Query::Entry {
        kind: kind.to_owned(),
        name: name.to_owned(),
    };
    let (answer, headers) = read(server, &request.params, query).await?;
    let Answer::Entries(found) = answer else {
        return Err(unexpected());
    };
    let Some(entry) = found.first() else {
        let text = format!("Config entry not found for {kind:?} / {name:?}");
        return Ok(headers.on(Error::not_found(text).into()));
    };
    Ok(headers.on(server.json(&request.params, &entries::show(entry))))
}

async fn list<A: Api>(
    server: &Server<A>,
    request: &Request,
    kind: &str,
) -> Result<Response, Error> {
    let params = &request.params;
    if !kind.is_empty() {
        entries::check_kind(kind).map_err(Error::internal)?;
    }
    let chosen = Chosen::by(params, &ANY)?;
    let kind = kind.to_owned();
    let (answer, headers) = read(server, params, Query::Entries { kind }).await?;
    let Answer::Entries(found) = answer else {
        return Err(unexpected());
    };
    let shown = chosen.of(found.iter().map(|entry| entries::show(entry)));
    Ok(headers.on(server.json(params, &shown)))
}

async fn delete<A: Api>(
    server: &Server<A>,
    request: &Request,
    kind: &str,
    name: &str,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    entries::check_kind(kind).map_err(Error::bad_request)?;
    let cas = match request.params.given("cas") {
        Some(_) => request.params.number("cas")?,
        None => None,
    };
    let step = EntryStep::Delete {
        kind: kind.to_owned(),
        name: name.to_owned(),
        cas,
    };
    let deleted = change(server, step).await?;
    #[derive(Serialize)]
    struct Nothing {}
    Ok(match cas {
        Some(_) => server.json(&request.params, &deleted),
        None => server.json(&request.params, &Nothing {}),
    })
}

/// Carries out a change; whether its condition held.
pub(super) async fn change<A: Api>(server: &Server<A>, step: EntryStep) -> Result<bool, Error> {
    match server.apply(Command::CheckedEntry(step)).await? {
        Outcome::Bool(done) => Ok(done),
        _ => Err(unexpected()),
    }
}
