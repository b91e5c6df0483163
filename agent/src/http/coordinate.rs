//! `/v1/coordinate/`

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::blocking::{check_scope, read};
use super::body::{Response, empty};
use super::catalog::{named, unexpected};
use super::error::Error;
use super::json;
use super::request::{Params, Request};
use super::{Api, Server};
use crate::coordinate::{Coordinate, DIMENSIONS};
use crate::state::{Answer, NodePlace, Query};

/// A node's place in Consul's JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PlaceView<'a> {
    node: &'a str,
    /// A feature of Consul Enterprise: there is the one without a name.
    segment: &'static str,
    coord: &'a Coordinate,
}

/// The servers of a datacenter, each with its place in the pool of all datacenters.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DatacenterView<'a> {
    datacenter: &'a str,
    #[serde(rename = "AreaID")]
    area: &'static str,
    coordinates: Vec<PlaceView<'a>>,
}

/// Where the servers are, by datacenter, the nearest first.
pub(super) async fn datacenters<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let found = server.api().datacenters().await?;
    let views: Vec<_> = found
        .iter()
        .map(|one| DatacenterView {
            datacenter: &one.name,
            area: "wan",
            coordinates: one
                .places
                .iter()
                .map(|(node, coord)| PlaceView {
                    node,
                    segment: "",
                    coord,
                })
                .collect(),
        })
        .collect();
    Ok(server.json(&request.params, &views))
}

/// Where every node is.
pub(super) async fn nodes<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let (answer, headers) = read(server, &request.params, Query::Places).await?;
    let Answer::Places(rows) = answer else {
        return Err(unexpected());
    };
    Ok(headers.on(server.json(&request.params, &views(&request.params, &rows))))
}

/// Where one node is: a list of one. 404 when that is not known.
pub(super) async fn node<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    let node = named(name, "Missing node name")?;
    let (answer, headers) = read(server, &request.params, Query::NodePlace { node }).await?;
    let Answer::Places(rows) = answer else {
        return Err(unexpected());
    };
    let views = views(&request.params, &rows);
    Ok(headers.on(match views.is_empty() {
        true => empty(StatusCode::NOT_FOUND),
        false => server.json(&request.params, &views),
    }))
}

fn views<'a>(params: &Params, rows: &'a [std::sync::Arc<NodePlace>]) -> Vec<PlaceView<'a>> {
    if params.given("segment").is_some() {
        return Vec::new();
    }
    let views = rows.iter().map(|row| PlaceView {
        node: &row.node,
        segment: "",
        coord: &row.place,
    });
    views.collect()
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Update {
    node: String,
    segment: String,
    coord: Option<CoordBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CoordBody {
    vec: Vec<f64>,
    error: f64,
    adjustment: f64,
    height: f64,
}

/// Takes a node's place from whoever measured it.
pub(super) async fn update<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let Update {
        node,
        segment: _,
        coord,
    } = json::decode(&body)?;
    let coord = coord.unwrap_or_default();
    let vec: [f64; DIMENSIONS] = coord
        .vec
        .try_into()
        .map_err(|_| Error::internal("incompatible coordinate"))?;
    let place = Coordinate {
        vec,
        error: coord.error,
        adjustment: coord.adjustment,
        height: coord.height,
    };
    if !place.is_valid() {
        return Err(Error::internal("invalid coordinate"));
    }
    server.api().tell_place(&node, place).await?;
    Ok(empty(StatusCode::OK))
}
