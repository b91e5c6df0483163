//! What binding rules give.

use super::*;

const METHOD: &str = "ci";

struct Bed(Store);

impl Bed {
    fn new() -> Self {
        let mut bed = Self(Store::default());
        bed.apply(AclStep::SetMethod {
            method: Box::new(method()),
            cas: 0,
        });
        bed.apply(AclStep::SetRole {
            role: Box::new(AclRole {
                id: Uuid::from_u128(7),
                name: "Dev".into(),
                ..AclRole::default()
            }),
            cas: 0,
        });
        bed.apply(AclStep::SetPolicy {
            policy: Box::new(AclPolicy {
                id: Uuid::from_u128(8),
                name: "team".into(),
                ..AclPolicy::default()
            }),
            cas: 0,
        });
        bed
    }

    fn apply(&mut self, step: AclStep) {
        let index = self.0.last_index() + 1;
        let command = Command::Acl(step);
        let stamped = Stamped {
            unix_ms: 5,
            command,
        };
        assert_eq!(self.0.apply(index, &stamped), Outcome::Done);
    }

    fn rule(mut self, selector: &str, bind_type: &str, bind_name: &str) -> Self {
        let id = Uuid::from_u128(u128::from(self.0.last_index()) + 100);
        self.apply(AclStep::SetBindingRule {
            rule: Box::new(rule(id, selector, bind_type, bind_name)),
            cas: 0,
        });
        self
    }

    fn gives(&self, identity: &Identity) -> Result<Bound, String> {
        bind(self.0.acl(), METHOD, identity, "dc1")
    }
}

fn method() -> AclMethod {
    AclMethod {
        name: METHOD.into(),
        kind: "jwt".into(),
        token_locality: "local".into(),
        config: json!({ "JWKSURL": "https://x", "ClaimMappings": { "team": "team" } }).to_string(),
        ..AclMethod::default()
    }
}

fn rule(id: Uuid, selector: &str, bind_type: &str, bind_name: &str) -> AclBindingRule {
    AclBindingRule {
        id,
        auth_method: METHOD.into(),
        selector: selector.to_owned(),
        bind_type: bind_type.to_owned(),
        bind_name: bind_name.to_owned(),
        bind_vars: BTreeMap::from([("name".to_owned(), "${value.team}".to_owned())]),
        ..AclBindingRule::default()
    }
}

fn identity(team: &str, groups: &[&str]) -> Identity {
    Identity {
        fields: json!({ "value": { "team": team }, "list": { "groups": groups } }),
        variables: BTreeMap::from([("value.team".to_owned(), team.to_owned())]),
    }
}

#[test]
fn every_rule_that_fits_gives_what_it_binds_to() {
    let bed = Bed::new()
        .rule("value.team == Web", "service", "${value.team}-x")
        .rule("\"ops\" in list.groups", "role", "dev")
        .rule("", "policy", "TEAM")
        .rule("", "node", "n-${ value.team }")
        .rule("value.none == x", "service", "never")
        .rule(
            "value.team matches \"^W\"",
            "templated-policy",
            "builtin/service",
        )
        .rule("value.team == Web", "service", "${value.team}-x");
    let bound = bed.gives(&identity("Web", &["a", "ops"])).unwrap();
    let grants = &bound.grants;
    assert_eq!(grants.service_identities.len(), 1);
    assert_eq!(grants.service_identities[0].service_name, "web-x");
    assert_eq!(grants.node_identities[0].node_name, "n-web");
    assert_eq!(grants.node_identities[0].datacenter, "dc1");
    assert_eq!(grants.policies, [Uuid::from_u128(8)]);
    assert_eq!(grants.templated_policies[0].name, "web");
    assert_eq!(bound.roles, [Uuid::from_u128(7)]);
    assert!(bed.gives(&identity("x", &[])).unwrap().roles.is_empty());
}

#[test]
fn what_does_not_exist_gives_nothing_and_what_cannot_be_named_refuses() {
    let bed = Bed::new()
        .rule("", "role", "gone")
        .rule("", "policy", "gone-${value.team}");
    assert!(bed.gives(&identity("a", &[])).unwrap().is_empty());
    let bed = Bed::new().rule("", "service", "${value.team}");
    for bad in ["a b", "", "a\" { policy = \"write\" }", "ä"] {
        let why = bed.gives(&identity(bad, &[])).unwrap_err();
        assert!(why.contains("is no name of a service"), "{why}");
    }
    let nothing = Identity {
        variables: BTreeMap::new(),
        ..identity("a", &[])
    };
    let why = bed.gives(&nothing).unwrap_err();
    assert!(why.contains("the identity has no value.team"), "{why}");
    let bed = Bed::new().rule("", "templated-policy", "builtin/service");
    assert!(bed.gives(&identity("a b", &[])).is_err());
}

#[test]
fn a_rule_names_what_identities_of_its_method_have() {
    let id = Uuid::from_u128(1);
    let check = |name: &str| check_rule(&method(), &rule(id, "", "service", name));
    assert_eq!(check("a-${value.team}"), Ok(()));
    let why = check("a-${value.nope}").unwrap_err();
    assert!(why.contains("names value.nope"), "{why}");
    assert!(why.ends_with("they have: value.team"), "{why}");
    let of_kubernetes = AclMethod {
        kind: "kubernetes".into(),
        ..method()
    };
    // Its settings cannot be read, which was said elsewhere.
    let named = rule(id, "", "service", "${value.nope}");
    assert_eq!(check_rule(&of_kubernetes, &named), Ok(()));
}

#[test]
fn names_are_read_with_their_variables() {
    for (text, variables) in [
        ("", vec![]),
        ("a-b", vec![]),
        ("${a}", vec!["a"]),
        ("x${a.b}y${ c }", vec!["a.b", "c"]),
    ] {
        let read = Pattern::parse(text).unwrap();
        assert_eq!(read.variables().collect::<Vec<_>>(), variables, "{text}");
    }
    for bad in ["${", "a${b", "${}", "${a b}", "${a${b}}", "${f(x)}"] {
        assert!(Pattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_token_is_of_its_method() {
    let login = Login {
        meta: BTreeMap::from([("pod".to_owned(), "a/b".to_owned())]),
        ..Login::default()
    };
    let ids = (Uuid::from_u128(1), Uuid::from_u128(2));
    let limited = AclMethod {
        max_ttl_ms: 90_000,
        ..method()
    };
    let token = login.token(&limited, Bound::default(), ids, 1000);
    assert_eq!(
        token.description,
        r#"token created via login: {"pod":"a/b"}"#
    );
    assert_eq!((token.local, token.expires_ms), (true, Some(91_000)));
    assert_eq!(token.auth_method, METHOD);
    let everywhere = AclMethod {
        token_locality: "global".into(),
        ..method()
    };
    let token = Login::default().token(&everywhere, Bound::default(), ids, 1000);
    assert_eq!(token.description, "token created via login");
    assert_eq!((token.local, token.expires_ms), (false, None));
    assert_eq!(token.grants, AclGrants::default());
}
