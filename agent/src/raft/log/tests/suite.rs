//! openraft's own conformance suite, with the smallest state machine that it accepts.

use futures::TryStreamExt as _;
use openraft::entry::RaftEntry as _;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{RaftSnapshotBuilder, Snapshot, StorageError};
use tempfile::TempDir;

use super::*;
use crate::env::RealDisk;
use crate::raft::types::{SnapshotMeta, StoredMembership};
use crate::state::Outcome;

#[derive(Clone, Default)]
struct Machine {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Arc<Mutex<Option<SnapshotMeta>>>,
}

type MachineSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, ()>;

fn snapshot(meta: SnapshotMeta) -> MachineSnapshot {
    Snapshot { meta, snapshot: () }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<MachineSnapshot> {
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(snapshot(meta))
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let Some(membership) = entry.get_membership() {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(Outcome::Done);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _: ()) -> io::Result<()> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<MachineSnapshot>> {
        Ok(self.snapshot.lock().unwrap().clone().map(snapshot))
    }
}

/// Options under which a log works hard: many segments, nothing in memory that need not be.
fn tight() -> Options {
    Options {
        cache_bytes: 0,
        ..options(1024)
    }
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let store = open(&MemoryDisk::new(), &tight()).unwrap();
        Ok(((), store, Machine::default()))
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().unwrap();
        let store = LogStore::open(Arc::new(RealDisk), &folder.path().join("wal"), tight());
        Ok((folder, store.unwrap(), Machine::default()))
    }
}

#[test]
fn passes_openrafts_suite_in_memory() {
    run(Suite::test_all(InMemory)).unwrap();
}

#[test]
fn passes_openrafts_suite_on_a_real_disk() {
    run(Suite::test_all(OnDisk)).unwrap();
}
