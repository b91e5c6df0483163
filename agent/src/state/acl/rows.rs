//! The rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ANONYMOUS_ACCESSOR, ANONYMOUS_SECRET, GLOBAL_MANAGEMENT, GLOBAL_READ_ONLY};

/// Everything that the one service, its sidecar proxy and discovery need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceIdentity {
    /// Name of the service.
    pub service_name: String,
    /// Where it counts; empty for everywhere.
    pub datacenters: Vec<String>,
}

/// Everything that the agent of the one node needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Name of the node.
    pub node_name: String,
    /// Where it counts.
    pub datacenter: String,
}

/// A policy that is made from a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplatedPolicy {
    /// Name of the template, such as `builtin/service`.
    pub template_name: String,
    /// Its variable; empty for a template that has none.
    pub name: String,
    /// Where it counts; empty for everywhere.
    pub datacenters: Vec<String>,
}

/// What a token or a role allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclGrants {
    /// Ids of policies. One that does not exist any more allows nothing.
    pub policies: Vec<Uuid>,
    /// For services.
    pub service_identities: Vec<ServiceIdentity>,
    /// For nodes.
    pub node_identities: Vec<NodeIdentity>,
    /// From templates.
    pub templated_policies: Vec<TemplatedPolicy>,
}

/// A token.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclToken {
    /// Its public name.
    pub accessor: Uuid,
    /// Whoever knows it, is its holder. Usually a UUID.
    pub secret: String,
    /// For people.
    pub description: String,
    /// What it allows itself.
    pub grants: AclGrants,
    /// Ids of roles, which allow more. One that does not exist any more allows nothing.
    pub roles: Vec<Uuid>,
    /// Whether it counts in this datacenter alone.
    pub local: bool,
    /// The auth method that handed it out; empty for none.
    pub auth_method: String,
    /// When it was made: milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it ends, likewise; `None` for never.
    pub expires_ms: Option<u64>,
    /// Log index that created it. Set by the state.
    pub create_index: u64,
    /// Log index of its last change. Set by the state.
    pub modify_index: u64,
}

impl AclToken {
    /// The token of whoever names none, as it is while nobody has changed it: it allows nothing.
    pub fn anonymous() -> Self {
        Self {
            accessor: ANONYMOUS_ACCESSOR,
            secret: ANONYMOUS_SECRET.to_owned(),
            description: "Anonymous Token".to_owned(),
            ..Self::default()
        }
    }

    /// Whether its time is over.
    pub fn is_expired(&self, unix_ms: u64) -> bool {
        self.expires_ms.is_some_and(|end| end <= unix_ms)
    }
}

impl std::fmt::Debug for AclToken {
    /// Without the secret: what is printed ends in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AclToken")
            .field("accessor", &self.accessor)
            .field("grants", &self.grants)
            .field("roles", &self.roles)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// A policy: rules under a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclPolicy {
    /// Random, by the proposer.
    pub id: Uuid,
    /// Unique without regard to case.
    pub name: String,
    /// For people.
    pub description: String,
    /// In HCL or JSON, as `crate::acl::Rules` reads it.
    pub rules: String,
    /// Where it counts; empty for everywhere.
    pub datacenters: Vec<String>,
    /// Log index that created it. Set by the state.
    pub create_index: u64,
    /// Log index of its last change. Set by the state.
    pub modify_index: u64,
}

/// Every resource, twice for those with names.
macro_rules! on_everything {
    ($access:literal, $intentions:literal) => {
        concat!(
            "acl = \"",
            $access,
            "\"\n",
            "agent_prefix \"\" { policy = \"",
            $access,
            "\" }\n",
            "event_prefix \"\" { policy = \"",
            $access,
            "\" }\n",
            "identity_prefix \"\" { policy = \"",
            $access,
            "\", intentions = \"",
            $intentions,
            "\" }\n",
            "key_prefix \"\" { policy = \"",
            $access,
            "\" }\n",
            "keyring = \"",
            $access,
            "\"\n",
            "mesh = \"",
            $access,
            "\"\n",
            "node_prefix \"\" { policy = \"",
            $access,
            "\" }\n",
            "operator = \"",
            $access,
            "\"\n",
            "peering = \"",
            $access,
            "\"\n",
            "query_prefix \"\" { policy = \"",
            $access,
            "\" }\n",
            "service_prefix \"\" { policy = \"",
            $access,
            "\", intentions = \"",
            $intentions,
            "\" }\n",
            "session_prefix \"\" { policy = \"",
            $access,
            "\" }\n",
        )
    };
}

impl AclPolicy {
    /// The policies that are there without anybody having written them, and that nobody can change.
    pub fn builtin() -> [Self; 2] {
        let policy = |id, name: &str, description: &str, rules: &str| Self {
            id,
            name: name.to_owned(),
            description: description.to_owned(),
            rules: rules.to_owned(),
            datacenters: Vec::new(),
            create_index: 1,
            modify_index: 1,
        };
        [
            policy(
                GLOBAL_MANAGEMENT,
                "global-management",
                "Allows everything",
                on_everything!("write", "write"),
            ),
            policy(
                GLOBAL_READ_ONLY,
                "builtin/global-read-only",
                "Allows to look at everything",
                on_everything!("read", "read"),
            ),
        ]
    }
}

/// A role: what several tokens allow, under a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRole {
    /// Random, by the proposer.
    pub id: Uuid,
    /// Unique without regard to case.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it allows.
    pub grants: AclGrants,
    /// Log index that created it. Set by the state.
    pub create_index: u64,
    /// Log index of its last change. Set by the state.
    pub modify_index: u64,
}

/// A way to get a token for an identity that somebody else vouches for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclMethod {
    /// Unique.
    pub name: String,
    /// `kubernetes` or `jwt`.
    pub kind: String,
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// The longest life of a token that it hands out, in milliseconds; 0 for one without end.
    pub max_ttl_ms: u64,
    /// `local` or `global`.
    pub token_locality: String,
    /// Its settings as Consul shows them, a JSON object.
    pub config: String,
    /// Log index that created it. Set by the state.
    pub create_index: u64,
    /// Log index of its last change. Set by the state.
    pub modify_index: u64,
}

/// What a token that an auth method hands out is to allow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclBindingRule {
    /// Random, by the proposer.
    pub id: Uuid,
    /// For people.
    pub description: String,
    /// Name of the auth method.
    pub auth_method: String,
    /// A filter expression on what is known of the identity; empty for all.
    pub selector: String,
    /// `service`, `node`, `role`, `policy` or `templated-policy`.
    pub bind_type: String,
    /// What the identity gets, with `${...}` for what is known of it.
    pub bind_name: String,
    /// Variables of a templated policy, likewise.
    pub bind_vars: BTreeMap<String, String>,
    /// Log index that created it. Set by the state.
    pub create_index: u64,
    /// Log index of its last change. Set by the state.
    pub modify_index: u64,
}
