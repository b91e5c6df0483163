//! Records from what the state says. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::name::hex;
use crate::config::Dns;
use crate::state::{CheckStatus, Node, Query, Service, ServiceHealth};

/// Longest string in a TXT record.
const TXT_STRING_MAX: usize = 255;

/// What a response says, before it is made to fit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    pub(super) code: ResponseCode,
    pub(super) groups: Vec<Group>,
    pub(super) authorities: Vec<Record>,
    /// What it stays true as long as, where that is one thing, and the order of its groups means nothing.
    pub(super) basis: Option<Basis>,
}

/// What was read, and the index that the state had for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Basis {
    pub(super) query: Query,
    pub(super) index: u64,
}

/// Records that make sense together only.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Group {
    pub(super) answers: Vec<Record>,
    pub(super) extras: Vec<Record>,
}

impl Content {
    /// An answer without records.
    pub(super) fn bare(code: ResponseCode) -> Self {
        Self {
            code,
            groups: Vec::new(),
            authorities: Vec::new(),
            basis: None,
        }
    }
}

/// What answers are made with.
pub(super) struct Writer<'a> {
    pub(super) settings: &'a Dns,
    pub(super) datacenter: &'a str,
    /// The domain as it was asked for: answers stay in it.
    pub(super) domain: &'a Name,
    /// The name that was asked for.
    pub(super) name: &'a Name,
    pub(super) kind: RecordType,
    pub(super) unix_seconds: u64,
}

impl Writer<'_> {
    /// There is no such name.
    pub(super) fn no_such_name(&self) -> Content {
        Content {
            authorities: vec![self.soa()],
            ..Content::bare(ResponseCode::NXDomain)
        }
    }

    /// The name exists, but what was asked of it may not.
    pub(super) fn found(&self, groups: Vec<Group>) -> Content {
        let nothing = groups.iter().all(|group| group.answers.is_empty());
        Content {
            code: ResponseCode::NoError,
            authorities: if nothing {
                vec![self.soa()]
            } else {
                Vec::new()
            },
            groups,
            basis: None,
        }
    }

    /// The authority over the domain.
    pub(super) fn soa(&self) -> Record {
        let numbers = self.settings.soa;
        let below = |label: &str| self.below(&[label]).unwrap_or_else(|| self.domain.clone());
        let soa = SOA::new(
            below("ns"),
            below("hostmaster"),
            // Serial numbers wrap, by definition.
            self.unix_seconds as u32,
            numbers.refresh,
            numbers.retry,
            numbers.expire,
            numbers.min_ttl,
        );
        Record::from_rdata(self.domain.clone(), numbers.min_ttl, RData::SOA(soa))
    }

    /// The servers, as name servers of the domain with their addresses.
    pub(super) fn name_servers(&self, servers: &[ServiceHealth]) -> Vec<Group> {
        let ttl = seconds(self.settings.node_ttl);
        let group = |entry: &ServiceHealth| {
            let target = self.node_name(&entry.node.node)?;
            let data = RData::NS(NS(target.clone()));
            Some(Group {
                answers: vec![Record::from_rdata(self.domain.clone(), ttl, data)],
                extras: address_records(&target, &entry.node.address, ttl, RecordType::ANY),
            })
        };
        servers.iter().filter_map(group).collect()
    }

    /// A node.
    pub(super) fn node(&self, node: &Node) -> Content {
        let ttl = seconds(self.settings.node_ttl);
        let mut group = Group {
            answers: address_records(self.name, &node.address, ttl, self.kind),
            extras: Vec::new(),
        };
        let texts = meta_records(self.name, &node.meta, ttl);
        match self.kind {
            RecordType::TXT | RecordType::ANY => group.answers.extend(texts),
            RecordType::A | RecordType::AAAA
                if self.settings.enable_additional_node_meta_txt && !group.answers.is_empty() =>
            {
                group.extras.extend(texts);
            }
            _ => {}
        }
        self.found(vec![group])
    }

    /// Instances of a service, in the order in which they are to be answered. None is as good as no such service.
    pub(super) fn service(&self, name: &str, instances: &[ServiceHealth]) -> Content {
        self.instances(name, instances, None)
    }

    /// The same with a time to live of their own.
    pub(super) fn instances(
        &self,
        name: &str,
        instances: &[ServiceHealth],
        ttl: Option<Duration>,
    ) -> Content {
        if instances.is_empty() {
            return self.no_such_name();
        }
        let ttl = ttl.unwrap_or_else(|| service_ttl(&self.settings.service_ttl, name));
        let ttl = seconds(ttl);
        self.found(match self.kind {
            RecordType::SRV => self.locations(instances, ttl),
            _ => self.addresses(instances, ttl),
        })
    }

    fn addresses(&self, instances: &[ServiceHealth], ttl: u32) -> Vec<Group> {
        let limit = match self.settings.a_record_limit {
            0 => usize::MAX,
            limit => limit,
        };
        let mut seen = BTreeSet::new();
        let groups = instances.iter().filter_map(|entry| {
            let address = match entry.service.address.as_str() {
                "" => entry.node.address.as_str(),
                own => own,
            };
            let answers = address_records(self.name, address, ttl, self.kind);
            (!answers.is_empty() && seen.insert(address)).then_some(Group {
                answers,
                extras: Vec::new(),
            })
        });
        groups.take(limit).collect()
    }

    fn locations(&self, instances: &[ServiceHealth], ttl: u32) -> Vec<Group> {
        let mut seen = BTreeSet::new();
        let groups = instances.iter().filter_map(|entry| {
            let (node, service) = (&entry.node, &entry.service);
            if !seen.insert((&node.node, &service.address, service.port)) {
                return None;
            }
            let (target, address) = self.target(node, service)?;
            let srv = SRV::new(1, weight(entry), service.port, target.clone());
            Some(Group {
                answers: vec![Record::from_rdata(self.name.clone(), ttl, RData::SRV(srv))],
                extras: address_records(&target, address, ttl, RecordType::ANY),
            })
        });
        groups.collect()
    }

    /// The name under which an instance is found, and what that name leads to.
    fn target<'n>(&self, node: &'n Node, service: &'n Service) -> Option<(Name, &'n str)> {
        let own = service.address.as_str();
        if own.is_empty() || own == node.address {
            return Some((self.node_name(&node.node)?, &node.address));
        }
        match own.parse() {
            Ok(ip) => Some((self.below(&[&hex(ip), "addr", self.datacenter])?, own)),
            // A host name needs no further name, and others answer for it.
            Err(_) => Some((host_name(own)?, "")),
        }
    }

    /// An address that is its own name.
    pub(super) fn address(&self, ip: IpAddr) -> Content {
        let ttl = seconds(self.settings.node_ttl);
        let answers = address_records(self.name, &ip.to_string(), ttl, self.kind);
        self.found(vec![Group {
            answers,
            extras: Vec::new(),
        }])
    }

    /// The names of an address.
    pub(super) fn pointer(&self, nodes: &[Arc<Node>], services: &[Arc<Service>]) -> Content {
        let node_names = nodes.iter().filter_map(|node| self.node_name(&node.node));
        let service_names = services
            .iter()
            .filter_map(|s| self.below(&[&s.service, "service", self.datacenter]));
        let names: Vec<Name> = node_names.chain(service_names).collect();
        let mut groups: Vec<Group> = Vec::new();
        for name in names {
            let data = RData::PTR(PTR(name));
            let group = Group {
                answers: vec![Record::from_rdata(self.name.clone(), 0, data)],
                extras: Vec::new(),
            };
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        Content {
            groups,
            ..Content::bare(ResponseCode::NoError)
        }
    }

    fn node_name(&self, node: &str) -> Option<Name> {
        self.below(&[node, "node", self.datacenter])
    }

    /// A name in the domain. `None` when a part of it could not stand in a name.
    fn below(&self, parts: &[&str]) -> Option<Name> {
        let labels = parts.iter().flat_map(|part| part.split('.'));
        let labels = labels.map(str::as_bytes).chain(self.domain.iter());
        Name::from_labels(labels).ok()
    }
}

/// Whether an instance is to be found at all.
pub(super) fn is_healthy(entry: &ServiceHealth, only_passing: bool) -> bool {
    entry.checks.iter().all(|check| match check.status {
        CheckStatus::Passing => true,
        CheckStatus::Warning => !only_passing,
        CheckStatus::Critical => false,
    })
}

/// A name from outside, absolute whether it ends in a dot or not.
fn host_name(text: &str) -> Option<Name> {
    let labels = text.trim_end_matches('.').split('.').map(str::as_bytes);
    Name::from_labels(labels).ok()
}

fn weight(entry: &ServiceHealth) -> u16 {
    let weights = entry.service.weights;
    let warns = |status| status == CheckStatus::Warning;
    let weight = if entry.checks.iter().any(|check| warns(check.status)) {
        weights.warning
    } else {
        weights.passing
    };
    u16::try_from(weight).unwrap_or(u16::MAX)
}

/// The one record that an address, or a host name, has for this question.
fn address_records(name: &Name, address: &str, ttl: u32, kind: RecordType) -> Vec<Record> {
    let data = match (address.parse(), kind) {
        (Ok(IpAddr::V4(ip)), RecordType::A | RecordType::ANY) => RData::A(A(ip)),
        (Ok(IpAddr::V6(ip)), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(ip)),
        (Ok(_), _) => return Vec::new(),
        (Err(_), RecordType::A | RecordType::AAAA | RecordType::CNAME | RecordType::ANY)
            if !address.is_empty() =>
        {
            match host_name(address) {
                Some(host) => RData::CNAME(CNAME(host)),
                None => return Vec::new(),
            }
        }
        (Err(_), _) => return Vec::new(),
    };
    vec![Record::from_rdata(name.clone(), ttl, data)]
}

fn meta_records(name: &Name, meta: &BTreeMap<String, String>, ttl: u32) -> Vec<Record> {
    let record = |(key, value): (&String, &String)| {
        let text = if key.to_lowercase().starts_with("rfc1035-") {
            value.clone()
        } else {
            format!("{key}={value}")
        };
        let mut strings: Vec<&[u8]> = text.as_bytes().chunks(TXT_STRING_MAX).collect();
        if strings.is_empty() {
            strings.push(b"");
        }
        Record::from_rdata(name.clone(), ttl, RData::TXT(TXT::from_bytes(strings)))
    };
    meta.iter().map(record).collect()
}

/// By the whole name, else by the longest pattern `PREFIX*` that fits.
fn service_ttl(ttls: &BTreeMap<String, Duration>, name: &str) -> Duration {
    if let Some(ttl) = ttls.get(name) {
        return *ttl;
    }
    let fitting = ttls.iter().filter_map(|(pattern, ttl)| {
        let prefix = pattern.strip_suffix('*')?;
        name.starts_with(prefix).then_some((prefix.len(), *ttl))
    });
    fitting.max().map_or(Duration::ZERO, |(_, ttl)| ttl)
}

fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pattern_decides_on_the_time_to_live() {
        let ttls = [("web", 5), ("*", 1), ("we*", 2), ("web*", 3)];
        let ttls = ttls.map(|(name, s)| (name.to_owned(), Duration::from_secs(s)));
        let ttls = BTreeMap::from(ttls);
        for (name, wanted) in [("web", 5), ("web2", 3), ("wex", 2), ("db", 1)] {
            assert_eq!(service_ttl(&ttls, name).as_secs(), wanted, "{name}");
        }
        assert_eq!(service_ttl(&BTreeMap::new(), "web"), Duration::ZERO);
    }

    #[test]
    fn meta_data_becomes_text() {
        let meta = [
            ("rack".to_owned(), "r1".to_owned()),
            ("RFC1035-x".to_owned(), "v=1".to_owned()),
            ("long".to_owned(), "y".repeat(300)),
        ];
        let name = Name::root();
        let records = meta_records(&name, &BTreeMap::from(meta), 0);
        let texts: Vec<_> = records.iter().map(|r| r.data.to_string()).collect();
        assert_eq!((texts[0].as_str(), texts[2].as_str()), ("v=1", "rack=r1"));
        let RData::TXT(long) = &records[1].data else {
            panic!("is a TXT");
        };
        assert_eq!(long.txt_data.len(), 2);
    }
}
