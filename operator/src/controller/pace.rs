//! When a cluster is looked at again. Pure but for the jitter.

use std::time::Duration;

use rand::RngExt as _;

use crate::plan::{Step, Waiting};

/// After a step: what it led to is worth a look at once.
const AFTER_STEP: Duration = Duration::from_millis(50);
/// While agents are waited for, at first. Nobody tells the operator what they do, and every wait is part of the time that
/// a cluster takes to be ready.
const WAIT_MIN: Duration = Duration::from_millis(150);
/// While agents are waited for in vain.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// All is well: the kubelet's readiness probes tell sooner when it is not.
const STEADY: Duration = Duration::from_secs(60);
/// A person has to act, or the spec says that nothing is to be done.
const IDLE: Duration = Duration::from_secs(20);
/// First and longest pause after a failure.
const FAILED: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// First and longest pause after what passes by itself.
const PASSING: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Up to a quarter more or less, so that clusters which failed together do not come back together.
fn jitter(delay: Duration) -> Duration {
    delay.mul_f64(rand::rng().random_range(0.75..1.25))
}

fn grow((first, most): (Duration, Duration), times: u32) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(times.min(20)))
        .min(most)
}

/// After an error that a person may have to do something about, the nth in a row, from 0.
pub(super) fn failed(times: u32) -> Duration {
    jitter(grow(FAILED, times))
}

/// After a conflict and the like, the nth in a row, from 0.
pub(super) fn passing(times: u32) -> Duration {
    jitter(grow(PASSING, times))
}

/// After a step, planned for the nth time in a row, from 0.
pub(super) fn after(step: &Step, same: u32) -> Duration {
    match step {
        Step::Steady => jitter(STEADY),
        Step::Stalled(_) | Step::Wait(Waiting::Paused | Waiting::PausedBefore(_)) => jitter(IDLE),
        // Half a minute of close attention, then ever less of it.
        Step::Wait(_) => match same.checked_sub(200) {
            None => WAIT_MIN,
            Some(more) => jitter((WAIT_MIN + WAIT_MIN.saturating_mul(more)).min(WAIT_MAX)),
        },
        // The same step again and again does not do what it should: no hot loop.
        _ => (AFTER_STEP * 2_u32.saturating_pow(same.min(7))).min(WAIT_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_back_off_up_to_a_bound_and_never_to_nothing() {
        for times in [0, 1, 5, 50, u32::MAX] {
            let delay = failed(times);
            assert!(
                delay >= FAILED.0.mul_f64(0.7) && delay <= FAILED.1.mul_f64(1.3),
                "{times}: {delay:?}"
            );
        }
        assert!(failed(6) > failed(0));
        assert!(passing(9) <= PASSING.1.mul_f64(1.3));
    }

    #[test]
    fn a_step_that_changes_nothing_is_not_repeated_without_a_pause() {
        let join = Step::Join {
            agent: "b".into(),
            to: "a".into(),
            address: "10.0.0.1".into(),
        };
        assert_eq!(after(&join, 0), AFTER_STEP);
        assert!(after(&join, 7) > Duration::from_secs(5) - Duration::from_millis(1));
    }

    #[test]
    fn waiting_is_short_while_there_is_hope() {
        let wait = Step::Wait(Waiting::Leader);
        assert!(
            after(&wait, 0) < Duration::from_secs(1) && after(&wait, 199) < Duration::from_secs(1)
        );
        assert!(after(&wait, 10_000) <= WAIT_MAX.mul_f64(1.3));
    }
}
