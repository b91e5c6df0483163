//! Agents without processes: a small model of starting, gossip and Raft, just honest enough that a wrong step loses
//! a quorum, forms a second cluster or waits for ever. Every step is checked against what is true, not against what
//! was observed.

// Each test target uses its own part of this.
#![allow(dead_code)]

mod hooks;
mod time;
mod wanted;

pub(crate) use wanted::desired;

use std::collections::{BTreeMap, BTreeSet};

use operator::observe::{
    Agent, Answers, Exited, Latch, Observed, Peer, Process, Raft, RaftData, Role, Running, Seen,
    Status,
};
use operator::plan::{Desired, Launch, Step, plan};
use uuid::Uuid;

/// Ticks that a fake agent takes to answer.
const START_TICKS: u32 = 2;

#[derive(Debug, Clone)]
struct Run {
    flag: bool,
    revision: String,
    age: u32,
    /// Told to stop; true: leave first.
    stop: Option<bool>,
    /// Never answers.
    deaf: bool,
}

/// A `raft/` folder. `id` is made with it and never used again.
#[derive(Debug, Clone, PartialEq)]
struct Folder {
    id: u32,
    cluster: Option<Uuid>,
    log: u64,
    /// Nobody can start with it.
    corrupt: bool,
}

#[derive(Debug, Clone, Default)]
struct Node {
    server: bool,
    run: Option<Run>,
    ran: bool,
    folder: Option<Folder>,
    aside: Vec<Folder>,
    /// Tokens on which the folder was moved aside.
    moved: Vec<String>,
    gossip: BTreeMap<String, Status>,
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    folder: u32,
    voter: bool,
}

#[derive(Debug, Clone, Default)]
struct Cluster {
    config: Vec<Member>,
    committed: u64,
    term: u64,
    leader: Option<String>,
    /// Autopilot's setting.
    min_quorum: u32,
}

/// The model. `formed` counts clusters, also those that a hand formed.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) desired: Desired,
    pub(crate) latch: Latch,
    pub(crate) formed: u128,
    strangers: u128,
    pub(crate) steps: Vec<Step>,
    nodes: BTreeMap<String, Node>,
    clusters: BTreeMap<Uuid, Cluster>,
    folders: u32,
}

impl Fake {
    pub(crate) fn new(desired: Desired) -> Self {
        let (nodes, clusters) = (BTreeMap::new(), BTreeMap::new());
        Fake {
            desired,
            latch: Latch::Open,
            formed: 0,
            strangers: 0,
            steps: Vec::new(),
            nodes,
            clusters,
            folders: 0,
        }
    }

    /// Observes, plans, applies and lets time pass, until nothing is left to do. False: it never ended.
    pub(crate) fn run(&mut self, ticks: usize) -> bool {
        for _ in 0..ticks {
            if self.step() == Step::Steady {
                return true;
            }
        }
        false
    }

    /// One round. The step is checked against the truth before it is applied.
    pub(crate) fn step(&mut self) -> Step {
        let step = plan(&self.desired, &self.observe());
        if !matches!(step, Step::Wait(_) | Step::Steady) {
            self.steps.push(step.clone());
        }
        self.apply(&step);
        self.tick();
        step
    }

    // Faults.

    pub(crate) fn kill(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.run = None;
        }
        self.depose();
    }

    pub(crate) fn kill_all(&mut self) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        names.iter().for_each(|name| self.kill(name));
    }

    /// Whether this is the very folder that was added, with all that was committed.
    fn full(&self, member: &Member, committed: u64) -> bool {
        self.folder(&member.name)
            .is_some_and(|f| f.id == member.folder && f.log >= committed && !f.corrupt)
    }

    /// Whether a quorum cannot do without that server's disk.
    fn needs(&self, name: &str) -> bool {
        self.clusters.values().any(|cluster| {
            let voters = cluster.config.iter().filter(|m| m.voter);
            let left = voters
                .clone()
                .filter(|m| m.name != name && self.full(m, cluster.committed))
                .count();
            let concerns = voters.clone().any(|m| m.name == name);
            concerns && left < voters.count() / 2 + 1
        })
    }

    /// Deletes a stopped server's `raft/` folder, if the others keep every committed entry on a quorum.
    pub(crate) fn wipe(&mut self, name: &str) {
        if !self.needs(name) {
            self.kill(name);
            self.nodes.entry(name.to_owned()).or_default().folder = None;
        }
    }

    /// A hand starts a server of ours with the flag and an empty disk, out of sight of the others.
    pub(crate) fn second_bootstrap(&mut self, name: &str) {
        self.wipe(name);
        let unformed = self.clusters.is_empty();
        let Some(node) = self
            .nodes
            .get_mut(name)
            .filter(|node| node.folder.is_none() && !unformed)
        else {
            return;
        };
        node.gossip.clear();
        let run = Run {
            flag: true,
            revision: self.desired.revision.clone(),
            age: START_TICKS,
            stop: None,
            deaf: false,
        };
        (node.run, node.server, node.ran) = (Some(run), true, true);
        self.form(name);
    }

    pub(crate) fn forget_latch(&mut self) {
        self.latch = Latch::Open;
    }

    pub(crate) fn state_anywhere(&self) -> bool {
        self.nodes
            .values()
            .any(|node| node.folder.as_ref().is_some_and(|f| f.log > 0))
    }

    pub(crate) fn clusters_alive(&self) -> BTreeSet<Uuid> {
        self.nodes
            .values()
            .filter(|n| n.run.is_some())
            .filter_map(|n| n.folder.as_ref()?.cluster)
            .collect()
    }

    pub(crate) fn flagged(&self) -> usize {
        self.nodes
            .values()
            .filter(|node| node.run.as_ref().is_some_and(|run| run.flag))
            .count()
    }

    pub(crate) fn voters(&self) -> usize {
        let ours = self.cluster_of_latch();
        ours.map_or(0, |cluster| {
            cluster.config.iter().filter(|m| m.voter).count()
        })
    }

    fn cluster_of_latch(&self) -> Option<&Cluster> {
        match self.latch {
            Latch::Done(id) => self.clusters.get(&id),
            _ => None,
        }
    }

    fn folder(&self, name: &str) -> Option<&Folder> {
        self.nodes.get(name)?.folder.as_ref()
    }

    fn answers(&self, name: &str) -> bool {
        self.nodes
            .get(name)
            .and_then(|n| n.run.as_ref())
            .is_some_and(|run| run.age >= START_TICKS && !run.deaf)
    }

    /// Whether that member takes part in Raft now: it runs with the very folder that was added.
    fn takes_part(&self, member: &Member) -> bool {
        self.answers(&member.name)
            && self
                .folder(&member.name)
                .is_some_and(|f| f.id == member.folder)
    }

    fn depose(&mut self) {
        let up: BTreeSet<_> = self
            .nodes
            .keys()
            .filter(|name| self.answers(name))
            .cloned()
            .collect();
        for cluster in self.clusters.values_mut() {
            cluster.leader = cluster.leader.take().filter(|leader| up.contains(leader));
        }
    }

    fn form(&mut self, name: &str) {
        self.formed += 1;
        let id = Uuid::from_u128(self.formed);
        self.found(name, id, Some(name.to_owned()));
    }

    /// A cluster of this one server, on a new folder of its disk.
    fn found(&mut self, name: &str, id: Uuid, leader: Option<String>) {
        self.folders += 1;
        let folder = Folder {
            id: self.folders,
            cluster: Some(id),
            log: 3,
            corrupt: false,
        };
        let member = Member {
            name: name.to_owned(),
            folder: folder.id,
            voter: true,
        };
        let cluster = Cluster {
            config: vec![member],
            committed: 3,
            term: 1,
            leader,
            min_quorum: 0,
        };
        self.clusters.insert(id, cluster);
        self.nodes.entry(name.to_owned()).or_default().folder = Some(folder);
    }

    // Observation.

    pub(crate) fn observe(&self) -> Observed {
        let mut observed = Observed {
            bootstrap: self.latch.clone(),
            ..Observed::default()
        };
        for (name, node) in &self.nodes {
            let list = if node.server {
                &mut observed.servers
            } else {
                &mut observed.clients
            };
            list.insert(name.clone(), self.agent(name, node));
        }
        observed
    }

    fn agent(&self, name: &str, node: &Node) -> Agent {
        let process = match &node.run {
            Some(run) => Process::Running(Running {
                bootstrap: run.flag,
                revision: run.revision.clone(),
                uptime_seconds: f64::from(run.age),
                stopping: run.stop.is_some(),
                trouble: String::new(),
            }),
            None if node.folder.as_ref().is_some_and(|f| f.corrupt) => Process::Exited(Exited {
                failed_starts: 3,
                error: "corrupt".into(),
            }),
            None if node.ran => Process::Exited(Exited::default()),
            None => Process::Absent,
        };
        let raft_data = match &node.folder {
            None => RaftData::Absent,
            // What a driver cannot tell from outside counts as present.
            Some(_) => RaftData::Present,
        };
        Agent {
            process,
            raft_data,
            moved_aside: node.moved.clone(),
            answers: self.answers(name).then(|| self.say(name, node)),
        }
    }

    fn say(&self, name: &str, node: &Node) -> Answers {
        let cluster = node.folder.as_ref().and_then(|f| f.cluster);
        let truth = cluster.and_then(|id| self.clusters.get(&id));
        let peers = truth.map(|c| &c.config[..]).unwrap_or_default();
        let leads = truth.is_some_and(|c| c.leader.as_deref() == Some(name));
        let raft = Raft {
            role: if leads { Role::Leader } else { Role::Follower },
            term: truth.map_or(0, |c| c.term),
            num_peers: peers.iter().filter(|m| m.voter && m.name != name).count() as u64,
            last_log_index: node.folder.as_ref().map_or(0, |f| f.log),
            raft_id: node
                .folder
                .as_ref()
                .map_or_else(String::new, |f| f.id.to_string()),
            last_log_term: 1,
            configuration_index: truth.map_or(0, |c| c.term),
            commit_index: 0,
        };
        let mut members: Vec<_> = node
            .gossip
            .iter()
            .map(|(other, status)| self.seen(other, *status))
            .collect();
        members.push(self.seen(name, Status::Alive));
        let peer = |m: &Member| Peer {
            name: m.name.clone(),
            voter: m.voter,
            ..Peer::default()
        };
        let peers = peers.iter().map(peer).collect();
        Answers {
            cluster,
            raft: node.server.then_some(raft),
            members,
            peers,
            node_id: name.to_owned(),
            min_quorum: truth.filter(|_| leads).map(|c| c.min_quorum),
            ..Answers::default()
        }
    }

    fn seen(&self, name: &str, status: Status) -> Seen {
        let node = &self.nodes[name];
        Seen {
            name: name.to_owned(),
            status,
            server: node.server,
            bootstrap: node.run.as_ref().is_some_and(|run| run.flag),
            cluster: node.folder.as_ref().and_then(|f| f.cluster),
            address: String::new(),
        }
    }

    // Steps, checked.

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Wait(_) | Step::Steady | Step::Stalled(_) => {}
            Step::Reserve { server } => {
                assert_eq!(self.latch, Latch::Open, "reserved twice");
                self.latch = Latch::Reserved(server.clone());
            }
            Step::Record { cluster } => {
                assert!(
                    !matches!(self.latch, Latch::Done(_)),
                    "a cluster id is written once"
                );
                self.latch = Latch::Done(*cluster);
            }
            Step::StartFirst(launch) => {
                assert!(
                    launch.bootstrap && !self.state_anywhere(),
                    "rule 2: the flag while there is state"
                );
                assert_eq!(self.flagged(), 0, "rule 1: a second flag");
                assert_eq!(
                    self.latch,
                    Latch::Reserved(launch.name.clone()),
                    "the flag without its reservation"
                );
                self.start(launch);
            }
            Step::StartServers(launches) | Step::StartClients(launches) => {
                launches.iter().for_each(|l| self.start(l))
            }
            Step::StartAgain(launch) | Step::RestartDead(launch) => self.start(launch),
            Step::Join { agent, to, .. } => self.join(agent, to),
            Step::RestartFirstWithoutBootstrap { server, leave } => self.stop(server, *leave),
            Step::RemoveServer { server } => self.stop(server, true),
            Step::ReplaceServer { server } => self.stop(server, false),
            Step::StopUnformed { server } => {
                assert!(
                    !self.state_anywhere(),
                    "stopped as unformed while there is state"
                );
                self.move_aside(server);
            }
            Step::RepairSecondBootstrap { server, cluster } => self.repair(server, *cluster),
            Step::MoveAside { server, token } => self.move_aside_on(server, token),
            Step::RecoverQuorum(alone) => {
                self.kill(&alone.server);
                let (raft_id, index) = (&alone.raft_id, alone.last_log_index);
                assert!(
                    self.go_on_alone(&alone.server, raft_id, index),
                    "another log"
                );
            }
            Step::TransferLeader { from, to, .. } => self.transfer(from, to),
            Step::ForgetServer { server, leader } => self.forget(server, leader),
            Step::SetMinQuorum { leader, servers } => self.tell_min_quorum(leader, *servers),
            Step::RemoveGhost { server, .. } => {
                panic!("{server} has no ghost: names are node ids here")
            }
            Step::StopClient { client } => self.stop(client, true),
        }
    }

    fn start(&mut self, launch: &Launch) {
        let revision = match launch.server {
            true => self.desired.revision.clone(),
            false => self.desired.client_revision.clone(),
        };
        let node = self.nodes.entry(launch.name.clone()).or_default();
        assert!(node.run.is_none(), "{} started twice", launch.name);
        (node.server, node.ran) = (launch.server, true);
        node.run = Some(Run {
            flag: launch.bootstrap,
            revision,
            age: 0,
            stop: None,
            deaf: false,
        });
        if launch.server && node.folder.is_none() {
            self.folders += 1;
            node.folder = Some(Folder {
                id: self.folders,
                cluster: None,
                log: 0,
                corrupt: false,
            });
        }
    }

    fn join(&mut self, agent: &str, to: &str) {
        let cluster = |name: &str| self.folder(name).and_then(|f| f.cluster);
        if let (Some(a), Some(b)) = (cluster(agent), cluster(to)) {
            assert_eq!(a, b, "rule 3: {agent} of another cluster joined to {to}");
        }
        if !self.answers(agent) || !self.answers(to) {
            return;
        }
        let alive = |node: &Node| {
            node.gossip
                .iter()
                .filter(|(_, s)| **s == Status::Alive)
                .map(|(n, _)| n.clone())
                .collect()
        };
        let mut pool: BTreeSet<String> = alive(&self.nodes[agent]);
        pool.extend::<BTreeSet<String>>(alive(&self.nodes[to]));
        pool.extend([agent.to_owned(), to.to_owned()]);
        for one in &pool {
            for other in pool.iter().filter(|other| *other != one) {
                if let Some(node) = self.nodes.get_mut(one) {
                    node.gossip.insert(other.clone(), Status::Alive);
                }
            }
        }
    }

    /// Rule 4, against the truth.
    fn stop(&mut self, name: &str, leave: bool) {
        for cluster in self.clusters.values() {
            let voters: Vec<_> = cluster.config.iter().filter(|m| m.voter).collect();
            let Some(own) = voters
                .iter()
                .find(|m| m.name == name)
                .filter(|m| self.takes_part(m))
            else {
                continue;
            };
            let full = |m: &&&Member| {
                let lag = cluster.committed
                    - self
                        .folder(&m.name)
                        .map_or(0, |f| f.log.min(cluster.committed));
                self.takes_part(m) && lag <= self.desired.max_lag
            };
            let others = voters
                .iter()
                .filter(|m| m.name != own.name)
                .filter(full)
                .count();
            let outvote = voters.len() - usize::from(leave);
            let alone = voters.len() == 1 && self.desired.servers == 1;
            assert!(
                alone || others > outvote / 2,
                "rule 4: {name} stopped, {others} of {outvote} left"
            );
            assert!(
                alone || others == voters.len() - 1,
                "rule 4: {name} stopped while another voter is down"
            );
        }
        if let Some(run) = self.nodes.get_mut(name).and_then(|n| n.run.as_mut()) {
            run.stop = Some(leave);
        }
    }

    fn repair(&mut self, name: &str, cluster: Uuid) {
        assert_ne!(
            self.latch,
            Latch::Done(cluster),
            "our own cluster moved aside"
        );
        let voters = self.clusters[&cluster].config.len();
        assert_eq!(voters, 1, "a cluster of {voters} moved aside");
        self.move_aside(name);
    }

    fn move_aside(&mut self, name: &str) {
        self.kill(name);
        let node = self.nodes.entry(name.to_owned()).or_default();
        node.aside.extend(node.folder.take());
    }

    fn transfer(&mut self, from: &str, to: &str) {
        let member = |c: &Cluster| c.config.iter().find(|m| m.name == to && m.voter).cloned();
        let ready: Vec<_> = self
            .clusters
            .iter()
            .filter(|(_, c)| c.leader.as_deref() == Some(from))
            .filter_map(|(id, c)| Some((*id, member(c)?)))
            .collect();
        for (id, member) in ready {
            let full = self.takes_part(&member)
                && self
                    .folder(to)
                    .is_some_and(|f| f.log >= self.clusters[&id].committed);
            if let Some(cluster) = self.clusters.get_mut(&id).filter(|_| full) {
                (cluster.leader, cluster.term) = (Some(to.to_owned()), cluster.term + 1);
            }
        }
    }

    fn forget(&mut self, name: &str, leader: &str) {
        assert!(
            self.nodes.get(name).is_none_or(|n| n.run.is_none()),
            "{name} runs and is forgotten"
        );
        if let Some(node) = self.nodes.get_mut(leader) {
            node.gossip.insert(name.to_owned(), Status::Left);
        }
    }
}
