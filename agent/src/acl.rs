//! Access control: which rules there are, and what they allow. Pure.
//!
//! A *token* carries *policies*, by name or through roles and identities; a policy is a list of [`Rules`]; all rules of a token
//! together with the default make an [`Authorizer`]. Names, precedence and texts are Consul's.

mod authorizer;
mod commands;
pub mod copies;
mod holder;
mod kinds;
pub mod login;
mod queries;
mod resolver;
mod rules;
mod templates;
#[cfg(test)]
mod tests;
mod validate;

pub use authorizer::{Authorizer, DefaultPolicy};
pub use holder::{Denied, Granted, Holder, SharedHolder};
pub use queries::HIDDEN_SECRET;
pub use resolver::Resolver;
pub use rules::{Invalid, RULES_BYTES_MAX, Rules};
pub use templates::{TEMPLATES, Template, is_name, template};

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Tokens, policies, roles, auth methods; and snapshots, which hold them.
    Acl,
    /// An agent by its node's name: what it says of itself and is told to do.
    Agent,
    /// User events by name.
    Event,
    /// Workload identities by name.
    Identity,
    /// Intentions by their destination.
    Intention,
    /// Keys.
    Key,
    /// Keys of gossip encryption.
    Keyring,
    /// Config entries of the whole mesh.
    Mesh,
    /// Nodes of the catalog by name.
    Node,
    /// The cluster's own matters: Raft, autopilot, and config entries without a service.
    Operator,
    /// Peerings.
    Peering,
    /// Prepared queries by name.
    Query,
    /// Services by name.
    Service,
    /// Sessions by their node's name.
    Session,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Resource::Acl,
        Resource::Agent,
        Resource::Event,
        Resource::Identity,
        Resource::Intention,
        Resource::Key,
        Resource::Keyring,
        Resource::Mesh,
        Resource::Node,
        Resource::Operator,
        Resource::Peering,
        Resource::Query,
        Resource::Service,
        Resource::Session,
    ];

    /// By its name in rules.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// As rules spell it.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Acl => "acl",
            Resource::Agent => "agent",
            Resource::Event => "event",
            Resource::Identity => "identity",
            Resource::Intention => "intention",
            Resource::Key => "key",
            Resource::Keyring => "keyring",
            Resource::Mesh => "mesh",
            Resource::Node => "node",
            Resource::Operator => "operator",
            Resource::Peering => "peering",
            Resource::Query => "query",
            Resource::Service => "service",
            Resource::Session => "session",
        }
    }

    /// Whether rules about it name one of several, rather than all of it.
    pub fn is_named(self) -> bool {
        !matches!(
            self,
            Resource::Acl
                | Resource::Keyring
                | Resource::Mesh
                | Resource::Operator
                | Resource::Peering
        )
    }
}

/// What is to be done with a resource. A greater one includes the smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Look at it.
    Read,
    /// List the keys below it; only keys have this.
    List,
    /// Change it.
    Write,
}
