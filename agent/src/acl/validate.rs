//! What is wrong with a change of who may do what, whatever the state is. Pure.

use super::login::{Pattern, Settings};
use super::{Rules, is_name, template};
use crate::filter::Filter;
use crate::filter::schema::Schema;
use crate::state::{AclBindingRule, AclGrants, AclMethod, AclPolicy, AclRole, AclStep, AclToken};

/// The longest name of a policy. Source: Consul.
const POLICY_NAME_MAX: usize = 128;

/// The longest name of anything else.
const NAME_MAX: usize = 256;

/// How far ahead a token's end is at the least, in milliseconds. Source: Consul.
const LIFE_MIN_MS: u64 = 60_000;

static CLAIMS: Schema = Schema::Any;

impl AclStep {
    /// What is wrong with it, in Consul's words where it has them.
    pub fn invalid(&self, unix_ms: u64) -> Option<String> {
        let checked = match self {
            AclStep::Bootstrap { token, .. } | AclStep::SetToken { token, .. } => {
                check_token(token, unix_ms)
            }
            AclStep::SetPolicy { policy, .. } => check_policy(policy),
            AclStep::SetRole { role, .. } => check_role(role),
            AclStep::SetMethod { method, .. } => check_method(method),
            AclStep::SetBindingRule { rule, .. } => check_rule(rule),
            AclStep::DeleteTokens(_)
            | AclStep::DeletePolicy(_)
            | AclStep::DeleteRole(_)
            | AclStep::DeleteMethod(_)
            | AclStep::DeleteBindingRule(_) => Ok(()),
        };
        checked.err()
    }
}

fn check_policy(policy: &AclPolicy) -> Result<(), String> {
    if policy.name.is_empty() {
        return Err("Invalid Policy: no Name is set".to_owned());
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    if policy.name.len() > POLICY_NAME_MAX || !policy.name.chars().all(good) {
        return Err(format!(
            "Invalid Policy: invalid Name. Only alphanumeric characters, a single '/', '-' and '_' are allowed, at most {POLICY_NAME_MAX}"
        ));
    }
    match Rules::parse(&policy.rules) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn check_role(role: &AclRole) -> Result<(), String> {
    if role.name.is_empty() {
        return Err("Invalid Role: no Name is set".to_owned());
    }
    if !is_plain(&role.name) {
        return Err(format!(
            "Invalid Role: invalid Name. Only alphanumeric characters, '-' and '_' are allowed, at most {NAME_MAX}"
        ));
    }
    check_grants(&role.grants)
}

fn check_token(token: &AclToken, unix_ms: u64) -> Result<(), String> {
    if token.secret.is_empty() {
        return Err("Invalid Token: no SecretID is set".to_owned());
    }
    // A token that is changed has less and less of its life before it.
    let is_new = token.created_ms.saturating_add(LIFE_MIN_MS) > unix_ms;
    if let Some(end) = token.expires_ms
        && is_new
        && end < token.created_ms.saturating_add(LIFE_MIN_MS)
    {
        return Err("ExpirationTime cannot be less than 1m0s in the future".to_owned());
    }
    check_grants(&token.grants)
}

fn check_grants(grants: &AclGrants) -> Result<(), String> {
    for identity in &grants.service_identities {
        let name = &identity.service_name;
        if name.is_empty() {
            return Err("Service identity is missing the service name field".to_owned());
        }
        if !is_name(name) {
            return Err(format!(
                "Service identity {name:?} has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed"
            ));
        }
    }
    for identity in &grants.node_identities {
        let name = &identity.node_name;
        if name.is_empty() {
            return Err("Node identity is missing the node name field".to_owned());
        }
        if identity.datacenter.is_empty() {
            return Err("Node identity is missing the datacenter field".to_owned());
        }
        if !is_name(name) {
            return Err(format!(
                "Node identity {name:?} has an invalid name. Only lowercase alphanumeric characters, '-' and '_' are allowed"
            ));
        }
    }
    for policy in &grants.templated_policies {
        let name = &policy.template_name;
        if name.is_empty() {
            return Err("templated policy is missing the template name field".to_owned());
        }
        let Some(template) = template(name) else {
            return Err(format!("no such ACL templated policy with Name {name:?}"));
        };
        template.render(&policy.name)?;
    }
    Ok(())
}

fn check_method(method: &AclMethod) -> Result<(), String> {
    if method.name.is_empty() {
        return Err("Invalid Auth Method: no Name is set".to_owned());
    }
    if !is_plain(&method.name) {
        return Err(format!(
            "Invalid Auth Method: invalid Name. Only alphanumeric characters, '-' and '_' are allowed, at most {NAME_MAX}"
        ));
    }
    if !matches!(method.token_locality.as_str(), "local" | "global") {
        return Err(format!(
            "Invalid Auth Method: TokenLocality {:?} should be one of 'local' or 'global'",
            method.token_locality
        ));
    }
    if (1..LIFE_MIN_MS).contains(&method.max_ttl_ms) {
        return Err(
            "Invalid Auth Method: MaxTokenTTL is 0 for tokens without end, or at least 1m0s"
                .to_owned(),
        );
    }
    match Settings::of(method) {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("Invalid Auth Method: {why}")),
    }
}

fn check_rule(rule: &AclBindingRule) -> Result<(), String> {
    fn wrong<T>(why: String) -> Result<T, String> {
        Err(format!("Invalid Binding Rule: {why}"))
    }
    if rule.auth_method.is_empty() {
        return wrong("no AuthMethod is set".to_owned());
    }
    if !rule.selector.is_empty()
        && let Err(error) = Filter::new(&rule.selector, &CLAIMS)
    {
        return wrong(format!("invalid Binding Rule Selector: {error}"));
    }
    match rule.bind_type.as_str() {
        "service" | "node" | "role" | "policy" => {}
        "templated-policy" => {
            if template(&rule.bind_name).is_none() {
                let name = &rule.bind_name;
                return wrong(format!("no such templated policy {name:?}"));
            }
        }
        "" => return wrong("no BindType is set".to_owned()),
        other => {
            return wrong(format!(
                "invalid BindType {other:?}: it is service, node, role, policy or templated-policy"
            ));
        }
    }
    if rule.bind_name.is_empty() {
        return wrong("no BindName is set".to_owned());
    }
    for text in rule.bind_vars.values() {
        Pattern::parse(text).or_else(|why| wrong(format!("BindVars: {why}")))?;
    }
    // What is put in place of a variable may be anything; what is around it must be of a name.
    let name = Pattern::parse(&rule.bind_name);
    let name = name.or_else(|why| wrong(format!("BindName: {why}")))?;
    let good = |part: &str| part.chars().all(|c| is_name(&c.to_string()) || c == '/');
    match name.texts().all(good) {
        true => Ok(()),
        false => wrong(format!("BindName {:?} is no name", rule.bind_name)),
    }
}

/// Letters, digits, dashes and underscores.
fn is_plain(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.len() <= NAME_MAX && name.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{NodeIdentity, ServiceIdentity, TemplatedPolicy};

    fn policy(name: &str, rules: &str) -> Option<String> {
        let policy = Box::new(AclPolicy {
            name: name.to_owned(),
            rules: rules.to_owned(),
            ..AclPolicy::default()
        });
        AclStep::SetPolicy { policy, cas: 0 }.invalid(0)
    }

    #[test]
    fn policies_have_names_and_rules_that_can_be_read() {
        assert_eq!(policy("team/a-1", "acl = \"read\""), None);
        assert_eq!(policy("", "").unwrap(), "Invalid Policy: no Name is set");
        assert!(policy("a b", "").unwrap().contains("invalid Name"));
        let wrong = policy("a", "key \"x\" {\n  policy = \"wrte\"\n}").unwrap();
        assert!(wrong.contains("2:"), "{wrong}");
    }

    fn token(change: impl FnOnce(&mut AclToken)) -> Option<String> {
        let mut token = AclToken {
            secret: "s".into(),
            created_ms: 1000,
            ..AclToken::default()
        };
        change(&mut token);
        let token = Box::new(token);
        AclStep::SetToken { token, cas: 0 }.invalid(1000)
    }

    #[test]
    fn tokens_live_for_a_minute_and_name_what_can_be() {
        assert_eq!(token(|_| {}), None);
        assert!(token(|token| token.secret.clear()).is_some());
        assert!(token(|token| token.expires_ms = Some(60_999)).is_some());
        assert_eq!(token(|token| token.expires_ms = Some(61_000)), None);
        let service = |name: &str| {
            let service_name = name.to_owned();
            token(|token| {
                token.grants.service_identities = vec![ServiceIdentity {
                    service_name,
                    datacenters: Vec::new(),
                }];
            })
        };
        assert_eq!(service("web"), None);
        assert!(service("").is_some() && service("a b").is_some());
        let node = token(|token| token.grants.node_identities = vec![NodeIdentity::default()]);
        assert!(node.is_some());
        let templated = |template: &str, name: &str| {
            let (template_name, name) = (template.to_owned(), name.to_owned());
            token(|token| {
                token.grants.templated_policies = vec![TemplatedPolicy {
                    template_name,
                    name,
                    datacenters: Vec::new(),
                }];
            })
        };
        assert_eq!(templated("builtin/service", "web"), None);
        assert_eq!(templated("builtin/dns", ""), None);
        assert!(templated("builtin/service", "").is_some());
        assert!(templated("builtin/none", "x").is_some());
    }

    #[test]
    fn methods_and_rules_say_what_is_missing() {
        let method = |kind: &str, config: &str| {
            let method = Box::new(AclMethod {
                name: "m".into(),
                kind: kind.to_owned(),
                token_locality: "local".into(),
                config: config.to_owned(),
                ..AclMethod::default()
            });
            AclStep::SetMethod { method, cas: 0 }.invalid(0)
        };
        assert_eq!(method("jwt", r#"{"JWKSURL": "https://x"}"#), None);
        assert!(method("jwt", r#"{"JWKSURL": "x", "OIDCDiscoveryURL": "y"}"#).is_some());
        assert!(
            method("kubernetes", r#"{"Host": "https://x"}"#)
                .unwrap()
                .contains("CACert")
        );
        assert!(method("aws-iam", "{}").unwrap().contains("aws-iam"));
        let rule = |bind_type: &str, bind_name: &str, selector: &str| {
            let rule = Box::new(AclBindingRule {
                auth_method: "m".into(),
                bind_type: bind_type.to_owned(),
                bind_name: bind_name.to_owned(),
                selector: selector.to_owned(),
                ..AclBindingRule::default()
            });
            AclStep::SetBindingRule { rule, cas: 0 }.invalid(0)
        };
        assert_eq!(
            rule("service", "web-${value.name}", "value.name != \"\""),
            None
        );
        assert!(rule("service", "web", "value.name ===").is_some());
        assert!(rule("none", "web", "").is_some());
        assert!(rule("role", "", "").is_some());
        assert!(rule("role", "a b", "").is_some());
    }
}
