//! The requests that this project's own programs send, typed.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::{Client, Error, Response};
use hyper::StatusCode;

/// `/v1/agent/self`, as far as it is used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentSelf {
    /// Datacenter, node name and id, version, whether it is a server.
    pub config: SelfConfig,
    /// The agent's own member record.
    pub member: AgentMember,
    /// The blocks that `info` prints.
    #[serde(default)]
    pub stats: BTreeMap<String, BTreeMap<String, String>>,
}

/// The `Config` part of [`AgentSelf`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SelfConfig {
    /// Datacenter.
    pub datacenter: String,
    /// Node name.
    pub node_name: String,
    /// Consul node id.
    #[serde(rename = "NodeID", default)]
    pub node_id: String,
    /// Whether it is a server.
    pub server: bool,
    /// Version of Consul that it says it is compatible with.
    #[serde(default)]
    pub version: String,
}

/// A member as `/v1/agent/members` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentMember {
    /// Node name.
    pub name: String,
    /// Gossip address without the port.
    pub addr: String,
    /// Gossip port.
    pub port: u16,
    /// What it says of itself.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Whether it takes part.
    pub status: MemberStatus,
    /// Protocol version in use.
    #[serde(default)]
    pub protocol_cur: u8,
}

/// Whether a member takes part, as a number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "u8")]
pub enum MemberStatus {
    /// Not known, or a number that this version does not know.
    None,
    /// Takes part.
    Alive,
    /// Said that it is about to leave.
    Leaving,
    /// Left gracefully.
    Left,
    /// Stopped answering without a word.
    Failed,
}

impl From<u8> for MemberStatus {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Alive,
            2 => Self::Leaving,
            3 => Self::Left,
            4 => Self::Failed,
            _ => Self::None,
        }
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        })
    }
}

/// `/v1/operator/raft/configuration`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RaftConfiguration {
    /// Voters and learners.
    pub servers: Vec<RaftPeer>,
    /// Log index of the configuration.
    pub index: u64,
}

/// One server of a [`RaftConfiguration`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RaftPeer {
    /// Consul node id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Node name; `(unknown)` when it is not in the catalog.
    pub node: String,
    /// Server RPC address.
    pub address: String,
    /// Whether it leads.
    pub leader: bool,
    /// `3`.
    #[serde(default)]
    pub protocol_version: String,
    /// Whether it votes.
    pub voter: bool,
    /// Last log index that the leader knows to be on it.
    #[serde(default)]
    pub last_index: u64,
}

/// An entry of the KV store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KvPair {
    /// Times that it was locked.
    pub lock_index: u64,
    /// Key.
    pub key: String,
    /// Number of the writer's own.
    pub flags: u64,
    /// Value; empty when none was stored.
    #[serde(default, deserialize_with = "base64_or_null")]
    pub value: Bytes,
    /// Session that holds the lock.
    #[serde(default)]
    pub session: Option<String>,
    /// Index at which it was created.
    pub create_index: u64,
    /// Index at which it was changed last.
    pub modify_index: u64,
}

/// Conditions and companions of a write to the KV store. The default writes whatever is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvPut {
    /// Stored with the value.
    pub flags: Option<u64>,
    /// Write only if the entry's modify index is this; 0: only if there is no entry.
    pub cas: Option<u64>,
    /// Take the lock for this session.
    pub acquire: Option<String>,
    /// Give the lock of this session back.
    pub release: Option<String>,
    /// Write in this datacenter instead of the agent's own.
    pub datacenter: Option<String>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn base64_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    use base64::Engine as _;
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(Bytes::new());
    };
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(serde::de::Error::custom)
}

/// `text` for use inside a URL path: slashes stay, everything that could mean something else is escaped.
pub fn escape_path(text: &str) -> String {
    escape(text, b"-._~/")
}

/// A query string with its question mark; empty for no pairs. An absent value is a bare name.
pub fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(&escape(name, b"-._~"));
        if let Some(value) = value {
            text.push('=');
            text.push_str(&escape(value, b"-._~"));
        }
    }
    text
}

pub(super) fn escape(text: &str, kept: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

impl Client {
    /// Sends a GET and reads the JSON of a 2xx answer.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.get(path).await?.success()?;
        self.decode(path, &response)
    }

    /// Sends a body and reads a JSON answer.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn put_json<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, Error> {
        let response = self.put(path, body).await?.success()?;
        self.decode(path, &response)
    }

    fn decode<T: DeserializeOwned>(&self, path: &str, response: &Response) -> Result<T, Error> {
        serde_json::from_slice(&response.body).map_err(|source| Error::Decode {
            url: format!("{}{path}", self.address()),
            source,
        })
    }

    /// What the agent says of itself.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn self_(&self) -> Result<AgentSelf, Error> {
        self.get_json("/v1/agent/self").await
    }

    /// The blocks that `info` prints.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn stats(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        Ok(self.self_().await?.stats)
    }

    /// What the agent knows by gossip, in the agent's order.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn members(&self) -> Result<Vec<AgentMember>, Error> {
        self.get_json("/v1/agent/members").await
    }

    /// The servers of all datacenters, as the agent knows them by gossip.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn members_wan(&self) -> Result<Vec<AgentMember>, Error> {
        self.get_json("/v1/agent/members?wan=1").await
    }

    /// Makes the agent, a server, join the pool of the servers of all datacenters by `address`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn join_wan(&self, address: &str) -> Result<(), Error> {
        let address = escape(address, b"-._~:[]");
        self.put_done(&format!("/v1/agent/join/{address}?wan=1"))
            .await
    }

    /// As [`Client::force_leave`], in the pool of the servers of all datacenters.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn force_leave_wan(&self, node: &str, prune: bool) -> Result<(), Error> {
        let query = if prune { "&prune" } else { "" };
        let node = escape(node, b"-._~");
        self.put_done(&format!("/v1/agent/force-leave/{node}?wan=1{query}"))
            .await
    }

    /// Makes the agent join the pool of `address`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn join(&self, address: &str) -> Result<(), Error> {
        let path = format!("/v1/agent/join/{}", escape(address, b"-._~:[]"));
        self.put_done(&path).await
    }

    /// Makes the agent leave gracefully and stop; returns when the leave is over.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn leave(&self) -> Result<(), Error> {
        self.put_done("/v1/agent/leave").await
    }

    /// Turns a failed member into one that left; with `prune` it is forgotten at once.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn force_leave(&self, node: &str, prune: bool) -> Result<(), Error> {
        let query = if prune { "?prune" } else { "" };
        let path = format!("/v1/agent/force-leave/{}{query}", escape(node, b"-._~"));
        self.put_done(&path).await
    }

    /// Makes the agent read its configuration files again.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn reload(&self) -> Result<(), Error> {
        self.put_done("/v1/agent/reload").await
    }

    async fn put_done(&self, path: &str) -> Result<(), Error> {
        self.put(path, Bytes::new()).await?.success().map(drop)
    }

    /// Server address of the leader; `None` while there is none.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn leader(&self) -> Result<Option<String>, Error> {
        let leader: String = self.get_json("/v1/status/leader").await?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }

    /// The Raft configuration, from the leader; with `stale` from the agent's own server, even without a leader.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn raft_configuration(&self, stale: bool) -> Result<RaftConfiguration, Error> {
        let query = if stale { "?stale" } else { "" };
        self.get_json(&format!("/v1/operator/raft/configuration{query}"))
            .await
    }

    /// Removes a server from the Raft configuration by its RPC address.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn raft_remove_peer_by_address(&self, address: &str) -> Result<(), Error> {
        self.raft_remove_peer("address", address).await
    }

    /// Removes a server from the Raft configuration by its node id.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn raft_remove_peer_by_id(&self, id: &str) -> Result<(), Error> {
        self.raft_remove_peer("id", id).await
    }

    async fn raft_remove_peer(&self, name: &str, value: &str) -> Result<(), Error> {
        let query = query([(name, Some(value))]);
        let path = format!("/v1/operator/raft/peer{query}");
        self.delete(&path).await?.success().map(drop)
    }

    /// Hands leadership to the server with node id `id`, or to the one that is furthest ahead.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn raft_transfer_leader(&self, id: Option<&str>) -> Result<(), Error> {
        let query = query(id.map(|id| ("id", Some(id))));
        let path = format!("/v1/operator/raft/transfer-leader{query}");
        self.put_done(&path).await
    }

    /// One entry of the KV store; `None` when there is none. `params` as for [`query`]: `stale`, `consistent`, `dc`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn kv_get(
        &self,
        key: &str,
        params: &[(&str, Option<&str>)],
    ) -> Result<Option<KvPair>, Error> {
        let path = format!(
            "/v1/kv/{}{}",
            escape_path(key),
            query(params.iter().copied())
        );
        let pairs: Option<Vec<KvPair>> = self.get_unless_absent(&path).await?;
        Ok(pairs.and_then(|pairs| pairs.into_iter().next()))
    }

    /// Every entry below `prefix`, by key; none when there is none.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn kv_list(
        &self,
        prefix: &str,
        params: &[(&str, Option<&str>)],
    ) -> Result<Vec<KvPair>, Error> {
        let params = [("recurse", None)]
            .into_iter()
            .chain(params.iter().copied());
        let path = format!("/v1/kv/{}{}", escape_path(prefix), query(params));
        Ok(self.get_unless_absent(&path).await?.unwrap_or_default())
    }

    /// Every key below `prefix`, each up to the first `separator` after it; none when there is none.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn kv_keys(
        &self,
        prefix: &str,
        separator: &str,
        params: &[(&str, Option<&str>)],
    ) -> Result<Vec<String>, Error> {
        let params = [("keys", None), ("separator", Some(separator))]
            .into_iter()
            .chain(params.iter().copied());
        let path = format!("/v1/kv/{}{}", escape_path(prefix), query(params));
        Ok(self.get_unless_absent(&path).await?.unwrap_or_default())
    }

    /// Writes an entry; `false` when its condition did not hold.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn kv_put(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        put: &KvPut,
    ) -> Result<bool, Error> {
        let flags = put.flags.map(|n| n.to_string());
        let cas = put.cas.map(|n| n.to_string());
        let params = [
            ("flags", flags.as_deref()),
            ("cas", cas.as_deref()),
            ("acquire", put.acquire.as_deref()),
            ("release", put.release.as_deref()),
            ("dc", put.datacenter.as_deref()),
        ];
        let params = params.into_iter().filter(|(_, value)| value.is_some());
        let path = format!("/v1/kv/{}{}", escape_path(key), query(params));
        let response = self.put(&path, value).await?.success()?;
        self.decode(&path, &response)
    }

    /// Deletes an entry, if its modify index is `cas` where one is given; `false` when it is another.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn kv_delete(&self, key: &str, cas: Option<u64>) -> Result<bool, Error> {
        let cas = cas.map(|n| n.to_string());
        let query = query(cas.as_deref().map(|n| ("cas", Some(n))));
        self.delete_json(&format!("/v1/kv/{}{query}", escape_path(key)))
            .await
    }

    /// Deletes every entry below `prefix`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn kv_delete_tree(&self, prefix: &str) -> Result<bool, Error> {
        self.delete_json(&format!("/v1/kv/{}?recurse", escape_path(prefix)))
            .await
    }

    /// Sends a DELETE and reads the JSON of a 2xx answer.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn delete_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.delete(path).await?.success()?;
        self.decode(path, &response)
    }

    /// The KV endpoint says with 404 that there is nothing.
    async fn get_unless_absent<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        let response = self.get(path).await?;
        if response.status == StatusCode::NOT_FOUND && response.body.is_empty() {
            return Ok(None);
        }
        let response = response.success()?;
        self.decode(path, &response).map(Some)
    }
}
