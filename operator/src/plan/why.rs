//! Why a step is the next one: for a person who asks `operator plan`.

use super::{Step, Waiting};

/// Why this step, and not another, is the next one.
pub fn why(step: &Step) -> &'static str {
    match step {
        Step::Reserve { .. } => {
            "no server holds state of a cluster and none is on record; the one server that may form it is recorded before it starts"
        }
        Step::StartFirst(_) => {
            "the bootstrap is reserved for it, no server holds state of a cluster, and nothing runs with the flag"
        }
        Step::Record { .. } => {
            "the first server leads; from this record on nothing is started with the flag"
        }
        Step::StartServers(_) => {
            "they are wanted, have never run, and the leader and its peers are in order"
        }
        Step::StartAgain(_) => {
            "it left the cluster gracefully, is wanted, and every other server is a caught-up voter"
        }
        Step::RestartDead(_) => {
            "it belongs to the cluster and its process is gone; what brings a cluster back comes first"
        }
        Step::Join { .. } => "the leader does not see it in gossip",
        Step::Wait(waiting) => wait(waiting),
        Step::RestartFirstWithoutBootstrap { .. } => {
            "every server is a voter and has the whole log of the leader, so a quorum stays without it"
        }
        Step::StopUnformed { .. } => {
            "the bootstrap is reserved for it, and nobody can form a cluster without the flag"
        }
        Step::RepairSecondBootstrap { .. } => {
            "it formed a cluster of its own, which nobody else belongs to; nothing is deleted, and it joins with an empty folder"
        }
        Step::MoveAside { .. } => {
            "a person asked for it, and the server does not come up or holds data of another cluster; nothing is deleted"
        }
        Step::RecoverQuorum(_) => {
            "too few voters are left to ever elect a leader, and a person confirmed this survivor"
        }
        Step::TransferLeader { .. } => {
            "the leader is stopped next, and hands over to a caught-up voter first"
        }
        Step::RemoveServer { .. } => {
            "fewer servers are wanted, and the others keep a quorum of caught-up voters"
        }
        Step::ForgetServer { .. } => {
            "fewer servers are wanted, and a dead one only counts against the quorum"
        }
        Step::RemoveGhost { .. } => {
            "the server is another node since it lost its data dir; its former self never votes again and only counts against the quorum"
        }
        Step::ReplaceServer { .. } => {
            "it runs with another configuration, and the others keep a quorum of caught-up voters"
        }
        Step::SetMinQuorum { .. } => {
            "autopilot's settings are the cluster's own, which no file reaches after its first leader"
        }
        Step::StartClients(_) => {
            "the manual sequence is over: no server runs with the flag and the first one is back"
        }
        Step::StopClient { .. } => "it is not wanted any more, or runs with another configuration",
        Step::Steady => {
            "every server is a caught-up voter of one cluster, none runs with the flag, and every client is a member"
        }
        Step::Stalled(_) => "no step is both useful and safe; a person has to act",
    }
}

fn wait(waiting: &Waiting) -> &'static str {
    match waiting {
        Waiting::Paused | Waiting::PausedBefore(_) => "a person asked for it",
        Waiting::Answer(_) => "what it would answer may change the next step",
        Waiting::Leader => "only a leader can tell who belongs to the cluster",
        Waiting::Peer(_) | Waiting::Voters { .. } => "a server counts once it votes",
        Waiting::Replication { .. } => "a server counts once it has the leader's log",
        Waiting::Exit(_) => "one server is taken down at a time",
        Waiting::FlagInGossip { .. } => "the bootstrap is over when nobody sees its flag any more",
        Waiting::Death(_) => "a member that counts as alive cannot be forgotten",
        Waiting::Member(_) => "a client is of use once it is a member",
        Waiting::Unsafe(_) => {
            "a server is stopped only while the others keep a quorum of caught-up voters"
        }
    }
}
