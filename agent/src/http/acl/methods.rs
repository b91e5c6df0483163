//! `/v1/acl/auth-method` and `/v1/acl/binding-rule`: how tokens are got for identities of others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::rows::{self, Kind, Names};
use super::{body, changed_again, shown};
use crate::duration::{self, GoDuration};
use crate::http::body::Response;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};
use crate::state::{AclAnswer, AclBindingRule, AclMethod, AclQuery, AclStep};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MethodView<'a> {
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

impl Kind for AclMethod {
    const NOUN: &'static str = "auth method";

    type Key = String;
    type View<'a> = MethodView<'a>;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn modify_index(&self) -> u64 {
        self.modify_index
    }

    fn view<'a>(&'a self, _: &'a Names) -> MethodView<'a> {
        MethodView::of(self)
    }

    fn query(name: String) -> AclQuery {
        AclQuery::Method(name)
    }

    fn rows(answer: AclAnswer) -> Option<(Vec<Arc<Self>>, Names)> {
        match answer {
            AclAnswer::Methods(rows) => Some((rows, Names::new())),
            _ => None,
        }
    }

    fn set(method: Box<Self>, cas: u64) -> AclStep {
        AclStep::SetMethod { method, cas }
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
    let (found, _) = rows::rows::<AclMethod, A>(server, answer)?;
    let views = found.iter().map(|row| MethodView {
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
    let written = rows::write(server, &request, method, 0).await?;
    written.ok_or_else(|| {
        Error::internal(format!(
            "Invalid Auth Method: An Auth Method with Name {name:?} already exists"
        ))
    })
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
            rows::replace(server, &request, name, |known: &AclMethod| {
                if !method.kind.is_empty() && method.kind != known.kind {
                    return Err(Error::bad_request(
                        "Changing an auth method's type is not permitted",
                    ));
                }
                Ok(AclMethod {
                    kind: known.kind.clone(),
                    ..method.clone()
                })
            })
            .await
        }
        "DELETE" => rows::delete(server, &request, AclStep::DeleteMethod(name)).await,
        _ => rows::show::<AclMethod, A>(server, &request, AclQuery::Method(name)).await,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RuleView<'a> {
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

impl Kind for AclBindingRule {
    const NOUN: &'static str = "binding rule";

    type Key = Uuid;
    type View<'a> = RuleView<'a>;

    fn key(&self) -> Uuid {
        self.id
    }

    fn modify_index(&self) -> u64 {
        self.modify_index
    }

    fn view<'a>(&'a self, _: &'a Names) -> RuleView<'a> {
        RuleView::of(self)
    }

    fn query(id: Uuid) -> AclQuery {
        AclQuery::BindingRule(id)
    }

    fn rows(answer: AclAnswer) -> Option<(Vec<Arc<Self>>, Names)> {
        match answer {
            AclAnswer::BindingRules(rows) => Some((rows, Names::new())),
            _ => None,
        }
    }

    fn set(rule: Box<Self>, cas: u64) -> AclStep {
        AclStep::SetBindingRule { rule, cas }
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
    let (found, _) = rows::rows::<AclBindingRule, A>(server, answer)?;
    let views: Vec<_> = found.iter().map(|row| RuleView::of(row)).collect();
    Ok(headers.on(server.json(&request.params, &views)))
}

pub(super) async fn create_rule<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let sent: RuleBody = body(server, &mut request).await?;
    rows::refuse_id::<AclBindingRule>(&sent.id)?;
    let rule = sent.into_rule(server.random().uuid());
    let written = rows::write(server, &request, rule, 0).await?;
    written.ok_or_else(changed_again)
}

pub(super) async fn one_rule<A: Api>(
    server: &Server<A>,
    mut request: Request,
    rest: String,
) -> Result<Response, Error> {
    let id = rows::id_in_path::<AclBindingRule>(&rest)?;
    match request.method.as_str() {
        "PUT" => {
            let sent: RuleBody = body(server, &mut request).await?;
            let rule = sent.into_rule(id);
            rows::replace(server, &request, id, |known: &AclBindingRule| {
                if !rule.auth_method.is_empty() && rule.auth_method != known.auth_method {
                    return Err(Error::bad_request(
                        "the AuthMethod field of a binding rule cannot be changed",
                    ));
                }
                Ok(AclBindingRule {
                    auth_method: known.auth_method.clone(),
                    ..rule.clone()
                })
            })
            .await
        }
        "DELETE" => rows::delete(server, &request, AclStep::DeleteBindingRule(id)).await,
        _ => rows::show::<AclBindingRule, A>(server, &request, AclQuery::BindingRule(id)).await,
    }
}
