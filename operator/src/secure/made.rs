//! What the operator makes itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use agent::env::Random;
use agent::gossip::GossipKey;
use agent::tls::make::{self, Authority, Names, Pair};

use super::given::{Certified, Given};
use super::{MadeAgain, Stages, Successor, Tokens, Vault, certificate_name};
use crate::crd::{ConsulCluster, TlsMode};
use crate::driver::kube::names;

const DAY: Duration = Duration::from_secs(86_400);

/// How long an authority vouches: with a third left it is replaced.
const AUTHORITY_DAYS: u32 = 3650;

/// Everything that a cluster needs, with what a person gave in its place.
///
/// # Errors
/// What is wrong with a person's Secret, or with a name that cannot stand in a certificate.
pub fn vault(
    cluster: &ConsulCluster,
    given: &Given,
    stages: Stages,
    now: i64,
    random: &dyn Random,
) -> Result<Vault, String> {
    if let Some(problem) = given.problem() {
        return Err(problem);
    }
    let Successor {
        authorities,
        signer,
        server,
        client,
    } = certificates(cluster, given, None)?;
    let token = || random.uuid().to_string();
    let given_text = |found: &Option<Result<String, String>>| match found {
        Some(Ok(text)) => Some(text.clone()),
        _ => None,
    };
    Ok(Vault {
        stages,
        gossip_key: given_text(&given.gossip_key)
            .unwrap_or_else(|| GossipKey::random(random).to_string()),
        gossip_next: None,
        gossip_old: None,
        gossip_since: now,
        authorities,
        signer,
        server,
        client,
        next: None,
        tokens: Tokens {
            management: given_text(&given.management).unwrap_or_else(token),
            agent: token(),
            dns: token(),
            recovery: token(),
            client_recovery: token(),
        },
        done: BTreeMap::new(),
        made_again: MadeAgain::Never,
    })
}

/// Certificates of an authority that is there, or of a new one; or those that a person gave.
///
/// # Errors
/// As [`vault`].
pub(super) fn certificates(
    cluster: &ConsulCluster,
    given: &Given,
    signer: Option<&Pair>,
) -> Result<Successor, String> {
    if let Some(servers) = &given.servers {
        let Certified { authorities, pair } = servers.clone()?;
        let clients = given.clients.clone().transpose()?;
        // Both sides trust the authorities of both.
        let more = clients.as_ref().map_or("", |clients| &clients.authorities);
        return Ok(Successor {
            authorities: super::bundle(&authorities, more),
            signer: None,
            server: pair,
            client: clients.map(|clients| clients.pair),
        });
    }
    let signer = match signer {
        Some(signer) => signer.clone(),
        None => authority(cluster)?,
    };
    Ok(Successor {
        authorities: signer.cert.clone(),
        server: certificate(cluster, &signer, true)?,
        client: Some(certificate(cluster, &signer, false)?),
        signer: Some(signer),
    })
}

fn authority(cluster: &ConsulCluster) -> Result<Pair, String> {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let asked = Authority {
        common_name: format!("Agents of {namespace}/{name}"),
        lifetime: DAY * AUTHORITY_DAYS,
        ..Authority::default()
    };
    make::authority(&asked).map_err(|error| format!("no authority can be made: {error}"))
}

/// One for all servers, or for all clients: pods come and go, and nobody tells them apart by it.
fn certificate(cluster: &ConsulCluster, signer: &Pair, server: bool) -> Result<Pair, String> {
    let role_name = certificate_name(cluster, server);
    let mut dns = vec![role_name.clone(), "localhost".to_owned()];
    if server {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
        let set = names::server(name);
        dns.extend([
            name.to_owned(),
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{set}.{namespace}.svc"),
            format!("*.{set}.{namespace}.svc"),
            format!("*.{set}.{namespace}.svc.cluster.local"),
        ]);
    }
    let names = Names {
        common_name: role_name,
        dns,
        ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        // A client's HTTPS is connected to as well.
        server: true,
    };
    let days = cluster.spec.tls.clone().unwrap_or_default();
    let days = u32::try_from(days.certificate_days).unwrap_or(1).max(1);
    make::certificate(signer, &names, DAY * days)
        .map_err(|error| format!("no certificate can be made: {error}"))
}

/// Whether certificates are the operator's own.
pub fn own(cluster: &ConsulCluster) -> bool {
    let tls = cluster.spec.tls.as_ref();
    tls.is_none_or(|tls| tls.mode != TlsMode::Secret)
}
