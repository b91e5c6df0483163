//! When a schedule makes its next snapshot, and which old ones go. Pure: the time is given.

use std::time::Duration;

use cronexpr::{Crontab, MakeTimestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::snapshot::{self, Older};
use super::{SCHEDULE, SCHEDULE_UID, SCHEDULED_FOR, Said, conditions};
use crate::crd::{
    ConsulSnapshot, ConsulSnapshotSchedule, ConsulSnapshotScheduleStatus, JobPhase,
    SnapshotRetention,
};
use crate::driver::kube::names;

/// Failed snapshots that are kept, for their logs.
const FAILED_KEPT: usize = 3;
/// Old ones that one job deletes: what it says of them has to fit into its last words. The next job goes on.
const RETIRED_AT_ONCE: usize = 10;
/// Longest time for which a schedule is not looked at: clocks are set.
const SLEEP_MAX: Duration = Duration::from_secs(600);
/// Times of the schedule that are looked at to find the last one that was missed. After more than so many, the operator
/// was away for long, and the time of now will do.
const MISSED_MAX: usize = 1000;

/// What there is.
pub struct Seen<'a> {
    /// The resource.
    pub schedule: &'a ConsulSnapshotSchedule,
    /// What it made, in any order.
    pub made: &'a [ConsulSnapshot],
    /// The time.
    pub now: Timestamp,
}

/// What is done, what is said, and when to look again.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The snapshot that is made.
    pub make: Option<Value>,
    /// The status.
    pub status: ConsulSnapshotScheduleStatus,
    /// When to look again; none: when something changes.
    pub again: Option<Duration>,
}

/// Reads a cron line.
///
/// # Errors
/// One sentence that says what is wrong with it.
pub fn parse(schedule: &str, zone: Option<&str>) -> Result<Crontab, String> {
    let zone = zone.unwrap_or("UTC");
    if schedule.split_whitespace().count() != 5 {
        return Err(format!(
            "\"{schedule}\" is no cron line: expected minute, hour, day of the month, month, day of the week"
        ));
    }
    cronexpr::parse_crontab(&format!("{schedule} {zone}")).map_err(|error| {
        // It draws an arrow under the place; the last line says what is wrong there.
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default();
        let why = why.trim().trim_start_matches(['^', ' ']);
        format!("\"{schedule}\" in time zone {zone} is no cron line: {why}")
    })
}

fn next(cron: &Crontab, after: Timestamp) -> Option<Timestamp> {
    let next = cron.find_next(MakeTimestamp(after)).ok()?;
    Some(next.timestamp())
}

/// The last time of the schedule after `since` and not after `now`: however many were missed, one is made up for.
fn due(cron: &Crontab, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let mut last = None;
    let mut at = since;
    for _ in 0..MISSED_MAX {
        match next(cron, at) {
            Some(time) if time <= now => {
                last = Some(time);
                at = time;
            }
            _ => return last,
        }
    }
    Some(now)
}

fn scheduled_for(snapshot: &ConsulSnapshot) -> Option<Timestamp> {
    let annotations = snapshot.metadata.annotations.as_ref()?;
    annotations.get(SCHEDULED_FOR)?.parse().ok()
}

fn phase(snapshot: &ConsulSnapshot) -> JobPhase {
    snapshot
        .status
        .as_ref()
        .map(|status| status.phase)
        .unwrap_or_default()
}

fn completed_at(snapshot: &ConsulSnapshot) -> Option<Timestamp> {
    let status = snapshot.status.as_ref()?;
    status.completion_time.as_ref().map(|time| time.0)
}

fn name(snapshot: &ConsulSnapshot) -> &str {
    snapshot.metadata.name.as_deref().unwrap_or_default()
}

/// Latest first.
fn in_order(made: &[ConsulSnapshot]) -> Vec<&ConsulSnapshot> {
    let mut all: Vec<_> = made.iter().collect();
    all.sort_by(|a, b| {
        let key = |snapshot| (scheduled_for(snapshot), name(snapshot).to_owned());
        key(b).cmp(&key(a))
    });
    all
}

/// Chooses. Same input, same decision.
pub fn decide(seen: &Seen<'_>) -> Decision {
    let ConsulSnapshotSchedule { metadata, spec, .. } = seen.schedule;
    let mut status = seen.schedule.status.clone().unwrap_or_default();
    let made = in_order(seen.made);
    let good = |s: &&&ConsulSnapshot| phase(s) == JobPhase::Completed;
    let active = made.iter().find(|s| !phase(s).is_final());
    let success = made.iter().find(good);
    let failures = made
        .iter()
        .filter(|s| phase(s).is_final())
        .take_while(|s| phase(s) == JobPhase::Failed)
        .count();
    status.observed_generation = metadata.generation;
    status.active = active.map(|s| name(s).to_owned());
    status.kept = i32::try_from(made.iter().filter(good).count()).unwrap_or(i32::MAX);
    status.failures = i32::try_from(failures).unwrap_or(i32::MAX);
    if let Some(last) = success {
        status.last_success = Some(name(last).to_owned());
        status.last_success_time = completed_at(last).map(Time);
    }
    let mut make = None;
    let mut again = None;
    let said = match parse(&spec.schedule, spec.time_zone.as_deref()) {
        Err(why) => {
            status.next_time = None;
            said(JobPhase::Failed, "InvalidSchedule", why)
        }
        Ok(_) if spec.suspend => {
            status.next_time = None;
            let text = "suspended: no snapshots are made".to_owned();
            said(JobPhase::Completed, "Suspended", text)
        }
        Ok(cron) => {
            let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
            // Also what is not in the status: an operator may have been killed between the two.
            let recorded = status.last_schedule_time.as_ref().map(|time| time.0);
            let found = made.iter().filter_map(|s| scheduled_for(s)).max();
            let since = created.max(recorded).max(found).unwrap_or(seen.now);
            let due = due(&cron, since, seen.now);
            if let (Some(time), None) = (due, active) {
                make = Some(snapshot_for(seen.schedule, time));
                status.last_schedule_time = Some(Time(time));
            }
            let upcoming = next(&cron, seen.now);
            status.next_time = upcoming.map(Time);
            again = upcoming.map(|time| {
                let left = Duration::try_from(time.duration_since(seen.now)).unwrap_or_default();
                left.clamp(Duration::from_secs(1), SLEEP_MAX)
            });
            let latest = made.iter().find(|s| phase(s).is_final());
            sentence(make.is_some(), active.copied(), latest.copied(), upcoming)
        }
    };
    status.message = Some(said.message.clone());
    let generation = metadata.generation;
    status.conditions = conditions(&said, &status.conditions, generation, seen.now);
    Decision {
        make,
        status,
        again,
    }
}

fn said(phase: JobPhase, reason: &'static str, message: String) -> Said {
    Said {
        phase,
        reason,
        message,
    }
}

fn sentence(
    makes: bool,
    active: Option<&ConsulSnapshot>,
    latest: Option<&ConsulSnapshot>,
    upcoming: Option<Timestamp>,
) -> Said {
    let message = |snapshot: &ConsulSnapshot| {
        let status = snapshot.status.as_ref();
        status.and_then(|s| s.message.clone()).unwrap_or_default()
    };
    let then = match upcoming {
        Some(time) => format!("the next one is due at {time}"),
        None => "no other one is ever due".to_owned(),
    };
    if makes {
        let text = format!("a snapshot begins; {then}");
        return said(JobPhase::Running, "Active", text);
    }
    if let Some(active) = active {
        // Forbidden to overlap: the next one waits for this one.
        let text = format!("{}: {}", name(active), message(active));
        return said(JobPhase::Running, "Active", text);
    }
    match latest {
        Some(failed) if phase(failed) == JobPhase::Failed => {
            let text = format!("{} failed: {}; {then}", name(failed), message(failed));
            said(JobPhase::Failed, "LastFailed", text)
        }
        Some(good) => {
            let text = format!("{} is verified; {then}", name(good));
            said(JobPhase::Completed, "Scheduled", text)
        }
        None => said(JobPhase::Completed, "Scheduled", then),
    }
}

/// The snapshot for that time. Its name follows from the time, so that it is made once.
fn snapshot_for(schedule: &ConsulSnapshotSchedule, time: Timestamp) -> Value {
    let spec = &schedule.spec;
    let own = schedule.metadata.name.as_deref().unwrap_or_default();
    let stamp = time.strftime("%Y%m%d-%H%M%S");
    let mut wanted = json!({
        "cluster": spec.cluster,
        "destination": spec.destination,
        "timeLimitSeconds": spec.time_limit_seconds,
    });
    if let Some(resources) = &spec.resources {
        wanted["resources"] = json!(resources);
    }
    json!({
        "apiVersion": "consulcluster.dev/v1alpha1",
        "kind": "ConsulSnapshot",
        "metadata": {
            "name": format!("{own}-{stamp}"),
            "namespace": schedule.metadata.namespace,
            // No owner: what a schedule has saved outlives it.
            "labels": {
                "app.kubernetes.io/managed-by": names::MANAGER,
                SCHEDULE: own,
                SCHEDULE_UID: schedule.metadata.uid,
            },
            "annotations": {SCHEDULED_FOR: time.to_string()},
        },
        "spec": wanted,
    })
}

/// Which of a schedule's old snapshots go when `current` is verified. It counts as one that is kept.
///
/// Only those in the same destination: no other is within reach of the job.
pub fn retire(
    retention: &SnapshotRetention,
    made: &[ConsulSnapshot],
    current: &ConsulSnapshot,
    now: Timestamp,
) -> Vec<Older> {
    let all = in_order(made);
    let others = all.into_iter().filter(|s| {
        name(s) != name(current)
            && phase(s).is_final()
            && s.spec.destination == current.spec.destination
    });
    let (good, failed): (Vec<_>, Vec<_>) = others.partition(|s| phase(s) == JobPhase::Completed);
    let kept = usize::try_from(retention.count.max(1)).unwrap_or(1) - 1;
    let old = |snapshot: &ConsulSnapshot| {
        let (Some(hours), Some(at)) = (retention.max_age_hours, completed_at(snapshot)) else {
            return false;
        };
        now.duration_since(at) > SignedDuration::from_hours(i64::from(hours))
    };
    let good = good
        .into_iter()
        .enumerate()
        .filter(|(place, s)| *place >= kept || old(s))
        .map(|(_, s)| s);
    let failed = failed.into_iter().skip(FAILED_KEPT);
    let mut gone: Vec<_> = good.chain(failed).collect();
    // The oldest first, as there may be more than one job deletes.
    gone.sort_by_key(|s| (scheduled_for(s), name(s).to_owned()));
    gone.truncate(RETIRED_AT_ONCE);
    gone.into_iter().map(older).collect()
}

/// A snapshot as one that may go.
pub fn older(snapshot: &ConsulSnapshot) -> Older {
    Older {
        name: name(snapshot).to_owned(),
        place: snapshot::place(snapshot),
    }
}

#[cfg(test)]
mod tests;
