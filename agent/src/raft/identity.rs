//! Who a server is to Raft: the file `raft/identity.json`.
//!
//! It lives and dies with its folder, so that an id never comes back with an empty log (DESIGN.md section 1, rule 7),
//! and so that a folder which belongs to one cluster can never be taken into another (rule 3).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::RaftId;
use crate::env::{Env, write_atomic};

const FILE: &str = "identity.json";

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    /// Random, made with the folder. Kept as text: JSON numbers lose digits beyond 2^53 in many tools.
    raft_id: String,
    /// The cluster that this folder belongs to.
    cluster_id: Option<Uuid>,
    /// The server that is to form the cluster, while `cluster_id` is only a promise.
    promised_to: Option<Uuid>,
}

/// Why the identity cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("cannot {action} {path}: {source}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error(
        "{path} is not a raft identity of this version: {reason}; put it back from a copy of the folder, or move the whole raft folder aside to let this server join anew"
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is a log, but no identity.
    #[error(
        "{0} is missing although there is raft data beside it; put it back from a copy of the folder, or move the whole raft folder aside to let this server join anew"
    )]
    Missing(PathBuf),
    /// The folder belongs to another cluster.
    #[error("this server belongs to cluster {own}, not to {other}")]
    OtherCluster {
        /// The cluster that the folder belongs to.
        own: Uuid,
        /// The cluster that was asked for.
        other: Uuid,
    },
}

/// A server's identity. Every change is on disk before it is visible.
pub struct Identity {
    env: Env,
    path: PathBuf,
    raft_id: RaftId,
    content: Mutex<Content>,
    cluster: watch::Sender<Option<Uuid>>,
}

impl Identity {
    /// Reads the identity in `folder`, or makes one where there is no raft data yet.
    ///
    /// # Errors
    /// Nothing is changed on disk when it fails.
    pub fn open(env: &Env, folder: &Path, has_raft_data: bool) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let content = if env.disk.exists(&path) {
            let bytes = env.disk.read(&path).map_err(disk("read", &path))?;
            let mut content = parse(&bytes).map_err(|reason| Error::Malformed {
                path: path.clone(),
                reason,
            })?;
            let joined = content.cluster_id.is_some() && content.promised_to.is_none();
            if joined && !has_raft_data {
                // Its log was removed, or it was never written before a crash. Nobody can tell which, and an id must
                // not come back with an empty log; a new one costs no more than being added anew.
                tracing::warn!(target: "raft", "no raft data beside {}: taking a new raft id", path.display());
                content.raft_id = new_id(env);
                save(env, &path, &content)?;
            }
            content
        } else if has_raft_data {
            return Err(Error::Missing(path));
        } else {
            let content = Content {
                version: 1,
                raft_id: new_id(env),
                cluster_id: None,
                promised_to: None,
            };
            save(env, &path, &content)?;
            content
        };
        let raft_id = content.raft_id.parse().map_err(|_| Error::Malformed {
            path: path.clone(),
            reason: format!("raft_id {:?} is not a number", content.raft_id),
        })?;
        let cluster =
            watch::Sender::new(content.cluster_id.filter(|_| content.promised_to.is_none()));
        Ok(Self {
            env: env.clone(),
            path,
            raft_id,
            content: Mutex::new(content),
            cluster,
        })
    }

    /// The id that Raft knows this server by.
    pub fn raft_id(&self) -> RaftId {
        self.raft_id
    }

    /// The cluster that this server belongs to, once that is more than a promise.
    pub fn cluster(&self) -> Option<Uuid> {
        *self.cluster.borrow()
    }

    /// Follows [`Self::cluster`].
    pub fn watch_cluster(&self) -> watch::Receiver<Option<Uuid>> {
        self.cluster.subscribe()
    }

    /// The cluster that this server has promised itself to, and the server that is to form it.
    pub fn promise(&self) -> Option<(Uuid, Uuid)> {
        let content = self.lock();
        content.cluster_id.zip(content.promised_to)
    }

    /// Belongs to `cluster` from now on. Does nothing when it already does.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] when it belongs to, or is promised to, another one.
    pub fn adopt(&self, cluster: Uuid) -> Result<(), Error> {
        // The common case, once an append: without the lock.
        if self.cluster() == Some(cluster) {
            return Ok(());
        }
        self.change(|content| match content.cluster_id {
            Some(own) if own != cluster => Err(Error::OtherCluster {
                own,
                other: cluster,
            }),
            _ => {
                content.cluster_id = Some(cluster);
                content.promised_to = None;
                Ok(())
            }
        })
    }

    /// Promises to take part in `cluster`, which `initiator` is about to form, and in no other.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] when it belongs to, or is promised to, another one.
    pub fn promise_to(&self, cluster: Uuid, initiator: Uuid) -> Result<(), Error> {
        self.change(|content| match content.cluster_id {
            Some(own) if own != cluster => Err(Error::OtherCluster {
                own,
                other: cluster,
            }),
            // Formed meanwhile: the promise is kept already.
            Some(_) if content.promised_to.is_none() => Ok(()),
            _ => {
                content.cluster_id = Some(cluster);
                content.promised_to = Some(initiator);
                Ok(())
            }
        })
    }

    /// Forgets the promise of `cluster` made to `initiator`. Does nothing where there is no such promise.
    ///
    /// # Errors
    /// When it cannot be written; the promise then stays.
    pub fn release(&self, cluster: Uuid, initiator: Uuid) -> Result<(), Error> {
        self.change(|content| {
            if content.cluster_id == Some(cluster) && content.promised_to == Some(initiator) {
                content.cluster_id = None;
                content.promised_to = None;
            }
            Ok(())
        })
    }

    fn change(&self, edit: impl FnOnce(&mut Content) -> Result<(), Error>) -> Result<(), Error> {
        let mut content = self.lock();
        let mut next = content.clone();
        edit(&mut next)?;
        if next != *content {
            save(&self.env, &self.path, &next)?;
            *content = next;
        }
        let formed = content.cluster_id.filter(|_| content.promised_to.is_none());
        self.cluster
            .send_if_modified(|cluster| std::mem::replace(cluster, formed) != formed);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

fn new_id(env: &Env) -> String {
    // Zero would be a fine id too, but is easily mistaken for "none" by a person reading logs.
    env.random.next_u64().max(1).to_string()
}

fn parse(bytes: &[u8]) -> Result<Content, String> {
    let content: Content = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if content.version != 1 {
        return Err(format!(
            "version {} is newer than this program",
            content.version
        ));
    }
    Ok(content)
}

fn save(env: &Env, path: &Path, content: &Content) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(content).expect("text and ids always encode");
    text.push(b'\n');
    write_atomic(&*env.disk, path, &text).map_err(disk("write", path))
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Disk {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn an_identity_survives_a_restart() {
        let (env, dir) = (Env::real(), folder());
        let first = Identity::open(&env, dir.path(), false).unwrap();
        let cluster = env.random.uuid();
        first.adopt(cluster).unwrap();
        let second = Identity::open(&env, dir.path(), true).unwrap();
        assert_eq!(second.raft_id(), first.raft_id());
        assert_eq!(second.cluster(), Some(cluster));
    }

    #[test]
    fn a_new_folder_gets_a_new_id() {
        let env = Env::real();
        let (a, b) = (folder(), folder());
        let a = Identity::open(&env, a.path(), false).unwrap();
        let b = Identity::open(&env, b.path(), false).unwrap();
        assert_ne!(a.raft_id(), b.raft_id());
    }

    #[test]
    fn an_id_never_comes_back_with_an_empty_log() {
        let (env, dir) = (Env::real(), folder());
        let first = Identity::open(&env, dir.path(), false).unwrap();
        let cluster = env.random.uuid();
        first.adopt(cluster).unwrap();
        let second = Identity::open(&env, dir.path(), false).unwrap();
        assert_ne!(second.raft_id(), first.raft_id());
        assert_eq!(
            second.cluster(),
            Some(cluster),
            "it still belongs to no other cluster"
        );
        let third = Identity::open(&env, dir.path(), true).unwrap();
        assert_eq!(third.raft_id(), second.raft_id());
    }

    #[test]
    fn raft_data_without_an_identity_is_refused() {
        let dir = folder();
        assert!(matches!(
            Identity::open(&Env::real(), dir.path(), true),
            Err(Error::Missing(_))
        ));
    }

    #[test]
    fn another_cluster_is_refused_and_changes_nothing() {
        let (env, dir) = (Env::real(), folder());
        let identity = Identity::open(&env, dir.path(), false).unwrap();
        let (own, other) = (env.random.uuid(), env.random.uuid());
        identity.adopt(own).unwrap();
        assert!(matches!(
            identity.adopt(other),
            Err(Error::OtherCluster { .. })
        ));
        assert!(matches!(
            identity.promise_to(other, other),
            Err(Error::OtherCluster { .. })
        ));
        assert_eq!(
            Identity::open(&env, dir.path(), true).unwrap().cluster(),
            Some(own)
        );
    }

    #[test]
    fn a_promise_binds_until_it_is_released_by_the_one_it_was_given_to() {
        let (env, dir) = (Env::real(), folder());
        let identity = Identity::open(&env, dir.path(), false).unwrap();
        let (cluster, initiator, other) = (env.random.uuid(), env.random.uuid(), env.random.uuid());
        identity.promise_to(cluster, initiator).unwrap();
        assert_eq!(identity.cluster(), None, "a promise is not yet a cluster");
        assert!(identity.promise_to(other, other).is_err());
        identity.release(cluster, other).unwrap();
        let identity = Identity::open(&env, dir.path(), false).unwrap();
        assert_eq!(identity.promise(), Some((cluster, initiator)));
        identity.release(cluster, initiator).unwrap();
        identity.promise_to(other, other).unwrap();
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let (env, dir) = (Env::real(), folder());
        let path = dir.path().join(FILE);
        for text in [
            "",
            "{",
            "{\"version\":2,\"raft_id\":\"1\",\"cluster_id\":null,\"promised_to\":null}",
        ] {
            std::fs::write(&path, text).unwrap();
            let Err(error) = Identity::open(&env, dir.path(), true) else {
                panic!("{text:?} was accepted")
            };
            assert!(error.to_string().contains("identity.json"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
