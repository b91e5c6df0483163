//! What follows from an observation: which cluster is ours, who leads it, who counts.

use std::cmp::Reverse;

use uuid::Uuid;

use super::{Desired, Launch, MAX_FAILED_STARTS, Seat};
use crate::observe::{
    Agent, Answers, Latch, Observed, Peer, Process, Raft, RaftData, Role, Status,
};

/// An agent of which nothing is known.
static NOBODY: Agent = Agent {
    process: Process::Absent,
    raft_data: RaftData::Absent,
    moved_aside: Vec::new(),
    answers: None,
};

/// The leader of our cluster.
#[derive(Debug, Clone, Copy)]
pub struct Leader<'a> {
    /// Its seat.
    pub seat: &'a Seat,
    /// What it answered.
    pub answers: &'a Answers,
    /// Its place in Raft.
    pub raft: &'a Raft,
}

/// Desired and observed state, with what follows from them.
#[derive(Debug)]
pub struct View<'a> {
    /// What is wanted.
    pub desired: &'a Desired,
    /// What was seen.
    pub observed: &'a Observed,
    /// Id of our cluster: the recorded one, or else the best one that was seen.
    pub cluster: Option<Uuid>,
    /// The leader of our cluster, if one of ours says that it leads.
    pub leader: Option<Leader<'a>>,
}

impl<'a> View<'a> {
    /// Draws the conclusions.
    pub fn new(desired: &'a Desired, observed: &'a Observed) -> Self {
        let mut view = View {
            desired,
            observed,
            cluster: None,
            leader: None,
        };
        view.cluster = view.our_cluster();
        view.leader = view.our_leader();
        if view.has_lost_quorum() {
            // Somebody may still believe that it leads: nothing that it is told can be committed.
            view.leader = None;
        }
        view
    }

    /// Voters that still have their data, also those that could be started with it.
    pub fn voters_alive(&self) -> usize {
        let alive = |peer: &&Peer| {
            let seat = self
                .seats()
                .iter()
                .find(|seat| self.peer(seat) == Some(*peer));
            match (seat, self.leader) {
                (Some(seat), _) => self.server(seat).has_state(),
                (None, Some(leader)) => self.lives_elsewhere(leader.answers, peer),
                (None, None) => false,
            }
        };
        let voters = self.configuration().iter().filter(|peer| peer.voter);
        voters.filter(alive).count()
    }

    /// Whether a voter is alive that is no server of this resource, as that agent sees it. One that lost its data came back
    /// under the old name, but what voted was another node.
    pub fn lives_elsewhere(&self, answers: &Answers, peer: &Peer) -> bool {
        let ours = |seat: &Seat| seat.name.eq_ignore_ascii_case(&peer.name);
        peer.voter && !self.seats().iter().any(ours) && answers.sees_alive(&peer.name)
    }

    /// Whether too few voters have their data to ever elect a leader, or to follow one.
    fn has_lost_quorum(&self) -> bool {
        let unknown = |seat: &Seat| {
            let agent = self.server(seat);
            agent.running().is_some() && agent.answers.is_none()
        };
        let voters = self.voters();
        voters > 0 && !self.seats().iter().any(unknown) && self.voters_alive() < voters / 2 + 1
    }

    /// What was seen of that server.
    pub fn server(&self, seat: &Seat) -> &'a Agent {
        self.observed.servers.get(&seat.name).unwrap_or(&NOBODY)
    }

    /// What was seen of that client.
    pub fn client(&self, seat: &Seat) -> &'a Agent {
        self.observed.clients.get(&seat.name).unwrap_or(&NOBODY)
    }

    /// All seats of servers.
    pub fn seats(&self) -> &'a [Seat] {
        &self.desired.server_seats
    }

    /// Whether that server says that it belongs to another cluster than ours.
    pub fn foreign(&self, seat: &Seat) -> Option<Uuid> {
        let theirs = self.server(seat).cluster()?;
        (Some(theirs) != self.cluster).then_some(theirs)
    }

    /// The recorded id. Else, of the clusters that servers of ours say they belong to: the one with most voters, then
    /// that of the server that the bootstrap was reserved for, then that of the lowest seat.
    fn our_cluster(&self) -> Option<Uuid> {
        if let Latch::Done(cluster) = &self.observed.bootstrap {
            return Some(*cluster);
        }
        let claims = self
            .seats()
            .iter()
            .enumerate()
            .filter_map(|(number, seat)| {
                let agent = self.server(seat);
                let others = agent.raft().map_or(0, |raft| raft.num_peers);
                let reserved =
                    matches!(&self.observed.bootstrap, Latch::Reserved(name) if *name == seat.name);
                Some((others, reserved, Reverse(number), agent.cluster()?))
            });
        claims
            .max_by_key(|(others, reserved, number, _)| (*others, *reserved, *number))
            .map(|claim| claim.3)
    }

    /// A deposed leader may still believe that it leads: the highest term decides.
    fn our_leader(&self) -> Option<Leader<'a>> {
        let cluster = self.cluster?;
        let leaders = self.seats().iter().filter_map(|seat| {
            let agent = self.server(seat);
            let answers = agent.answers.as_ref()?;
            let raft = answers.raft.as_ref()?;
            let leads = agent.running().is_some()
                && answers.cluster == Some(cluster)
                && raft.role == Role::Leader;
            leads.then_some(Leader {
                seat,
                answers,
                raft,
            })
        });
        leaders.max_by_key(|leader| leader.raft.term)
    }

    /// The Raft configuration: the leader's, or else that of the server of our cluster that has most log.
    pub fn configuration(&self) -> &'a [Peer] {
        if let Some(leader) = self.leader {
            return &leader.answers.peers;
        }
        let known = self.seats().iter().filter_map(|seat| {
            let answers = self.server(seat).answers.as_ref()?;
            let ours = self.cluster.is_none() || answers.cluster == self.cluster;
            (ours && !answers.peers.is_empty()).then_some(answers)
        });
        known
            .max_by_key(|answers| answers.raft.as_ref().map(|raft| raft.last_log_index))
            .map_or(&[], |a| &a.peers)
    }

    /// That server's entry in the Raft configuration: by node id where both are known, else by name. One whose data dir
    /// was lost is another node under the old name.
    pub fn peer(&self, seat: &Seat) -> Option<&'a Peer> {
        let id = self.node_id(seat);
        let ours = |peer: &&Peer| match (id.is_empty(), peer.node_id.is_empty()) {
            (false, false) => peer.node_id == id,
            _ => peer.name.eq_ignore_ascii_case(&seat.name),
        };
        self.configuration().iter().find(ours)
    }

    /// What a server of that name left in the Raft configuration when it lost its data dir, and with it its node id.
    pub fn ghost(&self, seat: &Seat) -> Option<&'a Peer> {
        let id = self.node_id(seat);
        let ghost = |peer: &&Peer| {
            peer.name.eq_ignore_ascii_case(&seat.name)
                && !peer.node_id.is_empty()
                && peer.node_id != id
        };
        self.configuration()
            .iter()
            .find(ghost)
            .filter(|_| !id.is_empty())
    }

    fn node_id(&self, seat: &Seat) -> &'a str {
        self.server(seat)
            .answers
            .as_ref()
            .map_or("", |answers| answers.node_id.as_str())
    }

    /// Voters in the Raft configuration.
    pub fn voters(&self) -> usize {
        self.configuration()
            .iter()
            .filter(|peer| peer.voter)
            .count()
    }

    /// Whether that server votes.
    pub fn votes(&self, seat: &Seat) -> bool {
        self.peer(seat).is_some_and(|peer| peer.voter)
    }

    /// Log entries of the leader that this server lacks. Absent: nobody can tell.
    pub fn behind(&self, seat: &Seat) -> Option<u64> {
        let raft = self.server(seat).raft()?;
        Some(
            self.leader?
                .raft
                .last_log_index
                .saturating_sub(raft.last_log_index),
        )
    }

    /// Whether that server was told to stop, by us or by somebody else.
    pub fn stopping(&self, agent: &Agent, seat: &Seat) -> bool {
        let told = agent.running().is_some_and(|running| running.stopping);
        let own = agent
            .answers
            .as_ref()
            .and_then(|answers| answers.member(&seat.name));
        told || own.is_some_and(|own| matches!(own.status, Status::Leaving | Status::Left))
    }

    /// Whether that server is one that a quorum can be counted on: it runs, answers, votes, and has the log.
    pub fn caught_up(&self, seat: &Seat) -> bool {
        let agent = self.server(seat);
        agent.running().is_some()
            && !self.stopping(agent, seat)
            && self.cluster.is_some()
            && agent.cluster() == self.cluster
            && agent
                .raft()
                .is_some_and(|raft| raft.role != Role::Shutdown && raft.last_log_index > 0)
            && self.votes(seat)
            && self.says_voter(seat)
            && self
                .behind(seat)
                .is_some_and(|behind| behind <= self.desired.max_lag)
    }

    /// Whether that server's own Raft configuration, if it has told it, gives it a vote. One that lost its data does not
    /// know of the vote that its former self still has.
    fn says_voter(&self, seat: &Seat) -> bool {
        let Some(answers) = &self.server(seat).answers else {
            return false;
        };
        let named = |peer: &Peer| peer.name.eq_ignore_ascii_case(&seat.name);
        let own = |peer: &Peer| {
            if peer.node_id.is_empty() {
                named(peer)
            } else {
                peer.node_id == answers.node_id
            }
        };
        answers.peers.is_empty() || answers.peers.iter().any(|peer| peer.voter && own(peer))
    }

    /// Why a server that was started does not come up, when the platform says so.
    pub fn stuck(&self, seat: &Seat) -> Option<&'a str> {
        let agent = self.server(seat);
        let trouble = agent.running().map(|running| running.trouble.as_str())?;
        (agent.answers.is_none() && !trouble.is_empty()).then_some(trouble)
    }

    /// The first of ours that runs with `-bootstrap`.
    pub fn flagged(&self) -> Option<&'a Seat> {
        self.seats().iter().find(|seat| self.server(seat).flagged())
    }

    /// Whether the manual sequence is over: recorded, nothing runs with the flag, and no server is on its way back.
    pub fn bootstrapped(&self) -> bool {
        let returning = |seat: &Seat| {
            let agent = self.server(seat);
            match agent.running() {
                Some(_) => !self.votes(seat),
                None => agent.raft_data == RaftData::Present && self.peer(seat).is_none(),
            }
        };
        let enough = self.voters() >= 2 || self.desired.servers == 1;
        matches!(self.observed.bootstrap, Latch::Done(_))
            && self.leader.is_some()
            && self.flagged().is_none()
            && enough
            && !self.desired.wanted().iter().any(returning)
    }

    /// What starts that seat, never with the flag.
    pub fn launch(&self, seat: &Seat, server: bool) -> Launch {
        Launch {
            name: seat.name.clone(),
            address: seat.address.clone(),
            server,
            bootstrap: false,
        }
    }
}

/// Whether another start of that agent makes sense.
pub(super) fn startable(agent: &Agent) -> bool {
    match &agent.process {
        Process::Absent => true,
        Process::Running(_) => false,
        Process::Exited(exited) => exited.failed_starts < MAX_FAILED_STARTS,
    }
}
