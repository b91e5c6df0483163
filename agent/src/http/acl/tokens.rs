//! `/v1/acl/token` and `/v1/acl/tokens`, and the first token.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::policies::PolicyView;
use super::roles::RoleView;
use super::rows::{self, Kind, Names};
use super::{
    GrantsBody, GrantsView, Link, LinkBody, body, change, changed_again, copies, hash, links, now,
    parse_id, shown,
};
use crate::duration::GoDuration;
use crate::http::blocking::Headers;
use crate::http::body::Response;
use crate::http::connect::time;
use crate::http::error::{Error, wrong_method};
use crate::http::request::Request;
use crate::http::{Api, Server};
use crate::state::{
    AclAnswer, AclGrants, AclPolicy, AclQuery, AclRole, AclStep, AclToken, GLOBAL_MANAGEMENT,
    TokenFilter,
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TokenView<'a> {
    /// Of the first token only: what its secret was called before.
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "AccessorID")]
    accessor: Uuid,
    #[serde(rename = "SecretID")]
    secret: &'a str,
    description: &'a str,
    #[serde(flatten)]
    grants: GrantsView<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<Link<'a>>,
    local: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    auth_method: &'a str,
    create_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_time: Option<String>,
    hash: String,
    create_index: u64,
    modify_index: u64,
}

impl<'a> TokenView<'a> {
    pub(super) fn of(token: &'a AclToken, names: &'a Names) -> Self {
        Self {
            id: None,
            accessor: token.accessor,
            secret: &token.secret,
            description: &token.description,
            grants: GrantsView::of(&token.grants, names),
            roles: links(&token.roles, names),
            local: token.local,
            auth_method: &token.auth_method,
            create_time: time(token.created_ms),
            expiration_time: token.expires_ms.map(time),
            hash: hash(&(&token.description, &token.grants, &token.roles, token.local)),
            create_index: token.create_index,
            modify_index: token.modify_index,
        }
    }
}

impl Kind for AclToken {
    const NOUN: &'static str = "token";

    type Key = Uuid;
    type View<'a> = TokenView<'a>;

    fn key(&self) -> Uuid {
        self.accessor
    }

    fn modify_index(&self) -> u64 {
        self.modify_index
    }

    fn view<'a>(&'a self, names: &'a Names) -> TokenView<'a> {
        TokenView::of(self, names)
    }

    fn query(accessor: Uuid) -> AclQuery {
        AclQuery::Token(accessor)
    }

    fn rows(answer: AclAnswer) -> Option<(Vec<Arc<Self>>, Names)> {
        match answer {
            AclAnswer::Tokens(rows, names) => Some((rows, names)),
            _ => None,
        }
    }

    fn set(token: Box<Self>, cas: u64) -> AclStep {
        AclStep::SetToken { token, cas }
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.is_expired(now_ms)
    }

    fn missing() -> Error {
        Error {
            status: StatusCode::FORBIDDEN,
            text: "token does not exist: ACL not found".into(),
        }
    }
}

/// A token with all that it stands for.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Expanded<'a> {
    #[serde(flatten)]
    token: TokenView<'a>,
    expanded_policies: Vec<PolicyView<'a>>,
    expanded_roles: Vec<RoleView<'a>>,
    #[serde(rename = "AgentACLDefaultPolicy")]
    default_policy: &'a str,
    resolved_by_agent: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    accessorid: String,
    secretid: String,
    description: String,
    #[serde(flatten)]
    grants: GrantsBody,
    roles: Vec<LinkBody>,
    local: bool,
    expirationttl: Option<GoDuration>,
    expirationtime: Option<String>,
}

impl Body {
    /// When the token's time is over.
    fn end(&self, now_ms: u64) -> Result<Option<u64>, Error> {
        let bad = |text: String| Err(Error::bad_request(text));
        match (self.expirationttl, &self.expirationtime) {
            (Some(GoDuration(ttl)), Some(_)) if !ttl.is_zero() => {
                bad("Token Expiration TTL and Expiration Time cannot both be set".to_owned())
            }
            (_, Some(text)) => match text.parse::<jiff::Timestamp>() {
                Ok(end) => Ok(Some(u64::try_from(end.as_millisecond()).unwrap_or(0))),
                Err(error) => bad(format!("Invalid ExpirationTime {text:?}: {error}")),
            },
            (Some(GoDuration(Duration::ZERO)) | None, None) => Ok(None),
            (Some(GoDuration(ttl)), None) => {
                let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                Ok(Some(now_ms.saturating_add(ttl)))
            }
        }
    }

    async fn into_token<A: Api>(
        self,
        server: &Server<A>,
        expires_ms: Option<u64>,
    ) -> Result<AclToken, Error> {
        let roles = rows::ids_of::<AclRole, A>(server, self.roles).await?;
        Ok(AclToken {
            secret: self.secretid,
            description: self.description,
            grants: self.grants.into_grants(server).await?,
            roles,
            local: self.local,
            expires_ms,
            ..AclToken::default()
        })
    }
}

/// The first token.
pub(super) async fn bootstrap<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Sent {
        bootstrapsecret: String,
    }
    let body = request.body(server.settings().kv_max_value_size).await?;
    let Sent { bootstrapsecret } = match body.trim_ascii().is_empty() {
        true => Sent::default(),
        false => crate::http::json::decode(&body)?,
    };
    let secret = match bootstrapsecret.as_str() {
        "" => server.random().uuid(),
        text => parse_id(text, "BootstrapSecret")?,
    };
    let token = AclToken {
        accessor: server.random().uuid(),
        secret: secret.to_string(),
        description: "Bootstrap Token (Global Management)".to_owned(),
        grants: AclGrants {
            policies: vec![GLOBAL_MANAGEMENT],
            ..AclGrants::default()
        },
        created_ms: server.unix_ms(),
        ..AclToken::default()
    };
    let step = AclStep::Bootstrap {
        token: Box::new(token.clone()),
        reset: 0,
    };
    if !change(server, step).await? {
        return Err(changed_again());
    }
    let server = server.with(&token.secret);
    let (row, names) = rows::find::<AclToken, A>(&server, token.accessor).await?;
    let view = TokenView {
        id: Some(&row.secret),
        ..TokenView::of(&row, &names)
    };
    Ok(server.json(&request.params, &view))
}

pub(super) async fn list<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let params = &request.params;
    let id = |name: &str, what: &str| {
        let given = params.given(name);
        given.map(|id| parse_id(id, what)).transpose()
    };
    let filter = TokenFilter {
        policy: id("policy", "policy ID")?,
        role: id("role", "role ID")?,
        method: params.given("authmethod").map(str::to_owned),
        service: params.given("servicename").map(str::to_owned),
    };
    let (answer, headers) = shown(server, params, AclQuery::Tokens(filter)).await?;
    let (found, names) = rows::rows::<AclToken, A>(server, answer)?;
    let views: Vec<_> = found.iter().map(|row| TokenView::of(row, &names)).collect();
    Ok(headers.on(server.json(params, &views)))
}

pub(super) async fn create<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let sent: Body = body(server, &mut request).await?;
    let primary = match sent.local {
        true => None,
        false => copies::primary(server).await?,
    };
    let server = primary.as_ref().unwrap_or(server);
    let now_ms = server.unix_ms();
    let end = sent.end(now_ms)?;
    let accessor = match sent.accessorid.as_str() {
        "" => server.random().uuid(),
        text => parse_id(text, "AccessorID")?,
    };
    if !sent.secretid.is_empty() {
        parse_id(&sent.secretid, "SecretID")?;
    }
    let mut token = sent.into_token(server, end).await?;
    (token.accessor, token.created_ms) = (accessor, now_ms);
    if token.secret.is_empty() {
        token.secret = server.random().uuid().to_string();
    }
    let written = rows::write(server, &request, token, 0).await?;
    written.ok_or_else(|| Error::internal("Invalid Token: AccessorID is already in use"))
}

/// The asker's own.
pub(super) async fn own<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let query = AclQuery::SecretToken(server.api().secret());
    show(server, request, query).await
}

async fn show<A: Api>(
    server: &Server<A>,
    request: &Request,
    query: AclQuery,
) -> Result<Response, Error> {
    let (answer, headers) = shown(server, &request.params, query).await?;
    let (row, names) = rows::only::<AclToken, A>(server, answer)?;
    if request.params.has("expanded") {
        return expanded(server, request, &row, &names, headers).await;
    }
    Ok(headers.on(server.json(&request.params, &TokenView::of(&row, &names))))
}

async fn expanded<A: Api>(
    server: &Server<A>,
    request: &Request,
    row: &AclToken,
    names: &Names,
    headers: Headers,
) -> Result<Response, Error> {
    let mut all_roles: Vec<(Arc<AclRole>, Names)> = Vec::new();
    for id in &row.roles {
        let (found, names) =
            rows::rows::<AclRole, A>(server, now(server, AclQuery::Role(*id)).await?)?;
        all_roles.extend(found.into_iter().map(|role| (role, names.clone())));
    }
    let of_roles = all_roles.iter().flat_map(|(role, _)| &role.grants.policies);
    let mut wanted: Vec<Uuid> = row
        .grants
        .policies
        .iter()
        .chain(of_roles)
        .copied()
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut all_policies: Vec<Arc<AclPolicy>> = Vec::new();
    for id in wanted {
        let found = now(server, AclQuery::Policy(id)).await?;
        all_policies.extend(rows::rows::<AclPolicy, A>(server, found)?.0);
    }
    let view = Expanded {
        token: TokenView::of(row, names),
        expanded_policies: all_policies.iter().map(|row| PolicyView::of(row)).collect(),
        expanded_roles: all_roles
            .iter()
            .map(|(role, names)| RoleView::of(role, names))
            .collect(),
        default_policy: server.settings().default_policy,
        resolved_by_agent: &server.settings().node_name,
    };
    Ok(headers.on(server.json(&request.params, &view)))
}

pub(super) async fn one<A: Api>(
    server: &Server<A>,
    mut request: Request,
    rest: String,
) -> Result<Response, Error> {
    if rest.is_empty() {
        return Err(Error::bad_request("Missing token AccessorID"));
    }
    if let Some(id) = rest.strip_suffix("/clone") {
        return match request.method.as_str() {
            "PUT" => {
                let accessor = parse_id(id, "AccessorID")?;
                let owner = copies::owner(server, accessor).await?;
                clone(owner.as_ref().unwrap_or(server), request, accessor).await
            }
            method => Ok(wrong_method(method, &["PUT"])),
        };
    }
    let accessor = parse_id(&rest, "AccessorID")?;
    let owner = match request.method.as_str() {
        "PUT" | "DELETE" => copies::owner(server, accessor).await?,
        _ => None,
    };
    let server = owner.as_ref().unwrap_or(server);
    match request.method.as_str() {
        "PUT" => {
            let sent: Body = body(server, &mut request).await?;
            if !sent.accessorid.is_empty() && sent.accessorid != rest {
                return Err(Error::bad_request(
                    "Token Accessor ID in URL and payload do not match",
                ));
            }
            let now_ms = server.unix_ms();
            let end = sent.end(now_ms)?;
            let token = sent.into_token(server, end).await?;
            rows::replace(server, &request, accessor, |known| {
                updated(known, token.clone())
            })
            .await
        }
        "DELETE" => {
            let (known, _) = rows::find::<AclToken, A>(server, accessor).await?;
            if known.secret == server.api().secret() {
                return Err(Error::bad_request(
                    "Deletion of the request's authorization token is not permitted",
                ));
            }
            rows::delete(server, &request, AclStep::DeleteTokens(vec![accessor])).await
        }
        _ => show(server, &request, AclQuery::Token(accessor)).await,
    }
}

/// A known token with what may change of it.
fn updated(known: &AclToken, sent: AclToken) -> Result<AclToken, Error> {
    let refuse = |text: &'static str| Err(Error::bad_request(text));
    if !sent.secret.is_empty() && sent.secret != known.secret {
        return refuse("Changing a token's SecretID is not permitted");
    }
    if sent.local != known.local {
        return refuse("Cannot toggle local mode of a token");
    }
    if sent.expires_ms.is_some() && sent.expires_ms != known.expires_ms {
        return refuse("Cannot change the expiration time of a token");
    }
    Ok(AclToken {
        description: sent.description,
        grants: sent.grants,
        roles: sent.roles,
        ..known.clone()
    })
}

async fn clone<A: Api>(
    server: &Server<A>,
    mut request: Request,
    accessor: Uuid,
) -> Result<Response, Error> {
    let body = request.body(server.settings().kv_max_value_size).await?;
    let sent: Body = match body.trim_ascii().is_empty() {
        true => Body::default(),
        false => crate::http::json::decode(&body)?,
    };
    let (known, _) = rows::find::<AclToken, A>(server, accessor).await?;
    if !known.auth_method.is_empty() {
        return Err(Error::bad_request(
            "Cannot clone a token created from an auth method",
        ));
    }
    let description = match sent.description.as_str() {
        "" => known.description.clone(),
        text => text.to_owned(),
    };
    let token = AclToken {
        accessor: server.random().uuid(),
        secret: server.random().uuid().to_string(),
        description,
        created_ms: server.unix_ms(),
        ..AclToken::clone(&known)
    };
    let written = rows::write(server, &request, token, 0).await?;
    written.ok_or_else(changed_again)
}
