//! Recovery from lost quorum by hand: `raft/peers.json`, as Consul documents it.
//!
//! All servers are stopped, the file is put into each one's `raft/` folder, all are started. Each then takes what it
//! has as committed, with the servers of the file as its configuration.
//!
//! Where nobody can reach the disk, the configuration says the same of one server: [`QuorumRecovery`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft::{EntryPayload, Membership};
use serde::Deserialize;
use uuid::Uuid;

use super::identity::Identity;
use super::log::LogStore;
use super::snapshot::SnapshotStore;
use super::state_machine::{load, save};
use super::types::{LogId, SnapshotMeta, StoredMembership};
use super::{PeerNode, RaftId};
use crate::env::{Env, write_atomic};
use crate::state::{Stamped, Store};

const FILE: &str = "peers.json";

/// Its presence says that this server has run before, so that a `peers.json` is meant for it.
const INFO: &str = "peers.info";

const INFO_TEXT: &str = "\
If every server is stopped and a quorum of them is lost for good, put a file named
peers.json into this folder on each remaining server and start them again:

[
  { \"id\": \"<content of node-id in the data dir>\", \"address\": \"10.1.0.1:8300\", \"non_voter\": false }
]

It lists the servers that remain, the same on each. What this server has in its log then
counts as committed. The file is renamed once it has been followed. It is ignored on a
server that has never run before, which is what this file's presence tells apart.
";

/// Entries read at a time.
const STEP: u64 = 1024;

/// An order to go on alone, for the very log that a person has looked at.
///
/// It is for one raft folder and one end of its log. Whoever follows it leads next, and its first entry makes the log
/// longer: so it is followed once, however long it stays where it was written, and never by another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumRecovery {
    /// Cluster that the folder belongs to, and stays in.
    pub cluster: Uuid,
    /// Raft id of the folder, as `info` shows it.
    pub raft_id: RaftId,
    /// Term of the last entry of its log.
    pub last_log_term: u64,
    /// Index of that entry.
    pub last_log_index: u64,
    /// Address that the server is reached at now.
    pub address: SocketAddr,
}

/// Why `peers.json` was not followed. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("cannot {action} {path}: {source}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what the documentation says.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where there is one.
        reason: String,
    },
    /// The log or the snapshot cannot be read or written.
    #[error("cannot follow peers.json: {0}")]
    Storage(#[source] io::Error),
}

/// One server of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Listed {
    /// Raft protocol 3.
    Server {
        id: Uuid,
        address: SocketAddr,
        #[serde(default)]
        non_voter: bool,
    },
    /// Raft protocol 2.
    Address(SocketAddr),
}

/// Follows `peers.json` in `folder`, if there is one.
///
/// # Errors
/// The file and the data stay as they were.
pub(super) async fn recover(
    env: &Env,
    folder: &Path,
    identity: &Identity,
    mut log: LogStore,
    snapshots: &SnapshotStore,
    order: Option<QuorumRecovery>,
) -> Result<LogStore, Error> {
    let (path, info) = (folder.join(FILE), folder.join(INFO));
    let ran_before = env.disk.exists(&info);
    if !ran_before {
        write_atomic(&*env.disk, &info, INFO_TEXT.as_bytes()).map_err(disk("write", &info))?;
    }
    if !env.disk.exists(&path) {
        if let Some(order) = order.filter(|order| order.is_for(identity)) {
            follow(order, &mut log, snapshots).await?;
        }
        return Ok(log);
    }
    if !ran_before {
        tracing::warn!(target: "consul", "ignoring {}: this server has never run before", path.display());
        set_aside(env, &path, "ignored")?;
        return Ok(log);
    }
    tracing::info!(target: "consul", "found peers.json file, recovering Raft configuration...");
    let bytes = env.disk.read(&path).map_err(disk("read", &path))?;
    let malformed = |reason: String| Error::Malformed {
        path: path.clone(),
        reason,
    };
    let listed = parse(&bytes).map_err(malformed)?;
    let mut replayed = Replayed::read(&mut log, snapshots)
        .await
        .map_err(Error::Storage)?;
    let membership = membership(&listed, &replayed.known, identity.raft_id()).map_err(malformed)?;
    let Some(last) = replayed.last else {
        return Err(malformed(
            "this server has no raft data to recover from".to_owned(),
        ));
    };
    replayed.membership = StoredMembership::new(Some(last), membership);
    replayed
        .write(last, &mut log, snapshots)
        .await
        .map_err(Error::Storage)?;
    set_aside(env, &path, "applied")?;
    tracing::info!(target: "consul", "followed peers.json and renamed it");
    Ok(log)
}

impl QuorumRecovery {
    fn is_for(&self, identity: &Identity) -> bool {
        identity.raft_id() == self.raft_id && identity.cluster() == Some(self.cluster)
    }
}

/// Follows the order, if the log is still the one that it is for.
async fn follow(
    order: QuorumRecovery,
    log: &mut LogStore,
    snapshots: &SnapshotStore,
) -> Result<(), Error> {
    let end = log
        .get_log_state()
        .await
        .map_err(Error::Storage)?
        .last_log_id;
    let found = end.map_or((0, 0), |id| (id.leader_id.term, id.index));
    if found != (order.last_log_term, order.last_log_index) {
        tracing::info!(
            target: "consul",
            "quorum_recovery is for a log that ends at {}-{}, this one ends at {}-{}: not followed",
            order.last_log_term, order.last_log_index, found.0, found.1
        );
        return Ok(());
    }
    let mut replayed = Replayed::read(log, snapshots)
        .await
        .map_err(Error::Storage)?;
    let own = replayed.known.get(&order.raft_id).cloned();
    let (Some(last), Some(node)) = (replayed.last, own) else {
        tracing::warn!(target: "consul", "quorum_recovery: this server was never in the configuration: not followed");
        return Ok(());
    };
    let addr = order.address;
    let nodes = BTreeMap::from([(order.raft_id, PeerNode { addr, ..node })]);
    let membership = Membership::new(vec![BTreeSet::from([order.raft_id])], nodes)
        .map_err(|e| Error::Storage(io::Error::other(e)))?;
    replayed.membership = StoredMembership::new(Some(last), membership);
    replayed
        .write(last, log, snapshots)
        .await
        .map_err(Error::Storage)?;
    tracing::warn!(target: "consul", "followed quorum_recovery: this server is the only voter now, with all of its log");
    Ok(())
}

fn set_aside(env: &Env, path: &Path, why: &str) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{why}-{}", env.clock.unix_ms()));
    env.disk
        .rename(path, Path::new(&name))
        .map_err(disk("rename", path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    env.disk.sync_dir(folder).map_err(disk("sync", folder))
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Disk {
        action,
        path,
        source,
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Listed>, String> {
    let listed: Vec<Listed> = serde_json::from_slice(bytes).map_err(|e| {
        format!("{e}; expected a list of {{\"id\": NODE-ID, \"address\": \"IP:PORT\", \"non_voter\": false}}")
    })?;
    if !listed.iter().any(|l| {
        !matches!(
            l,
            Listed::Server {
                non_voter: true,
                ..
            }
        )
    }) {
        return Err("it lists no server that votes".to_owned());
    }
    Ok(listed)
}

/// The configuration that the file asks for. Raft ids come from what this server has seen: the file has node ids.
fn membership(
    listed: &[Listed],
    known: &BTreeMap<RaftId, PeerNode>,
    own: RaftId,
) -> Result<Membership<RaftId, PeerNode>, String> {
    let mut voters = BTreeSet::new();
    let mut nodes = BTreeMap::new();
    for server in listed {
        let (found, address, votes) = match server {
            Listed::Server {
                id,
                address,
                non_voter,
            } => {
                // The newest seat of a node: an earlier one was given up with its raft folder.
                (
                    known.iter().rfind(|(_, node)| node.node_id == *id),
                    *address,
                    !non_voter,
                )
            }
            Listed::Address(address) => (
                known.iter().find(|(_, node)| node.addr == *address),
                *address,
                true,
            ),
        };
        let Some((&raft_id, node)) = found else {
            return Err(format!(
                "{server:?} is not a server that this one has ever had in its configuration"
            ));
        };
        if votes {
            voters.insert(raft_id);
        }
        nodes.insert(
            raft_id,
            PeerNode {
                addr: address,
                ..node.clone()
            },
        );
    }
    if !nodes.contains_key(&own) {
        return Err("it does not list this server".to_owned());
    }
    Membership::new(vec![voters], nodes).map_err(|e| e.to_string())
}

/// What snapshot and log together say.
struct Replayed {
    store: Store,
    last: Option<LogId>,
    membership: StoredMembership,
    /// Every server of the last configuration, and of those before it.
    known: BTreeMap<RaftId, PeerNode>,
}

impl Replayed {
    async fn read(log: &mut LogStore, snapshots: &SnapshotStore) -> io::Result<Self> {
        let mut replayed = Self {
            store: Store::default(),
            last: None,
            membership: StoredMembership::default(),
            known: BTreeMap::new(),
        };
        if let Some(file) = snapshots.latest().map_err(io::Error::other)? {
            let meta = file.meta().to_raft().map_err(io::Error::other)?;
            replayed.store = load(&file)?;
            replayed.last = meta.last_log_id;
            replayed.see(meta.last_membership);
        }
        let state = log.get_log_state().await?;
        let mut next = replayed.last.map_or(0, |id| id.index + 1);
        let end = state.last_log_id.map_or(0, |id| id.index + 1);
        while next < end {
            let upto = end.min(next + STEP);
            for entry in log
                .get_log_reader()
                .await
                .try_get_log_entries(next..upto)
                .await?
            {
                replayed.last = Some(entry.log_id);
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Membership(m) => {
                        replayed.see(StoredMembership::new(Some(entry.log_id), m))
                    }
                    EntryPayload::Normal(payload) => {
                        let stamped = Stamped::decode(&payload.0).map_err(io::Error::other)?;
                        replayed.store.apply(entry.log_id.index, &stamped);
                    }
                }
            }
            next = upto;
        }
        Ok(replayed)
    }

    fn see(&mut self, membership: StoredMembership) {
        self.known
            .extend(membership.nodes().map(|(id, node)| (*id, node.clone())));
        self.membership = membership;
    }

    /// The snapshot first: a crash before the purge leaves the same outcome to the next try.
    async fn write(
        &self,
        last: LogId,
        log: &mut LogStore,
        snapshots: &SnapshotStore,
    ) -> io::Result<()> {
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            last_membership: self.membership.clone(),
        };
        save(snapshots, &meta, &self.store, &AtomicBool::new(false))?;
        log.purge(last).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeMap<RaftId, PeerNode> {
        (1..=3u64)
            .map(|n| {
                let node = PeerNode {
                    node_id: Uuid::from_u128(n.into()),
                    name: format!("s{n}"),
                    addr: ([127, 0, 0, n as u8], 8300).into(),
                };
                (n * 100, node)
            })
            .collect()
    }

    #[test]
    fn both_forms_of_the_file_name_servers_that_were_seen() {
        let ids = r#"[{"id":"00000000-0000-0000-0000-000000000001","address":"127.0.0.9:8300"},
                      {"id":"00000000-0000-0000-0000-000000000002","address":"127.0.0.2:8300","non_voter":true}]"#;
        let found = membership(&parse(ids.as_bytes()).unwrap(), &known(), 100).unwrap();
        assert_eq!(found.voter_ids().collect::<Vec<_>>(), [100]);
        assert_eq!(
            found.get_node(&100).unwrap().addr.to_string(),
            "127.0.0.9:8300"
        );
        let addresses = r#"["127.0.0.1:8300", "127.0.0.3:8300"]"#;
        let found = membership(&parse(addresses.as_bytes()).unwrap(), &known(), 100).unwrap();
        assert_eq!(found.voter_ids().collect::<Vec<_>>(), [100, 300]);
    }

    #[test]
    fn a_file_that_cannot_be_meant_for_this_server_is_refused() {
        for (text, says) in [
            ("{}", "expected a list"),
            ("[{\"id\": 3}]", "expected a list"),
            ("[]", "no server that votes"),
            ("[\"127.0.0.2:8300\"]", "does not list this server"),
            ("[\"127.0.0.8:8300\"]", "ever had in its configuration"),
        ] {
            let error = parse(text.as_bytes())
                .and_then(|listed| membership(&listed, &known(), 100))
                .unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
