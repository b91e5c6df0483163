//! The Secret that holds everything.

use std::collections::BTreeMap;
use std::fmt;

use agent::gossip::GossipKey;
use agent::tls::inspect;
use agent::tls::make::Pair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Stages;

/// Annotation with the stages, as `gossip=Full,tls=Full,acl=Full`. Also on the volumes that were written under them.
pub const STAGES: &str = "consulcluster.dev/stages";
/// What annotations begin with that say which requests of a person have been followed.
const DONE: &str = "consulcluster.dev/done-";
/// Annotation that says that the Secret was lost, and how far it is whole again.
const MADE_AGAIN: &str = "consulcluster.dev/made-again";

/// What protects one cluster. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Vault {
    /// How far it is in force.
    pub stages: Stages,
    /// Key of gossip, in base64.
    pub gossip_key: String,
    /// What takes its place, as soon as everybody knows it.
    pub gossip_next: Option<String>,
    /// The one before, until nobody has it any more.
    pub gossip_old: Option<String>,
    /// When the key was made, in seconds since 1970.
    pub gossip_since: i64,
    /// Authorities that agents trust, in PEM form.
    pub authorities: String,
    /// The operator's own authority; none where certificates come from elsewhere.
    pub signer: Option<Pair>,
    /// What servers show.
    pub server: Pair,
    /// What clients show; none where there are none and certificates come from elsewhere.
    pub client: Option<Pair>,
    /// What takes their place, step by step.
    pub next: Option<Successor>,
    /// Tokens of access control lists.
    pub tokens: Tokens,
    /// Requests of a person that were followed, by their annotation's name.
    pub done: BTreeMap<String, String>,
    /// Whether it was lost once.
    pub made_again: MadeAgain,
}

/// Whether the vault is what was once made, or was made again from what agents see of it. Written down in each case but
/// the first, and never taken away: an apply leaves in an object what its creation has set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MadeAgain {
    /// It never was.
    #[default]
    Never,
    /// It was, and what agents know besides is still to be looked for, or the authority to be replaced.
    UnderWay,
    /// It was, and lacks nothing any more.
    Whole,
}

/// Certificates that are to take the place of others.
#[derive(Clone, PartialEq, Eq)]
pub struct Successor {
    /// As of [`Vault`].
    pub authorities: String,
    /// As of [`Vault`].
    pub signer: Option<Pair>,
    /// As of [`Vault`].
    pub server: Pair,
    /// As of [`Vault`].
    pub client: Option<Pair>,
}

/// Secrets of tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// May do everything: the operator's, and a person's first.
    pub management: String,
    /// Agents register themselves with it.
    pub agent: String,
    /// Answers of DNS.
    pub dns: String,
    /// Asks a server about itself when nobody knows any token.
    pub recovery: String,
    /// The same for clients: who reads a client's files may not make servers leave.
    pub client_recovery: String,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({:?})", self.stages)
    }
}

/// The Secret does not hold what it should. Says nothing of what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// Data of a Secret, by key.
pub(super) struct Held<'a>(pub(super) &'a BTreeMap<String, Vec<u8>>);

impl Held<'_> {
    fn maybe(&self, key: &str) -> Result<Option<String>, Broken> {
        match self.0.get(key) {
            None => Ok(None),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.trim().is_empty() => Ok(Some(text.to_owned())),
                _ => Err(Broken(format!("{key} in it is empty or no text"))),
            },
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<String, Broken> {
        let text = self.maybe(key)?;
        text.ok_or_else(|| Broken(format!("{key} is missing in it")))
    }

    fn pair(&self, name: &str) -> Result<Option<Pair>, Broken> {
        let cert = self.maybe(&format!("{name}.crt"))?;
        let key = || self.text(&format!("{name}.key"));
        cert.map(|cert| Ok(Pair { cert, key: key()? })).transpose()
    }

    fn needed(&self, name: &str) -> Result<Pair, Broken> {
        let pair = self.pair(name)?;
        pair.ok_or_else(|| Broken(format!("{name}.crt is missing in it")))
    }
}

impl Vault {
    /// What the Secret holds: `data` as the API has it, in base64.
    ///
    /// # Errors
    /// The first key that is missing or is no text.
    pub fn read(
        annotations: &BTreeMap<String, String>,
        data: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, Broken> {
        let stages = annotations.get(STAGES).map(String::as_str);
        let Some(stages) = stages.and_then(Stages::read) else {
            return Err(Broken(format!(
                "its annotation {STAGES} is missing or cannot be read"
            )));
        };
        let held = Held(data);
        let next = match held.maybe("next-ca.crt")? {
            None => None,
            Some(authorities) => Some(Successor {
                authorities,
                signer: held.pair("next-signer")?,
                server: held.needed("next-server")?,
                client: held.pair("next-client")?,
            }),
        };
        let done = annotations.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix(DONE)?;
            Some((name.to_owned(), value.clone()))
        });
        let made_again = match annotations.get(MADE_AGAIN).map(String::as_str) {
            None => MadeAgain::Never,
            Some("whole") => MadeAgain::Whole,
            Some(_) => MadeAgain::UnderWay,
        };
        let since = held.text("gossip.since")?.trim().parse();
        let vault = Vault {
            stages,
            gossip_key: held.text("gossip.key")?,
            gossip_next: held.maybe("gossip-next.key")?,
            gossip_old: held.maybe("gossip-old.key")?,
            gossip_since: since
                .map_err(|_| Broken("gossip.since in it is no number".to_owned()))?,
            authorities: held.text("ca.crt")?,
            signer: held.pair("signer")?,
            server: held.needed("server")?,
            client: held.pair("client")?,
            next,
            tokens: Tokens {
                management: held.text("token")?,
                agent: held.text("agent.token")?,
                dns: held.text("dns.token")?,
                recovery: held.text("recovery.token")?,
                client_recovery: held.text("client-recovery.token")?,
            },
            done: done.collect(),
            made_again,
        };
        vault.check()?;
        Ok(vault)
    }

    /// What agents would stumble over, who get all of it as it is. Of certificates, whether they can be read and have
    /// their keys: that one has expired must not keep the operator from replacing it.
    pub(super) fn check(&self) -> Result<(), Broken> {
        let next = self.next.as_ref();
        let pairs = [
            ("signer", self.signer.as_ref()),
            ("server", Some(&self.server)),
            ("client", self.client.as_ref()),
            ("next-signer", next.and_then(|next| next.signer.as_ref())),
            ("next-server", next.map(|next| &next.server)),
            ("next-client", next.and_then(|next| next.client.as_ref())),
        ];
        for (name, pair) in pairs {
            if let Some(Err(why)) = pair.map(inspect::check_pair) {
                return Err(Broken(why.replace("tls.", &format!("{name}."))));
            }
        }
        let authorities = [
            ("ca.crt", Some(&self.authorities)),
            ("next-ca.crt", next.map(|next| &next.authorities)),
        ];
        for (key, text) in authorities {
            if let Some(Err(why)) = text.map(|text| inspect::check_authorities(text)) {
                return Err(Broken(format!("{key}: {why}")));
            }
        }
        let keys = [
            ("gossip.key", Some(&self.gossip_key)),
            ("gossip-next.key", self.gossip_next.as_ref()),
            ("gossip-old.key", self.gossip_old.as_ref()),
        ];
        for (key, text) in keys {
            if let Some(Err(why)) = text.map(|text| text.parse::<GossipKey>()) {
                return Err(Broken(format!("{key}: {why}")));
            }
        }
        let tokens = [
            ("token", &self.tokens.management),
            ("agent.token", &self.tokens.agent),
            ("dns.token", &self.tokens.dns),
            ("recovery.token", &self.tokens.recovery),
            ("client-recovery.token", &self.tokens.client_recovery),
        ];
        for (key, text) in tokens {
            if Uuid::parse_str(text).is_err() {
                return Err(Broken(format!("{key} in it is no UUID")));
            }
        }
        Ok(())
    }

    /// Annotations of the Secret.
    pub fn annotations(&self) -> Map<String, Value> {
        let stages = self.stages.to_string();
        let done = self.done.iter();
        let done = done.map(|(name, value)| (format!("{DONE}{name}"), json!(value)));
        let again = match self.made_again {
            MadeAgain::Never => None,
            MadeAgain::UnderWay => Some("under way"),
            MadeAgain::Whole => Some("whole"),
        };
        let again = again.map(|again| (MADE_AGAIN.to_owned(), json!(again)));
        done.chain([(STAGES.to_owned(), json!(stages))])
            .chain(again)
            .collect()
    }

    /// Data of the Secret, in base64.
    pub fn data(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let mut put = |key: String, text: &str| {
            all.insert(key, json!(STANDARD.encode(text)));
        };
        let mut pair = |name: &str, pair: Option<&Pair>| {
            if let Some(Pair { cert, key }) = pair {
                put(format!("{name}.crt"), cert);
                put(format!("{name}.key"), key);
            }
        };
        pair("signer", self.signer.as_ref());
        pair("server", Some(&self.server));
        pair("client", self.client.as_ref());
        if let Some(next) = &self.next {
            pair("next-signer", next.signer.as_ref());
            pair("next-server", Some(&next.server));
            pair("next-client", next.client.as_ref());
            put("next-ca.crt".to_owned(), &next.authorities);
        }
        let Tokens {
            management,
            agent,
            dns,
            recovery,
            client_recovery,
        } = &self.tokens;
        let since = self.gossip_since.to_string();
        let texts = [
            ("gossip.key", &self.gossip_key),
            ("gossip.since", &since),
            ("ca.crt", &self.authorities),
            ("token", management),
            ("agent.token", agent),
            ("dns.token", dns),
            ("recovery.token", recovery),
            ("client-recovery.token", client_recovery),
        ];
        let more = [
            ("gossip-next.key", &self.gossip_next),
            ("gossip-old.key", &self.gossip_old),
        ];
        let more = more
            .into_iter()
            .filter_map(|(key, text)| Some((key, text.as_ref()?)));
        for (key, text) in texts.into_iter().chain(more) {
            put(key.to_owned(), text);
        }
        all
    }
}
