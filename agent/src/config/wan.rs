//! Settings of the pool that the servers of all datacenters form. Pure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::build::{HOUR, MILLISECOND, SECOND, at_least, check_join, invalid, parsed, within};
use super::gossip::GossipTimes;
use super::layer::Layer;
use super::{Config, Error, names};

/// The pool that the servers of all datacenters form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wan {
    /// Address on which its gossip listens. Key `serf_wan`, flag `-serf-wan-bind`. Default `bind_addr`.
    pub bind: IpAddr,
    /// Address that servers of other datacenters are told to use, for gossip and for RPC. Key `advertise_addr_wan`, flag
    /// `-advertise-wan`. Default `advertise_addr`.
    pub advertise: IpAddr,
    /// Addresses to join once at start, which fails when none of them answers. Old; key `start_join_wan`, flag `-join-wan`.
    /// Default none.
    pub start_join: Vec<String>,
    /// Addresses to join at start, tried again until one succeeds. Key `retry_join_wan`. Default none.
    pub retry_join: Vec<String>,
    /// Pause between two rounds of `retry_join`. Key `retry_interval_wan`. At least 1 ms. Default 30s.
    pub retry_interval: Duration,
    /// Rounds of `retry_join` after which the agent gives up and exits with code 1; 0 is never. Key `retry_max_wan`. Default
    /// 0.
    pub retry_max: u32,
    /// Timing. Block `gossip_wan`.
    pub gossip: GossipTimes,
    /// How long a failed member is remembered before it is forgotten. Key `reconnect_timeout_wan`. At least 8h. Default 72h.
    pub reconnect_timeout: Duration,
}

/// Its settings; a client, which takes no part in it, may say some of them all the same, and is told.
pub(super) fn check(
    layer: &Layer,
    server: bool,
    port: Option<u16>,
    bind: IpAddr,
    advertise: IpAddr,
    warnings: &mut Vec<String>,
) -> Result<Wan, Error> {
    let address = |key, text: &Option<String>| match text.as_deref().unwrap_or("") {
        "" => Ok(None),
        text => parsed::<IpAddr>(key, text, "an ip address").map(Some),
    };
    let given = address("advertise_addr_wan", &layer.advertise_addr_wan)?;
    if given.is_some_and(|address| address.is_unspecified()) {
        return invalid("Advertise WAN address cannot be 0.0.0.0, :: or [::]");
    }
    let joins = !layer.start_join_wan.is_empty() || !layer.retry_join_wan.is_empty();
    if joins && !server {
        warnings.push(
            "start_join_wan and retry_join_wan have no effect here: only servers join the pool of all datacenters"
                .into(),
        );
    } else if joins && port.is_none() {
        return invalid(
            "start_join_wan and retry_join_wan need the pool that 'ports.serf_wan = -1' switches off",
        );
    }
    Ok(Wan {
        bind: address("serf_wan", &layer.serf_wan)?.unwrap_or(bind),
        advertise: given.unwrap_or(advertise),
        start_join: check_join("start_join_wan", &layer.start_join_wan)?,
        retry_join: check_join("retry_join_wan", &layer.retry_join_wan)?,
        retry_interval: at_least(
            "retry_interval_wan",
            layer.retry_interval_wan,
            SECOND * 30,
            MILLISECOND,
        )?,
        retry_max: within("retry_max_wan", layer.retry_max_wan, 0, 0, u32::MAX.into())?,
        gossip: GossipTimes::WAN.with("gossip_wan", &layer.gossip_wan)?,
        reconnect_timeout: at_least(
            "reconnect_timeout_wan",
            layer.reconnect_timeout_wan,
            HOUR * 72,
            HOUR * 8,
        )?,
    })
}

/// The datacenter whose config entries count everywhere.
pub(super) fn primary(layer: &Layer, own: &str) -> Result<String, Error> {
    let given = layer.primary_datacenter.as_deref();
    // What it was called when only tokens knew it.
    match given.or(layer.acl_datacenter.as_deref()).unwrap_or("") {
        "" => Ok(own.to_owned()),
        name => names::checked_datacenter("primary_datacenter", name),
    }
}

impl Config {
    /// Where gossip with the servers of other datacenters listens; `None` on a client, and where it is switched off.
    pub fn wan_bind(&self) -> Option<SocketAddr> {
        let port = self.ports.serf_wan.filter(|_| self.server)?;
        Some(SocketAddr::new(self.wan.bind, port))
    }

    /// Where they reach it.
    pub fn wan_advertise(&self) -> Option<SocketAddr> {
        let port = self.ports.serf_wan.filter(|_| self.server)?;
        Some(SocketAddr::new(self.wan.advertise, port))
    }

    /// Whether policies, roles and tokens are another datacenter's, which this one copies.
    pub fn copies_tokens(&self) -> bool {
        self.acl.enabled && self.acl.enable_token_replication && self.is_secondary()
    }

    /// Whether config entries and the mesh's roots are another datacenter's, which this one copies.
    pub fn is_secondary(&self) -> bool {
        self.primary_datacenter != self.datacenter
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load_text, load_with};
    use super::*;

    fn refused(more: &str) -> String {
        load_with(more).unwrap_err().to_string()
    }

    #[test]
    fn a_server_is_in_the_pool_of_all_datacenters_and_a_client_is_not() {
        let server = load_with(r#", "server": true"#).unwrap().config;
        assert_eq!(server.wan_bind().map(|a| a.port()), Some(8302));
        assert_eq!(server.wan.gossip, GossipTimes::WAN);
        assert_eq!(server.primary_datacenter, "dc1");
        assert!(!server.is_secondary());
        assert_eq!(load_with("").unwrap().config.wan_bind(), None);
        let off = load_with(r#", "server": true, "ports": {"serf_wan": -1}"#).unwrap();
        assert_eq!(off.config.wan_bind(), None);
    }

    #[test]
    fn every_setting_is_read() {
        let text = r#"{"data_dir": "/d", "bind_addr": "127.0.0.1", "server": true, "serf_wan": "127.0.0.2",
            "advertise_addr_wan": "9.9.9.9", "ports": {"serf_wan": 5}, "start_join_wan": ["a"], "retry_join_wan": ["b"],
            "retry_interval_wan": "1s", "retry_max_wan": 3, "gossip_wan": {"probe_interval": "2s", "suspicion_mult": 9},
            "reconnect_timeout_wan": "9h", "primary_datacenter": "DC9", "translate_wan_addrs": true}"#;
        let config = load_text("a.json", text).unwrap().config;
        assert_eq!(config.wan_bind(), "127.0.0.2:5".parse().ok());
        assert_eq!(config.wan_advertise(), "9.9.9.9:5".parse().ok());
        assert_eq!(
            (&config.wan.start_join[0][..], &config.wan.retry_join[0][..]),
            ("a", "b")
        );
        assert_eq!(config.wan.retry_interval, SECOND);
        assert_eq!(config.wan.retry_max, 3);
        assert_eq!(config.wan.gossip.probe_interval, SECOND * 2);
        assert_eq!(config.wan.gossip.probe_timeout, SECOND);
        assert_eq!(config.wan.gossip.suspicion_mult, 9);
        assert_eq!(config.wan.reconnect_timeout, HOUR * 9);
        assert_eq!(config.primary_datacenter, "dc9");
        assert!(config.is_secondary() && config.translate_wan_addrs);
    }

    #[test]
    fn contradictions_are_refused_and_what_a_client_cannot_do_is_named() {
        assert_eq!(
            refused(r#", "server": true, "ports": {"serf_wan": -1}, "retry_join_wan": ["a"]"#),
            "start_join_wan and retry_join_wan need the pool that 'ports.serf_wan = -1' switches off"
        );
        assert_eq!(
            refused(r#", "advertise_addr_wan": "0.0.0.0""#),
            "Advertise WAN address cannot be 0.0.0.0, :: or [::]"
        );
        assert_eq!(
            refused(r#", "primary_datacenter": "a.b""#),
            "primary_datacenter can only contain lowercase alphanumeric, - or _ characters, at most 63"
        );
        let client = load_with(r#", "retry_join_wan": ["a"]"#).unwrap();
        assert!(
            client.warnings[0].contains("only servers join"),
            "{:?}",
            client.warnings
        );
    }
}
