//! Gets a request to whoever can answer it: this server, the leader, or any server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, ready};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Consistency, Error, Node, PeerRef, RaftServer, ReadOptions, Reply};
use crate::leader::autopilot::ClusterHealth;
use crate::leader::peers::server_addr;
use crate::raft;
use crate::rate::Operation;
use crate::rpc::{self, Answer, Answered, Request};
use crate::state::{Command, Outcome, Query, Session, Stamped};

mod across;
mod answer;
mod own;
mod read_index;

pub(super) use read_index::ReadIndexes;

/// Longest time a proposal may take once somebody has it.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time an answer may take that waits for nothing.
const CALL_TIMEOUT: Duration = Duration::from_secs(7);

/// Time between two looks for a leader when nothing says that it has changed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What became of one try.
enum Try<T> {
    Done(T),
    /// Nobody has done anything: try again while there is time.
    Again(Error),
}

impl From<raft::Error> for Error {
    fn from(error: raft::Error) -> Self {
        match error {
            raft::Error::NotLeader => Error::NoLeader,
            raft::Error::Unknown => Error::Unknown,
            raft::Error::Refused(why) => Error::Refused(why),
            raft::Error::NoRoom(why) => Error::NoRoom(why),
            raft::Error::Stopped(_) => Error::ShuttingDown,
        }
    }
}

impl Node {
    /// Proposes a command through the leader and waits until it is applied.
    ///
    /// # Errors
    /// After [`Error::Unknown`] the command may have been applied; after any other error it was not.
    pub fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + '_ {
        if let Err(refused) = self.enter(|| Operation::of_command(&command)) {
            return Either::Right(ready(Err(refused)));
        }
        let stamped = Stamped {
            unix_ms: self.inner.env.clock.unix_ms(),
            command,
        };
        // No `async fn`: it would keep the command for as long as it waits.
        Either::Left(self.propose_encoded(stamped.encode(), Instant::now() + PROPOSE_TIMEOUT))
    }

    async fn propose_encoded(&self, bytes: Bytes, deadline: Instant) -> Result<Outcome, Error> {
        let _place = self.inner.gate.proposal(bytes.len()).ok_or(Error::Busy)?;
        let bytes = &bytes;
        if let Some(datacenter) = &self.elsewhere {
            let request = || Request::Propose(bytes.clone());
            return match Box::pin(self.across(datacenter, request, deadline)).await? {
                Answer::Applied(outcome) => Ok(outcome),
                _ => Err(Error::Unknown),
            };
        }
        let answer = self
            .until_led(deadline, || async move {
                match &self.inner.server {
                    Some(server) if server.leads() => {
                        let proposed = server.propose(&self.caller, bytes.clone(), deadline).await;
                        Answered(proposed.map(Answer::Applied))
                    }
                    _ => {
                        // Boxed, so that a change proposed by its leader is small.
                        let request = Request::Propose(bytes.clone());
                        Box::pin(self.ask_leader(&request, deadline)).await
                    }
                }
            })
            .await?;
        match answer {
            Answer::Applied(outcome) => Ok(outcome),
            _ => Err(Error::Unknown),
        }
    }

    /// Answers a query, here or through a server.
    pub fn read(
        &self,
        query: Query,
        options: ReadOptions,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        if let Err(refused) = self.enter(|| Operation::of_query(&query)) {
            return Either::Left(ready(Err(refused)));
        }
        if let (Some(server), None) = (&self.inner.server, &self.elsewhere)
            && let Some(reply) = server.read_at_once(&self.caller, &query, &options)
        {
            return Either::Left(ready(reply));
        }
        // Boxed, so that a read which waits for nothing is small; what waits for long is boxed again further down.
        Either::Right(Box::pin(self.read_or_ask(query, options)))
    }

    /// Whether [`Node::read`] would answer at once, from this node's own state, and the same as when it last gave this index.
    /// Never while requests are counted, or what was kept would be asked for without end.
    pub fn is_unchanged(&self, query: &Query, options: &ReadOptions, index: u64) -> bool {
        if self.inner.rates.counts() {
            return false;
        }
        let server = self.inner.server.as_ref();
        server.is_some_and(|server| server.is_unchanged(&self.caller, query, options, index))
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "it would keep its arguments twice, for as long as a blocking query waits"
    )]
    fn read_or_ask(
        &self,
        query: Query,
        options: ReadOptions,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        async move {
            let (query, options) = (&query, &options);
            // However often it is tried, it waits no longer altogether.
            let until = Instant::now() + options.wait;
            if let Some(datacenter) = &self.elsewhere {
                return Box::pin(self.read_across(datacenter, query, options, until)).await;
            }
            if let (Some(server), Consistency::Stale) = (&self.inner.server, options.consistency)
                && let Some(reply) = server.read_stale(&self.caller, query, options, until).await
            {
                return reply;
            }
            let answer = self
                .until_led(until + CALL_TIMEOUT, || async move {
                    match &self.inner.server {
                        Some(server) if server.leads() => {
                            let reply = server.read(&self.caller, query, options, until).await;
                            Answered(reply.map(read))
                        }
                        Some(server) if read_index::is_worthwhile(query, options) => {
                            Box::pin(self.read_as_follower(server, query, options, until)).await
                        }
                        _ => Box::pin(self.ask_to_read(query, options, until)).await,
                    }
                })
                .await?;
            read_of(answer)
        }
    }

    /// Lets another server answer, which waits for a change until that moment.
    async fn ask_to_read(&self, query: &Query, options: &ReadOptions, until: Instant) -> Answered {
        let options = ReadOptions {
            wait: until.saturating_duration_since(Instant::now()),
            ..options.clone()
        };
        let any_server = options.consistency == Consistency::Stale && options.max_stale.is_none();
        let request = Request::Read(query.clone(), options);
        let deadline = until + CALL_TIMEOUT;
        if self.inner.server.is_none() && any_server {
            self.ask_any(&request, deadline).await
        } else {
            self.ask_leader(&request, deadline).await
        }
    }

    /// Server address of the leader, as far as this node or a server that it asks knows.
    ///
    /// # Errors
    /// When another datacenter is asked, and is not reached.
    pub async fn leader_address(&self) -> Result<Option<SocketAddr>, Error> {
        self.enter(|| Operation::STATUS)?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        if let Some(datacenter) = &self.elsewhere {
            return match self.across(datacenter, || Request::Peers, deadline).await? {
                Answer::Peers { leader, .. } => Ok(leader),
                _ => Err(Error::Unknown),
            };
        }
        Ok(self.leader_address_by(deadline).await)
    }

    async fn leader_address_by(&self, deadline: Instant) -> Option<SocketAddr> {
        match &self.inner.server {
            Some(server) => server.leader_address(),
            None => match self.ask_any(&Request::Peers, deadline).await {
                Answered(Ok(Answer::Peers { leader, .. })) => leader,
                _ => None,
            },
        }
    }

    /// Server addresses of the voters.
    pub async fn peer_addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        self.enter(|| Operation::STATUS)?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        let answer = match (&self.elsewhere, &self.inner.server) {
            (Some(datacenter), _) => self.across(datacenter, || Request::Peers, deadline).await,
            (None, Some(server)) => return Ok(server.voter_addresses()),
            (None, None) => self.ask_any(&Request::Peers, deadline).await.0,
        };
        match answer? {
            Answer::Peers { voters, .. } => Ok(voters),
            _ => Err(Error::Unknown),
        }
    }

    /// The Raft configuration and the index that set it.
    pub async fn raft_configuration(&self, stale: bool) -> Result<(Vec<RaftServer>, u64), Error> {
        self.enter(|| Operation::RAFT_CONFIGURATION)?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        let answer = match (&self.elsewhere, &self.inner.server) {
            (Some(datacenter), _) => {
                let request = || Request::RaftConfiguration(!stale);
                self.across(datacenter, request, deadline).await
            }
            (None, Some(server)) if stale => {
                server.check_request(&self.caller, &Request::RaftConfiguration(false))?;
                return Ok(server.configuration());
            }
            _ => self.ask_for_configuration(stale, deadline).await,
        };
        match answer? {
            Answer::RaftConfiguration(servers, index) => Ok((servers, index)),
            _ => Err(Error::Unknown),
        }
    }

    async fn ask_for_configuration(&self, stale: bool, deadline: Instant) -> Result<Answer, Error> {
        let request = &Request::RaftConfiguration(!stale);
        self.until_led(deadline, || async move {
            match &self.inner.server {
                Some(server) if server.leads() => {
                    let checked = server.check_request(&self.caller, request);
                    let (servers, index) = server.configuration();
                    Answered(checked.map(|()| Answer::RaftConfiguration(servers, index)))
                }
                None if stale => self.ask_any(request, deadline).await,
                _ => self.ask_leader(request, deadline).await,
            }
        })
        .await
    }

    /// Removes a server, given by address or by id, from the Raft configuration.
    pub async fn remove_peer(&self, peer: PeerRef) -> Result<(), Error> {
        self.lead_or_ask(Request::RemovePeer(peer)).await?;
        Ok(())
    }

    /// Hands leadership to `id`, or to the voter that is furthest ahead.
    pub async fn transfer_leader(&self, id: Option<Uuid>) -> Result<(), Error> {
        self.lead_or_ask(Request::TransferLeader(id)).await?;
        Ok(())
    }

    /// Starts a session's time anew, on the leader; `None` when the session does not live.
    pub async fn renew_session(&self, id: Uuid) -> Result<Option<Arc<Session>>, Error> {
        match self.lead_or_ask(Request::RenewSession(id)).await? {
            Answer::Session(session) => Ok(session),
            _ => Err(Error::Unknown),
        }
    }

    /// How well the servers are, as the leader sees it.
    pub async fn health(&self) -> Result<ClusterHealth, Error> {
        match self.lead_or_ask(Request::Health).await? {
            Answer::Health(health) => Ok(health),
            _ => Err(Error::Unknown),
        }
    }

    pub(super) async fn lead_or_ask(&self, request: Request) -> Result<Answer, Error> {
        self.enter(|| Operation::of_request(&request))?;
        let request = &request;
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        if let Some(datacenter) = &self.elsewhere {
            return self.across(datacenter, || request.clone(), deadline).await;
        }
        self.until_led(deadline, || async move {
            match &self.inner.server {
                Some(server) if server.leads() => server.command(request, self, deadline).await,
                _ => self.ask_leader(request, deadline).await,
            }
        })
        .await
    }

    /// Repeats `attempt` while nobody leads, until the hold time or the request's own is over.
    ///
    /// Each try is given what the ones before have left of the request's time, or a client that gives up after that time
    /// would be worked for long after it has gone.
    async fn until_led<F>(
        &self,
        deadline: Instant,
        attempt: impl Fn() -> F,
    ) -> Result<Answer, Error>
    where
        F: Future<Output = Answered>,
    {
        let deadline = deadline.min(Instant::now() + self.inner.config.rpc_hold_timeout);
        loop {
            let outcome = match attempt().await.0 {
                Ok(answer) => Try::Done(Ok(answer)),
                Err(error @ (Error::NoLeader | Error::NoServers | Error::NoRoom(_))) => {
                    Try::Again(error)
                }
                Err(error) => Try::Done(Err(error)),
            };
            match outcome {
                Try::Done(result) => return result,
                Try::Again(error) if Instant::now() >= deadline => return Err(error),
                Try::Again(_) => Box::pin(self.wait_for_leader(deadline)).await,
            }
        }
    }

    /// Waits a moment, and less when a leader turns up.
    async fn wait_for_leader(&self, deadline: Instant) {
        let jitter =
            Duration::from_millis(self.inner.env.random.below(LOOK_AGAIN.as_millis() as u64));
        let pause =
            tokio::time::sleep_until((Instant::now() + LOOK_AGAIN / 2 + jitter).min(deadline));
        match &self.inner.server {
            Some(server) => {
                // Not any change: every attempt is one, so that two waiting requests would wake each other for ever.
                let now = server.consensus.status();
                let other = |status: &raft::Status| {
                    let led = status.leader.is_some();
                    (led && (status.leader, status.term) != (now.leader, now.term)).then_some(())
                };
                tokio::select! {
                    () = pause => {}
                    () = server.consensus.wait_until(other) => {}
                }
            }
            None => pause.await,
        }
    }

    async fn ask_leader(&self, request: &Request, deadline: Instant) -> Answered {
        let leader = match &self.inner.server {
            Some(server) => server.leader_address(),
            None => match self.hint() {
                Some(leader) => Some(leader),
                None => {
                    let by = deadline.min(Instant::now() + CALL_TIMEOUT);
                    self.leader_address_by(by).await
                }
            },
        };
        let Some(leader) = leader else {
            return Answered(Err(self.nobody()));
        };
        let answered = self.ask(leader, request, deadline).await;
        let found = !matches!(answered.0, Err(Error::NoLeader | Error::Unknown));
        *self
            .inner
            .leader_hint
            .lock()
            .expect("no code panics while it holds this lock") = found.then_some(leader);
        answered
    }

    fn hint(&self) -> Option<SocketAddr> {
        *self
            .inner
            .leader_hint
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Asks living servers, in random order, until one answers.
    async fn ask_any(&self, request: &Request, deadline: Instant) -> Answered {
        let mut servers = self.living_servers();
        let mut refused = None;
        while !servers.is_empty() {
            let pick = self.inner.env.random.below(servers.len() as u64) as usize;
            let answered = self.ask(servers.swap_remove(pick), request, deadline).await;
            match answered.0 {
                Err(Error::NoLeader) => {}
                Err(error @ Error::RateExceeded) => refused = Some(error),
                _ => return answered,
            }
        }
        Answered(Err(refused.unwrap_or_else(|| self.nobody())))
    }

    /// What to say when nobody can be asked.
    fn nobody(&self) -> Error {
        let any =
            self.inner.server.is_some() || self.members().iter().any(|m| server_addr(m).is_some());
        if any {
            Error::NoLeader
        } else {
            Error::NoServers
        }
    }

    /// Asks one server, which is told how much time is left until `deadline`.
    pub(super) async fn ask(
        &self,
        server: SocketAddr,
        request: &Request,
        deadline: Instant,
    ) -> Answered {
        let answered = self.try_ask(server, request, deadline).await;
        answered.unwrap_or(Answered(Err(Error::NoLeader)))
    }

    /// The same; `None` when the request can be made of another server, since this one has not done it, or it may be done
    /// twice.
    async fn try_ask(
        &self,
        server: SocketAddr,
        request: &Request,
        deadline: Instant,
    ) -> Option<Answered> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        if timeout.is_zero() {
            return None;
        }
        let signed = self.signed(request);
        let sent = signed.as_ref().unwrap_or(request);
        match self.inner.calls.request(server, sent, timeout).await {
            Ok(answered) => Some(answered),
            Err(rpc::Error::Busy(_)) => Some(Answered(Err(Error::Busy))),
            // It cannot have seen the request, so that another try cannot do it twice.
            Err(error) if error.never_sent() => None,
            Err(error) => {
                tracing::debug!(target: "rpc", "asking {server}: {error}");
                let lost = matches!(error, rpc::Error::Lost(_));
                let again = lost && across::is_repeatable(request);
                (!again).then_some(Answered(Err(Error::Unknown)))
            }
        }
    }
}

/// An answer to a read.
fn read(reply: Reply) -> Answer {
    match reply.filtered {
        true => Answer::Filtered(Box::new(reply)),
        false => Answer::Read(Box::new(reply)),
    }
}

/// What was read.
fn read_of(answer: Answer) -> Result<Reply, Error> {
    match answer {
        Answer::Read(reply) => Ok(*reply),
        Answer::Filtered(reply) => Ok(Reply {
            filtered: true,
            ..*reply
        }),
        _ => Err(Error::Unknown),
    }
}
