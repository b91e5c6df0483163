//! `/v1/agent/token/` and `/v1/internal/acl/authorize`: tokens that this agent uses, and what the asker's own allows.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::blocking::check_scope;
use super::body::{Response, empty};
use super::closed;
use super::error::Error;
use super::json;
use super::request::Request;
use super::{Api, Server};
use crate::acl::{Access, Resource};
use crate::node::TokenUse;

/// Questions in one request. Source: Consul.
const QUESTIONS_MAX: usize = 64;

/// Takes another token for a use of this agent.
pub(super) async fn set<A: Api>(
    server: &Server<A>,
    mut request: Request,
    name: String,
) -> Result<Response, Error> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Body {
        token: String,
    }
    if !server.settings().acl {
        return Err(closed::acl());
    }
    check_scope(server.settings(), &request.params)?;
    let of = TokenUse::parse(&name);
    let of = of.ok_or_else(|| Error::not_found(format!("Token {name:?} is unknown")))?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let Body { token } = json::decode(&body)?;
    server.api().set_token(of, &token)?;
    tracing::info!(target: "agent", "Updated agent's ACL token: token={name}");
    Ok(empty(StatusCode::OK))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Question {
    resource: String,
    segment: String,
    access: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    resource: String,
    segment: String,
    access: String,
    allow: bool,
}

/// Whether the asker may do each of these.
pub(super) async fn authorize<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    if !server.settings().acl {
        return Err(closed::acl());
    }
    check_scope(server.settings(), &request.params)?;
    let body = request.body(server.settings().kv_max_value_size).await?;
    let questions: Vec<Question> = json::decode(&body)?;
    if questions.len() > QUESTIONS_MAX {
        return Err(Error::bad_request(format!(
            "Refusing to process more than {QUESTIONS_MAX} authorizations at once"
        )));
    }
    let answers = questions.into_iter().map(|question| {
        let Question {
            resource,
            segment,
            access,
        } = question;
        let allow = allowed(server, &resource, &segment, &access)?;
        Ok(Answer {
            resource,
            segment,
            access,
            allow,
        })
    });
    let answers = answers.collect::<Result<Vec<_>, Error>>()?;
    Ok(server.json(&request.params, &answers))
}

fn allowed<A: Api>(
    server: &Server<A>,
    resource: &str,
    segment: &str,
    access: &str,
) -> Result<bool, Error> {
    let wrong = |what: &str| Error::bad_request(format!("Invalid {what} for ACL authorization"));
    let resource =
        Resource::parse(resource).ok_or_else(|| wrong(&format!("resource {resource:?}")))?;
    let access = match access {
        "read" => Access::Read,
        "list" if resource == Resource::Key => Access::List,
        "write" => Access::Write,
        other => return Err(wrong(&format!("access {other:?}"))),
    };
    let may = |holder: &crate::acl::SharedHolder| holder.may(resource, segment, access);
    Ok(server.holder().is_none_or(may))
}
