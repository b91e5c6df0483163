//! Profiles, where an agent has them: Consul's does, one without a Go runtime says that it does not.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Plan;
use crate::client::Error;

/// How much longer than its time a profile may take to come.
const SLACK: Duration = Duration::from_secs(30);

/// A profile and a trace of the whole time, and the heap and the goroutines at each interval, in a folder of its own.
pub(super) async fn capture(plan: &Plan, end: Instant) -> Result<(), String> {
    if !plan.wants("pprof") {
        return Ok(());
    }
    // Whoever has no heap profile has none of the others, and says so at once.
    one(plan, "heap", "heap.prof", SLACK).await?;
    let seconds = plan.duration.as_secs();
    let long = plan.duration + SLACK;
    let (profile, trace) = (
        format!("profile?seconds={seconds}"),
        format!("trace?seconds={seconds}"),
    );
    let (profile, trace, regular) = tokio::join!(
        one(plan, &profile, "profile.prof", long),
        one(plan, &trace, "trace.out", long),
        at_intervals(plan, end),
    );
    profile.and(trace).and(regular)
}

async fn at_intervals(plan: &Plan, end: Instant) -> Result<(), String> {
    let mut next = Instant::now() + plan.interval;
    while next <= end {
        sleep_until(next).await;
        next += plan.interval;
        let folder = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ");
        for name in ["heap", "goroutine"] {
            one(plan, name, &format!("{folder}/{name}.prof"), SLACK).await?;
        }
    }
    Ok(())
}

/// Fetches one into a file.
async fn one(plan: &Plan, what: &str, file: &str, time: Duration) -> Result<(), String> {
    match plan.get(&format!("/debug/pprof/{what}"), time).await {
        Ok(response) => {
            let written = plan.write(file, &response.body);
            written.map_err(|failure| format!("pprof: {failure:?}"))
        }
        Err(Error::Status { body, .. }) => Err(format!("pprof: {body}")),
        Err(error) => Err(format!("pprof: {error}")),
    }
}
