//! From an identity to what it gets, by the binding rules of its auth method.

use uuid::Uuid;

use super::{Identity, Pattern, Settings};
use crate::acl::{is_name, template};
use crate::filter::Filter;
use crate::filter::schema::Schema;
use crate::state::{
    Acl, AclBindingRule, AclGrants, AclMethod, NodeIdentity, ServiceIdentity, TemplatedPolicy,
};

static CLAIMS: Schema = Schema::Any;

/// What an identity gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bound {
    /// What its token allows itself.
    pub grants: AclGrants,
    /// Ids of its roles.
    pub roles: Vec<Uuid>,
}

impl Bound {
    /// Whether it is nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the rules of a method give to an identity. A role or policy that does not exist is left out, as in Consul.
///
/// # Errors
/// When a rule of the method that fits makes no name of the identity.
pub fn bind(
    acl: &Acl,
    method: &str,
    identity: &Identity,
    datacenter: &str,
) -> Result<Bound, String> {
    let mut bound = Bound::default();
    for rule in acl.rules_of(method) {
        let because = |why: String| format!("binding rule {}: {why}", rule.id);
        if selects(&rule, identity).map_err(because)? {
            add(&mut bound, acl, &rule, identity, datacenter).map_err(because)?;
        }
    }
    Ok(bound)
}

fn selects(rule: &AclBindingRule, identity: &Identity) -> Result<bool, String> {
    if rule.selector.is_empty() {
        return Ok(true);
    }
    let filter = Filter::new(&rule.selector, &CLAIMS);
    let filter = filter.map_err(|error| format!("its selector cannot be read: {error}"))?;
    Ok(filter.keeps(&identity.fields))
}

fn add(
    bound: &mut Bound,
    acl: &Acl,
    rule: &AclBindingRule,
    identity: &Identity,
    datacenter: &str,
) -> Result<(), String> {
    let name = Pattern::parse(&rule.bind_name)?.render(&identity.variables)?;
    let named = |name: String| match is_name(&name) {
        true => Ok(name),
        false => Err(format!("{name:?} is no name of a {}", rule.bind_type)),
    };
    let grants = &mut bound.grants;
    match rule.bind_type.as_str() {
        "service" => once(
            &mut grants.service_identities,
            ServiceIdentity {
                service_name: named(name)?,
                datacenters: Vec::new(),
            },
        ),
        "node" => once(
            &mut grants.node_identities,
            NodeIdentity {
                node_name: named(name)?,
                datacenter: datacenter.to_owned(),
            },
        ),
        "policy" => acl
            .policy_named(&name)
            .into_iter()
            .for_each(|policy| once(&mut grants.policies, policy.id)),
        "role" => acl
            .role_named(&name)
            .into_iter()
            .for_each(|role| once(&mut bound.roles, role.id)),
        "templated-policy" => once(&mut grants.templated_policies, templated(rule, identity)?),
        other => return Err(format!("BindType {other:?} is unknown to this version")),
    }
    Ok(())
}

fn templated(rule: &AclBindingRule, identity: &Identity) -> Result<TemplatedPolicy, String> {
    let template_name = rule.bind_name.clone();
    let Some(template) = template(&template_name) else {
        return Err(format!("no such templated policy {template_name:?}"));
    };
    let variable = rule.bind_vars.get("name").map_or("", String::as_str);
    let name = Pattern::parse(variable)?.render(&identity.variables)?;
    template.render(&name)?;
    Ok(TemplatedPolicy {
        template_name,
        name,
        datacenters: Vec::new(),
    })
}

fn once<T: PartialEq>(list: &mut Vec<T>, new: T) {
    if !list.contains(&new) {
        list.push(new);
    }
}

/// What is wrong with a rule of this method: it names something that no identity of the method has.
///
/// # Errors
/// See above.
pub fn check_rule(method: &AclMethod, rule: &AclBindingRule) -> Result<(), String> {
    // What is wrong with a method itself was said when it was written.
    let Ok(settings) = Settings::of(method) else {
        return Ok(());
    };
    let known = settings.variables();
    for text in std::iter::once(&rule.bind_name).chain(rule.bind_vars.values()) {
        let pattern = Pattern::parse(text)?;
        let unknown = pattern
            .variables()
            .find(|name| !known.iter().any(|one| one == name));
        if let Some(name) = unknown {
            return Err(format!(
                "{text:?} names {name}, which identities of auth method {:?} do not have; they have: {}",
                method.name,
                known.join(", ")
            ));
        }
    }
    Ok(())
}
