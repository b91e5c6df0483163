//! How members come and go, counted under Serf's names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Node;
use crate::gossip::{Member, Status};
use crate::metrics::Metrics;

/// A failed member that is back within this time has flapped. Serf's.
const FLAP: Duration = Duration::from_secs(60);

/// What was last seen of the members.
#[derive(Default)]
struct Seen {
    /// Sorted by name, as gossip has them.
    members: Vec<Arc<Member>>,
    failed: BTreeMap<String, Instant>,
}

impl Seen {
    /// What has happened since the last look, as names of counters.
    fn look(&mut self, members: Vec<Arc<Member>>, now: Instant) -> Vec<&'static str> {
        let before = std::mem::replace(&mut self.members, members);
        let mut counted = Vec::new();
        let mut rest = &before[..];
        for member in &self.members {
            // Both are sorted, and hardly any has changed: mostly the next one is the same.
            if let [same, others @ ..] = rest
                && Arc::ptr_eq(same, member)
            {
                rest = others;
                continue;
            }
            let gone = rest.partition_point(|old| old.name < member.name);
            rest = &rest[gone..];
            let old = rest.first().filter(|old| old.name == member.name);
            let old = old.map(|old| old.status);
            match member.status {
                Status::Alive if old != Some(Status::Alive) => {
                    counted.push("serf.member.join");
                    let failed = self.failed.remove(&member.name);
                    if failed.is_some_and(|since| now.duration_since(since) < FLAP) {
                        counted.push("serf.member.flap");
                    }
                }
                Status::Left if old.is_some_and(|old| old != Status::Left) => {
                    counted.push("serf.member.left");
                }
                Status::Failed if old.is_some_and(|old| old != Status::Failed) => {
                    counted.push("serf.member.failed");
                    self.failed.insert(member.name.clone(), now);
                }
                _ => {}
            }
        }
        let members = &self.members;
        self.failed
            .retain(|name, _| members.binary_search_by(|m| m.name.cmp(name)).is_ok());
        counted
    }
}

impl Node {
    /// Has the leader's work measured, where this server does it.
    pub fn measure_leader(&self, metrics: &Metrics) {
        if let Some(server) = &self.inner.server {
            server.timings.attach(metrics);
        }
    }

    /// Counts until gossip ends.
    pub async fn count_members(self, metrics: Arc<Metrics>) {
        let mut changes = self.inner.gossip.watch();
        let mut seen = Seen::default();
        loop {
            changes.mark_unchanged();
            for name in seen.look(self.members(), Instant::now()) {
                metrics.count(name, &[]);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn members(all: &[(&str, Status)]) -> Vec<Arc<Member>> {
        let member = |(name, status): &(&str, Status)| {
            Arc::new(Member {
                name: (*name).to_owned(),
                id: Uuid::nil(),
                addr: ([127, 0, 0, 1], 8301).into(),
                generation: 1,
                status: *status,
                tags: Default::default(),
            })
        };
        all.iter().map(member).collect()
    }

    #[test]
    fn changes_are_counted_once_and_a_quick_return_is_a_flap() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let mut look = |all: &[(&str, Status)], at: u64| {
            seen.look(members(all), now + Duration::from_secs(at))
        };
        let (alive, failed, left) = (Status::Alive, Status::Failed, Status::Left);
        assert_eq!(look(&[("a", alive), ("b", left)], 0), ["serf.member.join"]);
        assert_eq!(look(&[("a", alive), ("b", left)], 1), [""; 0]);
        assert_eq!(look(&[("a", failed)], 2), ["serf.member.failed"]);
        assert_eq!(
            look(&[("a", alive)], 30),
            ["serf.member.join", "serf.member.flap"]
        );
        assert_eq!(look(&[("a", failed)], 31), ["serf.member.failed"]);
        assert_eq!(look(&[("a", alive)], 100), ["serf.member.join"]);
        assert_eq!(look(&[("a", left)], 101), ["serf.member.left"]);
        assert_eq!(look(&[], 102), [""; 0]);
        assert_eq!(look(&[("a", alive)], 103), ["serf.member.join"]);
    }
}
