//! What happens by itself: starting, stopping, gossip, elections, replication, peers that follow gossip.

use std::collections::BTreeSet;

use operator::observe::Status;
use uuid::Uuid;

use super::{Cluster, Fake, Member};

impl Fake {
    pub(super) fn tick(&mut self) {
        for node in self.nodes.values_mut() {
            if let Some(run) = &mut node.run {
                run.age += 1;
            }
        }
        self.stops();
        self.gossip();
        let forming: Vec<_> = self
            .nodes
            .iter()
            .filter(|(name, n)| {
                let blank = n.folder.as_ref().is_some_and(|f| f.log == 0);
                let sees = n.gossip.iter().any(|(o, s)| {
                    *s == Status::Alive && self.folder(o).is_some_and(|f| f.cluster.is_some())
                });
                n.run.as_ref().is_some_and(|r| r.flag) && self.answers(name) && blank && !sees
            })
            .map(|(name, _)| name.clone())
            .collect();
        forming.iter().for_each(|name| self.form(name));
        let ids: Vec<_> = self.clusters.keys().copied().collect();
        ids.iter().for_each(|id| self.raft(*id));
    }

    pub(super) fn stops(&mut self) {
        let stopping: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|(name, n)| Some((name.clone(), n.run.as_ref()?.stop?)))
            .collect();
        for (name, leave) in stopping {
            if leave {
                self.leave(&name);
            }
            self.kill(&name);
        }
    }

    /// Removed by a quorum that includes the one that leaves; then everybody sees that it left.
    fn leave(&mut self, name: &str) {
        let quorum = |c: &Cluster| {
            let voters: Vec<_> = c.config.iter().filter(|m| m.voter).collect();
            voters.len() > 1
                && voters.iter().filter(|m| self.takes_part(m)).count() > voters.len() / 2
        };
        let able: BTreeSet<_> = self
            .clusters
            .iter()
            .filter(|(_, c)| quorum(c))
            .map(|(id, _)| *id)
            .collect();
        for (id, cluster) in &mut self.clusters {
            if able.contains(id) {
                cluster.config.retain(|m| m.name != name);
            }
        }
        let known: Vec<_> = self.nodes[name].gossip.keys().cloned().collect();
        for other in known {
            if self.answers(&other)
                && let Some(node) = self.nodes.get_mut(&other)
            {
                node.gossip.insert(name.to_owned(), Status::Left);
            }
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.gossip.clear();
        }
    }

    /// Failed members are noticed; restarted ones, which remember whom they knew, are back.
    fn gossip(&mut self) {
        let up: BTreeSet<_> = self
            .nodes
            .keys()
            .filter(|name| self.answers(name))
            .cloned()
            .collect();
        let knows: BTreeSet<_> = self
            .nodes
            .iter()
            .flat_map(|(n, node)| node.gossip.keys().map(move |o| (n.clone(), o.clone())))
            .collect();
        for (name, node) in &mut self.nodes {
            for (other, status) in &mut node.gossip {
                let mutual = up.contains(name) && knows.contains(&(other.clone(), name.clone()));
                *status = match *status {
                    Status::Left => Status::Left,
                    _ if up.contains(other) && mutual => Status::Alive,
                    _ => Status::Failed,
                };
            }
        }
    }

    fn raft(&mut self, id: Uuid) {
        self.depose();
        let mut cluster = self.clusters[&id].clone();
        let voters: Vec<_> = cluster.config.iter().filter(|m| m.voter).cloned().collect();
        let active: Vec<_> = voters.iter().filter(|m| self.takes_part(m)).collect();
        if active.len() <= voters.len() / 2 {
            cluster.leader = None;
        } else if !cluster
            .leader
            .as_ref()
            .is_some_and(|l| active.iter().any(|m| m.name == *l))
        {
            let full = |m: &&&Member| {
                self.folder(&m.name)
                    .is_some_and(|f| f.log >= cluster.committed)
            };
            cluster.leader = active
                .iter()
                .filter(full)
                .max_by_key(|m| self.folder(&m.name).map(|f| f.log))
                .map(|m| m.name.clone());
            cluster.term += 1;
        }
        if let Some(leader) = cluster.leader.clone() {
            self.lead(id, &mut cluster, &leader);
        }
        self.clusters.insert(id, cluster);
    }

    /// The leader writes, replicates, and follows gossip: one change of the configuration at a time.
    fn lead(&mut self, id: Uuid, cluster: &mut Cluster, leader: &str) {
        cluster.committed += 1;
        for member in cluster.config.clone() {
            let known = member.name == leader
                || self.nodes[leader].gossip.get(&member.name) == Some(&Status::Alive);
            if self.takes_part(&member)
                && known
                && let Some(folder) = self
                    .nodes
                    .get_mut(&member.name)
                    .and_then(|n| n.folder.as_mut())
            {
                (folder.cluster, folder.log) = (Some(id), cluster.committed);
            }
        }
        let gossip = self.nodes[leader].gossip.clone();
        if let Some(gone) = cluster
            .config
            .iter()
            .position(|m| gossip.get(&m.name) == Some(&Status::Left))
        {
            cluster.config.remove(gone);
            return;
        }
        // A member that came back with another folder is another one: the old one goes first.
        let stale = |m: &Member| {
            self.answers(&m.name) && self.folder(&m.name).is_some_and(|f| f.id != m.folder)
        };
        if let Some(stale) = cluster.config.iter().position(stale) {
            cluster.config.remove(stale);
            return;
        }
        if let Some(learner) = cluster
            .config
            .iter_mut()
            .find(|m| !m.voter && self.takes_part(m))
        {
            learner.voter = self
                .folder(&learner.name)
                .is_some_and(|f| f.log >= cluster.committed);
            return;
        }
        for (name, status) in &gossip {
            let node = &self.nodes[name];
            let Some(folder) = node
                .folder
                .as_ref()
                .filter(|_| node.server && *status == Status::Alive && self.answers(name))
            else {
                continue;
            };
            if folder.cluster.is_some_and(|theirs| theirs != id) {
                continue;
            }
            if !cluster.config.iter().any(|m| m.name == *name) {
                cluster.config.push(Member {
                    name: name.clone(),
                    folder: folder.id,
                    voter: false,
                });
                return;
            }
        }
    }
}
