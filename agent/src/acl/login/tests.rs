//! Bearer tokens of several makers, and what becomes of them.

use jsonwebtoken::Algorithm;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::state::{
    AclBindingRule, AclGrants, AclPolicy, AclRole, AclStep, Command, Outcome, Stamped, Store,
};

const NOW: u64 = 1_800_000_000;

mod claims;
mod fuzz;
mod rules;

/// Somebody who signs bearer tokens.
pub(super) struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { key, random }
    }

    /// Its key as an entry of a set.
    pub(super) fn jwk(&self, id: &str) -> Value {
        let point = self.key.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
            "x": base64(&point[1..33]), "y": base64(&point[33..]),
        })
    }

    pub(super) fn keys(&self, id: &str) -> Vec<Key> {
        of_set(json!({ "keys": [self.jwk(id)] }).to_string().as_bytes()).unwrap()
    }

    pub(super) fn sign(&self, head: &Value, claims: &Value) -> String {
        let message = format!(
            "{}.{}",
            base64(head.to_string()),
            base64(claims.to_string())
        );
        let signed = self.key.sign(&self.random, message.as_bytes()).unwrap();
        format!("{message}.{}", base64(signed))
    }
}

/// Settings with a place of keys that is not looked at.
pub(super) fn settings(more: &Value) -> Jwt {
    let mut config = json!({ "JWKSURL": "https://x/keys", "JWTSupportedAlgs": ["ES256"] });
    let fields = config.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    match Settings::read("jwt", &config.to_string()).unwrap() {
        Settings::Jwt(jwt) => *jwt,
        Settings::Kubernetes(_) => unreachable!("its type is jwt"),
    }
}

/// What becomes of a bearer token.
pub(super) fn read(bearer: &str, keys: &[Key], settings: &Jwt) -> Result<Identity, Refused> {
    let head = Head::read(bearer, settings).map_err(Refused::Bearer)?;
    head.identity(bearer, keys, settings, None, NOW)
}

#[test]
fn signatures_of_another_library_are_good_for_their_key_alone() {
    #[derive(Deserialize)]
    struct Vector {
        alg: String,
        key: String,
        token: String,
    }
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("tests/vectors.json")).unwrap();
    assert_eq!(vectors.len(), 10);
    for Vector { alg, key, token } in &vectors {
        let config = json!({ "JWTValidationPubKeys": [key], "JWTSupportedAlgs": [alg] });
        let read_settings = Settings::read("jwt", &config.to_string());
        // ring has no P-521.
        if alg == "ES512" {
            assert!(read_settings.unwrap_err().contains("cannot be used"));
            continue;
        }
        let Settings::Jwt(jwt) = read_settings.unwrap() else {
            unreachable!("its type is jwt");
        };
        let Source::Keys(keys) = &jwt.source else {
            unreachable!("its keys are in it");
        };
        assert!(read(token, keys, &jwt).is_ok(), "{alg}");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let other = match signature.starts_with('A') {
            true => "B",
            false => "A",
        };
        let changed = format!("{message}.{other}{}", &signature[1..]);
        assert!(matches!(
            read(&changed, keys, &jwt),
            Err(Refused::UnknownKey(_))
        ));
        for other in vectors.iter().filter(|other| other.key != *key) {
            if let Ok(key) = keys::of_pem(&other.key) {
                assert!(read(token, &[key], &jwt).is_err(), "{alg} by {}", other.alg);
            }
        }
    }
}

/// The examples of RFC 7515 (appendices A.2 and A.3), whose time is over: their keys are as a key set has them.
#[test]
fn the_examples_of_the_standard_are_signed_well() {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let by_point = format!(
        "eyJhbGciOiJFUzI1NiJ9.{payload}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    let by_number = format!(
        "eyJhbGciOiJSUzI1NiJ9.{payload}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    let keys = of_set(br#"{"keys":[
        {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}
    ]}"#).unwrap();
    let settings = settings(&json!({ "JWTSupportedAlgs": ["ES256", "RS256"] }));
    for bearer in [by_point, by_number] {
        let why = read(&bearer, &keys, &settings).unwrap_err();
        let age = NOW - 1_300_819_380;
        assert_eq!(why, Refused::Bearer(format!("it expired {age} s ago")));
        let head = Head::read(&bearer, &settings).unwrap();
        let then = head.identity(&bearer, &keys, &settings, Some("joe"), 1_300_819_380);
        assert!(then.is_ok(), "{then:?}");
    }
}

#[test]
fn a_set_gives_the_keys_that_something_can_be_verified_with() {
    let (one, other) = (Issuer::new(), Issuer::new());
    let mut to_encrypt = other.jwk("enc");
    to_encrypt["use"] = json!("enc");
    let mut torn = other.jwk("torn");
    torn["x"] = json!("?");
    let set = json!({ "keys": [
        { "kty": "oct", "k": base64("secret"), "kid": "oct" },
        { "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "large" },
        { "kty": "new", "kid": "new" },
        5, to_encrypt, torn, one.jwk("one"),
    ] });
    let keys = of_set(set.to_string().as_bytes()).unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    for (bad, why) in [
        ("{", "cannot be read"),
        ("{}", "no list"),
        (r#"{"keys":[]}"#, "holds no public key"),
        (
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            "holds no public key",
        ),
    ] {
        let said = of_set(bad.as_bytes()).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_key_counts_for_what_it_was_published_for() {
    let issuer = Issuer::new();
    let claims = json!({ "iat": NOW });
    let settings = settings(&json!({}));
    let with_id = issuer.sign(&json!({ "alg": "ES256", "kid": "a" }), &claims);
    assert!(read(&with_id, &issuer.keys("a"), &settings).is_ok());
    let unknown = read(&with_id, &issuer.keys("b"), &settings);
    assert!(matches!(unknown, Err(Refused::UnknownKey(_))));
    // Another key under that id will not become this one by being fetched again.
    let wrong = read(&with_id, &Issuer::new().keys("a"), &settings);
    assert!(matches!(wrong, Err(Refused::Bearer(_))));
    let without = issuer.sign(&json!({ "alg": "ES256" }), &claims);
    assert!(read(&without, &issuer.keys("a"), &settings).is_ok());
    let mut jwk = issuer.jwk("a");
    jwk["alg"] = json!("ES384");
    let keys = of_set(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
    assert!(read(&without, &keys, &settings).is_err());
}

#[test]
fn settings_of_methods_are_read_or_say_what_is_wrong() {
    let set = |more: &str| format!(r#"{{"JWKSURL": "https://x/k?v=1"{more}}}"#);
    let Settings::Jwt(read) = Settings::read("jwt", &set("")).unwrap() else {
        unreachable!("its type is jwt");
    };
    assert_eq!(read.algorithms, [Algorithm::RS256]);
    let Source::Remote(Remote::Set(place)) = &read.source else {
        unreachable!("its keys are elsewhere");
    };
    assert_eq!(
        (place.address.as_str(), place.path.as_str()),
        ("https://x:443", "/k?v=1")
    );
    for (kind, config, why) in [
        ("jwt", "{}".to_owned(), "exactly one of"),
        (
            "jwt",
            set(r#", "OIDCDiscoveryURL": "https://y""#),
            "exactly one of",
        ),
        (
            "jwt",
            set(r#", "JWTValidationPubKeys": ["x"]"#),
            "exactly one of",
        ),
        (
            "jwt",
            r#"{"JWTValidationPubKeys": ["x"]}"#.to_owned(),
            "JWTValidationPubKeys holds a key that cannot be used",
        ),
        ("jwt", r#"{"JWKSURL": "http://x"}"#.to_owned(), "https"),
        ("jwt", r#"{"JWKSURL": "x"}"#.to_owned(), "is no URL"),
        (
            "jwt",
            r#"{"JWKSURL": "https://a:b@x"}"#.to_owned(),
            "user's name",
        ),
        (
            "jwt",
            set(r#", "JWKSCACert": "x""#),
            "there is no certificate",
        ),
        (
            "jwt",
            set(r#", "OIDCDiscoveryCACert": "x""#),
            "OIDCDiscoveryCACert is only for OIDCDiscoveryURL",
        ),
        ("jwt", set(r#", "JWTSupportedAlgs": ["none"]"#), "\"none\""),
        (
            "jwt",
            set(r#", "JWTSupportedAlgs": ["HS256"]"#),
            "\"HS256\"",
        ),
        ("jwt", set(r#", "BoundAudiences": "x""#), "list of texts"),
        ("jwt", set(r#", "ClaimMappings": {"a": "b c"}"#), "\"b c\""),
        (
            "jwt",
            set(r#", "ClaimMappings": {"a": "x", "b": "x"}"#),
            "two claims to \"x\"",
        ),
        ("jwt", set(r#", "ExpirationLeeway": 30"#), "\"30s\""),
        ("jwt", set(r#", "ClockSkewLeeway": "5""#), "missing unit"),
        ("jwt", set(r#", "OIDCClientID": "x""#), "OIDCClientID"),
        ("jwt", "[]".to_owned(), "Config:"),
        ("oidc", "{}".to_owned(), "browser"),
        ("aws-iam", "{}".to_owned(), "\"aws-iam\""),
        ("kubernetes", "{}".to_owned(), "Host is required"),
        (
            "kubernetes",
            r#"{"Host": "x", "CACert": "y"}"#.to_owned(),
            "ServiceAccountJWT is required",
        ),
        (
            "kubernetes",
            r#"{"Host": "x", "CACert": "y", "ServiceAccountJWT": "z"}"#.to_owned(),
            "no JWT",
        ),
        (
            "kubernetes",
            r#"{"Host": "x", "MapNamespaces": true}"#.to_owned(),
            "Enterprise",
        ),
    ] {
        let said = Settings::read(kind, &config).unwrap_err();
        assert!(said.contains(why), "{config}: {said}");
    }
}

#[test]
fn a_review_by_kubernetes_is_believed_as_it_is() {
    let answer = |status: Value| {
        read_review(json!({ "status": status }).to_string().as_bytes()).map_err(|why| why.clone())
    };
    let user =
        |name: &str| json!({ "authenticated": true, "user": { "username": name, "uid": "u" } });
    let good = answer(user("system:serviceaccount:prod:web")).unwrap();
    let identity = Identity::from(good.clone());
    assert_eq!(identity.variables["serviceaccount.name"], "web");
    assert_eq!(identity.fields["serviceaccount"]["namespace"], "prod");
    for (status, why) in [
        (user("system:node:n1"), "no service account"),
        (
            user("system:serviceaccount:prod:../x"),
            "no service account",
        ),
        (
            user("system:serviceaccount:prod:web:more"),
            "no service account",
        ),
        (json!({ "authenticated": false }), "does not know it"),
        (
            json!({ "authenticated": false, "error": "expired" }),
            "refuses it: expired",
        ),
        (json!({}), "does not know it"),
    ] {
        let said = answer(status).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    assert!(
        read_review(b"<html>")
            .unwrap_err()
            .contains("cannot be read")
    );
    let api = Place::read("https://k:6443/base/", "").unwrap();
    assert_eq!(
        path_of_account(&api, &good).path,
        "/base/api/v1/namespaces/prod/serviceaccounts/web"
    );
    let account = r#"{"metadata":{"annotations":{"consul.hashicorp.com/service-name":"shop"}}}"#;
    assert_eq!(annotation(account.as_bytes()), Ok(Some("shop".to_owned())));
    assert_eq!(annotation(b"{}"), Ok(None));
}

#[test]
fn what_is_sent_has_bounds() {
    let login = |bearer: usize, meta: usize| {
        let login = Login {
            bearer: Secret("x".repeat(bearer)),
            meta: BTreeMap::from([("a".to_owned(), "b".repeat(meta))]),
            ..Login::default()
        };
        login.invalid().is_some()
    };
    assert!(!login(BEARER_BYTES_MAX, META_BYTES_MAX - 1));
    assert!(login(BEARER_BYTES_MAX + 1, 0) && login(0, META_BYTES_MAX));
}
