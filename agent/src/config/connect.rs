//! The block `connect`. Pure.

use super::Error;
use super::build::invalid;
use super::layer::ConnectLayer;
use crate::ca;
use crate::ca::settings::{self, Given, PROVIDER};

/// The certificate authority of the service mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    /// Whether there is one. Default true.
    pub enabled: bool,
    /// Its settings, until an operator says otherwise (`connect ca set-config`): the first leader of a cluster writes its
    /// own into the replicated state. Keys of the block `ca_config`, as `LeafCertTTL` or `leaf_cert_ttl`. Key
    /// `ca_provider` must be `consul`.
    pub ca: Given,
}

/// # Errors
/// Another provider, or settings that cannot be.
pub(super) fn check(
    layer: &ConnectLayer,
    is_secondary: bool,
    warnings: &mut Vec<String>,
) -> Result<Connect, Error> {
    let provider = layer.ca_provider.as_deref().unwrap_or("");
    if !matches!(provider, "" | PROVIDER) {
        return invalid(format!(
            "connect.ca_provider cannot be {provider:?}: this version has the provider \"consul\" only"
        ));
    }
    let wrong = |error: String| Error::Invalid(format!("connect.ca_config: {error}"));
    let given = settings::read(&layer.ca_config.0, "").map_err(wrong)?;
    ca::check_brought(&given.settings).map_err(|error| wrong(error.to_string()))?;
    if is_secondary && !given.settings.private_key.is_empty() {
        return invalid(
            "connect.ca_config: private_key and root_cert belong to servers of primary_datacenter, whose root is that of this datacenter too",
        );
    }
    for name in &given.without_effect {
        warnings.push(format!(
            "connect.ca_config.{name} has no effect here: this version does not support it"
        ));
    }
    Ok(Connect {
        enabled: layer.enabled.unwrap_or(true),
        ca: given,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{FlagSettings, Format, Loaded, Machine, SourceFile, load};
    use super::*;

    fn loaded(block: &str) -> Result<Loaded, Error> {
        let file = SourceFile {
            name: "a.hcl".into(),
            format: Format::Hcl,
            text: format!("data_dir = \"/d\"\nbind_addr = \"127.0.0.1\"\n{block}"),
        };
        let machine = Machine {
            hostname: "host".into(),
            private_ipv4: vec![],
            public_ipv6: vec![],
            temporary_dir: "/tmp/x".into(),
        };
        load(&[file], &FlagSettings::default(), &machine)
    }

    #[test]
    fn the_mesh_is_on_and_its_settings_are_consuls() {
        let Loaded { config, warnings } = loaded("").unwrap();
        assert!(config.connect.enabled && warnings.is_empty());
        let settings = &config.connect.ca.settings;
        assert_eq!(settings.leaf_ttl, Duration::from_secs(72 * 3600));
        assert_eq!(settings.csr_max_per_second, 50.0);
        let block = r#"
            connect {
              enabled = false
              ca_provider = "consul"
              enable_serverless_plugin = true
              ca_config {
                leaf_cert_ttl = "24h"
                RootCertTTL = "90000h"
                csr_max_per_second = 7
                rotation_period = "2160h"
              }
            }
            connect { ca_config { LeafCertTTL = "48h" } }"#;
        // A block that comes twice in a file is an error, as everywhere.
        assert!(loaded(block).is_err());
        let once = block.rsplit_once("connect {").unwrap().0;
        let Loaded { config, warnings } = loaded(once).unwrap();
        assert!(!config.connect.enabled);
        let settings = &config.connect.ca.settings;
        assert_eq!(settings.leaf_ttl, Duration::from_secs(24 * 3600));
        assert_eq!(settings.root_ttl, Duration::from_secs(90_000 * 3600));
        assert_eq!(settings.csr_max_per_second, 7.0);
        let named = [
            "connect.enable_serverless_plugin",
            "connect.ca_config.RotationPeriod",
        ];
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for (warning, name) in warnings.iter().zip(named) {
            assert!(warning.contains(name), "{warning}");
        }
    }

    #[test]
    fn the_root_is_brought_to_the_primary_datacenter_alone() {
        let key = include_str!("../ca/tests/own-ca.key").replace('\n', "\\n");
        let block = format!("connect {{ ca_config {{ private_key = \"{key}\" }} }}");
        assert!(loaded(&block).is_ok());
        let refused = loaded(&format!("{block} primary_datacenter = \"dc9\""));
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("belong to servers of primary_datacenter"),
            "{refused}"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_at_the_start() {
        for (block, wanted) in [
            (
                r#"connect { ca_provider = "vault" }"#,
                "connect.ca_provider cannot be \"vault\": this version has the provider \"consul\" only",
            ),
            (
                r#"connect { ca_config { leaf_cert_ttl = "5m" } }"#,
                "connect.ca_config: leaf cert TTL must be greater or equal than 1h0m0s",
            ),
            (
                r#"connect { ca_config { private_key = "x" } }"#,
                "connect.ca_config: PrivateKey: not a key in PEM (PKCS #8, EC or RSA) of a kind that this version can sign with",
            ),
        ] {
            assert_eq!(loaded(block).unwrap_err().to_string(), wanted, "{block}");
        }
    }
}
