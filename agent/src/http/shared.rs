//! The body that many waiters of one service are sent, made once for all of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::body::{Body, Response, whole_json};
use crate::state::ServiceHealth;

/// Answers that are kept: a node that fails wakes the waiters of all its services, in any order.
const KEPT_MAX: usize = 16;

/// Bytes of all of them. A larger one is made anew for everyone.
const BYTES_MAX: usize = 4 << 20;

/// The bodies that waiters share, for as long as there are any.
#[derive(Default)]
pub(super) struct Shared(Mutex<Weak<Bodies>>);

impl Shared {
    /// Each waiter has it for as long as it waits: when nobody does, nothing is kept.
    pub(super) fn join(&self) -> Arc<Bodies> {
        let mut shared = lock(&self.0);
        shared.upgrade().unwrap_or_else(|| {
            let bodies = Arc::default();
            *shared = Arc::downgrade(&bodies);
            bodies
        })
    }
}

/// The last answers to blocking queries for the health of services.
///
/// A change wakes all waiters of a service at about the same time, and most are shown the same. That they are is not
/// concluded from an index: the rows themselves must be the same ones in memory, in the same order.
#[derive(Default)]
pub(super) struct Bodies(Mutex<VecDeque<Kept>>);

struct Kept {
    rows: Vec<ServiceHealth>,
    pretty: bool,
    body: Bytes,
}

impl Bodies {
    /// A response that shows these rows; `make` is asked unless one of the last ones showed the same.
    pub(super) fn of(
        &self,
        rows: Vec<ServiceHealth>,
        pretty: bool,
        make: impl FnOnce(&[ServiceHealth]) -> Response,
    ) -> Response {
        if let Some(body) = self.body_of(&rows, pretty) {
            return whole_json(body);
        }
        let response = make(&rows);
        if let Body::Whole(body) = &response.body
            && body.len() <= BYTES_MAX
        {
            let body = body.clone();
            let old = self.keep(Kept { rows, pretty, body });
            // Outside of the lock: it may be the last holder of many rows.
            drop(old);
        }
        response
    }

    fn body_of(&self, rows: &[ServiceHealth], pretty: bool) -> Option<Bytes> {
        let kept = lock(&self.0);
        let same = |kept: &&Kept| kept.pretty == pretty && are_same(&kept.rows, rows);
        // Most want the one that was made last.
        let found = kept.iter().rev().find(same)?;
        Some(found.body.clone())
    }

    /// Keeps one more, and returns those that must make room for it.
    fn keep(&self, new: Kept) -> Vec<Kept> {
        let mut kept = lock(&self.0);
        let mut bytes = new.body.len() + kept.iter().map(|one| one.body.len()).sum::<usize>();
        let mut old = Vec::new();
        while kept.len() >= KEPT_MAX || bytes > BYTES_MAX {
            let Some(oldest) = kept.pop_front() else {
                break;
            };
            bytes -= oldest.body.len();
            old.push(oldest);
        }
        kept.push_back(new);
        old
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under the lock can leave it half done.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn are_same(one: &[ServiceHealth], other: &[ServiceHealth]) -> bool {
    let rows = || one.iter().zip(other);
    one.len() == other.len()
        && rows().all(|(one, other)| {
            let checks = || one.checks.iter().zip(&other.checks);
            Arc::ptr_eq(&one.node, &other.node)
                && Arc::ptr_eq(&one.service, &other.service)
                && one.checks.len() == other.checks.len()
                && checks().all(|(one, other)| Arc::ptr_eq(one, other))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body;

    fn row() -> ServiceHealth {
        ServiceHealth {
            node: Arc::default(),
            service: Arc::default(),
            checks: vec![Arc::default()],
        }
    }

    /// What is shown of these rows, where making it anew gives `made`.
    fn shown(shared: &Bodies, rows: &[ServiceHealth], pretty: bool, made: &str) -> String {
        let make = |_: &[_]| body::json(made, false);
        match shared.of(rows.to_vec(), pretty, make).body {
            Body::Whole(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Body::Stream(_) => panic!("a body in one piece"),
        }
    }

    #[test]
    fn the_same_rows_are_written_once() {
        let shared = Bodies::default();
        let rows = [row(), row()];
        assert_eq!(shown(&shared, &rows, false, "first"), "first");
        assert_eq!(shown(&shared, &rows, false, "again"), "first");
        // Whoever wants it indented gets another text.
        assert_eq!(shown(&shared, &rows, true, "indented"), "indented");
        assert_eq!(shown(&shared, &rows, true, "again"), "indented");
        assert_eq!(shown(&shared, &rows, false, "again"), "first");
    }

    #[test]
    fn there_is_a_bound_and_the_oldest_go() {
        let shared = Bodies::default();
        let services: Vec<_> = (0..=KEPT_MAX).map(|_| [row()]).collect();
        for service in &services {
            assert_eq!(shown(&shared, service, false, "first"), "first");
        }
        for service in services[1..].iter().rev() {
            assert_eq!(shown(&shared, service, false, "again"), "first");
        }
        assert_eq!(shown(&shared, &services[0], false, "again"), "again");
        // Two that do not fit together.
        let large = "x".repeat(BYTES_MAX * 2 / 3);
        shown(&shared, &services[1], true, &large);
        assert_eq!(shown(&shared, &services[1], true, "again"), large);
        shown(&shared, &services[2], true, &large);
        assert_eq!(shown(&shared, &services[2], true, "again"), large);
        assert_eq!(shown(&shared, &services[1], true, "again"), "again");
        // One that never fits moves nobody.
        let larger = "x".repeat(BYTES_MAX);
        shown(&shared, &services[3], true, &larger);
        assert_eq!(shown(&shared, &services[3], true, "again"), "again");
        assert_eq!(shown(&shared, &services[2], true, "again"), large);
    }

    #[test]
    fn nothing_is_kept_when_nobody_waits() {
        let shared = Shared::default();
        let rows = [row()];
        let (one, other) = (shared.join(), shared.join());
        assert_eq!(shown(&one, &rows, false, "first"), "first");
        drop(one);
        assert_eq!(shown(&other, &rows, false, "again"), "first");
        drop(other);
        assert_eq!(Arc::strong_count(&rows[0].node), 1);
        assert_eq!(shown(&shared.join(), &rows, false, "again"), "again");
    }

    #[test]
    fn any_other_row_is_another_answer() {
        let shared = Bodies::default();
        let rows = [row(), row()];
        assert_eq!(shown(&shared, &rows, false, "first"), "first");
        // Equal, but written anew.
        let mut changed = rows.clone();
        changed[1].checks[0] = Arc::default();
        assert_eq!(shown(&shared, &changed, false, "check"), "check");
        let mut changed = rows.clone();
        changed[0].service = Arc::default();
        assert_eq!(shown(&shared, &changed, false, "service"), "service");
        let mut changed = rows.clone();
        changed[0].node = Arc::default();
        assert_eq!(shown(&shared, &changed, false, "node"), "node");
        assert_eq!(shown(&shared, &rows[..1], false, "fewer"), "fewer");
        let turned = [rows[1].clone(), rows[0].clone()];
        assert_eq!(shown(&shared, &turned, false, "turned"), "turned");
        let mut fewer = rows.clone();
        fewer[0].checks.clear();
        assert_eq!(
            shown(&shared, &fewer, false, "fewer checks"),
            "fewer checks"
        );
    }
}
