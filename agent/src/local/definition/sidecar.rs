//! The short form for a sidecar proxy in a service's definition (`Connect.SidecarService`), and the service that it
//! stands for. Pure.

use serde_json::{Map, Value, json};

use super::shape::{self, Unknown, fold};
use super::{Error, Raw, service};
use crate::state::Service;

/// Where the short form stands, under `connect`.
const SHORT: &str = "SidecarService";

/// Marks what was made from the short form. No client and no file can set it: it is no field of a definition.
pub(super) const MARK: &str = "locallyregisteredassidecar";

/// The id of the sidecar's service, from its service's.
pub fn sidecar_id(service: &str) -> String {
    format!("{service}-sidecar-proxy")
}

/// The service of a sidecar, still without a port if its definition gives none.
#[derive(Debug, Clone, PartialEq)]
pub struct Sidecar {
    /// The id of its service.
    parent: String,
    fields: Map<String, Value>,
}

/// Brings the short form to the one form of services, where it stands.
pub(super) fn fold_inside(service: &mut Value, unknown: Unknown) -> Result<(), String> {
    let Some(short) = service["connect"].get_mut(SHORT) else {
        return Ok(());
    };
    if !short.is_null() {
        let folded = fold(short.take(), shape::SERVICE, unknown);
        *short = folded.map_err(|why| format!("connect: {SHORT}: {why}"))?;
    }
    Ok(())
}

/// A definition without the short form, and the sidecar for which it stood.
pub(super) fn split(whole: &Value) -> Result<(Value, Option<Sidecar>), Error> {
    let mut value = whole.clone();
    let Some(short) = take(&mut value) else {
        return Ok((value, None));
    };
    let parent = service::read(&value)?.service;
    let short = fold(short, shape::SERVICE, Unknown::Drop).map_err(Error::Decode)?;
    let Value::Object(mut fields) = short else {
        return Err(Error::Decode(format!("{SHORT}: expected an object")));
    };
    let refuse = |why: &str| {
        let text = format!("Validation failed: 1 error occurred:\n\t* {why}\n\n");
        Err(Error::Service(text))
    };
    if !is_empty(fields.get("id")) {
        return refuse("A SidecarService cannot specify an ID as this is managed by the agent");
    }
    if let Some(connect) = fields.get("connect")
        && !is_empty(connect.get(SHORT))
    {
        return refuse("A SidecarService cannot have a nested SidecarService");
    }
    if !is_empty(value.get("token")) {
        fill_one(&mut fields, "token", value["token"].clone());
    }
    fill(&mut fields, &parent)?;
    let sidecar = Sidecar {
        parent: parent.id,
        fields,
    };
    Ok((value, Some(sidecar)))
}

/// Takes the short form out of a definition.
fn take(service: &mut Value) -> Option<Value> {
    let connect = service.get_mut("connect")?.as_object_mut()?;
    let short = connect.remove(SHORT)?;
    if connect.is_empty() {
        service.as_object_mut()?.remove("connect");
    }
    Some(short).filter(|short| !short.is_null())
}

/// What a sidecar has from its service where its definition says nothing. Source: Consul's documentation, "Sidecar
/// service defaults".
fn fill(fields: &mut Map<String, Value>, parent: &Service) -> Result<(), Error> {
    let mut default = |key: &str, value: Value| fill_one(fields, key, value);
    default("id", json!(sidecar_id(&parent.id)));
    default("name", json!(sidecar_id(&parent.service)));
    default("kind", json!("connect-proxy"));
    default("tags", json!(parent.tags));
    default("meta", json!(parent.meta));
    default("address", json!(parent.address));
    default(MARK, json!(true));
    default("proxy", json!({}));
    let Some(Value::Object(proxy)) = fields.get_mut("proxy") else {
        let why = format!("{SHORT}: proxy: expected an object");
        return Err(Error::Decode(why));
    };
    let mut default = |key: &str, value: Value| fill_one(proxy, key, value);
    default("DestinationServiceName", json!(parent.service));
    default("DestinationServiceID", json!(parent.id));
    if is_empty(proxy.get("LocalServiceSocketPath")) {
        fill_one(proxy, "LocalServiceAddress", json!("127.0.0.1"));
        if parent.port > 0 {
            fill_one(proxy, "LocalServicePort", json!(parent.port));
        }
    }
    Ok(())
}

fn fill_one(fields: &mut Map<String, Value>, key: &str, value: Value) {
    if is_empty(fields.get(key)) {
        fields.insert(key.to_owned(), value);
    }
}

/// Whether a field is as good as not there.
fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(object)) => object.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(Value::Bool(_)) => false,
    }
}

impl Sidecar {
    /// The id of its own service.
    pub fn id(&self) -> String {
        sidecar_id(&self.parent)
    }

    /// Whether it needs to be given a port.
    pub fn wants_port(&self) -> bool {
        is_empty(self.fields.get("port")) && is_empty(self.fields.get("socketpath"))
    }

    /// Its definition, with this port if it has none of its own.
    pub fn at(mut self, port: u16) -> Raw {
        if self.wants_port() {
            self.fields.insert("port".to_owned(), json!(port));
        }
        let none = |key| is_empty(self.fields.get(key));
        if none("check") && none("checks") {
            let checks = self.default_checks();
            self.fields.insert("checks".to_owned(), checks);
        }
        Raw(Value::Object(self.fields))
    }

    /// That the proxy listens, and that its service is well.
    fn default_checks(&self) -> Value {
        let own = text(self.fields.get("address"));
        let host = match own.is_empty() {
            false => own,
            true => text(self.fields["proxy"].get("LocalServiceAddress")),
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let parent = &self.parent;
        let alias =
            json!({"name": format!("Connect Sidecar Aliasing {parent}"), "aliasservice": parent});
        match self.fields.get("port") {
            Some(port) => {
                let listening = json!({
                    "name": "Connect Sidecar Listening",
                    "tcp": format!("{host}:{port}"),
                    "interval": "10s",
                });
                json!([listening, alias])
            }
            // On a socket there is no port to be tried.
            None => json!([alias]),
        }
    }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

/// The lowest port of a range that is not taken.
///
/// # Errors
/// When there is none.
pub fn choose_port(range: Option<(u16, u16)>, taken: impl Fn(u16) -> bool) -> Result<u16, Error> {
    let refuse = |why: String| Err(Error::Service(format!("Invalid SidecarService: {why}")));
    let Some((min, max)) = range else {
        return refuse(
            "no port provided for sidecar_service and auto-assignment disabled in config".into(),
        );
    };
    match (min..=max).find(|port| !taken(*port)) {
        Some(port) => Ok(port),
        None => refuse(format!(
            "no port provided for sidecar_service and none left in the configured range [{min}, {max}]"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::definition::Kind;

    fn split(value: Value) -> Result<(Raw, Option<Sidecar>), Error> {
        Raw::service(value)?.split()
    }

    #[test]
    fn the_short_form_becomes_a_service_of_its_own() {
        let web = json!({
            "ID": "web1", "Name": "web", "Port": 80, "Tags": ["a"], "Meta": {"v": "1"}, "Address": "10.0.0.9",
            "Connect": {"SidecarService": {}},
        });
        let (parent, sidecar) = split(web).unwrap();
        assert_eq!(parent.to_service().unwrap().service.mesh, None);
        let sidecar = sidecar.unwrap();
        assert!(sidecar.wants_port());
        assert_eq!(sidecar.id(), "web1-sidecar-proxy");
        let definition = sidecar.at(21000).to_service().unwrap();
        assert!(definition.sidecar);
        let service = &definition.service;
        assert_eq!(
            (service.id.as_str(), service.service.as_str(), service.port),
            ("web1-sidecar-proxy", "web-sidecar-proxy", 21000)
        );
        assert_eq!(
            (service.kind.as_str(), service.address.as_str()),
            ("connect-proxy", "10.0.0.9")
        );
        assert_eq!(
            (&service.tags[..], &service.meta["v"][..]),
            (&["a".to_owned()][..], "1")
        );
        let mesh = service.mesh.as_ref().unwrap();
        assert_eq!(mesh.destination, "web");
        let proxy: Value = serde_json::from_str(&mesh.proxy).unwrap();
        let wanted = json!({
            "DestinationServiceName": "web", "DestinationServiceID": "web1",
            "LocalServiceAddress": "127.0.0.1", "LocalServicePort": 80,
        });
        assert_eq!(proxy, wanted);
        let checks: Vec<_> = definition
            .checks
            .iter()
            .map(|check| (check.id.as_str(), check.name.as_str(), &check.kind))
            .collect();
        let tcp = Kind::Tcp {
            address: "10.0.0.9:21000".into(),
            tls: None,
        };
        let alias = Kind::Alias {
            node: String::new(),
            service: "web1".into(),
        };
        assert_eq!(
            checks,
            [
                (
                    "service:web1-sidecar-proxy:1",
                    "Connect Sidecar Listening",
                    &tcp
                ),
                (
                    "service:web1-sidecar-proxy:2",
                    "Connect Sidecar Aliasing web1",
                    &alias
                ),
            ]
        );
    }

    #[test]
    fn what_a_sidecar_says_itself_stays() {
        let web = json!({
            "Name": "web", "Port": 80, "Tags": ["a"],
            "connect": {"sidecar_service": {
                "port": 20000, "tags": ["b"], "name": "other", "check": {"ttl": "1h"},
                "proxy": {"local_service_port": 9, "config": {"snake_case": 1}, "expose": {"checks": true}},
            }},
        });
        let (_, sidecar) = split(web).unwrap();
        let definition = sidecar.unwrap().at(1).to_service().unwrap();
        let service = &definition.service;
        assert_eq!(
            (service.service.as_str(), service.port, &service.tags[..]),
            ("other", 20000, &["b".to_owned()][..])
        );
        let proxy: Value = serde_json::from_str(&service.mesh.as_ref().unwrap().proxy).unwrap();
        assert_eq!(proxy["LocalServicePort"], 9);
        assert_eq!(proxy["Config"], json!({"snake_case": 1}));
        assert_eq!(proxy["Expose"], json!({"Checks": true}));
        assert_eq!(definition.checks.len(), 1);
    }

    #[test]
    fn an_ipv6_address_is_put_in_brackets_and_a_socket_has_no_port_check() {
        let web = json!({"Name": "web", "Address": "::1", "Connect": {"SidecarService": {}}});
        let definition = split(web).unwrap().1.unwrap().at(5).to_service().unwrap();
        assert!(
            matches!(&definition.checks[0].kind, Kind::Tcp { address, .. } if address == "[::1]:5")
        );
        let web = json!({"Name": "web", "Connect": {"SidecarService": {"SocketPath": "/s"}}});
        let sidecar = split(web).unwrap().1.unwrap();
        assert!(!sidecar.wants_port());
        assert_eq!(sidecar.at(5).to_service().unwrap().checks.len(), 1);
    }

    #[test]
    fn wrong_sidecars_are_refused_with_a_reason() {
        for (sidecar, wanted) in [
            (json!({"ID": "x"}), "A SidecarService cannot specify an ID"),
            (
                json!({"Connect": {"SidecarService": {}, "Native": true}}),
                "",
            ),
            (
                json!({"Connect": {"SidecarService": {"Port": 1}}}),
                "A SidecarService cannot have a nested SidecarService",
            ),
            (json!(5), "expected an object, found a number"),
            (json!({"Proxy": 5}), "proxy: expected an object"),
        ] {
            let web = json!({"Name": "web", "Connect": {"SidecarService": sidecar}});
            let result = split(web.clone());
            match wanted {
                "" => assert!(result.is_ok(), "{web}: {result:?}"),
                _ => {
                    let text = result.expect_err("refused").to_string();
                    assert!(text.contains(wanted), "{web}: {text}");
                }
            }
        }
        let in_file = json!({"name": "web", "connect": {"sidecar_service": {"prot": 1}}});
        let why = Raw::service_in_file(in_file).unwrap_err();
        assert!(why.contains("invalid config key prot"), "{why}");
        let nothing = json!({"Name": "web", "Connect": {"SidecarService": null, "Native": true}});
        let (parent, sidecar) = split(nothing).unwrap();
        assert_eq!(sidecar, None);
        assert!(parent.to_service().unwrap().service.mesh.unwrap().native);
    }

    #[test]
    fn no_client_can_claim_to_be_made_from_the_short_form() {
        let web = json!({"Name": "web", "LocallyRegisteredAsSidecar": true});
        let (raw, _) = split(web).unwrap();
        assert!(!raw.to_service().unwrap().sidecar);
    }

    #[test]
    fn ports_are_given_from_the_lowest_free_one() {
        assert_eq!(choose_port(Some((5, 9)), |port| port < 7), Ok(7));
        let text =
            |range, taken: fn(u16) -> bool| choose_port(range, taken).unwrap_err().to_string();
        assert!(text(Some((5, 9)), |_| true).ends_with("none left in the configured range [5, 9]"));
        assert!(text(None, |_| false).ends_with("auto-assignment disabled in config"));
    }
}
