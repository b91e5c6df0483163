//! Bearer tokens: signed claims (RFC 7519).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::keys::Key;
use super::{BEARER_BYTES_MAX, Identity, Jwt, backend};

type Claims = Map<String, Value>;

/// Why a bearer token is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// None of the keys verifies it. Its issuer may have a new one.
    UnknownKey(String),
    /// It would not be taken with any key.
    Bearer(String),
}

impl Refused {
    /// Why, in words.
    pub fn why(self) -> String {
        match self {
            Refused::UnknownKey(why) | Refused::Bearer(why) => why,
        }
    }
}

/// What a bearer token says in front of its claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl Head {
    /// Reads it, before any key is looked for.
    ///
    /// # Errors
    /// When it is no bearer token that the method could take.
    pub fn read(bearer: &str, settings: &Jwt) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Sent {
            alg: Option<String>,
            kid: Option<String>,
            crit: Option<Value>,
        }
        if bearer.len() > BEARER_BYTES_MAX {
            return Err(format!("it is longer than {BEARER_BYTES_MAX} bytes"));
        }
        let parts: Vec<_> = bearer.split('.').collect();
        let [head, _, _] = parts.as_slice() else {
            return Err("it is no JWT: three parts with dots between".to_owned());
        };
        let decoded = URL_SAFE_NO_PAD.decode(head).ok();
        let sent = decoded.and_then(|json| serde_json::from_slice::<Sent>(&json).ok());
        let sent = sent.ok_or("it is no JWT: its first part cannot be read")?;
        if sent.crit.is_some() {
            return Err("it asks for an extension that nobody knows here (crit)".to_owned());
        }
        let named = sent.alg.as_deref().unwrap_or("none");
        let taken = |one: &&Algorithm| named.parse().is_ok_and(|named: Algorithm| named == **one);
        let Some(algorithm) = settings.algorithms.iter().find(taken) else {
            let taken = settings.algorithms.iter().map(|one| format!("{one:?}"));
            return Err(format!(
                "it is signed by {named:?}, and the auth method takes {} alone",
                taken.collect::<Vec<_>>().join(", ")
            ));
        };
        Ok(Self {
            algorithm: *algorithm,
            key_id: sent.kid,
        })
    }

    /// Whom the bearer token stands for at `unix_s`; with `issuer` only one of that issuer.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn identity(
        &self,
        bearer: &str,
        keys: &[Key],
        settings: &Jwt,
        issuer: Option<&str>,
        unix_s: u64,
    ) -> Result<Identity, Refused> {
        let claims = self.verified(bearer, keys)?;
        let all = || {
            check_issuer(&claims, settings, issuer)?;
            check_audience(&claims, settings)?;
            check_times(&claims, settings, unix_s)?;
            mapped(&claims, settings)
        };
        all().map_err(Refused::Bearer)
    }

    /// The claims, if the signature is by one of the keys.
    fn verified(&self, bearer: &str, keys: &[Key]) -> Result<Claims, Refused> {
        backend::install();
        // What is claimed is judged here, where it is known what the method asks for.
        let mut validation = Validation::new(self.algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation.validate_aud = false;
        let mut by_id = false;
        for key in keys {
            if !key.fits(self.algorithm, self.key_id.as_deref()) {
                continue;
            }
            by_id |= self.key_id.is_some() && key.has_id();
            match decode::<Claims>(bearer, key.decoding(), &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    _ => {
                        let why = format!("it cannot be read: {error}");
                        return Err(Refused::Bearer(why));
                    }
                },
            }
        }
        let why = "it is not signed by a key of the auth method".to_owned();
        // Another key of the same id would be the issuer's mistake.
        Err(match by_id {
            true => Refused::Bearer(why),
            false => Refused::UnknownKey(why),
        })
    }
}

fn check_issuer(claims: &Claims, settings: &Jwt, issuer: Option<&str>) -> Result<(), String> {
    let bound = settings.issuer.as_str();
    let bound = (!bound.is_empty()).then_some(bound);
    let said = claims.get("iss").and_then(Value::as_str).unwrap_or("");
    match bound.into_iter().chain(issuer).find(|one| *one != said) {
        Some(wanted) => Err(format!(
            "it is issued by {said:?}, and the auth method takes those of {wanted:?} alone"
        )),
        None => Ok(()),
    }
}

fn check_audience(claims: &Claims, settings: &Jwt) -> Result<(), String> {
    if settings.audiences.is_empty() {
        return Ok(());
    }
    let said: Vec<_> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    match settings
        .audiences
        .iter()
        .any(|one| said.contains(&one.as_str()))
    {
        true => Ok(()),
        false => Err(format!(
            "it is for {said:?}, and the auth method takes those for {:?} alone",
            settings.audiences
        )),
    }
}

/// A time in seconds since 1970, whole ones; it may have been written with a fraction.
fn time(claims: &Claims, name: &str) -> Result<Option<i64>, String> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64().map(|seconds| seconds as i64)),
        // Passed over, it would count for ever.
        Some(_) => Err(format!("its claim {name:?} is no time")),
    }
}

fn check_times(claims: &Claims, settings: &Jwt, unix_s: u64) -> Result<(), String> {
    let seconds = |leeway: Duration| i64::try_from(leeway.as_secs()).unwrap_or(i64::MAX);
    let (issued, begins) = (time(claims, "iat")?, time(claims, "nbf")?);
    let ends = time(claims, "exp")?;
    if issued.or(begins).or(ends).is_none() {
        return Err("it says nothing of its time (iat, nbf, exp)".to_owned());
    }
    let ends = ends.unwrap_or_else(|| {
        let from = issued.max(begins).unwrap_or(0);
        from.saturating_add(seconds(settings.expiration_leeway))
    });
    let begins = begins
        .or(issued)
        .unwrap_or_else(|| ends.saturating_sub(seconds(settings.not_before_leeway)));
    let now = i64::try_from(unix_s).unwrap_or(i64::MAX);
    let skew = seconds(settings.clock_skew);
    if now.saturating_sub(skew) > ends {
        return Err(format!("it expired {} s ago", now.saturating_sub(ends)));
    }
    for (from, what) in [
        (Some(begins), "it does not count before"),
        (issued, "it is issued"),
    ] {
        if let Some(from) = from
            && now.saturating_add(skew) < from
        {
            return Err(format!("{what} {} s from now", from.saturating_sub(now)));
        }
    }
    Ok(())
}

/// The claim of that name; one that begins with a slash is looked for inside of others (RFC 6901).
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let mut path = name.strip_prefix('/').map(|rest| rest.splitn(2, '/'));
    let found = match &mut path {
        None => claims.get(name),
        Some(parts) => {
            let first = parts.next().unwrap_or("");
            let first = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
            match parts.next() {
                Some(rest) => first.pointer(&format!("/{rest}")),
                None => Some(first),
            }
        }
    };
    found.filter(|value| !value.is_null())
}

/// A value as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn mapped(claims: &Claims, settings: &Jwt) -> Result<Identity, String> {
    let wrong = |name: &str, what: &str| {
        format!("its claim {name:?} is not {what}: texts, numbers and true or false are")
    };
    let (mut values, mut lists) = (Map::new(), Map::new());
    for (name, field) in &settings.claims {
        if let Some(value) = claim(claims, name) {
            let value = text(value).ok_or_else(|| wrong(name, "a single value"))?;
            values.insert(field.clone(), json!(value));
        }
    }
    for (name, field) in &settings.lists {
        let list = match claim(claims, name) {
            None => continue,
            Some(Value::Array(list)) => list.iter().map(text).collect(),
            Some(single) => text(single).map(|text| vec![text]),
        };
        let list: Vec<String> = list.ok_or_else(|| wrong(name, "a list of single values"))?;
        lists.insert(field.clone(), json!(list));
    }
    let variables = values.iter().filter_map(|(field, value)| {
        let value = value.as_str()?.to_owned();
        Some((format!("value.{field}"), value))
    });
    let variables = variables.collect();
    Ok(Identity {
        fields: json!({ "value": values, "list": lists }),
        variables,
    })
}
