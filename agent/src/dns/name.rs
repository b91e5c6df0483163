//! What a question's name asks for. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RecordType};

/// The domains whose names are ours.
#[derive(Debug, Clone)]
pub(super) struct Domains {
    /// Where answers' own names end.
    pub(super) main: Name,
    /// Further ones, answered alike.
    pub(super) others: Vec<Name>,
    /// The datacenter that names without one mean.
    pub(super) datacenter: String,
    /// The agent's own node.
    pub(super) node: String,
}

/// What a name of ours asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The domain itself, or a name that says nothing.
    Apex,
    /// A node.
    Node(String),
    /// Healthy instances of a service.
    Service {
        /// Its name.
        name: String,
        /// Only those with this tag.
        tag: Option<String>,
    },
    /// Healthy instances at which connections to a service through the mesh end.
    Connect(String),
    /// Healthy ingress gateways that stand for a service.
    Ingress(String),
    /// The address that stands for a service.
    Virtual(String),
    /// A prepared query, by name or id.
    Query(String),
    /// An address, written into its name.
    Address(IpAddr),
    /// The same of another datacenter.
    Elsewhere(String, Box<Asked>),
    /// Nothing that exists.
    Nothing,
}

/// Whose a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// In one of our domains; the domain as it was asked for.
    Ours(Asked, Name),
    /// The reverse of an address, which may be a node's or a service's.
    Reverse(IpAddr),
    /// Somebody else's.
    Other,
}

impl Domains {
    /// Finds out what a name is about.
    pub(super) fn understand(&self, name: &Name, kind: RecordType) -> Owner {
        for domain in std::iter::once(&self.main).chain(&self.others) {
            if domain.zone_of(name) {
                let count = name.iter().count() - domain.iter().count();
                let labels = name.iter().take(count);
                let labels = labels.map(|label| std::str::from_utf8(label).map(str::to_lowercase));
                return match labels.collect::<Result<Vec<_>, _>>() {
                    Ok(labels) => Owner::Ours(self.asked(&labels, kind), domain.clone()),
                    Err(_) => Owner::Ours(Asked::Nothing, domain.clone()),
                };
            }
        }
        match reverse(name) {
            Some(ip) => Owner::Reverse(ip),
            None => Owner::Other,
        }
    }

    fn asked(&self, labels: &[String], kind: RecordType) -> Asked {
        if labels.is_empty() {
            return Asked::Apex;
        }
        // The kind is the last label that names one, so that a service may be called `node`.
        for (at, label) in labels.iter().enumerate().rev() {
            let (parts, rest) = (&labels[..at], &labels[at + 1..]);
            let asked = match label.as_str() {
                "node" => node(parts),
                "service" => service(parts),
                "addr" => address(parts),
                "query" if parts.is_empty() => Asked::Nothing,
                "query" => Asked::Query(parts.join(".")),
                "connect" => named(parts, Asked::Connect),
                "ingress" => named(parts, Asked::Ingress),
                "virtual" => named(parts, Asked::Virtual),
                // With SRV the word may be left out: _web._tcp.consul.
                label if kind == RecordType::SRV && label.starts_with('_') => {
                    let parts = &labels[..=at];
                    return self.here(rest, service(parts));
                }
                _ => continue,
            };
            return self.here(rest, asked);
        }
        Asked::Nothing
    }

    /// What stands between the kind and the domain: nothing, or the datacenter.
    fn here(&self, rest: &[String], asked: Asked) -> Asked {
        let datacenter = match rest {
            [] => return asked,
            [datacenter] => datacenter,
            [datacenter, word] if word == "dc" => datacenter,
            _ => return Asked::Nothing,
        };
        match asked {
            // An address is in its name, wherever it is.
            asked @ (Asked::Nothing | Asked::Address(_)) => asked,
            asked if *datacenter == self.datacenter => asked,
            asked => Asked::Elsewhere(datacenter.clone(), Box::new(asked)),
        }
    }
}

/// A node's name may contain dots.
fn node(parts: &[String]) -> Asked {
    match parts {
        [] => Asked::Nothing,
        parts => Asked::Node(parts.join(".")),
    }
}

/// A service alone: what is asked of it knows no tags.
fn named(parts: &[String], asked: fn(String) -> Asked) -> Asked {
    match parts {
        [name] if !name.is_empty() => asked(name.clone()),
        _ => Asked::Nothing,
    }
}

/// `NAME`, `TAG.NAME`, where a tag may contain dots, or `_NAME._TAG` as RFC 2782 has it.
fn service(parts: &[String]) -> Asked {
    let (name, tag) = match parts {
        [] => return Asked::Nothing,
        [name, tag] if name.starts_with('_') && tag.starts_with('_') => {
            // The protocol says nothing of the instances.
            let tag = Some(&tag[1..]).filter(|tag| !matches!(*tag, "tcp" | "udp" | ""));
            (&name[1..], tag.map(str::to_owned))
        }
        [name] => (name.as_str(), None),
        [tags @ .., name] => (name.as_str(), Some(tags.join("."))),
    };
    if name.is_empty() {
        return Asked::Nothing;
    }
    Asked::Service {
        name: name.to_owned(),
        tag,
    }
}

/// Hexadecimal, 8 digits of IPv4 or 32 of IPv6.
fn address(parts: &[String]) -> Asked {
    let [digits] = parts else {
        return Asked::Nothing;
    };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Asked::Nothing;
    }
    let ip = match digits.len() {
        8 => u32::from_str_radix(digits, 16).map(|bits| Ipv4Addr::from(bits).into()),
        32 => u128::from_str_radix(digits, 16).map(|bits| Ipv6Addr::from(bits).into()),
        _ => return Asked::Nothing,
    };
    ip.map_or(Asked::Nothing, Asked::Address)
}

/// The address of a whole name below `in-addr.arpa` or `ip6.arpa`.
fn reverse(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&[u8]> = name.iter().collect();
    let is = |label: &[u8], word: &[u8]| label.eq_ignore_ascii_case(word);
    match labels.as_slice() {
        [parts @ .., zone, arpa] if is(arpa, b"arpa") && is(zone, b"in-addr") => {
            let parts: &[&[u8]; 4] = parts.try_into().ok()?;
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().rev().zip(parts) {
                *octet = std::str::from_utf8(label).ok()?.parse().ok()?;
            }
            Some(Ipv4Addr::from(octets).into())
        }
        [parts @ .., zone, arpa] if is(arpa, b"arpa") && is(zone, b"ip6") => {
            let parts: &[&[u8]; 32] = parts.try_into().ok()?;
            let mut bits: u128 = 0;
            for label in parts.iter().rev() {
                let &[digit] = *label else { return None };
                bits = bits << 4 | u128::from(char::from(digit).to_digit(16)?);
            }
            Some(Ipv6Addr::from(bits).into())
        }
        _ => None,
    }
}

/// The name `HEX.addr.DATACENTER.DOMAIN`.
pub(super) fn hex(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
        IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understand(name: &str, kind: RecordType) -> Owner {
        let domains = Domains {
            main: Name::from_ascii("consul.").unwrap(),
            others: vec![Name::from_ascii("other.example.").unwrap()],
            datacenter: "dc1".into(),
            node: "a".into(),
        };
        domains.understand(&Name::from_ascii(name).unwrap(), kind)
    }

    fn asked(name: &str) -> Asked {
        match understand(name, RecordType::A) {
            Owner::Ours(asked, _) => asked,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn web(tag: Option<&str>) -> Asked {
        Asked::Service {
            name: "web".into(),
            tag: tag.map(str::to_owned),
        }
    }

    #[test]
    fn names_of_services() {
        for (name, tag) in [
            ("web.service.consul.", None),
            ("WEB.Service.Consul.", None),
            ("web.service.dc1.consul.", None),
            ("web.service.dc1.dc.consul.", None),
            ("web.service.other.example.", None),
            ("v1.web.service.consul.", Some("v1")),
            ("a.b.web.service.consul.", Some("a.b")),
            ("_web._v1.service.consul.", Some("v1")),
            ("_web._tcp.service.dc1.consul.", None),
            ("_web._udp.service.consul.", None),
        ] {
            assert_eq!(asked(name), web(tag), "{name}");
        }
        let Owner::Ours(srv, _) = understand("_web._tcp.consul.", RecordType::SRV) else {
            panic!("is ours");
        };
        assert_eq!(srv, web(None));
        assert_eq!(asked("_web._tcp.consul."), Asked::Nothing);
        let service = Asked::Service {
            name: "node".into(),
            tag: None,
        };
        assert_eq!(asked("node.service.consul."), service);
    }

    #[test]
    fn names_of_nodes_addresses_and_queries() {
        assert_eq!(asked("N1.node.consul."), Asked::Node("n1".into()));
        assert_eq!(asked("a.b.node.dc1.consul."), Asked::Node("a.b".into()));
        assert_eq!(asked("consul."), Asked::Apex);
        assert_eq!(asked("q.query.consul."), Asked::Query("q".into()));
        let ip = |text: &str| Asked::Address(text.parse().unwrap());
        assert_eq!(asked("7f000001.addr.consul."), ip("127.0.0.1"));
        assert_eq!(
            asked("20010db8000000000000000000000001.addr.dc1.consul."),
            ip("2001:db8::1")
        );
    }

    #[test]
    fn names_of_other_datacenters() {
        let there = |asked| Asked::Elsewhere("dc2".into(), Box::new(asked));
        assert_eq!(asked("web.service.dc2.consul."), there(web(None)));
        assert_eq!(
            asked("v1.web.service.DC2.dc.consul."),
            there(web(Some("v1")))
        );
        assert_eq!(asked("n.node.dc2.consul."), there(Asked::Node("n".into())));
        assert_eq!(
            asked("q.query.dc2.consul."),
            there(Asked::Query("q".into()))
        );
        assert_eq!(asked("node.dc2.consul."), Asked::Nothing);
        let ip = Asked::Address("127.0.0.1".parse().unwrap());
        assert_eq!(asked("7f000001.addr.dc2.consul."), ip);
    }

    #[test]
    fn what_names_nothing() {
        for name in [
            "node.consul.",
            "service.consul.",
            "web.consul.",
            "query.consul.",
            "web.service.dc1.x.consul.",
            "web.service.dc2.x.consul.",
            "7f0001.addr.consul.",
            "a.7f000001.addr.consul.",
            "zz000001.addr.consul.",
        ] {
            assert_eq!(asked(name), Asked::Nothing, "{name}");
        }
        for name in ["example.com.", ".", "consul.com.", "1.2.in-addr.arpa."] {
            assert_eq!(understand(name, RecordType::A), Owner::Other, "{name}");
        }
    }

    #[test]
    fn reverses_are_read_back() {
        for (name, ip) in [
            ("9.0.0.127.in-addr.arpa.", "127.0.0.9"),
            (
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.IP6.ARPA.",
                "2001:db8::1",
            ),
        ] {
            let wanted = Owner::Reverse(ip.parse().unwrap());
            assert_eq!(understand(name, RecordType::PTR), wanted, "{name}");
        }
        for name in [
            "256.0.0.127.in-addr.arpa.",
            "x.0.0.127.in-addr.arpa.",
            "g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
        ] {
            assert_eq!(understand(name, RecordType::PTR), Owner::Other, "{name}");
        }
        assert_eq!(hex("127.0.0.1".parse().unwrap()), "7f000001");
        assert_eq!(hex("::1".parse().unwrap()).len(), 32);
    }
}
