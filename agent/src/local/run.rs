//! Running checks, each in a task of its own, and doing what has a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::definition::{CheckDefinition, Kind};
use super::table::{is_own_alias, worst};
use super::{Local, probe};
use crate::node::ReadOptions;
use crate::state::{Answer, CheckStatus, Query};

/// How long an alias of another node waits for news at a time.
const ALIAS_WAIT: Duration = Duration::from_secs(60);

/// Pause of an alias that got no answer.
const ALIAS_RETRY: Duration = Duration::from_secs(5);

/// Pause after a service could not be removed.
const REAP_AGAIN: Duration = Duration::from_secs(30);

/// How far off the next time is when there is none.
const NEVER: Duration = Duration::from_secs(3600);

/// Whether a check has a task: others are told their result, or follow from checks of this agent.
pub(super) fn is_run(definition: &CheckDefinition, own: &str) -> bool {
    match &definition.kind {
        Kind::Ttl(_) | Kind::Maintenance => false,
        Kind::Alias { .. } => !is_own_alias(definition, own),
        _ => true,
    }
}

/// Runs a check until its task is dropped.
pub(super) async fn check(local: Local, definition: Arc<CheckDefinition>) {
    if let Kind::Alias { node, service } = &definition.kind {
        return alias(&local, &definition.id, node, service).await;
    }
    // So that checks that were defined together do not run together.
    let random = local.inner.env.random.clone();
    let interval = u64::try_from(definition.interval.as_micros()).unwrap_or(u64::MAX);
    tokio::time::sleep(Duration::from_micros(random.below(interval))).await;
    loop {
        let (status, output) = probe::run(&local.inner.env, &definition).await;
        local.report(&definition.id, status, &output);
        tokio::time::sleep(definition.interval).await;
    }
}

/// Follows the checks of another node, or of a service on it.
async fn alias(local: &Local, id: &str, node: &str, service: &str) {
    let Some(servers) = local.wait_for_servers().await else {
        return;
    };
    let mut index = 0;
    loop {
        let query = Query::NodeChecks {
            node: node.to_owned(),
        };
        let options = ReadOptions {
            min_index: index,
            wait: ALIAS_WAIT,
            ..ReadOptions::default()
        };
        match servers.read(query, options).await {
            Ok(reply) => {
                index = reply.index;
                let Answer::Checks(checks) = &reply.answer else {
                    return;
                };
                let concerned = checks
                    .iter()
                    .filter(|c| c.service_id == service || c.service_id.is_empty());
                let (status, output) = worst(concerned.map(|check| &**check));
                local.report(id, status, &output);
            }
            Err(error) => {
                let output = format!("Failed to read the aliased checks: {error}");
                local.report(id, CheckStatus::Critical, &output);
                tokio::time::sleep(ALIAS_RETRY).await;
            }
        }
    }
}

/// Lets TTLs expire, outputs be written, and services go that were critical for too long, until the agent stops.
pub(super) async fn keep_time(local: Local) {
    let stop = local.inner.stop.clone();
    let mut version = local.watch();
    while !stop.is_cancelled() {
        version.mark_unchanged();
        let now = Instant::now();
        let changed = local.table().tick(now);
        if changed {
            local.changed();
        }
        let doomed = local.table().doomed(now);
        if let Some(id) = doomed {
            tracing::info!(target: "agent", "deregistering service, it was critical for too long: service={id}");
            if let Err(error) = local.deregister_service(&id).await {
                tracing::warn!(target: "agent", "failed to deregister a critical service: service={id} error={error}");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(REAP_AGAIN) => {}
                }
            }
            continue;
        }
        let next = local.table().next_time();
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep_until(next.unwrap_or(now + NEVER)) => {}
            _ = version.changed() => {}
        }
    }
}
