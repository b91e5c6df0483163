//! What the store, its readers and the writer have in common.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::Metrics;
use super::error::{Error, shared};
use super::index::{Index, Place};
use super::record::Record;
use super::segment::Segment;
use super::space::Space;
use super::writer::{Done, Item};

/// Bytes of entries that may wait for the disk before appends wait too: enough for any disk that works, and a bound
/// on memory for one that does not.
const QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// Lock order: `queue` before `index` before `files`.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    index: Mutex<Index>,
    files: Mutex<BTreeMap<u32, Arc<Segment>>>,
    metrics: Mutex<Metrics>,
    /// Wakes the writer.
    wake: Notify,
    /// Wakes appends that wait for the queue to get shorter.
    room: Notify,
    failure: watch::Sender<Option<Arc<Error>>>,
    finished: watch::Sender<bool>,
    space: Space,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Bytes of records that are queued or being written.
    bytes: usize,
    /// Whether somebody waits for what is queued. What nobody waits for rides along with the next write.
    urgent: bool,
    closing: bool,
    failed: Option<Arc<Error>>,
}

/// When queued records are to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// At once.
    Now,
    /// Together with the next that are.
    WithNext,
}

impl Shared {
    pub(super) fn new(index: Index) -> Self {
        Self {
            queue: Mutex::default(),
            index: Mutex::new(index),
            files: Mutex::default(),
            metrics: Mutex::default(),
            wake: Notify::new(),
            room: Notify::new(),
            failure: watch::Sender::new(None),
            finished: watch::Sender::new(false),
            space: Space::new(),
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Changes the index and queues what that made, in one step: the order of both is the same.
    ///
    /// # Errors
    /// The log has failed or is closed, or `change` refuses. Then `done` is failed, and nothing is queued.
    pub(super) fn submit(
        &self,
        change: impl FnOnce(&mut Index) -> Result<Vec<Record>, Error>,
        done: Option<Done>,
        when: When,
    ) -> Result<(), Arc<Error>> {
        let mut queue = lock(&self.queue);
        let checked = queue.check().and_then(|()| {
            let mut index = self.index();
            change(&mut index).map_err(Arc::new)
        });
        let records = match checked {
            Ok(records) => records,
            Err(error) => {
                drop(queue);
                if let Some(done) = done {
                    done.complete(Err(&error));
                }
                return Err(error);
            }
        };
        for record in records {
            queue.push(record);
        }
        queue.items.extend(done.map(Item::Done));
        if when == When::Now {
            queue.urgent = true;
            drop(queue);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until the queue is short enough for more entries. Cancel safe.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Before the look at the queue, so that no notice is lost in between.
            room.as_mut().enable();
            {
                let queue = lock(&self.queue);
                if queue.bytes <= QUEUED_BYTES || queue.failed.is_some() {
                    return;
                }
            }
            room.await;
        }
    }

    /// Waits for work and adds it to `work`; whether the log is being closed.
    pub(super) async fn next_work(&self, work: &mut VecDeque<Item>) -> bool {
        loop {
            {
                let mut queue = lock(&self.queue);
                if queue.urgent || queue.closing {
                    queue.urgent = false;
                    work.append(&mut queue.items);
                    return queue.closing;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Notes that a batch is durable.
    pub(super) fn written(
        &self,
        places: Vec<(u64, Place)>,
        queued_bytes: usize,
        note: impl FnOnce(&mut Metrics),
    ) {
        {
            let mut index = self.index();
            for (entry, place) in places {
                index.written(entry, place);
            }
            index.evict();
        }
        {
            let mut queue = lock(&self.queue);
            queue.bytes = queue.bytes.saturating_sub(queued_bytes);
        }
        self.room.notify_waiters();
        note(&mut lock(&self.metrics));
    }

    /// Fails everybody who waits, now and from now on.
    pub(super) fn fail(&self, error: Error, work: VecDeque<Item>) {
        let error = Arc::new(error);
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.failed = Some(error.clone());
            std::mem::take(&mut queue.items)
        };
        self.failure.send_replace(Some(error.clone()));
        for item in work.into_iter().chain(waiting) {
            if let Item::Done(done) = item {
                done.complete(Err(&error));
            }
        }
        self.room.notify_waiters();
        self.finished.send_replace(true);
    }

    /// Notes that the writer has written everything and stopped.
    pub(super) fn finish(&self) {
        let late = {
            let mut queue = lock(&self.queue);
            queue.failed.get_or_insert_with(|| Arc::new(Error::Closed));
            std::mem::take(&mut queue.items)
        };
        for item in late {
            if let Item::Done(done) = item {
                done.complete(Err(&Arc::new(Error::Closed)));
            }
        }
        self.finished.send_replace(true);
    }

    /// Asks the writer to write what is queued and to stop.
    pub(super) fn close(&self) {
        lock(&self.queue).closing = true;
        self.wake.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        lock(&self.queue).closing
    }

    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    pub(super) fn finished(&self) -> watch::Receiver<bool> {
        self.finished.subscribe()
    }

    pub(super) fn failed(&self) -> watch::Receiver<Option<Arc<Error>>> {
        self.failure.subscribe()
    }

    /// The failure, if the log has failed or is closed.
    pub(super) fn check(&self) -> Result<(), std::io::Error> {
        lock(&self.queue).check().map_err(|error| shared(&error))
    }

    pub(super) fn metrics(&self) -> Metrics {
        let mut metrics = lock(&self.metrics).clone();
        metrics.segments = lock(&self.files).len();
        metrics.failure = self.failure.borrow().as_ref().map(ToString::to_string);
        metrics
    }

    pub(super) fn note_file(&self, segment: &Arc<Segment>) {
        lock(&self.files).insert(segment.number, segment.clone());
    }

    pub(super) fn forget_file(&self, number: u32) {
        lock(&self.files).remove(&number);
    }

    pub(super) fn bytes(&self) -> u64 {
        // A file whose length cannot be asked for counts for nothing here; reading it will fail soon enough.
        let len = |segment: &Arc<Segment>| segment.file.len().unwrap_or(0);
        lock(&self.files).values().map(len).sum()
    }

    pub(super) fn file(&self, number: u32) -> Option<Arc<Segment>> {
        lock(&self.files).get(&number).cloned()
    }
}

impl Queue {
    fn check(&self) -> Result<(), Arc<Error>> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(Arc::new(Error::Closed)),
            None => Ok(()),
        }
    }

    fn push(&mut self, record: Record) {
        // Of several commits in a row only the newest says anything.
        if let (Record::Committed(_), Some(Item::Record(last @ Record::Committed(_)))) =
            (&record, self.items.back_mut())
        {
            *last = record;
            return;
        }
        self.bytes += record.len_bound();
        self.items.push_back(Item::Record(record));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held is a bug that has been reported; the data are changed in whole steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
