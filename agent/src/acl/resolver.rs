//! From a token's secret to what its holder may do.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{DefaultPolicy, Denied, Granted, Holder, SharedHolder};
use crate::config;
use crate::state::{ANONYMOUS_SECRET, Acl};

/// Holders that are remembered. A few hundred bytes each for tokens of services.
const REMEMBERED_MAX: usize = 16 * 1024;

/// Resolves tokens by the tables, and remembers what it found until they change.
#[derive(Debug)]
pub struct Resolver {
    datacenter: String,
    default: DefaultPolicy,
    lists_keys: bool,
    found: RwLock<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// The last change of the tables that it is up to date with.
    index: u64,
    holders: HashMap<Box<str>, SharedHolder>,
}

impl Resolver {
    /// With the settings of an agent.
    pub fn new(settings: &config::Acl, datacenter: &str) -> Self {
        Self {
            datacenter: datacenter.to_owned(),
            default: settings.default_policy,
            lists_keys: settings.enable_key_list_policy,
            found: RwLock::default(),
        }
    }

    /// The holder of the token with this secret; an empty one stands for the anonymous token.
    ///
    /// # Errors
    /// When there is no such token, or its time is over.
    pub fn holder(&self, acl: &Acl, secret: &str, unix_ms: u64) -> Result<SharedHolder, Denied> {
        let secret = named(secret);
        let index = acl.grants_index();
        {
            let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
            if found.index == index
                && let Some(holder) = found.holders.get(secret)
            {
                return match holder.is_expired(unix_ms) {
                    false => Ok(holder.clone()),
                    true => Err(not_found(acl)),
                };
            }
        }
        let granted = self.granted(acl, secret, unix_ms)?;
        let holder = Arc::new(self.holder_of(&granted)?);
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        // A reader may have held an older version for long.
        if found.index < index || found.holders.len() >= REMEMBERED_MAX {
            found.holders.clear();
            found.index = index.max(found.index);
        }
        if found.index == index {
            found.holders.insert(secret.into(), holder.clone());
        }
        Ok(holder)
    }

    /// What the token with this secret allows, for an agent without tables.
    ///
    /// # Errors
    /// When there is no such token, or its time is over.
    pub fn granted(&self, acl: &Acl, secret: &str, unix_ms: u64) -> Result<Granted, Denied> {
        let token = acl.token_of(named(secret));
        let token = token.filter(|token| !token.is_expired(unix_ms));
        let token = token.ok_or_else(|| not_found(acl))?;
        Ok(Granted::by(acl, &token, &self.datacenter))
    }

    /// The holder of what somebody else has resolved.
    ///
    /// # Errors
    /// When its rules cannot be read.
    pub fn holder_of(&self, granted: &Granted) -> Result<Holder, Denied> {
        Holder::new(granted, self.default, self.lists_keys)
    }
}

fn named(secret: &str) -> &str {
    match secret {
        "" => ANONYMOUS_SECRET,
        secret => secret,
    }
}

fn not_found(acl: &Acl) -> Denied {
    // One that copies its tokens is never bootstrapped.
    let text = match acl.bootstrapped() == 0 && acl.is_empty() {
        true => {
            "ACL system must be bootstrapped before making any requests that require authorization: ACL not found"
        }
        false => "ACL not found",
    };
    Denied(text.to_owned())
}
