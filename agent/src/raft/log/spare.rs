//! New segment files: made ahead of need, filled with zeros, so that a commit only overwrites.
//!
//! Syncing a write into a part of a file that exists already takes about two thirds of the time that syncing a
//! growing file takes, for the file system has nothing of its own to write. Files whose entries are purged are used
//! again for the same reason. None of this matters for correctness: what a spare file holds is never read as records
//! (see `record`), and a segment may begin in a new, empty file at any time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::Error;
use super::segment::{self, Header, Segment};
use super::space::{Space, is_full};
use crate::env::{Disk, File};

/// Zeros written at once while a file is made.
const FILL_BYTES: usize = 256 * 1024;

/// Fills up to this size are done at once, longer ones by a thread of their own where there may be one.
pub(super) const INLINE_FILL_BYTES: u64 = 1024 * 1024;

/// Time between two tries to prepare a segment on a full disk.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Makes segment files, and keeps at most one ready.
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment_bytes: u64,
    ready: bool,
    preparing: Option<JoinHandle<io::Result<()>>>,
    /// Whether preparing failed for another reason than a full disk: not tried again before the file is needed.
    given_up: bool,
    stop: Arc<AtomicBool>,
    space: Space,
}

impl Spares {
    /// Removes what an interrupted preparation left, and takes over a spare file of the right size.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        segment_bytes: u64,
        space: Space,
    ) -> Result<Self, Error> {
        let mut spares = Self {
            disk,
            folder,
            segment_bytes,
            ready: false,
            preparing: None,
            given_up: false,
            stop: Arc::default(),
            space,
        };
        for path in [spares.preparing_path(), spares.next_path()] {
            if spares.disk.exists(&path) {
                remove(&*spares.disk, &path)?;
            }
        }
        let path = spares.spare_path();
        if spares.disk.exists(&path) {
            let len = spares.disk.open(&path).and_then(|file| file.len());
            if len.is_ok_and(|len| len == segment_bytes) {
                spares.ready = true;
            } else {
                remove(&*spares.disk, &path)?;
            }
        }
        Ok(spares)
    }

    /// Makes sure that a file is ready or being made. On a full disk it is tried until there is room, which
    /// [`Space`] hears of; what else fails is no harm yet, for it is tried again at need.
    pub(super) fn prepare(&mut self) {
        self.collect();
        let needed = !self.ready && self.preparing.is_none() && !self.given_up;
        if !needed || !self.disk.wants_threads() {
            return;
        }
        let preparation = Preparation {
            disk: self.disk.clone(),
            temporary: self.preparing_path(),
            spare: self.spare_path(),
            bytes: self.segment_bytes,
            stop: self.stop.clone(),
            space: self.space.clone(),
        };
        let task = move || preparation.run();
        let thread = std::thread::Builder::new().name("wal-prepare".to_owned());
        match thread.spawn(task) {
            Ok(handle) => self.preparing = Some(handle),
            Err(error) => {
                self.given_up = true;
                tracing::warn!(target: "raft", %error, "cannot prepare a log segment");
            }
        }
    }

    /// Takes note of a preparation that has ended.
    fn collect(&mut self) {
        let Some(handle) = self.preparing.take_if(|handle| handle.is_finished()) else {
            return;
        };
        match handle.join() {
            Ok(Ok(())) => self.ready = true,
            Ok(Err(error)) => {
                self.given_up = true;
                tracing::warn!(target: "raft", %error, "cannot prepare a log segment");
            }
            Err(_) => tracing::error!(target: "raft", "preparing a log segment panicked"),
        }
    }

    /// Makes the segment that `header` describes, durable with its name.
    pub(super) fn make(&mut self, header: &Header) -> Result<Segment, Error> {
        self.collect();
        self.given_up = false;
        let path = segment::path(&self.folder, header.number);
        let failed = |source| Error::CreateSegment {
            path: path.clone(),
            source,
        };
        let temporary = if std::mem::take(&mut self.ready) {
            self.spare_path()
        } else {
            self.next_path()
        };
        let file = if temporary == self.spare_path() {
            self.disk.open(&temporary).map_err(failed)?
        } else {
            let file = self.disk.create(&temporary).map_err(failed)?;
            // A thread does the long fills; until it has, commits are a little slower.
            if header.limit <= INLINE_FILL_BYTES || !self.disk.wants_threads() {
                fill(&*file, header.limit, &self.stop).map_err(failed)?;
            } else {
                file.reserve(header.limit).map_err(failed)?;
            }
            file
        };
        file.write_all_at(&header.encode(), 0).map_err(failed)?;
        // Before the name is there: a segment with that name always has a valid header.
        file.sync_data().map_err(|source| Error::SyncSegment {
            path: path.clone(),
            source,
        })?;
        self.disk.rename(&temporary, &path).map_err(failed)?;
        sync_folder(&*self.disk, &self.folder)?;
        Ok(Segment {
            path,
            file,
            nonce: header.nonce,
            number: header.number,
        })
    }

    /// Puts away a segment that is not needed any more: keeps its file as the spare one, or removes it.
    ///
    /// Durable on return: used again under another name, the file must not come back under this one.
    pub(super) fn recycle(&mut self, segment: &Segment) -> Result<(), Error> {
        self.collect();
        let failed = |source| Error::RemoveSegment {
            path: segment.path.clone(),
            source,
        };
        let len = segment.file.len().map_err(failed)?;
        if !self.ready && self.preparing.is_none() && len == self.segment_bytes {
            self.disk
                .rename(&segment.path, &self.spare_path())
                .map_err(failed)?;
            self.ready = true;
        } else {
            remove(&*self.disk, &segment.path)?;
        }
        sync_folder(&*self.disk, &self.folder)
    }

    fn spare_path(&self) -> PathBuf {
        self.folder.join("spare")
    }

    fn preparing_path(&self) -> PathBuf {
        self.folder.join("preparing.tmp")
    }

    fn next_path(&self) -> PathBuf {
        self.folder.join("next.tmp")
    }
}

impl Drop for Spares {
    /// Waits for the thread, which must not touch the folder when somebody else opens it.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(handle) = self.preparing.take()
            && handle.join().is_err()
        {
            tracing::error!(target: "raft", "preparing a log segment panicked");
        }
    }
}

/// Makes the spare file, in a thread of its own.
struct Preparation {
    disk: Arc<dyn Disk>,
    temporary: PathBuf,
    spare: PathBuf,
    bytes: u64,
    stop: Arc<AtomicBool>,
    space: Space,
}

impl Preparation {
    fn run(self) -> io::Result<()> {
        loop {
            match self.attempt() {
                Err(error) if is_full(&error) => {
                    // What there is of it would keep others from the last room.
                    self.disk.remove_file(&self.temporary)?;
                    let why = format!("cannot write {}: {error}", self.temporary.display());
                    self.space.set_next(Some(why));
                }
                result => {
                    self.space.set_next(None);
                    return result;
                }
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn attempt(&self) -> io::Result<()> {
        let file = self.disk.create(&self.temporary)?;
        // Tells at once whether there is room.
        file.reserve(self.bytes)?;
        fill(&*file, self.bytes, &self.stop)?;
        file.sync_data()?;
        self.disk.rename(&self.temporary, &self.spare)
    }
}

/// Fills a new file with zeros.
fn fill(file: &dyn File, bytes: u64, stop: &AtomicBool) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut offset = 0;
    while offset < bytes {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = FILL_BYTES.min(usize::try_from(bytes - offset).unwrap_or(FILL_BYTES));
        file.write_all_at(&zeros[..count], offset)?;
        offset += count as u64;
    }
    Ok(())
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    disk.remove_file(path)
        .map_err(|source| Error::RemoveSegment {
            path: path.to_owned(),
            source,
        })
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    disk.sync_dir(folder).map_err(|source| Error::SyncFolder {
        path: folder.to_owned(),
        source,
    })
}
