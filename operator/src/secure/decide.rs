//! The one next thing that a healthy cluster's protection needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use agent::env::Random;
use agent::gossip::GossipKey;
use agent::tls::digest_of;
use agent::tls::inspect::{self, Validity};

use super::keys::{self, KeyOp, Keyring};
use super::{Given, MadeAgain, Stages, Successor, Vault, bundle, holds_all, made, next, wanted};
use crate::crd::{ConsulCluster, Stage};

/// Annotations of the resource by which a person asks for something new: each value once.
pub const ROTATE_KEY: &str = "consulcluster.dev/rotate-gossip-key";
/// Other certificates of the same authority.
pub const ROTATE_CERTIFICATES: &str = "consulcluster.dev/rotate-certificates";
/// Another authority, and certificates of it.
pub const ROTATE_AUTHORITY: &str = "consulcluster.dev/rotate-authority";

/// Annotation by which a person says which agents that are no pods of the cluster have what the next stage asks of them:
/// names of their nodes, with commas between. One that ends in `*` stands for all that begin so.
pub const OUTSIDE_READY: &str = "consulcluster.dev/outside-agents-ready";

/// Bytes of names in a sentence: the status has room for 1024 characters, and the end of the sentence says what to do.
const NAMES_BYTES_MAX: usize = 400;

const DAY: i64 = 86_400;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The files that each agent has in force: by its name, whether it is a server and their digest.
    pub files: BTreeMap<String, (bool, String)>,
    /// Whether some agents' files are not known: their pods are being replaced, or they do not answer.
    pub unknown: Vec<String>,
    /// Members that are alive in gossip and no pods of the cluster: nobody here gives them keys.
    pub outside: BTreeSet<String>,
    /// Whether the cluster knows the tokens of agents and of DNS. Asked only where tokens are known.
    pub tokens_known: bool,
    /// The keyring, while a key is being replaced. None: it was not asked for, or nobody answered.
    pub keyring: Option<Vec<Keyring>>,
    /// Seconds since 1970.
    pub now: i64,
}

/// What to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: all is as it should be.
    Rest,
    /// Wait for this.
    Wait(String),
    /// Make the tokens of agents and of DNS known to the cluster.
    MakeTokens,
    /// Tell the members about a key.
    Keyring(KeyOp, String),
    /// Tell these agents to read their files again.
    Reload(Vec<String>),
    /// Keep this, for that reason; what agents are started with follows from it.
    Keep(Box<Vault>, String),
}

/// What is done or waited for, for people. Shows nothing that is secret.
impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Next::Rest => f.write_str("all is as asked for"),
            Next::Wait(what) => write!(f, "waiting for {what}"),
            Next::MakeTokens => f.write_str("tokens of agents and of DNS are made"),
            Next::Keyring(op, _) => f.write_str(match op {
                KeyOp::Install => "a key of gossip is made known to every agent",
                KeyOp::Use => "a key of gossip is put to use at every agent",
                KeyOp::Remove => "a key of gossip is taken away from every agent",
            }),
            Next::Reload(agents) => write!(
                f,
                "waiting for {} to read other certificates; their files follow within a minute or two",
                agents.join(", ")
            ),
            Next::Keep(_, why) => f.write_str(why),
        }
    }
}

/// Chooses it. Only of a cluster whose servers are all as they should be: nothing here is so urgent that it must be done
/// while anything is broken.
pub fn decide(
    cluster: &ConsulCluster,
    vault: &Vault,
    given: &Given,
    evidence: &Evidence,
    random: &dyn Random,
) -> Next {
    let stages = vault.stages;
    if stages.acl > Stage::Disabled && !evidence.tokens_known {
        return Next::MakeTokens;
    }
    if keys::under_way(vault) && stages.gossip > Stage::Disabled {
        let Some(pools) = &evidence.keyring else {
            return Next::Wait("the keyring of gossip, which nobody showed".to_owned());
        };
        if let Some(next) = keys::next(vault, pools, evidence.now) {
            return next;
        }
    }
    if stages.tls > Stage::Disabled
        && let Some(next) = files_in_force(vault, evidence)
    {
        return next;
    }
    if let Some(successor) = &vault.next {
        return succeed(vault, successor);
    }
    if let Some(stages) = next(&cluster.spec, stages) {
        return advance(cluster, vault, stages, evidence);
    }
    replace_certificates(cluster, vault, given, evidence.now)
        .or_else(|| replace_key(cluster, vault, given, evidence.now, random))
        .or_else(|| whole_again(vault))
        .unwrap_or(Next::Rest)
}

/// There is nothing left to be done for a vault that was made again.
fn whole_again(vault: &Vault) -> Option<Next> {
    let kept = Vault {
        made_again: MadeAgain::Whole,
        ..vault.clone()
    };
    let why = "nothing is missing any more".to_owned();
    (vault.made_again == MadeAgain::UnderWay).then(|| Next::Keep(Box::new(kept), why))
}

/// Agents whose files are not those of the vault read them again; who cannot be asked is waited for while it matters.
fn files_in_force(vault: &Vault, evidence: &Evidence) -> Option<Next> {
    let expected = |server: bool| {
        let pair = if server {
            Some(&vault.server)
        } else {
            vault.client.as_ref()
        };
        digest_of(
            Some(&vault.authorities),
            pair.map(|pair| pair.cert.as_str()),
        )
    };
    let (servers, clients) = (expected(true), expected(false));
    let files = evidence.files.iter();
    let behind = files.filter(|(_, (server, digest))| {
        let expected = if *server { &servers } else { &clients };
        digest != expected
    });
    let behind: Vec<_> = behind.map(|(name, _)| name.clone()).collect();
    if !behind.is_empty() {
        return Some(Next::Reload(behind));
    }
    let changing = vault.next.is_some() || vault.stages.tls < Stage::Full;
    match evidence.unknown.first() {
        Some(name) if changing => {
            Some(Next::Wait(format!("{name}, which does not tell its files")))
        }
        _ => None,
    }
}

/// Everybody has what the vault says: on to the next step. Both authorities are trusted while both are shown.
fn succeed(vault: &Vault, successor: &Successor) -> Next {
    let Successor {
        authorities,
        signer,
        server,
        client,
    } = successor;
    let mut kept = vault.clone();
    let why = if vault.server != *server || vault.client != *client {
        if holds_all(&vault.authorities, authorities) {
            kept.server = server.clone();
            kept.client = client.clone();
            kept.signer = signer.clone();
            "every agent trusts the authority of the new certificates"
        } else {
            kept.authorities = bundle(&vault.authorities, authorities);
            "new certificates are of another authority"
        }
    } else if vault.authorities == *authorities {
        kept.next = None;
        "every agent has the new certificates alone"
    } else {
        kept.authorities = authorities.clone();
        "every agent shows the new certificates"
    };
    Next::Keep(Box::new(kept), why.to_owned())
}

fn advance(cluster: &ConsulCluster, vault: &Vault, stages: Stages, evidence: &Evidence) -> Next {
    if let Some(name) = evidence.unknown.first() {
        return Next::Wait(format!("{name}, which does not answer"));
    }
    if let Some(what) = cut_off(cluster, vault.stages, stages, evidence) {
        return Next::Wait(what);
    }
    let [gossip, tls, acl] = wanted(&cluster.spec, vault.stages);
    let kept = Vault {
        stages,
        ..vault.clone()
    };
    let on = |wanted: bool| if wanted { "on" } else { "off" };
    let why = format!(
        "wanted are encryption of gossip {}, TLS {}, tokens {}",
        on(gossip),
        on(tls),
        on(acl)
    );
    Next::Keep(Box::new(kept), why)
}

/// Agents from outside that would not be understood any more, as far as is known. A key is asked for as soon as others send
/// with it, and everything as soon as nothing else is taken. Turning off asks nothing of anybody that was not asked before.
fn cut_off(
    cluster: &ConsulCluster,
    now: Stages,
    then: Stages,
    evidence: &Evidence,
) -> Option<String> {
    let asked = |now: Stage, then: Stage| then > now && then >= Stage::Outgoing;
    let lacks = [
        (asked(now.gossip, then.gossip), "the key of gossip"),
        (asked(now.tls, then.tls), "a certificate"),
        (asked(now.acl, then.acl), "a token"),
    ];
    let lacks = lacks.into_iter().filter(|(asked, _)| *asked);
    let lacks: Vec<_> = lacks.map(|(_, what)| what).collect();
    let ready = cluster.metadata.annotations.as_ref();
    let ready = ready.and_then(|all| all.get(OUTSIDE_READY));
    let ready = ready.map_or("", String::as_str);
    let outside = evidence.outside.iter().filter(|name| !names(ready, name));
    let outside: Vec<_> = outside.map(String::as_str).collect();
    if lacks.is_empty() || outside.is_empty() {
        return None;
    }
    let mut room = NAMES_BYTES_MAX;
    let fits = |name: &&&str| match room.checked_sub(name.len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let shown: Vec<_> = outside.iter().take_while(fits).copied().collect();
    let more = match outside.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "a person: {}{more} are not pods of this cluster and may not have {} yet: give them what is in Secret {}, let them send with it and still take what comes without, then name them, with commas, in the annotation {OUTSIDE_READY}",
        shown.join(", "),
        lacks.join(", "),
        crate::driver::kube::names::vault(cluster.metadata.name.as_deref().unwrap_or_default()),
    ))
}

/// Whether a list of [`OUTSIDE_READY`] names that node.
fn names(list: &str, node: &str) -> bool {
    let node = node.to_lowercase();
    list.split(',').any(|name| {
        let name = name.trim().to_lowercase();
        match name.strip_suffix('*') {
            Some(start) => node.starts_with(start),
            None => name == node,
        }
    })
}

/// What a person asked for by an annotation, and was not done yet.
fn asked(cluster: &ConsulCluster, vault: &Vault, annotation: &str) -> Option<(String, String)> {
    let value = cluster.metadata.annotations.as_ref()?.get(annotation)?;
    let name = annotation.rsplit('/').next().unwrap_or_default();
    (vault.done.get(name) != Some(value)).then(|| (name.to_owned(), value.clone()))
}

/// Whether two thirds of its time are over.
fn is_old(pem: &str, now: i64) -> bool {
    inspect::validity(pem).is_ok_and(|Validity { begins, ends }| (ends - now) * 3 < ends - begins)
}

fn replace_certificates(
    cluster: &ConsulCluster,
    vault: &Vault,
    given: &Given,
    now: i64,
) -> Option<Next> {
    let new_authority = asked(cluster, vault, ROTATE_AUTHORITY);
    let new_certificates = asked(cluster, vault, ROTATE_CERTIFICATES);
    let (signer, why) = if made::own(cluster) {
        let kept = vault
            .signer
            .as_ref()
            .filter(|signer| new_authority.is_none() && !is_old(&signer.cert, now));
        let clients = vault.client.as_ref();
        let old = is_old(&vault.server.cert, now)
            || clients.is_none_or(|client| is_old(&client.cert, now));
        let why = match (&new_authority, &new_certificates) {
            (Some(_), _) => "a person asked for another authority",
            (None, Some(_)) => "a person asked for other certificates",
            (None, None) if vault.signer.is_none() => match vault.made_again {
                MadeAgain::UnderWay => "the key of the authority was lost",
                _ => "certificates are to be the operator's own",
            },
            (None, None) if kept.is_none() => "a third of the authority's time is left",
            (None, None) if old => "a third of the certificates' time is left",
            (None, None) => return None,
        };
        (kept, why)
    } else {
        // What a person gave is replaced by what he gives; what is wrong with it is said, and changes nothing.
        let found = made::certificates(cluster, given, None).ok()?;
        if found.server == vault.server && found.client == vault.client {
            return None;
        }
        (
            None,
            "there are other certificates in the Secrets of the spec",
        )
    };
    let successor = made::certificates(cluster, given, signer).ok()?;
    let mut kept = vault.clone();
    kept.next = Some(successor);
    kept.done
        .extend(new_authority.into_iter().chain(new_certificates));
    Some(Next::Keep(Box::new(kept), why.to_owned()))
}

fn replace_key(
    cluster: &ConsulCluster,
    vault: &Vault,
    given: &Given,
    now: i64,
    random: &dyn Random,
) -> Option<Next> {
    if vault.stages.gossip == Stage::Disabled {
        return None;
    }
    let mut kept = vault.clone();
    let request = asked(cluster, vault, ROTATE_KEY);
    let days = cluster.spec.gossip.as_ref().and_then(|g| g.rotate_days);
    let old = days.is_some_and(|days| now - vault.gossip_since > i64::from(days) * DAY);
    let why = match &given.gossip_key {
        Some(Ok(key)) if *key != vault.gossip_key => {
            kept.gossip_next = Some(key.clone());
            "there is another key in the Secret of the spec"
        }
        Some(_) => return None,
        None if request.is_some() => "a person asked for another key of gossip",
        None if old => "the key of gossip is as old as the spec allows",
        None => return None,
    };
    let key = kept.gossip_next.take();
    kept.gossip_next = key.or_else(|| Some(GossipKey::random(random).to_string()));
    kept.done.extend(request);
    Some(Next::Keep(Box::new(kept), why.to_owned()))
}
