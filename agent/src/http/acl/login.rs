//! `/v1/acl/login` and `/v1/acl/logout`: a token for an identity of somebody else, and its end.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::body;
use super::tokens::TokenView;
use crate::acl::login::Login;
use crate::config::Secret;
use crate::http::body::Response;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    authmethod: String,
    bearertoken: String,
    meta: BTreeMap<String, String>,
}

pub(super) async fn login<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let sent: Body = body(server, &mut request).await?;
    let login = Login {
        method: sent.authmethod,
        bearer: Secret(sent.bearertoken),
        meta: sent.meta,
    };
    if let Some(why) = login.invalid() {
        return Err(Error::bad_request(why));
    }
    let done = server.api().login(login).await?;
    let view = TokenView::of(&done.token, &done.names);
    Ok(server.json(&request.params, &view))
}

pub(super) async fn logout<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    server.api().logout().await?;
    Ok(server.json(&request.params, &true))
}
