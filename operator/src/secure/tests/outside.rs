//! Agents that are no pods of the cluster, while things are turned on.

use super::*;

fn world(spec: &str, outside: &[&str]) -> World {
    let mut world = World::new(spec, Stages::default());
    world.outside = outside.iter().map(|name| (*name).to_owned()).collect();
    world
}

#[test]
fn they_are_waited_for_before_anything_is_asked_of_them() {
    let mut world = world("{gossip: {}, tls: {}, acl: {}}", &["db-1", "Web-7"]);
    let said = world.waits().unwrap();
    // They are still understood, and understand.
    assert_eq!(world.vault.stages, all(Stage::Prepared));
    let expected = "waiting for a person: Web-7, db-1 are not pods of this cluster and may not have the key of gossip, a certificate, a token yet: give them what is in Secret demo-security,";
    assert!(said.starts_with(expected), "{said}");
    assert!(
        said.ends_with("in the annotation consulcluster.dev/outside-agents-ready"),
        "{said}"
    );
    // One is not the other, nor is the beginning of a name the name.
    for ready in ["", "db-1", "db,Web-7", "web-*,*-1", "db-1 Web-7"] {
        world.annotate(decide::OUTSIDE_READY, ready);
        assert!(world.waits().is_some(), "{ready}");
        assert_eq!(world.vault.stages, all(Stage::Prepared));
    }
    for ready in ["db-1,Web-7", " DB-1 , web-7", "db-*,web-*", "*"] {
        let mut world = world.clone();
        world.annotate(decide::OUTSIDE_READY, ready);
        assert_eq!(world.waits(), None, "{ready}");
        assert_eq!(world.vault.stages, all(Stage::Full));
    }
    // Whoever is gone needs nothing.
    world.outside.clear();
    world.settle();
    assert_eq!(world.vault.stages, all(Stage::Full));
}

#[test]
fn one_that_comes_after_others_were_confirmed_is_waited_for_before_nothing_else_is_taken() {
    let mut world = world("{gossip: {}}", &["db-1"]);
    world.annotate(decide::OUTSIDE_READY, "db-1");
    while world.vault.stages.gossip < Stage::Outgoing {
        assert!(world.turn());
    }
    world.outside.insert("db-2".into());
    let said = world.waits().unwrap();
    assert!(
        said.contains("db-2 are not pods of this cluster and may not have the key of gossip yet"),
        "{said}"
    );
    assert_eq!(world.vault.stages.gossip, Stage::Outgoing);
}

#[test]
fn whoever_asks_nothing_of_them_waits_for_nobody() {
    // Nothing is turned on.
    assert_eq!(world("{}", &["db-1"]).waits(), None);
    // Off.
    let off = "{tls: {mode: Disabled}, acl: {enabled: false}}";
    let mut world = World::new(off, all(Stage::Full));
    world.outside.insert("db-1".into());
    assert_eq!(world.waits(), None);
    assert_eq!(world.vault.stages.tls, Stage::Disabled);
}

#[test]
fn many_of_them_fit_into_the_status() {
    let names: Vec<_> = (0..500)
        .map(|n| format!("{}-{n}", "x".repeat(59)))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let said = world("{gossip: {}, tls: {}, acl: {}}", &names)
        .waits()
        .unwrap();
    assert!(said.contains(" and 494 more are not pods"), "{said}");
    assert!(said.len() < 1024, "{}", said.len());
}
