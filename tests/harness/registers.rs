//! Keys that many clients write, read, compare and delete at a time: what they saw must be explained by one order of
//! all operations, in which each takes effect at one moment between its call and its answer (linearizability).
//!
//! The search for that order is `todc-utils`' (Wing and Gong, with Lowe's memory of what failed). An operation whose
//! outcome nobody knows is one that has not been answered yet: it may take effect at any later time, and one that comes
//! last, after everything that anybody saw, stands for one that never did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::Hash;

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// Keys in use at a time.
const SLOTS: u64 = 3;

/// Operations on one key before a fresh one takes its place; the search slows down with the square.
const OPERATIONS_MAX: usize = 120;

/// Operations of unknown outcome on one key before a fresh one takes its place; the search doubles with each.
const UNKNOWN_MAX: usize = 5;

/// What a client does with a key. Every value is written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Finds this value; `None` for an absent key, and in a call.
    Read(Option<u64>),
    /// Writes this value.
    Put(u64),
    /// Removes the key.
    Delete,
    /// Writes `new` if the key has `expected`; `done` says whether it did, as far as that is known.
    Swap {
        /// What the key must have; `None` for an absent one.
        expected: Option<u64>,
        /// What it is given.
        new: u64,
        /// Whether it was; `None` while nobody knows.
        done: Option<bool>,
    },
    /// Writes `new` and takes the key's lock for a session, unless another one has it.
    Acquire {
        /// Who wants it.
        session: u64,
        /// What the key is given.
        new: u64,
        /// Whether it was; `None` while nobody knows.
        done: Option<bool>,
    },
    /// Writes `new` and gives the key's lock back, if the session has it.
    Release {
        /// Whose it is.
        session: u64,
        /// What the key is given.
        new: u64,
        /// Whether it was; `None` while nobody knows.
        done: Option<bool>,
    },
}

impl Op {
    /// What it writes, if it does.
    fn new_value(self) -> Option<u64> {
        match self {
            Op::Put(new)
            | Op::Swap { new, .. }
            | Op::Acquire { new, .. }
            | Op::Release { new, .. } => Some(new),
            Op::Read(_) | Op::Delete => None,
        }
    }
}

/// A key that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Entry {
    value: u64,
    /// The session that has its lock.
    holder: Option<u64>,
}

struct OneKey;

/// A write under a condition: whether what was seen of it fits, and the state afterwards.
fn conditional(
    done: Option<bool>,
    holds: bool,
    before: Option<Entry>,
    after: Entry,
) -> (bool, Option<Entry>) {
    let seen = done.is_none_or(|done| done == holds);
    (seen, if seen && holds { Some(after) } else { before })
}

impl Specification for OneKey {
    type State = Option<Entry>;
    type Operation = Op;

    fn init() -> Self::State {
        None
    }

    fn apply(op: &Op, state: &Self::State) -> (bool, Self::State) {
        let (value, holder) = (
            state.map(|entry| entry.value),
            state.and_then(|entry| entry.holder),
        );
        let entry = |value, holder| Entry { value, holder };
        match *op {
            Op::Read(seen) => (seen == value, *state),
            // The lock stays whose it is.
            Op::Put(new) => (true, Some(entry(new, holder))),
            Op::Delete => (true, None),
            Op::Swap {
                expected,
                new,
                done,
            } => conditional(done, value == expected, *state, entry(new, holder)),
            Op::Acquire { session, new, done } => {
                let free = holder.is_none_or(|holder| holder == session);
                conditional(done, free, *state, entry(new, Some(session)))
            }
            Op::Release { session, new, done } => {
                conditional(done, holder == Some(session), *state, entry(new, None))
            }
        }
    }
}

/// One key's operations in the order of their calls and answers.
#[derive(Default)]
struct Register {
    events: Vec<(usize, Action<Op>)>,
    called: usize,
    /// Called and not answered, or answered with "unknown".
    open: BTreeMap<usize, Op>,
    /// Of these, the ones that will never be answered.
    unknown: usize,
}

/// An operation that has begun.
pub struct Ticket {
    key: String,
    number: usize,
}

/// All keys and what was seen of them.
#[derive(Default)]
pub struct Registers {
    keys: BTreeMap<String, Register>,
    generations: BTreeMap<u64, u64>,
    values: u64,
    /// What log indexes were seen to have written.
    written: BTreeMap<u64, (String, Vec<u8>)>,
    /// Every value that any client has tried to write, by key.
    tried: BTreeSet<(String, u64)>,
}

impl Registers {
    /// A key that is in use now.
    pub fn pick(&mut self, choice: u64) -> String {
        let slot = choice % SLOTS;
        let generation = self.generations.entry(slot).or_default();
        let name = |generation: u64| format!("r/{slot}/{generation}");
        if let Some(register) = self.keys.get(&name(*generation))
            && (register.called >= OPERATIONS_MAX || register.unknown >= UNKNOWN_MAX)
        {
            *generation += 1;
        }
        name(*generation)
    }

    /// A value that nobody has written.
    pub fn fresh_value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    /// An operation begins.
    pub fn call(&mut self, key: &str, op: Op) -> Ticket {
        if let Some(value) = op.new_value() {
            self.tried.insert((key.to_owned(), value));
        }
        let register = self.keys.entry(key.to_owned()).or_default();
        let number = register.called;
        register.called += 1;
        register.events.push((number, Action::Call(op)));
        register.open.insert(number, op);
        Ticket {
            key: key.to_owned(),
            number,
        }
    }

    /// The operation was answered; `op` says with what.
    pub fn answer(&mut self, ticket: &Ticket, op: Op) {
        let register = self.register(ticket);
        register.open.remove(&ticket.number);
        register.events.push((ticket.number, Action::Response(op)));
    }

    /// Nothing was done, as the node itself said; that must be true.
    pub fn refused(&mut self, ticket: &Ticket) {
        let register = self.register(ticket);
        register.open.remove(&ticket.number);
        register
            .events
            .retain(|(number, _)| *number != ticket.number);
    }

    /// Nobody knows whether it was done, or will be.
    pub fn unknown(&mut self, ticket: &Ticket) {
        let register = self.register(ticket);
        if matches!(register.open.get(&ticket.number), Some(Op::Read(_))) {
            self.refused(ticket);
        } else {
            register.unknown += 1;
        }
    }

    fn register(&mut self, ticket: &Ticket) -> &mut Register {
        self.keys
            .get_mut(&ticket.key)
            .expect("a ticket is of a known key")
    }

    /// A stale read may be old, but never something that nobody wrote.
    ///
    /// # Panics
    /// When it is.
    pub fn stale(&self, key: &str, value: u64) {
        assert!(
            self.tried.contains(&(key.to_owned(), value)),
            "a stale read of {key} saw {value}, which nobody wrote"
        );
    }

    /// Somebody has `value` under `key`, written at log index `index`: nobody may have anything else from there.
    ///
    /// # Panics
    /// When somebody has.
    pub fn written(&mut self, index: u64, key: &str, value: &[u8]) {
        let now = (key.to_owned(), value.to_vec());
        let first = self.written.entry(index).or_insert_with(|| now.clone());
        assert_eq!(
            *first, now,
            "two servers have different entries at log index {index}"
        );
    }

    /// Looks for one order that explains everything, of each key.
    ///
    /// # Panics
    /// When there is none.
    pub fn check(&self) {
        for (key, register) in &self.keys {
            let mut events = register.events.clone();
            for (number, op) in &register.open {
                if matches!(op, Op::Read(_)) {
                    events.retain(|(other, _)| other != number);
                } else {
                    events.push((*number, Action::Response(*op)));
                }
            }
            if events.is_empty() {
                continue;
            }
            assert!(
                WGLChecker::<OneKey>::is_linearizable(History::from_actions(events)),
                "no order explains what was seen of {key}:\n{}",
                register.story()
            );
        }
    }

    /// Something that is equal for equal runs.
    pub fn trace(&self) -> impl Hash {
        self.keys
            .iter()
            .map(|(key, register)| (key.clone(), register.story()))
            .collect::<Vec<_>>()
    }
}

impl Register {
    fn story(&self) -> String {
        let mut story = String::new();
        for (number, action) in &self.events {
            let (sign, op) = match action {
                Action::Call(op) => ("call  ", op),
                Action::Response(op) => ("answer", op),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(story, "  {sign} {number:>3} {op:?}");
        }
        story
    }
}

/// The checker must be able to say no: to a value that comes back after it was replaced, and to a lock with two holders.
///
/// # Panics
/// When it does not.
pub fn self_test() {
    let lock = |session, new, done| Op::Acquire { session, new, done };
    let impossible = [
        vec![
            (Op::Put(1), Op::Put(1)),
            (Op::Put(2), Op::Put(2)),
            (Op::Read(None), Op::Read(Some(1))),
        ],
        vec![
            (lock(1, 1, None), lock(1, 1, Some(true))),
            (Op::Put(2), Op::Put(2)),
            (lock(2, 3, None), lock(2, 3, Some(true))),
        ],
    ];
    for history in impossible {
        let mut registers = Registers::default();
        for (call, answer) in history {
            let ticket = registers.call("r", call);
            registers.answer(&ticket, answer);
        }
        let events = registers.keys["r"].events.clone();
        assert!(
            !WGLChecker::<OneKey>::is_linearizable(History::from_actions(events)),
            "the checker finds an order where there is none:\n{}",
            registers.keys["r"].story()
        );
    }
}
