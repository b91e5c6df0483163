//! The blocks that `info` prints.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Node, Server};
use crate::config::Bootstrap;
use crate::leader::peers::server_addr;

type Block = BTreeMap<String, String>;

fn block<const N: usize>(pairs: [(&str, String); N]) -> Block {
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

/// Everything `info` shows, by block and key.
pub(super) fn info(node: &Node) -> BTreeMap<String, Block> {
    let config = node.config();
    let mut blocks = BTreeMap::from([
        (
            "build".to_owned(),
            block([
                ("prerelease", String::new()),
                ("revision", crate::REVISION.to_owned()),
                ("version", crate::VERSION.to_owned()),
                (
                    "version_metadata",
                    format!("agent {}", env!("CARGO_PKG_VERSION")),
                ),
            ]),
        ),
        ("runtime".to_owned(), runtime()),
        ("serf_lan".to_owned(), node.inner.gossip.stats()),
    ]);
    let digest = node.inner.tls.digest();
    if !digest.is_empty() {
        // Not Consul's: by it the operator sees which certificates are in force.
        blocks.insert("tls".to_owned(), block([("files_sha256", digest)]));
    }
    let consul = match &node.inner.server {
        Some(server) => {
            let mut raft = raft(server);
            raft.append(&mut super::space::block(server));
            blocks.insert("raft".to_owned(), raft);
            let status = server.consensus.status();
            let cluster = server.consensus.identity().cluster();
            let mut consul = block([
                ("acl", "disabled".to_owned()),
                (
                    "bootstrap",
                    (config.bootstrap == Bootstrap::Alone).to_string(),
                ),
                (
                    "cluster_id",
                    cluster.map_or_else(String::new, |id| id.to_string()),
                ),
                ("known_datacenters", node.known_datacenters().to_string()),
                ("leader", status.is_leader().to_string()),
                (
                    "leader_addr",
                    server
                        .leader_address()
                        .map_or_else(String::new, |addr| addr.to_string()),
                ),
                ("server", "true".to_owned()),
            ]);
            consul.append(&mut node.inner.dropped.counts());
            consul
        }
        None => block([
            ("acl", "disabled".to_owned()),
            (
                "known_servers",
                node.members()
                    .iter()
                    .filter(|m| server_addr(m).is_some())
                    .count()
                    .to_string(),
            ),
            ("server", "false".to_owned()),
        ]),
    };
    blocks.insert("consul".to_owned(), consul);
    if let Some(wan) = &node.inner.wan {
        blocks.insert("serf_wan".to_owned(), wan.gossip.stats());
    }
    blocks
}

fn raft(server: &Server) -> Block {
    let status = server.consensus.status();
    let (snapshot_index, snapshot_term) = status.snapshot.unwrap_or((0, 0));
    let last_contact = match server.consensus.last_contact() {
        _ if status.is_leader() => "0".to_owned(),
        None => "never".to_owned(),
        Some(age) => format!("{:?}", Duration::from_millis(age.as_millis() as u64)),
    };
    let latest: Vec<String> = status
        .peers
        .iter()
        .map(|(id, node)| {
            let suffrage = if status.voters.contains(id) {
                "Voter"
            } else {
                "Nonvoter"
            };
            format!(
                "{{Suffrage:{suffrage} ID:{} Address:{}}}",
                node.node_id, node.addr
            )
        })
        .collect();
    block([
        ("applied_index", status.applied_index.to_string()),
        ("commit_index", status.commit_index.to_string()),
        (
            "fsm_pending",
            status
                .commit_index
                .saturating_sub(status.applied_index)
                .to_string(),
        ),
        ("last_contact", last_contact),
        ("last_log_index", status.last_index.to_string()),
        ("last_log_term", status.log_term.to_string()),
        ("last_snapshot_index", snapshot_index.to_string()),
        ("last_snapshot_term", snapshot_term.to_string()),
        ("latest_configuration", format!("[{}]", latest.join(" "))),
        (
            "latest_configuration_index",
            status.membership_index.to_string(),
        ),
        ("num_peers", status.other_voters().to_string()),
        ("protocol_version", "3".to_owned()),
        ("protocol_version_max", "3".to_owned()),
        ("protocol_version_min", "0".to_owned()),
        ("raft_id", status.id.to_string()),
        ("snapshot_version_max", "1".to_owned()),
        ("snapshot_version_min", "0".to_owned()),
        ("state", status.role.to_string()),
        ("term", status.term.to_string()),
    ])
}

fn runtime() -> Block {
    let workers =
        tokio::runtime::Handle::try_current().map_or(0, |handle| handle.metrics().num_workers());
    let tasks = tokio::runtime::Handle::try_current()
        .map_or(0, |handle| handle.metrics().num_alive_tasks());
    block([
        ("arch", std::env::consts::ARCH.to_owned()),
        (
            "cpu_count",
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .to_string(),
        ),
        // The nearest thing to what Consul counts here.
        ("goroutines", tasks.to_string()),
        ("max_procs", workers.to_string()),
        ("os", std::env::consts::OS.to_owned()),
        (
            "version",
            format!("rust {}", env!("CARGO_PKG_RUST_VERSION")),
        ),
    ])
}
