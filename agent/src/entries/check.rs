//! What an entry leaves out, and what it must not say.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::intentions::{self, precedence};
use super::kinds::Kind;
use crate::filter::{Filter, schema};

type Fields = Map<String, Value>;
type Checked = Result<(), String>;

/// Bounds of meta data. Consul's.
const META_MAX: usize = 64;
const META_KEY_MAX: usize = 128;
const META_VALUE_MAX: usize = 512;
/// Seconds by which the clock of whoever issues JWTs may differ.
const CLOCK_SKEW: i64 = 30;
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE",
];

/// A text of an object; empty when there is none.
pub(super) fn text<'a>(fields: &'a Value, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A list of an object; empty when there is none.
pub(super) fn list<'a>(fields: &'a Value, name: &str) -> &'a [Value] {
    fields
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn number(fields: &Value, name: &str) -> i64 {
    fields.get(name).and_then(Value::as_i64).unwrap_or_default()
}

/// Fills in what Consul fills in.
pub(super) fn fill_in(kind: &str, fields: &mut Fields) {
    let set = |fields: &mut Fields, name: &str, value: Value| {
        if fields.get(name).is_none_or(|old| old.as_str() == Some("")) {
            fields.insert(name.to_owned(), value);
        }
    };
    match kind {
        "service-defaults" => {
            if let Some(Value::String(protocol)) = fields.get_mut("Protocol") {
                *protocol = protocol.to_lowercase();
            }
        }
        "ingress-gateway" => each(fields, "Listeners", |listener| {
            let protocol = match listener.get("Protocol").and_then(Value::as_str) {
                None | Some("") => "tcp".to_owned(),
                Some(protocol) => protocol.to_lowercase(),
            };
            listener.insert("Protocol".to_owned(), protocol.into());
        }),
        "service-router" => each(fields, "Routes", |route| {
            let methods = route
                .get_mut("Match")
                .and_then(|matches| matches.pointer_mut("/HTTP/Methods"));
            for method in methods.and_then(Value::as_array_mut).into_iter().flatten() {
                *method = method.as_str().unwrap_or_default().to_uppercase().into();
            }
        }),
        "http-route" | "tcp-route" => each(fields, "Parents", |parent| {
            set(parent, "Kind", "api-gateway".into());
        }),
        "api-gateway" => each(fields, "Listeners", |listener| {
            if let Some(Value::String(protocol)) = listener.get_mut("Protocol") {
                *protocol = protocol.to_lowercase();
            }
        }),
        "jwt-provider" if !fields.contains_key("ClockSkewSeconds") => {
            fields.insert("ClockSkewSeconds".to_owned(), CLOCK_SKEW.into());
        }
        "service-intentions" => each(fields, "Sources", |source| {
            set(source, "Type", intentions::TYPE.into());
        }),
        _ => {}
    }
}

/// What is known only with the name: how intentions rank.
pub(super) fn rank(name: &str, fields: &mut Fields) {
    each(fields, "Sources", |source| {
        let from = source
            .get("Name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let rank = precedence(from, name);
        source.insert("Precedence".to_owned(), rank.into());
    });
    if let Some(Value::Array(sources)) = fields.get_mut("Sources") {
        sources.sort_by_key(|source| -number(source, "Precedence"));
    }
}

fn each(fields: &mut Fields, name: &str, mut change: impl FnMut(&mut Fields)) {
    let items = fields.get_mut(name).and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        if let Value::Object(item) = item {
            change(item);
        }
    }
}

/// Finds out whether an entry may be written.
pub(super) fn check(kind: &Kind, name: &str, fields: &Fields) -> Checked {
    check_name(kind, name)?;
    let fields = &Value::Object(fields.clone());
    check_meta(fields)?;
    match kind.name {
        "service-defaults" => service_defaults(fields),
        "proxy-defaults" => mesh_gateway(fields),
        "service-router" => service_router(fields),
        "service-splitter" => service_splitter(name, fields),
        "service-resolver" => service_resolver(fields),
        "service-intentions" => intentions::check_entry(name, fields),
        "ingress-gateway" => ingress_gateway(fields),
        "terminating-gateway" => terminating_gateway(fields),
        "api-gateway" => api_gateway(fields),
        "tcp-route" if list(fields, "Services").len() > 1 => {
            Err("tcp-route currently only supports one service".to_owned())
        }
        "http-route" => http_route(fields),
        "inline-certificate" => inline_certificate(fields),
        "file-system-certificate" => file_system_certificate(fields),
        "exported-services" => exported_services(fields),
        "jwt-provider" => jwt_provider(fields),
        "control-plane-request-limit" => one_of(
            "Mode",
            text(fields, "Mode"),
            &["permissive", "enforcing", "disabled"],
        ),
        _ => Ok(()),
    }
}

fn check_name(kind: &Kind, name: &str) -> Checked {
    match (kind.name, kind.only) {
        ("proxy-defaults", only) if name != only => Err(format!(
            "invalid name ({name:?}), only {only:?} is supported"
        )),
        (_, only) if !only.is_empty() && name != only => {
            Err(format!("{} Name must be {only:?}", kind.name))
        }
        (_, "") if name.is_empty() => Err("Name is required".to_owned()),
        ("service-defaults" | "service-router" | "service-splitter" | "service-resolver", _)
            if name == "*" =>
        {
            let text = "Name must be the name of a service, and not a wildcard";
            Err(text.to_owned())
        }
        _ => Ok(()),
    }
}

fn check_meta(fields: &Value) -> Checked {
    let Some(Value::Object(meta)) = fields.get("Meta") else {
        return Ok(());
    };
    if meta.len() > META_MAX {
        return Err(format!("Meta exceeds maximum element count {META_MAX}"));
    }
    for (key, value) in meta {
        if key.len() > META_KEY_MAX {
            return Err(format!(
                "Meta key {key:?} exceeds maximum length {META_KEY_MAX}"
            ));
        }
        if value
            .as_str()
            .is_some_and(|value| value.len() > META_VALUE_MAX)
        {
            return Err(format!(
                "Meta value for key {key:?} exceeds maximum length {META_VALUE_MAX}"
            ));
        }
    }
    Ok(())
}

fn one_of(what: &str, value: &str, allowed: &[&str]) -> Checked {
    if allowed.contains(&value) {
        return Ok(());
    }
    let allowed: Vec<_> = allowed.iter().filter(|value| !value.is_empty()).collect();
    Err(format!("{what} must be one of {allowed:?}, not {value:?}"))
}

fn port(what: &str, port: i64) -> Checked {
    match port {
        1..=65535 => Ok(()),
        port => Err(format!("{what}: invalid port number {port}")),
    }
}

fn mesh_gateway(fields: &Value) -> Checked {
    let mode = fields.pointer("/MeshGateway/Mode");
    let mode = mode.and_then(Value::as_str).unwrap_or_default();
    one_of("MeshGateway.Mode", mode, &["", "none", "local", "remote"])?;
    one_of("Mode", text(fields, "Mode"), &["", "direct", "transparent"])?;
    let tls = text(fields, "MutualTLSMode");
    one_of("MutualTLSMode", tls, &["", "strict", "permissive"])
}

fn service_defaults(fields: &Value) -> Checked {
    mesh_gateway(fields)?;
    let balance = text(fields, "BalanceInboundConnections");
    if !matches!(balance, "" | "exact_balance") {
        return Err(format!(
            "invalid value for balance_inbound_connections: {balance}"
        ));
    }
    if let Some(destination) = fields.get("Destination") {
        if list(destination, "Addresses").is_empty() {
            return Err("Destination must have at least one address".to_owned());
        }
        port("Destination", number(destination, "Port"))?;
    }
    let overrides = fields.pointer("/UpstreamConfig/Overrides");
    for (at, upstream) in overrides
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        if text(upstream, "Name").is_empty() {
            return Err(format!("UpstreamConfig.Overrides[{at}]: Name is required"));
        }
    }
    match fields.pointer("/UpstreamConfig/Defaults/Name") {
        Some(_) => Err("error in upstream defaults: Name must be empty".to_owned()),
        None => Ok(()),
    }
}

fn service_router(fields: &Value) -> Checked {
    for (at, route) in list(fields, "Routes").iter().enumerate() {
        let http = route.pointer("/Match/HTTP").unwrap_or(&Value::Null);
        let paths = ["PathExact", "PathPrefix", "PathRegex"];
        if paths
            .iter()
            .filter(|name| !text(http, name).is_empty())
            .count()
            > 1
        {
            return Err(format!(
                "Route[{at}] should only contain at most one of PathExact, PathPrefix, or PathRegex"
            ));
        }
        for name in &paths[..2] {
            let path = text(http, name);
            if !path.is_empty() && !path.starts_with('/') {
                return Err(format!(
                    "Route[{at}] {name} doesn't start with '/': {path:?}"
                ));
            }
        }
        let rewrite = route.pointer("/Destination/PrefixRewrite");
        let has_path = paths[..2].iter().any(|name| !text(http, name).is_empty());
        if rewrite.is_some() && !has_path {
            return Err(format!(
                "Route[{at}] cannot make use of PrefixRewrite without configuring either PathExact or PathPrefix"
            ));
        }
        matches(&format!("Route[{at}] Header"), list(http, "Header"))?;
        matches(&format!("Route[{at}] QueryParam"), list(http, "QueryParam"))?;
        let mut methods = BTreeSet::new();
        for method in list(http, "Methods").iter().filter_map(Value::as_str) {
            if !METHODS.contains(&method) {
                return Err(format!(
                    "Route[{at}] Methods contains an invalid method {method:?}"
                ));
            }
            if !methods.insert(method) {
                return Err(format!(
                    "Route[{at}] Methods contains {method:?} more than once"
                ));
            }
        }
    }
    Ok(())
}

/// Conditions on headers and parameters: each with a name, and one of the ways to match.
pub(super) fn matches(what: &str, conditions: &[Value]) -> Checked {
    const WAYS: [&str; 6] = ["Present", "Exact", "Prefix", "Suffix", "Contains", "Regex"];
    for (at, condition) in conditions.iter().enumerate() {
        if text(condition, "Name").is_empty() {
            return Err(format!("{what}[{at}] missing required Name field"));
        }
        if WAYS
            .iter()
            .filter(|way| condition.get(**way).is_some())
            .count()
            != 1
        {
            return Err(format!(
                "{what}[{at}] should contain exactly one of {}",
                WAYS.join(", ")
            ));
        }
    }
    Ok(())
}

fn service_splitter(name: &str, fields: &Value) -> Checked {
    let splits = list(fields, "Splits");
    if splits.is_empty() {
        return Err("no splits configured".to_owned());
    }
    let mut found = BTreeSet::new();
    let mut sum = 0;
    for split in splits {
        let weight = split
            .get("Weight")
            .and_then(Value::as_f64)
            .unwrap_or_default();
        if !(0.0..=100.0).contains(&weight) {
            return Err(format!(
                "split weight must be between 0 and 100, not {weight}"
            ));
        }
        // In hundredths, so that three thirds need not be exact.
        sum += (weight * 100.0).round() as i64;
        let service = match text(split, "Service") {
            "" => name,
            service => service,
        };
        let subset = text(split, "ServiceSubset");
        if !found.insert((service, subset)) {
            return Err(format!(
                "split destination occurs more than once: service={service:?}, subset={subset:?}"
            ));
        }
    }
    if sum != 100 * 100 {
        return Err(format!(
            "the sum of all split weights must be 100, not {:.6}",
            sum as f64 / 100.0
        ));
    }
    Ok(())
}

fn service_resolver(fields: &Value) -> Checked {
    let none = Map::new();
    let objects = |name| fields.get(name).and_then(Value::as_object).unwrap_or(&none);
    let subsets = objects("Subsets");
    for (name, subset) in subsets {
        if name.is_empty() {
            return Err("Subset defined with empty name".to_owned());
        }
        let filter = text(subset, "Filter");
        if !filter.is_empty() {
            Filter::new(filter, &schema::SERVICE_HEALTH).map_err(|error| {
                format!("Filter for subset {name:?} is not a valid expression: {error}")
            })?;
        }
    }
    let default = text(fields, "DefaultSubset");
    if !default.is_empty() && !subsets.contains_key(default) {
        return Err(format!(
            "Bad DefaultSubset {default:?}: there is no such subset"
        ));
    }
    if let Some(redirect) = fields.get("Redirect") {
        if fields.get("Failover").is_some() {
            return Err("Redirect and Failover cannot both be set".to_owned());
        }
        if redirect.as_object().is_none_or(Map::is_empty) {
            return Err("Redirect is empty".to_owned());
        }
        if text(redirect, "Service").is_empty() && !text(redirect, "ServiceSubset").is_empty() {
            return Err("Redirect.ServiceSubset defined without Redirect.Service".to_owned());
        }
    }
    for (subset, failover) in objects("Failover") {
        if subset != "*" && !subsets.contains_key(subset) {
            return Err(format!("Bad Failover {subset:?}: there is no such subset"));
        }
        if failover.as_object().is_none_or(Map::is_empty) {
            return Err(format!(
                "Bad Failover {subset:?}: one of Service, ServiceSubset, Namespace, Targets, SamenessGroup, or Datacenters is required"
            ));
        }
    }
    let policy = fields
        .pointer("/LoadBalancer/Policy")
        .and_then(Value::as_str);
    let policies = [
        "",
        "random",
        "round_robin",
        "least_request",
        "ring_hash",
        "maglev",
    ];
    one_of("LoadBalancer.Policy", policy.unwrap_or_default(), &policies)
}

fn ingress_gateway(fields: &Value) -> Checked {
    let mut ports = BTreeSet::new();
    for listener in list(fields, "Listeners") {
        let (at, protocol) = (number(listener, "Port"), text(listener, "Protocol"));
        port("listener", at)?;
        if !ports.insert(at) {
            return Err(format!("port {at} declared on two listeners"));
        }
        if !matches!(protocol, "tcp" | "http" | "http2" | "grpc") {
            return Err(format!(
                "protocol must be 'tcp', 'http', 'http2', or 'grpc'. '{protocol}' is an unsupported protocol"
            ));
        }
        let services = list(listener, "Services");
        if services.is_empty() {
            return Err(format!("No service declared for listener with port {at}"));
        }
        if protocol == "tcp" && services.len() > 1 {
            return Err(format!(
                "Multiple services per listener are only supported for L7 protocols, 'http', 'grpc' and 'http2' (listener on port {at})"
            ));
        }
        for service in services {
            match text(service, "Name") {
                "" => return Err("Service name cannot be blank".to_owned()),
                "*" if protocol == "tcp" => {
                    return Err(format!(
                        "Wildcard service name is only valid for protocol = 'http', 'grpc' and 'http2' (listener on port {at})"
                    ));
                }
                _ => {}
            }
            if protocol == "tcp" && !list(service, "Hosts").is_empty() {
                return Err(format!(
                    "Associating hosts to a service is not supported for the tcp protocol (listener on port {at})"
                ));
            }
        }
    }
    Ok(())
}

fn terminating_gateway(fields: &Value) -> Checked {
    let mut names = BTreeSet::new();
    for service in list(fields, "Services") {
        let name = text(service, "Name");
        if name.is_empty() {
            return Err("Service name cannot be blank.".to_owned());
        }
        if !names.insert(name) {
            return Err(format!(
                "Service {name:?} was specified more than once within a namespace"
            ));
        }
        let (cert, key) = (text(service, "CertFile"), text(service, "KeyFile"));
        let ca = text(service, "CAFile");
        let some = !cert.is_empty() || !key.is_empty();
        if some && (cert.is_empty() || key.is_empty() || ca.is_empty()) {
            return Err(format!(
                "Service {name:?} must have a CertFile, CAFile, and KeyFile specified for TLS origination"
            ));
        }
    }
    Ok(())
}

fn api_gateway(fields: &Value) -> Checked {
    let mut names = BTreeSet::new();
    for listener in list(fields, "Listeners") {
        let name = text(listener, "Name");
        if !names.insert(name) {
            return Err(format!("multiple listeners with the name {name:?}"));
        }
        let protocol = text(listener, "Protocol");
        if !matches!(protocol, "http" | "tcp") {
            return Err(format!(
                "unsupported listener protocol {protocol:?}, must be one of http, tcp"
            ));
        }
        port(&format!("listener {name:?}"), number(listener, "Port"))?;
    }
    Ok(())
}

fn http_route(fields: &Value) -> Checked {
    for (at, rule) in list(fields, "Rules").iter().enumerate() {
        for service in list(rule, "Services") {
            if text(service, "Name").is_empty() {
                return Err(format!("Rule[{at}], Service: Name is required"));
            }
        }
        for case in list(rule, "Matches") {
            let method = text(case, "Method");
            if !method.is_empty() && !METHODS.contains(&method.to_uppercase().as_str()) {
                return Err(format!("Rule[{at}], Match: invalid method {method:?}"));
            }
        }
    }
    Ok(())
}

fn inline_certificate(fields: &Value) -> Checked {
    for (name, what) in [
        ("Certificate", "certificate"),
        ("PrivateKey", "private key"),
    ] {
        let pem = text(fields, name);
        if !pem.contains("-----BEGIN ") || !pem.contains("-----END ") {
            return Err(format!("failed to parse {what} PEM"));
        }
    }
    Ok(())
}

fn file_system_certificate(fields: &Value) -> Checked {
    match (text(fields, "Certificate"), text(fields, "PrivateKey")) {
        ("", _) => Err("certificate path is required".to_owned()),
        (_, "") => Err("private key path is required".to_owned()),
        _ => Ok(()),
    }
}

fn exported_services(fields: &Value) -> Checked {
    for (at, service) in list(fields, "Services").iter().enumerate() {
        if text(service, "Name").is_empty() {
            return Err(format!("Services[{at}]: service name cannot be empty"));
        }
        let consumers = list(service, "Consumers");
        if consumers.is_empty() {
            return Err(format!("Services[{at}]: must have at least one consumer"));
        }
        for (number, consumer) in consumers.iter().enumerate() {
            let what = format!("Services[{at}].Consumers[{number}]");
            if !matches!(text(consumer, "Partition"), "" | "default") {
                return Err(format!("{what}: partitions are an enterprise-only feature"));
            }
            match text(consumer, "Peer") {
                "" if text(consumer, "Partition").is_empty() => {
                    return Err(format!(
                        "{what}: must define at least one of Peer, Partition, or SamenessGroup"
                    ));
                }
                "*" => {
                    return Err(format!(
                        "{what}: exporting to all peers (wildcard) is not supported"
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn jwt_provider(fields: &Value) -> Checked {
    let Some(keys) = fields.get("JSONWebKeySet") else {
        return Err("JSONWebKeySet is required".to_owned());
    };
    match (keys.get("Local"), keys.get("Remote")) {
        (Some(local), None) => {
            let (keys, file) = (text(local, "JWKS"), text(local, "Filename"));
            if keys.is_empty() == file.is_empty() {
                let text = "must specify exactly one of String or filename for local keyset";
                return Err(text.to_owned());
            }
        }
        (None, Some(remote)) if text(remote, "URI").is_empty() => {
            return Err("Remote JWKS URI is required".to_owned());
        }
        (None, Some(_)) => {}
        _ => {
            let text = "must specify exactly one of Local or Remote JSON Web key set";
            return Err(text.to_owned());
        }
    }
    for location in list(fields, "Locations") {
        if location.as_object().map_or(0, Map::len) != 1 {
            let text = "must set exactly one of: JWT location header, query param or cookie";
            return Err(text.to_owned());
        }
    }
    Ok(())
}
