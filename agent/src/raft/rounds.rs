//! Many callers, few rounds: what is asked of Raft at about the same time goes to its thread as one message, and the
//! answers come back as one.
//!
//! A message to another thread costs more than what Raft does with it, and every message that finds Raft idle becomes
//! an entry with a sync and a broadcast of its own. So while [`PROPOSALS_UNDER_WAY`] rounds are under way, what comes
//! meanwhile is gathered for the next one. Nothing waits for a timer: a caller who is alone goes at once. A round that
//! lasts for [`STALLED`] has lost its quorum, most likely; the others go on without it, to hear so from Raft.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
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

/// Rounds of proposals at a time. Two, so that one is gathered and checked while another one is synced.
const PROPOSALS_UNDER_WAY: usize = 2;

/// Rounds of confirmations at a time. A read may only share a round that begins after it came.
const CONFIRMATIONS_UNDER_WAY: usize = 1;

/// How long a round keeps others waiting: longer than a leader's lease, after which Raft refuses at once.
const STALLED: Duration = Duration::from_millis(500);

/// About how many bytes of commands go into one round: what the log writes at once.
const ROUND_BYTES: usize = 4 << 20;

/// Callers that wait for the next round, and how many rounds there are.
struct Gathered<T> {
    state: Mutex<State<T>>,
    under_way_max: usize,
}

struct State<T> {
    waiting: VecDeque<(T, usize)>,
    /// Rounds under way, and one that is about to begin.
    under_way: usize,
    /// Whether one is about to begin: who comes now is part of it.
    beginning: bool,
}

impl<T> Gathered<T> {
    fn new(under_way_max: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            under_way: 0,
            beginning: false,
        };
        Self {
            state: Mutex::new(state),
            under_way_max,
        }
    }

    /// Adds one caller, with the bytes of what it asks. `true`: rounds are to be begun, each with [`Gathered::next`],
    /// until there is none.
    fn add(&self, caller: T, bytes: usize) -> bool {
        let mut state = self.lock();
        state.waiting.push_back((caller, bytes));
        let begin = !state.beginning && state.under_way < self.under_way_max;
        if begin {
            state.beginning = true;
            state.under_way += 1;
        }
        begin
    }

    /// The callers of the next round; when nobody waits, `None`, and this was the last round of the one who asks.
    fn next(&self) -> Option<Vec<T>> {
        let mut state = self.lock();
        state.beginning = false;
        if state.waiting.is_empty() {
            state.under_way -= 1;
            return None;
        }
        let mut bytes = 0;
        let fits = state.waiting.iter().take_while(|(_, more)| {
            let fits = bytes < ROUND_BYTES;
            bytes += more;
            fits
        });
        let count = fits.count();
        Some(state.waiting.drain(..count).map(|(t, _)| t).collect())
    }

    /// Counts a stalled round no more. `true`: somebody waits, and rounds are to be begun as after [`Gathered::add`].
    fn release(&self) -> bool {
        let mut state = self.lock();
        state.under_way -= 1;
        let begin = !state.waiting.is_empty() && !state.beginning;
        if begin {
            state.beginning = true;
            state.under_way += 1;
        }
        begin
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state
            .lock()
            .expect("no code panics while it holds this lock")
    }
}

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
        if self.gathered.add((command, answer), bytes) {
            // Runs behind the callers that are ready now, who so become part of its first round.
            self.begin();
        }
        // Dropped without an answer only with the runtime, and then nobody knows.
        outcome.await.unwrap_or(Err(Error::Unknown))
    }

    fn begin(self: &Arc<Self>) {
        tokio::spawn(self.clone().run());
    }

    /// Carries out rounds until nobody waits, or one of them stalls.
    async fn run(self: Arc<Self>) {
        while let Some(round) = self.gathered.next() {
            let (commands, answers): (Vec<_>, Vec<_>) = round.into_iter().unzip();
            let mut carried_out = pin!(self.carry_out(commands, answers));
            if timeout(STALLED, carried_out.as_mut()).await.is_err() {
                if self.gathered.release() {
                    self.begin();
                }
                return carried_out.await;
            }
        }
    }

    async fn carry_out(&self, commands: Vec<Bytes>, answers: Vec<Answer<Outcome>>) {
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
        if self.gathered.add(answer, 0) {
            self.begin();
        }
        confirmed.await.unwrap_or(Err(Error::Unknown))
    }

    fn begin(self: &Arc<Self>) {
        tokio::spawn(self.clone().run());
    }

    /// As [`Proposals::run`].
    async fn run(self: Arc<Self>) {
        while let Some(readers) = self.gathered.next() {
            let mut confirmed = pin!(self.ask(readers));
            if timeout(STALLED, confirmed.as_mut()).await.is_err() {
                if self.gathered.release() {
                    self.begin();
                }
                return confirmed.await;
            }
        }
    }

    async fn ask(&self, readers: Vec<Answer<()>>) {
        let confirmed = self.linearize().await;
        for reader in readers {
            // One that went away has no use for it.
            let _ = reader.send(confirmed.clone());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_while_rounds_are_under_way_shares_the_next_one() {
        let gathered = Gathered::new(1);
        assert!(gathered.add('a', 1), "somebody must begin");
        assert!(!gathered.add('b', 1), "it is beginning already");
        assert_eq!(gathered.next(), Some(vec!['a', 'b']));
        assert!(!gathered.add('c', 1), "one round at a time");
        assert!(!gathered.add('d', 1));
        assert_eq!(gathered.next(), Some(vec!['c', 'd']));
        assert_eq!(gathered.next(), None);
        assert!(gathered.add('e', 1), "the last one had ended");
    }

    #[test]
    fn a_second_round_begins_beside_the_first_and_no_third() {
        let gathered = Gathered::new(2);
        assert!(gathered.add('a', 1));
        assert_eq!(gathered.next(), Some(vec!['a']));
        assert!(gathered.add('b', 1));
        assert_eq!(gathered.next(), Some(vec!['b']));
        assert!(!gathered.add('c', 1));
        assert_eq!(gathered.next(), Some(vec!['c']));
        assert_eq!(gathered.next(), None);
        assert_eq!(gathered.next(), None);
        assert!(gathered.add('d', 1));
    }

    #[test]
    fn a_stalled_round_makes_room_for_those_who_wait() {
        let gathered = Gathered::new(1);
        gathered.add('a', 1);
        assert_eq!(gathered.next(), Some(vec!['a']));
        assert!(!gathered.add('b', 1));
        assert!(gathered.release(), "somebody waits");
        assert!(!gathered.add('c', 1), "it is beginning already");
        assert_eq!(gathered.next(), Some(vec!['b', 'c']));
        assert_eq!(gathered.next(), None);
        gathered.add('d', 1);
        assert_eq!(gathered.next(), Some(vec!['d']));
        assert!(!gathered.release(), "nobody waits");
        assert!(gathered.add('e', 1), "the next one begins at once");
    }

    #[test]
    fn a_round_is_bounded_and_takes_one_command_of_any_size() {
        let gathered = Gathered::new(1);
        gathered.add('a', 1);
        gathered.add('b', ROUND_BYTES);
        gathered.add('c', ROUND_BYTES * 2);
        gathered.add('d', 1);
        assert_eq!(gathered.next(), Some(vec!['a', 'b']));
        assert_eq!(gathered.next(), Some(vec!['c']));
        assert_eq!(gathered.next(), Some(vec!['d']));
    }
}
