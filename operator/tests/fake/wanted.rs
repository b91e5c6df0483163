use std::time::Duration;

use operator::plan::Desired;

/// What a test wants, with short names and no waiting for readiness.
pub(crate) fn desired(servers: i32, clients: i32) -> Desired {
    use operator::driver::local::address::{BASE, address};
    let text = format!(
        "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata: {{name: demo}}\nspec: {{servers: {servers}, clients: {clients}}}"
    );
    let cluster = operator::crd::read(&text).unwrap();
    let mut desired = Desired::new(&cluster, |mode, number| {
        address(BASE, mode, number).to_string()
    });
    desired.min_ready = Duration::from_secs(3);
    desired
}
