//! Public keys: in PEM form, and as sets in JSON.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Keys of a set that are looked at. Issuers publish two or three; every one may have to be tried.
const KEYS_MAX: usize = 64;

/// Object identifier of Ed25519: RFC 8410.
const ED25519: &str = "1.3.101.112";

/// A public key.
#[derive(Debug, Clone)]
pub struct Key {
    /// By which a bearer token names it.
    id: Option<String>,
    /// The only algorithm that it is for.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// Whether a bearer token may be signed by it that says so in front.
    pub(super) fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let same_id = match (&self.id, id) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        same_id
            && self.key.family() == algorithm.family()
            && self.algorithm.is_none_or(|only| only == algorithm)
    }

    pub(super) fn has_id(&self) -> bool {
        self.id.is_some()
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.key
    }
}

/// The key, or that of the certificate, in a PEM text.
pub(super) fn of_pem(pem: &str) -> Result<Key, String> {
    let wrong = |why: &str| format!("holds a key that cannot be used: {why}");
    let bytes = pem.as_bytes();
    let key = if let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(bytes) {
        let info = SubjectPublicKeyInfo::from_der(&der);
        let (_, info) = info.map_err(|_| wrong("the text is no public key"))?;
        of_info(&info)
    } else if let Ok(der) = CertificateDer::from_pem_slice(bytes) {
        let cert = X509Certificate::from_der(&der);
        let (_, cert) = cert.map_err(|_| wrong("the text is no certificate"))?;
        of_info(cert.public_key())
    } else {
        return Err(wrong("there is no PUBLIC KEY in PEM form in it"));
    };
    let key = key.ok_or_else(|| wrong("keys are of RSA, P-256, P-384 or Ed25519"))?;
    Ok(Key {
        id: None,
        algorithm: None,
        key,
    })
}

/// `None` for a kind of key that nothing is verified with here.
fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Option<DecodingKey> {
    let raw = info.subject_public_key.data.as_ref();
    match info.parsed().ok()? {
        PublicKey::RSA(key) => Some(DecodingKey::from_rsa_raw_components(
            key.modulus,
            key.exponent,
        )),
        // Uncompressed, of 32 or 48 bytes twice.
        PublicKey::EC(_) if matches!(raw.len(), 65 | 97) => Some(DecodingKey::from_ec_der(raw)),
        PublicKey::Unknown(_) if info.algorithm.algorithm.to_id_string() == ED25519 => {
            (raw.len() == 32).then(|| DecodingKey::from_ed_der(raw))
        }
        _ => None,
    }
}

/// The keys of a set (RFC 7517) that something can be verified with; others are left out.
///
/// # Errors
/// When it is no set, or holds none.
pub fn of_set(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("the key set cannot be read: {error}"))?;
    let Some(list) = set.get("keys").and_then(Value::as_array) else {
        return Err("the key set has no list \"keys\"".to_owned());
    };
    let found = list.iter().filter_map(of_jwk).take(KEYS_MAX);
    let found: Vec<_> = found.collect();
    match found.is_empty() {
        true => Err("the key set holds no public key of RSA, P-256, P-384 or Ed25519".to_owned()),
        false => Ok(found),
    }
}

fn of_jwk(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let common = &jwk.common;
    let to_sign = common.public_key_use.as_ref();
    let to_verify = common.key_operations.as_ref();
    if to_sign.is_some_and(|of| *of != PublicKeyUse::Signature)
        || to_verify.is_some_and(|all| !all.contains(&KeyOperations::Verify))
    {
        return None;
    }
    let good = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => true,
        AlgorithmParameters::EllipticCurve(key) => {
            matches!(key.curve, EllipticCurve::P256 | EllipticCurve::P384)
        }
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
        // Whoever could read the set, could sign with it.
        _ => false,
    };
    let algorithm = match common.key_algorithm {
        None => None,
        Some(named) => Some(named.try_into().ok()?),
    };
    Some(Key {
        id: common.key_id.clone(),
        algorithm,
        key: DecodingKey::from_jwk(&jwk).ok().filter(|_| good)?,
    })
}
