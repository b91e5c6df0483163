//! What is kept between two looks at a cluster: what was told, how often something failed, what need not be read again.
//! No decision about servers depends on any of it, and a new operator starts with nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::driver::kube::converge::Surroundings;
use crate::driver::kube::rest::Rest;
use crate::plan::Step;

/// Namespace and name.
pub(super) type Key = (String, String);

/// Time after which objects that nobody seems to have touched are read again: a watch may have missed something.
const TRUST: Duration = Duration::from_secs(1800);
/// Time after which a cluster at rest is looked at as a whole, for the same reason.
const REST_MAX: Duration = Duration::from_secs(600);
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
    /// Counts everything that the watches told.
    stirs: u64,
    rest: Option<AtRest>,
}

/// A cluster that needed nothing, and as of when.
struct AtRest {
    rest: Rest,
    as_of: AsOf,
    since: Instant,
}

/// What was known before a look began: when it has not changed, neither has what the look saw of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AsOf {
    /// Of the resource.
    version: Option<String>,
    stirs: u64,
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

    /// Forgets all but these.
    pub(super) fn retain(&self, known: &BTreeSet<Key>) {
        self.lock().retain(|key, _| known.contains(key));
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

    /// A watch told of one of the cluster's objects.
    pub(super) fn stirred(&self, key: &Key) {
        if let Some(memory) = self.lock().get_mut(key) {
            memory.stirs += 1;
        }
    }

    /// What is known now, before a look at the resource of that version begins.
    pub(super) fn as_of(&self, key: &Key, version: Option<String>) -> AsOf {
        let mut all = self.lock();
        let stirs = all.entry(key.clone()).or_default().stirs;
        AsOf { version, stirs }
    }

    /// Notes that a look, begun as of then, found nothing to do; or, with no `rest`, that it did.
    pub(super) fn rests(&self, key: &Key, as_of: AsOf, rest: Option<Rest>) {
        if let Some(memory) = self.lock().get_mut(key) {
            memory.rest = rest.map(|rest| AtRest {
                rest,
                as_of,
                since: Instant::now(),
            });
        }
    }

    /// What its agents said when the cluster needed nothing, if nothing is known to have changed since.
    pub(super) fn at_rest(&self, key: &Key, now: &AsOf) -> Option<Rest> {
        let all = self.lock();
        let known = all.get(key)?.rest.as_ref()?;
        let holds = known.as_of == *now && known.since.elapsed() < REST_MAX;
        holds.then(|| known.rest.clone())
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
        memory.rest = None;
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
