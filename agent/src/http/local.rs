//! `/v1/agent/`: services and checks of this agent itself.

mod views;

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value as Json;

use super::blocking::{check_scope, wait};
use super::body::{Response, Value, empty, text};
use super::catalog::named;
use super::error::Error;
use super::filtered::Chosen;
use super::json;
use super::request::{Params, Request};
use super::{Api, Server};
use crate::acl::{Access, Resource};
use crate::filter::schema;
use crate::go_bool;
use crate::local::definition::{self, Raw};
use crate::local::{self, NODE_MAINTENANCE, SERVICE_MAINTENANCE};
use crate::state::{Check, CheckStatus};
use views::{AgentService, HealthOfService, content_hash};

impl From<local::Error> for Error {
    fn from(error: local::Error) -> Self {
        let text = error.to_string();
        match error {
            local::Error::Definition(_) => Self::bad_request(text),
            local::Error::NoService(_)
            | local::Error::UnknownService(_)
            | local::Error::UnknownCheck(_) => Self::not_found(text),
            local::Error::NoScripts
            | local::Error::NoScriptsInFiles
            | local::Error::NoTtl(_)
            | local::Error::Disk { .. } => Self::internal(text),
        }
    }
}

/// All services by id.
pub(super) fn services<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let params = &request.params;
    let chosen = Chosen::by(params, &schema::AGENT_SERVICE)?;
    check_scope(server.settings(), params)?;
    let services = server.api().local().services();
    let shown: BTreeMap<&String, AgentService<'_>> = services
        .iter()
        .filter(|(_, own)| server.sees(Resource::Service, &own.row.service))
        .map(|(id, own)| (id, AgentService::of(&own.row, server.settings())))
        .filter(|(_, service)| chosen.shows(service))
        .collect();
    Ok(server.json(params, &shown))
}

/// One service. `?hash=` waits until it is another one than that which had this hash.
pub(super) async fn service<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: String,
) -> Result<Response, Error> {
    let params = &request.params;
    check_scope(server.settings(), params)?;
    let id = named(id, "Missing service ID")?;
    let local = server.api().local();
    let known = params.given("hash");
    let wait = match known {
        None => Duration::ZERO,
        Some(_) => wait(server.settings(), server.random(), params, true)?.1,
    };
    let mut version = local.watch();
    let end = tokio::time::sleep(wait);
    tokio::pin!(end);
    loop {
        version.mark_unchanged();
        let own = local.service(&id);
        let own = own.ok_or_else(|| Error::not_found(format!("unknown service ID: {id}")))?;
        server.need(Resource::Service, &own.row.service, Access::Read)?;
        let mut shown = AgentService::of(&own.row, server.settings());
        let hash = content_hash(&shown);
        if known != Some(&hash) || end.is_elapsed() || wait.is_zero() {
            shown.set_hash(&hash);
            let mut response = server.json(params, &shown);
            response.set("X-Consul-Contenthash", Value::Text(hash));
            return Ok(response);
        }
        tokio::select! {
            () = &mut end => {}
            _ = version.changed() => {}
            () = server.shutdown().cancelled() => return Err(crate::node::Error::ShuttingDown.into()),
        }
    }
}

/// Adds a service, or replaces the one with its id.
pub(super) async fn register_service<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let raw = Raw::service(object(server, &mut request).await?);
    let raw = raw.map_err(local::Error::from)?.or_token(&request.token);
    for service in raw.services().map_err(local::Error::from)? {
        server.need_service(&service.service)?;
        server.need_service_id(&service.id)?;
    }
    let replace = request.params.is_set("replace-existing-checks");
    server.api().local().register_service(&raw, replace).await?;
    Ok(empty(StatusCode::OK))
}

/// Removes a service.
pub(super) async fn deregister_service<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: String,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let id = named(id, "Missing service ID")?;
    server.need_service_id(&id)?;
    server.api().local().deregister_service(&id).await?;
    Ok(empty(StatusCode::OK))
}

/// All checks by id.
pub(super) fn checks<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let params = &request.params;
    let chosen = Chosen::by(params, &schema::CHECK)?;
    check_scope(server.settings(), params)?;
    let checks = server.api().local().checks();
    let shown: BTreeMap<_, _> = checks
        .iter()
        .filter(|(_, own)| match own.row.service_name.as_str() {
            "" => server.sees(Resource::Node, &own.row.node),
            service => server.sees(Resource::Service, service),
        })
        .map(|(id, own)| (id, super::views::CheckView::of(&own.row)))
        .filter(|(_, check)| chosen.shows(check))
        .collect();
    Ok(server.json(params, &shown))
}

/// Adds a check, or replaces the one with its id.
pub(super) async fn register_check<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let raw = Raw::check(object(server, &mut request).await?);
    let raw = raw.map_err(local::Error::from)?.or_token(&request.token);
    let check = raw.to_check().map_err(local::Error::from)?;
    match server.api().local().service(&check.service_id) {
        Some(own) => server.need_service(&own.row.service)?,
        None => server.need_service("")?,
    }
    server.need_check(&check.id)?;
    server.api().local().register_check(&raw).await?;
    Ok(empty(StatusCode::OK))
}

/// Removes a check.
pub(super) async fn deregister_check<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: String,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let id = named(id, "Missing check ID")?;
    server.need_check(&id)?;
    server.api().local().deregister_check(&id).await?;
    Ok(empty(StatusCode::OK))
}

/// Tells the status of a TTL check; the output is `?note=`.
pub(super) async fn tell<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: String,
    status: CheckStatus,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    server.need_check(&id)?;
    let note = request.params.get("note").unwrap_or_default();
    server.api().local().heartbeat(&id, status, note).await?;
    Ok(empty(StatusCode::OK))
}

/// Tells the status and the output of a TTL check in a body.
pub(super) async fn update<A: Api>(
    server: &Server<A>,
    mut request: Request,
    id: String,
) -> Result<Response, Error> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Update {
        status: String,
        output: String,
    }
    check_scope(server.settings(), &request.params)?;
    server.need_check(&id)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let Update { status, output } = json::decode(&body)?;
    let status = CheckStatus::parse(&status)
        .ok_or_else(|| Error::bad_request(format!("Invalid check status: '{status}'")))?;
    server.api().local().heartbeat(&id, status, &output).await?;
    Ok(empty(StatusCode::OK))
}

/// Takes the node or a service out of service, or back into it.
pub(super) async fn maintain<A: Api>(
    server: &Server<A>,
    request: &Request,
    service: Option<String>,
) -> Result<Response, Error> {
    let params = &request.params;
    check_scope(server.settings(), params)?;
    let service = service
        .map(|id| named(id, "Missing service ID"))
        .transpose()?;
    match &service {
        Some(id) => server.need_service_id(id)?,
        None => server.need_service("")?,
    }
    let Some(enable) = params.get("enable") else {
        return Err(Error::bad_request("Missing value for enable"));
    };
    let on = go_bool::parse(enable)
        .ok_or_else(|| Error::bad_request(format!("Invalid value for enable: {enable:?}")))?;
    let reason = params.get("reason").unwrap_or_default();
    let local = server.api().local();
    local
        .maintain(service.as_deref(), on.then_some(reason))
        .await?;
    Ok(empty(StatusCode::OK))
}

/// The health of one service, also as the answer's status.
pub(super) fn health_by_id<A: Api>(
    server: &Server<A>,
    request: &Request,
    id: String,
) -> Result<Response, Error> {
    let params = &request.params;
    check_scope(server.settings(), params)?;
    let id = named(id, "Missing serviceID")?;
    let local = server.api().local();
    let Some(own) = local.service(&id) else {
        let why = format!("ServiceId {id} not found");
        let nothing = HealthOfService::nothing();
        return Ok(judged(server, params, 404, why, &nothing));
    };
    server.need(Resource::Service, &own.row.service, Access::Read)?;
    let checks = local.checks_for(&id);
    let (code, word) = judge(checks.iter().map(|check| &**check));
    let shown = HealthOfService::of(word, &own.row, &checks, server.settings());
    Ok(judged(server, params, code, word.to_owned(), &shown))
}

/// The health of all instances of a service here; the worst is the answer's status.
pub(super) fn health_by_name<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let params = &request.params;
    check_scope(server.settings(), params)?;
    let name = named(name, "Missing service Name")?;
    server.need(Resource::Service, &name, Access::Read)?;
    let local = server.api().local();
    let services = local.services();
    let found: Vec<_> = services
        .values()
        .filter(|own| own.row.service == name)
        .map(|own| (&own.row, local.checks_for(&own.row.id)))
        .collect();
    let (mut code, mut why) = (404, format!("ServiceName {name} Not Found"));
    let mut shown = Vec::new();
    for (row, checks) in &found {
        let (its_code, word) = judge(checks.iter().map(|check| &**check));
        if code == 404 || its_code > code {
            (code, why) = (its_code, word.to_owned());
        }
        shown.push(HealthOfService::of(word, row, checks, server.settings()));
    }
    Ok(judged(server, params, code, why, &shown))
}

/// The answer's status and the word for the health that these checks make.
fn judge<'a>(checks: impl Iterator<Item = &'a Check>) -> (u16, &'static str) {
    let mut worst = CheckStatus::Passing;
    for check in checks {
        if check.check_id == NODE_MAINTENANCE || check.check_id.starts_with(SERVICE_MAINTENANCE) {
            return (503, "maintenance");
        }
        worst = worst.max(check.status);
    }
    match worst {
        CheckStatus::Passing => (200, "passing"),
        CheckStatus::Warning => (429, "warning"),
        CheckStatus::Critical => (503, "critical"),
    }
}

/// An answer whose status says how the service is, with the word as text if that is asked for.
fn judged<A: Api>(
    server: &Server<A>,
    params: &Params,
    code: u16,
    why: String,
    shown: &impl serde::Serialize,
) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match params.get("format") {
        Some("text") => text(status, why.clone()),
        _ => server.json(params, shown),
    };
    response.status = status;
    response.set("X-Consul-Reason", Value::Text(why));
    response
}

/// The body, which must be JSON.
async fn object<A: Api>(server: &Server<A>, request: &mut Request) -> Result<Json, Error> {
    let body = request.body(server.settings().kv_max_value_size).await?;
    json::value(&body).map_err(|why| {
        let error = definition::Error::Decode(why);
        Error::bad_request(error.to_string())
    })
}
