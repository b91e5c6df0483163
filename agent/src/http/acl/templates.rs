//! `/v1/acl/templated-policies`: policies that are made from a name.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::body;
use super::policies::PolicyView;
use crate::acl::{TEMPLATES, Template, template};
use crate::http::body::Response;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};
use crate::state::AclPolicy;

/// The variables of a template with a name, as a JSON schema.
const NAMED: &str = r#"{"type":"object","properties":{"name":{"type":"string","minLength":1}},"required":["name"]}"#;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct View {
    template_name: &'static str,
    schema: &'static str,
    template: &'static str,
    description: &'static str,
}

impl View {
    fn of(template: &Template) -> Self {
        Self {
            template_name: template.name,
            schema: if template.is_named() { NAMED } else { "" },
            template: template.rules,
            description: template.description,
        }
    }
}

pub(super) fn list<A: Api>(server: &Server<A>, request: &Request) -> Response {
    let all = TEMPLATES.iter().map(|one| (one.name, View::of(one)));
    server.json(&request.params, &all.collect::<BTreeMap<_, _>>())
}

fn find(name: &str) -> Result<&'static Template, Error> {
    if name.is_empty() {
        return Err(Error::bad_request("Missing templated policy Name"));
    }
    template(name).ok_or_else(|| Error {
        status: StatusCode::BAD_REQUEST,
        text: format!("Invalid templated policy Name: {name}").into(),
    })
}

pub(super) fn named<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: &str,
) -> Result<Response, Error> {
    Ok(server.json(&request.params, &View::of(find(name)?)))
}

/// The policy that a token with it would have.
pub(super) async fn preview<A: Api>(
    server: &Server<A>,
    mut request: Request,
    name: &str,
) -> Result<Response, Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Variables {
        name: String,
    }
    let template = find(name)?;
    let variables = match template.is_named() {
        true => body(server, &mut request).await?,
        false => Variables::default(),
    };
    let rules = template
        .render(&variables.name)
        .map_err(Error::bad_request)?;
    let policy = AclPolicy {
        id: Uuid::nil(),
        name: format!("synthetic policy generated from templated policy: {name}"),
        description: format!("synthetic policy generated from templated policy: {name}"),
        rules,
        ..AclPolicy::default()
    };
    Ok(server.json(&request.params, &PolicyView::of(&policy)))
}
