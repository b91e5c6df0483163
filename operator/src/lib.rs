//! Drives the documented manual bootstrap of a `ConsulCluster`, and keeps the cluster healthy after it.
//!
//! Observe, plan, apply: a driver observes, [`plan::plan`] chooses the one next step as a pure function of what is
//! wanted and what was seen, and the driver carries it out. `operator/DESIGN.md` says why.

pub mod backup;
pub mod cli;
pub mod controller;
pub mod crd;
pub mod driver;
pub mod observe;
pub mod plan;
pub mod secure;
pub mod status;
