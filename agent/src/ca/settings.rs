//! The settings of the certificate authority: of the block `connect.ca_config` and of `/v1/connect/ca/configuration`. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::duration;
use crate::go_bool;
use crate::state::HIDDEN;

/// The only provider.
pub const PROVIDER: &str = "consul";

const HOUR: Duration = Duration::from_secs(3600);
const LEAF_TTL: Duration = HOUR.saturating_mul(72);
const LEAF_TTL_MIN: Duration = HOUR;
const LEAF_TTL_MAX: Duration = HOUR.saturating_mul(365 * 24);
const INTERMEDIATE_TTL: Duration = HOUR.saturating_mul(8760);
const INTERMEDIATE_TTL_MIN: Duration = HOUR.saturating_mul(3);
const ROOT_TTL: Duration = HOUR.saturating_mul(87_600);

/// The names, as Consul spells them; `leaf_cert_ttl` is the same as `LeafCertTTL`.
const NAMES: [&str; 11] = [
    "CSRMaxConcurrent",
    "CSRMaxPerSecond",
    "IntermediateCertTTL",
    "LeafCertTTL",
    "PrivateKey",
    "PrivateKeyBits",
    "PrivateKeyType",
    "RootCert",
    "RootCertTTL",
    "RotationPeriod",
    "SkipValidate",
];

/// How certificates are made. Names and defaults are Consul's.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How long a service's certificate is good. `LeafCertTTL`, 1h to 8760h. Default 72h.
    pub leaf_ttl: Duration,
    /// How long what vouches for the authority of another datacenter is good, in the primary one, whose root signs its own
    /// services' certificates itself. `IntermediateCertTTL`, at least 3h and three times `LeafCertTTL`. Default 8760h.
    pub intermediate_ttl: Duration,
    /// How long a root that is made here is good. `RootCertTTL`, above `IntermediateCertTTL`. Default 87600h.
    pub root_ttl: Duration,
    /// Certificates that a leader signs in a second; 0 is no bound. `CSRMaxPerSecond`. Default 50.
    pub csr_max_per_second: f64,
    /// Certificates that are signed at the same time; 0 is no bound. `CSRMaxConcurrent`. Default 0. Only if
    /// `CSRMaxPerSecond` is 0.
    pub csr_max_concurrent: u32,
    /// The key of a root that is made here. `PrivateKeyType` and `PrivateKeyBits`. Default a P-256 key.
    pub key: KeyKind,
    /// A key to be used instead, in PEM. `PrivateKey`.
    pub private_key: String,
    /// The certificate to that key, in PEM. `RootCert`.
    pub root_cert: String,
}

/// What key a root gets. Services' keys are of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// `ec`, 256
    #[default]
    P256,
    /// `ec`, 384
    P384,
}

/// Settings as somebody gave them.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// What they mean.
    pub settings: Settings,
    /// What is shown of them: under Consul's names, without the private key, with the times that were left away.
    pub shown: Map<String, Value>,
    /// Those that are kept, and mean nothing.
    pub without_effect: Vec<String>,
}

/// A setting under its name of Consul's, if it has one.
pub fn name_of(key: &str) -> &str {
    let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
    let wanted = plain(key);
    let known = NAMES.iter().find(|name| plain(name) == wanted);
    known.copied().unwrap_or(key)
}

/// Reads settings. `HIDDEN` in place of the private key stands for `known_key`.
///
/// # Errors
/// What is wrong with them, in Consul's words where it has them.
pub fn read(given: &Map<String, Value>, known_key: &str) -> Result<Given, String> {
    let mut shown = Map::new();
    for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        shown.insert(name_of(key).to_owned(), value.clone());
    }
    let mut private_key = text(&shown, "PrivateKey")?;
    if private_key == HIDDEN {
        known_key.clone_into(&mut private_key);
    }
    shown.remove("PrivateKey");
    let settings = Settings {
        leaf_ttl: time(&mut shown, "LeafCertTTL", LEAF_TTL)?,
        intermediate_ttl: time(&mut shown, "IntermediateCertTTL", INTERMEDIATE_TTL)?,
        root_ttl: time(&mut shown, "RootCertTTL", ROOT_TTL)?,
        csr_max_per_second: number(&shown, "CSRMaxPerSecond", 50.0)?,
        csr_max_concurrent: number(&shown, "CSRMaxConcurrent", 0.0)? as u32,
        key: key_kind(&shown)?,
        private_key: tidy(&private_key),
        root_cert: tidy(&text(&shown, "RootCert")?),
    };
    if !is_set(&shown, "SkipValidate")? {
        check(&settings)?;
    } else if settings.leaf_ttl < Duration::from_secs(1) {
        return Err("leaf cert TTL must be greater or equal than 1s".to_owned());
    }
    if settings.private_key.is_empty() && !settings.root_cert.is_empty() {
        return Err("RootCert needs the PrivateKey that belongs to it".to_owned());
    }
    let means_nothing = |key: &&String| *key == "RotationPeriod" || !NAMES.contains(&key.as_str());
    Ok(Given {
        without_effect: shown.keys().filter(means_nothing).cloned().collect(),
        settings,
        shown,
    })
}

/// What is shown of settings that have a private key, which is not told.
pub fn show(shown: &str, has_key: bool) -> Map<String, Value> {
    let mut shown: Map<String, Value> = serde_json::from_str(shown).unwrap_or_default();
    if has_key {
        shown.insert("PrivateKey".to_owned(), HIDDEN.into());
    }
    // By name, as Go shows a map.
    shown.sort_keys();
    shown
}

fn check(settings: &Settings) -> Result<(), String> {
    let Settings {
        leaf_ttl,
        intermediate_ttl,
        root_ttl,
        ..
    } = settings;
    let print = |time: Duration| duration::print(time);
    if *leaf_ttl < LEAF_TTL_MIN {
        let min = print(LEAF_TTL_MIN);
        return Err(format!("leaf cert TTL must be greater or equal than {min}"));
    }
    if *leaf_ttl > LEAF_TTL_MAX {
        let max = print(LEAF_TTL_MAX);
        return Err(format!("leaf cert TTL must be less than {max}"));
    }
    if *intermediate_ttl < INTERMEDIATE_TTL_MIN {
        return Err("Intermediate Cert TTL must be greater or equal than 3h".to_owned());
    }
    if *intermediate_ttl < *leaf_ttl * 3 {
        let least = print(*leaf_ttl * 3);
        return Err(format!(
            "Intermediate Cert TTL must be greater or equal than 3 * LeafCertTTL (>={least})."
        ));
    }
    if root_ttl <= intermediate_ttl {
        return Err(format!(
            "root cert TTL is set and is not greater than intermediate cert ttl. root cert ttl: {}, intermediate cert ttl: {}",
            print(*root_ttl),
            print(*intermediate_ttl)
        ));
    }
    Ok(())
}

fn key_kind(shown: &Map<String, Value>) -> Result<KeyKind, String> {
    let kind = text(shown, "PrivateKeyType")?;
    let bits = number(shown, "PrivateKeyBits", 0.0)? as u32;
    match (kind.as_str(), bits) {
        ("" | "ec", 0 | 256) => Ok(KeyKind::P256),
        ("" | "ec", 384) => Ok(KeyKind::P384),
        ("" | "ec", 224 | 521) => Err(format!(
            "this version makes EC keys of 256 or 384 bits, not of {bits}"
        )),
        ("" | "ec", _) => {
            Err("EC key length must be one of (224, 256, 384, 521) bits".to_owned())
        }
        ("rsa", 0 | 2048 | 4096) => Err(
            "this version makes no RSA keys: give the PrivateKey and its RootCert, without PrivateKeyType"
                .to_owned(),
        ),
        ("rsa", _) => Err("RSA key length must be 2048 or 4096 bits".to_owned()),
        _ => Err("private key type must be either 'ec' or 'rsa'".to_owned()),
    }
}

/// PEM without space around it, and with one newline behind it.
fn tidy(pem: &str) -> String {
    match pem.trim() {
        "" => String::new(),
        pem => format!("{pem}\n"),
    }
}

fn wrong(name: &str, value: &Value, wanted: &str) -> String {
    format!("error decoding config: {name} must be {wanted}, not {value}")
}

fn text(shown: &Map<String, Value>, name: &str) -> Result<String, String> {
    match shown.get(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(wrong(name, other, "a string")),
    }
}

fn is_set(shown: &Map<String, Value>, name: &str) -> Result<bool, String> {
    match shown.get(name) {
        None => Ok(false),
        Some(Value::Bool(is)) => Ok(*is),
        Some(Value::String(text)) if go_bool::parse(text).is_some() => {
            Ok(go_bool::parse(text) == Some(true))
        }
        Some(other) => Err(wrong(name, other, "true or false")),
    }
}

/// A number that is not negative, also as text.
fn number(shown: &Map<String, Value>, name: &str, default: f64) -> Result<f64, String> {
    let Some(value) = shown.get(name) else {
        return Ok(default);
    };
    let found = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    found
        .filter(|number| (0.0..=f64::from(u32::MAX)).contains(number))
        .ok_or_else(|| wrong(name, value, "a number from 0 to 4294967295"))
}

/// A Go duration, or a number of nanoseconds. The default is put into what is shown.
fn time(shown: &mut Map<String, Value>, name: &str, default: Duration) -> Result<Duration, String> {
    let wanted = "a duration such as \"72h\"";
    let Some(value) = shown.get(name) else {
        let hours = default.as_secs() / HOUR.as_secs();
        shown.insert(name.to_owned(), format!("{hours}h").into());
        return Ok(default);
    };
    match value {
        Value::String(text) => {
            duration::parse(text).map_err(|error| format!("error decoding config: {name}: {error}"))
        }
        Value::Number(number) => number
            .as_u64()
            .filter(|nanos| i64::try_from(*nanos).is_ok())
            .map(Duration::from_nanos)
            .ok_or_else(|| wrong(name, value, wanted)),
        other => Err(wrong(name, other, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(value: Value) -> Result<Given, String> {
        let Value::Object(map) = value else {
            panic!("an object")
        };
        read(&map, "KNOWN")
    }

    #[test]
    fn both_spellings_are_read_and_defaults_are_shown() {
        let found =
            given(json!({"leaf_cert_ttl": "2h", "CSRMaxPerSecond": "10", "Vault": 1})).unwrap();
        assert_eq!(found.settings.leaf_ttl, HOUR * 2);
        assert_eq!(found.settings.csr_max_per_second, 10.0);
        assert_eq!(found.settings.root_ttl, HOUR * 87_600);
        assert_eq!(
            Value::Object(found.shown),
            json!({"LeafCertTTL": "2h", "CSRMaxPerSecond": "10", "Vault": 1,
                   "IntermediateCertTTL": "8760h", "RootCertTTL": "87600h"})
        );
        assert_eq!(found.without_effect, ["Vault"]);
        let nanos = given(json!({"LeafCertTTL": 7_200_000_000_000_u64})).unwrap();
        assert_eq!(nanos.settings.leaf_ttl, HOUR * 2);
    }

    #[test]
    fn a_private_key_is_never_shown_and_hidden_stands_for_the_known_one() {
        let found = given(json!({"private_key": " KEY\n\n"})).unwrap();
        assert_eq!(found.settings.private_key, "KEY\n");
        assert_eq!(found.shown.get("PrivateKey"), None);
        let found = given(json!({"PrivateKey": "hidden"})).unwrap();
        assert_eq!(found.settings.private_key, "KNOWN\n");
        assert_eq!(show("{}", true)["PrivateKey"], "hidden");
        assert!(show("{}", false).is_empty());
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (value, wanted) in [
            (
                json!({"LeafCertTTL": "30m"}),
                "leaf cert TTL must be greater or equal than 1h0m0s",
            ),
            (
                json!({"LeafCertTTL": "9000h"}),
                "leaf cert TTL must be less than 8760h0m0s",
            ),
            (
                json!({"IntermediateCertTTL": "2h"}),
                "Intermediate Cert TTL must be greater or equal than 3h",
            ),
            (
                json!({"IntermediateCertTTL": "200h"}),
                "Intermediate Cert TTL must be greater or equal than 3 * LeafCertTTL (>=216h0m0s).",
            ),
            (
                json!({"RootCertTTL": "8760h"}),
                "root cert TTL is set and is not greater than intermediate cert ttl. root cert ttl: 8760h0m0s, intermediate cert ttl: 8760h0m0s",
            ),
            (
                json!({"PrivateKeyType": "dsa"}),
                "private key type must be either 'ec' or 'rsa'",
            ),
            (
                json!({"PrivateKeyBits": 7}),
                "EC key length must be one of (224, 256, 384, 521) bits",
            ),
            (
                json!({"PrivateKeyBits": 521}),
                "this version makes EC keys of 256 or 384 bits, not of 521",
            ),
            (
                json!({"PrivateKeyType": "rsa", "PrivateKeyBits": 3}),
                "RSA key length must be 2048 or 4096 bits",
            ),
            (
                json!({"LeafCertTTL": "x"}),
                "error decoding config: LeafCertTTL: time: invalid duration \"x\"",
            ),
            (
                json!({"LeafCertTTL": []}),
                "error decoding config: LeafCertTTL must be a duration such as \"72h\", not []",
            ),
            (
                json!({"PrivateKey": 5}),
                "error decoding config: PrivateKey must be a string, not 5",
            ),
            (
                json!({"CSRMaxPerSecond": -1}),
                "error decoding config: CSRMaxPerSecond must be a number from 0 to 4294967295, not -1",
            ),
            (
                json!({"RootCert": "x"}),
                "RootCert needs the PrivateKey that belongs to it",
            ),
        ] {
            assert_eq!(given(value.clone()).unwrap_err(), wanted, "{value}");
        }
        let short = json!({"LeafCertTTL": "5s", "SkipValidate": true});
        assert_eq!(
            given(short).unwrap().settings.leaf_ttl,
            Duration::from_secs(5)
        );
    }
}
