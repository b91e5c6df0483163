//! The courses of events that are simulated. Each gives back a digest of all that happened.

use std::time::Duration;

use agent::env::{Keep, Random as _, SeededRandom};

use crate::cluster::{Cluster, ip};
use crate::net::Weather;

pub(crate) const SERVERS: [u8; 3] = [1, 2, 3];

/// What every server but the first is started with.
const PLAIN: &str =
    r#""server": true, "retry_interval": "1s", "retry_join": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]"#;

/// What the first server is started with, the first time.
const SEED: &str = r#""server": true, "bootstrap": true"#;

/// A client agent.
pub(crate) const CLIENT: &str =
    r#""retry_interval": "1s", "retry_join": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]"#;

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Three voters, of which none carries the flag: the whole manual.
pub(crate) fn formed<'a>(seed: u64) -> Cluster<'a> {
    formed_on(Cluster::new(seed, 4), "")
}

/// The same on hosts that were made before, with `more` settings (members of a JSON object, each with a comma before it).
pub(crate) fn formed_on<'a>(mut cluster: Cluster<'a>, more: &str) -> Cluster<'a> {
    cluster.start(1, &format!("{SEED}{more}"));
    cluster.until_voters(&[1]);
    for server in [2, 3] {
        cluster.start(server, &format!(r#""server": true{more}"#));
        cluster.until("it is up", |cluster| up(cluster, server));
        let time = cluster.time_up_to(seconds(1));
        cluster.run(time);
        assert!(!cluster.view(server).is_some_and(|view| view.leads));
        // In either direction.
        match cluster.random.below(2) {
            0 => cluster.join(server, 1),
            _ => cluster.join(1, server),
        }
    }
    cluster.until_voters(&SERVERS);
    cluster.leave(1);
    cluster.until("n1 has left", |cluster| {
        if cluster.is_running(1) {
            Err("still there".to_owned())
        } else {
            Ok(())
        }
    });
    cluster.until_voters(&[2, 3]);
    cluster.start(1, &format!("{PLAIN}{more}"));
    cluster.until_voters(&SERVERS);
    cluster
}

fn up(cluster: &Cluster<'_>, host: u8) -> Result<(), String> {
    if cluster.is_up(host) {
        Ok(())
    } else {
        Err(format!("n{host} is not up"))
    }
}

/// The manual, without faults: it ends with three voters.
pub(crate) fn manual(seed: u64) -> u64 {
    let mut cluster = formed(seed);
    cluster.start(4, CLIENT);
    cluster.run(seconds(3));
    cluster.finish(&SERVERS)
}

/// Servers crash, lose power, and cannot reach each other, at any moment; afterwards everything is there.
pub(crate) fn chaos(seed: u64) -> u64 {
    let mut cluster = formed(seed);
    cluster.start(4, CLIENT);
    let weather = Weather {
        lost: cluster.random.below(50),
        doubled: cluster.random.below(50),
        ..Weather::FAIR
    };
    cluster.net.set_weather(weather);
    for _ in 0..4 + cluster.random.below(8) {
        let time = cluster.time_up_to(seconds(2));
        cluster.run(time);
        fault(&mut cluster);
    }
    cluster.net.heal_all();
    cluster.net.set_weather(Weather::FAIR);
    for server in SERVERS {
        if !cluster.is_running(server) {
            cluster.restart(server);
        }
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(2));
    cluster.finish(&SERVERS)
}

fn fault(cluster: &mut Cluster<'_>) {
    let server = 1 + cluster.random.below(3) as u8;
    let other = 1 + cluster.random.below(4) as u8;
    match cluster.random.below(8) {
        0 | 1 if cluster.is_running(server) => lose_power(cluster, server),
        // The process alone: the page cache lives on.
        2 if cluster.is_running(server) => cluster.crash(server, Keep::Everything),
        0..=2 => cluster.restart(server),
        3 if server != other => cluster.net.cut(ip(server), ip(other)),
        4 if server != other => cluster.net.cut_oneway(ip(server), ip(other)),
        5 => cluster.net.reset_connections(ip(server)),
        6 => cluster.slow_disk(server),
        _ => {
            for host in (1..=4).filter(|host| *host != server) {
                cluster.net.heal(ip(server), ip(host));
            }
        }
    }
}

fn lose_power(cluster: &mut Cluster<'_>, server: u8) {
    let torn = SeededRandom::new(cluster.random.next_u64());
    match cluster.random.below(2) {
        0 => cluster.crash(server, Keep::Nothing),
        _ => cluster.crash(server, Keep::Torn(&torn)),
    }
}

/// Leaders lose power under load, at times all servers do, with slow disks, and come back at once or later.
pub(crate) fn power(seed: u64) -> u64 {
    let mut cluster = formed(seed);
    for server in SERVERS {
        cluster.slow_disk(server);
    }
    for _ in 0..3 + cluster.random.below(6) {
        // Often before there is a leader again.
        let time = cluster.time_up_to(seconds(1));
        cluster.run(time);
        let leader = cluster.leader().unwrap_or(1);
        let all = cluster.random.below(3) == 0;
        let struck = SERVERS.into_iter().filter(|s| all || *s == leader);
        let struck: Vec<u8> = struck.collect();
        for server in &struck {
            lose_power(&mut cluster, *server);
        }
        for server in struck {
            // Shorter than any election takes, as a rule.
            let time = cluster.time_up_to(Duration::from_millis(200));
            cluster.run(time);
            cluster.restart(server);
        }
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}

/// Leadership is handed over again and again, and the old leader does not always hear of the new one.
pub(crate) fn transfers(seed: u64) -> u64 {
    let mut cluster = formed(seed);
    cluster.start(4, CLIENT);
    for _ in 0..4 + cluster.random.below(8) {
        let time = cluster.time_up_to(Duration::from_millis(600));
        cluster.run(time);
        let Some(leader) = cluster.leader() else {
            continue;
        };
        cluster.transfer(leader);
        let time = cluster.time_up_to(Duration::from_millis(15));
        cluster.run(time);
        for other in SERVERS.into_iter().filter(|other| *other != leader) {
            match cluster.random.below(4) {
                0 => cluster.net.cut(ip(leader), ip(other)),
                1 => cluster.net.cut_oneway(ip(leader), ip(other)),
                2 => cluster.net.cut_oneway(ip(other), ip(leader)),
                _ => {}
            }
        }
        let time = cluster.time_up_to(seconds(1));
        cluster.run(time);
        cluster.net.heal_all();
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}

/// A leader hands over and is cut off at the same moment: it does not hear that there is another one, and its lease would
/// last for long. Who waits for it asks the new one meanwhile.
pub(crate) fn hand_over(seed: u64) -> u64 {
    let cluster = Cluster::new(seed, 4);
    // Elections shall be short beside a lease, and much be read and written in one.
    cluster.net.set_weather(Weather {
        latency: (Duration::from_millis(1), Duration::from_millis(2)),
        ..Weather::FAIR
    });
    cluster.shared.more_sharers.set(2);
    let mut cluster = formed_on(cluster, "");
    for _ in 0..6 {
        cluster.until_led(&SERVERS);
        let time = cluster.time_up_to(Duration::from_millis(300));
        cluster.run(time);
        let Some(leader) = cluster.leader() else {
            continue;
        };
        cluster.transfer(leader);
        let time = cluster.time_up_to(Duration::from_millis(4));
        cluster.run(Duration::from_millis(2) + time);
        let others = SERVERS.into_iter().filter(|other| *other != leader);
        for other in others.clone() {
            cluster.net.cut(ip(leader), ip(other));
        }
        cluster.run(Duration::from_millis(30));
        for other in others {
            cluster.net.reset_connections(ip(other));
        }
        cluster.run(Duration::from_millis(300));
        cluster.net.heal_all();
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}

/// A follower that cannot reach the others, or cannot hear them, comes back: they go on in the same term, under the same
/// leader, as if nothing had been.
pub(crate) fn returns(seed: u64) -> u64 {
    let mut cluster = formed(seed);
    for _ in 0..2 + cluster.random.below(3) {
        cluster.until_led(&SERVERS);
        let led = |cluster: &Cluster<'_>| {
            let leader = cluster.leader()?;
            Some((leader, cluster.view(leader)?.term))
        };
        let before = led(&cluster);
        let (leader, _) = before.expect("one leads");
        let followers: Vec<u8> = SERVERS.into_iter().filter(|s| *s != leader).collect();
        let away = followers[cluster.random.below(2) as usize];
        let way = cluster.random.below(3);
        for other in SERVERS.into_iter().filter(|other| *other != away) {
            match way {
                0 => cluster.net.cut(ip(away), ip(other)),
                1 => cluster.net.cut_oneway(ip(away), ip(other)),
                _ => cluster.net.cut_oneway(ip(other), ip(away)),
            }
        }
        let time = cluster.time_up_to(seconds(8));
        cluster.run(time);
        cluster.net.heal_all();
        cluster.run(seconds(4));
        assert_eq!(led(&cluster), before, "n{away} disturbed the others");
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}

/// Nobody reaches anybody for a long time. Once the network is back, so is the cluster.
pub(crate) fn outage(seed: u64) -> u64 {
    let mut cluster = formed(seed);
    // Everybody has asked everybody for votes: there are connections for it.
    for server in SERVERS {
        cluster.crash(server, Keep::Everything);
        cluster.run(seconds(1));
        cluster.restart(server);
        cluster.until_voters(&SERVERS);
    }
    for _ in 0..3 {
        if let Some(leader) = cluster.leader() {
            cluster.transfer(leader);
        }
        cluster.run(seconds(1));
    }
    for (one, other) in [(1, 2), (1, 3), (2, 3)] {
        cluster.net.cut(ip(one), ip(other));
    }
    cluster.run(seconds(10));
    let time = cluster.time_up_to(seconds(10));
    cluster.run(time);
    // One more blow: the others must elect.
    let dead = cluster.leader().unwrap_or(1);
    cluster.crash(dead, Keep::Everything);
    let before = cluster.committed();
    cluster.net.heal_all();
    // An election takes a second, and one or two may fail. What must not be waited for is TCP, which sends again what
    // the outage swallowed only after a pause as long as the outage.
    cluster.run_until(seconds(3), |cluster| cluster.committed() > before);
    assert!(
        cluster.committed() > before,
        "nothing is committed 3 s after the outage: {:?}",
        cluster.led(&SERVERS)
    );
    cluster.restart(dead);
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}

/// Rule 7: the first server loses its log after the cluster has grown from it, and is cut off, in any way and at any
/// moment, while it catches up. It never leads alone, and nothing that anybody acknowledged is lost.
pub(crate) fn lost_log(seed: u64) -> u64 {
    let mut cluster = Cluster::new(seed, 3);
    cluster.start(1, SEED);
    cluster.until_voters(&[1]);
    // More than one append carries, so that catching up has a middle.
    cluster.fill(1, 300 + cluster.random.below(900));
    let time = cluster.time_up_to(seconds(1));
    cluster.run(time);
    for server in [2, 3] {
        cluster.start(server, PLAIN);
    }
    cluster.until_voters(&SERVERS);
    cluster.crash(1, Keep::Everything);
    cluster.lose_log(1);
    if cluster.random.below(4) > 0 {
        cluster.until_led(&[2, 3]);
    }
    // The flag must make no difference.
    match cluster.random.below(2) {
        0 => cluster.start(1, PLAIN),
        _ => cluster.start(1, &format!(r#"{PLAIN}, "bootstrap": true"#)),
    }
    for _ in 0..1 + cluster.random.below(4) {
        cut_off_while_catching_up(&mut cluster);
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}

/// Waits until server 1 has some of the log, cuts it off for a while, and checks that it does not lead meanwhile.
fn cut_off_while_catching_up(cluster: &mut Cluster<'_>) {
    let end = cluster.view(2).map_or(0, |view| view.last_index);
    let part = cluster.random.below(end + 1);
    let limit = cluster.time_up_to(seconds(3));
    cluster.run_until(limit, |cluster| {
        cluster.view(1).is_some_and(|view| view.last_index >= part)
    });
    let other = 2 + cluster.random.below(2) as u8;
    let way = cluster.random.below(5);
    for server in [2, 3] {
        match way {
            0 | 1 => cluster.net.cut(ip(1), ip(server)),
            2 => cluster.net.cut_oneway(ip(1), ip(server)),
            3 => cluster.net.cut_oneway(ip(server), ip(1)),
            _ if server == other => cluster.net.cut(ip(1), ip(server)),
            _ => {}
        }
    }
    let was_voter = cluster.view(1).is_some_and(|view| view.voters == 3);
    for _ in 0..cluster.random.below(50) {
        cluster.run(Duration::from_millis(100));
        let leads = cluster.view(1).is_some_and(|view| view.leads);
        // A voter that led when it was cut off may think so for as long as nobody tells it otherwise.
        assert!(was_voter || way > 1 || !leads, "n1 leads alone");
    }
    cluster.net.heal_all();
    let time = cluster.time_up_to(seconds(1));
    cluster.run(time);
}

/// Two servers with the flag meet: both clusters stay what they are.
pub(crate) fn two_seeds(seed: u64) -> u64 {
    let mut cluster = Cluster::new(seed, 2);
    cluster.allow_clusters(2);
    // What clients read depends on whom they ask here.
    cluster.shared.stopped.set(true);
    for server in [1, 2] {
        cluster.start(server, SEED);
        let time = cluster.time_up_to(Duration::from_millis(500));
        cluster.run(time);
    }
    for server in [1, 2] {
        cluster.until("it leads", |cluster| {
            cluster
                .view(server)
                .filter(|view| view.leads)
                .map(drop)
                .ok_or(String::new())
        });
    }
    cluster.join(1, 2);
    for _ in 0..100 {
        cluster.run(Duration::from_millis(100));
        for server in [1, 2] {
            let view = cluster.view(server).expect("it is up");
            assert!(view.leads && view.voters == 1, "n{server}: {view:?}");
        }
    }
    assert_eq!(cluster.clusters(), 2);
    let mut history = cluster.shared.history.borrow_mut();
    history.note(seed);
    history.digest()
}

/// Rule 2: a server with the flag and an empty data dir that meets a cluster joins it, flag or not.
pub(crate) fn second_seed(seed: u64) -> u64 {
    let mut cluster = Cluster::new(seed, 3);
    cluster.start(1, SEED);
    cluster.until_voters(&[1]);
    let mut servers = vec![1];
    for server in [2, 3] {
        let time = cluster.time_up_to(seconds(1));
        cluster.run(time);
        cluster.start(server, &format!(r#"{PLAIN}, "bootstrap": true"#));
        servers.push(server);
        if cluster.random.below(2) == 0 {
            cluster.until_voters(&servers);
        }
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}

/// `-bootstrap-expect 3`, with crashes while the cluster is formed: one cluster, in the end with a leader.
pub(crate) fn expect(seed: u64) -> u64 {
    let settings = format!(r#"{PLAIN}, "bootstrap_expect": 3"#);
    let mut cluster = Cluster::new(seed, 3);
    for server in SERVERS {
        cluster.start(server, &settings);
        let time = cluster.time_up_to(Duration::from_millis(700));
        cluster.run(time);
    }
    for _ in 0..cluster.random.below(5) {
        let server = 1 + cluster.random.below(3) as u8;
        lose_power(&mut cluster, server);
        let time = cluster.time_up_to(Duration::from_millis(700));
        cluster.run(time);
        cluster.restart(server);
        let time = cluster.time_up_to(Duration::from_millis(700));
        cluster.run(time);
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}
