//! What proxies get from the entries.

use super::*;
use crate::entries::chain::tests::Written;

#[test]
fn nothing_is_added_where_nobody_says_anything() {
    let proxy = json!({"DestinationServiceName": "web", "Upstreams": [{"DestinationName": "db"}]});
    assert_eq!(merged("web", &proxy, &Written::new(&[])), proxy);
    assert_eq!(merged("web", &Value::Null, &Written::new(&[])), json!({}));
}

#[test]
fn a_proxy_counts_more_than_its_service_and_that_more_than_all() {
    let entries = Written::new(&[
        json!({"Kind": "proxy-defaults", "Name": "global", "Mode": "direct", "MeshGateway": {"Mode": "local"},
               "Config": {"protocol": "http", "a": 1, "b": 1, "deep": {"x": 1, "y": 1}},
               "TransparentProxy": {"OutboundListenerPort": 1}, "AccessLogs": {"Enabled": true}}),
        json!({"Kind": "service-defaults", "Name": "web", "Protocol": "grpc", "MeshGateway": {"Mode": "remote"},
               "LocalConnectTimeoutMs": 7, "MaxInboundConnections": 9, "Expose": {"Checks": true}}),
    ]);
    let proxy = json!({"DestinationServiceName": "web", "Config": {"b": 2, "deep": {"x": 2}}, "TransparentProxy": {"OutboundListenerPort": 5}});
    let found = merged("web", &proxy, &entries);
    assert_eq!(
        found["Config"],
        json!({"b": 2, "deep": {"x": 2, "y": 1}, "protocol": "grpc", "a": 1,
               "max_inbound_connections": 9, "local_connect_timeout_ms": 7})
    );
    assert_eq!(found["MeshGateway"]["Mode"], "remote");
    assert_eq!(found["Mode"], "direct");
    assert_eq!(found["TransparentProxy"]["OutboundListenerPort"], 5);
    assert_eq!(found["Expose"], json!({"Checks": true}));
    assert_eq!(found["AccessLogs"]["Enabled"], true);
    // Of another service, only what is said of all.
    let found = merged("other", &Value::Null, &entries);
    assert_eq!(
        (&found["Config"]["protocol"], &found["MeshGateway"]["Mode"]),
        (&json!("http"), &json!("local"))
    );
}

#[test]
fn upstreams_get_what_is_said_of_them() {
    let entries = Written::new(&[
        json!({"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}),
        json!({"Kind": "service-defaults", "Name": "db", "Protocol": "tcp"}),
        json!({"Kind": "service-defaults", "Name": "web", "UpstreamConfig": {
            "Defaults": {"ConnectTimeoutMs": 5, "MeshGateway": {"Mode": "local"}},
            "Overrides": [{"Name": "cache", "Protocol": "grpc", "ConnectTimeoutMs": 9}]}}),
    ]);
    let proxy = json!({"Upstreams": [
        {"DestinationName": "db", "Config": {"connect_timeout_ms": 1}, "MeshGateway": {"Mode": "none"}},
        {"DestinationName": "cache"},
        {"DestinationType": "prepared_query", "DestinationName": "q"}]});
    let found = merged("web", &proxy, &entries);
    assert_eq!(
        found["Upstreams"],
        json!([{"DestinationName": "db", "Config": {"connect_timeout_ms": 1, "protocol": "tcp"}, "MeshGateway": {"Mode": "none"}},
               {"DestinationName": "cache", "MeshGateway": {"Mode": "local"}, "Config": {"protocol": "grpc", "connect_timeout_ms": 9}},
               {"DestinationType": "prepared_query", "DestinationName": "q"}])
    );
    // A transparent proxy may connect to services that its registration does not name.
    let found = merged("web", &json!({"Mode": "transparent"}), &entries);
    let upstreams = &found["Upstreams"];
    assert_eq!(
        (
            &upstreams[0]["DestinationName"],
            &upstreams[0]["Config"]["connect_timeout_ms"],
            &upstreams[0]["CentrallyConfigured"]
        ),
        (&json!("cache"), &json!(9), &json!(true))
    );
    assert_eq!(
        (
            &upstreams[1]["DestinationName"],
            &upstreams[1]["Config"]["protocol"]
        ),
        (&json!("*"), &json!("http"))
    );
}
