//! The folder of a local cluster: what is kept in it besides the agents' data, and who works in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::process::Identity;
use crate::crd::ConsulCluster;
use crate::observe::{Latch, RaftData};

const STATE: &str = "state.json";
const LOCK: &str = "lock";

/// What the name of a folder that was moved aside begins with; a token may follow, and then the time.
const ASIDE: &str = "raft.aside-";
/// What ends the token: a character that no token has.
const TOKEN_END: char = '@';

/// What the operator keeps between runs. A cache: who runs is found in `/proc`, and whether a cluster was formed is
/// told by the servers' own data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Record of the bootstrap.
    #[serde(default)]
    pub bootstrap: Latch,
    /// Address of the first server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<std::net::Ipv4Addr>,
    /// The agent's binary, whose name agents are known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<PathBuf>,
    /// The resource as it was last acted on, with its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ConsulCluster>,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else is at work.
    #[error("another operator is at work in {}; stop it first", .0.display())]
    Locked(PathBuf),
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Disk {
        action,
        path,
        source,
    }
}

/// The folder of one cluster.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// Held for as long as somebody works in it.
    _lock: Option<File>,
}

impl Store {
    /// Makes the folder if need be, and locks it until this value is dropped.
    ///
    /// # Errors
    /// It cannot be made, or another operator works in it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(disk("create", dir))?;
        let dir = fs::canonicalize(dir).map_err(disk("resolve", dir))?;
        let path = dir.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(disk("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Store {
                dir,
                _lock: Some(lock),
            }),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked(dir)),
            Err(fs::TryLockError::Error(source)) => Err(StoreError::Disk {
                action: "lock",
                path,
                source,
            }),
        }
    }

    /// Opens a folder that exists, to look only.
    ///
    /// # Errors
    /// There is none.
    pub fn look(dir: &Path) -> Result<Self, StoreError> {
        let dir = fs::canonicalize(dir).map_err(disk("open", dir))?;
        Ok(Store { dir, _lock: None })
    }

    /// The folder, absolute and without links.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Data dir of that agent.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Log of that agent.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// What was kept. An unreadable file counts as none: it is a cache.
    pub fn load(&self) -> State {
        let text = fs::read(self.dir.join(STATE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Keeps the state: whole or not at all, and on disk when this returns.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, state: &State) -> Result<(), StoreError> {
        let path = self.dir.join(STATE);
        let mut text = serde_json::to_vec_pretty(state).expect("plain data always encodes");
        text.push(b'\n');
        self.write(&path, &text)
    }

    /// Writes the agents' configuration file of that revision, once.
    ///
    /// # Errors
    /// The file system's.
    pub fn config(&self, revision: &str, text: &[u8]) -> Result<PathBuf, StoreError> {
        let path = self.dir.join(format!("config-{revision}.json"));
        if fs::read(&path).ok().as_deref() != Some(text) {
            self.write(&path, text)?;
        }
        Ok(path)
    }

    fn write(&self, path: &Path, text: &[u8]) -> Result<(), StoreError> {
        let temporary = path.with_extension("tmp");
        let whole = || {
            let mut file = File::create(&temporary)?;
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(&self.dir)?.sync_all()
        };
        whole().map_err(disk("write", path))
    }

    /// Notes that this process was told to stop: a second signal would cut its leave short. Quick rather than durable:
    /// the process does not outlive the machine either.
    ///
    /// # Errors
    /// The file system's.
    pub fn note_stopping(&self, name: &str, process: Identity) -> Result<(), StoreError> {
        let path = self.dir.join(format!("{name}.stopping"));
        let text = serde_json::to_vec(&process).expect("plain data always encodes");
        fs::write(&path, text).map_err(disk("write", &path))
    }

    /// Whether this process was told to stop, by this operator or one before it.
    pub fn is_stopping(&self, name: &str, process: Identity) -> bool {
        let text = fs::read(self.dir.join(format!("{name}.stopping"))).unwrap_or_default();
        serde_json::from_slice(&text).is_ok_and(|noted: Identity| noted == process)
    }

    /// What is in a server's `raft/` folder, as far as can be told without its agent.
    pub fn raft_data(&self, name: &str) -> RaftData {
        #[derive(Deserialize)]
        struct Identity {
            cluster_id: Option<uuid::Uuid>,
            promised_to: Option<uuid::Uuid>,
        }
        let raft = self.data(name).join("raft");
        if !raft.exists() {
            return RaftData::Absent;
        }
        let identity = fs::read(raft.join("identity.json")).ok();
        match identity.and_then(|text| serde_json::from_slice::<Identity>(&text).ok()) {
            // A server belongs to a cluster before its first record of that cluster is written.
            Some(Identity {
                cluster_id: None,
                promised_to: None,
            }) => RaftData::Blank,
            Some(_) => RaftData::Present,
            None if fs::read_dir(&raft).is_ok_and(|mut entries| entries.next().is_none()) => {
                RaftData::Blank
            }
            None => RaftData::Present,
        }
    }

    /// Moves a server's `raft/` folder aside. Nothing is deleted: the new name tells when.
    ///
    /// # Errors
    /// The file system's.
    pub fn move_aside(&self, name: &str, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
        self.move_raft(name, ASIDE, now)
    }

    /// The same, on a token of a person's, unless something was moved on it before.
    ///
    /// # Errors
    /// The file system's.
    pub fn move_aside_on(
        &self,
        name: &str,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<PathBuf>, StoreError> {
        if self.moved_aside(name).iter().any(|moved| moved == token) {
            return Ok(None);
        }
        self.move_raft(name, &format!("{ASIDE}{token}{TOKEN_END}"), now)
    }

    /// Tokens on which that server's folder was moved aside.
    pub fn moved_aside(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.data(name))
            .into_iter()
            .flatten()
            .flatten();
        let token = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let (token, _time) = name.strip_prefix(ASIDE)?.split_once(TOKEN_END)?;
            Some(token.to_owned())
        };
        let mut tokens: Vec<_> = entries.filter_map(token).collect();
        tokens.sort();
        tokens
    }

    /// Puts a `peers.json` into that server's `raft/` folder. It must not run.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_peers(&self, name: &str, text: &[u8]) -> Result<(), StoreError> {
        let raft = self.data(name).join("raft");
        self.write(&raft.join("peers.json"), text)?;
        let synced = File::open(&raft).and_then(|folder| folder.sync_all());
        synced.map_err(disk("sync", &raft))
    }

    fn move_raft(
        &self,
        name: &str,
        begin: &str,
        now: Timestamp,
    ) -> Result<Option<PathBuf>, StoreError> {
        let data = self.data(name);
        let raft = data.join("raft");
        if !raft.exists() {
            return Ok(None);
        }
        let time = now.strftime("%Y-%m-%dT%H-%M-%S.%3fZ").to_string();
        let aside = data.join(format!("{begin}{time}"));
        let moved = || {
            fs::rename(&raft, &aside)?;
            File::open(&data)?.sync_all()
        };
        moved().map_err(disk("move aside", &raft))?;
        Ok(Some(aside))
    }

    /// Names of agents that have a data dir here and whose name begins so.
    pub fn agents(&self, begin: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let names = dirs.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(begin)).collect();
        names.sort();
        names
    }

    /// Removes the folder with all that is in it.
    ///
    /// # Errors
    /// The file system's; part of it may be gone then.
    pub fn destroy(self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.dir).map_err(disk("remove", &self.dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("c")).unwrap();
        (dir, store)
    }

    #[test]
    fn a_state_comes_back_and_a_broken_one_counts_as_none() {
        let (_dir, store) = store();
        assert_eq!(store.load(), State::default());
        let state = State {
            bootstrap: Latch::Reserved("a".into()),
            ..State::default()
        };
        store.save(&state).unwrap();
        assert_eq!(store.load(), state);
        fs::write(store.dir().join(STATE), "{").unwrap();
        assert_eq!(store.load(), State::default());
    }

    #[test]
    fn two_operators_do_not_work_in_one_folder() {
        let (_dir, store) = store();
        assert!(matches!(
            Store::open(store.dir()),
            Err(StoreError::Locked(_))
        ));
        let path = store.dir().to_owned();
        drop(store);
        assert!(Store::open(&path).is_ok());
    }

    #[test]
    fn raft_data_is_told_apart() {
        let (_dir, store) = store();
        assert_eq!(store.raft_data("a"), RaftData::Absent);
        let raft = store.data("a").join("raft");
        fs::create_dir_all(&raft).unwrap();
        assert_eq!(store.raft_data("a"), RaftData::Blank);
        let identity = raft.join("identity.json");
        fs::write(
            &identity,
            r#"{"version":1,"raft_id":"7","cluster_id":null,"promised_to":null}"#,
        )
        .unwrap();
        assert_eq!(store.raft_data("a"), RaftData::Blank);
        fs::write(&identity, r#"{"version":1,"raft_id":"7","cluster_id":"00000000-0000-0000-0000-00000000000a","promised_to":null}"#).unwrap();
        assert_eq!(store.raft_data("a"), RaftData::Present);
        fs::write(&identity, "{").unwrap();
        assert_eq!(
            store.raft_data("a"),
            RaftData::Present,
            "what cannot be told may be a cluster's"
        );
    }

    #[test]
    fn moving_aside_keeps_everything_under_a_name_with_the_time() {
        let (_dir, store) = store();
        let raft = store.data("a").join("raft");
        fs::create_dir_all(&raft).unwrap();
        fs::write(raft.join("log"), "x").unwrap();
        let aside = store
            .move_aside("a", Timestamp::UNIX_EPOCH)
            .unwrap()
            .unwrap();
        assert_eq!(
            aside.file_name().unwrap(),
            "raft.aside-1970-01-01T00-00-00.000Z"
        );
        assert_eq!(fs::read_to_string(aside.join("log")).unwrap(), "x");
        assert_eq!(store.move_aside("a", Timestamp::UNIX_EPOCH).unwrap(), None);
    }

    #[test]
    fn a_note_about_stopping_is_about_one_process() {
        let (_dir, store) = store();
        let process = Identity { pid: 7, started: 1 };
        store.note_stopping("a", process).unwrap();
        assert!(store.is_stopping("a", process));
        assert!(!store.is_stopping(
            "a",
            Identity {
                started: 2,
                ..process
            }
        ));
        assert!(!store.is_stopping("b", process));
    }
}
