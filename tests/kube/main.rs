//! End to end on a real Kubernetes: the CRD, the chart, and the operator with real agents in real pods. Written against
//! a `KUBECONFIG`; `tests/kube/bed` makes one.

mod admission;
mod backup;
mod bootstrap;
mod chart;
mod drain;
mod faults;
mod lifecycle;
mod limits;
mod operator;
mod plugin;
mod rolling;
#[path = "../s3.rs"]
mod s3;
mod second;
mod secure;
mod volumes;
