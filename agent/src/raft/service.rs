//! The answering side of Raft's messages.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::codec::{WireVote, decode, encode};
use super::identity::Identity;
use super::log::Room;
use super::network::{answer, method};
use super::off_loop::off_loop;
use super::snapshot::{Meta, SnapshotStore, SnapshotWriter};
use super::state_machine::{Content, Received, Snapshot, StateMachine};
use super::wire::{
    Admission, Route, SnapshotPart, WireAppended, WireSnapshotHead, WireTransfer, WireVoteRequest,
    WireVoteResponse, decode_append,
};
use super::{TypeConfig, types};
use crate::env::BoxStream;
use crate::rpc::{self, HANDSHAKE_TIMEOUT, Handler, put_frame, read_frame, write_frame};
use crate::state::StoreDecoder;

/// Appends that may wait for the core; more stay in the socket's buffer.
const APPEND_QUEUE: usize = 16;

/// How long entries for which there is no room are kept before their connection is closed: the leader then tries again,
/// and does not send much more meanwhile than what the socket holds.
const HOLD: Duration = Duration::from_millis(500);

/// Bytes of appends that are read at once; larger ones are read past this buffer.
const APPEND_BUFFER: usize = 32 << 10;

/// Largest snapshot that is taken, in bytes: the state is kept in memory, so a larger one could not be installed.
const MAX_SNAPSHOT: u64 = 16 << 30;

const NO_ROOM: &str = "no room on the disk";

/// Takes votes, appends and snapshots from servers of the same cluster, and from no others.
pub struct Service {
    identity: Arc<Identity>,
    raft: openraft::Raft<TypeConfig, StateMachine>,
    last_append: std::sync::Mutex<Option<tokio::time::Instant>>,
    /// Before this moment it votes for nobody: it may have confirmed a leader before it was restarted, whose lease then
    /// lasts.
    votes_from: Option<tokio::time::Instant>,
    room: watch::Receiver<Room>,
    snapshots: Arc<SnapshotStore>,
}

/// Why a message is not taken.
enum Unfit {
    /// It is not for this server, or not of its cluster.
    Refused(String),
    /// It is not of this protocol.
    Garbage(rpc::Error),
}

impl From<super::codec::Error> for Unfit {
    fn from(error: super::codec::Error) -> Self {
        Unfit::Garbage(not_understood(error))
    }
}

/// What to say of a message that does not decode.
fn not_understood(error: super::codec::Error) -> rpc::Error {
    match error {
        super::codec::Error::Version(_) => rpc::Error::Foreign(format!("a raft message: {error}")),
        other => rpc::Error::Protocol(other.to_string()),
    }
}

impl Service {
    pub(super) fn new(
        identity: Arc<Identity>,
        raft: openraft::Raft<TypeConfig, StateMachine>,
        room: watch::Receiver<Room>,
        snapshots: Arc<SnapshotStore>,
        barred: Option<Duration>,
    ) -> Self {
        Self {
            identity,
            raft,
            last_append: std::sync::Mutex::new(None),
            votes_from: barred.map(|barred| tokio::time::Instant::now() + barred),
            room,
            snapshots,
        }
    }

    /// When a leader's append or snapshot was last accepted.
    pub(super) fn last_append(&self) -> Option<tokio::time::Instant> {
        *self
            .last_append
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn heard_leader(&self) {
        let now = tokio::time::Instant::now();
        *self
            .last_append
            .lock()
            .expect("no code panics while it holds this lock") = Some(now);
    }

    /// Checks that a message is for this server and of its cluster. With `adopts`, a server that belongs to none yet
    /// belongs to the sender's from here on: only a leader sends such a message, and only to a server that it added.
    fn admit(&self, route: Route, adopts: bool) -> Result<(), Unfit> {
        // Raft itself waits for the disk then: what it is told would only pile up.
        if self.room.borrow().is_blocked() {
            return Err(Unfit::Refused(NO_ROOM.to_owned()));
        }
        if route.to != self.identity.raft_id() {
            return Err(Unfit::Refused(format!(
                "this is raft server {}, not {}: the address was reused, or its raft folder is new",
                self.identity.raft_id(),
                route.to
            )));
        }
        let own = self.identity.cluster();
        if own == Some(route.cluster) {
            return Ok(());
        }
        let promised = self
            .identity
            .promise()
            .is_some_and(|(cluster, _)| cluster == route.cluster);
        if own.is_none() && !adopts && !promised {
            return Err(Unfit::Refused(
                "this server belongs to no cluster yet".to_owned(),
            ));
        }
        self.identity.adopt(route.cluster).map_err(|error| {
            tracing::error!(target: "raft", "refused a raft message of server {}: {error}", route.from);
            Unfit::Refused(error.to_string())
        })
    }

    /// Takes the appends of one connection, in order, until it ends.
    pub async fn serve_append(&self, stream: BoxStream) -> Result<(), rpc::Error> {
        let (mut read, mut write) = tokio::io::split(stream);
        if !self.greet(&mut read, &mut write).await? {
            return Ok(());
        }
        let (queue, requests) = mpsc::channel(APPEND_QUEUE);
        let mut room = self.room.clone();
        let reader = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut read = BufReader::with_capacity(APPEND_BUFFER, read);
            while let Some(frame) = read_frame(&mut read).await.map_err(rpc::Error::Lost)? {
                let request = decode_append(frame).map_err(not_understood)?;
                if !request.entries.is_empty() && !may_append(&mut room).await {
                    break;
                }
                if queue.send(request).await.is_err() {
                    break;
                }
            }
            Ok(())
        }));
        let requests = futures::stream::unfold(requests, |mut requests| async {
            requests.recv().await.map(|request| (request, requests))
        });
        // Appends that were synced together are answered together, and the leader is woken once.
        let results = self.raft.stream_append(requests).ready_chunks(APPEND_QUEUE);
        let mut results = std::pin::pin!(results);
        let mut answers = Vec::new();
        while let Some(ready) = results.next().await {
            answers.clear();
            let mut stopped = false;
            for result in ready {
                let Ok(result) = result else {
                    stopped = true;
                    break;
                };
                if !matches!(
                    result,
                    Err(openraft::raft::StreamAppendError::HigherVote(_))
                ) {
                    self.heard_leader();
                }
                let answer = encode(&WireAppended::from(result));
                put_frame(&mut answers, |out| out.extend_from_slice(&answer))
                    .map_err(rpc::Error::Lost)?;
            }
            write.write_all(&answers).await.map_err(rpc::Error::Lost)?;
            write.flush().await.map_err(rpc::Error::Lost)?;
            if stopped {
                // A stopped core closes the connection; the sender tries again until this process is gone.
                return Ok(());
            }
        }
        match reader.await {
            Ok(result) => result,
            Err(_) => Ok(()),
        }
    }

    /// Takes the snapshot that one connection carries.
    pub async fn serve_snapshot(&self, stream: BoxStream) -> Result<(), rpc::Error> {
        let (mut read, mut write) = tokio::io::split(stream);
        if !self.greet(&mut read, &mut write).await? {
            return Ok(());
        }
        let frame = next_frame(&mut read).await?;
        let head: WireSnapshotHead = decode(&frame).map_err(not_understood)?;
        let admission = match self.receive(&mut read, &head).await? {
            Ok(received) => self.install(head, received).await,
            Err(why) => {
                tracing::warn!(target: "raft", "refused a snapshot: {why}");
                Admission::Refused(why)
            }
        };
        send(&mut write, &answer(&admission))
            .await
            .map_err(rpc::Error::Lost)
    }

    /// Writes a snapshot to disk as it comes and reads it at the same time: one that is not good, or for which there is
    /// no room, is refused before Raft hears of it, and nothing has changed.
    async fn receive<R: AsyncRead + Unpin>(
        &self,
        read: &mut R,
        head: &WireSnapshotHead,
    ) -> Result<Result<Received, String>, rpc::Error> {
        if head.bytes > MAX_SNAPSHOT {
            return Ok(Err(format!("it has {} bytes", head.bytes)));
        }
        if self.room.borrow().lacking().is_some() {
            return Ok(Err(NO_ROOM.to_owned()));
        }
        let cluster = self.identity.cluster();
        let meta = Meta {
            last_log_id: head.meta.last_log_id,
            last_membership: head.meta.last_membership.clone(),
            id: String::new(),
            extra: cluster.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
        };
        let threads = self.snapshots.wants_threads();
        let snapshots = self.snapshots.clone();
        let begun = off_loop(threads, move || Intake::begin(&snapshots, &meta)).await;
        let mut intake = match begun.map_err(rpc::Error::Lost)? {
            Ok(intake) => intake,
            Err(why) => return Ok(Err(why)),
        };
        loop {
            let frame = next_frame(read).await?;
            let step = off_loop(threads, move || intake.take(&frame)).await;
            match step.map_err(rpc::Error::Lost)? {
                Ok(Intook::More(rest)) => intake = *rest,
                Ok(Intook::Whole(received)) => return Ok(Ok(*received)),
                Err(why) => return Ok(Err(why)),
            }
        }
    }

    async fn install(&self, head: WireSnapshotHead, received: Received) -> Admission<WireVote> {
        let vote: types::Vote = head.vote.into();
        let meta = match types::SnapshotMeta::try_from(head.meta.clone()) {
            Ok(meta) => meta,
            Err(error) => return Admission::Refused(error.to_string()),
        };
        // openraft panics on these two, as they mean a forged snapshot; a message must not stop the process.
        let committed = self.raft.metrics().borrow_watched().local_committed;
        let beyond_vote = meta
            .last_log_id
            .is_some_and(|last| last.leader_id.term > head.vote.term);
        let conflicts = matches!((meta.last_log_id, committed),
            (Some(last), Some(committed)) if last > committed && last.index <= committed.index);
        if beyond_vote || conflicts {
            tracing::error!(target: "raft", "refused a snapshot that contradicts this server's log");
            return Admission::Refused("the snapshot contradicts this server's log".to_owned());
        }
        let snapshot = Snapshot {
            meta: head.meta,
            content: Content::Received(Box::new(received)),
        };
        let snapshot =
            openraft::type_config::alias::SnapshotOf::<TypeConfig, Snapshot> { meta, snapshot };
        match self.raft.install_full_snapshot(vote, snapshot).await {
            Ok(response) => {
                self.heard_leader();
                Admission::Admitted(response.vote.into())
            }
            Err(fatal) => Admission::Refused(fatal.to_string()),
        }
    }

    /// Reads who is calling and answers whether it may. The first frame of connections that are not calls.
    async fn greet<R, W>(&self, read: &mut R, write: &mut W) -> Result<bool, rpc::Error>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut hello = next_frame(read).await?;
        let admission = match Route::take(&mut hello)
            .map_err(Unfit::from)
            .and_then(|route| self.admit(route, true))
        {
            Ok(()) => Admission::Admitted(()),
            Err(Unfit::Refused(why)) => Admission::Refused(why),
            Err(Unfit::Garbage(error)) => return Err(error),
        };
        send(write, &answer(&admission))
            .await
            .map_err(rpc::Error::Lost)?;
        Ok(matches!(admission, Admission::Admitted(())))
    }

    async fn call(&self, method: u8, mut body: Bytes) -> Result<Bytes, Unfit> {
        let route = Route::take(&mut body)?;
        self.admit(route, false)?;
        let stopped = |error: &dyn std::fmt::Display| Unfit::Refused(error.to_string());
        match method {
            method::VOTE | method::PRE_VOTE => {
                let request = decode::<WireVoteRequest>(&body)?.into();
                if let Some(from) = self.votes_from {
                    tokio::time::sleep_until(from).await;
                }
                let response = if method == method::VOTE {
                    self.raft.vote(request).await
                } else {
                    self.raft.pre_vote(request).await
                };
                let response = response.map_err(|e| stopped(&e))?;
                Ok(answer(&Admission::Admitted(WireVoteResponse::from(
                    response,
                ))))
            }
            method::TRANSFER if self.room.borrow().lacking().is_some() => Ok(answer(
                &Admission::Admitted(Err::<(), _>(NO_ROOM.to_owned())),
            )),
            method::TRANSFER => {
                let request = decode::<WireTransfer>(&body)?.into();
                let taken = self
                    .raft
                    .handle_transfer_leader(request)
                    .await
                    .map_err(|e| stopped(&e))?;
                Ok(answer(&Admission::Admitted(
                    taken.map_err(|e| e.to_string()),
                )))
            }
            other => Err(Unfit::Garbage(rpc::Error::Protocol(format!(
                "unknown raft call {other}"
            )))),
        }
    }
}

/// A snapshot that is coming in.
struct Intake {
    writer: SnapshotWriter,
    decoder: StoreDecoder,
    sections: u64,
}

/// What became of an [`Intake`] with its next part.
enum Intook {
    More(Box<Intake>),
    Whole(Box<Received>),
}

impl Intake {
    fn begin(snapshots: &SnapshotStore, meta: &Meta) -> Result<Self, String> {
        Ok(Self {
            writer: snapshots.writer(meta).map_err(|e| e.to_string())?,
            decoder: StoreDecoder::default(),
            sections: 0,
        })
    }

    fn take(mut self, frame: &Bytes) -> Result<Intook, String> {
        match SnapshotPart::decode(frame)? {
            SnapshotPart::Section(section) => {
                self.sections += 1;
                self.decoder.push(&section).map_err(|e| e.to_string())?;
                self.writer.push(&section).map_err(|e| e.to_string())?;
                Ok(Intook::More(Box::new(self)))
            }
            SnapshotPart::End(sections) if sections != self.sections => {
                Err(format!("{} sections came of {sections}", self.sections))
            }
            SnapshotPart::End(_) => {
                let store = self.decoder.finish().map_err(|e| e.to_string())?;
                let staged = self.writer.stage().map_err(|e| e.to_string())?;
                Ok(Intook::Whole(Box::new(Received { staged, store })))
            }
        }
    }
}

/// Waits a moment for room where there is none; whether there is. Heartbeats have connections of their own and go on, so
/// that a server with a full disk stays a follower in peace.
async fn may_append(room: &mut watch::Receiver<Room>) -> bool {
    let enough = |room: &Room| room.lacking().is_none();
    let waited = tokio::time::timeout(HOLD, room.wait_for(enough)).await;
    waited.is_ok()
}

impl Handler for Service {
    async fn handle(
        &self,
        method: u8,
        body: Bytes,
        deadline: tokio::time::Instant,
    ) -> Result<Option<Bytes>, rpc::Error> {
        // A vote that has to wait until this server may vote is not given to somebody who no longer waits for it.
        let answered = tokio::time::timeout_at(deadline, self.call(method, body)).await;
        match answered {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(Unfit::Refused(why))) => Ok(Some(answer::<()>(&Admission::Refused(why)))),
            Ok(Err(Unfit::Garbage(error))) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

async fn next_frame<R: AsyncRead + Unpin>(read: &mut R) -> Result<Bytes, rpc::Error> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, read_frame(read))
        .await
        .map_err(|_| rpc::Error::Timeout(HANDSHAKE_TIMEOUT))?
        .map_err(rpc::Error::Lost)?
        .ok_or_else(|| rpc::Error::Lost(io::ErrorKind::UnexpectedEof.into()))
}

async fn send<W: AsyncWrite + Unpin>(write: &mut W, body: &[u8]) -> io::Result<()> {
    write_frame(write, &[body]).await?;
    write.flush().await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::env::{Disk as _, MemoryDisk};
    use crate::state::Store;

    const FOLDER: &str = "/data/raft/snapshots";

    fn section(bytes: &[u8]) -> Bytes {
        [&SnapshotPart::section_head(bytes)[..], bytes]
            .concat()
            .into()
    }

    fn end(sections: u64) -> Bytes {
        Bytes::copy_from_slice(&SnapshotPart::end(sections))
    }

    /// What becomes of a snapshot that comes in these frames, and what it leaves on disk if it is refused.
    fn take_in(frames: &[Bytes]) -> Result<(Received, SnapshotStore), (String, usize)> {
        let disk = MemoryDisk::new();
        let store = SnapshotStore::open(Arc::new(disk.clone()), Path::new(FOLDER)).unwrap();
        let left = || disk.read_dir(Path::new(FOLDER)).unwrap().len();
        let mut intake = Intake::begin(&store, &Meta::default()).unwrap();
        for frame in frames {
            match intake.take(frame) {
                Ok(Intook::More(rest)) => intake = *rest,
                Ok(Intook::Whole(received)) => return Ok((*received, store)),
                Err(why) => return Err((why, left())),
            }
        }
        drop(intake);
        Err(("more is expected".to_owned(), left()))
    }

    #[test]
    fn a_whole_snapshot_counts_only_once_it_is_published() {
        let bytes = Store::default().encode();
        let (first, second) = bytes.split_at(10);
        let taken = take_in(&[section(first), section(second), end(2)]);
        let (received, store) = taken.unwrap();
        assert!(received.store == Store::default());
        assert!(store.latest().unwrap().is_none());
        received.staged.publish().unwrap();
        assert!(store.latest().unwrap().is_some());
    }

    #[test]
    fn one_that_is_cut_changed_newer_or_unknown_is_refused_and_leaves_nothing() {
        let bytes = Store::default().encode();
        let mut newer = bytes.clone();
        newer[0] = 9;
        let mut changed = section(&bytes).to_vec();
        changed[20] ^= 1;
        let cases: [(&[Bytes], &str); 7] = [
            (&[section(&bytes)], "more is expected"),
            (&[section(&bytes), end(2)], "1 sections came of 2"),
            (
                &[section(&bytes[..bytes.len() - 1]), end(1)],
                "a section is cut",
            ),
            (&[section(&newer), end(1)], "version 9"),
            (&[changed.into(), end(1)], "wrong checksum"),
            (&[Bytes::from_static(b"\x07")], "an unknown part"),
            (&[Bytes::new()], "an unknown part"),
        ];
        for (frames, expected) in cases {
            let Err((why, left)) = take_in(frames) else {
                panic!("taken, where {expected:?} was expected");
            };
            assert!(why.contains(expected), "{why}");
            assert_eq!(left, 0, "{why}");
        }
    }
}
