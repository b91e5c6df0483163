//! `/v1/acl/role` and `/v1/acl/roles`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    GrantsBody, GrantsView, TRIES, body, change, changed_again, hash_of_role, now, parse_id, shown,
};
use crate::http::body::Response;
use crate::http::catalog::unexpected;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};
use crate::state::{AclAnswer, AclQuery, AclRole, AclStep};

type Names = BTreeMap<Uuid, String>;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RoleView<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'a str,
    description: &'a str,
    #[serde(flatten)]
    grants: GrantsView<'a>,
    hash: String,
    create_index: u64,
    modify_index: u64,
}

impl<'a> RoleView<'a> {
    pub(super) fn of(role: &'a AclRole, names: &'a Names) -> Self {
        Self {
            id: role.id,
            name: &role.name,
            description: &role.description,
            grants: GrantsView::of(&role.grants, names),
            hash: hash_of_role(role),
            create_index: role.create_index,
            modify_index: role.modify_index,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    id: String,
    name: String,
    description: String,
    #[serde(flatten)]
    grants: GrantsBody,
}

impl Body {
    async fn into_role<A: Api>(self, server: &Server<A>, id: Uuid) -> Result<AclRole, Error> {
        Ok(AclRole {
            id,
            name: self.name,
            description: self.description,
            grants: self.grants.into_grants(server).await?,
            ..AclRole::default()
        })
    }
}

pub(super) async fn list<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let policy = request.params.given("policy");
    let policy = policy.map(|id| parse_id(id, "policy ID")).transpose()?;
    let (answer, headers) = shown(server, &request.params, AclQuery::Roles(policy)).await?;
    let (rows, names) = rows(answer)?;
    let views: Vec<_> = rows.iter().map(|row| RoleView::of(row, &names)).collect();
    Ok(headers.on(server.json(&request.params, &views)))
}

pub(super) async fn create<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let body: Body = body(server, &mut request).await?;
    if !body.id.is_empty() {
        return Err(Error::bad_request(
            "Cannot specify the ID when creating a new role",
        ));
    }
    let role = body.into_role(server, server.random().uuid()).await?;
    write(server, &request, role, 0)
        .await?
        .ok_or_else(changed_again)
}

/// Writes a role and shows it; `None` when somebody else was faster.
async fn write<A: Api>(
    server: &Server<A>,
    request: &Request,
    role: AclRole,
    cas: u64,
) -> Result<Option<Response>, Error> {
    let id = role.id;
    let role = Box::new(role);
    if !change(server, AclStep::SetRole { role, cas }).await? {
        return Ok(None);
    }
    let (row, names) = find(server, id).await?;
    Ok(Some(
        server.json(&request.params, &RoleView::of(&row, &names)),
    ))
}

pub(super) async fn named<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    if name.is_empty() {
        return Err(Error::bad_request("Missing role Name"));
    }
    show(server, request, AclQuery::RoleNamed(name)).await
}

async fn show<A: Api>(
    server: &Server<A>,
    request: &Request,
    query: AclQuery,
) -> Result<Response, Error> {
    let (answer, headers) = shown(server, &request.params, query).await?;
    let (mut rows, names) = rows(answer)?;
    let row = rows.pop().ok_or_else(missing)?;
    Ok(headers.on(server.json(&request.params, &RoleView::of(&row, &names))))
}

pub(super) async fn one<A: Api>(
    server: &Server<A>,
    mut request: Request,
    rest: String,
) -> Result<Response, Error> {
    if rest.is_empty() {
        return Err(Error::bad_request("Missing role ID"));
    }
    let id = parse_id(&rest, "role ID")?;
    match request.method.as_str() {
        "PUT" => {
            let sent: Body = body(server, &mut request).await?;
            if !sent.id.is_empty() && sent.id != rest {
                return Err(Error::bad_request(
                    "Role ID in URL and payload do not match",
                ));
            }
            let role = sent.into_role(server, id).await?;
            for _ in 0..TRIES {
                let (known, _) = find(server, id).await?;
                let written = write(server, &request, role.clone(), known.modify_index);
                if let Some(response) = written.await? {
                    return Ok(response);
                }
            }
            Err(changed_again())
        }
        "DELETE" => {
            change(server, AclStep::DeleteRole(id)).await?;
            Ok(server.json(&request.params, &true))
        }
        _ => show(server, &request, AclQuery::Role(id)).await,
    }
}

async fn find<A: Api>(server: &Server<A>, id: Uuid) -> Result<(Arc<AclRole>, Names), Error> {
    let (mut rows, names) = rows(now(server, AclQuery::Role(id)).await?)?;
    Ok((rows.pop().ok_or_else(missing)?, names))
}

/// The id of the role with that name.
pub(super) async fn id_of<A: Api>(server: &Server<A>, name: String) -> Result<Uuid, Error> {
    let (mut found, _) = rows(now(server, AclQuery::RoleNamed(name.clone())).await?)?;
    let found = found
        .pop()
        .ok_or_else(|| Error::internal(format!("No such ACL role with name {name:?}")))?;
    Ok(found.id)
}

pub(super) fn rows(answer: AclAnswer) -> Result<(Vec<Arc<AclRole>>, Names), Error> {
    match answer {
        AclAnswer::Roles(rows, names) => Ok((rows, names)),
        _ => Err(unexpected()),
    }
}

fn missing() -> Error {
    Error {
        status: StatusCode::NOT_FOUND,
        text: "Requested role does not exist: ACL not found".into(),
    }
}
