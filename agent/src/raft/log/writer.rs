//! The one who writes: takes all that is queued, writes it, syncs once, tells everybody who waits, and repeats.
//!
//! While a sync runs, the queue grows; the next round takes all of it. So the batch is as large as the disk is slow,
//! without a timer or a setting. A thread of its own on a real disk, a task on a simulated one: the same code.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::error::{Error, shared};
use super::index::Place;
use super::record::{self, Record};
use super::replay::{Found, Used};
use super::segment::{HEADER_BYTES, Header, Previous, Standing};
use super::shared::Shared;
use super::spare::{Spares, sync_folder};
use super::{Options, spare};
use crate::env::Disk;
use crate::raft::types::{LogId, TypeConfig};

/// Most bytes in one write, which bounds the memory for it; one longer record is written all the same.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Capacity that the write buffer keeps between batches.
const KEPT_BUFFER_BYTES: usize = 256 * 1024;

/// Time between two tries to write on a full disk.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What waits for the records queued before it.
pub(super) enum Done {
    /// openraft's callback of an append.
    Flushed(IOFlushed<TypeConfig>),
    /// A caller of ours.
    Signal(oneshot::Sender<Result<(), Arc<Error>>>),
}

impl Done {
    pub(super) fn complete(self, result: Result<(), &Arc<Error>>) {
        match self {
            Self::Flushed(callback) => callback.io_completed(result.map_err(shared)),
            // A caller that was dropped has no use for the answer.
            Self::Signal(sender) => drop(sender.send(result.map_err(Arc::clone))),
        }
    }
}

/// An element of the queue.
pub(super) enum Item {
    Record(Record),
    Done(Done),
}

/// Writes the queue of a [`Shared`] into segments.
pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    options: Options,
    spares: Spares,
    /// Segments before the current one, oldest first.
    older: VecDeque<Used>,
    current: Used,
    /// Where the next segment begins to be used.
    limit: u64,
    /// Where the next record goes.
    end: u64,
    /// Number of the next batch.
    batch: u64,
    /// What the written records say.
    standing: Standing,
    /// Taken from the queue, not written yet.
    work: VecDeque<Item>,
    buffer: Vec<u8>,
    /// What the buffer holds, when the disk was full: to be written there again.
    held: Option<Batch>,
    /// Whether the disk was full at the last try.
    blocked: bool,
}

/// One write, encoded.
#[derive(Default)]
struct Batch {
    places: Vec<(u64, Place)>,
    done: Vec<Done>,
    purged: Option<LogId>,
    records: u64,
    /// What the queue counted for the records.
    queued_bytes: usize,
}

impl Writer {
    /// Makes the first segment of an empty log, or one that continues `found`.
    pub(super) fn start(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        options: Options,
        found: Option<FoundEnd>,
    ) -> Result<Self, Error> {
        // Names that a killed process left in memory only must not vanish under records written from now on.
        sync_folder(&*disk, &folder)?;
        let mut spares = Spares::open(
            disk.clone(),
            folder,
            options.segment_bytes,
            shared.space().clone(),
        )?;
        let fresh = found.is_none();
        let found = match found {
            Some(found) => found,
            None => FoundEnd::first(&mut spares, &options)?,
        };
        let mut segments = found.segments;
        let current = segments.pop_back().ok_or(Error::Closed)?;
        let mut writer = Self {
            shared,
            disk,
            options,
            spares,
            older: segments,
            current,
            limit: found.limit,
            end: found.previous.end,
            batch: found.previous.batch + 1,
            standing: found.standing,
            work: VecDeque::new(),
            buffer: Vec::new(),
            held: None,
            blocked: false,
        };
        writer.note_files();
        if !fresh {
            // What a killed process wrote and did not sync counts from here on, so it must be durable; and before a new
            // segment says where this one ends, to which the mark may lead.
            writer.current.segment.sync()?;
            writer.work.push_back(Item::Record(Record::Mark));
            writer.step()?;
        }
        Ok(writer)
    }

    /// Writes until the log is closed or fails.
    pub(super) async fn run(mut self) {
        loop {
            let closing = self.shared.next_work(&mut self.work).await;
            while !self.work.is_empty() || self.held.is_some() {
                let latency = self.disk.sync_latency();
                if !latency.is_zero() {
                    tokio::time::sleep(latency).await;
                }
                if let Err(error) = self.step() {
                    if !error.is_full() || self.shared.is_closing() {
                        return self.fail(error);
                    }
                    self.wait_for_room(&error).await;
                }
            }
            if closing {
                return self.close();
            }
            if self.end > self.limit / 2 {
                self.spares.prepare();
            }
        }
    }

    /// Lets a moment pass, in which somebody may make room. Nothing was synced yet, so that what could not be written is
    /// simply written again, and nobody has heard that it was.
    async fn wait_for_room(&mut self, error: &Error) {
        self.blocked = true;
        self.shared.space().set_present(Some(error.to_string()));
        if self.disk.wants_threads() {
            std::thread::sleep(LOOK_AGAIN);
        } else {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Writes a last mark, so that damage to the end of the log cannot pass for an interrupted write.
    fn close(mut self) {
        self.work.push_back(Item::Record(Record::Mark));
        match self.step() {
            Ok(()) => {}
            // The log is whole without it, only less well protected.
            Err(error) if error.is_full() => {}
            Err(error) => return self.fail(error),
        }
        // First, for whoever waits for the end may open the folder again.
        drop(self.spares);
        self.shared.finish();
    }

    fn fail(mut self, error: Error) {
        tracing::error!(target: "raft", %error, "log store failed, stopping");
        if let Some(held) = self.held.take() {
            // Back into the queue, to be failed with the rest.
            self.work.extend(held.done.into_iter().map(Item::Done));
        }
        let Self { spares, work, .. } = self;
        drop(spares);
        self.shared.fail(error, work);
    }

    /// Writes and syncs one batch, then completes what waits for it.
    fn step(&mut self) -> Result<(), Error> {
        let batch = match self.held.take() {
            Some(held) => held,
            None => {
                if let Some(Item::Record(record)) = self.work.front()
                    && self.end > HEADER_BYTES
                    && self.end + record.len_bound() as u64 > self.limit
                {
                    self.roll()?;
                }
                self.encode_batch()
            }
        };
        if batch.records > 0 {
            let started = tokio::time::Instant::now();
            let segment = &self.current.segment;
            let bytes = self.buffer.len() as u64;
            if let Err(error) = segment
                .write(&self.buffer, self.end)
                .and_then(|()| segment.sync())
            {
                self.held = Some(batch);
                return Err(error);
            }
            if self.blocked {
                self.shared.space().set_present(None);
                self.blocked = false;
            }
            self.end += bytes;
            self.batch += 1;
            self.shared
                .written(batch.places, batch.queued_bytes, |metrics| {
                    let took = started.elapsed();
                    metrics.appended_bytes += bytes;
                    metrics.appended_records += batch.records;
                    metrics.syncs += 1;
                    metrics.sync_time += took;
                    metrics.slowest_sync = metrics.slowest_sync.max(took);
                });
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER_BYTES);
        for done in batch.done {
            done.complete(Ok(()));
        }
        if let Some(purged) = batch.purged {
            self.remove_purged(purged)?;
        }
        Ok(())
    }

    /// Moves as much of the work as one write takes into the buffer.
    fn encode_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut last = 0;
        loop {
            let fits = match self.work.front() {
                None => false,
                Some(Item::Done(_)) => true,
                Some(Item::Record(record)) => {
                    let len = self.buffer.len() + record.len_bound();
                    batch.records == 0
                        || (len <= BATCH_BYTES && self.end + len as u64 <= self.limit)
                }
            };
            let Some(item) = self.work.pop_front_if(|_| fits) else {
                break;
            };
            match item {
                Item::Done(done) => batch.done.push(done),
                Item::Record(record) => {
                    // Sealed only when the next one is there, for the last of a batch says so.
                    self.seal(last, false);
                    last = self.buffer.len();
                    self.encode(&record, &mut batch);
                }
            }
        }
        self.seal(last, true);
        batch
    }

    fn seal(&mut self, at: usize, last_of_batch: bool) {
        if at < self.buffer.len() {
            let position = self.current.segment.position(self.end + at as u64);
            record::seal(&mut self.buffer[at..], position, last_of_batch);
        }
    }

    fn encode(&mut self, record: &Record, batch: &mut Batch) {
        let start = self.buffer.len();
        record.encode(self.batch, &mut self.buffer);
        self.standing.apply(record);
        batch.records += 1;
        batch.queued_bytes += record.len_bound();
        match record {
            Record::Entry(entry) => {
                let index = entry.log_id.index;
                self.current.max_index = self.current.max_index.max(Some(index));
                let place = Place {
                    term: entry.log_id.leader_id.term,
                    segment: self.current.segment.number,
                    offset: narrow(self.end + start as u64),
                    len: narrow((self.buffer.len() - start) as u64),
                };
                batch.places.push((index, place));
            }
            Record::Purge(upto) => batch.purged = Some(*upto),
            _ => {}
        }
    }

    /// Goes on in a new segment.
    fn roll(&mut self) -> Result<(), Error> {
        let number = self.current.segment.number + 1;
        let header = Header {
            nonce: self.options.nonce,
            number,
            limit: self.options.segment_bytes,
            previous: Some(Previous {
                end: self.end,
                batch: self.batch - 1,
            }),
            standing: self.standing.clone(),
        };
        let segment = self.spares.make(&header)?;
        let next = Used {
            segment: Arc::new(segment),
            max_index: None,
        };
        let full = std::mem::replace(&mut self.current, next);
        self.older.push_back(full);
        self.limit = header.limit;
        self.end = HEADER_BYTES;
        self.note_files();
        Ok(())
    }

    /// Puts away the oldest segments, as far as all their entries are purged. The purge is durable already.
    fn remove_purged(&mut self, purged: LogId) -> Result<(), Error> {
        while let Some(oldest) = self
            .older
            .pop_front_if(|used| used.max_index.is_none_or(|max| max <= purged.index))
        {
            self.shared.forget_file(oldest.segment.number);
            self.spares.recycle(&oldest.segment)?;
        }
        Ok(())
    }

    fn note_files(&self) {
        for used in self.older.iter().chain([&self.current]) {
            self.shared.note_file(&used.segment);
        }
    }
}

/// The end of a log that was found, or made.
pub(super) struct FoundEnd {
    segments: VecDeque<Used>,
    limit: u64,
    previous: Previous,
    standing: Standing,
}

impl FoundEnd {
    /// What the writer needs of `found`.
    pub(super) fn of(found: &mut Found) -> Self {
        Self {
            segments: std::mem::take(&mut found.segments),
            limit: found.header.limit,
            previous: found.previous(),
            standing: found.index.standing().clone(),
        }
    }

    /// Makes the first segment. It is small, so that a first start does not wait for a long fill.
    fn first(spares: &mut Spares, options: &Options) -> Result<Self, Error> {
        let header = Header {
            nonce: options.nonce,
            number: 1,
            limit: options.segment_bytes.min(spare::INLINE_FILL_BYTES),
            previous: None,
            standing: Standing::default(),
        };
        let segment = Arc::new(spares.make(&header)?);
        Ok(Self {
            segments: VecDeque::from([Used {
                segment,
                max_index: None,
            }]),
            limit: header.limit,
            previous: Previous {
                end: HEADER_BYTES,
                batch: 0,
            },
            standing: Standing::default(),
        })
    }
}

/// Offsets and lengths: segments and entries are bounded well below 4 GiB, see [`Options`].
fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("segments end below 4 GiB")
}
