//! From settings and files to what the TLS library works with.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, Error as TlsError, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use super::automatic::{Guests, Mesh, Own};
use super::files::{self, Error};
use super::outgoing::Chain;
use crate::config::{TlsInterface, TlsVersion};

/// How to answer handshakes.
pub(super) struct Incoming {
    pub(super) config: Arc<ServerConfig>,
    /// Who looks at certificates, where those of the mesh are taken too.
    pub(super) guests: Option<Arc<Guests>>,
}

/// How to answer handshakes; `None` where there is no certificate to show. `own` is one that comes by itself, in place of
/// files; agents with a certificate of the `mesh` are let in, too.
pub(super) fn incoming(
    tls: &TlsInterface,
    own: Option<&Arc<Own>>,
    mesh: Option<&Arc<Mesh>>,
) -> Result<Option<Incoming>, Error> {
    if !tls.has_certificate() && own.is_none() {
        return Ok(None);
    }
    let provider = provider(tls)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(tls.min_version))
        .map_err(setup)?;
    let files = match authorities(tls)? {
        None => None,
        Some(roots) => {
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            let builder = match tls.verify_incoming {
                true => builder,
                false => builder.allow_unauthenticated(),
            };
            Some(builder.build().map_err(|e| Error::Setup(e.to_string()))?)
        }
    };
    let guests = mesh.map(|mesh| Arc::new(Guests::new(files.clone(), mesh.clone(), provider)));
    let builder = match (&guests, files) {
        (Some(guests), _) => builder.with_client_cert_verifier(guests.clone()),
        (None, Some(files)) => builder.with_client_cert_verifier(files),
        (None, None) => builder.with_no_client_auth(),
    };
    let mut config = match (&tls.cert_file, &tls.key_file, own) {
        (Some(cert), Some(key), _) => builder
            .with_single_cert(files::certificates(cert)?, files::key(key)?)
            .map_err(|e| pair(cert, key, &e))?,
        (_, _, Some(own)) => builder.with_cert_resolver(own.clone()),
        _ => return Ok(None),
    };
    if guests.is_some() {
        // Each handshake is looked at, for the roots change; there are few of them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    let config = Arc::new(config);
    Ok(Some(Incoming { config, guests }))
}

/// What to show to servers.
pub(super) enum Shown<'a> {
    /// The certificate of the files, if they have one.
    Files,
    /// That, or else the one that comes by itself.
    Own(&'a Arc<Own>),
    /// None.
    Nothing,
}

/// How to begin handshakes with servers. With `by_name` they must show the name that is asked for.
pub(super) fn outgoing(
    tls: &TlsInterface,
    by_name: bool,
    shown: Shown<'_>,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider(tls)?;
    let roots = authorities(tls)?.unwrap_or_else(|| Arc::new(RootCertStore::empty()));
    let verifier = Chain::new(roots, Arc::clone(&provider), by_name);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(tls.min_version))
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&tls.cert_file, &tls.key_file, &shown) {
        (Some(cert), Some(key), Shown::Files | Shown::Own(_)) => builder
            .with_client_auth_cert(files::certificates(cert)?, files::key(key)?)
            .map_err(|e| pair(cert, key, &e))?,
        (_, _, Shown::Own(own)) => builder.with_client_cert_resolver(Arc::clone(own) as _),
        _ => builder.with_no_client_auth(),
    };
    if matches!(shown, Shown::Own(_)) {
        // Each handshake shows the certificate that there is now.
        config.resumption = Resumption::disabled();
    }
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
