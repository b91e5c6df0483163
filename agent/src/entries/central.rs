//! What the entries say of a proxy that its registration leaves open. Pure.
//!
//! The proxy's own words count most, then `service-defaults` of the service that it is a proxy of, then `proxy-defaults`. Source:
//! Consul's merge of central configuration.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::chain::Find;
use super::check::{list, text};
use super::intentions::ANY;

type Fields = Map<String, Value>;

/// Values of `service-defaults` that go into a proxy's configuration, under their names there.
const SETTINGS: [(&str, &str); 5] = [
    ("Protocol", "protocol"),
    ("BalanceInboundConnections", "balance_inbound_connections"),
    ("MaxInboundConnections", "max_inbound_connections"),
    ("LocalConnectTimeoutMs", "local_connect_timeout_ms"),
    ("LocalRequestTimeoutMs", "local_request_timeout_ms"),
];
/// The same of what `service-defaults` say of a service that somebody connects to.
const UPSTREAM: [(&str, &str); 8] = [
    ("EnvoyListenerJSON", "envoy_listener_json"),
    ("EnvoyClusterJSON", "envoy_cluster_json"),
    ("Protocol", "protocol"),
    ("ConnectTimeoutMs", "connect_timeout_ms"),
    ("MeshGateway", "mesh_gateway"),
    ("Limits", "limits"),
    ("PassiveHealthCheck", "passive_health_check"),
    ("BalanceOutboundConnections", "balance_outbound_connections"),
];

/// A proxy's `Proxy` with what the entries say: of the service that it is a proxy of, or of a gateway of this name.
pub fn merged(service: &str, proxy: &Value, found: &dyn Find) -> Value {
    let global = found.find("proxy-defaults", "global").unwrap_or_default();
    let own = found.find("service-defaults", service).unwrap_or_default();
    let mut merged = proxy.as_object().cloned().unwrap_or_default();
    settings(&mut merged, &global, &own);
    for name in ["Mode", "MutualTLSMode"] {
        let said = [text(&own, name), text(&global, name)];
        leave(
            &mut merged,
            name,
            said.into_iter().find(|text| !text.is_empty()),
        );
    }
    inside(&mut merged, "MeshGateway", &["Mode"], [&own, &global]);
    let transparent = ["OutboundListenerPort", "DialedDirectly"];
    inside(
        &mut merged,
        "TransparentProxy",
        &transparent,
        [&own, &global],
    );
    inside(&mut merged, "Expose", &["Checks", "Paths"], [&own, &global]);
    let extensions = [&global, &own]
        .map(|entry| list(entry, "EnvoyExtensions"))
        .concat();
    if !extensions.is_empty() {
        merged.insert("EnvoyExtensions".to_owned(), extensions.into());
    }
    if !merged.contains_key("AccessLogs")
        && let Some(logs) = global.get("AccessLogs")
    {
        merged.insert("AccessLogs".to_owned(), logs.clone());
    }
    upstreams(&mut merged, &global, &own, found);
    Value::Object(merged)
}

/// Sets a text that is not there.
fn leave(fields: &mut Fields, name: &str, said: Option<&str>) {
    let is_open = fields.get(name).is_none_or(|old| old.as_str() == Some(""));
    if let Some(said) = said
        && is_open
    {
        fields.insert(name.to_owned(), said.into());
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

/// Sets what is not there of an object of both entries; the first that says something counts.
fn inside(fields: &mut Fields, object: &str, names: &[&str], said: [&Value; 2]) {
    for name in names {
        let is_open = fields
            .get(object)
            .and_then(|own| own.get(name))
            .is_none_or(is_empty);
        let found = said.iter().find_map(|entry| {
            let value = entry.get(object)?.get(name)?;
            (!is_empty(value)).then_some(value)
        });
        if let Some(value) = found
            && is_open
        {
            let own = fields.entry(object.to_owned()).or_insert_with(|| json!({}));
            if let Value::Object(own) = own {
                own.insert((*name).to_owned(), value.clone());
            }
        }
    }
}

fn settings(merged: &mut Fields, global: &Value, own: &Value) {
    let config = global.get("Config").and_then(Value::as_object);
    let mut said = config.cloned().unwrap_or_default();
    for (name, key) in SETTINGS {
        if let Some(value) = own.get(name).filter(|value| !is_empty(value)) {
            said.insert(key.to_owned(), value.clone());
        }
    }
    if said.is_empty() {
        return;
    }
    let config = merged
        .entry("Config".to_owned())
        .or_insert_with(|| json!({}));
    if config.is_null() {
        *config = json!({});
    }
    beneath(config, &Value::Object(said));
}

/// Adds what is not there, in objects within objects too.
fn beneath(own: &mut Value, said: &Value) {
    let (Value::Object(own), Value::Object(said)) = (own, said) else {
        return;
    };
    for (key, value) in said {
        match own.get_mut(key) {
            Some(old) if old.is_object() => beneath(old, value),
            Some(old) if !is_empty(old) => {}
            _ => drop(own.insert(key.clone(), value.clone())),
        }
    }
}

/// Puts into `fields` what an entry says of a service that is connected to.
fn say(fields: &mut Fields, said: &Value) {
    for (name, key) in UPSTREAM {
        if let Some(value) = said.get(name).filter(|value| !is_empty(value)) {
            fields.insert(key.to_owned(), value.clone());
        }
    }
}

/// What is said of services that a proxy connects to.
struct Said<'a> {
    found: &'a dyn Find,
    /// The protocol of all services; may be empty.
    protocol: &'a str,
    /// How the proxy itself uses mesh gateways.
    gateway: Value,
    of_all: &'a Value,
    of_one: BTreeMap<&'a str, &'a Value>,
}

impl Said<'_> {
    /// Of services that nobody speaks of.
    fn of_any(&self) -> Fields {
        self.with(self.protocol)
    }

    fn of(&self, name: &str) -> Fields {
        let defaults = self
            .found
            .find("service-defaults", name)
            .unwrap_or_default();
        let mut fields = self.with(match text(&defaults, "Protocol") {
            "" => self.protocol,
            own => own,
        });
        if let Some(one) = self.of_one.get(name) {
            say(&mut fields, one);
        }
        fields
    }

    fn with(&self, protocol: &str) -> Fields {
        let mut fields = Fields::new();
        if !protocol.is_empty() {
            fields.insert("protocol".to_owned(), protocol.into());
        }
        if !is_empty(&self.gateway) {
            fields.insert("mesh_gateway".to_owned(), self.gateway.clone());
        }
        say(&mut fields, self.of_all);
        fields
    }
}

fn upstreams(merged: &mut Fields, global: &Value, own: &Value, found: &dyn Find) {
    let transparent = merged.get("Mode").and_then(Value::as_str) == Some("transparent");
    let all = merged.get("Upstreams").and_then(Value::as_array);
    let mut all = all.cloned().unwrap_or_default();
    let pointer = |entry, path| Value::pointer(entry, path).unwrap_or(&Value::Null);
    let overrides = pointer(own, "/UpstreamConfig/Overrides").as_array();
    let overrides = overrides.into_iter().flatten();
    let said = Said {
        found,
        protocol: pointer(global, "/Config/protocol")
            .as_str()
            .unwrap_or_default(),
        gateway: merged.get("MeshGateway").cloned().unwrap_or_default(),
        of_all: pointer(own, "/UpstreamConfig/Defaults"),
        of_one: overrides.map(|one| (text(one, "Name"), one)).collect(),
    };
    let named: Vec<String> = all
        .iter()
        .map(|one| text(one, "DestinationName").to_owned())
        .collect();
    all.iter_mut()
        .filter(|one| matches!(text(one, "DestinationType"), "" | "service"))
        .for_each(|one| fill(one, &said));
    if transparent {
        // Connections may go to services that the proxy does not name.
        let others = said.of_one.keys().copied();
        let others = others.filter(|name| !named.iter().any(|one| one == name));
        all.extend(others.map(|name| synthetic(name, said.of(name))));
        let any = said.of_any();
        if !any.is_empty() {
            all.push(synthetic(ANY, any));
        }
    }
    if !all.is_empty() {
        merged.insert("Upstreams".to_owned(), all.into());
    }
}

/// Adds what is said of an upstream to what it says itself.
fn fill(upstream: &mut Value, said: &Said<'_>) {
    let mut said = said.of(text(upstream, "DestinationName"));
    let mode = said.shift_remove("mesh_gateway");
    let Value::Object(fields) = upstream else {
        return;
    };
    if let Some(mode) = mode.filter(|_| fields.get("MeshGateway").is_none_or(is_empty)) {
        fields.insert("MeshGateway".to_owned(), mode);
    }
    if said.is_empty() {
        return;
    }
    let config = fields
        .entry("Config".to_owned())
        .or_insert_with(|| json!({}));
    if config.is_null() {
        *config = json!({});
    }
    beneath(config, &Value::Object(said));
}

/// An upstream that only the entries know.
fn synthetic(name: &str, said: Fields) -> Value {
    let gateway = said
        .get("mesh_gateway")
        .cloned()
        .unwrap_or_else(|| json!({}));
    json!({
        "DestinationName": name,
        "Config": said,
        "MeshGateway": gateway,
        "CentrallyConfigured": true,
    })
}

#[cfg(test)]
mod tests;
