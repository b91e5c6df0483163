//! Counters, gauges and samples in 10-second windows, as Consul shows them. No global registry: a simulation runs
//! many nodes in one process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::env::Clock;

mod handles;

pub use handles::{Counter, Timer};

/// Length of a window.
const WINDOW_MS: u64 = 10_000;
/// Values kept of each sample for quantiles, where Prometheus is enabled; later ones replace the oldest.
const KEPT_VALUES: usize = 512;
/// The quantiles that Consul's summaries have.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// How metrics are named and kept.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Put into the names of gauges (`consul.HOST.x`), so that sinks can tell hosts apart. None with
    /// `disable_hostname`.
    pub host: Option<String>,
    /// Whether `prometheus_retention_time` is positive.
    pub prometheus: bool,
}

/// Metrics after which those that requests name get no new labels: about 1 MB of them.
const NAMED_MAX: usize = 2048;

/// Bytes of labels that requests may name.
const NAMED_BYTES_MAX: usize = 512;

/// All metrics of one agent.
pub struct Metrics {
    clock: Arc<dyn Clock>,
    settings: Settings,
    cells: Mutex<BTreeMap<Key, Arc<Cell>>>,
    /// The window in which this began, of which nothing before is known.
    first_window: u64,
}

/// A name with its labels, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    name: String,
    labels: Vec<(String, String)>,
}

impl Key {
    fn new(kind: Kind, name: &str, labels: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            kind,
            name: name.to_owned(),
            labels: labels.iter().map(owned).collect(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Gauge,
    Counter,
    Sample,
}

/// One metric.
struct Cell {
    keeps_values: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    window: u64,
    current: Aggregate,
    previous: Aggregate,
    /// Since the start, for Prometheus.
    total: Aggregate,
    gauge: f64,
    /// A ring of the last values.
    values: Vec<f64>,
    next: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Aggregate {
    count: u64,
    sum: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Aggregate {
    fn add(&mut self, value: f64) {
        self.min = if self.count == 0 {
            value
        } else {
            self.min.min(value)
        };
        self.max = if self.count == 0 {
            value
        } else {
            self.max.max(value)
        };
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum / self.count as f64
    }

    /// Of a sample, so divided by one less.
    fn deviation(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let count = self.count as f64;
        let spread = count * self.squares - self.sum * self.sum;
        // Rounding can make it a little less than nothing.
        (spread.max(0.0) / (count * (count - 1.0))).sqrt()
    }
}

impl Cell {
    fn record(&self, window: u64, value: f64) {
        let mut state = self.state();
        state.turn(window);
        state.current.add(value);
        state.total.add(value);
        if self.keeps_values {
            if state.values.len() < KEPT_VALUES {
                state.values.push(value);
            } else {
                let at = state.next;
                state.values[at] = value;
                state.next = (at + 1) % KEPT_VALUES;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers are always whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Moves on to a window. A clock that goes back goes on filling the current one.
    fn turn(&mut self, window: u64) {
        if window <= self.window {
            return;
        }
        let current = std::mem::take(&mut self.current);
        self.previous = if window == self.window + 1 {
            current
        } else {
            Aggregate::default()
        };
        self.window = window;
    }
}

impl Metrics {
    /// Nothing yet.
    pub fn new(clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self {
            first_window: clock.unix_ms() / WINDOW_MS,
            clock,
            settings,
            cells: Mutex::default(),
        }
    }

    /// Counts one of something that happened. Names have no prefix: `rpc.request`.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) {
        self.add(name, labels, 1.0);
    }

    /// Counts several at once.
    pub fn add(&self, name: &str, labels: &[(&str, &str)], by: f64) {
        let cell = self.cell(Kind::Counter, name, labels);
        cell.record(self.window(), by);
    }

    /// Counts one of something that is named by whoever asks.
    ///
    /// When there are 2048 metrics, names that are not among them are counted together, without their labels, as are
    /// those of more than 512 bytes: nobody can make this grow without end.
    pub fn count_named(&self, name: &str, labels: &[(&str, &str)]) {
        let bytes: usize = labels
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let is_new =
            |cells: &BTreeMap<_, _>| !cells.contains_key(&Key::new(Kind::Counter, name, labels));
        let cells = self.cells();
        let is_refused = bytes > NAMED_BYTES_MAX || (cells.len() >= NAMED_MAX && is_new(&cells));
        drop(cells);
        self.count(name, if is_refused { &[] } else { labels });
    }

    /// Sets what is true from now on.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.cell(Kind::Gauge, name, labels).state().gauge = value;
    }

    /// Adds one measurement; durations in milliseconds.
    pub fn sample(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let cell = self.cell(Kind::Sample, name, labels);
        cell.record(self.window(), value);
    }

    /// A sample of durations to be recorded often.
    pub fn timer(&self, name: &str, labels: &[(&str, &str)]) -> Timer {
        Timer {
            cell: self.cell(Kind::Sample, name, labels),
            clock: self.clock.clone(),
        }
    }

    /// A counter of what happens often.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Counter {
        Counter {
            cell: self.cell(Kind::Counter, name, labels),
            clock: self.clock.clone(),
        }
    }

    /// The last complete window as `/v1/agent/metrics` shows it; in the first ten seconds what there is so far.
    pub fn summary(&self) -> Summary {
        let now = self.window();
        let shown = now.saturating_sub(1).max(self.first_window);
        let mut summary = Summary {
            timestamp: timestamp(shown * WINDOW_MS / 1000),
            gauges: Vec::new(),
            points: Vec::new(),
            counters: Vec::new(),
            samples: Vec::new(),
        };
        for (key, cell) in self.cells().iter() {
            let mut state = cell.state();
            if key.kind == Kind::Gauge {
                summary.gauges.push(Gauge {
                    name: self.full_name(key),
                    value: state.gauge,
                    labels: key.labels.iter().cloned().collect(),
                });
                continue;
            }
            state.turn(now);
            let found = if state.window == shown {
                state.current
            } else {
                state.previous
            };
            if found.count == 0 {
                continue;
            }
            let aggregated = Aggregated {
                name: self.full_name(key),
                count: found.count,
                rate: found.sum / (WINDOW_MS as f64 / 1000.0),
                sum: found.sum,
                min: found.min,
                max: found.max,
                mean: found.mean(),
                stddev: found.deviation(),
                labels: key.labels.iter().cloned().collect(),
            };
            match key.kind {
                Kind::Sample => summary.samples.push(aggregated),
                Kind::Counter | Kind::Gauge => summary.counters.push(aggregated),
            }
        }
        summary
    }

    /// Everything in Prometheus' text format 0.0.4; none unless it is enabled.
    pub fn prometheus(&self) -> Option<String> {
        if !self.settings.prometheus {
            return None;
        }
        let mut text = String::new();
        let mut last = String::new();
        for (key, cell) in self.cells().iter() {
            let state = cell.state();
            let name = prometheus_name(&key.name);
            if name != last {
                let kind = match key.kind {
                    Kind::Gauge => "gauge",
                    Kind::Counter => "counter",
                    Kind::Sample => "summary",
                };
                // Writing to a string cannot fail, here and below.
                let _ = writeln!(text, "# HELP {name} {name}\n# TYPE {name} {kind}");
                last.clone_from(&name);
            }
            let labels = prometheus_labels(&key.labels);
            match key.kind {
                Kind::Gauge => {
                    let _ = writeln!(text, "{name}{} {}", braced(&labels), state.gauge);
                }
                Kind::Counter => {
                    let _ = writeln!(text, "{name}{} {}", braced(&labels), state.total.sum);
                }
                Kind::Sample => {
                    let mut sorted = state.values.clone();
                    sorted.sort_by(f64::total_cmp);
                    for quantile in QUANTILES {
                        let mut labels = labels.clone();
                        labels.push(format!("quantile=\"{quantile}\""));
                        let value = at_quantile(&sorted, quantile);
                        let _ = writeln!(text, "{name}{} {value}", braced(&labels));
                    }
                    let labels = braced(&labels);
                    let _ = writeln!(text, "{name}_sum{labels} {}", state.total.sum);
                    let _ = writeln!(text, "{name}_count{labels} {}", state.total.count);
                }
            }
        }
        Some(text)
    }

    /// Time until the present window is complete.
    pub fn until_next_window(&self) -> Duration {
        Duration::from_millis(WINDOW_MS - self.clock.unix_ms() % WINDOW_MS)
    }

    fn window(&self) -> u64 {
        self.clock.unix_ms() / WINDOW_MS
    }

    fn cell(&self, kind: Kind, name: &str, labels: &[(&str, &str)]) -> Arc<Cell> {
        let key = Key::new(kind, name, labels);
        let mut cells = self.cells();
        let cell = cells.entry(key).or_insert_with(|| {
            Arc::new(Cell {
                keeps_values: kind == Kind::Sample && self.settings.prometheus,
                state: Mutex::default(),
            })
        });
        cell.clone()
    }

    fn cells(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Cell>>> {
        // A map is never half changed.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full_name(&self, key: &Key) -> String {
        match &self.settings.host {
            Some(host) if key.kind == Kind::Gauge => format!("consul.{host}.{}", key.name),
            _ => format!("consul.{}", key.name),
        }
    }
}

/// The answer of `/v1/agent/metrics`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    timestamp: String,
    gauges: Vec<Gauge>,
    points: Vec<()>,
    counters: Vec<Aggregated>,
    samples: Vec<Aggregated>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Gauge {
    name: String,
    value: f64,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Aggregated {
    name: String,
    count: u64,
    rate: f64,
    sum: f64,
    min: f64,
    max: f64,
    mean: f64,
    stddev: f64,
    labels: BTreeMap<String, String>,
}

/// As Go prints a time: `2026-11-23 10:40:30 +0000 UTC`.
fn timestamp(unix_seconds: u64) -> String {
    let seconds = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

fn prometheus_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    "consul_".chars().chain(name.chars().map(safe)).collect()
}

fn prometheus_labels(labels: &[(String, String)]) -> Vec<String> {
    labels
        .iter()
        .map(|(name, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect()
}

fn braced(labels: &[String]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    format!("{{{}}}", labels.join(","))
}

/// The nearest-rank quantile; `NaN` of nothing, as Prometheus' own libraries say.
fn at_quantile(sorted: &[f64], quantile: f64) -> String {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    match sorted.get(rank.saturating_sub(1)) {
        Some(value) => value.to_string(),
        None => "NaN".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;

    /// A clock that is set by hand.
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn unix_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn metrics(settings: Settings) -> (Arc<Hand>, Metrics) {
        let clock = Arc::new(Hand(AtomicU64::new(1_700_000_000_000)));
        (clock.clone(), Metrics::new(clock, settings))
    }

    fn summary(metrics: &Metrics) -> serde_json::Value {
        serde_json::to_value(metrics.summary()).unwrap()
    }

    #[test]
    fn names_from_outside_are_bounded() {
        let (_, metrics) = metrics(Settings::default());
        for number in 0..NAMED_MAX + 10 {
            metrics.count_named("asked", &[("service", &number.to_string())]);
        }
        metrics.count_named("asked", &[("service", "7")]);
        metrics.count_named("asked", &[("service", &"x".repeat(NAMED_BYTES_MAX))]);
        let shown = summary(&metrics);
        let counters = shown["Counters"].as_array().unwrap();
        assert_eq!(counters.len(), NAMED_MAX + 1);
        let count = |labels: serde_json::Value| {
            let found = counters.iter().find(|one| one["Labels"] == labels);
            found.unwrap()["Count"].clone()
        };
        assert_eq!(count(json!({})), 11);
        assert_eq!(count(json!({"service": "7"})), 2);
    }

    #[test]
    fn a_window_is_summed_up_in_consuls_shape() {
        let (clock, metrics) = metrics(Settings {
            host: Some("h".into()),
            prometheus: false,
        });
        for value in [2.0, 4.0, 9.0] {
            metrics.sample("kvs.apply", &[("k", "v")], value);
        }
        metrics.count("rpc.request", &[]);
        metrics.add("rpc.request", &[], 4.0);
        metrics.gauge("server.isLeader", &[], 1.0);
        let expected = json!({
            "Timestamp": "2023-11-14 22:13:20 +0000 UTC",
            "Gauges": [{"Name": "consul.h.server.isLeader", "Value": 1.0, "Labels": {}}],
            "Points": [],
            "Counters": [{"Name": "consul.rpc.request", "Count": 2, "Rate": 0.5, "Sum": 5.0, "Min": 1.0, "Max": 4.0,
                "Mean": 2.5, "Stddev": 4.5f64.sqrt(), "Labels": {}}],
            "Samples": [{"Name": "consul.kvs.apply", "Count": 3, "Rate": 1.5, "Sum": 15.0, "Min": 2.0, "Max": 9.0,
                "Mean": 5.0, "Stddev": 13f64.sqrt(), "Labels": {"k": "v"}}],
        });
        // At once in the first window, and as the last complete one in the second.
        assert_eq!(summary(&metrics), expected);
        clock.0.fetch_add(WINDOW_MS, Ordering::SeqCst);
        assert_eq!(summary(&metrics), expected);
        metrics.count("rpc.request", &[]);
        assert_eq!(summary(&metrics), expected);
        clock.0.fetch_add(WINDOW_MS, Ordering::SeqCst);
        let later = summary(&metrics);
        assert_eq!(later["Counters"][0]["Count"], 1);
        assert_eq!(later["Samples"], json!([]));
        // What is true stays true.
        assert_eq!(later["Gauges"], expected["Gauges"]);
        clock.0.fetch_add(5 * WINDOW_MS, Ordering::SeqCst);
        assert_eq!(summary(&metrics)["Counters"], json!([]));
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing() {
        let (clock, metrics) = metrics(Settings::default());
        metrics.count("a", &[]);
        clock.0.fetch_sub(3 * WINDOW_MS, Ordering::SeqCst);
        metrics.count("a", &[]);
        clock.0.fetch_add(3 * WINDOW_MS, Ordering::SeqCst);
        assert_eq!(summary(&metrics)["Counters"][0]["Count"], 2);
    }

    #[test]
    fn a_timer_records_milliseconds_into_the_same_sample() {
        let (_, metrics) = metrics(Settings::default());
        let timer = metrics.timer("api.http", &[("path", "v1_kv_")]);
        timer.record(Duration::from_micros(1500));
        metrics.sample("api.http", &[("path", "v1_kv_")], 0.5);
        let found = summary(&metrics);
        assert_eq!(found["Samples"][0]["Sum"], 2.0);
        assert_eq!(found["Samples"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn prometheus_is_text_and_only_when_enabled() {
        assert_eq!(metrics(Settings::default()).1.prometheus(), None);
        let (_, metrics) = metrics(Settings {
            host: Some("h".into()),
            prometheus: true,
        });
        metrics.gauge("server.isLeader", &[], 1.0);
        metrics.count("rpc.request", &[("to", "a\"b")]);
        metrics.count("rpc.request", &[("to", "c")]);
        for value in 1..=1000 {
            metrics.sample("raft.commit-time", &[], f64::from(value));
        }
        metrics.timer("idle", &[]);
        let expected = "\
# HELP consul_server_isLeader consul_server_isLeader
# TYPE consul_server_isLeader gauge
consul_server_isLeader 1
# HELP consul_rpc_request consul_rpc_request
# TYPE consul_rpc_request counter
consul_rpc_request{to=\"a\\\"b\"} 1
consul_rpc_request{to=\"c\"} 1
# HELP consul_idle consul_idle
# TYPE consul_idle summary
consul_idle{quantile=\"0.5\"} NaN
consul_idle{quantile=\"0.9\"} NaN
consul_idle{quantile=\"0.99\"} NaN
consul_idle_sum 0
consul_idle_count 0
# HELP consul_raft_commit_time consul_raft_commit_time
# TYPE consul_raft_commit_time summary
consul_raft_commit_time{quantile=\"0.5\"} 744
consul_raft_commit_time{quantile=\"0.9\"} 949
consul_raft_commit_time{quantile=\"0.99\"} 995
consul_raft_commit_time_sum 500500
consul_raft_commit_time_count 1000
";
        assert_eq!(metrics.prometheus().unwrap(), expected);
    }
}
