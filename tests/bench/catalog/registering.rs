//! How soon the catalog has what is registered at many agents.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::Connection;

use crate::fleet::{Fleet, bring_up_loopback};
use crate::table::{print, row};
use crate::{REQUEST_LIMIT, setting};

/// Agents that register all the services.
const REGISTERING: usize = 100;

/// A hundred agents get a hundred services each, at their own API.
pub(crate) fn inside() -> bool {
    bring_up_loopback();
    let services = (setting("BENCH_CATALOG_SERVICES", 10_000) as usize / REGISTERING).max(1);
    let mut fleet = Fleet::new(json!({}));
    fleet.grow(REGISTERING, 1);
    let (before, begun) = (fleet.used(), Instant::now());
    std::thread::scope(|scope| {
        for agent in &fleet.agents {
            scope.spawn(|| {
                let address = agent.http().address;
                let mut connection = Connection::open(address, REQUEST_LIMIT).expect("an agent");
                for n in 1..services {
                    let body = json!({"Name": format!("s{n}"), "Port": 8000 + n, "Tags": ["v1"]});
                    let path = "/v1/agent/service/register";
                    let reply = connection.request("PUT", path, body.to_string().as_bytes());
                    assert_eq!(reply.expect("an answer").status, 200);
                }
            });
        }
    });
    fleet.wait_for(services, REGISTERING);
    let (after, time) = (fleet.used(), begun.elapsed());
    let count = ((services - 1) * REGISTERING) as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
    let title = format!(
        "{} services at {REGISTERING} agents' own APIs",
        services * REGISTERING
    );
    print(
        &title,
        &[
            row(
                "in the catalog, a second",
                "",
                f64::NAN,
                count / time.as_secs_f64(),
            ),
            row(
                "CPU for each, its agent",
                "us",
                f64::NAN,
                each(after.clients - before.clients),
            ),
            row(
                "CPU for each, all servers",
                "us",
                f64::NAN,
                each(after.servers - before.servers),
            ),
        ],
    )
}
