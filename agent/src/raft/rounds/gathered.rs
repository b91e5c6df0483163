//! Callers that share rounds: while as many are under way as there may be, those who come meanwhile are gathered for the
//! next one. Nothing waits for a timer: a caller who is alone goes at once. A round that lasts for [`STALLED`] has lost
//! whom it asked, most likely; the others go on without it, to hear so themselves.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::timeout;

/// How long a round keeps others waiting: longer than a leader's lease, after which Raft refuses at once.
pub(crate) const STALLED: Duration = Duration::from_millis(500);

/// About how many bytes of commands go into one round: what the log writes at once.
const ROUND_BYTES: usize = 4 << 20;

/// What carries out rounds of callers.
pub(crate) trait Rounds: Send + Sync + Sized + 'static {
    /// One caller, with what it asks and where its answer goes.
    type Caller: Send;

    /// Those who wait.
    fn gathered(&self) -> &Gathered<Self::Caller>;

    /// Whether a caller no longer waits for an answer. One that has gone before its round began is left out: nothing of
    /// what it asked is done.
    fn has_gone(caller: &Self::Caller) -> bool;

    /// Asks for all of them, and answers all of them.
    fn carry_out(&self, round: Vec<Self::Caller>) -> impl Future<Output = ()> + Send;

    /// Adds one caller, with the bytes of what it asks.
    fn add(self: &Arc<Self>, caller: Self::Caller, bytes: usize) {
        if self.gathered().add(caller, bytes) {
            // Runs behind the callers that are ready now, who so become part of its first round.
            begin(self.clone());
        }
    }
}

fn begin<R: Rounds>(rounds: Arc<R>) {
    tokio::spawn(run(rounds));
}

/// Carries out rounds until nobody waits, or one of them stalls.
async fn run<R: Rounds>(rounds: Arc<R>) {
    while let Some(mut round) = rounds.gathered().next() {
        round.retain(|caller| !R::has_gone(caller));
        if round.is_empty() {
            continue;
        }
        let mut carried_out = pin!(rounds.carry_out(round));
        if timeout(STALLED, carried_out.as_mut()).await.is_err() {
            if rounds.gathered().release() {
                begin(rounds.clone());
            }
            return carried_out.await;
        }
    }
}

/// Callers that wait for the next round, and how many rounds there are.
pub(crate) struct Gathered<T> {
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
    pub(crate) fn new(under_way_max: usize) -> Self {
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

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// Tells what its rounds were.
    struct Told {
        gathered: Gathered<(char, oneshot::Sender<()>)>,
        tell: mpsc::UnboundedSender<String>,
    }

    impl Rounds for Told {
        type Caller = (char, oneshot::Sender<()>);

        fn gathered(&self) -> &Gathered<Self::Caller> {
            &self.gathered
        }

        fn has_gone((_, answer): &Self::Caller) -> bool {
            answer.is_closed()
        }

        async fn carry_out(&self, round: Vec<Self::Caller>) {
            let names = round.iter().map(|(name, _)| *name).collect();
            self.tell.send(names).unwrap();
        }
    }

    #[tokio::test]
    async fn who_has_gone_before_its_round_is_left_out() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let gathered = Gathered::new(1);
        let rounds = Arc::new(Told { gathered, tell });
        let mut waiting = Vec::new();
        // All before the first round begins, which is a task of its own.
        for (name, stays) in [('a', true), ('b', false), ('c', true)] {
            let (answer, waits) = oneshot::channel();
            rounds.add((name, answer), 1);
            waiting.extend(stays.then_some(waits));
        }
        assert_eq!(told.recv().await.unwrap(), "ac");
        // A round of nobody is none.
        rounds.add(('d', oneshot::channel().0), 1);
        let (answer, _waits) = oneshot::channel();
        rounds.add(('e', answer), 1);
        assert_eq!(told.recv().await.unwrap(), "e");
    }

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
