//! `/v1/acl/`: tokens, policies, roles, auth methods and binding rules, in Consul's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::blocking::{Headers, check_scope, read};
use super::body::Response;
use super::catalog::unexpected;
use super::closed;
use super::error::Error;
use super::json;
use super::request::{Params, Request};
use super::route::Acl;
use super::{Api, Server};
use crate::node::ReadOptions;
use crate::state::{
    AclAnswer, AclGrants, AclPolicy, AclQuery, AclRole, AclStep, Answer, Command, NodeIdentity,
    Outcome, Query, Refusal, ServiceIdentity, TemplatedPolicy,
};
use rows::Names;

mod copies;
mod login;
mod methods;
mod policies;
mod roles;
mod rows;
mod templates;
mod tokens;

/// Any of these endpoints, while there are tokens.
pub(super) async fn handle<A: Api>(
    server: &Server<A>,
    route: Acl,
    request: Request,
    rest: String,
) -> Result<Response, Error> {
    if !server.settings().acl {
        return Err(closed::acl());
    }
    check_scope(server.settings(), &request.params)?;
    let primary = match copies::is_of_primary(route, request.method.as_str()) {
        true => copies::primary(server).await?,
        false => None,
    };
    let server = primary.as_ref().unwrap_or(server);
    match route {
        Acl::Bootstrap => tokens::bootstrap(server, request).await,
        Acl::Login => login::login(server, request).await,
        Acl::Logout => login::logout(server, &request).await,
        Acl::Replication => copies::show(server, &request).await,
        Acl::Tokens => tokens::list(server, &request).await,
        Acl::TokenNew => tokens::create(server, request).await,
        Acl::TokenSelf => tokens::own(server, &request).await,
        Acl::Token => tokens::one(server, request, rest).await,
        Acl::Policies => policies::list(server, &request).await,
        Acl::PolicyNew => policies::create(server, request).await,
        Acl::PolicyNamed => rows::show_named::<AclPolicy, A>(server, &request, rest).await,
        Acl::Policy => policies::one(server, request, rest).await,
        Acl::Roles => roles::list(server, &request).await,
        Acl::RoleNew => roles::create(server, request).await,
        Acl::RoleNamed => rows::show_named::<AclRole, A>(server, &request, rest).await,
        Acl::Role => roles::one(server, request, rest).await,
        Acl::Methods => methods::list(server, &request).await,
        Acl::MethodNew => methods::create(server, request).await,
        Acl::Method => methods::one(server, request, rest).await,
        Acl::BindingRules => methods::rules(server, &request).await,
        Acl::BindingRuleNew => methods::create_rule(server, request).await,
        Acl::BindingRule => methods::one_rule(server, request, rest).await,
        Acl::Templates => Ok(templates::list(server, &request)),
        Acl::TemplateNamed => templates::named(server, &request, &rest),
        Acl::TemplatePreview => templates::preview(server, request, &rest).await,
    }
}

/// Asks as a client asks, with the headers of the answer.
async fn shown<A: Api>(
    server: &Server<A>,
    params: &Params,
    query: AclQuery,
) -> Result<(AclAnswer, Headers), Error> {
    match read(server, params, Query::Acl(query)).await? {
        (Answer::Acl(answer), headers) => Ok((answer, headers)),
        _ => Err(unexpected()),
    }
}

/// Asks for what is to be changed.
async fn now<A: Api>(server: &Server<A>, query: AclQuery) -> Result<AclAnswer, Error> {
    let reply = server.api().read(Query::Acl(query), ReadOptions::default());
    match reply.await?.answer {
        Answer::Acl(answer) => Ok(answer),
        _ => Err(unexpected()),
    }
}

/// Proposes a change; false when somebody else changed the same row first.
async fn change<A: Api>(server: &Server<A>, step: AclStep) -> Result<bool, Error> {
    match server.propose(Command::Acl(step)).await? {
        Outcome::Error {
            code: Refusal::AclChanged,
            ..
        } => Ok(false),
        Outcome::Error {
            code: Refusal::AclBootstrapped,
            text,
        } => Err(Error {
            status: hyper::StatusCode::FORBIDDEN,
            text: text.into(),
        }),
        Outcome::Error { text, .. } => Err(Error::internal(text)),
        _ => Ok(true),
    }
}

fn changed_again() -> Error {
    Error::internal("somebody else changes it all the time: try again")
}

/// The body of a request.
async fn body<A: Api, T: DeserializeOwned>(
    server: &Server<A>,
    request: &mut Request,
) -> Result<T, Error> {
    let body = request.body(server.settings().kv_max_value_size).await?;
    json::decode(&body)
}

fn parse_id(text: &str, what: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text)
        .map_err(|_| Error::bad_request(format!("Invalid {what} {text:?}: not a UUID")))
}

/// A name or an id of something else.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LinkBody {
    id: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceBody {
    servicename: String,
    datacenters: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeBody {
    nodename: String,
    datacenter: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TemplatedBody {
    templatename: String,
    templatevariables: VariablesBody,
    datacenters: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VariablesBody {
    name: String,
}

/// What a token or a role allows, as it is sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GrantsBody {
    policies: Vec<LinkBody>,
    serviceidentities: Vec<ServiceBody>,
    nodeidentities: Vec<NodeBody>,
    templatedpolicies: Vec<TemplatedBody>,
}

impl GrantsBody {
    /// With ids in place of names.
    async fn into_grants<A: Api>(self, server: &Server<A>) -> Result<AclGrants, Error> {
        let policies = rows::ids_of::<AclPolicy, A>(server, self.policies).await?;
        let services = self.serviceidentities.into_iter();
        let nodes = self.nodeidentities.into_iter();
        let templated = self.templatedpolicies.into_iter();
        Ok(AclGrants {
            policies,
            service_identities: services
                .map(|one| ServiceIdentity {
                    service_name: one.servicename,
                    datacenters: one.datacenters,
                })
                .collect(),
            node_identities: nodes
                .map(|one| NodeIdentity {
                    node_name: one.nodename,
                    datacenter: one.datacenter,
                })
                .collect(),
            templated_policies: templated
                .map(|one| TemplatedPolicy {
                    template_name: one.templatename,
                    name: one.templatevariables.name,
                    datacenters: one.datacenters,
                })
                .collect(),
        })
    }
}

#[derive(Serialize)]
struct Link<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    #[serde(rename = "Name")]
    name: &'a str,
}

/// Links to what still exists.
fn links<'a>(ids: &[Uuid], names: &'a Names) -> Vec<Link<'a>> {
    let links = ids.iter().filter_map(|id| {
        let name = names.get(id)?;
        Some(Link { id: *id, name })
    });
    links.collect()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceView<'a> {
    service_name: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    datacenters: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeView<'a> {
    node_name: &'a str,
    datacenter: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TemplatedView<'a> {
    template_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    template_variables: Option<VariablesView<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    datacenters: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct VariablesView<'a> {
    name: &'a str,
}

/// What a token or a role allows, as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GrantsView<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<Link<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service_identities: Vec<ServiceView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    node_identities: Vec<NodeView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    templated_policies: Vec<TemplatedView<'a>>,
}

impl<'a> GrantsView<'a> {
    fn of(grants: &'a AclGrants, names: &'a Names) -> Self {
        let services = grants.service_identities.iter();
        let nodes = grants.node_identities.iter();
        let templated = grants.templated_policies.iter();
        Self {
            policies: links(&grants.policies, names),
            service_identities: services
                .map(|one| ServiceView {
                    service_name: &one.service_name,
                    datacenters: &one.datacenters,
                })
                .collect(),
            node_identities: nodes
                .map(|one| NodeView {
                    node_name: &one.node_name,
                    datacenter: &one.datacenter,
                })
                .collect(),
            templated_policies: templated
                .map(|one| TemplatedView {
                    template_name: &one.template_name,
                    template_variables: (!one.name.is_empty())
                        .then_some(VariablesView { name: &one.name }),
                    datacenters: &one.datacenters,
                })
                .collect(),
        }
    }
}

/// Changes with the content; nobody can tell more from it.
fn hash(content: &impl Serialize) -> String {
    let bytes = postcard::to_stdvec(content).unwrap_or_default();
    STANDARD.encode(Sha256::digest(&bytes))
}

fn hash_of_policy(policy: &AclPolicy) -> String {
    hash(&(
        &policy.name,
        &policy.description,
        &policy.rules,
        &policy.datacenters,
    ))
}

fn hash_of_role(role: &AclRole) -> String {
    hash(&(&role.name, &role.description, &role.grants))
}
