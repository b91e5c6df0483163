//! Clocks that run at different speeds and show different times.

use std::time::Duration;

use agent::env::Random as _;

use crate::cluster::{Cluster, ip};
use crate::net::Weather;
use crate::scenarios::{CLIENT, SERVERS, formed_on, seconds};

/// Shorter TTLs than Consul allows, so that a run sees many of them.
const SHORT_TTLS: &str = r#", "session_ttl_min": "1s""#;

/// The bound that leases and locks hold up to: clocks that differ by a fifth, in thousandths.
const BOUND: u64 = 1200;

/// Nearly the largest step that a wall clock makes, in milliseconds: a month.
const STEP_MS: u64 = 30 * 24 * 3600 * 1000;

/// Monotonic clocks differ by up to a fifth, wall clocks jump to and fro, and the leader is cut off or asked to hand over
/// while its lease would last: no read is stale, no session ends too early, no lock has two holders.
pub(crate) fn clocks(seed: u64) -> u64 {
    let cluster = Cluster::new(seed, 4);
    // One of each: the slowest, the fastest, and one in between.
    let slowest = 1 + cluster.random.below(3) as u8;
    for server in SERVERS {
        let rate = match (server + 3 - slowest) % 3 {
            0 => 1000,
            1 => BOUND,
            _ => 1000 + cluster.random.below(BOUND - 999),
        };
        cluster.clock(server).set_rate(rate);
        cluster.keep_lock(server);
    }
    cluster
        .clock(4)
        .set_rate(1000 + cluster.random.below(BOUND - 999));
    cluster.keep_lock(4);
    let mut cluster = formed_on(cluster, SHORT_TTLS);
    cluster.start(4, &format!("{CLIENT}{SHORT_TTLS}"));
    for _ in 0..6 + cluster.random.below(6) {
        wrong_wall_clock(&cluster);
        let time = cluster.time_up_to(seconds(1));
        cluster.run(time);
        unseat(&mut cluster);
        let time = cluster.time_up_to(Duration::from_millis(800));
        cluster.run(time);
        for server in SERVERS {
            // Who waits for the old leader asks the new one.
            cluster.net.reset_connections(ip(server));
        }
        let time = cluster.time_up_to(Duration::from_millis(800));
        cluster.run(time);
        cluster.net.heal_all();
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(5));
    assert!(cluster.shared.lock.taken.get() > 0, "nobody got the lock");
    cluster.shared.lock.stopped.set(true);
    cluster.finish(&SERVERS)
}

/// One host's wall clock is set: a little or much, forwards or backwards, before the simulation's begin too.
fn wrong_wall_clock(cluster: &Cluster<'_>) {
    let host = 1 + cluster.random.below(4) as u8;
    let most = [500, 60_000, STEP_MS][cluster.random.below(3) as usize];
    let by = 1 + cluster.random.below(most) as i64;
    let by = if cluster.random.below(2) == 0 {
        by
    } else {
        -by
    };
    cluster.clock(host).step_wall(by);
}

/// The leader is cut off from the others, one or both, in one direction or both, or hands over.
fn unseat(cluster: &mut Cluster<'_>) {
    let Some(leader) = cluster.leader() else {
        return;
    };
    if cluster.random.below(4) == 0 {
        cluster.transfer(leader);
        return;
    }
    let oneway = cluster.random.below(3);
    for other in SERVERS.into_iter().filter(|other| *other != leader) {
        match oneway {
            0 => cluster.net.cut_oneway(ip(leader), ip(other)),
            1 => cluster.net.cut_oneway(ip(other), ip(leader)),
            _ => cluster.net.cut(ip(leader), ip(other)),
        }
    }
}

/// Not one of the scenarios that must pass: followers whose clocks run five times as fast as the leader's, far beyond the
/// bound, elect another one while the leader's lease lasts for it. Whoever looks must find a stale read.
pub(crate) fn beyond_the_bound(seed: u64) -> u64 {
    let cluster = Cluster::new(seed, 4);
    for server in [2, 3] {
        cluster.clock(server).set_rate(5000);
    }
    // Elections shall be short beside a lease.
    cluster.net.set_weather(Weather {
        latency: (Duration::from_millis(1), Duration::from_millis(2)),
        ..Weather::FAIR
    });
    // There is a tenth of a second in which somebody must write and somebody else read.
    cluster.shared.more_sharers.set(2);
    let mut cluster = formed_on(cluster, "");
    for _ in 0..8 {
        cluster.until_led(&SERVERS);
        if let Some(leader @ 2..) = cluster.leader() {
            cluster.transfer_to(leader, 1);
            cluster.run_until(seconds(1), |cluster| cluster.leader() == Some(1));
        }
        let time = cluster.time_up_to(Duration::from_millis(300));
        cluster.run(time);
        for other in [2, 3] {
            cluster.net.cut(ip(1), ip(other));
        }
        cluster.run(Duration::from_millis(150));
        for other in [2, 3] {
            // Who waits for the old leader asks the new one.
            cluster.net.reset_connections(ip(other));
        }
        cluster.run(Duration::from_millis(300));
        cluster.net.heal_all();
    }
    cluster.until_voters(&SERVERS);
    cluster.run(seconds(1));
    cluster.finish(&SERVERS)
}
