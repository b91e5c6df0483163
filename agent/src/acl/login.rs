//! Logging in: what an auth method takes for a proof of who somebody is, and what they get for it. Pure.
//!
//! A *bearer token* is somebody else's word for an *identity*; binding rules of the method turn that into what a token of
//! ours allows. Fetching keys and asking Kubernetes is `crate::node`'s part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::config::Secret;
use crate::state::{AclMethod, AclToken};

mod backend;
mod bearer;
mod bind;
mod keys;
mod kubernetes;
mod pattern;
mod settings;
#[cfg(test)]
mod tests;

pub use bearer::{Head, Refused};
pub use bind::{Bound, bind, check_rule};
pub use keys::{Key, of_set};
pub use kubernetes::{Reviewed, annotation, path_of_account, read_review, review};
pub(super) use pattern::Pattern;
pub use settings::{Jwt, Kubernetes, Place, Remote, Settings, Source};

/// The longest bearer token: such with many groups have some kilobytes.
pub const BEARER_BYTES_MAX: usize = 64 * 1024;

/// The most that may be put into the description of a token.
const META_BYTES_MAX: usize = 16 * 1024;

/// What somebody sends who logs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Name of the auth method.
    pub method: String,
    /// What the identity is proven by.
    pub bearer: Secret,
    /// Put into the token's description.
    pub meta: BTreeMap<String, String>,
}

/// What they get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// The token.
    pub token: AclToken,
    /// Names of the policies and roles that it names.
    pub names: BTreeMap<Uuid, String>,
}

/// Whom a bearer token stands for, as far as an auth method is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What selectors of binding rules look at.
    pub fields: Value,
    /// What may stand in the names that they bind to: `value.team`.
    pub variables: BTreeMap<String, String>,
}

impl Login {
    /// What is wrong with it, whatever the method is.
    pub fn invalid(&self) -> Option<String> {
        let meta: usize = self.meta.iter().map(|(k, v)| k.len() + v.len()).sum();
        if meta > META_BYTES_MAX {
            return Some(format!(
                "Meta has {meta} bytes, and may have {META_BYTES_MAX}"
            ));
        }
        let bearer = self.bearer.0.len();
        (bearer > BEARER_BYTES_MAX).then(|| {
            format!("the bearer token has {bearer} bytes, and may have {BEARER_BYTES_MAX}")
        })
    }

    /// The description of the token, in Consul's words.
    fn description(&self) -> String {
        const MADE: &str = "token created via login";
        match serde_json::to_string(&self.meta) {
            Ok(meta) if !self.meta.is_empty() => format!("{MADE}: {meta}"),
            _ => MADE.to_owned(),
        }
    }

    /// The token that is handed out.
    pub fn token(
        &self,
        method: &AclMethod,
        bound: Bound,
        (accessor, secret): (Uuid, Uuid),
        unix_ms: u64,
    ) -> AclToken {
        let life = (method.max_ttl_ms > 0).then_some(method.max_ttl_ms);
        AclToken {
            accessor,
            secret: secret.to_string(),
            description: self.description(),
            grants: bound.grants,
            roles: bound.roles,
            local: method.token_locality != "global",
            auth_method: method.name.clone(),
            created_ms: unix_ms,
            expires_ms: life.map(|life| unix_ms.saturating_add(life)),
            ..AclToken::default()
        }
    }
}
