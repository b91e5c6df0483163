use std::collections::{BTreeMap, BTreeSet};

use agent::env::SeededRandom;
use agent::tls::digest_of;
use agent::tls::inspect;
use agent::tls::make::Pair;
use serde_json::json;

use super::*;
use crate::crd::{ConsulCluster, Stage};

mod lost;
mod outside;

const DAY: i64 = 86_400;

fn now() -> i64 {
    k8s_openapi::jiff::Timestamp::now().as_second()
}

fn cluster(spec: &str) -> ConsulCluster {
    let head = "apiVersion: consulcluster.dev/v1alpha1\nkind: ConsulCluster\nmetadata: {name: demo, namespace: prod}\n";
    crate::crd::read(&format!("{head}spec: {spec}")).unwrap()
}

fn made(cluster: &ConsulCluster, stages: Stages) -> Vault {
    let random = SeededRandom::new(7);
    make(cluster, &Given::default(), stages, now(), &random).unwrap()
}

fn all(stage: Stage) -> Stages {
    Stages {
        gossip: stage,
        tls: stage,
        acl: stage,
    }
}

fn read(vault: &Vault) -> Result<Vault, Broken> {
    let (annotations, data) = written(vault);
    Vault::read(&annotations, &data)
}

fn written(vault: &Vault) -> (BTreeMap<String, String>, Data) {
    let secret = json!({"metadata": {"annotations": vault.annotations()}, "data": vault.data()});
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
    let data = secret.data.unwrap().into_iter();
    (
        secret.metadata.annotations.unwrap(),
        data.map(|(key, bytes)| (key, bytes.0)).collect(),
    )
}

fn rendered(vault: &Vault, server: bool) -> Data {
    let secret = json!({"data": render::data(vault, server)});
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
    let data = secret.data.unwrap().into_iter();
    data.map(|(key, bytes)| (key, bytes.0)).collect()
}

/// Agents beside the operator: which files they have in force, which keys of gossip, and what stage they were started for.
#[derive(Clone)]
struct World {
    cluster: ConsulCluster,
    vault: Vault,
    given: Given,
    now: i64,
    files: BTreeMap<String, (bool, String, Pair)>,
    keys: BTreeMap<String, (BTreeSet<String>, String)>,
    tokens: bool,
    /// Agents of which nobody here knows what they have.
    outside: BTreeSet<String>,
    story: Vec<String>,
}

const AGENTS: [(&str, bool); 4] = [("s0", true), ("s1", true), ("s2", true), ("c0", false)];

impl World {
    fn new(spec: &str, stages: Stages) -> Self {
        let cluster = cluster(spec);
        let vault = made(&cluster, stages);
        let mut world = World {
            cluster,
            vault,
            given: Given::default(),
            now: now(),
            files: BTreeMap::new(),
            keys: BTreeMap::new(),
            tokens: false,
            outside: BTreeSet::new(),
            story: Vec::new(),
        };
        for (name, _) in AGENTS {
            world.load(name);
            let key = world.vault.gossip_key.clone();
            let keys = (BTreeSet::from([key.clone()]), key);
            world.keys.insert(name.to_owned(), keys);
        }
        world
    }

    fn load(&mut self, name: &str) {
        let (_, server) = AGENTS.into_iter().find(|(n, _)| *n == name).unwrap();
        let pair = match server {
            true => self.vault.server.clone(),
            false => self.vault.client.clone().unwrap(),
        };
        let trusted = self.vault.authorities.clone();
        self.files.insert(name.to_owned(), (server, trusted, pair));
    }

    fn evidence(&self) -> Evidence {
        let files = self.files.iter();
        let files = files.map(|(name, (server, trusted, pair))| {
            let digest = digest_of(Some(trusted), Some(&pair.cert));
            (name.clone(), (*server, digest))
        });
        let mut pool = Keyring {
            num_nodes: AGENTS.len() as u64,
            ..Keyring::default()
        };
        for (keys, primary) in self.keys.values() {
            for key in keys {
                *pool.keys.entry(key.clone()).or_default() += 1;
            }
            *pool.primary_keys.entry(primary.clone()).or_default() += 1;
        }
        Evidence {
            files: files.collect(),
            unknown: Vec::new(),
            outside: self.outside.clone(),
            tokens_known: self.tokens,
            keyring: Some(vec![pool]),
            now: self.now,
        }
    }

    /// Every agent must understand every other one, at any time.
    fn check(&self) {
        for (name, (server, _, pair)) in &self.files {
            for (other, (_, trusted, _)) in &self.files {
                let names = [certificate_name(&self.cluster, *server)];
                let fine = inspect::check(trusted, pair, &names, self.now);
                assert_eq!(fine, Ok(()), "{name} at {other}: {:?}", self.story);
            }
        }
        for (name, (_, primary)) in &self.keys {
            for (other, (keys, _)) in &self.keys {
                assert!(
                    keys.contains(primary),
                    "{name} at {other}: {:?}",
                    self.story
                );
            }
        }
        // Whoever starts now has the vault's key alone.
        for (keys, primary) in self.keys.values() {
            assert!(keys.contains(&self.vault.gossip_key), "{:?}", self.story);
            let known = [&Some(self.vault.gossip_key.clone()), &self.vault.gossip_old];
            let rest = keys::under_way(&self.vault);
            assert!(
                rest || known[0].as_ref() == Some(primary),
                "{:?}",
                self.story
            );
        }
    }

    /// One decision, carried out. A telling reaches one agent, the other ones with the next.
    fn turn(&mut self) -> bool {
        let random = SeededRandom::new(self.story.len() as u64);
        let evidence = self.evidence();
        let next = decide(&self.cluster, &self.vault, &self.given, &evidence, &random);
        match next {
            Next::Rest => return false,
            Next::Wait(what) => panic!("waits for {what}: {:?}", self.story),
            Next::MakeTokens => {
                self.tokens = true;
                self.story.push("tokens".into());
            }
            Next::Reload(agents) => {
                self.story.push(format!("reload {agents:?}"));
                self.load(&agents[0]);
            }
            Next::Keep(vault, why) => {
                self.story.push(why);
                // What is written can be read.
                assert_eq!(read(&vault), Ok((*vault).clone()));
                self.vault = *vault;
            }
            Next::Keyring(op, key) => {
                self.story.push(format!("{op:?}"));
                let lacks = |(keys, primary): &(BTreeSet<String>, String)| match op {
                    KeyOp::Install => !keys.contains(&key),
                    KeyOp::Use => *primary != key,
                    KeyOp::Remove => keys.contains(&key),
                };
                let found = self.keys.values_mut().find(|one| lacks(one));
                let (keys, primary) = found.expect("somebody has it to do");
                match op {
                    KeyOp::Install => drop(keys.insert(key)),
                    KeyOp::Use => *primary = key,
                    KeyOp::Remove => drop(keys.remove(&key)),
                }
            }
        }
        self.check();
        true
    }

    /// What is waited for after all that could be done. None: nothing.
    fn waits(&mut self) -> Option<String> {
        loop {
            let random = SeededRandom::new(1);
            let evidence = self.evidence();
            let next = decide(&self.cluster, &self.vault, &self.given, &evidence, &random);
            if let Next::Wait(_) = next {
                return Some(next.to_string());
            }
            if !self.turn() {
                return None;
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            if !self.turn() {
                return;
            }
        }
        panic!("never at rest: {:?}", self.story);
    }

    /// The vault is lost, and made again from what is rendered from these two for servers and for clients.
    fn lose(&mut self, servers: &Vault, clients: &Vault) {
        let (servers, clients) = (rendered(servers, true), rendered(clients, false));
        let stages = self.vault.stages;
        let again = again(
            &self.cluster,
            stages,
            Some(&servers),
            Some(&clients),
            self.now,
        );
        self.vault = again.unwrap_or_else(|why| panic!("{why}: {:?}", self.story));
        self.story.push("lost".into());
        self.check();
        assert_eq!(read(&self.vault), Ok(self.vault.clone()));
    }

    fn annotate(&mut self, annotation: &str, value: &str) {
        let all = self.cluster.metadata.annotations.get_or_insert_default();
        all.insert(annotation.to_owned(), value.to_owned());
    }
}

#[test]
fn a_new_cluster_is_protected_from_the_start_and_an_old_one_stays_as_it_is() {
    let spec = |text: &str| cluster(text).spec;
    assert_eq!(Stages::at_birth(&spec("{}")), all(Stage::Full));
    let off = "{gossip: {enabled: false}, tls: {mode: Disabled}, acl: {enabled: false}}";
    assert_eq!(Stages::at_birth(&spec(off)), Stages::default());
    assert_eq!(next(&spec("{}"), Stages::default()), None);
    assert_eq!(next(&spec("{}"), all(Stage::Full)), None);
}

#[test]
fn things_are_turned_on_one_stage_at_a_time_and_off_the_same_way() {
    let way = |text: &str, from: Stages| {
        let spec = cluster(text).spec;
        let mut seen = vec![from];
        while let Some(stages) = next(&spec, *seen.last().unwrap()) {
            seen.push(stages);
        }
        seen
    };
    let on = "{gossip: {}, tls: {}, acl: {}}";
    let up = way(on, Stages::default());
    let tls: Vec<_> = up.iter().map(|stages| stages.tls).collect();
    assert_eq!(
        tls,
        [
            Stage::Disabled,
            Stage::Prepared,
            Stage::Outgoing,
            Stage::Full
        ]
    );
    let acl: Vec<_> = up.iter().map(|stages| stages.acl).collect();
    assert_eq!(
        acl,
        [Stage::Disabled, Stage::Prepared, Stage::Full, Stage::Full]
    );
    let off = "{gossip: {enabled: false}, tls: {mode: Disabled}, acl: {enabled: false}}";
    let down = way(off, all(Stage::Full));
    let tls: Vec<_> = down.iter().map(|stages| stages.tls).collect();
    assert_eq!(
        tls,
        [
            Stage::Full,
            Stage::Outgoing,
            Stage::Prepared,
            Stage::Disabled
        ]
    );
    let acl: Vec<_> = down.iter().map(|stages| stages.acl).collect();
    assert_eq!(
        acl,
        [
            Stage::Full,
            Stage::Prepared,
            Stage::Disabled,
            Stage::Disabled
        ]
    );
    // The key stays in the data folders.
    assert!(down.iter().all(|stages| stages.gossip == Stage::Full));
}

#[test]
fn a_vault_that_is_damaged_says_where_and_shows_nothing() {
    let vault = made(&cluster("{}"), all(Stage::Full));
    assert_eq!(read(&vault), Ok(vault.clone()));
    let (annotations, data) = written(&vault);
    for key in data.keys() {
        let mut less = data.clone();
        less.remove(key);
        let optional = key.starts_with("signer") || key.starts_with("client.crt");
        match Vault::read(&annotations, &less) {
            Ok(_) => assert!(optional, "{key}"),
            Err(why) => assert!(why.to_string().contains(key.as_str()), "{key}: {why}"),
        }
        less.insert(key.clone(), vec![0xff, 0xfe]);
        let why = Vault::read(&annotations, &less).unwrap_err().to_string();
        assert!(why.contains(key.as_str()), "{key}: {why}");
    }
    for key in data.keys() {
        let mut wrong = data.clone();
        wrong.insert(key.clone(), b"Zm9y Z2Vk".to_vec());
        let why = Vault::read(&annotations, &wrong).unwrap_err().to_string();
        assert!(why.contains(key.as_str()), "{key}: {why}");
        assert!(!why.contains("Z2Vk"), "{key}: {why}");
    }
    // Each is whole, and they do not belong together.
    let mut mixed = data.clone();
    mixed.insert("server.key".into(), data["client.key"].clone());
    let why = Vault::read(&annotations, &mixed).unwrap_err().to_string();
    assert!(
        why.contains("server.crt and server.key do not belong together"),
        "{why}"
    );
    assert!(Vault::read(&BTreeMap::new(), &data).is_err());
    assert!(!format!("{vault:?}").contains(&vault.tokens.management));
}

#[test]
fn a_whole_cluster_is_turned_on_and_then_rests() {
    let mut world = World::new("{gossip: {}, tls: {}, acl: {}}", Stages::default());
    world.settle();
    assert_eq!(world.vault.stages, all(Stage::Full));
    assert!(world.tokens);
    // Tokens before anything is denied.
    let tokens = world
        .story
        .iter()
        .position(|what| what == "tokens")
        .unwrap();
    assert!(tokens <= 2, "{:?}", world.story);
    let before = world.vault.clone();
    world.settle();
    assert_eq!(world.vault, before);
}

#[test]
fn keys_and_certificates_are_replaced_while_every_agent_understands_every_other() {
    type Differ = fn(&Vault, &Vault) -> bool;
    let cases: [(&str, Differ); 3] = [
        (decide::ROTATE_KEY, |a, b| a.gossip_key != b.gossip_key),
        (decide::ROTATE_CERTIFICATES, |a, b| {
            a.server != b.server && a.signer == b.signer
        }),
        (decide::ROTATE_AUTHORITY, |a, b| a.signer != b.signer),
    ];
    for (annotation, changed) in cases {
        let mut world = World::new("{}", all(Stage::Full));
        world.settle();
        let before = world.vault.clone();
        world.annotate(annotation, "2026-11");
        world.settle();
        assert!(
            changed(&before, &world.vault),
            "{annotation}: {:?}",
            world.story
        );
        assert!(world.vault.next.is_none() && world.vault.gossip_old.is_none());
        let trusted = super::certificates(&world.vault.authorities);
        assert_eq!(trusted.len(), 1, "{annotation}: the old authority is gone");
        // Once.
        let after = world.vault.clone();
        world.settle();
        assert_eq!(world.vault, after);
    }
}

#[test]
fn what_grows_old_is_replaced_in_time() {
    let mut world = World::new(
        "{tls: {certificateDays: 90}, gossip: {rotateDays: 30}}",
        all(Stage::Full),
    );
    world.settle();
    let first = world.vault.clone();
    world.now += 29 * DAY;
    world.settle();
    assert_eq!(world.vault, first);
    world.now += 2 * DAY;
    world.settle();
    assert_ne!(world.vault.gossip_key, first.gossip_key);
    assert_eq!(world.vault.server, first.server);
    // Made by the real clock: the new ones would be as old as the first.
    world.now += 30 * DAY;
    let evidence = world.evidence();
    let random = SeededRandom::new(1);
    let next = decide(
        &world.cluster,
        &world.vault,
        &world.given,
        &evidence,
        &random,
    );
    let Next::Keep(kept, why) = next else {
        panic!("certificates are not replaced");
    };
    assert!(kept.next.is_some() && why.contains("certificates"), "{why}");
}

#[test]
fn what_a_person_gives_is_judged_and_put_into_force_while_bad_things_change_nothing() {
    let mut world = World::new("{}", all(Stage::Full));
    world.settle();
    let before = world.vault.clone();
    world.cluster = cluster(
        "{gossip: {secretRef: {name: mine}}, tls: {mode: Secret, secretRef: {name: servers}, clientSecretRef: {name: clients}}}",
    );
    let other = made(&cluster("{}"), all(Stage::Full));
    let tls = |pair: &Pair, authorities: &str| -> Data {
        [
            ("ca.crt", authorities),
            ("tls.crt", &pair.cert),
            ("tls.key", &pair.key),
        ]
        .map(|(key, text)| (key.to_owned(), text.as_bytes().to_vec()))
        .into()
    };
    let (servers, clients) = (&other.server, other.client.as_ref().unwrap());
    let good: BTreeMap<String, Data> = [
        (
            "mine",
            [("key".to_owned(), other.gossip_key.clone().into_bytes())].into(),
        ),
        ("servers", tls(servers, &other.authorities)),
        ("clients", tls(clients, &other.authorities)),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into();
    type Spoil = fn(&mut BTreeMap<String, Data>);
    let bad: [(&str, Spoil, &str); 5] = [
        (
            "missing",
            |s| drop(s.remove("mine")),
            "Secret mine is missing",
        ),
        (
            "torn",
            |s| drop(s.get_mut("servers").unwrap().remove("tls.key")),
            "Secret servers: tls.key is missing in it",
        ),
        (
            "short",
            |s| {
                drop(
                    s.get_mut("mine")
                        .unwrap()
                        .insert("key".into(), b"c2hvcnQ=".to_vec()),
                )
            },
            "5 bytes long",
        ),
        (
            "mixed",
            |s| {
                let key = s["clients"]["tls.key"].clone();
                s.get_mut("servers").unwrap().insert("tls.key".into(), key);
            },
            "do not belong together",
        ),
        (
            "role",
            |s| {
                let clients = s["clients"].clone();
                s.insert("servers".into(), clients);
            },
            "does not name server.dc1.consul",
        ),
    ];
    for (name, spoil, expected) in bad {
        let mut secrets = good.clone();
        spoil(&mut secrets);
        world.given = Given::read(&world.cluster, &secrets, world.now);
        let problem = world.given.problem().unwrap_or_default();
        assert!(problem.contains(expected), "{name}: {problem}");
        assert!(
            make(
                &world.cluster,
                &world.given,
                all(Stage::Full),
                world.now,
                &SeededRandom::new(1)
            )
            .is_err()
        );
        let kept = world.vault.clone();
        world.settle();
        let own = |vault: &Vault| (vault.server.cert.clone(), vault.gossip_key.clone());
        match name {
            "missing" | "short" => assert_eq!(own(&world.vault).1, own(&kept).1, "{name}"),
            _ => assert_eq!(own(&world.vault).0, own(&kept).0, "{name}"),
        }
        world.vault = before.clone();
        for (agent, _) in AGENTS {
            world.load(agent);
            let key = before.gossip_key.clone();
            world
                .keys
                .insert(agent.into(), (BTreeSet::from([key.clone()]), key));
        }
    }
    world.given = Given::read(&world.cluster, &good, world.now);
    assert_eq!(world.given.problem(), None);
    world.settle();
    assert_eq!(world.vault.gossip_key, other.gossip_key);
    assert!(world.vault.server == other.server && world.vault.signer.is_none());
    // And back to the operator's own.
    world.cluster = cluster("{}");
    world.given = Given::default();
    world.settle();
    assert!(world.vault.signer.is_some() && world.vault.server != other.server);
}

#[test]
fn a_file_of_each_stage_is_there_and_each_is_read_by_an_agent() {
    let cluster = cluster("{}");
    let vault = made(&cluster, all(Stage::Full));
    let text = |server: bool, file: &str| {
        use base64::Engine as _;
        let data = render::data(&vault, server);
        let text = data[file].as_str().unwrap();
        let text = base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap();
        String::from_utf8(text).unwrap()
    };
    for server in [true, false] {
        for (file, _) in render::data(&vault, server) {
            if !file.ends_with(".json") {
                continue;
            }
            let value: serde_json::Value = serde_json::from_str(&text(server, &file)).unwrap();
            assert!(value.is_object(), "{file}");
        }
        let acl = text(server, "acl-full.json");
        assert_eq!(acl.contains(&vault.tokens.management), server);
        assert_eq!(acl.contains(&vault.tokens.recovery), server);
        // What clients see holds no key of the authority or of servers.
        let all: String = render::data(&vault, server)
            .keys()
            .filter(|file| file.ends_with(".pem"))
            .map(|file| text(server, file))
            .collect();
        assert!(!all.contains(&vault.signer.as_ref().unwrap().key));
        assert_eq!(all.contains(&vault.server.key), server);
    }
    assert_eq!(text(true, render::TOKEN), vault.tokens.management);
}
