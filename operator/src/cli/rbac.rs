//! `operator rbac`: the rights that `operator run` needs.

use clap::Args as ClapArgs;
use serde::Serialize;

use crate::driver::kube::rbac;

/// Prints the roles as manifests; who is given them is said elsewhere.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// A Role in this namespace, for `operator run --namespace`, instead of a ClusterRole.
    #[arg(long)]
    namespaced: Option<String>,
    /// Also the right to reach agents through the API server, for an operator outside of the cluster.
    #[arg(long)]
    proxy: bool,
    /// Namespace of the operator itself, where its Lease is.
    #[arg(long, default_value = "consul-operator")]
    lease_namespace: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let main = match &args.namespaced {
        Some(namespace) => yaml(&rbac::role(namespace, args.proxy))?,
        None => yaml(&rbac::cluster_role(args.proxy))?,
    };
    super::print(&format!(
        "{main}---\n{}",
        yaml(&rbac::lease_role(&args.lease_namespace))?
    ))
}

fn yaml(object: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_yaml::to_string(object)?)
}
