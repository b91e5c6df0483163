//! Services in the shape in which Consul's agent shows its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::http::Settings;
use crate::http::views::CheckView;
use crate::state::{Check, Service, ServiceAddress, Weights};

/// A service of this agent.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentService<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    port: u16,
    address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    socket_path: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tagged_addresses: &'a BTreeMap<String, ServiceAddress>,
    weights: Weights,
    enable_tag_override: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    content_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<Value>,
    datacenter: &'a str,
}

impl<'a> AgentService<'a> {
    pub(super) fn of(row: &'a Service, settings: &'a Settings) -> Self {
        let mesh = row.mesh.as_deref();
        // Kept as text that was made from JSON.
        let given = |text: &str| serde_json::from_str(text).ok();
        Self {
            kind: &row.kind,
            id: &row.id,
            service: &row.service,
            tags: &row.tags,
            meta: &row.meta,
            port: row.port,
            address: &row.address,
            socket_path: &row.socket_path,
            tagged_addresses: &row.tagged_addresses,
            weights: row.weights,
            enable_tag_override: row.enable_tag_override,
            content_hash: String::new(),
            proxy: mesh.and_then(|mesh| given(&mesh.proxy)),
            connect: mesh.and_then(|mesh| given(&mesh.connect)),
            datacenter: &settings.datacenter,
        }
    }

    pub(super) fn set_hash(&mut self, hash: &str) {
        hash.clone_into(&mut self.content_hash);
    }
}

/// A number that changes with what is shown. Not secret, and not safe against those who want two services to share it.
pub(super) fn content_hash(shown: &AgentService<'_>) -> String {
    let text = serde_json::to_vec(shown).expect("every value of this API has a JSON form");
    // FNV-1a, 64 bits: the same on every machine and in every version.
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A service with its health.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthOfService<'a> {
    aggregated_status: &'a str,
    service: Option<AgentService<'a>>,
    checks: Option<Vec<CheckView<'a>>>,
}

impl<'a> HealthOfService<'a> {
    pub(super) fn of(
        word: &'a str,
        row: &'a Service,
        checks: &'a [Arc<Check>],
        settings: &'a Settings,
    ) -> Self {
        Self {
            aggregated_status: word,
            service: Some(AgentService::of(row, settings)),
            checks: Some(crate::http::views::checks(checks)),
        }
    }

    /// Of a service that is not here.
    pub(super) fn nothing() -> Self {
        Self {
            aggregated_status: "critical",
            service: None,
            checks: None,
        }
    }
}
