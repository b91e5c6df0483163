//! `/v1/kv/`

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, ready};
use hyper::StatusCode;
use uuid::Uuid;

use super::blocking::{check_scope, read};
use super::body::{Body, Response, Value, empty};
use super::error::Error;
use super::request::Request;
use super::{Api, Server};
use crate::state::{Answer, Command, KvCommand, KvEntry, KvOp, KvWrite, Outcome, Query};

/// Any method on a key.
pub(super) fn handle<A: Api>(
    server: &Server<A>,
    request: Request,
    key: String,
) -> impl Future<Output = Result<Response, Error>> + Send {
    // Boxed, all but the one that many wait in for long.
    let boxed: BoxFuture<'_, _> = match request.method.as_str() {
        "PUT" => Box::pin(put(server, request, key)),
        "DELETE" => Box::pin(delete(server, request, key)),
        _ if request.params.has("keys") => Box::pin(keys(server, request, key)),
        _ => return Either::Left(get(server, request, key)),
    };
    Either::Right(boxed)
}

fn get<A: Api>(
    server: &Server<A>,
    request: Request,
    key: String,
) -> impl Future<Output = Result<Response, Error>> + Send {
    let recursive = request.params.has("recurse");
    let query = match (recursive, named(key)) {
        (true, key) => Query::KvList {
            prefix: key.unwrap_or_default(),
        },
        (false, Ok(key)) => Query::KvGet { key },
        (false, Err(error)) => return Either::Right(ready(Err(error))),
    };
    let found = read(server, &request.params, query);
    Either::Left(found.map(move |found| {
        let (answer, headers) = found?;
        let params = &request.params;
        let response = match answer {
            Answer::Kv(Some(entry)) if params.has("raw") => raw(&entry),
            Answer::Kv(Some(entry)) => server.json(params, &[entry]),
            Answer::KvList(entries) if !entries.is_empty() => server.json(params, &entries),
            _ => empty(StatusCode::NOT_FOUND),
        };
        Ok(headers.on(response))
    }))
}

/// The value and nothing else, with headers that keep a browser from taking it for a page.
fn raw(entry: &KvEntry) -> Response {
    let mut response = Response::new(StatusCode::OK, Body::Whole(entry.value.clone()));
    response.set("Content-Type", Value::Static("text/plain"));
    response.set("X-Content-Type-Options", Value::Static("nosniff"));
    response.set("Content-Security-Policy", Value::Static("sandbox"));
    response
}

async fn keys<A: Api>(
    server: &Server<A>,
    request: Request,
    prefix: String,
) -> Result<Response, Error> {
    let params = &request.params;
    // The misspelling is older than the word, and clients still send it.
    let separator = params.get("separator").or(params.get("seperator"));
    let at_root = prefix.is_empty();
    let query = Query::KvKeys {
        prefix,
        separator: separator.unwrap_or_default().to_owned(),
    };
    let (answer, headers) = read(server, params, query).await?;
    let response = match answer {
        Answer::Keys(keys) if at_root || !keys.is_empty() => server.json(params, &keys),
        _ => empty(StatusCode::NOT_FOUND),
    };
    Ok(headers.on(response))
}

pub(super) async fn put<A: Api>(
    server: &Server<A>,
    mut request: Request,
    key: String,
) -> Result<Response, Error> {
    let key = named(key)?;
    check_scope(server.settings(), &request.params)?;
    request.params.exclusive(&["cas", "acquire", "release"])?;
    let flags = request.params.number("flags")?.unwrap_or(0);
    let condition = match (
        request.params.number("cas")?,
        request.params.get("acquire"),
        request.params.get("release"),
    ) {
        (Some(index), ..) => Condition::Cas(index),
        (_, Some(session), _) => match session_id(session)? {
            Some(session) => Condition::Acquire(session),
            None => {
                return Err(Error::internal(format!(
                    "raft apply failed: invalid session {session:?}"
                )));
            }
        },
        (_, _, Some(session)) => match session_id(session)? {
            Some(session) => Condition::Release(session),
            // A session of that name cannot hold anything.
            None => return Ok(server.json(&request.params, &false)),
        },
        _ => Condition::None,
    };
    let value = request.body(server.settings().kv_max_value_size).await?;
    let write = KvWrite { value, flags };
    let op = match condition {
        Condition::None => KvOp::Set(write),
        Condition::Cas(index) => KvOp::Cas { write, index },
        Condition::Acquire(session) => KvOp::Lock { write, session },
        Condition::Release(session) => KvOp::Unlock { write, session },
    };
    apply(server, &request, key, op).await
}

/// What must hold for a write to be made.
enum Condition {
    None,
    Cas(u64),
    Acquire(Uuid),
    Release(Uuid),
}

async fn delete<A: Api>(
    server: &Server<A>,
    request: Request,
    key: String,
) -> Result<Response, Error> {
    let params = &request.params;
    check_scope(server.settings(), params)?;
    params.exclusive(&["recurse", "cas"])?;
    if params.has("recurse") {
        return apply(server, &request, key, KvOp::DeleteTree).await;
    }
    let key = named(key)?;
    let op = match params.number("cas")? {
        Some(index) => KvOp::DeleteCas { index },
        None => KvOp::Delete,
    };
    apply(server, &request, key, op).await
}

/// No `async fn`: it would keep the command for as long as it waits.
fn apply<'a, A: Api>(
    server: &'a Server<A>,
    request: &'a Request,
    key: String,
    op: KvOp,
) -> impl Future<Output = Result<Response, Error>> + Send + 'a {
    let command = Command::Kv(KvCommand { key, op });
    server.propose(command).map(|outcome| match outcome? {
        Outcome::Bool(made) => Ok(server.json(&request.params, &made)),
        Outcome::Error { text, .. } => Err(Error::internal(format!("raft apply failed: {text}"))),
        _ => Ok(server.json(&request.params, &true)),
    })
}

fn named(key: String) -> Result<String, Error> {
    if key.is_empty() {
        return Err(Error::bad_request("Missing key name"));
    }
    Ok(key)
}

/// None when it is no id that a session could have.
fn session_id(text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Err(Error::internal("raft apply failed: missing session"));
    }
    Ok(super::session::parse_id(text))
}
