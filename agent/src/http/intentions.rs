//! `/v1/connect/intentions`: who may connect to whom, kept in config entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::blocking::{Headers, check_scope, read};
use super::body::Response;
use super::catalog::unexpected;
use super::config::change;
use super::error::{Error, wrong_method};
use super::filtered::Chosen;
use super::json;
use super::request::{Params, Request};
use super::session::parse_id;
use super::{Api, Server};
use crate::acl::{Access, Resource};
use crate::entries::intentions::{self, Intention, Wanted};
use crate::entries::{self};
use crate::filter::schema::Schema;
use crate::node::ReadOptions;
use crate::state::{Answer, ConfigEntry, EntryStep, Query};

/// How often a change is tried anew when somebody else has changed the same entry meanwhile.
const TRIES: u32 = 16;

static ANY: Schema = Schema::Any;

/// All of them, or a new one with an id.
pub(super) async fn all<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    if request.method != "POST" {
        let chosen = Chosen::by(&request.params, &ANY)?;
        let (found, headers) = list(server, &request.params).await?;
        let shown = chosen.of(found.iter().map(Intention::show));
        return Ok(headers.on(server.json(&request.params, &shown)));
    }
    let wanted = decode(server, &mut request).await?;
    if !wanted.id.is_empty() {
        return Err(Error::internal(
            "ID must be empty when creating a new intention",
        ));
    }
    let wanted = Wanted {
        id: server.random().uuid().to_string(),
        ..wanted
    };
    put(server, &wanted, true).await?;
    Ok(server.json(&request.params, &Created { id: &wanted.id }))
}

#[derive(Serialize)]
struct Created<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
}

/// Looks at intentions in some way, or at one of them by its id.
pub(super) async fn one<A: Api>(
    server: &Server<A>,
    request: Request,
    rest: String,
) -> Result<Response, Error> {
    let method = request.method.as_str();
    match (rest.as_str(), method) {
        ("match", "GET") => matching(server, &request).await,
        ("check", "GET") => check(server, &request).await,
        ("match" | "check", method) => Ok(wrong_method(method, &["GET"])),
        ("exact", "GET") => show_exact(server, &request).await,
        ("exact", "PUT") => put_exact(server, request).await,
        ("exact", _) => delete_exact(server, &request).await,
        _ => {
            let id = parse_id(&rest).ok_or_else(|| {
                Error::bad_request(format!("Invalid intention id {rest:?}: not a UUID"))
            })?;
            by_id(server, request, id).await
        }
    }
}

async fn by_id<A: Api>(
    server: &Server<A>,
    mut request: Request,
    id: Uuid,
) -> Result<Response, Error> {
    let id = id.to_string();
    if request.method == "GET" {
        let (found, headers) = list(server, &request.params).await?;
        let found = found
            .iter()
            .find(|one| one.id() == id)
            .ok_or_else(unknown)?;
        return Ok(headers.on(server.json(&request.params, &found.show())));
    }
    check_scope(server.settings(), &request.params)?;
    let found = entries_now(server).await?;
    let known = intentions::all(&found)
        .into_iter()
        .find(|one| one.id() == id);
    if request.method == "PUT" {
        let known = known.ok_or_else(unknown)?;
        let wanted = decode(server, &mut request).await?;
        if (&known.source, &known.destination) != (&wanted.source, &wanted.destination) {
            return Err(Error::internal(
                "Cannot modify Source or Destination of an intention",
            ));
        }
        put(
            server,
            &Wanted {
                id: id.clone(),
                ..wanted
            },
            false,
        )
        .await?;
        return Ok(server.json(&request.params, &Created { id: &id }));
    }
    let known = known.ok_or_else(unknown)?;
    remove(server, &known.destination, |source| {
        source["LegacyID"] == id.as_str()
    })
    .await?;
    Ok(server.json(&request.params, &true))
}

fn unknown() -> Error {
    Error::not_found("Intention not found")
}

async fn show_exact<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let (source, destination) = ends(&request.params)?;
    let (found, headers) = list(server, &request.params).await?;
    let exact = |one: &&Intention| one.source == source && one.destination == destination;
    let found = found.iter().find(exact).ok_or_else(unknown)?;
    Ok(headers.on(server.json(&request.params, &found.show())))
}

async fn put_exact<A: Api>(server: &Server<A>, mut request: Request) -> Result<Response, Error> {
    let (source, destination) = ends(&request.params)?;
    let (source, destination) = (source.to_owned(), destination.to_owned());
    let body = decode(server, &mut request).await?;
    if !body.meta.is_empty() {
        return Err(Error::internal(
            "Meta must not be specified: it belongs to the service-intentions config entry",
        ));
    }
    let wanted = Wanted {
        source,
        destination,
        id: String::new(),
        ..body
    };
    put(server, &wanted, false).await?;
    Ok(server.json(&request.params, &true))
}

async fn delete_exact<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let (source, destination) = ends(&request.params)?;
    remove(server, destination, |one| one["Name"] == source).await?;
    Ok(server.json(&request.params, &true))
}

/// Those that concern services on one side, by the services' names.
async fn matching<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let params = &request.params;
    let by = required(params, "by")?;
    if !matches!(by, "source" | "destination") {
        return Err(Error::bad_request(
            "'by' parameter must be one of 'source' or 'destination'",
        ));
    }
    required(params, "name")?;
    let (found, headers) = list(server, params).await?;
    let mut shown: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for name in params.all("name") {
        let of = match by {
            "source" => intentions::of_source(&found, name),
            _ => intentions::of_destination(&found, name),
        };
        shown.insert(name, of.into_iter().map(Intention::show).collect());
    }
    Ok(headers.on(server.json(params, &shown)))
}

/// Whether one service may connect to another.
async fn check<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let params = &request.params;
    let (source, destination) = ends(params)?;
    if let Some(kind) = params.given("source-type").filter(|kind| *kind != "consul") {
        return Err(Error::internal(format!("unsupported source-type {kind:?}")));
    }
    let (found, _) = list(server, params).await?;
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Checked {
        allowed: bool,
    }
    // Where nothing is said of two services, it is as where no rule says anything of a token.
    let by_default = server.settings().default_policy == "allow";
    let allowed = intentions::allows(&found, source, destination, by_default);
    Ok(server.json(params, &Checked { allowed }))
}

fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, Error> {
    params
        .given(name)
        .ok_or_else(|| Error::bad_request(format!("required query parameter '{name}' not set")))
}

fn ends(params: &Params) -> Result<(&str, &str), Error> {
    let source = bare(required(params, "source")?)?;
    Ok((source, bare(required(params, "destination")?)?))
}

/// A service's name without the namespace that Consul's clients may put in front.
pub(super) fn bare(name: &str) -> Result<&str, Error> {
    match name.rsplit_once('/') {
        None => Ok(name),
        Some(("default" | "default/default", name)) => Ok(name),
        Some(_) => Err(Error::bad_request(format!(
            "Invalid name {name:?} - Namespaces are a Consul Enterprise feature"
        ))),
    }
}

pub(super) async fn list<A: Api>(
    server: &Server<A>,
    params: &Params,
) -> Result<(Vec<Intention>, Headers), Error> {
    let kind = intentions::KIND.to_owned();
    let (answer, headers) = read(server, params, Query::Entries { kind }).await?;
    match answer {
        Answer::Entries(entries) => Ok((intentions::all(&entries), headers)),
        _ => Err(unexpected()),
    }
}

/// Said here too: what its holder may not see of the entries, a token cannot change, and it would look as if it were gone.
fn may_change<A: Api>(server: &Server<A>, destination: &str) -> Result<(), Error> {
    match server.is_elsewhere() {
        true => Ok(()),
        false => server.need(Resource::Intention, destination, Access::Write),
    }
}

/// Every entry of intentions as the leader has them.
async fn entries_now<A: Api>(server: &Server<A>) -> Result<Vec<Arc<ConfigEntry>>, Error> {
    let kind = intentions::KIND.to_owned();
    let query = Query::Entries { kind };
    let reply = server.api().read(query, ReadOptions::default()).await?;
    match reply.answer {
        Answer::Entries(entries) => Ok(entries),
        _ => Err(unexpected()),
    }
}

/// Puts an intention into its destination's entry.
async fn put<A: Api>(server: &Server<A>, wanted: &Wanted, only_new: bool) -> Result<(), Error> {
    may_change(server, &wanted.destination)?;
    for _ in 0..TRIES {
        let found = entries_now(server).await?;
        let exists =
            |one: &Intention| one.source == wanted.source && one.destination == wanted.destination;
        if only_new && intentions::all(&found).iter().any(exists) {
            return Err(Error::internal(format!(
                "Duplicate intention found: {} => {}",
                wanted.source, wanted.destination
            )));
        }
        let entry = found.iter().find(|entry| entry.name == wanted.destination);
        let entry = entry.map(|entry| &**entry);
        let cas = Some(entry.map_or(0, |entry| entry.modify_index));
        let entry = intentions::put(entry, wanted).map_err(refused)?;
        let entry = Box::new(entry);
        if change(server, EntryStep::Set { entry, cas }).await? {
            return Ok(());
        }
    }
    Err(contended())
}

/// Takes intentions out of a destination's entry. Those that are not there are gone.
async fn remove<A: Api>(
    server: &Server<A>,
    destination: &str,
    gone: impl Fn(&Value) -> bool,
) -> Result<(), Error> {
    may_change(server, destination)?;
    for _ in 0..TRIES {
        let found = entries_now(server).await?;
        let Some(entry) = found.iter().find(|entry| entry.name == destination) else {
            return Ok(());
        };
        let cas = Some(entry.modify_index);
        let step = match intentions::remove(entry, &gone).map_err(refused)? {
            Some(left) => EntryStep::Set {
                entry: Box::new(left),
                cas,
            },
            None => EntryStep::Delete {
                kind: entry.kind.clone(),
                name: entry.name.clone(),
                cas,
            },
        };
        if change(server, step).await? {
            return Ok(());
        }
    }
    Err(contended())
}

fn refused(error: entries::Error) -> Error {
    Error::internal(error.to_string())
}

fn contended() -> Error {
    Error::internal("the intentions of this destination change all the time, try again later")
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    id: String,
    description: String,
    sourcename: String,
    destinationname: String,
    sourcens: String,
    destinationns: String,
    sourcetype: String,
    action: String,
    permissions: Value,
    meta: Map<String, Value>,
}

async fn decode<A: Api>(server: &Server<A>, request: &mut Request) -> Result<Wanted, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let body: Body = json::decode(&body)?;
    for namespace in [&body.sourcens, &body.destinationns] {
        if !matches!(namespace.as_str(), "" | "default") {
            return Err(Error::bad_request(format!(
                "Invalid namespace {namespace:?} - Namespaces are a Consul Enterprise feature"
            )));
        }
    }
    if !matches!(body.sourcetype.as_str(), "" | "consul") {
        return Err(Error::internal("SourceType must be set to 'consul'"));
    }
    let now = jiff::Timestamp::from_millisecond(i64::try_from(server.unix_ms()).unwrap_or(0));
    Ok(Wanted {
        source: body.sourcename,
        destination: body.destinationname,
        action: body.action,
        permissions: body.permissions,
        description: body.description,
        meta: body.meta,
        id: body.id,
        now: now.map(|now| now.to_string()).unwrap_or_default(),
    })
}
