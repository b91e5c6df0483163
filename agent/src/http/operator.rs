//! `/v1/operator/raft/`

use serde::Serialize;
use uuid::Uuid;

use super::blocking::check_scope;
use super::body::{Response, empty};
use super::error::Error;
use super::request::Request;
use super::{Api, Server};
use crate::node::{PeerRef, RaftServer};
use hyper::StatusCode;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    servers: Vec<Entry>,
    index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ID")]
    id: Uuid,
    node: String,
    address: String,
    leader: bool,
    protocol_version: &'static str,
    voter: bool,
    last_index: u64,
}

/// The Raft configuration.
pub(super) async fn configuration<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let stale = request.params.has("stale");
    let (servers, index) = server.api().raft_configuration(stale).await?;
    let servers = servers.into_iter().map(entry).collect();
    Ok(server.json(&request.params, &Configuration { servers, index }))
}

fn entry(server: RaftServer) -> Entry {
    let RaftServer {
        id,
        node,
        address,
        leader,
        voter,
        last_index,
    } = server;
    Entry {
        id,
        node: if node.is_empty() {
            "(unknown)".into()
        } else {
            node
        },
        address: address.to_string(),
        leader,
        protocol_version: "3",
        voter,
        last_index,
    }
}

/// Removes a server from the Raft configuration.
pub(super) async fn remove_peer<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let peer = match (request.params.given("id"), request.params.given("address")) {
        (Some(id), None) => PeerRef::Id(id.to_owned()),
        (None, Some(address)) => PeerRef::Address(address.to_owned()),
        (None, None) => {
            return Err(Error::bad_request(
                "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(Error::bad_request(
                "Must specify only one of ?id or ?address",
            ));
        }
    };
    server.api().remove_peer(peer).await?;
    Ok(empty(StatusCode::OK))
}

/// Hands leadership over.
pub(super) async fn transfer_leader<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let id = match request.params.given("id") {
        None => None,
        Some(text) => Some(
            Uuid::try_parse(text)
                .map_err(|_| Error::bad_request(format!("Invalid server id {text:?}")))?,
        ),
    };
    server.api().transfer_leader(id).await?;
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Transferred {
        success: bool,
    }
    Ok(server.json(&request.params, &Transferred { success: true }))
}
