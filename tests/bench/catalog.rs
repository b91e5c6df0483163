//! Service discovery with many services, many watchers and many agents.
//!
//! `BENCH_CATALOG_SERVICES` (default 10,000) services on a hundred nodes, `BENCH_WATCHERS` (default 5,000) blocking
//! queries on one service, `BENCH_AGENTS` (default 200) agents at rest, looked at for
//! `BENCH_CATALOG_SECONDS` (default 60). More agents want more than two cores to start on; what each costs among half as
//! many says how it goes on. On loopback beside the load, like the rest; the agents get a network of their
//! own, which needs root, or a kernel that gives everybody namespaces, and `ip` and `ss`.

mod fleet;
mod services;
mod watchers;

/// The environment of the process that has a network of its own for the agents.
pub(crate) const INSIDE: &str = "BENCH_FLEET_INSIDE";

/// One line of the tables.
struct Row {
    what: String,
    unit: &'static str,
    /// What it must not exceed; not a number where nothing is wanted of it.
    goal: f64,
    ours: f64,
}

/// Prints the tables; whether every goal was reached.
pub(crate) fn run() -> bool {
    let services = services::run();
    let watchers = watchers::run();
    services & watchers & fleet::run()
}

/// The part that has a network of its own.
pub(crate) fn inside() -> bool {
    fleet::inside()
}

fn row(what: impl Into<String>, unit: &'static str, goal: f64, ours: f64) -> Row {
    Row {
        what: what.into(),
        unit,
        goal,
        ours,
    }
}

/// Whether every goal was reached.
fn print(title: &str, rows: &[Row]) -> bool {
    println!();
    println!("{title:<74}  {:>14}  {:>12}", "ours", "goal");
    for Row {
        what,
        unit,
        goal,
        ours,
    } in rows
    {
        let goal = if goal.is_nan() {
            "-".to_owned()
        } else {
            format!("{goal:.2} {unit}")
        };
        println!(
            "{what:<74}  {:>14}  {goal:>12}",
            format!("{ours:.2} {unit}")
        );
    }
    rows.iter()
        .all(|row| row.goal.is_nan() || row.ours <= row.goal)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
