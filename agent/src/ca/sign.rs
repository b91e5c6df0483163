//! Requests for certificates, and what answers them.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::CertificateSigningRequestDer;
use x509_parser::time::ASN1Time;

use super::cert::{Stamp, algorithm, colons, parse, read_cert, read_key, uri};
use super::settings::KeyKind;
use super::{Error, spiffe};
use crate::state::CaRoot;

/// Most names and addresses that an agent's certificate has beside its id.
const NAMES_MAX: usize = 64;

/// A key with the request to certify it.
pub struct Requested {
    /// PEM; it stays where it was made.
    pub private_key: String,
    /// The request (PKCS #10, DER).
    pub csr: Vec<u8>,
}

/// Makes a key, of the same kind as that of the root, and a request for a certificate with this name.
///
/// # Errors
/// When the name cannot stand in a certificate.
pub fn request(name: &str, root: &CaRoot) -> Result<Requested, Error> {
    request_for(vec![uri(name)?], root)
}

/// The same for an agent, which others also know by DNS names and addresses.
///
/// # Errors
/// When a name cannot stand in a certificate.
pub fn request_of_agent(
    name: &str,
    dns: &[String],
    ips: &[IpAddr],
    root: &CaRoot,
) -> Result<Requested, Error> {
    let mut names = vec![uri(name)?];
    for name in dns {
        names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    names.extend(ips.iter().copied().map(SanType::IpAddress));
    request_for(names, root)
}

fn request_for(names: Vec<SanType>, root: &CaRoot) -> Result<Requested, Error> {
    let kind = match (root.private_key_type.as_str(), root.private_key_bits) {
        ("ec", 384) => KeyKind::P384,
        _ => KeyKind::P256,
    };
    let key = KeyPair::generate_for(algorithm(kind))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    Ok(Requested {
        csr: params.serialize_request(&key)?.der().to_vec(),
        private_key: key.serialize_pem(),
    })
}

/// A certificate that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// In hexadecimal with colons.
    pub serial_number: String,
    /// PEM, and behind it what leads from it to a root.
    pub cert: String,
    /// Whose it is.
    pub uri: String,
    /// Milliseconds since the Unix epoch.
    pub valid_after_ms: u64,
    /// Likewise.
    pub valid_before_ms: u64,
    /// Which root signed it.
    pub root_id: String,
    /// The state's index when it was signed.
    pub index: u64,
}

/// Where whoever gets a certificate must be.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The datacenter that signs.
    pub datacenter: &'a str,
    /// Of its DNS names, without a final dot.
    pub domain: &'a str,
}

/// Whose certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A service.
    Service(String),
    /// The agent of a node.
    Agent(String),
}

/// Answers a request from the active root. `now_ms` is the time, `serial` random.
///
/// # Errors
/// [`Error::Request`] when it asks for what is not given: another name than one of a service or an agent of this
/// datacenter.
pub fn sign(
    csr: &[u8],
    root: &CaRoot,
    trust_domain: &str,
    place: Place<'_>,
    ttl: Duration,
    (now_ms, serial): (u64, u64),
) -> Result<Signed, Error> {
    let csr = read(csr)?;
    let (name, host, datacenter) = match subject(&csr)? {
        (name, spiffe::Id::Service(id)) => (name, id.host, id.datacenter),
        (name, spiffe::Id::Agent(id)) => {
            check_names(&csr.params.subject_alt_names[1..], place.domain)?;
            (name, id.host, id.datacenter)
        }
        (_, spiffe::Id::Other) => {
            return refuse("SPIFFE ID in CSR must be a service or agent ID".to_owned());
        }
    };
    if !host.eq_ignore_ascii_case(trust_domain) {
        return refuse(format!(
            "SPIFFE ID in CSR from a different trust domain: {host}, we are {trust_domain}"
        ));
    }
    if datacenter != place.datacenter {
        let own = place.datacenter;
        return refuse(format!(
            "SPIFFE ID in CSR from a different datacenter: {datacenter}, we are {own}"
        ));
    }
    let signer = Signer::of(root)?;
    let stamp = Stamp { now_ms, serial };
    let (begin, end) = (stamp.begin_ms(), stamp.end_ms(ttl).min(signer.not_after_ms));
    let mut params = stamp.params(begin, end);
    params
        .subject_alt_names
        .clone_from(&csr.params.subject_alt_names);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DataEncipherment,
        KeyUsagePurpose::KeyAgreement,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let mut cert = params.signed_by(&csr.public_key, &signer.issuer)?.pem();
    cert.extend(root.intermediate_certs.iter().map(String::as_str));
    Ok(Signed {
        serial_number: colons(&stamp.serial().to_be_bytes()),
        cert,
        uri: name.to_owned(),
        valid_after_ms: begin,
        valid_before_ms: end,
        root_id: root.id.clone(),
        index: 0,
    })
}

/// Whom a request for a certificate names; `None` when it would be refused.
pub fn subject_of(csr: &[u8]) -> Option<Subject> {
    match subject(&read(csr).ok()?).ok()? {
        (_, spiffe::Id::Service(id)) => Some(Subject::Service(id.service)),
        (_, spiffe::Id::Agent(id)) => Some(Subject::Agent(id.agent)),
        (_, spiffe::Id::Other) => None,
    }
}

pub(super) fn read(csr: &[u8]) -> Result<CertificateSigningRequestParams, Error> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
        .map_err(|error| Error::Request(format!("invalid CSR: {error}")))
}

fn refuse<T>(why: String) -> Result<T, Error> {
    Err(Error::Request(why))
}

/// The id in a request. Only that of an agent may have other names behind it.
fn subject(csr: &CertificateSigningRequestParams) -> Result<(&str, spiffe::Id), Error> {
    let (name, others) = match &csr.params.subject_alt_names[..] {
        [SanType::URI(name), others @ ..] => (name.as_str(), others),
        _ => return refuse("CSR must name one URI first".to_owned()),
    };
    match spiffe::parse(name) {
        Some(id @ spiffe::Id::Agent(_)) => Ok((name, id)),
        Some(id) if others.is_empty() => Ok((name, id)),
        Some(_) => refuse("CSR must name one URI, and nothing else".to_owned()),
        None => refuse("SPIFFE ID in CSR must be a service or agent ID".to_owned()),
    }
}

/// Refuses names that would make a client a server: certificates of servers come from the operator alone.
fn check_names(names: &[SanType], domain: &str) -> Result<(), Error> {
    if names.len() > NAMES_MAX {
        return refuse(format!("CSR must name no more than {NAMES_MAX} others"));
    }
    for name in names {
        match name {
            SanType::IpAddress(_) => {}
            SanType::DnsName(name) if may_be_a_server(name.as_str(), domain) => {
                return refuse(format!(
                    "CSR names {:?}, which is a server's: auto_encrypt.dns_san must not",
                    name.as_str()
                ));
            }
            SanType::DnsName(_) => {}
            _ => return refuse("CSR must name one URI, DNS names and addresses".to_owned()),
        }
    }
    Ok(())
}

/// Whether somebody with this name could be taken for `server.DATACENTER.DOMAIN`.
fn may_be_a_server(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.to_ascii_lowercase(), domain.to_ascii_lowercase());
    let name = name.trim_end_matches('.');
    let below = name
        .strip_suffix(&domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    below && (name.starts_with("server.") || name.contains('*'))
}

/// The key that signs, and whose it is: that of the root itself, or of an intermediate certificate of it.
pub(super) struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(super) pem: String,
    pub(super) not_before_ms: u64,
    /// Nothing that it signs is good for longer.
    pub(super) not_after_ms: u64,
    /// Whether it is the root itself.
    pub(super) is_root: bool,
}

impl Signer {
    /// # Errors
    /// When there is no certificate to the root's key.
    pub(super) fn of(root: &CaRoot) -> Result<Self, Error> {
        let key = read_key(&root.signing_key)?;
        let public = key.subject_public_key_info();
        let all = std::iter::once(&root.root_cert).chain(&root.intermediate_certs);
        for (place, pem) in all.enumerate() {
            let der = read_cert(pem)?;
            let cert = parse(&der)?;
            if cert.public_key().raw != public {
                continue;
            }
            let ms = |at: ASN1Time| u64::try_from(at.timestamp()).unwrap_or(0) * 1000;
            return Ok(Self {
                pem: pem.clone(),
                not_before_ms: ms(cert.validity().not_before),
                not_after_ms: ms(cert.validity().not_after),
                is_root: place == 0,
                issuer: Issuer::from_ca_cert_der(&der, key)?,
            });
        }
        Err(Error::Make(
            "no certificate of the authority belongs to its key".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_is_named_like_a_server() {
        for name in [
            "server.dc1.consul",
            "SERVER.dc2.Consul.",
            "*.dc1.consul",
            "*.consul",
            "server.consul",
        ] {
            assert!(may_be_a_server(name, "consul"), "{name}");
        }
        for name in [
            "localhost",
            "client.dc1.consul",
            "server.example.org",
            "*.example.org",
            "server.dc1.notconsul",
        ] {
            assert!(!may_be_a_server(name, "consul"), "{name}");
        }
    }
}
