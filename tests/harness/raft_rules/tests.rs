use agent::raft::Belief;

use super::*;

const CLUSTER: Uuid = Uuid::from_u128(7);

/// Builds looks at one server.
struct Told(Look);

fn server(id: RaftId) -> Told {
    Told(Look {
        id,
        cluster: Some(CLUSTER),
        belief: Belief {
            term: 1,
            voters: vec![BTreeSet::from([1, 2, 3])],
            ..Belief::default()
        },
        log: None,
    })
}

fn mark(term: u64, index: u64) -> Mark {
    Mark {
        position: Position { term, index },
        digest: term * 1000 + index,
    }
}

impl Told {
    /// It has all these entries, of which those up to `written` are on disk.
    fn has(mut self, entries: &[Mark], written: u64) -> Self {
        self.0.log = Some(LogNews {
            purged: None,
            anew: true,
            entries: entries.to_vec(),
            written: written + 1,
        });
        self
    }

    /// It has got these entries too, and has all of them on disk.
    fn gets(mut self, entries: &[Mark]) -> Self {
        self.0.log = Some(LogNews {
            purged: None,
            anew: false,
            entries: entries.to_vec(),
            written: entries.last().map_or(0, |last| last.position.index + 1),
        });
        self
    }

    fn purged(mut self, term: u64, index: u64) -> Self {
        let log = self.0.log.get_or_insert_default();
        log.purged = Some(Position { term, index });
        self
    }

    fn leads(mut self, term: u64) -> Self {
        (self.0.belief.term, self.0.belief.leads) = (term, true);
        self
    }

    fn commits(mut self, committed: u64, applied: u64) -> Self {
        (self.0.belief.committed, self.0.belief.applied) = (committed, applied);
        self
    }

    fn counts(mut self, replicated: u64) -> Self {
        self.0.belief.replicated = replicated;
        self
    }
}

/// Takes in looks at first processes, one step each.
fn after(looks: impl IntoIterator<Item = Told>) -> RaftRules {
    let mut rules = RaftRules::default();
    for Told(look) in looks {
        rules.see(1, &look).unwrap();
        rules.settle().unwrap();
    }
    rules
}

#[track_caller]
fn broken(mut rules: RaftRules, life: u64, Told(look): Told, why: &str) {
    let said = rules.see(life, &look).and_then(|()| rules.settle());
    let said = said.expect_err("a rule is broken");
    assert!(said.contains(why), "{said}");
}

#[test]
fn two_leaders_in_a_term() {
    let rules = after([server(1).leads(1), server(1).leads(3), server(2).leads(2)]);
    broken(rules, 1, server(2).leads(3), "lead in term 3");
}

#[test]
fn one_leader_may_say_so_again() {
    after([server(1).leads(1), server(2), server(1).leads(1)]);
}

#[test]
fn another_cluster() {
    let mut look = server(1);
    look.0.cluster = Some(Uuid::from_u128(8));
    broken(after([server(1)]), 1, look, "is in cluster");
    let mut look = server(1).leads(1);
    look.0.cluster = None;
    broken(after([]), 1, look, "leads without a cluster");
}

#[test]
fn two_entries_of_one_position() {
    let mut other = mark(1, 2);
    other.digest += 1;
    let rules = after([server(1).has(&[mark(1, 1), mark(1, 2)], 2)]);
    broken(
        rules,
        1,
        server(2).has(&[mark(1, 1), other], 2),
        "there are two entries",
    );
}

#[test]
fn the_same_entry_behind_different_ones() {
    let rules = after([server(1).has(&[mark(1, 1), mark(3, 2)], 2)]);
    broken(
        rules,
        1,
        server(2).has(&[mark(2, 1), mark(3, 2)], 2),
        "follows an entry of term 1 and one of term 2",
    );
    // The one before may be purged.
    let rules = after([server(1).has(&[mark(1, 1), mark(3, 2)], 2)]);
    let look = server(2).has(&[mark(3, 2)], 2).purged(2, 1);
    broken(rules, 1, look, "follows an entry");
}

#[test]
fn what_is_committed_changes() {
    let rules = after([server(1).has(&[mark(1, 1), mark(1, 2)], 2).commits(2, 2)]);
    let look = server(2).has(&[mark(1, 1), mark(2, 2)], 2).commits(2, 1);
    broken(rules, 1, look, "committed entry");
    // Also where it is the server itself that changed it.
    let rules = after([server(1).has(&[mark(1, 1), mark(1, 2)], 2).commits(2, 2)]);
    let look = server(1).has(&[mark(1, 1), mark(2, 2)], 2).commits(2, 2);
    broken(rules, 1, look, "committed entry");
    // Or dropped it.
    let rules = after([server(1).has(&[mark(1, 1), mark(1, 2)], 2).commits(2, 2)]);
    let look = server(1).has(&[mark(1, 1)], 1).commits(2, 2);
    broken(rules, 1, look, "lacks committed entry 2");
}

#[test]
fn what_is_not_committed_may_change() {
    after([
        server(1).has(&[mark(1, 1), mark(1, 2)], 2).commits(1, 1),
        server(1).has(&[mark(1, 1), mark(2, 2)], 2).commits(2, 2),
        server(2).has(&[mark(2, 2)], 2).purged(1, 1).commits(2, 2),
    ]);
}

#[test]
fn a_leader_without_what_was_committed() {
    let all = [mark(1, 1), mark(1, 2)];
    let rules = after([server(1).has(&all, 2).commits(2, 2)]);
    broken(
        rules,
        1,
        server(2).has(&all[..1], 1).leads(2),
        "without committed entry",
    );
    after([
        server(1).has(&all, 2).commits(2, 2),
        server(2).has(&all, 2).leads(2),
        server(3).has(&[], 0).purged(1, 2).leads(3),
    ]);
}

#[test]
fn a_leader_of_a_past_term_may_lack_what_came_later() {
    after([
        server(1).has(&[mark(1, 1), mark(3, 2)], 2).commits(2, 2),
        server(2).has(&[mark(1, 1)], 1).leads(2),
    ]);
}

#[test]
fn commit_or_applied_index_goes_back() {
    let all = [mark(1, 1), mark(1, 2)];
    let before = || after([server(1).has(&all, 2).commits(2, 2)]);
    broken(before(), 1, server(1).commits(1, 1), "went back");
    broken(before(), 1, server(1).commits(2, 1), "went back");
    broken(
        after([]),
        1,
        server(1).has(&all, 2).commits(1, 2),
        "applied 2",
    );
    // A new process begins with what it finds.
    before()
        .see(2, &server(1).has(&all, 2).commits(1, 1).0)
        .unwrap();
}

#[test]
fn what_was_on_disk_is_gone_after_a_restart() {
    let all = [mark(1, 1), mark(1, 2), mark(1, 3)];
    let before = || after([server(1).has(&all, 2)]);
    broken(
        before(),
        2,
        server(1).has(&all[..1], 1),
        "was on disk and is gone",
    );
    broken(
        before(),
        2,
        server(1).has(&[mark(1, 1), mark(2, 2)], 2),
        "was on disk and is gone",
    );
    // The last one was not on disk, and what is purged is in a snapshot.
    before().see(2, &server(1).has(&all[..2], 2).0).unwrap();
    before()
        .see(2, &server(1).has(&[], 0).purged(1, 2).0)
        .unwrap();
}

#[test]
fn a_commit_that_is_on_no_quorum_of_disks() {
    let all = [mark(1, 1), mark(1, 2)];
    let rules = after([server(1).has(&all, 2), server(2).has(&all, 1)]);
    broken(rules, 1, server(1).leads(1).counts(2), "of a quorum");
    after([
        server(1).has(&all, 1),
        server(2).has(&all[..1], 1),
        server(2).gets(&all[1..]),
        server(3).has(&[], 0).purged(1, 2),
        server(1).leads(1).counts(2),
    ]);
}

#[test]
fn a_joint_configuration_needs_both_quorums() {
    let all = [mark(1, 1), mark(1, 2)];
    let joint = || {
        let mut look = server(1).leads(1);
        let sets = [BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])];
        look.0.belief.voters = sets.into();
        look
    };
    let seen = || after([server(2).has(&all, 2), joint().has(&all, 2)]);
    broken(seen(), 1, joint().counts(2), "of a quorum");
    let mut rules = seen();
    rules.see(1, &server(5).has(&all, 2).0).unwrap();
    rules.see(1, &joint().counts(2).0).unwrap();
    rules.settle().unwrap();
}
