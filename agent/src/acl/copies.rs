//! Policies, roles and tokens of the primary datacenter, as another one keeps them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::HIDDEN_SECRET;
use crate::state::{
    ANONYMOUS_ACCESSOR, AclPolicy, AclRole, AclStep, AclToken, GLOBAL_MANAGEMENT, GLOBAL_READ_ONLY,
};

/// Tokens that are removed with one command.
const REMOVED_AT_ONCE: usize = 256;

/// How copying goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copying {
    /// Whether the leader copies.
    pub enabled: bool,
    /// The primary datacenter.
    pub source: String,
    /// Index there of the policies that are here.
    pub policies: u64,
    /// The same for roles.
    pub roles: u64,
    /// The same for tokens.
    pub tokens: u64,
    /// When it last went well: milliseconds since the Unix epoch.
    pub success_ms: Option<u64>,
    /// When it last did not, likewise.
    pub error_ms: Option<u64>,
    /// Why not.
    pub error: String,
}

/// Everything that is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// With those that come with the agent, which are left alone.
    pub policies: Vec<Arc<AclPolicy>>,
    /// All of them.
    pub roles: Vec<Arc<AclRole>>,
    /// With those that count in their datacenter alone, which are left alone.
    pub tokens: Vec<Arc<AclToken>>,
}

/// A kind of row that is copied.
trait Copied: Clone + PartialEq {
    fn id(&self) -> Uuid;
    /// No two have the same, without regard to case.
    fn name(&self) -> Option<&str>;
    /// What cannot be changed once it is written.
    fn fixed(&self) -> &str;
    fn modify_index(&self) -> u64;
    /// Without what is different in every datacenter.
    fn content(&self) -> Self;
}

macro_rules! copied {
    ($row:ty, $id:ident, $name:expr, $fixed:expr) => {
        impl Copied for $row {
            fn id(&self) -> Uuid {
                self.$id
            }

            fn name(&self) -> Option<&str> {
                let name: fn(&Self) -> Option<&str> = $name;
                name(self)
            }

            fn fixed(&self) -> &str {
                let fixed: fn(&Self) -> &str = $fixed;
                fixed(self)
            }

            fn modify_index(&self) -> u64 {
                self.modify_index
            }

            fn content(&self) -> Self {
                Self {
                    create_index: 0,
                    modify_index: 0,
                    ..self.clone()
                }
            }
        }
    };
}

copied!(AclPolicy, id, |row| Some(&row.name), |_| "");
copied!(AclRole, id, |row| Some(&row.name), |_| "");
copied!(AclToken, accessor, |_| None, |row| &row.secret);

impl Rows {
    /// Why this cannot be what the primary datacenter has.
    pub fn unusable(&self) -> Option<&'static str> {
        if self.tokens.iter().any(|row| row.secret == HIDDEN_SECRET) {
            return Some(
                "the primary datacenter hides secrets from acl.tokens.replication: to copy tokens takes acl = \"write\"",
            );
        }
        let somebody = |row: &Arc<AclToken>| row.accessor != ANONYMOUS_ACCESSOR;
        // Where ACLs are off, nothing is there; and nobody could get in here any more.
        (!self.tokens.iter().any(somebody)).then_some(
            "the primary datacenter has no token: are ACLs on there, and was the first one made?",
        )
    }

    /// The same as it is kept elsewhere: what names something that is gone does not name it, and auth methods are not copied.
    fn kept(&self, unix_ms: u64) -> (Vec<AclPolicy>, Vec<AclRole>, Vec<AclToken>) {
        let policies: Vec<_> = self.policies.iter().map(|row| row.content()).collect();
        let known: BTreeSet<_> = policies.iter().map(Copied::id).collect();
        let roles = self.roles.iter().map(|row| {
            let mut row = row.content();
            row.grants.policies.retain(|id| known.contains(id));
            row
        });
        let roles: Vec<_> = roles.collect();
        let known_roles: BTreeSet<_> = roles.iter().map(Copied::id).collect();
        let counts = |row: &&Arc<AclToken>| !row.local && !row.is_expired(unix_ms);
        let tokens = self.tokens.iter().filter(counts).map(|row| {
            let mut row = row.content();
            row.grants.policies.retain(|id| known.contains(id));
            row.roles.retain(|id| known_roles.contains(id));
            row.auth_method.clear();
            row
        });
        (policies, roles, tokens.collect())
    }
}

/// What is to go, and what is to be written over which index.
struct Changes<R> {
    gone: Vec<Uuid>,
    set: Vec<(R, u64)>,
}

fn compare<R: Copied>(wanted: Vec<R>, own: &[Arc<R>], left_alone: &[Uuid]) -> Changes<R> {
    let lower = |name: &str| name.to_ascii_lowercase();
    let by_id: BTreeMap<_, _> = wanted.iter().map(|row| (row.id(), row)).collect();
    let named = wanted
        .iter()
        .filter_map(|row| Some((lower(row.name()?), row.id())));
    let owners: BTreeMap<_, _> = named.collect();
    let in_the_way = |row: &&Arc<R>| {
        let owner = row.name().and_then(|name| owners.get(&lower(name)));
        let same = by_id.get(&row.id());
        same.is_none_or(|same| same.fixed() != row.fixed())
            || owner.is_some_and(|owner| *owner != row.id())
    };
    let changeable = |id: &Uuid| !left_alone.contains(id);
    let gone = own.iter().filter(in_the_way).map(|row| row.id());
    let gone: Vec<_> = gone.filter(changeable).collect();
    let known = own.iter().filter(|row| !gone.contains(&row.id()));
    let known: BTreeMap<_, _> = known.map(|row| (row.id(), row)).collect();
    let set = wanted.iter().filter(|row| changeable(&row.id()));
    let set = set.filter_map(|row| match known.get(&row.id()) {
        Some(old) => (old.content() != *row).then(|| (row.clone(), old.modify_index())),
        None => Some((row.clone(), 0)),
    });
    Changes {
        set: set.collect(),
        gone,
    }
}

/// What must be done here so that everything is as it is in the primary datacenter: first what is less, then what is more.
pub fn steps(primary: &Rows, own: &Rows, unix_ms: u64) -> Vec<AclStep> {
    let (policies, roles, tokens) = primary.kept(unix_ms);
    let own_tokens: Vec<_> = own
        .tokens
        .iter()
        .filter(|row| !row.local)
        .cloned()
        .collect();
    let policies = compare(
        policies,
        &own.policies,
        &[GLOBAL_MANAGEMENT, GLOBAL_READ_ONLY],
    );
    let roles = compare(roles, &own.roles, &[]);
    let tokens = compare(tokens, &own_tokens, &[]);
    // That of whoever names none is always there; it can only be changed.
    let gone = tokens.gone.iter().filter(|id| **id != ANONYMOUS_ACCESSOR);
    let gone: Vec<_> = gone.copied().collect();
    let mut steps: Vec<_> = gone
        .chunks(REMOVED_AT_ONCE)
        .map(|some| AclStep::DeleteTokens(some.to_vec()))
        .collect();
    steps.extend(roles.gone.into_iter().map(AclStep::DeleteRole));
    steps.extend(policies.gone.into_iter().map(AclStep::DeletePolicy));
    steps.extend(
        policies
            .set
            .into_iter()
            .map(|(row, cas)| AclStep::SetPolicy {
                policy: Box::new(row),
                cas,
            }),
    );
    steps.extend(roles.set.into_iter().map(|(row, cas)| AclStep::SetRole {
        role: Box::new(row),
        cas,
    }));
    steps.extend(tokens.set.into_iter().map(|(row, cas)| AclStep::SetToken {
        token: Box::new(row),
        cas,
    }));
    steps
}

/// Whether a change belongs into the primary datacenter, where others copy from it.
pub fn is_of_primary(step: &AclStep, local: impl Fn(&Uuid) -> bool) -> bool {
    match step {
        AclStep::Bootstrap { .. }
        | AclStep::SetPolicy { .. }
        | AclStep::DeletePolicy(_)
        | AclStep::SetRole { .. }
        | AclStep::DeleteRole(_) => true,
        AclStep::SetToken { token, .. } => !token.local,
        AclStep::DeleteTokens(accessors) => !accessors.iter().all(local),
        AclStep::SetMethod { method, .. } => method.token_locality == "global",
        AclStep::DeleteMethod(_)
        | AclStep::SetBindingRule { .. }
        | AclStep::DeleteBindingRule(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{AclAnswer, AclMethod};
    use crate::state::{AclGrants, AclQuery, Answer, Command, Outcome, Query, Stamped, Store};

    const NOW: u64 = 1000;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn apply(store: &mut Store, step: AclStep) -> Outcome {
        let index = store.last_index() + 1;
        let command = Command::Acl(step);
        let stamped = Stamped {
            unix_ms: NOW,
            command,
        };
        store.apply(index, &stamped)
    }

    fn rows(store: &Store) -> Rows {
        let ask = |query| match store.query(&Query::Acl(query)) {
            Answer::Acl(answer) => answer,
            other => panic!("{other:?}"),
        };
        let (policies, roles, tokens) = (
            ask(AclQuery::Policies),
            ask(AclQuery::Roles(None)),
            ask(AclQuery::Tokens(Default::default())),
        );
        match (policies, roles, tokens) {
            (
                AclAnswer::Policies(policies),
                AclAnswer::Roles(roles, _),
                AclAnswer::Tokens(tokens, _),
            ) => Rows {
                policies,
                roles,
                tokens,
            },
            other => panic!("{other:?}"),
        }
    }

    fn policy(number: u128, name: &str) -> AclStep {
        let policy = AclPolicy {
            id: id(number),
            name: name.to_owned(),
            ..AclPolicy::default()
        };
        AclStep::SetPolicy {
            policy: Box::new(policy),
            cas: 0,
        }
    }

    fn role(number: u128, name: &str, of: &[u128]) -> AclStep {
        let role = AclRole {
            id: id(number),
            name: name.to_owned(),
            grants: grants(of),
            ..AclRole::default()
        };
        AclStep::SetRole {
            role: Box::new(role),
            cas: 0,
        }
    }

    fn grants(of: &[u128]) -> AclGrants {
        AclGrants {
            policies: of.iter().copied().map(id).collect(),
            ..AclGrants::default()
        }
    }

    fn token(number: u128, secret: &str, change: impl FnOnce(&mut AclToken)) -> AclStep {
        let mut token = AclToken {
            accessor: id(number),
            secret: secret.to_owned(),
            ..AclToken::default()
        };
        change(&mut token);
        AclStep::SetToken {
            token: Box::new(token),
            cas: 0,
        }
    }

    fn store(steps: impl IntoIterator<Item = AclStep>) -> Store {
        let mut store = Store::default();
        for step in steps {
            assert_eq!(apply(&mut store, step), Outcome::Done);
        }
        store
    }

    /// Makes one the copy of the other; nothing is left to do then.
    fn copy(primary: &Store, own: &mut Store) -> usize {
        let steps_now = steps(&rows(primary), &rows(own), NOW);
        let count = steps_now.len();
        for step in steps_now {
            let said = apply(own, step.clone());
            assert_eq!(said, Outcome::Done, "{step:?}");
        }
        assert_eq!(steps(&rows(primary), &rows(own), NOW), []);
        count
    }

    #[test]
    fn everything_becomes_as_it_is_in_the_primary_datacenter_but_what_is_local() {
        let method = AclMethod {
            name: "m".into(),
            ..AclMethod::default()
        };
        let mut primary = store([
            AclStep::SetMethod {
                method: Box::new(method),
                cas: 0,
            },
            policy(10, "team"),
            policy(11, "doomed"),
            role(20, "dev", &[10, 1]),
            token(30, "a", |token| {
                token.grants = grants(&[10, 11]);
                token.roles = vec![id(20)];
                token.auth_method = "m".to_owned();
            }),
            token(31, "local", |token| token.local = true),
            token(32, "over", |token| token.expires_ms = Some(NOW)),
            token(33, "lasts", |token| token.expires_ms = Some(NOW + 1)),
        ]);
        // What it names is gone there, but not forgotten.
        apply(&mut primary, AclStep::DeletePolicy(id(11)));
        let mut own = store([
            policy(12, "stray"),
            role(21, "stray", &[12]),
            token(34, "stray", |token| token.roles = vec![id(21)]),
            token(35, "own", |token| token.local = true),
        ]);
        assert!(copy(&primary, &mut own) > 0);
        let acl = own.acl();
        let copied = acl.token_of("a").unwrap();
        assert_eq!(copied.grants.policies, [id(10)]);
        assert_eq!(
            (copied.roles.as_slice(), copied.auth_method.as_str()),
            (&[id(20)][..], "")
        );
        for (secret, there) in [
            ("own", true),
            ("lasts", true),
            ("stray", false),
            ("local", false),
            ("over", false),
        ] {
            assert_eq!(acl.token_of(secret).is_some(), there, "{secret}");
        }
        assert!(acl.policy_named("stray").is_none() && acl.role_named("stray").is_none());
        assert_eq!(copy(&primary, &mut own), 0);
        apply(&mut primary, AclStep::DeleteTokens(vec![id(30)]));
        assert_eq!(copy(&primary, &mut own), 1);
        assert!(own.acl().token_of("a").is_none());
    }

    #[test]
    fn names_that_have_moved_and_secrets_that_are_new_are_no_obstacle() {
        let primary = store([
            policy(10, "a"),
            policy(11, "b"),
            role(20, "x", &[]),
            token(30, "new", |_| {}),
        ]);
        let mut own = store([
            policy(10, "B"),
            policy(11, "A"),
            role(21, "X", &[]),
            token(30, "old", |_| {}),
        ]);
        copy(&primary, &mut own);
        assert_eq!(own.acl().policy_named("a").unwrap().id, id(10));
        assert_eq!(own.acl().role_named("x").unwrap().id, id(20));
        assert!(own.acl().token_of("old").is_none());
        assert!(own.acl().token_of("new").is_some());
    }

    #[test]
    fn the_anonymous_token_is_copied_and_what_comes_with_the_agent_is_left() {
        let anonymous = AclToken {
            description: "changed".into(),
            ..AclToken::anonymous()
        };
        let mut primary = store([]);
        let mut own = store([]);
        assert_eq!(copy(&primary, &mut own), 0);
        let step = AclStep::SetToken {
            token: Box::new(anonymous),
            cas: 0,
        };
        apply(&mut primary, step);
        assert_eq!(copy(&primary, &mut own), 1);
        let copied = own.acl().token(&ANONYMOUS_ACCESSOR).unwrap();
        assert_eq!(copied.description, "changed");
        let mut other = rows(&primary);
        // Of another version.
        Arc::make_mut(&mut other.policies[0]).rules.clear();
        assert_eq!(steps(&other, &rows(&own), NOW), []);
    }

    #[test]
    fn what_cannot_be_the_primary_datacenters_is_not_taken_over() {
        let good = rows(&store([token(30, "a", |_| {})]));
        assert_eq!(good.unusable(), None);
        let hidden = rows(&store([token(30, HIDDEN_SECRET, |_| {})]));
        assert!(hidden.unusable().unwrap().contains("hides secrets"));
        assert!(
            rows(&store([]))
                .unusable()
                .unwrap()
                .contains("has no token")
        );
    }

    #[test]
    fn changes_of_what_counts_everywhere_belong_into_the_primary_datacenter() {
        let local = |of: &Uuid| *of == id(1);
        let of_primary = |step: AclStep| is_of_primary(&step, local);
        assert!(of_primary(policy(1, "a")) && of_primary(role(1, "a", &[])));
        assert!(of_primary(token(1, "a", |_| {})));
        assert!(!of_primary(token(1, "a", |token| token.local = true)));
        assert!(of_primary(AclStep::DeleteTokens(vec![id(1), id(2)])));
        assert!(!of_primary(AclStep::DeleteTokens(vec![id(1)])));
        assert!(!of_primary(AclStep::DeleteMethod("m".into())));
    }
}
