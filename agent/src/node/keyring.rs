//! The keys of gossip: asked of every member of every pool, and changed at all of them or at none.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Error, Node};
use crate::gossip::{Gossip, KeyringOp, Member, Status};
use crate::rate::Operation;
use crate::rpc::{Answer, Request};

/// Members that are asked at a time.
const ASKED_AT_ONCE: usize = 32;

/// Longest time in which another datacenter must have answered.
const ACROSS: std::time::Duration = std::time::Duration::from_secs(30);

/// What the members of one pool said of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolKeys {
    /// Whether it is the pool of all datacenters' servers.
    pub wan: bool,
    /// The datacenter of whoever asked them.
    pub datacenter: String,
    /// How many members have each key, which is in base64.
    pub keys: BTreeMap<String, usize>,
    /// How many members seal with it.
    pub primary: BTreeMap<String, usize>,
    /// Members that were asked.
    pub nodes: usize,
    /// Why some did not do it, by name.
    pub errors: BTreeMap<String, String>,
}

impl PoolKeys {
    /// Puts together what its members said.
    fn of(
        wan: bool,
        datacenter: &str,
        said: impl IntoIterator<Item = (String, Result<Vec<String>, String>)>,
    ) -> Self {
        let mut pool = Self {
            wan,
            datacenter: datacenter.to_owned(),
            ..Self::default()
        };
        for (name, said) in said {
            pool.nodes += 1;
            match said {
                Err(error) => drop(pool.errors.insert(name, error)),
                Ok(keys) => {
                    if let Some(primary) = keys.first() {
                        *pool.primary.entry(primary.clone()).or_default() += 1;
                    }
                    for key in keys {
                        *pool.keys.entry(key).or_default() += 1;
                    }
                }
            }
        }
        pool
    }

    /// Why an operation may not be done at its members, who said this when they were asked for their keys.
    fn objects(&self, op: &KeyringOp) -> Option<String> {
        let has =
            |keys: &BTreeMap<String, usize>, key: &str| keys.get(key.trim()).copied().unwrap_or(0);
        match op {
            KeyringOp::List | KeyringOp::Install(_) => None,
            KeyringOp::Use(key) => {
                let lacking = self.nodes - has(&self.keys, &key.0);
                (lacking > 0).then(|| {
                    format!(
                        "Requested key is not in the keyring of {lacking} nodes: install it first"
                    )
                })
            }
            KeyringOp::Remove(key) => {
                let sealing = has(&self.primary, &key.0);
                (sealing > 0).then(|| {
                    format!("Removing the primary key is not allowed: {sealing} nodes use it")
                })
            }
        }
    }
}

impl Node {
    /// Does something with the keys of all members of all pools, or looks at them; with `own_only` in the own datacenter alone.
    ///
    /// What cannot be done everywhere is done nowhere: everybody is asked first. Members that were not reached are in the answer.
    ///
    /// # Errors
    /// When no server is reached, or it does not allow it.
    pub async fn keyring(&self, op: KeyringOp, own_only: bool) -> Result<Vec<PoolKeys>, Error> {
        self.enter(|| Operation::KEYRING)?;
        // What it asks of others is part of this one request.
        self.clone().uncounted().change_keys(op, own_only).await
    }

    async fn change_keys(&self, op: KeyringOp, own_only: bool) -> Result<Vec<PoolKeys>, Error> {
        let request = Request::Keyring {
            op: op.clone(),
            own_only,
        };
        if let Some(datacenter) = &self.elsewhere {
            let deadline = Instant::now() + ACROSS;
            return keys_of(
                self.across(datacenter, || request.clone(), deadline)
                    .await?,
            );
        }
        let Some(server) = &self.inner.server else {
            return keys_of(self.ask_servers(&request).await?);
        };
        server.check_request(&self.caller, &request)?;
        if matches!(op, KeyringOp::List | KeyringOp::Install(_)) {
            return Ok(self.ask_all(&op, own_only).await);
        }
        let mut found = self.ask_all(&KeyringOp::List, own_only).await;
        let mut refused = false;
        for pool in &mut found {
            if let Some(why) = pool.objects(&op) {
                pool.errors.insert("all".to_owned(), why);
            }
            refused |= !pool.errors.is_empty();
        }
        match refused {
            true => Ok(found),
            false => Ok(self.ask_all(&op, own_only).await),
        }
    }

    async fn ask_all(&self, op: &KeyringOp, own_only: bool) -> Vec<PoolKeys> {
        let own = &self.inner.config.datacenter;
        let mut pools = Vec::new();
        if let Some(wan) = &self.inner.wan
            && !own_only
        {
            let said = ask_pool(&wan.gossip, op).await;
            pools.push(PoolKeys::of(true, own, said));
        }
        let said = ask_pool(&self.inner.gossip, op).await;
        pools.push(PoolKeys::of(false, own, said));
        if own_only {
            return pools;
        }
        let others = self.datacenters().await.unwrap_or_default();
        for other in others.into_iter().filter(|other| other.name != *own) {
            let asked = Box::pin(self.at(&other.name).keyring(op.clone(), true)).await;
            match asked {
                Ok(theirs) => pools.extend(theirs),
                Err(error) => pools.push(PoolKeys::of(
                    false,
                    &other.name,
                    [(other.name.clone(), Err(error.to_string()))],
                )),
            }
        }
        pools
    }
}

fn keys_of(answer: Answer) -> Result<Vec<PoolKeys>, Error> {
    match answer {
        Answer::Keyring(pools) => Ok(pools),
        _ => Err(Error::Unknown),
    }
}

async fn ask_pool(gossip: &Gossip, op: &KeyringOp) -> Vec<(String, Result<Vec<String>, String>)> {
    let alive = |member: &Arc<Member>| member.status == Status::Alive;
    let members = gossip.members().into_iter().filter(alive);
    let asked = members.map(|member| async move {
        let said = gossip.change_keys_of(&member, op).await;
        (member.name.clone(), said)
    });
    let mut said: Vec<_> = futures::stream::iter(asked)
        .buffer_unordered(ASKED_AT_ONCE)
        .collect()
        .await;
    said.sort_by(|one, other| one.0.cmp(&other.0));
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::KeyText;

    #[test]
    fn what_one_member_cannot_do_is_done_by_none() {
        let ring = |keys: &[&str]| Ok(keys.iter().map(|key| (*key).to_owned()).collect());
        let pool = PoolKeys::of(
            false,
            "dc1",
            [
                ("a".to_owned(), ring(&["old", "new"])),
                ("b".to_owned(), ring(&["old"])),
            ],
        );
        assert_eq!((pool.keys["old"], pool.keys["new"]), (2, 1));
        assert_eq!((pool.primary["old"], pool.nodes), (2, 2));
        let op = |op: fn(KeyText) -> KeyringOp, key: &str| op(KeyText(key.to_owned()));
        assert!(pool.objects(&op(KeyringOp::Use, "new")).is_some());
        assert!(pool.objects(&op(KeyringOp::Use, "old")).is_none());
        assert!(pool.objects(&op(KeyringOp::Remove, "old")).is_some());
        assert!(pool.objects(&op(KeyringOp::Remove, "new")).is_none());
        assert!(pool.objects(&op(KeyringOp::Install, "x")).is_none());
    }
}
