//! The file that lets a restarted node find its pool again: own generation, and who was there.
//!
//! JSON, so that a person can read and mend it. A file that cannot be read is moved aside, never removed: losing it
//! costs a join by hand, not data.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::env::{Disk, Env, write_atomic};

/// Version of the format.
const VERSION: u32 = 1;

/// What is remembered over restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    version: u32,
    /// Highest generation that this node has used, or may be using.
    pub(crate) generation: u64,
    /// Whether this node left gracefully and has not been started since.
    pub(crate) left: bool,
    /// Members to contact after a restart.
    pub(crate) members: BTreeMap<Uuid, Remembered>,
}

/// Where a member was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// Its name.
    pub(crate) name: String,
    /// Where its gossip listened.
    pub(crate) addr: SocketAddr,
    /// When it was last known to be alive, Unix milliseconds.
    pub(crate) seen: u64,
}

impl Snapshot {
    /// Of a node that was never started.
    pub(crate) fn new() -> Self {
        Self {
            version: VERSION,
            generation: 0,
            left: false,
            members: BTreeMap::new(),
        }
    }

    /// The file's content.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes =
            serde_json::to_vec_pretty(self).expect("a map with text keys is always valid JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Reads a file's content.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let snapshot: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if snapshot.version == VERSION {
            Ok(snapshot)
        } else {
            Err(format!("unknown version {}", snapshot.version))
        }
    }
}

/// Reads the snapshot at `path`. One that is not there, or cannot be understood, is as if the node had never run.
pub(crate) fn load(env: &Env, path: &Path) -> io::Result<Snapshot> {
    if !env.disk.exists(path) {
        return Ok(Snapshot::new());
    }
    let bytes = env.disk.read(path)?;
    match Snapshot::decode(&bytes) {
        Ok(snapshot) => Ok(snapshot),
        Err(reason) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(format!(".corrupt-{}", env.clock.unix_ms()));
            let aside = PathBuf::from(aside);
            tracing::error!(
                target: "serf",
                "gossip snapshot cannot be read, moving it aside: path={} to={} error={reason}",
                path.display(), aside.display(),
            );
            env.disk.rename(path, &aside)?;
            Ok(Snapshot::new())
        }
    }
}

/// Writes snapshots one after the other, the newest last.
#[derive(Clone)]
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    path: Arc<Path>,
    /// Number of the newest snapshot on disk.
    written: Arc<Mutex<u64>>,
}

impl Writer {
    /// A writer for the file at `path`.
    pub(crate) fn new(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self {
            disk,
            path: path.into(),
            written: Arc::default(),
        }
    }

    /// Makes a snapshot durable, unless one with a higher number is already.
    pub(crate) async fn write(&self, number: u64, snapshot: &Snapshot) -> io::Result<()> {
        let mut written = self.written.lock().await;
        if *written >= number {
            return Ok(());
        }
        let content = snapshot.encode();
        if self.disk.wants_threads() {
            let (disk, path) = (Arc::clone(&self.disk), Arc::clone(&self.path));
            tokio::task::spawn_blocking(move || write_atomic(&*disk, &path, &content))
                .await
                .map_err(io::Error::other)??;
        } else {
            write_atomic(&*self.disk, &self.path, &content)?;
        }
        *written = number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(generation: u64) -> Snapshot {
        Snapshot {
            generation,
            members: BTreeMap::from([(
                Uuid::from_u128(2),
                Remembered {
                    name: "B".to_owned(),
                    addr: "[::1]:8301".parse().unwrap(),
                    seen: 5,
                },
            )]),
            ..Snapshot::new()
        }
    }

    #[tokio::test]
    async fn what_is_written_is_loaded() {
        let env = Env::real();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.snapshot");
        assert_eq!(load(&env, &path).unwrap(), Snapshot::new());
        let writer = Writer::new(Arc::clone(&env.disk), &path);
        writer.write(1, &snapshot(7)).await.unwrap();
        assert_eq!(load(&env, &path).unwrap(), snapshot(7));
    }

    #[tokio::test]
    async fn a_late_older_snapshot_does_not_replace_a_newer_one() {
        let env = Env::real();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.snapshot");
        let writer = Writer::new(Arc::clone(&env.disk), &path);
        writer.write(2, &snapshot(8)).await.unwrap();
        writer.write(1, &snapshot(7)).await.unwrap();
        assert_eq!(load(&env, &path).unwrap().generation, 8);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_moved_aside() {
        let env = Env::real();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.snapshot");
        for content in [
            "",
            "garbage",
            "{\"version\":9,\"generation\":1,\"left\":false,\"members\":{}}",
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(load(&env, &path).unwrap(), Snapshot::new());
            assert!(!path.exists());
            let aside: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
            let aside = aside.into_iter().next().unwrap().unwrap().path();
            assert_eq!(std::fs::read_to_string(&aside).unwrap(), content);
            std::fs::remove_file(aside).unwrap();
        }
    }
}
