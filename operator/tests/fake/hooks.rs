//! For a platform that starts and stops agents by itself, and passes on what they are told.

use operator::observe::Answers;
use operator::plan::Launch;

use super::Fake;

impl Fake {
    /// Whether an agent runs here.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(|node| node.run.is_some())
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
}
