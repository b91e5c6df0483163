//! `/v1/acl/role` and `/v1/acl/roles`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rows::{self, Kind, Named, Names};
use super::{GrantsBody, GrantsView, body, changed_again, hash_of_role, parse_id, shown};
use crate::http::body::Response;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};
use crate::state::{AclAnswer, AclQuery, AclRole, AclStep};

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

impl Kind for AclRole {
    const NOUN: &'static str = "role";

    type Key = Uuid;
    type View<'a> = RoleView<'a>;

    fn key(&self) -> Uuid {
        self.id
    }

    fn modify_index(&self) -> u64 {
        self.modify_index
    }

    fn view<'a>(&'a self, names: &'a Names) -> RoleView<'a> {
        RoleView::of(self, names)
    }

    fn query(id: Uuid) -> AclQuery {
        AclQuery::Role(id)
    }

    fn rows(answer: AclAnswer) -> Option<(Vec<Arc<Self>>, Names)> {
        match answer {
            AclAnswer::Roles(rows, names) => Some((rows, names)),
            _ => None,
        }
    }

    fn set(role: Box<Self>, cas: u64) -> AclStep {
        AclStep::SetRole { role, cas }
    }
}

impl Named for AclRole {
    fn query_named(name: String) -> AclQuery {
        AclQuery::RoleNamed(name)
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
    let (found, names) = rows::rows::<AclRole, A>(server, answer)?;
    let views: Vec<_> = found.iter().map(|row| RoleView::of(row, &names)).collect();
    Ok(headers.on(server.json(&request.params, &views)))
}

pub(super) async fn create<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let body: Body = body(server, &mut request).await?;
    rows::refuse_id::<AclRole>(&body.id)?;
    let role = body.into_role(server, server.random().uuid()).await?;
    let written = rows::write(server, &request, role, 0).await?;
    written.ok_or_else(changed_again)
}

pub(super) async fn one<A: Api>(
    server: &Server<A>,
    mut request: Request,
    rest: String,
) -> Result<Response, Error> {
    let id = rows::id_in_path::<AclRole>(&rest)?;
    match request.method.as_str() {
        "PUT" => {
            let sent: Body = body(server, &mut request).await?;
            if !sent.id.is_empty() && sent.id != rest {
                return Err(Error::bad_request(
                    "Role ID in URL and payload do not match",
                ));
            }
            let role = sent.into_role(server, id).await?;
            rows::replace(server, &request, id, |_| Ok(role.clone())).await
        }
        "DELETE" => rows::delete(server, &request, AclStep::DeleteRole(id)).await,
        _ => rows::show::<AclRole, A>(server, &request, AclQuery::Role(id)).await,
    }
}
