//! SPIFFE ids: the names in certificates. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;

use uuid::Uuid;

/// The name of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceId {
    /// The trust domain.
    pub host: String,
    /// `default` without Enterprise.
    pub namespace: String,
    /// Where it runs.
    pub datacenter: String,
    /// The service.
    pub service: String,
}

/// The name of an agent that is no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentId {
    /// The trust domain.
    pub host: String,
    /// Where it runs.
    pub datacenter: String,
    /// Its node's name.
    pub agent: String,
}

/// A name of one of the forms that Consul gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// `spiffe://HOST/ns/NAMESPACE/dc/DATACENTER/svc/SERVICE`
    Service(ServiceId),
    /// `spiffe://HOST/agent/client/dc/DATACENTER/id/NODE`
    Agent(AgentId),
    /// Of a server, a gateway or a certificate authority.
    Other,
}

/// The trust domain of a cluster.
pub fn trust_domain(cluster_id: Uuid) -> String {
    format!("{cluster_id}.consul")
}

/// The name of a certificate authority.
pub fn of_authority(cluster_id: Uuid) -> String {
    format!("spiffe://{}", trust_domain(cluster_id))
}

/// The name of a service.
pub fn of_service(trust_domain: &str, datacenter: &str, service: &str) -> String {
    let (datacenter, service) = (escape(datacenter), escape(service));
    format!("spiffe://{trust_domain}/ns/default/dc/{datacenter}/svc/{service}")
}

/// The name of an agent.
pub fn of_agent(trust_domain: &str, datacenter: &str, node: &str) -> String {
    let (datacenter, node) = (escape(datacenter), escape(node));
    format!("spiffe://{trust_domain}/agent/client/dc/{datacenter}/id/{node}")
}

/// Reads a name; `None` for one that has no such form.
pub fn parse(text: &str) -> Option<Id> {
    let scheme = text.get(..9)?;
    if !scheme.eq_ignore_ascii_case("spiffe://") || text.contains(['?', '#']) {
        return None;
    }
    let rest = text.get(9..)?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    if let ["ap", partition, ..] = parts[..] {
        if partition.is_empty() {
            return None;
        }
        parts.drain(..2);
    }
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let id = match parts[..] {
        ["ns", namespace, "dc", datacenter, "svc", service] => Id::Service(ServiceId {
            host: host.to_owned(),
            namespace: unescape(namespace)?,
            datacenter: unescape(datacenter)?,
            service: unescape(service)?,
        }),
        ["agent", "client", "dc", datacenter, "id", agent] => Id::Agent(AgentId {
            host: host.to_owned(),
            datacenter: unescape(datacenter)?,
            agent: unescape(agent)?,
        }),
        ["agent", "server", "dc", _] | ["gateway", "mesh", "dc", _] => Id::Other,
        [] if host.split_once('.').is_some_and(|(id, _)| !id.is_empty()) => Id::Other,
        _ => return None,
    };
    Some(id)
}

/// As Go escapes a part of a path, the slash included.
fn escape(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,:;=@".contains(&b);
    if text.bytes().all(plain) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match plain(byte) {
            true => escaped.push(char::from(byte)),
            // Writing to a string cannot fail.
            false => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped.into()
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_read_and_written() {
        let domain = trust_domain(Uuid::from_u128(1));
        for service in ["web", "a b/ü%", "x:y@z"] {
            let text = of_service(&domain, "dc1", service);
            assert!(text.is_ascii(), "{text}");
            let Some(Id::Service(id)) = parse(&text) else {
                panic!("{text}");
            };
            assert_eq!(
                (
                    id.host.as_str(),
                    id.datacenter.as_str(),
                    id.service.as_str()
                ),
                (domain.as_str(), "dc1", service)
            );
            assert_eq!(id.namespace, "default");
        }
        assert_eq!(
            of_service("d.consul", "dc1", "web"),
            "spiffe://d.consul/ns/default/dc/dc1/svc/web"
        );
        let partition = "spiffe://d.consul/ap/p/ns/default/dc/dc1/svc/web";
        assert!(matches!(parse(partition), Some(Id::Service(_))));
    }

    #[test]
    fn names_of_agents_are_read_and_written() {
        let text = of_agent("d.consul", "dc1", "a b");
        assert_eq!(text, "spiffe://d.consul/agent/client/dc/dc1/id/a%20b");
        let id = AgentId {
            host: "d.consul".into(),
            datacenter: "dc1".into(),
            agent: "a b".into(),
        };
        assert_eq!(parse(&text), Some(Id::Agent(id)));
    }

    #[test]
    fn other_names_are_known_and_anything_else_is_none() {
        for other in [
            "spiffe://11111111-2222-3333-4444-555555555555.consul",
            "spiffe://d.consul/agent/server/dc/dc1",
            "spiffe://d.consul/gateway/mesh/dc/dc1",
        ] {
            assert_eq!(parse(other), Some(Id::Other), "{other}");
        }
        for bad in [
            "",
            "web",
            "http://d.consul/ns/default/dc/dc1/svc/web",
            "spiffe://d",
            "spiffe://.consul",
            "spiffe://d.consul/",
            "spiffe://d.consul/ns/default/dc/dc1/svc/",
            "spiffe://d.consul/ns//dc/dc1/svc/web",
            "spiffe://d.consul/ns/default/dc/dc1/svc/web/more",
            "spiffe://d.consul/ap//ns/default/dc/dc1/svc/web",
            "spiffe://d.consul/ns/default/dc/dc1/svc/%zz",
            "spiffe://d.consul/ns/default/dc/dc1/svc/%ff",
            "spiffe://d.consul/ns/default/dc/dc1/svc/%4",
            "spiffe://d.consul/ns/default/dc/dc1/svc/web?x",
            "spiffe:/é",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
