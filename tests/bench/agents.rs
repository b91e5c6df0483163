//! What agents cost that nothing happens to: their looks at the catalog, coordinates and gossip, and the answers.
//!
//! `BENCH_AGENTS` (default `400,1000/5`) is how many agents there are, and how many times rarer they gossip than Consul's
//! do: all of them are processes on two cores. What an agent costs is compared with what it costs among a hundred at the
//! same pace, over `BENCH_AGENTS_SECONDS` (default 60).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::memory;
use crate::fleet::{Fleet, bring_up_loopback, run_inside};
use crate::setting;
use crate::table::{Row, print, row};

/// Services of each agent.
const SERVICES: usize = 10;

/// With how many others are compared.
const FEW: usize = 100;

/// Most that an agent may cost more among many than among [`FEW`].
const GROWTH_MAX: f64 = 1.25;

/// Between two looks of an agent at the catalog, in a small cluster: once to twice that.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Prints the tables; whether every goal was reached.
pub(crate) fn run() -> bool {
    run_inside("agents")
}

/// The part that has a network of its own.
pub(crate) fn inside() -> bool {
    bring_up_loopback();
    let fleets = std::env::var("BENCH_AGENTS").unwrap_or_else(|_| "400,1000/5".to_owned());
    let mut reached = true;
    for fleet in fleets.split(',') {
        let (count, slower) = fleet.split_once('/').unwrap_or((fleet, "1"));
        let number = |text: &str| -> usize {
            let number = text.trim().parse();
            number.unwrap_or_else(|_| panic!("BENCH_AGENTS={fleets:?}: {text:?} is no number"))
        };
        assert!(
            number(count) > FEW,
            "BENCH_AGENTS={fleets:?}: more than {FEW}"
        );
        reached &= at_rest(number(count), number(slower));
    }
    reached
}

/// What one agent cost in a minute.
struct Each {
    /// Bytes to and from servers: looks at the catalog, coordinates, whatever it asks.
    calls: f64,
    /// All bytes of the whole network, divided by the agents.
    all: f64,
    /// Milliseconds on a processor.
    client: f64,
    servers: f64,
}

/// How many times rarer an agent looks at the catalog among so many. Source: Consul.
fn scale(agents: usize) -> u32 {
    (agents as f64 / 128.0).log2().ceil().max(0.0) as u32 + 1
}

/// Looks at `fleet` at rest: once all agents have looked at the catalog twice, so that their looks are spread as they
/// will be for ever.
fn rest(fleet: &Fleet) -> Each {
    std::thread::sleep(LOOK_INTERVAL * 2 * scale(fleet.agents.len()));
    let (before, begun) = (fleet.used(), Instant::now());
    std::thread::sleep(Duration::from_secs(setting("BENCH_AGENTS_SECONDS", 60)));
    let (after, time) = (fleet.used(), begun.elapsed());
    let connected = !after.calls.is_empty();
    assert!(connected, "clients have connections to servers");
    let share = 60.0 / time.as_secs_f64() / fleet.agents.len() as f64;
    // What a connection that is gone carried after the first look is lost; there are hardly any.
    let calls: u64 = after
        .calls
        .iter()
        .map(|(ends, bytes)| bytes - before.calls.get(ends).copied().unwrap_or(0).min(*bytes))
        .sum();
    Each {
        calls: calls as f64 * share,
        all: (after.all - before.all) as f64 * share,
        client: (after.clients - before.clients).as_secs_f64() * 1e3 * share,
        servers: (after.servers - before.servers).as_secs_f64() * 1e3 * share,
    }
}

/// Consul's own times, or rarer by so much.
fn config(slower: usize) -> Value {
    json!({
        "gossip_lan": {
            "probe_interval": format!("{slower}s"),
            "probe_timeout": format!("{}ms", 500 * slower),
            "gossip_interval": format!("{}ms", 200 * slower),
        },
    })
}

/// A hundred agents first, then all.
fn at_rest(count: usize, slower: usize) -> bool {
    let mut fleet = Fleet::new(config(slower));
    fleet.grow(FEW, SERVICES);
    let few = rest(&fleet);
    fleet.grow(count, SERVICES);
    let all = rest(&fleet);
    let largest = fleet.agents.iter().map(|agent| memory(agent.pid())).max();
    let largest = largest.unwrap_or(0) as f64 / f64::from(1 << 20);
    let pace = match slower {
        1 => String::new(),
        times => format!(", gossip {times} times rarer"),
    };
    let title = format!("{count} agents at rest{pace}: each of them a minute");
    let times = |what: &str, few: f64, all: f64| -> Row {
        let what = format!("{what}, times that among {FEW}");
        row(what, "x", GROWTH_MAX, all / few)
    };
    let free = |what, unit, found| row(what, unit, f64::NAN, found);
    let kilobytes = |bytes: f64| bytes / 1024.0;
    let rows = [
        free("bytes to and from servers", "KB", kilobytes(all.calls)),
        times("the same", few.calls, all.calls),
        free(
            "bytes with gossip and the servers' own",
            "KB",
            kilobytes(all.all),
        ),
        times("the same", few.all, all.all),
        free("CPU of the agent", "ms", all.client),
        times("the same", few.client, all.client),
        free(
            "CPU of all servers, divided by the agents",
            "ms",
            all.servers,
        ),
        times("the same", few.servers, all.servers),
        free("memory of an agent (RSS, the largest)", "MB", largest),
    ];
    print(&title, &rows)
}
