//! Fields of the service mesh: kept as they were given, under the names that Consul's API shows.

use serde_json::{Map, Value};

use super::shape::folded;
use crate::state::Mesh;

/// The API's names of fields that files spell with underscores.
const NAMES: &[&str] = &[
    "AccessLogs",
    "Address",
    "Arguments",
    "CentrallyConfigured",
    "Checks",
    "Config",
    "ConsulVersion",
    "Datacenter",
    "DestinationName",
    "DestinationNamespace",
    "DestinationPartition",
    "DestinationPeer",
    "DestinationServiceID",
    "DestinationServiceName",
    "DestinationType",
    "DialedDirectly",
    "DisableListenerLogs",
    "Enabled",
    "EnvoyExtensions",
    "EnvoyVersion",
    "Expose",
    "IngressHosts",
    "JSONFormat",
    "ListenerPort",
    "LocalBindAddress",
    "LocalBindPort",
    "LocalBindSocketMode",
    "LocalBindSocketPath",
    "LocalPathPort",
    "LocalServiceAddress",
    "LocalServicePort",
    "LocalServiceSocketPath",
    "MeshGateway",
    "Meta",
    "Mode",
    "Name",
    "Native",
    "OutboundListenerPort",
    "ParsedFromCheck",
    "Path",
    "Paths",
    "Port",
    "Protocol",
    "Proxy",
    "Required",
    "SidecarService",
    "Tags",
    "TextFormat",
    "TransparentProxy",
    "Type",
    "Upstreams",
];

/// Gives known fields their names; what is below `Config` and unknown fields stay as they are.
pub(super) fn named(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let fields = object.into_iter().map(|(key, value)| {
                let wanted = folded(&key);
                let known = NAMES.iter().find(|n| n.to_lowercase() == wanted);
                let name = known.map_or(key, |name| (*name).to_owned());
                let value = match name.as_str() {
                    "Config" | "Arguments" | "Meta" => value,
                    // A service's definition, with a form of its own.
                    "SidecarService" => value,
                    _ => named(value),
                };
                (name, value)
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(named).collect()),
        value => value,
    }
}

/// What a service's `Proxy` and `Connect` say, both already with their names.
pub(crate) fn of(proxy: Option<&Value>, connect: Option<&Value>) -> Option<Box<Mesh>> {
    let given = |value: Option<&Value>| match value {
        Some(value @ Value::Object(fields)) if !fields.is_empty() => value.to_string(),
        _ => String::new(),
    };
    let (proxy_text, connect_text) = (given(proxy), given(connect));
    if proxy_text.is_empty() && connect_text.is_empty() {
        return None;
    }
    let destination = proxy.and_then(|p| p["DestinationServiceName"].as_str());
    Some(Box::new(Mesh {
        destination: destination.unwrap_or_default().to_owned(),
        native: connect.is_some_and(|c| c["Native"] == true),
        proxy: proxy_text,
        connect: connect_text,
    }))
}

/// The same of fields as a client of the catalog's API spells them.
pub(crate) fn of_given(proxy: Option<Value>, connect: Option<Value>) -> Option<Box<Mesh>> {
    let (proxy, connect) = (proxy.map(named), connect.map(named));
    of(proxy.as_ref(), connect.as_ref())
}
