//! Certificates of authorities: roots, and roots signed by the ones before.

use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SignatureAlgorithm,
    SubjectPublicKeyInfo,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use uuid::Uuid;
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Name;

use super::settings::{KeyKind, Settings};
use super::sign::Signer;
use super::{Error, spiffe};
use crate::state::CaRoot;

/// How long before now a certificate begins to be good: clocks differ. Consul's.
pub(super) const DRIFT_MS: u64 = 60_000;

/// What a certificate is made with, beside who asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub(super) now_ms: u64,
    /// Random.
    pub(super) serial: u64,
}

impl Stamp {
    /// A positive number of 63 bits, which every reader of certificates takes.
    pub(super) fn serial(self) -> u64 {
        (self.serial >> 1).max(1)
    }

    pub(super) fn begin_ms(self) -> u64 {
        whole_seconds(self.now_ms.saturating_sub(DRIFT_MS))
    }

    pub(super) fn end_ms(self, life: Duration) -> u64 {
        let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        whole_seconds(self.now_ms.saturating_add(life).min(END_OF_TIME_MS))
    }

    pub(super) fn params(self, begin_ms: u64, end_ms: u64) -> CertificateParams {
        let at = |ms| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(ms);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(self.serial().to_be_bytes().to_vec().into());
        params.not_before = at(begin_ms);
        params.not_after = at(end_ms);
        params.use_authority_key_identifier_extension = true;
        params
    }
}

/// The last second that a certificate can name: of the year 9999.
const END_OF_TIME_MS: u64 = 253_402_300_799_000;

/// Certificates count in seconds.
fn whole_seconds(ms: u64) -> u64 {
    ms - ms % 1000
}

/// A new root: made here, or the one that the settings bring.
pub(super) fn root(settings: &Settings, cluster_id: Uuid, stamp: Stamp) -> Result<CaRoot, Error> {
    let key = match settings.private_key.as_str() {
        "" => KeyPair::generate_for(algorithm(settings.key))?,
        pem => read_key(pem)?,
    };
    let pem = match settings.root_cert.as_str() {
        "" => make_root(settings, cluster_id, &key, stamp)?,
        pem => {
            check_root(pem, &key, stamp)?;
            pem.to_owned()
        }
    };
    let der = read_cert(&pem)?;
    let cert = parse(&der)?;
    let ms = |at: x509_parser::time::ASN1Time| u64::try_from(at.timestamp()).unwrap_or(0) * 1000;
    let (kind, bits) = kind_of(&key);
    Ok(CaRoot {
        id: colons(digest(&SHA1_FOR_LEGACY_USE_ONLY, &der).as_ref()),
        name: "Consul CA Primary Cert".to_owned(),
        serial_number: u64::try_from(&cert.serial).unwrap_or(0),
        signing_key_id: key_id(&cert).map(colons).unwrap_or_default(),
        external_trust_domain: cluster_id.to_string(),
        not_before_ms: ms(cert.validity().not_before),
        not_after_ms: ms(cert.validity().not_after),
        root_cert: pem,
        private_key_type: kind.to_owned(),
        private_key_bits: bits,
        signing_key: key.serialize_pem(),
        active: true,
        ..CaRoot::default()
    })
}

/// Finds out whether a key and a root that an operator brings can be used at any time.
///
/// # Errors
/// What is wrong with them.
pub fn check_brought(settings: &Settings) -> Result<(), Error> {
    if settings.private_key.is_empty() {
        return Ok(());
    }
    let key = read_key(&settings.private_key)?;
    let stamp = Stamp {
        now_ms: 0,
        serial: 0,
    };
    match settings.root_cert.as_str() {
        "" => Ok(()),
        pem => check_root(pem, &key, stamp),
    }
}

fn make_root(
    settings: &Settings,
    cluster_id: Uuid,
    key: &KeyPair,
    stamp: Stamp,
) -> Result<String, Error> {
    let mut params = stamp.params(stamp.begin_ms(), stamp.end_ms(settings.root_ttl));
    let (number, cluster) = (stamp.serial() as u32, cluster_id.to_string());
    let name = format!("pri-{number:08x}.consul.ca.{}.consul", &cluster[..8]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![uri(&spiffe::of_authority(cluster_id))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = SIGNS.to_vec();
    Ok(params.self_signed(key)?.pem())
}

pub(super) const SIGNS: [KeyUsagePurpose; 3] = [
    KeyUsagePurpose::KeyCertSign,
    KeyUsagePurpose::CrlSign,
    KeyUsagePurpose::DigitalSignature,
];

/// Finds out whether a root that an operator brings can sign.
fn check_root(pem: &str, key: &KeyPair, stamp: Stamp) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Settings(format!("RootCert: {why}")));
    let der = read_cert(pem)?;
    let cert = parse(&der)?;
    if !cert.is_ca() {
        return refuse("it is not the certificate of a certificate authority");
    }
    if cert.public_key().raw != key.subject_public_key_info() {
        return refuse("it does not belong to the PrivateKey");
    }
    let now = i64::try_from(stamp.now_ms / 1000).unwrap_or(i64::MAX);
    if cert.validity().not_after.timestamp() <= now {
        return refuse("it is not good any more");
    }
    if key_id(&cert).is_none() {
        return refuse("it names no key (extension Subject Key Identifier)");
    }
    // What is signed must name this subject byte for byte, or nobody finds the root to it.
    let issuer = Issuer::from_ca_cert_der(&der, key)?;
    let trial = stamp.params(stamp.begin_ms(), stamp.end_ms(Duration::from_secs(60)));
    let trial = trial.signed_by(key, &issuer)?;
    if parse(trial.der())?.issuer().as_raw() != cert.subject().as_raw() {
        return refuse("its subject has a form that this version cannot write");
    }
    Ok(())
}

/// The new root's key signed by the old root, for those who know only that.
pub(super) fn cross_sign(
    new: &CaRoot,
    old: &CaRoot,
    life: Duration,
    stamp: Stamp,
) -> Result<String, Error> {
    let der = read_cert(&new.root_cert)?;
    let cert = parse(&der)?;
    let end = stamp.end_ms(life).min(old.not_after_ms);
    let mut params = stamp.params(stamp.begin_ms(), end);
    params.distinguished_name = name(cert.subject())?;
    let names = cert.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        if let x509_parser::extensions::GeneralName::URI(text) = name {
            params.subject_alt_names.push(uri(text)?);
        }
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = SIGNS.to_vec();
    let id = key_id(&cert).unwrap_or_default().to_vec();
    params.key_identifier_method = KeyIdMethod::PreSpecified(id);
    let key = SubjectPublicKeyInfo::from_der(cert.public_key().raw)?;
    let signer = Signer::of(old)?;
    if !signer.is_root {
        return Err(Error::Make(
            "its key is with the primary datacenter".to_owned(),
        ));
    }
    Ok(params.signed_by(&key, &signer.issuer)?.pem())
}

pub(super) fn uri(text: &str) -> Result<SanType, Error> {
    Ok(SanType::URI(Ia5String::try_from(text)?))
}

pub(super) fn algorithm(kind: KeyKind) -> &'static SignatureAlgorithm {
    match kind {
        KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
    }
}

/// Consul's words for a key, and its length.
pub(super) fn kind_of(key: &KeyPair) -> (&'static str, u32) {
    match key.algorithm() {
        alg if *alg == rcgen::PKCS_ECDSA_P256_SHA256 => ("ec", 256),
        alg if *alg == rcgen::PKCS_ECDSA_P384_SHA384 => ("ec", 384),
        // The raw key is the modulus with its length, the exponent, and theirs: 270 bytes for 2048 bits.
        alg if *alg == rcgen::PKCS_RSA_SHA256 => {
            let bytes = u32::try_from(key.public_key_raw().len()).unwrap_or(0);
            ("rsa", (bytes / 128) * 1024)
        }
        _ => ("ed25519", 256),
    }
}

/// The same of a key that is made here.
pub(super) fn kind_of_new(kind: KeyKind) -> (&'static str, u32) {
    match kind {
        KeyKind::P256 => ("ec", 256),
        KeyKind::P384 => ("ec", 384),
    }
}

/// Reads a private key: PKCS #8, or what OpenSSL writes of EC and RSA keys by default.
pub(super) fn read_key(pem: &str) -> Result<KeyPair, Error> {
    let refuse = || {
        Error::Settings(
            "PrivateKey: not a key in PEM (PKCS #8, EC or RSA) of a kind that this version can sign with"
                .to_owned(),
        )
    };
    let pkcs8 = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| refuse())? {
        PrivateKeyDer::Pkcs8(key) => return KeyPair::try_from(&key).map_err(|_| refuse()),
        PrivateKeyDer::Sec1(key) => vec![
            wrapped(&EC_P256, key.secret_sec1_der()),
            wrapped(&EC_P384, key.secret_sec1_der()),
        ],
        PrivateKeyDer::Pkcs1(key) => vec![wrapped(&RSA, key.secret_pkcs1_der())],
        _ => return Err(refuse()),
    };
    let mut keys = pkcs8
        .into_iter()
        .filter_map(|der| KeyPair::try_from(&PrivatePkcs8KeyDer::from(der)).ok());
    keys.next().ok_or_else(refuse)
}

/// Names of kinds of keys, in DER: `ecPublicKey` with its curve, `rsaEncryption`.
const EC_P256: [u8; 21] = [
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
const EC_P384: [u8; 18] = [
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x22,
];
const RSA: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// A key in the envelope that names its kind (PKCS #8, RFC 5958), the only form that ring reads.
fn wrapped(kind: &[u8], key: &[u8]) -> Vec<u8> {
    const VERSION: [u8; 3] = [0x02, 0x01, 0x00];
    element(0x30, &[&VERSION[..], kind, &element(0x04, key)].concat())
}

/// A value in DER.
fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).unwrap_or(7);
    let length = &length[significant..];
    let mut der = vec![tag];
    if value.len() >= 128 {
        der.push(0x80 | length.len() as u8);
    }
    der.extend_from_slice(length);
    der.extend_from_slice(value);
    der
}

pub(super) fn read_cert(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| Error::Settings("RootCert: not a certificate in PEM".to_owned()))
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], cert)) => Ok(cert),
        _ => Err(Error::Settings("RootCert: not a certificate".to_owned())),
    }
}

pub(super) fn key_id<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    use x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier;
    cert.iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

/// A name as rcgen has it. That it comes out as it went in was found by [`check_root`], or it was made here.
fn name(of: &X509Name<'_>) -> Result<DistinguishedName, Error> {
    let unknown = || Error::Settings("RootCert: its subject cannot be read".to_owned());
    let mut name = DistinguishedName::new();
    for attribute in of.iter_attributes() {
        let kind: Vec<u64> = attribute.attr_type().iter().ok_or_else(unknown)?.collect();
        let value = attribute.attr_value();
        let text = std::str::from_utf8(value.data).map_err(|_| unknown())?;
        let value = match value.header.tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into()?),
            _ => return Err(unknown()),
        };
        name.push(DnType::from_oid(&kind), value);
    }
    Ok(name)
}

pub(super) fn colons(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
