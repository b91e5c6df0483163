//! Prometheus' service discovery, in a module of its own: it brings most of Prometheus along.

use std::process::Command;

use crate::record::Record;
use crate::{all_well, cluster, compatibility, run, source};

#[test]
fn prometheus_discovers_services_that_come_flap_and_go() {
    let cluster = cluster();
    let program = cluster.path("discovery");
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-o"]).arg(&program);
    run(build.arg(".").current_dir(source("prometheus")));
    let record = Record::of(&cluster, &["D"]);
    let address = cluster["D"].http().address.to_string();
    all_well(&run(Command::new(program).arg(address)));
    compatibility::is_claimed("prometheus", &record.asked(&cluster));
}
