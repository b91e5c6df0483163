//! Whoever asks: what their token is, and what it allows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Access, Authorizer, DefaultPolicy, Resource, Rules, template};
use crate::state::{ANONYMOUS_ACCESSOR, Acl, AclGrants, AclToken};

/// What a token allows, in a form that travels: an agent without tables decides by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The token's accessor.
    pub accessor: Uuid,
    /// Texts of all its rules.
    pub rules: Vec<String>,
    /// When its time is over: milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

impl Granted {
    /// What a token of these tables allows in a datacenter.
    pub fn by(acl: &Acl, token: &AclToken, datacenter: &str) -> Self {
        let mut rules = Vec::new();
        gather(acl, &token.grants, datacenter, &mut rules);
        for role in token.roles.iter().filter_map(|id| acl.role(id)) {
            gather(acl, &role.grants, datacenter, &mut rules);
        }
        Self {
            accessor: token.accessor,
            rules,
            expires_ms: token.expires_ms,
        }
    }
}

/// All texts of rules behind these grants.
fn gather(acl: &Acl, grants: &AclGrants, datacenter: &str, rules: &mut Vec<String>) {
    let here = |datacenters: &[String]| {
        datacenters.is_empty() || datacenters.iter().any(|one| one == datacenter)
    };
    let policies = grants.policies.iter().filter_map(|id| acl.policy(id));
    let policies = policies.filter(|policy| here(&policy.datacenters));
    rules.extend(policies.map(|policy| policy.rules.clone()));
    let mut render = |name: &str, variable: &str| {
        // One that cannot be rendered was refused when it was written, and allows nothing.
        let text = template(name).and_then(|template| template.render(variable).ok());
        rules.extend(text);
    };
    for identity in &grants.service_identities {
        if here(&identity.datacenters) {
            render("builtin/service", &identity.service_name);
        }
    }
    for identity in &grants.node_identities {
        if identity.datacenter == datacenter {
            render("builtin/node", &identity.node_name);
        }
    }
    for policy in &grants.templated_policies {
        if here(&policy.datacenters) {
            render(&policy.template_name, &policy.name);
        }
    }
}

/// Why somebody may not do what they asked for, in Consul's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

/// The holder of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    accessor: Uuid,
    authorizer: Authorizer,
    expires_ms: Option<u64>,
    /// Whether keys are only listed for those who may list them.
    lists_keys: bool,
}

impl Holder {
    /// Makes up what rules allow.
    ///
    /// # Errors
    /// When a text is no list of rules. Whoever leaves out such a one may leave out a denial.
    pub fn new(
        granted: &Granted,
        default: DefaultPolicy,
        lists_keys: bool,
    ) -> Result<Self, Denied> {
        let rules: Result<Vec<_>, _> = granted
            .rules
            .iter()
            .map(|text| Rules::parse(text))
            .collect();
        let rules = rules.map_err(|error| {
            let accessor = granted.accessor;
            Denied(format!(
                "the rules of the token with AccessorID '{accessor}' cannot be read: {error}"
            ))
        })?;
        Ok(Self {
            accessor: granted.accessor,
            authorizer: Authorizer::new(&rules, default),
            expires_ms: granted.expires_ms,
            lists_keys,
        })
    }

    /// The token's accessor.
    pub fn accessor(&self) -> Uuid {
        self.accessor
    }

    /// When the token's time is over: milliseconds since the Unix epoch.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }

    /// Whether the token's time is over.
    pub fn is_expired(&self, unix_ms: u64) -> bool {
        self.expires_ms.is_some_and(|end| end <= unix_ms)
    }

    /// Whether it takes more than reading them to list keys.
    pub(super) fn lists_keys(&self) -> bool {
        self.lists_keys
    }

    /// See [`Authorizer::allows`].
    pub fn may(&self, resource: Resource, name: &str, access: Access) -> bool {
        self.authorizer.allows(resource, name, access)
    }

    /// See [`Authorizer::allows_all`].
    pub fn may_all(&self, resource: Resource, access: Access) -> bool {
        self.authorizer.allows_all(resource, access)
    }

    /// See [`Authorizer::allows_below`].
    pub fn may_below(&self, resource: Resource, prefix: &str, access: Access) -> bool {
        self.authorizer.allows_below(resource, prefix, access)
    }

    /// See [`Authorizer::allows_any`].
    pub fn may_any(&self, resource: Resource, access: Access) -> bool {
        self.authorizer.allows_any(resource, access)
    }

    /// Refuses whoever may not do this.
    ///
    /// # Errors
    /// What is lacking.
    pub fn need(&self, resource: Resource, name: &str, access: Access) -> Result<(), Denied> {
        match self.may(resource, name, access) {
            true => Ok(()),
            false => Err(self.lacks(resource, name, access)),
        }
    }

    /// The same for everything whose name begins so.
    ///
    /// # Errors
    /// What is lacking.
    pub fn need_below(
        &self,
        resource: Resource,
        prefix: &str,
        access: Access,
    ) -> Result<(), Denied> {
        match self.may_below(resource, prefix, access) {
            true => Ok(()),
            false => Err(self.lacks(resource, prefix, access)),
        }
    }

    /// What to say to whoever may not do this.
    pub fn lacks(&self, resource: Resource, name: &str, access: Access) -> Denied {
        let is_anonymous = self.accessor == ANONYMOUS_ACCESSOR;
        let who = match is_anonymous {
            true => "anonymous token".to_owned(),
            false => format!("token with AccessorID '{}'", self.accessor),
        };
        let access = match access {
            Access::Read => "read",
            Access::List => "list",
            Access::Write => "write",
        };
        let what = resource.name();
        let on = match resource.is_named() && !name.is_empty() {
            true => format!(" on \"{name}\""),
            false => String::new(),
        };
        let hint = match is_anonymous {
            true => {
                ". The anonymous token is used implicitly when a request does not specify a token."
            }
            false => "",
        };
        Denied(format!(
            "Permission denied: {who} lacks permission '{what}:{access}'{on}{hint}"
        ))
    }
}

/// A holder that others share.
pub type SharedHolder = Arc<Holder>;
