//! Block `acl`: whether tokens are asked for, and which this agent uses itself.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Error;
use super::build::{SECOND, at_least, invalid};
use super::layer::{AclLayer, AclTokensLayer, Layer, Merge as _};
use crate::acl::DefaultPolicy;

/// What an agent without tables does with a token that no server resolves for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownPolicy {
    /// Everything is allowed.
    Allow,
    /// Nothing is.
    Deny,
    /// What was known of it stays in force; an unknown one allows nothing.
    ExtendCache,
    /// The same, and whoever asks never waits for a server that is asked anew.
    AsyncCache,
}

/// Access control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Whether tokens are asked for. Default false.
    pub enabled: bool,
    /// What is allowed where no rule says anything. Keys `default_policy`, `acl_default_policy`. Default allow, as in Consul.
    pub default_policy: DefaultPolicy,
    /// See [`DownPolicy`]. Keys `down_policy`, `acl_down_policy`. Default `extend-cache`.
    pub down_policy: DownPolicy,
    /// How long a client believes what it knows of a token. Keys `token_ttl`, `acl_ttl`. Default 30s.
    pub token_ttl: Duration,
    /// Whether it takes `list` to list keys. Default false.
    pub enable_key_list_policy: bool,
    /// Whether tokens that were set through the API are kept in the data dir. Default false.
    pub enable_token_persistence: bool,
    /// Whether policies, roles and tokens of the primary datacenter are copied by the leader of this one. Keys
    /// `enable_token_replication`, `enable_acl_replication`. Default false.
    pub enable_token_replication: bool,
    /// Those of this agent. Apply live.
    pub tokens: Tokens,
}

/// A token's secret. It is never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

/// Secrets of the tokens that an agent uses; empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Becomes a token that may do everything when a server first leads. Keys `initial_management`, `master`.
    pub initial_management: Secret,
    /// May always be used to ask this agent about itself, also when no server is there. Keys `agent_recovery`,
    /// `agent_master`.
    pub agent_recovery: Secret,
    /// For what the agent does on its own. Default: that of `default`.
    pub agent: Secret,
    /// For requests that name none.
    pub default: Secret,
    /// For what is copied from the primary datacenter.
    pub replication: Secret,
    /// For services and checks of configuration files. Default: that of `default`.
    pub config_file_service_registration: Secret,
    /// For DNS. Default: that of `default`.
    pub dns: Secret,
}

impl Tokens {
    /// For what the agent does on its own.
    pub fn own(&self) -> &str {
        first(&self.agent, &self.default)
    }

    /// For DNS.
    pub fn of_dns(&self) -> &str {
        first(&self.dns, &self.default)
    }

    /// For services and checks of configuration files.
    pub fn of_files(&self) -> &str {
        first(&self.config_file_service_registration, &self.default)
    }

    /// For what is copied from the primary datacenter.
    pub fn of_replication(&self) -> &str {
        first(&self.replication, &self.agent)
    }
}

fn first<'a>(one: &'a Secret, other: &'a Secret) -> &'a str {
    match one.0.is_empty() {
        true => &other.0,
        false => &one.0,
    }
}

impl Default for Acl {
    fn default() -> Self {
        Self {
            enabled: false,
            default_policy: DefaultPolicy::Allow,
            down_policy: DownPolicy::ExtendCache,
            token_ttl: SECOND * 30,
            enable_key_list_policy: false,
            enable_token_persistence: false,
            enable_token_replication: false,
            tokens: Tokens::default(),
        }
    }
}

/// # Errors
/// A policy that there is not, or a setting that means something only with ACLs and is given without.
pub(super) fn check(layer: &Layer, warnings: &mut Vec<String>) -> Result<Acl, Error> {
    let acl = joined(layer);
    for (given, name) in [
        (acl.policy_ttl.is_some(), "acl.policy_ttl"),
        (acl.role_ttl.is_some(), "acl.role_ttl"),
    ] {
        if given {
            warnings.push(format!(
                "{name} has no effect here: policies and roles are looked up with their token, see acl.token_ttl"
            ));
        }
    }
    let default_policy = match acl.default_policy.as_deref().unwrap_or("allow") {
        "allow" => DefaultPolicy::Allow,
        "deny" => DefaultPolicy::Deny,
        other => {
            return invalid(format!(
                "acl.default_policy cannot be {other:?}: it is \"allow\" or \"deny\""
            ));
        }
    };
    let down_policy = match acl.down_policy.as_deref().unwrap_or("extend-cache") {
        "allow" => DownPolicy::Allow,
        "deny" => DownPolicy::Deny,
        "extend-cache" => DownPolicy::ExtendCache,
        "async-cache" => DownPolicy::AsyncCache,
        other => {
            return invalid(format!(
                "acl.down_policy cannot be {other:?}: it is \"allow\", \"deny\", \"extend-cache\" or \"async-cache\""
            ));
        }
    };
    let enabled = acl.enabled.unwrap_or(false);
    if !enabled && default_policy == DefaultPolicy::Deny {
        return invalid(
            "acl.default_policy = \"deny\" protects nothing without acl.enabled = true: its API would be open to everybody",
        );
    }
    let tokens = tokens(&acl.tokens)?;
    if enabled && !tokens.initial_management.0.is_empty() && !layer.server.unwrap_or(false) {
        warnings.push(
            "acl.tokens.initial_management has no effect on a client: servers make that token"
                .to_owned(),
        );
    }
    Ok(Acl {
        enabled,
        default_policy,
        down_policy,
        token_ttl: at_least("acl.token_ttl", acl.token_ttl, SECOND * 30, Duration::ZERO)?,
        enable_key_list_policy: acl.enable_key_list_policy.unwrap_or(false),
        enable_token_persistence: acl.enable_token_persistence.unwrap_or(false),
        enable_token_replication: acl.enable_token_replication.unwrap_or(false),
        tokens,
    })
}

/// The block, over keys of the times when each stood for itself.
fn joined(layer: &Layer) -> AclLayer {
    let mut acl = AclLayer {
        default_policy: layer.acl_default_policy.clone(),
        down_policy: layer.acl_down_policy.clone(),
        enable_key_list_policy: layer.acl_enable_key_list_policy,
        enable_token_replication: layer.enable_acl_replication,
        token_ttl: layer.acl_ttl,
        tokens: AclTokensLayer {
            agent: layer.acl_agent_token.clone(),
            agent_recovery: layer.acl_agent_master_token.clone(),
            default: layer.acl_token.clone(),
            initial_management: layer.acl_master_token.clone(),
            replication: layer.acl_replication_token.clone(),
            ..AclTokensLayer::default()
        },
        ..AclLayer::default()
    };
    acl.overlay(layer.acl.clone());
    acl
}

fn tokens(layer: &AclTokensLayer) -> Result<Tokens, Error> {
    let secret = |key: &str, one: &Option<String>, old: &Option<String>| {
        let text = one.as_ref().or(old.as_ref()).cloned().unwrap_or_default();
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return invalid(format!(
                "acl.tokens.{key} has a blank or a control character in it: a token has none"
            ));
        }
        Ok(Secret(text))
    };
    let none = None;
    Ok(Tokens {
        initial_management: secret(
            "initial_management",
            &layer.initial_management,
            &layer.master,
        )?,
        agent_recovery: secret("agent_recovery", &layer.agent_recovery, &layer.agent_master)?,
        agent: secret("agent", &layer.agent, &none)?,
        default: secret("default", &layer.default, &none)?,
        replication: secret("replication", &layer.replication, &none)?,
        config_file_service_registration: secret(
            "config_file_service_registration",
            &layer.config_file_service_registration,
            &none,
        )?,
        dns: secret("dns", &layer.dns, &none)?,
    })
}
