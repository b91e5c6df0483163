//! Nodes, services and checks.

mod find;
mod table;
mod types;

pub(super) use table::{Catalog, NodeDump, TableIndexes, Unhealthy};
pub use types::{
    Check, CheckStatus, Node, SERF_HEALTH, Service, ServiceAddress, ServiceHealth, ServiceNode,
    ServicesOfNode, Weights,
};
