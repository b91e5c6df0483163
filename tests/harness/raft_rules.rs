//! The rules of Raft, checked over what servers have and believe, look by look.
//!
//! Rules: at most one leader a term; a server belongs to one cluster for ever; two logs that have an entry of the same
//! index and term have the same entries up to there (log matching); what is committed is never changed, on no server; a new
//! leader has all that was committed before its term (leader completeness); commit and applied index never go back while a
//! process runs, and what was on disk is there after a restart; what a leader takes for committed is on the disks of a
//! quorum.
//!
//! Only what is new since the last look is checked: what was checked once cannot become wrong without a change.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use agent::raft::{LogNews, Look, Mark, Position, RaftId};
use uuid::Uuid;

/// What was seen of all servers.
#[derive(Default)]
pub struct RaftRules {
    servers: BTreeMap<RaftId, Server>,
    clusters: BTreeMap<Uuid, Cluster>,
    /// What leaders take for committed, to be checked once all servers have been looked at.
    claims: Vec<Claim>,
}

/// What was seen of one server, over all its processes.
#[derive(Default)]
struct Server {
    cluster: Option<Uuid>,
    /// In which process the rest was seen.
    life: u64,
    log: Log,
    committed: u64,
    applied: u64,
    /// The last term in which it was seen to lead.
    led: Option<u64>,
    voters: Vec<BTreeSet<RaftId>>,
}

/// A log, as it was seen last.
#[derive(Default)]
struct Log {
    /// The entry before the first one.
    purged: Option<Position>,
    marks: VecDeque<Mark>,
    /// Index of the first entry that was not seen on disk.
    written: u64,
}

/// What holds for all servers of a cluster.
#[derive(Default)]
struct Cluster {
    leaders: BTreeMap<u64, RaftId>,
    /// The digest of each entry that any server has had, and the term of the one before it, where that is known.
    entries: HashMap<Position, (u64, Option<u64>)>,
    committed: BTreeMap<u64, Mark>,
    /// The highest index that was found on a quorum.
    on_quorum: u64,
}

/// A leader takes this entry for committed, under one of these configurations.
struct Claim {
    cluster: Uuid,
    leader: RaftId,
    entry: Position,
    configs: Vec<Vec<BTreeSet<RaftId>>>,
}

/// A rule is broken, and how.
pub type Broken = String;

impl RaftRules {
    /// Every cluster that any server was seen to belong to.
    pub fn clusters(&self) -> impl Iterator<Item = &Uuid> {
        self.clusters.keys()
    }

    /// Takes in what is new on a server. `life` tells its processes apart.
    ///
    /// # Errors
    /// What contradicts a rule.
    pub fn see(&mut self, life: u64, look: &Look) -> Result<(), Broken> {
        let Some(id) = look.cluster else {
            return match look.belief.leads {
                true => Err(format!("server {} leads without a cluster", look.id)),
                false => Ok(()),
            };
        };
        let server = self.servers.entry(look.id).or_default();
        let own = *server.cluster.get_or_insert(id);
        if own != id {
            return Err(format!(
                "server {} of cluster {own} is in cluster {id}",
                look.id
            ));
        }
        let cluster = self.clusters.entry(id).or_default();
        let begins = server.life != life;
        if begins {
            server.life = life;
            (server.committed, server.applied, server.led) = (0, 0, None);
        }
        if let Some(news) = &look.log {
            server.log.take(news, begins)?;
            cluster.match_logs(&server.log, news)?;
        }
        server.advance(cluster, look)?;
        if look.belief.leads {
            server.lead(cluster, look)?;
            self.claims.extend(server.claim(cluster, id, look));
        }
        server.voters.clone_from(&look.belief.voters);
        Ok(())
    }

    /// Checks what needs a look at all servers: called once each of them has been looked at.
    ///
    /// # Errors
    /// What contradicts a rule.
    pub fn settle(&mut self) -> Result<(), Broken> {
        for claim in std::mem::take(&mut self.claims) {
            let has = |id: &RaftId| {
                self.servers
                    .get(id)
                    .is_some_and(|s| s.log.keeps(claim.entry))
            };
            let majority = |voters: &BTreeSet<RaftId>| {
                voters.iter().filter(|id| has(id)).count() > voters.len() / 2
            };
            let mut configs = claim.configs.iter();
            if !configs.any(|config| config.iter().all(majority)) {
                return Err(format!(
                    "server {} takes {:?} for committed, which is not on the disks of a quorum of {:?}",
                    claim.leader, claim.entry, claim.configs
                ));
            }
            let cluster = self.clusters.entry(claim.cluster).or_default();
            cluster.on_quorum = cluster.on_quorum.max(claim.entry.index);
        }
        Ok(())
    }
}

impl Server {
    /// Commit and applied index go forwards, over entries that never change.
    fn advance(&mut self, cluster: &mut Cluster, look: &Look) -> Result<(), Broken> {
        let (committed, applied) = (look.belief.committed, look.belief.applied);
        if committed < self.committed || applied < self.applied {
            return Err(format!(
                "server {} went back from commit {} and applied {} to {committed} and {applied}",
                look.id, self.committed, self.applied
            ));
        }
        if applied > committed {
            return Err(format!(
                "server {} has applied {applied}, but only {committed} is committed",
                look.id
            ));
        }
        // A log that was cut must still have what was committed.
        let cut = look.log.as_ref().is_some_and(|news| news.anew);
        let from = if cut { 0 } else { self.committed + 1 };
        let from = from.max(self.log.purged.map_or(0, |purged| purged.index + 1));
        for index in from..=committed {
            let Some(mark) = self.log.mark(index) else {
                // Index 0 means "none" to a server that has committed nothing.
                if index == 0 {
                    continue;
                }
                return Err(format!("server {} lacks committed entry {index}", look.id));
            };
            let first = *cluster.committed.entry(index).or_insert(mark);
            if first != mark {
                return Err(format!(
                    "committed entry {first:?} is {mark:?} on server {}",
                    look.id
                ));
            }
        }
        (self.committed, self.applied) = (committed, applied);
        Ok(())
    }

    /// Nobody else leads in this term, and all that was committed in earlier ones is there.
    fn lead(&mut self, cluster: &mut Cluster, look: &Look) -> Result<(), Broken> {
        let term = look.belief.term;
        if self.led == Some(term) {
            return Ok(());
        }
        self.led = Some(term);
        let first = *cluster.leaders.entry(term).or_insert(look.id);
        if first != look.id {
            return Err(format!(
                "servers {first} and {} lead in term {term}",
                look.id
            ));
        }
        let mut committed = cluster.committed.values().rev();
        let last = committed.find(|mark| mark.position.term < term);
        match last {
            Some(last) if !self.log.has(last.position) => Err(format!(
                "server {} leads in term {term} without committed entry {:?}",
                look.id, last.position
            )),
            _ => Ok(()),
        }
    }

    /// What it takes for committed, unless that was found on a quorum before.
    fn claim(&self, cluster: &Cluster, id: Uuid, look: &Look) -> Option<Claim> {
        let index = look.belief.replicated;
        if index <= cluster.on_quorum {
            return None;
        }
        let purged = self.log.purged.filter(|purged| purged.index == index);
        Some(Claim {
            cluster: id,
            leader: look.id,
            entry: purged.or_else(|| Some(self.log.mark(index)?.position))?,
            // It may have gone on to the next configuration since it counted.
            configs: vec![look.belief.voters.clone(), self.voters.clone()],
        })
    }
}

impl Log {
    /// Takes in what is new. What was on disk when the last process ended must be there.
    fn take(&mut self, news: &LogNews, begins: bool) -> Result<(), Broken> {
        if !news.anew {
            self.marks.extend(&news.entries);
        } else {
            let before = std::mem::take(self);
            self.marks.extend(&news.entries);
            self.purged = news.purged;
            let kept = before.marks.iter().filter(|_| begins);
            for mark in kept.take_while(|mark| mark.position.index < before.written) {
                if !self.has(mark.position) {
                    return Err(format!(
                        "{:?} was on disk and is gone after a restart",
                        mark.position
                    ));
                }
            }
        }
        self.purged = news.purged;
        self.written = news.written;
        let purged = |mark: &Mark| Some(mark.position.index) <= news.purged.map(|p| p.index);
        while self.marks.front().is_some_and(purged) {
            self.marks.pop_front();
        }
        Ok(())
    }

    fn mark(&self, index: u64) -> Option<Mark> {
        let first = self.marks.front()?.position.index;
        let at = usize::try_from(index.checked_sub(first)?).ok()?;
        self.marks.get(at).copied()
    }

    /// Whether it has this entry, or had it before it was purged.
    fn has(&self, entry: Position) -> bool {
        match self.purged {
            Some(purged) if entry.index == purged.index => entry == purged,
            Some(purged) if entry.index < purged.index => true,
            _ => self.mark(entry.index).is_some_and(|m| m.position == entry),
        }
    }

    /// Whether it has this entry on disk.
    fn keeps(&self, entry: Position) -> bool {
        let written = entry.index < self.written;
        let purged = self.purged.is_some_and(|p| entry.index <= p.index);
        (written || purged) && self.has(entry)
    }
}

impl Cluster {
    /// An entry is the same wherever its index and term are the same, and so is the one before it.
    fn match_logs(&mut self, log: &Log, news: &LogNews) -> Result<(), Broken> {
        for mark in &news.entries {
            let at = mark.position;
            let before = at.index.checked_sub(1).and_then(|before| {
                let purged = log.purged.filter(|purged| purged.index == before);
                purged.or_else(|| Some(log.mark(before)?.position))
            });
            let before = before.map(|before| before.term);
            let known = self.entries.entry(at).or_insert((mark.digest, before));
            if known.0 != mark.digest {
                return Err(format!("there are two entries {at:?}"));
            }
            match (known.1, before) {
                (Some(one), Some(other)) if one != other => {
                    return Err(format!(
                        "{at:?} follows an entry of term {one} and one of term {other}"
                    ));
                }
                (None, Some(_)) => known.1 = before,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
