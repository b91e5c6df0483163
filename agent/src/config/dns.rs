//! Settings of DNS. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Error;
use super::build::{at_least, invalid, parsed, within};
use super::layer::{DnsLayer, Layer, Number};
use crate::duration::GoDuration;

/// How DNS questions are answered. Block `dns_config`, and what belongs to it at the top level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where it listens, UDP and TCP. Keys `client_addr`, `addresses.dns`, `ports.dns`. Default 127.0.0.1:8600; empty when
    /// the port is -1.
    pub addresses: Vec<SocketAddr>,
    /// A second domain whose names are answered like those of `domain`. Key `alt_domain`. Default none.
    pub alt_domain: Option<String>,
    /// Who is asked for names outside the domain, in this order. Keys `recursors`, `recursor`; port 53 unless said
    /// otherwise. Default none: such questions are refused.
    pub recursors: Vec<SocketAddr>,
    /// Whether the recursors are asked in random order (`recursor_strategy`). Default false: sequential.
    pub recursors_in_random_order: bool,
    /// How long one recursor may take. Key `recursor_timeout`. At least 1ms. Default 2s.
    pub recursor_timeout: Duration,
    /// Whether a server answers from what it has, without asking the leader. Default true.
    pub allow_stale: bool,
    /// With `allow_stale`: the leader is asked when the last contact to it is longer ago. Default 87600h.
    pub max_stale: Duration,
    /// Time to live of answers about nodes. Default 0s.
    pub node_ttl: Duration,
    /// The same about services, by name; a name may end in `*`. The longest one that fits counts. Default none: 0s.
    pub service_ttl: BTreeMap<String, Duration>,
    /// Whether instances with a warning check are left out. Default false.
    pub only_passing: bool,
    /// Whether a shortened UDP answer says so (TC). Default false.
    pub enable_truncate: bool,
    /// Most answers in a UDP response without EDNS. At least 1. Default 3.
    pub udp_answer_limit: usize,
    /// Most A or AAAA records in a response; 0 is no bound. Default 0.
    pub a_record_limit: usize,
    /// Whether names are written out each time. Default false.
    pub disable_compression: bool,
    /// Whether a node's meta data comes with its address, as TXT. Default true.
    pub enable_additional_node_meta_txt: bool,
    /// Numbers in SOA records. Block `soa`.
    pub soa: Soa,
}

/// Numbers in SOA records, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Soa {
    /// Default 3600.
    pub refresh: i32,
    /// Default 600.
    pub retry: i32,
    /// Default 86400.
    pub expire: i32,
    /// How long a "no such name" may be kept. Default 0.
    pub min_ttl: u32,
}

pub(super) fn check(layer: &Layer, port: Option<u16>) -> Result<Dns, Error> {
    let DnsLayer {
        a_record_limit,
        allow_stale,
        disable_compression,
        enable_additional_node_meta_txt,
        enable_truncate,
        max_stale,
        node_ttl,
        only_passing,
        recursor_strategy,
        recursor_timeout,
        service_ttl,
        soa,
        udp_answer_limit,
    } = &layer.dns_config;
    let count = |key, value: &Option<Number>, default, min| {
        within(key, *value, default, min, i64::from(u16::MAX))
    };
    let seconds = |key, value: &Option<Number>, default: i32| {
        within(key, *value, default, 0, i64::from(i32::MAX))
    };
    let ttl = |GoDuration(ttl): &GoDuration| *ttl;
    Ok(Dns {
        addresses: addresses(layer, port)?,
        alt_domain: match &layer.alt_domain {
            Some(domain) if !domain.trim_matches('.').is_empty() => {
                Some(super::names::one_domain("alt_domain", domain)?)
            }
            _ => None,
        },
        recursors: recursors(layer)?,
        recursors_in_random_order: match recursor_strategy.as_deref() {
            None | Some("" | "sequential") => false,
            Some("random") => true,
            Some(other) => {
                return invalid(format!(
                    "dns_config.recursor_strategy: Invalid recursor strategy: {other:?}"
                ));
            }
        },
        recursor_timeout: at_least(
            "dns_config.recursor_timeout",
            *recursor_timeout,
            Duration::from_secs(2),
            Duration::from_millis(1),
        )?,
        allow_stale: allow_stale.unwrap_or(true),
        max_stale: max_stale
            .as_ref()
            .map_or(Duration::from_secs(87_600 * 3600), ttl),
        node_ttl: node_ttl.as_ref().map_or(Duration::ZERO, ttl),
        service_ttl: service_ttl
            .iter()
            .map(|(name, time)| (name.to_lowercase(), ttl(time)))
            .collect(),
        only_passing: only_passing.unwrap_or(false),
        enable_truncate: enable_truncate.unwrap_or(false),
        udp_answer_limit: count("dns_config.udp_answer_limit", udp_answer_limit, 3, 1)?,
        a_record_limit: count("dns_config.a_record_limit", a_record_limit, 0, 0)?,
        disable_compression: disable_compression.unwrap_or(false),
        enable_additional_node_meta_txt: enable_additional_node_meta_txt.unwrap_or(true),
        soa: Soa {
            refresh: seconds("dns_config.soa.refresh", &soa.refresh, 3600)?,
            retry: seconds("dns_config.soa.retry", &soa.retry, 600)?,
            expire: seconds("dns_config.soa.expire", &soa.expire, 86_400)?,
            min_ttl: within(
                "dns_config.soa.min_ttl",
                soa.min_ttl,
                0,
                0,
                i64::from(i32::MAX),
            )?,
        },
    })
}

fn addresses(layer: &Layer, port: Option<u16>) -> Result<Vec<SocketAddr>, Error> {
    let Some(port) = port else {
        return Ok(Vec::new());
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let (key, text) = match (given(&layer.addresses.dns), given(&layer.client_addr)) {
        (Some(text), _) => ("addresses.dns", text),
        (None, Some(text)) => ("client_addr", text),
        (None, None) => ("client_addr", Ipv4Addr::LOCALHOST.to_string()),
    };
    text.split_whitespace()
        .map(|text| parsed(key, text, "an ip address").map(|ip| SocketAddr::new(ip, port)))
        .collect()
}

fn recursors(layer: &Layer) -> Result<Vec<SocketAddr>, Error> {
    let texts = layer.recursor.iter().chain(&layer.recursors);
    texts
        .filter(|text| !text.trim().is_empty())
        .map(|text| match text.trim().parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, 53)),
            Err(_) => parsed("recursors", text, "an ip address, or one with a port"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagSettings, Format, Machine, SourceFile, load};

    fn settings(text: &str) -> Result<(Dns, Vec<String>), Error> {
        let file = SourceFile {
            name: "a.hcl".into(),
            format: Format::Hcl,
            text: format!("data_dir = \"/d\"\nbind_addr = \"127.0.0.1\"\n{text}"),
        };
        let machine = Machine {
            hostname: "h".into(),
            private_ipv4: Vec::new(),
            public_ipv6: Vec::new(),
            temporary_dir: "/tmp".into(),
        };
        let loaded = load(&[file], &FlagSettings::default(), &machine)?;
        Ok((loaded.config.dns, loaded.warnings))
    }

    #[test]
    fn defaults_are_consuls() {
        let (dns, warnings) = settings("").unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(dns.addresses, ["127.0.0.1:8600".parse().unwrap()]);
        assert!(dns.allow_stale && !dns.only_passing && !dns.enable_truncate);
        assert_eq!((dns.udp_answer_limit, dns.a_record_limit), (3, 0));
        assert_eq!(dns.recursor_timeout, Duration::from_secs(2));
        assert_eq!(dns.soa.refresh, 3600);
        assert_eq!(dns.recursors, []);
    }

    #[test]
    fn everything_can_be_said() {
        let (dns, warnings) = settings(
            r#"client_addr = "127.0.0.2 ::1"
               ports { dns = 53 }
               alt_domain = "Test.Example."
               recursors = ["8.8.8.8", "[::1]:5353"]
               dns_config {
                 allow_stale = false, max_stale = "5s", node_ttl = "1m", only_passing = true,
                 service_ttl { "Web" = "5s", "*" = "1s" }
                 enable_truncate = true, udp_answer_limit = 5, a_record_limit = 2
                 recursor_strategy = "random", recursor_timeout = "1s"
                 soa { refresh = 1, retry = 2, expire = 3, min_ttl = 4 }
                 use_cache = true
               }"#,
        )
        .unwrap();
        assert_eq!(
            dns.addresses,
            ["127.0.0.2:53", "[::1]:53"].map(|a| a.parse().unwrap())
        );
        assert_eq!(dns.alt_domain.as_deref(), Some("test.example."));
        assert_eq!(
            dns.recursors,
            ["8.8.8.8:53", "[::1]:5353"].map(|a| a.parse().unwrap())
        );
        assert_eq!(dns.service_ttl["web"], Duration::from_secs(5));
        assert!(dns.recursors_in_random_order && dns.only_passing && !dns.allow_stale);
        assert_eq!((dns.soa.expire, dns.soa.min_ttl), (3, 4));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("dns_config.use_cache"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "recursors = [\"here\"]",
            "dns_config { udp_answer_limit = 0 }",
            "dns_config { recursor_strategy = \"best\" }",
            "alt_domain = \"a b\"",
            "addresses { dns = \"unix:///x\" }",
        ] {
            assert!(settings(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_of_minus_one_switches_it_off() {
        let (dns, _) = settings("ports { dns = -1 }").unwrap();
        assert_eq!(dns.addresses, []);
    }
}
