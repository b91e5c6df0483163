//! What names and metadata may look like. Pure.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::build::invalid;
use super::layer::Layer;
use super::{Error, Machine};

pub(super) fn node_name(
    layer: &Layer,
    machine: &Machine,
    warnings: &mut Vec<String>,
) -> Result<String, Error> {
    let name = layer
        .node_name
        .as_deref()
        .unwrap_or(&machine.hostname)
        .trim();
    if name.is_empty() {
        return invalid("node_name cannot be empty");
    }
    if name.len() > 512 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return invalid(
            "node_name cannot contain spaces or control characters, or be longer than 512 bytes",
        );
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        warnings.push(format!(
            "Node name {name:?} will not be discoverable via DNS due to invalid characters. Valid characters include all alpha-numerics and dashes."
        ));
    }
    Ok(name.to_owned())
}

pub(super) fn datacenter(layer: &Layer) -> Result<String, Error> {
    checked_datacenter("datacenter", layer.datacenter.as_deref().unwrap_or("dc1"))
}

/// A datacenter's name in lower case.
pub(super) fn checked_datacenter(key: &str, name: &str) -> Result<String, Error> {
    let name = name.to_lowercase();
    if name.is_empty() {
        return invalid(format!("{key} cannot be empty"));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if !name.chars().all(allowed) || name.len() > 63 {
        return invalid(format!(
            "{key} can only contain lowercase alphanumeric, - or _ characters, at most 63"
        ));
    }
    Ok(name)
}

pub(super) fn domain(layer: &Layer) -> Result<String, Error> {
    match &layer.domain {
        Some(domain) => one_domain("domain", domain),
        None => Ok("consul.".into()),
    }
}

/// A domain in lower case with its final dot.
pub(super) fn one_domain(key: &str, domain: &str) -> Result<String, Error> {
    let name = domain.trim_matches('.');
    let label = |l: &str| {
        (1..64).contains(&l.len())
            && l.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if !name.split('.').all(label) {
        return invalid(format!("{key} {domain:?} is not a domain name"));
    }
    Ok(format!("{}.", name.to_lowercase()))
}

pub(super) fn node_meta(layer: Layer) -> Result<BTreeMap<String, String>, Error> {
    let meta = layer.node_meta;
    if meta.len() > 64 {
        return invalid("Node metadata cannot contain more than 64 key/value pairs");
    }
    for (key, value) in &meta {
        let wrong = |why: &dyn Display| {
            invalid(format!(
                "Couldn't load metadata pair ({key:?}, {value:?}): {why}"
            ))
        };
        if key.is_empty() {
            return wrong(&"Key cannot be blank");
        }
        if !key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        {
            return wrong(&"Key contains invalid characters");
        }
        if key.len() > 128 {
            return wrong(&"Key is too long (limit: 128 characters)");
        }
        if key.starts_with("consul-") {
            return wrong(&"Key prefix 'consul-' is reserved for internal use");
        }
        if value.chars().count() > 512 {
            return wrong(&"Value is too long (limit: 512 characters)");
        }
    }
    Ok(meta)
}
