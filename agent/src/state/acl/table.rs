//! The tables, and what keeps them whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    ANONYMOUS_ACCESSOR, ANONYMOUS_SECRET, AclAnswer, AclBindingRule, AclMethod, AclPolicy,
    AclQuery, AclRole, AclStep, AclToken, TokenFilter,
};
use crate::state::command::{Outcome, Refusal};
use crate::state::{Change, Indexes};

/// What the tables have in common.
trait Row: Clone {
    type Key: Ord + Clone;
    fn key(&self) -> Self::Key;
    /// The log indexes of its creation and of its last change.
    fn indexes(&mut self) -> (&mut u64, &mut u64);
}

macro_rules! row {
    ($row:ty, $key:ty, $field:ident) => {
        impl Row for $row {
            type Key = $key;
            fn key(&self) -> $key {
                self.$field.clone()
            }
            fn indexes(&mut self) -> (&mut u64, &mut u64) {
                (&mut self.create_index, &mut self.modify_index)
            }
        }
    };
}

row!(AclToken, Uuid, accessor);
row!(AclPolicy, Uuid, id);
row!(AclRole, Uuid, id);
row!(AclMethod, String, name);
row!(AclBindingRule, Uuid, id);

#[derive(Clone, PartialEq)]
struct Table<R: Row> {
    rows: OrdMap<R::Key, Arc<R>>,
    /// The last index that changed anything here.
    index: u64,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        Self {
            rows: OrdMap::new(),
            index: 0,
        }
    }
}

impl<R: Row> Table<R> {
    fn restore(rows: Vec<Arc<R>>, index: u64) -> Self {
        let rows = rows.into_iter().map(|row| (row.key(), row)).collect();
        Self { rows, index }
    }

    fn modified(&self, key: &R::Key) -> u64 {
        let row = self.rows.get(key);
        row.map_or(0, |row| *R::clone(row).indexes().1)
    }

    /// Writes a row that nobody has changed since `cas`.
    fn set(&mut self, index: u64, row: &R, cas: u64) -> Result<Arc<R>, Outcome> {
        let mut row = row.clone();
        let key = row.key();
        if self.modified(&key) != cas {
            return Err(Outcome::refuse(
                Refusal::AclChanged,
                "it was changed or removed by somebody else meanwhile: look at it again",
            ));
        }
        let old = self.rows.get(&key);
        let created = old.map_or(index, |old| *R::clone(old).indexes().0);
        (*row.indexes().0, *row.indexes().1) = (created, index);
        let row = Arc::new(row);
        self.rows.insert(key, row.clone());
        self.index = index;
        Ok(row)
    }

    fn remove(&mut self, index: u64, key: &R::Key) -> Option<Arc<R>> {
        let gone = self.rows.remove(key)?;
        self.index = index;
        Some(gone)
    }

    fn all(&self) -> Vec<Arc<R>> {
        self.rows.values().cloned().collect()
    }

    fn one(&self, key: &R::Key) -> Vec<Arc<R>> {
        self.rows.get(key).into_iter().cloned().collect()
    }

    fn filter(&self, wanted: impl Fn(&R) -> bool) -> Vec<Arc<R>> {
        let rows = self.rows.values().filter(|row| wanted(row));
        rows.cloned().collect()
    }

    /// The same rows, all written at one index.
    fn moved_to(&self, index: u64) -> Self {
        let rows = self.rows.values().map(|row| {
            let mut row = R::clone(row);
            let (created, modified) = row.indexes();
            (*created, *modified) = ((*created).min(index), index);
            Arc::new(row)
        });
        Self::restore(rows.collect(), index)
    }
}

/// Who may do what.
#[derive(Clone, Default, PartialEq)]
pub struct Acl {
    tokens: Table<AclToken>,
    policies: Table<AclPolicy>,
    roles: Table<AclRole>,
    methods: Table<AclMethod>,
    rules: Table<AclBindingRule>,
    /// Accessors by secret.
    secrets: OrdMap<Arc<str>, Uuid>,
    /// Index of the last bootstrap; 0 for none.
    bootstrapped: u64,
}

/// The tables as a snapshot holds them.
#[derive(Default)]
pub(in crate::state) struct Parts {
    pub(in crate::state) tokens: Vec<Arc<AclToken>>,
    pub(in crate::state) policies: Vec<Arc<AclPolicy>>,
    pub(in crate::state) roles: Vec<Arc<AclRole>>,
    pub(in crate::state) methods: Vec<Arc<AclMethod>>,
    pub(in crate::state) rules: Vec<Arc<AclBindingRule>>,
    pub(in crate::state) state: AclState,
}

/// What is no row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::state) struct AclState {
    tokens: u64,
    policies: u64,
    roles: u64,
    methods: u64,
    rules: u64,
    bootstrapped: u64,
}

impl Acl {
    pub(in crate::state) fn restore(parts: Parts) -> Self {
        let Parts {
            tokens,
            policies,
            roles,
            methods,
            rules,
            state,
        } = parts;
        let secret = |row: &Arc<AclToken>| (Arc::from(row.secret.as_str()), row.accessor);
        Self {
            secrets: tokens.iter().map(secret).collect(),
            tokens: Table::restore(tokens, state.tokens),
            policies: Table::restore(policies, state.policies),
            roles: Table::restore(roles, state.roles),
            methods: Table::restore(methods, state.methods),
            rules: Table::restore(rules, state.rules),
            bootstrapped: state.bootstrapped,
        }
    }

    pub(in crate::state) fn parts(&self) -> Parts {
        Parts {
            tokens: self.tokens.all(),
            policies: self.policies.all(),
            roles: self.roles.all(),
            methods: self.methods.all(),
            rules: self.rules.all(),
            state: self.state(),
        }
    }

    fn state(&self) -> AclState {
        AclState {
            tokens: self.tokens.index,
            policies: self.policies.index,
            roles: self.roles.index,
            methods: self.methods.index,
            rules: self.rules.index,
            bootstrapped: self.bootstrapped,
        }
    }

    /// The same rows, all written at one index. Whether there was a bootstrap, comes with them.
    pub(in crate::state) fn moved_to(&self, index: u64) -> Self {
        Self {
            tokens: self.tokens.moved_to(index),
            policies: self.policies.moved_to(index),
            roles: self.roles.moved_to(index),
            methods: self.methods.moved_to(index),
            rules: self.rules.moved_to(index),
            secrets: self.secrets.clone(),
            bootstrapped: self.bootstrapped.min(index),
        }
    }

    /// Whether nobody ever wrote anything here.
    pub fn is_empty(&self) -> bool {
        self.state() == AclState::default()
    }

    /// Index of the last bootstrap; 0 for none.
    pub fn bootstrapped(&self) -> u64 {
        self.bootstrapped
    }

    /// The last index that changed what a token may do.
    pub fn grants_index(&self) -> u64 {
        let tokens = self.tokens.index.max(self.roles.index);
        tokens.max(self.policies.index)
    }

    /// The token with this secret. That of whoever names none is always there.
    pub fn token_of(&self, secret: &str) -> Option<Arc<AclToken>> {
        match self.secrets.get(secret) {
            Some(accessor) => self.tokens.rows.get(accessor).cloned(),
            None if secret == ANONYMOUS_SECRET => Some(Arc::new(AclToken::anonymous())),
            None => None,
        }
    }

    /// One token by its accessor, likewise.
    pub fn token(&self, accessor: &Uuid) -> Option<Arc<AclToken>> {
        match self.tokens.rows.get(accessor) {
            Some(row) => Some(row.clone()),
            None if *accessor == ANONYMOUS_ACCESSOR => Some(Arc::new(AclToken::anonymous())),
            None => None,
        }
    }

    /// One policy. Those that nobody wrote are always there.
    pub fn policy(&self, id: &Uuid) -> Option<Arc<AclPolicy>> {
        if let Some(row) = self.policies.rows.get(id) {
            return Some(row.clone());
        }
        let builtin = AclPolicy::builtin().into_iter().find(|row| row.id == *id);
        builtin.map(Arc::new)
    }

    /// One role.
    pub fn role(&self, id: &Uuid) -> Option<&Arc<AclRole>> {
        self.roles.rows.get(id)
    }

    /// One policy by name.
    pub fn policy_named(&self, name: &str) -> Option<Arc<AclPolicy>> {
        let mut all = self.policies().into_iter();
        all.find(|row| is_same(&row.name, name))
    }

    /// One role by name.
    pub fn role_named(&self, name: &str) -> Option<&Arc<AclRole>> {
        let mut all = self.roles.rows.values();
        all.find(|row| is_same(&row.name, name))
    }

    /// One auth method.
    pub fn method(&self, name: &str) -> Option<&Arc<AclMethod>> {
        self.methods.rows.get(name)
    }

    /// Binding rules of an auth method.
    pub fn rules_of(&self, method: &str) -> Vec<Arc<AclBindingRule>> {
        self.rules.filter(|rule| rule.auth_method == method)
    }

    /// Accessors of tokens whose time is over, at most so many.
    pub fn expired(&self, unix_ms: u64, limit: usize) -> Vec<Uuid> {
        let rows = self.tokens.rows.values();
        let expired = rows.filter(|row| row.is_expired(unix_ms));
        expired.map(|row| row.accessor).take(limit).collect()
    }

    /// When the next token's time is over.
    pub fn next_end(&self) -> Option<u64> {
        let rows = self.tokens.rows.values();
        rows.filter_map(|row| row.expires_ms).min()
    }

    fn policies(&self) -> Vec<Arc<AclPolicy>> {
        let mut all: Vec<_> = AclPolicy::builtin().into_iter().map(Arc::new).collect();
        all.extend(self.policies.rows.values().cloned());
        all
    }

    pub(in crate::state) fn apply(&mut self, change: &mut Change<'_>, step: &AclStep) -> Outcome {
        change.touched.acl();
        let done = match step {
            AclStep::Bootstrap { token, reset } => self.bootstrap(change.index, token, *reset),
            AclStep::SetToken { token, cas } => self.set_token(change.index, token, *cas),
            AclStep::DeleteTokens(accessors) => self.delete_tokens(change.index, accessors),
            AclStep::SetPolicy { policy, cas } => self.set_policy(change.index, policy, *cas),
            AclStep::DeletePolicy(id) => self.delete_policy(change.index, id),
            AclStep::SetRole { role, cas } => self.set_role(change.index, role, *cas),
            AclStep::DeleteRole(id) => {
                self.roles.remove(change.index, id);
                Ok(())
            }
            AclStep::SetMethod { method, cas } => {
                self.methods.set(change.index, method, *cas).map(drop)
            }
            AclStep::DeleteMethod(name) => {
                self.delete_method(change.index, name);
                Ok(())
            }
            AclStep::SetBindingRule { rule, cas } => self.set_rule(change.index, rule, *cas),
            AclStep::DeleteBindingRule(id) => {
                self.rules.remove(change.index, id);
                Ok(())
            }
        };
        match done {
            Ok(()) => Outcome::Done,
            Err(refusal) => refusal,
        }
    }

    fn bootstrap(&mut self, index: u64, token: &AclToken, reset: u64) -> Result<(), Outcome> {
        if self.bootstrapped != 0 && self.bootstrapped != reset {
            let text = format!(
                "Permission denied: ACL bootstrap no longer allowed (reset index: {})",
                self.bootstrapped
            );
            return Err(Outcome::refuse(Refusal::AclBootstrapped, text));
        }
        self.set_token(index, token, 0)?;
        self.bootstrapped = index;
        Ok(())
    }

    fn set_token(&mut self, index: u64, token: &AclToken, cas: u64) -> Result<(), Outcome> {
        let owner = self.secrets.get(token.secret.as_str());
        let is_anonymous = token.accessor == ANONYMOUS_ACCESSOR;
        if owner.is_some_and(|owner| *owner != token.accessor)
            || (token.secret == ANONYMOUS_SECRET) != is_anonymous
        {
            return Err(invalid("Invalid Token: SecretID is already in use"));
        }
        if let Some(old) = self.tokens.rows.get(&token.accessor)
            && old.secret != token.secret
        {
            return Err(invalid("Changing a token's SecretID is not permitted"));
        }
        self.check_policies(&token.grants.policies)?;
        if let Some(id) = token.roles.iter().find(|id| self.role(id).is_none()) {
            return Err(invalid(format!("No such ACL role with ID \"{id}\"")));
        }
        if !token.auth_method.is_empty() && self.method(&token.auth_method).is_none() {
            let method = &token.auth_method;
            return Err(invalid(format!("No such ACL auth method {method:?}")));
        }
        let row = self.tokens.set(index, token, cas)?;
        self.secrets
            .insert(row.secret.as_str().into(), row.accessor);
        Ok(())
    }

    fn check_policies(&self, policies: &[Uuid]) -> Result<(), Outcome> {
        match policies.iter().find(|id| self.policy(id).is_none()) {
            Some(id) => Err(invalid(format!("No such ACL policy with ID \"{id}\""))),
            None => Ok(()),
        }
    }

    fn delete_tokens(&mut self, index: u64, accessors: &[Uuid]) -> Result<(), Outcome> {
        if accessors.contains(&ANONYMOUS_ACCESSOR) {
            return Err(invalid(
                "Delete operation not permitted on the anonymous token",
            ));
        }
        for accessor in accessors {
            if let Some(gone) = self.tokens.remove(index, accessor) {
                self.secrets.remove(gone.secret.as_str());
            }
        }
        Ok(())
    }

    fn set_policy(&mut self, index: u64, policy: &AclPolicy, cas: u64) -> Result<(), Outcome> {
        if is_builtin(&policy.id) {
            return Err(invalid(
                "Changing the Rules for the builtin policies is not permitted",
            ));
        }
        let name = &policy.name;
        let same = |row: &Arc<AclPolicy>| row.id != policy.id && is_same(&row.name, name);
        if self.policies().iter().any(same) {
            return Err(invalid(format!(
                "Invalid Policy: A Policy with Name {name:?} already exists"
            )));
        }
        self.policies.set(index, policy, cas).map(drop)
    }

    fn delete_policy(&mut self, index: u64, id: &Uuid) -> Result<(), Outcome> {
        if is_builtin(id) {
            let name = self.policy(id).map(|row| row.name.clone());
            return Err(invalid(format!(
                "Delete operation not permitted on the builtin {} policy",
                name.unwrap_or_default()
            )));
        }
        self.policies.remove(index, id);
        Ok(())
    }

    fn set_role(&mut self, index: u64, role: &AclRole, cas: u64) -> Result<(), Outcome> {
        let name = &role.name;
        let same = |row: &&Arc<AclRole>| row.id != role.id && is_same(&row.name, name);
        if self.roles.rows.values().any(|row| same(&row)) {
            return Err(invalid(format!(
                "Invalid Role: A Role with Name {name:?} already exists"
            )));
        }
        self.check_policies(&role.grants.policies)?;
        self.roles.set(index, role, cas).map(drop)
    }

    fn delete_method(&mut self, index: u64, name: &str) {
        if self.methods.remove(index, &name.to_owned()).is_none() {
            return;
        }
        for rule in self.rules.filter(|rule| rule.auth_method == name) {
            self.rules.remove(index, &rule.id);
        }
        for token in self.tokens.filter(|token| token.auth_method == name) {
            self.tokens.remove(index, &token.accessor);
            self.secrets.remove(token.secret.as_str());
        }
    }

    fn set_rule(&mut self, index: u64, rule: &AclBindingRule, cas: u64) -> Result<(), Outcome> {
        if self.method(&rule.auth_method).is_none() {
            let method = &rule.auth_method;
            return Err(invalid(format!(
                "cannot find auth method with name {method:?}"
            )));
        }
        self.rules.set(index, rule, cas).map(drop)
    }

    pub(in crate::state) fn query(&self, query: &AclQuery) -> AclAnswer {
        match query {
            AclQuery::Grants => AclAnswer::Nothing,
            AclQuery::Tokens(filter) => self.named_tokens(self.filtered(filter)),
            AclQuery::Token(accessor) => {
                self.named_tokens(self.token(accessor).into_iter().collect())
            }
            AclQuery::SecretToken(secret) => {
                self.named_tokens(self.token_of(secret).into_iter().collect())
            }
            AclQuery::Policies => AclAnswer::Policies(self.policies()),
            AclQuery::Policy(id) => AclAnswer::Policies(self.policy(id).into_iter().collect()),
            AclQuery::PolicyNamed(name) => {
                AclAnswer::Policies(self.policy_named(name).into_iter().collect())
            }
            AclQuery::Roles(policy) => self.named_roles(self.roles.filter(|role| {
                let names = |id| role.grants.policies.contains(id);
                policy.as_ref().is_none_or(names)
            })),
            AclQuery::Role(id) => self.named_roles(self.roles.one(id)),
            AclQuery::RoleNamed(name) => {
                self.named_roles(self.role_named(name).into_iter().cloned().collect())
            }
            AclQuery::Methods => AclAnswer::Methods(self.methods.all()),
            AclQuery::Method(name) => AclAnswer::Methods(self.methods.one(name)),
            AclQuery::BindingRules(method) => AclAnswer::BindingRules(
                self.rules
                    .filter(|row| method.as_ref().is_none_or(|name| row.auth_method == *name)),
            ),
            AclQuery::BindingRule(id) => AclAnswer::BindingRules(self.rules.one(id)),
        }
    }

    fn filtered(&self, filter: &TokenFilter) -> Vec<Arc<AclToken>> {
        let TokenFilter {
            policy,
            role,
            method,
            service,
        } = filter;
        let wanted = |row: &AclToken| {
            let has_service = |name: &String| {
                let identities = &row.grants.service_identities;
                identities.iter().any(|one| one.service_name == *name)
            };
            let has_policy = |id| row.grants.policies.contains(id);
            policy.as_ref().is_none_or(has_policy)
                && role.as_ref().is_none_or(|id| row.roles.contains(id))
                && method.as_ref().is_none_or(|name| row.auth_method == *name)
                && service.as_ref().is_none_or(has_service)
        };
        let mut rows = self.tokens.filter(wanted);
        let anonymous = AclToken::anonymous();
        if !self.tokens.rows.contains_key(&anonymous.accessor) && wanted(&anonymous) {
            rows.insert(0, Arc::new(anonymous));
            rows.sort_by_key(|row| row.accessor);
        }
        rows
    }

    fn named_tokens(&self, rows: Vec<Arc<AclToken>>) -> AclAnswer {
        let mut names = BTreeMap::new();
        for row in &rows {
            names.append(&mut self.names_of(row));
        }
        AclAnswer::Tokens(rows, names)
    }

    /// Names of the policies and roles that a token names.
    pub fn names_of(&self, token: &AclToken) -> BTreeMap<Uuid, String> {
        let mut names = BTreeMap::new();
        self.name_policies(&token.grants.policies, &mut names);
        let roles = token.roles.iter().filter_map(|id| self.role(id));
        names.extend(roles.map(|role| (role.id, role.name.clone())));
        names
    }

    fn named_roles(&self, rows: Vec<Arc<AclRole>>) -> AclAnswer {
        let mut names = BTreeMap::new();
        for row in &rows {
            self.name_policies(&row.grants.policies, &mut names);
        }
        AclAnswer::Roles(rows, names)
    }

    fn name_policies(&self, ids: &[Uuid], names: &mut BTreeMap<Uuid, String>) {
        let policies = ids.iter().filter_map(|id| self.policy(id));
        names.extend(policies.map(|policy| (policy.id, policy.name.clone())));
    }

    pub(in crate::state) fn indexes(&self, query: &AclQuery) -> Indexes {
        Indexes::same(match query {
            AclQuery::Grants => self.grants_index(),
            // Tokens show the names of policies and roles.
            AclQuery::Tokens(_) | AclQuery::Token(_) | AclQuery::SecretToken(_) => {
                self.grants_index()
            }
            AclQuery::Policies | AclQuery::Policy(_) | AclQuery::PolicyNamed(_) => {
                self.policies.index
            }
            AclQuery::Roles(_) | AclQuery::Role(_) | AclQuery::RoleNamed(_) => {
                self.roles.index.max(self.policies.index)
            }
            AclQuery::Methods | AclQuery::Method(_) => self.methods.index,
            AclQuery::BindingRules(_) | AclQuery::BindingRule(_) => self.rules.index,
        })
    }
}

fn is_builtin(id: &Uuid) -> bool {
    AclPolicy::builtin().iter().any(|row| row.id == *id)
}

fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn invalid(text: impl Into<String>) -> Outcome {
    Outcome::refuse(Refusal::InvalidAcl, text)
}
