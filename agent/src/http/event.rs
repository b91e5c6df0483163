//! `/v1/event/`

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use uuid::Uuid;

use super::blocking::{check_scope, wait};
use super::body::{Response, Value};
use super::catalog::named;
use super::error::Error;
use super::request::{Params, Request};
use super::{Api, Server};
use crate::acl::Resource;
use crate::events::{self, Filters};
use crate::gossip::UserEvent;
use crate::node;

/// An event in Consul's JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EventView<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'a str,
    payload: Option<String>,
    node_filter: &'a str,
    service_filter: &'a str,
    tag_filter: &'a str,
    version: u8,
    #[serde(rename = "LTime")]
    ltime: u64,
}

impl<'a> EventView<'a> {
    fn of(event: &'a UserEvent) -> Self {
        Self {
            id: event.id,
            name: &event.name,
            payload: (!event.payload.is_empty()).then(|| STANDARD.encode(&event.payload)),
            node_filter: &event.node,
            service_filter: &event.service,
            tag_filter: &event.tag,
            version: 1,
            ltime: event.ltime,
        }
    }
}

/// Sends an event to everybody.
pub(super) async fn fire<A: Api>(
    server: &Server<A>,
    mut request: Request,
    name: String,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let name = named(name, "Missing name")?;
    let payload = request.body(server.settings().kv_max_value_size).await?;
    let text = |name| request.params.get(name).unwrap_or_default().to_owned();
    let event = UserEvent {
        id: server.random().uuid(),
        ltime: 0,
        name,
        payload,
        node: text("node"),
        service: text("service"),
        tag: text("tag"),
    };
    events::check(&event).map_err(Error::internal)?;
    server.api().fire(event.clone()).await?;
    Ok(server.json(&request.params, &EventView::of(&event)))
}

/// The newest events that this agent has heard of, oldest first. With an index it waits until the last one is another.
pub(super) async fn list<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let params = &request.params;
    check_scope(server.settings(), params)?;
    let filters = Filters {
        node: params.get("node").unwrap_or_default(),
        service: params.get("service").unwrap_or_default(),
        tag: params.get("tag").unwrap_or_default(),
    };
    filters.check().map_err(Error::internal)?;
    let (index, wait) = wait(server.settings(), server.random(), params, false)?;
    let mut changes = server.api().events().watch();
    let timeout = tokio::time::sleep(wait);
    tokio::pin!(timeout);
    loop {
        changes.mark_unchanged();
        let (shown, now) = look(server, params, filters);
        // An index that is not the asker's is news, larger or not: it is made of an id.
        if index == 0 || now != index {
            return Ok(shown);
        }
        tokio::select! {
            biased;
            // The sender is part of the node, which is there for as long as this request.
            _ = changes.changed() => {}
            () = server.shutdown().cancelled() => return Err(node::Error::ShuttingDown.into()),
            () = &mut timeout => return Ok(shown),
        }
    }
}

/// The answer as it is now, and its index: 1 without events, so that a client which blocks on it does not spin.
fn look<A: Api>(server: &Server<A>, params: &Params, filters: Filters<'_>) -> (Response, u64) {
    let api = server.api();
    let mut found = Vec::new();
    let services = api.local().services();
    let own = services
        .iter()
        .map(|(id, own)| (id.as_str(), own.row.tags.as_slice()));
    if filters.mean(&server.settings().node_name, own) {
        found = api.events().list();
    }
    if let Some(name) = params.given("name") {
        found.retain(|event| event.name == name);
    }
    found.retain(|event| server.sees(Resource::Event, &event.name));
    let index = found.last().map_or(1, |event| events::index_of(event.id));
    let views: Vec<_> = found.iter().map(|event| EventView::of(event)).collect();
    let mut response = server.json(params, &views);
    response.set("X-Consul-Index", Value::Number(index));
    (response, index)
}
