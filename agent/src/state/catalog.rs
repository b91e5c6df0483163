//! Nodes, services and checks.

mod addresses;
mod checks;
mod find;
pub(super) mod first;
mod table;
mod types;

pub(super) use table::{Catalog, NodeDump, TableIndexes, Unhealthy};
pub use types::{
    Check, CheckStatus, Mesh, Node, NodeInfo, SERF_HEALTH, Service, ServiceAddress, ServiceHealth,
    ServiceNode, ServicesOfNode, Weights,
};
