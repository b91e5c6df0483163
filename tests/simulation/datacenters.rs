//! Two datacenters whose servers form one pool beside their own.

use agent::env::{Keep, Random as _};

use crate::cluster::{Cluster, ip};
use crate::scenarios::seconds;

const DATACENTERS: [(&str, [u8; 3]); 2] = [("dc1", [1, 2, 3]), ("dc2", [4, 5, 6])];

/// Two clusters form while their servers are joined to the pool of all datacenters; then the datacenters are cut off from each
/// other, lose servers, and meet again. Each has its own leader and voters all the while, and nobody is ever of both clusters,
/// which Raft's rules check in each step.
pub(crate) fn datacenters(seed: u64) -> u64 {
    let mut cluster = Cluster::new(seed, 6);
    cluster.allow_clusters(2);
    // What clients read depends on whom they ask here.
    cluster.shared.stopped.set(true);
    for (name, servers) in DATACENTERS {
        let first = servers[0];
        let settings = format!(
            r#""server": true, "datacenter": "{name}", "bootstrap_expect": 3, "retry_interval": "1s",
                "retry_join": ["10.0.0.{first}"], "retry_interval_wan": "1s",
                "retry_join_wan": ["10.0.0.1", "10.0.0.4"], "ports": {{"serf_wan": 8302}}"#
        );
        for server in servers {
            cluster.start(server, &settings);
            let time = cluster.time_up_to(seconds(1));
            cluster.run(time);
        }
    }
    until_whole(&mut cluster);
    assert_eq!(cluster.clusters(), 2);
    for _ in 0..2 {
        for here in DATACENTERS[0].1 {
            for there in DATACENTERS[1].1 {
                cluster.net.cut(ip(here), ip(there));
            }
        }
        let time = cluster.time_up_to(seconds(90));
        cluster.run(time);
        for (name, servers) in DATACENTERS {
            cluster.until(&format!("{name} is led"), |cluster| cluster.led(&servers));
            cluster.until_voters(&servers);
        }
        let struck = 1 + cluster.random.below(6) as u8;
        cluster.crash(struck, Keep::Everything);
        let time = cluster.time_up_to(seconds(5));
        cluster.run(time);
        cluster.net.heal_all();
        cluster.restart(struck);
        until_whole(&mut cluster);
    }
    assert_eq!(cluster.clusters(), 2);
    cluster.digest()
}

/// Waits until each datacenter has its three voters, and every server sees all six in the pool of all datacenters.
fn until_whole(cluster: &mut Cluster<'_>) {
    for (_, servers) in DATACENTERS {
        cluster.until_voters(&servers);
    }
    cluster.until("all servers see each other", |cluster| {
        for server in DATACENTERS.iter().flat_map(|(_, servers)| servers) {
            let alive = cluster.alive_in_all_datacenters(*server);
            if alive != 6 {
                return Err(format!("n{server} sees {alive}"));
            }
        }
        Ok(())
    });
}
