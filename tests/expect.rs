//! `-bootstrap-expect N`: no leader before N servers know each other, then one cluster at once.

use std::time::Duration;

use tests::{Cluster, SERVERS, eventually, holds};

const EXPECT: [&str; 3] = ["-server", "-bootstrap-expect=3", "-retry-interval=1s"];

#[test]
fn three_servers_that_expect_three_form_one_cluster() {
    let mut cluster = Cluster::new();
    let a = cluster.address("A");
    let flags = [&EXPECT[..], &["-retry-join", &a]].concat();
    cluster["A"].start(&EXPECT);
    cluster["B"].start(&flags);
    cluster["A"].wait_until_up();
    cluster.wait_for_members("A", &[("A", "alive"), ("B", "alive")]);
    holds("two of three wait", Duration::from_secs(2), || {
        for name in ["A", "B"] {
            let leader = cluster[name].leader()?;
            if !leader.is_empty() {
                return Err(leader);
            }
        }
        Ok(())
    });
    cluster["C"].start(&flags);
    cluster.wait_for_voters(&SERVERS);
    cluster["C"].put("/v1/kv/first", "write");

    // The flag is of no effect once there is data.
    for name in SERVERS {
        cluster[name].kill();
    }
    for name in SERVERS {
        cluster[name].start(&flags);
    }
    cluster.wait_for_voters(&SERVERS);
    assert_eq!(cluster["A"].value("first", "").as_deref(), Some("write"));
}

#[test]
fn differing_numbers_are_refused() {
    let mut cluster = Cluster::new();
    let a = cluster.address("A");
    cluster["A"].start(&["-server", "-bootstrap-expect=3"]);
    cluster["A"].wait_until_up();
    for (name, expect) in [("B", "-bootstrap-expect=3"), ("C", "-bootstrap-expect=5")] {
        cluster[name].start(&["-server", expect, "-retry-join", &a]);
    }
    let line = cluster["A"].wait_for_line(
        "Member has a conflicting expect value. All nodes should expect the same number.",
    );
    assert!(line.text.contains("[ERROR]"), "{}", line.text);
    assert!(line.text.contains("member=C"), "{}", line.text);
    holds("nobody leads", Duration::from_secs(3), || {
        for name in SERVERS {
            let leader = cluster[name].leader()?;
            if !leader.is_empty() {
                return Err(leader);
            }
        }
        Ok(())
    });

    // Corrected, it goes on without the others being touched.
    cluster["C"].kill();
    cluster["C"].start(&["-server", "-bootstrap-expect=3", "-retry-join", &a]);
    cluster.wait_for_voters(&SERVERS);
}

#[test]
fn a_server_that_expects_joins_an_existing_cluster() {
    let mut cluster = Cluster::bootstrapped();
    let a = cluster.address("A");
    for name in ["D", "E", "F"] {
        cluster[name].start(&[&EXPECT[..], &["-retry-join", &a]].concat());
    }
    eventually("all six are one cluster", || {
        let voters = cluster["D"].voters()?;
        if voters.len() == 6 {
            Ok(())
        } else {
            Err(format!("{voters:?}"))
        }
    });
}
