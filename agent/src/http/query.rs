//! `/v1/query`: prepared queries.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::blocking::{Headers, check_scope, options, read, read_more};
use super::body::{Response, empty};
use super::catalog::unexpected;
use super::error::Error;
use super::json;
use super::near::Near;
use super::request::{Params, Request};
use super::views::HealthView;
use super::{Api, Server};
use crate::acl::HIDDEN_SECRET;
use crate::state::{
    Answer, Command, Outcome, PreparedQuery, PreparedStep, Query, QueryDns, QueryFailover,
    QueryService, QueryTemplate, Refusal, ServiceHealth,
};
use crate::translate;
use crate::{node, prepared};

/// All of them, or a new one.
pub(super) async fn all<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    if request.method != "POST" {
        let (answer, headers) = read(server, &request.params, Query::PreparedQueries).await?;
        let Answer::PreparedQueries(queries) = answer else {
            return Err(unexpected());
        };
        return Ok(headers.on(server.json(&request.params, &queries)));
    }
    let query = decode(server, &mut request, server.random().uuid()).await?;
    #[derive(Serialize)]
    struct Created {
        #[serde(rename = "ID")]
        id: Uuid,
    }
    let created = Created { id: query.id };
    apply(server, PreparedStep::Create(Box::new(query))).await?;
    Ok(server.json(&request.params, &created))
}

/// One of them: shown, replaced, removed, run or explained.
pub(super) async fn one<A: Api>(
    server: &Server<A>,
    mut request: Request,
    rest: String,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    for (suffix, is_execute) in [("/execute", true), ("/explain", false)] {
        if let Some(name) = rest.strip_suffix(suffix) {
            return match (request.method.as_str(), is_execute) {
                ("GET", true) => execute(server, &request, name).await,
                ("GET", false) => explain(server, &request, name).await,
                (method, _) => Ok(super::error::wrong_method(method, &["GET"])),
            };
        }
    }
    let id = Uuid::try_parse(&rest).map_err(|_| {
        Error::internal(format!(
            "failed prepared query lookup: {rest:?} is not a UUID"
        ))
    })?;
    match request.method.as_str() {
        "PUT" => {
            let query = decode(server, &mut request, id).await?;
            apply(server, PreparedStep::Update(Box::new(query))).await?;
            Ok(empty(StatusCode::OK))
        }
        "DELETE" => {
            apply(server, PreparedStep::Delete(id)).await?;
            Ok(empty(StatusCode::OK))
        }
        _ => {
            let found = listed(server, &request, id).await?;
            let (found, headers) = match found {
                (Some(found), headers) => (found, headers),
                (None, headers) => (unlisted(server, &request, id).await?, headers.unfiltered()),
            };
            Ok(headers.on(server.json(&request.params, &[found])))
        }
    }
}

/// The one with this id, if it is in the list that the asker sees.
async fn listed<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: Uuid,
) -> Result<(Option<Arc<PreparedQuery>>, Headers), Error> {
    let (answer, headers) = read(server, &request.params, Query::PreparedQueries).await?;
    let Answer::PreparedQueries(queries) = answer else {
        return Err(unexpected());
    };
    let found = queries.into_iter().find(|query| query.id == id);
    Ok((found, headers))
}

/// The one with this id, if it takes no more than knowing that to see it.
async fn unlisted<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: Uuid,
) -> Result<Arc<PreparedQuery>, Error> {
    let query = Query::PreparedQuery {
        id_or_name: id.to_string(),
    };
    let Answer::PreparedQuery(found) = read_more(server, &request.params, query).await? else {
        return Err(unexpected());
    };
    // Not a template that answers any name.
    let found = found.filter(|found| found.id == id).ok_or_else(not_found)?;
    match found.ruled_name() {
        None => Ok(found),
        Some(_) => Err(node::Error::Denied("Permission denied".to_owned()).into()),
    }
}

fn not_found() -> Error {
    Error::not_found("Query not found")
}

async fn apply<A: Api>(server: &Server<A>, step: PreparedStep) -> Result<(), Error> {
    match server.propose(Command::Prepared(step)).await? {
        Outcome::Error {
            code: Refusal::MissingQuery,
            ..
        } => Err(not_found()),
        Outcome::Error { text, .. } => {
            Err(Error::internal(format!("Invalid prepared query: {text}")))
        }
        _ => Ok(()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Executed<'a> {
    service: &'a str,
    nodes: Vec<HealthView<'a>>,
    #[serde(rename = "DNS")]
    dns: &'a QueryDns,
    datacenter: &'a str,
    failovers: u32,
}

async fn execute<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: &str,
) -> Result<Response, Error> {
    let params = &request.params;
    let limit = match params.given("limit") {
        None => usize::MAX,
        Some(text) => text
            .parse()
            .map_err(|_| Error::bad_request(format!("Bad limit {text:?}")))?,
    };
    let mut query = rendered(server, request, name).await?;
    if query.token == HIDDEN_SECRET {
        // Whoever runs it need not know what it runs with; a client's agent is not told either.
        query = rendered(&server.as_agent(), request, name).await?;
    }
    let own;
    let server = match query.token.as_str() {
        "" => server,
        HIDDEN_SECRET => {
            return Err(Error::internal(
                "this query runs with a token of its own, which this agent is not told: ask the API of a server",
            ));
        }
        secret => {
            own = server.with(secret);
            &own
        }
    };
    let mut found = search(server, params, &query).await?;
    let mut datacenter = server.datacenter().to_owned();
    let mut failovers = 0;
    for other in failover(server, &query, found.is_empty()).await? {
        failovers += 1;
        match search(&server.at(&other), params, &query).await {
            Ok(there) => (found, datacenter) = (there, other),
            Err(error) => {
                tracing::error!(target: "http", datacenter = %other, error = %error.text, "Failed querying for service in datacenter");
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    // Who asks knows better where it is than who wrote the query.
    let near = params.given("near").unwrap_or(&query.service.near);
    let near = Near::to(server, params, near).await?;
    if failovers == 0 {
        near.sort(&mut found, |entry| &entry.node.node);
    }
    found.truncate(if limit == 0 { usize::MAX } else { limit });
    let executed = Executed {
        service: &query.service.service,
        nodes: found.iter().map(HealthView::of).collect(),
        dns: &query.dns,
        datacenter: &datacenter,
        failovers,
    };
    Ok(server.json(params, &executed))
}

/// The instances that a query means in the datacenter that is asked, in random order.
async fn search<A: Api>(
    server: &Server<A>,
    params: &Params,
    query: &PreparedQuery,
) -> Result<Vec<ServiceHealth>, Error> {
    let search = prepared::search(query, params.is_set("connect"));
    let mut options = options(server.settings(), server.random(), params)?;
    (options.min_index, options.wait) = Default::default();
    let mut reply = server.api().read(search, options).await?;
    if server.is_elsewhere() && server.settings().translate_wan_addrs {
        translate::to_wan(&mut reply.answer);
    }
    let Answer::ServiceHealth(mut found) = reply.answer else {
        return Err(unexpected());
    };
    found.retain(|entry| prepared::fits(query, entry));
    shuffle(server, &mut found);
    Ok(found)
}

/// Where else to look.
async fn failover<A: Api>(
    server: &Server<A>,
    query: &PreparedQuery,
    is_needed: bool,
) -> Result<Vec<String>, Error> {
    let settings = &query.service.failover;
    if !is_needed || (settings.nearest_n == 0 && settings.datacenters.is_empty()) {
        return Ok(Vec::new());
    }
    let mut others: Vec<String> = server
        .api()
        .datacenters()
        .await?
        .into_iter()
        .map(|one| one.name)
        .collect();
    others.retain(|name| name != server.datacenter());
    Ok(prepared::failover(settings, &others))
}

fn shuffle<A: Api>(server: &Server<A>, entries: &mut [ServiceHealth]) {
    for at in (1..entries.len()).rev() {
        entries.swap(at, server.random().below(at as u64 + 1) as usize);
    }
}

async fn explain<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: &str,
) -> Result<Response, Error> {
    let query = rendered(server, request, name).await?;
    Ok(server.json(&request.params, &BTreeMap::from([("Query", query)])))
}

/// The query that answers to this name or id, filled in.
async fn rendered<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: &str,
) -> Result<PreparedQuery, Error> {
    let find = Query::PreparedQuery {
        id_or_name: name.to_owned(),
    };
    let mut options = options(server.settings(), server.random(), &request.params)?;
    (options.min_index, options.wait) = Default::default();
    let reply = server.api().read(find, options).await?;
    let Answer::PreparedQuery(Some(query)) = reply.answer else {
        return Err(not_found());
    };
    prepared::render(&query, name).map_err(Error::internal)
}

async fn decode<A: Api>(
    server: &Server<A>,
    request: &mut Request,
    id: Uuid,
) -> Result<PreparedQuery, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let body: Body = json::decode(&body)?;
    let query = body.into_query(id);
    prepared::check(&query)
        .map_err(|why| Error::internal(format!("Invalid prepared query: {why}")))?;
    Ok(query)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    name: String,
    session: String,
    token: String,
    template: TemplateBody,
    service: ServiceBody,
    dns: DnsBody,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TemplateBody {
    #[serde(rename = "type")]
    kind: String,
    regexp: String,
    removeemptytags: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceBody {
    service: String,
    failover: FailoverBody,
    onlypassing: bool,
    ignorecheckids: Vec<String>,
    near: String,
    tags: Vec<String>,
    nodemeta: BTreeMap<String, String>,
    servicemeta: BTreeMap<String, String>,
    connect: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FailoverBody {
    nearestn: u32,
    datacenters: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DnsBody {
    ttl: String,
}

impl Body {
    fn into_query(self, id: Uuid) -> PreparedQuery {
        let Self {
            name,
            session,
            token,
            template,
            service,
            dns,
        } = self;
        PreparedQuery {
            id,
            name,
            session,
            token,
            template: QueryTemplate {
                kind: template.kind,
                regexp: template.regexp,
                remove_empty_tags: template.removeemptytags,
            },
            service: QueryService {
                service: service.service,
                failover: QueryFailover {
                    nearest_n: service.failover.nearestn,
                    datacenters: service.failover.datacenters,
                },
                only_passing: service.onlypassing,
                ignore_check_ids: service.ignorecheckids,
                near: service.near,
                tags: service.tags,
                node_meta: service.nodemeta,
                service_meta: service.servicemeta,
                connect: service.connect,
            },
            dns: QueryDns { ttl: dns.ttl },
            create_index: 0,
            modify_index: 0,
        }
    }
}
