//! What anybody may send.

use super::*;

#[test]
fn no_bearer_token_makes_the_readers_panic_and_none_is_taken_but_a_signed_one() {
    let issuer = Issuer::new();
    let keys = issuer.keys("a");
    let settings = settings(&json!({
        "JWTSupportedAlgs": ["ES256", "RS256", "EdDSA"],
        "ClaimMappings": { "team": "team", "/a/b": "deep" },
        "ListClaimMappings": { "groups": "groups" },
    }));
    let claims = json!({ "iat": NOW, "exp": NOW + 9, "team": "web", "groups": ["a"] });
    let good = issuer.sign(&json!({ "alg": "ES256", "kid": "a" }), &claims);
    let signed = good.rsplit_once('.').unwrap().0.to_owned();
    let seeds = [
        good.clone().into_bytes(),
        issuer
            .sign(&json!({ "alg": "RS256" }), &claims)
            .into_bytes(),
        issuer
            .sign(&json!({ "alg": "EdDSA" }), &claims)
            .into_bytes(),
        format!("{}..", base64(r#"{"alg":"none"}"#)).into_bytes(),
    ];
    crate::fuzz::run("bearer-token", &seeds, |bytes| {
        let bearer = String::from_utf8_lossy(bytes);
        match read(&bearer, &keys, &settings) {
            Ok(_) => {
                // The last letter of base64 holds bits that do not count.
                assert!(bearer.starts_with(&signed), "{bearer}");
                "taken".to_owned()
            }
            Err(refused) => refused.why(),
        }
    });
}

#[test]
fn no_claims_of_whoever_signs_make_the_readers_panic() {
    let issuer = Issuer::new();
    let keys = issuer.keys("a");
    let settings = settings(&json!({
        "BoundAudiences": ["x"],
        "ClaimMappings": { "team": "team", "/a/b": "deep" },
        "ListClaimMappings": { "groups": "groups" },
    }));
    let seeds = [
        br#"{"iat":1800000000,"exp":1800000009,"aud":["x"],"team":"web","groups":["a",1]}"#
            .to_vec(),
        br#"{"exp":1e300,"nbf":-1.5,"aud":"x","a":{"b":[{}]}}"#.to_vec(),
    ];
    crate::fuzz::run("bearer-claims", &seeds, |bytes| {
        let head = base64(r#"{"alg":"ES256"}"#);
        let message = format!("{head}.{}", base64(bytes));
        let signed = issuer.key.sign(&issuer.random, message.as_bytes()).unwrap();
        let bearer = format!("{message}.{}", base64(signed));
        match read(&bearer, &keys, &settings) {
            Ok(_) => "taken".to_owned(),
            Err(refused) => refused.why(),
        }
    });
}

#[test]
fn no_key_set_and_no_review_make_the_readers_panic() {
    let issuer = Issuer::new();
    let set = json!({ "keys": [issuer.jwk("a"), { "kty": "RSA", "n": "AQAB", "e": "AQAB" }] });
    let review = json!({ "status": { "authenticated": true, "user": { "username": "system:serviceaccount:a:b", "uid": "u" } } });
    let seeds = [
        set.to_string().into_bytes(),
        review.to_string().into_bytes(),
    ];
    let settings = settings(&json!({}));
    let bearer = issuer.sign(&json!({ "alg": "ES256" }), &json!({ "iat": NOW }));
    crate::fuzz::run("login-answers", &seeds, |bytes| {
        let set = match of_set(bytes) {
            Ok(keys) => match read(&bearer, &keys, &settings) {
                Ok(_) => "taken".to_owned(),
                Err(refused) => refused.why(),
            },
            Err(why) => why,
        };
        let reviewed = read_review(bytes).map(|_| "reviewed");
        let named = annotation(bytes).map(|name| name.is_some());
        format!("{set}, {reviewed:?}, {named:?}")
    });
}
