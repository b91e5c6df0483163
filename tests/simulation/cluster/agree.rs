//! Who votes, who leads, and at the end: whether all servers have the same, with every acknowledged write in it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agent::state::KvEntry;

use super::{Cluster, Request};
use crate::view::View;

impl Cluster<'_> {
    /// Waits until exactly `servers` are voters, by a configuration that all of them know to be committed, and agree
    /// on who leads.
    ///
    /// # Panics
    /// When it does not come to that.
    pub(crate) fn until_voters(&mut self, servers: &[u8]) {
        let since = Cell::new(None);
        self.until(&format!("the voters are {servers:?}"), |cluster| {
            if let Err(missing) = cluster.agree_on_voters(servers) {
                since.set(None);
                return Err(missing);
            }
            // A joint configuration names the same servers; it never stays for that long.
            let now = cluster.sim.elapsed();
            let begun = since.get().unwrap_or(now);
            since.set(Some(begun));
            if now - begun < Duration::from_millis(100) {
                return Err("they have only just agreed".to_owned());
            }
            Ok(())
        });
    }

    fn agree_on_voters(&self, servers: &[u8]) -> Result<(), String> {
        let mut views = Vec::new();
        for server in servers {
            let view = self.view(*server).ok_or(format!("n{server} is not up"))?;
            let settled = view.voters == servers.len() && view.committed >= view.configured;
            if !settled || view.cluster.is_empty() {
                return Err(format!("n{server}: {view:?}"));
            }
            views.push(view);
        }
        let agreed = |view: &View| (view.leader.clone(), view.configured);
        let first = agreed(&views[0]);
        if first.0.is_empty() || views.iter().any(|view| agreed(view) != first) {
            return Err(format!("{views:?}"));
        }
        Ok(())
    }

    /// Waits until one of `servers` leads and all of them know it.
    ///
    /// # Panics
    /// When it does not come to that.
    pub(crate) fn until_led(&mut self, servers: &[u8]) {
        self.until(&format!("one of {servers:?} leads"), |cluster| {
            cluster.led(servers)
        });
    }

    /// The highest index that any server knows to be committed.
    pub(crate) fn committed(&self) -> u64 {
        let views = self.hosts.keys().filter_map(|number| self.view(*number));
        views.map(|view| view.committed).max().unwrap_or(0)
    }

    /// Whether one of `servers` leads and all of them know it.
    pub(crate) fn led(&self, servers: &[u8]) -> Result<(), String> {
        let views: Option<Vec<View>> = servers.iter().map(|server| self.view(*server)).collect();
        let views = views.ok_or("not all are up")?;
        let known = |view: &View| view.leader == views[0].leader;
        if views.iter().any(|view| view.leads) && views.iter().all(known) {
            Ok(())
        } else {
            Err(format!("{views:?}"))
        }
    }

    /// Stops the clients, and checks what they saw, that every acknowledged write is on each of `servers`, and that all
    /// of these have the same.
    pub(crate) fn finish(&mut self, servers: &[u8]) -> u64 {
        self.shared.stopped.set(true);
        let acknowledged = self.shared.history.borrow().acknowledged.clone();
        assert!(!acknowledged.is_empty(), "no write was ever accepted");
        let answers: Vec<_> = servers.iter().map(|_| Rc::default()).collect();
        // A copy may trail for a moment, never for good.
        self.until("all servers have every acknowledged write", |cluster| {
            let asked = servers.iter().zip(&answers);
            let lacking: Vec<String> = asked
                .filter_map(|(server, answer)| {
                    cluster.ask(*server, Request::Everything(Rc::clone(answer)));
                    let found = lacks(&acknowledged, &answer.borrow());
                    found.map(|what| format!("n{server}: {what}"))
                })
                .collect();
            let first = answers[0].borrow();
            if !lacking.is_empty() {
                Err(lacking.join("; "))
            } else if answers.iter().any(|other| *other.borrow() != *first) {
                Err("they have different entries".to_owned())
            } else {
                Ok(())
            }
        });
        let mut registers = self.shared.registers.borrow_mut();
        for answer in &answers {
            for entry in answer.borrow().iter() {
                registers.written(entry.modify_index, &entry.key, &entry.value);
            }
        }
        registers.check();
        let mut history = self.shared.history.borrow_mut();
        history.note(registers.trace());
        history.note((self.seed, self.sim.elapsed(), self.net.digest()));
        history.digest()
    }
}

/// What of `acknowledged` is not in `found`, in words.
fn lacks(acknowledged: &BTreeSet<String>, found: &[Arc<KvEntry>]) -> Option<String> {
    let has: BTreeSet<&str> = found.iter().map(|entry| &*entry.key).collect();
    let missing: Vec<&String> = acknowledged
        .iter()
        .filter(|key| !has.contains(key.as_str()))
        .collect();
    (!missing.is_empty()).then(|| {
        let some: Vec<_> = missing.iter().take(5).collect();
        format!(
            "{} of {} are missing: {some:?}",
            missing.len(),
            acknowledged.len()
        )
    })
}
