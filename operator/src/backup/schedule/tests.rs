use serde_json::json;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn times_are_those_of_the_zone() {
    for (line, zone, after, wanted) in [
        (
            "0 3 * * *",
            None,
            "2026-11-23T02:59:59Z",
            "2026-11-23T03:00:00Z",
        ),
        // Not the moment itself: the next one.
        (
            "0 3 * * *",
            None,
            "2026-11-23T03:00:00Z",
            "2026-11-24T03:00:00Z",
        ),
        (
            "0 3 * * *",
            Some("Europe/Berlin"),
            "2026-11-23T00:00:00Z",
            "2026-11-23T02:00:00Z",
        ),
        (
            "0 3 * * *",
            Some("Europe/Berlin"),
            "2026-07-01T00:00:00Z",
            "2026-07-01T01:00:00Z",
        ),
        (
            "*/15 * * * *",
            None,
            "2026-11-23T12:07:00Z",
            "2026-11-23T12:15:00Z",
        ),
        (
            "0 0 29 2 *",
            None,
            "2026-11-23T12:00:00Z",
            "2028-02-29T00:00:00Z",
        ),
        (
            "30 2 * * MON-FRI",
            None,
            "2026-11-27T12:00:00Z",
            "2026-11-30T02:30:00Z",
        ),
    ] {
        let cron = parse(line, zone).unwrap();
        assert_eq!(next(&cron, at(after)), Some(at(wanted)), "{line} {zone:?}");
    }
}

#[test]
fn what_is_no_cron_line_is_refused_in_one_sentence() {
    for (line, zone) in [
        ("", None),
        ("* * * *", None),
        ("* * * * * *", None),
        ("60 * * * *", None),
        ("* 24 * * *", None),
        ("* * 0 * *", None),
        ("* * * 13 *", None),
        ("a b c d e", None),
        ("@daily", None),
        ("* * * * *", Some("Mars/Olympus")),
        ("* * * * * UTC", Some("UTC")),
    ] {
        let said = parse(line, zone).err().unwrap_or_else(|| panic!("{line}"));
        assert!(said.starts_with(&format!("\"{line}\"")), "{said}");
        assert!(said.contains("is no cron line: "), "{said}");
        assert!(!said.contains('\n') && !said.ends_with(": "), "{said:?}");
    }
}

#[test]
fn one_missed_time_is_made_up_for_however_many_there_were() {
    let cron = parse("*/5 * * * *", None).unwrap();
    let since = at("2026-11-23T12:00:00Z");
    assert_eq!(due(&cron, since, since), None);
    assert_eq!(due(&cron, since, at("2026-11-23T12:04:59Z")), None);
    let last = at("2026-11-23T13:15:00Z");
    assert_eq!(due(&cron, since, at("2026-11-23T13:17:00Z")), Some(last));
    // Away for a year: the time of now, and no hundred thousand steps.
    let now = at("2027-11-23T13:17:00Z");
    assert_eq!(due(&cron, since, now), Some(now));
    // The clock was set back: nothing is due twice.
    assert_eq!(due(&cron, since, at("2026-11-22T00:00:00Z")), None);
}

/// A snapshot of the schedule, taken that many hours ago.
fn made(hours: i64, phase: &str) -> ConsulSnapshot {
    let now = at("2026-11-23T12:00:00Z");
    let time = (now - SignedDuration::from_hours(hours)).to_string();
    let value = json!({
        "apiVersion": "consulcluster.dev/v1alpha1", "kind": "ConsulSnapshot",
        "metadata": {"name": format!("s-{hours:04}"), "uid": format!("{hours:08}-x"), "annotations": {SCHEDULED_FOR: time}},
        "spec": {"cluster": "c", "destination": {"pvc": {"claimName": "keep"}}},
        "status": {"phase": phase, "completionTime": time},
    });
    serde_json::from_value(value).unwrap()
}

fn gone(count: i32, max_age_hours: Option<i32>, made: &[ConsulSnapshot]) -> Vec<String> {
    let retention = SnapshotRetention {
        count,
        max_age_hours,
    };
    let mut current = self::made(0, "Pending");
    current.status = None;
    let now = at("2026-11-23T12:00:00Z");
    let all = retire(&retention, made, &current, now);
    all.into_iter().map(|older| older.name).collect()
}

#[test]
fn the_count_and_the_age_decide_what_goes_and_the_oldest_go_first() {
    let four = [1, 2, 3, 4].map(|hours| made(hours, "Completed"));
    assert_eq!(gone(5, None, &four), [""; 0]);
    assert_eq!(gone(4, None, &four), ["s-0004"]);
    assert_eq!(
        gone(1, None, &four),
        ["s-0004", "s-0003", "s-0002", "s-0001"]
    );
    assert_eq!(gone(5, Some(3), &four), ["s-0004"]);
    assert_eq!(gone(5, Some(1), &four), ["s-0004", "s-0003", "s-0002"]);
    // One that runs is nobody's to delete; nor is one in another place.
    let mut others = [made(1, "Running"), made(2, "Completed")];
    others[1].spec.destination.pvc.as_mut().unwrap().claim_name = "other".into();
    assert_eq!(gone(1, Some(1), &others), [""; 0]);
}

#[test]
fn of_failed_ones_the_last_are_kept_and_they_count_for_nothing() {
    let mut all: Vec<_> = (1..=5).map(|hours| made(hours, "Failed")).collect();
    all.push(made(6, "Completed"));
    assert_eq!(gone(2, None, &all), ["s-0005", "s-0004"]);
}

#[test]
fn no_job_is_told_to_delete_more_than_it_can_speak_of() {
    let many: Vec<_> = (1..=50).map(|hours| made(hours, "Completed")).collect();
    let gone = gone(1, None, &many);
    assert_eq!(gone.len(), RETIRED_AT_ONCE);
    assert_eq!(gone[0], "s-0050");
}
