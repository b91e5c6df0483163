//! Reads that a follower answers itself, as fresh as the leader would.
//!
//! It asks the leader up to which index everything was acknowledged when the read came, many reads with one call, waits
//! until it has applied that, and answers from its own state (Raft's read index, dissertation section 6.4). A large
//! answer is so made by the server that was asked, and a blocking query waits there: the leader's memory, and its time
//! when ten thousand of them wake, are not a matter of how many there are at the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::CALL_TIMEOUT;
use crate::node::{Consistency, Error, Node, ReadOptions, Server};
use crate::raft::{Gathered, Rounds};
use crate::rpc::{Answer, Answered, Request};
use crate::state::Query;

/// How long a read waits for this server to have applied what the leader has. Usually 2 ms: then the news of the last
/// commit is here. One that lags for longer lets the leader answer.
const CATCH_UP: Duration = Duration::from_millis(50);

/// Calls to the leader at a time. A read may only share one that is sent after it came.
const UNDER_WAY: usize = 1;

type Caller = oneshot::Sender<Result<u64, Error>>;

/// Reads that wait to hear an index from the leader.
pub(in crate::node) struct ReadIndexes {
    leased: Gathered<Caller>,
    /// Those that ask for a quorum's word.
    confirmed: Gathered<Caller>,
}

impl Default for ReadIndexes {
    fn default() -> Self {
        Self {
            leased: Gathered::new(UNDER_WAY),
            confirmed: Gathered::new(UNDER_WAY),
        }
    }
}

/// Asks the leader for those who wait.
struct Asking {
    node: Node,
    waiting: Arc<ReadIndexes>,
    quorum: bool,
}

impl Rounds for Asking {
    type Caller = Caller;

    fn gathered(&self) -> &Gathered<Caller> {
        match self.quorum {
            true => &self.waiting.confirmed,
            false => &self.waiting.leased,
        }
    }

    fn has_gone(reader: &Caller) -> bool {
        reader.is_closed()
    }

    async fn carry_out(&self, readers: Vec<Caller>) {
        let request = Request::ReadIndex {
            quorum: self.quorum,
        };
        let deadline = Instant::now() + CALL_TIMEOUT;
        let index = match self.node.ask_leader(&request, deadline).await.0 {
            Ok(Answer::ReadIndex(index)) => Ok(index),
            Ok(_) => Err(Error::Unknown),
            Err(error) => Err(error),
        };
        for reader in readers {
            // One that went away has no use for it.
            let _ = reader.send(index.clone());
        }
    }
}

/// Whether a follower does well to answer by itself: a short answer is as soon fetched as asked after.
pub(super) fn is_worthwhile(query: &Query, options: &ReadOptions) -> bool {
    options.min_index > 0 || query.is_of_many()
}

impl Node {
    /// Answers as the leader would, on a server that does not lead.
    pub(super) async fn read_as_follower(
        &self,
        server: &Server,
        query: &Query,
        options: &ReadOptions,
        until: Instant,
    ) -> Answered {
        let quorum = options.consistency == Consistency::Consistent;
        // Nothing of what comes before the wait, or instead of it, takes room in it: thousands may be there at a time.
        let index = match Box::pin(self.leaders_index(server, quorum, until)).await {
            Ok(index) => index,
            // One of an older version does not know the question.
            Err(Error::Refused(_)) => {
                return Box::pin(self.ask_to_read(query, options, until)).await;
            }
            Err(error) => return Answered(Err(error)),
        };
        let applied = server.shared.changed(&Query::Noop, index.saturating_sub(1));
        if Box::pin(timeout(CATCH_UP, applied)).await.is_err() {
            return Box::pin(self.ask_to_read(query, options, until)).await;
        }
        if let Err(error) = server.wait(&self.caller, query, options, until).await {
            return Answered(Err(error));
        }
        let reply = server.reply(&self.caller, query, Duration::ZERO);
        Answered(reply.map(super::read))
    }

    /// The index up to which the leader had acknowledged everything when this was asked.
    async fn leaders_index(
        &self,
        server: &Server,
        quorum: bool,
        until: Instant,
    ) -> Result<u64, Error> {
        let (tell, told) = oneshot::channel();
        let asking = Arc::new(Asking {
            node: self.clone(),
            waiting: server.read_indexes.clone(),
            quorum,
        });
        asking.add(tell, 0);
        match timeout_at(until + CALL_TIMEOUT, told).await {
            Ok(Ok(index)) => index,
            _ => Err(Error::NoLeader),
        }
    }
}
