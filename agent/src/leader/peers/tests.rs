use std::sync::Arc;

use super::*;
use crate::gossip::Tags;

const CLUSTER: Uuid = Uuid::from_u128(500);
const POLICY: Policy = Policy {
    cleanup_dead_servers: true,
    min_quorum: 0,
    max_trailing_logs: 250,
};

struct World {
    members: Vec<Arc<Member>>,
    peers: BTreeMap<RaftId, PeerNode>,
    voters: BTreeSet<RaftId>,
    matched: BTreeMap<RaftId, u64>,
    unstable: BTreeSet<RaftId>,
    joint: bool,
}

impl World {
    /// Servers 1 to `n` alive, all voters and caught up; server 1 leads.
    fn of(n: u64) -> Self {
        let mut world = Self {
            members: vec![],
            peers: BTreeMap::new(),
            voters: BTreeSet::new(),
            matched: BTreeMap::new(),
            unstable: BTreeSet::new(),
            joint: false,
        };
        for i in 1..=n {
            world.gossip(i, i, Some(CLUSTER));
            world.peers.insert(i, node(i));
            world.voters.insert(i);
            world.matched.insert(i, 1000);
        }
        world
    }

    fn gossip(&mut self, node_id: u64, raft_id: RaftId, cluster: Option<Uuid>) -> &mut Self {
        let mut tags = Tags::from([("role", "consul"), ("dc", "dc1"), ("port", "8300")]);
        tags.insert("raft_id", raft_id.to_string());
        if let Some(cluster) = cluster {
            tags.insert("cluster", cluster.to_string());
        }
        let member = Member {
            name: format!("s{node_id}"),
            id: Uuid::from_u128(node_id.into()),
            addr: ([127, 0, 0, node_id as u8], 8301).into(),
            generation: 1,
            status: Status::Alive,
            tags,
        };
        self.members.retain(|m| m.id != member.id);
        self.members.push(Arc::new(member));
        self
    }

    fn status(&mut self, node_id: u64, status: Status) -> &mut Self {
        for member in &mut self.members {
            if member.id == Uuid::from_u128(node_id.into()) {
                Arc::make_mut(member).status = status;
            }
        }
        self
    }

    fn view(&self) -> View<'_> {
        View {
            cluster: CLUSTER,
            datacenter: "dc1",
            own: 1,
            members: &self.members,
            peers: &self.peers,
            voters: &self.voters,
            joint: self.joint,
            last_index: 1000,
            matched: &self.matched,
            unstable: &self.unstable,
        }
    }

    fn next(&self) -> Option<Change> {
        next_change(&self.view(), &POLICY)
    }
}

fn node(n: u64) -> PeerNode {
    PeerNode {
        node_id: Uuid::from_u128(n.into()),
        name: format!("s{n}"),
        addr: ([127, 0, 0, n as u8], 8300).into(),
    }
}

#[test]
fn nothing_changes_when_peers_are_as_gossip_says() {
    assert_eq!(World::of(3).next(), None);
}

#[test]
fn a_new_server_becomes_a_learner_and_a_voter_only_when_caught_up() {
    let mut world = World::of(1);
    world.gossip(2, 2, None);
    assert_eq!(
        world.next(),
        Some(Change::AddLearner {
            id: 2,
            node: node(2)
        })
    );
    world.peers.insert(2, node(2));
    assert_eq!(world.next(), None, "it has not answered yet");
    world.matched.insert(2, 700);
    assert_eq!(world.next(), None, "it trails by 300");
    world.matched.insert(2, 900);
    world.unstable.insert(2);
    assert_eq!(world.next(), None, "it has not been well for long enough");
    world.unstable.clear();
    assert_eq!(
        world.next(),
        Some(Change::Promote {
            id: 2,
            node: node(2)
        })
    );
}

#[test]
fn a_server_of_another_cluster_is_reported_and_never_added() {
    let mut world = World::of(1);
    let other = Uuid::from_u128(9);
    world.gossip(2, 2, Some(other));
    assert_eq!(world.next(), None);
    let strangers = strangers(&world.view());
    assert_eq!(
        (strangers[0].name.as_str(), strangers[0].cluster),
        ("s2", other)
    );
    // Not even when a learner of ours turns out to belong to another cluster.
    world.peers.insert(2, node(2));
    world.matched.insert(2, 1000);
    assert_eq!(world.next(), None);
}

#[test]
fn one_that_left_is_removed_and_one_that_failed_stays_where_that_is_no_safer() {
    for (status, expected) in [
        (Status::Left, true),
        (Status::Leaving, true),
        (Status::Failed, false),
    ] {
        let mut world = World::of(3);
        world.status(2, status);
        let removed = matches!(
            world.next(),
            Some(Change::Remove {
                id: 2,
                why: Why::Left,
                ..
            })
        );
        assert_eq!(removed, expected, "{status}");
    }
}

#[test]
fn two_failed_of_five_are_removed_but_not_below_the_floor() {
    let mut world = World::of(5);
    world.status(2, Status::Failed).status(3, Status::Failed);
    assert!(matches!(
        world.next(),
        Some(Change::Remove {
            id: 2,
            why: Why::Failed,
            ..
        })
    ));
    let floor = Policy {
        min_quorum: 5,
        ..POLICY
    };
    assert_eq!(next_change(&world.view(), &floor), None);
    let off = Policy {
        cleanup_dead_servers: false,
        ..POLICY
    };
    assert_eq!(next_change(&world.view(), &off), None);
}

#[test]
fn a_removal_that_would_leave_no_living_quorum_waits() {
    let mut world = World::of(3);
    world.status(2, Status::Left).status(3, Status::Failed);
    assert_eq!(world.next(), None);
}

#[test]
fn a_node_with_a_new_raft_id_loses_its_old_seat_before_it_gets_a_new_one() {
    let mut world = World::of(3);
    world.gossip(2, 22, None);
    let Some(Change::Remove {
        id: 2,
        why: Why::Replaced,
        ..
    }) = world.next()
    else {
        panic!("{:?}", world.next())
    };
    world.peers.remove(&2);
    world.voters.remove(&2);
    assert_eq!(
        world.next(),
        Some(Change::AddLearner {
            id: 22,
            node: node(2)
        })
    );
}

#[test]
fn a_server_that_lost_its_node_id_too_takes_the_seat_of_its_name() {
    let mut world = World::of(3);
    world.gossip(4, 40, None);
    let renamed = world
        .members
        .iter_mut()
        .find(|m| m.id == Uuid::from_u128(4));
    Arc::make_mut(renamed.expect("just added")).name = "S3".into();
    // While the seat's owner is alive, it keeps it.
    assert!(matches!(
        world.next(),
        Some(Change::AddLearner { id: 40, .. })
    ));

    world.members.retain(|m| m.id != Uuid::from_u128(3));
    assert_eq!(
        world.next(),
        Some(Change::Remove {
            id: 3,
            node: node(3),
            why: Why::Replaced,
        })
    );
    world.peers.remove(&3);
    world.voters.remove(&3);
    assert!(matches!(
        world.next(),
        Some(Change::AddLearner { id: 40, .. })
    ));
}

#[test]
fn a_new_address_of_the_same_server_is_followed() {
    let mut world = World::of(3);
    world.peers.get_mut(&2).unwrap().addr = ([127, 0, 0, 99], 8300).into();
    assert_eq!(
        world.next(),
        Some(Change::SetAddress {
            id: 2,
            node: node(2)
        })
    );
}

#[test]
fn a_joint_configuration_is_finished_before_anything_else() {
    let mut world = World::of(3);
    world.joint = true;
    world.status(2, Status::Left);
    assert_eq!(world.next(), Some(Change::FinishJoint));
}

#[test]
fn the_leader_never_removes_itself() {
    let mut world = World::of(3);
    for status in [Status::Leaving, Status::Failed, Status::Left] {
        world.status(1, status);
        assert_eq!(world.next(), None, "{status}");
    }
}
