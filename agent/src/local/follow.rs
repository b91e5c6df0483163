//! The catalog follows the agent: at once when something changes here, and by a look at all of it once in a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Local, Servers};
use crate::node::{Consistency, Error, ReadOptions, Reply};
use crate::state::{Answer, Outcome, Query};

/// Time between two looks at everything, in a small cluster; up to as much again is added.
const INTERVAL: Duration = Duration::from_secs(60);

/// Nodes from which on looks become rarer.
const SMALL: usize = 128;

/// Pause after a failure; up to as much again is added.
const RETRY: Duration = Duration::from_secs(15);

/// Pause after the first refusal for want of a token that there may be soon; each further one takes twice as long.
const UNTIL_THERE_ARE_TOKENS: Duration = Duration::from_millis(250);

/// How old the answer may be that own rows are compared with. What is old is written twice, which changes nothing.
const MAX_STALE: Duration = Duration::from_secs(2);

/// For each node: how long agents may wait when servers turn up, so that they do not come all at once.
const STAGGER_A_NODE: Duration = Duration::from_millis(20);

/// The longest of these waits.
const STAGGER_MAX: Duration = Duration::from_secs(3);

/// Why something is not in the catalog yet.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Node(#[from] Error),
    #[error("{0}")]
    Refused(String),
}

/// Keeps the catalog as the agent is, until it stops.
pub(super) async fn run(local: Local, servers: Arc<dyn Servers>) {
    let stop = local.inner.stop.clone();
    let random = local.inner.env.random.clone();
    let mut version = local.watch();
    let mut look_at = Instant::now();
    let mut refused_pause = UNTIL_THERE_ARE_TOKENS;
    loop {
        version.mark_unchanged();
        let all = Instant::now() >= look_at;
        let done = match all {
            true => look(&local, &*servers).await,
            false => push(&local, &*servers).await,
        };
        if stop.is_cancelled() {
            return;
        }
        match done {
            Ok(()) if all => {
                refused_pause = UNTIL_THERE_ARE_TOKENS;
                let interval = INTERVAL * scale(servers.nodes());
                look_at = Instant::now() + interval + below(&*random, interval);
            }
            Ok(()) => {}
            Err(failure) => {
                tracing::warn!(target: "agent", "failed to sync with the catalog, will retry: {failure}");
                look_at = Instant::now();
                let mut pause = RETRY + below(&*random, RETRY);
                if matches!(failure, Failure::Node(Error::Denied(_))) {
                    pause = pause.min(refused_pause);
                    refused_pause *= 2;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                    () = servers.news() => {
                        let nodes = u32::try_from(servers.nodes()).unwrap_or(u32::MAX);
                        let most = STAGGER_A_NODE.saturating_mul(nodes).min(STAGGER_MAX);
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = tokio::time::sleep(below(&*random, most)) => {}
                        }
                    }
                }
                continue;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(look_at) => {}
            _ = version.changed() => {}
        }
    }
}

/// A random time below another.
fn below(random: &dyn crate::env::Random, most: Duration) -> Duration {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random.below(most))
}

/// How much rarer looks are in a cluster of so many nodes. Source: Consul.
fn scale(nodes: usize) -> u32 {
    if nodes <= SMALL {
        return 1;
    }
    let over = (nodes as f64).log2() - (SMALL as f64).log2();
    over.ceil() as u32 + 1
}

/// Compares with the catalog, then sends what differs.
async fn look(local: &Local, servers: &dyn Servers) -> Result<(), Failure> {
    let options = || ReadOptions {
        consistency: Consistency::Stale,
        max_stale: Some(MAX_STALE),
        ..ReadOptions::default()
    };
    let own = local.node();
    let node = own.node.clone();
    let services = Query::NodeServices { node: node.clone() };
    let services = answer(servers.read(services, options()).await?);
    let checks = answer(servers.read(Query::NodeChecks { node }, options()).await?);
    let (Answer::NodeServices(found), Answer::Checks(checks)) = (services, checks) else {
        return Err(Failure::Refused(
            "the servers answer something else".to_owned(),
        ));
    };
    let node = found.as_ref().map(|found| &*found.node);
    let services = found.as_ref().map_or(&[][..], |found| &found.services);
    local.table().compare(&own, node, services, &checks);
    push(local, servers).await
}

fn answer(reply: Reply) -> Answer {
    reply.answer
}

/// Sends what is not in the catalog yet, until nothing is left.
async fn push(local: &Local, servers: &dyn Servers) -> Result<(), Failure> {
    let mut most = usize::MAX;
    loop {
        if local.inner.stop.is_cancelled() {
            return Ok(());
        }
        let own = local.node();
        let Some(push) = local.table().next_push(&own, most) else {
            return Ok(());
        };
        match servers.propose(&push.name, push.command.clone()).await {
            Err(Error::Denied(_)) if push.is_of_many() => most = 1,
            // It is tried again with the next look at everything; the others need not wait for that.
            Err(Error::Denied(why)) => {
                push.log_denied(&why);
                local.table().confirm(&push);
            }
            Err(error) => return Err(error.into()),
            Ok(Outcome::Error { text, .. }) => return Err(Failure::Refused(text)),
            Ok(_) => {
                push.log();
                local.table().confirm(&push);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer_with_the_cluster() {
        let scales = [1, 128, 129, 256, 257, 512, 1000, 10_000].map(scale);
        assert_eq!(scales, [1, 1, 2, 2, 3, 3, 4, 8]);
    }
}
