//! Tokens, policies, roles, auth methods and binding rules. What they allow, `crate::acl` knows; here they are rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod rows;
mod table;

pub use rows::{
    AclBindingRule, AclGrants, AclMethod, AclPolicy, AclRole, AclToken, NodeIdentity,
    ServiceIdentity, TemplatedPolicy,
};
pub use table::Acl;
pub(super) use table::{AclState as State, Parts};

use std::sync::Arc;

/// Accessor of the token of whoever names none.
pub const ANONYMOUS_ACCESSOR: Uuid = Uuid::from_u128(2);

/// Its secret, which nobody needs to know.
pub const ANONYMOUS_SECRET: &str = "anonymous";

/// The policy that allows everything.
pub const GLOBAL_MANAGEMENT: Uuid = Uuid::from_u128(1);

/// The policy that allows to look at everything.
pub const GLOBAL_READ_ONLY: Uuid = Uuid::from_u128(2);

/// A change of who may do what. Append only.
///
/// `cas` is the index of the row's last change as its writer knows it, 0 for a new row: a row that has been changed since
/// then is not overwritten. Indexes inside the rows do not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AclStep {
    /// Writes the first token, which may do everything. Only once, but for whoever knows the index of the last time.
    Bootstrap {
        /// The token.
        token: Box<AclToken>,
        /// Index of the last bootstrap; 0 if there should have been none.
        reset: u64,
    },
    /// Writes a token.
    SetToken {
        /// The token.
        token: Box<AclToken>,
        /// See above.
        cas: u64,
    },
    /// Removes tokens, by accessor. Done as well when there are none.
    DeleteTokens(Vec<Uuid>),
    /// Writes a policy.
    SetPolicy {
        /// The policy.
        policy: Box<AclPolicy>,
        /// See above.
        cas: u64,
    },
    /// Removes a policy. Tokens and roles that name it are as if they did not.
    DeletePolicy(Uuid),
    /// Writes a role.
    SetRole {
        /// The role.
        role: Box<AclRole>,
        /// See above.
        cas: u64,
    },
    /// Removes a role. Tokens that name it are as if they did not.
    DeleteRole(Uuid),
    /// Writes an auth method.
    SetMethod {
        /// The method.
        method: Box<AclMethod>,
        /// See above.
        cas: u64,
    },
    /// Removes an auth method, with its binding rules and the tokens that were handed out by it.
    DeleteMethod(String),
    /// Writes a binding rule.
    SetBindingRule {
        /// The rule.
        rule: Box<AclBindingRule>,
        /// See above.
        cas: u64,
    },
    /// Removes a binding rule.
    DeleteBindingRule(Uuid),
}

/// A read of who may do what. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AclQuery {
    /// Nothing. It changes with anything that a token may do.
    Grants,
    /// Tokens that answer to all of these.
    Tokens(TokenFilter),
    /// One token, by accessor.
    Token(Uuid),
    /// One token, by secret.
    SecretToken(String),
    /// All policies.
    Policies,
    /// One policy.
    Policy(Uuid),
    /// One policy by name.
    PolicyNamed(String),
    /// Roles that name this policy; `None` for all.
    Roles(Option<Uuid>),
    /// One role.
    Role(Uuid),
    /// One role by name.
    RoleNamed(String),
    /// All auth methods.
    Methods,
    /// One auth method.
    Method(String),
    /// Binding rules of this auth method; `None` for all.
    BindingRules(Option<String>),
    /// One binding rule.
    BindingRule(Uuid),
}

/// Which tokens are asked for; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFilter {
    /// Those that name this policy themselves.
    pub policy: Option<Uuid>,
    /// Those with this role.
    pub role: Option<Uuid>,
    /// Those that were handed out by this auth method.
    pub method: Option<String>,
    /// Those with an identity of this service themselves.
    pub service: Option<String>,
}

/// The result of an [`AclQuery`]; one row is a list of at most one. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AclAnswer {
    /// To [`AclQuery::Grants`].
    Nothing,
    /// Tokens, by accessor, with the names of what they name. A policy or role without a name does not exist any more.
    Tokens(Vec<Arc<AclToken>>, BTreeMap<Uuid, String>),
    /// Policies, by id.
    Policies(Vec<Arc<AclPolicy>>),
    /// Roles, by id, with the names of their policies, likewise.
    Roles(Vec<Arc<AclRole>>, BTreeMap<Uuid, String>),
    /// Auth methods, by name.
    Methods(Vec<Arc<AclMethod>>),
    /// Binding rules, by id.
    BindingRules(Vec<Arc<AclBindingRule>>),
}
