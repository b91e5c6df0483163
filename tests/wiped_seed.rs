//! The first server comes back with its flag and without its data: it must not form a second cluster.

use std::fs;

use tests::{Cluster, SERVERS};

/// Runs `wipe` on A's data while A is down, starts it with the flag, and expects one cluster with every write.
fn flagged_seed_comes_back_after(wipe: impl FnOnce(&std::path::Path)) {
    let mut cluster = Cluster::bootstrapped();
    cluster["A"].put("/v1/kv/before", "kept");
    cluster["A"].kill();
    cluster.leader_among(&["B", "C"]);
    wipe(&cluster["A"].data);

    let (b, c) = (cluster.address("B"), cluster.address("C"));
    cluster["A"].start(&[
        "-server",
        "-bootstrap",
        "-retry-join",
        &b,
        "-retry-join",
        &c,
        "-retry-interval=1s",
    ]);
    cluster.wait_for_voters(&SERVERS);
    assert_eq!(cluster["A"].count("cluster leadership acquired"), 0);
    assert_eq!(cluster["A"].value("before", "").as_deref(), Some("kept"));
    let peers = cluster["B"].json("/v1/operator/raft/configuration");
    assert_eq!(
        peers["Servers"].as_array().map(Vec::len),
        Some(3),
        "A's seat without data is gone: {peers}"
    );
}

#[test]
fn a_seed_whose_data_dir_is_wiped_joins_as_a_plain_server() {
    flagged_seed_comes_back_after(|data| fs::remove_dir_all(data).expect("A has stopped"));
}

#[test]
fn a_seed_whose_raft_folder_is_moved_aside_joins_as_a_plain_server() {
    flagged_seed_comes_back_after(|data| {
        fs::rename(data.join("raft"), data.join("raft.aside")).expect("A has stopped");
    });
}
