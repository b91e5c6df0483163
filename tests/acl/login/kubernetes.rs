//! Service accounts of Kubernetes, by its word.

use super::web::{Asked, Web};
use super::*;

const REVIEWER: &str = "head.reviewer.signature";

/// What Kubernetes' API says to whoever may review tokens.
fn api(asked: &Asked) -> (u16, String) {
    if asked.authorization != format!("Bearer {REVIEWER}") {
        return (401, "Unauthorized".to_owned());
    }
    if asked.line == "POST /apis/authentication.k8s.io/v1/tokenreviews" {
        let review: Value = serde_json::from_str(&asked.body).expect("JSON");
        assert_eq!(review["kind"], "TokenReview");
        let bearer = review["spec"]["token"].as_str().expect("a token");
        let status = match bearer.split_once('.') {
            Some((namespace, name)) => json!({
                "authenticated": true,
                "user": { "username": format!("system:serviceaccount:{namespace}:{name}"), "uid": "5" },
            }),
            None => json!({ "error": "token is expired" }),
        };
        return (201, json!({ "status": status }).to_string());
    }
    match asked.line.as_str() {
        "GET /api/v1/namespaces/prod/serviceaccounts/web" => (200, r#"{"metadata":{}}"#.to_owned()),
        "GET /api/v1/namespaces/prod/serviceaccounts/named" => {
            let annotations = json!({ "consul.hashicorp.com/service-name": "shop" });
            (
                200,
                json!({ "metadata": { "annotations": annotations } }).to_string(),
            )
        }
        "GET /api/v1/namespaces/prod/serviceaccounts/hidden" => (403, "Forbidden".to_owned()),
        _ => (404, "not found".to_owned()),
    }
}

#[test]
fn service_accounts_get_what_their_names_are_bound_to() {
    let guarded = Guarded::new();
    let http = guarded.http();
    let web = Web::new(api);
    let config = |token: &str| {
        json!({
            "Host": web.url(""), "CACert": web.authorities, "ServiceAccountJWT": token,
        })
    };
    done(&method(
        &http,
        "k8s",
        "kubernetes",
        &config(REVIEWER),
        &json!({}),
    ));
    let selector = "serviceaccount.namespace == prod and serviceaccount.uid == 5";
    done(&rule(
        &http,
        "k8s",
        selector,
        "service",
        "${serviceaccount.name}",
    ));
    for (bearer, service) in [
        ("prod.web", "web"),
        ("prod.named", "shop"),
        // Its annotations cannot be read.
        ("prod.hidden", "hidden"),
    ] {
        let token = secret(&log_in(&http, "k8s", bearer));
        assert_eq!(registers(&http, service, &token), 200, "{bearer}");
        assert_eq!(registers(&http, "other", &token), 403, "{bearer}");
    }
    let before = tokens(&http);
    for (bearer, why) in [
        ("expired", "Kubernetes refuses it: token is expired"),
        ("prod.a:b", "no service account"),
        (
            "prod.gone",
            "Kubernetes cannot be asked: Unexpected response code: 404",
        ),
    ] {
        let reply = log_in(&http, "k8s", bearer);
        let text = reply.text();
        assert_eq!(reply.status, 403, "{text}");
        assert!(text.contains(why), "{text}");
    }
    done(&method(
        &http,
        "wrong",
        "kubernetes",
        &config("a.b.c"),
        &json!({}),
    ));
    done(&rule(&http, "wrong", "", "service", "x"));
    let reply = log_in(&http, "wrong", "prod.web");
    let text = reply.text();
    assert!(text.contains("Unexpected response code: 401"), "{text}");
    assert!(!text.contains("a.b.c"), "{text}");
    // Another namespace's account is somebody, but bound to nothing.
    web.set(|asked| {
        let other = Asked {
            line: asked.line.replace("/namespaces/dev/", "/namespaces/prod/"),
            ..asked.clone()
        };
        api(&other)
    });
    let reply = log_in(&http, "k8s", "dev.web");
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (403, "Permission denied")
    );
    assert_eq!(tokens(&http), before);
}
