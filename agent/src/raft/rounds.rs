//! Many callers, few rounds: what is asked of Raft at about the same time goes to its thread as one message, and the
//! answers come back as one.
//!
//! A message to another thread costs more than what Raft does with it, and every message that finds Raft idle becomes
//! an entry with a sync and a broadcast of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::RaftError;
use openraft::raft::linearizable_read::LinearizerOption;
use openraft::type_config::alias::InstantOf;
use openraft::{Instant as _, Raft};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::consensus::{Error, stopped, write_error};
use super::contacts::{Contacts, Quorum};
use super::lease::quorum;
use super::state_machine::StateMachine;
use super::{Payload, TypeConfig};
use crate::state::Outcome;

mod gathered;

pub(crate) use gathered::{Gathered, Rounds, STALLED};

/// Rounds of proposals at a time. Two, so that one is gathered and checked while another one is synced.
const PROPOSALS_UNDER_WAY: usize = 2;

/// Rounds of confirmations at a time. A read may only share a round that begins after it came.
const CONFIRMATIONS_UNDER_WAY: usize = 1;

type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// Proposals on their way to Raft.
pub(super) struct Proposals {
    raft: Raft<TypeConfig, StateMachine>,
    gathered: Gathered<(Bytes, Answer<Outcome>)>,
}

impl Proposals {
    pub(super) fn new(raft: Raft<TypeConfig, StateMachine>) -> Arc<Self> {
        Arc::new(Self {
            raft,
            gathered: Gathered::new(PROPOSALS_UNDER_WAY),
        })
    }

    /// Proposes an encoded command; its outcome once it is committed and applied here.
    pub(super) async fn propose(self: &Arc<Self>, command: Bytes) -> Result<Outcome, Error> {
        let (answer, outcome) = oneshot::channel();
        let bytes = command.len();
        self.add((command, answer), bytes);
        // Dropped without an answer only with the runtime, and then nobody knows.
        outcome.await.unwrap_or(Err(Error::Unknown))
    }
}

impl Rounds for Proposals {
    type Caller = (Bytes, Answer<Outcome>);

    fn gathered(&self) -> &Gathered<Self::Caller> {
        &self.gathered
    }

    fn has_gone((_, answer): &Self::Caller) -> bool {
        answer.is_closed()
    }

    async fn carry_out(&self, round: Vec<Self::Caller>) {
        let (commands, answers): (Vec<_>, Vec<_>) = round.into_iter().unzip();
        let commands = commands.into_iter().map(Payload);
        let mut results = match self.raft.client_write_many(commands).await {
            Ok(results) => results,
            Err(fatal) => {
                let error = stopped(&fatal);
                for answer in answers {
                    // A caller that went away has no use for it; the same below.
                    let _ = answer.send(Err(error.clone()));
                }
                return;
            }
        };
        for answer in answers {
            let result = match results.next().await {
                Some(Ok(result)) => result
                    .map(|written| written.response)
                    .map_err(|error| write_error(RaftError::APIError(error))),
                Some(Err(fatal)) => Err(stopped(&fatal)),
                // Behind the first one that was told why.
                None => Err(Error::Unknown),
            };
            let _ = answer.send(result);
        }
    }
}

/// Readers that need a quorum to confirm this leader.
pub(super) struct Confirmations {
    raft: Raft<TypeConfig, StateMachine>,
    contacts: Arc<Contacts>,
    gathered: Gathered<Answer<()>>,
}

impl Confirmations {
    pub(super) fn new(raft: Raft<TypeConfig, StateMachine>, contacts: Arc<Contacts>) -> Arc<Self> {
        Arc::new(Self {
            raft,
            contacts,
            gathered: Gathered::new(CONFIRMATIONS_UNDER_WAY),
        })
    }

    /// Returns once a quorum has confirmed, after this call began, that this server leads, and its state holds all
    /// that was acknowledged before.
    pub(super) async fn confirm(self: &Arc<Self>) -> Result<(), Error> {
        let (answer, confirmed) = oneshot::channel();
        self.add(answer, 0);
        confirmed.await.unwrap_or(Err(Error::Unknown))
    }

    async fn linearize(&self) -> Result<(), Error> {
        let asked = InstantOf::<TypeConfig>::now();
        let option = LinearizerOption::new(Some(Duration::ZERO), true);
        match self.raft.ensure_linearizable(option).await {
            Ok(_) => {}
            Err(RaftError::APIError(_)) => return Err(Error::NotLeader),
            Err(RaftError::Fatal(fatal)) => return Err(stopped(&fatal)),
        }
        // What openraft takes for a confirmation may be one of before (`contacts`).
        let metrics = self.raft.metrics();
        let enough = || match quorum(&metrics.borrow_watched(), &self.contacts) {
            Quorum::Alone => true,
            Quorum::At(confirmed) => confirmed >= asked,
            Quorum::Missing => false,
        };
        timeout(STALLED, self.contacts.wait_until(enough))
            .await
            .map_err(|_| Error::NotLeader)
    }
}

impl Rounds for Confirmations {
    type Caller = Answer<()>;

    fn gathered(&self) -> &Gathered<Self::Caller> {
        &self.gathered
    }

    fn has_gone(reader: &Self::Caller) -> bool {
        reader.is_closed()
    }

    async fn carry_out(&self, readers: Vec<Self::Caller>) {
        let confirmed = self.linearize().await;
        for reader in readers {
            // One that went away has no use for it.
            let _ = reader.send(confirmed.clone());
        }
    }
}
