//! What happened in a run, as its clients and observers saw it, and the rules that it must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};

/// Everything that is remembered of a run.
#[derive(Default)]
pub(crate) struct History {
    /// Writes that were acknowledged: these keys must be there for ever.
    pub(crate) acknowledged: BTreeSet<String>,
    /// Who led, by cluster and term.
    leaders: BTreeMap<(String, u64), u8>,
    /// Every cluster id that any server ever belonged to.
    pub(crate) clusters: BTreeSet<String>,
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

    /// Host `host` leads in `term`: nobody else may.
    pub(crate) fn leads(&mut self, cluster: &str, term: u64, host: u8) {
        let first = *self
            .leaders
            .entry((cluster.to_owned(), term))
            .or_insert(host);
        assert_eq!(
            first, host,
            "two leaders in term {term} of cluster {cluster}"
        );
        self.note((cluster, term, host));
    }

    /// A server belongs to `cluster`; `allowed` is how many clusters this run may have.
    pub(crate) fn belongs(&mut self, cluster: &str, allowed: usize) {
        if !self.clusters.contains(cluster) {
            self.clusters.insert(cluster.to_owned());
            assert!(
                self.clusters.len() <= allowed,
                "a cluster too many: {:?}",
                self.clusters
            );
        }
    }
}
