//! Datacenters that copy policies, roles and tokens: how that goes, and where such are written.

use serde::Serialize;
use uuid::Uuid;

use super::{Acl, AclAnswer, AclQuery, now};
use crate::acl::copies::Copying;
use crate::http::body::Response;
use crate::http::connect::time;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};

/// `/v1/acl/replication`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct View<'a> {
    enabled: bool,
    running: bool,
    source_datacenter: &'a str,
    replication_type: &'static str,
    replicated_index: u64,
    replicated_role_index: u64,
    replicated_token_index: u64,
    last_success: String,
    last_error: String,
    last_error_message: &'a str,
}

pub(super) async fn show<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    let at = |time_ms: Option<u64>| time_ms.map_or_else(|| NEVER.to_owned(), time);
    let copying = match server.is_of_primary() {
        true => Copying::default(),
        false => server.api().copying().await?,
    };
    let view = View {
        enabled: copying.enabled,
        running: copying.enabled,
        source_datacenter: &copying.source,
        replication_type: if copying.enabled { "tokens" } else { "" },
        replicated_index: copying.policies,
        replicated_role_index: copying.roles,
        replicated_token_index: copying.tokens,
        last_success: at(copying.success_ms),
        last_error: at(copying.error_ms),
        last_error_message: &copying.error,
    };
    Ok(server.json(&request.params, &view))
}

/// Whether a request changes what others copy from the primary datacenter, whatever it says. Of tokens, they decide.
pub(super) fn is_of_primary(route: Acl, method: &str) -> bool {
    let is_read = matches!(method, "GET" | "HEAD");
    match route {
        Acl::Bootstrap | Acl::PolicyNew | Acl::Policy | Acl::RoleNew | Acl::Role => !is_read,
        Acl::Login
        | Acl::Logout
        | Acl::Replication
        | Acl::Tokens
        | Acl::TokenNew
        | Acl::TokenSelf
        | Acl::Token
        | Acl::Policies
        | Acl::PolicyNamed
        | Acl::Roles
        | Acl::RoleNamed
        | Acl::Methods
        | Acl::MethodNew
        | Acl::Method
        | Acl::BindingRules
        | Acl::BindingRuleNew
        | Acl::BindingRule
        | Acl::Templates
        | Acl::TemplateNamed
        | Acl::TemplatePreview => false,
    }
}

/// The primary datacenter, where the one that is asked copies from it.
pub(super) async fn primary<A: Api>(server: &Server<A>) -> Result<Option<Server<A>>, Error> {
    if server.is_of_primary() {
        return Ok(None);
    }
    let copies = server.api().copying().await?.enabled;
    Ok(copies.then(|| server.at(&server.settings().primary_datacenter)))
}

/// Where a token is changed: one that is local, or nowhere else either, where it is.
pub(super) async fn owner<A: Api>(
    server: &Server<A>,
    accessor: Uuid,
) -> Result<Option<Server<A>>, Error> {
    if server.is_of_primary() {
        return Ok(None);
    }
    match now(server, AclQuery::Token(accessor)).await? {
        AclAnswer::Tokens(rows, _) if rows.iter().any(|row| row.local) => Ok(None),
        _ => primary(server).await,
    }
}
