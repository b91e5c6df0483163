//! Makes authorities and certificates, for those who have no other way to get them.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};

/// How far back a certificate begins to be good: clocks of those who are shown it may be behind.
const BACKDATED: Duration = Duration::from_secs(600);

/// A certificate with its key, both in PEM form.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its key, PKCS#8: a secret.
    pub key: String,
}

/// Shows nothing of the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(hidden)")
    }
}

/// What an authority is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authority {
    /// Its name.
    pub common_name: String,
    /// How long it may vouch for others.
    pub lifetime: Duration,
    /// The only DNS names, with those below them, that it may vouch for; none: all.
    pub only_names: Vec<String>,
    /// Named in its certificate as `spiffe://ID.DOMAIN` where given, as Connect wants it.
    pub uri: Option<String>,
}

/// What a certificate says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The name.
    pub common_name: String,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Whether it may be shown to those who connect; it may always be shown to those who are connected to.
    pub server: bool,
}

/// Makes an authority that vouches for itself: ECDSA on P-256.
///
/// # Errors
/// What the library says, for names that cannot stand in a certificate above all.
pub fn authority(asked: &Authority) -> Result<Pair, rcgen::Error> {
    let mut params = params(asked.lifetime, &asked.common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    if let Some(uri) = &asked.uri {
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
    }
    if !asked.only_names.is_empty() {
        let names = asked.only_names.iter().cloned();
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: Vec::new(),
        });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Pair {
        cert: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a certificate for which `authority` vouches.
///
/// # Errors
/// When the authority's certificate or key cannot be read, or a name cannot stand in a certificate.
pub fn certificate(
    authority: &Pair,
    names: &Names,
    lifetime: Duration,
) -> Result<Pair, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&authority.cert, KeyPair::from_pem(&authority.key)?)?;
    let mut params = params(lifetime, &names.common_name);
    let dns = names
        .dns
        .iter()
        .map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
    params.subject_alt_names = dns.collect::<Result<_, rcgen::Error>>()?;
    let ips = names.ips.iter().copied().map(SanType::IpAddress);
    params.subject_alt_names.extend(ips);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if names.server {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Pair {
        cert: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn params(lifetime: Duration, common_name: &str) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + lifetime).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}
