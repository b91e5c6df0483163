use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::type_config::TypeConfigExt as _;
use openraft::type_config::alias::OneshotReceiverOf;

use super::*;
use crate::env::{Keep, MemoryDisk, Random as _, SeededRandom};
use crate::raft::codec::WireLogId;
use crate::raft::types::Payload;

mod behaviour;
mod crash;
mod damage;
mod suite;

const FOLDER: &str = "/data/raft/wal";

fn options(segment_bytes: u64) -> Options {
    Options {
        segment_bytes,
        ..Options::default()
    }
}

fn open(disk: &MemoryDisk, options: &Options) -> Result<LogStore, Error> {
    LogStore::open(Arc::new(disk.clone()), Path::new(FOLDER), options.clone())
}

fn id(term: u64, index: u64) -> LogId {
    WireLogId { term, index }.into()
}

/// An entry whose payload tells what it is, so that no other can pass for it.
fn entry(term: u64, index: u64, len: usize) -> Entry {
    let mut payload = format!("{term}.{index};").into_bytes();
    payload.resize(len.max(payload.len()), b'.');
    Entry {
        log_id: id(term, index),
        payload: EntryPayload::Normal(Payload(Bytes::from(payload))),
    }
}

/// Appends without waiting; the receiver hears when it is durable.
async fn submit(
    store: &mut LogStore,
    entries: Vec<Entry>,
) -> (
    io::Result<()>,
    OneshotReceiverOf<TypeConfig, io::Result<()>>,
) {
    let (sender, receiver) = TypeConfig::oneshot();
    let result = store.append(entries, IOFlushed::signal(sender)).await;
    (result, receiver)
}

/// Appends and waits until it is durable.
async fn append(store: &mut LogStore, entries: Vec<Entry>) -> io::Result<()> {
    let (result, receiver) = submit(store, entries).await;
    result?;
    receiver.await.expect("every callback is called")
}

async fn all(store: &LogStore) -> Vec<Entry> {
    store.reader().try_get_log_entries(..).await.unwrap()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}
