use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The check id of a node's own health, as gossip sees it.
pub const SERF_HEALTH: &str = "serfHealth";

/// A node of the catalog. Not every node runs an agent: some are registered from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Consul node id; `""` in JSON when the registration gave none.
    #[serde(rename = "ID", with = "optional_id")]
    pub id: Option<Uuid>,
    /// Name, unique without regard to case.
    pub node: String,
    /// IP address or host name.
    pub address: String,
    /// Datacenter that it is in.
    pub datacenter: String,
    /// Addresses by purpose: lan, wan, lan_ipv4 and so on.
    pub tagged_addresses: BTreeMap<String, String>,
    /// The operator's own data.
    pub meta: BTreeMap<String, String>,
    /// The log index that created it.
    pub create_index: u64,
    /// The log index of its last change.
    pub modify_index: u64,
}

/// An instance of a service on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Empty, or what kind of proxy or gateway it is.
    pub kind: String,
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Service name, matched without regard to case.
    pub service: String,
    /// Labels.
    pub tags: Vec<String>,
    /// Address if it differs from the node's.
    pub address: String,
    /// Addresses by purpose.
    pub tagged_addresses: BTreeMap<String, ServiceAddress>,
    /// The operator's own data.
    pub meta: BTreeMap<String, String>,
    /// Port.
    pub port: u16,
    /// Unix socket instead of a port.
    pub socket_path: String,
    /// Shares of SRV answers.
    pub weights: Weights,
    /// Whether tags written to the catalog by others stay.
    pub enable_tag_override: bool,
    /// What it has to do with the service mesh; none for most.
    pub mesh: Option<Box<Mesh>>,
    /// The log index that created it.
    pub create_index: u64,
    /// The log index of its last change.
    pub modify_index: u64,
}

/// What a service has to do with the service mesh. Kept and shown as it was given; the mesh itself is not here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// The service that this one is a proxy of; empty if it is none.
    pub destination: String,
    /// Whether it speaks the mesh's protocol itself.
    pub native: bool,
    /// `Proxy` as JSON; empty for none.
    pub proxy: String,
    /// `Connect` as JSON; empty for none.
    pub connect: String,
}

impl Service {
    /// The service, in lower case, whose connections through the mesh end here.
    pub fn mesh_target(&self) -> Option<String> {
        let mesh = self.mesh.as_deref()?;
        let target = match (&*mesh.destination, mesh.native) {
            ("", true) => &self.service,
            ("", false) => return None,
            (destination, _) => destination,
        };
        Some(target.to_lowercase())
    }
}

/// An address of a service for one purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceAddress {
    /// IP address or host name.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// Shares of SRV answers by health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While all checks pass.
    pub passing: u32,
    /// While one warns.
    pub warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            passing: 1,
            warning: 1,
        }
    }
}

/// A check of a node, or of one service on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// Node name.
    pub node: String,
    /// Unique on its node.
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// For people.
    pub name: String,
    /// Its result.
    pub status: CheckStatus,
    /// For people.
    pub notes: String,
    /// What the last run printed.
    pub output: String,
    /// The service it checks; empty for the node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// That service's name, filled in by the store.
    pub service_name: String,
    /// That service's tags, filled in by the store.
    pub service_tags: Vec<String>,
    /// How it is run: http, tcp, ttl and so on.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Go duration.
    pub interval: String,
    /// Go duration.
    pub timeout: String,
    /// Port of a proxy through which the check can be asked; 0 for none.
    pub exposed_port: u16,
    /// How somebody else is to run it, as JSON; empty where its agent runs it.
    pub definition: String,
    /// The log index that created it.
    pub create_index: u64,
    /// The log index of its last change.
    pub modify_index: u64,
}

/// The result of a check. Append only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Good.
    Passing,
    /// Still serves.
    Warning,
    /// Does not serve. A check that has not run yet is critical.
    #[default]
    Critical,
}

impl CheckStatus {
    /// The status that Consul calls by this word; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Passing, Self::Warning, Self::Critical]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Consul's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Passing => "passing",
            CheckStatus::Warning => "warning",
            CheckStatus::Critical => "critical",
        }
    }
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An instance of a service with its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceNode {
    /// Where it runs.
    pub node: Arc<Node>,
    /// The instance.
    pub service: Arc<Service>,
}

/// An instance of a service with its node and the checks that decide on its health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceHealth {
    /// Where it runs.
    pub node: Arc<Node>,
    /// The instance.
    pub service: Arc<Service>,
    /// The node's own checks and the instance's.
    pub checks: Vec<Arc<Check>>,
}

/// A node with what runs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesOfNode {
    /// The node.
    pub node: Arc<Node>,
    /// By service id.
    pub services: Vec<Arc<Service>>,
}

/// A node with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// By service id.
    pub services: Vec<Arc<Service>>,
    /// Its own and those of its services, by check id.
    pub checks: Vec<Arc<Check>>,
}

/// An id that Consul's JSON shows as an empty string when there is none.
mod optional_id {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Uuid};

    pub(super) fn serialize<S: Serializer>(
        id: &Option<Uuid>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match id {
            None if serializer.is_human_readable() => serializer.serialize_str(""),
            Some(id) if serializer.is_human_readable() => id.serialize(serializer),
            id => id.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Uuid>, D::Error> {
        if !deserializer.is_human_readable() {
            return Option::deserialize(deserializer);
        }
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        Uuid::try_parse(&text)
            .map(Some)
            .map_err(serde::de::Error::custom)
    }
}
