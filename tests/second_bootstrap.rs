//! Two servers started with `-bootstrap` by mistake: two clusters, which meet and must not become one.

use std::fs;
use std::time::Duration;

use tests::{Cluster, holds};

const CONFLICT: &str = "Two nodes are in bootstrap mode. Only one node should be in bootstrap mode, not adding Raft peer.";

#[test]
fn two_flagged_servers_never_merge_and_the_second_is_repaired_as_documented() {
    let mut cluster = Cluster::new();
    for name in ["A", "C"] {
        cluster[name].start(&["-server", "-bootstrap"]);
        cluster[name].wait_for_line("consul: cluster leadership acquired");
        cluster[name].put("/v1/kv/mine", name);
    }
    cluster["A"].cli(&["join", &cluster.address("C")]).success();

    for (own, other) in [("A", "C"), ("C", "A")] {
        let line = cluster[own].wait_for_line(CONFLICT).text;
        assert!(line.contains("[ERROR]"), "{line}");
        assert!(
            line.ends_with(&format!("node_to_add={other} other={own}")),
            "{line}"
        );
    }
    holds("both stay alone", Duration::from_secs(3), || {
        for name in ["A", "C"] {
            let voters = cluster[name].voters()?;
            if voters != [cluster[name].server_address()] {
                return Err(format!("{name} has the voters {voters:?}"));
            }
        }
        Ok(())
    });
    cluster.wait_for_members("A", &[("A", "alive"), ("C", "alive")]);
    for name in ["A", "C"] {
        assert_eq!(cluster[name].value("mine", "").as_deref(), Some(name));
    }

    // As documented: stop it, move raft/ aside, start it without the flag, join.
    cluster["C"].interrupt();
    let data = cluster["C"].data.clone();
    fs::rename(data.join("raft"), data.join("raft.aside")).expect("C has stopped");
    cluster["C"].start(&["-server"]);
    cluster["C"].wait_until_up();
    cluster["C"].cli(&["join", &cluster.address("A")]).success();
    cluster.wait_for_voters(&["A", "C"]);
    assert_eq!(cluster["C"].value("mine", "").as_deref(), Some("A"));
}
