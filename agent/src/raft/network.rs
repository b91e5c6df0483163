//! The calling side of Raft's messages.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::AnyError;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::InstantOf;
use openraft::{Instant as _, RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::codec::{WireVote, decode, encode};
use super::contacts::Contacts;
use super::identity::Identity;
use super::off_loop::off_loop;
use super::state_machine::{Content, Snapshot};
use super::types::Vote;
use super::wire::{
    Admission, Route, SnapshotPart, WireAppended, WireSnapshotHead, WireTransfer, WireVoteRequest,
    WireVoteResponse, encode_append,
};
use super::{PeerNode, RaftId, TypeConfig};
use crate::env::{self, Env};
use crate::rpc::{self, Pool, Purpose, put_frame, read_frame, write_frame};

/// Numbers of the calls on a connection with [`Purpose::Raft`].
pub(super) mod method {
    pub(in crate::raft) const VOTE: u8 = 1;
    pub(in crate::raft) const PRE_VOTE: u8 = 2;
    pub(in crate::raft) const TRANSFER: u8 = 3;
}

/// Appends that may be on their way to one server before the first of them is answered.
const PIPELINE: usize = 64;

/// Longest time that followers hear of a commit later, when no write follows it. Consul's wait 50 ms and more.
const NEWS_PAUSE: Duration = Duration::from_millis(2);

/// Bytes of answers to appends that are read at once: a few dozen.
const ANSWER_BUFFER: usize = 1024;

/// Longest time one section of a snapshot may take to be taken, or the installed whole to be confirmed.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where servers are, by Raft id, as gossip has it. Wins over the address in the Raft configuration, which is older
/// after a restart on another address.
pub type AddressBook = Arc<ArcSwap<BTreeMap<RaftId, SocketAddr>>>;

/// What all connections of one server share.
pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) identity: Arc<Identity>,
    pub(super) addresses: AddressBook,
    pub(super) votes: Pool,
    pub(super) contacts: Arc<Contacts>,
    /// Longest time to wait for an answer other than to a snapshot.
    pub(super) timeout: Duration,
}

/// Makes the connections that openraft asks for.
pub(super) struct Factory(pub(super) Arc<Shared>);

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Peer;

    async fn new_client(&mut self, target: RaftId, node: &PeerNode) -> Peer {
        Peer {
            shared: self.0.clone(),
            target,
            configured: node.addr,
            append: None,
        }
    }
}

/// One other server.
pub(super) struct Peer {
    shared: Arc<Shared>,
    target: RaftId,
    configured: SocketAddr,
    append: Option<AppendConnection>,
}

struct AppendConnection {
    read: BufReader<ReadHalf<env::BoxStream>>,
    write: WriteHalf<env::BoxStream>,
}

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

/// openraft backs off before it tries an unreachable server again.
fn unreachable(error: impl std::error::Error + 'static) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&error))
}

/// openraft tries again soon after such an error.
fn broken(error: impl std::error::Error + 'static) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&error))
}

fn refused(why: &str) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(why)))
}

fn io_error(error: rpc::Error) -> RPCError<TypeConfig> {
    if error.never_sent() {
        unreachable(error)
    } else {
        broken(error)
    }
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the other server closed the connection",
    )
}

/// Reads the answer to a message, and what it was refused with.
fn admitted<T: DeserializeOwned>(bytes: &[u8]) -> RpcResult<T> {
    match decode(bytes).map_err(broken)? {
        Admission::Admitted(answer) => Ok(answer),
        Admission::Refused(why) => Err(refused(&why)),
    }
}

/// How long a call for a vote may take. openraft drops it a little later without a word, and the pool would not learn
/// that its connection is silent.
fn before_given_up(option: &RPCOption) -> Duration {
    option.hard_ttl() * 9 / 10
}

impl Peer {
    fn address(&self) -> SocketAddr {
        self.shared
            .addresses
            .load()
            .get(&self.target)
            .copied()
            .unwrap_or(self.configured)
    }

    fn route(&self) -> RpcResult<Route> {
        let cluster = match (
            self.shared.identity.cluster(),
            self.shared.identity.promise(),
        ) {
            (Some(cluster), _) => cluster,
            // While it is being formed, the cluster exists as a promise only.
            (None, Some((cluster, _))) => cluster,
            (None, None) => return Err(refused("this server belongs to no cluster yet")),
        };
        Ok(Route {
            cluster,
            from: self.shared.identity.raft_id(),
            to: self.target,
        })
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: u8,
        message: &Q,
        timeout: Duration,
    ) -> RpcResult<A> {
        let mut body = Vec::new();
        self.route()?.put(&mut body);
        body.extend_from_slice(&encode(message));
        let answer = self
            .shared
            .votes
            .call(self.address(), method, body.into(), timeout)
            .await
            .map_err(io_error)?;
        admitted(&answer)
    }

    /// Opens a connection and is admitted on it.
    async fn open(&self, purpose: Purpose) -> RpcResult<env::BoxStream> {
        let route = self.route()?;
        let timeout = self.shared.timeout;
        let mut stream = rpc::open(&*self.shared.env.net, self.address(), purpose, timeout)
            .await
            .map_err(io_error)?;
        let mut hello = Vec::new();
        route.put(&mut hello);
        let exchange = async {
            write_frame(&mut stream, &[&hello]).await?;
            stream.flush().await?;
            read_frame(&mut stream).await?.ok_or_else(closed)
        };
        let answer = tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        admitted::<()>(&answer)?;
        Ok(stream)
    }

    async fn append_connection(&mut self) -> RpcResult<AppendConnection> {
        if let Some(connection) = self.append.take() {
            return Ok(connection);
        }
        let (read, write) = tokio::io::split(self.open(Purpose::Append).await?);
        let read = BufReader::with_capacity(ANSWER_BUFFER, read);
        Ok(AppendConnection { read, write })
    }

    async fn send_snapshot(&self, vote: &Vote, snapshot: &Snapshot) -> RpcResult<WireVote> {
        let Content::Saved(file) = &snapshot.content else {
            return Err(refused("a snapshot that is not saved yet cannot be sent"));
        };
        let mut stream = self.open(Purpose::Snapshot).await?;
        let head = WireSnapshotHead {
            vote: vote.into(),
            meta: snapshot.meta.clone(),
            bytes: file.size_bytes(),
        };
        let threads = self.shared.env.disk.wants_threads();
        let sent = async {
            write_frame(&mut stream, &[&encode(&head)]).await?;
            // One section in memory at a time.
            let (mut reader, mut sections) = (file.read(), 0);
            loop {
                let (rest, section) = off_loop(threads, move || {
                    let section = reader.next();
                    (reader, section)
                })
                .await?;
                reader = rest;
                let Some(section) = section.transpose()? else {
                    break;
                };
                sections += 1;
                let head = SnapshotPart::section_head(&section);
                let part = [head.as_slice(), &section];
                tokio::time::timeout(SNAPSHOT_TIMEOUT, write_frame(&mut stream, &part))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            }
            write_frame(&mut stream, &[&SnapshotPart::end(sections)]).await?;
            stream.flush().await?;
            tokio::time::timeout(SNAPSHOT_TIMEOUT, read_frame(&mut stream))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?
                .ok_or_else(closed)
        };
        admitted(&sent.await.map_err(broken)?)
    }
}

/// Keeps back a request that has nothing but news of a commit, for the next request brings the same news.
///
/// While writes go on, the next one is there long before [`NEWS_PAUSE`] is over, and both servers are spared a message
/// and its answer for each batch. A question where a log ends looks the same; it is the only request of its stream, or
/// is followed by an answer's consequence only, and so is sent when the stream ends or the pause is over.
fn with_news<S>(input: S) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
{
    // Ended once, it must not be asked again.
    let state = (input.fuse(), None);
    Box::pin(futures::stream::unfold(
        state,
        |(mut input, kept)| async move {
            let mut request: AppendEntriesRequest<TypeConfig> = match kept {
                Some(kept) => kept,
                None => input.next().await?,
            };
            while request.entries.is_empty() {
                match tokio::time::timeout(NEWS_PAUSE, input.next()).await {
                    // It goes on from the same place: whatever the first one asks, the second one does too.
                    Ok(Some(next)) if next.prev_log_id == request.prev_log_id => request = next,
                    Ok(kept @ Some(_)) => return Some((request, (input, kept))),
                    Ok(None) | Err(_) => break,
                }
            }
            Some((request, (input, None)))
        },
    ))
}

/// A request on its way.
struct Sent {
    /// The term of the leader that sends it.
    term: u64,
    /// Not after it left.
    at: InstantOf<TypeConfig>,
}

/// Writes requests as they come; gives the connection back when there are no more.
async fn pump<S>(
    input: S,
    mut write: WriteHalf<env::BoxStream>,
    sent: mpsc::Sender<Sent>,
) -> io::Result<WriteHalf<env::BoxStream>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
{
    let mut frame = Vec::new();
    let mut input = with_news(input);
    while let Some(request) = input.next().await {
        frame.clear();
        put_frame(&mut frame, |out| encode_append(&request, out))?;
        let term = request.vote.leader_id.term;
        drop(request);
        // Announced first: the reader then waits for the answer, or learns that the connection broke.
        let at = InstantOf::<TypeConfig>::now();
        if sent.send(Sent { term, at }).await.is_err() {
            break;
        }
        // In one piece: the other side is woken once.
        write.write_all(&frame).await?;
        write.flush().await?;
        frame.shrink_to(64 << 10);
    }
    Ok(write)
}

/// Reads one answer for each request that [`pump`] announced.
struct Answers<'s> {
    peer: &'s mut Peer,
    read: BufReader<ReadHalf<env::BoxStream>>,
    sent: mpsc::Receiver<Sent>,
    writer: AbortOnDropHandle<io::Result<WriteHalf<env::BoxStream>>>,
}

impl<'s> Answers<'s> {
    /// The next answer and, unless it was the last, the rest.
    async fn next(mut self) -> Option<(RpcResult<StreamAppendResult<TypeConfig>>, Option<Self>)> {
        let Some(sent) = self.sent.recv().await else {
            // Everything sent was answered: the connection can serve the next stream.
            if let Ok(Ok(write)) = self.writer.await {
                self.peer.append = Some(AppendConnection {
                    read: self.read,
                    write,
                });
            }
            return None;
        };
        let frame = tokio::time::timeout(self.peer.shared.timeout, read_frame(&mut self.read))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .and_then(|frame| frame.ok_or_else(closed));
        let answer = match frame {
            Ok(frame) => decode::<WireAppended>(&frame)
                .map_err(broken)
                .map(StreamAppendResult::from),
            Err(error) => Err(broken(error)),
        };
        let goes_on = matches!(answer, Ok(Ok(_)));
        if goes_on {
            let Peer { shared, target, .. } = &*self.peer;
            shared.contacts.confirmed(*target, sent.term, sent.at);
        }
        Some((answer, goes_on.then_some(self)))
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Snapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        let mut answers = self
            .stream_append(futures::stream::iter([request]), option)
            .await?;
        let answer = answers
            .next()
            .await
            .unwrap_or_else(|| Err(broken(closed())))?;
        Ok(answer.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        async move {
            let AppendConnection { read, write } = self.append_connection().await?;
            let (announce, sent) = mpsc::channel(PIPELINE);
            let writer = AbortOnDropHandle::new(tokio::spawn(pump(input, write, announce)));
            let answers = Answers {
                peer: self,
                read,
                sent,
                writer,
            };
            let stream =
                futures::stream::unfold(Some(answers), |answers| async { answers?.next().await });
            Ok(stream.boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let answer: WireVoteResponse = self
            .call(
                method::VOTE,
                &WireVoteRequest::from(request),
                before_given_up(&option),
            )
            .await?;
        Ok(answer.into())
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let answer: WireVoteResponse = self
            .call(
                method::PRE_VOTE,
                &WireVoteRequest::from(request),
                before_given_up(&option),
            )
            .await?;
        Ok(answer.into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, Snapshot>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(&vote, &snapshot.snapshot) => Ok(SnapshotResponse::new(sent?.into())),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let answer: Result<(), String> = self
            .call(
                method::TRANSFER,
                &WireTransfer::from(request),
                self.shared.timeout,
            )
            .await?;
        // Why it was not taken is in the other server's log; openraft only logs it once more.
        answer.map_err(|why| refused(&why))?;
        Ok(Ok(()))
    }
}

/// Bytes of an answer.
pub(super) fn answer<T: Serialize>(admission: &Admission<T>) -> Bytes {
    encode(admission).into()
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use openraft::entry::RaftEntry as _;

    use super::*;
    use crate::raft::types::{Entry, LogId};

    fn id(index: u64) -> Option<LogId> {
        Some(LogId::new_term_index(1, index))
    }

    /// An append behind `prev` of so many entries.
    fn append(prev: u64, entries: u64, commit: u64) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: id(prev),
            entries: (1..=entries)
                .map(|n| Entry::new_blank(LogId::new_term_index(1, prev + n)))
                .collect(),
            leader_commit: id(commit),
        }
    }

    /// What goes out of `requests`: where each begins, how many entries it has, and what it says of the commit.
    async fn sent(requests: Vec<AppendEntriesRequest<TypeConfig>>) -> Vec<(u64, usize, u64)> {
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        with_news(stream::iter(requests))
            .map(|r| {
                (
                    index(r.prev_log_id),
                    r.entries.len(),
                    index(r.leader_commit),
                )
            })
            .collect()
            .await
    }

    /// The answer to the first of two requests says nothing about the second one.
    #[tokio::test]
    async fn an_answer_counts_from_when_its_own_request_was_sent() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (input, requests) = mpsc::channel(4);
        let requests = futures::stream::unfold(requests, |mut requests| async {
            Some((requests.recv().await?, requests))
        });
        let (_read, write) = tokio::io::split(Box::new(near) as env::BoxStream);
        let (announce, mut sent) = mpsc::channel(PIPELINE);
        let pumped = tokio::spawn(pump(Box::pin(requests), write, announce));
        let mut earliest = InstantOf::<TypeConfig>::now();
        for request in [append(0, 1, 0), append(1, 0, 1)] {
            input.send(request).await.unwrap();
            read_frame(&mut far).await.unwrap().unwrap();
            let arrived = InstantOf::<TypeConfig>::now();
            let Sent { term, at } = sent.recv().await.unwrap();
            assert_eq!(term, 1);
            assert!(earliest <= at && at <= arrived, "it is another's time");
            earliest = arrived;
        }
        drop(input);
        pumped.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn news_of_a_commit_goes_with_the_next_entries() {
        let requests = vec![
            append(0, 2, 0),
            append(2, 0, 1),
            append(2, 0, 2),
            append(2, 1, 2),
        ];
        assert_eq!(sent(requests).await, [(0, 2, 0), (2, 1, 2)]);
    }

    #[tokio::test]
    async fn news_that_nothing_follows_is_sent_too() {
        assert_eq!(sent(vec![append(2, 0, 2)]).await, [(2, 0, 2)]);
        let pause = stream::iter([append(2, 0, 2)]).chain(stream::pending());
        let first = with_news(pause).next().await.unwrap();
        assert!(first.entries.is_empty());
    }

    #[tokio::test]
    async fn a_question_is_not_dropped_for_what_goes_on_elsewhere() {
        let requests = vec![append(5, 0, 1), append(2, 1, 1), append(3, 0, 2)];
        assert_eq!(sent(requests).await, [(5, 0, 1), (2, 1, 1), (3, 0, 2)]);
    }
}
