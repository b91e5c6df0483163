//! Timing of gossip, in the local network and between datacenters. Pure.

use std::time::Duration;

use super::Error;
use super::build::{MILLISECOND, at_least, invalid, within};
use super::layer::GossipLayer;
use crate::duration::GoDuration;

/// Timing of gossip: blocks `gossip_lan` and `gossip_wan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GossipTimes {
    /// Time between two rounds of gossip. At least 1ms. Default 200ms, between datacenters 500ms.
    pub gossip_interval: Duration,
    /// Time between two probes of a random member. At least 1ms. Default 1s, between datacenters 5s.
    pub probe_interval: Duration,
    /// How long a direct probe may take before indirect ones are sent. Below `probe_interval`. Default 500ms, between
    /// datacenters 3s.
    pub probe_timeout: Duration,
    /// Times the logarithm of the number of members times `probe_interval` until a suspect counts as failed. At least
    /// 1. Default 4, between datacenters 6.
    pub suspicion_mult: u32,
}

impl GossipTimes {
    /// Consul's for a local network.
    pub const LAN: Self = Self {
        gossip_interval: Duration::from_millis(200),
        probe_interval: Duration::from_secs(1),
        probe_timeout: Duration::from_millis(500),
        suspicion_mult: 4,
    };
    /// Consul's between datacenters.
    pub const WAN: Self = Self {
        gossip_interval: Duration::from_millis(500),
        probe_interval: Duration::from_secs(5),
        probe_timeout: Duration::from_secs(3),
        suspicion_mult: 6,
    };

    /// What the block `name` says over these.
    pub(super) fn with(self, name: &str, block: &GossipLayer) -> Result<Self, Error> {
        let time = |key: &str, value, default| {
            at_least(&format!("{name}.{key}"), value, default, MILLISECOND)
        };
        let interval = time("probe_interval", block.probe_interval, self.probe_interval)?;
        // A shorter interval alone must not contradict the default time.
        let timeout = self
            .probe_timeout
            .min(interval / 2)
            .max(Duration::from_nanos(1));
        let default = match interval == self.probe_interval {
            true => self.probe_timeout,
            false => timeout,
        };
        let timeout = block.probe_timeout.map_or(default, |GoDuration(d)| d);
        if timeout >= interval || timeout.is_zero() {
            return invalid(format!(
                "{name}.probe_timeout must be above zero and below {name}.probe_interval"
            ));
        }
        let mult = block.suspicion_mult;
        Ok(Self {
            gossip_interval: time(
                "gossip_interval",
                block.gossip_interval,
                self.gossip_interval,
            )?,
            probe_interval: interval,
            probe_timeout: timeout,
            suspicion_mult: within(
                &format!("{name}.suspicion_mult"),
                mult,
                self.suspicion_mult,
                1,
                1000,
            )?,
        })
    }
}
