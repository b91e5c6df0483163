//! Another cluster's servers turn up in the gossip pool: they are seen, and never become peers.

use std::time::Duration;

use tests::{Cluster, SERVERS, holds};

#[test]
fn servers_of_another_cluster_are_never_added() {
    let mut cluster = Cluster::formed();
    cluster["A"].put("/v1/kv/whose", "ours");
    // Their first server no longer carries the flag, so only the cluster id tells them apart.
    cluster["D"].start(&["-server", "-bootstrap"]);
    cluster["D"].wait_for_line("consul: cluster leadership acquired");
    cluster["E"].start(&["-server"]);
    cluster["E"].wait_until_up();
    cluster["D"].cli(&["join", &cluster.address("E")]).success();
    cluster.wait_for_voters(&["D", "E"]);
    cluster["D"].put("/v1/kv/whose", "theirs");
    cluster["D"].kill();
    cluster["D"].start(&["-server"]);
    cluster.wait_for_voters(&["D", "E"]);

    cluster["B"].cli(&["join", &cluster.address("D")]).success();
    let everybody = ["A", "B", "C", "D", "E"].map(|name| (name, "alive"));
    cluster.wait_for_members("A", &everybody);
    cluster.wait_for_members("E", &everybody);

    let expected = |names: &[&str]| -> Vec<String> {
        names.iter().map(|n| cluster[*n].server_address()).collect()
    };
    let (ours, theirs) = (expected(&SERVERS), expected(&["D", "E"]));
    holds("nobody changes sides", Duration::from_secs(5), || {
        for (names, wanted) in [(&SERVERS[..], &ours), (&["D", "E"], &theirs)] {
            for name in names {
                let voters = cluster[*name].voters()?;
                if voters != *wanted {
                    return Err(format!("{name} has the voters {voters:?}"));
                }
                let leader = cluster[*name].leader()?;
                if !leader.is_empty() && !wanted.contains(&leader) {
                    return Err(format!("{name} follows {leader}"));
                }
            }
        }
        Ok(())
    });
    for name in SERVERS {
        assert_eq!(cluster[name].value("whose", "").as_deref(), Some("ours"));
    }
    for name in ["D", "E"] {
        assert_eq!(cluster[name].value("whose", "").as_deref(), Some("theirs"));
    }
}
