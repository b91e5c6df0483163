//! Keys that are published by whoever issues.

use super::web::{Web, some_authority};
use super::*;

fn of_set(web: &Web) -> Value {
    json!({
        "JWKSURL": web.url("/keys"), "JWKSCACert": web.authorities, "JWTSupportedAlgs": ["ES256"],
        "ClaimMappings": { "team": "team" },
    })
}

fn with(http: &Http, name: &str, config: &Value) {
    done(&method(http, name, "jwt", config, &json!({})));
    done(&rule(http, name, "", "service", "${value.team}"));
}

/// Why a login is refused.
fn refused(http: &Http, name: &str, bearer: &str) -> String {
    let reply = log_in(http, name, bearer);
    assert_eq!(reply.status, 403, "{}", reply.text());
    reply.text()
}

#[test]
fn keys_are_fetched_when_they_are_needed_and_not_for_every_login() {
    let guarded = Guarded::new();
    let (http, old, new) = (guarded.http(), Issuer::new("old"), Issuer::new("new"));
    let set = old.set();
    let web = Web::new(move |_| (200, set.clone()));
    with(&http, "ci", &of_set(&web));
    assert!(web.asked().is_empty());
    for _ in 0..3 {
        secret(&log_in(&http, "ci", &old.bearer("web", &json!({}))));
    }
    assert_eq!(web.asked().len(), 1);
    assert_eq!(web.asked()[0].line, "GET /keys");
    // An unknown key is looked for, however many name one.
    for _ in 0..20 {
        let why = refused(&http, "ci", &new.bearer("web", &json!({})));
        assert!(why.contains("not signed by a key"), "{why}");
    }
    assert!(web.asked().len() < 10, "{:?}", web.asked());
    let set = new.set();
    web.set(move |_| (200, set.clone()));
    tests::eventually("the new key is found", || {
        let reply = log_in(&http, "ci", &new.bearer("web", &json!({})));
        match reply.status {
            200 => Ok(()),
            _ => Err(reply.text()),
        }
    });
    let why = refused(&http, "ci", &old.bearer("web", &json!({})));
    assert!(why.contains("not signed by a key"), "{why}");
}

#[test]
fn whoever_is_not_trusted_or_makes_no_sense_vouches_for_nobody() {
    let guarded = Guarded::new();
    let (http, issuer) = (guarded.http(), Issuer::new("a"));
    let bearer = issuer.bearer("web", &json!({}));
    let set = issuer.set();
    let good = Web::new(move |_| (200, set.clone()));
    let mut config = of_set(&good);
    config["JWKSCACert"] = json!(some_authority().cert);
    with(&http, "stranger", &config);
    let why = refused(&http, "stranger", &bearer);
    assert!(why.contains("its keys cannot be fetched"), "{why}");
    assert!(why.contains("certificate"), "{why}");
    for (name, status, body, wanted) in [
        (
            "broken",
            500,
            "oops".to_owned(),
            "Unexpected response code: 500",
        ),
        ("moved", 302, String::new(), "Unexpected response code: 302"),
        (
            "html",
            200,
            "<html>".to_owned(),
            "the key set cannot be read",
        ),
        (
            "empty",
            200,
            r#"{"keys":[]}"#.to_owned(),
            "holds no public key",
        ),
        ("large", 200, " ".repeat(2 << 20), "length limit exceeded"),
    ] {
        let web = Web::new(move |_| (status, body.clone()));
        with(&http, name, &of_set(&web));
        let why = refused(&http, name, &bearer);
        assert!(why.contains(wanted), "{name}: {why}");
    }
    let mut nobody = of_set(&good);
    nobody["JWKSURL"] = json!("https://127.0.0.1:1/keys");
    with(&http, "nobody", &nobody);
    let why = refused(&http, "nobody", &bearer);
    assert!(why.contains("connection refused"), "{why}");
}

#[test]
fn an_issuer_says_where_its_keys_are() {
    let guarded = Guarded::new();
    let (http, issuer) = (guarded.http(), Issuer::new("a"));
    let web = Web::new(|_| (404, String::new()));
    let (url, keys, set) = (web.url("/corp"), web.url("/published"), issuer.set());
    let document = json!({ "issuer": url, "jwks_uri": keys }).to_string();
    let discover = |document: String| {
        let set = set.clone();
        move |asked: &web::Asked| match asked.line.as_str() {
            "GET /corp/.well-known/openid-configuration" => (200, document.clone()),
            "GET /published" => (200, set.clone()),
            _ => (404, String::new()),
        }
    };
    web.set(discover(document));
    let config = json!({
        "OIDCDiscoveryURL": url, "OIDCDiscoveryCACert": web.authorities,
        "JWTSupportedAlgs": ["ES256"], "ClaimMappings": { "team": "team" },
    });
    with(&http, "ci", &config);
    secret(&log_in(
        &http,
        "ci",
        &issuer.bearer("web", &json!({ "iss": url })),
    ));
    let why = refused(&http, "ci", &issuer.bearer("web", &json!({})));
    assert!(why.contains("it is issued by \"corp\""), "{why}");

    // What it says of itself must be what was written down.
    let mut slash = config.clone();
    slash["OIDCDiscoveryURL"] = json!(format!("{url}/"));
    with(&http, "slash", &slash);
    let bearer = issuer.bearer("web", &json!({ "iss": url }));
    let why = refused(&http, "slash", &bearer);
    assert!(
        why.contains("OIDCDiscoveryURL must be written as that"),
        "{why}"
    );
    let plain = json!({ "issuer": format!("{url}/"), "jwks_uri": "http://127.0.0.1/keys" });
    web.set(discover(plain.to_string()));
    let mut plain = config;
    plain["OIDCDiscoveryURL"] = json!(format!("{url}/"));
    tests::eventually("its answer is looked at again", || {
        let why = refused(&http, "slash", &bearer);
        match why.contains("must be an https URL") {
            true => Ok(()),
            false => Err(why),
        }
    });
}
