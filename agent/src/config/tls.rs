//! Settings of TLS. Pure: whether the files hold what they should is seen when they are read ([`crate::tls`]).

use std::path::PathBuf;
use std::time::Duration;

use super::build::{at_least, invalid};
use super::layer::{Layer, TlsInterfaceLayer};
use super::{AutoEncrypt, Error};

/// How connections are protected. Block `tls`, and the old top-level keys of the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The HTTPS API. Block `tls.https` over `tls.defaults`.
    pub https: TlsInterface,
    /// Servers' RPC: Raft and forwarded requests. Block `tls.internal_rpc` over `tls.defaults`.
    pub rpc: TlsInterface,
    /// Whether servers must show a certificate with the name `server.DATACENTER.DOMAIN`, to those that they connect to and
    /// to those that connect to them. Key `tls.internal_rpc.verify_server_hostname`. Needs `verify_outgoing`. Default false.
    pub verify_server_hostname: bool,
    /// Longest time a client of the HTTPS API may take for its handshake. Key `limits.https_handshake_timeout`. At least
    /// 1ms. Default 5s.
    pub https_handshake_timeout: Duration,
}

/// TLS of one kind of connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInterface {
    /// PEM file with the certificates of the authorities that are trusted. Default none.
    pub ca_file: Option<PathBuf>,
    /// Folder of such files (`.pem`, `.crt`, `.cer`), used when there is no `ca_file`. Default none.
    pub ca_path: Option<PathBuf>,
    /// PEM file with the own certificate, and those between it and the authority. Default none.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of the own certificate. Default none.
    pub key_file: Option<PathBuf>,
    /// Oldest version that is spoken. Key `tls_min_version`: `TLSv1_2` or `TLSv1_3`. Default `TLSv1_2`.
    pub min_version: TlsVersion,
    /// Names of the cipher suites of TLS 1.2 that are spoken. Key `tls_cipher_suites`, separated by commas. Default: all
    /// that are safe.
    pub cipher_suites: Vec<String>,
    /// Whether those who connect must show a certificate of the authorities; others are refused. Default false.
    pub verify_incoming: bool,
    /// Whether own connections use TLS, and check who answers. Default false.
    pub verify_outgoing: bool,
}

/// A version of TLS. Older ones are not spoken here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    V12,
    /// 1.3.
    V13,
}

impl TlsInterface {
    /// Whether there is a certificate to be shown.
    pub fn has_certificate(&self) -> bool {
        self.cert_file.is_some()
    }

    /// Whether anybody is trusted.
    pub fn has_authorities(&self) -> bool {
        self.ca_file.is_some() || self.ca_path.is_some()
    }
}

pub(super) fn check(
    layer: &Layer,
    auto: &AutoEncrypt,
    warnings: &mut Vec<String>,
) -> Result<Tls, Error> {
    let blocks = &layer.tls;
    if blocks.grpc != TlsInterfaceLayer::default() {
        warnings.push("tls.grpc has no effect here: this version does not speak gRPC".into());
    }
    let old = old_keys(layer);
    let rpc = TlsInterfaceLayer {
        verify_incoming: layer.verify_incoming_rpc,
        ..TlsInterfaceLayer::default()
    };
    let https = TlsInterfaceLayer {
        verify_incoming: layer.verify_incoming_https,
        ..TlsInterfaceLayer::default()
    };
    let rpc = [&blocks.internal_rpc, &rpc, &blocks.defaults, &old];
    let https = [&blocks.https, &https, &blocks.defaults, &old];
    let verify_server_hostname = first(&rpc, |l| l.verify_server_hostname).unwrap_or(false);
    let mut tls = Tls {
        rpc: interface("internal_rpc", &rpc, auto.tls)?,
        https: interface("https", &https, auto.tls)?,
        verify_server_hostname,
        https_handshake_timeout: at_least(
            "limits.https_handshake_timeout",
            layer.limits.https_handshake_timeout,
            Duration::from_secs(5),
            Duration::from_millis(1),
        )?,
    };
    super::auto_encrypt::imply(auto, &mut tls, warnings)?;
    if verify_server_hostname && !tls.rpc.verify_outgoing {
        return invalid(
            "verify_server_hostname set but one or more outgoing verifications are disabled: set tls.internal_rpc.verify_outgoing (or tls.defaults.verify_outgoing)",
        );
    }
    Ok(tls)
}

/// The top-level keys of the time before the block.
fn old_keys(layer: &Layer) -> TlsInterfaceLayer {
    TlsInterfaceLayer {
        ca_file: layer.ca_file.clone(),
        ca_path: layer.ca_path.clone(),
        cert_file: layer.cert_file.clone(),
        key_file: layer.key_file.clone(),
        tls_cipher_suites: layer.tls_cipher_suites.clone(),
        tls_min_version: layer.tls_min_version.clone(),
        use_auto_cert: None,
        verify_incoming: layer.verify_incoming,
        verify_outgoing: layer.verify_outgoing,
        verify_server_hostname: layer.verify_server_hostname,
    }
}

/// What the first of the layers says that says anything.
fn first<T>(
    layers: &[&TlsInterfaceLayer],
    get: impl Fn(&TlsInterfaceLayer) -> Option<T>,
) -> Option<T> {
    layers.iter().find_map(|layer| get(layer))
}

fn interface(
    name: &str,
    layers: &[&TlsInterfaceLayer],
    certificate_comes: bool,
) -> Result<TlsInterface, Error> {
    let text = |get: fn(&TlsInterfaceLayer) -> &Option<String>| {
        first(layers, |l| get(l).clone()).filter(|text| !text.is_empty())
    };
    let path = |get: fn(&TlsInterfaceLayer) -> &Option<String>| text(get).map(PathBuf::from);
    let suites = text(|l| &l.tls_cipher_suites).unwrap_or_default();
    let suites = suites.split(',').map(|s| s.trim().to_owned());
    let tls = TlsInterface {
        ca_file: path(|l| &l.ca_file),
        ca_path: path(|l| &l.ca_path),
        cert_file: path(|l| &l.cert_file),
        key_file: path(|l| &l.key_file),
        min_version: version(name, text(|l| &l.tls_min_version).as_deref())?,
        cipher_suites: suites.filter(|s| !s.is_empty()).collect(),
        verify_incoming: first(layers, |l| l.verify_incoming).unwrap_or(false),
        verify_outgoing: first(layers, |l| l.verify_outgoing).unwrap_or(false),
    };
    let has_ca = tls.has_authorities();
    let missing = |setting: &str, what: &str| {
        invalid(format!(
            "tls.{name}: {setting} set, and no {what} provided: set it there or in tls.defaults"
        ))
    };
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => return missing("cert_file", "key_file"),
        (None, Some(_)) => return missing("key_file", "cert_file"),
        _ => {}
    }
    if tls.verify_incoming && !has_ca {
        return missing("verify_incoming", "ca_file or ca_path");
    }
    if tls.verify_incoming && !tls.has_certificate() && !certificate_comes {
        return missing("verify_incoming", "cert_file and key_file");
    }
    if tls.verify_outgoing && !has_ca {
        return missing("verify_outgoing", "ca_file or ca_path");
    }
    Ok(tls)
}

fn version(name: &str, text: Option<&str>) -> Result<TlsVersion, Error> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        None | Some("tlsv1_2" | "tls12") => Ok(TlsVersion::V12),
        Some("tlsv1_3" | "tls13") => Ok(TlsVersion::V13),
        Some("tls_auto") => Ok(TlsVersion::V12),
        Some(older @ ("tlsv1_0" | "tlsv1_1" | "tls10" | "tls11")) => invalid(format!(
            "tls.{name}.tls_min_version: {older:?} is not spoken here, as it is not safe any more: TLSv1_2 or TLSv1_3"
        )),
        Some(_) => invalid(format!(
            "tls.{name}.tls_min_version: TLS version {:?} not supported: TLSv1_2 or TLSv1_3",
            text.unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagSettings, Format, Machine, SourceFile, load};

    fn tls(text: &str) -> Result<Tls, String> {
        let text = format!("data_dir = \"/d\" bind_addr = \"127.0.0.1\" {text}");
        let name = "a.hcl".to_owned();
        let format = Format::Hcl;
        let machine = Machine {
            hostname: "host".into(),
            private_ipv4: vec![],
            public_ipv6: vec![],
            temporary_dir: "/tmp/x".into(),
        };
        load(
            &[SourceFile { name, format, text }],
            &FlagSettings::default(),
            &machine,
        )
        .map(|loaded| loaded.config.tls)
        .map_err(|error| error.to_string())
    }

    #[test]
    fn an_interface_says_more_than_the_defaults_and_those_more_than_old_keys() {
        let text = r#"ca_file = "old" cert_file = "c" key_file = "k" verify_incoming_rpc = true
            tls { defaults { ca_file = "new" verify_outgoing = true tls_min_version = "TLSv1_3" }
                  https { ca_file = "https" verify_outgoing = false tls_min_version = "TLSv1_2" } }"#;
        let found = tls(text).unwrap();
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(found.rpc.ca_file, path("new"));
        assert_eq!(found.rpc.min_version, TlsVersion::V13);
        assert!(found.rpc.verify_incoming && found.rpc.verify_outgoing);
        assert_eq!(found.https.ca_file, path("https"));
        assert_eq!(found.https.cert_file, path("c"));
        assert_eq!(found.https.min_version, TlsVersion::V12);
        assert!(!found.https.verify_incoming && !found.https.verify_outgoing);
    }

    #[test]
    fn nothing_is_protected_by_halves() {
        for (text, wanted) in [
            (
                r#"tls { defaults { verify_incoming = true } }"#,
                "tls.internal_rpc: verify_incoming set, and no ca_file or ca_path provided",
            ),
            (
                r#"tls { https { verify_incoming = true ca_file = "c" } }"#,
                "tls.https: verify_incoming set, and no cert_file and key_file provided",
            ),
            (
                r#"tls { defaults { verify_outgoing = true } }"#,
                "tls.internal_rpc: verify_outgoing set, and no ca_file",
            ),
            (
                r#"tls { defaults { cert_file = "c" } }"#,
                "tls.internal_rpc: cert_file set, and no key_file provided",
            ),
            (
                r#"tls { internal_rpc { verify_server_hostname = true } }"#,
                "verify_server_hostname set but one or more outgoing verifications are disabled",
            ),
            (
                r#"tls { https { tls_min_version = "TLSv1_1" } }"#,
                "tls.https.tls_min_version: \"tlsv1_1\" is not spoken here",
            ),
            (
                r#"tls { https { tls_min_version = "x" } }"#,
                "tls.https.tls_min_version: TLS version \"x\" not supported",
            ),
        ] {
            let error = tls(text).unwrap_err();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
    }
}
