//! What is measured by looking, not by counting: gauges under Consul's names.

use super::{Node, Server};
use crate::gossip::Status;
use crate::leader::peers::server_addr;

/// A gauge's name, without `consul.`, and its value.
pub type Gauge = (&'static str, f64);

impl Node {
    /// Every gauge as it is now.
    pub fn gauges(&self) -> Vec<Gauge> {
        let members = self.members();
        let alive = members.iter().filter(|m| m.status == Status::Alive);
        let (servers, clients): (Vec<_>, Vec<_>) = alive.partition(|m| server_addr(m).is_some());
        let mut gauges = vec![
            ("members.servers", servers.len() as f64),
            ("members.clients", clients.len() as f64),
        ];
        if let Some(server) = &self.inner.server {
            gauges.extend(server.gauges(self));
        }
        gauges
    }
}

impl Server {
    fn gauges(&self, node: &Node) -> Vec<Gauge> {
        let status = self.consensus.status();
        let counts = self.shared.load().counts();
        let leads = self.consensus.leads();
        let contact = self.consensus.last_contact();
        let mut gauges = vec![
            ("server.isLeader", f64::from(u8::from(leads))),
            ("raft.applied_index", status.applied_index as f64),
            ("raft.last_index", status.last_index as f64),
            ("raft.commit_index", status.commit_index as f64),
            ("raft.peers", status.other_voters() as f64 + 1.0),
            ("raft.term", status.term as f64),
            ("state.nodes", counts.nodes as f64),
            ("state.services", counts.services as f64),
            ("state.service_instances", counts.service_instances as f64),
            ("state.kv_entries", counts.kv_entries as f64),
            ("session_ttl.active", counts.sessions as f64),
            ("rpc.queries_blocking", self.shared.waiting() as f64),
        ];
        if let Some(age) = contact.filter(|_| !leads) {
            gauges.push(("raft.last_contact_ms", age.as_secs_f64() * 1000.0));
        }
        if leads {
            let health = self.health(&status, node);
            let healthy = f64::from(u8::from(health.healthy));
            gauges.push(("autopilot.healthy", healthy));
            let tolerance = health.failure_tolerance as f64;
            gauges.push(("autopilot.failure_tolerance", tolerance));
        }
        gauges
    }
}
