//! Drivers: what observes a cluster and carries steps out.

pub mod local;
