//! What a set of rules allows.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Included, Unbounded};

use super::rules::Rule;
use super::{Access, Resource, Rules};

/// What is allowed where no rule says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultPolicy {
    /// Everything but what would change who is allowed what, as in Consul.
    Allow,
    /// Nothing.
    Deny,
}

/// Rules of one kind of resource. `None` denies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    exact: HashMap<Box<str>, Option<Access>>,
    prefixes: BTreeMap<Box<str>, Option<Access>>,
}

/// Decides what the holder of a token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorizer {
    default: DefaultPolicy,
    resources: BTreeMap<Resource, Names>,
}

impl Authorizer {
    /// All these rules together. Where several speak of the same name, a denial counts most, then the greatest grant.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Rules>, default: DefaultPolicy) -> Self {
        let mut resources: BTreeMap<Resource, Names> = BTreeMap::new();
        for rule in rules.into_iter().flat_map(|rules| &rules.rules) {
            resources.entry(rule.resource).or_default().add(rule);
        }
        Self { default, resources }
    }

    /// Whether this may be done with the resource of that name. An exact rule beats one for a prefix, a longer prefix a
    /// shorter one. The name of a resource of which there is only one does not matter.
    ///
    /// An intention's destination may be `*`: to look at it, any destination that may be looked at will do; to change it,
    /// all must be changeable.
    pub fn allows(&self, resource: Resource, name: &str, access: Access) -> bool {
        if resource == Resource::Intention && name == "*" {
            return match access {
                Access::Write => self.allows_all(resource, access),
                _ => self.allows_any(resource, access),
            };
        }
        let name = if resource.is_named() { name } else { "" };
        let rule = self
            .resources
            .get(&resource)
            .and_then(|names| names.find(name));
        match rule {
            Some(grant) => is_granted(grant, access),
            // These two were the operator's before there were rules about them.
            None if matches!(resource, Resource::Mesh | Resource::Peering) => {
                self.allows(Resource::Operator, "", access)
            }
            None => self.allows_by_default(resource),
        }
    }

    /// Whether this may be done with everything whose name begins so.
    pub fn allows_below(&self, resource: Resource, prefix: &str, access: Access) -> bool {
        let Some(names) = self.resources.get(&resource) else {
            return self.allows_by_default(resource);
        };
        let covering = names.longest_prefix(prefix);
        let is_covered = covering.map_or_else(
            || self.allows_by_default(resource),
            |grant| is_granted(grant, access),
        );
        let all = names.exact.iter().chain(&names.prefixes);
        let mut below = all.filter(|(name, _)| name.starts_with(prefix));
        is_covered && below.all(|(_, &grant)| is_granted(grant, access))
    }

    /// Whether this may be done with all of them, whatever their names.
    pub fn allows_all(&self, resource: Resource, access: Access) -> bool {
        self.allows_below(resource, "", access)
    }

    /// Whether there is a name with which this may be done.
    pub fn allows_any(&self, resource: Resource, access: Access) -> bool {
        let names = self.resources.get(&resource);
        let granted = names.is_some_and(|names| {
            let mut all = names.exact.values().chain(names.prefixes.values());
            all.any(|&grant| is_granted(grant, access))
        });
        // A rule for all names leaves nothing to the default.
        let rest = names.and_then(|names| names.prefixes.get("")).is_none();
        granted || rest && self.allows_by_default(resource)
    }

    fn allows_by_default(&self, resource: Resource) -> bool {
        self.default == DefaultPolicy::Allow && resource != Resource::Acl
    }
}

fn is_granted(grant: Option<Access>, access: Access) -> bool {
    grant.is_some_and(|grant| grant >= access)
}

impl Names {
    fn add(&mut self, rule: &Rule) {
        let merge = |grant: &mut Option<Access>| {
            *grant = grant.zip(rule.grant).map(|(one, other)| one.max(other));
        };
        let name = rule.name.clone();
        if rule.is_prefix {
            let entry = self.prefixes.entry(name);
            entry.and_modify(merge).or_insert(rule.grant);
        } else {
            let entry = self.exact.entry(name);
            entry.and_modify(merge).or_insert(rule.grant);
        }
    }

    /// The rule that decides about a name.
    fn find(&self, name: &str) -> Option<Option<Access>> {
        self.exact
            .get(name)
            .copied()
            .or_else(|| self.longest_prefix(name))
    }

    /// The rule of the longest prefix of a name. Costs a search in the tree for each prefix that is in the way, at the most.
    fn longest_prefix(&self, name: &str) -> Option<Option<Access>> {
        let mut up_to = name;
        loop {
            let (prefix, grant) = self
                .prefixes
                .range::<str, _>((Unbounded, Included(up_to)))
                .next_back()?;
            if name.starts_with(&**prefix) {
                return Some(*grant);
            }
            up_to = common(prefix, up_to);
        }
    }
}

/// What both begin with.
fn common<'a>(one: &str, other: &'a str) -> &'a str {
    let pairs = one.chars().zip(other.chars());
    let length = pairs
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum();
    &other[..length]
}

#[cfg(test)]
mod tests {
    use super::Access::{List, Read, Write};
    use super::*;

    fn by(text: &[&str], default: DefaultPolicy) -> Authorizer {
        let rules: Vec<_> = text
            .iter()
            .map(|text| Rules::parse(text).expect(text))
            .collect();
        Authorizer::new(&rules, default)
    }

    #[test]
    fn the_nearest_rule_decides() {
        let text = r#"key_prefix "" { policy = "read" }
            key_prefix "a/" { policy = "write" }
            key_prefix "a/b/" { policy = "deny" }
            key_prefix "a/bc" { policy = "list" }
            key "a/b/c" { policy = "read" }"#;
        let authorizer = by(&[text], DefaultPolicy::Deny);
        for (name, access, wanted) in [
            ("x", Read, true),
            ("x", Write, false),
            ("a/x", Write, true),
            ("a/bd", Write, true),
            ("a/b/x", Read, false),
            ("a/b/c", Read, true),
            ("a/b/c", Write, false),
            ("a/b/cd", Read, false),
            ("a/bcd", List, true),
            ("a/bcd", Write, false),
            ("", Read, true),
        ] {
            let found = authorizer.allows(Resource::Key, name, access);
            assert_eq!(found, wanted, "{name:?} {access:?}");
        }
        assert!(!authorizer.allows(Resource::Service, "x", Read));
    }

    #[test]
    fn a_denial_counts_more_than_a_grant_of_the_same_name() {
        let [read, write, deny] = ["read", "write", "deny"]
            .map(|word| format!("node \"a\" {{ policy = \"{word}\" }} operator = \"{word}\""));
        let both = by(&[&read, &write], DefaultPolicy::Deny);
        assert!(both.allows(Resource::Node, "a", Write));
        assert!(both.allows(Resource::Operator, "", Write));
        for order in [[&*write, &*deny], [&*deny, &*write]] {
            let denied = by(&order, DefaultPolicy::Allow);
            assert!(!denied.allows(Resource::Node, "a", Read));
            assert!(!denied.allows(Resource::Operator, "", Read));
        }
    }

    #[test]
    fn a_whole_prefix_needs_every_rule_below_it() {
        let text = r#"key_prefix "a/" { policy = "write" } key "a/b" { policy = "read" } key "z" { policy = "deny" }"#;
        let authorizer = by(&[text], DefaultPolicy::Allow);
        assert!(!authorizer.allows_below(Resource::Key, "a/", Write));
        assert!(authorizer.allows_below(Resource::Key, "a/", Read));
        assert!(authorizer.allows_below(Resource::Key, "a/c", Write));
        assert!(!authorizer.allows_below(Resource::Key, "", Read), "z");
        assert!(
            authorizer.allows_below(Resource::Key, "y", Write),
            "by default"
        );
        assert!(authorizer.allows_any(Resource::Key, Write));
    }

    #[test]
    fn the_default_decides_about_the_rest_but_not_about_tokens() {
        let (allow, deny) = (by(&[], DefaultPolicy::Allow), by(&[], DefaultPolicy::Deny));
        for resource in [
            Resource::Key,
            Resource::Keyring,
            Resource::Mesh,
            Resource::Intention,
        ] {
            assert!(allow.allows(resource, "a", Write), "{resource:?}");
            assert!(!deny.allows(resource, "a", Read), "{resource:?}");
            assert!(allow.allows_any(resource, Write) && allow.allows_all(resource, Write));
            assert!(!deny.allows_any(resource, Read) && !deny.allows_all(resource, Read));
        }
        assert!(!allow.allows(Resource::Acl, "", Read));
        assert!(by(&["acl = \"write\""], DefaultPolicy::Deny).allows(Resource::Acl, "", Write));
    }

    #[test]
    fn mesh_and_peering_follow_the_operator_where_nothing_is_said_of_them() {
        let operator = by(&["operator = \"write\""], DefaultPolicy::Deny);
        assert!(operator.allows(Resource::Mesh, "", Write));
        assert!(operator.allows(Resource::Peering, "", Write));
        let own = by(
            &["operator = \"write\" mesh = \"read\""],
            DefaultPolicy::Deny,
        );
        assert!(own.allows(Resource::Mesh, "", Read));
        assert!(!own.allows(Resource::Mesh, "", Write));
    }

    #[test]
    fn intentions_come_with_services() {
        let text = r#"service "web" { policy = "write" }
            service "db" { policy = "deny" intentions = "write" }"#;
        let authorizer = by(&[text], DefaultPolicy::Deny);
        assert!(authorizer.allows(Resource::Intention, "web", Read));
        assert!(!authorizer.allows(Resource::Intention, "web", Write));
        assert!(authorizer.allows(Resource::Intention, "db", Write));
        assert!(!authorizer.allows(Resource::Service, "db", Read));
        assert!(authorizer.allows(Resource::Intention, "*", Read));
        assert!(!authorizer.allows(Resource::Intention, "*", Write));
    }
}
