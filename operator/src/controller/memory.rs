//! What is kept between two looks at a cluster: what was told, how often something failed, what need not be read again.
//! No decision about servers depends on any of it, and a new operator starts with nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::driver::kube::converge::Surroundings;
use crate::plan::Step;

/// Namespace and name.
pub(super) type Key = (String, String);

/// Time after which objects that nobody seems to have touched are read again: a watch may have missed something.
const TRUST: Duration = Duration::from_secs(1800);
/// Things told that are remembered of one cluster; a bootstrap of seven servers has about thirty.
const TOLD_MAX: usize = 200;

#[derive(Default)]
struct Memory {
    told: BTreeSet<(&'static str, String)>,
    last: Option<Step>,
    /// When that was.
    looked: Option<Instant>,
    same: u32,
    failures: u32,
    surroundings: Option<(Surroundings, Instant)>,
    /// Counts touches, so that one during a repair is not lost.
    touches: u64,
    converged_at: u64,
}

#[derive(Default)]
pub(super) struct Memories(Mutex<HashMap<Key, Memory>>);

impl Memories {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clusters that are remembered.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// Somebody, perhaps ourselves, changed an object around the servers.
    pub(super) fn touched(&self, key: &Key) {
        if let Some(memory) = self.lock().get_mut(key) {
            memory.touches += 1;
        }
    }

    /// Whether the objects around the servers must be looked at.
    pub(super) fn needs(&self, key: &Key, wanted: &Surroundings) -> bool {
        let mut all = self.lock();
        let memory = all.entry(key.clone()).or_default();
        let known = memory.surroundings.as_ref();
        let trusted = known.is_some_and(|(last, at)| last == wanted && at.elapsed() < TRUST);
        let needs = !trusted || memory.touches != memory.converged_at;
        if needs {
            memory.converged_at = memory.touches;
        }
        needs
    }

    pub(super) fn converged(&self, key: &Key, now: Surroundings) {
        if let Some(memory) = self.lock().get_mut(key) {
            memory.surroundings = Some((now, Instant::now()));
        }
    }

    /// Notes the step; how often in a row it was planned before.
    pub(super) fn planned(&self, key: &Key, step: &Step) -> u32 {
        let mut all = self.lock();
        let memory = all.entry(key.clone()).or_default();
        let same = match (&memory.last, step) {
            // What is waited for may differ in its numbers.
            (Some(Step::Wait(_)), Step::Wait(_)) => true,
            (Some(last), step) => last == step,
            (None, _) => false,
        };
        memory.same = if same {
            memory.same.saturating_add(1)
        } else {
            0
        };
        if *step == Step::Steady {
            // What happens from now on is news, also when it happened before.
            memory.told.clear();
        }
        memory.last = Some(step.clone());
        memory.looked = Some(Instant::now());
        memory.same
    }

    /// Time since the last look, if that one ended with something to be waited for, or with a step.
    pub(super) fn since_last_wait(&self, key: &Key) -> Option<Duration> {
        let all = self.lock();
        let memory = all.get(key)?;
        match memory.last.as_ref()? {
            Step::Steady | Step::Stalled(_) => None,
            _ => memory.looked.map(|at| at.elapsed()),
        }
    }

    pub(super) fn succeeded(&self, key: &Key) {
        if let Some(memory) = self.lock().get_mut(key) {
            memory.failures = 0;
        }
    }

    /// Counts a failure; how many there were in a row before it.
    pub(super) fn failed(&self, key: &Key) -> u32 {
        let mut all = self.lock();
        let memory = all.entry(key.clone()).or_default();
        let before = memory.failures;
        memory.failures = before.saturating_add(1);
        // What was not finished is not to be trusted.
        memory.surroundings = None;
        before
    }

    /// Whether this was not told before.
    pub(super) fn is_news(&self, key: &Key, reason: &'static str, note: &str) -> bool {
        let mut all = self.lock();
        let memory = all.entry(key.clone()).or_default();
        if memory.told.len() >= TOLD_MAX {
            memory.told.clear();
        }
        memory.told.insert((reason, note.to_owned()))
    }
}
