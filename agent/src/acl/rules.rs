//! The text of a policy, in HCL or JSON.

use std::fmt;

use super::{Access, Resource};
use crate::config::{Entry, Node, Position, Value, parse_document};

/// The largest text of a policy, in bytes.
pub const RULES_BYTES_MAX: usize = 512 * 1024;

/// What a policy says of one name, or of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) resource: Resource,
    pub(super) name: Box<str>,
    /// Whether it is about everything that begins with the name.
    pub(super) is_prefix: bool,
    /// `None` denies.
    pub(super) grant: Option<Access>,
}

/// A policy's rules, in the order of its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub(super) rules: Vec<Rule>,
}

/// Why a text is no list of rules, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    at: Option<Position>,
    text: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{} (at {at})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    fn at(at: Position, text: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            text: text.into(),
        }
    }
}

impl Rules {
    /// Reads the text of a policy; an empty one has no rules.
    ///
    /// # Errors
    /// What is wrong and at which line and column. Unlike in Consul, a resource that there is not is an error: whoever
    /// mistypes `services` would believe that something is granted, or denied.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > RULES_BYTES_MAX {
            return Err(Invalid {
                at: None,
                text: format!("rules are larger than {RULES_BYTES_MAX} bytes"),
            });
        }
        let document = parse_document(text).map_err(|error| Invalid {
            text: format!("failed to parse ACL rules: {error}"),
            at: error.at,
        })?;
        let Value::Object(entries) = document.value else {
            return Err(Invalid::at(
                document.at,
                "rules are an object, as in key \"a\" { policy = \"read\" }",
            ));
        };
        let mut rules = Vec::new();
        for entry in &entries {
            read(entry, &mut rules)?;
        }
        Ok(Self { rules })
    }
}

/// Names of resources, and what they are about; with `_prefix` behind them those that are named.
const NAMES: [(&str, Resource); 13] = [
    ("acl", Resource::Acl),
    ("agent", Resource::Agent),
    ("event", Resource::Event),
    ("identity", Resource::Identity),
    ("key", Resource::Key),
    ("keyring", Resource::Keyring),
    ("mesh", Resource::Mesh),
    ("node", Resource::Node),
    ("operator", Resource::Operator),
    ("peering", Resource::Peering),
    ("query", Resource::Query),
    ("service", Resource::Service),
    ("session", Resource::Session),
];

/// Resources of Consul Enterprise, which get a sentence of their own.
const ENTERPRISE: [&str; 4] = [
    "namespace",
    "namespace_prefix",
    "partition",
    "partition_prefix",
];

fn read(entry: &Entry, rules: &mut Vec<Rule>) -> Result<(), Invalid> {
    let (name, is_prefix) = match entry.key.strip_suffix("_prefix") {
        Some(name) => (name, true),
        None => (entry.key.as_str(), false),
    };
    let found = NAMES
        .iter()
        .find(|(other, resource)| *other == name && (!is_prefix || resource.is_named()));
    let Some(&(_, resource)) = found else {
        let key = &entry.key;
        if ENTERPRISE.contains(&key.as_str()) {
            return Err(Invalid::at(
                entry.at,
                format!("{key:?} rules need Consul Enterprise"),
            ));
        }
        return Err(Invalid::at(
            entry.at,
            format!("unknown resource {key:?} in ACL rules"),
        ));
    };
    if resource.is_named() {
        return named(resource, is_prefix, &entry.node, rules);
    }
    let grant = grant(resource, &entry.node)?;
    rules.push(Rule {
        resource,
        name: "".into(),
        is_prefix: false,
        grant,
    });
    Ok(())
}

/// `{NAME: {policy: ...}}`, or a list of those.
fn named(
    resource: Resource,
    is_prefix: bool,
    node: &Node,
    rules: &mut Vec<Rule>,
) -> Result<(), Invalid> {
    match &node.value {
        Value::List(nodes) => nodes
            .iter()
            .try_for_each(|node| named(resource, is_prefix, node, rules)),
        Value::Object(entries) => entries
            .iter()
            .try_for_each(|entry| one(resource, is_prefix, &entry.key, &entry.node, rules)),
        _ => Err(Invalid::at(
            node.at,
            format!(
                "a rule about {resource} names what it is about: {resource} \"NAME\" {{ policy = \"read\" }}",
                resource = resource.name()
            ),
        )),
    }
}

/// What stands behind one name.
fn one(
    resource: Resource,
    is_prefix: bool,
    name: &str,
    node: &Node,
    rules: &mut Vec<Rule>,
) -> Result<(), Invalid> {
    let entries = match &node.value {
        Value::Object(entries) => entries,
        // HCL's blocks come as lists of one where JSON was made of them.
        Value::List(nodes) => {
            return nodes
                .iter()
                .try_for_each(|node| one(resource, is_prefix, name, node, rules));
        }
        _ => {
            return Err(Invalid::at(
                node.at,
                format!("{} {name:?} needs a block with a policy", resource.name()),
            ));
        }
    };
    let mut add = |resource, grant| {
        rules.push(Rule {
            resource,
            name: name.into(),
            is_prefix,
            grant,
        });
    };
    let (mut policy, mut intentions) = (None, None);
    for entry in entries {
        match entry.key.as_str() {
            "policy" => policy = Some(grant(resource, &entry.node)?),
            "intentions" if matches!(resource, Resource::Service | Resource::Identity) => {
                intentions = Some(grant(Resource::Intention, &entry.node)?);
            }
            other => {
                return Err(Invalid::at(
                    entry.at,
                    format!(
                        "unknown key {other:?} in the rule about {} {name:?}",
                        resource.name()
                    ),
                ));
            }
        }
    }
    let Some(policy) = policy else {
        return Err(Invalid::at(
            node.at,
            format!("Invalid {} policy: {name:?} has none", resource.name()),
        ));
    };
    add(resource, policy);
    match (resource, intentions) {
        (_, Some(grant)) => add(Resource::Intention, grant),
        // Who may see a service may see who may talk to it.
        (Resource::Service, None) => add(Resource::Intention, policy.map(|_| Access::Read)),
        _ => {}
    }
    Ok(())
}

/// The word behind `policy`; `None` denies.
fn grant(resource: Resource, node: &Node) -> Result<Option<Access>, Invalid> {
    let words: &[&str] = match resource {
        Resource::Key => &["deny", "read", "list", "write"],
        _ => &["deny", "read", "write"],
    };
    let wrong = |found: &str| {
        let words = words.join(", ");
        Err(Invalid::at(
            node.at,
            format!(
                "Invalid {} policy: {found}, not one of {words}",
                resource.name()
            ),
        ))
    };
    match &node.value {
        Value::String(word) if words.contains(&word.as_str()) => Ok(match word.as_str() {
            "read" => Some(Access::Read),
            "list" => Some(Access::List),
            "write" => Some(Access::Write),
            _ => None,
        }),
        Value::String(word) => wrong(&format!("{word:?}")),
        _ => wrong("no text"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Authorizer, DefaultPolicy};
    use super::*;

    fn error(text: &str) -> String {
        Rules::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn hcl_and_json_say_the_same() {
        let hcl = r#"
            key_prefix "a/" { policy = "list" }
            key "b" { policy = "deny" }
            service "web" {
              policy     = "write"
              intentions = "read"
            }
            service_prefix "" { policy = "read" }
            operator = "read"
        "#;
        let json = r#"{"key_prefix": {"a/": {"policy": "list"}}, "key": [{"b": {"policy": "deny"}}],
            "service": {"web": {"policy": "write", "intentions": "read"}},
            "service_prefix": {"": {"policy": "read"}}, "operator": "read"}"#;
        let rules = Rules::parse(hcl).expect("HCL");
        assert_eq!(rules, Rules::parse(json).expect("JSON"));
        assert_eq!(rules.rules.len(), 7, "two of each service rule");
        assert_eq!(Rules::parse("").expect("empty"), Rules::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, wanted) in [
            (
                "key \"a\" {\n  policy = \"wrote\"\n}",
                "Invalid key policy: \"wrote\", not one of deny, read, list, write (at 2:12)",
            ),
            (
                "node \"a\" { policy = \"list\" }",
                "Invalid node policy: \"list\", not one of deny, read, write (at 1:21)",
            ),
            (
                "service \"a\" { policy = 1 }",
                "Invalid service policy: no text, not one of deny, read, write (at 1:24)",
            ),
            (
                "\nservices \"a\" { policy = \"read\" }",
                "unknown resource \"services\" in ACL rules (at 2:1)",
            ),
            (
                "acl_prefix \"\" { policy = \"read\" }",
                "unknown resource \"acl_prefix\" in ACL rules (at 1:1)",
            ),
            (
                "namespace \"a\" { policy = \"read\" }",
                "\"namespace\" rules need Consul Enterprise (at 1:1)",
            ),
            (
                "key \"a\" { }",
                "Invalid key policy: \"a\" has none (at 1:9)",
            ),
            (
                "key \"a\" { policy = \"read\" intentions = \"read\" }",
                "unknown key \"intentions\" in the rule about key \"a\" (at 1:27)",
            ),
            (
                "key = \"read\"",
                "a rule about key names what it is about: key \"NAME\" { policy = \"read\" } (at 1:7)",
            ),
            (
                "key \"a\" = \"read\"",
                "key \"a\" needs a block with a policy (at 1:11)",
            ),
            ("[1]", "failed to parse ACL rules"),
            ("key \"a\" {", "failed to parse ACL rules"),
        ] {
            let found = error(text);
            assert!(found.starts_with(wanted), "{text}: {found}");
        }
        assert!(error(&"#".repeat(RULES_BYTES_MAX + 1)).contains("larger than"));
    }

    #[test]
    fn no_text_is_too_strange_to_be_judged() {
        let seeds = [
            "key_prefix \"a/\" { policy = \"list\" } operator = \"read\"",
            "service \"web\" { policy = \"write\" intentions = \"deny\" }",
            "{\"key\": [{\"a\": {\"policy\": \"read\"}}], \"acl\": \"write\"}",
            "namespace \"a\" { policy = \"read\" }",
        ];
        let seeds = seeds.map(|text| text.as_bytes().to_vec());
        crate::fuzz::run("acl-rules", &seeds, |bytes| {
            match Rules::parse(&String::from_utf8_lossy(bytes)) {
                Ok(rules) => {
                    let authorizer = Authorizer::new([&rules], DefaultPolicy::Deny);
                    let denied = rules.rules.iter().find(|rule| rule.grant.is_none());
                    if let Some(rule) = denied.filter(|rule| !rule.is_prefix) {
                        assert!(
                            !authorizer.allows(rule.resource, &rule.name, Access::Read)
                                || &*rule.name == "*"
                        );
                    }
                    format!("{} rules", rules.rules.len().min(2))
                }
                Err(error) => error.text.split_whitespace().take(4).collect(),
            }
        });
    }
}
