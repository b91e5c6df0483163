//! What claims say, and what is made of them.

use super::*;

fn becomes(more: &Value, claims: &Value) -> Result<Identity, String> {
    let issuer = Issuer::new();
    let bearer = issuer.sign(&json!({ "alg": "ES256" }), claims);
    let read = read(&bearer, &issuer.keys("a"), &settings(more));
    read.map_err(Refused::why)
}

fn refused(more: Value, claims: Value) -> String {
    becomes(&more, &claims).unwrap_err()
}

#[test]
fn claims_become_fields_and_variables() {
    let more = json!({
        "ClaimMappings": { "team": "team", "n": "number", "/deep/er": "deep", "/a~1b": "slash", "gone": "gone", "ok": "ok" },
        "ListClaimMappings": { "groups": "groups", "one": "one" },
    });
    let claims = json!({
        "iat": NOW, "team": "Web", "n": 5, "deep": { "er": "x" }, "a/b": "y", "gone": null, "ok": true,
        "groups": ["a", 1, false], "one": "single",
    });
    let identity = becomes(&more, &claims).unwrap();
    let wanted = json!({
        "value": { "team": "Web", "number": "5", "deep": "x", "slash": "y", "ok": "true" },
        "list": { "groups": ["a", "1", "false"], "one": ["single"] },
    });
    assert_eq!(identity.fields, wanted);
    assert_eq!(identity.variables["value.team"], "Web");
    assert_eq!(identity.variables.get("value.gone"), None);
    let mut odd = claims.clone();
    odd["team"] = json!({});
    assert!(becomes(&more, &odd).unwrap_err().contains("\"team\""));
    odd = claims;
    odd["groups"] = json!([[]]);
    assert!(becomes(&more, &odd).unwrap_err().contains("\"groups\""));
}

#[test]
fn issuer_and_audience_must_be_the_bound_ones() {
    let more = json!({ "BoundIssuer": "corp", "BoundAudiences": ["consul", "other"] });
    let claims = |iss: Value, aud: Value| json!({ "iat": NOW, "iss": iss, "aud": aud });
    for aud in [json!("consul"), json!(["x", "other"])] {
        assert!(becomes(&more, &claims(json!("corp"), aud)).is_ok());
    }
    for (iss, aud, why) in [
        (json!("evil"), json!("consul"), "issued by \"evil\""),
        (json!(["corp"]), json!("consul"), "issued by \"\""),
        (Value::Null, json!("consul"), "issued by \"\""),
        (json!("corp"), json!("vault"), "for [\"vault\"]"),
        (json!("corp"), json!([]), "for []"),
        (json!("corp"), json!({ "consul": 1 }), "for []"),
        (json!("corp"), Value::Null, "for []"),
    ] {
        let said = refused(more.clone(), claims(iss, aud));
        assert!(said.contains(why), "{said}");
    }
    // One that names an audience may be for us where nobody says who we are.
    assert!(becomes(&json!({}), &claims(json!("x"), json!("y"))).is_ok());
}

#[test]
fn times_count_within_their_leeways() {
    let good = |more: Value, claims: Value| {
        let read = becomes(&more, &claims);
        assert!(read.is_ok(), "{more} {claims}: {read:?}");
    };
    let none = json!({ "ExpirationLeeway": "-1s", "NotBeforeLeeway": -1, "ClockSkewLeeway": -1 });
    good(json!({}), json!({ "exp": NOW - 60 }));
    good(none.clone(), json!({ "exp": NOW }));
    good(none.clone(), json!({ "exp": NOW as f64 + 0.5, "nbf": NOW }));
    // What says only one of its times has the other one by the leeways.
    good(json!({}), json!({ "iat": NOW - 210 }));
    good(json!({}), json!({ "exp": NOW + 210 }));
    good(
        json!({ "ExpirationLeeway": "1h" }),
        json!({ "iat": NOW - 3600 }),
    );
    good(
        json!({ "NotBeforeLeeway": 3_600_000_000_000u64 }),
        json!({ "exp": NOW + 3600 }),
    );
    for (more, claims, why) in [
        (json!({}), json!({ "exp": NOW - 61 }), "it expired 61 s ago"),
        (
            none.clone(),
            json!({ "exp": NOW - 1 }),
            "it expired 1 s ago",
        ),
        (
            none.clone(),
            json!({ "nbf": NOW + 1, "exp": NOW + 9 }),
            "does not count before 1 s",
        ),
        (none.clone(), json!({ "iat": NOW - 1 }), "it expired"),
        (json!({}), json!({ "iat": NOW - 211 }), "it expired"),
        (
            json!({}),
            json!({ "exp": NOW + 211 }),
            "does not count before",
        ),
        (
            json!({}),
            json!({ "iat": NOW + 61, "nbf": NOW, "exp": NOW + 99 }),
            "it is issued 61 s",
        ),
        (json!({}), json!({}), "nothing of its time"),
        (
            json!({}),
            json!({ "exp": "9999999999" }),
            "\"exp\" is no time",
        ),
        (
            json!({}),
            json!({ "exp": NOW + 9, "nbf": "0" }),
            "\"nbf\" is no time",
        ),
        (json!({}), json!({ "exp": -1e300 }), "it expired"),
        (json!({}), json!({ "exp": 1e300 }), "does not count before"),
    ] {
        let said = refused(more.clone(), claims.clone());
        assert!(said.contains(why), "{more} {claims}: {said}");
    }
}

#[test]
fn a_bearer_token_that_is_signed_otherwise_is_refused() {
    let issuer = Issuer::new();
    let settings = settings(&json!({}));
    let claims = json!({ "iat": NOW });
    let read = |bearer: &str| read(bearer, &issuer.keys("a"), &settings).map_err(Refused::why);
    let good = issuer.sign(&json!({ "alg": "ES256" }), &claims);
    assert!(read(&good).is_ok());
    let with = |head: Value| read(&issuer.sign(&head, &claims)).unwrap_err();
    assert!(with(json!({ "alg": "none" })).contains("signed by \"none\""));
    assert!(with(json!({})).contains("signed by \"none\""));
    assert!(with(json!({ "alg": "RS256" })).contains("takes ES256 alone"));
    // Whoever knows the public key could make such a one.
    assert!(with(json!({ "alg": "HS256" })).contains("takes ES256 alone"));
    assert!(with(json!({ "alg": "ES256", "crit": ["b64"] })).contains("crit"));
    let parts: Vec<_> = good.split('.').collect();
    let other = base64(json!({ "iat": NOW, "admin": true }).to_string());
    for bad in [
        format!("{}.{other}.{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.AAAA", parts[0], parts[1]),
        Issuer::new().sign(&json!({ "alg": "ES256" }), &claims),
    ] {
        let said = read(&bad).unwrap_err();
        assert!(said.contains("not signed by a key"), "{said}");
    }
    for bad in ["", ".", "..", "a.b", "a.b.c.d", "a.b.c"] {
        assert!(read(bad).unwrap_err().contains("it is no JWT"), "{bad}");
    }
    // It is signed, but no claims.
    let list = issuer.sign(&json!({ "alg": "ES256" }), &json!([]));
    assert!(read(&list).unwrap_err().contains("it cannot be read"));
}
