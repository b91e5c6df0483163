//! `/v1/status/`

use super::blocking::check_scope;
use super::body::Response;
use super::error::Error;
use super::request::Request;
use super::{Api, Server};
use crate::node;

/// The leader's server address, or an empty string.
pub(super) async fn leader<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let leader = server.api().leader_address().await?;
    let leader = leader.map(|address| address.to_string());
    Ok(server.json(&request.params, &leader.unwrap_or_default()))
}

/// The voters' server addresses; none while nobody knows them.
pub(super) async fn peers<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    // This endpoint is asked to find out whether there is a cluster, so that no leader is an answer.
    let peers = match server.api().peer_addresses().await {
        Err(error @ (node::Error::NoPath | node::Error::Unreachable)) => return Err(error.into()),
        peers => peers.unwrap_or_default(),
    };
    Ok(server.json(&request.params, &peers))
}
