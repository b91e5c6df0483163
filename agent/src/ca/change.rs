//! What is to become of the authority: its beginning, a new configuration, the end of an old root.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cert::{self, Stamp};
use super::settings::{self, Given, PROVIDER, Settings};
use super::sign::{self, Place, Signed};
use super::{Error, spiffe};
use crate::env::Random;
use crate::state::{CaConfig, CaRoot, CaStep, Store};

/// Shortest time for which a root that is signed by the one before is good. Consul's.
const CROSS_LIFE_MIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// A new configuration, as somebody sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The provider.
    pub provider: String,
    /// Its settings, a JSON object.
    pub config: String,
    /// Whether a new root may do without the old one's signature.
    pub without_cross_signing: bool,
    /// Only if the configuration was last changed at this index.
    pub cas: Option<u64>,
}

/// The first step of an authority. The cluster id names its trust domain.
///
/// # Errors
/// When no root can be made from these settings.
pub fn first(
    given: &Given,
    cluster_id: Uuid,
    now_ms: u64,
    random: &dyn Random,
) -> Result<CaStep, Error> {
    let stamp = stamp(now_ms, random);
    Ok(CaStep::Set {
        config: Box::new(row(given, cluster_id)?),
        roots: vec![cert::root(&given.settings, cluster_id, stamp)?],
        cas: 0,
    })
}

/// The step to a new configuration, with a new root if another key is asked for; `None` when the configuration is not the
/// one that was to be changed. The second value names the settings that mean nothing.
///
/// # Errors
/// When it cannot be; nothing is to change then.
pub fn change(
    store: &Store,
    update: &Update,
    now_ms: u64,
    random: &dyn Random,
) -> Result<Option<(CaStep, Vec<String>)>, Error> {
    let Some((old, given)) = read(store, update)? else {
        return Ok(None);
    };
    let roots = match same_root(&current(store)?, &given.settings) {
        true => rows(store),
        false => rotate(
            store,
            &given.settings,
            old.cluster_id,
            update,
            stamp(now_ms, random),
            stamp(now_ms, random),
        )?,
    };
    let step = CaStep::Set {
        config: Box::new(row(&given, old.cluster_id)?),
        roots,
        cas: store.ca_index(),
    };
    Ok(Some((step, given.without_effect)))
}

/// The same where the roots are the primary datacenter's. What the settings say of keys counts for the next intermediate
/// certificate.
///
/// # Errors
/// When it cannot be; nothing is to change then.
pub fn change_of_secondary(
    store: &Store,
    update: &Update,
) -> Result<Option<(CaStep, Vec<String>)>, Error> {
    let Some((old, given)) = read(store, update)? else {
        return Ok(None);
    };
    if !given.settings.private_key.is_empty() {
        return Err(Error::Settings(
            "PrivateKey and RootCert: the root is the primary datacenter's, and is changed there"
                .to_owned(),
        ));
    }
    let step = CaStep::Set {
        config: Box::new(row(&given, old.cluster_id)?),
        roots: rows(store),
        cas: store.ca_index(),
    };
    Ok(Some((step, given.without_effect)))
}

/// The configuration that there is, and the one that is to be; `None` when it is not the one that was to be changed.
fn read<'a>(store: &'a Store, update: &Update) -> Result<Option<(&'a CaConfig, Given)>, Error> {
    if update.provider != PROVIDER {
        return Err(Error::Provider(update.provider.clone()));
    }
    let old = store.ca_config().ok_or(Error::Uninitialized)?;
    if update.cas.is_some_and(|cas| cas != old.modify_index) {
        return Ok(None);
    }
    let config = serde_json::from_str(&update.config)
        .map_err(|error| Error::Settings(format!("error decoding config: {error}")))?;
    let given = settings::read(&config, &old.private_key).map_err(Error::Settings)?;
    Ok(Some((old, given)))
}

/// The step that is due by itself: roots end that no certificate in use was signed by.
pub fn due(store: &Store, now_ms: u64) -> Option<CaStep> {
    // The usual state of affairs, looked at each second.
    if store
        .ca_roots()
        .iter()
        .all(|root| root.rotated_out_at_ms.is_none())
    {
        return None;
    }
    let ttl = current(store).ok()?.leaf_ttl;
    let mut kept = rows(store);
    kept.retain(|root| !is_over(root, ttl, now_ms));
    if kept.len() == store.ca_roots().len() {
        return None;
    }
    if let [last] = &mut kept[..] {
        // Nobody is left who knows only the root before it.
        last.intermediate_certs.clear();
    }
    Some(CaStep::Set {
        config: Box::new(CaConfig::clone(store.ca_config()?)),
        roots: kept,
        cas: store.ca_index(),
    })
}

/// Whether nobody can have a certificate of a root any more: twice the time for which one is good, as in Consul.
pub(super) fn is_over(root: &CaRoot, leaf_ttl: Duration, now_ms: u64) -> bool {
    let ttl = u64::try_from(leaf_ttl.as_millis()).unwrap_or(u64::MAX);
    let out = root.rotated_out_at_ms.filter(|_| !root.active);
    out.is_some_and(|out| now_ms > out.saturating_add(ttl.saturating_mul(2)))
}

/// Signs a request for a certificate. `by` is the time in milliseconds and a random number.
///
/// # Errors
/// As of [`super::sign`].
pub fn sign_with(
    store: &Store,
    settings: &Settings,
    csr: &[u8],
    place: Place<'_>,
    by: (u64, u64),
) -> Result<Signed, Error> {
    let config = store.ca_config().ok_or(Error::Uninitialized)?;
    let active = store.ca_roots().iter().find(|root| root.active);
    let active = active.ok_or(Error::Uninitialized)?;
    let domain = spiffe::trust_domain(config.cluster_id);
    let signed = sign::sign(csr, active, &domain, place, settings.leaf_ttl, by)?;
    Ok(Signed {
        index: store.last_index(),
        ..signed
    })
}

/// The settings in force.
///
/// # Errors
/// [`Error::Uninitialized`] while there is no authority.
pub fn current(store: &Store) -> Result<Settings, Error> {
    let row = store.ca_config().ok_or(Error::Uninitialized)?;
    let mut given = settings::show(&row.config, false);
    given.insert("PrivateKey".to_owned(), row.private_key.clone().into());
    let given = settings::read(&given, "").map_err(Error::Settings)?;
    Ok(given.settings)
}

/// Whether the root of one configuration does for another.
fn same_root(old: &Settings, new: &Settings) -> bool {
    let of = |settings: &Settings| {
        // The kind of a key that is given is that which it has.
        let made = settings.private_key.is_empty().then_some(settings.key);
        (
            made,
            settings.private_key.clone(),
            settings.root_cert.clone(),
        )
    };
    of(old) == of(new)
}

/// The roots with a new one in front. The old one's key is not needed any more, and is forgotten.
fn rotate(
    store: &Store,
    settings: &Settings,
    cluster_id: Uuid,
    update: &Update,
    root_stamp: Stamp,
    cross_stamp: Stamp,
) -> Result<Vec<CaRoot>, Error> {
    let mut new = cert::root(settings, cluster_id, root_stamp)?;
    let mut old = rows(store);
    if let Some(known) = old.iter().find(|root| root.id == new.id && root.active) {
        // The certificate that there is, now brought by the operator.
        new.intermediate_certs.clone_from(&known.intermediate_certs);
        old.retain(|root| root.id != new.id);
        old.insert(0, new);
        return Ok(old);
    }
    old.retain(|root| root.id != new.id);
    if let Some(active) = old.iter_mut().find(|root| root.active) {
        let life = CROSS_LIFE_MIN.max(settings.leaf_ttl * 2);
        match cert::cross_sign(&new, active, life, cross_stamp) {
            Ok(pem) => new.intermediate_certs = vec![pem],
            Err(_) if update.without_cross_signing => {}
            Err(error) => {
                return Err(Error::Settings(format!(
                    "the present root cannot sign the new one ({error}): ForceWithoutCrossSigning does without it, and cuts off those who do not know the new root yet"
                )));
            }
        }
        active.active = false;
        active.rotated_out_at_ms = Some(root_stamp.now_ms);
        active.signing_key.clear();
    }
    old.insert(0, new);
    Ok(old)
}

fn rows(store: &Store) -> Vec<CaRoot> {
    let rows = store.ca_roots().iter();
    rows.map(|root: &Arc<CaRoot>| CaRoot::clone(root)).collect()
}

pub(super) fn row(given: &Given, cluster_id: Uuid) -> Result<CaConfig, Error> {
    let config = serde_json::to_string(&given.shown);
    Ok(CaConfig {
        cluster_id,
        provider: PROVIDER.to_owned(),
        config: config.map_err(|error| Error::Settings(error.to_string()))?,
        private_key: given.settings.private_key.clone(),
        ..CaConfig::default()
    })
}

fn stamp(now_ms: u64, random: &dyn Random) -> Stamp {
    Stamp {
        now_ms,
        serial: random.next_u64(),
    }
}
