//! Looks at certificates before anybody uses them: what is wrong with them is said by whoever brings them, not by a
//! handshake later.

use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::make::Pair;

const NONE: &str = "there is no certificate in it";

/// What a certificate says about its time, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second that it is good for.
    pub begins: i64,
    /// The last second that it is good for.
    pub ends: i64,
}

/// When the first certificate of a PEM text begins and ends to be good.
///
/// # Errors
/// It holds none that can be read.
pub fn validity(pem: &str) -> Result<Validity, String> {
    let chain = certificates(pem)?;
    let parsed = X509Certificate::from_der(&chain[0]);
    let (_, cert) = parsed.map_err(|error| format!("it cannot be read: {error}"))?;
    Ok(Validity {
        begins: cert.validity().not_before.timestamp(),
        ends: cert.validity().not_after.timestamp(),
    })
}

/// Whether a certificate, its key and the authorities belong together, are good at `now` (seconds since 1970), and name
/// all of `names`.
///
/// # Errors
/// The first thing that is wrong, in a sentence without the key.
pub fn check(authorities: &str, pair: &Pair, names: &[String], now: i64) -> Result<(), String> {
    let roots = roots(authorities).map_err(|why| format!("ca.crt: {why}"))?;
    if roots.is_empty() {
        return Err(format!("ca.crt: {NONE}"));
    }
    let chain = chain_with_key(pair)?;
    let good = validity(&pair.cert).map_err(|why| format!("tls.crt: {why}"))?;
    if now > good.ends {
        return Err(format!("tls.crt: it expired {} s ago", now - good.ends));
    }
    if now < good.begins {
        return Err(format!(
            "tls.crt: it is not good before {} s from now",
            good.begins - now
        ));
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| format!("ca.crt: {error}"))?;
    let (own, between) = (&chain[0], &chain[1..]);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    verifier
        .verify_client_cert(own, between, at)
        .map_err(|error| format!("tls.crt: ca.crt does not vouch for it: {error}"))?;
    let parsed = ParsedCertificate::try_from(own).map_err(|error| format!("tls.crt: {error}"))?;
    for name in names {
        let wanted = ServerName::try_from(name.clone())
            .map_err(|_| format!("\"{name}\" cannot stand in a certificate"))?;
        verify_server_name(&parsed, &wanted)
            .map_err(|_| format!("tls.crt: it does not name {name}"))?;
    }
    Ok(())
}

/// Whether a certificate and its key can be read and belong together. Whose they are, and until when, is not asked: they
/// may be an authority's, and may have expired.
///
/// # Errors
/// The first thing that is wrong, in a sentence without the key.
pub fn check_pair(pair: &Pair) -> Result<(), String> {
    chain_with_key(pair).map(drop)
}

fn chain_with_key(pair: &Pair) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = certificates(&pair.cert).map_err(|why| format!("tls.crt: {why}"))?;
    // What the library says of a key may quote it.
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())
        .map_err(|_| "tls.key: there is no private key in PEM form".to_owned())?;
    CertifiedKey::from_der(chain.clone(), key, &ring::default_provider())
        .map_err(|error| format!("tls.crt and tls.key do not belong together: {error}"))?;
    Ok(chain)
}

/// Whether a PEM text holds authorities.
///
/// # Errors
/// Why it does not.
pub fn check_authorities(pem: &str) -> Result<(), String> {
    let roots = roots(pem).map_err(|why| format!("the authorities cannot be used: {why}"))?;
    match roots.is_empty() {
        true => Err(format!("the authorities cannot be used: {NONE}")),
        false => Ok(()),
    }
}

/// The authorities in a PEM text; there may be none.
pub(super) fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for root in all(pem)? {
        roots.add(root).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = all(pem)?;
    match all.is_empty() {
        true => Err(NONE.to_owned()),
        false => Ok(all),
    }
}

fn all(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("it is not in PEM form: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::make::{Authority, Names, authority, certificate};

    const DAY: Duration = Duration::from_secs(86_400);

    fn ca() -> Pair {
        authority(&Authority {
            common_name: "CA".into(),
            lifetime: DAY * 10,
            ..Authority::default()
        })
        .unwrap()
    }

    fn server(ca: &Pair) -> Pair {
        let names = Names {
            common_name: "server.dc1.consul".into(),
            dns: vec!["server.dc1.consul".into()],
            server: true,
            ..Names::default()
        };
        certificate(ca, &names, DAY).unwrap()
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_said_and_nothing_of_the_key() {
        let (one, other) = (ca(), ca());
        let good = server(&one);
        let now = validity(&good.cert).unwrap().begins + 60;
        let name = vec!["server.dc1.consul".to_owned()];
        assert_eq!(check(&one.cert, &good, &name, now), Ok(()));
        let both = format!("{}{}", other.cert, one.cert);
        assert_eq!(check(&both, &good, &name, now), Ok(()));
        let mixed = Pair {
            key: server(&one).key,
            ..good.clone()
        };
        let torn = Pair {
            key: good.key[..60].to_owned(),
            ..good.clone()
        };
        let empty = Pair {
            cert: String::new(),
            ..good.clone()
        };
        let elsewhere = vec!["server.dc2.consul".to_owned()];
        let cases = [
            (check(&other.cert, &good, &name, now), "does not vouch"),
            (check("", &good, &name, now), "ca.crt: there is no"),
            (
                check(&one.cert, &mixed, &name, now),
                "do not belong together",
            ),
            (check(&one.cert, &torn, &name, now), "tls.key: there is no"),
            (check(&one.cert, &empty, &name, now), "tls.crt: there is no"),
            (check(&one.cert, &good, &name, now + 90_000), "it expired"),
            (
                check(&one.cert, &good, &name, now - 4000),
                "not good before",
            ),
            (
                check(&one.cert, &good, &elsewhere, now),
                "does not name server.dc2",
            ),
        ];
        for (result, expected) in cases {
            let why = result.unwrap_err();
            assert!(why.contains(expected), "{why}");
            for line in good.key.lines().skip(1).take(1) {
                assert!(!why.contains(line), "{why}");
            }
        }
    }
}
