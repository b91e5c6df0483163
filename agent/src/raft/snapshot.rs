//! Snapshot files.
//!
//! `DATA/raft/snapshots/TERM-INDEX-SEQUENCE.snap`, named after the last entry whose effect it holds; the sequence
//! number tells apart snapshots at the same entry. Layout, with little-endian numbers:
//!
//! ```text
//! magic, u16 version, 2 zeros, u32 length, u32 CRC32C, postcard of Meta
//! u32 length (not 0), u32 CRC32C, bytes         a section, as often as needed
//! u32 0, u64 sections, u32 CRC32C               the trailer: checksum of everything before it
//! ```
//! A file is written under a temporary name, synced, renamed, and the folder synced: what has a snapshot's name is
//! whole. So damage is never the work of a crash, and is an error: an older snapshot cannot stand in, because the log
//! up to the newest one may be purged.
//!
//! Everything here blocks.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::codec::{self, WireLogId, WireStoredMembership};
use super::log::create_folder;
use super::types::{LogId, SnapshotMeta, StoredMembership};
use crate::env::{Disk, File};

mod error;
mod reader;
mod writer;

pub use error::Error;
pub use reader::SnapshotReader;
pub use writer::{SnapshotWriter, Staged};

/// Version of the files.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"ccRaftSN";

/// Bytes of the header before its body.
const PREFIX_BYTES: usize = 20;

/// Bytes of a section before its content.
const SECTION_PREFIX_BYTES: u64 = 8;

/// Bytes of the trailer.
const TRAILER_BYTES: usize = 16;

/// Longest section: what a reader may have to hold at once.
pub const SECTION_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a snapshot says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Last entry whose effect the snapshot holds.
    pub last_log_id: Option<WireLogId>,
    /// Last membership applied.
    pub last_membership: WireStoredMembership,
    /// Name of the snapshot for people: `TERM-INDEX-SEQUENCE`. Set when it is saved.
    pub id: String,
    /// What the caller needs to find again beside the state, such as the cluster id. Not looked into here.
    pub extra: Vec<u8>,
}

impl Meta {
    /// The meta data of a snapshot that is to be saved.
    pub fn new(meta: &SnapshotMeta, extra: Vec<u8>) -> Self {
        Self {
            last_log_id: meta.last_log_id.as_ref().map(WireLogId::from),
            last_membership: WireStoredMembership::from(&meta.last_membership),
            id: String::new(),
            extra,
        }
    }

    /// The form that openraft knows.
    ///
    /// # Errors
    /// The membership is not valid, which no snapshot of ours has.
    pub fn to_raft(&self) -> Result<SnapshotMeta, codec::Error> {
        Ok(SnapshotMeta {
            last_log_id: self.last_log_id.map(LogId::from),
            last_membership: StoredMembership::try_from(self.last_membership.clone())?,
        })
    }
}

/// Order of snapshots: a later entry is newer, then a later save.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    term: u64,
    index: u64,
    sequence: u64,
}

impl Name {
    fn parse(name: &OsStr) -> Option<Self> {
        let mut parts = name.to_str()?.strip_suffix(".snap")?.split('-');
        let mut number = || parts.next()?.parse().ok();
        let name = Self {
            term: number()?,
            index: number()?,
            sequence: number()?,
        };
        parts.next().is_none().then_some(name)
    }

    fn id(self) -> String {
        format!("{}-{}-{}", self.term, self.index, self.sequence)
    }

    fn file_name(self) -> String {
        format!("{}.snap", self.id())
    }
}

/// The snapshots of one server. Clones are the same folder.
#[derive(Clone)]
pub struct SnapshotStore {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    keep: usize,
    next_sequence: AtomicU64,
    /// Length of the newest one that was opened or saved.
    latest_bytes: AtomicU64,
    /// Held while names are changed, so that two saves do not clear away each other's files.
    names: Mutex<()>,
}

impl SnapshotStore {
    /// Opens `folder`, making it where there is none, and clears away what an interrupted save left. Keeps the newest
    /// two snapshots: the one before stays readable for a follower that is being sent it, and for a person.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, Error> {
        Self::open_keeping(disk, folder, 2)
    }

    /// As [`SnapshotStore::open`], keeping the newest `keep` snapshots, at least one.
    ///
    /// # Errors
    /// The disk's.
    pub fn open_keeping(disk: Arc<dyn Disk>, folder: &Path, keep: usize) -> Result<Self, Error> {
        create_folder(&*disk, folder).map_err(|source| Error::CreateFolder {
            path: folder.to_owned(),
            source: source.into(),
        })?;
        let inner = Inner {
            disk,
            folder: folder.to_owned(),
            keep: keep.max(1),
            next_sequence: AtomicU64::new(1),
            latest_bytes: AtomicU64::new(0),
            names: Mutex::new(()),
        };
        for name in inner.list()? {
            if Path::new(&name).extension() == Some(OsStr::new("tmp")) {
                inner.remove(&inner.folder.join(name))?;
            }
        }
        let last = inner.snapshots()?.iter().map(|name| name.sequence).max();
        inner.next_sequence.store(
            last.map_or(1, |last| last.saturating_add(1)),
            Ordering::Relaxed,
        );
        // A name that a killed process left in memory only may be relied on from here on.
        inner.sync_folder()?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Saves a snapshot whose sections are the items of `body`, and removes the oldest beyond those to keep.
    ///
    /// Durable on return, and then the newest one, unless one with a later last entry is there. Empty items are left
    /// out.
    ///
    /// # Errors
    /// The disk's, or a section longer than [`SECTION_BYTES_MAX`]; then no snapshot was added.
    pub fn save<I>(&self, meta: &Meta, body: I) -> Result<SnapshotFile, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut writer = self.writer(meta)?;
        for section in body {
            writer.push(section.as_ref())?;
        }
        writer.finish()
    }

    /// Begins a snapshot that arrives section by section. Nothing is saved until [`SnapshotWriter::finish`].
    ///
    /// # Errors
    /// The disk's.
    pub fn writer(&self, meta: &Meta) -> Result<SnapshotWriter, Error> {
        let sequence = self.inner.next_sequence.fetch_add(1, Ordering::Relaxed);
        let (term, index) = meta.last_log_id.map_or((0, 0), |id| (id.term, id.index));
        let name = Name {
            term,
            index,
            sequence,
        };
        let meta = Meta {
            id: name.id(),
            ..meta.clone()
        };
        SnapshotWriter::create(self.clone(), name, meta)
    }

    /// Length in bytes of the newest snapshot that was opened or saved here; 0 without one.
    pub fn latest_bytes(&self) -> u64 {
        self.inner.latest_bytes.load(Ordering::Relaxed)
    }

    /// Whether work on these files should be done by threads for it.
    pub fn wants_threads(&self) -> bool {
        self.inner.disk.wants_threads()
    }

    /// The newest snapshot. Its header and its end have been checked; the sections are while they are read.
    ///
    /// # Errors
    /// The disk's, and a newest snapshot that is damaged or newer than this program.
    pub fn latest(&self) -> Result<Option<SnapshotFile>, Error> {
        let newest = {
            // A file must not be removed between being listed and being opened.
            let _names = self.inner.lock_names();
            match self.inner.snapshots()?.last() {
                None => return Ok(None),
                Some(newest) => self.inner.open_file(*newest)?,
            }
        };
        reader::check(&newest.0, &*newest.1).map(|(meta, body_start, len)| {
            self.inner.latest_bytes.store(len, Ordering::Relaxed);
            Some(SnapshotFile {
                path: newest.0,
                file: newest.1,
                meta: Arc::new(meta),
                body_start,
                len,
            })
        })
    }
}

impl Inner {
    fn lock_names(&self) -> std::sync::MutexGuard<'_, ()> {
        // Guards no data, so a panic leaves nothing half done.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> Result<Vec<std::ffi::OsString>, Error> {
        self.disk
            .read_dir(&self.folder)
            .map_err(|source| Error::ListFolder {
                path: self.folder.clone(),
                source,
            })
    }

    /// Every snapshot, oldest first.
    fn snapshots(&self) -> Result<Vec<Name>, Error> {
        let mut names: Vec<Name> = self.list()?.iter().filter_map(|n| Name::parse(n)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn open_file(&self, name: Name) -> Result<(PathBuf, Arc<dyn File>), Error> {
        let path = self.folder.join(name.file_name());
        let file = self.disk.open(&path).map_err(|source| Error::Open {
            path: path.clone(),
            source,
        })?;
        Ok((path, file))
    }

    /// Gives a finished file its name, durably, and removes the oldest snapshots beyond those to keep.
    fn publish(&self, temporary: &Path, name: Name) -> Result<PathBuf, Error> {
        let path = self.folder.join(name.file_name());
        let _names = self.lock_names();
        self.disk
            .rename(temporary, &path)
            .map_err(|source| Error::Rename {
                path: path.clone(),
                source,
            })?;
        self.sync_folder()?;
        let snapshots = self.snapshots()?;
        for old in &snapshots[..snapshots.len().saturating_sub(self.keep)] {
            self.remove(&self.folder.join(old.file_name()))?;
        }
        Ok(path)
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        self.disk.remove_file(path).map_err(|source| Error::Remove {
            path: path.to_owned(),
            source,
        })
    }

    fn sync_folder(&self) -> Result<(), Error> {
        self.disk
            .sync_dir(&self.folder)
            .map_err(|source| Error::SyncFolder {
                path: self.folder.clone(),
                source,
            })
    }
}

/// A saved snapshot. Stays readable while it is held, also when newer ones have pushed it out. Cloning is cheap.
#[derive(Clone)]
pub struct SnapshotFile {
    path: PathBuf,
    file: Arc<dyn File>,
    meta: Arc<Meta>,
    body_start: u64,
    len: u64,
}

impl std::fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotFile")
            .field("path", &self.path)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

impl SnapshotFile {
    /// What the snapshot says of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Where it was saved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.len
    }

    /// Its sections, in order, each as it was given to [`SnapshotStore::save`].
    ///
    /// Each is checked before it is given out, the whole at the end: use what was read only when the iterator has
    /// ended without an error.
    pub fn read(&self) -> SnapshotReader {
        SnapshotReader::new(self.clone())
    }
}

fn read_exactly(path: &Path, file: &dyn File, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len];
    let read = file
        .read_at(&mut bytes, offset)
        .map_err(|source| Error::Read {
            path: path.to_owned(),
            offset,
            source,
        })?;
    if read == len {
        Ok(bytes)
    } else {
        Err(Error::corrupt(path, offset, "the file is cut short"))
    }
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests;
