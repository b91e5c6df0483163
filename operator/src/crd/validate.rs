//! The CRD's rules for a file that never meets an API server, and warnings about what will not be acted on.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::{ConsulCluster, ConsulClusterSpec, OWN_FLAGS, OWN_KEYS, SERVER_COUNTS, TlsMode};

/// Longest `metadata.name`: pod and Service names are made from it, and are DNS labels.
const NAME_LENGTH_MAX: usize = 40;

/// A rule that the resource breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Path of the field.
    pub field: &'static str,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

/// Something that a person should know before going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Path of the field.
    pub field: &'static str,
    /// What is to be known.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.text)
    }
}

/// Visits one scalar and refuses a wrong one on the spot: an error raised later would carry the place of the whole mapping.
struct Scalar<T, F>(&'static str, F, PhantomData<T>);

impl<T, F: Fn(T) -> Result<T, String>> Scalar<T, F> {
    fn new(expected: &'static str, check: F) -> Self {
        Scalar(expected, check, PhantomData)
    }
}

impl<F: Fn(i64) -> Result<i64, String>> Visitor<'_> for Scalar<i64, F> {
    type Value = i64;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
        (self.1)(value).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
        self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<F: Fn(String) -> Result<String, String>> Visitor<'_> for Scalar<String, F> {
    type Value = String;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        (self.1)(value.to_owned()).map_err(E::custom)
    }
}

/// `spec.servers`.
pub(super) fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let check = |servers: i64| {
        if SERVER_COUNTS
            .iter()
            .any(|allowed| i64::from(*allowed) == servers)
        {
            return Ok(servers);
        }
        let why = match servers {
            2 | 4 | 6 => format!(
                "; {servers} servers tolerate no more failures than {}",
                servers - 1
            ),
            _ => String::new(),
        };
        Err(format!("servers must be 1, 3, 5 or 7, got {servers}{why}"))
    };
    let servers = deserializer.deserialize_i64(Scalar::<i64, _>::new("1, 3, 5 or 7", check))?;
    i32::try_from(servers).map_err(D::Error::custom)
}

/// `spec.clients`.
pub(super) fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let token = String::deserialize(deserializer)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if token.is_empty() || token.len() > 64 || !token.chars().all(plain) {
        return Err(D::Error::custom(format!(
            "token must be 1 to 64 of A-Z a-z 0-9 . _ -, not {token:?}"
        )));
    }
    Ok(token)
}

pub(super) fn clients<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let check = |clients: i64| match clients {
        0..=200 => Ok(clients),
        _ => Err(format!("clients must be between 0 and 200, got {clients}")),
    };
    let clients =
        deserializer.deserialize_i64(Scalar::<i64, _>::new("a number between 0 and 200", check))?;
    i32::try_from(clients).map_err(D::Error::custom)
}

/// One element of `spec.extraArgs`.
struct Argument(String);

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let check = |arg: String| {
            let flag = arg
                .strip_prefix("--")
                .or_else(|| arg.strip_prefix('-'))
                .unwrap_or_default();
            match OWN_FLAGS.iter().find(|own| flag.starts_with(*own)) {
                Some(own) => Err(format!(
                    "\"{arg}\" is not allowed in extraArgs: the operator sets flags that begin with -{own} itself"
                )),
                None => Ok(arg),
            }
        };
        deserializer
            .deserialize_str(Scalar::<String, _>::new(
                "an argument of the agent, as a string",
                check,
            ))
            .map(Argument)
    }
}

/// `spec.extraArgs`.
pub(super) fn extra_args<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<Argument>::deserialize(deserializer)?
        .into_iter()
        .map(|Argument(arg)| arg)
        .collect())
}

/// A key of `spec.config`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let check = |key: String| match OWN_KEYS.contains(&key.as_str()) {
            true => Err(format!(
                "key \"{key}\" is not allowed in config: the operator sets it itself"
            )),
            false => Ok(key),
        };
        deserializer
            .deserialize_str(Scalar::<String, _>::new(
                "a key of the agent's configuration",
                check,
            ))
            .map(Key)
    }
}

/// `spec.config`.
pub(super) fn config<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<serde_json::Map<String, serde_json::Value>, D::Error> {
    let config = BTreeMap::<Key, serde_json::Value>::deserialize(deserializer)?;
    Ok(config
        .into_iter()
        .map(|(Key(key), value)| (key, value))
        .collect())
}

/// Checks the rules of the CRD that hold between fields or concern the name.
///
/// # Errors
/// The first rule that is broken.
pub fn validate(cluster: &ConsulCluster) -> Result<(), Invalid> {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    label("metadata.name", name)?;
    let spec = &cluster.spec;
    if let Some(prefix) = &spec.node_prefix {
        label("spec.nodePrefix", prefix)?;
    }
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    if !word(&spec.datacenter) || spec.datacenter.len() > 63 {
        let problem = format!(
            "\"{}\" is not 1 to 63 letters, digits, '-' or '_'",
            spec.datacenter
        );
        return Err(Invalid {
            field: "spec.datacenter",
            problem,
        });
    }
    if spec.ephemeral && spec.servers != 1 {
        let problem = format!("only for servers: 1, not {}", spec.servers);
        return Err(Invalid {
            field: "spec.ephemeral",
            problem,
        });
    }
    let policy = &spec.update_policy;
    range(
        "spec.updatePolicy.minReadySeconds",
        i64::from(policy.min_ready_seconds),
        0,
        3600,
    )?;
    range("spec.updatePolicy.maxLag", policy.max_lag, 0, 1_000_000)?;
    if let Some(from) = &spec.restore_from
        && (from.snapshot.is_some() == from.file.is_some()
            || (from.snapshot.is_some() && from.destination.is_some()))
    {
        return Err(Invalid {
            field: "spec.restoreFrom",
            problem: "needs either a snapshot, or a file with the destination that it is in"
                .to_owned(),
        });
    }
    Ok(())
}

fn range(field: &'static str, value: i64, min: i64, max: i64) -> Result<(), Invalid> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Invalid {
        field,
        problem: format!("must be between {min} and {max}, got {value}"),
    })
}

fn label(field: &'static str, text: &str) -> Result<(), Invalid> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fine = !text.is_empty()
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    let problem = if !fine {
        format!("\"{text}\" is not a DNS label: lower-case letters, digits and '-' in between")
    } else if text.len() > NAME_LENGTH_MAX {
        format!(
            "is {} characters long, at most {NAME_LENGTH_MAX} are possible",
            text.len()
        )
    } else {
        return Ok(());
    };
    Err(Invalid { field, problem })
}

/// What a person should know about this spec wherever it runs.
pub fn warnings(spec: &ConsulClusterSpec) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if spec.servers == 1 {
        let text = "one server has no fault tolerance: its loss is the loss of the cluster; 3 tolerate one failure";
        warnings.push(Warning {
            field: "spec.servers",
            text: text.to_owned(),
        });
    }
    warnings
}

/// Fields of this spec that do nothing when agents run as processes of this machine.
pub fn warnings_local(spec: &ConsulClusterSpec) -> Vec<Warning> {
    // Destructured without `..`, so that a field added later is looked at here.
    let ConsulClusterSpec {
        servers: _,
        clients: _,
        datacenter: _,
        domain: _,
        node_prefix: _,
        config: _,
        extra_args: _,
        update_policy: _,
        paused: _,
        client_daemon_set,
        network_policy,
        image,
        image_pull_policy,
        image_pull_secrets,
        storage,
        ephemeral,
        resources,
        affinity,
        topology_spread_constraints,
        tolerations,
        node_selector,
        priority_class_name,
        pod_metadata,
        gossip,
        tls,
        acl,
        restore_from,
        recovery: _,
    } = spec;
    let pods = "only for pods";
    let gossip_on = gossip.as_ref().is_some_and(|gossip| gossip.enabled);
    let tls_on = tls
        .as_ref()
        .is_some_and(|tls| tls.mode != TlsMode::Disabled);
    let acl_on = acl.as_ref().is_some_and(|acl| acl.enabled);
    let fields = [
        ("spec.clientDaemonSet", *client_daemon_set, pods),
        ("spec.networkPolicy", *network_policy, pods),
        ("spec.image", image.is_some(), pods),
        ("spec.imagePullPolicy", image_pull_policy.is_some(), pods),
        (
            "spec.imagePullSecrets",
            !image_pull_secrets.is_empty(),
            pods,
        ),
        ("spec.storage", storage.is_some(), pods),
        ("spec.ephemeral", *ephemeral, pods),
        ("spec.resources", resources.is_some(), pods),
        ("spec.affinity", affinity.is_some(), pods),
        (
            "spec.topologySpreadConstraints",
            !topology_spread_constraints.is_empty(),
            pods,
        ),
        ("spec.tolerations", !tolerations.is_empty(), pods),
        ("spec.nodeSelector", !node_selector.is_empty(), pods),
        (
            "spec.priorityClassName",
            priority_class_name.is_some(),
            pods,
        ),
        ("spec.podMetadata", pod_metadata.is_some(), pods),
        ("spec.gossip", gossip_on, pods),
        ("spec.tls", tls_on, pods),
        ("spec.acl", acl_on, pods),
        (
            "spec.restoreFrom",
            restore_from
                .as_ref()
                .is_some_and(|from| from.snapshot.is_some() || from.destination.is_some()),
            "only a file of this machine, as restoreFrom: {file: PATH}, can be read",
        ),
    ];
    let set = fields.into_iter().filter(|(_, set, _)| *set);
    set.map(|(field, _, why)| Warning {
        field,
        text: format!("has no effect under `operator local`: {why}"),
    })
    .collect()
}
