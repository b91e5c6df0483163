//! `operator local down`: stops the agents, clients first and the leader last. Nobody leaves: everybody keeps its
//! place, and the cluster is the same when it is started again.

use anyhow::Result;

use super::progress::Progress;
use super::{Which, folder};
use crate::driver::Driver;
use crate::driver::local::Local;
use crate::driver::local::store::Store;
use crate::plan::View;

/// Stops the agents of a cluster.
pub(super) async fn run(which: &Which) -> Result<()> {
    let dir = folder::find(which)?;
    folder::check_ours(&dir)?;
    let mut progress = Progress::new();
    let mut local = folder::driver(Store::open(&dir)?)?;
    let name = local.desired().name.clone();
    let stopped = stop_all(&mut local, &mut progress).await?;
    progress.say(&match stopped {
        0 => format!(
            "nothing of {name} is running; its data is in {}",
            local.store().dir().display()
        ),
        _ => format!(
            "{name} is down; its data is in {}",
            local.store().dir().display()
        ),
    });
    Ok(())
}

/// Stops everybody, one after the other; how many there were.
pub(super) async fn stop_all(local: &mut Local, progress: &mut Progress) -> Result<usize> {
    let observed = local.observe().await?;
    let desired = local.desired().clone();
    let leader = View::new(&desired, &observed)
        .leader
        .map(|leader| leader.seat.name.clone());
    let running = local.running();
    let rank = |name: &String| match name {
        name if Some(name) == leader.as_ref() => 2,
        name if observed.servers.contains_key(name) => 1,
        _ => 0,
    };
    let mut names: Vec<_> = running.into_keys().collect();
    // Highest numbers first among equals: the reverse of how they came.
    names.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| b.cmp(a)));
    for name in &names {
        progress.step(&format!("stop {name}"));
        local.stop_and_wait(name).await?;
    }
    Ok(names.len())
}
