//! A disk in memory, for `-dev` and for simulated power losses.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::content::Content;
use super::{Disk, File, Random};

mod content;

/// Files and folders in memory, with what would survive a power loss kept apart from what would not.
///
/// Clones are the same disk. Faults are set from outside: [`MemoryDisk::crash`], [`MemoryDisk::cut_power_after`],
/// [`MemoryDisk::fail_next_sync`], [`MemoryDisk::set_capacity`], [`MemoryDisk::corrupt`] and
/// [`MemoryDisk::set_sync_latency`]. What runs of zeros are written takes no memory.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

/// What of the writes and names that were not synced is found again after a crash.
#[derive(Clone, Copy)]
pub enum Keep<'a> {
    /// Nothing: the power was lost.
    Nothing,
    /// Everything: the process died, the machine went on. Still nothing of it is durable: the next crash may take it.
    Everything,
    /// The power was lost half-way: of each file some sectors of 512 bytes, of each folder a first part of its
    /// changes, as these numbers choose.
    Torn(&'a dyn Random),
}

#[derive(Default)]
struct Inner {
    root: Arc<Mutex<Folder>>,
    /// Counted up by each crash, so that files opened before it can do nothing after it.
    generation: u64,
    operations: u64,
    power_lasts_until: Option<u64>,
    fail_next_sync: Option<io::ErrorKind>,
    capacity: Option<u64>,
    sync_latency: Duration,
}

#[derive(Default)]
struct Folder {
    live: BTreeMap<OsString, Node>,
    durable: BTreeMap<OsString, Node>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Node {
    File(Arc<Mutex<Content>>),
    Folder(Arc<Mutex<Folder>>),
}

#[derive(Clone)]
enum Change {
    Set(OsString, Node),
    Remove(OsString),
    /// One change, because a file system does a rename whole or not at all.
    Rename(OsString, OsString, Node),
}

/// Whether the power stays on through an operation that has begun.
#[derive(PartialEq)]
enum Power {
    Stays,
    /// The operation reaches memory, where a torn crash may find parts of it, and is reported as failed.
    Goes,
}

impl Power {
    fn outcome(self) -> io::Result<()> {
        match self {
            Self::Stays => Ok(()),
            Self::Goes => Err(no_power()),
        }
    }
}

impl Inner {
    fn begin(&mut self) -> io::Result<Power> {
        self.operations += 1;
        match self.power_lasts_until {
            Some(last) if self.operations > last + 1 => Err(no_power()),
            Some(last) if self.operations == last + 1 => Ok(Power::Goes),
            _ => Ok(Power::Stays),
        }
    }

    /// The folder that `path` names, and the last part of `path`.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Arc<Mutex<Folder>>, &'a OsStr)> {
        let mut parts = names(path)?;
        let last = parts.pop().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.walk(&parts)?, last))
    }

    fn folder(&self, path: &Path) -> io::Result<Arc<Mutex<Folder>>> {
        self.walk(&names(path)?)
    }

    fn walk(&self, parts: &[&OsStr]) -> io::Result<Arc<Mutex<Folder>>> {
        let mut folder = self.root.clone();
        for part in parts {
            let next = match lock(&folder).live.get(*part) {
                Some(Node::Folder(next)) => next.clone(),
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
            folder = next;
        }
        Ok(folder)
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        let (folder, name) = self.parent(path)?;
        let node = lock(&folder).live.get(name).cloned();
        node.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Refuses growth by `bytes` beyond the capacity.
    fn check_space(&self, bytes: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if bytes > 0 && lock(&self.root).bytes() + bytes > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl Folder {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    fn bytes(&self) -> u64 {
        self.live
            .values()
            .map(|node| match node {
                Node::File(content) => lock(content).len(),
                Node::Folder(folder) => lock(folder).bytes(),
            })
            .sum()
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn crash(&mut self, keep: Keep<'_>) {
        let kept = match keep {
            Keep::Everything => return,
            Keep::Nothing => 0,
            Keep::Torn(random) => {
                usize::try_from(random.below(self.pending.len() as u64 + 1)).unwrap_or(0)
            }
        };
        self.pending.truncate(kept);
        self.sync();
        self.live = self.durable.clone();
        for node in self.live.values() {
            match node {
                Node::File(content) => lock(content).crash(keep),
                Node::Folder(folder) => lock(folder).crash(keep),
            }
        }
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<OsString, Node>) {
        match self {
            Self::Set(name, node) => {
                names.insert(name.clone(), node.clone());
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), node.clone());
            }
        }
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was not synced, except what `keep` names, and turns the power on again.
    ///
    /// Files opened before fail from now on, so a writer that is still running cannot touch what comes after.
    pub fn crash(&self, keep: Keep<'_>) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.power_lasts_until = None;
        let root = inner.root.clone();
        lock(&root).crash(keep);
    }

    /// How many operations that change something (writes, syncs, names) have begun.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Lets `operations` more operations succeed. The next one is interrupted half-way, all later ones fail, until
    /// [`MemoryDisk::crash`].
    pub fn cut_power_after(&self, operations: u64) {
        let mut inner = self.lock();
        inner.power_lasts_until = Some(inner.operations + operations);
    }

    /// Makes the next [`File::sync_data`] fail with an input/output error.
    ///
    /// As on Linux, what it should have written counts as clean afterwards: no later sync writes it either.
    pub fn fail_next_sync(&self) {
        self.fail_next_sync_with(io::ErrorKind::Other);
    }

    /// As [`MemoryDisk::fail_next_sync`], with another kind of error.
    pub fn fail_next_sync_with(&self, kind: io::ErrorKind) {
        self.lock().fail_next_sync = Some(kind);
    }

    /// Bounds the sum of all file lengths; `None` is no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Sum of all file lengths.
    pub fn bytes(&self) -> u64 {
        lock(&self.lock().root).bytes()
    }

    /// How long a sync is to take in simulated time, see [`Disk::sync_latency`].
    pub fn set_sync_latency(&self, latency: Duration) {
        self.lock().sync_latency = latency;
    }

    /// Flips all bits of one byte, on the medium and in memory.
    ///
    /// # Errors
    /// No such file, or the file is not that long.
    pub fn corrupt(&self, path: &Path, offset: u64) -> io::Result<()> {
        match self.lock().node(path)? {
            Node::File(content) => lock(&content).corrupt(offset),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn file(&self, content: Arc<Mutex<Content>>, generation: u64) -> Arc<dyn File> {
        Arc::new(MemoryFile {
            disk: self.clone(),
            content,
            generation,
        })
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let power = inner.begin()?;
        let mut folder = inner.root.clone();
        for name in names(path)? {
            let existing = lock(&folder).live.get(name).cloned();
            let next = match existing {
                Some(Node::Folder(next)) => next,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let next = Arc::<Mutex<Folder>>::default();
                    let node = Node::Folder(next.clone());
                    lock(&folder).change(Change::Set(name.to_owned(), node));
                    next
                }
            };
            folder = next;
        }
        power.outcome()
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let folder = self.lock().folder(path)?;
        let names = lock(&folder).live.keys().cloned().collect();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        let inner = self.lock();
        inner.folder(path).is_ok() || inner.node(path).is_ok()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inner = self.lock();
        match inner.node(path)? {
            Node::File(content) => Ok(self.file(content, inner.generation)),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut inner = self.lock();
        let power = inner.begin()?;
        let (folder, name) = inner.parent(path)?;
        let existing = lock(&folder).live.get(name).cloned();
        let content = match existing {
            Some(Node::File(content)) => {
                lock(&content).set_len(0);
                content
            }
            Some(Node::Folder(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {
                let content = Arc::<Mutex<Content>>::default();
                let node = Node::File(content.clone());
                lock(&folder).change(Change::Set(name.to_owned(), node));
                content
            }
        };
        power.outcome()?;
        Ok(self.file(content, inner.generation))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let power = inner.begin()?;
        let node = inner.node(from)?;
        let (old, old_name) = inner.parent(from)?;
        let (new, new_name) = inner.parent(to)?;
        if Arc::ptr_eq(&old, &new) {
            let change = Change::Rename(old_name.to_owned(), new_name.to_owned(), node);
            lock(&old).change(change);
        } else {
            lock(&new).change(Change::Set(new_name.to_owned(), node));
            lock(&old).change(Change::Remove(old_name.to_owned()));
        }
        power.outcome()
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let power = inner.begin()?;
        match inner.node(path)? {
            Node::File(_) => {
                let (folder, name) = inner.parent(path)?;
                lock(&folder).change(Change::Remove(name.to_owned()));
                power.outcome()
            }
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        let power = inner.begin()?;
        let folder = inner.folder(path)?;
        if power == Power::Stays {
            lock(&folder).sync();
        }
        power.outcome()
    }

    fn wants_threads(&self) -> bool {
        false
    }

    fn sync_latency(&self) -> Duration {
        self.lock().sync_latency
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    content: Arc<Mutex<Content>>,
    generation: u64,
}

impl MemoryFile {
    fn content(&self) -> io::Result<MutexGuard<'_, Content>> {
        if self.disk.lock().generation == self.generation {
            Ok(lock(&self.content))
        } else {
            Err(no_power())
        }
    }

    fn begin(&self) -> io::Result<(MutexGuard<'_, Inner>, MutexGuard<'_, Content>, Power)> {
        let mut inner = self.disk.lock();
        if inner.generation != self.generation {
            return Err(no_power());
        }
        let power = inner.begin()?;
        Ok((inner, lock(&self.content), power))
    }

    /// Refuses to grow to `len` on a full disk.
    fn check_space(&self, len: u64) -> io::Result<()> {
        let grown = len.saturating_sub(self.content()?.len());
        self.disk.lock().check_space(grown)
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.content()?.read(buffer, offset))
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_space(offset + data.len() as u64)?;
        let (_inner, mut content, power) = self.begin()?;
        content.write(data, offset);
        power.outcome()
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut inner, mut content, power) = self.begin()?;
        if let Some(kind) = inner.fail_next_sync.take() {
            content.lose();
            return Err(match kind {
                io::ErrorKind::Other => io::Error::from_raw_os_error(EIO),
                kind => kind.into(),
            });
        }
        if power == Power::Stays {
            content.sync();
        }
        power.outcome()
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        if len > self.len()? {
            self.set_len(len)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_space(len)?;
        let (_inner, mut content, power) = self.begin()?;
        content.set_len(len);
        power.outcome()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content()?.len())
    }
}

/// Linux's number of "Input/output error".
const EIO: i32 = 5;

fn no_power() -> io::Error {
    io::Error::other("simulated power loss")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(Ok(name)),
            Component::RootDir | Component::CurDir => None,
            Component::ParentDir | Component::Prefix(_) => {
                Some(Err(io::ErrorKind::InvalidInput.into()))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
