//! Own connections: to servers, and those of the command line to an HTTPS API.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, ready};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme, WantsVerifier,
};

use super::files::{self, Error};
use super::{Tls, inspect, setup};
use crate::env::{BoxStream, Datagrams, Listener, Net};

/// The network of connections to servers.
pub(super) struct Outgoing {
    net: Arc<dyn Net>,
    tls: Arc<Tls>,
    /// Whether a certificate is asked for here, without one.
    asks: bool,
}

impl Outgoing {
    pub(super) fn new(net: Arc<dyn Net>, tls: Arc<Tls>) -> Self {
        let asks = false;
        Self { net, tls, asks }
    }

    pub(super) fn asking(net: Arc<dyn Net>, tls: Arc<Tls>) -> Self {
        let asks = true;
        Self { net, tls, asks }
    }

    /// How to begin a handshake now; `None` for plain text.
    fn config(&self) -> io::Result<Option<Arc<ClientConfig>>> {
        let now = self.tls.now.load();
        if self.asks {
            let none = || io::Error::other("no certificate is to be asked for");
            return now.asking.clone().map(Some).ok_or_else(none);
        }
        if self.tls.waits_for_certificate() {
            return Err(io::Error::other(
                "no server has given this client a certificate yet (auto_encrypt.tls)",
            ));
        }
        Ok(now.rpc_out.clone())
    }
}

impl Net for Outgoing {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.net.listen(addr)
    }

    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        let config = match self.config() {
            Ok(Some(config)) => config,
            Ok(None) => return self.net.connect(addr),
            Err(error) => return ready(Err(error)).boxed(),
        };
        async move {
            let stream = self.net.connect(addr).await?;
            let name = self.tls.name_at(addr);
            let secured = TlsConnector::from(config).connect(name, stream).await?;
            Ok(Box::new(secured) as BoxStream)
        }
        .boxed()
    }

    fn bind_udp(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Arc<dyn Datagrams>>> {
        self.net.bind_udp(addr)
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.net.resolve(host, port)
    }
}

/// Trusts whoever has a certificate of the authorities, whatever its address; by name, only those that have it.
#[derive(Debug)]
pub(super) struct Chain {
    roots: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
    by_name: bool,
}

impl Chain {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        by_name: bool,
    ) -> Self {
        Self {
            roots: Some(roots),
            provider,
            by_name,
        }
    }

    /// Trusts everybody; signatures are still checked.
    fn anybody(provider: Arc<CryptoProvider>) -> Self {
        Self {
            roots: None,
            provider,
            by_name: false,
        }
    }
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let cert = ParsedCertificate::try_from(own)?;
        let known = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&cert, roots, between, now, known)?;
        if self.by_name {
            verify_server_name(&cert, name)?;
        }
        Ok(ServerCertVerified::assertion())
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

/// How a client of an HTTPS API is set up. The default trusts the system's authorities and shows no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM file with the authorities that are trusted.
    pub ca_file: Option<PathBuf>,
    /// Folder of such files, used when there is no `ca_file`.
    pub ca_path: Option<PathBuf>,
    /// PEM file with the own certificate.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub key_file: Option<PathBuf>,
    /// Name that the agent's certificate must have, in place of the address's host.
    pub server_name: Option<String>,
    /// Whether anybody may answer.
    pub skip_verify: bool,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that cannot be read or does not hold what it should.
    pub fn load(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = builder(Arc::clone(&provider))?;
        let roots = files::authorities(self.ca_file.as_deref(), self.ca_path.as_deref())?;
        let builder = match self.skip_verify {
            true => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Chain::anybody(provider))),
            false => builder.with_root_certificates(roots.unwrap_or_else(system)),
        };
        match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => builder
                .with_client_auth_cert(files::certificates(cert)?, files::key(key)?)
                .map_err(|error| setup::pair(cert, key, &error)),
            _ => Ok(builder.with_no_client_auth()),
        }
        .map(Arc::new)
    }

    /// Trusts the authorities of this PEM text, and shows no certificate.
    ///
    /// # Errors
    /// It holds none.
    pub fn trusting(pem: &str) -> Result<Arc<ClientConfig>, Error> {
        let refused = |why: &str| Error::Setup(format!("the authorities cannot be used: {why}"));
        let roots = inspect::roots(pem).map_err(|why| refused(&why))?;
        if roots.is_empty() {
            return Err(refused("there is none"));
        }
        let config = builder(Arc::new(ring::default_provider()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setup(error.to_string()))
}

/// The system's authorities; those that cannot be read are left out, and then nobody they vouch for is trusted.
fn system() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}
