//! For a platform that starts and stops agents by itself, and passes on what they are told.

use operator::observe::Answers;
use operator::plan::Launch;

use uuid::Uuid;

use super::{Cluster, Fake, Member};

impl Fake {
    /// Whether an agent runs here.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(|node| node.run.is_some())
    }

    /// The agent that runs there never answers, until it is started anew.
    pub(crate) fn deafen(&mut self, name: &str) {
        if let Some(run) = self.nodes.get_mut(name).and_then(|node| node.run.as_mut()) {
            run.deaf = true;
        }
        self.depose();
    }

    /// What an agent answers.
    pub(crate) fn ask(&self, name: &str) -> Option<Answers> {
        let node = self.nodes.get(name)?;
        self.answers(name).then(|| self.say(name, node))
    }

    pub(crate) fn launch(&mut self, name: &str, server: bool, bootstrap: bool) {
        self.start(&Launch {
            name: name.to_owned(),
            address: String::new(),
            server,
            bootstrap,
        });
    }

    /// A stop that the operator asked for, checked against rule 4.
    pub(crate) fn stop_checked(&mut self, name: &str, leave: bool) {
        self.stop(name, leave);
    }

    /// A leave over HTTP: it is over when it is answered.
    pub(crate) fn tell_leave(&mut self, name: &str) {
        self.stop(name, true);
        self.stops();
    }

    pub(crate) fn tell_join(&mut self, agent: &str, to: &str) {
        self.join(agent, to);
    }

    pub(crate) fn tell_transfer(&mut self, from: &str, to: &str) {
        self.transfer(from, to);
    }

    /// Autopilot's settings are the leader's to change.
    pub(crate) fn tell_min_quorum(&mut self, leader: &str, servers: u32) {
        let led = self
            .clusters
            .values_mut()
            .filter(|cluster| cluster.leader.as_deref() == Some(leader));
        led.for_each(|cluster| cluster.min_quorum = servers);
    }

    /// What autopilot must leave in the largest cluster that has a leader.
    pub(crate) fn min_quorum(&self) -> u32 {
        let led = self.clusters.values().filter(|c| c.leader.is_some());
        led.max_by_key(|c| c.config.len())
            .map_or(0, |c| c.min_quorum)
    }

    pub(crate) fn tell_forget(&mut self, name: &str, leader: &str) {
        self.forget(name, leader);
    }

    pub(crate) fn pass(&mut self) {
        self.tick();
    }

    /// Voters of the largest cluster that has a leader.
    pub(crate) fn voters_anywhere(&self) -> usize {
        let led = self
            .clusters
            .values()
            .filter(|cluster| cluster.leader.is_some());
        led.map(|cluster| cluster.config.iter().filter(|m| m.voter).count())
            .max()
            .unwrap_or(0)
    }

    /// The disk of a server is gone, whatever that costs.
    pub(crate) fn lose(&mut self, name: &str) {
        self.kill(name);
        if let Some(node) = self.nodes.get_mut(name) {
            node.folder = None;
            node.gossip.clear();
        }
    }

    /// The agent moves its folder aside before it starts, if it is of that cluster.
    pub(crate) fn set_aside(&mut self, name: &str, cluster: Uuid) {
        let voters = |c: &Cluster| c.config.iter().filter(|m| m.voter).count();
        let concerns = self
            .folder(name)
            .is_some_and(|f| f.cluster == Some(cluster));
        assert!(
            !concerns || self.clusters.get(&cluster).is_none_or(|c| voters(c) < 2),
            "a cluster of several is set aside"
        );
        if let Some(node) = self.nodes.get_mut(name)
            && node
                .folder
                .as_ref()
                .is_some_and(|f| f.cluster == Some(cluster))
        {
            node.aside.extend(node.folder.take());
        }
    }

    /// Whether that server votes in a cluster that has a leader, and takes part now.
    pub(crate) fn counts(&self, name: &str) -> bool {
        self.clusters
            .values()
            .filter(|c| c.leader.is_some())
            .any(|cluster| {
                let mut voters = cluster.config.iter().filter(|m| m.voter);
                voters.any(|m| m.name == name && self.takes_part(m))
            })
    }

    /// Whether the others keep all that was committed on a quorum if this server's disk is lost, and somebody leads.
    pub(crate) fn spares(&self, name: &str) -> bool {
        self.clusters.values().any(|c| c.leader.is_some()) && !self.needs(name)
    }

    /// The disk of a server is replaced by one of a cluster of one that nobody here knows.
    pub(crate) fn stranger(&mut self, name: &str) {
        self.lose(name);
        self.strangers += 1;
        let id = Uuid::from_u128(1_000_000 + self.strangers);
        self.found(name, id, None);
    }

    /// Clusters of ours whose last committed entry is not on a quorum of disks any more.
    pub(crate) fn lost(&self) -> Vec<Uuid> {
        let led = self.clusters.iter().filter(|(_, c)| c.leader.is_some());
        led.filter(|(_, cluster)| {
            let voters = cluster.config.iter().filter(|m| m.voter);
            let full = voters.clone().filter(|m| self.full(m, cluster.committed));
            full.count() <= voters.count() / 2
        })
        .map(|(id, _)| *id)
        .collect()
    }

    /// The folder of a server cannot be read any more.
    pub(crate) fn corrupt(&mut self, name: &str) {
        self.kill(name);
        if let Some(folder) = self.nodes.get_mut(name).and_then(|n| n.folder.as_mut()) {
            folder.corrupt = true;
        }
    }

    /// Whether a server cannot start for what is in its folder.
    pub(crate) fn is_corrupt(&self, name: &str) -> bool {
        self.folder(name).is_some_and(|f| f.corrupt)
    }

    /// The agent moves its folder aside before it starts, once for each token. Only what is of no use may be moved.
    pub(crate) fn move_aside_on(&mut self, name: &str, token: &str) {
        let moved = self
            .nodes
            .get(name)
            .is_some_and(|n| n.moved.iter().any(|t| t == token));
        let Some(folder) = self.folder(name).filter(|_| !moved) else {
            return;
        };
        let stranger = folder
            .cluster
            .is_some_and(|id| id >= Uuid::from_u128(1_000_000));
        assert!(
            folder.corrupt || stranger,
            "data of {name} is moved aside that is in use"
        );
        self.move_aside(name);
        if let Some(node) = self.nodes.get_mut(name) {
            node.moved.push(token.to_owned());
        }
    }

    /// The survivor of a quorum that is lost goes on alone, if its log is the one that was named. Nobody may do so while a
    /// quorum could come back, nor with less than another survivor has.
    pub(crate) fn go_on_alone(&mut self, name: &str, raft_id: &str, index: u64) -> bool {
        let Some(own) = self.folder(name).cloned() else {
            return false;
        };
        if own.id.to_string() != raft_id || own.log != index {
            return false;
        }
        let id = own.cluster.unwrap();
        let cluster = &self.clusters[&id];
        let voters: Vec<_> = cluster.config.iter().filter(|m| m.voter).collect();
        let left: Vec<_> = voters.iter().filter(|m| self.full(m, 0)).collect();
        assert!(
            left.len() <= voters.len() / 2,
            "{name} goes on alone, and {} voters are left",
            left.len()
        );
        let more = left
            .iter()
            .find(|m| self.folder(&m.name).is_some_and(|f| f.log > own.log));
        assert!(
            more.is_none(),
            "{name} goes on alone, and {more:?} has more"
        );
        let term = cluster.term + 1;
        let member = Member {
            name: name.to_owned(),
            folder: own.id,
            voter: true,
        };
        let alone = Cluster {
            config: vec![member],
            committed: own.log,
            term,
            leader: None,
            min_quorum: cluster.min_quorum,
        };
        self.clusters.insert(id, alone);
        true
    }

    /// Disks are lost, so many that no quorum is left, but one or more that have the log. Whose are kept.
    pub(crate) fn lose_quorum(&self) -> Option<(Vec<String>, Vec<String>)> {
        let cluster = self
            .clusters
            .values()
            .find(|c| c.leader.is_some() && c.config.len() > 2)?;
        let voters: Vec<_> = cluster.config.iter().filter(|m| m.voter).collect();
        let (kept, lost) = voters.split_at((voters.len() - 1) / 2);
        let all_up = voters.iter().all(|m| self.takes_part(m)) && !kept.is_empty();
        let names = |members: &[&Member]| members.iter().map(|m| m.name.clone()).collect();
        all_up.then(|| (names(kept), names(lost)))
    }
}
