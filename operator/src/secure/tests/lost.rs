//! A vault that is lost, at any moment.

use super::*;

/// What must be so in the end, whatever was under way: nobody has lost anybody, nothing of before is left over.
fn whole(world: &World, before: &Vault) {
    let (vault, story) = (&world.vault, &world.story);
    assert_eq!(vault.made_again, MadeAgain::Whole, "{story:?}");
    assert!(vault.next.is_none() && vault.gossip_old.is_none());
    assert!(vault.signer.is_some() && vault.signer != before.signer);
    assert_eq!(certificates(&vault.authorities).len(), 1, "{story:?}");
    assert!(vault.tokens == before.tokens, "{story:?}");
    assert_eq!(vault.stages, before.stages);
    let only = (
        BTreeSet::from([vault.gossip_key.clone()]),
        vault.gossip_key.clone(),
    );
    for (agent, keys) in &world.keys {
        assert_eq!(*keys, only, "{agent}: {story:?}");
    }
}

#[test]
fn it_is_made_again_with_the_same_key_and_tokens_and_another_authority() {
    let mut world = World::new("{}", all(Stage::Full));
    world.settle();
    let before = world.vault.clone();
    world.lose(&before, &before);
    let again = &world.vault;
    assert_eq!(again.made_again, MadeAgain::UnderWay);
    assert_eq!(again.gossip_key, before.gossip_key);
    assert!(again.server == before.server && again.client == before.client);
    assert_eq!(again.authorities, before.authorities);
    assert_eq!(again.signer, None);
    world.settle();
    assert_eq!(world.vault.gossip_key, before.gossip_key);
    whole(&world, &before);
    let because = "the key of the authority was lost".to_owned();
    assert!(world.story.contains(&because), "{:?}", world.story);
}

#[test]
fn certificates_of_a_person_stay_as_they_are() {
    let mut world = World::new("{}", all(Stage::Full));
    world.settle();
    let before = world.vault.clone();
    let spec =
        "{tls: {mode: Secret, secretRef: {name: servers}, clientSecretRef: {name: clients}}}";
    world.cluster = cluster(spec);
    let certified = |pair: &Pair| {
        Some(Ok(given::Certified {
            authorities: before.authorities.clone(),
            pair: pair.clone(),
        }))
    };
    world.given.servers = certified(&before.server);
    world.given.clients = certified(before.client.as_ref().unwrap());
    world.lose(&before, &before);
    world.settle();
    assert_eq!(world.vault.made_again, MadeAgain::Whole);
    assert!(world.vault.server == before.server && world.vault.client == before.client);
}

/// Also while the Secrets of servers or clients lag behind the vault by one change.
#[test]
fn whatever_is_being_replaced_when_it_is_lost_nobody_is_cut_off() {
    let annotations = [
        decide::ROTATE_KEY,
        decide::ROTATE_CERTIFICATES,
        decide::ROTATE_AUTHORITY,
    ];
    let mut losses = 0;
    for annotation in annotations {
        let mut world = World::new("{}", all(Stage::Full));
        world.settle();
        let before = world.vault.clone();
        world.annotate(annotation, "1");
        let mut last = world.vault.clone();
        while world.turn() {
            let now = world.vault.clone();
            for (servers, clients) in [(&now, &now), (&now, &last), (&last, &last)] {
                let mut other = world.clone();
                other.lose(servers, clients);
                other.settle();
                whole(&other, &before);
                losses += 1;
            }
            last = now;
        }
    }
    assert!(losses > 60, "{losses}");
}

#[test]
fn while_things_are_turned_on_and_off_it_is_made_again_too() {
    let mut world = World::new("{gossip: {}, tls: {}, acl: {}}", Stages::default());
    while world.turn() {
        let mut other = world.clone();
        let vault = other.vault.clone();
        other.lose(&vault, &vault);
        other.settle();
        assert_eq!(other.vault.stages, all(Stage::Full));
        whole(
            &other,
            &Vault {
                stages: all(Stage::Full),
                ..vault
            },
        );
    }
}

#[test]
fn nothing_takes_the_place_of_what_is_missing_in_what_agents_see() {
    let cluster = cluster("{}");
    let vault = made(&cluster, all(Stage::Full));
    let (servers, clients) = (rendered(&vault, true), rendered(&vault, false));
    let tried = |servers: Option<&Data>, clients: Option<&Data>| {
        let again = again(&cluster, all(Stage::Full), servers, clients, now());
        again.map_err(|why| why.to_string())
    };
    assert!(tried(Some(&servers), Some(&clients)).is_ok());
    let why = tried(None, Some(&clients)).unwrap_err();
    assert_eq!(why, "Secret demo-server-secure is missing as well");
    let why = tried(Some(&servers), None).unwrap_err();
    assert_eq!(why, "Secret demo-client-secure is missing as well");
    let needed = [
        "ca.pem",
        "cert.pem",
        "key.pem",
        "gossip-full.json",
        "acl-full.json",
        "token",
    ];
    for file in needed {
        for wrong in [None, Some(&b"Zm9y Z2Vk"[..]), Some(b"{}"), Some(b"\xff")] {
            let spoil = |data: &Data| {
                let mut data = data.clone();
                match wrong {
                    None => drop(data.remove(file)),
                    Some(wrong) => drop(data.insert(file.to_owned(), wrong.to_vec())),
                }
                data
            };
            let mut all = vec![(spoil(&servers), clients.clone(), "demo-server-secure")];
            // The key of gossip is that of the servers.
            if clients.contains_key(file) && file != "gossip-full.json" {
                all.push((servers.clone(), spoil(&clients), "demo-client-secure"));
            }
            for (servers, clients, name) in all {
                let why = tried(Some(&servers), Some(&clients)).unwrap_err();
                assert!(why.contains(name), "{file}: {why}");
                assert!(!why.contains("Z2Vk"), "{file}: {why}");
                assert!(!why.contains(&vault.tokens.management), "{file}: {why}");
            }
        }
    }
    // A copy of another time: each is whole.
    let other = rendered(&made(&cluster, all(Stage::Full)), true);
    let mut mixed = servers.clone();
    for file in ["cert.pem", "key.pem"] {
        mixed.insert(file.to_owned(), other[file].clone());
    }
    let why = tried(Some(&mixed), Some(&clients)).unwrap_err();
    assert!(
        why.contains("cert.pem: ca.pem does not vouch for it"),
        "{why}"
    );
}

#[test]
fn how_far_things_are_on_is_seen_by_what_agents_are_started_with() {
    use crate::crd::Security;
    const STAGES: [Stage; 4] = [
        Stage::Disabled,
        Stage::Prepared,
        Stage::Outgoing,
        Stage::Full,
    ];
    for spec in ["{}", "{tls: {httpsOnly: false}}"] {
        let mut cluster = cluster(spec);
        for (gossip, tls) in STAGES
            .into_iter()
            .flat_map(|one| STAGES.map(|other| (one, other)))
        {
            let acl = gossip;
            cluster.status.get_or_insert_default().security = Some(Security {
                gossip,
                tls,
                acl,
                ..Security::default()
            });
            let arguments = render::arguments(&cluster);
            let seen = render::stages_of(arguments.iter().map(String::as_str));
            assert_eq!(seen, Stages { gossip, tls, acl });
        }
    }
    let acl = |acl: Stage| Stages {
        acl,
        ..Stages::default()
    };
    assert!(acl(Stage::Prepared).is_near(acl(Stage::Full)));
    assert!(!acl(Stage::Disabled).is_near(acl(Stage::Full)));
    assert!(!all(Stage::Full).is_near(all(Stage::Prepared)));
    assert!(all(Stage::Full).is_near(all(Stage::Outgoing)));
}
