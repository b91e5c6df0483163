//! The Raft log on disk: our own segmented write-ahead log.
//!
//! `DATA/raft/wal/` holds segment files of checksummed records (see `log/record.rs` and `log/segment.rs`). A record
//! is an entry, a vote, a commit, a truncation, a purge or a mark; what the log says is what its records say in
//! order. Nothing is ever overwritten, so that the order on disk is the order of the calls:
//! - a truncation is a record, and what comes after it counts; the entries that it drops stay where they are;
//! - a purge is a record too, and only once it is durable are segments put away, the oldest first. Each segment's
//!   header repeats vote, commit, purge and last entry, so nothing is lost with the segments before it;
//! - a vote waits for its sync, an append's callback for its own; commits, truncations and purges ride along.
//!
//! After a crash the last batch may be there in part: some of its sectors, in any order. It was acknowledged to
//! nobody, so it is cut off at its first bad record; its good records before that are kept, which is a state that the
//! log was about to pass through. Batch numbers tell such a torn end from damage (`log/replay.rs`), and damage is an
//! error that names file and offset. What a disk may not do is change bytes that were not written.
//!
//! A failed sync is final: every call fails from then on, for after it the kernel may have thrown away what it could
//! not write, and a second one would say that all is well. So is a failed write, except on a full disk: then nothing has
//! been synced, and the same bytes are written to the same place until there is room (`log/space.rs`).

use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::{oneshot, watch};

use self::index::Index;
use self::record::Record;
use self::shared::{Shared, When};
use self::writer::{Done, FoundEnd, Writer};
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::env::Disk;

mod error;
mod index;
mod news;
mod read;
mod record;
mod replay;
mod segment;
mod shared;
mod space;
mod spare;
mod writer;

pub use error::Error;
pub(super) use news::Seen;
pub use space::Room;
pub(crate) use space::is_full;

/// Longest entry: the offsets of records stay below 4 GiB.
const ENTRY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// About how many bytes of entries a reader is given at once.
const READ_BYTES: usize = 1024 * 1024;

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a segment file. Default 16 MiB; from 1 KiB to 1 GiB.
    ///
    /// Also what disk space is freed in: a segment goes once all its entries are purged.
    pub segment_bytes: u64,
    /// About how many bytes of the newest entries stay in memory. Default 2 MiB. Older ones are read from disk.
    ///
    /// Entries that are not written yet are kept beyond it.
    pub cache_bytes: usize,
    /// A random number that goes into the checksums of new segments, so that nothing that was made up or copied from
    /// elsewhere passes for a record.
    pub nonce: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            cache_bytes: 2 * 1024 * 1024,
            nonce: 0,
        }
    }
}

/// What the log has done since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Bytes written as records, headers and padding included.
    pub appended_bytes: u64,
    /// Records written.
    pub appended_records: u64,
    /// Batches written, each with one sync.
    pub syncs: u64,
    /// Time that writing and syncing them took altogether.
    pub sync_time: Duration,
    /// The longest that one took.
    pub slowest_sync: Duration,
    /// Segment files in use.
    pub segments: usize,
    /// Why the log has failed, if it has.
    pub failure: Option<String>,
}

/// The log store of one server. Clones are the same log.
///
/// When the last clone is dropped, what is queued is written and the writer stops; [`LogStore::close`] waits for that.
#[derive(Clone)]
pub struct LogStore {
    handle: Arc<Handle>,
}

/// Reads entries and the vote. Clones are cheap; a reader does not keep the log open.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // The folder may be opened again right away: nobody may be writing then.
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!(target: "raft", "the log writer panicked");
        }
    }
}

impl LogStore {
    /// Opens the log in `folder`, making it where there is none.
    ///
    /// Reads the segments that are there, which is the log after the last purge and a little more. Blocks. On a disk
    /// that wants no threads, must be called within a tokio runtime.
    ///
    /// # Errors
    /// The disk's, or a log that is damaged or newer than this program; then nothing has been changed.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path, options: Options) -> Result<Self, Error> {
        let options = Options {
            segment_bytes: options.segment_bytes.clamp(1024, 1024 * 1024 * 1024),
            ..options
        };
        create_folder(&*disk, folder)?;
        let mut found = replay::read(&*disk, folder, options.cache_bytes)?;
        let end = found.as_mut().map(FoundEnd::of);
        let index = found.map_or_else(
            || Index::new(segment::Standing::default(), options.cache_bytes),
            |found| found.index,
        );
        let shared = Arc::new(Shared::new(index));
        let threaded = disk.wants_threads();
        let writer = Writer::start(shared.clone(), disk, folder.to_owned(), options, end)?;
        let thread = if threaded {
            let thread = std::thread::Builder::new().name("wal".to_owned());
            let handle = thread
                .spawn(move || futures::executor::block_on(writer.run()))
                .map_err(|source| Error::StartWriter { source })?;
            Some(handle)
        } else {
            tokio::spawn(writer.run());
            None
        };
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                thread: Mutex::new(thread),
            }),
        })
    }

    /// A reader.
    pub fn reader(&self) -> LogReader {
        LogReader {
            shared: self.shared().clone(),
        }
    }

    /// What the log has done since it was opened.
    pub fn metrics(&self) -> Metrics {
        self.shared().metrics()
    }

    /// Becomes `Some` when a write or a sync has failed. The server must stop then: the log accepts nothing more.
    pub fn failed(&self) -> watch::Receiver<Option<Arc<Error>>> {
        self.shared().failed()
    }

    /// What the log lacks room for, from now on.
    pub fn room(&self) -> watch::Receiver<Room> {
        self.shared().space().watch()
    }

    /// Waits until everything that was given to the log before is durable.
    ///
    /// # Errors
    /// The log has failed or is closed.
    pub async fn flush(&self) -> io::Result<()> {
        self.submit_and_wait(|_| Ok(Vec::new())).await
    }

    /// Makes the log as if a snapshot up to `upto` had just been installed: no entries, `upto` purged and committed.
    /// The vote stays, for this server must not vote twice in a term.
    ///
    /// For recovery by hand (`peers.json`): with Raft stopped, apply the log to the state, save a snapshot at the last
    /// log id with the new membership, then reset the log to that log id. A crash in between leaves the log as it was,
    /// and the recovery can be done again. Durable on return.
    ///
    /// # Errors
    /// `upto` lies before what is purged already, or the log has failed or is closed.
    pub async fn reset(&self, upto: LogId) -> io::Result<()> {
        self.submit_and_wait(|index| {
            let purged = index.standing().purged;
            if purged > Some(upto) {
                return Err(Error::ResetBeforePurged {
                    purged: purged.map_or(0, |id| id.index),
                    asked: upto.index,
                });
            }
            index.truncate(Some(upto));
            index.purge(upto);
            index.set_committed(Some(upto));
            Ok(vec![
                Record::Truncate(Some(upto)),
                Record::Purge(upto),
                Record::Committed(Some(upto)),
            ])
        })
        .await
    }

    /// Writes what is queued, marks the end and stops the writer. Every later call fails.
    ///
    /// Waits until the folder can be opened again.
    pub async fn close(&self) {
        let mut finished = self.shared().finished();
        self.shared().close();
        // The sender lives in what we hold.
        let _ = finished.wait_for(|finished| *finished).await;
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    async fn submit_and_wait(
        &self,
        change: impl FnOnce(&mut Index) -> Result<Vec<Record>, Error>,
    ) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        // A refusal reaches the receiver as well.
        let _ = self
            .shared()
            .submit(change, Some(Done::Signal(sender)), When::Now);
        match receiver.await {
            Ok(result) => result.map_err(|error| error::shared(&error)),
            Err(_) => Err(Error::Closed.into()),
        }
    }

    fn submit(
        &self,
        change: impl FnOnce(&mut Index) -> Result<Vec<Record>, Error>,
        done: Option<Done>,
        when: When,
    ) -> io::Result<()> {
        self.shared()
            .submit(change, done, when)
            .map_err(|error| error::shared(&error))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        self.shared().check()?;
        let index = self.shared().index();
        Ok(LogState {
            last_purged_log_id: index.standing().purged,
            last_log_id: index.standing().last,
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.submit_and_wait(|index| {
            index.set_vote(*vote);
            Ok(vec![Record::Vote(*vote)])
        })
        .await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let change = |index: &mut Index| {
            index.set_committed(committed);
            Ok(vec![Record::Committed(committed)])
        };
        self.submit(change, None, When::WithNext)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.shared().check()?;
        Ok(self.shared().index().standing().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.shared().room().await;
        let change = |index: &mut Index| {
            check_entries(index, &entries)?;
            for entry in &entries {
                index.push(entry.clone());
            }
            Ok(entries.into_iter().map(Record::Entry).collect())
        };
        self.submit(change, Some(Done::Flushed(callback)), When::Now)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let change = |index: &mut Index| {
            let changed = index.truncate(last_log_id);
            Ok(Vec::from_iter(
                changed.then_some(Record::Truncate(last_log_id)),
            ))
        };
        // Whoever truncates goes on to append, and only that is acknowledged.
        self.submit(change, None, When::WithNext)
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let change = |index: &mut Index| {
            let changed = index.purge(log_id);
            Ok(Vec::from_iter(changed.then_some(Record::Purge(log_id))))
        };
        // Nobody waits, but the segments' space does.
        self.submit(change, None, When::Now)
    }
}

impl LogReader {
    /// The last entry, also one that is not committed yet.
    pub fn last(&self) -> Option<LogId> {
        self.shared.index().standing().last
    }

    /// About how long the log's files are together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes()
    }

    fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        self.shared.check()?;
        Ok(read::entries(&self.shared, start, end, max_bytes)?)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        let (start, end) = half_open(&range);
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.shared.check()?;
        Ok(self.shared.index().standing().vote)
    }

    /// In pieces, so that applying a long stretch does not hold all of it in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend,
    {
        let (start, end) = half_open(&range);
        let reader = self.clone();
        let pieces = stream::unfold(Some(start), move |start| {
            let piece = start.map(|start| reader.read(start, end, READ_BYTES));
            let next = match &piece {
                Some(Ok(entries)) => entries.last().map(|last| last.log_id.index + 1),
                _ => None,
            };
            std::future::ready(piece.map(|piece| (piece, next)))
        });
        pieces.flat_map(|piece| {
            let (entries, error) = match piece {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            stream::iter(entries.into_iter().map(Ok).chain(error.map(Err)))
        })
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES)
    }

    /// The last log id of each term in `range`, from memory.
    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> io::Result<Vec<LogId>> {
        self.shared.check()?;
        let (start, end) = range.into_inner();
        Ok(self.shared.index().last_of_terms(start, end))
    }
}

fn check_entries(index: &Index, entries: &[Entry]) -> Result<(), Error> {
    let mut expected = index.expected();
    for entry in entries {
        let found = entry.log_id.index;
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(Error::OutOfOrder { expected, found });
        }
        if let openraft::EntryPayload::Normal(payload) = &entry.payload
            && payload.0.len() > ENTRY_BYTES_MAX
        {
            return Err(Error::TooLong {
                bytes: payload.0.len(),
                max: ENTRY_BYTES_MAX,
            });
        }
        expected = Some(found + 1);
    }
    Ok(())
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

/// Makes `folder` with its parents, and all their names durable.
///
/// Also of those that exist: a process that was killed may have made them and not come to this.
pub(super) fn create_folder(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    let is_path = |path: &&Path| !path.as_os_str().is_empty();
    let made = folder
        .ancestors()
        .take_while(|path| is_path(path) && !disk.exists(path))
        .count();
    disk.create_dir_all(folder)
        .map_err(|source| Error::CreateFolder {
            path: PathBuf::from(folder),
            source,
        })?;
    for (above, parent) in folder.ancestors().skip(1).filter(is_path).enumerate() {
        match spare::sync_folder(disk, parent) {
            // Not ours, so not made by us either.
            Err(Error::SyncFolder { source, .. })
                if above >= made && source.kind() == io::ErrorKind::PermissionDenied => {}
            result => result?,
        }
    }
    if folder.is_relative() {
        spare::sync_folder(disk, Path::new("."))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
