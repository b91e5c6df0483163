//! Another key of gossip, without losing a member: known to everybody, then used by everybody, then the old one goes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{MadeAgain, Next, Vault};

/// One pool, as `/v1/operator/keyring` shows it: how many members have a key, and how many use it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Keyring {
    /// Members by key.
    pub keys: BTreeMap<String, u64>,
    /// Members by the key that they encrypt with.
    pub primary_keys: BTreeMap<String, u64>,
    /// Members of the pool.
    pub num_nodes: u64,
}

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOp {
    /// Members learn it.
    Install,
    /// Members encrypt with it.
    Use,
    /// Members forget it.
    Remove,
}

/// Whether a key is being replaced, or may have been when the vault was lost, so that the keyring is to be looked at.
pub fn under_way(vault: &Vault) -> bool {
    vault.gossip_next.is_some()
        || vault.gossip_old.is_some()
        || vault.made_again == MadeAgain::UnderWay
}

/// What comes next in a replacement that is under way.
pub(super) fn next(vault: &Vault, pools: &[Keyring], now: i64) -> Option<Next> {
    let all = |count: fn(&Keyring) -> &BTreeMap<String, u64>, key: &str| {
        pools
            .iter()
            .all(|pool| count(pool).get(key).copied().unwrap_or(0) >= pool.num_nodes)
    };
    if let Some(next) = &vault.gossip_next {
        if !all(|pool| &pool.keys, next) {
            return Some(Next::Keyring(KeyOp::Install, next.clone()));
        }
        // From now on whoever starts anew starts with it: everybody understands it.
        let kept = Vault {
            gossip_key: next.clone(),
            gossip_old: Some(vault.gossip_key.clone()),
            gossip_next: None,
            gossip_since: now,
            ..vault.clone()
        };
        let why = "every agent knows the new key of gossip".to_owned();
        return Some(Next::Keep(Box::new(kept), why));
    }
    let Some(old) = &vault.gossip_old else {
        return left_over(vault, pools);
    };
    let key = &vault.gossip_key;
    if !all(|pool| &pool.keys, key) {
        return Some(Next::Keyring(KeyOp::Install, key.clone()));
    }
    if !all(|pool| &pool.primary_keys, key) {
        return Some(Next::Keyring(KeyOp::Use, key.clone()));
    }
    if pools.iter().any(|pool| pool.keys.contains_key(old)) {
        return Some(Next::Keyring(KeyOp::Remove, old.clone()));
    }
    let kept = Vault {
        gossip_old: None,
        ..vault.clone()
    };
    let why = "no agent knows the old key of gossip any more".to_owned();
    Some(Next::Keep(Box::new(kept), why))
}

/// A key that agents know and a vault that was made again does not: a replacement was under way. The vault's own is what
/// agents are started with, so that one stays, and the other one goes as the old one does.
fn left_over(vault: &Vault, pools: &[Keyring]) -> Option<Next> {
    let mut known = pools.iter().flat_map(|pool| pool.keys.keys());
    let other = known.find(|key| **key != vault.gossip_key)?;
    let kept = Vault {
        gossip_old: Some(other.clone()),
        ..vault.clone()
    };
    let why = "agents know a key of gossip that was not in use for good".to_owned();
    Some(Next::Keep(Box::new(kept), why))
}
