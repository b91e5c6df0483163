//! The Secrets.

use serde_json::json;

use super::{Kind, Object, names, own_name};
use crate::crd::{ConsulCluster, Retention};
use crate::secure::{Vault, render};

/// The vault. It belongs to nobody where volumes outlive the resource: without it they are of no use.
pub fn vault(cluster: &ConsulCluster, vault: &Vault) -> Object {
    let kind = Kind::Secret;
    let mut value = kind.object(cluster, &names::vault(own_name(cluster)));
    let retain = cluster.spec.storage.clone().unwrap_or_default().retain;
    if let (Retention::Retain, Some(metadata)) =
        (retain.when_deleted, value["metadata"].as_object_mut())
    {
        metadata.remove("ownerReferences");
    }
    value["metadata"]["annotations"] = json!(vault.annotations());
    value["type"] = json!("Opaque");
    value["data"] = json!(vault.data());
    Object { kind, value }
}

/// What the pods of servers, or of clients, see of it.
pub fn secure(cluster: &ConsulCluster, vault: &Vault, server: bool) -> Object {
    let kind = Kind::Secret;
    let mut value = kind.object(cluster, &names::secure(own_name(cluster), server));
    value["type"] = json!("Opaque");
    value["data"] = json!(render::data(vault, server));
    Object { kind, value }
}
