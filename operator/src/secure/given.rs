//! What a person's own Secrets hold, where the spec names them.

use std::collections::{BTreeMap, BTreeSet};

use agent::gossip::GossipKey;
use agent::tls::inspect;
use agent::tls::make::Pair;
use uuid::Uuid;

use super::certificate_name;
use crate::crd::{ConsulCluster, SecretRef, TlsMode};

/// Data of a Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

/// Names of the Secrets that the spec names.
pub fn names(cluster: &ConsulCluster) -> BTreeSet<&str> {
    let refs = [
        key(cluster),
        token(cluster),
        servers(cluster),
        clients(cluster),
    ];
    let refs = refs.into_iter().flatten();
    refs.map(|of| of.name.as_str()).collect()
}

fn key(cluster: &ConsulCluster) -> Option<&SecretRef> {
    cluster.spec.gossip.as_ref()?.secret_ref.as_ref()
}

fn token(cluster: &ConsulCluster) -> Option<&SecretRef> {
    cluster.spec.acl.as_ref()?.token_secret_ref.as_ref()
}

fn servers(cluster: &ConsulCluster) -> Option<&SecretRef> {
    let tls = cluster.spec.tls.as_ref()?;
    tls.secret_ref
        .as_ref()
        .filter(|_| tls.mode == TlsMode::Secret)
}

fn clients(cluster: &ConsulCluster) -> Option<&SecretRef> {
    let tls = cluster.spec.tls.as_ref()?;
    tls.client_secret_ref
        .as_ref()
        .filter(|_| tls.mode == TlsMode::Secret)
}

/// Authorities, and a certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certified {
    /// Authorities, in PEM form.
    pub authorities: String,
    /// What they vouch for.
    pub pair: Pair,
}

/// What was found. Absent: the spec does not name it. An error is a sentence that shows nothing of what is secret.
#[derive(Clone, Default)]
pub struct Given {
    /// Key of gossip.
    pub gossip_key: Option<Result<String, String>>,
    /// Certificate of servers.
    pub servers: Option<Result<Certified, String>>,
    /// Certificate of clients.
    pub clients: Option<Result<Certified, String>>,
    /// The management token.
    pub management: Option<Result<String, String>>,
}

impl Given {
    /// Judges what `secrets` hold, by name, at `now` (seconds since 1970).
    pub fn read(cluster: &ConsulCluster, secrets: &BTreeMap<String, Data>, now: i64) -> Self {
        let one = |of: &SecretRef, usual: &str| {
            let key = of.key.as_deref().unwrap_or(usual).to_owned();
            text(secrets, &of.name, &key).map(|text| (text.trim().to_owned(), key))
        };
        let certified = |of: &SecretRef, server: bool| {
            let text = |key: &str| text(secrets, &of.name, key);
            let found = Certified {
                authorities: text("ca.crt")?,
                pair: Pair {
                    cert: text("tls.crt")?,
                    key: text("tls.key")?,
                },
            };
            let names = [certificate_name(cluster, server), "localhost".to_owned()];
            match inspect::check(&found.authorities, &found.pair, &names, now) {
                Ok(()) => Ok(found),
                Err(why) => Err(format!("Secret {}: {why}", of.name)),
            }
        };
        Given {
            gossip_key: key(cluster).map(|of| {
                let (text, key) = one(of, "key")?;
                match text.parse::<GossipKey>() {
                    Ok(_) => Ok(text),
                    Err(why) => Err(format!("Secret {}: {key}: {why}", of.name)),
                }
            }),
            servers: servers(cluster).map(|of| certified(of, true)),
            clients: clients(cluster).map(|of| certified(of, false)),
            management: token(cluster).map(|of| {
                let (text, key) = one(of, "token")?;
                match Uuid::parse_str(&text) {
                    Ok(_) => Ok(text),
                    Err(_) => Err(format!(
                        "Secret {}: {key}: the secret of a token is a UUID",
                        of.name
                    )),
                }
            }),
        }
    }

    /// What is wrong with them, in a sentence.
    pub fn problem(&self) -> Option<String> {
        let Given {
            gossip_key,
            servers,
            clients,
            management,
        } = self;
        fn error<T>(found: Option<&Result<T, String>>) -> Option<String> {
            found?.as_ref().err().cloned()
        }
        error(gossip_key.as_ref())
            .or_else(|| error(servers.as_ref()))
            .or_else(|| error(clients.as_ref()))
            .or_else(|| error(management.as_ref()))
    }
}

fn text(secrets: &BTreeMap<String, Data>, name: &str, key: &str) -> Result<String, String> {
    let Some(data) = secrets.get(name) else {
        return Err(format!("Secret {name} is missing"));
    };
    let Some(bytes) = data.get(key) else {
        return Err(format!("Secret {name}: {key} is missing in it"));
    };
    String::from_utf8(bytes.clone())
        .ok()
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| format!("Secret {name}: {key} is empty or no text"))
}
