//! What the endpoints of all kinds of rows share: to find, show, write and replace one.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::{LinkBody, change, changed_again, now, parse_id, shown};
use crate::http::body::Response;
use crate::http::catalog::unexpected;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};
use crate::state::{AclAnswer, AclQuery, AclStep};

/// How often a change is tried anew when somebody else has changed the same row meanwhile.
const TRIES: u32 = 8;

/// Names of what rows link to, by id; empty for kinds without links.
pub(super) type Names = BTreeMap<Uuid, String>;

/// A kind of row.
pub(super) trait Kind: Sized {
    /// What messages call it.
    const NOUN: &'static str;

    /// What names a row in requests.
    type Key: Clone;

    /// Its JSON.
    type View<'a>: Serialize
    where
        Self: 'a;

    fn key(&self) -> Self::Key;
    fn modify_index(&self) -> u64;
    fn view<'a>(&'a self, names: &'a Names) -> Self::View<'a>;

    fn query(key: Self::Key) -> AclQuery;
    /// `None` for an answer about something else.
    fn rows(answer: AclAnswer) -> Option<(Vec<Arc<Self>>, Names)>;
    fn set(row: Box<Self>, cas: u64) -> AclStep;

    /// Whether its time is over, so that it counts as gone.
    fn is_over(&self, _now_ms: u64) -> bool {
        false
    }

    fn missing() -> Error {
        Error {
            status: StatusCode::NOT_FOUND,
            text: format!("Requested {} does not exist: ACL not found", Self::NOUN).into(),
        }
    }
}

/// A kind of row with an id and a name, by which others link to it.
pub(super) trait Named: Kind<Key = Uuid> {
    fn query_named(name: String) -> AclQuery;
}

/// Those of an answer whose time is not over.
pub(super) fn rows<K: Kind, A: Api>(
    server: &Server<A>,
    answer: AclAnswer,
) -> Result<(Vec<Arc<K>>, Names), Error> {
    let (mut rows, names) = K::rows(answer).ok_or_else(unexpected)?;
    rows.retain(|row| !row.is_over(server.unix_ms()));
    Ok((rows, names))
}

/// The only one of an answer.
pub(super) fn only<K: Kind, A: Api>(
    server: &Server<A>,
    answer: AclAnswer,
) -> Result<(Arc<K>, Names), Error> {
    let (mut rows, names) = rows(server, answer)?;
    Ok((rows.pop().ok_or_else(K::missing)?, names))
}

/// The row as it is now.
pub(super) async fn find<K: Kind, A: Api>(
    server: &Server<A>,
    key: K::Key,
) -> Result<(Arc<K>, Names), Error> {
    only(server, now(server, K::query(key)).await?)
}

/// Answers with the only row that the query finds.
pub(super) async fn show<K: Kind, A: Api>(
    server: &Server<A>,
    request: &Request,
    query: AclQuery,
) -> Result<Response, Error> {
    let (answer, headers) = shown(server, &request.params, query).await?;
    let (row, names) = only::<K, A>(server, answer)?;
    Ok(headers.on(server.json(&request.params, &row.view(&names))))
}

/// Answers with the row of that name.
pub(super) async fn show_named<K: Named, A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    if name.is_empty() {
        return Err(Error::bad_request(format!("Missing {} Name", K::NOUN)));
    }
    show::<K, A>(server, request, K::query_named(name)).await
}

/// Writes a row and shows it; `None` when somebody else was faster.
pub(super) async fn write<K: Kind, A: Api>(
    server: &Server<A>,
    request: &Request,
    row: K,
    cas: u64,
) -> Result<Option<Response>, Error> {
    let key = row.key();
    if !change(server, K::set(Box::new(row), cas)).await? {
        return Ok(None);
    }
    let (row, names) = find::<K, A>(server, key).await?;
    Ok(Some(server.json(&request.params, &row.view(&names))))
}

/// Replaces a row by what `make` makes of it, and shows it.
pub(super) async fn replace<K: Kind, A: Api>(
    server: &Server<A>,
    request: &Request,
    key: K::Key,
    make: impl Fn(&K) -> Result<K, Error>,
) -> Result<Response, Error> {
    for _ in 0..TRIES {
        let (known, _) = find::<K, A>(server, key.clone()).await?;
        let written = write(server, request, make(&known)?, known.modify_index());
        if let Some(response) = written.await? {
            return Ok(response);
        }
    }
    Err(changed_again())
}

/// Removes what is there, and says so whether it was there or not.
pub(super) async fn delete<A: Api>(
    server: &Server<A>,
    request: &Request,
    step: AclStep,
) -> Result<Response, Error> {
    change(server, step).await?;
    Ok(server.json(&request.params, &true))
}

/// The id in an address.
pub(super) fn id_in_path<K: Kind<Key = Uuid>>(rest: &str) -> Result<Uuid, Error> {
    let what = format!("{} ID", K::NOUN);
    match rest {
        "" => Err(Error::bad_request(format!("Missing {what}"))),
        id => parse_id(id, &what),
    }
}

/// Refuses an id for what is about to get its first.
pub(super) fn refuse_id<K: Kind>(id: &str) -> Result<(), Error> {
    match id {
        "" => Ok(()),
        _ => Err(Error::bad_request(format!(
            "Cannot specify the ID when creating a new {}",
            K::NOUN
        ))),
    }
}

/// What links name, each once.
pub(super) async fn ids_of<K: Named, A: Api>(
    server: &Server<A>,
    links: Vec<LinkBody>,
) -> Result<Vec<Uuid>, Error> {
    let mut ids = Vec::new();
    for link in links {
        let id = match link.id.as_str() {
            "" => id_of::<K, A>(server, link.name).await?,
            id => parse_id(id, &format!("{} ID", K::NOUN))?,
        };
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

async fn id_of<K: Named, A: Api>(server: &Server<A>, name: String) -> Result<Uuid, Error> {
    let answer = now(server, K::query_named(name.clone())).await?;
    match rows::<K, A>(server, answer)?.0.pop() {
        Some(row) => Ok(row.key()),
        None => Err(Error::internal(format!(
            "No such ACL {} with name {name:?}",
            K::NOUN
        ))),
    }
}
