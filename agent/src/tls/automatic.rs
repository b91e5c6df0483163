//! What the mesh's authority adds to the files (`auto_encrypt`): a client's own certificate, and whose certificates a server
//! takes. Both change while the configurations that look at them stay.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::files::Error;
use super::inspect;
use crate::ca::spiffe;

/// The certificate of a client, as soon as it has one. It is shown to servers, and to clients of the HTTPS API.
#[derive(Debug, Default)]
pub(super) struct Own(ArcSwapOption<CertifiedKey>);

impl Own {
    pub(super) fn is_there(&self) -> bool {
        self.0.load().is_some()
    }

    /// Takes a certificate, what leads from it to a root, and its key, in PEM.
    pub(super) fn set(&self, chain: &str, key: &str) -> Result<(), Error> {
        let wrong = |why: String| Error::Setup(format!("the certificate that came: {why}"));
        let chain = inspect::certificates(chain).map_err(wrong)?;
        // What the library says of a key may quote it.
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| wrong("there is no private key".to_owned()))?;
        let own = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let own = own.map_err(|error| wrong(error.to_string()))?;
        self.0.store(Some(Arc::new(own)));
        Ok(())
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.is_there()
    }
}

/// The roots of the mesh, as this server knows them now.
#[derive(Debug, Default)]
pub(super) struct Mesh(ArcSwapOption<Known>);

#[derive(Debug)]
struct Known {
    verifier: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
}

impl Mesh {
    /// Takes the roots, in PEM; none take everybody's certificate off.
    pub(super) fn set(&self, roots: &str, trust_domain: &str) -> Result<(), Error> {
        let wrong = |why: String| Error::Setup(format!("the roots of the mesh: {why}"));
        let roots = inspect::roots(roots).map_err(wrong)?;
        if roots.is_empty() {
            self.0.store(None);
            return Ok(());
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(|error| wrong(error.to_string()))?;
        self.0.store(Some(Arc::new(Known {
            verifier,
            trust_domain: trust_domain.to_owned(),
        })));
        Ok(())
    }
}

/// Lets in whoever has a certificate of the files' authorities, or of the mesh's if it is an agent's: services have some
/// of those too. Who shows none may ask for one, and for nothing else ([`super::Peer::Applicant`]).
pub(super) struct Guests {
    files: Option<Arc<dyn ClientCertVerifier>>,
    mesh: Arc<Mesh>,
    provider: Arc<CryptoProvider>,
}

impl Guests {
    pub(super) fn new(
        files: Option<Arc<dyn ClientCertVerifier>>,
        mesh: Arc<Mesh>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            files,
            mesh,
            provider,
        }
    }

    /// Whether a certificate is one of the files' authorities: no other makes anybody a server.
    pub(super) fn is_of_files(&self, certs: &[CertificateDer<'_>]) -> bool {
        let (Some(files), [own, between @ ..]) = (&self.files, certs) else {
            return false;
        };
        files
            .verify_client_cert(own, between, UnixTime::now())
            .is_ok()
    }
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guests").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Guests {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The mesh's change: whoever has a certificate shows it.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let unknown = || TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let by_files = match &self.files {
            Some(files) => files.verify_client_cert(own, between, now),
            None => Err(unknown()),
        };
        let (Err(why), Some(mesh)) = (&by_files, self.mesh.0.load_full()) else {
            return by_files;
        };
        match mesh.verifier.verify_client_cert(own, between, now) {
            Ok(verified) if is_agent(own, &mesh.trust_domain) => Ok(verified),
            Ok(_) => Err(TlsError::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
            Err(other) if other == unknown() => Err(why.clone()),
            Err(other) => Err(other),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whether a certificate names an agent of this trust domain.
fn is_agent(own: &CertificateDer<'_>, trust_domain: &str) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(own) else {
        return false;
    };
    let names = cert.subject_alternative_name().ok().flatten();
    let mut names = names.iter().flat_map(|names| &names.value.general_names);
    names.any(|name| match name {
        GeneralName::URI(text) => match spiffe::parse(text) {
            Some(spiffe::Id::Agent(id)) => id.host.eq_ignore_ascii_case(trust_domain),
            _ => false,
        },
        _ => false,
    })
}
