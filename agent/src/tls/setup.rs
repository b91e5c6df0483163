//! From settings and files to what the TLS library works with.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, Error as TlsError, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use super::files::{self, Error};
use super::outgoing::Chain;
use crate::config::{TlsInterface, TlsVersion};

/// How to answer handshakes; `None` where there is no certificate to show.
pub(super) fn incoming(tls: &TlsInterface) -> Result<Option<Arc<ServerConfig>>, Error> {
    let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) else {
        return Ok(None);
    };
    let provider = provider(tls)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(tls.min_version))
        .map_err(setup)?;
    let builder = match authorities(tls)? {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match tls.verify_incoming {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|e| Error::Setup(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = files::certificates(cert)?;
    let config = builder.with_single_cert(chain, files::key(key)?);
    Ok(Some(Arc::new(config.map_err(|e| pair(cert, key, &e))?)))
}

/// How to begin handshakes with servers. With `by_name` they must show the name that is asked for.
pub(super) fn outgoing(tls: &TlsInterface, by_name: bool) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider(tls)?;
    let roots = authorities(tls)?.unwrap_or_else(|| Arc::new(RootCertStore::empty()));
    let verifier = Chain::new(roots, Arc::clone(&provider), by_name);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(tls.min_version))
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(files::certificates(cert)?, files::key(key)?)
            .map_err(|e| pair(cert, key, &e))?,
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn authorities(tls: &TlsInterface) -> Result<Option<Arc<RootCertStore>>, Error> {
    files::authorities(tls.ca_file.as_deref(), tls.ca_path.as_deref())
}

fn setup(error: TlsError) -> Error {
    Error::Setup(error.to_string())
}

pub(super) fn pair(cert: &Path, key: &Path, error: &TlsError) -> Error {
    Error::Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        why: error.to_string(),
    }
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match min {
        TlsVersion::V12 => &ALL,
        TlsVersion::V13 => &ALL[..1],
    }
}

/// The library's cryptography, with the cipher suites of TLS 1.2 that the settings name.
fn provider(tls: &TlsInterface) -> Result<Arc<CryptoProvider>, Error> {
    let mut provider = ring::default_provider();
    if tls.cipher_suites.is_empty() {
        return Ok(Arc::new(provider));
    }
    let of_1_2 = |suite: &SupportedCipherSuite| suite.tls13().is_none();
    let name = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite());
    let known = provider.cipher_suites.iter().filter(|s| of_1_2(s));
    let known: Vec<String> = known.map(name).collect();
    for asked in &tls.cipher_suites {
        if !known.contains(asked) {
            return Err(Error::Suite {
                name: asked.clone(),
                known: known.join(", "),
            });
        }
    }
    provider
        .cipher_suites
        .retain(|suite| !of_1_2(suite) || tls.cipher_suites.contains(&name(suite)));
    Ok(Arc::new(provider))
}
