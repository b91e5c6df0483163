//! The histogram that openraft records into, in a few kilobytes.
//!
//! The published crate of this name computes tables for sixteen widths when the first histogram is made, 26 MB that
//! are never read again: more than twice of what a whole idle server may take. openraft needs one width, and this
//! program shows none of these numbers, so the same interface is kept here without tables. Drop this crate, and its
//! `[patch.crates-io]` entry, when the published one builds only the tables that it is asked for.

use std::fmt;
use std::marker::PhantomData;

/// Buckets to each power of two: a value is known to within an eighth.
const STEPS: usize = 8;

/// Exact below [`STEPS`], then [`STEPS`] buckets for each of the remaining powers of two.
const BUCKETS: usize = STEPS + (64 - STEPS.trailing_zeros() as usize) * STEPS;

/// Counts of values, in buckets that grow with the value. `T` is there for the interface only.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// Set aside with the first value: many histograms never see one.
    counts: Vec<u64>,
    total: u64,
    slot: PhantomData<fn() -> T>,
}

/// Values below which a given share of the samples lies; each is its bucket's lower end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the names say it: p99_9 is the 99.9th percentile"
)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            samples,
            p50,
            p90,
            p99,
            p99_9,
            ..
        } = self;
        write!(
            f,
            "[samples: {samples}, P50: {p50}, P90: {p90}, P99: {p99}, P99.9: {p99_9}]"
        )
    }
}

impl<T> Histogram<T> {
    /// Without samples.
    pub fn new() -> Self {
        Self {
            counts: Vec::new(),
            total: 0,
            slot: PhantomData,
        }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts one value `times` times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        self.counts[bucket(value)] += times;
        self.total += times;
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }

    /// The lower end of the bucket that holds the value at this share (0 to 1); 0 without samples.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.counts
            .iter()
            .position(|count| {
                seen += count;
                seen >= rank
            })
            .map_or(0, lower_end)
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.percentile_stats().fmt(f)
    }
}

/// Several histograms, a line each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    series: Vec<(String, Histogram)>,
}

impl AsciiChart {
    /// Without histograms.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    #[allow(
        clippy::should_implement_trait,
        reason = "the interface of the crate that this one stands in for"
    )]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.series.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.series.iter().try_for_each(|(name, histogram)| {
            writeln!(f, "{name}: {}", histogram.percentile_stats())
        })
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let power = value.ilog2() - STEPS.trailing_zeros();
    // The leading bit is in `power`; the next three say which of its buckets.
    STEPS + power as usize * STEPS + ((value >> power) as usize & (STEPS - 1))
}

fn lower_end(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (power, step) = ((bucket - STEPS) / STEPS, (bucket - STEPS) % STEPS);
    ((STEPS + step) as u64) << power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_begins_at_or_below_it() {
        for value in (0..10_000)
            .chain((0..64).map(|bit| 1 << bit))
            .chain([u64::MAX])
        {
            let at = bucket(value);
            assert!(at < BUCKETS, "{value}");
            assert!(lower_end(at) <= value, "{value}");
            assert!(at + 1 == BUCKETS || lower_end(at + 1) > value, "{value}");
        }
    }

    #[test]
    fn percentiles_are_in_order_and_within_an_eighth() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats(), PercentileStats::default());
        (1..=1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 1000);
        for (found, exact) in [
            (stats.p1, 10),
            (stats.p50, 500),
            (stats.p99, 990),
            (stats.p99_9, 999),
        ] {
            assert!(
                found <= exact && found * 8 >= exact * 7,
                "{found} for {exact}"
            );
        }
    }
}
