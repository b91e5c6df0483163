//! Metrics that are recorded often: finding them once saves the look-up.

use std::sync::Arc;
use std::time::Duration;

use super::{Cell, WINDOW_MS};
use crate::env::Clock;

/// A sample of durations.
#[derive(Clone)]
pub struct Timer {
    pub(super) cell: Arc<Cell>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Timer {
    /// Adds one duration, shown in milliseconds.
    pub fn record(&self, took: Duration) {
        let window = self.clock.unix_ms() / WINDOW_MS;
        self.cell.record(window, took.as_secs_f64() * 1000.0);
    }
}

/// A counter.
#[derive(Clone)]
pub struct Counter {
    pub(super) cell: Arc<Cell>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Counter {
    /// Counts one.
    pub fn count(&self) {
        self.cell.record(self.clock.unix_ms() / WINDOW_MS, 1.0);
    }
}
