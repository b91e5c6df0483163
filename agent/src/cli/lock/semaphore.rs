//! A lock with several holders, by the recipe of Consul's own clients, so that both see each other's.
//!
//! Each contender has an entry under the prefix, locked by its session: it is gone when the session is. Who holds a place
//! is in the entry `.lock`, changed only on condition of its index; holders without an entry of their own count for nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{MONITOR_PAUSE, WAIT};
use crate::client::{Client, Error, KvPair, KvPut, Response, escape_path, query};

/// What Consul's own clients write into the entries of a semaphore.
const FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// Name of the entry that says who holds a place.
const KEY: &str = ".lock";

/// A place of a semaphore to be had.
pub(super) struct Semaphore {
    pub(super) client: Client,
    pub(super) prefix: String,
    pub(super) session: String,
    pub(super) limit: usize,
}

/// The content of the entry that says who holds a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Holders {
    limit: usize,
    holders: BTreeMap<String, bool>,
}

/// Why there is no place to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("semaphore limit conflict (lock: {lock}, local: {local})")]
    Limit { lock: usize, local: usize },
    #[error("existing key does not match semaphore use: {0}")]
    Foreign(String),
    #[error("failed to make contender entry: {0} is locked by another session")]
    Contender(String),
}

impl Semaphore {
    fn key(&self) -> String {
        format!("{}/{KEY}", self.prefix)
    }

    fn contender(&self) -> String {
        format!("{}/{}", self.prefix, self.session)
    }

    /// Waits until a place is ours.
    pub(super) async fn acquire(&self) -> Result<(), Failed> {
        let put = KvPut {
            flags: Some(FLAGS),
            acquire: Some(self.session.clone()),
            ..KvPut::default()
        };
        if !self
            .client
            .kv_put(&self.contender(), Vec::new(), &put)
            .await?
        {
            return Err(Failed::Contender(self.contender()));
        }
        let mut index = 0;
        loop {
            let (pairs, next) = self.look(index).await?;
            index = next;
            let (mut holders, modified) = self.holders(&pairs)?;
            if holders.limit != self.limit {
                return Err(Failed::Limit {
                    lock: holders.limit,
                    local: self.limit,
                });
            }
            if holders.holders.len() >= self.limit {
                // Until somebody's entry changes.
                continue;
            }
            holders.holders.insert(self.session.clone(), true);
            if self.write(&holders, modified).await? {
                return Ok(());
            }
            index = 0;
        }
    }

    /// Returns once the place is not ours any more, and why.
    pub(super) async fn lost(&self, retries: u32) -> String {
        let (mut index, mut failures) = (0, 0);
        loop {
            let looked = self.look(index).await.map_err(Failed::from);
            let holders = looked.and_then(|(pairs, next)| Ok((self.holders(&pairs)?.0, next)));
            match holders {
                Ok((holders, next)) if holders.holders.contains_key(&self.session) => {
                    (index, failures) = (next, 0);
                }
                Ok(_) => return "the session does not hold a place any more".to_owned(),
                Err(error) if failures >= retries => return error.to_string(),
                Err(_) => {
                    failures += 1;
                    sleep(MONITOR_PAUSE).await;
                }
            }
        }
    }

    /// All entries under the prefix, once their index is above the given one.
    async fn look(&self, index: u64) -> Result<(Vec<KvPair>, u64), Error> {
        let number = index.to_string();
        let mut params = vec![("recurse", None), ("consistent", None)];
        if index > 0 {
            params.extend([("index", Some(number.as_str())), ("wait", Some(WAIT))]);
        }
        let path = format!("/v1/kv/{}/{}", escape_path(&self.prefix), query(params));
        let response = self.client.get(&path).await?;
        let next = response.index().unwrap_or(0);
        if response.status.as_u16() == 404 {
            return Ok((Vec::new(), next));
        }
        let response = Response::success(response)?;
        let pairs = serde_json::from_slice(&response.body)
            .map_err(|source| Error::Decode { url: path, source })?;
        Ok((pairs, next))
    }

    /// Who holds a place and is alive, and the index on which a change depends.
    fn holders(&self, pairs: &[KvPair]) -> Result<(Holders, u64), Failed> {
        let key = self.key();
        let Some(pair) = pairs.iter().find(|pair| pair.key == key) else {
            let holders = Holders {
                limit: self.limit,
                holders: BTreeMap::new(),
            };
            return Ok((holders, 0));
        };
        if pair.flags != FLAGS {
            return Err(Failed::Foreign(key));
        }
        let mut holders: Holders =
            serde_json::from_slice(&pair.value).map_err(|_| Failed::Foreign(key))?;
        let alive = |session: &str| {
            let mut pairs = pairs.iter();
            pairs.any(|pair| pair.session.as_deref() == Some(session))
        };
        holders.holders.retain(|session, _| alive(session));
        Ok((holders, pair.modify_index))
    }

    async fn write(&self, holders: &Holders, modified: u64) -> Result<bool, Error> {
        let put = KvPut {
            flags: Some(FLAGS),
            cas: Some(modified),
            ..KvPut::default()
        };
        let value = serde_json::to_vec(holders).unwrap_or_default();
        self.client.kv_put(&self.key(), value, &put).await
    }

    /// Lets go of everything. What fails here ends by itself with the session.
    pub(super) async fn give_back(&self) {
        while let Ok((pairs, _)) = self.look(0).await {
            let Ok((mut holders, modified)) = self.holders(&pairs) else {
                break;
            };
            if holders.holders.remove(&self.session).is_none() {
                break;
            }
            match self.write(&holders, modified).await {
                Ok(true) | Err(_) => break,
                Ok(false) => {}
            }
        }
        let _ = self.client.kv_delete(&self.contender(), None).await;
        // The last one out leaves nothing behind.
        if let Ok((pairs, _)) = self.look(0).await
            && let Ok((holders, modified)) = self.holders(&pairs)
            && holders.holders.is_empty()
            && modified > 0
        {
            let _ = self.client.kv_delete(&self.key(), Some(modified)).await;
        }
        let path = format!("/v1/session/destroy/{}", self.session);
        let _ = self.client.put(&path, Bytes::new()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str, session: Option<&str>) -> KvPair {
        KvPair {
            lock_index: 0,
            key: key.into(),
            flags: FLAGS,
            value: Bytes::copy_from_slice(value.as_bytes()),
            session: session.map(str::to_owned),
            create_index: 1,
            modify_index: 7,
        }
    }

    fn semaphore() -> Semaphore {
        Semaphore {
            client: Client::new("127.0.0.1:1").unwrap(),
            prefix: "p".into(),
            session: "me".into(),
            limit: 2,
        }
    }

    #[test]
    fn holders_whose_sessions_are_gone_count_for_nothing() {
        let value = r#"{"Limit":2,"Holders":{"a":true,"b":true}}"#;
        let pairs = [pair("p/.lock", value, None), pair("p/a", "", Some("a"))];
        let (holders, index) = semaphore().holders(&pairs).unwrap();
        assert_eq!(holders.holders.into_keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(index, 7);
        let (holders, index) = semaphore().holders(&[]).unwrap();
        assert_eq!((holders.holders.len(), index), (0, 0));
    }

    #[test]
    fn an_entry_of_something_else_is_left_alone() {
        let mut foreign = pair("p/.lock", "{}", None);
        foreign.flags = 0;
        for pair in [foreign, pair("p/.lock", "no json", None)] {
            let refused = semaphore().holders(&[pair]);
            assert!(matches!(refused, Err(Failed::Foreign(_))));
        }
    }
}
