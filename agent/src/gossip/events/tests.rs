use foca::State;

use super::super::Tags;
use super::super::ledger::Record;
use super::*;

const NOW: Duration = Duration::from_secs(1000);

fn identity(id: u128, name: &str, generation: u64) -> Identity {
    Identity {
        id: Uuid::from_u128(id),
        name: name.into(),
        addr: format!("127.0.0.{id}:8301").parse().unwrap(),
        generation,
    }
}

fn record(generation: u64, version: u64) -> Record {
    Record {
        generation,
        version,
        tags: Tags::from([("version".to_owned(), version.to_string())]),
    }
}

/// A view, its ledger, and the words for what happened.
struct World {
    view: View,
    ledger: Ledger,
    /// What somebody who hears of the events only holds for the members.
    told: Vec<Arc<Member>>,
}

impl World {
    fn new() -> Self {
        Self {
            view: View::new(),
            ledger: Ledger::new(Uuid::from_u128(99)),
            told: Vec::new(),
        }
    }

    fn refresh(&mut self, who: &Identity) -> Vec<String> {
        let events = self.view.refresh(who.id, &self.ledger);
        for event in &events {
            apply(event, &mut self.told);
        }
        assert_eq!(self.told, self.view.members());
        events
            .iter()
            .map(|event| {
                let text = format!("{event:?}");
                let word = text.split('(').next().unwrap();
                format!("{word} {}", event.member().id.as_u128())
            })
            .collect()
    }

    fn up(&mut self, who: &Identity) -> Vec<String> {
        self.view.up(who, NOW);
        self.refresh(who)
    }

    fn down(&mut self, who: &Identity) -> Vec<String> {
        self.view.down(who, NOW);
        self.refresh(who)
    }

    fn says(&mut self, who: &Identity, intent: Intent) -> Vec<String> {
        self.ledger.learn_intent(who.id, who.generation, intent);
        self.refresh(who)
    }

    fn has(&mut self, who: &Identity, version: u64) -> Vec<String> {
        self.ledger
            .learn_record(who.id, record(who.generation, version));
        self.refresh(who)
    }

    /// A member that is up and shown.
    fn with(who: &Identity) -> Self {
        let mut world = Self::new();
        world.has(who, 0);
        world.up(who);
        world
    }

    fn status(&self, who: &Identity) -> Option<Status> {
        self.view.member(who.id).map(|member| member.status)
    }
}

#[test]
fn a_member_is_shown_once_its_record_is_known() {
    let b = identity(2, "B", 1);
    let mut world = World::new();
    assert!(world.up(&b).is_empty());
    assert_eq!(world.has(&b, 0), ["Joined 2"]);
    assert!(world.refresh(&b).is_empty(), "nothing changed since");
    assert_eq!(world.has(&b, 1), ["Updated 2"]);
}

#[test]
fn failed_and_left_are_told_apart_by_what_was_said() {
    let b = identity(2, "B", 1);
    let mut world = World::with(&b);
    assert_eq!(world.down(&b), ["Failed 2"]);

    let mut world = World::with(&b);
    assert_eq!(world.says(&b, Intent::Leaving), ["Leaving 2"]);
    assert_eq!(world.says(&b, Intent::Left), ["Left 2"]);
    assert!(world.down(&b).is_empty());

    let mut world = World::with(&b);
    world.says(&b, Intent::Leaving);
    assert_eq!(world.down(&b), ["Left 2"], "its last word was lost");
}

#[test]
fn what_an_operator_says_counts_only_about_the_dead() {
    let b = identity(2, "B", 1);
    let mut world = World::with(&b);
    assert!(world.says(&b, Intent::Forced).is_empty());
    assert_eq!(world.down(&b), ["Left 2"]);
    assert_eq!(world.says(&b, Intent::Forgotten), ["Reaped 2"]);
    assert_eq!(world.status(&b), None);
}

#[test]
fn a_new_life_returns_with_its_own_record_only() {
    let old = identity(2, "B", 1);
    let new = identity(2, "B", 2);
    let mut world = World::with(&old);
    world.says(&old, Intent::Left);
    world.down(&old);
    assert!(world.up(&new).is_empty());
    assert_eq!(world.status(&old), Some(Status::Left));
    assert_eq!(world.has(&new, 0), ["Joined 2"]);
}

#[test]
fn a_restart_that_was_not_noticed_is_an_update() {
    let old = identity(2, "B", 1);
    let new = Identity {
        addr: "127.0.0.77:8301".parse().unwrap(),
        ..identity(2, "B", 2)
    };
    let mut world = World::with(&old);
    world.view.renamed(&new);
    assert!(world.refresh(&new).is_empty());
    assert_eq!(world.has(&new, 0), ["Updated 2"]);
    assert_eq!(world.view.member(new.id).unwrap().addr, new.addr);
}

#[test]
fn a_name_belongs_to_the_first_until_it_is_gone() {
    let (first, second) = (identity(2, "B", 1), identity(3, "b", 1));
    let mut world = World::with(&first);
    world.has(&second, 0);
    assert!(world.up(&second).is_empty());
    assert_eq!(world.down(&first), ["Failed 2", "Reaped 2", "Joined 3"]);
    assert!(world.up(&first).is_empty(), "now the other one has it");
    assert_eq!(world.view.by_name("B").unwrap().id, second.id);
    assert_eq!(world.view.members().len(), 1);
}

#[test]
fn the_dead_that_others_know_are_shown_with_their_age() {
    let b = identity(2, "B", 1);
    let mut world = World::new();
    world.view.heard_down(&b, Duration::from_secs(60), NOW);
    assert_eq!(world.has(&b, 0), ["Failed 2"]);
    assert_eq!(
        world.view.down_for(b.id, NOW + Duration::from_secs(1)),
        Duration::from_secs(61)
    );
    let expired = world.view.expired(Duration::from_secs(60), NOW);
    assert_eq!(expired, std::slice::from_ref(&b));
    world.view.forget(b.id);
    assert_eq!(world.refresh(&b), ["Reaped 2"]);
}

fn entry(who: &Identity, state: State) -> Entry {
    Entry {
        member: foca::Member::new(who.clone(), 0, state),
        down_for: Duration::ZERO,
        intent: None,
        record: None,
    }
}

#[test]
fn a_collision_needs_two_living_members_at_two_addresses() {
    let (a, b) = (identity(1, "A", 1), identity(2, "B", 1));
    let newcomer = identity(3, "C", 1);
    let other_b = identity(4, "b", 1);
    let ours = [&a, &b];
    let check = |theirs: &[Entry]| collision(&ours, &newcomer, theirs);
    assert_eq!(check(&[entry(&newcomer, State::Alive)]), None);
    let reason = check(&[entry(&other_b, State::Suspect)]).unwrap();
    assert!(reason.contains(&b.id.to_string()) && reason.contains("127.0.0.2:8301"));
    assert_eq!(check(&[entry(&other_b, State::Down)]), None);
    assert_eq!(check(&[entry(&b, State::Alive)]), None, "the same node");
    let left = Entry {
        intent: Some((1, Intent::Left)),
        ..entry(&other_b, State::Alive)
    };
    assert_eq!(check(&[left]), None);
    let in_its_place = Identity {
        addr: b.addr,
        ..identity(5, "B", 1)
    };
    assert_eq!(collision(&ours, &in_its_place, &[]), None);
}

#[test]
fn a_node_id_has_one_name() {
    let b = identity(2, "B", 1);
    let renamed = identity(2, "X", 5);
    assert_eq!(collision(&[&b], &renamed, &[]), None, "restarted");
    let renamed = Identity {
        addr: "127.0.0.77:8301".parse().unwrap(),
        ..renamed
    };
    assert!(collision(&[&b], &renamed, &[]).is_some());
    assert_eq!(collision(&[&b], &identity(2, "B", 5), &[]), None);
}
