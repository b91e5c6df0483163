//! `/v1/acl/policy` and `/v1/acl/policies`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rows::{self, Kind, Named, Names};
use super::{body, changed_again, hash_of_policy, shown};
use crate::http::body::Response;
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

impl Kind for AclPolicy {
    const NOUN: &'static str = "policy";

    type Key = Uuid;
    type View<'a> = PolicyView<'a>;

    fn key(&self) -> Uuid {
        self.id
    }

    fn modify_index(&self) -> u64 {
        self.modify_index
    }

    fn view<'a>(&'a self, _: &'a Names) -> PolicyView<'a> {
        PolicyView::of(self)
    }

    fn query(id: Uuid) -> AclQuery {
        AclQuery::Policy(id)
    }

    fn rows(answer: AclAnswer) -> Option<(Vec<Arc<Self>>, Names)> {
        match answer {
            AclAnswer::Policies(rows) => Some((rows, Names::new())),
            _ => None,
        }
    }

    fn set(policy: Box<Self>, cas: u64) -> AclStep {
        AclStep::SetPolicy { policy, cas }
    }
}

impl Named for AclPolicy {
    fn query_named(name: String) -> AclQuery {
        AclQuery::PolicyNamed(name)
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
    let (found, _) = rows::rows::<AclPolicy, A>(server, answer)?;
    let views = found.iter().map(|row| PolicyView {
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
    rows::refuse_id::<AclPolicy>(&body.id)?;
    let policy = body.into_policy(server.random().uuid());
    let written = rows::write(server, &request, policy, 0).await?;
    written.ok_or_else(changed_again)
}

pub(super) async fn one<A: Api>(
    server: &Server<A>,
    mut request: Request,
    rest: String,
) -> Result<Response, Error> {
    let id = rows::id_in_path::<AclPolicy>(&rest)?;
    match request.method.as_str() {
        "PUT" => {
            let sent: Body = body(server, &mut request).await?;
            if !sent.id.is_empty() && sent.id != rest {
                return Err(Error::bad_request(
                    "Policy ID in URL and payload do not match",
                ));
            }
            let policy = sent.into_policy(id);
            rows::replace(server, &request, id, |_| Ok(policy.clone())).await
        }
        "DELETE" => rows::delete(server, &request, AclStep::DeletePolicy(id)).await,
        _ => rows::show::<AclPolicy, A>(server, &request, AclQuery::Policy(id)).await,
    }
}
