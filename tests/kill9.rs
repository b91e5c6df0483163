//! Servers killed with -9 at random moments under writes: every acknowledged write is read back.

use std::time::Duration;

use tests::{Cluster, Load, Random, SERVERS, seed};

/// Kills, unless `KILLS` says otherwise.
const DEFAULT_KILLS: u64 = 200;

#[test]
fn no_acknowledged_write_is_lost_to_kill_9() {
    let kills = std::env::var("KILLS").map_or(DEFAULT_KILLS, |k| k.parse().expect("a number"));
    let mut random = Random::new(seed());
    let mut cluster = Cluster::formed();
    let load = Load::start(&cluster.https(&SERVERS), 6, "w");
    load.wait_for_progress(100);

    let mut done = 0;
    while done < kills {
        std::thread::sleep(random.time_up_to(Duration::from_millis(400)));
        // Mostly one; sometimes the majority, sometimes all, where only what is on disk counts.
        let victims: Vec<&str> = match random.below(10) {
            0 => SERVERS.to_vec(),
            1 | 2 => {
                let spared = *random.pick(&SERVERS);
                SERVERS.into_iter().filter(|s| *s != spared).collect()
            }
            _ => vec![*random.pick(&SERVERS)],
        };
        for name in &victims {
            cluster[name].kill();
            done += 1;
        }
        std::thread::sleep(random.time_up_to(Duration::from_millis(200)));
        for name in &victims {
            cluster[name].start(&["-server"]);
        }
        if random.below(5) == 0 {
            load.wait_for_progress(20);
            load.check(cluster[*random.pick(&SERVERS)].http(), "w", "consistent");
        }
    }
    cluster.wait_for_voters(&SERVERS);
    load.wait_for_progress(20);
    let written = load.stop();
    println!(
        "{done} kills, {} writes acknowledged, {} not",
        written.acknowledged.len(),
        written.unknown.len()
    );
    for name in SERVERS {
        written.check(cluster[name].http(), "w", "consistent");
    }
    // Each server's own copy too, after it has been started once more.
    for name in SERVERS {
        cluster[name].kill();
        cluster[name].start(&["-server"]);
        cluster.wait_for_voters(&SERVERS);
        written.check(cluster[name].http(), "w", "consistent");
        cluster.wait_until_equal(&SERVERS);
        written.check(cluster[name].http(), "w", "stale");
    }
}
