//! What happened in a run, as its clients and observers saw it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};

/// Everything that is remembered of a run.
#[derive(Default)]
pub(crate) struct History {
    /// Writes that were acknowledged: these keys must be there for ever.
    pub(crate) acknowledged: BTreeSet<String>,
    digest: DefaultHasher,
}

impl History {
    /// Takes an event into the digest of the run.
    pub(crate) fn note(&mut self, event: impl Hash) {
        event.hash(&mut self.digest);
    }

    /// What all that was noted comes to: equal for equal runs.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }
}
