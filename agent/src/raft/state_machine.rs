//! The state machine that openraft drives: a shell over [`Store`].

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, RaftSnapshotBuilder};

use super::TypeConfig;
use super::codec::WireSnapshotMeta;
use super::log::is_full;
use super::off_loop::off_loop;
use super::snapshot::{Meta, SnapshotFile, SnapshotStore, Staged};
use super::types::{LogId, SnapshotMeta, StoredMembership};
use crate::state::{DecodeError, Outcome, Shared, Stamped, Store, StoreDecoder};

/// Entries applied before readers see the new state and their writers get an answer.
const BATCH: usize = 256;

/// Time between two tries to save a snapshot on a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);

/// A whole snapshot: what it says of itself, and where its content is.
pub(super) struct Snapshot {
    pub(super) meta: WireSnapshotMeta,
    pub(super) content: Content,
}

/// Where the content of a snapshot is.
pub(super) enum Content {
    /// On disk, as one of this server's snapshots.
    Saved(SnapshotFile),
    /// Just received: durable, found good, but not one of this server's snapshots before Raft says so.
    Received(Box<Received>),
}

/// See [`Content::Received`].
pub(super) struct Received {
    pub(super) staged: Staged,
    pub(super) store: Store,
}

/// Applies committed entries to the shared store.
pub(super) struct StateMachine {
    shared: Arc<Shared>,
    snapshots: Arc<SnapshotStore>,
    applied: Arc<Mutex<Applied>>,
}

/// How far the store is.
#[derive(Debug, Clone, Default)]
struct Applied {
    last: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    /// Starts from the newest snapshot; openraft applies what is after it.
    pub(super) fn new(shared: Arc<Shared>, snapshots: Arc<SnapshotStore>) -> Self {
        Self {
            shared,
            snapshots,
            applied: Arc::default(),
        }
    }

    fn applied(&self) -> Applied {
        self.applied
            .lock()
            .expect("no code panics while it holds this lock")
            .clone()
    }
}

/// What one entry did, and who waits to hear of it.
async fn apply_one(
    store: &mut Store,
    applied: &mut Applied,
    (entry, responder): EntryResponder<TypeConfig>,
    threads: bool,
) -> io::Result<(Option<ApplyResponder<TypeConfig>>, Outcome)> {
    applied.last = Some(entry.log_id);
    let outcome = match entry.payload {
        EntryPayload::Blank => {
            store.advance(entry.log_id.index);
            Outcome::Done
        }
        EntryPayload::Membership(membership) => {
            applied.membership = StoredMembership::new(Some(entry.log_id), membership);
            store.advance(entry.log_id.index);
            Outcome::Done
        }
        EntryPayload::Normal(payload) => {
            // Every server would fail alike on these bytes: the leader checked them, so the log is damaged or was
            // written by a newer version. Going on would make servers differ.
            let stamped = Stamped::decode(&payload.0).map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("log entry {}: {error}", entry.log_id.index),
                )
            })?;
            if stamped.command.is_slow() {
                apply_off_loop(store, entry.log_id.index, stamped, threads).await?
            } else {
                store.apply(entry.log_id.index, &stamped)
            }
        }
    };
    Ok((responder, outcome))
}

/// Applies what takes seconds while heartbeats are answered. What it replaces is forgotten there too.
async fn apply_off_loop(
    store: &mut Store,
    index: u64,
    stamped: Stamped,
    threads: bool,
) -> io::Result<Outcome> {
    let mut changed = std::mem::take(store);
    let (changed, outcome) = off_loop(threads, move || {
        let outcome = changed.apply(index, &stamped);
        (changed, outcome)
    })
    .await?;
    *store = changed;
    Ok(outcome)
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Snapshot;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.applied();
        Ok((applied.last, applied.membership))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut batches = entries.ready_chunks(BATCH);
        let mut applied = self.applied();
        while let Some(batch) = batches.next().await {
            let mut store = Store::clone(&self.shared.load());
            let mut answers = Vec::with_capacity(batch.len());
            for entry in batch {
                let threads = self.snapshots.wants_threads();
                answers.push(apply_one(&mut store, &mut applied, entry?, threads).await?);
            }
            self.shared.publish(&mut store);
            *self
                .applied
                .lock()
                .expect("no code panics while it holds this lock") = applied.clone();
            // Only now, so that a writer that has its answer also reads what it wrote.
            for (responder, outcome) in answers {
                if let Some(responder) = responder {
                    responder.send(outcome);
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let applied = self.applied();
        Builder {
            store: Some(self.shared.load()),
            applied,
            snapshots: self.snapshots.clone(),
            stop: Arc::default(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Snapshot,
    ) -> io::Result<()> {
        let threads = self.snapshots.wants_threads();
        let (staged, mut store) = match snapshot.content {
            Content::Received(received) => (Some(received.staged), received.store),
            // At a start openraft installs what is on disk already.
            Content::Saved(file) => (None, off_loop(threads, move || load(&file)).await??),
        };
        if let Some(staged) = staged {
            off_loop(threads, move || staged.publish())
                .await?
                .map_err(io::Error::other)?;
        }
        *self
            .applied
            .lock()
            .expect("no code panics while it holds this lock") = Applied {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let before = self.shared.load();
        self.shared.replace(&mut store);
        // A million entries take long to be forgotten too.
        off_loop(threads, move || drop(before)).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, Snapshot>>> {
        let Some(file) = self.snapshots.latest().map_err(io::Error::other)? else {
            return Ok(None);
        };
        let meta = file.meta().to_raft().map_err(io::Error::other)?;
        let snapshot = Snapshot {
            meta: describes(file.meta()),
            content: Content::Saved(file),
        };
        Ok(Some(SnapshotOf::<TypeConfig, Snapshot> { meta, snapshot }))
    }
}

/// What travels of a snapshot's description.
fn describes(meta: &Meta) -> WireSnapshotMeta {
    WireSnapshotMeta {
        last_log_id: meta.last_log_id,
        last_membership: meta.last_membership.clone(),
    }
}

/// The store that a snapshot holds, every checksum checked.
pub(super) fn load(file: &SnapshotFile) -> io::Result<Store> {
    let mut decoder = StoreDecoder::default();
    let invalid = |error: DecodeError| {
        let why = format!("snapshot {}: {error}", file.path().display());
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    for section in file.read() {
        decoder
            .push(&section.map_err(io::Error::from)?)
            .map_err(invalid)?;
    }
    decoder.finish().map_err(invalid)
}

/// Writes a snapshot of `store`, a piece at a time, unless `stop` says that nobody wants it any more.
pub(super) fn save(
    snapshots: &SnapshotStore,
    meta: &SnapshotMeta,
    store: &Store,
    stop: &AtomicBool,
) -> io::Result<SnapshotFile> {
    // The cluster's id, so that a file by itself says where it belongs.
    let cluster = store
        .cluster_id()
        .map_or_else(Vec::new, |id| id.as_bytes().to_vec());
    let mut writer = snapshots.writer(&Meta::new(meta, cluster))?;
    store.encode_pieces(|piece| {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        writer.push(&piece).map_err(io::Error::from)
    })?;
    Ok(writer.finish()?)
}

/// Writes a snapshot of a frozen state while writes go on. Dropped, it stops soon.
pub(super) struct Builder {
    /// Goes to the thread that saves it, and is forgotten there: what writes have replaced meanwhile is freed then, a
    /// million entries at worst.
    store: Option<Arc<Store>>,
    applied: Applied,
    snapshots: Arc<SnapshotStore>,
    stop: Arc<AtomicBool>,
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Snapshot;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Snapshot>> {
        let meta = SnapshotMeta {
            last_log_id: self.applied.last,
            last_membership: self.applied.membership.clone(),
        };
        let mut complained = false;
        let file = loop {
            let (snapshots, stop) = (self.snapshots.clone(), self.stop.clone());
            let meta = meta.clone();
            let store = self.store.take().ok_or(io::ErrorKind::NotFound)?;
            let threads = snapshots.wants_threads();
            let saved = off_loop(threads, move || {
                save(&snapshots, &meta, &store, &stop).map_err(|error| (error, store))
            });
            match saved.await? {
                Ok(file) => break file,
                // Nobody needs it at once, so that a full disk is no reason to stop. Each try is a new file.
                Err((error, store)) if is_full(&error) => {
                    self.store = Some(store);
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(target: "raft", "cannot take a snapshot until there is room: {error}");
                    }
                    tokio::time::sleep(FULL_DISK_PAUSE).await;
                }
                Err((error, _)) => return Err(error),
            }
        };
        Ok(SnapshotOf::<TypeConfig, Snapshot> {
            snapshot: Snapshot {
                meta: WireSnapshotMeta::from(&meta),
                content: Content::Saved(file),
            },
            meta,
        })
    }
}
