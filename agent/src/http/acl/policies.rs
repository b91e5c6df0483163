//! `/v1/acl/policy` and `/v1/acl/policies`.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{TRIES, body, change, changed_again, hash_of_policy, now, parse_id, shown};
use crate::http::body::Response;
use crate::http::catalog::unexpected;
use crate::http::error::Error;
use crate::http::request::Request;
use crate::http::{Api, Server};
use crate::state::{AclAnswer, AclPolicy, AclQuery, AclStep};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyView<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    name: &'a str,
    description: &'a str,
    /// Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    datacenters: &'a [String],
    hash: String,
    create_index: u64,
    modify_index: u64,
}

impl<'a> PolicyView<'a> {
    pub(super) fn of(policy: &'a AclPolicy) -> Self {
        Self {
            id: policy.id,
            name: &policy.name,
            description: &policy.description,
            rules: Some(&policy.rules),
            datacenters: &policy.datacenters,
            hash: hash_of_policy(policy),
            create_index: policy.create_index,
            modify_index: policy.modify_index,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    id: String,
    name: String,
    description: String,
    rules: String,
    datacenters: Vec<String>,
}

impl Body {
    fn into_policy(self, id: Uuid) -> AclPolicy {
        AclPolicy {
            id,
            name: self.name,
            description: self.description,
            rules: self.rules,
            datacenters: self.datacenters,
            ..AclPolicy::default()
        }
    }
}

pub(super) async fn list<A: Api>(server: &Server<A>, request: &Request) -> Result<Response, Error> {
    let (answer, headers) = shown(server, &request.params, AclQuery::Policies).await?;
    let rows = rows(answer)?;
    let views = rows.iter().map(|row| PolicyView {
        rules: None,
        ..PolicyView::of(row)
    });
    Ok(headers.on(server.json(&request.params, &views.collect::<Vec<_>>())))
}

pub(super) async fn create<A: Api>(
    server: &Server<A>,
    mut request: Request,
) -> Result<Response, Error> {
    let body: Body = body(server, &mut request).await?;
    if !body.id.is_empty() {
        return Err(Error::bad_request(
            "Cannot specify the ID when creating a new policy",
        ));
    }
    let policy = body.into_policy(server.random().uuid());
    write(server, &request, policy, 0)
        .await?
        .ok_or_else(changed_again)
}

/// Writes a policy and shows it; `None` when somebody else was faster.
async fn write<A: Api>(
    server: &Server<A>,
    request: &Request,
    policy: AclPolicy,
    cas: u64,
) -> Result<Option<Response>, Error> {
    let id = policy.id;
    let policy = Box::new(policy);
    if !change(server, AclStep::SetPolicy { policy, cas }).await? {
        return Ok(None);
    }
    let row = find(server, id).await?.ok_or_else(missing)?;
    Ok(Some(server.json(&request.params, &PolicyView::of(&row))))
}

pub(super) async fn named<A: Api>(
    server: &Server<A>,
    request: &Request,
    name: String,
) -> Result<Response, Error> {
    if name.is_empty() {
        return Err(Error::bad_request("Missing policy Name"));
    }
    show(server, request, AclQuery::PolicyNamed(name)).await
}

async fn show<A: Api>(
    server: &Server<A>,
    request: &Request,
    query: AclQuery,
) -> Result<Response, Error> {
    let (answer, headers) = shown(server, &request.params, query).await?;
    let row = rows(answer)?.pop().ok_or_else(missing)?;
    Ok(headers.on(server.json(&request.params, &PolicyView::of(&row))))
}

pub(super) async fn one<A: Api>(
    server: &Server<A>,
    mut request: Request,
    rest: String,
) -> Result<Response, Error> {
    if rest.is_empty() {
        return Err(Error::bad_request("Missing policy ID"));
    }
    let id = parse_id(&rest, "policy ID")?;
    match request.method.as_str() {
        "PUT" => {
            let sent: Body = body(server, &mut request).await?;
            if !sent.id.is_empty() && sent.id != rest {
                return Err(Error::bad_request(
                    "Policy ID in URL and payload do not match",
                ));
            }
            let policy = sent.into_policy(id);
            for _ in 0..TRIES {
                let known = find(server, id).await?.ok_or_else(missing)?;
                let written = write(server, &request, policy.clone(), known.modify_index);
                if let Some(response) = written.await? {
                    return Ok(response);
                }
            }
            Err(changed_again())
        }
        "DELETE" => {
            change(server, AclStep::DeletePolicy(id)).await?;
            Ok(server.json(&request.params, &true))
        }
        _ => show(server, &request, AclQuery::Policy(id)).await,
    }
}

pub(super) async fn find<A: Api>(
    server: &Server<A>,
    id: Uuid,
) -> Result<Option<Arc<AclPolicy>>, Error> {
    Ok(rows(now(server, AclQuery::Policy(id)).await?)?.pop())
}

/// The id of the policy with that name.
pub(super) async fn id_of<A: Api>(server: &Server<A>, name: String) -> Result<Uuid, Error> {
    let found = rows(now(server, AclQuery::PolicyNamed(name.clone())).await?)?.pop();
    let found =
        found.ok_or_else(|| Error::internal(format!("No such ACL policy with name {name:?}")))?;
    Ok(found.id)
}

fn rows(answer: AclAnswer) -> Result<Vec<Arc<AclPolicy>>, Error> {
    match answer {
        AclAnswer::Policies(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

fn missing() -> Error {
    Error {
        status: StatusCode::NOT_FOUND,
        text: "Requested policy does not exist: ACL not found".into(),
    }
}
