//! The authority of a datacenter that is not the primary one: its roots are the primary's, and it signs with a key of its
//! own, for which the primary vouches by an intermediate certificate. So there is one trust domain, and the key of the root
//! never leaves the primary.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};
use uuid::Uuid;

use super::cert::{self, DRIFT_MS, Stamp, algorithm, colons, key_id, parse, read_cert, uri};
use super::change::{current, is_over, row};
use super::settings::{Given, KeyKind, Settings};
use super::sign::{self, Requested, Signed, Signer};
use super::{Error, spiffe};
use crate::state::{CaConfig, CaRoot, CaRoots, CaStep, Store};

/// What is to be done next so that the authority here is the primary's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing before this time, in milliseconds since the Unix epoch, as long as the primary's roots stay.
    Nothing(u64),
    /// Write this: the roots are others, the intermediate certificate stays.
    Take(CaStep),
    /// Ask for an intermediate certificate with a key of this kind, and why.
    Ask(KeyKind, &'static str),
}

/// An intermediate certificate with its key, as it is in the row of its root.
struct Held {
    pem: String,
    key: String,
}

/// Decides what comes next. `given` are the settings with which an authority begins here.
///
/// # Errors
/// [`Error::Primary`] while the primary datacenter has no authority.
pub fn next(store: &Store, primary: &CaRoots, given: &Given, now_ms: u64) -> Result<Next, Error> {
    let (cluster_id, active) = of_primary(primary)?;
    let settings = settings(store, given);
    let ask = |why| Ok(Next::Ask(settings.key, why));
    if store.ca_config().map(|row| row.cluster_id) != Some(cluster_id) {
        return ask("there is none of this trust domain");
    }
    let Some(own) = store.ca_roots().iter().find(|root| root.active) else {
        return ask("there is none");
    };
    if own.id != active.id {
        return ask("the primary datacenter has another root");
    }
    let signer = match Signer::of(own) {
        Ok(signer) if !signer.is_root => signer,
        _ => return ask("there is none of this root"),
    };
    let made = signer.not_before_ms + DRIFT_MS;
    let half = made + signer.not_after_ms.saturating_sub(made) / 2;
    if now_ms >= half {
        return ask("half of the time of the one before is over");
    }
    if cert::kind_of(signer.issuer.key()) != cert::kind_of_new(settings.key) {
        return ask("another kind of key is configured");
    }
    let held = Held {
        pem: signer.pem,
        key: own.signing_key.clone(),
    };
    let rows = rows(store, primary, &held, &settings, now_ms)?;
    let plain = |root: &CaRoot| CaRoot {
        create_index: 0,
        modify_index: 0,
        ..root.clone()
    };
    let known: Vec<CaRoot> = store.ca_roots().iter().map(|root| plain(root)).collect();
    Ok(match rows == known {
        true => Next::Nothing(half),
        false => Next::Take(step(store, given, cluster_id, rows)?),
    })
}

/// A key of this kind, and the request to vouch for it.
///
/// # Errors
/// [`Error::Primary`] while the primary datacenter has no authority.
pub fn request_intermediate(primary: &CaRoots, kind: KeyKind) -> Result<Requested, Error> {
    let (cluster_id, _) = of_primary(primary)?;
    let key = KeyPair::generate_for(algorithm(kind))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(&spiffe::of_authority(cluster_id))?];
    Ok(Requested {
        csr: params.serialize_request(&key)?.der().to_vec(),
        private_key: key.serialize_pem(),
    })
}

/// The step that takes the primary's roots and the intermediate certificate that was asked for.
///
/// # Errors
/// When it is not of the primary's present root, or not for this key.
pub fn take(
    store: &Store,
    primary: &CaRoots,
    (private_key, signed): (String, Signed),
    given: &Given,
    now_ms: u64,
) -> Result<CaStep, Error> {
    let (cluster_id, active) = of_primary(primary)?;
    if signed.root_id != active.id {
        return Err(Error::Primary(
            "the primary datacenter's root changed meanwhile".to_owned(),
        ));
    }
    let held = Held {
        pem: signed.cert,
        key: private_key,
    };
    let rows = rows(store, primary, &held, &settings(store, given), now_ms)?;
    step(store, given, cluster_id, rows)
}

/// Vouches for the authority of another datacenter, as the primary. `by` is the time in milliseconds and a random number.
///
/// # Errors
/// [`Error::Request`] when something else is asked for, or when the root may vouch for no authority.
pub fn sign_intermediate(
    store: &Store,
    settings: &Settings,
    csr: &[u8],
    (now_ms, serial): (u64, u64),
) -> Result<Signed, Error> {
    let refuse = |why: &str| Err(Error::Request(why.to_owned()));
    let config = store.ca_config().ok_or(Error::Uninitialized)?;
    let root = store.ca_roots().iter().find(|root| root.active);
    let root = root.ok_or(Error::Uninitialized)?;
    let csr = sign::read(csr)?;
    let name = spiffe::of_authority(config.cluster_id);
    match &csr.params.subject_alt_names[..] {
        [SanType::URI(asked)] if asked.as_str().eq_ignore_ascii_case(&name) => {}
        _ => return refuse("CSR must name this trust domain, and nothing else"),
    }
    let signer = Signer::of(root)?;
    if !signer.is_root {
        return refuse(
            "this datacenter's root is another's: name the one that has it as primary_datacenter",
        );
    }
    let der = read_cert(&root.root_cert)?;
    let cert = parse(&der)?;
    let limits = cert.basic_constraints().ok().flatten();
    if limits.is_some_and(|limits| limits.value.path_len_constraint == Some(0)) {
        return refuse(
            "the root may vouch for no authority below it (path length 0): bring another RootCert",
        );
    }
    let stamp = Stamp { now_ms, serial };
    let end = stamp.end_ms(settings.intermediate_ttl);
    let (begin, end) = (stamp.begin_ms(), end.min(signer.not_after_ms));
    let mut params = stamp.params(begin, end);
    let (number, cluster) = (stamp.serial() as u32, config.cluster_id.to_string());
    let common = format!("sec-{number:08x}.consul.ca.{}.consul", &cluster[..8]);
    params.distinguished_name.push(DnType::CommonName, common);
    params.subject_alt_names = vec![uri(&name)?];
    // It vouches for services and agents, and for no other authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = cert::SIGNS.to_vec();
    Ok(Signed {
        serial_number: colons(&stamp.serial().to_be_bytes()),
        cert: params.signed_by(&csr.public_key, &signer.issuer)?.pem(),
        uri: name,
        valid_after_ms: begin,
        valid_before_ms: end,
        root_id: root.id.clone(),
        index: store.last_index(),
    })
}

fn of_primary(primary: &CaRoots) -> Result<(Uuid, &CaRoot), Error> {
    match (primary.cluster_id, primary.active()) {
        (Some(cluster_id), Some(root)) => Ok((cluster_id, root)),
        _ => Err(Error::Primary(
            "the primary datacenter has no certificate authority: is connect.enabled = false set there?"
                .to_owned(),
        )),
    }
}

fn settings(store: &Store, given: &Given) -> Settings {
    current(store).unwrap_or_else(|_| given.settings.clone())
}

/// The primary's roots, with the intermediate certificate in the active one's row, where it is in front of what leads from
/// that root to the one before; and roots of before this datacenter had a primary, while certificates of them are in use.
fn rows(
    store: &Store,
    primary: &CaRoots,
    held: &Held,
    settings: &Settings,
    now_ms: u64,
) -> Result<Vec<CaRoot>, Error> {
    let mut rows = Vec::new();
    for root in &primary.roots {
        let mut row = CaRoot {
            signing_key: String::new(),
            create_index: 0,
            modify_index: 0,
            ..CaRoot::clone(root)
        };
        if row.active {
            let der = read_cert(&held.pem)?;
            row.signing_key_id = key_id(&parse(&der)?).map(colons).unwrap_or_default();
            row.intermediate_certs.insert(0, held.pem.clone());
            row.signing_key.clone_from(&held.key);
            // That the key belongs to it.
            Signer::of(&row)?;
        }
        rows.push(row);
    }
    let domain = primary.cluster_id.map(|id| id.to_string());
    for old in store.ca_roots() {
        let is_own = Some(&old.external_trust_domain) != domain.as_ref();
        let is_new = rows.iter().any(|row| row.id == old.id);
        let kept = CaRoot {
            active: false,
            signing_key: String::new(),
            rotated_out_at_ms: old.rotated_out_at_ms.or(Some(now_ms)),
            create_index: 0,
            modify_index: 0,
            ..CaRoot::clone(old)
        };
        if is_own && !is_new && !is_over(&kept, settings.leaf_ttl, now_ms) {
            rows.push(kept);
        }
    }
    Ok(rows)
}

fn step(
    store: &Store,
    given: &Given,
    cluster_id: Uuid,
    roots: Vec<CaRoot>,
) -> Result<CaStep, Error> {
    let config = match store.ca_config().map(Arc::as_ref) {
        None => row(given, cluster_id)?,
        // A key that was brought belongs to a root that counts no more.
        Some(old) => CaConfig {
            cluster_id,
            private_key: String::new(),
            ..old.clone()
        },
    };
    Ok(CaStep::Set {
        config: Box::new(config),
        roots,
        cas: store.ca_index(),
    })
}
