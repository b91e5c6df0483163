//! Block `auto_encrypt`: certificates of client agents that come by themselves. Pure.

use std::net::IpAddr;

use super::build::{invalid, parsed};
use super::layer::Layer;
use super::{Error, Tls};

/// Who asks for a certificate, and who gives one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoEncrypt {
    /// Whether this client asks the servers for its certificate. Needs `ca_file` or `ca_path` for them; implies
    /// `verify_outgoing` and `verify_server_hostname`. Key `tls`. Default false.
    pub tls: bool,
    /// Whether this server lets clients have one, and takes those for `verify_incoming` that were given so. Needs a certificate of
    /// its own. Key `allow_tls`. Default false.
    pub allow_tls: bool,
    /// DNS names of the certificate beside `localhost` and `client.DATACENTER.DOMAIN`. Default none.
    pub dns_san: Vec<String>,
    /// Its addresses beside 127.0.0.1 and ::1. Default none.
    pub ip_san: Vec<IpAddr>,
}

/// # Errors
/// What does not go together, or what cannot stand in a certificate.
pub(super) fn check(layer: &Layer, server: bool) -> Result<AutoEncrypt, Error> {
    let given = &layer.auto_encrypt;
    let mut auto = AutoEncrypt {
        tls: given.tls.unwrap_or(false),
        allow_tls: given.allow_tls.unwrap_or(false),
        ..AutoEncrypt::default()
    };
    if auto.tls && auto.allow_tls {
        return invalid(
            "auto_encrypt.tls and auto_encrypt.allow_tls are mutually exclusive: clients set tls, servers set allow_tls",
        );
    }
    if auto.tls && server {
        return invalid(
            "auto_encrypt.tls can only be used on a client: a server has cert_file and key_file in tls.defaults, and gives others theirs with auto_encrypt.allow_tls",
        );
    }
    if auto.allow_tls && !server {
        return invalid(
            "auto_encrypt.allow_tls can only be used on a server: a client asks for its certificate with auto_encrypt.tls",
        );
    }
    if auto.allow_tls && layer.connect.enabled == Some(false) {
        return invalid(
            "auto_encrypt.allow_tls needs the certificate authority that 'connect.enabled = false' switches off",
        );
    }
    for name in &given.dns_san {
        if !may_stand(name) {
            return invalid(format!("auto_encrypt.dns_san: {name:?} is no DNS name"));
        }
        auto.dns_san.push(name.clone());
    }
    for text in &given.ip_san {
        auto.ip_san
            .push(parsed("auto_encrypt.ip_san", text, "an ip address")?);
    }
    Ok(auto)
}

fn may_stand(name: &str) -> bool {
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        label == "*" || (!label.is_empty() && label.len() < 64 && label.chars().all(plain))
    };
    name.len() < 254 && name.split('.').all(label)
}

/// What the block makes of the other settings of TLS.
///
/// # Errors
/// When the other side could not be checked, or could not check this one.
pub(super) fn imply(
    auto: &AutoEncrypt,
    tls: &mut Tls,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    if auto.tls {
        if !tls.rpc.has_authorities() {
            return invalid(
                "auto_encrypt.tls needs ca_file or ca_path in tls.internal_rpc or tls.defaults: the authority by which the servers are known that are asked for a certificate",
            );
        }
        tls.rpc.verify_outgoing = true;
        tls.verify_server_hostname = true;
    }
    if auto.allow_tls {
        if !tls.rpc.has_certificate() {
            return invalid(
                "auto_encrypt.allow_tls needs cert_file and key_file in tls.internal_rpc or tls.defaults: clients ask for certificates over TLS only",
            );
        }
        if !tls.rpc.verify_incoming {
            warnings.push(
                "if auto_encrypt.allow_tls is turned on, tls.internal_rpc.verify_incoming should be enabled (either explicitly or via tls.defaults.verify_incoming), as soon as every agent has a certificate".into(),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_with;
    use super::*;

    const CERTIFICATE: &str = r#"{"ca_file": "ca", "cert_file": "c", "key_file": "k"}"#;

    #[test]
    fn a_client_that_asks_checks_the_servers_by_their_name() {
        let text = r#", "tls": {"defaults": {"ca_file": "ca", "verify_incoming": true}}, "ports": {"https": 8501},
            "auto_encrypt": {"tls": true, "dns_san": ["web.example"], "ip_san": ["10.0.0.1", "::2"]}"#;
        let loaded = load_with(text).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        let config = loaded.config;
        assert!(config.tls.rpc.verify_outgoing && config.tls.verify_server_hostname);
        assert!(config.tls.https.verify_incoming && !config.https.is_empty());
        let wanted = AutoEncrypt {
            tls: true,
            allow_tls: false,
            dns_san: vec!["web.example".into()],
            ip_san: vec!["10.0.0.1".parse().unwrap(), "::2".parse().unwrap()],
        };
        assert_eq!(config.auto_encrypt, wanted);
    }

    #[test]
    fn a_server_that_gives_is_told_to_demand_them() {
        let text = format!(
            r#", "server": true, "tls": {{"defaults": {CERTIFICATE}}}, "auto_encrypt": {{"allow_tls": true}}"#
        );
        let loaded = load_with(&text).unwrap();
        assert!(loaded.config.auto_encrypt.allow_tls);
        let [warning] = &loaded.warnings[..] else {
            panic!("{:?}", loaded.warnings)
        };
        assert!(warning.contains("verify_incoming should be enabled"));
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_its_key() {
        for (text, wanted) in [
            (
                r#""auto_encrypt": {"tls": true, "allow_tls": true}"#,
                "auto_encrypt.tls and auto_encrypt.allow_tls are mutually exclusive",
            ),
            (
                r#""server": true, "auto_encrypt": {"tls": true}"#,
                "auto_encrypt.tls can only be used on a client",
            ),
            (
                r#""auto_encrypt": {"allow_tls": true}"#,
                "auto_encrypt.allow_tls can only be used on a server",
            ),
            (
                r#""server": true, "auto_encrypt": {"allow_tls": true}, "connect": {"enabled": false}"#,
                "auto_encrypt.allow_tls needs the certificate authority",
            ),
            (
                r#""server": true, "auto_encrypt": {"allow_tls": true}"#,
                "auto_encrypt.allow_tls needs cert_file and key_file",
            ),
            (
                r#""auto_encrypt": {"tls": true}"#,
                "auto_encrypt.tls needs ca_file or ca_path",
            ),
            (
                r#""auto_encrypt": {"dns_san": ["a b"]}"#,
                "auto_encrypt.dns_san: \"a b\" is no DNS name",
            ),
            (
                r#""auto_encrypt": {"ip_san": ["web"]}"#,
                "auto_encrypt.ip_san must be an ip address, not \"web\"",
            ),
        ] {
            let error = load_with(&format!(", {text}")).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
    }
}
