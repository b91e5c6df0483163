//! The settings of auth methods, as Consul spells them.

use std::collections::BTreeMap;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use url::Url;

use super::keys::{self, Key};
use super::{backend, kubernetes};
use crate::config::Secret;
use crate::duration;
use crate::state::AclMethod;
use crate::tls::inspect;

/// Added to the end, and taken from the beginning, of a bearer token that says only one of them. Consul's.
const LEEWAY: Duration = Duration::from_secs(150);

/// How far clocks may be apart. Consul's.
const SKEW: Duration = Duration::from_secs(60);

/// Keys that a method may hold itself.
const KEYS_MAX: usize = 32;

/// How bearer tokens are signed where nothing is said. Consul's.
const ALGORITHM: &str = "RS256";

/// How an auth method finds out who somebody is.
#[derive(Debug, Clone)]
pub enum Settings {
    /// By a signature.
    Jwt(Box<Jwt>),
    /// By asking Kubernetes.
    Kubernetes(Box<Kubernetes>),
}

/// Which bearer tokens a method of type `jwt` takes, and what it reads from them.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// Where its keys are.
    pub source: Source,
    /// The only issuer; empty for any. Key `BoundIssuer`.
    pub issuer: String,
    /// One of these must be the bearer token's; none: any. Key `BoundAudiences`.
    pub audiences: Vec<String>,
    /// Names of fields by claims. Key `ClaimMappings`.
    pub claims: BTreeMap<String, String>,
    /// The same for claims that are lists. Key `ListClaimMappings`.
    pub lists: BTreeMap<String, String>,
    /// How they may be signed. Key `JWTSupportedAlgs`.
    pub algorithms: Vec<Algorithm>,
    /// How long one counts that names no end. Key `ExpirationLeeway`.
    pub expiration_leeway: Duration,
    /// How long before its end one began that names no beginning. Key `NotBeforeLeeway`.
    pub not_before_leeway: Duration,
    /// How far clocks may be apart. Key `ClockSkewLeeway`.
    pub clock_skew: Duration,
}

/// Where keys are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In the settings. Key `JWTValidationPubKeys`.
    Keys(Vec<Key>),
    /// Elsewhere.
    Remote(Remote),
}

/// Where keys are fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remote {
    /// From a key set. Keys `JWKSURL` and `JWKSCACert`.
    Set(Place),
    /// From the key set of an issuer. Keys `OIDCDiscoveryURL` and `OIDCDiscoveryCACert`.
    Discovery(Place),
}

/// Somewhere that speaks HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// As it was given.
    pub url: String,
    /// `https://HOST:PORT`.
    pub address: String,
    /// What its certificate must name.
    pub host: String,
    /// Behind the address, with a query where there is one.
    pub path: String,
    /// Whom to trust, in PEM form; empty for whom the system trusts.
    pub authorities: String,
}

/// Which Kubernetes a method of type `kubernetes` asks.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// Its API. Keys `Host` and `CACert`.
    pub api: Place,
    /// In whose name it is asked. Key `ServiceAccountJWT`.
    pub token: Secret,
}

impl Place {
    /// Reads an address of the web.
    ///
    /// # Errors
    /// When it is none, or whoever is between could answer in its place.
    pub fn read(url: &str, authorities: &str) -> Result<Self, String> {
        let parsed = Url::parse(url).map_err(|error| format!("{url:?} is no URL: {error}"))?;
        if parsed.scheme() != "https" {
            return Err(format!(
                "{url:?} must be an https URL: without TLS, whoever is between could answer in its place"
            ));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(format!(
                "{url:?} must not hold a user's name: it is not sent"
            ));
        }
        let host = parsed.host_str().unwrap_or_default();
        let port = parsed.port_or_known_default().unwrap_or(443);
        if !authorities.is_empty() {
            inspect::check_authorities(authorities)?;
        }
        Ok(Self {
            url: url.to_owned(),
            address: format!("https://{host}:{port}"),
            host: host.trim_matches(['[', ']']).to_owned(),
            path: match parsed.query() {
                Some(query) => format!("{}?{query}", parsed.path()),
                None => parsed.path().to_owned(),
            },
            authorities: authorities.to_owned(),
        })
    }

    /// Another path below this one.
    #[must_use]
    pub fn below(&self, path: &str) -> Self {
        Self {
            path: format!("{}{path}", self.path.trim_end_matches('/')),
            ..self.clone()
        }
    }

    /// Another place, where the same authorities are trusted.
    ///
    /// # Errors
    /// See [`Place::read`].
    pub fn with_url(&self, url: &str) -> Result<Self, String> {
        Self::read(url, &self.authorities)
    }
}

impl Settings {
    /// Of a method that was written.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(method: &AclMethod) -> Result<Self, String> {
        Self::read(&method.kind, &method.config)
    }

    /// From JSON.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(kind: &str, config: &str) -> Result<Self, String> {
        let mut given = Given::new(config)?;
        let settings = match kind {
            "jwt" => Self::Jwt(Box::new(jwt(&mut given)?)),
            "kubernetes" => Self::Kubernetes(Box::new(kubernetes(&mut given)?)),
            "oidc" => {
                return Err(
                    "Type \"oidc\" logs people in by a browser, which is not there: use \"jwt\" with OIDCDiscoveryURL for tokens of the same issuer"
                        .to_owned(),
                );
            }
            other => {
                return Err(format!(
                    "Type should be one of: [jwt kubernetes]; this version has no {other:?}"
                ));
            }
        };
        given.end(kind)?;
        Ok(settings)
    }

    /// What may stand in names that an identity is bound to.
    pub fn variables(&self) -> Vec<String> {
        match self {
            Settings::Jwt(jwt) => {
                let names = jwt.claims.values();
                names.map(|name| format!("value.{name}")).collect()
            }
            Settings::Kubernetes(_) => kubernetes::VARIABLES.map(str::to_owned).to_vec(),
        }
    }
}

fn jwt(given: &mut Given) -> Result<Jwt, String> {
    let issuer = given.text("BoundIssuer")?;
    Ok(Jwt {
        source: source(given)?,
        issuer,
        audiences: given.texts("BoundAudiences")?,
        claims: given.names("ClaimMappings")?,
        lists: given.names("ListClaimMappings")?,
        algorithms: algorithms(given.texts("JWTSupportedAlgs")?)?,
        expiration_leeway: given.leeway("ExpirationLeeway", LEEWAY)?,
        not_before_leeway: given.leeway("NotBeforeLeeway", LEEWAY)?,
        clock_skew: given.leeway("ClockSkewLeeway", SKEW)?,
    })
}

fn source(given: &mut Given) -> Result<Source, String> {
    let keys = given.texts("JWTValidationPubKeys")?;
    let set = (given.text("JWKSURL")?, given.text("JWKSCACert")?);
    let issuer = (
        given.text("OIDCDiscoveryURL")?,
        given.text("OIDCDiscoveryCACert")?,
    );
    let needless = |name: &str, of: &str| {
        Err(format!(
            "Config.{name} is only for {of}, which is not given"
        ))
    };
    if set.0.is_empty() && !set.1.is_empty() {
        return needless("JWKSCACert", "JWKSURL");
    }
    if issuer.0.is_empty() && !issuer.1.is_empty() {
        return needless("OIDCDiscoveryCACert", "OIDCDiscoveryURL");
    }
    let place = |name: &str, (url, authorities): &(String, String)| {
        Place::read(url, authorities).map_err(|why| format!("Config.{name}: {why}"))
    };
    match (keys.as_slice(), set.0.as_str(), issuer.0.as_str()) {
        ([_, ..], "", "") => {
            if keys.len() > KEYS_MAX {
                return Err(format!(
                    "Config.JWTValidationPubKeys has {} keys, and may have {KEYS_MAX}",
                    keys.len()
                ));
            }
            let read = |pem: &String| {
                keys::of_pem(pem).map_err(|why| format!("Config.JWTValidationPubKeys {why}"))
            };
            Ok(Source::Keys(
                keys.iter().map(read).collect::<Result<_, _>>()?,
            ))
        }
        ([], _, "") if !set.0.is_empty() => {
            Ok(Source::Remote(Remote::Set(place("JWKSURL", &set)?)))
        }
        ([], "", _) if !issuer.0.is_empty() => {
            let place = place("OIDCDiscoveryURL", &issuer)?;
            Ok(Source::Remote(Remote::Discovery(place)))
        }
        _ => Err(
            "exactly one of 'JWTValidationPubKeys', 'JWKSURL', or 'OIDCDiscoveryURL' must be set for type \"jwt\""
                .to_owned(),
        ),
    }
}

fn algorithms(names: Vec<String>) -> Result<Vec<Algorithm>, String> {
    let names = match names.is_empty() {
        true => vec![ALGORITHM.to_owned()],
        false => names,
    };
    let read = |name: String| {
        let known: Option<Algorithm> = name.parse().ok();
        known.filter(|one| backend::is_known(*one)).ok_or_else(|| {
            format!(
                "Config.JWTSupportedAlgs: {name:?} is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA"
            )
        })
    };
    names.into_iter().map(read).collect()
}

fn kubernetes(given: &mut Given) -> Result<Kubernetes, String> {
    for name in [
        "MapNamespaces",
        "ConsulNamespacePrefix",
        "ConsulNamespaceOverrides",
    ] {
        let off = |value: &Value| match value {
            Value::Bool(on) => !on,
            Value::String(text) => text.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if given.take(name).is_some_and(|value| !off(&value)) {
            return Err(format!(
                "Config.{name}: Namespaces are a Consul Enterprise feature"
            ));
        }
    }
    let host = given.needed("Host")?;
    let authorities = given.needed("CACert")?;
    let token = given.needed("ServiceAccountJWT")?;
    if token.split('.').count() != 3 || token.contains(char::is_whitespace) {
        return Err("Config.ServiceAccountJWT is no JWT: three parts with dots between".to_owned());
    }
    let url = match host.contains("://") {
        true => host,
        false => format!("https://{host}"),
    };
    let api = Place::read(&url, &authorities).map_err(|why| format!("Config.Host: {why}"))?;
    Ok(Kubernetes {
        api,
        token: Secret(token),
    })
}

/// What was given, less what has been taken. Keys match in any case, as in Go.
struct Given(Map<String, Value>);

impl Given {
    fn new(config: &str) -> Result<Self, String> {
        let read = serde_json::from_str(config);
        Ok(Self(read.map_err(|error| format!("Config: {error}"))?))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let key = self.0.keys().find(|key| key.eq_ignore_ascii_case(name));
        let key = key?.clone();
        self.0.remove(&key).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("Config.{name} must be a text")),
        }
    }

    fn needed(&mut self, name: &str) -> Result<String, String> {
        let text = self.text(name)?;
        match text.is_empty() {
            true => Err(format!("Config.{name} is required")),
            false => Ok(text),
        }
    }

    fn texts(&mut self, name: &str) -> Result<Vec<String>, String> {
        let wrong = || format!("Config.{name} must be a list of texts");
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(value) => serde_json::from_value(value).map_err(|_| wrong()),
        }
    }

    /// Names of fields by claims. Two claims cannot become one field.
    fn names(&mut self, name: &str) -> Result<BTreeMap<String, String>, String> {
        let Some(value) = self.take(name) else {
            return Ok(BTreeMap::new());
        };
        let names: BTreeMap<String, String> = serde_json::from_value(value)
            .map_err(|_| format!("Config.{name} must map claims to texts"))?;
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        for (claim, field) in &names {
            if field.is_empty() || !field.chars().all(good) {
                return Err(format!(
                    "Config.{name} maps claim {claim:?} to {field:?}: letters, digits, '_' and '-' make a name"
                ));
            }
            if names.values().filter(|other| *other == field).count() > 1 {
                return Err(format!("Config.{name} maps two claims to {field:?}"));
            }
        }
        Ok(names)
    }

    /// Zero stands for the default, and anything below for none at all.
    fn leeway(&mut self, name: &str, default: Duration) -> Result<Duration, String> {
        let leeway = match self.take(name) {
            None => Duration::ZERO,
            Some(Value::String(text)) if text.is_empty() => Duration::ZERO,
            Some(Value::String(text)) => match duration::parse(&text) {
                Ok(leeway) => leeway,
                Err(duration::ParseError::Negative(_)) => return Ok(Duration::ZERO),
                Err(error) => return Err(format!("Config.{name}: {error}")),
            },
            // Go counts in nanoseconds.
            Some(Value::Number(number)) => match number.as_i64() {
                Some(below) if below < 0 => return Ok(Duration::ZERO),
                Some(nanoseconds @ (0 | 1_000_000..)) => {
                    Duration::from_nanos(nanoseconds.unsigned_abs())
                }
                _ => {
                    return Err(format!(
                        "Config.{name}: {number} would be nanoseconds; write it with its unit, like \"30s\""
                    ));
                }
            },
            Some(_) => return Err(format!("Config.{name} must be a duration, like \"30s\"")),
        };
        Ok(match leeway {
            Duration::ZERO => default,
            leeway => leeway,
        })
    }

    fn end(self, kind: &str) -> Result<(), String> {
        match self.0.keys().next() {
            Some(unknown) => Err(format!(
                "Config.{unknown} is no setting of an auth method of type {kind:?}"
            )),
            None => Ok(()),
        }
    }
}
