//! What is to be said of a service in a list, summed up over its instances. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::entries::intentions::EXTERNAL_SOURCE;
use crate::entries::topology::{self, CONNECT_PROXY};
use crate::state::{CheckStatus, ServiceHealth};

/// What is to be said of a service in a list.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Summary<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) datacenter: &'a str,
    #[serde(serialize_with = "null_if_empty")]
    tags: BTreeSet<&'a str>,
    #[serde(serialize_with = "null_if_empty")]
    nodes: BTreeSet<&'a str>,
    #[serde(serialize_with = "null_if_empty")]
    external_sources: BTreeSet<&'a str>,
    pub(super) instance_count: usize,
    checks_passing: usize,
    checks_warning: usize,
    checks_critical: usize,
    pub(super) gateway_config: GatewayConfig,
    transparent_proxy: bool,
    connect_native: bool,
    /// Whether there is a proxy of it.
    #[serde(skip)]
    pub(super) has_proxy: bool,
    /// Those that are counted already, by node and id.
    #[serde(skip)]
    checks: BTreeSet<(&'a str, &'a str)>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GatewayConfig {
    /// How many services it stands for, if it is a gateway.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) associated_service_count: usize,
    /// At which names and ports a gateway takes connections to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) addresses: Vec<String>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A list that nothing was ever put into is shown as Go shows it.
fn null_if_empty<S: Serializer>(texts: &BTreeSet<&str>, to: S) -> Result<S::Ok, S::Error> {
    (!texts.is_empty()).then_some(texts).serialize(to)
}

impl<'a> Summary<'a> {
    /// Of no instance yet.
    pub(super) fn of(name: &'a str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    fn add_checks(&mut self, of: &'a ServiceHealth) {
        for check in &of.checks {
            if !self.checks.insert((&check.node, &check.check_id)) {
                continue;
            }
            match check.status {
                CheckStatus::Passing => self.checks_passing += 1,
                CheckStatus::Warning => self.checks_warning += 1,
                CheckStatus::Critical => self.checks_critical += 1,
            }
        }
    }

    pub(super) fn add(&mut self, instance: &'a ServiceHealth) {
        let service = &*instance.service;
        self.kind = &service.kind;
        self.datacenter = &instance.node.datacenter;
        self.nodes.insert(&instance.node.node);
        self.instance_count += 1;
        self.connect_native |= service.mesh.as_ref().is_some_and(|mesh| mesh.native);
        self.tags.extend(service.tags.iter().map(String::as_str));
        let source = service.meta.get(EXTERNAL_SOURCE).map(String::as_str);
        let source = source.filter(|source| !source.is_empty());
        self.external_sources.extend(source);
        self.add_checks(instance);
    }

    /// An instance of its proxies. All must be transparent for the service to be called so.
    fn add_proxy(&mut self, instance: &'a ServiceHealth) {
        let transparent = topology::is_transparent(&topology::proxy(&instance.service));
        self.transparent_proxy = transparent && (self.transparent_proxy || !self.has_proxy);
        self.has_proxy = true;
        self.add_checks(instance);
    }
}

/// By name. A proxy counts for itself, and for the service that it is a proxy of.
pub(super) fn summaries<'a>(
    instances: impl Iterator<Item = &'a ServiceHealth>,
) -> BTreeMap<&'a str, Summary<'a>> {
    fn of<'s, 'a>(
        all: &'s mut BTreeMap<&'a str, Summary<'a>>,
        name: &'a str,
    ) -> &'s mut Summary<'a> {
        all.entry(name).or_insert_with(|| Summary::of(name))
    }
    let mut all = BTreeMap::new();
    for instance in instances {
        let service = &*instance.service;
        of(&mut all, &service.service).add(instance);
        if service.kind == CONNECT_PROXY
            && let Some(mesh) = &service.mesh
        {
            of(&mut all, &mesh.destination).add_proxy(instance);
        }
    }
    all
}
