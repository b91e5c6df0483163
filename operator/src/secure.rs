//! What protects a cluster: keys of gossip, certificates, tokens; made, put into force in an order in which no two
//! agents stop understanding each other, and replaced in time. Pure: the driver reads and writes.
//!
//! The truth is one Secret of the cluster, the *vault* (`NAME-security`): whatever becomes of the resource, of its status
//! or of the operator, what the servers' volumes were written under is still there. Agents see what they need of it in
//! Secrets that are rendered from it, one for servers and one for clients.

mod again;
pub mod decide;
mod given;
mod keys;
mod made;
pub mod render;
mod stages;
mod vault;

pub use again::again;
pub use decide::{Evidence, Next, decide};
pub use given::{Data, Given, names as given_names};
pub use keys::{KeyOp, Keyring, under_way};
pub use made::{own as own_authority, vault as make};
pub use stages::{Stages, next, wanted};
pub use vault::{Broken, MadeAgain, STAGES, Successor, Tokens, Vault};

use crate::crd::{ConsulCluster, Stage};

/// How far it is on, as the driver found it in the vault. Off where there is none.
pub fn stages(cluster: &ConsulCluster) -> Stages {
    let status = cluster.status.as_ref();
    let security = status.and_then(|status| status.security.clone());
    security.map_or_else(Stages::default, |security| Stages {
        gossip: security.gossip,
        tls: security.tls,
        acl: security.acl,
    })
}

/// Whether agents listen for HTTPS.
pub fn has_https(cluster: &ConsulCluster) -> bool {
    stages(cluster).tls > Stage::Disabled
}

/// Whether agents listen for HTTP.
pub fn has_http(cluster: &ConsulCluster) -> bool {
    let only = cluster.spec.tls.as_ref().is_none_or(|tls| tls.https_only);
    stages(cluster).tls < Stage::Full || !only
}

/// The name that certificates of servers, or of clients, have.
pub fn certificate_name(cluster: &ConsulCluster, server: bool) -> String {
    let role = if server { "server" } else { "client" };
    let domain = cluster.spec.domain.trim_end_matches('.');
    format!("{role}.{}.{domain}", cluster.spec.datacenter)
}

/// The certificates of both PEM texts, each once.
fn bundle(one: &str, other: &str) -> String {
    let mut all = certificates(one);
    for cert in certificates(other) {
        if !all.contains(&cert) {
            all.push(cert);
        }
    }
    all.concat()
}

/// Whether all of `wanted` are among those of `text`.
fn holds_all(text: &str, wanted: &str) -> bool {
    let all = certificates(text);
    certificates(wanted).iter().all(|cert| all.contains(cert))
}

fn certificates(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = pem.split_inclusive(END).map(str::trim);
    let whole = parts.filter(|part| part.ends_with(END));
    whole.map(|part| format!("{part}\n")).collect()
}

#[cfg(test)]
mod tests;
