//! Tokens, policies, roles, auth methods and binding rules.

use super::restore::restore;
use super::*;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn token(number: u128, secret: &str) -> AclToken {
    AclToken {
        accessor: id(number),
        secret: secret.into(),
        ..AclToken::default()
    }
}

fn set_token(f: &mut Fixture, token: &AclToken, cas: u64) -> Outcome {
    let token = Box::new(token.clone());
    f.apply(Command::Acl(AclStep::SetToken { token, cas }))
}

fn set_policy(f: &mut Fixture, number: u128, name: &str, cas: u64) -> Outcome {
    let policy = Box::new(AclPolicy {
        id: id(number),
        name: name.into(),
        ..AclPolicy::default()
    });
    f.apply(Command::Acl(AclStep::SetPolicy { policy, cas }))
}

fn set_role(f: &mut Fixture, number: u128, name: &str, policies: &[u128]) -> Outcome {
    let grants = AclGrants {
        policies: policies.iter().map(|number| id(*number)).collect(),
        ..AclGrants::default()
    };
    let role = Box::new(AclRole {
        id: id(number),
        name: name.into(),
        grants,
        ..AclRole::default()
    });
    f.apply(Command::Acl(AclStep::SetRole { role, cas: 0 }))
}

fn set_method(f: &mut Fixture, name: &str) -> Outcome {
    let method = Box::new(AclMethod {
        name: name.into(),
        kind: "jwt".into(),
        ..AclMethod::default()
    });
    f.apply(Command::Acl(AclStep::SetMethod { method, cas: 0 }))
}

fn set_rule(f: &mut Fixture, number: u128, method: &str) -> Outcome {
    let rule = Box::new(AclBindingRule {
        id: id(number),
        auth_method: method.into(),
        ..AclBindingRule::default()
    });
    f.apply(Command::Acl(AclStep::SetBindingRule { rule, cas: 0 }))
}

fn bootstrap(f: &mut Fixture, number: u128, secret: &str, reset: u64) -> Outcome {
    let token = Box::new(token(number, secret));
    f.apply(Command::Acl(AclStep::Bootstrap { token, reset }))
}

fn ask(f: &Fixture, query: AclQuery) -> AclAnswer {
    match f.store.query(&Query::Acl(query)) {
        Answer::Acl(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn tokens(f: &Fixture, filter: TokenFilter) -> Vec<String> {
    match ask(f, AclQuery::Tokens(filter)) {
        AclAnswer::Tokens(rows, _) => rows.iter().map(|row| row.secret.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

fn policies(f: &Fixture) -> Vec<String> {
    match ask(f, AclQuery::Policies) {
        AclAnswer::Policies(rows) => rows.iter().map(|row| row.name.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_refused(outcome: &Outcome, with: Refusal, words: &str) {
    match outcome {
        Outcome::Error { code, text } if *code == with => assert!(text.contains(words), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_comes_with_the_agent_is_there_and_stays() {
    let mut f = Fixture::new();
    assert!(f.store.acl().is_empty());
    assert_eq!(
        policies(&f),
        ["global-management", "builtin/global-read-only"]
    );
    assert_eq!(tokens(&f, TokenFilter::default()), ["anonymous"]);
    let outcome = set_policy(&mut f, 1, "mine", 1);
    is_refused(
        &outcome,
        Refusal::InvalidAcl,
        "builtin policies is not permitted",
    );
    let outcome = f.apply(Command::Acl(AclStep::DeletePolicy(GLOBAL_READ_ONLY)));
    is_refused(
        &outcome,
        Refusal::InvalidAcl,
        "builtin/global-read-only policy",
    );
    let step = AclStep::DeleteTokens(vec![id(9), ANONYMOUS_ACCESSOR]);
    let outcome = f.apply(Command::Acl(step));
    is_refused(&outcome, Refusal::InvalidAcl, "the anonymous token");
    // What it allows can be changed, what it is cannot.
    let mut anonymous = AclToken::anonymous();
    anonymous.grants.policies = vec![GLOBAL_READ_ONLY];
    assert_eq!(set_token(&mut f, &anonymous, 0), Outcome::Done);
    assert_eq!(
        f.store.acl().token_of(ANONYMOUS_SECRET).unwrap().grants,
        anonymous.grants
    );
    assert_eq!(tokens(&f, TokenFilter::default()), ["anonymous"]);
    let outcome = set_token(&mut f, &token(5, ANONYMOUS_SECRET), 0);
    is_refused(&outcome, Refusal::InvalidAcl, "already in use");
}

#[test]
fn names_and_secrets_belong_to_one_row() {
    let mut f = Fixture::new();
    assert_eq!(set_policy(&mut f, 11, "Web", 0), Outcome::Done);
    let outcome = set_policy(&mut f, 12, "web", 0);
    is_refused(
        &outcome,
        Refusal::InvalidAcl,
        "A Policy with Name \"web\" already exists",
    );
    let outcome = set_policy(&mut f, 12, "Global-Management", 0);
    is_refused(&outcome, Refusal::InvalidAcl, "already exists");
    assert_eq!(set_role(&mut f, 21, "Ops", &[11]), Outcome::Done);
    let outcome = set_role(&mut f, 22, "OPS", &[]);
    is_refused(
        &outcome,
        Refusal::InvalidAcl,
        "A Role with Name \"OPS\" already exists",
    );
    assert_eq!(set_token(&mut f, &token(31, "s"), 0), Outcome::Done);
    let outcome = set_token(&mut f, &token(32, "s"), 0);
    is_refused(&outcome, Refusal::InvalidAcl, "SecretID is already in use");
    let changed = f.store.last_index() - 1;
    let outcome = set_token(&mut f, &token(31, "other"), changed);
    is_refused(&outcome, Refusal::InvalidAcl, "SecretID is not permitted");
    let AclAnswer::Policies(found) = ask(&f, AclQuery::PolicyNamed("wEB".into())) else {
        panic!();
    };
    assert_eq!(found[0].id, id(11));
    // A secret of a token that is gone is free again.
    f.apply(Command::Acl(AclStep::DeleteTokens(vec![id(31)])));
    assert_eq!(f.store.acl().token_of("s"), None);
    assert_eq!(set_token(&mut f, &token(32, "s"), 0), Outcome::Done);
}

#[test]
fn a_row_that_was_changed_meanwhile_is_not_overwritten() {
    let mut f = Fixture::new();
    set_policy(&mut f, 11, "a", 0);
    let first = f.store.last_index();
    let outcome = set_policy(&mut f, 11, "b", 0);
    is_refused(&outcome, Refusal::AclChanged, "look at it again");
    assert_eq!(set_policy(&mut f, 11, "b", first), Outcome::Done);
    let second = f.store.last_index();
    let outcome = set_policy(&mut f, 11, "c", first);
    is_refused(&outcome, Refusal::AclChanged, "look at it again");
    let row = f.store.acl().policy(&id(11)).unwrap();
    assert_eq!(row.name, "b");
    assert_eq!((row.create_index, row.modify_index), (first, second));
    f.apply(Command::Acl(AclStep::DeletePolicy(id(11))));
    let outcome = set_policy(&mut f, 11, "d", second);
    is_refused(&outcome, Refusal::AclChanged, "look at it again");
}

#[test]
fn what_is_named_must_be_there_and_may_go() {
    let mut f = Fixture::new();
    let outcome = set_role(&mut f, 21, "r", &[11]);
    is_refused(&outcome, Refusal::InvalidAcl, "No such ACL policy with ID");
    let mut holder = token(31, "s");
    holder.roles = vec![id(21)];
    let outcome = set_token(&mut f, &holder, 0);
    is_refused(&outcome, Refusal::InvalidAcl, "No such ACL role with ID");
    set_policy(&mut f, 11, "p", 0);
    set_role(&mut f, 21, "r", &[11]);
    holder.grants.policies = vec![id(11)];
    assert_eq!(set_token(&mut f, &holder, 0), Outcome::Done);
    let AclAnswer::Tokens(_, names) = ask(&f, AclQuery::Token(id(31))) else {
        panic!();
    };
    let both = [(id(11), "p".to_owned()), (id(21), "r".to_owned())];
    assert_eq!(names, BTreeMap::from(both));
    let before = f.shown(&Query::Acl(AclQuery::Token(id(31))));
    f.apply(Command::Acl(AclStep::DeletePolicy(id(11))));
    f.apply(Command::Acl(AclStep::DeleteRole(id(21))));
    let AclAnswer::Tokens(rows, names) = ask(&f, AclQuery::Token(id(31))) else {
        panic!();
    };
    assert_eq!((rows.len(), names), (1, BTreeMap::new()));
    assert!(f.shown(&Query::Acl(AclQuery::Token(id(31)))) > before);
}

#[test]
fn a_method_takes_its_tokens_and_rules_with_it() {
    let mut f = Fixture::new();
    let outcome = set_rule(&mut f, 41, "m");
    is_refused(
        &outcome,
        Refusal::InvalidAcl,
        "cannot find auth method with name \"m\"",
    );
    let mut handed = token(31, "handed");
    handed.auth_method = "m".into();
    let outcome = set_token(&mut f, &handed, 0);
    is_refused(
        &outcome,
        Refusal::InvalidAcl,
        "No such ACL auth method \"m\"",
    );
    set_method(&mut f, "m");
    set_method(&mut f, "other");
    for (rule, method) in [(41, "m"), (42, "other")] {
        assert_eq!(set_rule(&mut f, rule, method), Outcome::Done);
    }
    set_token(&mut f, &handed, 0);
    set_token(&mut f, &token(32, "own"), 0);
    let method = Some("m".to_owned());
    let of_method = TokenFilter {
        method,
        ..TokenFilter::default()
    };
    assert_eq!(tokens(&f, of_method), ["handed"]);
    f.apply(Command::Acl(AclStep::DeleteMethod("m".into())));
    assert_eq!(tokens(&f, TokenFilter::default()), ["anonymous", "own"]);
    assert_eq!(f.store.acl().token_of("handed"), None);
    let AclAnswer::BindingRules(rules) = ask(&f, AclQuery::BindingRules(None)) else {
        panic!();
    };
    let left: Vec<_> = rules.iter().map(|rule| rule.id).collect();
    assert_eq!(left, [id(42)]);
}

#[test]
fn tokens_are_found_by_what_they_have() {
    let mut f = Fixture::new();
    set_policy(&mut f, 11, "p", 0);
    set_role(&mut f, 21, "r", &[11]);
    let mut one = token(31, "policy");
    one.grants.policies = vec![id(11)];
    let mut two = token(32, "role");
    two.roles = vec![id(21)];
    let mut three = token(33, "service");
    three.grants.service_identities = vec![ServiceIdentity {
        service_name: "web".into(),
        datacenters: vec![],
    }];
    for row in [&one, &two, &three] {
        assert_eq!(set_token(&mut f, row, 0), Outcome::Done);
    }
    let none = TokenFilter::default();
    let (policy, role) = (Some(id(11)), Some(id(21)));
    let service = Some("web".to_owned());
    assert_eq!(
        tokens(
            &f,
            TokenFilter {
                policy,
                ..none.clone()
            }
        ),
        ["policy"]
    );
    assert_eq!(
        tokens(
            &f,
            TokenFilter {
                role,
                ..none.clone()
            }
        ),
        ["role"]
    );
    assert_eq!(
        tokens(
            &f,
            TokenFilter {
                service,
                ..none.clone()
            }
        ),
        ["service"]
    );
    assert_eq!(
        tokens(
            &f,
            TokenFilter {
                policy,
                role,
                ..none.clone()
            }
        ),
        [""; 0]
    );
    assert_eq!(tokens(&f, none).len(), 4);
    let AclAnswer::Roles(rows, names) = ask(&f, AclQuery::Roles(policy)) else {
        panic!();
    };
    assert_eq!((rows[0].id, &*names[&id(11)]), (id(21), "p"));
}

#[test]
fn the_first_token_is_made_once_and_again_by_its_index() {
    let mut f = Fixture::new();
    assert_eq!(bootstrap(&mut f, 31, "one", 0), Outcome::Done);
    let index = f.store.last_index();
    assert_eq!(f.store.acl().bootstrapped(), index);
    let outcome = bootstrap(&mut f, 32, "two", 0);
    let words = format!("ACL bootstrap no longer allowed (reset index: {index})");
    is_refused(&outcome, Refusal::AclBootstrapped, &words);
    let outcome = bootstrap(&mut f, 32, "two", index + 5);
    is_refused(&outcome, Refusal::AclBootstrapped, &words);
    assert_eq!(bootstrap(&mut f, 32, "two", index), Outcome::Done);
    let outcome = bootstrap(&mut f, 33, "three", index);
    is_refused(&outcome, Refusal::AclBootstrapped, "no longer allowed");
    assert_eq!(
        tokens(&f, TokenFilter::default()),
        ["anonymous", "one", "two"]
    );
}

#[test]
fn a_token_ends_at_its_time() {
    let mut f = Fixture::new();
    for (number, secret, end) in [
        (31, "a", Some(5000)),
        (32, "b", Some(9000)),
        (33, "c", None),
    ] {
        let row = AclToken {
            expires_ms: end,
            ..token(number, secret)
        };
        set_token(&mut f, &row, 0);
    }
    let acl = f.store.acl();
    assert_eq!(acl.next_end(), Some(5000));
    assert!(acl.expired(4999, 9).is_empty());
    assert_eq!(acl.expired(5000, 9), [id(31)]);
    assert_eq!(acl.expired(u64::MAX, 9), [id(31), id(32)]);
    assert_eq!(acl.expired(u64::MAX, 1).len(), 1);
}

#[test]
fn a_saved_state_without_tokens_leaves_those_that_are_there() {
    let mut saved = Fixture::new();
    saved.set("a", "1");
    let mut f = Fixture::new();
    bootstrap(&mut f, 31, "one", 0);
    set_policy(&mut f, 11, "p", 0);
    assert_eq!(restore(&mut f, 1, &saved.store.encode()), Outcome::Done);
    assert_eq!(tokens(&f, TokenFilter::default()), ["anonymous", "one"]);
    assert!(f.store.acl().bootstrapped() > 0);
}

#[test]
fn a_saved_state_with_tokens_takes_their_place() {
    let mut saved = Fixture::new();
    bootstrap(&mut saved, 31, "saved", 0);
    set_policy(&mut saved, 11, "p", 0);
    let mut f = Fixture::new();
    for secret in 40..45 {
        set_token(&mut f, &token(secret, &format!("{secret}")), 0);
    }
    assert_eq!(restore(&mut f, 1, &saved.store.encode()), Outcome::Done);
    assert_eq!(tokens(&f, TokenFilter::default()), ["anonymous", "saved"]);
    assert_eq!(policies(&f).last().map(String::as_str), Some("p"));
    assert_eq!(f.store.acl().token_of("40"), None);
    let index = f.store.last_index();
    assert_eq!(f.changed(&Query::Acl(AclQuery::Policies)), index);
}
