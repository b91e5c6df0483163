//! `/v1/acl/auth-method` and `/v1/acl/binding-rule`: how tokens are got for identities of others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{TRIES, body, change, changed_again, now, parse_id, shown};
use crate::duration::{self, GoDuration};
use crate::http::body::Response;
use crate::http::catalog::unexpected;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};
use crate::state::{AclAnswer, AclBindingRule, AclMethod, AclQuery, AclStep};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MethodView<'a> {
    name: &'a str,
    #[serde(rename = "Type")]
    kind: &'a str,
    display_name: &'a str,
    description: &'a str,
    #[serde(rename = "MaxTokenTTL")]
    max_ttl: String,
    token_locality: &'a str,
    /// Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Value>,
    create_index: u64,
    modify_index: u64,
}

impl<'a> MethodView<'a> {
    fn of(method: &'a AclMethod) -> Self {
        Self {
            name: &method.name,
            kind: &method.kind,
            display_name: &method.display_name,
            description: &method.description,
            max_ttl: duration::print(Duration::from_millis(method.max_ttl_ms)),
            token_locality: &method.token_locality,
            config: Some(serde_json::from_str(&method.config).unwrap_or_default()),
            create_index: method.create_index,
            modify_index: method.modify_index,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MethodBody {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    displayname: String,
    description: String,
    maxtokenttl: Option<GoDuration>,
    tokenlocality: String,
    config: Map<String, Value>,
}

impl MethodBody {
    fn into_method(self) -> AclMethod {
        let GoDuration(ttl) = self.maxtokenttl.unwrap_or(GoDuration(Duration::ZERO));
        AclMethod {
            name: self.name,
            kind: self.kind,
            display_name: self.displayname,
            description: self.description,
            max_ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            token_locality: match self.tokenlocality.as_str() {
                "" => "local".to_owned(),
                _ => self.tokenlocality,
            },
            config: Value::Object(self.config).to_string(),
            ..AclMethod::default()
        }
    }
}

pub(super) async fn list<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let (answer, headers) = shown(server, &request.params, AclQuery::Methods).await?;
    let rows = methods(answer)?;
    let views = rows.iter().map(|row| MethodView {
        config: None,
        ..MethodView::of(row)
    });
    Ok(headers.on(server.json(&request.params, &views.collect::<Vec<_>>())))
}

pub(super) async fn create<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let sent: MethodBody = body(server, &mut request).await?;
    let method = sent.into_method();
    let name = method.name.clone();
    let written = write(server, &request, method, 0).await?;
    written.ok_or_else(|| {
        Error::internal(format!(
            "Invalid Auth Method: An Auth Method with Name {name:?} already exists"
        ))
    })
}

/// Writes an auth method and shows it; `None` when somebody else was faster.
async fn write<A: Api>(
    server: &Server<A>,
    request: &Request,
    method: AclMethod,
    cas: u64,
) -> Result<Option<Response>, Error> {
    let name = method.name.clone();
    let method = Box::new(method);
    if !change(server, AclStep::SetMethod { method, cas }).await? {
        return Ok(None);
    }
    let row = find(server, name).await?;
    Ok(Some(server.json(&request.params, &MethodView::of(&row))))
}

pub(super) async fn one<A: Api>(
    server: &Server<A>,
    mut request: Request,
    name: String,
) -> Result<Response, Error> {
    if name.is_empty() {
        return Err(Error::bad_request("Missing auth method Name"));
    }
    match request.method.as_str() {
        "PUT" => {
            let sent: MethodBody = body(server, &mut request).await?;
            if !sent.name.is_empty() && sent.name != name {
                return Err(Error::bad_request(
                    "Auth Method Name in URL and payload do not match",
                ));
            }
            let mut method = sent.into_method();
            method.name.clone_from(&name);
            for _ in 0..TRIES {
                let known = find(server, name.clone()).await?;
                if !method.kind.is_empty() && method.kind != known.kind {
                    return Err(Error::bad_request(
                        "Changing an auth method's type is not permitted",
                    ));
                }
                method.kind.clone_from(&known.kind);
                let written = write(server, &request, method.clone(), known.modify_index);
                if let Some(response) = written.await? {
                    return Ok(response);
                }
            }
            Err(changed_again())
        }
        "DELETE" => {
            change(server, AclStep::DeleteMethod(name)).await?;
            Ok(server.json(&request.params, &true))
        }
        _ => {
            let query = AclQuery::Method(name);
            let (answer, headers) = shown(server, &request.params, query).await?;
            let row = methods(answer)?
                .pop()
                .ok_or_else(|| missing("auth method"))?;
            Ok(headers.on(server.json(&request.params, &MethodView::of(&row))))
        }
    }
}

async fn find<A: Api>(server: &Server<A>, name: String) -> Result<Arc<AclMethod>, Error> {
    let found = methods(now(server, AclQuery::Method(name)).await?)?.pop();
    found.ok_or_else(|| missing("auth method"))
}

fn methods(answer: AclAnswer) -> Result<Vec<Arc<AclMethod>>, Error> {
    match answer {
        AclAnswer::Methods(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

fn missing(what: &str) -> Error {
    Error {
        status: StatusCode::NOT_FOUND,
        text: format!("Requested {what} does not exist: ACL not found").into(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RuleView<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    description: &'a str,
    auth_method: &'a str,
    selector: &'a str,
    bind_type: &'a str,
    bind_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_vars: Option<BTreeMap<&'static str, &'a str>>,
    create_index: u64,
    modify_index: u64,
}

impl<'a> RuleView<'a> {
    fn of(rule: &'a AclBindingRule) -> Self {
        let name = rule.bind_vars.get("name");
        Self {
            id: rule.id,
            description: &rule.description,
            auth_method: &rule.auth_method,
            selector: &rule.selector,
            bind_type: &rule.bind_type,
            bind_name: &rule.bind_name,
            bind_vars: name.map(|name| BTreeMap::from([("Name", name.as_str())])),
            create_index: rule.create_index,
            modify_index: rule.modify_index,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuleBody {
    id: String,
    description: String,
    authmethod: String,
    selector: String,
    bindtype: String,
    bindname: String,
    bindvars: BTreeMap<String, String>,
}

impl RuleBody {
    fn into_rule(self, id: Uuid) -> AclBindingRule {
        AclBindingRule {
            id,
            description: self.description,
            auth_method: self.authmethod,
            selector: self.selector,
            bind_type: self.bindtype,
            bind_name: self.bindname,
            bind_vars: self.bindvars,
            ..AclBindingRule::default()
        }
    }
}

pub(super) async fn rules<A: Api>(
    server: &Server<A>,
    request: &Request,
) -> Result<Response, Error> {
    let method = request.params.given("authmethod").map(str::to_owned);
    let query = AclQuery::BindingRules(method);
    let (answer, headers) = shown(server, &request.params, query).await?;
    let rows = binding_rules(answer)?;
    let views: Vec<_> = rows.iter().map(|row| RuleView::of(row)).collect();
    Ok(headers.on(server.json(&request.params, &views)))
}

pub(super) async fn create_rule<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let sent: RuleBody = body(server, &mut request).await?;
    if !sent.id.is_empty() {
        return Err(Error::bad_request(
            "Cannot specify the ID when creating a new binding rule",
        ));
    }
    let rule = sent.into_rule(server.random().uuid());
    let written = write_rule(server, &request, rule, 0).await?;
    written.ok_or_else(changed_again)
}

/// Writes a binding rule and shows it; `None` when somebody else was faster.
async fn write_rule<A: Api>(
    server: &Server<A>,
    request: &Request,
    rule: AclBindingRule,
    cas: u64,
) -> Result<Option<Response>, Error> {
    let id = rule.id;
    let rule = Box::new(rule);
    if !change(server, AclStep::SetBindingRule { rule, cas }).await? {
        return Ok(None);
    }
    let row = find_rule(server, id).await?;
    Ok(Some(server.json(&request.params, &RuleView::of(&row))))
}

pub(super) async fn one_rule<A: Api>(
    server: &Server<A>,
    mut request: Request,
    rest: String,
) -> Result<Response, Error> {
    if rest.is_empty() {
        return Err(Error::bad_request("Missing binding rule ID"));
    }
    let id = parse_id(&rest, "binding rule ID")?;
    match request.method.as_str() {
        "PUT" => {
            let sent: RuleBody = body(server, &mut request).await?;
            let mut rule = sent.into_rule(id);
            for _ in 0..TRIES {
                let known = find_rule(server, id).await?;
                if !rule.auth_method.is_empty() && rule.auth_method != known.auth_method {
                    return Err(Error::bad_request(
                        "the AuthMethod field of a binding rule cannot be changed",
                    ));
                }
                rule.auth_method.clone_from(&known.auth_method);
                let written = write_rule(server, &request, rule.clone(), known.modify_index);
                if let Some(response) = written.await? {
                    return Ok(response);
                }
            }
            Err(changed_again())
        }
        "DELETE" => {
            change(server, AclStep::DeleteBindingRule(id)).await?;
            Ok(server.json(&request.params, &true))
        }
        _ => {
            let query = AclQuery::BindingRule(id);
            let (answer, headers) = shown(server, &request.params, query).await?;
            let found = binding_rules(answer)?.pop();
            let row = found.ok_or_else(|| missing("binding rule"))?;
            Ok(headers.on(server.json(&request.params, &RuleView::of(&row))))
        }
    }
}

async fn find_rule<A: Api>(server: &Server<A>, id: Uuid) -> Result<Arc<AclBindingRule>, Error> {
    let found = binding_rules(now(server, AclQuery::BindingRule(id)).await?)?.pop();
    found.ok_or_else(|| missing("binding rule"))
}

fn binding_rules(answer: AclAnswer) -> Result<Vec<Arc<AclBindingRule>>, Error> {
    match answer {
        AclAnswer::BindingRules(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}
