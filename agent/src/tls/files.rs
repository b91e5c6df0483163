//! PEM files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why connections cannot be protected as asked for. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot read {what} {}: {source}", path.display())]
    Read {
        /// What it should hold.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{} does not hold {what} in PEM form: {why}", path.display())]
    Content {
        /// What it should hold.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate and a key that do not belong together, or that cannot be used.
    #[error("cannot use the certificate {} with the key {}: {why}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Cipher suites that are unknown, or not spoken here.
    #[error("tls_cipher_suites: {name:?} is not spoken here; known are {known}")]
    Suite {
        /// The one.
        name: String,
        /// Those that are.
        known: String,
    },
    /// Datacenter and domain make no name.
    #[error(
        "{name:?} cannot be the name of a server in a certificate: change datacenter or domain"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The library refused the settings.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
}

/// The certificates in a file, in their order.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let what = "certificates";
    let bytes = read(what, path)?;
    let wrong = |why: String| Error::Content {
        what,
        path: path.to_owned(),
        why,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    match found.is_empty() {
        true => Err(wrong("there is none".to_owned())),
        false => Ok(found),
    }
}

/// The key in a file: PKCS#8, PKCS#1 or SEC1.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let what = "a private key";
    let bytes = read(what, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| Error::Content {
        what,
        path: path.to_owned(),
        why: error.to_string(),
    })
}

/// The authorities in a file, or in the files of a folder; `None` when neither is given.
pub(super) fn authorities(
    file: Option<&Path>,
    folder: Option<&Path>,
) -> Result<Option<Arc<RootCertStore>>, Error> {
    let files = match (file, folder) {
        (Some(file), _) => vec![file.to_owned()],
        (None, Some(folder)) => files_of(folder)?,
        (None, None) => return Ok(None),
    };
    let mut roots = RootCertStore::empty();
    for path in files {
        for certificate in certificates(&path)? {
            roots.add(certificate).map_err(|error| Error::Content {
                what: "certificates of authorities",
                path: path.clone(),
                why: error.to_string(),
            })?;
        }
    }
    Ok(Some(Arc::new(roots)))
}

/// The certificates' files of a folder.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let what = "the folder of authorities";
    let failed = |source| Error::Read {
        what,
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("pem" | "crt" | "cer")) {
            files.push(path);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(failed(io::Error::other(
            "there is no .pem, .crt or .cer file in it",
        ))),
        false => Ok(files),
    }
}

pub(super) fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read {
        what,
        path: path.to_owned(),
        source,
    })
}
