//! `?near=`: the nearest first.

use super::blocking::read_more;
use super::error::Error;
use super::request::Params;
use super::{Api, Server};
use crate::coordinate::Nearness;
use crate::state::{Answer, Query};

/// Stands for the agent that is asked.
const AGENT: &str = "_agent";

/// An order of results by the nodes that they are on.
pub(super) struct Near(Option<Nearness>);

impl Near {
    /// That which a request asks for.
    pub(super) async fn by<A: Api>(server: &Server<A>, params: &Params) -> Result<Self, Error> {
        Self::to(server, params, params.get("near").unwrap_or_default()).await
    }

    /// By the distance from a node; none for a node that has no place.
    pub(super) async fn to<A: Api>(
        server: &Server<A>,
        params: &Params,
        node: &str,
    ) -> Result<Self, Error> {
        let node = match node {
            // Places of different datacenters cannot be compared.
            _ if server.is_elsewhere() => return Ok(Self(None)),
            "" => return Ok(Self(None)),
            AGENT => &server.settings().node_name,
            node => node,
        };
        let Answer::Places(rows) = read_more(server, params, Query::Places).await? else {
            return Err(super::catalog::unexpected());
        };
        let places = rows.iter().map(|row| (row.node.as_str(), &row.place));
        Ok(Self(Nearness::new(node, places)))
    }

    /// Brings results into the order, if there is one.
    pub(super) fn sort<T>(&self, entries: &mut [T], node: impl Fn(&T) -> &str) {
        if let Some(nearness) = &self.0 {
            nearness.sort(entries, node);
        }
    }
}
